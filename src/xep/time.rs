//! XEP-0202: Entity Time
//!
//! What time the hub thinks it is: a device without a clock of its own can set it by this. The hub
//! thinks in UTC.

use crate::hub::extension::{Cx, Extension, Rule, Takes};
use crate::xml::ns;
use std::time::{Duration, UNIX_EPOCH};

/// The registry's entry.
pub const TIME: Extension = Extension {
    number: 202,
    name: "Entity Time",
    version: "2.0",
    scope: "the hub's, in UTC",
    features: &[ns::TIME],
    iq: &[Rule {
        ns: ns::TIME,
        name: "time",
        set: Some(false),
        takes: Takes::DomainOrOwn,
        run: |cx, _| {
            let now = UNIX_EPOCH + Duration::from_millis(cx.hub.now.unix_ms);
            let utc = humantime::format_rfc3339_millis(now).to_string();
            Ok(Cx::payload(|w| {
                w.start("time").ns(ns::TIME);
                w.text_leaf("tzo", "+00:00").text_leaf("utc", &utc).end();
            }))
        },
    }],
    ..Extension::NEW
};

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use crate::xml::ns;

    #[test]
    fn the_hubs_time() {
        let mut w = World::new(&["alice"]);
        let alice = w.login("alice", "a");
        w.now.unix_ms = 1_157_733_000_250;
        let answer = w.iq(alice, "get", "hub.test", "<time xmlns='urn:xmpp:time'/>");
        assert_eq!(answer.text(ns::TIME, "utc").as_deref(), Some("2006-09-08T16:30:00.250Z"));
        assert_eq!(answer.text(ns::TIME, "tzo").as_deref(), Some("+00:00"));
    }
}
