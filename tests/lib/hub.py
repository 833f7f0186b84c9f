"""Starts and stops hubs for tests, each on a loopback address of its own with its own data directory.

The binary is $STONECHAT, or target/release/stonechat of this tree; where $STONECHAT_HUB is another, that one is the hub and
obeys the operator, and $STONECHAT the client. Every wait is bounded, and only
processes that were started here are ended.
"""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import time
from pathlib import Path

import xmpp

TOP = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
BINARY = os.environ.get("STONECHAT") or str(TARGET / "release" / "stonechat")
HUB = os.environ.get("STONECHAT_HUB") or BINARY
TOOLS = TARGET / "tests"
PASSWORD = "Tr1ck-ier Pässwörd"

_count = itertools.count(1)

if threading.current_thread() is threading.main_thread():
    # Who is told to stop (tests/run, after its time) still ends what was started here.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def fresh_address():
    """A loopback address that no other test run uses: made of our process id."""
    pid = os.getpid()
    return f"127.{64 + (pid >> 14) % 128}.{1 + (pid >> 6) % 254}.{(pid & 63) * 4 + next(_count) % 4}"


def free_port(ip, wanted):
    """`wanted` if it can be had at this address, else any."""
    for port in (wanted, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((ip, port))
                return s.getsockname()[1]
            except OSError:
                continue
    raise RuntimeError(f"no port at {ip}")


def wait_for(what, condition, seconds=10, step=0.02):
    """Polls until `condition()` is true; its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(step)


class Hub:
    """A hub with a life of its own: `with Hub() as hub: …` starts it and always stops it."""

    def __init__(self, *args, domain="hub.test", data=None, limits=(), env=None, log="info", listeners=True,
                 wrapper=(), umask=-1, flags=("--no-s2s", "--no-http", "--no-mdns"), ip=None):
        self.domain, self.args, self.limits, self.log_level = domain, list(args), list(limits), log
        self.dir = Path(tempfile.mkdtemp(prefix="stonechat-test-"))
        self.data = Path(data) if data else self.dir / "data"
        self.ip = ip or fresh_address()
        self.ports = {n: free_port(self.ip, p) for n, p in (("c2s", 5222), ("c2s-tls", 5223), ("c2s-plain", 5224))}
        self.env, self.wrapper, self.umask = {**os.environ, **(env or {})}, list(wrapper), umask
        self.flags, self.listeners, self.proc, self.lines = list(flags), listeners, None, []

    def command(self):
        cmd = [*self.wrapper, HUB, "serve", "--data", str(self.data), "--domain", self.domain]
        if self.listeners:
            for name, port in self.ports.items():
                cmd += [f"--{name}", f"{self.ip}:{port}"]
        cmd += self.flags + ["--log", self.log_level]
        for limit in self.limits:
            cmd += ["--limit", limit]
        return cmd + self.args

    def start(self, wait=True):
        """Starts it and waits for the line `ready`."""
        self.lines = []
        self.started = time.monotonic()
        self.proc = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, env=self.env, umask=self.umask)
        self.ready_after, self.out, self.readers = None, [], []
        for pipe, keep in ((self.proc.stderr, self._said), (self.proc.stdout, self.out.append)):
            self.readers.append(threading.Thread(target=self._follow, args=(pipe, keep), daemon=True))
            self.readers[-1].start()
        if wait:
            wait_for("the hub's line `ready`", lambda: self.ready_after or self.proc.poll() is not None, 15, 0.002)
            if self.ready_after is None:
                for reader in self.readers:
                    reader.join(2)
                raise AssertionError(f"the hub ended with {self.proc.returncode}:\n{self.text()}")
        return self

    def _follow(self, pipe, keep):
        with pipe:
            for line in pipe:
                keep(line.decode("utf-8", "replace").rstrip("\n"))

    def _said(self, line):
        self.lines.append(line)
        if self.ready_after is None and (line == "ready" or line.split()[-1:] == ["ready"]):
            self.ready_after = time.monotonic() - self.started

    def text(self):
        """Everything it has said so far."""
        return "\n".join(self.lines + self.out)

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def stop(self, how=signal.SIGTERM, seconds=10):
        """Ends it; its exit code."""
        if self.alive():
            self.proc.send_signal(how)
            try:
                self.proc.wait(seconds)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait(5)
                raise AssertionError(f"the hub did not end within {seconds} s of {how!r}") from None
        return self.proc.returncode if self.proc else None

    def kill(self):
        self.proc.kill()
        self.proc.wait(5)

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, *_):
        died = self.proc is not None and self.proc.poll() is not None
        try:
            self.stop()
        finally:
            if kind is not None:
                if died:
                    print(f"--- the hub had ended by itself: {self.proc.returncode}", file=sys.stderr)
                print("--- the hub's log:", *self.text().splitlines()[-80:], sep="\n", file=sys.stderr)
            self.remove()

    # Its command line.

    def run(self, *args, input=None, check=True, timeout=30, env=None):
        """A subcommand on this hub's data directory."""
        return run(*args, "--data", str(self.data), input=input, check=check, timeout=timeout, env=env, binary=HUB)

    def user(self, *names, password=PASSWORD):
        """Adds accounts in this domain."""
        for n in names:
            self.run("user", "add", f"{n}@{self.domain}", "--password-stdin", input=password + "\n")
        return self

    # Ways in.

    def where(self, name="c2s"):
        return self.ip, self.ports[name]

    @property
    def ca(self):
        return str(self.data / "ca.pem")

    def client(self, tls=None, **kw):
        """A connection: on the plain listener, by STARTTLS or by direct TLS (both verified)."""
        where = self.where({None: "c2s-plain", "starttls": "c2s", "direct": "c2s-tls"}[tls])
        kw.setdefault("ca", self.ca if tls else None)
        return xmpp.Client(where, self.domain, tls, **kw)

    def login(self, user, resource=None, tls=None, password=PASSWORD, online=False, **kw):
        """A bound session."""
        c = self.client(tls, **kw).login(user, password, resource)
        return c.online() if online else c


def run(*args, input=None, check=True, timeout=30, env=None, binary=None):
    """The binary with these arguments; text in, text out."""
    p = subprocess.run([binary or BINARY, *map(str, args)], input=input, capture_output=True, text=True, timeout=timeout,
                       env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL if input is None else None)
    if check and p.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, args))}: exit {p.returncode}\n{p.stdout}{p.stderr}")
    return p


class Checks:
    """Collects what a scene has shown, one printed line each; `finish()` is its exit code."""

    def __init__(self, scene):
        self.scene, self.passed, self.failed, self.start = scene, 0, [], time.monotonic()

    def __call__(self, what, holds=True, detail=""):
        if holds:
            self.passed += 1
            print(f"ok   {what}", flush=True)
        else:
            self.failed.append(what)
            print(f"FAIL {what}{': ' if detail else ''}{detail}", flush=True)
        return bool(holds)

    def equal(self, what, got, want):
        return self(what, got == want, f"got {got!r}, not {want!r}")

    def finish(self):
        print(f"{self.scene}: {self.passed} passed, {len(self.failed)} failed")
        return 1 if self.failed or not self.passed else 0


def in_venv():
    """Goes on under the Python that tests/run has set up (with slixmpp), if this is another."""
    wanted = TOOLS / "venv"
    if Path(sys.prefix).resolve() != wanted.resolve():
        python = wanted / "bin" / "python"
        if not python.exists():
            sys.exit(f"{python} is missing: run tests/run setup")
        os.execv(python, [str(python), *sys.argv])
