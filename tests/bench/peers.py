"""The servers of the bench: how each is started, and what it weighs. The generator is told where they are."""

import contextlib, json, os, select, shutil, signal, socket, subprocess, sys, tempfile, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
LOAD = TARGET / "bench" / "release" / "load"
STONECHAT = os.environ.get("STONECHAT", str(TARGET / "release" / "stonechat"))
SCHED = os.environ.get("SCHED", "other")
DOMAIN = "bench.test"
CORES = sorted(os.sched_getaffinity(0))


def prepare():
    """Builds the generator, and the counter of allocations; makes a certificate. The folder for all, and its name."""
    build = ["cargo", "build", "--release", "--locked", "-q", "--manifest-path", str(HERE / "load" / "Cargo.toml")]
    subprocess.run(build, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET / "bench")})
    base = Path(tempfile.mkdtemp(prefix="stonechat-bench-"))
    certs = base / "bench"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "3650", "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}", "-keyout",
                    f"{certs}.key", "-out", f"{certs}.crt"], check=True, capture_output=True)
    Path(f"{certs}.pem").write_text(Path(f"{certs}.crt").read_text() + Path(f"{certs}.key").read_text())
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", f"{base}/count.so", str(HERE / "count.c")], check=True)
    return base, certs


def pinned(core, nice=True):
    """What a child does before it becomes somebody else."""

    def be():
        os.sched_setaffinity(0, {core})
        if nice and SCHED == "fifo":
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
        elif nice and SCHED == "nice":
            os.nice(-20)

    return be


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One server: how it is started, and the process while it runs."""

    kind, package, program, domain = "xmpp", None, None, DOMAIN
    pids = None  # of all the processes that are measured, if it is not this one alone
    counts = True  # whether its memory comes from malloc(3)

    def __init__(self, base, certs):
        self.name = type(self).__name__.lower()
        self.dir, self.certs = base / self.name, certs
        self.dir.mkdir(parents=True)
        self.port, self.tls = free_port(), free_port()
        self.process = None

    def installed(self):
        return shutil.which(self.program) is not None

    @property
    def ways(self):
        """With and without TLS, as far as it knows that."""
        return {"xmpp": ["none", "starttls"], "mqtt": ["none", "direct"], "relay": ["none"]}[self.kind]

    def environment(self):
        return {}

    def start(self, **environment):
        self.t0 = time.time_ns()
        with open(self.dir / "out.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.dir, env={**os.environ, **self.environment(), **environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=pinned(CORES[0]))
        if self.kind == "relay":
            time.sleep(0.3)

    def address(self, tls="none"):
        return f"127.0.0.1:{self.tls if tls == 'direct' else self.port}"

    def wait(self):
        """Until it listens."""
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return time.sleep(0.5)
            time.sleep(0.1)
        print(f"{self.name} does not listen; see {self.dir}/out.log", file=sys.stderr)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def size(self):
        return deb_size(self.package)


class Stonechat(Server):
    program, limits = STONECHAT, ["off"]

    def command(self):
        c = self.certs
        return [STONECHAT, "serve", "--data", f"{self.dir}/data", "--domain", DOMAIN, "--c2s",
                f"127.0.0.1:{free_port()}", "--c2s-plain", f"127.0.0.1:{self.port}", "--c2s-tls",
                f"127.0.0.1:{self.tls}", "--no-s2s", "--no-mdns", "--no-http", "--cert", f"{c}.crt", "--key",
                f"{c}.key", "--registration", "open", "--log", "error", *(w for limit in self.limits for w in ("--limit", limit))]

    def size(self):
        return os.path.getsize(shutil.which(STONECHAT)) / 1024


class Prosody(Server):
    package = program = "prosody"

    def command(self):
        (self.dir / "data").mkdir(exist_ok=True)
        tls = f'{{ key = "{self.certs}.key", certificate = "{self.certs}.crt" }}'
        (self.dir / "prosody.cfg.lua").write_text(f"""
run_as_root = true
pidfile = "{self.dir}/prosody.pid"
data_path = "{self.dir}/data"
network_backend = "epoll"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.port} }}
c2s_direct_tls_ports = {{ {self.tls} }}
s2s_ports = {{}}
ssl = {tls}
c2s_direct_tls_ssl = {tls}
c2s_require_encryption = false
allow_registration = true
authentication = "internal_hashed"
storage = "internal"
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "posix", "presence", "message", "iq", "offline", "c2s",
  "private", "vcard_legacy", "pep", "carbons", "blocklist", "version", "time", "ping", "register" }}
modules_disabled = {{ "s2s" }}
log = {{ error = "{self.dir}/error.log" }}
VirtualHost "{DOMAIN}"
""")
        return ["prosody", "-F", "--config", f"{self.dir}/prosody.cfg.lua"]


class Ejabberd(Server):
    package, program, counts = "ejabberd", "ejabberdctl", False

    def command(self):
        listen = "\n".join(f"""  -
    port: {port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    max_stanza_size: 262144
    backlog: 1024
    {tls}: true""" for port, tls in ((self.port, "starttls"), (self.tls, "tls")))
        modules = "\n".join(f"  mod_{m}: {{}}" for m in (
            "blocking caps carboncopy disco last ping privacy private pubsub roster vcard version").split())
        (self.dir / "ejabberd.yml").write_text(f"""
hosts: ["{DOMAIN}"]
loglevel: error
certfiles: ["{self.certs}.pem"]
listen:
{listen}
auth_method: internal
auth_password_format: scram
registration_timeout: infinity
modules:
{modules}
  mod_offline:
    access_max_user_messages: none
  mod_register:
    ip_access: all
""")
        (self.dir / "inetrc").write_text('{lookup,["file","native"]}.\n{host,{127,0,0,1},["localhost"]}.\n')
        # As ejabberdctl does it, but local and without a daemon that stays behind.
        return ["erl", "+K", "true", "+P", "250000", "+S", "1:1", "-noinput", "-start_epmd", "false",
                "-erl_epmd_port", str(free_port()), "-sname", "ejabberd@localhost", "-mnesia", "dir",
                f'"{self.dir}/spool"', "-s", "ejabberd"]

    def environment(self):
        return {"EJABBERD_CONFIG_PATH": f"{self.dir}/ejabberd.yml", "EJABBERD_LOG_PATH": f"{self.dir}/ejabberd.log",
                "ERL_LIBS": "/usr/lib/x86_64-linux-gnu", "ERL_INETRC": f"{self.dir}/inetrc",
                "ERL_MAX_PORTS": "32000", "HOME": str(self.dir)}


class Mosquitto(Server):
    kind, package, program = "mqtt", "mosquitto", "mosquitto"

    def installed(self):
        return shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") is not None

    def command(self):
        (self.dir / "mosquitto.conf").write_text(f"""
user root
persistence false
allow_anonymous true
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
log_dest none
listener {self.port} 127.0.0.1
listener {self.tls} 127.0.0.1
certfile {self.certs}.crt
keyfile {self.certs}.key
""")
        return [shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin"), "-c",
                f"{self.dir}/mosquitto.conf"]


class Relay(Server):
    kind, counts, each = "relay", False, 0

    def installed(self):
        return True

    def command(self):
        return [str(LOAD), "relay", "--address", self.address(), "--each", str(self.each)]

    def size(self):
        return float("nan")


class Member:
    """One of two servers that talk to each other, as the scenes start them; seen as the others are."""

    kind, pids = "xmpp", None

    def __init__(self, server, name):
        self.server, self.name, self.domain = server, name, server.domain

    @property
    def process(self):
        return self.server.proc

    def address(self, tls="none"):
        return f"{self.server.ip}:{getattr(self.server, 'ports', {}).get('c2s-plain', 5222)}"


@contextlib.contextmanager
def federated(name):
    """Two servers of a kind, which find each other by DNS and prove themselves by dialback over TLS."""
    from federation import Net

    with Net() as net:
        for domain in ("near.test", "far.test"):
            if name == "stonechat":
                net.hub(domain, trust="dialback", log="info", limits=["off"], args=["--registration", "open"])
            else:
                net.peer(name, domain=domain, encrypted=False, loglevel="error")
        before = os.sched_getaffinity(0)
        # What they start inherits this.
        os.sched_setaffinity(0, {CORES[0]})
        try:
            net.start()
        finally:
            os.sched_setaffinity(0, before)
        yield [Member(m, name) for m in net.members]


class Actor:
    """A generator that waits for its cues, beside others."""

    def __init__(self, server, tls, users, ahead, command, *options):
        self.name, self.log = users, open(server.dir / f"{users}.log", "w")
        words = [LOAD, command, "--kind", server.kind, "--address", server.address(tls), "--domain", DOMAIN, "--users", users,
                 "--tls", tls, "--pid", server.process.pid, "--cue", 1, *options]

        def be():
            os.sched_setaffinity(0, {CORES[-1]})
            try:
                # Who measures comes first, so that it is the server that is measured.
                if ahead:
                    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
                elif SCHED == "nice":
                    os.nice(-15)
            except PermissionError:
                pass

        self.process = subprocess.Popen([str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, text=True, bufsize=1, preexec_fn=be)

    def line(self, seconds):
        # What it says comes in whole lines.
        return self.process.stdout.readline() if select.select([self.process.stdout], [], [], seconds)[0] else ""

    def ready(self):
        """Whether all are logged in."""
        return self.line(240) == "ready\n"

    def cue(self, act):
        try:
            self.process.stdin.write(f"{act}\n")
        except BrokenPipeError:
            pass

    def end(self):
        """What it has to tell."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        told = self.line(90)
        return json.loads(told) if told else {}

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


def deb_size(package):
    """KiB of a Debian package with all that it needs, less what is on every system."""
    todo, seen, total = [package], set(), 0
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        said = subprocess.run(["dpkg-query", "-W", "-f", "${Priority}\t${Installed-Size}\t${Depends}, ${Pre-Depends}\n",
                               name], capture_output=True, text=True).stdout.split("\n")[0].split("\t")
        if len(said) < 3 or (name != package and (said[0] in ("required", "important") or name.startswith(
                ("libc6", "gcc-", "libgcc", "debconf", "perl", "systemd", "libsystemd", "openssl", "ca-cert")))):
            continue
        total += int(said[1] or 0)
        todo += [d.split("|")[0].split("(")[0].split(":")[0].strip() for d in said[2].split(",") if d.strip()]
    return total
