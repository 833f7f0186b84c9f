"""B11, E8, F8, F9: registration, invitations, and what is left of a removed account."""

import re
import threading
import time

import hub as hubs
from hub import PASSWORD
from stage import NO_DELAY, Closed, Refused, Timeout, condition, name, show
from xmpp import ROSTER, TLS, child

REGISTER, FEATURE = "jabber:iq:register", "http://jabber.org/features/iq-register"


def register(c, user, password="a good password", token=None):
    """Before login; raises `Refused`."""
    if token is not None:
        c.iq("set", f"<preauth xmlns='urn:xmpp:pars:0' token='{token}'/>", to=c.domain)
    return c.iq("set", f"<query xmlns='{REGISTER}'><username>{user}</username><password>{password}</password></query>", to=c.domain)


def b11_removed_and_changed(t):
    hub = t.other(limits=[NO_DELAY])
    hub.user("mallory", "friend")
    m = t.keep(hub.login("mallory", "one", online=True))
    hub.run("user", "passwd", f"mallory@{hub.domain}", "--password-stdin", input="another one 1\n")
    t.answer("the old password, after a change by the operator", lambda: hub.login("mallory"), "not-authorized")
    t.check("the new one", t.keep(hub.login("mallory", "two", password="another one 1")).ping() is not None)
    try:
        got = m.end(3)
        t.check("a session from before is ended by name", got in ("not-authorized", "reset", "conflict", "policy-violation"), str(got))
    except Timeout:
        t.check("a session from before is ended by name", False, "it goes on")
    m = t.keep(hub.login("mallory", "three", password="another one 1", online=True))
    hub.run("user", "remove", f"mallory@{hub.domain}")
    try:
        got = m.end(3)
        t.check("removal ends sessions by name", got in ("not-authorized", "reset", "conflict", "policy-violation"), str(got))
    except Timeout:
        t.check("removal ends sessions by name", False, "it goes on")
    t.answer("and nobody logs in any more", lambda: hub.login("mallory", password="another one 1"), "not-authorized")


def e8_new_owner_of_an_old_name(t):
    hub = t.other(limits=[NO_DELAY])
    hub.user("old", "friend")
    friend = t.keep(hub.login("friend", "f", online=True))
    with hub.login("old", online=True) as old:
        old.iq("set", f"<query xmlns='{ROSTER}'><item jid='secret@x.test' name='s'><group>g</group></item></query>")
        old.iq("set", "<vCard xmlns='vcard-temp'><FN>The old one</FN></vCard>")
        old.iq("set", "<query xmlns='jabber:iq:private'><s xmlns='u:s'>private</s></query>")
        old.iq("set", f"<block xmlns='urn:xmpp:blocking'><item jid='foe@x.test'/></block>")
        old.send(f"<presence type='subscribe' to='friend@{hub.domain}'/>")
        friend.expect(lambda e: e.get("type") == "subscribe", 5)
        friend.send(f"<presence type='subscribed' to='old@{hub.domain}'/>")
        friend.ping()
        old.ping()
    friend.message(f"old@{hub.domain}", "for the old one")
    friend.ping()
    hub.run("user", "remove", f"old@{hub.domain}")
    hub.user("old", password="the new owner")
    new = t.keep(hub.login("old", password="the new owner", online=True))
    t.check("no message of before", not [e for e in new.queue if name(e) == "message"])
    t.check("no roster", not new.roster(), str(new.roster()))
    t.check("no block list", not len(child(new.iq("get", "<blocklist xmlns='urn:xmpp:blocking'/>"), "blocklist")))
    private = new.iq("get", "<query xmlns='jabber:iq:private'><s xmlns='u:s'/></query>")
    t.check("no private storage", "private<" not in show(private).replace("ns0:", "") and not (private.find(".//{u:s}s").text), show(private))
    try:
        card = new.iq("get", "<vCard xmlns='vcard-temp'/>")
        t.check("no vCard", "old one" not in show(card), show(card))
    except Refused as e:
        t.check("no vCard", e.condition in ("item-not-found", "service-unavailable"), str(e))
    friend.queue.clear()
    friend.send("<presence><status>for subscribers</status></presence>")
    friend.ping()
    new.ping()
    t.check("no presence of the old one's contacts", not [e for e in new.queue if name(e) == "presence" and e.get("from", "").startswith("friend@")], str([show(e) for e in new.queue]))


def f8_registration(t):
    for kind in ("closed", "invite"):
        hub = t.hub if kind == "closed" else t.other("--registration", "invite")
        for tls in (None, "starttls"):
            c = t.opened(tls, hub=hub)
            t.check(f"{kind}: the feature by {tls}", (child(c.features, f"{{{FEATURE}}}register") is not None) == (kind == "invite" and tls is not None) or kind == "invite", show(c.features))
            for user, token in (("eve", None), ("alice", None), ("eve", "x" * 22)):
                c = t.opened(tls, hub=hub)
                try:
                    register(c, user, token=token)
                    t.check(f"{kind} by {tls}: {user} {token}", False, "it was accepted")
                except (Refused, Closed) as e:
                    # Where it is not offered, a stanza before login is a crime of its own.
                    t.check(f"{kind} by {tls}: {user} {token}", e.condition in ("not-allowed", "service-unavailable", "forbidden", "not-authorized", "item-not-found", "not-acceptable"), str(e))
    hub = t.other("--registration", "open", limits=["registrations_per_hour=3", NO_DELAY])
    c = t.keep(hub.client("starttls"))
    c.open()
    c.send(f"<iq type='set' id='r'><query xmlns='{REGISTER}'><username>early</username><password>password 1</password></query></iq>")
    try:
        el = c.next()
        t.check("open: not before TLS", el.get("type") == "error" or name(el) == "error", show(el))
    except Closed as e:
        t.check("open: not before TLS", e.condition is not None, str(e))
    for n in range(3):
        c = t.opened("starttls", hub=hub)
        t.check("open: the form asks for name and password", {"username", "password"} <= {name(e) for e in child(c.iq("get", f"<query xmlns='{REGISTER}'/>"), "query")})
        register(c, f"new{n}")
        c.authenticate(f"new{n}", "a good password")
        c.open()
        t.check(f"open: account {n}, and login on the same stream", c.bind().jid.startswith(f"new{n}@"))
    c = t.opened("starttls", hub=hub)
    t.answer("open: the fourth within the hour", lambda: register(c, "new4"), "resource-constraint", "policy-violation", "not-allowed", "not-acceptable", "service-unavailable", "forbidden")
    c = t.opened("starttls", hub=hub, source="127.0.0.88")
    t.check("open: another address may", register(c, "other") is not None)
    for what, user, password, conditions in (
        ("a name that is taken", "new0", "x" * 12, ("conflict",)), ("taken, in capitals", "NEW0", "x" * 12, ("conflict",)), ("no name", "", "x" * 12, ("not-acceptable", "bad-request", "jid-malformed")),
        ("a name that is none", "a b", "x" * 12, ("not-acceptable", "bad-request", "jid-malformed")), ("no password", "new5", "", ("not-acceptable", "bad-request")),
        ("a name with a newline", "a&#10;2026 INFO root logged in", "x" * 12, ("not-acceptable", "bad-request", "jid-malformed")),
    ):
        c = t.opened("starttls", hub=hub, source=f"127.0.1.{len(what)}")
        t.answer(f"open: {what}", lambda: register(c, user, password), *conditions)
    # Password change: of one's own, logged in, and of nobody else's.
    m = t.keep(hub.client("starttls").login("new0", "a good password"))
    t.answer("another's password", lambda: m.iq("set", f"<query xmlns='{REGISTER}'><username>new1</username><password>stolen it 1</password></query>", to=hub.domain), "forbidden", "not-allowed", "bad-request", "not-authorized", "not-acceptable")
    t.check("is not changed", t.keep(hub.client("starttls").login("new1", "a good password")).ping() is not None)
    t.check("one's own is", m.iq("set", f"<query xmlns='{REGISTER}'><username>new0</username><password>my new one</password></query>", to=hub.domain) is not None)
    t.check("and works", t.keep(hub.client("starttls").login("new0", "my new one")).ping() is not None)
    t.answer("an empty password", lambda: m.iq("set", f"<query xmlns='{REGISTER}'><username>new0</username><password/></query>", to=hub.domain), "bad-request", "not-acceptable")
    t.check("removal of the account by its owner", m.iq("set", f"<query xmlns='{REGISTER}'><remove/></query>") is not None)
    t.answer("it is gone", lambda: hub.client("starttls").login("new0", "my new one"), "not-authorized")


def f9_invitations(t):
    hub = t.other("--registration", "invite", limits=[NO_DELAY, "registrations_per_hour=100000"])

    def invite():
        return re.search(r"preauth=([^;&\s]+)", hub.run("invite").stdout)[1]

    token = invite()
    t.check("a token has 80 bits or more", len(token) >= 16, token)
    t.check("two tokens are two", invite() != token)
    # Two clients spend one token at once: exactly one wins, and the token is gone.
    for round_ in range(5):
        token, results, gate = invite(), [], threading.Barrier(4)

        def spend(n):
            try:
                with hub.client("starttls", source=f"127.0.2.{n + 1}") as c:
                    c.secure()
                    c.iq("set", f"<preauth xmlns='urn:xmpp:pars:0' token='{token}'/>", to=c.domain)
                    gate.wait(5)
                    register(c, f"racer{round_}{n}")
                    results.append(n)
            except (Refused, Closed, threading.BrokenBarrierError):
                gate.abort()

        crowd = [threading.Thread(target=spend, args=(n,)) for n in range(4)]
        for c in crowd:
            c.start()
        for c in crowd:
            c.join(10)
        t.check(f"round {round_}: one of four wins", len(results) == 1, str(results))
        c = t.opened("starttls", hub=hub)
        t.answer("spent is spent", lambda: register(c, f"late{round_}", token=token), "not-allowed", "item-not-found", "forbidden", "not-authorized", "not-acceptable", "service-unavailable")
    # Guesses: all fail in one way.
    said = set()
    began = time.monotonic()
    for n in range(300):
        c = t.raw("direct", hub=hub) if n % 50 == 0 else c
        try:
            if n % 50 == 0:
                c.secure()
            guess = [token, "A" * len(token), "A", "", "%00", "x" * 5000][n % 6]
            register(c, f"guess{n}", token=guess)
            t.check(f"guess {n}", False)
        except Refused as e:
            said.add(e.condition)
        except Closed as e:
            c = t.opened("direct", hub=hub)
    t.check("all failures look the same, but for those that are too many", len(said - {"resource-constraint"}) <= 1, str(said))
    one = invite()
    c = t.opened("starttls", hub=hub)
    t.answer("a bad name does not spend it", lambda: register(c, "not a name", token=one), "not-acceptable", "bad-request", "jid-malformed", "conflict")
    c = t.opened("starttls", hub=hub)
    t.check("it still admits one", register(c, "gooduser", token=one) is not None)
    t.check("tokens are not in the log", not any(token in l or one in l for l in hub.lines))
    t.check("nor in the data", not any(one.encode() in f.read_bytes() or token.encode() in f.read_bytes() for f in hub.data.iterdir() if f.is_file()))
