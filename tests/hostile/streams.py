"""A1-A5: bytes that one parser reads in one way and the next in another, or not at all."""

import socket
import ssl
import xml.etree.ElementTree as ET
from contextlib import closing

from hub import PASSWORD
from stage import CLIENT, Closed, Refused, Timeout, name, show, tree
from xmpp import SASL, STREAM, b64, child

# Each is forwarded by a parser that is too kind, and cuts off a receiver whose parser is not.
BAD = [
    ("two default namespaces", "<a xmlns='u' xmlns='v'/>"),
    ("surrogate reference", "<a xmlns='u'>&#xD800;</a>"),
    ("surrogate reference in an attribute", "<a xmlns='u' b='&#xDFFF;'/>"),
    ("reference beyond Unicode", "<a xmlns='u'>&#x110000;</a>"),
    ("reference beyond Unicode in an attribute", "<a xmlns='u' b='&#1114112;'/>"),
    ("huge reference", "<a xmlns='u'>&#99999999999999999999;</a>"),
    ("empty prefix", "<:a xmlns='u'/>"),
    ("empty local name", "<p: xmlns:p='u'/>"),
    ("prefix bound to nothing", "<a xmlns='u' xmlns:p=''/>"),
    ("xmlns as a prefix", "<a xmlns='u' xmlns:xmlns='u'/>"),
    ("name outside XML 1.0 4th edition: emoji", "<\U0001f600 xmlns='u'/>"),
    ("name outside XML 1.0 4th edition: U+10000", "<\U00010000 xmlns='u'/>"),
    ("name outside XML 1.0 4th edition: U+0378", "<\u0378 xmlns='u'/>"),
    ("name outside XML 1.0 4th edition: fullwidth", "<\uff41 xmlns='u'/>"),
    ("attribute name outside the 4th edition", "<a xmlns='u' \U0001f600='1'/>"),
    ("namespace with }", "<a xmlns='a}b'/>"),
    ("namespace with {", "<a xmlns='a{b'/>"),
    ("namespace with a space", "<a xmlns='a b'/>"),
    ("namespace with a newline by reference", "<a xmlns='a&#10;b'/>"),
    ("namespace with a tab", "<a xmlns='a\tb'/>"),
    ("namespace with <", "<a xmlns='a&lt;b'/>"),
    ("namespace with U+00FF", "<a xmlns='a\u00ffb'/>"),
    ("prefix namespace with }", "<p:a xmlns:p='a}b'/>"),
    ("unused prefix with }", "<a xmlns='u' xmlns:p='a}b'/>"),
    ("control character by reference", "<a xmlns='u'>&#1;</a>"),
    ("control character", "<a xmlns='u'>\x01</a>"),
    ("NUL", "<a xmlns='u'>\0</a>"),
    ("ESC", "<a xmlns='u'>\x1b[2J</a>"),
    ("U+FFFE", "<a xmlns='u'>\ufffe</a>"),
    ("U+FFFF by reference", "<a xmlns='u'>&#xFFFF;</a>"),
    ("]]> in text", "<a xmlns='u'>]]></a>"),
    ("bare ampersand", "<a xmlns='u'>a & b</a>"),
    ("reference without end", "<a xmlns='u'>&amp</a>"),
    ("upper-case reference", "<a xmlns='u'>&#X41;</a>"),
    ("empty reference", "<a xmlns='u'>&#;</a>"),
    ("< in an attribute", "<a xmlns='u' b='<'/>"),
    ("the same attribute twice", "<a xmlns='u' b='1' b='2'/>"),
    ("the same attribute twice by namespace", "<a xmlns='u' xmlns:p='w' xmlns:q='w' p:b='1' q:b='2'/>"),
    ("the same prefix twice", "<a xmlns='u' xmlns:p='1' xmlns:p='2'/>"),
    ("xml bound to another namespace", "<a xmlns='u' xmlns:xml='u'/>"),
    ("another prefix bound to xml", "<a xmlns='u' xmlns:p='http://www.w3.org/XML/1998/namespace'/>"),
    ("a prefix bound to xmlns", "<a xmlns='u' xmlns:p='http://www.w3.org/2000/xmlns/'/>"),
    ("default namespace xmlns", "<a xmlns='http://www.w3.org/2000/xmlns/'/>"),
    ("default namespace xml", "<a xmlns='http://www.w3.org/XML/1998/namespace'/>"),
    ("two colons", "<p:a:b xmlns:p='u'/>"),
    ("undeclared prefix", "<p:a/>"),
    ("undeclared prefix of an attribute", "<a xmlns='u' p:b='1'/>"),
    ("NBSP as a separator", "<a xmlns='u'\u00a0b='1'/>"),
    ("vertical tab as a separator", "<a xmlns='u'\x0bb='1'/>"),
    ("no space between attributes", "<a xmlns='u'b='1'/>"),
    ("attribute without quotes", "<a xmlns='u' b=1/>"),
    ("attribute without a value", "<a xmlns='u' b/>"),
    ("end tag of another name", "<a xmlns='u'></b>"),
    ("end tag of another prefix", "<p:a xmlns:p='u' xmlns:q='u'></q:a>"),
    ("end tag with an attribute", "<a xmlns='u'></a b='1'>"),
    ("space before the name", "< a xmlns='u'/>"),
    ("space in an empty tag's end", "<a xmlns='u'/ >"),
    ("name that begins with a digit", "<1a xmlns='u'/>"),
    ("name that begins with a hyphen", "<-a xmlns='u'/>"),
    ("the name xml:a", "<xml:a/>"),
    ("CDATA in another case", "<a xmlns='u'><![cdata[x]]></a>"),
]

# Each is plain XML that everybody reads in the same way: it must arrive, with the same tree.
GOOD = [
    "<a xmlns='u'/>",
    "<a xmlns=\"u\" b=\"it's\" c='say \"x\"'>t</a  >",
    "<p:a xmlns:p='urn:p' p:b='1' b='2'><p:c/><c xmlns='urn:c'/></p:a>",
    "<a xmlns='u'>&lt;&gt;&amp;&apos;&quot;&#65;&#x42;&#x1F600;</a>",
    "<a xmlns='u' b='&#10;&#9;&#13;&lt;&quot;'/>",
    "<a xmlns='u'><![CDATA[<b/>&amp;]]]]><![CDATA[>]]></a>",
    "<a xmlns='u'>]] &gt; ]]</a>",
    "<\u00e4\u00f6 xmlns='u' \u00fc='1'>\u00df \U0001f600 \u202e \u0085 \u2028</\u00e4\u00f6>",
    "<_a.b-c1 xmlns='urn:x:y;z?a=b#c'/>",
    "<a xmlns='u' xml:lang='de' xml:space='preserve'> \r\n\t </a>",
    "<a xmlns='u'\n\tb = 'x'\r\n/>",
    "<a xmlns=''/>",
    "<a xmlns='u'><b><c xmlns='v'><d/></c></b><e/></a>",
]


def a1_smuggling(t):
    cases = [(tls, n, d) for n, d in BAD for tls in (None,)] + [(tls, n, d) for n, d in BAD[:8] for tls in ("starttls", "direct")]
    for tls, what, doc in cases:
        m = t.mallory(tls=tls)
        # The end tags that are too many end an element that a framer may have taken to be open.
        m.send(f"<message to='victim@{t.domain}' type='chat'><body>x</body>{doc}</message></a></message>")
        t.refused(f"{what} {tls or ''}", m, "not-well-formed", "restricted-xml", "invalid-xml")
        got = t.arrived()
        t.check(f"{what}: nothing is forwarded", not got, str([show(e) for e in got]))
        m.drop()


def a1_good_xml_passes(t):
    for doc in GOOD:
        m = t.mallory()
        m.send(f"<message to='victim@{t.domain}' type='chat'><body>x</body>{doc}</message>")
        try:
            m.ping()
        except Closed as e:
            t.check(doc, False, f"refused: {e.condition}")
            continue
        got = t.arrived()
        sent = ET.fromstring(f"<message xmlns='{CLIENT}'>{doc}</message>")[0]
        t.check(doc, len(got) == 1 and any(tree(c) == tree(sent) for c in got[0]), str([show(e) for e in got]))
        m.drop()


def a2_before_login(t):
    for what, doc in BAD:
        if "undeclared prefix" in what:
            continue
        c = t.opened()
        c.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{doc}</auth></a></auth>")
        t.refused(f"{what}, before login", c, "not-well-formed", "restricted-xml", "invalid-xml")
        c.drop()


def a2_stream_header(t):
    header = f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' to='{t.domain}' version='1.0'"
    for what, extra in (
        ("two default namespaces", " xmlns='u'"), ("two prefixes", f" xmlns:stream='{STREAM}'"), ("two versions", " version='1.0'"),
        ("bad prefix", " xmlns:p=''"), ("namespace with }", " xmlns:p='a}b'"), ("surrogate", " id='&#xD800;'"), ("<", " id='<'"),
        ("xmlns:xmlns", " xmlns:xmlns='u'"), ("undeclared prefix", " q:b='1'"), ("emoji attribute", " \U0001f600='1'"),
        ("undefined entity", " id='&nope;'"), ("control character", " id='\x02'"), ("unquoted", " id=1"),
    ):
        c = t.raw()
        c.send(f"<?xml version='1.0'?>{header}{extra}>")
        t.refused(f"header: {what}", c, "not-well-formed", "restricted-xml", "invalid-xml", "invalid-namespace", "bad-format")
        c.drop()


BAD_UTF8 = [
    ("overlong slash", b"\xc0\xaf"), ("overlong three bytes", b"\xe0\x80\xaf"), ("surrogate", b"\xed\xa0\x80"), ("CESU-8 pair", b"\xed\xa0\xbd\xed\xb8\x80"),
    ("beyond U+10FFFF", b"\xf4\x90\x80\x80"), ("five bytes", b"\xf8\x88\x80\x80\x80"), ("lone continuation", b"\x80"), ("cut character", b"\xc3"),
    ("cut four-byte character", b"\xf0\x9f\x98"), ("0xFF", b"\xff"), ("Latin-1", b"caf\xe9 "),
]


def a4_invalid_utf8(t):
    places = {
        "text": b"<message to='victim@%s'><body>x%sy</body></message>", "an attribute": b"<message to='victim@%s' id='x%sy'><body>z</body></message>",
        "a name": b"<message to='victim@%s'><x%sy xmlns='u'/></message>", "a JID": b"<message to='victim@%s/r%sr'><body>z</body></message>",
    }
    for what, bad in BAD_UTF8:
        for place, frame in places.items():
            for slowly in (False, True):
                m = t.mallory()
                doc = frame % (t.domain.encode(), bad)
                if slowly:
                    for i in range(len(doc)):
                        m.send(doc[i : i + 1])
                else:
                    m.send(doc)
                t.refused(f"{what} in {place}{', byte by byte' if slowly else ''}", m, "not-well-formed", "invalid-xml", "unsupported-encoding")
                m.drop()
        t.check(f"{what}: nothing is forwarded", not t.arrived())
    # The other side of the boundary: good characters cut at every place.
    m = t.mallory()
    doc = f"<message to='victim@{t.domain}' type='chat'><body>é € 😀 \u07ff \u0800 \uffdf \U0010ffff</body></message>".encode()
    for i in range(len(doc)):
        m.send(doc[i : i + 1])
    m.ping()
    t.check("whole characters, byte by byte, arrive", len(t.arrived()) == 1)


def a4_other_encodings(t):
    header = f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' to='{t.domain}' version='1.0'>"
    for encoding in ("UTF-16", "ISO-8859-1", "US-ASCII", "utf-7", "nonsense"):
        c = t.raw()
        c.send(f"<?xml version='1.0' encoding='{encoding}'?>{header}")
        t.refused(f"encoding {encoding}", c, "unsupported-encoding")
    for codec in ("utf-16", "utf-16-le", "utf-32"):
        c = t.raw()
        c.send(f"<?xml version='1.0'?>{header}".encode(codec))
        t.refused(f"bytes in {codec}", c, "unsupported-encoding", "not-well-formed", "bad-format", "invalid-xml")
    for declaration in ("", "<?xml version='1.0'?>", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "<?xml version='1.0' encoding='utf-8'?>\n",
                        "<?xml version='1.0' encoding='UTF-8' standalone='yes'?>", "\ufeff"):
        c = t.raw()
        c.send(declaration + header)
        try:
            c.features_()
            t.check(f"{declaration!r} is fine", True)
        except (Closed, Timeout) as e:
            t.check(f"{declaration!r} is fine", False, str(e))
    # Space before the declaration may be the end of the last stream's: some clients end each element with a newline.
    for declaration in ("<?xml version='1.1'?>", "<?xml encoding='UTF-8'?>", "<?xml version='1.0'?><?xml version='1.0'?>",
                        "<?xml version='1.0' standalone='maybe'?>"):
        c = t.raw()
        c.send(declaration + header)
        t.refused(f"{declaration!r}", c, "not-well-formed", "restricted-xml", "unsupported-version", "invalid-xml", "bad-format", "unsupported-encoding")


FORBIDDEN = [
    ("a comment", "<!-- x -->"), ("a processing instruction", "<?php x ?>"), ("a DTD", "<!DOCTYPE x [<!ENTITY e 'boo'>]>"),
    ("an external DTD", "<!DOCTYPE x SYSTEM 'file:///etc/passwd'>"), ("an entity declaration", "<!ENTITY e 'x'>"), ("an XML declaration", "<?xml version='1.0'?>"),
]
RESTRICTED = ("restricted-xml", "not-well-formed", "bad-format", "invalid-xml")


def a5_forbidden_xml(t):
    laughs = "<!DOCTYPE x [<!ENTITY a 'ha'>" + "".join(f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 10}'>" for i in range(9)) + "]>"
    header = f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' to='{t.domain}' version='1.0'>"
    for what, doc in FORBIDDEN + [("a billion laughs", laughs)]:
        c = t.raw()
        c.send(doc + header if "XML decl" not in what else doc + doc + header)
        t.refused(f"{what} before the header", c, *RESTRICTED)
        c = t.opened()
        c.send(doc)
        t.refused(f"{what} before login", c, *RESTRICTED)
        c = t.opened()
        c.send(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{doc}</auth>")
        t.refused(f"{what} in a nonza", c, *RESTRICTED)
        c = t.opened("starttls")
        c.send(doc)
        t.refused(f"{what} under TLS", c, *RESTRICTED)
        m = t.mallory()
        m.send(doc)
        t.refused(f"{what} between stanzas", m, *RESTRICTED)
        m = t.mallory()
        m.send(f"<message to='victim@{t.domain}'><body>a{doc}b</body></message>")
        t.refused(f"{what} in a stanza", m, *RESTRICTED)
    # What is well-formed but forbidden is named as such.
    for what, doc in FORBIDDEN[:4]:
        m = t.mallory()
        m.send(doc)
        t.refused(f"{what} is restricted-xml", m, "restricted-xml")
    for entity in ("&nbsp;", "&e;", "&xxe;"):
        m = t.mallory()
        m.send(f"<message to='victim@{t.domain}'><body>{entity}</body></message>")
        t.refused(f"entity {entity}", m, "restricted-xml", "not-well-formed")
    m = t.mallory()
    m.send("text between stanzas")
    t.refused("text between stanzas", m, "bad-format", "not-well-formed", "invalid-xml", "restricted-xml", "unsupported-stanza-type")
    t.check("nothing is forwarded", not t.arrived())


def a7_outer_context(t):
    """Prefixes, default namespace and language of the sender's header hold where the stanza goes."""
    m = t.keep(t.hub.client())
    m.secure().authenticate("mallory", __import__("hub").PASSWORD)
    m.open(attrs=" xmlns:e='urn:example:outer' xmlns:unused='urn:u'")
    m.bind("ctx")
    for what, doc in (
        ("prefix of the header", "<e:y a='1'><e:z/></e:y>"), ("prefix on an attribute", "<x xmlns='u' e:a='1'/>"),
        ("prefix declared anew", "<e:y xmlns:e='urn:example:inner'/>"), ("stream's own prefix", "<stream:y/>"),
    ):
        m.send(f"<message to='victim@{t.domain}' type='chat'><body>{what}</body>{doc}</message>")
        m.send(f"<message to='absent@{t.domain}' type='chat'><body>{what}</body>{doc}</message>")
        try:
            m.ping()
        except Closed as e:
            return t.check(what, False, str(e))
        want = ET.fromstring(f"<message xmlns='{CLIENT}' xmlns:stream='{STREAM}' xmlns:e='urn:example:outer'>{doc}</message>")[0]
        got = t.arrived()
        t.check(f"{what}: live", len(got) == 1 and any(tree(c) == tree(want) for c in got[0]), str([show(e) for e in got]))
        later = t.keep(t.hub.login("absent", online=True))
        kept = [e for e in later.queue if name(e) == "message"]
        t.check(f"{what}: kept for later", len(kept) == 1 and any(tree(c) == tree(want) for c in kept[0]), str([show(e) for e in kept]))
        later.close()
    # A carbon wraps the same bytes.
    copy = t.keep(t.hub.login("victim", "copy", online=True))
    copy.iq("set", "<enable xmlns='urn:xmpp:carbons:2'/>")
    t.arrived()
    m.send(f"<message to='{t.victim.jid}' type='chat'><body>carbon</body><e:y/></message>")
    got = copy.expect(lambda e: name(e) == "message", 5)
    inner = got.find(f".//{{urn:xmpp:forward:0}}forwarded/{{{CLIENT}}}message")
    t.check("in a carbon", inner is not None and child(inner, "{urn:example:outer}y") is not None, show(got))
    copy.close()
    t.arrived()
    # The language of the stream (RFC 6120 §4.7.4).
    german = t.keep(t.hub.client())
    german.secure().authenticate("mallory", __import__("hub").PASSWORD)
    german.new_parser()
    german.send(f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' to='{t.domain}' version='1.0' xml:lang='de'>")
    german.features_()
    german.bind("de")
    german.message(f"victim@{t.domain}", "hallo")
    got = t.victim.expect_body("hallo", 5)
    t.check("the stream's language goes along", got.get("{http://www.w3.org/XML/1998/namespace}lang") == "de", show(got))
    german.send(f"<message xml:lang='fr' to='victim@{t.domain}'><body>bonjour</body></message>")
    got = t.victim.expect_body("bonjour", 5)
    t.check("the stanza's own wins", got.get("{http://www.w3.org/XML/1998/namespace}lang") == "fr", show(got))


def a7_content_namespace_prefixed(t):
    """A stream may declare its content namespace with a prefix: the stanzas are stanzas all the same, or it is refused."""
    c = t.raw()
    c.send(f"<stream:stream xmlns:c='{CLIENT}' xmlns:stream='{STREAM}' to='{t.domain}' version='1.0'>")
    t.refused("no default namespace on the header", c, "invalid-namespace", "bad-namespace-prefix", "bad-format")
    c = t.raw()
    c.send(f"<s:stream xmlns='{CLIENT}' xmlns:s='{STREAM}' to='{t.domain}' version='1.0'>")
    try:
        c.features_()
        t.check("another prefix for the stream is accepted or refused by name", True)
    except Closed as e:
        t.check("another prefix for the stream is accepted or refused by name", e.condition in ("bad-namespace-prefix", "invalid-namespace"), str(e))


def a8_echo(t):
    """Whatever is copied into a reply is escaped: each reply is one element with that very id."""
    m = t.mallory("echo")
    evil = "x'/>\"<message from='admin@hub.test' to='victim@hub.test'><body>&\n\t\r]]>"
    quoted = evil.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&apos;").replace("\n", "&#10;").replace("\t", "&#9;").replace("\r", "&#13;")
    asks = {
        "ping": f"<iq type='get' id='{quoted}'><ping xmlns='urn:xmpp:ping'/></iq>",
        "ping of the domain": f"<iq type='get' to='{t.domain}' id='{quoted}'><ping xmlns='urn:xmpp:ping'/></iq>",
        "unknown iq": f"<iq type='get' to='{t.domain}' id='{quoted}'><x xmlns='urn:nope'/></iq>",
        "disco with a node": f"<iq type='get' to='{t.domain}' id='{quoted}'><query xmlns='http://jabber.org/protocol/disco#info' node='{quoted}'/></iq>",
        "disco items with a node": f"<iq type='get' to='{t.domain}' id='{quoted}'><query xmlns='http://jabber.org/protocol/disco#items' node='{quoted}'/></iq>",
        "iq to nobody": f"<iq type='get' to='nobody@{t.domain}' id='{quoted}'><x xmlns='urn:nope'/></iq>",
        "iq to a bad address": f"<iq type='get' to='{quoted}' id='{quoted}'><x xmlns='urn:nope'/></iq>",
        "message to nobody": f"<message to='nobody@{t.domain}/{'r'}' type='chat' id='{quoted}'><body>x</body></message>",
        "message to a bad address": f"<message to='{quoted}@{t.domain}' id='{quoted}'><body>x</body></message>",
        "iq of a wrong type": f"<iq type='{quoted}' to='{t.domain}' id='{quoted}'/>",
        "a roster item": f"<iq type='set' id='{quoted}'><query xmlns='jabber:iq:roster'><item jid='{quoted}@x.test' name='{quoted}'/></query></iq>",
        "last activity": f"<iq type='get' to='{t.domain}' id='{quoted}'><query xmlns='jabber:iq:last'/></iq>",
        "a vCard": f"<iq type='get' to='nobody@{t.domain}' id='{quoted}'><vCard xmlns='vcard-temp'/></iq>",
        "registration": f"<iq type='set' id='{quoted}'><query xmlns='jabber:iq:register'><username>{quoted}</username><password>x</password></query></iq>",
    }
    for what, stanza in asks.items():
        m.queue.clear()
        m.send(stanza)
        try:
            m.ping()
        except (Closed, Timeout) as e:
            t.check(what, False, str(e))
            m = t.mallory("echo")
            continue
        replies = [e for e in m.queue if e.get("type") in ("result", "error")]
        t.check(what, len(replies) == 1 and replies[0].get("id") == evil, str([show(e) for e in m.queue]))
    # What was stored comes back whole.
    m.queue.clear()
    m.iq("set", f"<query xmlns='jabber:iq:roster'><item jid='safe@x.test' name='{quoted}'><group>{quoted}</group></item></query>")
    item = m.roster().get("safe@x.test")
    t.check("a name in the roster", item is not None and item.get("name") == evil and item[0].text == evil.replace("\r", "\r"), show(item))
    m.iq("set", "<query xmlns='jabber:iq:roster'><item jid='safe@x.test' subscription='remove'/></query>")
    t.check("nothing reaches the victim", not t.arrived())


def a8_header_echo(t):
    """The header is answered before anybody has proven anything."""
    for attrs in (" id='&apos;/&gt;&lt;x/&gt;'", " from='a&apos;b&lt;c&gt;@d'"):
        c = t.raw()
        try:
            c.open(attrs=attrs)
            t.check(f"header with{attrs}", True)
        except Closed as e:
            t.check(f"header with{attrs}", e.condition is not None, str(e))
    c = t.raw()
    c.send(f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' to='&apos;&gt;&lt;x&amp;y' version='1.0'>")
    t.refused("a host that is markup", c, "host-unknown", "improper-addressing")
    c = t.raw()
    c.send(f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' to='{t.domain}' version='1.0' xml:lang='&apos;&gt;&lt;x/&gt;'>")
    try:
        c.features_()
    except (Closed, Timeout) as e:
        t.check("a language that is markup", getattr(e, "condition", None) is not None, str(e))


def b1_the_last_flight_of_the_handshake(t):
    """What comes in one piece with it is inside TLS and counts, however much it asks for."""
    t.hub.user("early")
    ctx = ssl._create_unverified_context()
    ctx.set_alpn_protocols(["xmpp-client"])
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ctx.wrap_bio(inward, outward, server_hostname=t.hub.domain)
    s = socket.create_connection(t.hub.where("c2s-tls"), 5)
    t.keep(closing(s))
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            s.sendall(outward.read())
            inward.write(s.recv(65536))
    tls.write((f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' to='{t.hub.domain}' version='1.0'>"
               f"<auth xmlns='{SASL}' mechanism='PLAIN'>{b64(chr(0) + 'early' + chr(0) + PASSWORD)}</auth>").encode())
    s.sendall(outward.read())
    said = b""
    while b"<success" not in said:
        try:
            said += tls.read(65536)
        except ssl.SSLWantReadError:
            try:
                more = s.recv(65536)
            except TimeoutError:
                break
            if not more:
                break
            inward.write(more)
    t.check("the login is answered", b"<success" in said, str(said[-300:]))
