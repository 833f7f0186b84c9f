//! What was proven about the other side of a stream, as types. Each has one constructor, and it
//! stands beside the code that does the proving.

pub use super::peer::Verified;
pub use super::sasl::Authenticated;

/// A component that has proven that it knows the secret of its domain (XEP-0114 §3): it may speak for
/// every address there. Made by [`super::component`] alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached(Box<str>);

impl Attached {
    pub(super) fn new(domain: Box<str>) -> Attached {
        Attached(domain)
    }

    /// Its domain, in normal form.
    pub fn domain(&self) -> &str {
        &self.0
    }
}
