"""A6, A10-A12, A15-A17, C12: stanzas too deep, too wide, too long or too slow; odd headers and addresses."""

import time

from stage import CLIENT, Closed, Refused, Timeout, body, condition, name, show
from xmpp import SASL, STREAM, TLS, child

TOO_MUCH = ("policy-violation",)


def message(t, inner, to="victim"):
    return f"<message to='{to}@{t.domain}' type='chat'><body>x</body>{inner}</message>"


def boundary(t, what, make, cap, *conditions):
    """`make(cap)` must arrive, `make(cap + 1)` must end the stream."""
    m = t.mallory()
    m.send(make(cap))
    try:
        m.ping()
        t.check(f"{what}: {cap} is accepted", len(t.arrived()) == 1, "it did not arrive")
    except (Closed, Timeout) as e:
        t.check(f"{what}: {cap} is accepted", False, str(e))
        t.arrived()
    m.drop()
    m = t.mallory()
    m.send(make(cap + 1))
    t.refused(f"{what}: {cap + 1}", m, *(conditions or TOO_MUCH))
    t.check(f"{what}: {cap + 1} is not forwarded", not t.arrived())
    m.drop()


def a6_caps(t):
    cap = t.limits
    # The stanza itself is level 1, and its body one of its elements.
    boundary(t, "depth", lambda n: message(t, "<a xmlns='u'>" + "<b>" * (n - 2) + "</b>" * (n - 2) + "</a>"), cap["depth"])
    boundary(t, "attributes", lambda n: message(t, "<a xmlns='u'" + "".join(f" a{i}='1'" for i in range(n)) + "/>"), cap["attributes"])
    boundary(t, "elements", lambda n: message(t, "<a xmlns='u'>" + "<b/>" * (n - 3) + "</a>"), cap["elements"])
    boundary(t, "declarations", lambda n: message(t, "".join(f"<a xmlns='u{i}'/>" for i in range(n))), cap["declarations"])
    for inner in (
        "<a xmlns='u'" + "".join(f" xmlns:p{i}='u{i}'" for i in range(16000)) + "/>",
        "<a xmlns='u'" + "".join(f" a{i}='1'" for i in range(16000)) + "/>",
        "".join(f"<a xmlns:p{i}='u{i}'>" for i in range(2000)) + "</a>" * 2000,
    ):
        m = t.mallory()
        m.send(message(t, inner))
        t.refused(f"bomb of {len(inner)} bytes", m, *TOO_MUCH)
        m.drop()


def a6_namespace_bombs_cost_nothing(t):
    """The worst that is accepted, and what is refused, cost the hub milliseconds."""
    bombs = {
        "siblings": "<a xmlns='u'" + "".join(f" xmlns:p{i}='u{i}'" for i in range(60)) + ">" + "".join(f"<b xmlns:q='v{i}'/>" for i in range(190)) + "</a>",
        "siblings, thousands": "<a" + "".join(f" xmlns:p{i}='u'" for i in range(2000)) + ">" + "".join(f"<b xmlns:q{i}='u'/>" for i in range(2000)) + "</a>",
        "nested": "".join(f"<a xmlns:p{i}='u{i}'>" for i in range(60)) + "</a>" * 60,
        "attributes": "<a xmlns='u'>" + ("<b" + "".join(f" a{i}='1'" for i in range(60)) + "/>") * 250 + "</a>",
        "long names": f"<{'a' * 1000} xmlns='u'>" + f"<{'b' * 1000}/>" * 200 + f"</{'a' * 1000}>",
    }
    for what, inner in bombs.items():
        used, began = t.cpu(), time.monotonic()
        for _ in range(10):
            m = t.mallory()
            m.send(message(t, inner))
            try:
                m.ping()
            except Closed:
                pass
            m.drop()
        t.arrived()
        each = (t.cpu() - used) / 10
        # With what a login costs and the delivery to the victim.
        t.check(f"{what}: {each * 1000:.0f} ms each", each < 0.05, f"{each:.3f} s of CPU for one stanza")


def a10_depth_before_login(t):
    for tls, doc in ((None, b"<a>" * 1_000_000), (None, b"<auth xmlns='%s'>" % SASL.encode() + b"<a>" * 100_000)):
        before = t.memory()
        c = t.opened(tls)
        c.send(doc)
        t.refused(f"{len(doc)} bytes of depth before login", c, "policy-violation", "not-authorized", "unsupported-stanza-type")
        t.check("memory", t.memory() - before < 4_000_000, f"grew by {t.memory() - before}")
    m = t.mallory()
    m.send("<message to='victim@%s'>" % t.domain + "<a>" * 1_000_000)
    t.refused("a million levels after login", m, *TOO_MUCH)


def a11_stanza_bytes(t):
    cap, early = t.limits["stanza_bytes"], t.limits["early_bytes"]
    frame = f"<message to='victim@{t.domain}' type='chat'><body></body></message>"
    boundary(t, "bytes after login", lambda n: frame.replace("></body>", f">{'x' * (n - len(frame))}</body>"), cap)
    # Before login: exactly at the cap an element is read and judged, one more byte is too much.
    frame = f"<auth xmlns='{SASL}' mechanism='NOPE'></auth>"
    for n, ok in ((early, True), (early + 1, False)):
        c = t.opened()
        c.send(frame.replace("></auth>", f">{'A' * (n - len(frame))}</auth>"))
        if ok:
            try:
                el = c.next()
                t.check(f"{n} bytes before login are read", name(el) == "failure", show(el))
            except (Closed, Timeout) as e:
                t.check(f"{n} bytes before login are read", False, str(e))
        else:
            t.refused(f"{n} bytes before login", c, *TOO_MUCH)
    c = t.raw()
    c.send(f"<?xml version='1.0'?><stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' to='{t.domain}' version='1.0' id='{'x' * early}'>")
    t.refused("a header over the cap", c, *TOO_MUCH)
    # Without an end, in every place.
    for what, doc in (("text", "<auth xmlns='%s' mechanism='PLAIN'>" % SASL), ("attribute", "<auth a='"), ("tag", "<auth "), ("name", "<a"), ("CDATA", "<a><![CDATA[")):
        c = t.opened()
        c.send(doc + "x" * (early + 100))
        t.refused(f"endless {what} before login", c, *TOO_MUCH)
    m = t.mallory()
    m.send(f"<message to='victim@{t.domain}'><body>" + "x" * (cap + 100))
    t.refused("endless body after login", m, *TOO_MUCH)


def a11_limits_are_announced(t):
    space = "urn:xmpp:stream-limits:0"
    c = t.opened()
    el = child(c.features, f"{{{space}}}limits")
    t.check("XEP-0478 before login", el is not None and el.findtext(f"{{{space}}}max-bytes") == str(t.limits["early_bytes"]), show(el))
    m = t.mallory()
    el = child(m.features, f"{{{space}}}limits")
    t.check("XEP-0478 after login", el is not None and el.findtext(f"{{{space}}}max-bytes") == str(t.limits["stanza_bytes"]), show(el))


def a11_dribble_memory(t):
    """200 connections that each hold one open element near the cap."""
    early = t.limits["early_bytes"]
    before, held = t.memory(), []
    for _ in range(200):
        c = t.opened()
        c.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>" + "A" * (early - 200))
        held.append(c)
    time.sleep(0.5)
    grown = t.memory() - before
    t.check(f"200 open elements: {grown // 1024} KiB", grown < 200 * (early + 8192) + 4_000_000, f"{grown} bytes")
    for c in held:
        c.drop()


def a12_byte_by_byte(t):
    """Each byte is looked at once: twice the bytes, twice the work."""
    def cost(size):
        m = t.mallory()
        doc = message(t, "<a xmlns='u'>" + "<b c='d'>e</b>" * (size // 14) + "</a>").encode()
        used = t.cpu()
        for i in range(len(doc)):
            m.send(doc[i : i + 1])
        m.ping()
        m.drop()
        t.arrived()
        return t.cpu() - used

    small, large = cost(20_000), cost(80_000)
    t.check(f"20 KB {small:.2f} s, 80 KB {large:.2f} s", large < 6 * small + 0.3, "more than linear")
    t.check("80 KB in single bytes", large < 3, f"{large:.2f} s")


def a15_compression(t):
    for tls in (None, "starttls"):
        c = t.opened(tls)
        t.check("compression is not offered", "compress" not in show(c.features), show(c.features))
    m = t.mallory()
    t.check("nor after login", "compress" not in show(m.features), show(m.features))
    m.send("<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>")
    try:
        el = m.next()
        refused = name(el) == "failure" or el.tag == f"{{{STREAM}}}error"
        t.check("compress is refused", refused, show(el))
    except Closed as e:
        t.check("compress is refused", e.condition == "unsupported-stanza-type", str(e))


def header(t, to, ns=CLIENT, stream=STREAM, extra=" version='1.0'", tag="stream:stream"):
    at = f" to='{to}'" if to is not None else ""
    return f"<?xml version='1.0'?><{tag} xmlns='{ns}' xmlns:stream='{stream}'{at}{extra}>"


def a16_headers(t):
    for what, doc, conditions in (
        ("unknown host", header(t, "elsewhere.test"), ("host-unknown",)),
        ("a suffix of our name", header(t, "test"), ("host-unknown",)),
        ("our name as a suffix", header(t, "x." + t.domain), ("host-unknown",)),
        ("an address, not a host", header(t, "alice@" + t.domain), ("host-unknown", "improper-addressing")),
        ("another content namespace", header(t, t.domain, ns="jabber:nope"), ("invalid-namespace",)),
        ("no namespace", header(t, t.domain, ns=""), ("invalid-namespace",)),
        ("another stream namespace", header(t, t.domain, stream="urn:nope"), ("invalid-namespace",)),
        ("another root", header(t, t.domain, tag="stream:flow"), ("bad-format", "invalid-namespace", "not-well-formed", "invalid-xml")),
        ("a root without prefix", f"<html xmlns='http://www.w3.org/1999/xhtml'>", ("bad-format", "invalid-namespace", "not-well-formed", "invalid-xml")),
        ("version 0.9", header(t, t.domain, extra=" version='0.9'"), ("unsupported-version",)),
        ("no version", header(t, t.domain, extra=""), ("unsupported-version",)),
        ("version nonsense", header(t, t.domain, extra=" version='x'"), ("unsupported-version",)),
        ("HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ("bad-format", "not-well-formed", "invalid-xml")),
        ("TLS on the port for STARTTLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, ("bad-format", "not-well-formed", "invalid-xml", "unsupported-encoding")),
    ):
        c = t.raw()
        c.send(doc)
        t.refused(what, c, *conditions)
        # RFC 6120 §4.9.1.2: an error at the opening still has a header before it.
        t.check(f"{what}: a header comes first", c.header is not None and c.header.get("id"), str(c.header))
        c.drop()
    for to in (t.domain.upper(), t.domain + "."):
        c = t.raw()
        c.send(header(t, to))
        try:
            c.features_()
            t.check(f"to='{to}'", c.header.get("from") == t.domain, str(c.header))
        except Closed as e:
            t.check(f"to='{to}'", to.endswith(".") and e.condition == "host-unknown", str(e))
    ids = set()
    for _ in range(20):
        c = t.opened()
        ids.add(c.header.get("id"))
        c.drop()
    t.check("stream ids are never the same, and long", len(ids) == 20 and min(map(len, ids)) >= 16, str(sorted(ids)[:3]))


def a16_host_changes(t):
    from hub import PASSWORD
    for to, conditions in (("elsewhere.test", ("host-unknown", "not-authorized")), ("localhost", ("host-unknown", "not-authorized"))):
        c = t.opened()
        c.authenticate("mallory", PASSWORD)
        c.new_parser()
        c.send(header(t, to))
        t.refused(f"after login to {to}", c, *conditions)
    c = t.opened("starttls")
    c.send(header(t, "elsewhere.test"))
    t.refused("a second header without a restart", c, "restricted-xml", "host-unknown", "bad-format", "not-well-formed", "not-authorized", "invalid-namespace", "unsupported-stanza-type", "policy-violation", "invalid-xml")


GOOD_JIDS = [
    ("victim", "victim@{d}"), ("upper case", "VICTIM@{d}"), ("upper-case domain", "victim@HUB.TEST"), ("fullwidth", "ｖictim@{d}"),
    ("by reference", "v&#x69;ctim@{d}"), ("resource", "victim@{d}/v"),
]
BAD_JIDS = [
    ("no localpart", "@{d}"), ("no domain", "victim@"), ("two at signs", "a@b@{d}"), ("empty resource", "victim@{d}/"), ("space in the localpart", "vic tim@{d}"),
    ("space at the end", "victim@{d} "), ("space at the front", " victim@{d}"), ("quote", "vic&quot;tim@{d}"), ("ampersand", "vic&amp;tim@{d}"), ("apostrophe", "vic&apos;tim@{d}"),
    ("colon", "vic:tim@{d}"), ("less-than", "vic&lt;tim@{d}"), ("zero-width space", "vic\u200btim@{d}"), ("right-to-left override", "vic\u202etim@{d}"),
    ("newline", "vic&#10;tim@{d}"), ("tab", "vic&#9;tim@{d}"), ("only a slash", "/"), ("only a resource", "/x"), ("only an at sign", "@"), ("localpart of 1,024 bytes", "a" * 1024 + "@{d}"),
    ("resource of 1,024 bytes", "victim@{d}/" + "r" * 1024), ("domain of 1,024 bytes", "a@" + "d" * 1024), ("label of 64 bytes", "a@" + "d" * 64 + ".test"),
    ("newline in the resource", "victim@{d}/a&#10;b"), ("domain with a space", "victim@hub .test"), ("empty label", "victim@hub..test"), ("private-use", "vic\ue000tim@{d}"),
]


def c12_addresses(t):
    m = t.mallory("addr")
    for n, (what, jid) in enumerate(GOOD_JIDS):
        m.send(f"<message to='{jid.format(d=t.domain)}' type='chat'><body>{n}</body></message>")
        m.ping()
        got = t.arrived()
        t.check(f"{what}: arrives", len(got) == 1 and body(got[0]) == str(n), str([show(e) for e in got]))
    for what, jid in BAD_JIDS:
        jid = jid.format(d=t.domain)
        for kind in ("message", "iq", "presence"):
            at = " type='get'" if kind == "iq" else ""
            m.queue.clear()
            m.send(f"<{kind} to='{jid}' id='j'{at}><x xmlns='urn:x'/></{kind}>")
            try:
                m.ping()
            except Closed as e:
                t.check(f"{what}, {kind}", False, f"the stream is closed: {e.condition}")
                m = t.mallory("addr")
                continue
            got = [condition(e) for e in m.queue if e.get("type") == "error"]
            # Presence may be dropped without a word.
            t.check(f"{what}, {kind}", got == ["jid-malformed"] or (kind == "presence" and got == []), f"{got}")
    t.check("nothing reached the victim", not t.arrived())
    # The longest that are allowed: 1,023 bytes each.
    for jid in ("a" * 1023 + "@" + t.domain, f"victim@{t.domain}/" + "r" * 1023):
        m.queue.clear()
        m.send(f"<iq type='get' id='j' to='{jid}'><x xmlns='urn:x'/></iq>")
        got = [condition(e) for e in t.settled(m) if e.get("type") == "error"]
        t.check(f"1,023 bytes are an address", got == ["service-unavailable"], str(got))
    for to in ("", ):
        m.queue.clear()
        m.send(f"<iq type='get' id='j' to='{to}'><x xmlns='urn:x'/></iq>")
        m.ping()
        got = [condition(e) for e in m.queue if e.get("type") == "error"]
        t.check("an empty `to`", got in (["jid-malformed"], ["service-unavailable"]), str(got))


def a17_one_account_many_spellings(t):
    """Names that are the same must be one account; names that look the same must not be had."""
    for what, jid, ok in (
        ("ALICE", "ALICE@hub.test", "exists"), ("fullwidth", "ａlice@hub.test", "exists"), ("domain in capitals", "alice@HUB.TEST", "exists"),
        ("zero-width space", "ali\u200bce@hub.test", "bad"), ("soft hyphen", "ali\u00adce@hub.test", "bad"), ("space", "ali ce@hub.test", "bad"), ("at", "ali@ce@hub.test", "bad"),
        ("right-to-left override", "ali\u202ece@hub.test", "bad"), ("with a resource", "new@hub.test/x", "bad"), ("another domain", "new@elsewhere.test", "bad"),
        ("empty", "@hub.test", "bad"), ("long", "a" * 1024 + "@hub.test", "bad"),
    ):
        p = t.hub.run("user", "add", jid, "--password-stdin", input="password 1\n", check=False)
        t.check(f"user add {what}", p.returncode != 0, f"exit 0: {p.stdout}{p.stderr}")
        said = (p.stdout + p.stderr).strip()
        t.check(f"user add {what}: says why in one line", 0 < len(said.splitlines()) <= 2 and "panicked" not in said, said)
    for user in ("ALICE", "Alice", "ａlice"):
        c = t.opened("starttls")
        from hub import PASSWORD
        c.authenticate(user, PASSWORD, "PLAIN")
        c.open()
        c.bind("spelled")
        t.check(f"login as {user}", c.jid == f"alice@{t.domain}/spelled", c.jid)
        c.close()
