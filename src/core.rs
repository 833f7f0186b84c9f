//! The first core, what passwords go through, and what the hub asks of a store. They are a crate of their
//! own because a crate is what the compiler builds for speed or for size (ARCHITECTURE.md, "Sizes"); the
//! package `stonechat` shows them under the same names.

#[path = "store/change.rs"]
pub mod change;
pub mod prep;
pub mod stream;

/// Under its usual name. The store itself is a package that knows these words.
pub mod store {
    pub use super::change;
}

pub use stonechat_wire::{jid, stanza, xml};
