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
