//! XEP-0220: Server Dialback
//!
//! For servers that have nothing better than the DNS to prove who they are. The streams are in `stream/peer/`; this is
//! its line in the registry.

use crate::hub::extension::Extension;

/// The registry's entry.
pub const DIALBACK: Extension = Extension {
    number: 220,
    name: "Server Dialback",
    version: "1.1.1",
    scope: "answered always; believed only with --s2s-trust dialback; several domains over one stream",
    ..Extension::NEW
};
