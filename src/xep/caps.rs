//! XEP-0115: Entity Capabilities
//!
//! A client that has met this version of the hub before needs not ask it what it can do: the hash
//! in the stream feature says. What clients put into their presence passes through untouched, and
//! nothing of theirs is cached here, so there is nothing to poison (threat C10).

use super::disco;
use crate::hub::Hub;
use crate::hub::extension::Extension;
use crate::xml::{Writer, ns};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// The registry's entry.
pub const CAPS: Extension = Extension {
    number: 115,
    name: "Entity Capabilities",
    version: "1.6.0",
    scope: "the hub's own as a stream feature; those of clients pass",
    features: &[ns::CAPS],
    stream_features: Some(stream_feature),
    ..Extension::NEW
};

/// The software, as a URI (§4 `node`).
const NODE: &str = "urn:stonechat:hub";

/// §6.3. A few microseconds of hashing per login, next to thousands for its password; so nothing
/// is kept that could be out of date.
fn stream_feature(hub: &Hub, w: &mut Writer<'_>) {
    w.start("c").ns(ns::CAPS).attr("hash", "sha-1").attr("node", NODE).attr("ver", &ver(hub)).end();
}

/// The node at which disco#info must say the same as without one.
pub(super) fn node_ver(hub: &Hub) -> String {
    format!("{NODE}#{}", ver(hub))
}

/// §5.1
fn ver(hub: &Hub) -> String {
    let (category, kind, name) = disco::IDENTITY;
    let mut text = format!("{category}/{kind}//{name}<");
    for feature in disco::features(hub) {
        text.push_str(feature);
        text.push('<');
    }
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use crate::xml::{Writer, ns};
    use base64::Engine as _;

    /// What the stream feature promises, disco#info keeps, computed from its answer as §5.4 says.
    #[test]
    fn the_hash_is_that_of_what_disco_says() {
        let mut w = World::new(&["alice"]);
        let mut feature = Vec::new();
        super::stream_feature(&w.hub, &mut Writer::new(&mut feature));
        let feature = crate::testing::Got(String::from_utf8(feature).unwrap());
        let of = |attr| feature.attr(attr).unwrap();
        assert_eq!(of("hash"), "sha-1");
        let alice = w.login("alice", "desk");
        let node = format!("{}#{}", of("node"), of("ver"));
        let answer =
            w.iq(alice, "get", "hub.test", &format!("<query xmlns='{}' node='{node}'/>", ns::DISCO_INFO));
        assert_eq!(answer.of(ns::DISCO_INFO, "query", "node"), Some(node));
        let mut vars: Vec<String> = answer.with(|n| {
            let all = n.descendants().filter(|d| d.tag_name().name() == "feature");
            all.map(|f| f.attribute("var").unwrap().into()).collect()
        });
        vars.sort();
        let text = format!("server/im//Stonechat<{}<", vars.join("<"));
        let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        assert_eq!(of("ver"), base64::engine::general_purpose::STANDARD.encode(hash));
        let other = format!("<query xmlns='{}' node='urn:stonechat:hub#x'/>", ns::DISCO_INFO);
        assert!(w.iq(alice, "get", "hub.test", &other).is_error("item-not-found"));
    }
}
