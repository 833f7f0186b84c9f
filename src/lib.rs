//! # Stonechat
//!
//! One small binary that is an XMPP server (a *hub*) and an XMPP client.
//!
//! ```text
//! socket ─bytes─► net/drive ─► xml/framer ─► stanza/head ─Stanza─► hub/deliver ─Packet─► net/outbox ─► net/drive ─► socket
//!                   ↕ stream (negotiation)                   ↕ xep rooms, store (changes out, accounts in)
//! ```
//!
//! Programs use the client half as a library through [`client`].

pub mod cli;
pub mod hub;
pub mod jid;
pub mod net;
pub mod prep;
pub mod stanza;
pub mod store;
pub mod stream;
pub mod xep;
pub mod xml;

pub use net::client;

// The tests of src/ and those of tests/ share one fake ring, which knows the crate by its name.
#[cfg(test)]
extern crate self as stonechat;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod testing;
