"""A small Debian of our own: packages of ours, and a place to install them."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hub as hubs

MAINTAINER = "A Test <test@stonechat.invalid>"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SKIPPED = 77


def script(name, *args, check=True, env=None):
    """One of ours, of build/. The same time of the sources every time."""
    p = subprocess.run([hubs.TOP / "build" / name, *map(str, args)], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
                       env={**os.environ, "SOURCE_DATE_EPOCH": "1764000000", "MAINTAINER": MAINTAINER, **(env or {})}, check=False)
    if check and p.returncode != 0:
        raise AssertionError(f"build/{name}: exit {p.returncode}\n{p.stdout}{p.stderr}")
    return p


def package(directory, version, architecture="amd64", binary=hubs.BINARY):
    """A package with this binary, as build/release makes it."""
    directory.mkdir(exist_ok=True)
    script("deb/make", binary, architecture, version, directory)
    return directory / f"stonechat_{version}_{architecture}.deb"


class Debian:
    """`with Debian() as debian:` a fresh one; commands run in it as root."""

    def __init__(self):
        if os.getuid() != 0:
            print("SKIPPED: only root can have another root directory")
            sys.exit(SKIPPED)
        self.dir = Path(tempfile.mkdtemp(prefix="stonechat-debian-"))
        self.root = self.dir / "root"
        self.root.mkdir(0o755)
        subprocess.run(["tar", "-C", self.root, "-xf", hubs.TOOLS / "bookworm.tar"], check=True)

    def command(self, *args):
        return ["unshare", "--mount", "sh", "-c", 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', self.root, "env", "-i", f"PATH={PATH}", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", *map(str, args)]

    def run(self, *args, input=None, check=True, seconds=60):
        p = subprocess.run(self.command(*args), input=input, stdin=subprocess.DEVNULL if input is None else None, capture_output=True,
                           text=True, timeout=seconds, check=False)
        if check and p.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, args))}: exit {p.returncode}\n{p.stdout}{p.stderr}")
        return p

    def take(self, file):
        """The file, as its path in here."""
        shutil.copy(file, self.root / "root")
        return f"/root/{Path(file).name}"

    def install(self, deb, *options, check=True):
        """As a person does: apt install ./x.deb."""
        return self.run("apt-get", "install", "-y", *options, self.take(deb), check=check)

    def files(self):
        """All there is, but for what apt and dpkg keep for themselves."""
        own = ("proc", "sys", "dev", "run", "root", "var/cache", "var/log", "var/lib/apt", "var/lib/dpkg")
        found = set()
        for top, folders, files in os.walk(self.root):
            at = os.path.relpath(top, self.root)
            folders[:] = [f for f in folders if os.path.normpath(os.path.join(at, f)) not in own]
            found |= {os.path.normpath(os.path.join(at, f)) for f in folders + files}
        return found

    def text(self, path):
        return (self.root / path.lstrip("/")).read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)


class Booted(Debian):
    """The same with systemd as its first process (systemd-nspawn(1)), in a network of its own that is only loopback."""

    def __init__(self, name="pi"):
        super().__init__()
        self.nspawn, self.inside, self.name = None, None, name

    def __enter__(self):
        self.run("sh", "-c", "apt-get install -y /root/systemd/*.deb && rm -r /root/systemd", seconds=120)
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        self.said = (self.dir / "boot").open("w+")
        self.nspawn = subprocess.Popen(["systemd-nspawn", "-q", "-D", self.root, "--boot", "--register=no", "--keep-unit", "--console=pipe", "--private-network"],
                                       stdin=subprocess.DEVNULL, stdout=self.said, stderr=subprocess.STDOUT)
        try:
            self.inside = hubs.wait_for("a first process", self.first, 20)
            hubs.wait_for("systemd is up", lambda: self.nspawn.poll() is not None or self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"), 60, 0.5)
            assert self.nspawn.poll() is None
        except AssertionError as e:
            self.said.seek(0)
            print(self.said.read()[-3000:])
            self.__exit__()
            print(f"SKIPPED: systemd-nspawn does not boot here: {e}", flush=True)
            sys.exit(SKIPPED)
        return self

    def first(self):
        children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children")
        return self.nspawn.poll() is not None or children.exists() and children.read_text().split()[:1]

    def command(self, *args):
        if not self.inside:
            return super().command(*args)
        return ["nsenter", "-t", self.inside[0], "-m", "-u", "-i", "-n", "-p", "env", "-i", f"PATH={PATH}", "HOME=/root", "DEBIAN_FRONTEND=noninteractive",
                "LC_ALL=C.UTF-8", *map(str, args)]

    def unit(self, *names, of="stonechat"):
        """Properties of a unit, as text."""
        p = self.run("systemctl", "show", of, *(f"--property={n}" for n in names))
        known = dict(line.split("=", 1) for line in p.stdout.splitlines())
        return [known[n] for n in names] if len(names) > 1 else known[names[0]]

    def log(self):
        return self.run("journalctl", "-u", "stonechat", "--no-pager", "-o", "cat").stdout

    def __exit__(self, *_):
        if self.nspawn and self.nspawn.poll() is None:
            self.nspawn.terminate()
            try:
                self.nspawn.wait(20)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait(5)
        self.inside = None
        super().__exit__()
