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
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/loopback.rs"));
//! use stonechat::client::{Client, Draft, Event, Options};
//! # use stonechat::client::Security;
//!
//! # fn main() -> Result<(), stonechat::client::Error> {
//! let options = Options::new("juliet@example.org", "pencil")?;
//! # let options = options.at("127.0.0.1", serve()).security(Security::Plaintext);
//! let mut client = Client::connect(&options)?;
//! client.send(&Draft::chat("juliet@example.org", "Note to myself: wherefore?"))?;
//! loop {
//!     match client.next_event()? {
//!         Event::Message(message) => {
//!             println!("{}: {}", message.from, message.body.unwrap_or_default());
//! #           assert!(message.from.starts_with("juliet@example.org/"));
//!             break;
//!         }
//!         Event::Closed => break,
//!         _ => {}
//!     }
//! }
//! client.close();
//! # Ok(())
//! # }
//! ```

pub use stonechat_core::{prep, stream};
#[cfg(feature = "hub")]
pub use stonechat_house::xep;
pub use stonechat_house::{cli, client, net};
#[cfg(feature = "hub")]
pub use stonechat_hub::hub;
pub use stonechat_wire::{jid, stanza, xml};

/// What the hub has acknowledged, on disk; and the plain data that it is asked with.
pub mod store {
    pub use stonechat_core::store::change;
    #[cfg(feature = "hub")]
    pub use stonechat_store::*;
}
