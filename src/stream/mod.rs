//! CORE 1: an XMPP stream (RFC 6120 §4 to §7), one per connection: bytes in, events out.
//!
//! It never waits, looks at no clock and rolls no dice; both halves live here, so the client and
//! the server cannot drift. Read [`event`] first: it is the whole conversation.

mod bind;
mod element;
pub mod error;
pub mod event;
mod features;
mod header;
pub mod identity;
mod initiating;
mod receiving;
pub mod sasl;
pub mod secret;
mod starttls;

pub use error::{Condition, Error};
pub use event::{
    Account, Ask, Bindings, Established, Failure, Need, Policy, Registration, Security, Settings,
};
pub use identity::Authenticated;
pub use initiating::Initiating;
pub use receiving::Receiving;
pub use secret::{Secret, Verifier};
