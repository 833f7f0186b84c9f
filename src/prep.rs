//! Passwords, prepared for SCRAM and PLAIN (RFC 5802 §2.2, RFC 4616 §2).
//!
//! SASLprep (RFC 4013) and not its successor `OpaqueString` (RFC 8265 §4), although the latter is
//! what RFC 7622 uses for resources: RFC 5802 asks for SASLprep, both ends must come to the same
//! bytes or the login fails without a reason, and the other ends (and the hashes they have stored)
//! all use SASLprep or nothing. For ASCII the two are the same.

use std::borrow::Cow;
use std::fmt;

/// The most bytes of a password, as written and as prepared: what is longer is there to make key
/// derivation expensive.
const PASSWORD_MAX: usize = 1023;

/// Prepares a password with SASLprep, as a stored string: code points that Unicode 3.2 did not
/// know are refused (RFC 5802 §2.2).
pub fn password(text: &str) -> Result<Cow<'_, str>, Unfit> {
    if text.len() > PASSWORD_MAX {
        return Err(Unfit::Length);
    }
    if text.is_empty() {
        return Err(Unfit::Empty);
    }
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Ok(Cow::Borrowed(text));
    }
    let prepared = stringprep::saslprep(text).map_err(|_| {
        match text.chars().any(stringprep::tables::unassigned_code_point) {
            true => Unfit::TooNew,
            false => Unfit::Character,
        }
    })?;
    match prepared.len() {
        0 => Err(Unfit::Empty),
        1..=PASSWORD_MAX => Ok(prepared),
        _ => Err(Unfit::Length),
    }
}

/// Why a text cannot be a password. Says nothing of the text itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// Nothing there, or nothing but what SASLprep drops.
    Empty,
    /// Too long.
    Length,
    /// A character that SASLprep prohibits, or a mix of writing directions.
    Character,
    /// A character that is younger than SASLprep, as most emoji are.
    TooNew,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Empty => f.write_str("the password is empty"),
            Unfit::Length => write!(f, "the password is over {PASSWORD_MAX} bytes long"),
            Unfit::Character => f.write_str("the password has a character that passwords cannot have"),
            Unfit::TooNew => f.write_str("the password has a character, such as an emoji, that is too new"),
        }
    }
}

impl std::error::Error for Unfit {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// RFC 4013 §3.
    #[test]
    fn what_the_rfc_gives_as_examples() {
        assert_eq!(password("I\u{ad}X").unwrap(), "IX");
        assert_eq!(password("user").unwrap(), "user");
        assert_eq!(password("USER").unwrap(), "USER");
        assert_eq!(password("\u{aa}").unwrap(), "a");
        assert_eq!(password("\u{2168}").unwrap(), "IX");
        assert_eq!(password("\u{7}"), Err(Unfit::Character));
        assert_eq!(password("\u{627}\u{31}"), Err(Unfit::Character));
    }

    #[test]
    fn same_bytes_at_both_ends() {
        assert_eq!(password("p\u{e9}").unwrap(), password("pe\u{301}").unwrap());
        assert_eq!(password("a\u{a0}b").unwrap(), "a b");
        assert!(matches!(password(" pa ss~ "), Ok(Cow::Borrowed(" pa ss~ "))));
    }

    #[test]
    fn refused() {
        assert_eq!(password(""), Err(Unfit::Empty));
        assert_eq!(password("\u{ad}"), Err(Unfit::Empty));
        assert_eq!(password("a\0b"), Err(Unfit::Character));
        assert_eq!(password("a\u{e000}"), Err(Unfit::Character));
        assert_eq!(password("hunter\u{1f600}"), Err(Unfit::TooNew));
        assert!(password(&"a".repeat(1023)).is_ok());
        assert_eq!(password(&"a".repeat(1024)), Err(Unfit::Length));
        // Eighteen characters come of one.
        assert_eq!(password(&"\u{fdfa}".repeat(341)), Err(Unfit::Length));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_panics_and_is_bounded(text in "\\PC{0,30}|.{0,30}|[ -~]{0,30}") {
            if let Ok(prepared) = password(&text) {
                prop_assert!(matches!(prepared.len(), 1..=PASSWORD_MAX));
                prop_assert!(!prepared.chars().any(char::is_control));
            }
        }
    }
}
