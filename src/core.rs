//! The two cores, and what passwords go through. They are a crate of their own because a crate is what the
//! compiler builds for speed or for size (ARCHITECTURE.md, "Sizes"); the package `stonechat` shows them
//! under the same names.

pub mod hub;
pub mod prep;
pub mod stream;

pub use stonechat_store as store;
pub use stonechat_wire::{jid, stanza, xml};
