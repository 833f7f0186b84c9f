//! XEP-0178: Best Practices for Use of SASL EXTERNAL with Certificates
//!
//! Between servers: what a certificate proves, it need not be asked twice. The streams are in `stream/peer/`, what a
//! certificate is worth in `stream/trust.rs`; this is its line in the registry.

use crate::hub::extension::Extension;

/// The registry's entry.
pub const EXTERNAL: Extension = Extension {
    number: 178,
    name: "Best Practices for Use of SASL EXTERNAL with Certificates",
    version: "1.2",
    scope: "between servers, and for clients whose certificate is bound to an account",
    ..Extension::NEW
};
