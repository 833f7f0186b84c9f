//! SASL (RFC 6120 §6): mechanisms, failures by name, and the only place that knows hashes.
//!
//! Both halves of a mechanism share a file, so the client and the server cannot drift.

mod dice;
pub mod external;
pub mod plain;
pub mod scram;

pub use dice::Dice;

use super::secret::Secret;
use crate::jid::BareJid;
use crate::store::change::{Keys, ScramKeys};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

/// Proof that the peer is this account. Only a mechanism in this module makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authenticated(BareJid);

impl Authenticated {
    /// The account's address.
    pub fn jid(&self) -> &BareJid {
        &self.0
    }
}

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hash {
    /// RFC 5802
    Sha1,
    /// RFC 7677
    Sha256,
}

impl Hash {
    pub(super) fn hmac(self, key: &[u8], message: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message)
    }

    pub(super) fn digest(self, message: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, message)
    }

    /// Bytes of its output.
    pub const fn size(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
        }
    }

    /// That account's keys for this hash.
    pub fn of(self, keys: &Keys) -> &ScramKeys {
        match self {
            Hash::Sha1 => &keys.sha1,
            Hash::Sha256 => &keys.sha256,
        }
    }
}

/// The mechanisms that exist here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// RFC 4422 Appendix A: the TLS client certificate.
    External,
    /// RFC 5802, RFC 7677.
    Scram {
        /// The hash.
        hash: Hash,
        /// Whether it is bound to the TLS channel (`-PLUS`).
        plus: bool,
    },
    /// RFC 4616: the password itself.
    Plain,
}

impl Mechanism {
    /// All of them, the strongest first.
    pub const ALL: [Mechanism; 6] = [
        Mechanism::External,
        Mechanism::Scram { hash: Hash::Sha256, plus: true },
        Mechanism::Scram { hash: Hash::Sha1, plus: true },
        Mechanism::Scram { hash: Hash::Sha256, plus: false },
        Mechanism::Scram { hash: Hash::Sha1, plus: false },
        Mechanism::Plain,
    ];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::External => "EXTERNAL",
            Mechanism::Scram { hash: Hash::Sha256, plus: true } => "SCRAM-SHA-256-PLUS",
            Mechanism::Scram { hash: Hash::Sha1, plus: true } => "SCRAM-SHA-1-PLUS",
            Mechanism::Scram { hash: Hash::Sha256, plus: false } => "SCRAM-SHA-256",
            Mechanism::Scram { hash: Hash::Sha1, plus: false } => "SCRAM-SHA-1",
            Mechanism::Plain => "PLAIN",
        }
    }

    /// The mechanism of that name.
    pub fn named(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// A channel binding type (RFC 5929, RFC 9266).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindingType {
    /// `tls-exporter`, the better one (XEP-0440 §4).
    Exporter,
    /// `tls-server-end-point`, the one that everybody has.
    ServerEndPoint,
}

impl BindingType {
    /// All of them, the best first.
    pub const ALL: [BindingType; 2] = [BindingType::Exporter, BindingType::ServerEndPoint];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            BindingType::Exporter => "tls-exporter",
            BindingType::ServerEndPoint => "tls-server-end-point",
        }
    }

    /// The type of that name.
    pub fn named(name: &str) -> Option<BindingType> {
        BindingType::ALL.into_iter().find(|t| t.name() == name)
    }
}

conditions! {
    /// Why an authentication failed (RFC 6120 §6.5).
    pub enum Condition;
    /// §6.5.1
    Aborted "aborted",
    /// §6.5.2
    AccountDisabled "account-disabled",
    /// §6.5.3
    CredentialsExpired "credentials-expired",
    /// §6.5.4
    EncryptionRequired "encryption-required",
    /// §6.5.5
    IncorrectEncoding "incorrect-encoding",
    /// §6.5.6
    InvalidAuthzid "invalid-authzid",
    /// §6.5.7
    InvalidMechanism "invalid-mechanism",
    /// §6.5.8
    MalformedRequest "malformed-request",
    /// §6.5.9
    MechanismTooWeak "mechanism-too-weak",
    /// §6.5.10
    NotAuthorized "not-authorized",
    /// §6.5.11
    TemporaryAuthFailure "temporary-auth-failure",
}

/// Fewer PBKDF2 rounds than this protect no password (RFC 5802 §5.1 and RFC 7677 §4).
pub const MIN_ITERATIONS: u32 = 4096;
/// More than this only burns the CPU of whoever is told to do them (threats B7).
pub const MAX_ITERATIONS: u32 = 500_000;
/// RFC 8265 §4 asks for a bound on passwords; this is the one that RFC 7622 gives each part of an
/// address, and ejabberd and Prosody give passwords.
pub const MAX_PASSWORD: usize = 1023;

/// `SaltedPassword` of RFC 5802 §3: PBKDF2. Takes milliseconds to a second, by design: call it
/// where nobody waits. The password is prepared already ([`crate::prep::password`]).
pub fn derive(password: &Secret, salt: &[u8], iterations: u32, hash: Hash) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
        Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
    };
    let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let mut salted = vec![0; hash.size()];
    pbkdf2::derive(algorithm, iterations, salt, password.expose(), &mut salted);
    salted
}

/// What is kept of a new password, for both hashes. As slow as two [`derive`]s; the salts are
/// fresh random bytes, the password is prepared already.
pub fn keys(password: &Secret, salts: [[u8; 16]; 2], iterations: u32) -> Keys {
    let [sha1, sha256] = salts;
    let one = |hash: Hash, salt: [u8; 16]| {
        let salted = derive(password, &salt, iterations, hash);
        ScramKeys {
            salt: Box::new(salt),
            iterations,
            stored_key: hash.digest(hash.hmac(&salted, b"Client Key").as_ref()).as_ref().into(),
            server_key: hash.hmac(&salted, b"Server Key").as_ref().into(),
        }
    };
    Keys { sha1: one(Hash::Sha1, sha1), sha256: one(Hash::Sha256, sha256) }
}

/// Keys for an account that does not exist: the same at every try, and no password fits
/// (threats B8).
pub(super) fn decoy(secret: &[u8; 32], localpart: &str, iterations: u32, hash: Hash) -> ScramKeys {
    let part = |what: &str| {
        let message = [what, "\0", hash_name(hash), "\0", localpart].concat();
        Hash::Sha256.hmac(secret, message.as_bytes())
    };
    let cut = |tag: hmac::Tag, n: usize| -> Box<[u8]> { tag.as_ref().get(..n).unwrap_or_default().into() };
    ScramKeys {
        salt: cut(part("salt"), 16),
        iterations,
        stored_key: cut(part("stored"), hash.size()),
        server_key: cut(part("server"), hash.size()),
    }
}

const fn hash_name(hash: Hash) -> &'static str {
    match hash {
        Hash::Sha1 => "SHA-1",
        Hash::Sha256 => "SHA-256",
    }
}

/// SHA-1, where an old protocol wants it (XEP-0114 §3).
pub(super) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.iter_mut().zip(Hash::Sha1.digest(bytes).as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// Base64 as it stands in `<auth/>`, `<challenge/>`, `<response/>` and `<success/>`: no
/// whitespace, padded, `=` for data of no length (RFC 6120 §6.4.2, §13.9.1).
pub fn decode(text: &str) -> Result<Vec<u8>, Condition> {
    match text {
        "=" => Ok(Vec::new()),
        _ => STANDARD.decode(text).map_err(|_| Condition::IncorrectEncoding),
    }
}

/// The reverse of [`decode`].
pub fn encode(data: &[u8]) -> String {
    match data {
        [] => "=".to_owned(),
        _ => STANDARD.encode(data),
    }
}

/// The authorization identity must be the account itself or absent: nobody acts for another
/// (RFC 6120 §6.3.8, threats B3).
fn check_authzid(authzid: Option<&str>, account: &BareJid) -> Result<(), Condition> {
    match authzid {
        None | Some("") => Ok(()),
        Some(text) => match BareJid::parse(text) {
            Ok(jid) if jid == *account => Ok(()),
            _ => Err(Condition::InvalidAuthzid),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6120_s6_4_2_base64_is_strict() {
        assert_eq!(decode("="), Ok(vec![]));
        assert_eq!(decode(""), Ok(vec![]));
        assert_eq!(decode("AGE="), Ok(b"\0a".to_vec()));
        for bad in ["A", "AGE", "AG E=", "AGE=\n", "AGE==", "AGF=", "====", "A-_=", "AGE=AGE="] {
            assert_eq!(decode(bad), Err(Condition::IncorrectEncoding), "{bad}");
        }
        assert_eq!(encode(b""), "=");
    }

    #[test]
    fn b8_decoys_are_the_same_at_every_try() {
        let keys = |name, hash| decoy(&[7; 32], name, 4096, hash);
        assert!(keys("a", Hash::Sha1) == keys("a", Hash::Sha1));
        assert!(keys("a", Hash::Sha1).salt != keys("b", Hash::Sha1).salt);
        assert!(keys("a", Hash::Sha1).salt != keys("a", Hash::Sha256).salt);
        assert_eq!(keys("a", Hash::Sha1).stored_key.len(), 20);
        assert_eq!(keys("a", Hash::Sha256).stored_key.len(), 32);
    }

    #[test]
    fn names_round_trip() {
        for m in Mechanism::ALL {
            assert_eq!(Mechanism::named(m.name()), Some(m));
        }
        for c in Condition::ALL {
            assert_eq!(Condition::named(c.name()), Some(*c));
        }
        assert_eq!(Mechanism::named("ANONYMOUS"), None);
    }
}
