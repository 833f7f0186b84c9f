//! XEP-0203: Delayed Delivery
//!
//! When a message that was kept for later was sent. The hub writes that on what it kept; here it
//! takes away what claims to be from it and is not (§3, threat C3).

use crate::hub::Hub;
use crate::hub::extension::Extension;
use crate::jid::Jid;
use crate::stanza::Stanza;
use crate::xml::{Child, ns};

/// The registry's entry.
pub const DELAY: Extension = Extension {
    number: 203,
    name: "Delayed Delivery",
    version: "2.0",
    scope: "on messages kept for later; forged ones in the hub's name are removed",
    features: &[ns::DELAY],
    forged: Some(forged),
    ..Extension::NEW
};

/// The same in the format before (XEP-0091), which some clients still read.
const OLD: (&str, &str) = ("jabber:x:delay", "x");

/// A delay that the domain, the account itself, or nobody vouches for. Those of others (a room, the
/// sender's own client) are theirs.
fn forged(hub: &Hub, stanza: &Stanza<'_>, child: &Child, to: &str) -> bool {
    if !matches!((stanza.child_ns(child), stanza.child_name(child)), (ns::DELAY, "delay") | OLD) {
        return false;
    }
    let Some(from) = stanza.child_attr(child, "from") else { return true };
    match Jid::parse(&from) {
        Ok(from) => from.bare() == to || (from.local().is_none() && hub.is_local(from.domain())),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use crate::xml::ns;

    /// Who may say it and who may not; the rest of the message stays. (More in tests/rfc6121.)
    #[test]
    fn only_others_may_say_it() {
        let mut w = World::new(&["alice", "bob"]);
        let (alice, bob) = (w.login("alice", "a"), w.login("bob", "b"));
        for (from, stays) in [
            ("from='hub.test'", false),
            ("from='hub'", false),
            ("from='hub.test/x'", false),
            ("from='bob@hub.test'", false),
            ("from='@'", false),
            ("", false),
            ("from='room@rooms.test/nick'", true),
            ("from='alice@hub.test/a'", true),
        ] {
            let delay = format!("<delay xmlns='urn:xmpp:delay' {from} stamp='2001-01-01T00:00:00Z'/>");
            w.send(alice, &format!("<message to='bob@hub.test'>{delay}<body>x</body></message>"));
            let got = w.one(bob);
            assert_eq!(got.has(ns::DELAY, "delay"), stays, "{from}");
            assert_eq!(got.body().as_deref(), Some("x"));
        }
    }
}
