//! What was proven about the other side of a stream, as types. Each has one constructor, and it
//! stands beside the code that does the proving.

pub use super::peer::Verified;
pub use super::sasl::Authenticated;
