//! What must not be printed, kept or compared carelessly (threats B9).

use std::fmt;
use std::hint::black_box;
use subtle::ConstantTimeEq;

/// A password or a token: `Debug` does not show it, dropping it overwrites it.
///
/// Safe Rust cannot promise more: copies that the allocator or the compiler made on the way here
/// are out of reach.
#[derive(Clone, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into().into_bytes())
    }

    /// The secret itself. Whoever calls this neither logs nor keeps it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text.
    pub fn expose_str(&self) -> &str {
        // Only text goes in; anything else would be a bug, and is no password then.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // so that the writes above are not found to be without effect
        black_box(&self.0);
    }
}

/// Bytes that are only ever compared in constant time: a stored key, a proof, a token's hash, a
/// dialback key. There is no `PartialEq` on purpose.
#[derive(Clone)]
pub struct Verifier(Box<[u8]>);

impl Verifier {
    /// Takes what is to be compared with.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Verifier {
        Verifier(bytes.into())
    }

    /// Whether `presented` is the same, in a time that tells only whether the lengths are.
    pub fn accepts(&self, presented: &[u8]) -> bool {
        self.0.ct_eq(presented).into()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let text = format!("{:?} {:?}", Secret::new("pencil"), Verifier::new(*b"pencil"));
        assert!(!text.contains("pencil") && !text.contains("112"), "{text}");
    }

    #[test]
    fn a_verifier_accepts_only_the_same() {
        let v = Verifier::new(*b"abc");
        assert!(v.accepts(b"abc"));
        assert!(!v.accepts(b"abd") && !v.accepts(b"ab") && !v.accepts(b"abcd") && !v.accepts(b""));
    }
}
