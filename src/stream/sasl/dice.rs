//! Numbers that nobody can guess, out of the one seed that the ring hands in.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

/// `HMAC-SHA256(seed, counter)`: a stream never rolls dice itself, so that a test can replay it.
pub struct Dice {
    key: hmac::Key,
    count: u64,
}

impl Dice {
    /// The seed must be fresh random bytes for each connection.
    pub fn new(seed: &[u8; 32]) -> Dice {
        Dice { key: hmac::Key::new(hmac::HMAC_SHA256, seed), count: 0 }
    }

    /// The next 128 bits in 22 characters of `A-Z a-z 0-9 - _`: a stream id, a resourcepart, a
    /// nonce.
    pub fn word(&mut self) -> String {
        let tag = hmac::sign(&self.key, &self.count.to_be_bytes());
        self.count = self.count.wrapping_add(1);
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..16).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_differ_and_repeat_with_the_seed() {
        let (mut a, mut b, mut c) = (Dice::new(&[1; 32]), Dice::new(&[1; 32]), Dice::new(&[2; 32]));
        let first = a.word();
        assert_eq!(first.len(), 22);
        assert_eq!(first, b.word());
        assert_ne!(first, c.word());
        assert_ne!(first, a.word());
    }
}
