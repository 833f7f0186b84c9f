//! XEP-0092: Software Version
//!
//! The hub's name and version. Not the operating system, which is nobody's business.

use crate::hub::extension::{Cx, Extension, Rule, Takes};
use crate::xml::ns;

/// The registry's entry.
pub const VERSION: Extension = Extension {
    number: 92,
    name: "Software Version",
    version: "1.1",
    scope: "name and version of the hub",
    features: &[ns::VERSION],
    iq: &[Rule {
        ns: ns::VERSION,
        name: "query",
        set: Some(false),
        takes: Takes::DomainOrOwn,
        run: |_, _| {
            Ok(Cx::payload(|w| {
                w.start("query").ns(ns::VERSION);
                w.text_leaf("name", "Stonechat").text_leaf("version", env!("CARGO_PKG_VERSION")).end();
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
    fn name_and_version_and_no_more() {
        let mut w = World::new(&["alice"]);
        let alice = w.login("alice", "a");
        let answer = w.iq(alice, "get", "hub.test", "<query xmlns='jabber:iq:version'/>");
        assert_eq!(answer.text(ns::VERSION, "name").as_deref(), Some("Stonechat"));
        assert_eq!(answer.text(ns::VERSION, "version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert!(!answer.has(ns::VERSION, "os"));
    }
}
