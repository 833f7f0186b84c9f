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
