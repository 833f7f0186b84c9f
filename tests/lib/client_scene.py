"""What our client half must be able to do against any server: one scene, run with each."""

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import hub as hubs
from servers import server

FULL = Path("/dev/full")


class Run:
    """A command that runs in the background, with what it says."""

    def __init__(self, cmd, env, stdin=None):
        self.proc = subprocess.Popen(cmd, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True, env=env)
        self.out, self.err = [], []
        self.readers = [threading.Thread(target=self.drain, args=pair, daemon=True)
                        for pair in ((self.proc.stdout, self.out), (self.proc.stderr, self.err))]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def drain(pipe, to):
        for line in pipe:
            to.append(line.rstrip("\n"))

    def online(self, seconds=20):
        """It has seen its own presence (it runs with --debug)."""
        hubs.wait_for("the listener is online", lambda: any(l.startswith("< <presence") for l in self.err), seconds)
        return self

    def end(self, sign=None, seconds=20):
        if sign is not None:
            self.proc.send_signal(sign)
        try:
            code = self.proc.wait(seconds)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait(5)
            return None
        for reader in self.readers:
            reader.join(5)
        return code


class Scene:
    def __init__(self, kind):
        self.check = hubs.Checks(f"client against {kind}")
        self.server = server(kind)
        self.dir = Path(tempfile.mkdtemp(prefix="stonechat-client-"))
        self.env = {**os.environ, "HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config"),
                    "XDG_STATE_HOME": str(self.dir / "state")}
        self.env.pop("STONECHAT_PASSWORD", None)
        self.passwords = {}
        self.running = []

    # ---- tools ----

    def jid(self, user):
        return f"{user}@{self.server.domain}"

    def words(self, user, trust=True, where=True):
        file = self.dir / f"{user}.pw"
        if user not in self.passwords:
            self.passwords[user] = f"päss {user} <&>'\""
            file.touch(0o600)
            file.write_text(self.passwords[user] + "\n")
        return ["-u", self.jid(user), "--password-file", str(file),
                *(["-h", self.server.ip] if where else []), *(["--cafile", self.server.cert] if trust else [])]

    def command(self, command, user, *args, **how):
        return [hubs.BINARY, command, *self.words(user, **how), *args]

    def run(self, command, user, *args, stdin="", seconds=30, env=None, **how):
        cmd = self.command(command, user, *args, **how)
        return subprocess.run(cmd, input=stdin, capture_output=True, text=True, timeout=seconds,
                              env={**self.env, **(env or {})}, check=False)

    def start(self, command, user, *args, **how):
        run = Run(self.command(command, user, *args, **how), self.env)
        self.running.append(run)
        return run

    def listen(self, user, *args):
        return self.start("listen", user, "-d", *args).online()

    def ends(self, what, got, code, out=None, err=None):
        """The command ended with this code, and said that (regular expressions)."""
        said = f"exit {got.returncode}\nout: {got.stdout[-600:]}\nerr: {got.stderr[-600:]}"
        holds = got.returncode == code and "panicked" not in got.stderr
        holds = holds and (out is None or re.search(out, got.stdout)) and (err is None or re.search(err, got.stderr))
        return self.check(what, holds, said)

    # ---- the scene ----

    def play(self):
        try:
            with self.server:
                try:
                    for part in (self.accounts, self.trust, self.refusals, self.messages, self.sources, self.receipts,
                                 self.filters, self.exec, self.roster, self.presence, self.asking, self.carbons,
                                 self.ends_of_the_world, self.passwords_elsewhere, self.passwd, self.comes_back):
                        print(f"-- {part.__name__}", flush=True)
                        try:
                            part()
                        except (AssertionError, subprocess.TimeoutExpired, OSError) as e:
                            self.check(part.__name__, False, repr(e)[:800])
                finally:
                    for run in self.running:
                        if run.proc.poll() is None:
                            run.end(signal.SIGKILL)
                    if self.check.failed:
                        print(self.server.log())
        except AssertionError as e:
            self.check("the server starts", False, str(e))
        return self.check.finish()

    def accounts(self):
        for user in ("alice", "bob", "carol"):
            got = self.run("register", user, self.jid(user))
            self.ends(f"register makes {user}", got, 0, out=f"^{self.jid(user)}\n$")
        self.ends("register: taken", self.run("register", "alice", self.jid("alice")), 8, err="conflict")
        self.ends("ping by STARTTLS", self.run("ping", "alice", "--starttls"), 0, out=r"^\S+: [0-9.]+ ms\n$")
        self.ends("ping by direct TLS", self.run("ping", "alice", "--direct-tls"), 0)
        for port in ("5222", "5223"):
            self.ends(f"ping on port {port}, finding out what it speaks", self.run("ping", "alice", "-p", port), 0)
        got = self.run("ping", "alice", "-c", "2", "--interval", "0.1", "-j", self.server.domain)
        pongs = [json.loads(line) for line in got.stdout.splitlines()]
        self.check("ping -c 2 -j", [p["seq"] for p in pongs] == [1, 2] and all(p["ms"] > 0 for p in pongs), got.stdout)

    def pin(self):
        leaf = subprocess.run(["openssl", "s_client", "-connect", f"{self.server.ip}:5223", "-servername",
                               self.server.domain], capture_output=True, timeout=20, stdin=subprocess.DEVNULL,
                              check=False).stdout
        der = subprocess.run(["openssl", "x509", "-pubkey", "-noout"], input=leaf, check=True,
                             capture_output=True).stdout
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=der, check=True,
                             capture_output=True).stdout
        return "sha256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()

    def trust(self):
        pin, other = self.pin(), "sha256:" + base64.b64encode(bytes(32)).decode()
        ping = lambda *args: self.run("ping", "alice", *args, trust=False)
        self.ends("a stranger's certificate is refused, and the pin named", ping(), 7, err=re.escape(pin))
        self.ends("--pin", ping("--pin", pin), 0)
        self.ends("--pin=, of several", ping("--pin", other, f"--pin={pin}"), 0)
        self.ends("another key than the pin's", ping("--pin", other), 7, err="mismatch.*" + re.escape(pin))
        self.ends("--insecure, with a warning", ping("--insecure"), 0, err="warning: --insecure")
        got = ping("--insecure", "--quiet")
        self.check("--quiet keeps it back", got.returncode == 0 and got.stderr == "", got.stderr)
        self.ends("--tofu, the first time", ping("--tofu"), 0)
        self.ends("--tofu, the second time", ping("--tofu"), 0)
        known = self.dir / "state" / "stonechat" / "known_hubs"
        self.check("--tofu has remembered the key", pin in known.read_text(), known.read_text())
        known.write_text(known.read_text().replace(pin, other))
        self.ends("--tofu, and the key has changed", ping("--tofu"), 7, err="changed")
        got = subprocess.run([hubs.BINARY, "ping", "-u", "alice@else.test", "--password-file", self.dir / "alice.pw",
                              "-h", self.server.ip, "--cafile", self.server.cert], capture_output=True, text=True,
                             timeout=30, env=self.env, check=False)
        # Who asks by TLS for a name that is not served may be cut off before a certificate is shown.
        self.check("a certificate for another name", got.returncode in (1, 6, 7), f"{got.returncode} {got.stderr}")

    def refusals(self):
        wrong = self.dir / "wrong.pw"
        wrong.touch(0o600)
        wrong.write_text("not it\n")
        got = self.run("ping", "alice", "--password-file", str(wrong))
        self.check("the option given last wins or is refused as double", got.returncode in (4, 64), got.stderr)
        base = [hubs.BINARY, "ping", "-u", self.jid("alice"), "--cafile", self.server.cert]
        go = lambda *args: subprocess.run([*base, *args], capture_output=True, text=True, timeout=40, env=self.env,
                                          check=False, stdin=subprocess.DEVNULL)
        here = ("-h", self.server.ip, "--password-file", str(wrong))
        self.ends("a wrong password", go(*here), 4, err="^error: .*not-authorized")
        self.ends("nobody there", go("-h", self.server.ip, "-p", "1", "--password-file", str(wrong)), 6, err="refused")
        self.ends("no such host", go("-h", "no-such-host.invalid", "--password-file", str(wrong)), 6)
        self.ends("no password", go("-h", self.server.ip), 64, err="password")
        self.ends("no such file", go("-h", self.server.ip, "--password-file", "/nonexistent"), 74)
        self.ends("a wrong option", go("--nonsense"), 64, err="nonsense")
        self.ends("plaintext is not fallen back to", go(*here, "--plaintext"), 4)
        wrong.chmod(0o644)
        self.ends("a password that others can read is warned about", go(*here), 4, err="warning: others can read")

    def messages(self):
        text = "Grüße <&> 'quoted' \"x\" 👩‍👩‍👧\nsecond line\ttab"
        bob = self.listen("bob", "-C", "2", "-j", "--xml")
        self.ends("send", self.run("send", "alice", self.jid("bob"), "-m", text, "-S", "Betreff", "--thread", "t1"), 0)
        self.ends("send a link", self.run("send", "alice", self.jid("bob"), "--oob", "http://x.test/?a&b", "-n"), 0)
        self.check.equal("listen -C 2 ends by itself", bob.end(), 0)
        heard = [json.loads(line) for line in bob.out]
        first = heard[0]
        self.check.equal("the body arrives as it was", first.get("body"), text)
        self.check.equal("subject and thread", (first.get("subject"), first.get("thread")), ("Betreff", "t1"))
        self.check("from, type, ts, id", first["from"].startswith(self.jid("alice") + "/") and first["type"] == "chat"
                   and first["ts"].endswith("Z") and first["id"], repr(first))
        self.check("--xml", first["stanza"].startswith("<message"), first["stanza"])
        self.check.equal("the link", heard[1].get("oob"), "http://x.test/?a&b")
        for args, want in ((("-v",), f"{self.jid('alice')} hello"), ((), "hello"),
                           (("-F", "%j %T %b%%"), f"{self.jid('alice')} chat hello%")):
            bob = self.listen("bob", "-C", "1", *args)
            self.ends("send", self.run("send", "alice", self.jid("bob"), "-m", "hello"), 0)
            self.check.equal(f"listen {' '.join(args)}", (bob.end(), bob.out), (0, [want]))
        if self.server.tells_unknown:
            self.ends("to somebody who does not exist", self.run("send", "alice", self.jid("nobody"), "-m", "x"), 8,
                      err="service-unavailable|item-not-found")
        got = self.run("send", "alice", "x@nowhere." + self.server.domain, "-m", "x", "--receipt", "--timeout", "8")
        self.check("to a server that does not exist", got.returncode in (5, 8), f"{got.returncode} {got.stderr}")
        both = [self.listen(user, "-C", "1") for user in ("bob", "carol")]
        self.ends("to two", self.run("send", "alice", self.jid("bob"), self.jid("carol"), "-m", "both"), 0)
        self.check.equal("both get it", [(r.end(), r.out) for r in both], [(0, ["both"])] * 2)

    def sources(self):
        many = "".join(f"line {n}\n" for n in range(120))
        bob = self.listen("bob", "-C", "120")
        self.ends("send -l", self.run("send", "alice", self.jid("bob"), "-l", stdin=many), 0)
        self.check.equal("every line arrives, in order", (bob.end(), "".join(f"{l}\n" for l in bob.out)), (0, many))
        bob = self.listen("bob", "-C", "5")
        file = self.dir / "text"
        file.write_text("from a file\n")
        raw = f"<message to='{self.jid('bob')}' type='headline'><body>raw &amp; ready</body></message>"
        self.ends("send, standard input", self.run("send", "alice", self.jid("bob"), stdin="from a pipe\n"), 0)
        self.ends("send --file", self.run("send", "alice", self.jid("bob"), "--file", str(file)), 0)
        self.ends("send --raw", self.run("send", "alice", "--raw", "-m", raw), 0)
        self.ends("send --repeat", self.run("send", "alice", self.jid("bob"), "-m", "r", "--repeat", "2",
                                            "--repeat-delay", "0.2"), 0)
        self.check.equal("they arrive", (bob.end(), bob.out), (0, ["from a pipe", "from a file", "raw & ready", "r", "r"]))
        self.ends("send --raw refuses what is no XML", self.run("send", "alice", "--raw", "-m", raw + "</x>"), 64)
        self.ends("send to no address", self.run("send", "alice", "a@@b", "-m", "x"), 64, err="no address")

    def receipts(self):
        bob = self.listen("bob", "-C", "1")
        self.ends("send --receipt", self.run("send", "alice", self.jid("bob"), "-m", "sign here", "--receipt"), 0)
        bob.end()
        bob = self.listen("bob", "-C", "1", "--no-receipts")
        got = self.run("send", "alice", self.jid("bob"), "-m", "sign here", "--receipt", "--timeout", "2")
        self.ends("no receipt", got, 9, err="no receipt")
        bob.end()

    def filters(self):
        bob = self.listen("bob", "-C", "1", self.jid("carol"))
        self.ends("send", self.run("send", "alice", self.jid("bob"), "-m", "not this"), 0)
        self.ends("send", self.run("send", "carol", self.jid("bob"), "-m", "this"), 0)
        self.check.equal("listen JID", (bob.end(), bob.out), (0, ["this"]))
        bob = self.listen("bob", "-C", "1", "-T", self.jid("alice"))
        self.ends("send", self.run("send", "alice", self.jid("bob"), "-m", "not this"), 0)
        self.ends("send", self.run("send", "carol", self.jid("bob"), "-m", "this"), 0)
        self.check.equal("listen -T", (bob.end(), bob.out), (0, ["this"]))
        self.ends("send to one who is away", self.run("send", "alice", self.jid("bob"), "-m", "kept"), 0)
        bob = self.start("listen", "bob", "-C", "1", "-W", "3", "-R")
        self.check.equal("listen -R leaves out what was kept", (bob.end(), bob.out), (2, []))
        self.ends("send to one who is away", self.run("send", "alice", self.jid("bob"), "-m", "kept"), 0)
        bob = self.start("listen", "bob", "-C", "1", "-W", "20", "-j")
        bob.end()
        kept = [json.loads(line) for line in bob.out]
        self.check("what was kept has a delay", len(kept) == 1 and kept[0].get("delay") and kept[0]["body"] == "kept", repr(kept))
        self.ends("listen -E", self.run("listen", "bob", "-E"), 0)
        self.ends("listen -W", self.run("listen", "bob", "-W", "0.5"), 2)

    def exec(self):
        out = self.dir / "exec.out"
        script = f"{{ echo \"$STONECHAT_FROM_BARE|$STONECHAT_TYPE|$1|$STONECHAT_PASSWORD|$#\"; cat; echo .; }} >> {out}"
        bob = self.listen("bob", "-C", "3", "--exec", "sh", "--exec-arg=-c", "--exec-arg", script, "--exec-arg", "sh",
                          "--exec-arg", "fixed")
        bodies = ["$(touch pwned)", "`touch pwned`; touch pwned", "-rf\n'two'"]
        for body in bodies:
            self.ends("send", self.run("send", "alice", self.jid("bob"), "-m", body), 0)
        self.check.equal("listen --exec ends", (bob.end(), bob.out), (0, []))
        got = out.read_text()
        want = "".join(f"{self.jid('alice')}|chat|fixed||1\n{body}.\n" for body in bodies)
        self.check("each ran once, with the body as data", sorted(got.split(".\n")) == sorted(want.split(".\n")), got)
        self.check("and nothing else ran", not Path("pwned").exists() and not (self.dir / "pwned").exists())

    def roster(self):
        bob = self.jid("bob")
        self.ends("roster add", self.run("roster", "alice", "add", bob, "--name", "Bób <&>", "--group", "A, B", "--group", "C"), 0)
        self.ends("roster ls", self.run("roster", "alice", "ls"), 0, out=rf"^{bob}\tnone\+ask\tBób <&>\t(A, B,C|C,A, B)\n$")
        got = self.run("roster", "alice", "ls", "-j")
        item = json.loads(got.stdout)
        self.check("roster ls -j", item["jid"] == bob and item["ask"] is True and sorted(item["groups"]) == ["A, B", "C"], got.stdout)
        self.ends("roster approve", self.run("roster", "bob", "approve", self.jid("alice")), 0)
        self.ends("the subscription stands", self.run("roster", "alice", "ls"), 0, out=rf"{bob}\tto\t")
        self.ends("roster deny", self.run("roster", "bob", "deny", self.jid("alice")), 0)
        self.ends("the subscription is gone", self.run("roster", "alice", "ls"), 0, out=rf"{bob}\tnone\t")
        self.ends("roster rm", self.run("roster", "alice", "rm", bob), 0)
        got = self.run("roster", "alice", "ls")
        self.check("the roster is empty", got.returncode == 0 and got.stdout == "", got.stdout)

    def presence(self):
        bob = self.jid("bob")
        self.run("roster", "alice", "add", bob)
        self.run("roster", "bob", "approve", self.jid("alice"))
        got = self.run("presence", "alice", "show", bob)
        self.ends("presence show: offline", got, 3, out=rf"^{bob}\tunavailable\n$")
        there = self.start("presence", "bob", "away", "--status", "tea <time>", "--stay", "-d").online()
        self.ends("presence show: away", self.run("presence", "alice", "show", bob), 0, out=rf"^{bob}/\S+\taway\ttea <time>\n$")
        watch = self.start("presence", "alice", "watch", bob, "--wait", "offline", "-W", "30")
        hubs.wait_for("the watcher sees bob", lambda: watch.out, 15)
        self.check.equal("presence --stay ends by SIGTERM", there.end(signal.SIGTERM), 143)
        self.check.equal("presence watch --wait offline", watch.end(), 3)
        watch = self.start("presence", "alice", "watch", bob, "--wait", "online", "-W", "30", "-d").online()
        there = self.start("presence", "bob", "available", "--stay", "-d").online()
        self.check.equal("presence watch --wait online", watch.end(), 0)
        there.end(signal.SIGINT)
        got = self.run("presence", "alice", "watch", bob, "--wait", "online", "-W", "1")
        self.ends("presence watch, and it does not come", got, 2)

    def asking(self):
        domain = self.server.domain
        self.ends("disco", self.run("disco", "alice"), 0, out=r"(?m)^identity\tserver\tim\t")
        self.ends("disco, features", self.run("disco", "alice", domain), 0, out=r"(?m)^feature\turn:xmpp:ping$")
        self.ends("disco --items", self.run("disco", "alice", domain, "--items"), 0)
        got = self.run("disco", "alice", "-j")
        self.check("disco -j", "urn:xmpp:ping" in json.loads(got.stdout)["features"], got.stdout[:300])
        query = "<query xmlns='jabber:iq:version'/>"
        self.ends("iq", self.run("iq", "alice", domain, stdin=query), 0, out="<version>")
        private = "<query xmlns='jabber:iq:private'><n xmlns='stonechat:test'>42</n></query>"
        self.ends("iq --type set", self.run("iq", "alice", "--type", "set", stdin=private), 0, out="type='result'")
        self.ends("iq, and what was set is there", self.run("iq", "alice", stdin=private.replace("42", "")), 0, out="42")
        self.ends("iq that nobody knows", self.run("iq", "alice", domain, stdin="<q xmlns='nonsense'/>"), 8)
        self.ends("iq that is no XML", self.run("iq", "alice", domain, stdin="<q"), 64, err="well-formed")
        bob = self.listen("bob", "-r", "there")
        full = self.jid("bob") + "/there"
        self.ends("our client answers ping", self.run("ping", "alice", full), 0)
        self.ends("and version", self.run("iq", "alice", full, stdin=query), 0, out="Stonechat")
        self.ends("and time", self.run("iq", "alice", full, stdin="<time xmlns='urn:xmpp:time'/>"), 0, out="<utc>")
        self.ends("and disco", self.run("disco", "alice", full), 0, out="identity\tclient\tbot")
        self.ends("and nothing else", self.run("iq", "alice", full, stdin="<q xmlns='nonsense'/>"), 8)
        self.check.equal("listen ends by SIGINT", bob.end(signal.SIGINT), 130)
        self.ends("ping to one who is gone", self.run("ping", "alice", full), 8)

    def carbons(self):
        bob = self.listen("bob", "-C", "1", "--carbons", "-j", "-r", "one")
        self.ends("send from the other session", self.run("send", "bob", self.jid("alice"), "-m", "copied", "-r", "two"), 0)
        bob.end()
        got = [json.loads(line) for line in bob.out]
        self.check("listen --carbons", len(got) == 1 and got[0]["body"] == "copied" and got[0]["carbon"] == "sent", repr(got))
        self.run("listen", "alice", "-C", "1", "-W", "3")  # takes what was kept

    def ends_of_the_world(self):
        env = self.env
        listen = " ".join(f"'{w}'" for w in self.command("listen", "bob", "-C", "3"))
        head = subprocess.Popen(["bash", "-c", f"{listen} | head -n 1; echo \"${{PIPESTATUS[0]}}\""], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=env)
        for _ in range(3):
            self.run("send", "alice", self.jid("bob"), "-m", "x")
        out, err = head.communicate(timeout=30)
        self.check("a closed pipe is a normal end", out == "x\n0\n" and err == "", f"{out!r} {err!r}")
        # With nobody there to read them, what is left over was kept.
        self.run("listen", "bob", "-C", "3", "-W", "2")
        if FULL.exists():
            with FULL.open("w", encoding="ascii") as full:
                got = subprocess.run(self.command("disco", "alice"), stdout=full, stderr=subprocess.PIPE, text=True,
                                     timeout=30, env=env, check=False)
            self.check("a full disk is exit code 74", got.returncode == 74 and got.stderr.count("\n") == 1, f"{got.returncode} {got.stderr}")
        got = subprocess.run(self.command("ping", "alice"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                             timeout=30, env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, check=False)
        self.check("without HOME and TERM", got.returncode == 0, got.stderr)

    def passwords_elsewhere(self):
        base = [hubs.BINARY, "ping"]
        go = lambda *args, **env: subprocess.run([*base, *args], capture_output=True, text=True, timeout=30,
                                                 env={**self.env, **env}, check=False, stdin=subprocess.DEVNULL)
        here = ("-u", self.jid("alice"), "-h", self.server.ip, "--cafile", self.server.cert)
        self.ends("the password in the environment", go(*here, STONECHAT_PASSWORD=self.passwords["alice"]), 0)
        got = go(*here, "-P", self.passwords["alice"])
        self.ends("the password as argument, with a warning", got, 0, err="warning: others on this machine")
        config = self.dir / "config" / "stonechat" / "client.conf"
        config.parent.mkdir(parents=True)
        config.touch(0o600)
        config.write_text(f"# mine\nuser {self.jid('alice')}\npassword: {self.passwords['alice']}\njserver = \"{self.server.ip}:5223\"\n"
                          f"cafile {self.server.cert}\n")
        self.ends("everything from the configuration file", go(), 0)
        config.write_text("user a@b\nnonsense 1\n")
        self.ends("a wrong line is named", go(), 64, err="client.conf line 2: .*nonsense")
        config.unlink()
        got = subprocess.run([*base, *here, "--password-file", "-"], input=self.passwords["alice"] + "\n", text=True,
                             capture_output=True, timeout=30, env=self.env, check=False)
        self.ends("the password on standard input", got, 0)

    def passwd(self):
        new = self.dir / "new.pw"
        new.touch(0o600)
        new.write_text("an other Pässword\n")
        self.ends("passwd", self.run("passwd", "carol", "--new-password-file", str(new)), 0)
        self.ends("the old password is refused", self.run("ping", "carol"), 4)
        (self.dir / "carol.pw").write_text(new.read_text())
        self.ends("the new one works", self.run("ping", "carol"), 0)

    def comes_back(self):
        """The server goes away and comes back; the listener does, too."""
        bob = self.start("listen", "bob", "-C", "2", "-d", "--retry-connect", "0.3", "--retry-connect-max", "1").online()
        self.ends("send", self.run("send", "alice", self.jid("bob"), "-m", "before"), 0)
        hubs.wait_for("the first message", lambda: bob.out, 10)
        without = self.start("listen", "carol", "-d").online()
        self.server.stop()
        # A server that says goodbye is gone; of one that does not it is hoped for a while that the session lives.
        self.check.equal("without --retry-connect a lost server ends it", without.end(seconds=45), 6)
        hubs.wait_for("it tries again", lambda: any("next attempt in" in line for line in bob.err), 40)
        self.ends("and nothing connects meanwhile", self.run("ping", "alice"), 6)
        bob.err.clear()
        self.server.start()
        bob.online(30)
        self.ends("send", self.run("send", "alice", self.jid("bob"), "-m", "after"), 0)
        self.check.equal("listen --retry-connect", (bob.end(), bob.out), (0, ["before", "after"]))


def main(kind):
    return Scene(kind).play()
