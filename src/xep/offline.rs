//! XEP-0160: Best Practices for Handling Offline Messages
//!
//! What RFC 6121 §8.5.2.2.1 lets a server do with messages for somebody who is away: they wait, in
//! order and bounded, until a resource of a non-negative priority has taken them. Delivery is the
//! hub's own business (`hub/deliver.rs`); this is its line in the registry.

use crate::hub::extension::Extension;

/// The registry's entry.
pub const OFFLINE: Extension = Extension {
    number: 160,
    name: "Best Practices for Handling Offline Messages",
    version: "1.0.1",
    scope: "bounded in count and bytes, in order, with delay stamps",
    features: &["msgoffline"],
    ..Extension::NEW
};
