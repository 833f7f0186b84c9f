//! XEP-0199: XMPP Ping
//!
//! Whether the hub is there. Somebody else's account is, for those who may see its presence.
//!
//! The answer to a ping comes after all that its sender had written before it is on disk.

use crate::hub::extension::{Extension, Reply, Rule, Takes, Target};
use crate::stanza::Condition;
use crate::xml::ns;

/// The registry's entry.
pub const PING: Extension = Extension {
    number: 199,
    name: "XMPP Ping",
    version: "2.0.1",
    scope: "answered by the domain and by accounts",
    features: &[ns::PING],
    account_features: &[ns::PING],
    iq: &[Rule {
        ns: ns::PING,
        name: "ping",
        set: Some(false),
        takes: Takes::All,
        run: |cx, request| match request.target {
            Target::Domain => Ok(Reply::Empty),
            _ if request.may_see(cx.hub) => Ok(Reply::Empty),
            _ => Err(Condition::ServiceUnavailable.into()),
        },
    }],
    ..Extension::NEW
};

#[cfg(test)]
mod tests {
    use crate::store::change::Subscription;
    use crate::testing::World;

    #[test]
    fn whom_it_answers() {
        let mut w = World::new(&["alice", "friend", "stranger"]);
        w.acquaint("alice", "friend", Subscription::To);
        let alice = w.login("alice", "a");
        for (to, pong) in [
            ("", true),
            ("hub.test", true),
            ("alice@hub.test", true),
            ("friend@hub.test", true),
            ("stranger@hub.test", false),
            ("nobody@hub.test", false),
        ] {
            let answer = w.iq(alice, "get", to, "<ping xmlns='urn:xmpp:ping'/>");
            assert_eq!(answer.kind() == "result", pong, "{to}");
            assert!(pong || answer.is_error("service-unavailable"), "{to}");
        }
    }
}
