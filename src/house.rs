//! The ring, the rooms of the extensions, the command line. They are a crate of their own because a
//! crate is what the compiler builds for speed or for size (ARCHITECTURE.md, "Sizes"); programs use the
//! package `stonechat`, which shows them under the same names.

pub mod cli;
pub mod net;
#[cfg(feature = "hub")]
pub mod xep;

pub use net::client;
pub use stonechat_core::{prep, stream};
#[cfg(feature = "hub")]
pub use stonechat_hub::hub;
#[cfg(feature = "hub")]
pub use stonechat_store as store;
pub use stonechat_wire::{jid, stanza, xml};

// The tests of src/ and those of tests/ share one fake ring, which knows the crate by the name of the package.
#[cfg(test)]
extern crate self as stonechat;
#[cfg(all(test, feature = "hub"))]
#[path = "../tests/common/mod.rs"]
mod testing;
