"""Both ends of a stream between servers by hand, for tests that must be able to lie: what is proven, said and read is up to
the test."""

import os
import socket
import ssl
import threading
import time
from xml.sax.saxutils import quoteattr

from federation import place
from hub import free_port
from servers import self_signed
from xmpp import SASL, STANZA_ERRORS, STREAM, STREAM_ERRORS, TLS, Client, Closed, Timeout, b64, child, condition, name, show

SERVER, DIALBACK, BIDI = "jabber:server", "jabber:server:dialback", "urn:xmpp:bidi"
LIMITS = "urn:xmpp:stream-limits:0"


class Link(Client):
    """An initiating server: `me` is who it says it is, `domain` whom it wants."""

    def __init__(self, where, me, domain="hub.test", cert=None, tls="starttls", timeout=10, source=None):
        self.me = me
        super().__init__(where, domain, tls, cert=cert, timeout=timeout, source=source)

    def handshake(self):
        ctx = ssl._create_unverified_context()
        if self.cert:
            ctx.load_cert_chain(*self.cert)
        if self.tls == "direct":
            ctx.set_alpn_protocols(["xmpp-server"])
        self.sock.settimeout(self.timeout)
        self.sock = ctx.wrap_socket(self.sock, server_hostname=self.domain)
        self.new_parser()

    def open(self, to=None, attrs="", me=None):
        self.new_parser()
        self.header, self.ended = None, False
        me = self.me if me is None else me
        at = f" from={quoteattr(me)}" if me else ""
        self.send(f"<?xml version='1.0'?><stream:stream xmlns='{SERVER}' xmlns:db='{DIALBACK}' xmlns:stream='{STREAM}' "
                  f"to={quoteattr(to or self.domain)}{at} version='1.0'{attrs}>")
        return self.features_()

    def external(self, authzid=""):
        """SASL EXTERNAL (XEP-0178); raises if refused."""
        self.auth("EXTERNAL", authzid)
        assert self.outcome()[0] == "success"
        self.open()
        return self

    def result(self, key, me=None, to=None):
        """Says `db:result` and waits for the verdict."""
        me, to = me or self.me, to or self.domain
        self.send(f"<db:result from={quoteattr(me)} to={quoteattr(to)}>{key}</db:result>")
        el = self.expect(lambda e: e.tag in (f"{{{DIALBACK}}}result", f"{{{STREAM}}}error"))
        if el.tag == f"{{{STREAM}}}error":
            raise Closed(condition(el, STREAM_ERRORS))
        return el.get("type")

    @property
    def offers_dialback(self):
        return any("dialback" in f.tag for f in self.features) or "EXTERNAL" not in self.mechanisms()


class Accepted(Link):
    """The receiving end of one connection, driven by hand or by `Neighbour`."""

    def __init__(self, sock, me, cert, timeout=10):
        self.sock, self.me, self.domain, self.cert, self.timeout = sock, me, None, cert, timeout
        self.jid = self.header = self.condition = None
        self.queue, self.ended, self.tls, self.secured = [], False, "starttls", False
        self.new_parser()

    def greet(self, features="", id=None):
        """Reads a stream header and answers it, with these features."""
        deadline = time.monotonic() + self.timeout
        while self.header is None:
            self._read(deadline)
        self.domain, self.id = self.header.get("from"), id or os.urandom(8).hex()
        at = f" to={quoteattr(self.domain)}" if self.domain else ""
        self.send(f"<?xml version='1.0'?><stream:stream xmlns='{SERVER}' xmlns:db='{DIALBACK}' xmlns:stream='{STREAM}' from={quoteattr(self.me)}{at} "
                  f"id='{self.id}' version='1.0'><stream:features>{features}</stream:features>")
        return self

    def secure(self):
        """STARTTLS, as the receiving side; the next header is not yet read."""
        self.greet(f"<starttls xmlns='{TLS}'><required/></starttls>")
        el = self.next()
        assert el.tag == f"{{{TLS}}}starttls", show(el)
        self.send(f"<proceed xmlns='{TLS}'/>")
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(*self.cert)
        self.sock.settimeout(self.timeout)
        self.sock = ctx.wrap_socket(self.sock, server_side=True)
        self.new_parser()
        self.header, self.secured = None, True
        return self


class Neighbour:
    """A small server of one domain, honest unless told otherwise: it speaks dialback with everybody.

    `heard` is all it has been sent on streams that others have opened; `links` are those streams."""

    def __init__(self, net, domain, cert=None, features="", answer="valid", greedy=None):
        self.net, self.domain, self.ip, self.features, self.answer = net, domain, place(), features, answer
        self.keys, self.heard, self.links, self.count, self.lock = set(), [], [], 0, threading.Lock()
        # What to do with a stream once it is proven, instead of reading it.
        self.greedy = greedy
        base = net.dir / domain
        self.cert = cert or (f"{base}.pem", f"{base}.key")
        if cert is None:
            self_signed(domain, *self.cert)
        self.listener = socket.create_server((self.ip, free_port(self.ip, 5269)), backlog=100)
        net.domain(domain, self.ip, self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for link in self.links:
            link.drop()

    __exit__ = lambda self, *_: self.close()

    def key(self):
        """A dialback key that it will stand by."""
        key = os.urandom(16).hex()
        self.keys.add(key)
        return key

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.count += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        link = Accepted(sock, self.domain, self.cert, timeout=60)
        self.links.append(link)
        try:
            link.secure().greet(f"<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>{self.features}")
            while True:
                el = link.next(3600)
                if el.tag == f"{{{DIALBACK}}}verify":
                    kind = "valid" if (el.text or "") in self.keys else "invalid"
                    link.send(f"<db:verify from={quoteattr(el.get('to'))} to={quoteattr(el.get('from'))} id={quoteattr(el.get('id'))} type='{kind}'/>")
                elif el.tag == f"{{{DIALBACK}}}result":
                    with self.lock:
                        self.heard.append(el)
                    link.key, link.peer = el.text, el.get("from")
                    if self.answer:
                        # It does not ask back: it is not the one to be convinced.
                        link.send(f"<db:result from={quoteattr(el.get('to'))} to={quoteattr(el.get('from'))} type='{self.answer}'/>")
                    if self.greedy:
                        self.greedy(link)
                else:
                    with self.lock:
                        self.heard.append(el)
        except (Closed, Timeout, OSError, AssertionError, ssl.SSLError, ValueError):
            link.drop()

    # As the one who speaks.

    def link(self, hub, me=None, secure=True, cert=True, **kw):
        """A stream to a hub: TLS is done, nothing is proven."""
        link = Link(hub.where("s2s"), self.domain if me is None else me, hub.domain, cert=self.cert if cert is True else cert, **kw)
        return link.secure() if secure else link

    def proven(self, hub, **kw):
        """A stream on which this domain is proven, by dialback."""
        link = self.link(hub, **kw)
        verdict = link.result(self.key(), me=self.domain)
        assert verdict == "valid", f"the hub says {verdict}"
        return link

    def stanzas(self):
        with self.lock:
            return [e for e in self.heard if e.tag.startswith(f"{{{SERVER}}}")]
