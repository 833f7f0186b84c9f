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
    let session = cx.session(request.origin.session).ok_or(Condition::NotAllowed)?;
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
    let session = cx.session(request.origin.session).ok_or(Condition::NotAllowed)?;
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
    Ok(cx.session(request.origin.session).ok_or(Condition::NotAllowed)?.account)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Got, World, keys};
    use crate::xml::{Caps, Scan, Scope};

    fn ask(xml: &str) -> Option<Result<Asked, Error>> {
        let mut scan = Scan::new();
        let text = scan.element(xml.as_bytes(), &Scope::default(), &Caps::default()).unwrap();
        asked(&Stanza::new(text, &scan).unwrap())
    }

    fn submit(fields: &str) -> Result<(String, String), &'static str> {
        let iq = format!("<iq type='set' id='1'><query xmlns='jabber:iq:register'>{fields}</query></iq>");
        match ask(&iq).unwrap() {
            Ok(Asked::Account { localpart, password }) => Ok((localpart.into(), password.0.into())),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.condition.name()),
        }
    }

    #[test]
    fn before_login() {
        assert!(matches!(
            ask("<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>"),
            Some(Ok(Asked::Form))
        ));
        let fields = "<username>Bill</username><password>Calli&amp;ope</password>";
        assert_eq!(submit(fields), Ok(("bill".into(), "Calli&ope".into())));
        for (fields, error) in [
            ("", "not-acceptable"),
            ("<username>bill</username>", "not-acceptable"),
            ("<password>x</password>", "not-acceptable"),
            ("<username/><password>x</password>", "not-acceptable"),
            ("<username>bill</username><password/>", "not-acceptable"),
            ("<username>b@d</username><password>x</password>", "not-acceptable"),
            ("<username>b d</username><password>x</password>", "not-acceptable"),
            ("<username>bill</username><password>\u{7f}</password>", "not-acceptable"),
            ("<remove/>", "registration-required"),
        ] {
            assert_eq!(submit(fields), Err(error), "{fields}");
        }
        for (name, password, good) in [(1023, 1023, true), (1024, 8, false), (8, 1024, false)] {
            let fields = format!(
                "<username>{}</username><password>{}</password>",
                "n".repeat(name),
                "p".repeat(password)
            );
            assert_eq!(submit(&fields).is_ok(), good, "{name} {password}");
        }
        for other in [
            "<message/>",
            "<presence/>",
            "<iq type='result' id='1'><query xmlns='jabber:iq:register'/></iq>",
            "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
            "<iq type='get' id='1'><preauth xmlns='urn:xmpp:pars:0' token='x'/></iq>",
        ] {
            assert!(ask(other).is_none(), "{other}");
        }
        let mut out = Vec::new();
        form(&mut Writer::new(&mut out));
        let form = Got(String::from_utf8(out).unwrap());
        assert!(["username", "password", "instructions"].iter().all(|f| form.has(ns::REGISTER, f)));
        assert!(
            !format!(
                "{:?}",
                ask(&format!(
                    "<iq type='set' id='1'><query xmlns='jabber:iq:register'>{fields}</query></iq>"
                ))
            )
            .contains("ope"),
            "the password is not printed"
        );
    }

    #[test]
    fn the_form_after_login() {
        let mut w = World::new(&["bill"]);
        let bill = w.login("bill", "globe");
        for to in ["", "hub.test"] {
            let form = w.iq(bill, "get", to, "<query xmlns='jabber:iq:register'/>");
            assert!(form.has(ns::REGISTER, "registered"));
            assert_eq!(form.text(ns::REGISTER, "username").as_deref(), Some("bill"));
        }
    }

    fn new_password(username: &str, password: &str) -> String {
        format!(
            "<query xmlns='jabber:iq:register'><username>{username}</username><password>{password}</password></query>"
        )
    }

    fn credentials(w: &World, name: &str) -> Box<crate::store::change::Keys> {
        match w.ask(vec![], Ask::Credentials { localpart: name.into() }) {
            Answer::Credentials(Some((_, keys))) => keys,
            other => panic!("{other:?}"),
        }
    }

    /// B11: kept, then the others are thrown out, then the result; in this order.
    #[test]
    fn a_new_password_ends_all_other_sessions() {
        let mut w = World::new(&["bill"]);
        let (one, other) = (w.login("bill", "globe"), w.login("bill", "stolen"));
        w.held = true;
        w.hear(one, &format!("<iq type='set' id='s' to='hub.test'>{}</iq>", new_password("bill", "newpass")));
        w.nothing(one);
        assert!(w.ended(other).is_none());
        w.release();
        assert_eq!(w.ring.passwords, ["newpass"]);
        assert_eq!(credentials(&w, "bill"), keys("newpass"));
        let got = w.got(one);
        assert_eq!(got.last().unwrap().kind(), "result");
        assert!(w.ended(other).unwrap().contains("Reset"));
        assert!(w.ended(one).is_none());
        assert_eq!(w.hub.live_sessions(), 1);
        assert_eq!(w.iq(one, "set", "", &new_password("bill", "again")).kind(), "result", "and once more");
    }

    #[test]
    fn refused_changes() {
        let mut w = World::new(&["bill", "will"]);
        let (bill, will) = (w.login("bill", "globe"), w.login("will", "swan"));
        for (payload, error) in [
            (new_password("will", "x"), "not-allowed"),
            (new_password("", "x"), "not-acceptable"),
            (new_password("bill", ""), "not-acceptable"),
            (new_password("bill", "\u{7f}"), "not-acceptable"),
            ("<query xmlns='jabber:iq:register'/>".into(), "not-acceptable"),
            (
                "<query xmlns='jabber:iq:register'><remove/><username>bill</username></query>".into(),
                "bad-request",
            ),
        ] {
            assert!(w.iq(bill, "set", "", &payload).is_error(error), "{payload}");
        }
        assert!(
            w.iq(bill, "set", "will@hub.test", &new_password("will", "x")).is_error("service-unavailable")
        );
        assert!(w.ring.passwords.is_empty());
        assert_eq!(credentials(&w, "will"), keys("old"));
        // One at a time.
        w.held = true;
        for id in ["1", "2"] {
            w.hear(bill, &format!("<iq type='set' id='{id}'>{}</iq>", new_password("bill", "x")));
        }
        assert!(w.one(bill).is_error("resource-constraint"));
        w.release();
        assert_eq!(w.one(bill).attr("id").as_deref(), Some("1"));
        // The disk refuses: the old one stays, and nobody is thrown out.
        w.ring.broken = true;
        assert!(w.iq(will, "set", "", &new_password("will", "x")).is_error("resource-constraint"));
        w.ring.broken = false;
        assert_eq!(credentials(&w, "will"), keys("old"));
        assert_eq!(w.iq(will, "set", "", &new_password("WILL", "y")).kind(), "result");
        assert_eq!(w.hub.live_sessions(), 2);
    }

    /// The one who asked may be gone by then.
    #[test]
    fn a_change_outlives_its_session() {
        let mut w = World::new(&["bill"]);
        let (one, other) = (w.login("bill", "globe"), w.login("bill", "stolen"));
        w.held = true;
        w.hear(one, &format!("<iq type='set' id='s'>{}</iq>", new_password("bill", "newpass")));
        w.close(one);
        w.release();
        assert_eq!(credentials(&w, "bill"), keys("newpass"));
        assert!(w.ended(other).is_some());
    }

    #[test]
    fn removal() {
        let mut w = World::new(&["bill"]);
        let (one, other) = (w.login("bill", "globe"), w.login("bill", "swan"));
        let remove = "<query xmlns='jabber:iq:register'><remove/></query>";
        w.ring.broken = true;
        assert!(w.iq(one, "set", "", remove).is_error("resource-constraint"));
        w.ring.broken = false;
        assert_eq!(w.hub.live_sessions(), 2);
        assert_eq!(w.iq(one, "set", "", remove).kind(), "result");
        for session in [one, other] {
            assert!(w.ended(session).unwrap().contains("NotAuthorized"));
        }
        assert_eq!(w.hub.live_sessions(), 0);
        assert_eq!(w.bind("bill", "x").unwrap_err().condition, Condition::NotAllowed);
    }
}
