//! XEP-0445: Pre-Authenticated In-Band Registration
//!
//! Before it registers, a client shows the token of an invitation. A good one opens registration on
//! that stream; it is spent only when the account is made. Every failure says the same (threat F9).

use super::invite;
use crate::hub::extension::Extension;
use crate::stanza::{Condition, Error, Stanza};
use crate::xml::ns;

/// The registry's entry. It speaks before login only: see [`super::register::asked`].
pub const IBR_TOKEN: Extension = Extension {
    number: 445,
    name: "Pre-Authenticated In-Band Registration",
    version: "0.2.0",
    scope: "tokens of invitations",
    ..Extension::NEW
};

/// A token that is unknown, spent, too old or no token at all.
pub const VOID: Error =
    Error::new(Condition::ItemNotFound).text("the invitation is not known, used up, or too old");

/// §4: the key in the store of the token in `<preauth/>`.
pub(super) fn token(stanza: &Stanza<'_>) -> Result<[u8; 32], Error> {
    let preauth = stanza.child(ns::PREAUTH, "preauth").ok_or(Condition::BadRequest)?;
    let token = stanza.child_attr(preauth, "token").ok_or(Condition::BadRequest)?;
    invite::key(&token).ok_or(VOID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xep::register::{Asked, asked};
    use crate::xml::{Caps, Scan, Scope};

    #[test]
    fn tokens_and_what_is_none() {
        let good = invite::token([7; 16]);
        for (attr, outcome) in [
            (format!("token='{good}'"), None),
            (format!("token=' {} '", good.to_uppercase()), None),
            ("token='short'".into(), Some(Condition::ItemNotFound)),
            (format!("token='{good}a'"), Some(Condition::ItemNotFound)),
            (format!("token='{}'", "é".repeat(13)), Some(Condition::ItemNotFound)),
            ("token=''".into(), Some(Condition::ItemNotFound)),
            (String::new(), Some(Condition::BadRequest)),
        ] {
            let xml =
                format!("<iq type='set' id='1' to='hub.test'><preauth xmlns='urn:xmpp:pars:0' {attr}/></iq>");
            let mut scan = Scan::new();
            let text = scan.element(xml.as_bytes(), &Scope::default(), &Caps::default()).unwrap();
            match (asked(&Stanza::new(text, &scan).unwrap()).unwrap(), outcome) {
                (Ok(Asked::Token(key)), None) => assert_eq!(Some(key), invite::key(&good)),
                (Err(error), Some(condition)) => assert_eq!(error.condition, condition, "{attr}"),
                (other, _) => panic!("{attr}: {other:?}"),
            }
        }
    }
}
