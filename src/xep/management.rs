//! XEP-0198: Stream Management
//!
//! Both sides say what they have, so that nothing is lost with a connection; a session outlives it for
//! some minutes. Here is only the offer: the words are in `stream/management.rs`, what is kept in
//! `net/outbox.rs`, the coming back in `net/resume.rs`.

use crate::hub::extension::Extension;
use crate::xml::ns;

/// The registry's entry.
pub const MANAGEMENT: Extension = Extension {
    number: 198,
    name: "Stream Management",
    version: "1.6.1",
    scope: "acknowledgements of what is on disk or delivered; resumption",
    stream_features: Some(|_, w| {
        w.leaf("sm", ns::SM);
    }),
    ..Extension::NEW
};
