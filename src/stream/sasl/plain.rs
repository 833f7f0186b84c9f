//! PLAIN (RFC 4616): the password itself, so under TLS only (RFC 6120 §6.3.8, §13.8.3).

use super::super::secret::{Secret, Verifier};
use super::{Authenticated, Condition, Hash, MAX_PASSWORD, check_authzid};
use crate::jid::BareJid;
use crate::prep;
use crate::store::change::ScramKeys;

/// The hash whose keys a PLAIN password is checked against.
pub const HASH: Hash = Hash::Sha256;

/// `[authzid] NUL authcid NUL passwd`, taken apart and prepared.
pub struct Message {
    /// Whom the client says it is.
    pub account: BareJid,
    /// The password, prepared.
    pub password: Secret,
}

/// Server: reads the initial response (RFC 4616 §2).
pub fn read(data: &[u8], domain: &str) -> Result<Message, Condition> {
    let text = std::str::from_utf8(data).map_err(|_| Condition::MalformedRequest)?;
    let mut parts = text.split('\0');
    let (Some(authzid), Some(authcid), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Condition::MalformedRequest);
    };
    if authcid.is_empty() || password.is_empty() {
        return Err(Condition::MalformedRequest);
    }
    if password.len() > MAX_PASSWORD {
        return Err(Condition::NotAuthorized);
    }
    // A name that no account can have is answered like a name that no account has (threats B8).
    let account = BareJid::from_parts(Some(authcid), domain).map_err(|_| Condition::NotAuthorized)?;
    check_authzid(Some(authzid), &account)?;
    let password = prep::password(password).map_err(|_| Condition::NotAuthorized)?;
    Ok(Message { account, password: Secret::new(password.into_owned()) })
}

/// Server: compares what [`super::derive`] made of the password with what is kept of it. `known`
/// is whether the account exists; if not, the same work has been done in vain (threats B8).
pub fn check(
    salted: &[u8],
    keys: &ScramKeys,
    known: bool,
    account: BareJid,
) -> Result<Authenticated, Condition> {
    let presented = HASH.digest(HASH.hmac(salted, b"Client Key").as_ref());
    if Verifier::new(&*keys.stored_key).accepts(presented.as_ref()) & known {
        Ok(Authenticated(account))
    } else {
        Err(Condition::NotAuthorized)
    }
}

/// Client: the initial response. The password is prepared already.
pub fn message(localpart: &str, password: &Secret) -> Vec<u8> {
    [b"\0", localpart.as_bytes(), b"\0", password.expose()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(data: &[u8]) -> Condition {
        read(data, "a.test").map(|_| ()).unwrap_err()
    }

    #[test]
    fn rfc4616_s2_message() {
        let m = read(&message("tim", &Secret::new("tanstaaftanstaaf")), "a.test").map_err(|_| ()).unwrap();
        assert_eq!(m.account.as_str(), "tim@a.test");
        assert_eq!(m.password.expose(), b"tanstaaftanstaaf");
        for bad in
            [&b""[..], b"a", b"a\0b", b"\0\0pw", b"\0tim\0", b"\0tim\0pw\0", b"a\0b\0c\0d", b"\0t\xff\0pw"]
        {
            assert_eq!(refused(bad), Condition::MalformedRequest, "{bad:?}");
        }
    }

    #[test]
    fn b3_authzid_of_another_is_refused() {
        assert_eq!(refused(b"bob\0alice\0pw"), Condition::InvalidAuthzid);
        assert_eq!(refused(b"bob@a.test\0alice\0pw"), Condition::InvalidAuthzid);
        assert_eq!(refused(b"alice@other\0alice\0pw"), Condition::InvalidAuthzid);
        assert_eq!(refused(b"alice@a.test/r\0alice\0pw"), Condition::InvalidAuthzid);
        assert_eq!(refused(b"a.test\0alice\0pw"), Condition::InvalidAuthzid);
        assert!(read(b"alice@a.test\0alice\0pw", "a.test").is_ok());
    }

    #[test]
    fn b7_a_huge_password_is_refused_before_any_work() {
        let long = [b"\0tim\0".to_vec(), vec![b'x'; 1024]].concat();
        assert_eq!(refused(&long), Condition::NotAuthorized);
        let fits = [b"\0tim\0".to_vec(), vec![b'x'; 1023]].concat();
        assert!(read(&fits, "a.test").is_ok());
    }
}
