"""Hubs of ours that talk to each other, three of them: what must hold whatever is between them."""

import time

from federation_scene import Scene, bare, presence
from flow import Receiver, Sender, balance, settle
from hub import wait_for
from xmpp import body, name

NAMES = ("a", "b", "c")


class Three(Scene):
    """`self.hubs` are a, b and c, of the domains a.SUFFIX …; a subclass says how a cable is cut."""

    suffix = "test"
    # Seconds until it is noticed that nothing comes any more.
    notice = 15

    def __init__(self, title):
        super().__init__(title)
        self.hubs, self.phase = {}, 0

    def cut(self, *names):
        """Nothing gets from one of these to another any more."""
        raise NotImplementedError

    def heal(self, *names):
        raise NotImplementedError

    def domain(self, n):
        return f"{n}.{self.suffix}"

    def login(self, at, user, resource=None, **kw):
        return self.hubs[at].login(user, resource, **kw)

    def every(self):
        return [(x, y) for x in NAMES for y in NAMES if x != y]

    def hello(self):
        """Everybody reaches everybody."""
        people = {n: self.login(n, "romeo", "hello", online=True) for n in NAMES}
        for x, y in self.every():
            people[x].message(people[y].jid, f"hello from {x}")
            self.arrives(f"{x} reaches {y}", people[y], lambda e: body(e) == f"hello from {x}", 20)
        for c in people.values():
            c.close()

    def befriend(self):
        """The watchers see each other."""
        self.people = {n: self.login(n, "watcher", "eye", online=True) for n in NAMES}
        for x, y in self.every():
            self.people[x].send(f"<presence type='subscribe' to='watcher@{self.domain(y)}'/>")
            self.people[y].expect(lambda e: name(e) == "presence" and e.get("type") == "subscribe" and e.get("from") == f"watcher@{self.domain(x)}")
            self.people[y].send(f"<presence type='subscribed' to='watcher@{self.domain(x)}'/>")
            self.arrives(f"watcher@{x} sees watcher@{y}", self.people[x], presence(None, f"watcher@{self.domain(y)}/eye"))

    def flow(self, seconds, meanwhile=lambda: None, repeats=(), every=0.1, batch=10):
        """Messages in all six directions while something happens; the books afterwards. At `repeats` they may come again."""
        self.phase += 1
        receivers = {n: Receiver(lambda n=n: self.login(n, "reader", "book")) for n in NAMES}
        senders = {(x, y): Sender(lambda x=x: self.login(x, "juliet"), f"reader@{self.domain(y)}", f"{self.phase}{x}>{y}", every, batch) for x, y in self.every()}
        for t in (*receivers.values(), *senders.values()):
            t.start()
        time.sleep(seconds / 2)
        meanwhile()
        time.sleep(seconds / 2)
        settle(list(senders.values()), [receivers[y] for _, y in senders])
        for (x, y), s in senders.items():
            balance(self.check, s, receivers[y], repeats=y in repeats)
        total = sum(len(s.accepted) for s in senders.values())
        print(f"     {total} messages accepted, {sum(len(s.unsure) for s in senders.values())} nobody's promise; "
              f"connections {[s.connections for s in senders.values()]}", flush=True)

    def cut_twice(self):
        """a and c are parted, with everything that is under way between them, and meet again."""
        def meanwhile():
            for _ in range(2):
                self.cut("a", "c")
                time.sleep(2)
                self.heal("a", "c")
                time.sleep(2)

        self.flow(4, meanwhile)

    def kill(self):
        """b is killed and started again, twice. Who reads there may hear something twice."""
        def meanwhile():
            for pause in (0.1, 2):
                self.hubs["b"].kill()
                time.sleep(pause)
                self.hubs["b"].start()
                time.sleep(2)

        self.flow(4, meanwhile, repeats=("b",))

    def kill_all(self):
        """All three are killed at once, as in a power cut."""
        def meanwhile():
            for h in self.hubs.values():
                h.kill()
            for h in self.hubs.values():
                h.start()

        self.flow(4, meanwhile, repeats=NAMES)

    def watch(self, what, lose, heal, losers, left, within=15):
        """After `lose()` those at `left` see the watchers of `losers` go, in seconds; after `heal()` they come back."""
        people = self.people
        for c in people.values():
            c.quiet(0.2)
        lose()
        at = time.monotonic()
        for x in left:
            for y in losers:
                self.arrives(f"{what}: {x} sees {y} go", people[x], presence("unavailable", f"watcher@{self.domain(y)}"), within)
        print(f"     after {time.monotonic() - at:.1f} s", flush=True)
        heal()
        at = time.monotonic()
        for x in left:
            for y in losers:
                self.arrives(f"{what}: {x} sees {y} again", people[x], presence(None, f"watcher@{self.domain(y)}"), 45)
        print(f"     after {time.monotonic() - at:.1f} s", flush=True)

    def presence_of_the_killed(self):
        def heal():
            self.hubs["b"].start()
            self.people["b"] = self.login("b", "watcher", "eye", online=True)

        self.watch("b is killed", self.hubs["b"].kill, heal, ("b",), ("a", "c"))
        for y in ("a", "c"):
            self.arrives(f"b sees {y} after its start", self.people["b"], presence(None, f"watcher@{self.domain(y)}"), 30)

    def presence_over_a_cut(self):
        self.watch("a cut", lambda: self.cut("a", "c"), lambda: self.heal("a", "c"), ("c",), ("a",), self.notice)

    def queue_outlives(self):
        """Messages for a hub that is away outlive a kill of the hub that keeps them."""
        waiting = lambda: self.hubs["a"].peer(self.domain("c")).get("queued", 0)
        wait_for("what has arrived waits no longer", lambda: waiting() == 0, 10, 0.2)
        self.hubs["c"].kill()
        with self.login("a", "romeo", "q", online=True) as c:
            for n in range(30):
                c.message(f"reader@{self.domain('c')}", f"kept {n}")
            c.ping()
        try:
            wait_for("30 wait", lambda: waiting() == 30, 20, 0.2)
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.hubs['a'].peer(self.domain('c'))}") from None
        self.check("`peer list` says that 30 wait")
        self.hubs["a"].kill()
        self.hubs["a"].start()
        self.check("after a kill -9 they still do", waiting() == 30, str(self.hubs["a"].peer(self.domain("c"))))
        self.hubs["c"].start()
        with self.login("c", "reader", "late") as r:
            r.send("<presence/>")
            got = []
            while len(got) < 30:
                got.append(body(r.expect(lambda e: name(e) == "message" and body(e), 60)))
            self.check("and arrive in order", got == [f"kept {n}" for n in range(30)], str(got))
            self.check("once", not [e for e in r.quiet(1) if name(e) == "message"])
