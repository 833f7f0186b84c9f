"""C1-C5, C8, C9: who a stanza is from, what only the hub may write, and what strangers may learn."""

import time

import hub as hubs
from hub import PASSWORD
from stage import CLIENT, Closed, Refused, Timeout, body, condition, name, show
from xmpp import ROSTER, STANZA_ERRORS, STREAM, child

SID, DELAY, CARBONS, FORWARD = "urn:xmpp:sid:0", "urn:xmpp:delay", "urn:xmpp:carbons:2", "urn:xmpp:forward:0"


def c1_spoofed_from(t):
    """However `from` is written, the victim sees who it really was, or nothing."""
    d = t.domain
    spellings = [
        f"from='alice@{d}'", f"from='alice@{d}/a'", f"from='{d}'", "from=''", "from='@'", f"from='&#x61;lice@{d}'", f"from='ALICE@{d}'", f"from=\"alice@{d}\"", f"from = 'alice@{d}'",
        f"from\n=\t'alice@{d}'", f"from='victim@{d}'", f"from='mallory@{d}/other'", f"from='mallory@elsewhere.test'", f"from='alice@{d}' xmlns:x='u' x:from='bob@{d}'",
        f"xmlns:x='u' x:from='alice@{d}'", f"xmlns:from='alice@{d}'", f"From='alice@{d}'", f"FROM='alice@{d}'", f"from='mallory@{d}\u200b'", f"from='alice@{d}&#10;'",
        f"xml:from='alice@{d}'", f"from='alice@{d}' from='alice@{d}'", f"from='mallory@{d}' from='alice@{d}'", f"from='a&amp;b'", f"from='{'a' * 3000}@{d}'",
    ]
    good = [f"from='mallory@{d}'", f"from='mallory@{d}/me'", f"from='&#109;allory@{d}/me'", "xmlns:x='u' x:y='z'"]
    kinds = {"message": "<message {} to='victim@%s' type='chat'><body>I am alice</body></message>" % d, "presence": "<presence {} to='victim@%s'><status>I am alice</status></presence>" % d,
             "iq": "<iq {} to='%s' type='set' id='x'><query xmlns='jabber:iq:roster'><item jid='evil@x.test'/></query></iq>" % t.victim.jid,
             "prefixed message": "<c:message xmlns:c='jabber:client' {} to='victim@%s' type='chat'><c:body>I am alice</c:body></c:message>" % d}
    for kind, frame in kinds.items():
        for spelling in spellings + good:
            m = t.mallory("me")
            m.send(frame.format(spelling))
            try:
                m.ping()
                ended = None
            except Closed as e:
                ended = e.condition
            got = [e for e in t.arrived() if e.get("from") != f"mallory@{d}/me"]
            t.check(f"{kind} with {spelling[:40]}", not got, str([show(e) for e in got]))
            prefixed = kind == "prefixed message" and ended == "bad-namespace-prefix"  # RFC 6120 §4.8.5 lets us
            if spelling in good:
                t.check(f"{kind} with {spelling[:40]} is no crime", ended is None or prefixed, str(ended))
            elif ended:
                t.check(f"{kind} with {spelling[:40]}: named", ended in ("invalid-from", "not-well-formed", "invalid-xml", "restricted-xml") or prefixed, ended)
            m.drop()
    t.check("the victim's roster is untouched", "evil@x.test" not in t.victim.roster())


def c1_to(t):
    m = t.mallory("me")
    for what, to in (("by reference", f"v&#x69;ctim@{t.domain}"), ("double quotes", None), ("spread out", None)):
        at = {"by reference": f"to='{to}'", "double quotes": f'to="victim@{t.domain}"', "spread out": f"to\n =\r\n\t'victim@{t.domain}'"}[what]
        m.send(f"<message {at} type='chat'><body>{what}</body></message>")
        m.ping()
        got = t.arrived()
        t.check(f"to {what}", len(got) == 1 and got[0].get("to") == f"victim@{t.domain}" and body(got[0]) == what, str([show(e) for e in got]))
    for at in (f"to='victim@{t.domain}' to='bob@{t.domain}'", f"to='bob@{t.domain}' To='victim@{t.domain}' x='<'"):
        m = t.mallory("me")
        m.send(f"<message {at} type='chat'><body>two</body></message>")
        t.refused(at[:30], m, "not-well-formed", "invalid-xml", "restricted-xml")
    t.check("nothing arrived of those", not t.arrived())
    # A stanza in another namespace is no stanza.
    m = t.mallory("me")
    m.send(f"<message xmlns='jabber:server' to='victim@{t.domain}'><body>x</body></message>")
    t.refused("a message of another namespace", m, "unsupported-stanza-type", "invalid-namespace")
    m = t.mallory("me")
    m.send(f"<nonsense to='victim@{t.domain}'/>")
    t.refused("an element that is no stanza", m, "unsupported-stanza-type")
    t.check("nothing arrived of those either", not t.arrived())


def c2_forged_results(t):
    """Pushes, results and carbons that others forge arrive in their own name, or not at all."""
    m, to = t.mallory("me"), t.victim.jid
    for what, stanza in (
        ("roster push", f"<iq type='set' id='push' to='{to}'><query xmlns='{ROSTER}'><item jid='evil@x.test' subscription='both'/></query></iq>"),
        ("roster result", f"<iq type='result' id='r1' to='{to}'><query xmlns='{ROSTER}'><item jid='evil@x.test' subscription='both'/></query></iq>"),
        ("iq error", f"<iq type='error' id='r1' to='{to}'><error type='cancel'><gone xmlns='{STANZA_ERRORS}'/></error></iq>"),
        ("block push", f"<iq type='set' id='push' to='{to}'><block xmlns='urn:xmpp:blocking'><item jid='alice@{t.domain}'/></block></iq>"),
        ("received carbon", f"<message to='{to}' type='chat'><received xmlns='{CARBONS}'><forwarded xmlns='{FORWARD}'><message xmlns='{CLIENT}' from='alice@{t.domain}' to='{to}'><body>pay him</body></message></forwarded></received></message>"),
        ("sent carbon", f"<message to='{to}' type='chat'><sent xmlns='{CARBONS}'><forwarded xmlns='{FORWARD}'><message xmlns='{CLIENT}' from='{to}' to='alice@{t.domain}'><body>pay him</body></message></forwarded></sent></message>"),
        ("archive result", f"<message to='{to}'><result xmlns='urn:xmpp:mam:2' id='1'><forwarded xmlns='{FORWARD}'><message xmlns='{CLIENT}' from='alice@{t.domain}'><body>x</body></message></forwarded></result></message>"),
    ):
        m.queue.clear()
        m.send(stanza)
        m.ping()
        got = t.arrived()
        t.check(what, all(e.get("from") == m.jid for e in got), str([show(e) for e in got]))
        if "carbon" in what:
            t.check(f"{what} does not arrive as one", not any(child(e, f"{{{CARBONS}}}received") is not None or child(e, f"{{{CARBONS}}}sent") is not None for e in got), str([show(e) for e in got]))
    t.check("the roster is untouched", "evil@x.test" not in t.victim.roster())


def forged(t, wrap, user="victim"):
    hub, account = t.domain, f"{user}@{t.domain}"
    return "".join(f.format(by) for by in (hub, account, account.upper(), f"&#{ord(user[0])};{user[1:]}@{hub}") for f in wrap)


def c3_forged_delay(t):
    m = t.mallory("me")
    wrap = [f"<delay xmlns='{DELAY}' from='{{}}' stamp='1999-01-01T00:00:00Z'/>", f"<d:delay xmlns:d='{DELAY}' from=\"{{}}\" stamp='1999-01-01T00:00:00Z'>offline</d:delay>"]
    doc = forged(t, wrap)
    honest = f"<delay xmlns='{DELAY}' from='room@elsewhere.test' stamp='1999-01-01T00:00:00Z'/>"
    for to, live in ((t.victim.jid, True), (f"victim@{t.domain}", True)):
        m.send(f"<message to='{to}' type='chat'>{doc}<body>late</body>{doc}{honest}</message>")
        m.ping()
        got = t.arrived()
        delays = [e.get("from") for e in got[0].iter(f"{{{DELAY}}}delay")] if got else None
        t.check(f"delays in our name are cut out, to {to}", delays == ["room@elsewhere.test"], f"{delays} {[show(e) for e in got]}")
        t.check("the body is whole", bool(got) and body(got[0]) == "late")
    away = forged(t, wrap, "absent")
    m.send(f"<message to='absent@{t.domain}' type='chat'>{away}<body>kept</body>{away}</message>")
    t.settled(m)
    with t.hub.login("absent", online=True) as later:
        got = [e for e in later.queue if name(e) == "message"]
        stamps = [(e.get("from"), e.get("stamp")[:4]) for e in got[0].iter(f"{{{DELAY}}}delay")] if got else None
        t.check("kept for later: one delay, ours and true", stamps == [(t.domain, time.strftime("%Y"))], f"{stamps} {[show(e) for e in got]}")
    m.send(f"<presence to='victim@{t.domain}'>{doc}</presence>")
    m.ping()
    got = [e for e in t.arrived() if name(e) == "presence"]
    t.check("in presence too", not [e for p in got for e in p.iter(f"{{{DELAY}}}delay")], str([show(e) for e in got]))


def c4_forged_stanza_ids(t):
    m = t.mallory("me")
    wrap = [f"<stanza-id xmlns='{SID}' by='{{}}' id='forged'/>", f"<s:stanza-id xmlns:s='{SID}' id=\"forged\" by=\"{{}}\"><x/></s:stanza-id>"]
    doc = forged(t, wrap)
    honest = f"<stanza-id xmlns='{SID}' by='room@elsewhere.test' id='theirs'/><origin-id xmlns='{SID}' id='mine'/>"
    for to in (t.victim.jid, f"victim@{t.domain}"):
        m.send(f"<message to='{to}' type='chat'>{doc}{honest}<body>ids</body>{doc}<thread>t</thread>{doc}</message>")
        m.ping()
        got = t.arrived()
        ids = [(e.get("by"), e.get("id")) for e in got[0].iter(f"{{{SID}}}stanza-id")] if got else None
        ours = [i for i in ids or [] if i[0] != "room@elsewhere.test"]
        t.check(f"forged ids are cut out, to {to}", ids is not None and not [i for i in ids if i[1] == "forged"] and len(ours) <= 1 and all(i[0] == f"victim@{t.domain}" for i in ours), f"{ids}")
        t.check("another's id and the sender's own stay", bool(got) and ("room@elsewhere.test", "theirs") in ids and got[0].find(f"{{{SID}}}origin-id") is not None, show(got[0]) if got else "")
        t.check("the rest is whole", bool(got) and body(got[0]) == "ids" and child(got[0], "thread").text == "t")
    away = forged(t, wrap, "absent")
    m.send(f"<message to='absent@{t.domain}' type='chat'>{away}<body>kept</body>{away}</message>")
    t.settled(m)
    with t.hub.login("absent", online=True) as later:
        got = [e for e in later.queue if name(e) == "message"]
        ids = [e.get("id") for e in got[0].iter(f"{{{SID}}}stanza-id")] if got else None
        t.check("kept for later", ids is not None and "forged" not in ids and len(ids) <= 1, f"{ids}")
    copy = t.keep(t.hub.login("victim", "copy", online=True))
    copy.iq("set", f"<enable xmlns='{CARBONS}'/>")
    m.send(f"<message to='{t.victim.jid}' type='chat'>{doc}<body>copied</body></message>")
    got = copy.expect(lambda e: name(e) == "message", 5)
    t.check("in a carbon", "forged" not in show(got), show(got))
    copy.close()
    t.arrived()


def c5_errors_are_not_answered(t):
    m = t.mallory("me")
    for to in (f"victim@{t.domain}", t.victim.jid, f"victim@{t.domain}/gone", t.domain, f"{t.domain}/x", f"nobody@{t.domain}", f"nobody@{t.domain}/x", f"mallory@{t.domain}", m.jid,
               "someone@elsewhere.test", "@@", None):
        at = f" to='{to}'" if to else ""
        for kind in ("message", "presence", "iq"):
            for type_ in ("error",) + (("result",) if kind == "iq" else ()):
                m.queue.clear()
                m.send(f"<{kind} type='{type_}' id='e'{at}><error type='cancel'><gone xmlns='{STANZA_ERRORS}'/></error></{kind}>")
                try:
                    m.ping()
                except Closed as e:
                    t.check(f"{kind} {type_} to {to}", False, str(e))
                    m = t.mallory("me")
                    continue
                got = [e for e in m.queue if to not in (m.jid, f"mallory@{t.domain}", None)]
                t.check(f"{kind} {type_} to {to}", not got, str([show(e) for e in got]))
    t.arrived()
    # A bounce does not carry the body back, and comes once.
    m.queue.clear()
    m.message(f"nobody@{t.domain}", "x" * 50_000, id="big")
    got = t.settled(m)
    t.check("one bounce, and a small one", len(got) == 1 and len(show(got[0])) < 2000, f"{len(got)}: {len(show(got[0])) if got else 0} characters")


def c8_resources(t):
    hub = t.other(limits=["resources_per_account=3"])
    hub.user("mallory", "alice")
    held = [t.keep(hub.login("mallory", f"r{i}", online=True)) for i in range(3)]
    t.answer("the fourth resource", lambda: hub.login("mallory", "r4"), "resource-constraint")
    t.check("the three go on", all(c.ping() is not None for c in held))
    held[0].close()
    time.sleep(0.2)
    t.check("one that left makes room", t.keep(hub.login("mallory", "r5")).ping() is not None)
    # The same resource again: by the conflict policy one of the two wins, by name.
    first = t.keep(hub.login("alice", "same", online=True))
    second = t.keep(hub.client().login("alice", PASSWORD, "same"))
    if second.jid.endswith("/same"):
        t.refused("the first of two with one resource", first, "conflict")
    else:
        t.check("the second gets another resource", first.ping() is not None and second.jid != first.jid, second.jid)
    t.check("the second works", second.ping() is not None)
    second.close()
    first.drop()
    time.sleep(0.2)
    for resource in ("", "a\u0000b"[:1] + "\u200e", "x" * 1023, "x" * 1024, "a&#10;b", " ", "\U0001f600", "a/b@c"):
        c = t.keep(hub.client())
        c.secure().authenticate("alice", PASSWORD)
        c.open()
        c.send(f"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind></iq>")
        el = c.next()
        if el.get("type") == "error":
            t.check(f"resource {resource[:20]!r}", condition(el) in ("bad-request", "jid-malformed", "not-acceptable", "not-allowed"), show(el))
        else:
            jid = el.findtext(".//{urn:ietf:params:xml:ns:xmpp-bind}jid")
            t.check(f"resource {resource[:20]!r} is a resource", jid.startswith(f"alice@{hub.domain}/") and "\n" not in jid and len(jid.partition("/")[2].encode()) <= 1023, jid[:100])
        c.drop()
    alice = [t.keep(hub.login("alice", f"flap{i}", online=True)) for i in range(3)]
    used, began = t.cpu(hub), time.monotonic()
    for i in range(2000):
        alice[0].send(f"<presence><status>{i}</status></presence>")
    alice[0].ping()
    t.check("2,000 presences cost little", t.cpu(hub) - used < 1 and alice[1].ping() is not None, f"{t.cpu(hub) - used:.2f} s of CPU")


def c9_strangers_learn_nothing(t):
    m = t.mallory("me", online=True)
    def ask(stanza):
        m.queue.clear()
        m.send(stanza)
        return [(name(e), e.get("type"), condition(e) if e.get("type") == "error" else None) for e in t.settled(m, 0.1)]

    for what, there, gone in (
        ("probe", f"<presence type='probe' to='victim@{t.domain}'/>", f"<presence type='probe' to='absent@{t.domain}'/>"),
        ("probe of a resource", f"<presence type='probe' to='{t.victim.jid}'/>", f"<presence type='probe' to='victim@{t.domain}/gone'/>"),
        ("version", f"<iq type='get' id='i' to='{t.victim.jid}'><query xmlns='jabber:iq:version'/></iq>", f"<iq type='get' id='i' to='victim@{t.domain}/gone'><query xmlns='jabber:iq:version'/></iq>"),
        ("ping", f"<iq type='get' id='i' to='{t.victim.jid}'><ping xmlns='urn:xmpp:ping'/></iq>", f"<iq type='get' id='i' to='victim@{t.domain}/gone'><ping xmlns='urn:xmpp:ping'/></iq>"),
        ("last activity", f"<iq type='get' id='i' to='victim@{t.domain}'><query xmlns='jabber:iq:last'/></iq>", f"<iq type='get' id='i' to='absent@{t.domain}'><query xmlns='jabber:iq:last'/></iq>"),
        ("disco items", f"<iq type='get' id='i' to='victim@{t.domain}'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>", f"<iq type='get' id='i' to='absent@{t.domain}'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>"),
    ):
        a, b = ask(there), ask(gone)
        t.check(f"{what}: there and gone look the same", a == b, f"there {a}, gone {b}")
        if what == "disco items":
            t.check("disco items: none", a in ([("iq", "result", None)], [("iq", "error", "service-unavailable")]), str(a))
        elif "probe" not in what:
            t.check(f"{what}: service-unavailable or forbidden", a and a[0][2] in ("service-unavailable", "forbidden", "subscription-required", "not-authorized"), str(a))
        else:
            t.check(f"{what}: nothing or unsubscribed", not [x for x in a if x[1] not in ("unsubscribed",)], str(a))
    t.check("the victim is not asked", not [e for e in t.arrived() if name(e) == "iq"])
    # Presence goes to those who are subscribed, and to nobody else.
    m.queue.clear()
    t.victim.send("<presence><status>only for friends</status></presence>")
    t.victim.ping()
    m.ping()
    t.check("no presence for a stranger", not [e for e in m.queue if name(e) == "presence"], str([show(e) for e in m.queue]))
    t.arrived()


def c9_order_tells_nothing(t):
    """An answer's place among others must not tell who is online either: the store is asked, or not, for all alike."""
    m = t.mallory("me", online=True)
    places = {}
    for who in ("victim", "nobody", "nobody2", "victim"):
        m.queue.clear()
        m.send(f"<iq type='get' id='q' to='{who}@{t.domain}'><query xmlns='jabber:iq:last'/></iq><iq type='get' id='p' to='{t.domain}'><ping xmlns='urn:xmpp:ping'/></iq>")
        places[who] = [e.get("id") for e in t.settled(m) if e.get("id") in ("q", "p")]
    t.check("the same for one who is online and one who does not exist", places["victim"] == places["nobody"], str(places))
