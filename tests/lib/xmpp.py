"""A small XMPP client for tests: blocking sockets, and nothing between the test and the bytes.

It logs in anywhere (plain, STARTTLS, direct TLS; SCRAM with and without channel binding, PLAIN,
EXTERNAL), sends whatever it is told to, and hands back every element in order of arrival. What it
reads goes through expat with the separator `}`, as in slixmpp: bytes that such a parser refuses end
this client too, so a stanza that would cut a real client off cuts a bystander here off.
"""

import base64
import hashlib
import hmac
import os
import socket
import ssl
import time
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

STREAM = "http://etherx.jabber.org/streams"
CLIENT = "jabber:client"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams"
STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"
ROSTER = "jabber:iq:roster"
HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}


class Closed(Exception):
    """The stream ended; `condition` is the stream error's name if there was one."""

    def __init__(self, condition=None, why=""):
        super().__init__(f"stream closed: {condition or why or 'without an error'}")
        self.condition = condition


class Refused(Exception):
    """SASL, STARTTLS, binding or an iq was refused; `condition` is the defined condition."""

    def __init__(self, condition, xml=""):
        super().__init__(f"refused: {condition} {xml}")
        self.condition = condition


class Timeout(Exception):
    """Nothing that fits arrived in time."""


def name(el):
    """The local name of an element."""
    return el.tag.rpartition("}")[2]


def ns(el):
    """The namespace of an element."""
    return el.tag[1:].rpartition("}")[0] if el.tag[0] == "{" else ""


def show(el):
    """An element as text, for messages of failure."""
    return ET.tostring(el, encoding="unicode") if el is not None else "nothing"


def child(el, tag):
    """The first child by `{ns}name`, or by local name alone."""
    for c in el:
        if c.tag == tag or ("{" not in tag and name(c) == tag):
            return c
    return None


def condition(el, space=STANZA_ERRORS):
    """The name of the defined condition in a stanza error, stream error or SASL failure."""
    err = child(el, "error") if space == STANZA_ERRORS else el
    for c in err if err is not None else ():
        if ns(c) == space and name(c) != "text":
            return name(c)
    return None


def body(el):
    """The text of a message's body, or None."""
    b = child(el, f"{{{CLIENT}}}body")
    return None if b is None else (b.text or "")


def b64(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def salted(algorithm, password, salt, iterations, _cache={}):
    """PBKDF2, remembered: tests log in to the same account many times."""
    key = (algorithm, password, salt, iterations)
    if key not in _cache:
        _cache[key] = hashlib.pbkdf2_hmac(algorithm, password.encode(), salt, iterations)
    return _cache[key]


class Client:
    """One connection. `where` is (address, port); `tls` is None, "starttls" or "direct"."""

    def __init__(self, where, domain="hub.test", tls=None, ca=None, source=None, timeout=10, cert=None):
        self.where, self.domain, self.tls, self.timeout = where, domain, tls, timeout
        self.ca, self.source, self.cert = ca, source, cert
        self.jid = self.header = None
        self.queue, self.ended, self.condition = [], False, None
        self.sock = socket.create_connection(where, timeout, (source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.new_parser()
        if tls == "direct":
            self.handshake()

    # The bytes.

    def new_parser(self):
        self.parser, self.depth, self.root = ET.XMLPullParser(["start", "end"]), 0, None

    def handshake(self):
        ctx = ssl.create_default_context(cafile=self.ca) if self.ca else ssl._create_unverified_context()
        ctx.check_hostname = bool(self.ca)
        if self.cert:
            ctx.load_cert_chain(*self.cert)
        if self.tls == "direct":
            ctx.set_alpn_protocols(["xmpp-client"])
        self.sock.settimeout(self.timeout)
        self.sock = ctx.wrap_socket(self.sock, server_hostname=self.domain)
        self.new_parser()

    def send(self, text):
        """Text or bytes, as they are. A peer that has gone shows at the next read."""
        try:
            self.sock.settimeout(self.timeout)
            self.sock.sendall(text.encode() if isinstance(text, str) else text)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass
        return self

    def _take(self):
        """Moves what the parser has understood into the queue."""
        if hasattr(self.parser, "flush"):
            self.parser.flush()
        for event, el in self.parser.read_events():
            if event == "start":
                self.depth += 1
                if self.depth == 1:
                    self.root, self.header = el, dict(el.attrib)
            else:
                self.depth -= 1
                if self.depth == 0:
                    self.ended = True
                elif self.depth == 1:
                    self.root.remove(el)
                    self.queue.append(el)
                    if el.tag == f"{{{STREAM}}}error":
                        self.condition = condition(el, STREAM_ERRORS)

    def _read(self, deadline):
        """One read. Raises at the end of the stream or at the deadline."""
        if self.ended:
            raise Closed(self.condition)
        left = deadline - time.monotonic()
        if left <= 0:
            raise Timeout("nothing arrived in time")
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise Timeout("nothing arrived in time") from None
        except (ConnectionError, ssl.SSLError, OSError) as e:
            self.ended = True
            raise Closed(self.condition, repr(e)) from None
        if not data:
            self.ended = True
            raise Closed(self.condition)
        try:
            self.parser.feed(data)
            self._take()
        except ET.ParseError as e:
            self.ended = True
            raise Closed(self.condition, f"what arrived is not well-formed: {e}: {data[-300:]!r}") from None

    def next(self, timeout=None):
        """The next element of the stream."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self.queue:
            self._read(deadline)
        return self.queue.pop(0)

    def expect(self, wanted, timeout=None):
        """The first element for which `wanted` holds; those before it are dropped."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        seen = []
        while True:
            try:
                el = self.next(max(0.001, deadline - time.monotonic()))
            except (Timeout, Closed) as e:
                e.args = (f"{e.args[0]}; seen before: {[show(x)[:300] for x in seen[-5:]]}",)
                raise
            if wanted(el):
                return el
            seen.append(el)

    def end(self, timeout=None):
        """Waits for the end of the stream; the stream error's condition, or None."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            try:
                self._read(deadline)
            except Closed as e:
                return e.condition

    def eof(self, timeout=None):
        """Waits until the other side has closed the connection too."""
        self.sock.settimeout(self.timeout if timeout is None else timeout)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            raise Timeout("the connection stays open") from None
        except OSError:
            pass
        return True

    def quiet(self, seconds=0.3):
        """Everything that arrives within a short while."""
        deadline, got = time.monotonic() + seconds, []
        while True:
            try:
                got.append(self.next(max(0.001, deadline - time.monotonic())))
            except (Timeout, Closed):
                return got

    def drop(self):
        """Closes the socket without a word."""
        self.sock.close()

    def close(self):
        """Ends the stream as RFC 6120 §4.4 has it."""
        try:
            if not self.ended:
                self.send("</stream:stream>")
                self.end(5)
        except (Timeout, OSError):
            pass
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # The stream.

    def open(self, to=None, attrs=""):
        """A stream header; answers the features."""
        self.new_parser()
        self.header, self.ended = None, False
        self.send(
            f"<?xml version='1.0'?><stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' "
            f"to={quoteattr(to or self.domain)} version='1.0' xml:lang='en'{attrs}>"
        )
        return self.features_()

    def features_(self):
        el = self.next()
        if el.tag == f"{{{STREAM}}}error":
            raise Closed(condition(el, STREAM_ERRORS))
        assert el.tag == f"{{{STREAM}}}features", show(el)
        self.features = el
        return el

    def mechanisms(self):
        el = child(self.features, f"{{{SASL}}}mechanisms")
        return [] if el is None else [m.text for m in el]

    def secure(self):
        """Opens the stream and, when asked to, goes through STARTTLS."""
        self.open()
        if self.tls == "starttls":
            self.send(f"<starttls xmlns='{TLS}'/>")
            el = self.next()
            if el.tag != f"{{{TLS}}}proceed":
                raise Refused("starttls", show(el))
            self.handshake()
            self.open()
        return self

    def auth(self, mechanism, first=None):
        """`<auth/>`; `first` is what goes into it, not yet encoded."""
        text = "" if first is None else ("=" if first in ("", b"") else b64(first))
        return self.send(f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{text}</auth>")

    def outcome(self):
        """The next SASL element: its decoded text, or `Refused`."""
        el = self.next()
        if el.tag == f"{{{STREAM}}}error":
            raise Closed(condition(el, STREAM_ERRORS))
        if el.tag == f"{{{SASL}}}failure":
            raise Refused(condition(el, SASL), show(el))
        assert ns(el) == SASL, show(el)
        return name(el), base64.b64decode(el.text or "").decode()

    def scram(self, user, password, mechanism="SCRAM-SHA-256", authzid="", gs2=None, binding=None, tamper=None):
        """RFC 5802 with every field within the reach of a test. `tamper` edits the final message."""
        base = mechanism.removesuffix("-PLUS")
        algorithm = HASHES[base]
        if gs2 is None:
            gs2 = "p=tls-server-end-point" if mechanism != base else "n"
        if gs2 == "p=tls-server-end-point" and binding is None:
            binding = hashlib.sha256(self.sock.getpeercert(True)).digest()
        gs2 = f"{gs2},{'a=' + authzid if authzid else ''},"
        nonce = b64(os.urandom(18))
        first = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
        self.auth(mechanism, gs2 + first)
        kind, challenge = self.outcome()
        assert kind == "challenge", kind
        fields = dict(p.split("=", 1) for p in challenge.split(","))
        self.challenge = fields
        assert fields["r"].startswith(nonce) and len(fields["r"]) > len(nonce), challenge
        key = salted(algorithm, password, base64.b64decode(fields["s"]), int(fields["i"]))
        mac = lambda k, m: hmac.new(k, m.encode(), algorithm).digest()
        client_key = mac(key, "Client Key")
        final = f"c={b64(gs2.encode() + (binding or b''))},r={fields['r']}"
        message = f"{first},{challenge},{final}"
        signature = mac(hashlib.new(algorithm, client_key).digest(), message)
        final += ",p=" + b64(bytes(x ^ y for x, y in zip(client_key, signature)))
        self.send(f"<response xmlns='{SASL}'>{b64(tamper(final) if tamper else final)}</response>")
        kind, verdict = self.outcome()
        assert verdict == "v=" + b64(mac(mac(key, "Server Key"), message)), "the server does not know the password"
        if kind == "challenge":
            self.send(f"<response xmlns='{SASL}'/>")
            kind, _ = self.outcome()
        assert kind == "success", kind
        return self

    def plain(self, user, password, authzid=""):
        self.auth("PLAIN", f"{authzid}\0{user}\0{password}")
        assert self.outcome()[0] == "success"
        return self

    def authenticate(self, user, password, mechanism=None):
        """The best mechanism offered, or the one named."""
        if mechanism is None:
            offered = self.mechanisms()
            mechanism = next(m for m in ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN") if m in offered)
        if mechanism == "PLAIN":
            return self.plain(user, password)
        return self.scram(user, password, mechanism)

    def bind(self, resource=None):
        r = f"<resource>{escape(resource)}</resource>" if resource is not None else ""
        el = self.iq("set", f"<bind xmlns='{BIND}'>{r}</bind>")
        self.jid = child(child(el, f"{{{BIND}}}bind"), "jid").text
        return self

    def login(self, user, password, resource=None, mechanism=None):
        """From the first byte to a bound resource."""
        self.secure().authenticate(user, password, mechanism)
        self.open()
        return self.bind(resource)

    # Stanzas.

    def iq(self, kind, payload, to=None, id=None, timeout=None):
        """Sends an iq and waits for its answer; an error answer raises `Refused`."""
        id = id or "q" + os.urandom(6).hex()
        at = f" to={quoteattr(to)}" if to is not None else ""
        self.send(f"<iq type='{kind}' id={quoteattr(id)}{at}>{payload}</iq>")
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        kept = []
        while True:
            el = self.next(max(0.001, deadline - time.monotonic()))
            if el.tag == f"{{{STREAM}}}error":
                raise Closed(condition(el, STREAM_ERRORS))
            if el.tag == f"{{{CLIENT}}}iq" and el.get("id") == id and el.get("type") in ("result", "error"):
                self.queue[:0] = kept
                if el.get("type") == "error":
                    raise Refused(condition(el), show(el))
                return el
            kept.append(el)

    def ping(self, to=None):
        """An answered ping: everything sent before it has been handled."""
        try:
            return self.iq("get", "<ping xmlns='urn:xmpp:ping'/>", to)
        except Refused as e:
            return e

    def roster(self):
        """{jid: item} as the server has it."""
        q = child(self.iq("get", f"<query xmlns='{ROSTER}'/>"), f"{{{ROSTER}}}query")
        return {i.get("jid"): i for i in q} if q is not None else {}

    def online(self, extra=""):
        """Initial presence, waited for: our own presence comes back."""
        self.send(f"<presence>{extra}</presence>")
        self.ping()
        return self

    def message(self, to, text, kind="chat", extra="", id=None):
        at = f" id={quoteattr(id)}" if id else ""
        return self.send(f"<message to={quoteattr(to)} type='{kind}'{at}><body>{escape(text)}</body>{extra}</message>")

    def expect_body(self, text, timeout=None):
        return self.expect(lambda el: name(el) == "message" and body(el) == text, timeout)
