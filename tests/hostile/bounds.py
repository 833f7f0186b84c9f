"""A13, A14, C7: connections held open, too many of them, and readers that do not read."""

import os
import signal
import socket
import ssl
import time

import hub as hubs
from hub import PASSWORD
from stage import CLIENT, NO_DELAY, Closed, Refused, Timeout, body, name, show
from xmpp import SASL, STREAM, TLS, Client


def a13_deadline(t):
    """From accept to a bound resource in bounded time, whatever is said in between."""
    hub = t.other(limits=["login_seconds=2", NO_DELAY])
    hub.user("mallory")
    time.sleep(0.2)
    fds = t.files(hub)

    def auth_only():
        c = t.opened(hub=hub)
        c.authenticate("mallory", PASSWORD)
        c.new_parser()
        return c

    def restarted():
        c = auth_only()
        c.open()
        return c

    def mid_sasl():
        c = t.opened(hub=hub)
        c.auth("SCRAM-SHA-256", "n,,n=mallory,r=abcdefgh")
        c.outcome()
        return c

    def proceed():
        c = t.keep(Client(hub.where(), hub.domain))
        c.open()
        c.send(f"<starttls xmlns='{TLS}'/>")
        c.next()
        return c

    def half_handshake():
        c = t.keep(Client(hub.where("c2s-tls"), hub.domain))
        c.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        return c

    def failed():
        c = t.opened(hub=hub)
        c.auth("SCRAM-SHA-256", "n,,n=mallory,r=abcdefgh")
        c.outcome()
        c.send(f"<abort xmlns='{SASL}'/>")
        c.next()
        return c

    def part_of_an_element():
        c = t.opened(hub=hub)
        c.send("<auth xmlns='")
        return c

    states = {
        "nothing said": lambda: t.raw(hub=hub), "nothing said to the TLS port": lambda: t.keep(Client(hub.where("c2s-tls"), hub.domain)),
        "half a header": lambda: t.raw(hub=hub).send("<?xml version='1.0'?><stream:str"), "features seen": lambda: t.opened(hub=hub),
        "proceed seen": proceed, "half a handshake": half_handshake, "TLS done": lambda: t.opened("starttls", hub=hub), "direct TLS, nothing said": lambda: t.raw("direct", hub=hub),
        "in the middle of SASL": mid_sasl, "SASL aborted": failed, "half an element": part_of_an_element, "logged in, no restart": auth_only, "restarted, not bound": restarted,
    }
    began = time.monotonic()
    held = {what: make() for what, make in states.items()}
    chatty = {"whitespace": t.opened(hub=hub), "a byte of a long element": t.opened(hub=hub)}
    chatty["a byte of a long element"].send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='")
    while time.monotonic() - began < 3.6:
        chatty["whitespace"].send(" ")
        chatty["a byte of a long element"].send("x")
        time.sleep(0.1)
    for what, c in {**held, **chatty}.items():
        try:
            got = c.end(1.5)
            plain = what not in ("nothing said", "nothing said to the TLS port", "half a header", "proceed seen", "half a handshake", "direct TLS, nothing said")
            t.check(f"{what}: connection-timeout", got == "connection-timeout" or (not plain and got is None), str(got))
        except Timeout:
            t.check(f"{what}: closed after the deadline", False, "still open")
        c.drop()
    time.sleep(0.5)
    t.check("no descriptor is left", t.files(hub) <= fds, f"{t.files(hub)}, before {fds}")
    with hub.login("mallory") as c:
        time.sleep(2.5)
        t.check("a bound session stays", c.ping() is not None)


def a13_closed_streams_that_stay(t):
    """Who closes the stream and keeps the connection has its place no longer than any other."""
    hub = t.other(limits=["close_seconds=1", "unauthenticated=5", NO_DELAY])
    hub.user("mallory")
    fds = t.files(hub)
    held = []
    for tls, words in ((None, "</stream:stream>"), ("starttls", "</stream:stream>"), ("starttls", f"<starttls xmlns='{TLS}'/>"), ("direct", "<stream:error/>")):
        held.append(t.opened(tls, hub=hub).send(words))
    bound = t.keep(hub.login("mallory"))
    bound.send("</stream:stream>")
    time.sleep(1.6)
    t.check("no descriptor is left", t.files(hub) <= fds, f"{t.files(hub)}, before {fds}")
    t.check("there is room", t.keep(hub.login("mallory")).ping() is not None)


def a13_too_many_from_one_address(t):
    hub = t.other(limits=["connections_per_address=5"])
    hub.user("mallory")
    held = [t.opened(hub=hub) for _ in range(5)]
    for _ in range(3):
        try:
            c = t.raw(hub=hub)
            c.secure()
            t.check("the sixth is refused", False)
        except (Closed, Timeout, OSError) as e:
            t.check("the sixth is refused by name or by closing", getattr(e, "condition", None) in (None, "policy-violation", "resource-constraint"), str(e))
    other = t.opened(hub=hub, source="127.0.0.99")
    t.check("another address is served", other.mechanisms())
    for c in held:
        c.drop()
    time.sleep(0.3)
    t.check("a place that was left is free again", t.opened(hub=hub).mechanisms())


def a13_too_many_in_all(t):
    hub = t.other(limits=["connections=6", "unauthenticated=3"])
    hub.user("mallory")
    held = [t.opened(hub=hub) for _ in range(3)]
    try:
        t.raw(hub=hub).secure()
        t.check("the fourth that has not logged in is refused", False)
    except (Closed, Timeout, OSError):
        t.check("the fourth that has not logged in is refused", True)
    for i, c in enumerate(held):
        c.authenticate("mallory", PASSWORD)
        c.open()
        c.bind(f"r{i}")
    more = [t.keep(hub.login("mallory", f"s{i}")) for i in range(3)]
    t.check("those logged in make room", len(more) == 3)
    try:
        t.raw(hub=hub).secure()
        t.check("the seventh is refused", False)
    except (Closed, Timeout, OSError):
        t.check("the seventh is refused", True)
    t.check("those inside go on", all(c.ping() is not None for c in held + more))


def a14_out_of_descriptors(t):
    # Fewer than asked for: the hub must live with what the system gives.
    hub = t.other(wrapper=["prlimit", "--nofile=64:64"])
    hub.user("mallory", "victim")
    inside = t.keep(hub.login("victim", "v", online=True))
    held = []
    for _ in range(120):
        try:
            s = socket.create_connection(hub.where("c2s-plain"), 1)
            held.append(s)
        except OSError:
            break
    time.sleep(0.3)
    used = t.cpu(hub)
    time.sleep(1.0)
    spin = t.cpu(hub) - used
    t.check("no spinning", spin < 0.3, f"{spin:.2f} s of CPU in one second")
    hub.proc.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    inside.message(f"victim@{hub.domain}", "still here")
    t.check("who is inside goes on", inside.expect_body("still here", 5) is not None)
    inside.iq("set", "<query xmlns='jabber:iq:roster'><item jid='x@y.test'/></query>", timeout=8)
    t.check("the store goes on", "x@y.test" in inside.roster())
    for s in held:
        s.close()
    time.sleep(1.2)
    wrong = t.opened(hub=hub)
    t.answer("the same rules as before", lambda: wrong.authenticate("mallory", "wrong"), "not-authorized")
    t.check("it recovers", t.keep(hub.login("mallory")).ping() is not None)
    t.check("it lives", hub.alive())


def c7_slow_reader(t):
    """One that never reads costs bounded memory, and nobody else's time."""
    hub = t.other(limits=["stall_seconds=3"])
    hub.user("alice", "bob", "slow", "mallory")
    alice, bob = t.keep(hub.login("alice", "a", online=True)), t.keep(hub.login("bob", "b", online=True))
    slow = t.keep(hub.login("slow", "s", online=True))
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    m = t.keep(hub.login("mallory"))
    before, sent, worst = t.memory(hub), 0, 0.0
    text = "x" * 60_000
    m.sock.settimeout(2)
    stanza = f"<message to='slow@{hub.domain}/s' type='chat'><body>{text}</body></message>".encode()
    began = time.monotonic()
    while sent < 40_000_000 and time.monotonic() - began < 8:
        try:
            m.sock.sendall(stanza)
            sent += len(stanza)
        except (TimeoutError, OSError):
            break
        if sent % 10 == 0 or sent < 3_000_000:
            at = time.monotonic()
            alice.message(bob.jid, f"n{sent}")
            bob.expect_body(f"n{sent}", 5)
            worst = max(worst, time.monotonic() - at)
    grown = t.memory(hub) - before
    cap = t.limits["outbox_bytes"] + t.limits["offline_bytes"]
    t.check(f"{sent // 1_000_000} MB sent, memory grew by {grown // 1024} KiB", grown < 2 * cap + 8_000_000, f"{grown} bytes")
    t.check(f"others wait {worst * 1000:.0f} ms at most", worst < 1)
    m.drop()
    time.sleep(0.3)
    held = t.files(hub)
    time.sleep(4.5)
    t.check("who does not read is cut off", t.files(hub) < held, f"{t.files(hub)} descriptors, before {held}")
    t.check("the hub lives", hub.alive() and alice.ping() is not None)


def c7_flood(t):
    """A sender at full speed does not hold up two who talk to each other."""
    m = t.mallory()
    sink = t.keep(t.hub.login("absent", "sink", online=True))
    m.sock.setblocking(False)
    stanza = (f"<message to='{sink.jid}' type='chat'><body>{'x' * 200}</body></message>" * 50).encode()
    worst, end, n = 0.0, time.monotonic() + 2, 0
    while time.monotonic() < end:
        for _ in range(20):
            try:
                m.sock.send(stanza)
            except (BlockingIOError, OSError):
                break
        sink.sock.settimeout(0.001)
        try:
            sink.sock.recv(1 << 20)
        except (TimeoutError, OSError):
            pass
        n += 1
        at = time.monotonic()
        t.alice.message(t.bob.jid, f"flood {n}")
        t.bob.expect_body(f"flood {n}", 5)
        worst = max(worst, time.monotonic() - at)
    t.check(f"{n} messages of others, {worst * 1000:.0f} ms at most", worst < 1 and n > 20, f"{n} messages")


def c7_half_closed(t):
    """One that says goodbye, closes its half, and reads nothing of what waits for it: nobody else waits."""
    for tls in (None, "starttls"):
        hub = t.other(limits=["close_seconds=2", "outbox_bytes=8000000", NO_DELAY])
        hub.user("slow", "sender")
        slow = hub.client(tls)
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.login("slow", PASSWORD, "s")
        t.keep(slow).online()
        sender = t.keep(hub.login("sender", "x"))
        for n in range(240):
            sender.message(slow.jid, f"{n} {'x' * 40_000}")
        sender.ping()
        held = t.files(hub)
        slow.send("</stream:stream>")
        # The TCP socket's half only: TLS would wait for an answer, which is behind all else.
        socket.socket.shutdown(slow.sock, socket.SHUT_WR)
        time.sleep(0.3)
        at = time.monotonic()
        sender.ping()
        t.check(f"{tls}: others wait {(time.monotonic() - at) * 1000:.0f} ms", time.monotonic() - at < 1)
        hubs.wait_for("the half-closed connection is gone", lambda: t.files(hub) < held, 8, 0.2)
        t.check(f"{tls}: it lives, and the connection is gone", hub.alive() and sender.ping() is not None)


def c7_what_was_never_written(t):
    """A reader that dies with unread messages takes none with it that the system had not taken."""
    for tls in (None, "starttls"):
        for how in ("dead", "replaced", "shutdown"):
            hub = t.other(limits=["stall_seconds=2", "close_seconds=1", "outbox_bytes=8000000", "offline_messages=100000", "offline_bytes=100000000", NO_DELAY])
            hub.user("slow", "sender")
            slow = hub.client(tls)
            slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.login("slow", PASSWORD, "s")
            t.keep(slow).online()
            sender = t.keep(hub.login("sender", "x"))
            many, text = 240, "x" * 40_000
            for n in range(many):
                sender.message(f"slow@{hub.domain}", f"{n} {text}", id=f"m{n}")
            sender.ping()
            if how == "dead":
                slow.drop()
                again = t.keep(hub.login("slow", "s2"))
                hubs.wait_for("the dead one is noticed", lambda: '"sessions":2' in hub.run("status", "--json").stdout, 8, 0.2)
                time.sleep(0.5)
            elif how == "replaced":
                again = t.keep(hub.login("slow", "s"))
                time.sleep(2)
            else:
                hub.stop()
                hub.start()
                again = t.keep(hub.login("slow", "s"))
            again.send("<presence/>")
            got, last = [], time.monotonic()
            while time.monotonic() - last < 1:
                try:
                    e = again.next(0.2)
                    if name(e) == "message":
                        got.append(int(body(e).split()[0]))
                    last = time.monotonic()
                except Timeout:
                    pass
            want = list(range(min(got, default=0), many))
            t.check(f"{tls} {how}: the last {len(got)} of {many} are there, in order", got == want and len(got) > many // 2, str(got)[:300])
