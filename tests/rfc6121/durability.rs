//! What was acknowledged is on disk, and what is not on disk was not acknowledged.

use crate::common::{DOMAIN, World};
use stonechat::store::change::Subscription;

const ITEM: &str = "<query xmlns='jabber:iq:roster'><item jid='a@b.test'/></query>";
const PING: &str = "<ping xmlns='urn:xmpp:ping'/>";

/// Neither the result nor the push comes before the commit.
#[test]
fn a_roster_result_waits_for_the_disk() {
    let mut w = World::new(&["juliet"]);
    let (a, b) = (w.login("juliet", "a"), w.login("juliet", "b"));
    w.held = true;
    w.hear(a, &format!("<iq type='set' id='s'>{ITEM}</iq>"));
    w.nothing(a);
    w.nothing(b);
    assert_eq!(w.item("juliet", "a@b.test"), None);
    w.release();
    assert_eq!((w.got(a).len(), w.got(b).len()), (2, 1));
    assert!(w.item("juliet", "a@b.test").is_some());
}

/// A ping is answered after the messages before it are kept, and so says that they are.
#[test]
fn a_ping_answers_for_all_before_it() {
    let mut w = World::new(&["romeo", "juliet"]);
    let romeo = w.login("romeo", "a");
    w.held = true;
    for n in 0..3 {
        w.hear(romeo, &format!("<message to='juliet@{DOMAIN}'><body>{n}</body></message>"));
    }
    w.hear(romeo, &format!("<iq type='get' id='p' to='{DOMAIN}'>{PING}</iq>"));
    w.nothing(romeo);
    // The account is read, then each message is written; only then the answer.
    while w.loaded("juliet").offline.0 < 3 {
        w.nothing(romeo);
        assert!(w.turn());
    }
    w.release();
    assert_eq!(w.one(romeo).attr("id").as_deref(), Some("p"));
    // Without anything under way it comes at once.
    w.held = true;
    w.hear(romeo, &format!("<iq type='get' id='p' to='{DOMAIN}'>{PING}</iq>"));
    assert_eq!(w.one(romeo).kind(), "result");
}

/// A disk that refuses: an error, and memory as the disk has it.
#[test]
fn a_refusing_disk() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.iq(juliet, "set", "", "<query xmlns='jabber:iq:roster'><item jid='old@b.test' name='Old'/></query>");
    w.ring.broken = true;
    assert!(w.iq(juliet, "set", "", ITEM).is_error("resource-constraint"));
    let remove = "<query xmlns='jabber:iq:roster'><item jid='old@b.test' subscription='remove'/></query>";
    assert!(w.iq(juliet, "set", "", remove).is_error("resource-constraint"));
    let answer = w.iq(juliet, "get", "", "<query xmlns='jabber:iq:roster'/>");
    assert_eq!(answer.count("jabber:iq:roster", "item"), 1);
    assert_eq!(answer.of("jabber:iq:roster", "item", "name").as_deref(), Some("Old"));
    w.close(juliet);
    w.send(romeo, &format!("<message to='juliet@{DOMAIN}' id='m'><body>x</body></message>"));
    assert!(w.one(romeo).is_error("resource-constraint"));
    // It comes round, and so do we.
    w.ring.broken = false;
    w.send(romeo, &format!("<message to='juliet@{DOMAIN}' id='m'><body>x</body></message>"));
    w.nothing(romeo);
    let juliet = w.bound("juliet", "c");
    w.send(juliet, "<presence/>");
    assert_eq!(w.got(juliet).iter().filter(|g| g.name() == "message").count(), 1, "and not the refused one");
    assert_eq!(w.iq(juliet, "set", "", ITEM).kind(), "result");
    assert!(w.item("juliet", "a@b.test").is_some() && w.item("juliet", "old@b.test").is_some());
}

/// Stanzas to an account that is being read keep their order among themselves and with what follows.
#[test]
fn order_survives_the_reading_of_an_account() {
    let mut w = World::new(&["romeo", "juliet"]);
    w.acquaint("juliet", "romeo", Subscription::Both);
    let romeo = w.login("romeo", "a");
    w.held = true;
    for n in 0..5 {
        w.hear(romeo, &format!("<message to='juliet@{DOMAIN}'><body>{n}</body></message>"));
    }
    assert!(w.turn(), "the account is read");
    for n in 5..9 {
        w.hear(romeo, &format!("<message to='juliet@{DOMAIN}'><body>{n}</body></message>"));
    }
    w.release();
    let juliet = w.bound("juliet", "b");
    w.send(juliet, "<presence/>");
    let got: Vec<_> = w.got(juliet).iter().filter_map(|g| g.body()).collect();
    assert_eq!(got, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
}

/// A session with too much under way is read no further, and then again.
#[test]
fn congestion() {
    let mut w = World::with(&["romeo", "juliet"], |l| l.jobs_per_session = 4);
    let romeo = w.login("romeo", "a");
    w.send(romeo, &format!("<message to='juliet@{DOMAIN}'><body>loads it</body></message>"));
    w.held = true;
    for n in 0..4 {
        assert!(!w.hub.congested(romeo), "{n}");
        w.hear(romeo, &format!("<message to='juliet@{DOMAIN}'><body>{n}</body></message>"));
    }
    assert!(w.hub.congested(romeo));
    w.release();
    assert!(!w.hub.congested(romeo));
}

/// More accounts than are kept in memory: those that idle longest are forgotten, and come back.
#[test]
fn idle_accounts_are_forgotten() {
    let names: Vec<String> = (0..20).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut w = World::with(&names, |l| l.cached_accounts = 4);
    let sender = w.login("user0", "a");
    for round in 1..3u32 {
        for name in &names[1..] {
            w.send(sender, &format!("<message to='{name}@{DOMAIN}'><body>x</body></message>"));
            assert_eq!(w.loaded(name).offline.0, round);
        }
        let held = names.iter().filter(|name| w.hub.find(name).is_some()).count();
        assert!(held <= 5, "{held}");
    }
    let last = w.bound("user7", "b");
    w.send(last, "<presence/>");
    assert_eq!(w.got(last).iter().filter(|g| g.name() == "message").count(), 2);
}
