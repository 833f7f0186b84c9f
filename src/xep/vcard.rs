//! XEP-0054: vcard-temp
//!
//! A business card for everybody to read. Somebody else's that is empty answers like an account that
//! does not exist (§3.3, threat B8). One's own that was never written is `<item-not-found/>`, as with
//! Prosody.

use super::{TOO_BIG, keep, kept};
use crate::hub::extension::{Cx, Extension, Reply, Request, Rule, Takes, Target};
use crate::stanza::{Condition, Error, child, whole};
use crate::store::change::{Ask, Change};
use crate::xml::ns;

/// The registry's entry.
pub const VCARD: Extension = Extension {
    number: 54,
    name: "vcard-temp",
    version: "1.3.0",
    scope: "get and set, bounded in size",
    features: &[ns::VCARD],
    account_features: &[ns::VCARD],
    iq: &[
        Rule { ns: ns::VCARD, name: "vCard", set: Some(false), takes: Takes::Account, run: get },
        Rule { ns: ns::VCARD, name: "vCard", set: Some(true), takes: Takes::Account, run: set },
    ],
    ..Extension::NEW
};

/// §3.1, §3.3
fn get(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let none = match request.target {
        Target::Own => Condition::ItemNotFound,
        _ => Condition::ServiceUnavailable,
    };
    let account = request.account(cx).and_then(|place| cx.hub.account(place));
    let ask = Ask::Vcard { account: account.ok_or(none)?.id };
    Ok(kept(cx, request, ask, move |xml| xml.map(<[u8]>::to_vec).ok_or(none.into())))
}

/// §3.2
fn set(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    if request.target != Target::Own {
        return Err(Condition::Forbidden.into());
    }
    let account = request.account(cx).and_then(|place| cx.hub.account(place));
    let account = account.ok_or(Condition::InternalServerError)?.id;
    let tree = request.stanza.tree()?;
    let card = child(&tree.root_element(), ns::VCARD, "vCard").ok_or(Condition::BadRequest)?;
    let xml = whole(&card).ok_or(Condition::BadRequest)?;
    if xml.len() as u64 > cx.hub.limits.vcard_bytes {
        return Err(TOO_BIG);
    }
    let change = Change::VcardPut { account, xml: xml.into_bytes().into() };
    Ok(keep(cx, request, change))
}

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use crate::xml::ns;

    const GET: &str = "<vCard xmlns='vcard-temp'/>";

    #[test]
    fn set_and_read_by_everybody() {
        let mut w = World::new(&["alice", "bob"]);
        let (alice, bob) = (w.login("alice", "a"), w.login("bob", "b"));
        assert!(w.iq(alice, "get", "", GET).is_error("item-not-found"));
        let card = "<vCard xmlns='vcard-temp'><FN>Alice &lt;3</FN></vCard>";
        assert_eq!(w.iq(alice, "set", "", card).kind(), "result");
        for (who, to) in [(alice, ""), (alice, "alice@hub.test"), (bob, "alice@hub.test")] {
            assert_eq!(w.iq(who, "get", to, GET).text(ns::VCARD, "FN").as_deref(), Some("Alice <3"));
        }
        // A prefix from the outside is taken along.
        w.send(alice, "<iq xmlns:v='vcard-temp' type='set' id='1'><v:vCard><v:FN>A</v:FN></v:vCard></iq>");
        assert_eq!(w.one(alice).kind(), "result");
        assert_eq!(w.iq(bob, "get", "alice@hub.test", GET).text(ns::VCARD, "FN").as_deref(), Some("A"));
    }

    #[test]
    fn errors_and_bounds() {
        let mut w = World::with(&["alice", "bob"], |l| l.vcard_bytes = 200);
        let alice = w.login("alice", "a");
        for to in ["bob@hub.test", "nobody@hub.test"] {
            assert!(w.iq(alice, "get", to, GET).is_error("service-unavailable"));
            assert!(w.iq(alice, "set", to, GET).is_error("forbidden"));
        }
        let frame = "<vCard xmlns='vcard-temp'></vCard>".len();
        let card = |n: usize| format!("<vCard xmlns='vcard-temp'>{}</vCard>", "x".repeat(n));
        assert!(w.iq(alice, "set", "", &card(201 - frame)).is_error("policy-violation"));
        assert_eq!(w.iq(alice, "set", "", &card(200 - frame)).kind(), "result");
    }
}
