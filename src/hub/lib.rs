//! The second core. It is a crate of its own because a crate is what the compiler builds for speed or for
//! size (ARCHITECTURE.md, "Sizes"); the package `stonechat` shows it under the same name.

#[path = "mod.rs"]
pub mod hub;

pub use stonechat_core::{store, stream};
pub use stonechat_wire::{jid, stanza, xml};
