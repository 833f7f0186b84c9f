//! CORE 1: an XMPP stream (RFC 6120 §4 to §7), one per connection: bytes in, events out.
//!
//! It never waits, looks at no clock and rolls no dice; both halves live here, so the client and
//! the server cannot drift. Read [`event`] first: it is the whole conversation.

/// An enum of conditions that stand in the RFC by name, in its order.
macro_rules! conditions {
    ($(#[$about:meta])* pub enum $type:ident; $($(#[$doc:meta])* $variant:ident $name:literal),* $(,)?) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $type { $($(#[$doc])* $variant),* }

        impl $type {
            /// All of them, in the RFC's order.
            pub const ALL: &[$type] = &[$($type::$variant),*];

            /// The element's name.
            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }

            /// The condition of that name.
            pub fn named(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|c| c.name() == name)
            }
        }
    };
}

mod bind;
pub mod component;
mod element;
pub mod error;
pub mod event;
mod features;
mod header;
pub mod identity;
mod initiating;
pub mod management;
pub mod pairing;
pub mod peer;
mod receiving;
pub mod sasl;
pub mod secret;
mod starttls;
pub mod trust;

pub use error::{Condition, Error};
pub use event::{
    Account, Ask, Bindings, Established, Failure, Need, Policy, Registration, Security, Settings,
};
pub use identity::{Authenticated, Verified};
pub use initiating::Initiating;
pub use receiving::Receiving;
pub use secret::{Secret, Verifier};
