//! The only door to redb.
pub mod change;
