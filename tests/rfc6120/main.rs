//! RFC 6120, the receiving half, section by section; the hostile cases are named after the table
//! of attacks that they come from.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::string_slice, clippy::arithmetic_side_effects)]

mod client;
mod hostile;
mod initiating;
mod s4_streams;
mod s5_starttls;
mod s6_sasl;
mod s7_bind;
mod world;
