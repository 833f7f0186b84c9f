"""Domains that find each other: a small DNS server (dnsmasq), an authority for certificates, and Prosody, ejabberd and hubs of
ours on loopback addresses of their own.

`with Net() as net:` and then `net.hub()`, `net.peer("prosody")` … start them; the end of the block stops them. Nothing leaves
the machine: the DNS server knows the names that it was told and says of all others that they do not exist.
"""

import base64
import hashlib
import itertools
import json
import os
import pwd
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
from pathlib import Path
from xml.sax.saxutils import escape

import hub as hubs
import xmpp
from hub import PASSWORD, Hub, wait_for
from servers import Server, accepts, self_signed
from xmpp import Refused

REGISTER = "jabber:iq:register"
TRUST = ("pinned", "ca", "dialback")

PROSODY = """
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
interfaces = {{ "{ip}" }}
c2s_ports = {{ 5222 }}
c2s_direct_tls_ports = {{ 5223 }}
s2s_ports = {{ {s2s_port} }}
s2s_direct_tls_ports = {{ {direct_port} }}
component_interfaces = {{ "{ip}" }}
component_ports = {{ 5347 }}
modules_enabled = {{ "roster"; "saslauth"; "tls"; "disco"; "carbons"; "offline"; "private"; "vcard_legacy"; "version";
  "time"; "ping"; "register"; "register_ibr"; "blocklist"; "smacks"; "s2s_bidi"; {dialback} }}
allow_registration = true
registration_throttle_max = nil
c2s_require_encryption = {encrypted}
allow_unencrypted_plain_auth = true
s2s_require_encryption = true
s2s_secure_auth = {secure}
smacks_enabled_s2s = true
bounce_blocked_messages = true
authentication = "internal_hashed"
log = {{ {loglevel} = "{dir}/log" }}
ssl = {{ key = "{dir}/key.pem"; certificate = "{dir}/cert.pem"; cafile = "{ca}"; protocol = "tlsv1_2+" }}
c2s_direct_tls_ssl = {{ key = "{dir}/key.pem"; certificate = "{dir}/cert.pem" }}
s2s_direct_tls_ssl = {{ key = "{dir}/key.pem"; certificate = "{dir}/cert.pem"; cafile = "{ca}" }}
-- libunbound says by itself that .test does not exist (RFC 6761), and asks nobody at a loopback address, unless told to.
unbound = {{ resolvconf = false; hoststxt = false; forward = "{dns_ip}@{dns_port}"; options = {{
  ["local-zone:"] = "test. transparent"; ["do-not-query-localhost:"] = "no" }} }}
VirtualHost "{domain}"
Component "conference.{domain}" "muc"
{more}
"""

EJABBERD = """
hosts: ["{domain}"]
loglevel: {loglevel}
certfiles: ["{dir}/both.pem"]
ca_file: "{ca}"
listen:
  - {{port: 5222, ip: "{ip}", module: ejabberd_c2s, starttls: true, starttls_required: {encrypted}, backlog: 100, access: c2s}}
  - {{port: 5223, ip: "{ip}", module: ejabberd_c2s, tls: true, backlog: 100, access: c2s}}
  - {{port: {s2s_port}, ip: "{ip}", module: ejabberd_s2s_in, backlog: 100, max_stanza_size: 524288}}
{direct}
s2s_use_starttls: required
s2s_max_retry_delay: 1
# A link over which nothing goes is closed soon, so that this is seen, too.
s2s_timeout: 6
{s2s_cafile}
auth_method: internal
auth_password_format: scram
acl: {{local: {{user_regexp: ""}}}}
access_rules:
  c2s: {{allow: all}}
  register: {{allow: all}}
api_permissions:
  console: {{from: [ejabberd_ctl], who: all, what: "*"}}
registration_timeout: infinity
shaper_rules: {{max_user_sessions: 50, max_user_offline_messages: 500}}
modules:
  {dialback}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_disco: {{}}
  mod_last: {{}}
  mod_muc: {{}}
  mod_offline: {{access_max_user_messages: max_user_offline_messages}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_register: {{ip_access: all, access: register}}
  mod_roster: {{versioning: true}}
  mod_stream_mgmt: {{}}
  mod_time: {{}}
  mod_vcard: {{}}
  mod_version: {{show_os: false}}
"""

_places = itertools.count(2)


def place():
    """A loopback address of this run's own, on which every port is free; not among those of `hub.fresh_address`."""
    pid = os.getpid()
    return f"127.{192 + (pid >> 8) % 60}.{pid & 255}.{next(_places)}"


def ascii(domain):
    """A domain as DNS and certificates have it: A-labels."""
    return domain.encode("idna").decode()


class Authority:
    """A private authority, as a company or a club has one."""

    def __init__(self, where, label="authority"):
        self.cert, self.key = where / f"{label}.pem", where / f"{label}.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                        "-subj", f"/CN=the {label} of a test", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
                        "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self.key, "-out", self.cert], check=True, capture_output=True)

    def issue(self, domain, cert, key, names=None, usage="serverAuth,clientAuth", ago=0):
        """For `names` (by default the domain, and that of its rooms), for 30 days. Public authorities give `serverAuth` alone now; old servers want both."""
        san = ",".join(f"DNS:{n if n.isascii() else ascii(n)}" for n in names or [domain, f"conference.{domain}"])
        request, ext = Path(f"{cert}.csr"), Path(f"{cert}.ext")
        subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={domain}",
                        "-keyout", key, "-out", request], check=True, capture_output=True)
        ext.write_text(f"subjectAltName={san}\nextendedKeyUsage={usage}\nbasicConstraints=critical,CA:FALSE\n")
        then = ["faketime", f"{ago} days ago"] if ago else []
        subprocess.run([*then, "openssl", "x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial",
                        "-days", "30", "-extfile", ext, "-out", cert], check=True, capture_output=True)
        request.unlink()
        ext.unlink()


class Dns:
    """dnsmasq, which knows only what it is told."""

    def __init__(self, where, literal=False):
        """`literal`: the targets of SRV records are addresses."""
        self.file, self.ip, self.lines, self.proc, self.literal = where / f"dns{literal:d}.conf", place(), [], None, literal
        # No privilege is needed for it.
        self.port = hubs.free_port(self.ip, 5353)

    @property
    def address(self):
        return f"{self.ip}:{self.port}"

    def domain(self, name, ip, starttls=5269, direct=None, srv=True):
        """Where the servers of a domain are. Without `srv` only the address is told."""
        name = ascii(name)
        target = ip if self.literal else name
        self.lines.append(f"host-record={name},{ip}")
        if srv and starttls:
            self.lines.append(f"srv-host=_xmpp-server._tcp.{name},{target},{starttls},10,5")
        if srv and direct:
            self.lines.append(f"srv-host=_xmpps-server._tcp.{name},{target},{direct},5,5")

    def raw(self, *lines):
        """Lines of dnsmasq's own."""
        self.lines += lines

    def start(self):
        self.stop()
        user = pwd.getpwuid(os.getuid()).pw_name
        self.file.write_text("\n".join([f"port={self.port}", f"listen-address={self.ip}", "bind-interfaces", "no-resolv", "no-hosts",
                                        f"user={user}", f"pid-file={self.file}.pid", "local=/#/", "log-queries",
                                        f"log-facility={self.file}.log", *self.lines]) + "\n")
        self.proc = subprocess.Popen([tool("dnsmasq"), "--keep-in-foreground", f"--conf-file={self.file}"], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

        def listens():
            if self.proc.poll() is not None:
                raise AssertionError(f"dnsmasq ended: {self.proc.stderr.read().decode()}")
            return accepts(self.ip, self.port)

        wait_for("dnsmasq listens", listens, 10)
        return self

    def stop(self):
        if self.proc:
            self.proc.terminate()
            self.proc.communicate(timeout=10)
            self.proc = None

    def asked(self):
        """Its log."""
        file = Path(f"{self.file}.log")
        return file.read_text(errors="replace") if file.exists() else ""


def tool(name):
    """A program that Debian keeps in /usr/sbin."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or name


def pin_of_cert(pem):
    """The pin of a certificate's key: SHA-256 of its SubjectPublicKeyInfo (RFC 7469 §2.4)."""
    key = subprocess.run(["openssl", "x509", "-noout", "-pubkey"], input=pem, capture_output=True, check=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=key, capture_output=True, check=True).stdout
    return "sha256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def pin_of(ip, port, name):
    ctx = ssl._create_unverified_context()
    with socket.create_connection((ip, port), 5) as s, ctx.wrap_socket(s, server_hostname=name) as t:
        return pin_of_cert(ssl.DER_cert_to_PEM_cert(t.getpeercert(True)).encode())


class Peer(Server):
    """Prosody or ejabberd as the server of a domain."""

    def __init__(self, net, kind, trust="dialback", direct=False, domain=None, loglevel="info", more="", srv=True, starttls=True,
                 encrypted=True, certify=None):
        # "either": it has a certificate of the authority and does not insist on the other's.
        ca, ip, domain = trust == "ca", place(), domain or f"{kind}.test"
        self.s2s = hubs.free_port(ip, 5269), hubs.free_port(ip, 5270)
        for name in (domain, f"conference.{domain}"):
            net.domain(name, ip, starttls and self.s2s[0], direct and self.s2s[1], srv)
        words = {"s2s_port": self.s2s[0], "ca": net.authority.cert, "dns_ip": net.dns.ip, "dns_port": net.dns.port, "more": more, "loglevel": loglevel,
                 "encrypted": str(encrypted).lower(), "inetrc": net.inetrc, "domain": domain, "ip": ip,
                 "certify": certify or (self_signed if trust == "dialback" else net.authority.issue)}
        if kind == "prosody":
            words |= {"secure": str(ca).lower(), "dialback": "" if ca else '"dialback"', "direct_port": self.s2s[1] if direct else "",
                      "template": PROSODY}
        else:
            listen = f'  - {{port: {self.s2s[1]}, ip: "{ip}", module: ejabberd_s2s_in, tls: true, backlog: 100}}'
            words |= {"dialback": "mod_s2s_dialback: {}" if not ca else "", "direct": listen if direct else "",
                      "s2s_cafile": f's2s_cafile: "{net.authority.cert}"' if ca else "", "template": EJABBERD}
        super().__init__(kind, **words)

    def user(self, *names):
        """Accounts, by XEP-0077."""
        for n in names:
            with xmpp.Client((self.ip, 5222), self.domain, "starttls") as c:
                c.secure()
                c.iq("set", f"<query xmlns='{REGISTER}'><username>{n}</username><password>{escape(PASSWORD)}</password></query>")
        return self

    @property
    def pin(self):
        return pin_of_cert(Path(self.cert).read_bytes())

    def login(self, user, resource=None, online=False):
        c = xmpp.Client((self.ip, 5222), self.domain, "starttls").login(user, PASSWORD, resource)
        return c.online() if online else c

    def log(self):
        paths = [self.dir / "log", self.dir / "out", *self.dir.glob("logs/*.log")]
        return "\n".join(p.read_text(errors="replace") for p in paths if p.exists())


class Acquainted(Hub):
    """What is asked of a hub that knows others."""

    def peers(self):
        """`peer list`, as people see it."""
        return self.run("peer", "list", check=False).stdout

    def peer(self, domain):
        """What `peer list --json` says of a domain."""
        lines = self.run("peer", "list", "--json", check=False).stdout.splitlines()
        return next((p for p in map(json.loads, lines) if p.get("domain") == domain), {})

    @property
    def pin(self):
        """`sha256:…` of its key."""
        return pin_of(*self.where("c2s-tls"), self.domain)


class FederatedHub(Acquainted):
    """A hub of ours with its doors for servers open."""

    kind = "stonechat"
    # RFC 6121 §8.5.1 leaves a server free to say nothing of an account that does not exist; ours does.
    tells_unknown = False

    def __init__(self, net, domain="hub.test", trust="dialback", direct=True, starttls=True, args=(), certified=None, srv=True,
                 dns=True, names=None, **how):
        how.setdefault("flags", ["--no-http", "--no-mdns"])
        how.setdefault("log", "debug")
        super().__init__(*args, domain=domain, ip=place(), **how)
        self.trust = trust
        self.args += ["--s2s-trust", trust]
        # Both listeners are always there; `starttls` and `direct` are what the DNS tells of them.
        for option, port in (("s2s", 5269), ("s2s-tls", 5270)):
            if f"--{option}" not in self.args:
                self.ports[option] = hubs.free_port(self.ip, port)
        if dns:
            self.args += ["--dns", net.dns.address]
        if certified if certified is not None else trust == "ca":
            cert, key = self.dir / "own.pem", self.dir / "own.key"
            net.authority.issue(domain, cert, key, names=names)
            self.args += ["--cert", str(cert), "--key", str(key)]
        if trust != "pinned":
            self.args += ["--s2s-ca", str(net.authority.cert)]
        net.domain(domain, self.ip, starttls and self.ports.get("s2s"), direct and self.ports.get("s2s-tls"), srv)

    def log(self):
        return self.text()

    def login(self, user, resource=None, tls="starttls", **kw):
        # Where the certificate is another authority's, its clients need that one.
        kw.setdefault("ca", None if "--cert" in self.args else self.ca)
        return super().login(user, resource, tls, **kw)


class Net:
    """The names, addresses and servers of one scene."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="stonechat-net-"))
        self.dir.chmod(0o755)
        self.authority, self.dns, self.members = Authority(self.dir), Dns(self.dir), []
        # ejabberd asks Erlang's resolver for SRV records, which can be told whom to ask, but the C library for the addresses of
        # their targets, which cannot. So it gets a DNS server of its own, whose targets need no look-up.
        self.dns_erlang = Dns(self.dir, literal=True)
        self.inetrc = self.dir / "inetrc"
        self.inetrc.write_text("{lookup,[file,dns]}.\n{host,{127,0,0,1},[\"localhost\"]}.\n{resolv_conf,\"\"}.\n{hosts_file,\"\"}.\n"
                               f"{{nameserver,{{{self.dns_erlang.ip.replace('.', ',')}}},{self.dns_erlang.port}}}.\n{{edns,0}}.\n")

    def domain(self, *args, **how):
        """As `Dns.domain`; for all who ask."""
        self.dns.domain(*args, **how)
        self.dns_erlang.domain(*args, **how)

    def peer(self, kind, **how):
        self.members.append(Peer(self, kind, **how))
        return self.members[-1]

    def hub(self, domain="hub.test", **how):
        self.members.append(FederatedHub(self, domain, **how))
        return self.members[-1]

    def start(self):
        """Starts all that has been set up and does not run yet."""
        self.dns.start()
        self.dns_erlang.start()
        for m in self.members:
            if m.proc is None:
                m.start()
        return self

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        wrong = []
        for m in reversed(self.members):
            try:
                if kind is not None:
                    print(f"--- the end of the log of {m.domain}:\n{m.log()[-4000:]}", flush=True)
                m.__exit__(None)
            except Exception as e:
                wrong.append(e)
        self.dns.stop()
        self.dns_erlang.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
        if wrong and kind is None:
            raise wrong[0]


class Proxy:
    """A cable that can be cut: what connects to it is connected to `target`."""

    def __init__(self, target):
        self.target, self.ip = target, place()
        self.port, self.listener, self.pairs, self.silent, self.lock = target[1], None, [], False, threading.Lock()
        self.heal()

    @property
    def address(self):
        return f"{self.ip}:{self.port}"

    def heal(self):
        self.silent = False
        if self.listener is None:
            self.listener = socket.create_server((self.ip, self.port), backlog=50)
            threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self):
        """Everything is closed, and nothing is accepted."""
        listener, self.listener = self.listener, None
        if listener:
            # An accept(2) under way would keep it open.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop()

    def drop(self):
        """What is connected is reset."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for s in pair:
                try:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                s.close()

    def mute(self):
        """Nothing is closed, but nothing comes through any more: a cable that somebody stepped on."""
        self.silent = True

    def _accept(self, listener):
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            try:
                t = socket.create_connection(self.target, 5)
            except OSError:
                s.close()
                continue
            with self.lock:
                self.pairs.append((s, t))
            for one, other in ((s, t), (t, s)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one, other):
        try:
            while data := one.recv(65536):
                if not self.silent:
                    other.sendall(data)
            if not self.silent:
                other.shutdown(socket.SHUT_WR)
        except OSError:
            for s in (one, other):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
