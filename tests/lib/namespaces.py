"""Machines of their own, as far as the network goes: network namespaces (ip-netns(8)) on one cable."""

import ctypes
import os
import subprocess
import sys
import threading

from federation import Acquainted, tool

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
SKIPPED = 77


def ip(*args):
    done = subprocess.run([tool("ip"), *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def _enter(fd):
    if _libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """`with namespace:` what this thread opens and starts is in it."""

    def __init__(self, name):
        self.name, self.local = name, threading.local()
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")

    def __enter__(self):
        stack = self.local.__dict__.setdefault("stack", [])
        stack.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _enter(fd)
        finally:
            os.close(fd)
        return self

    def __exit__(self, *_):
        fd = self.local.stack.pop()
        _enter(fd)
        os.close(fd)

    def remove(self):
        ip("netns", "del", self.name)


class Lan:
    """A switch, and machines that are plugged into it."""

    def __init__(self, *names, net="10.77.0"):
        self.tag, self.machines, self.address = f"sc{os.getpid() % 10000000}", {}, {}
        self.switch = Namespace(f"{self.tag}lan")
        try:
            ip("-n", self.switch.name, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            ip("-n", self.switch.name, "link", "set", "br0", "up")
            for at, n in enumerate(names):
                m = self.machines[n] = Namespace(f"{self.tag}{n}")
                # Loopback routes aside there is only this network: no way out, no name server.
                ip("-n", m.name, "link", "add", "eth0", "type", "veth", "peer", "name", f"to-{n}", "netns", self.switch.name)
                ip("-n", self.switch.name, "link", "set", f"to-{n}", "master", "br0", "up")
                self.address[n] = f"{net}.{at + 1}"
                ip("-n", m.name, "addr", "add", f"{self.address[n]}/24", "dev", "eth0")
                ip("-n", m.name, "link", "set", "eth0", "up")
        except BaseException:
            self.remove()
            raise

    def cut(self, n):
        """Pulls the cable at the switch."""
        ip("-n", self.switch.name, "link", "set", f"to-{n}", "down")

    def heal(self, n):
        ip("-n", self.switch.name, "link", "set", f"to-{n}", "up")

    def remove(self):
        for m in (*self.machines.values(), self.switch):
            try:
                m.remove()
            except OSError as e:
                print(e, file=sys.stderr)


def lan(*names):
    """A `Lan`; where the machine does not allow that, the scene ends here and says so."""
    try:
        return Lan(*names)
    except OSError as e:
        print(f"SKIPPED: no network namespaces here: {e}", flush=True)
        sys.exit(SKIPPED)


class Machine(Acquainted):
    """A hub on a machine of its own, with every door where it is by default."""

    def __init__(self, net, n):
        self.net = net.machines[n]
        with self.net:
            super().__init__(domain=f"{n}.local", ip=net.address[n], flags=["--no-http"], log="debug")
        self.args += ["--s2s", f"{self.ip}:5269", "--s2s-tls", f"{self.ip}:5270"]

    def log(self):
        return self.text()

    def start(self, wait=True):
        with self.net:
            return super().start(wait)

    def client(self, tls=None, **kw):
        with self.net:
            return super().client(tls, **kw)

    @property
    def pin(self):
        with self.net:
            return super().pin
