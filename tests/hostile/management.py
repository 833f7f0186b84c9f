"""C6, C7, A9: stream management (XEP-0198) in the hands of others."""

import time

from hub import PASSWORD
from stage import CLIENT, NO_DELAY, Closed, Refused, Timeout, body, name, show
from xmpp import STREAM, child, condition, ns

SM = "urn:xmpp:sm:3"


def logged_in(t, user, hub=None):
    """Past login, without a resource."""
    c = t.keep((hub or t.hub).client().secure())
    c.authenticate(user, PASSWORD)
    c.open()
    return c


def enable(c, resume=True):
    """The id, if there is one."""
    how = " resume='true'" if resume else ""
    c.send(f"<enable xmlns='{SM}'{how}/>")
    return c.expect(lambda e: ns(e) == SM).get("id")


def resume(c, previd, h):
    """Whether it was."""
    c.send(f"<resume xmlns='{SM}' previd='{previd}' h='{h}'/>")
    return c.next()


def ack(c, h):
    c.send(f"<a xmlns='{SM}' h='{h}'/>")


def managed(t, user, resource, hub=None, online=True):
    """A session with stream management, and its id. What an earlier test has left for it is taken; `c.h` says how much
    that was."""
    c = logged_in(t, user, hub)
    c.bind(resource)
    previd = enable(c)
    c.h = 0
    if online:
        c.send("<presence/>")
        drain(c, 0, 0.1)
    return c, previd


def handled(c):
    """What the hub says that it has handled."""
    c.send(f"<r xmlns='{SM}'/>")
    return int(c.expect(lambda e: e.tag == f"{{{SM}}}a").get("h"))


def bodies(elements):
    return [body(e) for e in elements if name(e) == "message" and body(e)]


def count(elements):
    """How many of them are stanzas."""
    return len([e for e in elements if ns(e) == CLIENT])


def drain(c, h, seconds=0.3):
    """All that comes, acknowledged from `h` on."""
    c.h, all = h, []
    while heard := c.quiet(seconds):
        all += heard
        if new := count(heard):
            c.h += new
            ack(c, c.h)
    return all


def is_failed(e, why):
    return e.tag == f"{{{SM}}}failed" and [name(c) for c in e] == [why]


def c6_order(t):
    """What may be said when."""
    c = logged_in(t, "mallory")
    t.check("offered", child(c.features, f"{{{SM}}}sm") is not None)
    c.send(f"<enable xmlns='{SM}'/>")
    t.check("not before a resource", is_failed(c.next(), "unexpected-request"))
    for bad in ("<resume xmlns='urn:xmpp:sm:3'/>", "<resume xmlns='urn:xmpp:sm:3' previd='x' h='-1'/>"):
        c.send(bad)
        t.check(bad, is_failed(c.next(), "bad-request"))
    c.bind("m")
    t.check("an id of 128 bits", len(enable(c) or "") == 32)
    c.send(f"<enable xmlns='{SM}'/>")
    t.check("not twice", is_failed(c.next(), "unexpected-request"))
    c.send(f"<resume xmlns='{SM}' previd='x' h='0'/>")
    t.check("not on a bound stream", is_failed(c.next(), "unexpected-request"))
    t.check("nothing is counted yet", handled(c) == 0)
    c.ping()
    c.send("<presence/><message to='nobody@hub.test' id='1'><body>x</body></message>")
    t.check("three are", handled(c) == 3)
    c.send(f"<a xmlns='{SM}' h='x'/>")
    t.refused("a count that is none", c, "bad-format")
    for early in ("r", "a h='0'"):
        c = t.mallory()
        c.send(f"<{early} xmlns='{SM}'/>")
        t.refused(f"{early} without it", c, "unsupported-stanza-type")


def c6_resumption(t):
    """A lost connection; what was not acknowledged comes again, in order, and presence has not moved."""
    c, previd = managed(t, "mallory", "phone")
    sender = t.keep(t.hub.login("victim", "s", online=True))
    sender.send("<presence to='mallory@hub.test/phone'/>")
    for n in range(5):
        sender.message("mallory@hub.test/phone", f"before {n}")
    for n in range(5):
        c.expect_body(f"before {n}")
    ack(c, c.h + 3)  # the directed presence, and two of the messages
    c.send("<message to='victim@hub.test/s' id='x'><body>mine</body></message>")
    t.check("all of ours", handled(c) == 2, "presence, message")
    c.drop()
    sender.expect_body("mine")
    for n in range(5):
        sender.message("mallory@hub.test/phone", f"away {n}")
    sender.ping()
    t.check("presence stays", not [e for e in sender.quiet(0.3) if e.get("type") == "unavailable"])
    again = logged_in(t, "mallory")
    answer = resume(again, previd, c.h + 3)
    t.check("resumed", answer.tag == f"{{{SM}}}resumed" and answer.get("h") == "2", show(answer))
    got = bodies(drain(again, c.h + 3))
    t.check("what was kept comes, in order", got[-5:] == [f"away {n}" for n in range(5)], got)
    t.check("and what was not acknowledged before", got[:-5] == [f"before {n}" for n in range(5)][5 - len(got[:-5]):] and got[:-5], got)
    t.check("once", len(got) == len(set(got)), got)
    sender.message("mallory@hub.test/phone", "after")
    again.expect_body("after")


def c6_others_id(t):
    """Somebody else's stream, and one that never was, look the same; then binding still works."""
    c, previd = managed(t, "victim", "mine")
    c.drop()
    time.sleep(0.1)
    for wrong in (previd, "0" * 32, previd[:-1], "x", "", previd + "0", "-1", "+1"):
        m = logged_in(t, "mallory")
        answer = resume(m, wrong, 0)
        why = "item-not-found" if wrong else "bad-request"
        t.check(f"{wrong!r} is refused", is_failed(answer, why) and answer.attrib == {}, show(answer))
    m.bind("m")
    m.ping()
    again = logged_in(t, "victim")
    t.check("it is still its owner's", name(resume(again, previd, c.h)) == "resumed")


def c6_counts(t):
    """More acknowledged than was ever sent."""
    for h in (1000, 2**32 - 1, 2**31):
        c, previd = managed(t, "mallory", "m")
        ack(c, h)
        el = c.expect(lambda e: e.tag == f"{{{STREAM}}}error")
        high = child(el, f"{{{SM}}}handled-count-too-high")
        t.check(f"h={h}", condition(el, "urn:ietf:params:xml:ns:xmpp-streams") == "undefined-condition", show(el))
        t.check(f"h={h} has the counts", high is not None and high.get("h") == str(h) and high.get("send-count").isdigit(), show(el))
        c, previd = managed(t, "mallory", "m")
        c.drop()
        m = logged_in(t, "mallory")
        el = resume(m, previd, h)
        t.check(f"resume with h={h}", child(el, f"{{{SM}}}handled-count-too-high") is not None, show(el))


def c6_alive(t):
    """Resumed while the old connection lives: that one is closed with a conflict."""
    c, previd = managed(t, "mallory", "m")
    t.victim.message("mallory@hub.test/m", "one")
    c.expect_body("one")
    m = logged_in(t, "mallory")
    t.check("resumed", name(resume(m, previd, c.h)) == "resumed")
    t.refused("the old one ends", c, "conflict")
    m.expect_body("one")
    t.victim.message("mallory@hub.test/m", "two")
    m.expect_body("two")


def c6_twice_at_once(t):
    """Ten at once: each takes it from the one before, and one is left. Nothing comes twice to it."""
    c, previd = managed(t, "mallory", "m")
    t.victim.message("mallory@hub.test/m", "one")
    c.expect_body("one")
    c.drop()
    many = [logged_in(t, "mallory") for _ in range(10)]
    for m in many:
        m.send(f"<resume xmlns='{SM}' previd='{previd}' h='{c.h}'/>")
    t.victim.message("mallory@hub.test/m", "two")
    alive = []
    for m in many:
        try:
            if name(m.next()) == "resumed":
                m.ping()
                alive.append(m)
        except Closed as e:
            t.check("closed with a conflict", e.condition in ("conflict", None), e)
    t.check("one is left", len(alive) == 1, len(alive))
    got = bodies(alive[0].queue) if alive else []
    if alive:
        ack(alive[0], c.h + count(alive[0].queue))
        alive[0].queue = []
        got += bodies(drain(alive[0], c.h + 1))
    t.check("each once", sorted(set(got)) == sorted(got) and "two" in got, got)


def c6_password(t):
    """A new password ends those that have no connection, too."""
    hub = t.other(limits=[NO_DELAY])
    hub.user("mallory")
    c, previd = managed(t, "mallory", "m", hub)
    c.drop()
    time.sleep(0.1)
    hub.run("user", "passwd", f"mallory@{hub.domain}", "--password-stdin", input=PASSWORD + "\n")
    m = logged_in(t, "mallory", hub)
    t.check("gone", is_failed(resume(m, previd, 0), "item-not-found"))


def c7_never_acknowledges(t):
    """One that enables it, reads, and acknowledges nothing: it fills its own bound, and what is beyond waits on disk or
    comes back. Nothing is lost, and the hub does not grow."""
    hub = t.other(limits=[NO_DELAY, "outbox_bytes=262144", "offline_messages=100"])
    hub.user("mallory", "victim")
    c, _ = managed(t, "mallory", "m", hub)
    sender = t.keep(hub.login("victim", "s", online=True))
    before, count, back = t.memory(hub), 4000, 0
    for n in range(count):
        sender.send(f"<message to='mallory@hub.test' type='chat' id='{n}'><body>{'x' * 4000}{n}</body></message>")
        if n % 20 == 19:
            sender.ping()
            back += len([e for e in sender.queue if e.get("type") == "error"])
            sender.queue = []
            c.quiet(0.001)
    grown = t.memory(hub) - before
    t.check("the hub does not grow", grown < 8 << 20, f"{grown >> 10} KiB for {count * 4 >> 10} MiB")
    c.queue = []
    c.drop()
    time.sleep(0.2)
    kept = []
    # All that was not acknowledged must be with the account, or have come back.
    m = t.keep(hub.login("mallory", "m", online=True))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        got = bodies(m.quiet(0.5))
        if not got:
            break
        kept += [int(b.lstrip("x")) for b in got]
    back += len([e for e in t.settled(sender) if e.get("type") == "error"])
    t.check("none is lost", len(set(kept)) + back == count, f"{len(set(kept))} kept, {back} back, {count} sent")


def c7_many_lost(t):
    """Sessions without a connection are bounded in number and in time."""
    hub = t.other(limits=[NO_DELAY, "hibernated=3", "resume_seconds=2"])
    hub.user("mallory", "victim")
    lost = []
    for n in range(5):
        c, previd = managed(t, "mallory", f"m{n}", hub, online=False)
        c.drop()
        lost.append(previd)
        time.sleep(0.05)
    for n, previd in enumerate(lost[:3]):
        m = logged_in(t, "mallory", hub)
        found = name(resume(m, previd, 0)) == "resumed"
        t.check(f"number {n}", found == (n >= 2))
        m.close()
    c, previd = managed(t, "victim", "v", hub)
    m = t.keep(hub.login("mallory", "m", online=True))
    m.message("victim@hub.test/v", "unread")
    c.expect_body("unread")
    c.drop()
    time.sleep(0.2)
    for n in range(3):
        m.message("victim@hub.test/v", str(n))
    m.ping()
    time.sleep(3)
    v = logged_in(t, "victim", hub)
    t.check("over", is_failed(resume(v, previd, 0), "item-not-found"))
    v.bind("v")
    v.online()
    got = bodies(v.queue + v.quiet(0.5))
    t.check("what came was kept, in order", got == ["unread", "0", "1", "2"], got)


def a9_poison(t):
    """A reader that dies of one stanza, each time it gets it: at the fourth return it gets all the others."""
    c, previd = managed(t, "mallory", "m")
    for text in ("fine", "poison", "one", "two"):
        t.victim.message("mallory@hub.test/m", text, id=f"id-{text}")
    h, got = c.h, []

    def read(c):
        nonlocal h
        for e in c.quiet(0.4):
            if body(e) == "poison":
                return False
            if ns(e) == CLIENT:
                h += 1
                got.extend(bodies([e]))
        return True

    back = 0
    while not read(c) and back < 10:
        c.drop()
        time.sleep(0.05)
        c = logged_in(t, "mallory")
        t.check("resumed", name(resume(c, previd, h)) == "resumed")
        back += 1
    t.check("the fourth time", back == 4, back)
    ack(c, h)
    got += bodies(drain(c, h))
    h = c.h
    t.check("the others come", got == ["fine", "one", "two"], got)
    said = [l for l in t.hub.lines if "id-poison" in l]
    t.check("it is said", len(said) == 1, said)
    t.victim.message("mallory@hub.test/m", "later")
    c.expect_body("later")
    h += 1
    ack(c, h)
    c.ping()
    c.close()
    again = t.mallory("m", online=True)
    t.check("nor from the store", not [b for b in bodies(again.quiet(0.3)) if b == "poison"])


def c7_stopped(t):
    """A hub that is stopped, or killed, while a session has no connection: what was acknowledged to its senders, and not
    by its reader, is there afterwards."""
    for how in ("stop", "kill"):
        hub = t.other(limits=[NO_DELAY])
        hub.user("mallory", "victim")
        c, _ = managed(t, "victim", "v", hub)
        m, _ = managed(t, "mallory", "m", hub)
        m.message(f"victim@{hub.domain}/v", "read")
        c.expect_body("read")
        c.drop()
        time.sleep(0.2)
        for n in range(3):
            m.message(f"victim@{hub.domain}", str(n))
        t.check(f"{how}: all acknowledged", handled(m) == 5)
        getattr(hub, how)()
        hub.start()
        v = t.keep(hub.login("victim", "v", online=True))
        got = bodies(v.queue + v.quiet(0.5))
        t.check(f"{how}: they are there, behind what was not acknowledged", got == ["read", "0", "1", "2"], got)
