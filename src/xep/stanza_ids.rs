//! XEP-0359: Unique and Stable Stanza IDs
//!
//! Every message to an account gets an id that only the hub writes: what came with it in our name is
//! removed, wherever among the children and however often it stands (§3 rule 2, threat C4).

use crate::hub::Hub;
use crate::hub::extension::Extension;
use crate::jid::Jid;
use crate::stanza::Stanza;
use crate::xml::{Child, Writer, ns};

/// The registry's entry.
pub const STANZA_IDS: Extension = Extension {
    number: 359,
    name: "Unique and Stable Stanza IDs",
    version: "0.7.0",
    scope: "on every message for an account; forged ones are removed",
    features: &[ns::SID],
    account_features: &[ns::SID],
    forged: Some(forged),
    adds: Some(add),
    ..Extension::NEW
};

/// One that claims to be of any address of ours, in whatever spelling, or of none.
fn forged(hub: &Hub, stanza: &Stanza<'_>, child: &Child, _to: &str) -> bool {
    if (stanza.child_ns(child), stanza.child_name(child)) != (ns::SID, "stanza-id") {
        return false;
    }
    let Some(by) = stanza.child_attr(child, "by") else { return true };
    Jid::parse(&by).map_or(true, |by| hub.is_local(by.domain()))
}

fn add(_: &Hub, account: &str, id: &str, w: &mut Writer<'_>) {
    w.start("stanza-id").ns(ns::SID).attr("by", account).attr("id", id).end();
}

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use crate::xml::ns;
    use std::collections::BTreeSet;

    #[test]
    fn each_message_has_one_and_no_two_have_the_same() {
        let mut w = World::new(&["alice", "bob"]);
        let (alice, bob) = (w.login("alice", "a"), w.login("bob", "b"));
        let mut ids = BTreeSet::new();
        let mut last = String::new();
        for _ in 0..50 {
            w.send(alice, "<message to='bob@hub.test'/>");
            let got = w.one(bob);
            assert_eq!(got.count(ns::SID, "stanza-id"), 1);
            assert_eq!(got.of(ns::SID, "stanza-id", "by").as_deref(), Some("bob@hub.test"));
            let id = got.of(ns::SID, "stanza-id", "id").unwrap();
            assert!(id > last, "they grow, also while the clock stands still");
            last = id.clone();
            assert!(ids.insert(id));
        }
    }
}
