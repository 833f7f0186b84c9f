"""Prosody and ejabberd, as Debian packages them, on a loopback address of their own: for scenes in which our client half
meets servers that we did not write. Everything they own lies in a fresh temporary directory, and only what was started
here is ended."""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from hub import Hub, fresh_address, wait_for
from xmpp import Client, Closed, Timeout

PROSODY = """
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
interfaces = {{ "{ip}" }}
c2s_ports = {{ 5222 }}
c2s_direct_tls_ports = {{ 5223 }}
s2s_ports = {{ }}
modules_enabled = {{ "roster"; "saslauth"; "tls"; "disco"; "carbons"; "offline"; "private"; "vcard_legacy"; "version";
  "time"; "ping"; "register"; "register_ibr"; "blocklist";
  "smacks" }}
modules_disabled = {{ "s2s" }}
allow_registration = true
registration_throttle_max = nil
c2s_require_encryption = true
authentication = "internal_hashed"
log = {{ info = "{dir}/log" }}
ssl = {{ key = "{dir}/key.pem"; certificate = "{dir}/cert.pem"; protocol = "tlsv1_2+" }}
c2s_direct_tls_ssl = {{ key = "{dir}/key.pem"; certificate = "{dir}/cert.pem" }}
VirtualHost "{domain}"
"""

EJABBERD = """
hosts: ["{domain}"]
loglevel: info
certfiles: ["{dir}/both.pem"]
listen:
  - {{port: 5222, ip: "{ip}", module: ejabberd_c2s, starttls: true, starttls_required: true, backlog: 100, access: c2s}}
  - {{port: 5223, ip: "{ip}", module: ejabberd_c2s, tls: true, backlog: 100, access: c2s}}
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
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_disco: {{}}
  mod_last: {{}}
  mod_offline: {{access_max_user_messages: max_user_offline_messages}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_register: {{ip_access: all, access: register}}
  mod_roster: {{versioning: true}}
  mod_stream_mgmt: {{resend_on_timeout: true}}
  mod_time: {{}}
  mod_vcard: {{}}
  mod_version: {{show_os: false}}
"""


def accepts(ip, port):
    try:
        socket.create_connection((ip, port), 1).close()
        return True
    except OSError:
        return False


_servers = itertools.count()


def self_signed(domain, cert, key):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                    "-subj", f"/CN={domain}", "-addext", f"subjectAltName=DNS:{domain}", "-addext",
                    "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", cert], check=True, capture_output=True)


class OwnHub(Hub):
    """Our own, seen as the others are."""

    kind = "stonechat"
    # RFC 6121 §8.5.1 leaves a server free to say nothing of an account that does not exist; ours does.
    tells_unknown = False

    def __init__(self):
        super().__init__("--registration", "open")

    @property
    def cert(self):
        return self.ca

    def log(self):
        return "\n".join(self.text().splitlines()[-60:])


def server(kind):
    """One of them, not yet started."""
    return OwnHub() if kind == "stonechat" else Server(kind)


class Server:
    """`with Server("prosody") as server: …`"""

    tells_unknown = True

    def __init__(self, kind, ip=None, domain=None, template=None, certify=self_signed, inetrc="/etc/ejabberd/inetrc", **words):
        """`template` is its config, `words` what stands in it besides the directory, the address and the domain;
        `certify(domain, cert, key)` makes the certificate."""
        self.kind, self.ip, self.domain = kind, ip or fresh_address(), domain or f"{kind}.test"
        self.dir = Path(tempfile.mkdtemp(prefix=f"stonechat-{kind}-"))
        self.proc, self.number = None, next(_servers)
        (self.dir / "data").mkdir()
        certify(self.domain, self.cert, self.dir / "key.pem")
        (self.dir / "both.pem").write_bytes(Path(self.cert).read_bytes() + (self.dir / "key.pem").read_bytes())
        config = (template or (PROSODY if kind == "prosody" else EJABBERD)).format(dir=self.dir, ip=self.ip, domain=self.domain, **words)
        (self.dir / ("prosody.cfg.lua" if kind == "prosody" else "ejabberd.yml")).write_text(config)
        if kind == "ejabberd":
            # A node name and a port of its own; the distribution stays on loopback.
            self.dist = 20000 + (os.getpid() * 4 + self.number) % 10000
            (self.dir / "ctl.cfg").write_text(f"ERL_DIST_PORT={self.dist}\nINET_DIST_INTERFACE=127.0.0.1\n")
            shutil.copy(inetrc, self.dir / "inetrc")
            (self.dir / "logs").mkdir()
        if os.getuid() == 0:
            user = pwd.getpwnam(kind)
            for path in (self.dir, *self.dir.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)

    @property
    def cert(self):
        return str(self.dir / "cert.pem")

    def control(self, *args):
        d = self.dir
        return ["ejabberdctl", "-n", f"stonechat{os.getpid()}n{self.number}@localhost", "-d", str(d), "-c", f"{d}/ctl.cfg",
                "-f", f"{d}/ejabberd.yml", "-l", f"{d}/logs", "-s", f"{d}/data", *args]

    def start(self):
        env = dict(os.environ)
        if self.kind == "prosody":
            as_user = {"user": "prosody", "group": "prosody", "extra_groups": []} if os.getuid() == 0 else {}
            cmd = ["prosody", "--config", str(self.dir / "prosody.cfg.lua"), "-F"]
        else:
            as_user, cmd, env["HOME"] = {}, self.control("foreground"), "/var/lib/ejabberd"
        out = open(self.dir / "out", "ab")
        self.proc = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=self.dir,
                                     start_new_session=True, **as_user)
        out.close()
        try:
            wait_for(f"{self.kind} listens", lambda: accepts(self.ip, 5222) and accepts(self.ip, 5223), 60, 0.1)
            # ejabberd accepts connections a while before it answers them.
            wait_for(f"{self.kind} answers", self.answers, 60, 0.1)
        except AssertionError:
            print((self.dir / "out").read_text(errors="replace")[-3000:], flush=True)
            raise
        return self

    def answers(self):
        try:
            with Client((self.ip, 5222), self.domain, timeout=5) as c:
                return c.open() is not None
        except (Closed, Timeout, OSError):
            return False

    def stop(self):
        if self.proc is None:
            return
        if self.kind == "ejabberd":
            for word in ("stop", "stopped"):  # the second waits for the first
                subprocess.run(self.control(word), env={**os.environ, "HOME": "/var/lib/ejabberd"}, capture_output=True,
                               timeout=60, check=False)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                # The whole session: Erlang brings helpers along.
                os.killpg(self.proc.pid, sign)
            except ProcessLookupError:
                break
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                continue
        self.proc.wait(5)
        self.proc = None
        wait_for("the port is free", lambda: not accepts(self.ip, 5222), 20, 0.1)
        if self.kind == "ejabberd":
            wait_for("Erlang is gone", lambda: not accepts("127.0.0.1", self.dist), 20, 0.1)

    def log(self):
        paths = [self.dir / "log", self.dir / "out", *self.dir.glob("logs/*.log")]
        return "\n".join(p.read_text(errors="replace")[-2000:] for p in paths if p.exists())

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)
