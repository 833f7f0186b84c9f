//! XEP-0012: Last Activity
//!
//! How long the hub is up, and how long ago somebody left. The latter is presence, so only those
//! who may see that get an answer; to the others an account that exists answers like one that does
//! not (threat B8).

use crate::hub::extension::{Cx, Extension, Reply, Request, Rule, Takes, Target};
use crate::stanza::{Condition, Error};
use crate::store::change::{Answer, Ask};
use crate::xml::{Writer, ns};

/// The registry's entry.
pub const LAST: Extension = Extension {
    number: 12,
    name: "Last Activity",
    version: "2.0",
    scope: "uptime of the hub; when and with which words a contact left",
    features: &[ns::LAST],
    account_features: &[ns::LAST],
    iq: &[Rule { ns: ns::LAST, name: "query", set: Some(false), takes: Takes::All, run: get }],
    ..Extension::NEW
};

fn get(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    // §5
    if request.target == Target::Domain {
        let up = cx.hub.now.mono_ms.saturating_sub(cx.hub.started.mono_ms) / 1000;
        return Ok(Cx::payload(|w| query(w, up, "")));
    }
    // §3: the answer for an account that is not there is ours to choose; it must be this one.
    if !request.may_see(cx.hub) {
        return Err(Condition::Forbidden.into());
    }
    let now = cx.hub.now.unix();
    let account = request.account(cx).and_then(|place| cx.hub.account(place));
    let account = account.ok_or(Condition::InternalServerError)?;
    if !account.sessions.is_empty() {
        return Ok(Cx::payload(|w| query(w, 0, "")));
    }
    if let Some((time, status)) = &account.last {
        return Ok(Cx::payload(|w| query(w, now.saturating_sub(*time), status)));
    }
    let ask = Ask::LastSeen { account: account.id };
    let to = request.answer_to();
    cx.store(
        request.origin.session,
        Vec::new(),
        ask,
        Box::new(move |hub, sink, answer| match answer {
            Answer::LastSeen(Some((time, status))) => {
                let mut out = Vec::new();
                query(&mut Writer::new(&mut out), now.saturating_sub(time), &status);
                to.result(hub, sink, &out);
            }
            Answer::LastSeen(None) => to.error(hub, sink, Condition::ItemNotFound.into()), // never here
            _ => to.error(hub, sink, Condition::InternalServerError.into()),
        }),
    );
    Ok(Reply::Later)
}

fn query(w: &mut Writer<'_>, seconds: u64, status: &str) {
    w.start("query").ns(ns::LAST).attr("seconds", &seconds.to_string()).text(status).end();
}

#[cfg(test)]
mod tests {
    use crate::store::change::Subscription;
    use crate::testing::{Got, World};
    use crate::xml::ns;

    const LAST: &str = "<query xmlns='jabber:iq:last'/>";

    fn seconds(answer: &Got) -> Option<u64> {
        answer.of(ns::LAST, "query", "seconds").and_then(|s| s.parse().ok())
    }

    #[test]
    fn the_domain_tells_its_uptime() {
        let mut w = World::new(&["alice"]);
        let alice = w.login("alice", "desk");
        w.pass(77);
        assert_eq!(seconds(&w.iq(alice, "get", "hub.test", LAST)), Some(77));
    }

    #[test]
    fn a_contact_who_left() {
        let mut w = World::new(&["alice", "bob"]);
        w.acquaint("alice", "bob", Subscription::To);
        let (alice, bob) = (w.login("alice", "desk"), w.login("bob", "phone"));
        let bare = "bob@hub.test";
        assert_eq!(seconds(&w.iq(alice, "get", bare, LAST)), Some(0));
        w.send(bob, "<presence type='unavailable'><status>Heading Home</status></presence>");
        w.close(bob);
        w.pass(903);
        // From memory, and from the store when memory has forgotten.
        for _ in 0..2 {
            let answer = w.iq(alice, "get", bare, LAST);
            assert_eq!(seconds(&answer), Some(903));
            assert_eq!(answer.text(ns::LAST, "query").as_deref(), Some("Heading Home"));
            let place = w.hub.find("bob").unwrap();
            w.hub.account_mut(place).unwrap().last = None;
        }
        // §3: the subscription is one-sided.
        let bob = w.login("bob", "phone");
        assert!(w.iq(bob, "get", "alice@hub.test", LAST).is_error("forbidden"));
        assert!(w.iq(bob, "get", "nobody@hub.test", LAST).is_error("forbidden"));
    }

    #[test]
    fn a_contact_who_was_never_here() {
        let mut w = World::new(&["alice", "bob"]);
        w.acquaint("alice", "bob", Subscription::To);
        let alice = w.login("alice", "desk");
        assert!(w.iq(alice, "get", "bob@hub.test", LAST).is_error("item-not-found"));
    }
}
