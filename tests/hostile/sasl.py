"""B1-B10: STARTTLS and SASL out of order, as somebody else, by guessing."""

import base64
import itertools
import ssl
import statistics
import threading
import time

import hub as hubs
from hub import PASSWORD
from stage import CLIENT, NO_DELAY, Closed, Refused, Timeout, condition, name, show
from xmpp import BIND, SASL, STREAM, TLS, Client, b64, child, ns


def b1_behind_starttls(t):
    """What was sent in plain behind <starttls/> must never be read as if it came inside TLS."""
    plain = b64(f"\0mallory\0{PASSWORD}")
    for what, behind in (
        ("a login", f"<auth xmlns='{SASL}' mechanism='PLAIN'>{plain}</auth>"), ("whitespace", " "),
        ("a whole stream", f"<?xml version='1.0'?><stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' to='{t.domain}' version='1.0'>"
         f"<auth xmlns='{SASL}' mechanism='PLAIN'>{plain}</auth>"), ("half an element", "<auth xmlns='"),
    ):
        c = t.keep(Client(t.hub.where(), t.domain))
        c.open()
        c.tls = "starttls"
        c.send(f"<starttls xmlns='{TLS}'/>{behind}")
        try:
            if c.next().tag == f"{{{TLS}}}proceed":
                c.handshake()
                got = c.open()
                # Whitespace says nothing, and some clients end each element with a newline.
                t.check(f"{what} behind starttls is not read inside TLS", what == "whitespace" and child(got, f"{{{SASL}}}mechanisms") is not None,
                        f"TLS was made, features: {show(got)}")
            else:
                t.check(f"{what} behind starttls", what != "whitespace")
        except (Closed, ssl.SSLError, OSError, Timeout) as e:
            t.check(f"{what} behind starttls ends the connection", what != "whitespace", str(e))
        c.drop()


def b1_starttls_odd(t):
    c = t.opened("starttls")
    c.send(f"<starttls xmlns='{TLS}'/>")
    t.refused("a second starttls", c, "unsupported-stanza-type", "policy-violation", "not-authorized", "bad-format", None)
    c = t.opened("direct")
    t.check("direct TLS offers no STARTTLS", child(c.features, f"{{{TLS}}}starttls") is None, show(c.features))
    c.send(f"<starttls xmlns='{TLS}'/>")
    t.refused("starttls on direct TLS", c, "unsupported-stanza-type", "policy-violation", "not-authorized", "bad-format", None)
    c = t.keep(Client(t.hub.where(), t.domain))
    c.open()
    c.send(f"<starttls xmlns='{TLS}'/>")
    c.next()
    c.sock.sendall(b"this is not TLS at all, it is plain text and goes on for a while\n" * 5)
    t.check("no TLS after proceed ends the connection", c.eof(5))


def b2_tls_is_required(t):
    c = t.keep(Client(t.hub.where(), t.domain))
    c.open()
    starttls = child(c.features, f"{{{TLS}}}starttls")
    t.check("STARTTLS is required", starttls is not None and child(starttls, "required") is not None, show(c.features))
    t.check("nothing else is offered before", [name(f) for f in c.features] == ["starttls"] or not c.mechanisms(), show(c.features))
    for mechanism in ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"):
        c = t.keep(Client(t.hub.where(), t.domain))
        c.open()
        c.auth(mechanism, f"\0mallory\0{PASSWORD}" if mechanism == "PLAIN" else "n,,n=mallory,r=abcdefgh")
        t.answer(f"{mechanism} before TLS", c.outcome, "encryption-required")
        c.drop()
    c = t.keep(Client(t.hub.where(), t.domain))
    c.open()
    c.send(f"<iq type='set' id='b'><bind xmlns='{BIND}'/></iq>")
    t.refused("bind before TLS", c, "not-authorized", "policy-violation")


def b3_authzid(t):
    own, other = f"mallory@{t.domain}", f"alice@{t.domain}"
    for authzid, ok in (("", True), (own, True), (own.upper(), True), (other, False), ("alice", False), ("alice@elsewhere.test", False), (t.domain, False),
                        (own + "/x", False), ("mallory@elsewhere.test", False), ("@", False), ("a" * 2000, False), ("alice@hub.test\u200b", False)):
        for mechanism in ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"):
            c = t.opened("starttls")
            what = f"{mechanism} with authzid {authzid[:40]!r}"
            try:
                if mechanism == "PLAIN":
                    c.plain("mallory", PASSWORD, authzid)
                else:
                    c.scram("mallory", PASSWORD, mechanism, authzid)
                if t.check(what, ok, "it was accepted"):
                    c.open()
                    c.bind()
                    t.check(f"{what}: who it is", c.jid.startswith(own + "/"), c.jid)
            except Refused as e:
                t.check(what, not ok and e.condition in ("invalid-authzid", "not-authorized", "malformed-request"), e.condition)
                if authzid in (other, "alice@elsewhere.test"):
                    t.check(f"{what} is invalid-authzid", e.condition == "invalid-authzid", e.condition)
            except Closed as e:
                t.check(what, not ok, str(e))
            c.drop()


KNOWN = ["ANONYMOUS", "EXTERNAL", "DIGEST-MD5", "CRAM-MD5", "LOGIN", "OAUTHBEARER", "X-OAUTH2", "SCRAM-SHA-512", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-384", "GSSAPI", "NTLM", "plain",
         "scram-sha-256", "SCRAM-SHA-256 ", "", "SCRAM", "HT-SHA-256-NONE", "X" * 3000, "PL&#65;IN\n"]


def b4_mechanisms(t):
    for tls in (None, "starttls", "direct"):
        c = t.opened(tls)
        offered = set(c.mechanisms())
        want = {"SCRAM-SHA-1", "SCRAM-SHA-256"} | ({"SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "PLAIN"} if tls else set())
        t.check(f"offered by {tls}", offered == want, str(sorted(offered)))
        for mechanism in KNOWN + sorted(want | {"PLAIN", "SCRAM-SHA-256-PLUS"}):
            if mechanism in offered or (mechanism.strip() in offered and mechanism != mechanism.strip()):
                continue
            c = t.opened(tls)
            c.send(f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{b64(f'{chr(0)}mallory{chr(0)}{PASSWORD}')}</auth>")
            t.answer(f"{mechanism[:30]!r} by {tls}", c.outcome, "invalid-mechanism", *(("encryption-required",) if tls is None else ()))
            c.drop()
    c = t.opened(None)
    c.auth("PLAIN", f"\0mallory\0{PASSWORD}")
    t.answer("PLAIN is never had without TLS", c.outcome, "encryption-required", "invalid-mechanism")
    c = t.opened("starttls")
    c.send(f"<auth xmlns='{SASL}'>{b64('x')}</auth>")
    t.answer("no mechanism at all", c.outcome, "invalid-mechanism", "malformed-request")


def b5_channel_binding(t):
    for tls in ("starttls", "direct"):
        for mechanism in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"):
            c = t.opened(tls)
            offered = child(c.features, "{urn:xmpp:sasl-cb:0}sasl-channel-binding")
            kinds = {e.get("type") for e in offered} if offered is not None else set()
            t.check("XEP-0440 names the bindings", {"tls-server-end-point", "tls-exporter"} <= kinds, str(kinds))
            c.scram("mallory", PASSWORD, mechanism)
            c.open()
            t.check(f"{mechanism} by {tls}", c.bind().jid)
            c.drop()
    for what, mechanism, gs2, binding in (
        ("another's certificate", "SCRAM-SHA-256-PLUS", "p=tls-server-end-point", b"\0" * 32), ("no data", "SCRAM-SHA-256-PLUS", "p=tls-server-end-point", b""),
        ("tls-unique", "SCRAM-SHA-256-PLUS", "p=tls-unique", b"\0" * 12), ("an exporter made up", "SCRAM-SHA-256-PLUS", "p=tls-exporter", b"\0" * 32),
        ("a binding unknown", "SCRAM-SHA-1-PLUS", "p=nope", b"x"), ("`n` with PLUS", "SCRAM-SHA-256-PLUS", "n", b""), ("`y` with PLUS", "SCRAM-SHA-256-PLUS", "y", b""),
        ("`y` though PLUS is offered: a list was edited", "SCRAM-SHA-256", "y", b""), ("a binding without PLUS", "SCRAM-SHA-256", "p=tls-server-end-point", None),
        ("a flag unknown", "SCRAM-SHA-256", "z", b""),
    ):
        c = t.opened("direct")
        t.answer(what, lambda: c.scram("mallory", PASSWORD, mechanism, gs2=gs2, binding=binding), "not-authorized", "malformed-request")
        c.drop()
    c = t.opened("direct")
    t.check("`n` without PLUS is the client's right", c.scram("mallory", PASSWORD, "SCRAM-SHA-256", gs2="n"))
    c = t.opened(None)
    t.check("`y` where PLUS is not offered is true", c.scram("mallory", PASSWORD, "SCRAM-SHA-256", gs2="y"))


def b6_scram_tampered(t):
    edits = {
        "another nonce": lambda f: f.replace("r=", "r=x"), "a shorter nonce": lambda f: ",".join(p[:-2] if p.startswith("r=") else p for p in f.split(",")),
        "no proof": lambda f: f.rpartition(",p=")[0], "an empty proof": lambda f: f.rpartition(",p=")[0] + ",p=", "a proof of zeros": lambda f: f.rpartition(",p=")[0] + ",p=" + b64(b"\0" * 32),
        "a proof too short": lambda f: f.rpartition(",p=")[0] + ",p=" + b64(b"\0" * 8), "a proof too long": lambda f: f + b64(b"x" * 400), "no base64": lambda f: f.rpartition(",p=")[0] + ",p=@@@@",
        "another binding": lambda f: f.replace("c=biws", "c=eSws"), "no binding": lambda f: f.partition(",")[2], "a mandatory extension": lambda f: "m=x," + f,
        "nothing": lambda f: "", "a NUL": lambda f: f + "\0", "commas": lambda f: ",,,,", "two proofs": lambda f: f + ",p=" + b64(b"\0" * 32), "something after the proof": lambda f: f + ",x=y",
    }
    for what, edit in edits.items():
        c = t.opened()
        t.answer(what, lambda: c.scram("mallory", PASSWORD, "SCRAM-SHA-256", tamper=edit), "not-authorized", "malformed-request", "incorrect-encoding")
        c.drop()
    for first in ("", "n", "n,", "n,,", "n,,n=mallory", "n,,r=abc", "n,,n=,r=abcdefgh", "n,,n=mallory,r=", "n,,m=x,n=mallory,r=abcdefgh", "n,,n=mal=2Xlory,r=abcdefgh", "n,,n=mallory,r=a\0b",
                  "n,,r=abcdefgh,n=mallory", "n,,n=" + "a" * 3000 + ",r=abcdefgh", "\xff\xfe", "n,a=,n=mallory,r=abcdefgh", "n,,n=mallory,r=nönascii"):
        c = t.opened()
        c.auth("SCRAM-SHA-256", first)
        def go(c=c):
            kind, text = c.outcome()
            # An unknown name gets its challenge like a known one; then the proof fails.
            c.send(f"<response xmlns='{SASL}'>{b64('c=biws,r=' + text.partition('r=')[2].partition(',')[0] + ',p=' + b64(bytes(32)))}</response>")
            return c.outcome()
        t.answer(f"first message {first[:30]!r}", go, "not-authorized", "malformed-request", "incorrect-encoding")
        c.drop()
    for text in ("!!!!", "A", "AAA", "=", "==", "QUJD\n", " QUJD", "QUJD=", "Q=JD", "QUI"):
        c = t.opened("starttls")
        c.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{text}</auth>")
        t.answer(f"base64 {text!r}", c.outcome, "incorrect-encoding", "malformed-request", "not-authorized")
        c.drop()
    for text in ("", "\0", "\0\0", "\0a", "mallory", f"\0mallory\0{PASSWORD}\0", f"mallory\0{PASSWORD}", f"\0\0{PASSWORD}", "\0mallory\0", "\0mallory\0" + "x" * 5000, "\0mal\nlory\0x", "\xff\0\xff\0\xff"):
        c = t.opened("starttls")
        c.auth("PLAIN", text if "\xff" not in text else text.encode("latin-1"))
        t.answer(f"PLAIN {text[:20]!r}", c.outcome, "malformed-request", "not-authorized", "incorrect-encoding", "invalid-authzid")
        c.drop()


def b6_out_of_order(t):
    """Every pair of what can be said before login, in every order: none ends in a session."""
    first = b64("n,,n=mallory,r=abcdefghij")
    say = {
        "auth": f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{first}</auth>", "response": f"<response xmlns='{SASL}'>{b64('c=biws,r=abc,p=AAAA')}</response>",
        "empty response": f"<response xmlns='{SASL}'/>", "abort": f"<abort xmlns='{SASL}'/>", "success": f"<success xmlns='{SASL}'/>", "challenge": f"<challenge xmlns='{SASL}'>eA==</challenge>",
        "bind": f"<iq type='set' id='b'><bind xmlns='{BIND}'><resource>x</resource></bind></iq>", "message": f"<message to='victim@{t.domain}'><body>sneaked in</body></message>",
        "presence": "<presence/>", "session": "<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>", "features": f"<stream:features/>",
        "proceed": f"<proceed xmlns='{TLS}'/>", "stanza of another namespace": "<x xmlns='urn:nope'/>",
    }
    for a, b in itertools.product(say, repeat=2):
        c = t.opened()
        # One segment: nobody waits for answers.
        c.send(say[a] + say[b])
        got = []
        try:
            while len(got) < 6:
                got.append(c.next(0.1 if got else 2))
        except (Closed, Timeout):
            pass
        bad = [show(e) for e in got if name(e) == "success" or (name(e) == "iq" and e.get("type") == "result")]
        t.check(f"{a}, {b}", not bad, str(bad))
        stanzas = {"message", "presence", "bind", "session"}
        if a in stanzas:
            t.check(f"{a} before login is not-authorized", c.condition == "not-authorized", f"{c.condition} {[show(e) for e in got]}")
        c.drop()
    t.check("nothing reached the victim", not t.arrived())
    c = t.opened()
    c.send(say["response"])
    try:
        t.answer("a response first", c.outcome, "malformed-request", "not-authorized")
    except AssertionError as e:
        t.check("a response first", False, str(e))
    c = t.opened()
    c.send(say["abort"])
    got = c.next()
    t.check("an abort first", condition(got, SASL) in ("aborted", "malformed-request", "not-authorized") or name(got) == "error", show(got))


def b6_after_login(t):
    again = f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{b64('n,,n=alice,r=abcdefghij')}</auth>"
    c = t.opened()
    c.authenticate("mallory", PASSWORD)
    c.new_parser()
    c.send(again)
    t.refused("auth instead of the restart", c, "not-authorized", "unsupported-stanza-type", "bad-format", "not-well-formed", "policy-violation", "invalid-xml")
    c = t.opened()
    c.authenticate("mallory", PASSWORD)
    c.open()
    t.check("no mechanisms after login", not c.mechanisms(), show(c.features))
    c.send(again)
    t.refused("auth after the restart", c, "not-authorized", "unsupported-stanza-type", "policy-violation")
    m = t.mallory()
    m.send(again)
    t.refused("auth in a session", m, "not-authorized", "unsupported-stanza-type", "policy-violation")
    c = t.opened()
    c.authenticate("mallory", PASSWORD)
    c.open()
    c.send(f"<message to='victim@{t.domain}'><body>before bind</body></message>")
    t.refused("a stanza before bind", c, "not-authorized")
    t.check("and it does not arrive", not t.arrived())
    m = t.mallory("twice")
    t.answer("a second bind", lambda: m.iq("set", f"<bind xmlns='{BIND}'><resource>other</resource></bind>"),
             "not-allowed", "unexpected-request", "not-acceptable", "bad-request", "service-unavailable", "feature-not-implemented")
    # Success and restart in one segment, as pipelining clients do, is none of the crimes above.
    c = t.opened()
    c.auth("SCRAM-SHA-256", "n,,n=mallory,r=abcdefgh")
    c.outcome()
    c.send(f"<abort xmlns='{SASL}'/>")
    t.answer("abort is answered", c.outcome, "aborted")
    t.check("and a new try may follow", c.scram("mallory", PASSWORD))


def b7_costly_passwords(t):
    c = t.opened("starttls")
    began = time.monotonic()
    c.auth("PLAIN", "\0mallory\0" + "x" * 100_000)
    try:
        c.outcome()
        t.check("a password of 100,000 bytes", False)
    except (Refused, Closed) as e:
        t.check("a password of 100,000 bytes", e.condition in ("policy-violation", "not-authorized", "malformed-request"), str(e))
    t.check("is refused at once", time.monotonic() - began < 1)
    for length, ok in ((1023, True), (1024, False)):
        p = t.hub.run("user", "add", f"long{length}@{t.domain}", "--password-stdin", input="p" * length + "\n", check=False)
        t.check(f"a password of {length} bytes", (p.returncode == 0) == ok, p.stdout + p.stderr)
    c = t.opened("starttls")
    t.check("and it works", c.authenticate("long1023", "p" * 1023, "PLAIN"))
    # Many at a time: key derivation must not stand in the way of those who are in.
    worst, stop = [0.0], threading.Event()

    def log_in():
        while not stop.is_set():
            try:
                with t.hub.client("direct", ca=None) as c:
                    c.secure()
                    c.auth("PLAIN", "\0mallory\0wrong")
                    c.outcome()
            except (Refused, Closed, Timeout, OSError):
                pass

    crowd = [threading.Thread(target=log_in, daemon=True) for _ in range(16)]
    for c in crowd:
        c.start()
    for n in range(40):
        at = time.monotonic()
        t.alice.ping()
        worst.append(time.monotonic() - at)
        time.sleep(0.02)
    stop.set()
    for c in crowd:
        c.join(10)
    t.check(f"pings under 16 logins at a time: worst {max(worst) * 1000:.0f} ms", statistics.median(worst) < 0.1 and max(worst) < 1, str(sorted(worst)[-3:]))


def b8_who_exists(t):
    """An unknown account answers like a known one, to the last byte."""
    def challenge(user, mechanism):
        c = t.opened()
        try:
            c.scram(user, "wrong password", mechanism)
            return "accepted"
        except Refused as e:
            return c.challenge["s"], c.challenge["i"], len(c.challenge["r"]), e.args[0]
        finally:
            c.drop()

    for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
        known, unknown = [challenge(u, mechanism) for u in ("alice", "alice")], [challenge(u, mechanism) for u in ("nobody", "nobody")]
        t.check(f"{mechanism}: an unknown name keeps its salt", unknown[0][0] == unknown[1][0], str(unknown))
        t.check("salts look alike", len(known[0][0]) == len(unknown[0][0]) and known[0][1:] == unknown[0][1:], f"{known[0]} {unknown[0]}")
        t.check("two unknown names have two salts", unknown[0][0] != challenge("nobody2", mechanism)[0])
        t.check("NOBODY is nobody", challenge("NOBODY", mechanism)[0] == unknown[0][0])

    def reply(kind, stanza, who):
        m.queue.clear()
        m.send(stanza.replace("WHO", who))
        return [show(e).replace(who, "WHO") for e in t.settled(m, 0.1)]

    m = t.mallory("look")
    stanzas = {
        "disco": "<iq type='get' id='1' to='WHO@hub.test'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
        "disco items": "<iq type='get' id='1' to='WHO@hub.test'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>",
        "ping": "<iq type='get' id='1' to='WHO@hub.test'><ping xmlns='urn:xmpp:ping'/></iq>", "ping to a resource": "<iq type='get' id='1' to='WHO@hub.test/v'><ping xmlns='urn:xmpp:ping'/></iq>",
        "version": "<iq type='get' id='1' to='WHO@hub.test/v'><query xmlns='jabber:iq:version'/></iq>", "last": "<iq type='get' id='1' to='WHO@hub.test'><query xmlns='jabber:iq:last'/></iq>",
        "roster": "<iq type='get' id='1' to='WHO@hub.test'><query xmlns='jabber:iq:roster'/></iq>", "unknown": "<iq type='set' id='1' to='WHO@hub.test'><x xmlns='urn:nope'/></iq>",
        "time": "<iq type='get' id='1' to='WHO@hub.test'><time xmlns='urn:xmpp:time'/></iq>", "vcard": "<iq type='get' id='1' to='WHO@hub.test'><vCard xmlns='vcard-temp'/></iq>",
        "probe": "<presence type='probe' to='WHO@hub.test'/>", "presence": "<presence to='WHO@hub.test'/>", "unsubscribe": "<presence type='unsubscribe' to='WHO@hub.test'/>",
        "groupchat": "<message type='groupchat' id='1' to='WHO@hub.test'><body>x</body></message>", "headline to a resource": "<message type='headline' id='1' to='WHO@hub.test/none'><body>x</body></message>",
        "private": "<iq type='get' id='1' to='WHO@hub.test'><query xmlns='jabber:iq:private'><x xmlns='y'/></query></iq>", "blocklist": "<iq type='get' id='1' to='WHO@hub.test'><blocklist xmlns='urn:xmpp:blocking'/></iq>",
        "register": "<iq type='get' id='1' to='WHO@hub.test'><query xmlns='jabber:iq:register'/></iq>",
    }
    for what, stanza in stanzas.items():
        known, unknown = reply(what, stanza, "victim"), reply(what, stanza, "nobody")
        t.check(f"{what}: the same for both", known == unknown, f"known {known}, unknown {unknown}")
    t.arrived()


def b8_timing(t):
    """Known or not takes the same time, as far as medians of many tries can tell. What leaks does so every time; another
    program on this machine does not."""
    def scram(c, user):
        c.scram(user, "wrong password", "SCRAM-SHA-256")

    def plain(c, user):
        c.auth("PLAIN", f"\0{user}\0wrong password")
        c.outcome()

    for what, attempt, tls, tries in (("SCRAM", scram, None, 120), ("PLAIN", plain, "direct", 40)):
        seen = []
        for _ in range(4):
            times = {"alice": [], "nobody": []}
            for n in range(tries):
                for user, took in sorted(times.items(), reverse=bool(n % 2)):
                    with t.hub.client(tls, ca=None) as c:
                        c.secure()
                        at = time.perf_counter()
                        try:
                            attempt(c, user)
                        except Refused:
                            pass
                        took.append(time.perf_counter() - at)
            known, unknown = (statistics.median(x) * 1000 for x in times.values())
            seen.append(f"{known:.2f} ms known, {unknown:.2f} ms unknown")
            if abs(known - unknown) < 0.25 * max(known, unknown) + 0.2:
                break
        else:
            t.check(what, False, "; ".join(seen))
        t.check(what, True)


def b10_guessing(t):
    hub = t.other(limits=["login_delay_ms=200"])
    hub.user("owner")
    c = t.raw(hub=hub, source="127.0.0.66")
    c.secure()
    took = []
    for n in range(3):
        at = time.monotonic()
        try:
            c.scram("owner", f"guess {n}")
            t.check("a guess", False)
        except Refused as e:
            t.check(f"guess {n} is not-authorized", e.condition == "not-authorized", str(e))
        except Closed as e:
            t.check(f"guess {n}", n == 2 and e.condition == "policy-violation", str(e))
        took.append(time.monotonic() - at)
    c.auth("SCRAM-SHA-256", "n,,n=owner,r=abcdefgh")
    t.refused("a fourth try on one stream", c, "policy-violation")
    c = t.opened(hub=t.other(limits=[NO_DELAY, "login_tries=2"]))
    for n in range(2):
        t.answer(f"try {n} of two", lambda: c.scram("nobody", "x"), "not-authorized")
    c.auth("SCRAM-SHA-256", "n,,n=nobody,r=abcdefgh")
    t.refused("the limit can be set", c, "policy-violation")
    for n in range(3):
        c = t.raw(hub=hub, source="127.0.0.66")
        c.secure()
        at = time.monotonic()
        try:
            c.scram("owner", f"guess again {n}")
        except (Refused, Closed):
            pass
        took.append(time.monotonic() - at)
        c.drop()
    t.check(f"each takes longer: {[round(x, 2) for x in took]}", took[-1] > took[1] > took[0] and took[-1] > 1.5)
    at = time.monotonic()
    own = t.keep(hub.client(None, source="127.0.0.77").login("owner", PASSWORD))
    t.check("the owner is let in at once from elsewhere", own.ping() is not None and time.monotonic() - at < 1)
