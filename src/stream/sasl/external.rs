//! EXTERNAL (RFC 4422 Appendix A): whoever holds the private key of a certificate that the
//! account's owner has registered is the account.

use super::{Authenticated, Condition, check_authzid};
use crate::jid::BareJid;

/// Server: reads the response: the authorization identity, or nothing.
pub fn read(data: &[u8]) -> Result<Option<BareJid>, Condition> {
    match std::str::from_utf8(data) {
        Ok("") => Ok(None),
        Ok(text) => BareJid::parse(text).map(Some).map_err(|_| Condition::InvalidAuthzid),
        Err(_) => Err(Condition::MalformedRequest),
    }
}

/// Server: `owner` is the localpart that the certificate is registered for.
pub fn check(
    owner: Option<&str>,
    authzid: Option<&BareJid>,
    domain: &str,
) -> Result<Authenticated, Condition> {
    let owner = owner.ok_or(Condition::NotAuthorized)?;
    let account = BareJid::from_parts(Some(owner), domain).map_err(|_| Condition::NotAuthorized)?;
    check_authzid(authzid.map(BareJid::as_str), &account)?;
    Ok(Authenticated(account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_only_for_the_owner() {
        let jid = |text| BareJid::parse(text).unwrap();
        assert!(check(Some("alice"), None, "a.test").is_ok_and(|a| a.jid().as_str() == "alice@a.test"));
        assert!(check(Some("alice"), Some(&jid("alice@a.test")), "a.test").is_ok());
        for other in ["bob@a.test", "alice@other", "a.test"] {
            assert_eq!(
                check(Some("alice"), Some(&jid(other)), "a.test"),
                Err(Condition::InvalidAuthzid),
                "{other}"
            );
        }
        assert_eq!(check(None, None, "a.test"), Err(Condition::NotAuthorized));
        assert_eq!(read(b"bob/x@"), Err(Condition::InvalidAuthzid));
        assert_eq!(read(b"\xff"), Err(Condition::MalformedRequest));
    }
}
