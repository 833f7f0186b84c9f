//! Key derivation is slow by design; here nothing is derived twice.

use std::collections::HashMap;
use std::sync::Mutex;
use stonechat::store::change::Keys;
use stonechat::stream::Secret;
use stonechat::stream::sasl::{self, Hash};

/// The rounds of all passwords: as few as a client accepts.
pub const ITERATIONS: u32 = 4096;

static SALTED: Mutex<Option<HashMap<Vec<u8>, Vec<u8>>>> = Mutex::new(None);
static KEYS: Mutex<Option<HashMap<Vec<u8>, Keys>>> = Mutex::new(None);

fn once<V: Clone>(
    known: &Mutex<Option<HashMap<Vec<u8>, V>>>,
    question: Vec<u8>,
    work: impl FnOnce() -> V,
) -> V {
    let mut known = known.lock().unwrap();
    known.get_or_insert_default().entry(question).or_insert_with(work).clone()
}

/// [`sasl::derive`]
pub fn derive(password: &Secret, salt: &[u8], iterations: u32, sha: Hash) -> Vec<u8> {
    let question = [password.expose(), b"\0", salt, &[sha.size() as u8]].concat();
    once(&SALTED, question, || sasl::derive(password, salt, iterations, sha))
}

/// [`sasl::keys`]
pub fn keys(password: &Secret) -> Box<Keys> {
    let work = || sasl::keys(password, [[1; 16], [2; 16]], ITERATIONS);
    Box::new(once(&KEYS, password.expose().to_vec(), work))
}
