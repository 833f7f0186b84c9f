"""E1, E5, E6: quotas, broken files, and who may read them."""

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import hub as hubs
from hub import PASSWORD
from stage import CLIENT, NO_DELAY, Closed, Refused, Timeout, body, condition, name, show
from xmpp import ROSTER, child

FULL = ("resource-constraint", "not-acceptable", "not-allowed", "policy-violation", "service-unavailable")


def e1_quotas(t):
    """Each store has a bound: up to it, and one more."""
    hub = t.other(limits=["roster_items=5", "roster_groups=3", "offline_messages=4", "offline_bytes=6000", "blocked=3", "vcard_bytes=2000", "private_bytes=1000", NO_DELAY])
    hub.user("mallory", "absent", "heavy")
    m = t.keep(hub.login("mallory", online=True))

    def roster(n, groups=0, jid=None):
        inner = "".join(f"<group>g{i}</group>" for i in range(groups))
        return m.iq("set", f"<query xmlns='{ROSTER}'><item jid='{jid or f'c{n}@x.test'}'>{inner}</item></query>")

    for n in range(5):
        roster(n)
    t.answer("a sixth contact", lambda: roster(5), *FULL)
    t.check("a contact that is there may change", roster(4) is not None and len(m.roster()) == 5)
    t.check("three groups", roster(0, 3) is not None)
    t.answer("four groups", lambda: roster(0, 4), *FULL)
    t.check("the roster is as before", len(m.roster()["c0@x.test"]) == 3)
    for what, jid in (("a name of 1,024 bytes", None), ("a jid of 3,071 bytes", "a" * 1023 + "@x.test/" + "r" * 1023)):
        try:
            m.iq("set", f"<query xmlns='{ROSTER}'><item jid='{jid or 'c0@x.test'}' name='{'n' * 5000}'/></query>")
        except Refused as e:
            t.check(what, e.condition in FULL + ("not-acceptable", "bad-request", "jid-malformed"), str(e))
    for n in range(40):
        m.send(f"<presence type='subscribe' to='sub{n}@{hub.domain}'/>")
    m.ping()
    t.check("subscriptions to everybody do not fill it either", len(m.roster()) <= 5, str(len(m.roster())))
    m.queue.clear()
    for n in range(6):
        m.message(f"absent@{hub.domain}", f"kept {n}", id=f"o{n}")
    errors = {e.get("id"): condition(e) for e in t.settled(m) if e.get("type") == "error"}
    t.check("four messages are kept, the fifth comes back", set(errors) == {"o4", "o5"} and set(errors.values()) <= set(FULL), str(errors))
    m.queue.clear()
    m.message(f"heavy@{hub.domain}", "x" * 5000, id="h0")
    m.message(f"heavy@{hub.domain}", "x" * 5000, id="h1")
    m.message(f"heavy@{hub.domain}", "x" * 100, id="h2")
    errors = {e.get("id") for e in t.settled(m) if e.get("type") == "error"}
    t.check("bytes count too", errors == {"h1"}, str(errors))
    with hub.login("absent", online=True) as absent:
        t.check("what was kept arrives", [body(e) for e in absent.queue if name(e) == "message"] == [f"kept {n}" for n in range(4)])
    m.queue.clear()
    m.message(f"absent@{hub.domain}", "room again", id="again")
    got = [show(e) for e in t.settled(m) if e.get("type") == "error"]
    t.check("and makes room", not got, str(got))
    for n in range(3):
        m.iq("set", f"<block xmlns='urn:xmpp:blocking'><item jid='b{n}@x.test'/></block>")
    t.answer("a fourth blocked", lambda: m.iq("set", "<block xmlns='urn:xmpp:blocking'><item jid='b4@x.test'/></block>"), *FULL)
    t.answer("many at once", lambda: m.iq("set", "<block xmlns='urn:xmpp:blocking'>" + "".join(f"<item jid='m{n}@x.test'/>" for n in range(50)) + "</block>"), *FULL)
    t.check("three are blocked", len(child(m.iq("get", "<blocklist xmlns='urn:xmpp:blocking'/>"), "blocklist")) == 3)

    def card(n):
        frame = "<vCard xmlns='vcard-temp'><NOTE></NOTE></vCard>"
        return m.iq("set", frame.replace("></N", f">{'x' * (n - len(frame))}</N"))

    def private(n):
        frame = "<s xmlns='u:s'></s>"
        return m.iq("set", "<query xmlns='jabber:iq:private'>" + frame.replace("></s", f">{'x' * (n - len(frame))}</s") + "</query>")

    for what, put, cap in (("vCard", card, 2000), ("private element", private, 1000)):
        t.check(f"{what} at its cap", put(cap) is not None)
        t.answer(f"{what} over its cap", lambda: put(cap + 200), *FULL)
    refused, began = None, time.monotonic()
    for batch in range(40):
        m.queue.clear()
        m.send("".join(f"<iq type='set' id='p{batch}-{n}'><query xmlns='jabber:iq:private'><s xmlns='u:{batch}:{n}'>{'x' * 900}</s></query></iq>" for n in range(250)))
        try:
            m.expect(lambda e: e.get("id") == f"p{batch}-249" and not m.queue.append(e), 10)
        except Timeout:
            break
        refused = next((e for e in m.queue if e.get("type") == "error"), None)
        if refused is not None or time.monotonic() - began > 12:
            break
    size = sum(f.stat().st_size for f in hub.data.iterdir() if f.is_file())
    t.check("private elements without end are refused in the end", refused is not None and condition(refused) in FULL, f"{(batch + 1) * 250} elements taken, the data is {size // 1024} KiB")


def e1_full_disk(t):
    """A data directory of 20 MB: what does not fit is refused, and the hub goes on."""
    hub = hubs.Hub("--registration", "open", limits=[NO_DELAY, "offline_messages=1000000", "offline_bytes=100000000", "registrations_per_hour=1000"])
    box = hub.dir / "box"
    box.mkdir()
    hub.data = box / "data"
    # In a mount namespace of its own, so that nothing stays mounted.
    hub.wrapper = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=20m,mode=700 none "$0" && exec "$@"', str(box)]
    if os.getuid() != 0:
        hub.wrapper = ["sudo", "-n", "-E", *hub.wrapper]
    t.keep(hub)
    hub.start()
    for user in ("mallory", "friend", "absent"):
        c = t.keep(hub.client("starttls", ca=None))
        c.secure()
        c.iq("set", f"<query xmlns='jabber:iq:register'><username>{user}</username><password>{PASSWORD}</password></query>", to=hub.domain)
        c.drop()
    friend, m = t.keep(hub.login("friend", "f", online=True)), t.keep(hub.login("mallory"))
    refused = 0
    for n in range(160):
        m.message(f"absent@{hub.domain}", "x" * 200_000, id=f"f{n}")
        if n % 4 == 3:
            m.queue.clear()
            try:
                m.ping()
            except (Closed, Timeout) as e:
                t.check("the flood ends in errors, not in silence", False, str(e))
                break
            refused += sum(e.get("type") == "error" for e in m.queue)
            if refused > 8:
                break
    t.check(f"messages come back when the disk is full (after {n + 1})", refused > 0)
    t.check("the hub is alive", hub.alive(), hub.text()[-500:])
    if hub.alive():
        friend.message(f"friend@{hub.domain}", "still here")
        t.check("delivery works", friend.expect_body("still here", 5) is not None)
        t.check("login works", t.keep(hub.login("mallory", "again")).ping() is not None)
        try:
            friend.iq("set", f"<query xmlns='{ROSTER}'><item jid='x@y.test'/></query>")
            kept = "x@y.test" in friend.roster()
            t.check("a roster set is kept or refused", kept)
        except Refused as e:
            t.check("a roster set is kept or refused", e.condition in ("resource-constraint", "internal-server-error"), str(e))


def e5_broken_files(t):
    """A store that is damaged is refused as a whole: never an open door, never quietly a new one."""
    hub = t.other(limits=[NO_DELAY])
    hub.user("alice", "bob")
    with hub.login("alice", online=True) as c:
        c.iq("set", f"<query xmlns='{ROSTER}'><item jid='x@y.test'/></query>")
    hub.stop()
    files = [f for f in hub.data.iterdir() if f.is_file() and f.stat().st_size > 0]
    accounts = next(f for f in sorted(files, key=lambda f: ("account" not in f.name and "core" not in f.name, f.name)) if f.suffix == ".redb")
    whole = accounts.read_bytes()

    def attempt(what, broken):
        accounts.write_bytes(broken)
        try:
            hub.start()
        except AssertionError as e:
            # Not started: it must have said why, and left the file alone.
            t.check(f"{what}: ends by itself with a reason", hub.proc.poll() not in (0, None) and "panicked" not in hub.text() and accounts.name in hub.text(), f"exit {hub.proc.poll()}: {hub.text()[-300:]}")
            t.check(f"{what}: the file is left as it is", accounts.read_bytes() == broken)
            if hub.alive():
                hub.kill()
            return
        try:
            c = hub.client(None)
            c.secure()
            c.scram("alice", "not the password")
            t.check(f"{what}: a wrong password", False, "it was accepted")
        except Refused as e:
            t.check(f"{what}: a wrong password", e.condition == "not-authorized", str(e))
        try:
            with hub.login("alice") as c:
                t.check(f"{what}: starts with everything", "x@y.test" in c.roster())
        except (Refused, Closed, Timeout) as e:
            t.check(f"{what}: starts, but the account is gone", False, str(e))
        hub.stop()

    for cut in (0, 1, 64, 512, 4096, len(whole) // 4, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        attempt(f"cut at {cut} of {len(whole)}", whole[:cut])
    for what, at in (("a hole in the head", 0), ("a hole behind the head", 4096), ("a hole in the middle", len(whole) // 2)):
        attempt(what, whole[:at] + b"\xa5" * 512 + whole[at + 512 :])
    attempt("text instead", b"this is not a database\n" * 100)
    accounts.write_bytes(whole)
    hub.start()
    with hub.login("alice") as c:
        t.check("whole again, all is there", "x@y.test" in c.roster())


def e5_half_a_config(t):
    """A config that cannot be read whole is not read at all."""
    box = Path(hubs.tempfile.mkdtemp(prefix="stonechat-test-"))
    config = box / "hub.conf"
    config.write_text("registration closed\nregistrat")
    hub = hubs.Hub("--config", str(config))
    t.keep(hub)
    try:
        hub.start()
        t.check("a cut line is refused", False, "it started")
    except AssertionError:
        t.check("a cut line is refused, with its place", hub.proc.poll() not in (0, None) and str(config) in hub.text() and "2" in hub.text(), hub.text())
    config.write_bytes(b"registration \xff\xfeopen\n")
    try:
        hub.start()
        t.check("bytes that are no text are refused", False, "it started")
    except AssertionError:
        t.check("bytes that are no text are refused", hub.proc.poll() not in (0, None) and "panicked" not in hub.text(), hub.text())
    shutil.rmtree(box, ignore_errors=True)


def modes(directory):
    """{path: mode} of a directory and everything in it."""
    found = {directory: stat.S_IMODE(directory.stat().st_mode)}
    for f in directory.rglob("*"):
        found[f] = stat.S_IMODE(f.lstat().st_mode)
    return found


def e6_nobody_else_reads(t):
    hub = t.other(umask=0, limits=[NO_DELAY])
    hub.user("alice")
    with hub.login("alice", online=True) as c:
        c.iq("set", f"<query xmlns='{ROSTER}'><item jid='x@y.test'/></query>")
        c.message(f"alice@{hub.domain}/none", "x")
    open_ones = {str(f.relative_to(hub.data.parent)): oct(m) for f, m in modes(hub.data).items() if m & 0o077 and f.name != "ca.pem"}
    t.check("everything in the data directory is for its owner alone", not open_ones, str(open_ones))
    old = os.umask(0)
    try:
        backup = hub.dir / "backup"
        p = hub.run("backup", str(backup), check=False)
        t.check("a backup", p.returncode == 0 and backup.exists(), p.stdout + p.stderr)
        if backup.exists():
            t.check("is for its owner alone", not any(m & 0o077 for m in modes(backup).values()), str(modes(backup)))
            before = backup.read_bytes() if backup.is_file() else None
            p = hub.run("backup", str(backup), check=False)
            t.check("an older one is not lost to a failed one", backup.exists() and (p.returncode != 0 or before is None or backup.stat().st_size > 0), p.stdout + p.stderr)
    finally:
        os.umask(old)
    # A directory that others may read is not silently used.
    hub.stop()
    os.chmod(hub.data, 0o777)
    try:
        hub.start()
        t.check("a directory open to all is closed, or refused", not stat.S_IMODE(hub.data.stat().st_mode) & 0o077, oct(stat.S_IMODE(hub.data.stat().st_mode)))
    except AssertionError:
        t.check("a directory open to all is closed, or refused", str(hub.data) in hub.text(), hub.text())
