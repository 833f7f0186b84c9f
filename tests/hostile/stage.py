"""Where the hostile tests play: a hub, an attacker, a victim, two bystanders."""

import itertools
import os
import re
import socket
import sys
import time

import hub as hubs
from hub import PASSWORD, Hub
from xmpp import CLIENT, Client, Closed, Refused, Timeout, body, condition, name, show

NO_DELAY = "login_delay_ms=4294967295"
ACCOUNTS = ("alice", "bob", "mallory", "victim", "absent")


class Stage:
    """One hub that serves many tests; some start one more of their own with `t.other(…)`."""

    def __init__(self):
        self.count, self.wrong, self.usable, self.mine = 0, [], True, []
        self.numbers = itertools.count(1)
        self.hub = Hub(limits=[NO_DELAY], log="debug").start()
        try:
            self.hub.user(*ACCOUNTS)
            self.alice = self.hub.login("alice", "a", online=True)
            self.bob = self.hub.login("bob", "b", "starttls", online=True)
            self.victim = self.hub.login("victim", "v", online=True)
        except BaseException:
            self.hub.__exit__(*sys.exc_info())
            raise

    @property
    def domain(self):
        return self.hub.domain

    # One test.

    def begin(self, test):
        self.test, self.count, self.wrong, self.mine = test, 0, [], []

    def check(self, what, holds, detail=""):
        """Notes one thing that must hold, and goes on."""
        self.count += 1
        if not holds:
            self.wrong.append(f"{what}{': ' if detail else ''}{detail}")
        return bool(holds)

    def finish(self):
        """Ends what the test has opened; looks at the bystanders. What was wrong."""
        for thing in reversed(self.mine):
            try:
                thing.drop() if isinstance(thing, Client) else thing.__exit__(None)
            except Exception as e:
                self.wrong.append(f"afterwards: {e}")
        self.mine = []
        self.unharmed("afterwards")
        return self.wrong

    def unharmed(self, when):
        """The two bystanders exchange a message, and the hub is the same process."""
        try:
            n = next(self.numbers)
            self.alice.message(self.bob.jid, f"to bob {n}")
            self.bob.message(self.alice.jid, f"to alice {n}")
            self.bob.expect_body(f"to bob {n}", 5)
            self.alice.expect_body(f"to alice {n}", 5)
        except (Closed, Timeout, OSError) as e:
            self.wrong.append(f"{when}: the bystanders are harmed: {e}")
            self.usable = False
        if not self.hub.alive():
            self.wrong.append(f"{when}: the hub is gone, exit {self.hub.proc.returncode}")
            self.usable = False

    def close(self, show=False):
        if show or not self.usable:
            print("--- the hub's log:", *[l[:300] for l in self.hub.lines[-40:]], sep="\n")
        for c in (self.alice, self.bob, self.victim):
            c.drop()
        try:
            self.hub.__exit__(None)
        except Exception as e:
            print(f"FAIL the end: {e}")

    # What tests use.

    def keep(self, thing):
        self.mine.append(thing)
        return thing

    def other(self, *args, **kw):
        """One more hub, stopped when the test ends."""
        hub = Hub(*args, **kw)
        self.keep(hub)
        return hub.start()

    def raw(self, tls=None, hub=None, **kw):
        """A connection with nothing said on it."""
        return self.keep((hub or self.hub).client(tls, **kw))

    def opened(self, tls=None, hub=None, **kw):
        """A stream before login."""
        return self.keep((hub or self.hub).client(tls, **kw).secure())

    def mallory(self, resource=None, tls=None, online=False, **kw):
        """A session of the attacker."""
        return self.keep(self.hub.login("mallory", resource, tls, online=online, **kw))

    def refused(self, what, client, *conditions, seconds=8):
        """The stream must end with one of these stream errors, and the connection with it."""
        try:
            got = client.end(seconds)
        except Timeout:
            return self.check(what, False, f"not refused; it says {[show(e)[:200] for e in client.queue[-3:]]}")
        ok = self.check(what, got in conditions, f"ended with {got}, not {' or '.join(map(str, conditions))}")
        try:
            client.eof(8)
        except Timeout:
            ok = self.check(what, False, "the connection stays open after the stream error")
        return ok

    def answer(self, what, ask, *conditions):
        """`ask()` must be refused with one of these conditions (stanza error or SASL failure)."""
        try:
            got = ask()
            return self.check(what, False, f"it was accepted: {show(got) if hasattr(got, 'tag') else got}")
        except Refused as e:
            return self.check(what, e.condition in conditions, f"{e.condition}, not {' or '.join(conditions)}")
        except Closed as e:
            return self.check(what, False, str(e))

    def arrived(self, seconds=None):
        """What the victim has got by now (a round trip, then everything)."""
        if seconds:
            time.sleep(seconds)
        try:
            self.victim.ping()
        except (Closed, Timeout) as e:
            self.wrong.append(f"the victim is cut off: {e}")
            self.victim = self.hub.login("victim", "v", online=True)
        got, self.victim.queue = self.victim.queue, []
        # Its own presence, and that attackers have left, is no news.
        return [e for e in got if name(e) != "presence" or (e.get("from") != self.victim.jid and e.get("type") != "unavailable")]

    def settled(self, client, seconds=0.15):
        """What a client has got once nothing more comes. An answer that had to ask the store may follow a later one."""
        client.ping()
        got = client.queue + client.quiet(seconds)
        client.queue = []
        return got

    _limits = {}

    @property
    def limits(self):
        """`stonechat limits`, as numbers."""
        if not self._limits:
            out = hubs.run("limits").stdout
            self._limits.update({m[1].replace("-", "_"): int(m[2]) for m in re.finditer(r"^\s*([a-z][\w-]*)\s+(\d+)\b", out, re.M)})
        return self._limits

    def memory(self, hub=None):
        """Resident bytes of the hub."""
        with open(f"/proc/{(hub or self.hub).proc.pid}/status") as f:
            return next(int(l.split()[1]) * 1024 for l in f if l.startswith("VmRSS"))

    def cpu(self, hub=None):
        """CPU seconds that the hub has used."""
        with open(f"/proc/{(hub or self.hub).proc.pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def files(self, hub=None):
        """Open descriptors of the hub."""
        return len(os.listdir(f"/proc/{(hub or self.hub).proc.pid}/fd"))


def tree(el):
    """An element as plain data, for comparison."""
    return (el.tag, dict(el.attrib), (el.text or ""), [(tree(c), c.tail or "") for c in el])
