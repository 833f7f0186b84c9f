//! XEP-0185: Dialback Key Generation and Validation
//!
//! Keys that need no memory: `stream/peer/dialback.rs` makes them and knows them again; this is its line in the
//! registry.

use crate::hub::extension::Extension;

/// The registry's entry.
pub const DIALBACK_KEYS: Extension = Extension {
    number: 185,
    name: "Dialback Key Generation and Validation",
    version: "1.0",
    scope: "so that no key fits any other pair of domains, or any other stream",
    ..Extension::NEW
};
