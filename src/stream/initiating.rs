//! The initiating half: a client's side of its stream, until a resource is bound (RFC 6120 §4 to
//! §7).
//!
//! It believes nothing: no password leaves before TLS, no key is derived before the iteration
//! count is sane, and no server is greeted that has not shown that it knows the password's keys.

use super::bind;
use super::element::Element;
use super::error::{Condition, Error};
use super::event::{Account, Bindings, Established, Failure, Need, Policy, Security};
use super::features::Seen;
use super::header::{FOOTER, Header, Outgoing, language};
use super::management::{self, Nonza};
use super::sasl::scram::{Bind, Client, Expect, Fault, Salted};
use super::sasl::{self, BindingType, Dice, Hash, Mechanism, plain};
use super::secret::Secret;
use super::starttls;
use crate::jid::FullJid;
use crate::prep;
use crate::stanza;
use crate::xml::{Caps, Kind, Scan, Scope, Writer, ns};
use std::rc::Rc;

/// See the module.
pub struct Initiating {
    account: Account,
    security: Security,
    dice: Dice,
    state: State,
    /// What the server's header declared.
    scope: Rc<Scope>,
    /// The stream to go on with, and the stanzas that were handled on it (XEP-0198 §5).
    resume: Option<(Box<str>, u32)>,
    /// The driver has yet to tell its reader.
    restart: bool,
}

/// Before login or after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Login {
    Before,
    After,
}

/// What may come next.
enum State {
    /// `start()`
    Idle,
    /// The server's header.
    Header(Login),
    /// `<stream:features/>`
    Features(Login),
    /// `<proceed/>`
    Starttls,
    /// `secured()`
    Handshake,
    /// `login()`
    Registering(Seen),
    /// server-first
    Scram(Client, Secret),
    /// `derived()`
    Deriving(Salted),
    /// server-final, in `<success/>` or `<challenge/>`
    Proving(Expect),
    /// `<success/>`
    Waiting,
    /// The answer to the wish to go on with a lost stream.
    Resuming,
    /// The answer to the request for a resource.
    Binding(Seen),
    /// The answer to the request for a session.
    Session(FullJid, Seen),
    /// Nothing: `established()`.
    Ready,
    /// Nothing.
    Closed,
}

type Step = Result<(State, Option<Need>), Failure>;

impl Initiating {
    /// A stream to the domain of the account. The seed is fresh random bytes.
    pub fn new(account: Account, security: Security, seed: [u8; 32]) -> Initiating {
        let dice = Dice::new(&seed);
        let (state, scope) = (State::Idle, Rc::default());
        Initiating { account, security, dice, state, scope, resume: None, restart: false }
    }

    /// Goes on with a lost stream instead of binding a resource (XEP-0198 §5).
    pub fn resuming(mut self, previd: Box<str>, h: u32) -> Initiating {
        self.resume = Some((previd, h));
        self
    }

    /// Writes our header: first of all, and again after [`Initiating::secured`].
    pub fn start(&mut self, out: &mut Vec<u8>) {
        if matches!(self.state, State::Idle) {
            self.write_header(out);
            self.state = State::Header(Login::Before);
        }
    }

    /// Takes one frame. On a failure: [`Initiating::fail`], flush, close.
    pub fn frame(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        scan: &mut Scan,
        out: &mut Vec<u8>,
    ) -> Result<Option<Need>, Failure> {
        if kind == Kind::Keepalive {
            return Ok(None);
        }
        let state = std::mem::replace(&mut self.state, State::Closed);
        let (state, need) = match (kind, state) {
            (Kind::Header, State::Header(login)) => {
                let header = Header::read(bytes, scan, ns::CLIENT).map_err(Failure::Broken)?;
                self.scope = Rc::new(header.scope);
                (State::Features(login), None)
            }
            (Kind::Element, state) => {
                let scope = Rc::clone(&self.scope);
                let text = scan.element(bytes, &scope, &Caps::default())?;
                self.element(state, &Element { text, scan, scope: &scope }, out)?
            }
            (Kind::Footer, state) if !matches!(state, State::Handshake) => {
                out.extend_from_slice(FOOTER);
                (State::Closed, Some(Need::Closed))
            }
            _ => return Err(Failure::Protocol("something came out of turn")),
        };
        self.state = state;
        Ok(need)
    }

    /// True exactly once after login: the reader must be told of the restart (§6.4.6).
    pub fn restarts(&mut self) -> bool {
        std::mem::take(&mut self.restart)
    }

    /// Answers [`Need::StartTls`]: TLS is up. All that was learned before is forgotten (§5.4.3.3;
    /// threats B1); the reader must be a new one, and [`Initiating::start`] comes next.
    pub fn secured(&mut self, bindings: Bindings) {
        self.security = Security::Tls { bindings, certificate: None };
        self.state = State::Idle;
        self.scope = Rc::default();
        self.restart = false;
    }

    /// Answers [`Need::Derive`].
    pub fn derived(&mut self, salted: &[u8], out: &mut Vec<u8>) -> Result<Option<Need>, Failure> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Deriving(waiting) => {
                let (expect, message) = waiting.finish(salted);
                respond(message.as_bytes(), out);
                self.state = State::Proving(expect);
                Ok(None)
            }
            _ => Err(Failure::Protocol("nothing was to be derived")),
        }
    }

    /// After [`Need::Register`]: goes on to log in, with the password of the new account.
    pub fn login(&mut self, password: Secret, out: &mut Vec<u8>) -> Result<Option<Need>, Failure> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Registering(seen) => {
                self.account.password = Some(password);
                self.state = self.authenticate(&seen, out)?;
                Ok(None)
            }
            _ => Err(Failure::Protocol("not the time to log in")),
        }
    }

    /// What the server's header declared.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Ends the stream after a failure: an error if the server broke a rule of the stream itself,
    /// and the footer. Between `<proceed/>` and TLS nothing can be said.
    pub fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        if matches!(std::mem::replace(&mut self.state, State::Closed), State::Idle | State::Handshake) {
            return;
        }
        if let Failure::Broken(error) = failure {
            error.write(out);
        }
        out.extend_from_slice(FOOTER);
    }

    /// What whoever carries the stream on needs to know.
    pub fn established(self) -> Established {
        let to = self.account.jid.domain().into();
        let scope = Rc::unwrap_or_clone(self.scope);
        Established { lang: scope.lang.clone(), scope, to }
    }

    fn write_header(&self, out: &mut Vec<u8>) {
        // §4.7.1: who we are is told only where nobody else can read it
        let tls = matches!(self.security, Security::Tls { .. });
        Outgoing {
            from: tls.then(|| self.account.jid.as_str()),
            to: Some(self.account.jid.domain()),
            id: None,
            lang: language(self.account.lang.as_deref()),
        }
        .write(out);
    }

    fn element(&mut self, state: State, element: &Element<'_>, out: &mut Vec<u8>) -> Step {
        let name = element.name();
        match (name, state) {
            // §4.9
            ((ns::STREAM, "error"), _) => {
                let error = element.tree(|node| Error::read(&node));
                Err(Failure::Stream(error.unwrap_or_else(|| Condition::UndefinedCondition.into())))
            }
            // §4.3.2
            ((ns::STREAM, "features"), State::Features(login)) => {
                let seen = Seen::read(element).ok_or(Failure::Protocol("its features make no sense"))?;
                match login {
                    Login::Before => self.negotiate(seen, out),
                    Login::After if self.resume.is_some() => self.resume(&seen, out),
                    Login::After if seen.bind => {
                        bind::ask(self.account.resource.as_deref(), out);
                        Ok((State::Binding(seen), None))
                    }
                    Login::After => Err(Failure::Protocol("it offers no resource binding after login")),
                }
            }
            // §5.4.2
            (name, State::Starttls) => match starttls::answer(name) {
                Some(starttls::Answer::Proceed) => Ok((State::Handshake, Some(Need::StartTls))),
                Some(starttls::Answer::Failure) => Err(Failure::StarttlsRefused),
                None => Err(Failure::Protocol("it answers STARTTLS with something else")),
            },
            // §6.4
            (
                (ns::SASL, "failure"),
                State::Scram(..) | State::Deriving(_) | State::Proving(_) | State::Waiting,
            ) => Err(auth_failure(element)),
            ((ns::SASL, "challenge"), State::Scram(client, password)) => {
                challenged(client, password, &content(element)?, out)
            }
            ((ns::SASL, "challenge"), State::Proving(expect)) => {
                expect.check(&content(element)?).map_err(|_| Failure::ServerSignature)?;
                respond(b"", out);
                Ok((State::Waiting, None))
            }
            ((ns::SASL, "success"), State::Proving(expect)) => {
                expect.check(&content(element)?).map_err(|_| Failure::ServerSignature)?;
                Ok(self.restarted(out))
            }
            ((ns::SASL, "success"), State::Waiting) => Ok(self.restarted(out)),
            // It lets us in without having shown that it knows us.
            ((ns::SASL, "success"), State::Scram(..) | State::Deriving(_)) => Err(Failure::ServerSignature),
            // XEP-0198 §5
            (_, State::Resuming) => match Nonza::of(element) {
                Some(Nonza::Resumed { h }) => Ok((State::Ready, Some(Need::Resumed { h }))),
                Some(Nonza::Failed { .. }) => Err(Failure::NotResumed),
                _ => Err(Failure::Protocol("it answers the wish to go on with something else")),
            },
            // §7
            (_, State::Binding(seen)) => match bind::answer(element) {
                Some(bind::Answer::Bound(jid)) if seen.session => {
                    bind::ask_session(out);
                    Ok((State::Session(jid, seen), None))
                }
                Some(bind::Answer::Bound(jid)) => Ok(ready(jid, seen)),
                Some(bind::Answer::Refused(condition)) => Err(Failure::Bind(condition)),
                _ => Err(Failure::Protocol("it answers the request for a resource with something else")),
            },
            (_, State::Session(jid, seen)) => match bind::answer(element) {
                Some(bind::Answer::Session) => Ok(ready(jid, seen)),
                Some(bind::Answer::Refused(condition)) => Err(Failure::Bind(condition)),
                _ => Err(Failure::Protocol("it answers the request for a session with something else")),
            },
            _ => Err(Failure::Protocol("an element came out of turn")),
        }
    }

    /// XEP-0198 §5
    fn resume(&self, seen: &Seen, out: &mut Vec<u8>) -> Step {
        match &self.resume {
            Some((previd, h)) if seen.management => {
                management::resume(previd, *h, out);
                Ok((State::Resuming, None))
            }
            _ => Err(Failure::NotResumed),
        }
    }

    /// The features before login: TLS first, then an account, then login.
    fn negotiate(&mut self, seen: Seen, out: &mut Vec<u8>) -> Step {
        if matches!(self.security, Security::Plain { .. }) {
            match (self.account.tls, seen.starttls) {
                // §5.3.1; threats B2: nothing that matters goes out before TLS
                (Policy::Required | Policy::Direct, Some(_)) => {
                    starttls::ask(out);
                    return Ok((State::Starttls, None));
                }
                (Policy::Required | Policy::Direct, None) => return Err(Failure::StarttlsNotOffered),
                (Policy::Never, Some(true)) => return Err(Failure::TlsDemanded),
                (Policy::Never, _) => {}
            }
        }
        if self.account.register {
            if !seen.register && !seen.invitations {
                return Err(Failure::RegistrationNotOffered);
            }
            let need = Need::Register { invitations: seen.invitations };
            return Ok((State::Registering(seen), Some(need)));
        }
        Ok((self.authenticate(&seen, out)?, None))
    }

    // §6

    fn authenticate(&mut self, seen: &Seen, out: &mut Vec<u8>) -> Result<State, Failure> {
        let localpart = self.account.jid.local().ok_or(Failure::NoLocalpart)?;
        let tls = matches!(self.security, Security::Tls { .. });
        let Some(password) = &self.account.password else {
            if tls && seen.offers(Mechanism::External) {
                // As whom, in words: a certificate that is bound to somebody else should be told so.
                auth(Mechanism::External, self.account.jid.as_str().as_bytes(), out);
                return Ok(State::Waiting);
            }
            return Err(Failure::NoMechanism { offered: seen.mechanisms.clone() });
        };
        let password = prep::password(password.expose_str()).map_err(|_| Failure::Password)?;
        let password = Secret::new(password.into_owned());
        let nonce = self.dice.word();
        match self.choose(seen)? {
            (mechanism @ Mechanism::Scram { hash, .. }, bind) => {
                let (client, message) = Client::new(hash, localpart, bind, &nonce);
                auth(mechanism, message.as_bytes(), out);
                Ok(State::Scram(client, password))
            }
            (mechanism, _) => {
                auth(mechanism, &plain::message(localpart, &password), out);
                Ok(State::Waiting)
            }
        }
    }

    /// The strongest mechanism that both know, and what we say about channel binding.
    fn choose(&self, seen: &Seen) -> Result<(Mechanism, Bind<'_>), Failure> {
        let ours = match &self.security {
            Security::Tls { bindings, .. } if !bindings.is_empty() => Some(bindings),
            _ => None,
        };
        let scram = |plus: bool| {
            let all = [Hash::Sha256, Hash::Sha1].map(|hash| Mechanism::Scram { hash, plus });
            all.into_iter().find(|m| seen.offers(*m))
        };
        // A server that has `-PLUS` and does not say for what (XEP-0440 came later: ejabberd 23) means
        // tls-unique, RFC 5802 §6.1's default, which TLS 1.3 does not have. So we bind only where
        // that is all there is, and say that we cannot (`n`) rather than that it was not offered.
        let unlisted = seen.bindings.is_none() && scram(true).is_some();
        if let (true, Some(mechanism)) = (unlisted, scram(false)) {
            return Ok((mechanism, Bind::Unsupported));
        }
        if let (Some(bindings), Some(mechanism)) = (ours, scram(true)) {
            let listed = |kind: &BindingType| match &seen.bindings {
                Some(list) => list.iter().any(|name| **name == *kind.name()),
                // The server does not say. What can be bound to under TLS 1.3 is first of all the
                // exporter (RFC 9266 §3), and where we have none it is the one that all servers
                // must have (XEP-0440 §4).
                None => true,
            };
            let mut types = BindingType::ALL.into_iter().filter(listed);
            let bind = types.find_map(|kind| bindings.get(kind).map(|data| Bind::To(kind, data)));
            // None in common: every server must have tls-server-end-point, so somebody else has
            // written this list (XEP-0440 §4; threats B5).
            return Ok((mechanism, bind.ok_or(Failure::Downgrade)?));
        }
        if let Some(mechanism) = scram(false) {
            return match ours {
                // Types of channel binding, but nothing to use them with: edited.
                Some(_) if seen.bindings.is_some() => Err(Failure::Downgrade),
                // RFC 5802 §6: had the server offered it, it will know by this
                Some(_) => Ok((mechanism, Bind::NotOffered)),
                None => Ok((mechanism, Bind::Unsupported)),
            };
        }
        let tls = matches!(self.security, Security::Tls { .. });
        match seen.offers(Mechanism::Plain) {
            true if tls && self.account.allow_plain => Ok((Mechanism::Plain, Bind::Unsupported)),
            true if tls => Err(Failure::OnlyPlain),
            _ => Err(Failure::NoMechanism { offered: seen.mechanisms.clone() }),
        }
    }

    /// §6.4.6
    fn restarted(&mut self, out: &mut Vec<u8>) -> (State, Option<Need>) {
        self.restart = true;
        self.scope = Rc::default();
        self.write_header(out);
        (State::Header(Login::After), None)
    }
}

fn ready(jid: FullJid, seen: Seen) -> (State, Option<Need>) {
    (State::Ready, Some(Need::Ready { jid, features: seen.all }))
}

/// Reads server-first; what cannot go on is aborted (§6.4.4).
fn challenged(client: Client, password: Secret, data: &[u8], out: &mut Vec<u8>) -> Step {
    match client.challenged(data) {
        Ok(waiting) => {
            let (salt, iterations, sha) = (waiting.salt.clone(), waiting.iterations, waiting.hash);
            Ok((State::Deriving(waiting), Some(Need::Derive { password, salt, iterations, sha })))
        }
        Err(fault) => {
            Writer::new(out).leaf("abort", ns::SASL);
            Err(match fault {
                Fault::Iterations(n) => Failure::Iterations(n),
                Fault::Nonce => Failure::Protocol("it answers another login than ours"),
                Fault::Signature => Failure::ServerSignature,
                Fault::Malformed => Failure::Protocol("its SCRAM challenge makes no sense"),
            })
        }
    }
}

fn auth(mechanism: Mechanism, data: &[u8], out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("auth").ns(ns::SASL).attr("mechanism", mechanism.name()).text(&sasl::encode(data));
}

fn respond(data: &[u8], out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("response").ns(ns::SASL);
    if !data.is_empty() {
        w.text(&sasl::encode(data));
    }
}

fn content(element: &Element<'_>) -> Result<Vec<u8>, Failure> {
    let text = element.characters().ok_or(Failure::Protocol("its SASL data has elements inside"))?;
    sasl::decode(&text).map_err(|_| Failure::Protocol("its SASL data is not base64"))
}

/// §6.5
fn auth_failure(element: &Element<'_>) -> Failure {
    let read = element.tree(|node| {
        let mut conditions = node.children().filter_map(|n| sasl::Condition::named(n.tag_name().name()));
        let text = stanza::child_text(&node, ns::SASL, "text").map(Box::from);
        (conditions.next_back(), text)
    });
    let (condition, text) = read.unwrap_or_default();
    // §6.5: a condition that is not known stands for this one
    Failure::Auth { condition: condition.unwrap_or(sasl::Condition::NotAuthorized), text }
}
