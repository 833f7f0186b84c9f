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
