//! RFC 3921: Session establishment
//!
//! A request that did something until RFC 6121 and that old clients still make (§3); the stream
//! feature that asks for it says `<optional/>`.

use crate::hub::extension::{Extension, Reply, Rule, Takes};
use crate::xml::ns;

/// The registry's entry.
pub const LEGACY_SESSION: Extension = Extension {
    name: "Session establishment (RFC 3921 §3)",
    version: "2004",
    scope: "an empty result for old clients",
    iq: &[Rule {
        ns: ns::SESSION,
        name: "session",
        set: Some(true),
        takes: Takes::DomainOrOwn,
        run: |_, _| Ok(Reply::Empty),
    }],
    ..Extension::NEW
};

#[cfg(test)]
mod tests {
    use crate::testing::World;

    #[test]
    fn an_empty_result() {
        let mut w = World::new(&["alice"]);
        let alice = w.login("alice", "a");
        for to in ["", "hub.test", "alice@hub.test"] {
            let answer = w.iq(alice, "set", to, "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>");
            assert!(answer.kind() == "result" && answer.with(|n| n.children().count()) == 0, "{to}");
        }
    }
}
