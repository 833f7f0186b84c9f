//! XEP-0288: Bidirectional Server-to-Server Connections
//!
//! A hub behind a router that lets nobody in can still be answered. The streams are in `stream/peer/`; this is its line in
//! the registry.

use crate::hub::extension::Extension;

/// The registry's entry.
pub const BIDI: Extension = Extension {
    number: 288,
    name: "Bidirectional Server-to-Server Connections",
    version: "1.0.1",
    scope: "one connection for both directions, under TLS and with proof in each",
    ..Extension::NEW
};
