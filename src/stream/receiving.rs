//! The receiving half: a server's side of a client's stream, until a resource is bound
//! (RFC 6120 §4 to §7).
//!
//! ```text
//! Opening ──header──► Open ──starttls──► Handshake ──secured──► Opening
//!                      │ ▲
//!                 auth ▼ │ failure
//!                Asked / Challenged ──success──► Reopening ──header──► Binding ──iq──► BindAsked ──► Bound
//!                                                                       └─resume─► ResumeAsked ──┘
//! ```

use super::bind;
use super::element::Element;
use super::error::{Condition, Error};
use super::event::{Ask, Bindings, Established, Security, Settings};
use super::features::{self, Feature, Offered, Stage};
use super::header::{FOOTER, Header, Outgoing, language};
use super::identity::Authenticated;
use super::management::{self, Nonza};
use super::sasl::scram::{self, ClientFirst, Flag};
use super::sasl::{self, Dice, Hash, Mechanism, external, plain};
use super::secret::Secret;
use super::starttls;
use crate::jid::{BareJid, FullJid, Jid, domainpart};
use crate::stanza;
use crate::store::change::{AccountId, Keys, ScramKeys};
use crate::xml::{Caps, Kind, Scan, Scope, Writer, ns};
use std::rc::Rc;

/// See the module.
pub struct Receiving {
    settings: Rc<Settings>,
    security: Security,
    dice: Dice,
    state: State,
    /// What the client's header declared.
    scope: Rc<Scope>,
    /// The name that this server is asked for; fixed at login (threats A16).
    to: Option<Box<str>>,
    /// Our header of the current stream is written.
    answered: bool,
    /// Failed logins.
    failures: u8,
    /// The driver has yet to tell its reader.
    restart: bool,
}

/// What may come next. What was learned on the way is in the state that it led to, so there is no
/// way to have the one without the other.
enum State {
    /// A header.
    Opening,
    /// `<starttls/>`, `<auth/>`, registration.
    Open(Offered),
    /// `secured()`.
    Handshake,
    /// `<response/>`
    Challenged(Offered, Exchange),
    /// The answer to an [`Ask`].
    Asked(Offered, Question),
    /// The header after login.
    Reopening(Login),
    /// A request for a resource.
    Binding(Login),
    /// `bound()` or `bind_refused()`.
    BindAsked(Login, Box<str>),
    /// `resumed()` or `resume_refused()`.
    ResumeAsked(Login, Box<str>),
    /// Nothing: `established()`.
    Bound(Login),
    /// Nothing.
    Closed,
}

/// Who has logged in.
struct Login {
    who: Authenticated,
    id: Option<AccountId>,
}

/// A SASL exchange that waits for `<response/>`.
enum Exchange {
    /// The initial response has not come along with `<auth/>` (§6.4.2).
    Initial(Mechanism),
    /// client-final comes next.
    Scram(Box<scram::Server>, BareJid, Option<AccountId>),
}

/// A SASL exchange that waits for the world.
enum Question {
    /// `keys()`
    ScramKeys { first: ClientFirst, hash: Hash, account: BareJid, binding: Vec<u8> },
    /// `keys()`
    PlainKeys { account: BareJid, password: Secret },
    /// `derived()`
    PlainDerived { account: BareJid, keys: ScramKeys, id: Option<AccountId> },
    /// `owner()`
    Owner { authzid: Option<BareJid> },
}

type Step = Result<(State, Option<Ask>), Error>;

impl Receiving {
    /// A stream that waits for its header. The seed is fresh random bytes.
    pub fn new(settings: Rc<Settings>, security: Security, seed: [u8; 32]) -> Receiving {
        Receiving {
            settings,
            security,
            dice: Dice::new(&seed),
            state: State::Opening,
            scope: Rc::default(),
            to: None,
            answered: false,
            failures: 0,
            restart: false,
        }
    }

    /// Takes one frame. On an error: [`Receiving::fail`], flush, close.
    pub fn frame(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        scan: &mut Scan,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Error> {
        if kind == Kind::Keepalive {
            return Ok(None);
        }
        let state = std::mem::replace(&mut self.state, State::Closed);
        let (state, ask) = match (kind, state) {
            (Kind::Header, State::Opening) => self.open(bytes, scan, None, out)?,
            (Kind::Header, State::Reopening(login)) => self.open(bytes, scan, Some(login), out)?,
            (Kind::Element, state) => {
                let scope = Rc::clone(&self.scope);
                let text = scan.element(bytes, &scope, &Caps::default())?;
                self.element(state, &Element { text, scan, scope: &scope }, out)?
            }
            (Kind::Footer, state) if self.answered && !matches!(state, State::Handshake) => close(out),
            // A frame that the framer could not have cut had it been told of the restart, or one
            // while an answer is due: the driver's fault.
            _ => return Err(Condition::InternalServerError.into()),
        };
        self.state = state;
        Ok(ask)
    }

    /// True exactly once after `<success/>` is written: the reader must be told of the restart
    /// (§6.4.6), and its cap on bytes raised to [`Settings::max_bytes`].
    pub fn restarts(&mut self) -> bool {
        std::mem::take(&mut self.restart)
    }

    /// Answers [`Ask::StartTls`]: TLS is up. All that was learned before is forgotten (§5.4.3.3;
    /// threats B1); the reader must be a new one.
    pub fn secured(&mut self, bindings: Bindings, certificate: Option<[u8; 32]>) {
        self.security = Security::Tls { bindings, certificate };
        self.state = State::Opening;
        self.scope = Rc::default();
        self.to = None;
        self.answered = false;
        self.restart = false;
    }

    /// Answers [`Ask::Keys`].
    pub fn keys(
        &mut self,
        account: Option<(AccountId, &Keys)>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Error> {
        self.answer(
            |this, question| match question {
                Question::ScramKeys { first, hash, account: jid, binding } => {
                    let keys = this.keys_or_decoy(account, &jid, hash);
                    let nonce = this.dice.word();
                    let known = account.is_some();
                    let (server, message) =
                        scram::Server::challenge(&first, hash, jid.clone(), (keys, known), &binding, &nonce);
                    let id = account.map(|(id, _)| id);
                    Some(Next::Challenged(Exchange::Scram(Box::new(server), jid, id), message))
                }
                Question::PlainKeys { account: jid, password } => {
                    let keys = this.keys_or_decoy(account, &jid, plain::HASH);
                    let (salt, iterations) = (keys.salt.to_vec(), keys.iterations);
                    let ask = Ask::Derive { password, salt, iterations, sha: plain::HASH };
                    let id = account.map(|(id, _)| id);
                    Some(Next::Asked(Question::PlainDerived { account: jid, keys, id }, ask))
                }
                _ => None,
            },
            out,
        )
    }

    /// Answers [`Ask::Derive`].
    pub fn derived(&mut self, salted: &[u8], out: &mut Vec<u8>) -> Result<Option<Ask>, Error> {
        self.answer(
            |_, question| match question {
                Question::PlainDerived { account, keys, id } => {
                    let result = plain::check(salted, &keys, id.is_some(), account.clone());
                    Some(Next::of(result.map(|who| (Login { who, id }, None)), &account))
                }
                _ => None,
            },
            out,
        )
    }

    /// Answers [`Ask::Owner`] with a localpart.
    pub fn owner(&mut self, localpart: Option<&str>, out: &mut Vec<u8>) -> Result<Option<Ask>, Error> {
        self.answer(
            |this, question| match question {
                Question::Owner { authzid } => {
                    let result = external::check(localpart, authzid.as_ref(), &this.settings.domain);
                    Some(match result {
                        Ok(who) => Next::Success(Login { who, id: None }, None),
                        Err(condition) => Next::Refused(condition, localpart.map(Box::from)),
                    })
                }
                _ => None,
            },
            out,
        )
    }

    /// Answers [`Ask::Bind`]. The stream is established.
    pub fn bound(&mut self, jid: &FullJid, out: &mut Vec<u8>) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::BindAsked(login, id) => {
                bind::bound(&id, jid, out);
                State::Bound(login)
            }
            other => other,
        };
    }

    /// Answers [`Ask::Bind`]. The client may ask again.
    pub fn bind_refused(&mut self, error: stanza::Error, out: &mut Vec<u8>) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::BindAsked(login, id) => {
                bind::refused(Some(&id), &error, out);
                State::Binding(login)
            }
            other => other,
        };
    }

    /// Answers [`Ask::Resume`]: the stream goes on where that one ended, with so many stanzas handled.
    pub fn resumed(&mut self, h: u32, out: &mut Vec<u8>) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::ResumeAsked(login, previd) => {
                management::resumed(&previd, h, out);
                State::Bound(login)
            }
            other => other,
        };
    }

    /// Answers [`Ask::Resume`]. The client may bind a resource instead; whether there ever was such a stream
    /// is not told (threats C6).
    pub fn resume_refused(&mut self, out: &mut Vec<u8>) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::ResumeAsked(login, _) => {
                management::failed(stanza::Condition::ItemNotFound, out);
                State::Binding(login)
            }
            other => other,
        };
    }

    /// Ends the stream with an error: our header if it is still due (§4.9.1.2), the error, the
    /// footer. Between `<proceed/>` and TLS nothing can be said.
    pub fn fail(&mut self, error: &Error, out: &mut Vec<u8>) {
        if matches!(std::mem::replace(&mut self.state, State::Closed), State::Handshake) {
            return;
        }
        if !self.answered {
            self.write_header(None, None, out);
        }
        error.write(out);
        out.extend_from_slice(FOOTER);
    }

    /// The number of the account that has logged in; none before, and none after EXTERNAL.
    pub fn account_id(&self) -> Option<AccountId> {
        match &self.state {
            State::Reopening(login)
            | State::Binding(login)
            | State::BindAsked(login, _)
            | State::ResumeAsked(login, _)
            | State::Bound(login) => login.id,
            _ => None,
        }
    }

    /// The language of the client's header (§4.7.4).
    pub fn lang(&self) -> Option<&str> {
        self.scope.lang.as_deref()
    }

    /// What whoever carries the stream on needs to know.
    pub fn established(self) -> Established {
        let to = self.to.unwrap_or_else(|| self.settings.domain.clone());
        let scope = Rc::unwrap_or_clone(self.scope);
        Established { lang: scope.lang.clone(), scope, to }
    }

    // §4: the header

    fn open(&mut self, bytes: &[u8], scan: &mut Scan, login: Option<Login>, out: &mut Vec<u8>) -> Step {
        let header = Header::read(bytes, scan, ns::CLIENT)?;
        // §4.7.2, §4.9.3.6: to whom
        let to = match &header.to {
            Some(to) => self.host(to).ok_or(Condition::HostUnknown)?,
            None => self.to.clone().unwrap_or_else(|| self.settings.domain.clone()),
        };
        if self.to.as_ref().is_some_and(|first| *first != to) {
            return Err(
                Error::new(Condition::NotAuthorized).text("the server's name changed during the stream")
            );
        }
        // §4.7.1, §4.9.3.9: from whom. Before login it is a claim, and nobody asks for it.
        let from = header.from.as_deref().and_then(|from| Jid::parse(from).ok());
        if let (Some(login), Some(_)) = (&login, &header.from) {
            let own = from.as_ref().is_some_and(|from| {
                from.local() == login.who.jid().local() && self.host(from.domain()).is_some()
            });
            if !own {
                return Err(Condition::InvalidFrom.into());
            }
        }
        self.to = Some(to);
        self.write_header(from.as_ref().map(Jid::bare), header.lang.as_deref(), out);
        self.scope = Rc::new(header.scope);
        let stage =
            Stage { settings: &self.settings, security: &self.security, authenticated: login.is_some() };
        let offered = Offered::write(&stage, out);
        Ok((login.map_or(State::Open(offered), State::Binding), None))
    }

    /// Our name that is meant by this one.
    fn host(&self, name: &str) -> Option<Box<str>> {
        let name = domainpart(name).ok()?;
        let names = std::iter::once(&self.settings.domain).chain(&self.settings.aliases);
        names.into_iter().find(|own| ***own == *name).cloned()
    }

    fn write_header(&mut self, to: Option<&str>, lang: Option<&str>, out: &mut Vec<u8>) {
        let id = self.dice.word();
        let from = self.to.as_deref().unwrap_or(&self.settings.domain);
        Outgoing { from: Some(from), to, id: Some(&id), lang: language(lang) }.write(out);
        self.answered = true;
    }

    // First-level elements

    fn element(&mut self, state: State, element: &Element<'_>, out: &mut Vec<u8>) -> Step {
        match (element.name(), state) {
            // The driver feeds nothing in these.
            (_, State::Opening | State::Reopening(_) | State::Handshake | State::Asked(..)) => {
                Err(Condition::InternalServerError.into())
            }
            (_, State::BindAsked(..) | State::ResumeAsked(..) | State::Bound(_) | State::Closed) => {
                Err(Condition::InternalServerError.into())
            }
            // §4.9.1.1: what ends the other direction ends this one
            ((ns::STREAM, "error"), _) => Ok(close(out)),

            // §5: STARTTLS
            ((ns::TLS, "starttls"), State::Open(offered)) if offered.has(Feature::StartTls) => {
                starttls::proceed(out);
                Ok((State::Handshake, Some(Ask::StartTls)))
            }
            ((ns::TLS, "starttls"), _) => {
                starttls::refuse(out);
                Ok((State::Closed, Some(Ask::Closed)))
            }

            // §6: SASL
            ((ns::SASL, "auth"), State::Open(offered)) => self.auth(offered, element, out),
            ((ns::SASL, "response"), State::Challenged(offered, exchange)) => match content(element) {
                Ok(data) => self.response(offered, exchange, &data, out),
                Err(condition) => self.refuse(offered, condition, None, out),
            },
            ((ns::SASL, "abort"), State::Open(offered) | State::Challenged(offered, _)) => {
                self.refuse(offered, sasl::Condition::Aborted, None, out)
            }
            // a response to nothing, or a second <auth/> inside an exchange (threats B6)
            ((ns::SASL, "auth" | "response"), State::Open(offered) | State::Challenged(offered, _)) => {
                self.refuse(offered, sasl::Condition::MalformedRequest, None, out)
            }
            // once was enough
            ((ns::SASL, _), State::Binding(_)) => Err(Condition::NotAuthorized.into()),

            // XEP-0138: never (threats A15)
            ((COMPRESS, "compress"), state) => {
                let mut w = Writer::new(out);
                w.start("failure").ns(COMPRESS).start("unsupported-method");
                Ok((state, None))
            }

            // §7: resource binding
            ((uri, "iq" | "message" | "presence"), State::Binding(login)) if self.is_content(uri) => {
                self.bind(login, element, out)
            }

            // XEP-0198 §3, §5
            ((ns::SM, _), State::Binding(login)) => self.manage(login, element, out),

            // XEP-0077, XEP-0445: no account yet
            ((uri, "iq"), State::Open(offered))
                if self.is_content(uri) && is_registration(&offered, element) =>
            {
                Ok((State::Open(offered), Some(Ask::Register)))
            }
            // §4.9.3.12: no stanza before login
            ((uri, "iq" | "message" | "presence"), _) if self.is_content(uri) => {
                Err(Condition::NotAuthorized.into())
            }
            _ => Err(Condition::UnsupportedStanzaType.into()),
        }
    }

    fn is_content(&self, uri: &str) -> bool {
        *uri == *self.scope.default
    }

    // §6

    fn auth(&mut self, offered: Offered, element: &Element<'_>, out: &mut Vec<u8>) -> Step {
        if self.failures >= self.settings.login_tries {
            return Err(Error::new(Condition::PolicyViolation).text("too many failed logins"));
        }
        let name = element.attr("mechanism").unwrap_or_default();
        let mechanism = match Mechanism::named(&name) {
            Some(mechanism) if offered.mechanism(mechanism) => mechanism,
            // §6.5.4: known, and would do under TLS
            Some(_) if matches!(self.security, Security::Plain { .. }) => {
                return self.refuse(offered, sasl::Condition::EncryptionRequired, None, out);
            }
            _ => return self.refuse(offered, sasl::Condition::InvalidMechanism, None, out),
        };
        match element.characters().as_deref() {
            // No initial response is another thing than one of no length, which is "=" (§6.4.2).
            Some("") => {
                challenge(b"", out);
                Ok((State::Challenged(offered, Exchange::Initial(mechanism)), None))
            }
            _ => match content(element) {
                Ok(data) => self.begin(offered, mechanism, &data, out),
                Err(condition) => self.refuse(offered, condition, None, out),
            },
        }
    }

    fn begin(&mut self, offered: Offered, mechanism: Mechanism, data: &[u8], out: &mut Vec<u8>) -> Step {
        let begun = match mechanism {
            Mechanism::External => self.begin_external(data),
            Mechanism::Scram { hash, plus } => self.begin_scram(&offered, hash, plus, data),
            Mechanism::Plain => plain::read(data, &self.settings.domain).map(|message| {
                let ask = Ask::Keys { localpart: localpart(&message.account) };
                (Question::PlainKeys { account: message.account, password: message.password }, ask)
            }),
        };
        match begun {
            Ok((question, ask)) => Ok((State::Asked(offered, question), Some(ask))),
            Err(condition) => self.refuse(offered, condition, None, out),
        }
    }

    fn begin_external(&self, data: &[u8]) -> Result<(Question, Ask), sasl::Condition> {
        let authzid = external::read(data)?;
        match &self.security {
            Security::Tls { certificate: Some(spki), .. } => {
                let ask = Ask::Owner { spki: *spki, authzid: authzid.clone() };
                Ok((Question::Owner { authzid }, ask))
            }
            _ => Err(sasl::Condition::InvalidMechanism),
        }
    }

    fn begin_scram(
        &self,
        offered: &Offered,
        hash: Hash,
        plus: bool,
        data: &[u8],
    ) -> Result<(Question, Ask), sasl::Condition> {
        let first = ClientFirst::read(data)?;
        let account = scram::Server::account(&first, plus, offered.plus(), &self.settings.domain)?;
        let binding = match first.flag {
            Flag::Bound(kind) => kind
                .and_then(|kind| features::binding(&self.security, kind))
                // a type that we have not offered (XEP-0440)
                .ok_or(sasl::Condition::MalformedRequest)?
                .to_vec(),
            _ => Vec::new(),
        };
        let ask = Ask::Keys { localpart: localpart(&account) };
        Ok((Question::ScramKeys { first, hash, account, binding }, ask))
    }

    fn response(&mut self, offered: Offered, exchange: Exchange, data: &[u8], out: &mut Vec<u8>) -> Step {
        match exchange {
            Exchange::Initial(mechanism) => self.begin(offered, mechanism, data, out),
            Exchange::Scram(server, account, id) => {
                let result = server.verify(data);
                let next =
                    Next::of(result.map(|(who, v)| (Login { who, id }, Some(v.into_bytes()))), &account);
                self.next(offered, next, out)
            }
        }
    }

    /// Goes on with the exchange that has asked something.
    fn answer(
        &mut self,
        with: impl FnOnce(&mut Receiving, Question) -> Option<Next>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Error> {
        let State::Asked(offered, question) = std::mem::replace(&mut self.state, State::Closed) else {
            return Err(Condition::InternalServerError.into());
        };
        // The answer to another question is the driver's mistake.
        let next = with(self, question).ok_or(Condition::InternalServerError)?;
        let (state, ask) = self.next(offered, next, out)?;
        self.state = state;
        Ok(ask)
    }

    fn next(&mut self, offered: Offered, next: Next, out: &mut Vec<u8>) -> Step {
        match next {
            Next::Challenged(exchange, message) => {
                challenge(message.as_bytes(), out);
                Ok((State::Challenged(offered, exchange), None))
            }
            Next::Asked(question, ask) => Ok((State::Asked(offered, question), Some(ask))),
            Next::Refused(condition, account) => self.refuse(offered, condition, account, out),
            // §6.4.6: the stream begins anew
            Next::Success(login, data) => {
                let mut w = Writer::new(out);
                w.start("success").ns(ns::SASL);
                if let Some(data) = data {
                    w.text(&sasl::encode(&data));
                }
                drop(w);
                self.answered = false;
                self.restart = true;
                Ok((State::Reopening(login), None))
            }
        }
    }

    /// §6.4.5: the client may try again, or try another mechanism.
    fn refuse(
        &mut self,
        offered: Offered,
        condition: sasl::Condition,
        account: Option<Box<str>>,
        out: &mut Vec<u8>,
    ) -> Step {
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.settings.login_tries {
            return Err(Error::new(Condition::PolicyViolation).text("too many failed logins"));
        }
        let mut w = Writer::new(out);
        w.start("failure").ns(ns::SASL).start(condition.name());
        drop(w);
        Ok((State::Open(offered), Some(Ask::Refused { localpart: account })))
    }

    /// The keys of an account, or of one that might have been (threats B8).
    fn keys_or_decoy(&self, account: Option<(AccountId, &Keys)>, jid: &BareJid, hash: Hash) -> ScramKeys {
        match account {
            Some((_, keys)) => hash.of(keys).clone(),
            None => {
                sasl::decoy(&self.settings.secret, jid.local().unwrap_or(""), self.settings.iterations, hash)
            }
        }
    }

    // §7

    fn bind(&mut self, login: Login, element: &Element<'_>, out: &mut Vec<u8>) -> Step {
        match bind::read(element) {
            bind::Request::Bind { id, resource } => {
                let resource = resource.unwrap_or_else(|| self.dice.word().into());
                let ask = Ask::Bind { account: login.who.clone(), resource };
                Ok((State::BindAsked(login, id), Some(ask)))
            }
            bind::Request::Bad { id, error } => {
                bind::refused(id.as_deref(), &error, out);
                Ok((State::Binding(login), None))
            }
            // §7.1: the client must bind first
            bind::Request::Other => Err(Condition::NotAuthorized.into()),
        }
    }

    /// XEP-0198 before a resource is bound.
    fn manage(&mut self, login: Login, element: &Element<'_>, out: &mut Vec<u8>) -> Step {
        let condition = match Nonza::of(element) {
            Some(Nonza::Resume { previd, h }) => {
                let ask = Ask::Resume { account: login.who.clone(), previd: previd.clone(), h };
                return Ok((State::ResumeAsked(login, previd), Some(ask)));
            }
            // §3: only then is there something to count
            Some(Nonza::Enable { .. }) => stanza::Condition::UnexpectedRequest,
            Some(Nonza::Malformed) => stanza::Condition::BadRequest,
            _ => return Err(Condition::UnsupportedStanzaType.into()),
        };
        management::failed(condition, out);
        Ok((State::Binding(login), None))
    }
}

/// Where an exchange goes.
enum Next {
    Challenged(Exchange, String),
    Asked(Question, Ask),
    Refused(sasl::Condition, Option<Box<str>>),
    Success(Login, Option<Vec<u8>>),
}

impl Next {
    fn of(result: Result<(Login, Option<Vec<u8>>), sasl::Condition>, account: &BareJid) -> Next {
        match result {
            Ok((login, data)) => Next::Success(login, data),
            Err(condition) => Next::Refused(condition, Some(localpart(account))),
        }
    }
}

/// XEP-0138, only to say no.
const COMPRESS: &str = "http://jabber.org/protocol/compress";

fn localpart(account: &BareJid) -> Box<str> {
    account.local().unwrap_or("").into()
}

/// §4.4: our footer, and the end.
fn close(out: &mut Vec<u8>) -> (State, Option<Ask>) {
    out.extend_from_slice(FOOTER);
    (State::Closed, Some(Ask::Closed))
}

fn challenge(data: &[u8], out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("challenge").ns(ns::SASL);
    if !data.is_empty() {
        w.text(&sasl::encode(data));
    }
}

fn content(element: &Element<'_>) -> Result<Vec<u8>, sasl::Condition> {
    sasl::decode(&element.characters().ok_or(sasl::Condition::MalformedRequest)?)
}

fn is_registration(offered: &Offered, element: &Element<'_>) -> bool {
    if !matches!(element.attr("type").as_deref(), Some("get" | "set")) {
        return false;
    }
    match element.payload() {
        Some((ns::REGISTER, "query")) => offered.has(Feature::Register),
        Some((ns::PREAUTH | ns::IBR_TOKEN, "preauth")) => offered.has(Feature::RegisterInvited),
        _ => false,
    }
}
