//! XEP-0077: In-Band Registration
//!
//! Two halves that share a namespace. Before login ([`asked`], [`form`], [`refused`]: pure, for
//! whoever drives the stream) it makes accounts, if the operator lets it: it is closed by default.
//! After login (the rules) its user changes the password, or leaves. Neither touches any account but
//! the one that is logged in (threat F8), and both end what is open under the old password (B11).

use super::{DISK, ibr_token};
use crate::hub::extension::{Cx, Extension, Reply, Request, Rule, Takes};
use crate::hub::talk::Password;
use crate::stanza::{Condition, Error, Kind, Node, Stanza, child, child_text};
use crate::store::change::{Answer, Ask, Change, Refused};
use crate::xml::{Writer, ns};
use crate::{jid, prep, stream};

/// The registry's entry.
pub const REGISTER: Extension = Extension {
    number: 77,
    name: "In-Band Registration",
    version: "2.4",
    scope: "making an account (closed by default), a new password, removal",
    features: &[ns::REGISTER],
    iq: &[
        Rule { ns: ns::REGISTER, name: "query", set: Some(false), takes: Takes::DomainOrOwn, run: get },
        Rule { ns: ns::REGISTER, name: "query", set: Some(true), takes: Takes::DomainOrOwn, run: set },
    ],
    ..Extension::NEW
};

// ---- before login -----------------------------------------------------------------------------

/// What a stanza before login asks for.
#[derive(Debug)]
pub enum Asked {
    /// The form (§3.1).
    Form,
    /// An account (§3.1).
    Account {
        /// Its name, normal.
        localpart: Box<str>,
        /// Its password, prepared.
        password: Password,
    },
    /// To be let in with an invitation (XEP-0445), by its key in the store.
    Token([u8; 32]),
}

/// Reads a stanza that came before login. `None`: it is not about registration.
pub fn asked(stanza: &Stanza<'_>) -> Option<Result<Asked, Error>> {
    if stanza.kind() != Kind::Iq || stanza.children().len() != 1 {
        return None;
    }
    let set = match &*stanza.type_() {
        "get" => false,
        "set" => true,
        _ => return None,
    };
    match (stanza.payload()?, set) {
        ((ns::REGISTER, "query"), false) => Some(Ok(Asked::Form)),
        ((ns::REGISTER, "query"), true) => Some(submitted(stanza)),
        ((ns::PREAUTH, "preauth"), true) => Some(ibr_token::token(stanza).map(Asked::Token)),
        _ => None,
    }
}

fn submitted(stanza: &Stanza<'_>) -> Result<Asked, Error> {
    let tree = stanza.tree()?;
    let query = child(&tree.root_element(), ns::REGISTER, "query").ok_or(Condition::BadRequest)?;
    if child(&query, ns::REGISTER, "remove").is_some() {
        return Err(Condition::RegistrationRequired.into());
    }
    let (username, password) = fields(&query)?;
    let localpart =
        jid::localpart(username).map_err(|_| NOT_ACCEPTABLE.text("that name can't be used in an address"))?;
    let password = password_of(password)?;
    Ok(Asked::Account { localpart: localpart.into(), password })
}

const NOT_ACCEPTABLE: Error = Error::new(Condition::NotAcceptable);

/// Both, and neither empty (§3.1).
fn fields<'a>(query: &Node<'a, '_>) -> Result<(&'a str, &'a str), Error> {
    let field = |name| child_text(query, ns::REGISTER, name).filter(|text| !text.is_empty());
    match (field("username"), field("password")) {
        (Some(username), Some(password)) => Ok((username, password)),
        _ => Err(NOT_ACCEPTABLE.text("a username and a password are needed")),
    }
}

fn password_of(text: &str) -> Result<Password, Error> {
    match prep::password(text) {
        Ok(password) => Ok(Password(password.into())),
        Err(prep::Unfit::Length) => Err(NOT_ACCEPTABLE.text("the password is too long")),
        Err(_) => Err(NOT_ACCEPTABLE.text("the password has a character that passwords can't have")),
    }
}

/// The form, for who has no account yet (§3.1).
pub fn form(w: &mut Writer<'_>) {
    w.start("query").ns(ns::REGISTER);
    w.text_leaf("instructions", "Choose a name and a password for your account here.");
    w.start("username").end().start("password").end().end();
}

/// Registration is closed, or asks for an invitation first.
pub const CLOSED: Error = Error::new(Condition::NotAllowed).text("registration needs an invitation");

/// More registrations from one address than are allowed.
pub const TOO_MANY: Error =
    Error::new(Condition::ResourceConstraint).text("too many registrations from this address");

/// The answer to a registration that the store has refused (§3.1).
pub const fn refused(why: Refused) -> Error {
    match why {
        Refused::Exists => Error::new(Condition::Conflict).text("that name is taken"),
        Refused::Invite => ibr_token::VOID,
        Refused::Full => Error::new(Condition::ResourceConstraint).text("the hub takes no more accounts"),
    }
}

// ---- after login ------------------------------------------------------------------------------

/// §3.1: "already registered".
fn get(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let session = cx.session(request.origin.session).ok_or(Condition::InternalServerError)?;
    let username = session.jid.local().unwrap_or_default().to_owned();
    Ok(Cx::payload(|w| {
        w.start("query").ns(ns::REGISTER).start("registered").end();
        w.text_leaf("instructions", "A new password ends all other sessions of the account.");
        w.text_leaf("username", &username).start("password").end().end();
    }))
}

fn set(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let tree = request.stanza.tree()?;
    let query = child(&tree.root_element(), ns::REGISTER, "query").ok_or(Condition::BadRequest)?;
    if child(&query, ns::REGISTER, "remove").is_some() {
        // §3.2: alone.
        return match query.children().filter(|n| n.is_element()).count() {
            1 => remove(cx, request),
            _ => Err(Condition::BadRequest.into()),
        };
    }
    let (username, password) = fields(&query)?;
    let password = password_of(password)?;
    let session = cx.session(request.origin.session).ok_or(Condition::InternalServerError)?;
    if jid::localpart(username).ok().as_deref() != session.jid.local() {
        return Err(Error::new(Condition::NotAllowed).text("only one's own password can be changed"));
    }
    // One worker at most per session.
    if std::mem::replace(&mut session.rekeying, true) {
        return Err(Error::new(Condition::ResourceConstraint).text("one new password at a time"));
    }
    let place = session.account;
    change(cx, request, place, password);
    Ok(Reply::Later)
}

fn session_account(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<u32, Error> {
    Ok(cx.session(request.origin.session).ok_or(Condition::InternalServerError)?.account)
}

/// §3.3: makes the keys, keeps them, ends all other sessions, answers; in this order.
fn change(cx: &mut Cx<'_>, request: &Request<'_>, place: u32, password: Password) {
    let Some(account) = cx.hub.account(place).map(|a| a.id) else { return };
    let to = request.answer_to();
    let session = request.origin.session;
    let derived =
        Box::new(move |hub: &mut crate::hub::Hub, sink: &mut dyn crate::hub::talk::Sink, keys: Box<_>| {
            let change = Change::KeysPut { account, keys };
            hub.store_for(
                sink,
                session,
                vec![change],
                Ask::Nothing,
                Box::new(move |hub, sink, answer| {
                    if let Some(session) = hub.session_mut(session) {
                        session.rekeying = false;
                    }
                    if let Answer::Failed(why) = answer {
                        log::error!("store: {why}");
                        return to.error(hub, sink, DISK);
                    }
                    if hub.account(place).is_some_and(|a| a.id == account) {
                        let why = stream::Error::new(stream::Condition::Reset);
                        hub.revoke(sink, place, Some(session), &why);
                    }
                    to.result(hub, sink, b"");
                }),
            );
        });
    cx.sink.derive(password, derived);
}

/// §3.2: the account and all that was kept for it.
fn remove(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let place = session_account(cx, request)?;
    let account = cx.hub.account(place).ok_or(Condition::InternalServerError)?;
    let (id, localpart) = (account.id, account.jid.local().unwrap_or_default().into());
    let to = request.answer_to();
    cx.store(
        request.origin.session,
        Vec::new(),
        Ask::Remove { localpart },
        Box::new(move |hub, sink, answer| {
            if let Answer::Failed(why) = answer {
                log::error!("store: {why}");
                return to.error(hub, sink, DISK);
            }
            to.result(hub, sink, b"");
            if hub.account(place).is_some_and(|a| a.id == id) {
                hub.removed(sink, place);
            }
        }),
    );
    Ok(Reply::Later)
}
