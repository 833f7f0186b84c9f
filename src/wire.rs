//! The three rooms that every stanza goes through: [`jid`], [`xml`], [`stanza`]. They are a crate of their
//! own because a crate is what the compiler builds for speed or for size (ARCHITECTURE.md, "Sizes"); the
//! package `stonechat` shows them under the same names.

pub mod jid;
pub mod stanza;
pub mod xml;
