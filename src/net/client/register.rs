//! Making an account on a server (XEP-0077), with an invitation if there is one (XEP-0401, XEP-0445).

use super::error::Error;
use super::negotiate::{Goal, arrive};
use super::options::Options;
use super::session::{Request, Session};
use crate::jid::BareJid;
use crate::stanza;
use crate::stream::Secret;
use crate::xml::ns;

/// What an invitation says, or the address alone.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The account to be made, or only the domain to make one on.
    pub jid: BareJid,
    /// What admits us.
    pub token: Option<Secret>,
}

impl Invitation {
    /// Reads `user@host`, `host`, `xmpp:user@host?register;preauth=TOKEN`, `xmpp:host?register;preauth=TOKEN`, or
    /// a contact's invitation `xmpp:friend@host?roster;preauth=TOKEN;ibr=y`, which is for any account on that host.
    pub fn parse(text: &str) -> Result<Invitation, Error> {
        let wrong = || {
            Error::Invalid(format!(
                "{text:?} is no invitation: xmpp:…?register;preauth=… or user@domain is wanted"
            ))
        };
        let address = |text: &str| {
            BareJid::parse(text).map_err(|e| Error::Invalid(format!("{text:?} is no account: {e}")))
        };
        let Some(rest) = text.strip_prefix("xmpp:").or(text.strip_prefix("XMPP:")) else {
            return Ok(Invitation { jid: address(text)?, token: None });
        };
        let (path, query) = rest.split_once('?').ok_or_else(wrong)?;
        let jid = address(&decoded(path).ok_or_else(wrong)?)?;
        let mut parts = query.split(';');
        let action = parts.next().unwrap_or("");
        let mut token = None;
        let mut ibr = false;
        for part in parts {
            match part.split_once('=') {
                Some(("preauth", value)) => token = Some(Secret::new(decoded(value).ok_or_else(wrong)?)),
                Some(("ibr", "y")) => ibr = true,
                _ => {}
            }
        }
        match action {
            "register" => Ok(Invitation { jid, token }),
            "roster" if ibr && token.is_some() => {
                let domain = address(jid.domain())?;
                Ok(Invitation { jid: domain, token })
            }
            _ => Err(wrong()),
        }
    }
}

/// Percent-encoding undone. `None`: it is broken.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

/// Makes the account that `options` names, with the password in there.
pub async fn register(options: &Options, token: Option<&Secret>) -> Result<(), Error> {
    let username = options
        .jid
        .local()
        .ok_or_else(|| Error::Invalid(format!("{}: what is the account to be called?", options.jid)))?;
    let password =
        options.password.as_ref().ok_or_else(|| Error::Invalid("no password for the account".to_owned()))?;
    let arrived = arrive(options, &Goal::Register).await?;
    let mut session = arrived.session;
    let made = make(&mut session, username, password, token.filter(|_| arrived.invitations)).await;
    session.close().await;
    if matches!(&made, Err(Error::Stanza(_))) && token.is_some() && !arrived.invitations {
        return Err(Error::Protocol(format!(
            "{} knows no invitations, and makes no account without",
            options.jid.domain()
        )));
    }
    made
}

async fn make(
    session: &mut Session,
    username: &str,
    password: &Secret,
    token: Option<&Secret>,
) -> Result<(), Error> {
    let domain = session.domain().to_owned();
    if let Some(token) = token {
        let preauth = session.request(Request::Set, Some(&domain), |w| {
            w.start("preauth").ns(ns::PREAUTH).attr("token", token.expose_str()).end();
        });
        preauth.await?;
    }
    let form = session
        .request(Request::Get, Some(&domain), |w| {
            w.leaf("query", ns::REGISTER);
        })
        .await?;
    let (wanted, instructions) = form.with(wanted).unwrap_or_default();
    if !wanted.is_empty() {
        return Err(Error::Protocol(format!(
            "{domain} also wants to know: {}; register there by other means{}",
            wanted.join(", "),
            instructions.map(|i| format!(" (it says: {i})")).unwrap_or_default()
        )));
    }
    let set = session.request(Request::Set, Some(&domain), |w| {
        w.start("query").ns(ns::REGISTER);
        w.text_leaf("username", username).text_leaf("password", password.expose_str()).end();
    });
    set.await.map(drop)
}

/// What the server wants to know besides name and password, and what it says about that.
fn wanted(iq: &stanza::Node<'_, '_>) -> (Vec<String>, Option<String>) {
    let Some(query) = stanza::child(iq, ns::REGISTER, "query") else { return Default::default() };
    let mut wanted = Vec::new();
    let mut simple = false;
    for field in query.children().filter(|c| stanza::namespace(c) == ns::REGISTER) {
        match field.tag_name().name() {
            "username" | "password" => simple = true,
            "instructions" | "registered" | "remove" => {}
            // Everybody has these in the list, and nobody insists.
            "email" | "name" | "nick" => {}
            other => wanted.push(other.to_owned()),
        }
    }
    if !simple && stanza::child(&query, ns::DATA, "x").is_some() {
        wanted.push("a form".to_owned());
    }
    (wanted, stanza::child_text(&query, ns::REGISTER, "instructions").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invitations() {
        let read = |text: &str| {
            Invitation::parse(text)
                .ok()
                .map(|i| (i.jid.to_string(), i.token.map(|t| t.expose_str().to_owned())))
        };
        let table: &[(&str, &str, Option<&str>)] = &[
            ("bob@x", "bob@x", None),
            ("xmpp:bob@x?register;preauth=T0k", "bob@x", Some("T0k")),
            ("xmpp:x?register;preauth=a%2Fb", "x", Some("a/b")),
            ("xmpp:x?register", "x", None),
            ("xmpp:b%C3%B6b@x?register;preauth=1", "böb@x", Some("1")),
            ("xmpp:alice@x?roster;preauth=T;ibr=y", "x", Some("T")),
        ];
        for (text, jid, token) in table {
            assert_eq!(read(text), Some(((*jid).to_owned(), token.map(str::to_owned))), "{text}");
        }
        for bad in [
            "",
            "bob@x/r",
            "xmpp:bob@x",
            "xmpp:bob@x?message",
            "xmpp:x?register;preauth=%zz",
            "xmpp:x?register;preauth=%+1",
            "xmpp:alice@x?roster;preauth=T",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
