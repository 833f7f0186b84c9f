//! §8.5.2.2 and XEP-0160: what waits for somebody who is away.

use crate::common::{DOMAIN, World};

fn message(n: usize) -> String {
    format!("<message to='juliet@{DOMAIN}' type='chat' id='{n}'><body>{n}</body></message>")
}

/// In order, each once, with the time they were sent at, from the hub.
#[test]
fn in_order_and_stamped() {
    let mut w = World::new(&["romeo", "juliet"]);
    let romeo = w.login("romeo", "a");
    for n in 0..600 {
        w.send(romeo, &message(n));
        w.pass(1);
    }
    w.nothing(romeo);
    let juliet = w.login("juliet", "away-still-with-a-negative-priority");
    w.send(juliet, "<presence><priority>-1</priority></presence>");
    w.drop_all();
    let juliet = w.bound("juliet", "b");
    w.send(juliet, "<presence><priority>-5</priority></presence>");
    w.got(juliet);
    assert_eq!(w.loaded("juliet").offline.0, 0, "the first login took them");

    for n in 0..600 {
        w.send(romeo, &message(n));
    }
    assert_eq!(w.loaded("juliet").offline.0, 600, "negative priorities get nothing");
    w.nothing(juliet);
    w.send(juliet, "<presence><priority>1</priority></presence>");
    let got: Vec<_> = w.got(juliet).into_iter().filter(|g| g.name() == "message").collect();
    let bodies: Vec<usize> = got.iter().map(|g| g.body().unwrap().parse().unwrap()).collect();
    assert_eq!(bodies, (0..600).collect::<Vec<usize>>());
    for g in &got {
        assert_eq!(g.count("urn:xmpp:delay", "delay"), 1);
        assert_eq!(g.of("urn:xmpp:delay", "delay", "from").as_deref(), Some(DOMAIN));
        assert_eq!(
            g.of("urn:xmpp:delay", "delay", "stamp").unwrap(),
            "2026-09-21T14:23:20.000Z".replace("14:23:20", &stamp(w.now.unix_ms))
        );
        assert_eq!(g.of("urn:xmpp:sid:0", "stanza-id", "by").unwrap(), format!("juliet@{DOMAIN}"));
        assert_eq!(g.from(), format!("romeo@{DOMAIN}/a"));
    }
    assert_eq!(w.loaded("juliet").offline, (0, 0));
}

fn stamp(ms: u64) -> String {
    let s = ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// Two sessions that become available at once do not both get them.
#[test]
fn no_duplicates_for_two_sessions() {
    let mut w = World::new(&["romeo", "juliet"]);
    let romeo = w.login("romeo", "a");
    for n in 0..300 {
        w.send(romeo, &message(n));
    }
    let (a, b) = (w.bound("juliet", "a"), w.bound("juliet", "b"));
    w.held = true;
    w.hear(a, "<presence/>");
    w.hear(b, "<presence/>");
    w.release();
    let mut all: Vec<usize> = Vec::new();
    for session in [a, b] {
        all.extend(w.got(session).iter().filter_map(|g| g.body()).map(|b| b.parse::<usize>().unwrap()));
    }
    all.sort_unstable();
    assert_eq!(all, (0..300).collect::<Vec<_>>());
}

/// What a session did not take before it was cut off is there for the next one.
#[test]
fn not_forgotten_before_it_is_taken() {
    let mut w = World::new(&["romeo", "juliet"]);
    let romeo = w.login("romeo", "a");
    for n in 0..3 {
        w.send(romeo, &message(n));
    }
    w.ring.stalled = true;
    let juliet = w.login("juliet", "dead-wifi");
    w.close(juliet);
    w.ring.stalled = false;
    w.settle();
    assert_eq!(w.loaded("juliet").offline.0, 3);
    let juliet = w.bound("juliet", "phone");
    w.send(juliet, "<presence/>");
    assert_eq!(w.got(juliet).iter().filter(|g| g.name() == "message").count(), 3);
}

/// Bounded in count and in bytes, from both sides, and who does not fit is told (threat E1).
#[test]
fn bounded() {
    let mut w = World::with(&["romeo", "juliet"], |l| l.offline_messages = 3);
    let romeo = w.login("romeo", "a");
    for n in 0..3 {
        w.send(romeo, &message(n));
        w.nothing(romeo);
    }
    w.send(romeo, &message(3));
    assert!(w.one(romeo).is_error("service-unavailable"));
    assert_eq!(w.loaded("juliet").offline.0, 3);

    let mut w = World::with(&["romeo", "juliet"], |l| l.offline_bytes = 2_000);
    let romeo = w.login("romeo", "a");
    let big = |n: usize| format!("<message to='juliet@{DOMAIN}'><body>{}</body></message>", "x".repeat(n));
    w.send(romeo, &big(2_000));
    assert!(w.one(romeo).is_error("service-unavailable"));
    w.send(romeo, &big(1_500));
    w.nothing(romeo);
}

/// XEP-0160 §3, XEP-0334: what nobody wants an hour later is not kept.
#[test]
fn only_what_is_worth_keeping() {
    let mut w = World::new(&["romeo", "juliet"]);
    let romeo = w.login("romeo", "a");
    for (n, (kind, payload, kept)) in [
        ("chat", "<body>x</body>", true),
        ("normal", "<body>x</body>", true),
        ("chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", false),
        ("chat", "<body>x</body><active xmlns='http://jabber.org/protocol/chatstates'/>", true),
        ("chat", "<body>x</body><no-store xmlns='urn:xmpp:hints'/>", false),
        ("chat", "<received xmlns='urn:xmpp:receipts' id='1'/>", true),
        ("headline", "<body>x</body>", false),
        ("error", "<body>x</body>", false),
    ]
    .into_iter()
    .enumerate()
    {
        let before = w.loaded("juliet").offline.0;
        w.send(romeo, &format!("<message to='juliet@{DOMAIN}' type='{kind}'>{payload}</message>"));
        w.nothing(romeo);
        assert_eq!(w.loaded("juliet").offline.0 - before, u32::from(kept), "{n}: {kind} {payload}");
    }
}

/// A full outbox is an absent reader: the message waits, and comes once there is room.
#[test]
fn a_slow_reader_is_an_absent_one() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.ring.full.insert(juliet);
    w.send(romeo, &message(1));
    w.nothing(romeo);
    assert_eq!(w.loaded("juliet").offline.0, 1);
    w.ring.full.clear();
    w.hub.handle(w.now, stonechat::hub::talk::Input::Drained { session: juliet }, &mut w.ring);
    w.settle();
    assert_eq!(w.one(juliet).body().as_deref(), Some("1"));
    assert_eq!(w.loaded("juliet").offline.0, 0);
}

fn bodies(w: &mut World, session: stonechat::hub::talk::SessionId) -> Vec<String> {
    w.got(session).iter().filter(|g| g.name() == "message").filter_map(|g| g.body()).collect()
}

fn drained(w: &mut World, session: stonechat::hub::talk::SessionId) {
    w.hub.handle(w.now, stonechat::hub::talk::Input::Drained { session }, &mut w.ring);
    w.settle();
}

/// RFC 6120 §10.1: what was put aside for a slow reader is not overtaken, neither while there is room
/// again nor while it is on its way.
#[test]
fn nothing_overtakes_what_was_put_aside() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.ring.full.insert(juliet);
    w.send(romeo, &message(1));
    w.ring.full.clear();
    w.send(romeo, &message(2));
    // What is not kept need not wait.
    w.send(romeo, &format!("<message to='juliet@{DOMAIN}' type='headline'><body>now</body></message>"));
    assert_eq!(bodies(&mut w, juliet), ["now"]);
    w.ring.stalled = true;
    drained(&mut w, juliet);
    w.send(romeo, &message(3));
    assert_eq!(bodies(&mut w, juliet), ["1", "2"]);
    w.ring.stalled = false;
    w.settle();
    assert_eq!(bodies(&mut w, juliet), ["3"]);
    w.send(romeo, &message(4));
    assert_eq!(bodies(&mut w, juliet), ["4"]);
    assert_eq!(w.loaded("juliet").offline, (0, 0));
    // The same at login.
    w.close(juliet);
    w.send(romeo, &message(5));
    let juliet = w.bound("juliet", "b");
    w.held = true;
    w.hear(juliet, "<presence/>");
    w.hear(romeo, &message(6));
    w.release();
    assert_eq!(bodies(&mut w, juliet), ["5", "6"]);
}

/// The same when no more can be put aside: what comes then comes back.
#[test]
fn nothing_overtakes_a_full_store() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.hub.limits.offline_messages = 1;
    w.ring.full.insert(juliet);
    w.send(romeo, &message(1));
    w.ring.full.clear();
    w.nothing(romeo);
    w.send(romeo, &message(2));
    assert_eq!(w.one(romeo).kind(), "error");
    drained(&mut w, juliet);
    assert_eq!(bodies(&mut w, juliet), ["1"]);
    w.send(romeo, &message(3));
    assert_eq!(bodies(&mut w, juliet), ["3"]);
    // Who has it from another resource is not told that it has not.
    let second = w.login("juliet", "c");
    w.got(juliet);
    w.ring.full.insert(juliet);
    w.send(romeo, &message(4).replace(DOMAIN, &format!("{DOMAIN}/b")));
    w.ring.full.clear();
    w.send(romeo, &message(5));
    w.nothing(romeo);
    assert_eq!(bodies(&mut w, second), ["5"]);
    drained(&mut w, juliet);
    assert_eq!(bodies(&mut w, juliet), ["4"]);
}

/// A disk that could not be read once is asked again.
#[test]
fn a_disk_that_refuses_once() {
    let mut w = World::new(&["romeo", "juliet"]);
    let romeo = w.login("romeo", "a");
    w.send(romeo, &message(1));
    let juliet = w.bound("juliet", "b");
    w.ring.unreadable = true;
    w.send(juliet, "<presence/>");
    w.ring.unreadable = false;
    assert_eq!(bodies(&mut w, juliet), [""; 0]);
    w.send(juliet, "<presence><priority>-1</priority></presence>");
    w.send(juliet, "<presence/>");
    assert_eq!(bodies(&mut w, juliet), ["1"]);
}

/// A connection that dies takes no message with it.
#[test]
fn what_was_never_written_is_not_lost() {
    for replaced in [false, true] {
        let mut w = World::new(&["romeo", "juliet"]);
        let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
        let to = |jid: &str, kind: &str, inside: &str| {
            format!("<message to='{jid}' type='{kind}' id='{kind}'>{inside}</message>")
        };
        let (bare, full) = (format!("juliet@{DOMAIN}"), format!("juliet@{DOMAIN}/b"));
        w.send(romeo, &to(&bare, "chat", "<body>1</body>"));
        w.send(romeo, &to(&full, "normal", "<body>2</body>"));
        w.send(romeo, &to(&full, "chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>"));
        for kind in ["headline", "error", "groupchat"] {
            w.send(romeo, &to(&full, kind, "<body>no</body>"));
        }
        w.send(romeo, &format!("<presence to='{full}'/>"));
        w.send(romeo, &format!("<iq to='{full}' type='result' id='r'/>"));
        w.got(romeo);
        let ids: Vec<_> =
            w.peek(juliet).iter().filter_map(|g| g.of("urn:xmpp:sid:0", "stanza-id", "id")).collect();
        if replaced {
            let again = w.bound("juliet", "b");
            w.lose(juliet, Some(&full));
            w.send(again, "<presence/>");
            let got: Vec<_> = w.got(again).into_iter().filter(|g| g.name() == "message").collect();
            assert_eq!(got.iter().filter_map(|g| g.body()).collect::<Vec<_>>(), ["1", "2"]);
            continue;
        }
        w.lose(juliet, None);
        w.nothing(romeo);
        assert_eq!(w.loaded("juliet").offline.0, 2);
        let juliet = w.bound("juliet", "c");
        w.send(juliet, "<presence/>");
        let got: Vec<_> = w.got(juliet).into_iter().filter(|g| g.name() == "message").collect();
        assert_eq!(got.iter().filter_map(|g| g.body()).collect::<Vec<_>>(), ["1", "2"]);
        for (got, id) in got.iter().zip(&ids) {
            assert_eq!(got.count("urn:xmpp:sid:0", "stanza-id"), 1);
            assert_eq!(got.of("urn:xmpp:sid:0", "stanza-id", "id").as_ref(), Some(id), "the id it had");
            assert_eq!(got.count("urn:xmpp:delay", "delay"), 1);
            assert_eq!(got.from(), format!("romeo@{DOMAIN}/a"));
        }
    }
}

/// Each once: not what others have, nor what the store still has.
#[test]
fn what_was_never_written_comes_once() {
    // To the bare address: the other resource got it as well. To the full one: it did not.
    for (to, first, later) in [("", 1, 0), ("/b", 0, 1)] {
        let mut w = World::new(&["romeo", "juliet"]);
        let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
        let (other, never) = (w.login("juliet", "other"), w.login_with("juliet", "never", -1));
        w.drop_all();
        w.send(romeo, &format!("<message to='juliet@{DOMAIN}{to}' type='chat'><body>x</body></message>"));
        assert_eq!(bodies(&mut w, other).len(), first);
        w.lose(juliet, None);
        assert_eq!(bodies(&mut w, other).len(), later, "{to}");
        assert_eq!(bodies(&mut w, never).len(), 0);
        assert_eq!(w.loaded("juliet").offline.0, 0);
    }
    // Lent from the store.
    let mut w = World::new(&["romeo", "juliet"]);
    let romeo = w.login("romeo", "a");
    for n in 0..3 {
        w.send(romeo, &message(n));
    }
    w.ring.stalled = true;
    let juliet = w.bound("juliet", "b");
    w.send(juliet, "<presence/>");
    assert_eq!(w.peek(juliet).iter().filter(|g| g.name() == "message").count(), 3);
    w.lose(juliet, None);
    w.ring.stalled = false;
    assert_eq!(w.loaded("juliet").offline.0, 3);
    let juliet = w.bound("juliet", "b");
    w.send(juliet, "<presence/>");
    assert_eq!(bodies(&mut w, juliet), ["0", "1", "2"]);
}

/// Who waits for an answer gets one.
#[test]
fn a_request_that_was_never_written_is_answered() {
    let mut w = World::new(&["romeo", "juliet"]);
    w.acquaint("romeo", "juliet", stonechat::store::change::Subscription::Both);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.drop_all();
    w.send(romeo, &format!("<iq to='juliet@{DOMAIN}/b' type='get' id='q'><a xmlns='u'/></iq>"));
    w.lose(juliet, None);
    let got = w.got(romeo);
    let answer = got.iter().find(|g| g.name() == "iq").unwrap();
    assert!(
        answer.is_error("service-unavailable") && answer.from() == format!("juliet@{DOMAIN}/b"),
        "{got:?}"
    );
}
