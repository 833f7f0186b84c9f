//! RFC 6121, section by section, on a whole hub with a real store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

#[path = "../common/mod.rs"]
mod common;

mod appendix_a;
mod delivery;
mod durability;
mod federation;
mod lost;
mod offline;
mod presence;
mod roster;
mod subscriptions;
mod threats;
