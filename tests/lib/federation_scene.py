"""What two servers must be able to do for the people of two domains: one scene, run with each peer and each way of proof.

With the name of another server as argument (`tests/interop/30_… ejabberd`) that one plays in place of our hub: to see
that the scene asks for nothing that nobody does.
"""

import sys
import time

import hub as hubs
from federation import Net
from hub import wait_for
from xmpp import CLIENT, ROSTER, Closed, Refused, Timeout, body, child, condition, name, show

DISCO, DISCO_ITEMS = "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"
MUC = "http://jabber.org/protocol/muc"
VERSION, DELAY, BLOCKING = "jabber:iq:version", "urn:xmpp:delay", "urn:xmpp:blocking"
GONE = ("remote-server-not-found", "remote-server-timeout")


def bare(jid):
    return jid.partition("/")[0]


def presence(kind, sender):
    """Whether an element is this presence of that sender (full or bare)."""
    return lambda e: name(e) == "presence" and e.get("type") == kind and (e.get("from") == sender or bare(e.get("from") or "") == sender)


class Scene:
    def __init__(self, title):
        self.check = hubs.Checks(title)

    def part(self, what, run, *args):
        """One part; what goes wrong in it fails this part alone."""
        print(f"-- {what}", flush=True)
        try:
            run(*args)
        except (Closed, Timeout, Refused, AssertionError, OSError) as e:
            self.check(what, False, f"{type(e).__name__}: {e}"[:900])

    def arrives(self, what, client, wanted, seconds=10):
        """What arrives at a client and is wanted, or None."""
        try:
            el = client.expect(wanted, seconds)
        except (Timeout, Closed) as e:
            self.check(what, False, str(e)[:700])
            return None
        self.check(what)
        return el

    def refused(self, what, client, payload, to, *conditions, seconds=20):
        """A request must be answered with one of these errors (any, if none is named)."""
        try:
            got = client.iq("get", payload, to, timeout=seconds)
            self.check(what, False, f"answered: {show(got)[:300]}")
        except Refused as e:
            self.check(what, not conditions or e.condition in conditions, f"{e.condition}, not {' or '.join(conditions)}")
        except Timeout:
            self.check(what, False, f"no answer within {seconds} s")


class Federation(Scene):
    """`ours` is what is tested, `theirs` the other."""

    def __init__(self, title, net, ours, theirs, only=()):
        super().__init__(title)
        self.net, self.ours, self.theirs, self.only = net, ours, theirs, only

    def part(self, what, run, *args):
        if not self.only or run.__name__ in self.only:
            super().part(what, run, *args)

    def play(self):
        self.ours.user("juliet", "nurse")
        self.theirs.user("romeo", "friar")
        self.juliet, self.romeo = self.ours.login("juliet", "balcony", online=True), self.theirs.login("romeo", "orchard", online=True)
        here = (self.juliet, self.romeo, self.ours, self.theirs)
        there = (self.romeo, self.juliet, self.theirs, self.ours)
        for run in (self.messages, self.disco, self.errors, self.strangers):
            for side in (here, there):
                self.part(f"{run.__name__}: {side[2].domain} to {side[3].domain}", run, *side)
        self.part("subscription", self.subscription)
        for run in (self.availability, self.requests, self.probe, self.offline, self.vcard):
            for side in (here, there):
                self.part(f"{run.__name__}: {side[2].domain} to {side[3].domain}", run, *side)
        self.part("rooms", self.rooms)
        self.part("names", self.names)
        self.part("blocking", self.blocking)
        if self.ours.kind == "stonechat":
            self.part("peer list", self.listed)
            if self.theirs.kind == "ejabberd":
                self.part("a link that is closed for being idle", self.idle)
            self.part("the peer goes and comes back", self.outage)
            self.part("the hub starts anew", self.restart)
        self.part("the end of a subscription", self.cancel)

    # ---- both directions: a at x, b at y ----

    def messages(self, a, b, x, y):
        word = f"{x.kind} says: Grüße, 𝄞 <&> 'to' \"you\""
        a.message(b.jid, word, id=f"m1{x.kind}", extra="<x xmlns='urn:example:x' a='1'><y>ä</y></x>")
        got = self.arrives("a message arrives", b, lambda e: name(e) == "message" and body(e) == word, 20)
        if got is not None:
            self.check.equal("from the sender's full JID", got.get("from"), a.jid)
            self.check("with its id, type and payload", got.get("id") == f"m1{x.kind}" and got.get("type") == "chat"
                       and child(got, "{urn:example:x}x") is not None and child(got, "{urn:example:x}x")[0].text == "ä", show(got))
        for n in range(60):
            a.message(b.jid, f"{x.kind} {n}")
        seen = []
        while len(seen) < 60:
            try:
                el = b.next(10)
            except Timeout:
                break
            if name(el) == "message" and (body(el) or "").startswith(f"{x.kind} "):
                seen.append(body(el))
        self.check("60 messages arrive, each once, in order", seen == [f"{x.kind} {n}" for n in range(60)], str(seen)[:300])
        a.message(bare(b.jid), f"to the account of {y.kind}")
        self.arrives("a message to the bare JID", b, lambda e: body(e) == f"to the account of {y.kind}")

    def disco(self, a, b, x, y):
        info = a.iq("get", f"<query xmlns='{DISCO}'/>", y.domain)
        kinds = {(i.get("category"), i.get("type")) for i in info[0] if name(i) == "identity"}
        self.check("disco#info of the other domain", ("server", "im") in kinds and info.get("from") == y.domain, show(info)[:300])
        self.check("disco#items of it", a.iq("get", f"<query xmlns='{DISCO_ITEMS}'/>", y.domain).get("type") == "result")
        try:
            a.iq("get", "<ping xmlns='urn:xmpp:ping'/>", y.domain)
            self.check("a ping to it is answered")
        except Refused as e:
            self.check("a ping to it is answered", False, str(e))

    def requests(self, a, b, x, y):
        """From one person's program to the other's, and back; of people who see each other (RFC 6121 §8.5.3.1)."""
        for kind, answer in (("result", f"<query xmlns='{VERSION}'><name>of {y.kind}</name><version>1</version></query>"),
                             ("error", "<error type='cancel'><feature-not-implemented xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")):
            a.send(f"<iq type='get' id='v{kind}' to='{b.jid}'><query xmlns='{VERSION}'/></iq>")
            asked = self.arrives(f"a request arrives (its answer: {kind})", b, lambda e: name(e) == "iq" and e.get("type") == "get")
            if asked is None:
                continue
            b.send(f"<iq type='{kind}' id='{asked.get('id')}' to='{asked.get('from')}'>{answer}</iq>")
            got = self.arrives(f"and the {kind} comes back", a, lambda e: name(e) == "iq" and e.get("id") == f"v{kind}")
            if got is not None:
                said = condition(got) if kind == "error" else got[0][0].text if len(got) else None
                self.check(f"as it was given: {kind}", got.get("type") == kind and got.get("from") == b.jid and said ==
                           ("feature-not-implemented" if kind == "error" else f"of {y.kind}"), show(got)[:300])

    def errors(self, a, b, x, y):
        """What cannot be answered is refused, not left alone."""
        self.refused("a request to nobody", a, f"<query xmlns='{VERSION}'/>", f"nobody@{y.domain}/none", "service-unavailable", "item-not-found")
        self.refused("a request to a resource that is not there", a, f"<query xmlns='{VERSION}'/>", f"{bare(b.jid)}/none", "service-unavailable",
                     "item-not-found", "recipient-unavailable")
        if y.tells_unknown:
            a.message(f"nobody@{y.domain}", "?", id="tonobody")
            got = self.arrives("a message to nobody comes back", a, lambda e: name(e) == "message" and e.get("type") == "error")
            if got is not None:
                self.check("as service-unavailable, with its id", condition(got) in ("service-unavailable", "item-not-found") and got.get("id") == "tonobody",
                           show(got)[:300])

    def strangers(self, a, b, x, y):
        """Domains that are not there."""
        began = time.monotonic()
        self.refused("a request to a domain without a name", a, f"<query xmlns='{DISCO}'/>", "nowhere.test", *GONE, seconds=60)
        if x.kind == "stonechat":
            self.check("that does not take long", time.monotonic() - began < 10, f"{time.monotonic() - began:.1f} s")
        a.message("friend@nowhere.test", "?", id="nowhere")
        got = self.arrives("a message to such a domain comes back", a, lambda e: name(e) == "message" and e.get("type") == "error", 60)
        if got is not None:
            self.check("with its id and what is wrong", got.get("id") == "nowhere" and condition(got) in GONE and got.get("from") == "friend@nowhere.test",
                       show(got)[:300])
        self.refused("a request to a domain that the other does not serve", a, f"<query xmlns='{DISCO}'/>", f"unserved.{y.domain}", seconds=60)

    def availability(self, a, b, x, y):
        """RFC 6121 §4, for people who are subscribed to each other."""
        b.send("<presence><show>dnd</show><status>in Mantua</status></presence>")
        got = self.arrives("a contact's presence", a, lambda e: presence(None, b.jid)(e) and child(e, "show") is not None)
        if got is not None:
            self.check("with show and status", child(got, "show").text == "dnd" and child(got, "status").text == "in Mantua", show(got)[:300])
        b.send("<presence type='unavailable'><status>gone</status></presence>")
        self.arrives("a contact becomes unavailable", a, presence("unavailable", b.jid))
        b.send("<presence/>")
        self.arrives("and comes back", a, presence(None, b.jid))

    def probe(self, a, b, x, y):
        """Who logs in sees who is there; who drops the connection is seen to go."""
        with x.login(a.jid.partition("@")[0], "second") as c:
            c.send("<presence/>")
            self.arrives("a new session gets the contact's presence", c, presence(None, b.jid))
            self.arrives("and the contact sees the new session", b, presence(None, c.jid))
            c.drop()
            self.arrives("a session that ends is unavailable", b, presence("unavailable", c.jid))

    def offline(self, a, b, x, y):
        """For somebody who is away."""
        away = "friar" if y is self.theirs else "nurse"
        for n in range(5):
            a.message(f"{away}@{y.domain}", f"for later {n}")
        a.ping(y.domain)
        time.sleep(0.5)
        with y.login(away, "cell") as c:
            c.send("<presence/>")
            got = []
            while len(got) < 5:
                el = c.expect(lambda e: name(e) == "message" and (body(e) or "").startswith("for later"), 10)
                got.append(body(el))
            self.check("messages wait for somebody who is away", got == [f"for later {n}" for n in range(5)], str(got))
            self.check("with the time of their arrival", child(el, f"{{{DELAY}}}delay") is not None, show(el)[:400])

    def vcard(self, a, b, x, y):
        b.iq("set", f"<vCard xmlns='vcard-temp'><FN>of {y.kind}</FN></vCard>")
        got = a.iq("get", "<vCard xmlns='vcard-temp'/>", bare(b.jid))
        self.check("the vCard of somebody elsewhere", f"of {y.kind}" in show(got), show(got)[:300])

    # ---- once ----

    def subscription(self):
        """RFC 6121 §3, to `both`."""
        a, b = self.juliet, self.romeo
        ja, jb = bare(a.jid), bare(b.jid)
        for c in (a, b):
            c.roster()
        for first, second, jf, js, states in ((a, b, ja, jb, ("to", "from")), (b, a, jb, ja, ("both", "both"))):
            first.send(f"<presence type='subscribe' to='{js}' id='s1'/>")
            got = self.arrives(f"{js} hears the request", second, lambda e: name(e) == "presence" and e.get("type") == "subscribe")
            if got is not None:
                self.check.equal("from the bare JID", got.get("from"), jf)
            second.send(f"<presence type='subscribed' to='{jf}'/>")
            seen = set()

            def all_of_it(e):
                if name(e) == "presence" and bare(e.get("from") or "") == js:
                    seen.add(e.get("type"))
                return {"subscribed", None} <= seen

            self.arrives(f"{jf} hears the approval and who is there", first, all_of_it)
            for c, other, state in ((first, js, states[0]), (second, jf, states[1])):
                wait_for("the roster", lambda: c.roster().get(other) is not None and c.roster()[other].get("subscription") == state, 5, 0.1)
                self.check(f"the roster of {bare(c.jid)} says {state}")

    def rooms(self):
        """XEP-0045 elsewhere: another domain of the same server, over the same streams if that is possible."""
        a, b = self.juliet, self.romeo
        room = f"crypt@conference.{self.theirs.domain}"
        there = lambda nick, kind=None: lambda e: name(e) == "presence" and e.get("from") == f"{room}/{nick}" and e.get("type") == kind
        b.send(f"<presence to='{room}/romeo'><x xmlns='{MUC}'/></presence>")
        self.arrives("a room is made", b, there("romeo"))
        b.iq("set", "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>", room)
        a.send(f"<presence to='{room}/juliet'><x xmlns='{MUC}'/></presence>")
        self.arrives("somebody from here enters, and sees who is in", a, there("romeo"), 20)
        self.arrives("and themselves", a, there("juliet"))
        self.arrives("and is seen", b, there("juliet"))
        for n in range(20):
            a.message(room, f"j{n}", "groupchat")
            b.message(room, f"r{n}", "groupchat")
        for who, c in (("here", a), ("there", b)):
            got = [c.expect(lambda e: e.get("type") == "groupchat" and (body(e) or "x")[0] in "jr", 15) for _ in range(40)]
            for one in "jr":
                seen = [body(e) for e in got if body(e)[0] == one]
                self.check(f"what is said in it, heard {who}, in order: {one}", seen == [f"{one}{n}" for n in range(20)], str(seen))
        with self.ours.login("nurse", "room") as c:
            c.send(f"<presence to='{room}/nurse'><x xmlns='{MUC}'/></presence>")
            self.arrives("a second person enters", b, there("nurse"))
            c.drop()
            self.arrives("who loses the connection leaves the room", b, there("nurse", "unavailable"))
        a.send(f"<presence to='{room}/juliet' type='unavailable'/>")
        self.arrives("who leaves is seen to leave", b, there("juliet", "unavailable"))
        self.arrives("and hears that they have left", a, there("juliet", "unavailable"))
        b.send(f"<presence to='{room}/romeo' type='unavailable'/>")
        info = a.iq("get", f"<query xmlns='{DISCO}'/>", f"conference.{self.theirs.domain}")
        self.check("disco#info of the rooms' domain", any(i.get("category") == "conference" for i in info[0]), show(info)[:300])

    def names(self):
        """Names beyond ASCII are the same on both sides, whether by PRECIS or by stringprep."""
        for x, y, at_x, at_y in ((self.ours, self.theirs, "jürgen", "gräfin.ñandú"), (self.theirs, self.ours, "øyvind", "Ελένη")):
            x.user(at_x)
            y.user(at_y)
            with x.login(at_x, "é", online=True) as a, y.login(at_y, "日本", online=True) as b:
                a.message(b.jid, "Grüße")
                got = self.arrives(f"{a.jid} reaches {b.jid}", b, lambda e: body(e) == "Grüße", 20)
                if got is not None:
                    b.message(got.get("from"), "zurück")
                    self.arrives("and is answered", a, lambda e: body(e) == "zurück")
                a.message(bare(b.jid).upper() if at_y.isascii() else bare(b.jid), "to the account")
                self.arrives("by the bare address", b, lambda e: body(e) == "to the account")

    def idle(self):
        """RFC 6120 §4.6: who closes an idle stream is not lost."""
        a, b = self.juliet, self.romeo
        for c in (a, b):
            c.quiet(0.2)
        time.sleep(13)
        for c, other in ((a, b), (b, a)):
            gone = [e for e in c.quiet(0.2) if presence("unavailable", other.jid)(e)]
            self.check(f"{bare(other.jid)} does not seem gone", not gone, str([show(e)[:200] for e in gone]))
            other.message(c.jid, "after a while")
            self.arrives(f"{bare(c.jid)} is reached again", c, lambda e: body(e) == "after a while")

    def blocking(self):
        """XEP-0191, against somebody elsewhere."""
        a, b = self.juliet, self.romeo
        a.iq("set", f"<block xmlns='{BLOCKING}'><item jid='{bare(b.jid)}'/></block>")
        if self.ours.kind == "stonechat":
            self.arrives("who is blocked sees an unavailable contact", b, presence("unavailable", a.jid))
        b.message(a.jid, "are you there", id="blocked")
        got = self.arrives("what a blocked person says comes back", b, lambda e: name(e) == "message" and e.get("type") == "error")
        if got is not None:
            self.check.equal("as service-unavailable", condition(got), "service-unavailable")
        self.check("and does not arrive", not any(body(e) == "are you there" for e in a.quiet(0.3)))
        a.iq("set", f"<unblock xmlns='{BLOCKING}'><item jid='{bare(b.jid)}'/></unblock>")
        if self.ours.kind == "stonechat":
            self.arrives("who is no longer blocked sees the contact again", b, presence(None, a.jid))

    def listed(self):
        """What the operator sees."""
        self.check("`peer list` names the peer", self.theirs.domain in self.ours.peers(), self.ours.peers())
        p = self.ours.peer(self.theirs.domain)
        self.check(f"and how it was trusted: {self.ours.trust}", p.get("trusted") == self.ours.trust, str(p))
        self.check("and how it was found", p.get("found") in ("dns", "came"), str(p))
        p = self.ours.run("status", check=False)
        self.check("`status` speaks of it", p.returncode == 0 and self.theirs.domain in p.stdout, p.stdout + p.stderr)

    def outage(self):
        """Store and forward: messages for a peer that is away are kept, in order; presence goes in seconds."""
        a = self.juliet
        self.romeo.drop()
        a.quiet(0.3)
        self.romeo = self.theirs.login("romeo", "orchard", online=True)
        self.arrives("the contact is there", a, presence(None, self.romeo.jid))
        self.theirs.stop()
        self.arrives("a contact of a lost peer is unavailable within seconds", a, presence("unavailable", self.romeo.jid), 15)
        for n in range(20):
            a.message(bare(self.romeo.jid), f"kept {n}")
        self.check("the sender hears of no error", not any(name(e) == "message" for e in a.quiet(2)))
        self.refused("a request is not kept", a, f"<query xmlns='{DISCO}'/>", self.theirs.domain, *GONE, seconds=30)
        p = self.ours.peer(self.theirs.domain)
        self.check("`peer list` says how many wait, and why", p.get("queued") == 20 and p.get("error"), str(p))
        self.theirs.start()
        self.romeo = self.theirs.login("romeo", "orchard", online=True)
        got, el = [], None
        while len(got) < 20:
            el = self.romeo.expect(lambda e: name(e) == "message" and (body(e) or "").startswith("kept"), 90)
            got.append(body(el))
        got += [body(e) for e in self.romeo.quiet(1) if name(e) == "message"]
        self.check("when it is back they arrive, in order, each once", got == [f"kept {n}" for n in range(20)], str(got))
        delay = child(el, f"{{{DELAY}}}delay")
        self.check("with the time at which they were sent", delay is not None, show(el)[:400])
        self.arrives("and presence is there again by itself", a, presence(None, self.romeo.jid), 30)

    def restart(self):
        """Nothing of what was proven has to last longer than the hub."""
        self.juliet.drop()
        self.ours.stop()
        self.romeo.message(f"juliet@{self.ours.domain}", "while you were away")
        self.romeo.quiet(0.5)
        self.ours.start()
        self.juliet = self.ours.login("juliet", "balcony", online=True)
        self.juliet.message(self.romeo.jid, "after the start")
        self.arrives("out", self.romeo, lambda e: body(e) == "after the start", 60)

        def in_again():
            self.romeo.message(self.juliet.jid, "into the new one")
            try:
                return self.juliet.expect_body("into the new one", 1)
            except Timeout:
                return None

        self.check("and in", wait_for("a message from the peer", in_again, 60) is not None)

    def cancel(self):
        a, b = self.juliet, self.romeo
        # Only who has asked for a roster hears of changes in it.
        a.roster()
        b.roster()
        a.iq("set", f"<query xmlns='{ROSTER}'><item jid='{bare(b.jid)}' subscription='remove'/></query>")
        seen = set()

        def all_of_it(e):
            if name(e) == "presence" and bare(e.get("from") or "") == bare(a.jid):
                seen.add(e.get("type"))
            return {"unsubscribe", "unsubscribed", "unavailable"} <= seen or ({"unsubscribe", "unsubscribed"} <= seen)

        self.arrives("who is removed from a roster hears it", b, all_of_it)
        wait_for("the other's roster", lambda: b.roster().get(bare(a.jid)) is None or b.roster()[bare(a.jid)].get("subscription") == "none", 5, 0.1)
        self.check("and the other roster says none")


def main(kind, trust, direct=False, only=(), domain="hub.test", other=None):
    title = f"{kind} by {'EXTERNAL' if trust == 'ca' else trust}{', direct TLS' if direct else ''}"
    with Net() as net:
        theirs = net.peer(kind, trust=trust, direct=direct, starttls=not direct, domain=other)
        if sys.argv[1:]:
            title += f", {sys.argv[1]} in place of our hub"
            ours = net.peer(sys.argv[1], trust=trust, direct=direct, starttls=not direct, domain=domain)
        else:
            ours = net.hub(domain, trust=trust, direct=direct, starttls=not direct)
        for server in (ours, theirs):
            ports = getattr(server, "s2s", None) or (server.ports["s2s"], server.ports["s2s-tls"])
            net.domain(f"unserved.{server.domain}", server.ip, not direct and ports[0], direct and ports[1])
        net.start()
        scene = Federation(title, net, ours, theirs, only)
        try:
            scene.play()
        finally:
            if scene.check.failed:
                for server in (ours, theirs):
                    print(f"--- the end of the log of {server.domain}:\n{server.log()[-3000:]}", flush=True)
    return scene.check.finish()
