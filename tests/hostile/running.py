"""J7, J8: what ends up in the log, and who may give orders."""

import os
import pwd
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import hub as hubs
from hub import PASSWORD
from stage import CLIENT, NO_DELAY, Closed, Refused, Timeout, condition, name, show
from xmpp import SASL, STREAM, b64

FORGED = "2026-01-01T00:00:00Z INFO admin logged in"


def j7_forged_lines(t):
    """Whatever outsiders write, a line of the log is a line of ours."""
    hub = t.other(log="trace", limits=[NO_DELAY])
    hub.user("mallory")
    evil, quoted = f"x\n{FORGED}\r\x1b[31m\x9b2J\u202e", f"x&#10;{FORGED}&#13;&#x9b;2J\u202e"
    for say in (
        lambda c: c.auth("PLAIN", f"\0{evil}\0y"), lambda c: c.auth("SCRAM-SHA-256", f"n,,n={evil},r=abcdefgh"), lambda c: c.send(f"<auth xmlns='{SASL}' mechanism='{quoted}'>eA==</auth>"),
        lambda c: c.send(f"<x xmlns='{quoted}'/>"), lambda c: c.send(f"</{quoted}>"), lambda c: c.send(evil), lambda c: c.send("<a\n" + FORGED + "\n"),
        lambda c: c.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>\n{FORGED}\n</auth>"),
    ):
        c = t.opened("starttls", hub=hub)
        say(c)
        c.quiet(0.1)
        c.drop()
    for attrs in (f"to='{quoted}'", f"to='hub.test' from='{quoted}'", f"to='hub.test' xml:lang='{quoted}'", f"to='hub.test' version='{quoted}'"):
        c = t.raw(hub=hub)
        c.send(f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' {attrs}>")
        c.quiet(0.1)
        c.drop()
    m = t.keep(hub.login("mallory", "m"))
    m.send(f"<presence><status>{quoted}</status><nick xmlns='http://jabber.org/protocol/nick'>{quoted}</nick></presence>")
    for stanza in (f"<iq type='{quoted}' id='1'/>", f"<iq type='get' id='{quoted}'><x xmlns='u'/></iq>", f"<message to='{quoted}@hub.test'><body>{quoted}</body></message>", f"<message to='mallory@hub.test/{quoted}'/>",
                   f"<iq type='set' id='2'><query xmlns='jabber:iq:roster'><item jid='{quoted}@x' name='{quoted}'/></query></iq>", f"<iq type='set' id='3'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{quoted}</resource></bind></iq>"):
        m.send(stanza)
    m.quiet(0.3)
    c = t.keep(hub.client())
    c.secure().authenticate("mallory", PASSWORD)
    c.open()
    c.send(f"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{quoted}</resource></bind></iq>")
    c.quiet(0.2)
    time.sleep(0.2)
    bad = [l for l in hub.lines if l.lstrip("x").startswith("2026-01-01T00:00:00Z") or l.startswith("2026-01-01")]
    t.check("no forged line", not bad, str(bad[:3]))
    raw = [l for l in hub.lines if any(ch in l for ch in "\x1b\x9b\r\u202e\x07\x00")]
    t.check("no control character", not raw, repr(raw[:3]))


def j7_secrets(t):
    """At trace level too, nothing that opens a door and nothing that people write to each other."""
    hub = t.other(log="trace", limits=[NO_DELAY])
    secret, words = "S3cret-Passw0rd-of-mallory", "these words are for nobody else"
    hub.user("mallory", password=secret)
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-1"):
        c = t.opened("starttls", hub=hub)
        c.authenticate("mallory", secret, mechanism)
        c.open()
        c.bind()
        c.online()
        c.message(f"mallory@{hub.domain}", words)
        c.iq("set", f"<query xmlns='jabber:iq:register'><username>mallory</username><password>{secret}</password></query>")
        c.ping()
        c.drop()
    c = t.opened("starttls", hub=hub)
    c.auth("PLAIN", f"\0mallory\0{secret}x")
    c.quiet(0.1)
    time.sleep(0.2)
    for what, needle in (("the password", secret), ("the password in base64", b64(f"\0mallory\0{secret}")[8:40]), ("a body", words)):
        found = [l for l in hub.lines if needle in l]
        t.check(f"{what} is not in the log", not found, str(found[:2])[:300])
    with open(f"/proc/{hub.proc.pid}/cmdline") as f:
        t.check("nor in the process list", secret not in f.read())


def j7_flood(t):
    """A thousand failures do not fill the disk with a thousand stories."""
    hub = t.other(log="info", limits=[NO_DELAY])
    lines, began = len(hub.lines), time.monotonic()
    for n in range(400):
        with hub.client("direct", ca=None) as c:
            c.open()
            c.auth("PLAIN", f"\0nobody{n}\0x")
            c.quiet(0.001) if n % 50 else c.quiet(0.05)
            c.drop()
    for n in range(400):
        c = hub.client()
        c.send("<nonsense " + "x" * 200)
        c.drop()
    time.sleep(0.5)
    size = sum(map(len, hub.lines[lines:]))
    t.check(f"800 failures, {len(hub.lines) - lines} lines, {size} bytes", size < 120_000 and len(hub.lines) - lines < 1000)


NOBODY = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(3)
try:
    s.connect(sys.argv[1])
    s.sendall(b"status\\n")
    got = s.recv(100)
    print("connected", got)
except OSError as e:
    print("refused", type(e).__name__)
"""


def control_socket(hub):
    found = [f for f in hub.data.rglob("*") if stat.S_ISSOCK(f.lstat().st_mode)]
    return found[0] if len(found) == 1 else None


def j8_control_socket(t):
    hub = t.other(umask=0, limits=[NO_DELAY])
    hub.user("alice")
    sock = control_socket(hub)
    if not t.check("there is one control socket", sock is not None):
        return
    t.check("for its owner alone", not stat.S_IMODE(sock.lstat().st_mode) & 0o077 and not stat.S_IMODE(hub.data.stat().st_mode) & 0o077, oct(sock.lstat().st_mode))
    # Another user: refused even where the directory would let it through.
    os.chmod(hub.dir, 0o755)
    as_nobody = ["sudo", "-n", "-u", "nobody"] if os.getuid() != 0 else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    p = subprocess.run([*as_nobody, "/usr/bin/env", "python3", "-c", NOBODY, str(sock)], capture_output=True, text=True, timeout=15, cwd="/")
    if "refused" not in p.stdout and "connected" not in p.stdout:
        p = subprocess.run([*as_nobody, "/usr/bin/python3", "-c", NOBODY, str(sock)], capture_output=True, text=True, timeout=15, cwd="/")
    t.check("another user cannot connect", p.stdout.startswith("refused PermissionError"), p.stdout + p.stderr)
    os.chmod(hub.data, 0o755)
    os.chmod(sock, 0o777)
    for python in ("python3", "/usr/bin/python3"):
        p = subprocess.run([*as_nobody, "/usr/bin/env", python, "-c", NOBODY, str(sock)], capture_output=True, text=True, timeout=15, cwd="/")
        if p.stdout:
            break
    answered = "connected" in p.stdout and len(p.stdout.strip()) > len("connected b''") + 2
    t.check("nor give orders if somebody opens the doors", p.stdout and ("refused" in p.stdout or not answered or "not" in p.stdout.lower()), p.stdout + p.stderr)
    os.chmod(sock, 0o600)
    os.chmod(hub.data, 0o700)
    # Those who connect and say nothing, or nonsense, or too much, hold up nobody.
    held = []
    for n in range(6):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect(str(sock))
        held.append(s)
    at = time.monotonic()
    t.check("status, with 6 who hang", hub.run("status", timeout=10).stdout and time.monotonic() - at < 3)
    for s in held:
        s.close()
    held = []
    for junk in (b"\0" * 100, b"\xff\xfe\n", b"user add\n", b"status " * 10_000, b"A" * 3_000_000, b"{}\n", b"backup /dev/null\n", b"\n" * 1000):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        try:
            s.connect(str(sock))
            s.sendall(junk)
            s.shutdown(socket.SHUT_WR)
            s.recv(1000)
        except OSError:
            pass
        s.close()
    # More of them than there are places: an order must still get through, if late.
    for n in range(30):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect(str(sock))
        held.append(s)
    p = hub.run("status", check=False, timeout=20)
    t.check("status, with 30 who hang, works or says why not", p.returncode == 0 or "busy" in p.stderr, p.stderr)
    for s in held:
        s.close()
    held, at = [], time.monotonic()
    t.check("status, after nonsense", "alice" in hub.run("user", "list", timeout=10).stdout and time.monotonic() - at < 3)
    for s in held:
        s.close()
    with hub.login("alice") as c:
        t.check("the hub serves on", c.ping() is not None)


def j8_foreign_paths(t):
    """A path that is not ours is not followed."""
    hub = t.other(limits=[NO_DELAY])
    sock = control_socket(hub)
    hub.stop()
    if sock is None:
        return t.check("a control socket", False)
    victim = hub.dir / "precious"
    victim.write_text("precious")
    if sock.exists() or sock.is_symlink():
        sock.unlink()
    sock.symlink_to(victim)
    try:
        hub.start()
        t.check("a symlink in its place is replaced, its target untouched", victim.read_text() == "precious" and not sock.is_symlink())
    except AssertionError:
        t.check("a symlink in its place is refused", victim.read_text() == "precious" and hub.proc.poll() not in (0, None), hub.text()[-300:])
    if hub.alive():
        hub.stop()
    sock.unlink(missing_ok=True)
    sock.write_text("a file")
    try:
        hub.start()
        t.check("a file in its place", True)
    except AssertionError:
        t.check("a file in its place is refused by name", sock.name in hub.text(), hub.text()[-300:])
    if hub.alive():
        # Two hubs on one data directory: the second says so and leaves.
        second = hubs.Hub(data=hub.data)
        t.keep(second)
        try:
            second.start()
            t.check("a second hub on the same data is refused", False, "it runs")
        except AssertionError:
            t.check("a second hub on the same data is refused", second.proc.poll() not in (0, None) and hub.alive(), second.text()[-300:])
        t.check("and the first still takes orders", hub.run("status", check=False).returncode == 0)
