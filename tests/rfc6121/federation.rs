//! Two domains (RFC 6120 §10.4, RFC 6121 §3 and §4 between servers), messages for a peer that is away,
//! and what a peer may not do.

use super::common::{World, short};
use stonechat::hub::peer::Link;
use stonechat::hub::talk::Lost;
use stonechat::store::change::{Answer, Ask, Item, Subscription};
use stonechat::xml::ns;

const CAROL: &str = "carol@far.test";

fn queued(w: &World) -> u32 {
    match w.ask(Vec::new(), Ask::Forwards) {
        Answer::Forwards(all) => all.iter().map(|f| f.count).sum(),
        other => panic!("{other:?}"),
    }
}

/// Alice, who is there, and a link to far.test.
fn linked() -> (World, stonechat::hub::talk::SessionId, stonechat::hub::talk::SessionId) {
    let mut w = World::new(&["alice", "bob"]);
    let far = w.peer("far.test");
    let alice = w.login("alice", "a");
    w.link(far);
    (w, alice, far)
}

fn message(n: u32) -> String {
    format!("<message to='{CAROL}' type='chat' id='m{n}'><body>{n}</body></message>")
}

#[test]
fn rfc6120_s10_4_without_federation_there_is_nobody_else() {
    let mut w = World::new(&["alice"]);
    let alice = w.login("alice", "a");
    w.send(alice, &message(1));
    assert!(w.one(alice).is_error("remote-server-not-found"));
    w.send(alice, &format!("<presence to='{CAROL}'/>"));
    w.nothing(alice);
    assert!(w.ring.dials.is_empty());
}

#[test]
fn rfc6120_s10_4_a_stanza_goes_to_the_other_domain_with_its_senders_address() {
    let (mut w, alice, far) = linked();
    w.send(alice, &format!("<iq type='get' id='q' to='{CAROL}/r'><query xmlns='jabber:iq:version'/></iq>"));
    let got = w.one(far);
    assert_eq!(
        (got.name(), got.from(), got.attr("to").unwrap()),
        ("iq".into(), "alice@hub.test/a".into(), format!("{CAROL}/r"))
    );
    w.remote(far, &format!("<iq type='result' id='q' from='{CAROL}/r' to='alice@hub.test/a'/>"));
    assert_eq!(w.one(alice).from(), format!("{CAROL}/r"));
}

#[test]
fn a_message_says_in_our_name_which_one_it_is_and_nobody_else_says_so() {
    let (mut w, alice, far) = linked();
    let forged = "<stanza-id xmlns='urn:xmpp:sid:0' by='hub.test' id='x'/>";
    w.send(alice, &format!("<message to='{CAROL}'>{forged}<body>hi</body></message>"));
    let got = w.one(far);
    assert_eq!(got.count(ns::SID, "stanza-id"), 1);
    assert_eq!(got.of(ns::SID, "stanza-id", "by").unwrap(), "hub.test");
    assert_ne!(got.of(ns::SID, "stanza-id", "id").unwrap(), "x");
    assert!(!got.has(ns::DELAY, "delay"));
}

#[test]
fn an_answer_waits_until_the_peer_has_what_came_before() {
    let (mut w, alice, far) = linked();
    w.ring.stalled = true;
    w.send(alice, &message(1));
    w.send(alice, "<iq type='get' id='p' to='hub.test'><ping xmlns='urn:xmpp:ping'/></iq>");
    w.send(alice, "<iq type='get' id='p2' to='hub.test'><ping xmlns='urn:xmpp:ping'/></iq>");
    w.nothing(alice);
    assert_eq!(w.got(far).len(), 1);
    w.ring.stalled = false;
    w.settle();
    let ids: Vec<_> = w.got(alice).iter().map(|g| g.attr("id").unwrap()).collect();
    assert_eq!(ids, ["p", "p2"]);
    assert_eq!(queued(&w), 0, "it never was on disk");
    // And nothing is left of it.
    w.send(alice, "<iq type='get' id='p3' to='hub.test'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert_eq!(w.one(alice).attr("id").unwrap(), "p3");
}

#[test]
fn what_a_lost_link_has_not_taken_is_on_disk_before_anything_is_acknowledged() {
    let (mut w, alice, far) = linked();
    w.ring.stalled = true;
    w.send(alice, &message(1));
    w.send(alice, "<iq type='get' id='p' to='hub.test'><ping xmlns='urn:xmpp:ping'/></iq>");
    w.held = true;
    w.unlink(far, Lost::Timeout);
    w.nothing(alice);
    w.ring.stalled = false;
    w.release();
    assert_eq!(queued(&w), 1);
    assert_eq!(w.one(alice).attr("id").unwrap(), "p");
}

#[test]
fn nobody_waits_for_a_link_that_was_lost() {
    let (mut w, alice, far) = linked();
    w.ring.stalled = true;
    w.unlink(far, Lost::Timeout);
    w.send(alice, &message(1));
    w.send(alice, "<iq type='get' id='p' to='hub.test'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert_eq!(w.one(alice).attr("id").unwrap(), "p");
    assert_eq!(queued(&w), 1);
    w.ring.stalled = false;
    w.link(far);
    assert_eq!(w.one(far).body().unwrap(), "1");
}

#[test]
fn an_answer_waits_for_what_is_parked_too() {
    let (mut w, alice, far) = linked();
    (w.ring.stalled, w.held) = (true, true);
    w.send(alice, &message(1));
    w.send(alice, "<message to='bob@hub.test' type='chat'><body>x</body></message>");
    w.send(alice, "<iq type='get' id='p' to='hub.test'><ping xmlns='urn:xmpp:ping'/></iq>");
    w.unlink(far, Lost::Timeout);
    while w.got(alice).is_empty() {
        assert!(w.turn(), "no answer");
    }
    assert_eq!((queued(&w), w.loaded("bob").offline.0), (1, 1));
}

#[test]
fn answers_that_wait_for_a_peer_are_counted() {
    let (mut w, alice, _) = linked();
    w.ring.stalled = true;
    w.send(alice, &message(1));
    assert!(!w.hub.congested(alice));
    for _ in 0..w.hub.limits.jobs_per_session {
        w.send(alice, "<iq type='get' id='p' to='hub.test'><ping xmlns='urn:xmpp:ping'/></iq>");
    }
    assert!(w.hub.congested(alice));
    w.ring.stalled = false;
    w.settle();
    assert!(!w.hub.congested(alice));
}

#[test]
fn what_a_full_outbox_holds_comes_before_what_did_not_fit() {
    let (mut w, alice, far) = linked();
    w.ring.stalled = true;
    w.send(alice, &message(1));
    w.send(alice, &message(2));
    w.ring.full.insert(far);
    w.send(alice, &message(3));
    w.send(alice, &message(4));
    w.ring.full.clear();
    w.unlink(far, Lost::Timeout);
    w.send(alice, &message(5));
    assert_eq!(queued(&w), 5);
    w.ring.stalled = false;
    w.link(far);
    let bodies: Vec<_> = w.got(far).iter().filter_map(|g| g.body()).collect();
    assert_eq!(bodies, ["1", "2", "3", "4", "5"]);
}

#[test]
fn who_takes_nothing_is_not_read_for_again_and_again() {
    let (mut w, alice, far) = linked();
    w.ring.full.insert(far);
    w.send(alice, &message(1));
    w.held = true;
    w.send(alice, &message(2));
    let mut turns = 0;
    while w.turn() {
        turns += 1;
    }
    assert_eq!(turns, 1, "to write it");
    w.ring.full.clear();
    w.held = false;
    w.drained(far);
    assert_eq!(w.got(far).len(), 2);
}

#[test]
fn a_link_that_comes_and_goes_while_the_disk_is_slow() {
    let (mut w, alice, far) = linked();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    for n in 0..3 {
        w.send(alice, &message(n));
    }
    w.held = true;
    w.link(far);
    w.unlink(far, Lost::Timeout);
    w.link(far);
    w.release();
    assert_eq!(w.got(far).len(), 3, "once each");
    assert_eq!((queued(&w), w.hub.peer_at(far).unwrap().queued), (0, (0, 0)));
}

#[test]
fn what_goes_back_is_not_delivered_as_well() {
    let (mut w, alice, far) = linked();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    w.send(alice, &message(1));
    w.pass(8 * 86_400);
    w.send(alice, &message(2));
    w.held = true;
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    w.link(far);
    w.release();
    assert_eq!(w.one(alice).attr("id").unwrap(), "m1");
    assert_eq!(w.one(far).attr("id").unwrap(), "m2");
    assert_eq!((queued(&w), w.hub.peer_at(far).unwrap().queued), (0, (0, 0)));
}

#[test]
fn what_cannot_be_read_now_still_comes_first() {
    let (mut w, alice, far) = linked();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    w.send(alice, &message(1));
    w.ring.unreadable = true;
    w.link(far);
    w.ring.unreadable = false;
    w.send(alice, &message(2));
    let ids: Vec<_> = w.got(far).iter().map(|g| g.attr("id").unwrap()).collect();
    assert_eq!(ids, ["m1", "m2"]);
}

#[test]
fn messages_for_a_peer_that_is_away_come_in_order_when_it_is_back() {
    let (mut w, alice, far) = linked();
    w.ring.stalled = true;
    w.send(alice, &message(1));
    w.send(alice, &message(2));
    w.unlink(far, Lost::Timeout);
    w.send(alice, &message(3));
    // The link that broke off is tried again at once; that fails, too.
    assert_eq!(w.ring.dials.last(), Some(&(far, 0)));
    w.unlink(far, Lost::Timeout);
    assert!(w.ring.dials.last().unwrap().1 > 0, "later, now");
    w.send(alice, &message(4));
    assert_eq!(queued(&w), 4);
    w.nothing(alice);
    w.ring.stalled = false;
    w.link(far);
    w.send(alice, &message(5));
    let got = w.got(far);
    let bodies: Vec<_> = got.iter().filter_map(|g| g.body()).collect();
    assert_eq!(bodies, ["1", "2", "3", "4", "5"]);
    for late in &got[..4] {
        assert_eq!(late.of(ns::DELAY, "delay", "from").unwrap(), "hub.test");
        assert_eq!(late.count(ns::SID, "stanza-id"), 1);
    }
    assert!(!got[4].has(ns::DELAY, "delay"));
    assert_eq!(queued(&w), 0);
}

#[test]
fn what_came_out_of_the_store_and_was_not_taken_is_still_there() {
    let (mut w, alice, far) = linked();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    for n in 0..3 {
        w.send(alice, &message(n));
    }
    w.ring.stalled = true;
    w.link(far);
    assert_eq!(w.peek(far).len(), 3);
    w.unlink(far, Lost::Timeout);
    assert_eq!(queued(&w), 3, "neither lost nor doubled");
    w.ring.stalled = false;
    w.link(far);
    let ids: Vec<_> = w.got(far).iter().map(|g| g.attr("id").unwrap()).collect();
    assert_eq!(ids, ["m0", "m1", "m2"]);
    assert_eq!(queued(&w), 0);
}

#[test]
fn a_restart_finds_what_waits() {
    let (mut w, alice, far) = linked();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    w.send(alice, &message(1));
    // As serve does it.
    let mut hub = stonechat::hub::Hub::new(
        w.hub.names.clone(),
        w.hub.limits.clone(),
        stonechat::xep::ALL,
        w.now,
        0xb008,
    );
    hub.peers.federation = true;
    let Answer::Forwards(waiting) = w.ask(Vec::new(), Ask::Forwards) else { panic!() };
    w.ring.dials.clear();
    // Without federation it waits on.
    hub.peers.federation = false;
    hub.peers_at_start(&mut w.ring, waiting.clone());
    assert!(w.ring.dials.is_empty());
    hub.peers.federation = true;
    hub.peers_at_start(&mut w.ring, waiting);
    w.hub = hub;
    let far = w.peer("far.test");
    assert_eq!(w.ring.dials, [(far, 0)]);
    w.link(far);
    assert_eq!(w.one(far).body().unwrap(), "1");
}

#[test]
fn rfc6120_s8_3_3_16_a_domain_that_is_not_there() {
    let (mut w, alice, _) = linked();
    let gone = w.peer("gone.test");
    w.send(alice, "<message to='x@gone.test' id='a'><body>hi</body></message>");
    w.nothing(alice);
    assert_eq!(w.ring.dials.last(), Some(&(gone, 0)));
    w.unlink(gone, Lost::NotFound);
    assert!(w.one(alice).is_error("remote-server-not-found"));
    // For a while nobody looks again.
    let dials = w.ring.dials.len();
    w.send(alice, "<message to='x@gone.test' id='b'><body>hi</body></message>");
    assert!(w.one(alice).is_error("remote-server-not-found"));
    assert_eq!((w.ring.dials.len(), queued(&w)), (dials, 0));
    w.pass(600);
    w.send(alice, "<message to='x@gone.test' id='c'><body>hi</body></message>");
    assert_eq!(w.ring.dials.len(), dials + 1);
}

#[test]
fn rfc6120_s8_3_3_17_a_request_to_one_that_is_away() {
    let (mut w, alice, far) = linked();
    w.unlink(far, Lost::Timeout);
    w.send(alice, &format!("<iq type='get' id='q' to='{CAROL}/r'><x xmlns='y'/></iq>"));
    w.nothing(alice);
    w.unlink(far, Lost::Timeout);
    assert!(w.one(alice).is_error("remote-server-timeout"));
    w.send(alice, &format!("<iq type='get' id='q' to='{CAROL}/r'><x xmlns='y'/></iq>"));
    assert!(w.one(alice).is_error("remote-server-timeout"));
    assert_eq!(queued(&w), 0);
}

#[test]
fn d9_a_queue_is_bounded_and_what_does_not_fit_comes_back() {
    let mut w = World::with(&["alice"], |l| l.forward_messages = 2);
    let far = w.peer("far.test");
    let alice = w.login("alice", "a");
    w.send(alice, "<message to='carol@far.test' type='headline'><body>x</body></message>");
    w.unlink(far, Lost::Timeout);
    for n in 0..3 {
        w.send(alice, &message(n));
    }
    let back = w.one(alice);
    assert!(back.is_error("remote-server-timeout"));
    assert_eq!(back.attr("id").unwrap(), "m2");
    assert_eq!(queued(&w), 2);
}

#[test]
fn d9_random_domains_push_each_other_out() {
    let mut w = World::with(&["alice"], |l| l.peers = 20);
    w.peer("far.test");
    let alice = w.login("alice", "a");
    for n in 0..100 {
        w.send(alice, &format!("<message to='x@d{n}.test' id='m{n}'><body>hi</body></message>"));
        if let Some(peer) = w.hub.find_peer("hub.test", &format!("d{n}.test")) {
            w.unlink(peer, Lost::NotFound);
        }
    }
    let back = w.got(alice);
    assert_eq!(back.len(), 100);
    assert!(back.iter().all(|g| g.is_error("remote-server-not-found")));
    assert!(w.hub.all_peers().count() <= 20);
}

/// Presence of strangers takes no room, and no place in the table from others.
#[test]
fn d9_d13_presence_that_nobody_here_sees_is_not_remembered() {
    let mut w = World::with(&["alice"], |l| (l.peers, l.peer_presences) = (20, 100));
    w.put_item("alice", contact(Subscription::Both));
    let alice = w.login("alice", "a");
    for n in 0..100 {
        let peer = w.peer(&format!("d{n}.test"));
        for to in ["alice@hub.test", "nobody@hub.test", "hub.test"] {
            w.remote(peer, &format!("<presence from='x@d{n}.test/r' to='{to}'/>"));
        }
    }
    assert!(w.hub.all_peers().count() <= 20);
    // What is seen is remembered by its size: 100 of a usual one.
    let far = w.peer("far.test");
    w.link(far);
    w.drop_all();
    for n in 0..100 {
        let resource = format!("{n}{}", "r".repeat(630));
        w.remote(far, &format!("<presence from='{CAROL}/{resource}' to='alice@hub.test'/>"));
    }
    w.remote(
        far,
        &format!("<presence from='{CAROL}/0{}' to='alice@hub.test' type='unavailable'/>", "r".repeat(630)),
    );
    w.remote(far, &format!("<presence from='{CAROL}/short' to='alice@hub.test'/>"));
    w.drop_all();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    let gone = short(&w.got(alice));
    assert!((5..=11).contains(&gone.len()), "{}", gone.len());
    assert!(gone.contains(&format!("presence {CAROL}/short unavailable")));
}

#[test]
fn what_has_waited_too_long_goes_back_to_its_sender() {
    let (mut w, alice, far) = linked();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    w.send(alice, &message(1));
    w.pass(5 * 86_400);
    w.send(alice, &message(2));
    w.unlink(far, Lost::Timeout);
    w.nothing(alice);
    w.pass(3 * 86_400);
    w.unlink(far, Lost::Timeout);
    let back = w.one(alice);
    assert!(back.is_error("remote-server-timeout"));
    assert_eq!((back.attr("id").unwrap(), back.from()), ("m1".into(), CAROL.into()));
    assert_eq!(queued(&w), 1);
}

#[test]
fn a9_a_message_over_which_the_link_is_lost_again_and_again_goes_back() {
    let (mut w, alice, far) = linked();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    for n in 0..5 {
        w.send(alice, &message(n));
    }
    // The peer breaks off at the third.
    let (mut arrived, mut links) = (Vec::new(), 0);
    while arrived.len() < 4 {
        links += 1;
        assert!(links < 20, "{arrived:?}");
        w.ring.stalled = true;
        w.link(far);
        while let Some(first) = w.peek(far).first().map(|got| got.body().unwrap()) {
            // A batch with it in it is lost as a whole, for all that we know.
            if w.peek(far).iter().any(|got| got.body().unwrap() == "2") {
                w.unlink(far, Lost::Timeout);
                w.unlink(far, Lost::Timeout);
                break;
            }
            arrived.push(first);
            w.got(far);
            w.ring.stalled = false;
            w.turn();
            w.ring.stalled = true;
            w.settle();
        }
    }
    assert_eq!(arrived, ["0", "1", "3", "4"]);
    let back = w.one(alice);
    assert!(back.is_error("undefined-condition"));
    assert_eq!((back.attr("id").unwrap(), back.from()), ("m2".into(), CAROL.into()));
    w.ring.stalled = false;
    w.settle();
    assert_eq!(queued(&w), 0);
}

#[test]
fn a_clock_that_is_set_makes_nothing_old() {
    let (mut w, alice, far) = linked();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    w.send(alice, &message(1));
    w.now.unix_ms += 90 * 86_400_000;
    w.unlink(far, Lost::Timeout);
    w.nothing(alice);
    assert_eq!(queued(&w), 1);
    w.pass(8 * 86_400);
    w.unlink(far, Lost::Timeout);
    assert_eq!(w.one(alice).attr("id").unwrap(), "m1");
}

#[test]
fn what_comes_again_is_dropped_also_after_a_restart() {
    let (mut w, alice, far) = linked();
    let id = |n: u32| format!("<stanza-id xmlns='urn:xmpp:sid:0' by='far.test' id='i{n}'/>");
    let late = "<delay xmlns='urn:xmpp:delay' from='far.test' stamp='2026-01-01T00:00:00Z'/>";
    let say = |n: u32, more: &str| {
        format!("<message from='{CAROL}/r' to='bob@hub.test'><body>{n}</body>{}{more}</message>", id(n))
    };
    w.remote(far, &say(1, ""));
    w.remote(far, &say(1, late));
    w.remote(far, &say(2, late));
    assert_eq!(w.loaded("bob").offline.0, 2);
    // A new hub remembers nothing, but bob's messages are there.
    w.hub = stonechat::hub::Hub::new(
        w.hub.names.clone(),
        w.hub.limits.clone(),
        stonechat::xep::ALL,
        w.now,
        0xb008,
    );
    w.close(alice);
    let far = w.peer("far.test");
    w.held = true;
    w.remote(far, &say(1, late));
    w.remote(far, &say(2, late));
    w.remote(far, &say(3, late));
    w.remote(far, &say(4, ""));
    w.release();
    assert_eq!(w.loaded("bob").offline.0, 4);
    let bob = w.bound("bob", "b");
    w.send(bob, "<presence/>");
    let bodies: Vec<_> = w.got(bob).iter().filter_map(|g| g.body()).collect();
    assert_eq!(bodies, ["1", "2", "3", "4"]);
}

/// XEP-0198: the stream's driver waits for so many answers of the store before it acknowledges, whatever comes meanwhile.
#[test]
fn a_message_that_comes_again_is_on_disk_after_as_many_rounds_as_are_waited_for() {
    let mut w = World::new(&["alice", "bob"]);
    let far = w.peer("far.test");
    w.link(far);
    w.held = true;
    w.remote(
        far,
        &format!(
            "<message from='{CAROL}' to='bob@hub.test' type='chat'><body>hi</body>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='far.test' id='i1'/>\
             <delay xmlns='urn:xmpp:delay' from='far.test' stamp='2026-01-01T00:00:00Z'/></message>"
        ),
    );
    let mut rounds = 0;
    while w.hub.peer_at(far).unwrap().pending > 0 {
        w.round();
        rounds += 1;
    }
    assert!(rounds > 1 && rounds <= u32::from(stonechat::hub::limits::fixed::SETTLE_ROUNDS), "{rounds}");
}

#[test]
fn only_what_may_be_of_before_the_start_is_looked_for_on_disk() {
    let (mut w, _, far) = linked();
    let late = "<delay xmlns='urn:xmpp:delay' from='far.test' stamp='2026-01-01T00:00:00Z'/>";
    let say = |n: usize| {
        format!(
            "<message from='{CAROL}/r' to='alice@hub.test'><body>x</body><stanza-id xmlns='urn:xmpp:sid:0' by='far.test' id='i{n}'/>{late}</message>"
        )
    };
    let turns = |w: &mut World, n: usize| {
        w.held = true;
        w.remote(far, &say(n));
        std::iter::from_fn(|| w.turn().then_some(())).count()
    };
    assert_eq!(turns(&mut w, 0), 1);
    w.held = false;
    for n in 1..stonechat::hub::limits::fixed::RECENT {
        w.remote(far, &say(n));
        w.drop_all();
    }
    assert_eq!(turns(&mut w, 1_000_000), 0, "nobody could bear that for ever");
}

#[test]
fn they_come_in_the_order_they_were_sent() {
    let (mut w, _, far) = linked();
    let late = "<delay xmlns='urn:xmpp:delay' from='far.test' stamp='2026-01-01T00:00:00Z'/>";
    w.held = true;
    for n in 0..6 {
        let late = if n < 3 { late } else { "" };
        w.remote(far, &format!(
            "<message from='{CAROL}/r' to='bob@hub.test' id='m{n}'><body>{n}</body><stanza-id xmlns='urn:xmpp:sid:0' by='far.test' id='i{n}'/>{late}</message>"
        ));
    }
    w.release();
    let bob = w.bound("bob", "b");
    w.send(bob, "<presence/>");
    let ids: Vec<_> = w.got(bob).iter().filter_map(|g| g.attr("id")).filter(|i| i.starts_with('m')).collect();
    assert_eq!(ids, ["m0", "m1", "m2", "m3", "m4", "m5"]);
}

// ---- RFC 6121 §3, §4 between servers ----------------------------------------------------------

fn contact(subscription: Subscription) -> Item {
    Item { jid: CAROL.into(), subscription, listed: true, ..Item::default() }
}

#[test]
fn rfc6121_s3_1_a_subscription_between_two_servers() {
    let (mut w, alice, far) = linked();
    w.send(alice, &format!("<presence to='{CAROL}' type='subscribe'/>"));
    let got = w.one(far);
    assert_eq!(
        (got.short(), got.attr("to").unwrap()),
        ("presence alice@hub.test subscribe".into(), CAROL.into())
    );
    w.drop_all();
    w.remote(far, &format!("<presence from='{CAROL}' to='alice@hub.test' type='subscribed'/>"));
    w.remote(far, &format!("<presence from='{CAROL}/r' to='alice@hub.test'/>"));
    let got = short(&w.got(alice));
    assert!(got.contains(&format!("presence {CAROL}/r")), "{got:?}");
    assert_eq!(w.item("alice", CAROL).unwrap().subscription, Subscription::To);
    w.remote(far, &format!("<presence from='{CAROL}' to='alice@hub.test' type='subscribe'/>"));
    w.send(alice, &format!("<presence to='{CAROL}' type='subscribed'/>"));
    assert_eq!(short(&w.got(far)), ["presence alice@hub.test subscribed", "presence alice@hub.test/a"]);
    assert_eq!(w.item("alice", CAROL).unwrap().subscription, Subscription::Both);
}

#[test]
fn rfc6121_s4_2_s4_3_presence_and_probes_go_to_the_other_server() {
    let mut w = World::new(&["alice"]);
    w.put_item("alice", contact(Subscription::Both));
    let far = w.peer("far.test");
    w.link(far);
    let alice = w.bound("alice", "a");
    w.send(alice, "<presence/>");
    let got: Vec<String> =
        w.got(far).iter().map(|g| format!("{} {}", g.short(), g.attr("to").unwrap())).collect();
    assert_eq!(
        got,
        [format!("presence alice@hub.test/a {CAROL}"), format!("presence alice@hub.test probe {CAROL}")]
    );
    // §4.3.2: and theirs are answered, to the address that asks.
    w.remote(far, &format!("<presence from='{CAROL}' to='alice@hub.test' type='probe'/>"));
    let got = w.one(far);
    assert_eq!((got.short(), got.attr("to").unwrap()), ("presence alice@hub.test/a".into(), CAROL.into()));
    // From somebody who may not see it (rule 1).
    w.remote(far, "<presence from='eve@far.test' to='alice@hub.test' type='probe'/>");
    assert_eq!(w.one(far).short(), "presence alice@hub.test unsubscribed");
    w.close(alice);
    assert_eq!(w.one(far).short(), "presence alice@hub.test/a unavailable");
}

#[test]
fn contacts_of_a_lost_peer_are_gone_and_come_back_by_themselves() {
    let mut w = World::new(&["alice"]);
    w.put_item("alice", contact(Subscription::Both));
    let far = w.peer("far.test");
    let alice = w.login("alice", "a");
    w.link(far);
    w.remote(far, &format!("<presence from='{CAROL}/r' to='alice@hub.test'/>"));
    w.remote(far, &format!("<presence from='{CAROL}/s' to='alice@hub.test'/>"));
    w.drop_all();
    w.unlink(far, Lost::Timeout);
    w.nothing(alice);
    w.unlink(far, Lost::Timeout);
    assert_eq!(
        short(&w.got(alice)),
        [format!("presence {CAROL}/r unavailable"), format!("presence {CAROL}/s unavailable")]
    );
    // It is tried again without anybody saying anything, less and less often.
    for _ in 0..10 {
        w.unlink(far, Lost::Timeout);
    }
    let after: Vec<u64> = w.ring.dials.iter().map(|d| d.1).collect();
    assert_eq!(after.iter().max(), Some(&120_000), "{after:?}");
    w.nothing(alice);
    // Somebody sees it on the network.
    w.ring.dials.clear();
    w.sight("far.test");
    assert_eq!(w.ring.dials, [(far, 0)]);
    w.link(far);
    assert_eq!(short(&w.got(far)), ["presence alice@hub.test probe", "presence alice@hub.test/a"]);
}

#[test]
fn presence_that_a_closed_link_has_not_taken_is_made_up_for() {
    let mut w = World::new(&["alice"]);
    w.put_item("alice", contact(Subscription::Both));
    let far = w.peer("far.test");
    let alice = w.login("alice", "a");
    w.link(far);
    w.drop_all();
    w.ring.dials.clear();
    w.send(alice, "<presence><show>away</show></presence>");
    w.unlink(far, Lost::Closed);
    assert_eq!(w.ring.dials, [(far, 0)]);
    w.link(far);
    assert!(w.got(far).iter().any(|g| g.0.contains("<show>away</show>")));
}

#[test]
fn xep0191_nothing_goes_to_a_blocked_contact_when_its_server_is_back() {
    let mut w = World::new(&["alice"]);
    w.put_item("alice", Item { ask: true, ..contact(Subscription::From) });
    w.put_item("alice", Item { jid: "dave@far.test".into(), ..contact(Subscription::Both) });
    let far = w.peer("far.test");
    let alice = w.login("alice", "a");
    w.link(far);
    for who in [CAROL, "dave@far.test"] {
        w.iq(alice, "set", "", &format!("<block xmlns='urn:xmpp:blocking'><item jid='{who}'/></block>"));
    }
    w.drop_all();
    w.unlink(far, Lost::Timeout);
    w.unlink(far, Lost::Timeout);
    w.link(far);
    w.nothing(far);
    let other = w.bound("alice", "b");
    w.send(other, "<presence/>");
    w.nothing(far);
}

#[test]
fn d9_presence_that_nobody_asked_for_keeps_no_peer() {
    let mut w = World::with(&["alice"], |l| l.peers = 1);
    let far = w.peer("far.test");
    w.login("alice", "a");
    for to in ["alice@hub.test", "alice@hub.test/a", "nobody@hub.test", "hub.test"] {
        w.remote(far, &format!("<presence from='eve@far.test/r' to='{to}'/>"));
    }
    assert!(w.hub.peer("hub.test", "other.test").is_some());
}

#[test]
fn d7_a_peer_is_no_way_to_a_third_domain() {
    let (mut w, _, far) = linked();
    let third = w.peer("third.test");
    w.link(third);
    w.remote(far, &format!("<message from='{CAROL}' to='x@third.test' id='m'><body>hi</body></message>"));
    w.nothing(third);
    assert!(w.one(far).is_error("remote-server-not-found"));
}

#[test]
fn rfc6120_s8_3_3_8_an_address_of_ours_that_is_none() {
    let (mut w, _, far) = linked();
    w.remote(far, "<message from='carol@far.test/r' to='a b@hub.test' id='m'><body>hi</body></message>");
    let got = w.one(far);
    assert!(got.is_error("jid-malformed"));
    assert_eq!((got.from(), got.attr("to").unwrap()), ("hub.test".into(), "carol@far.test/r".into()));
    w.remote(far, "<message type='error' from='carol@far.test/r' to='a b@hub.test' id='m'/>");
    w.nothing(far);
}

#[test]
fn c5_errors_and_results_from_a_peer_are_never_answered() {
    let (mut w, _, far) = linked();
    for stanza in [
        "<message type='error' from='a@far.test' to='nobody@hub.test'><body>x</body></message>",
        "<iq type='result' id='1' from='a@far.test' to='nobody@hub.test'/>",
        "<iq type='error' id='1' from='a@far.test' to='hub.test'/>",
        "<presence type='error' from='a@far.test' to='nobody@hub.test'/>",
        "<presence from='a@far.test' to='nobody@hub.test'/>",
    ] {
        w.remote(far, stanza);
        w.nothing(far);
    }
}

#[test]
fn b8_to_a_peer_an_account_that_exists_looks_like_one_that_does_not() {
    let (mut w, _, far) = linked();
    for payload in
        ["<query xmlns='http://jabber.org/protocol/disco#info'/>", "<query xmlns='jabber:iq:last'/>"]
    {
        let mut answers = Vec::new();
        for to in ["bob@hub.test", "nobody@hub.test"] {
            w.remote(far, &format!("<iq type='get' id='q' from='{CAROL}/r' to='{to}'>{payload}</iq>"));
            answers.push(w.one(far).0.replace("nobody@", "bob@"));
        }
        assert_eq!(answers[0], answers[1]);
    }
}

#[test]
fn requests_that_only_our_own_may_make_are_refused_to_a_peer() {
    let (mut w, _, far) = linked();
    for (kind, payload) in [
        ("get", "<query xmlns='jabber:iq:register'/>"),
        ("set", "<query xmlns='jabber:iq:register'><remove/></query>"),
        ("set", "<query xmlns='jabber:iq:register'><username>bob</username><password>x</password></query>"),
        ("get", "<query xmlns='jabber:iq:roster'/>"),
        ("get", "<query xmlns='jabber:iq:private'><x xmlns='y'/></query>"),
        ("set", "<vCard xmlns='vcard-temp'/>"),
        ("get", "<blocklist xmlns='urn:xmpp:blocking'/>"),
    ] {
        for to in ["hub.test", "bob@hub.test"] {
            w.remote(far, &format!("<iq type='{kind}' id='q' from='{CAROL}/r' to='{to}'>{payload}</iq>"));
            let got = w.one(far);
            assert_eq!(got.kind(), "error", "{to} {payload}");
            assert!(!got.is_error("internal-server-error"), "{to} {payload}: {got:?}");
        }
    }
}

#[test]
fn disco_and_ping_of_the_domain_are_for_all() {
    let (mut w, _, far) = linked();
    for payload in ["<query xmlns='http://jabber.org/protocol/disco#info'/>", "<ping xmlns='urn:xmpp:ping'/>"]
    {
        w.remote(far, &format!("<iq type='get' id='q' from='{CAROL}/r' to='hub.test'>{payload}</iq>"));
        let got = w.one(far);
        assert_eq!((got.kind(), got.attr("to").unwrap()), ("result".into(), format!("{CAROL}/r")));
    }
}

#[test]
fn a_component_that_is_not_there_takes_nothing() {
    let mut w = World::new(&["alice"]);
    w.hub.set_component("irc.hub.test", true);
    let irc = w.hub.find_peer("hub.test", "irc.hub.test").unwrap();
    let alice = w.login("alice", "a");
    w.send(alice, "<message to='x@irc.hub.test' id='m'><body>hi</body></message>");
    assert!(w.one(alice).is_error("service-unavailable"));
    assert!(w.ring.dials.is_empty());
    w.link(irc);
    w.send(alice, "<message to='x@irc.hub.test' id='m'><body>hi</body></message>");
    assert_eq!(w.one(irc).body().unwrap(), "hi");
    w.remote(irc, "<message from='x@irc.hub.test' to='alice@hub.test/a'><body>yo</body></message>");
    assert_eq!(w.one(alice).body().unwrap(), "yo");
    assert!(matches!(w.hub.peer_at(irc).unwrap().link.get(), Link::Up));
    // People and rooms of its are gone when it is.
    w.send(alice, "<presence to='#r@irc.hub.test/me'/>");
    w.remote(irc, "<presence from='#r@irc.hub.test/you' to='alice@hub.test/a'/>");
    w.drop_all();
    w.unlink(irc, Lost::Timeout);
    assert_eq!(short(&w.got(alice)), ["presence #r@irc.hub.test/you unavailable"]);
}

#[test]
fn xep0114_a_component_reaches_other_domains_where_that_is_allowed() {
    let (mut w, _, _) = linked();
    w.hub.set_component("irc.hub.test", true);
    let irc = w.hub.find_peer("hub.test", "irc.hub.test").unwrap();
    w.link(irc);
    w.remote(irc, &format!("<message from='x@irc.hub.test' to='{CAROL}'><body>yo</body></message>"));
    let pair = w.hub.find_peer("irc.hub.test", "far.test").unwrap();
    assert_eq!(w.ring.dials.last(), Some(&(pair, 0)));
    w.link(pair);
    assert_eq!(w.one(pair).from(), "x@irc.hub.test");
    // And they reach it.
    w.remote(pair, &format!("<message from='{CAROL}/r' to='x@irc.hub.test'><body>hi</body></message>"));
    assert_eq!(w.one(irc).body().unwrap(), "hi");
}

#[test]
fn xep0114_what_a_component_did_not_take_is_answered_in_its_own_name() {
    let (mut w, _, far) = linked();
    w.hub.set_component("irc.hub.test", true);
    let irc = w.hub.find_peer("hub.test", "irc.hub.test").unwrap();
    w.link(irc);
    let pair = w.hub.peer("irc.hub.test", "far.test").unwrap();
    w.link(pair);
    w.ring.stalled = true;
    w.remote(
        pair,
        &format!("<iq type='get' id='q' from='{CAROL}/r' to='x@irc.hub.test'><x xmlns='y'/></iq>"),
    );
    w.unlink(irc, Lost::Closed);
    w.nothing(far);
    assert_eq!(w.one(pair).from(), "x@irc.hub.test");
}
