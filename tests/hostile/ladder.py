"""D4 to D13, I6, J7: what was believed once, and what goes on when it no longer holds; what one stream may cost."""

import signal
import socket
import struct
import tempfile
import time

from federation import pin_of_cert, place
from hub import wait_for
from neighbours import World, forged
from s2s import Neighbour
from stage import Closed, Refused, Timeout, show

SM = "urn:xmpp:sm:3"
OTHER = "sha256:" + "A" * 43 + "="


def pin(neighbour):
    with open(neighbour.cert[0], "rb") as f:
        return pin_of_cert(f.read())


def ends(link, seconds=5):
    """Whether the hub ends it."""
    try:
        link.end(seconds)
        return True
    except Closed:
        return True
    except (Timeout, OSError):
        return False


def i6_judged_before_the_record_changed(t):
    """A certificate is judged when the header comes, and used later; meanwhile a person may have said otherwise."""
    w = World(t)
    ours = pin(w.evil)
    for what, *order in (("another key is pinned", "add", "evil.test", "--pin", OTHER), ("it is repaired", "repair", "evil.test"), ("it is removed", "remove", "evil.test")):
        w.hub.run("peer", "add", "evil.test", "--pin", ours)
        waits, speaks = w.link(), w.link()
        t.check("the pinned key may log in", "EXTERNAL" in waits.mechanisms(), str(waits.mechanisms()))
        speaks.external("")
        speaks.send(f"<message from='x@evil.test' to='{w.alice.jid}'><body>pinned</body></message>")
        w.alice.expect_body("pinned", 5)
        w.hub.run("peer", *order)
        t.check(f"{what}: what rests on the old key is closed", ends(speaks))
        try:
            waits.external("")
            waits.send(forged("x@evil.test", w.alice.jid))
            t.check(f"{what}: and nothing can rest on it any more", ends(waits))
        except (Closed, Refused):
            pass
        waits.drop()
        w.hub.run("peer", "remove", "evil.test", check=False)
    w.nothing_forged("by the old key")
    w.well("after that")


def i6_pinned_while_the_call_was_under_way(t):
    """Dialback takes its time; a key that is pinned meanwhile is the only one that counts."""
    w = World(t)

    class Slow(set):
        def __contains__(self, key):
            time.sleep(2)
            return super().__contains__(key)

    w.evil.keys = Slow()
    link = w.link()
    link.send(f"<db:result from='evil.test' to='hub.test'>{w.evil.key()}</db:result>")
    time.sleep(0.7)
    w.hub.run("peer", "add", "evil.test", "--pin", OTHER)
    try:
        link.quiet(4)
    except Closed:
        pass
    try:
        link.send(forged("x@evil.test", w.alice.jid))
        t.check("dialback does not stand against a pin", ends(link))
    except (Closed, OSError):
        pass
    w.nothing_forged("by dialback")
    w.well("after that")


def i6_options_that_change(t):
    """SIGHUP: whom the operator no longer wants is left at once."""
    conf = t.keep(Conf())
    w = World(t, args=["--config", conf.path])
    link = w.proven()
    link.send(f"<message from='x@evil.test' to='{w.alice.jid}'><body>welcome</body></message>")
    w.alice.expect_body("welcome", 5)
    conf.write("peer-deny evil.test\n")
    w.hub.proc.send_signal(signal.SIGHUP)
    t.check("the stream is closed", ends(link))
    try:
        w.proven().drop()
        t.check("and no new one is made", False)
    except (Closed, AssertionError, Timeout):
        pass
    w.fails("nor one of ours", "evil.test", "remote-server-not-found")
    conf.write("")
    w.hub.proc.send_signal(signal.SIGHUP)
    wait_for("it is welcome again", lambda: welcome(w), 10)
    w.honest("after that")


def welcome(w):
    try:
        return w.proven()
    except (Closed, AssertionError, Timeout):
        return None


class Conf:
    """An options file."""

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile("w", suffix=".conf")
        self.path = self.file.name

    def write(self, text):
        with open(self.path, "w") as f:
            f.write(text)

    def __exit__(self, *_):
        self.file.close()


def d9_denied_with_messages_waiting(t):
    """What waits for a domain that is no longer wanted goes back, and not there."""
    w = World(t)
    lost = socket.create_server((place(), 5269))
    w.net.domain("later.test", lost.getsockname()[0])
    w.net.dns.start()
    lost_at = lost.getsockname()
    lost.close()
    w.alice.message("x@later.test", "one", id="k1")
    wait_for("it waits", lambda: w.hub.peer("later.test").get("queued") == 1, 30)
    w.hub.stop()
    visits, there = [], socket.create_server(lost_at)
    there.settimeout(4)
    w.hub.args += ["--peer-deny", "later.test"]
    w.hub.start()
    try:
        there.accept()
        visits.append(1)
    except TimeoutError:
        pass
    t.check("nobody goes there", not visits)
    wait_for("it does not wait any more", lambda: not w.hub.peer("later.test").get("queued"), 10)
    there.close()


def d13_asks_again_and_again(t):
    """`<r/>` costs the other side five bytes of thought; it is answered, not each one."""
    w = World(t)
    w.hub.run("peer", "add", "evil.test", "--pin", pin(w.evil))
    link = w.link().external("")
    link.send(f"<enable xmlns='{SM}'/>")
    link.expect(lambda e: e.tag == f"{{{SM}}}enabled", 5)
    link.send(f"<message from='x@evil.test' to='{w.bob.jid}'><body>counted</body></message>")
    for _ in range(20):
        link.send(f"<r xmlns='{SM}'/>" * 1000)
    got, end = [], time.monotonic() + 20
    while time.monotonic() < end:
        try:
            got.append(link.next(2))
        except (Closed, Timeout):
            break
    answers = [e for e in got if e.tag == f"{{{SM}}}a"]
    t.check("it is answered", answers and answers[-1].get("h") == "1", str([show(e) for e in answers[-2:]]))
    t.check("20,000 times the same is said fewer times", len(answers) < 5000, str(len(answers)))
    t.check("the stream lives", not link.ended)
    w.well("after that")


def j7_one_stream_fills_no_log(t):
    """Keys and domains by the thousand on one stream, none of them good."""
    w = World(t, trust="ca")
    before = [l for l in w.hub.text().splitlines() if " DEBUG" not in l.upper()]
    link = w.link(me="evil.test")
    for n in range(400):
        link.send(f"<db:verify from='evil.test' to='hub.test' id='{n}'>{n}</db:verify>")
    for n in range(60):
        link.send(f"<db:result from='d{n}.test' to='hub.test'>{n}</db:result>")
    link.quiet(2)
    lines = [l for l in w.hub.text().splitlines() if "DEBUG" not in l.upper()][len(before):]
    t.check("460 lies are a few lines", len(lines) < 20, f"{len(lines)}: {lines[:3]}")
    w.well("after that")


def j7_a_stream_that_is_over_is_not_up(t):
    """`peer list` shows what is there, for each domain of a stream and not only for the one in its header."""
    w = World(t)
    second = w.neighbour("second.test")
    w.net.dns.start()
    link = w.proven()
    t.check("proven", link.result(second.key(), me="second.test") == "valid")
    wait_for("both are up", lambda: all(w.hub.peer(d).get("state") == "up" for d in ("evil.test", "second.test")), 5)
    link.drop()
    for domain in ("evil.test", "second.test"):
        try:
            wait_for(f"{domain} is down", lambda: w.hub.peer(domain).get("state") != "up", 5)
        except AssertionError as e:
            t.check(f"{domain} is down", False, str(e))


def d7_our_other_names(t):
    """A domain that only clients know us by is ours all the same; nobody else speaks for it, whatever DNS says."""
    w = World(t, args=["--alias", "alias.test"])
    alias = w.neighbour("alias.test")
    w.net.dns.start()
    try:
        link = t.keep(alias.link(w.hub))
        verdict = link.result(alias.key(), me="alias.test")
        t.check("an alias of ours is not somebody else's", verdict != "valid", verdict)
        link.send(forged("bob@alias.test", w.alice.jid))
    except Closed:
        pass
    w.nothing_forged("in the name of an alias")
    # Nor as one more domain of a stream that has proven something.
    link = w.proven()
    try:
        verdict = link.result(alias.key(), me="alias.test")
        t.check("nor behind another", verdict != "valid", verdict)
    except Closed:
        pass
    w.nothing_forged("in the name of an alias")
    w.well("after that")


def d13_calls_back_for_one(t):
    """Keys that need a call to somebody who does not answer: whoever has many of them under way holds up himself."""
    held = socket.create_server((place(), 5269), backlog=500)
    w = World(t, others=[(f"mute{n}.test", held.getsockname()[0]) for n in range(64)])
    links = []
    for n in range(8):
        # All from one address; the honest one has another.
        link = w.link(source=w.evil.ip)
        for k in range(8):
            link.send(f"<db:result from='mute{8 * n + k}.test' to='hub.test'>{k}</db:result>")
        links.append(link)
    time.sleep(1)
    try:
        honest = t.keep(w.victim.link(w.hub, source=w.victim.ip))
        verdict = honest.result(w.victim.key(), me="victim.test")
    except (Closed, Timeout) as e:
        verdict = str(e)
    t.check("somebody else is called back", verdict == "valid", verdict)
    for link in links:
        link.drop()
    held.close()



def d9_who_is_known_does_not_queue_behind_strangers(t):
    """A user writes to more domains at once than are dialled at once, none of which answers."""
    held = [socket.create_server((place(), 5269), backlog=500) for _ in range(3)]
    others = [(f"mute{n}.test", s.getsockname()[0]) for n in range(80) for s in held]
    w = World(t, others=others)
    w.hub.run("peer", "add", "victim.test")
    m = t.keep(w.hub.login("mallory", "m", tls=None))
    for n in range(80):
        m.send(f"<iq type='get' id='{n}' to='mute{n}.test'><query xmlns='jabber:iq:version'/></iq>")
        time.sleep(0.02)
    at = time.monotonic()
    w.alice.message("x@victim.test", "first")
    wait_for("the known one is reached", lambda: any("first" in show(e) for e in w.victim.stanzas()), 60)
    t.check("at once", time.monotonic() - at < 5, f"{time.monotonic() - at:.1f} s")
    for s in held:
        s.close()


def j7_many_streams_fill_no_log(t):
    """Nor do a thousand streams that come to nothing."""
    w = World(t, trust="ca")
    before = len([l for l in w.hub.text().splitlines() if "DEBUG" not in l.upper()])
    for n in range(150):
        sock = socket.create_connection(w.hub.where("s2s"), 5)
        sock.sendall(b"<nothing/>")
        sock.settimeout(5)
        while sock.recv(4096):
            pass
        sock.close()
    lines = [l for l in w.hub.text().splitlines() if "DEBUG" not in l.upper()][before:]
    t.check("150 strangers are 60 lines", len(lines) <= 62, f"{len(lines)}: {lines[:3]}")
    w.well("after that")


class Apart:
    """A net whose DNS a neighbour is not in."""

    def __init__(self, net):
        self.dir = net.dir / "apart"
        self.dir.mkdir(exist_ok=True)

    def domain(self, *_, **__):
        pass


def announces(domain, ip, port):
    """A packet of multicast DNS that says that a domain is there (RFC 6763 §4.1)."""
    name = lambda *labels: b"".join(bytes([len(x)]) + x for x in labels) + b"\0"
    service = (b"_xmpp-server", b"_tcp", b"local")
    instance, host = name(domain.encode(), *service), name(b"false-friend", b"local")
    record = lambda owner, kind, data: owner + struct.pack(">HHIH", kind, 1, 120, len(data)) + data
    return (struct.pack(">6H", 0, 0x8400, 0, 3, 0, 0) + record(name(*service), 12, instance)
            + record(instance, 33, struct.pack(">3H", 0, 0, port) + host) + record(host, 1, socket.inet_aton(ip)))


def i1_who_answers_on_the_network(t):
    """Somebody on the network says that he is victim.test. With dialback allowed the way would prove it; not this one."""
    w = World(t, flags=["--no-http"])
    false = t.keep(Neighbour(Apart(w.net), "victim.test", features="<bidi xmlns='urn:xmpp:features:bidi'/>"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((false.ip, 5353))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(false.ip))
        packet = announces("victim.test", false.ip, false.listener.getsockname()[1])

        def seen():
            sock.sendto(packet, ("224.0.0.251", 5353))
            return w.hub.peer("victim.test").get("found") == "mdns"

        wait_for("the hub sees it", seen, 10, 0.3)
        w.alice.message("x@victim.test", "for victim alone")
        wait_for("the right one gets it", lambda: any("for victim alone" in show(e) for e in w.victim.stanzas()), 40)
        t.check("it was tried", false.count > 0)
        t.check("and was told nothing", not false.heard, str([show(e)[:200] for e in false.heard]))
        # Nor is it asked whether a key is good.
        link = w.link(me="victim.test")
        try:
            verdict = link.result(false.key(), me="victim.test")
            t.check("its word for a key is none", verdict != "valid", verdict)
            link.send(forged("x@victim.test", w.alice.jid))
        except Closed:
            pass
        w.nothing_forged("in victim.test's name")
    w.honest("after that")
