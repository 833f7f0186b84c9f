//! Streams between servers (RFC 6120 §4 to §6, XEP-0178, XEP-0220, XEP-0288), both halves.
//!
//! They differ from a client's in three things. TLS comes first, always. What is proven is not one account
//! but *pairs*: (a domain of ours, a domain of theirs), and there may be several on one stream. And proving
//! never ends: further pairs are asked for while stanzas of the first ones flow, so a half of these stays
//! with its stream to the end and sees all that comes.
//!
//! Read [`event`] first: it is the whole conversation.

mod dialback;
pub mod event;
mod features;
mod initiating;
mod proofs;
mod receiving;
#[cfg(test)]
mod tests;

pub use dialback::{Condition, Keys};
pub use event::{Ask, Callback, Failure, Ready, Settings, Task, Verdict, Wanted};
pub use initiating::Initiating;
pub use proofs::Verified;
pub use receiving::Receiving;
