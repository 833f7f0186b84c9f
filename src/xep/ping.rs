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
