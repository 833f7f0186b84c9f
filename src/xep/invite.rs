//! XEP-0401: Ad-hoc Account Invitation Generation
//!
//! An invitation is a token of 128 random bits in an `xmpp:` URI. Who shows it may register once
//! (XEP-0445), and has the one who invited as a contact (XEP-0379). The store knows only its hash,
//! so who reads the disk can't register with it (threat F9).

use crate::hub::extension::Extension;
use ring::digest::{SHA256, digest};

/// The registry's entry. `stonechat invite` makes invitations; the ad-hoc commands (XEP-0050) by
/// which a client could are not there yet.
pub const INVITE: Extension = Extension {
    number: 401,
    name: "Ad-hoc Account Invitation Generation",
    version: "0.6.0",
    scope: "links and QR codes from the command line",
    ..Extension::NEW
};

/// RFC 4648 §6, in lower case: letters and digits only, none of which look alike, so that a token
/// can be read out and typed.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The token for 128 random bits.
pub fn token(random: [u8; 16]) -> String {
    let mut bits = u128::from_be_bytes(random);
    (0..26)
        .map(|i| {
            // 25 times 5 bits from the top, and the last 3 padded with zeros.
            let index = if i < 25 { bits >> 123 } else { bits >> 123 & 0b11100 };
            bits <<= 5;
            char::from(ALPHABET.get(index as usize).copied().unwrap_or(b'a'))
        })
        .collect()
}

/// Under which key the store has an invitation: the hash of its token. `None`: that is no token of
/// ours. Case and space around it do not matter.
pub fn key(token: &str) -> Option<[u8; 32]> {
    let token = token.trim();
    if token.len() != 26 || !token.bytes().all(|b| ALPHABET.contains(&b.to_ascii_lowercase())) {
        return None;
    }
    digest(&SHA256, token.to_ascii_lowercase().as_bytes()).as_ref().try_into().ok()
}

/// The link: for a certain account, for a contact of `inviter`, or for any account at the domain
/// (§5.1, §5.4).
pub fn uri(domain: &str, localpart: Option<&str>, inviter: Option<&str>, token: &str) -> String {
    let domain = escape(domain);
    match (localpart, inviter) {
        (Some(local), _) => format!("xmpp:{}@{domain}?register;preauth={token}", escape(local)),
        (None, Some(inviter)) => {
            format!("xmpp:{}@{domain}?roster;preauth={token};ibr=y", escape(inviter))
        }
        (None, None) => format!("xmpp:{domain}?register;preauth={token}"),
    }
}

/// RFC 5122 §2.2, §2.7.2: what a part of an address may hold and a URI may not becomes %XX.
fn escape(part: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(part.len());
    for b in part.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            b'!' | b'$' | b'*' | b'+' | b',' | b'(' | b')' | b'[' | b']' | b':' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_rfc_4648() {
        assert_eq!(token([0; 16]), "a".repeat(26));
        assert_eq!(token([0xff; 16]), "7777777777777777777777777".to_owned() + "4");
        assert_eq!(token(*b"foobarfoobarfoob"), "mzxw6ytbojtg633cmfzgm33pmi");
    }

    #[test]
    fn one_token_one_key() {
        let one = token([1; 16]);
        assert_eq!(key(&one), key(&format!("  {}\n", one.to_uppercase())));
        assert!(key(&one).is_some() && key(&one) != key(&token([2; 16])));
        for none in [
            "",
            "x",
            one.trim_start_matches('a'),
            &format!("{one}a"),
            &one.replace('a', "1"),
            &"é".repeat(13),
        ] {
            assert_eq!(key(none), None, "{none}");
        }
    }

    #[test]
    fn links() {
        let t = "TOKEN";
        assert_eq!(uri("hub.test", None, None, t), "xmpp:hub.test?register;preauth=TOKEN");
        assert_eq!(uri("hub.test", Some("juliet"), None, t), "xmpp:juliet@hub.test?register;preauth=TOKEN");
        assert_eq!(uri("hub.test", None, Some("romeo"), t), "xmpp:romeo@hub.test?roster;preauth=TOKEN;ibr=y");
        assert_eq!(
            uri("hub.test", Some("a?b#c%é"), None, t),
            "xmpp:a%3Fb%23c%25%C3%A9@hub.test?register;preauth=TOKEN"
        );
        assert_eq!(uri("[::1]", None, None, t), "xmpp:[::1]?register;preauth=TOKEN");
    }
}
