//! §3: subscriptions from end to end.

use crate::common::{DOMAIN, Got, World, short};
use stonechat::store::change::Subscription::{self, Both, From, To};

fn verb(kind: &str, to: &str) -> String {
    format!("<presence type='{kind}' to='{to}@{DOMAIN}'/>")
}

fn pushes(all: &[Got]) -> Vec<String> {
    all.iter()
        .filter(|g| g.has("jabber:iq:roster", "item"))
        .map(|g| {
            let of = |attr| g.of("jabber:iq:roster", "item", attr);
            let ask = if of("ask").is_some() { " ask" } else { "" };
            let approved = if of("approved").is_some() { " approved" } else { "" };
            let name = of("jid").unwrap().split('@').next().unwrap().to_owned();
            format!("{name} {}{ask}{approved}", of("subscription").unwrap())
        })
        .collect()
}

fn sub(w: &World, account: &str, contact: &str) -> Subscription {
    w.item(account, contact).map(|i| i.subscription).unwrap_or_default()
}

/// §3.1: request, approval, presence; pushes on both sides in the RFC's order.
#[test]
fn s_3_1_request_and_approval() {
    let mut w = World::new(&["juliet", "romeo"]);
    let (romeo, juliet) = (w.login("romeo", "orchard"), w.login("juliet", "balcony"));
    w.send(
        romeo,
        "<presence type='subscribe' to='juliet@hub.test/balcony' id='x'><status>me</status></presence>",
    );
    assert_eq!(pushes(&w.got(romeo)), ["juliet none ask"]);
    let request = w.one(juliet);
    assert_eq!(
        request.short(),
        format!("presence romeo@{DOMAIN} subscribe"),
        "§3.1.2: from the bare address"
    );
    assert_eq!(request.attr("to").unwrap(), format!("juliet@{DOMAIN}"));
    assert_eq!(request.text("", "status").as_deref(), Some("me"));
    assert_eq!(w.item("juliet", "romeo").map(|i| i.listed), Some(false), "§3.1.3: not in the roster yet");
    // Again: it is pending already.
    w.send(romeo, &verb("subscribe", "juliet"));
    w.nothing(juliet);

    w.send(juliet, &verb("subscribed", "romeo"));
    assert_eq!(pushes(&w.got(juliet)), ["romeo from"]);
    let got = w.got(romeo);
    assert_eq!(pushes(&got), ["juliet to"]);
    let presence: Vec<_> = got.iter().filter(|g| g.name() == "presence").collect();
    assert_eq!(presence[0].short(), format!("presence juliet@{DOMAIN} subscribed"));
    assert_eq!(presence[1].short(), format!("presence juliet@{DOMAIN}/balcony"), "§3.1.5: her presence");
    assert_eq!((sub(&w, "romeo", "juliet"), sub(&w, "juliet", "romeo")), (To, From));

    // And the other way: both.
    w.send(juliet, &verb("subscribe", "romeo"));
    w.send(romeo, &verb("subscribed", "juliet"));
    assert_eq!((sub(&w, "romeo", "juliet"), sub(&w, "juliet", "romeo")), (Both, Both));
}

/// §3.1.3: a request to somebody who is away is shown at every login until it is answered.
#[test]
fn s_3_1_3_pending_requests_wait() {
    let mut w = World::new(&["juliet", "romeo"]);
    let romeo = w.login("romeo", "orchard");
    w.send(romeo, "<presence type='subscribe' to='juliet@hub.test'><nick xmlns='n'>R</nick></presence>");
    for round in 0..2 {
        let juliet = w.bound("juliet", "balcony");
        w.send(juliet, "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
        w.drop_all();
        w.send(juliet, "<presence/>");
        let got = w.got(juliet);
        let request =
            got.iter().find(|g| g.kind() == "subscribe").unwrap_or_else(|| panic!("{round}: {got:?}"));
        assert!(request.has("n", "nick"), "as it was sent");
        w.close(juliet);
    }
    let juliet = w.login("juliet", "balcony");
    w.send(juliet, &verb("unsubscribed", "romeo"));
    w.close(juliet);
    let juliet = w.bound("juliet", "balcony");
    w.send(juliet, "<presence/>");
    assert!(w.got(juliet).iter().all(|g| g.kind() != "subscribe"));
    assert_eq!(pushes(&w.got(romeo)).last().map(String::as_str), Some("juliet none"), "refused");
}

/// §3.1.3: a huge request is kept as a plain one.
#[test]
fn s_3_1_3_a_huge_request_is_still_a_request() {
    let mut w = World::new(&["juliet", "romeo"]);
    let romeo = w.login("romeo", "orchard");
    let status = "x".repeat(20_000);
    w.send(
        romeo,
        &format!("<presence type='subscribe' to='juliet@hub.test'><status>{status}</status></presence>"),
    );
    let juliet = w.bound("juliet", "balcony");
    w.send(juliet, "<presence/>");
    let got = w.got(juliet);
    let request = got.iter().find(|g| g.kind() == "subscribe").unwrap_or_else(|| panic!("{got:?}"));
    assert_eq!(request.from(), format!("romeo@{DOMAIN}"));
    assert!(request.0.len() < 11_000);
}

/// §3.2: the contact takes it back; §3.3: the user does.
#[test]
fn s_3_2_and_3_3_ends() {
    for (kind, sender) in [("unsubscribed", "juliet"), ("unsubscribe", "romeo")] {
        let mut w = World::new(&["juliet", "romeo"]);
        w.acquaint("juliet", "romeo", From);
        let (romeo, juliet) = (w.login("romeo", "orchard"), w.login("juliet", "balcony"));
        w.drop_all();
        let (from, to) = if sender == "juliet" { (juliet, "romeo") } else { (romeo, "juliet") };
        w.send(from, &verb(kind, to));
        let got = w.got(romeo);
        let gone = got.iter().any(|g| g.short() == format!("presence juliet@{DOMAIN}/balcony unavailable"));
        assert!(gone, "{kind}: {got:?}");
        assert_eq!(pushes(&got), ["juliet none"], "{kind}");
        let told = w.got(juliet);
        assert_eq!(pushes(&told), ["romeo none"], "{kind}");
        let heard = if sender == "juliet" { &got } else { &told };
        assert!(heard.iter().any(|g| g.kind() == kind), "{kind}: {heard:?}");
        assert_eq!(
            (sub(&w, "romeo", "juliet"), sub(&w, "juliet", "romeo")),
            (Subscription::None, Subscription::None)
        );
    }
}

/// §3.4: approved before it was asked for.
#[test]
fn s_3_4_pre_approval() {
    let mut w = World::new(&["juliet", "romeo"]);
    let (romeo, juliet) = (w.login("romeo", "orchard"), w.login("juliet", "balcony"));
    w.send(juliet, &verb("subscribed", "romeo"));
    assert_eq!(pushes(&w.got(juliet)), ["romeo none approved"], "§3.4.2");
    w.nothing(romeo);
    w.send(romeo, &verb("subscribe", "juliet"));
    let got = w.got(romeo);
    assert!(got.iter().any(|g| g.short() == format!("presence juliet@{DOMAIN} subscribed")), "{got:?}");
    assert!(got.iter().any(|g| g.short() == format!("presence juliet@{DOMAIN}/balcony")), "{got:?}");
    let told = w.got(juliet);
    assert!(told.iter().all(|g| g.kind() != "subscribe"), "she is not asked: {told:?}");
    assert_eq!(pushes(&told), ["romeo from approved"]);
    // Cancelled before it was used.
    let mut w = World::new(&["juliet", "romeo"]);
    let (romeo, juliet) = (w.login("romeo", "orchard"), w.login("juliet", "balcony"));
    w.send(juliet, &verb("subscribed", "romeo"));
    w.send(juliet, &verb("unsubscribed", "romeo"));
    w.send(romeo, &verb("subscribe", "juliet"));
    assert!(w.got(juliet).iter().any(|g| g.kind() == "subscribe"));
    // From "To" it becomes "Both", and a pending request of one's own stays pending.
    for (before, ask, after) in [(To, false, Both), (Subscription::None, true, From)] {
        let mut w = World::new(&["juliet", "romeo"]);
        let item = stonechat::store::change::Item {
            jid: "romeo@hub.test".into(),
            subscription: before,
            ask,
            approved: true,
            listed: true,
            ..Default::default()
        };
        w.put_item("juliet", item);
        let romeo = w.login("romeo", "orchard");
        w.send(romeo, &verb("subscribe", "juliet"));
        let item = w.item("juliet", "romeo").unwrap();
        assert_eq!((item.subscription, item.ask), (after, ask), "{before:?}");
    }
}

/// §3.1.1: to oneself, and to nobody.
#[test]
fn oneself_and_nobody() {
    let mut w = World::new(&["juliet"]);
    let juliet = w.login("juliet", "a");
    w.send(juliet, &verb("subscribe", "juliet"));
    w.nothing(juliet);
    assert_eq!(w.loaded("juliet").roster.len(), 0);
    // §8.5.1: silently; it stays pending for ever, as with somebody who never answers.
    w.send(juliet, &verb("subscribe", "nobody"));
    assert_eq!(short(&w.got(juliet)), ["iq  set"]);
}

/// The whole dance in the alias's name ends at the same accounts.
#[test]
fn an_alias_is_no_second_contact() {
    let mut w = World::new(&["juliet", "romeo"]);
    let (romeo, juliet) = (w.login("romeo", "orchard"), w.login("juliet", "balcony"));
    w.send(romeo, "<presence type='subscribe' to='Juliet@10.0.0.1'/>");
    w.send(juliet, "<presence type='subscribed' to='romeo@hub'/>");
    assert_eq!((sub(&w, "romeo", "juliet"), sub(&w, "juliet", "romeo")), (To, From));
    assert_eq!((w.loaded("romeo").roster.len(), w.loaded("juliet").roster.len()), (1, 1));
}
