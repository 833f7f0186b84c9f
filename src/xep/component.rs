//! XEP-0114: Jabber Component Protocol
//!
//! How a gateway to another network, or a service in a process of its own, becomes a part of the hub's world. The
//! stream is in `stream/component.rs`, the connection in `net/component.rs`; this is its line in the registry.

use crate::hub::extension::Extension;

/// The registry's entry.
pub const COMPONENT: Extension = Extension {
    number: 114,
    name: "Jabber Component Protocol",
    version: "1.6",
    scope: "external gateways attach a domain of their own; --component, component add",
    ..Extension::NEW
};
