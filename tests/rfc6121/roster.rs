//! §2: rosters.

use crate::common::{DOMAIN, Got, World, keys};
use stonechat::store::change::{Answer, Ask, Subscription};

const GET: &str = "<query xmlns='jabber:iq:roster'/>";

fn set(item: &str) -> String {
    format!("<query xmlns='jabber:iq:roster'>{item}</query>")
}

fn items(answer: &Got) -> Vec<String> {
    answer.with(|n| {
        let items = n.descendants().filter(|d| d.tag_name().name() == "item");
        items
            .map(|i| format!("{} {}", i.attribute("jid").unwrap(), i.attribute("subscription").unwrap()))
            .collect()
    })
}

/// §2.2, §2.3, §2.4, §2.5: get, add, change, remove; pushes to those that asked, and to nobody else.
#[test]
fn s_2_get_set_push_remove() {
    let mut w = World::new(&["juliet"]);
    let (a, b) = (w.login("juliet", "a"), w.login("juliet", "b"));
    let c = w.bound("juliet", "never-asked");
    assert_eq!(items(&w.iq(a, "get", "", GET)), [""; 0]);
    let item = "<item jid='nurse@example.com' name='Nurse'><group>Servants</group></item>";
    w.send(a, &format!("<iq type='set' id='s'>{}</iq>", set(item)));
    let got = w.got(a);
    let (push, result) = (&got[0], &got[1]);
    assert_eq!(
        (push.kind(), result.kind(), result.attr("id").unwrap()),
        ("set".into(), "result".into(), "s".into())
    );
    assert_eq!(items(push), ["nurse@example.com none"]);
    assert_eq!(push.text("jabber:iq:roster", "group").as_deref(), Some("Servants"));
    // §2.1.6: to the full address; `from` is absent or the bare address.
    assert_eq!(push.attr("to").unwrap(), format!("juliet@{DOMAIN}/a"));
    assert!(push.attr("from").is_none_or(|from| from == format!("juliet@{DOMAIN}")));
    assert_eq!(items(&w.one(b)), ["nurse@example.com none"]);
    w.nothing(c);
    // §2.4: another name and no group, without touching the rest.
    let answer = w.iq(b, "set", "", &set("<item jid='nurse@example.com' name='N' subscription='both'/>"));
    assert_eq!(answer.kind(), "result");
    let item = w.item("juliet", "nurse@example.com").unwrap();
    assert_eq!((item.name.as_deref(), item.groups.len()), (Some("N"), 0));
    assert_eq!(item.subscription, Subscription::None, "§2.1.2.5: the client's word is ignored");
    w.drop_all();
    let answer = w.iq(a, "set", "", &set("<item jid='nurse@example.com' subscription='remove'/>"));
    assert_eq!(answer.kind(), "result");
    assert_eq!(items(&w.one(b)), ["nurse@example.com remove"]);
    assert_eq!(w.item("juliet", "nurse@example.com"), None);
    let answer = w.iq(a, "set", "", &set("<item jid='nurse@example.com' subscription='remove'/>"));
    assert!(answer.is_error("item-not-found"), "§2.5.3");
}

/// §2.3.3
#[test]
fn s_2_3_3_errors() {
    let mut w = World::with(&["juliet", "romeo"], |l| l.roster_groups = 2);
    let juliet = w.login("juliet", "a");
    let long = "x".repeat(1024);
    for (payload, error) in [
        (set(""), "bad-request"),
        (set("<item jid='a@b.test'/><item jid='c@d.test'/>"), "bad-request"),
        (set("<thing jid='a@b.test'/>"), "bad-request"),
        (set("<item/>"), "bad-request"),
        (set("<item jid='@'/>"), "jid-malformed"),
        (set("<item jid='a@b.test'><group>x</group><group>x</group></item>"), "bad-request"),
        (set("<item jid='a@b.test'><group/></item>"), "not-acceptable"),
        (set(&format!("<item jid='a@b.test'><group>{long}</group></item>")), "not-acceptable"),
        (set(&format!("<item jid='a@b.test' name='{long}'/>")), "not-acceptable"),
        (
            set("<item jid='a@b.test'><group>1</group><group>2</group><group>3</group></item>"),
            "not-acceptable",
        ),
        (set("<item jid='juliet@hub.test'/>"), "not-allowed"),
    ] {
        let answer = w.iq(juliet, "set", "", &payload);
        assert!(answer.is_error(error), "{payload}: {answer:?}");
    }
    // §2.1.5, §2.3.3: nobody else's.
    for to in ["romeo@hub.test", "nobody@hub.test"] {
        assert!(w.iq(juliet, "set", to, &set("<item jid='a@b.test'/>")).is_error("forbidden"), "{to}");
        assert!(w.iq(juliet, "get", to, GET).is_error("forbidden"), "{to}");
    }
    // The bounds from the other side.
    let most = "x".repeat(1023);
    let item = format!("<item jid='a@b.test' name='{most}'><group>{most}</group><group>2</group></item>");
    assert_eq!(w.iq(juliet, "set", "", &set(&item)).kind(), "result");
}

#[test]
fn a_full_roster_takes_no_more() {
    let mut w = World::with(&["juliet"], |l| l.roster_items = 2);
    let juliet = w.login("juliet", "a");
    for jid in ["a@b.test", "c@d.test"] {
        assert_eq!(w.iq(juliet, "set", "", &set(&format!("<item jid='{jid}'/>"))).kind(), "result");
    }
    assert!(w.iq(juliet, "set", "", &set("<item jid='e@f.test'/>")).is_error("resource-constraint"));
    assert_eq!(w.iq(juliet, "set", "", &set("<item jid='a@b.test' name='A'/>")).kind(), "result");
    w.send(juliet, "<presence to='e@f.test' type='subscribe'/>");
    assert!(w.one(juliet).is_error("resource-constraint"));
    assert_eq!(w.loaded("juliet").roster.len(), 2);
}

/// §2.6: a known version is answered with nothing, an unknown one with everything.
#[test]
fn s_2_6_versions() {
    let mut w = World::new(&["juliet"]);
    let juliet = w.login("juliet", "a");
    w.send(juliet, &format!("<iq type='set' id='s'>{}</iq>", set("<item jid='a@b.test'/>")));
    let version = w.got(juliet)[0].of("jabber:iq:roster", "query", "ver").unwrap();
    let ask = |ver: &str| format!("<query xmlns='jabber:iq:roster' ver='{ver}'/>");
    assert!(!w.iq(juliet, "get", "", &ask(&version)).has("jabber:iq:roster", "query"));
    for other in ["", "0", "older"] {
        let answer = w.iq(juliet, "get", "", &ask(other));
        assert_eq!(answer.of("jabber:iq:roster", "query", "ver").as_ref(), Some(&version));
        assert_eq!(items(&answer), ["a@b.test none"]);
    }
    // Threat E8: to the next owner of the name, the old version means nothing.
    assert_eq!(w.ask(vec![], Ask::Remove { localpart: "juliet".into() }), Answer::Removed(true));
    let place = w.hub.find("juliet").unwrap();
    w.hub.removed(&mut w.ring, place);
    w.settle();
    let made =
        w.ask(vec![], Ask::Create { localpart: "juliet".into(), keys: keys("new"), invite: None, now: 2 });
    assert!(matches!(made, Answer::Created(Ok(_))));
    let juliet = w.login("juliet", "b");
    let answer = w.iq(juliet, "get", "", &ask(&version));
    assert!(answer.has("jabber:iq:roster", "query"), "{answer:?}");
    assert_eq!(items(&answer), [""; 0]);
}

/// §2.5.2, §2.5.3: removal ends the subscriptions in both directions.
#[test]
fn s_2_5_remove_cancels() {
    let mut w = World::new(&["juliet", "romeo"]);
    w.acquaint("juliet", "romeo", Subscription::Both);
    let (juliet, romeo) = (w.login("juliet", "a"), w.login("romeo", "b"));
    w.drop_all();
    w.iq(juliet, "set", "", &set("<item jid='romeo@hub.test' subscription='remove'/>"));
    let got = w.got(romeo);
    let kinds: Vec<_> = got.iter().map(|g| format!("{} {}", g.name(), g.kind())).collect();
    for due in ["presence unavailable", "presence unsubscribe", "presence unsubscribed", "iq set"] {
        assert!(kinds.iter().any(|k| k == due), "{due}: {kinds:?}");
    }
    assert_eq!(w.item("romeo", "juliet").unwrap().subscription, Subscription::None);
    assert_eq!(w.item("juliet", "romeo"), None);
    // And neither hears of the other any more.
    w.drop_all();
    w.send(juliet, "<presence><show>away</show></presence>");
    w.send(romeo, "<presence><show>away</show></presence>");
    assert_eq!((w.got(juliet).len(), w.got(romeo).len()), (1, 1), "only their own");
}
