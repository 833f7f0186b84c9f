//! XEP-0368: SRV records for XMPP over TLS
//!
//! One round trip less, and no part of the stream in the clear. The listeners are in `net/listen.rs`, the look-ups in
//! `net/dns.rs`; this is its line in the registry.

use crate::hub::extension::Extension;

/// The registry's entry.
pub const DIRECT_TLS: Extension = Extension {
    number: 368,
    name: "SRV records for XMPP over TLS",
    version: "1.1.0",
    scope: "TLS from the first byte, for clients and servers, with ALPN",
    ..Extension::NEW
};
