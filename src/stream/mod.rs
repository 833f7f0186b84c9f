//! CORE 1: an XMPP stream (RFC 6120), one per connection, both halves. Bytes in, events out.

pub mod identity;
pub mod sasl;
pub mod secret;

pub use identity::Authenticated;
pub use secret::{Secret, Verifier};
