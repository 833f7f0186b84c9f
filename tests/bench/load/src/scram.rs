//! SCRAM, the client's half (RFC 5802), without channel binding.

use base64::{Engine, engine::general_purpose::STANDARD as B64};
use ring::{digest, hmac, pbkdf2};
use std::collections::HashMap;
use std::num::NonZeroU32;

/// What a client may keep of a password (RFC 5802 §5.1): a generator that derives anew each time
/// would be slower than the server. By name, salt and rounds.
pub type Kept = HashMap<(String, Vec<u8>, u32), Vec<u8>>;

/// One exchange.
pub struct Scram {
    sha256: bool,
    password: String,
    first_bare: String,
    server_signature: Vec<u8>,
}

impl Scram {
    pub fn new(sha256: bool, user: &str) -> Scram {
        let mut nonce = [0u8; 18];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut nonce).expect("random bytes");
        let first_bare = format!("n={user},r={}", B64.encode(nonce));
        Scram { sha256, password: user.to_owned(), first_bare, server_signature: Vec::new() }
    }

    /// The first message, in base64.
    pub fn first(&self) -> String {
        B64.encode(format!("n,,{}", self.first_bare))
    }

    /// The answer to the server's first message.
    pub fn answer(&mut self, challenge: &str, kept: &mut Kept) -> Option<String> {
        let server = String::from_utf8(B64.decode(challenge).ok()?).ok()?;
        let part = |key: &str| server.split(',').find_map(|p| p.strip_prefix(key));
        let (nonce, salt, rounds) = (part("r=")?, B64.decode(part("s=")?).ok()?, part("i=")?.parse().ok()?);
        let count = NonZeroU32::new(rounds)?;
        let (alg, mac, hash) = match self.sha256 {
            true => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
            false => (
                pbkdf2::PBKDF2_HMAC_SHA1,
                hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                &digest::SHA1_FOR_LEGACY_USE_ONLY,
            ),
        };
        let salted =
            kept.entry((self.password.clone(), salt, rounds)).or_insert_with_key(|(word, salt, _)| {
                let mut salted = vec![0; hash.output_len()];
                pbkdf2::derive(alg, count, salt, word.as_bytes(), &mut salted);
                salted
            });
        let sign = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(mac, key), data);
        let client_key = sign(salted, b"Client Key");
        let stored_key = digest::digest(hash, client_key.as_ref());
        let last = format!("c=biws,r={nonce}");
        let message = format!("{},{server},{last}", self.first_bare);
        let signature = sign(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sig)| key ^ sig).collect();
        let server_key = sign(salted, b"Server Key");
        self.server_signature = sign(server_key.as_ref(), message.as_bytes()).as_ref().to_vec();
        Some(B64.encode(format!("{last},p={}", B64.encode(proof))))
    }

    /// Whether the server knows the password too.
    pub fn verify(&self, last: &str) -> bool {
        let wanted = format!("v={}", B64.encode(&self.server_signature));
        B64.decode(last).is_ok_and(|got| got.starts_with(wanted.as_bytes()))
    }
}
