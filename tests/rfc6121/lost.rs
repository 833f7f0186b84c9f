//! XEP-0198 §5: what a session is while it has no connection.

use crate::common::{DOMAIN, World};
use stonechat::hub::talk::{Input, SessionId, Sink};
use stonechat::jid::FullJid;
use stonechat::stanza::Stanza;
use stonechat::xml::{Caps, Scan, Scope};

fn hear(w: &mut World, input: Input<'_>) {
    w.hub.handle(w.now, input, &mut w.ring);
    w.settle();
}

fn lost(w: &mut World, session: SessionId) {
    lost_with(w, session, &[]);
}

fn lost_with(w: &mut World, session: SessionId, unread: &[&str]) {
    hear(w, Input::Lost { session, unread });
}

/// All that it was sent, and may not have got.
fn unread(w: &mut World, session: SessionId) -> Vec<String> {
    w.got(session).into_iter().map(|got| got.0).collect()
}

/// What net/ does with what was not acknowledged when it is known not to come.
fn expire(w: &mut World, session: SessionId, unread: &[String], saved: bool) {
    let to = FullJid::parse(&w.jid(session)).unwrap();
    w.close(session);
    for text in unread {
        let mut scan = Scan::new();
        let text = scan.element(text.as_bytes(), &Scope::default(), &Caps::judged_before()).unwrap();
        let stanza = Stanza::new(text, &scan).unwrap();
        hear(w, Input::Unsent { to: &to, priority: Some(0), saved, stanza: &stanza });
    }
}

fn back(w: &mut World, session: SessionId) {
    hear(w, Input::Back { session });
}

fn message(to: &str, n: usize) -> String {
    format!("<message to='{to}' type='chat' id='{n}'><body>{n}</body></message>")
}

fn bodies(w: &mut World, by: SessionId) -> Vec<String> {
    w.got(by).iter().filter_map(|g| g.body()).collect()
}

/// What only it would get is on disk, so that the hub can stop at any time; it comes first, when it is back.
#[test]
fn its_messages_wait_on_disk() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.drop_all();
    lost(&mut w, juliet);
    for n in 0..3 {
        w.send(romeo, &message(&format!("juliet@{DOMAIN}"), n));
    }
    w.send(romeo, &message(&format!("juliet@{DOMAIN}/b"), 3));
    assert_eq!(w.loaded("juliet").offline.0, 4);
    w.nothing(juliet);
    w.nothing(romeo);
    back(&mut w, juliet);
    w.send(romeo, &message(&format!("juliet@{DOMAIN}"), 4));
    assert_eq!(bodies(&mut w, juliet), ["0", "1", "2", "3", "4"]);
    assert_eq!(w.loaded("juliet").offline.0, 0);
}

/// What others have read anyway waits for it where it is, so that it gets it as well, and nobody gets it twice.
#[test]
fn others_read_meanwhile() {
    let mut w = World::new(&["romeo", "juliet"]);
    let romeo = w.login("romeo", "a");
    let (b, c) = (w.login("juliet", "b"), w.login("juliet", "c"));
    w.drop_all();
    lost(&mut w, b);
    for n in 0..3 {
        w.send(romeo, &message(&format!("juliet@{DOMAIN}"), n));
    }
    assert_eq!(w.loaded("juliet").offline.0, 0);
    assert_eq!(bodies(&mut w, c), ["0", "1", "2"]);
    back(&mut w, b);
    assert_eq!(bodies(&mut w, b), ["0", "1", "2"]);
}

/// One that reads no messages to the bare address would never be given what waits on disk.
#[test]
fn one_that_is_not_available() {
    let mut w = World::new(&["romeo", "juliet"]);
    let romeo = w.login("romeo", "a");
    let juliet = w.bound("juliet", "b");
    w.drop_all();
    lost(&mut w, juliet);
    w.send(romeo, &message(&format!("juliet@{DOMAIN}/b"), 1));
    assert_eq!(w.loaded("juliet").offline.0, 0);
    back(&mut w, juliet);
    assert_eq!(bodies(&mut w, juliet), ["1"]);
}

/// A new session has the right of way over one that may never come back.
#[test]
fn it_makes_room() {
    let mut w = World::with(&["juliet"], |limits| limits.resources_per_account = 2);
    let (b, c) = (w.login("juliet", "b"), w.login("juliet", "c"));
    assert!(w.bind("juliet", "d").is_err());
    lost(&mut w, c);
    assert!(w.bind("juliet", "d").is_ok());
    assert!(w.hub.session(b).is_some());
    assert!(w.hub.session(c).is_none());
}

/// What is of no use later is not kept; an answer is, and so is what only its resource can have.
#[test]
fn what_is_worth_waiting() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.drop_all();
    lost(&mut w, juliet);
    let to = format!("juliet@{DOMAIN}/b");
    w.send(romeo, &format!("<message to='{to}' type='headline'><body>news</body></message>"));
    w.send(
        romeo,
        &format!("<message to='{to}'><active xmlns='http://jabber.org/protocol/chatstates'/></message>"),
    );
    w.send(romeo, &format!("<message to='{to}' type='error' id='e'><body>oops</body></message>"));
    assert_eq!(w.loaded("juliet").offline.0, 0);
    back(&mut w, juliet);
    assert_eq!(bodies(&mut w, juliet), ["oops"]);
}

/// What it has not acknowledged is on disk as soon as its connection is lost, before what comes later; and whoever
/// comes after it gets all of it in order.
#[test]
fn what_it_had_not_acknowledged() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.drop_all();
    for n in 0..3 {
        w.send(romeo, &message(&format!("juliet@{DOMAIN}"), n));
    }
    w.send(romeo, &format!("<presence to='juliet@{DOMAIN}/b'/>"));
    let texts = unread(&mut w, juliet);
    assert_eq!(texts.len(), 4);
    let slices: Vec<&str> = texts.iter().map(String::as_str).collect();
    lost_with(&mut w, juliet, &slices);
    assert_eq!(w.loaded("juliet").offline.0, 3);
    for n in 3..5 {
        w.send(romeo, &message(&format!("juliet@{DOMAIN}"), n));
    }
    expire(&mut w, juliet, &texts, true);
    assert_eq!(w.loaded("juliet").offline.0, 5);
    let again = w.bound("juliet", "c");
    w.send(again, "<presence/>");
    assert_eq!(bodies(&mut w, again), ["0", "1", "2", "3", "4"]);
    assert_eq!(w.loaded("juliet").offline, (0, 0));
    w.nothing(romeo);
}

/// If there is no room on disk for all of it, it stays where it is: nobody could tell later which is where.
#[test]
fn what_finds_no_room_is_not_forgotten() {
    let mut w = World::with(&["romeo", "juliet"], |limits| limits.offline_messages = 2);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.drop_all();
    for n in 0..3 {
        w.send(romeo, &message(&format!("juliet@{DOMAIN}"), n));
    }
    let texts = unread(&mut w, juliet);
    let slices: Vec<&str> = texts.iter().map(String::as_str).collect();
    lost_with(&mut w, juliet, &slices);
    let saved = w.hub.session(juliet).unwrap().has_saved();
    expire(&mut w, juliet, &texts, saved);
    assert_eq!(w.loaded("juliet").offline.0, 2);
    let back = w.one(romeo);
    assert!(back.is_error("service-unavailable"));
    assert_eq!(back.attr("id").unwrap(), "2");
}

/// If it comes back it is sent them again from where they were, and not from the disk as well.
#[test]
fn what_it_is_sent_again() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.drop_all();
    for n in 0..3 {
        w.send(romeo, &message(&format!("juliet@{DOMAIN}"), n));
    }
    let texts = unread(&mut w, juliet);
    let slices: Vec<&str> = texts.iter().map(String::as_str).collect();
    lost_with(&mut w, juliet, &slices);
    w.send(romeo, &message(&format!("juliet@{DOMAIN}"), 3));
    // It had got the first of them, and is lost once more before it has said anything.
    for _ in 0..2 {
        w.ring.stalled = true;
        w.ring.outbox(juliet).unwrap().extend(texts[1..].concat().bytes());
        back(&mut w, juliet);
        w.send(romeo, &message(&format!("juliet@{DOMAIN}"), 4));
        let texts = unread(&mut w, juliet);
        let slices: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(slices.len(), 2, "what is newer waits");
        lost_with(&mut w, juliet, &slices);
    }
    assert_eq!(w.loaded("juliet").offline.0, 6);
    w.ring.stalled = false;
    w.ring.outbox(juliet).unwrap().extend(texts[1..].concat().bytes());
    back(&mut w, juliet);
    assert_eq!(bodies(&mut w, juliet), ["1", "2", "3", "4", "4"]);
    assert_eq!(w.loaded("juliet").offline, (0, 0));
    w.send(romeo, &message(&format!("juliet@{DOMAIN}"), 5));
    assert_eq!(bodies(&mut w, juliet), ["5"]);
}

/// Another device does not wait for it.
#[test]
fn another_comes_meanwhile() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.drop_all();
    w.send(romeo, &message(&format!("juliet@{DOMAIN}"), 0));
    let texts = unread(&mut w, juliet);
    lost_with(&mut w, juliet, &[&texts[0]]);
    w.send(romeo, &message(&format!("juliet@{DOMAIN}"), 1));
    let other = w.bound("juliet", "c");
    w.send(other, "<presence/>");
    assert_eq!(bodies(&mut w, other), ["0", "1"]);
    assert_eq!(w.loaded("juliet").offline, (0, 0));
    w.send(romeo, &message(&format!("juliet@{DOMAIN}"), 2));
    assert_eq!(bodies(&mut w, other), ["2"]);
    assert_eq!(bodies(&mut w, juliet), ["2"]);
    back(&mut w, juliet);
    w.send(romeo, &message(&format!("juliet@{DOMAIN}"), 3));
    assert_eq!(bodies(&mut w, juliet), ["3"]);
    expire(&mut w, juliet, &texts, true);
    assert_eq!(w.loaded("juliet").offline, (0, 0));
}
