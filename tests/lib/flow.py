"""Messages that keep flowing while hubs die and cables are cut, and the books on them."""

import itertools
import threading
import time

from xmpp import Closed, Refused, Timeout, body, condition, name

# What the end of a connection looks like.
GONE = (Closed, Timeout, Refused, OSError, AssertionError)
SID = "{urn:xmpp:sid:0}stanza-id"


class Sender(threading.Thread):
    """Sends numbered messages in batches. A batch counts as accepted when a ping after it is answered; what is neither
    accepted nor refused when the connection ends is nobody's promise, and is not said again."""

    def __init__(self, login, to, label, every=0.1, batch=10):
        super().__init__(daemon=True)
        self.login, self.to, self.label, self.every, self.batch = login, to, label, every, batch
        self.accepted, self.unsure, self.refused, self.numbers = [], [], [], itertools.count()
        self.going, self.connections = True, 0

    def run(self):
        while self.going:
            try:
                c = self.login()
                c.timeout = 60
            except GONE:
                time.sleep(0.2)
                continue
            self.connections += 1
            under_way = []
            try:
                while self.going:
                    under_way = [f"{self.label} {next(self.numbers)}" for _ in range(self.batch)]
                    for text in under_way:
                        c.message(self.to, text, id=text.replace(" ", "-"))
                    c.ping()
                    self.accepted += under_way
                    under_way = []
                    self.refused += [(e.get("id"), condition(e), "".join(e.itertext())[-90:]) for e in c.queue if name(e) == "message" and e.get("type") == "error"]
                    c.queue.clear()
                    time.sleep(self.every)
                c.close()
            except GONE:
                self.unsure += under_way
                c.drop()


class Receiver(threading.Thread):
    """Reads what comes, and comes back after every end."""

    def __init__(self, login):
        super().__init__(daemon=True)
        self.login, self.got, self.going, self.connections, self.lock = login, [], True, 0, threading.Lock()

    def run(self):
        while self.going:
            try:
                c = self.login()
                c.send("<presence/>")
            except GONE:
                time.sleep(0.2)
                continue
            self.connections += 1
            try:
                while self.going:
                    try:
                        el = c.next(0.5)
                    except Timeout:
                        continue
                    if name(el) == "message" and el.get("type") != "error" and body(el):
                        ids = frozenset((i.get("by"), i.get("id")) for i in el.iter(SID))
                        with self.lock:
                            self.got.append((body(el), ids))
                c.close()
            except GONE:
                c.drop()

    def seen(self, label):
        """What has come from one sender, as it came: (text, stanza ids)."""
        with self.lock:
            return [(t, i) for t, i in self.got if t.startswith(label + " ")]


def balance(check, sender, receiver, repeats=False):
    """Whether everything accepted has arrived, once and in order. `repeats`: a message may come again, recognizably."""
    seen = receiver.seen(sender.label)
    first, ids, again, unlike = [], {}, 0, []
    for text, those in seen:
        if text in ids:
            again += 1
            if not ids[text] & those:
                unlike.append(text)
        else:
            ids[text] = those
            first.append(text)
    lost = [t for t in sender.accepted if t not in ids]
    label = sender.label
    check(f"{label}: all {len(sender.accepted)} accepted messages have arrived", not lost and sender.accepted, f"lost {len(lost)}: {lost[:8]}")
    if repeats:
        check(f"{label}: what came twice ({again}) says so by its stanza-id", not unlike, str(unlike[:8]))
    else:
        check(f"{label}: none came twice", again == 0, f"{again} did")
    order = [int(t.rpartition(" ")[2]) for t in first]
    wrong = [(a, b) for a, b in zip(order, order[1:]) if b < a]
    check(f"{label}: in order", not wrong, f"{len(wrong)} turns: {wrong[:5]}")
    check(f"{label}: none was refused", not sender.refused, str(sender.refused[:5]))


def settle(senders, receivers, seconds=90):
    """Ends the senders, waits until what they have is there, ends the receivers. `receivers[i]` is the one of `senders[i]`."""
    for s in senders:
        s.going = False
    for s in senders:
        s.join(70)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if all(set(s.accepted) <= {t for t, _ in r.seen(s.label)} for s, r in zip(senders, receivers)):
            break
        time.sleep(0.2)
    # Something that comes twice comes late.
    time.sleep(2)
    for r in set(receivers):
        r.going = False
    for r in set(receivers):
        r.join(10)
