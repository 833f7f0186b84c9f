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
