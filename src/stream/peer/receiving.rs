//! The receiving half: our side of a stream that another server has opened (RFC 6120 §4 to §6, XEP-0178 §3,
//! XEP-0220 §2.2), to its end.
//!
//! ```text
//! Opening ──header──► Open ──starttls──► Handshake ──secured──► Opening
//! Opening ──header──► Judging ──judged──► Open ──auth──► Reopening ──header──► Open
//!                                         │ ▲ dialback, as often as it takes: Asked ──judged, vouched──► Open
//! ```

use super::dialback::{Condition as Failed, Dialback, Pair, Says, Word};
use super::event::{Ask, Settings, Verdict};
use super::features::Offered;
use super::proofs::{Proofs, Verified, told};
use crate::jid::Domain;
use crate::stream::element::Element;
use crate::stream::error::{Condition, Error};
use crate::stream::header::{FOOTER, Header, Outgoing, language};
use crate::stream::pairing;
use crate::stream::sasl::{self, Dice, Mechanism};
use crate::stream::starttls;
use crate::stream::trust::{Distrust, Trusted};
use crate::xml::{Caps, Kind, Scan, Scope, Writer, ns};
use std::rc::Rc;

/// See the module.
pub struct Receiving {
    settings: Rc<Settings>,
    tls: bool,
    dice: Dice,
    state: State,
    /// What the other side's header declared.
    scope: Rc<Scope>,
    /// Who it says it is; before TLS nobody listens.
    from: Option<Domain>,
    /// Which of ours it wants.
    to: Option<Domain>,
    /// The id of the current stream.
    id: Box<str>,
    /// Our header of the current stream is written.
    answered: bool,
    bidi: bool,
    managed: bool,
    failures: u8,
    restart: bool,
    proofs: Proofs,
}

/// What may come next.
enum State {
    /// A header.
    Opening,
    /// `judged()`; the header came, ours is due. Its language.
    Judging(Option<Box<str>>),
    /// All that was offered, and all that is proven.
    Open(Offered),
    /// `judged()` or `vouched()`
    Asked(Offered),
    /// `secured()`
    Handshake,
    /// `<response/>`
    Challenged(Offered),
    /// The header after EXTERNAL.
    Reopening(Rc<Verified>),
    /// Nothing.
    Closed,
}

type Step = Result<(State, Option<Ask>), Error>;

impl Receiving {
    /// A stream that waits for its header, in the clear. The seed is fresh random bytes.
    pub fn new(settings: Rc<Settings>, seed: [u8; 32]) -> Receiving {
        Receiving {
            proofs: Proofs::new(settings.clone()),
            settings,
            tls: false,
            dice: Dice::new(&seed),
            state: State::Opening,
            scope: Rc::default(),
            from: None,
            to: None,
            id: Box::default(),
            answered: false,
            bidi: false,
            managed: false,
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
        caps: &Caps,
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
                let text = scan.element(bytes, &scope, caps)?;
                self.element(state, &Element { text, scan, scope: &scope }, out)?
            }
            (Kind::Footer, state) if self.answered && !matches!(state, State::Handshake) => close(out),
            // A stream is restarted only by SASL and STARTTLS (§4.3.3).
            (Kind::Header, State::Open(_)) => return Err(Condition::BadFormat.into()),
            // What the framer could not have cut had it been told of the restart, or while an answer is due:
            // the driver's fault.
            _ => return Err(Condition::InternalServerError.into()),
        };
        self.state = state;
        Ok(ask)
    }

    /// True exactly once after `<success/>` is written: the reader must be told of the restart (§6.4.6).
    pub fn restarts(&mut self) -> bool {
        std::mem::take(&mut self.restart)
    }

    /// Answers [`Ask::StartTls`], or tells of direct TLS (XEP-0368) before anything else. All that was learned
    /// before is forgotten (§5.4.3.3; threats B1); the reader must be a new one.
    pub fn secured(&mut self) {
        self.tls = true;
        self.state = State::Opening;
        self.scope = Rc::default();
        self.from = None;
        self.to = None;
        self.answered = false;
    }

    /// Answers [`Ask::Judge`].
    pub fn judged(
        &mut self,
        judgement: Result<Trusted, Distrust>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Error> {
        let (state, ask) = match std::mem::replace(&mut self.state, State::Closed) {
            State::Judging(lang) => {
                self.write_header(lang.as_deref(), out);
                let external = match (&self.from, judgement) {
                    (Some(from), Ok(how)) if how.proven() => Some((from.clone(), how)),
                    (_, Ok(_)) => None,
                    // Nothing is offered, but the stream stays: it may have come to ask about a key only,
                    // and whoever wants more hears then what is wrong.
                    (_, Err(why)) => {
                        log::debug!("{}: {}", self.from.as_ref().map_or("", Domain::as_str), told(&why));
                        let offered = Offered::default();
                        offered.write(&self.settings, out);
                        self.state = State::Open(offered);
                        return Ok(None);
                    }
                };
                let offered = Offered { external, dialback: true, bidi: true, ..Offered::default() };
                offered.write(&self.settings, out);
                (State::Open(offered), None)
            }
            State::Asked(offered) => (State::Open(offered), self.proofs.judged(judgement, out)?),
            _ => return Err(Condition::InternalServerError.into()),
        };
        self.state = state;
        Ok(ask)
    }

    /// Answers [`Ask::Vouch`].
    pub fn vouched(&mut self, ours: bool, out: &mut Vec<u8>) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Asked(offered) => State::Open(offered),
            other => other,
        };
        self.proofs.vouched(ours, out);
    }

    /// Answers [`Ask::Verify`], whenever. On an error: [`Receiving::fail`], flush, close.
    pub fn verified(
        &mut self,
        local: &Domain,
        remote: &Domain,
        verdict: Verdict,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Error> {
        match self.state {
            State::Closed => Ok(None),
            _ => self.proofs.verified(local, remote, verdict, out),
        }
    }

    /// Whether the other side wants our stanzas on this stream as well (XEP-0288): for the pairs that are
    /// proven, and no others.
    pub fn bidi(&self) -> bool {
        self.bidi
    }

    /// Whether anything is proven.
    pub fn is_proven(&self) -> bool {
        !self.proofs.is_empty()
    }

    /// Whether [`Ask::Managed`] may come next: it was offered, and is asked for before anything else.
    pub fn may_manage(&self) -> bool {
        matches!(&self.state, State::Open(offered) if offered.manage) && !self.managed
    }

    /// What the other side's header declared.
    pub fn scope(&self) -> &Rc<Scope> {
        &self.scope
    }

    /// Who the other side says it is; not proven by this.
    pub fn claims(&self) -> Option<&Domain> {
        self.from.as_ref()
    }

    /// Ends the stream with an error: our header if it is still due (§4.9.1.2), the error, the footer. Between
    /// `<proceed/>` and TLS nothing can be said.
    pub fn fail(&mut self, error: &Error, out: &mut Vec<u8>) {
        if matches!(std::mem::replace(&mut self.state, State::Closed), State::Handshake) {
            return;
        }
        if !self.answered {
            self.write_header(None, out);
        }
        error.write(out);
        out.extend_from_slice(FOOTER);
    }

    // §4: the header

    fn open(
        &mut self,
        bytes: &[u8],
        scan: &mut Scan,
        login: Option<Rc<Verified>>,
        out: &mut Vec<u8>,
    ) -> Step {
        let header = Header::read(bytes, scan, ns::SERVER)?;
        // §4.7.2, §4.9.3.6: to whom
        let missing =
            || Error::new(Condition::ImproperAddressing).text("a header between servers needs a to");
        let to = header.to.as_deref().ok_or_else(missing)?;
        let to = Domain::parse(to).ok().filter(|to| (self.settings.ours)(to.as_str()));
        let to = to.ok_or(Condition::HostUnknown)?;
        // §4.7.1, §4.9.3.9: from whom; until it is proven, a claim
        let from = match header.from.as_deref().map(Domain::parse) {
            None => None,
            Some(Err(_)) => return Err(Condition::InvalidFrom.into()),
            Some(Ok(from)) if (self.settings.ours)(from.as_str()) => {
                let error = Error::new(Condition::InvalidFrom);
                return Err(error.text("that domain is served here: we are talking to ourselves"));
            }
            Some(Ok(from)) => Some(from),
        };
        if let Some(login) = &login {
            if from.as_ref().is_some_and(|from| from != login.remote()) {
                return Err(Condition::InvalidFrom.into());
            }
            if to != *login.local() {
                let error = Error::new(Condition::NotAuthorized);
                return Err(error.text("the server's name changed during the stream"));
            }
        }
        self.to = Some(to);
        self.scope = Rc::new(header.scope);
        if login.is_none() {
            self.from = from;
            if let (true, Some(from)) = (self.tls, &self.from) {
                return Ok((State::Judging(header.lang), Some(Ask::Judge { remote: from.clone() })));
            }
        }
        self.write_header(header.lang.as_deref(), out);
        let offered = match (&login, self.tls) {
            (Some(_), _) => Offered { dialback: true, manage: self.settings.manage, ..Offered::default() },
            // It has not said who it is. By dialback it still can.
            (None, true) => Offered { dialback: self.settings.dialback, bidi: true, ..Offered::default() },
            (None, false) => Offered { starttls: true, ..Offered::default() },
        };
        offered.write(&self.settings, out);
        Ok((State::Open(offered), login.map(Ask::Proven)))
    }

    fn write_header(&mut self, lang: Option<&str>, out: &mut Vec<u8>) {
        self.id = self.dice.word().into();
        let from = self.to.as_ref().unwrap_or(&self.settings.domain);
        let to = self.from.as_ref().map(Domain::as_str);
        Outgoing { from: Some(from.as_str()), to, id: Some(&self.id), lang: language(lang) }
            .write_server(out);
        self.answered = true;
    }

    // First-level elements

    fn element(&mut self, state: State, element: &Element<'_>, out: &mut Vec<u8>) -> Step {
        let name = element.name();
        // §4.9.1.1: what ends the other direction ends this one
        if name == (ns::STREAM, "error") && self.answered {
            let error = element.tree(|node| Error::read(&node));
            log::debug!(
                "{} has ended its stream: {}",
                self.from.as_ref().map_or("a server", Domain::as_str),
                error.unwrap_or_else(|| Condition::UndefinedCondition.into())
            );
            return Ok(close(out));
        }
        match (name, state) {
            // §5: STARTTLS
            ((ns::TLS, "starttls"), State::Open(offered)) if offered.starttls => {
                starttls::proceed(out);
                Ok((State::Handshake, Some(Ask::StartTls)))
            }
            ((ns::TLS, "starttls"), _) => {
                starttls::refuse(out);
                Ok((State::Closed, Some(Ask::Closed)))
            }

            // §6, XEP-0178: SASL
            ((ns::SASL, "auth"), State::Open(offered)) => self.auth(offered, element, out),
            ((ns::SASL, "response"), State::Challenged(offered)) => match content(element) {
                Ok(data) => self.external(offered, &data, out),
                Err(condition) => self.refuse(offered, condition, out),
            },
            ((ns::SASL, "abort"), State::Open(offered) | State::Challenged(offered)) => {
                self.refuse(offered, sasl::Condition::Aborted, out)
            }
            // a response to nothing, or a second <auth/> inside an exchange (threats B6)
            ((ns::SASL, _), State::Open(offered) | State::Challenged(offered)) => {
                self.refuse(offered, sasl::Condition::MalformedRequest, out)
            }

            // XEP-0288, before anything is proven
            ((ns::BIDI, "bidi"), State::Open(offered)) if offered.bidi && self.proofs.is_empty() => {
                self.bidi = true;
                Ok((State::Open(offered), None))
            }
            ((ns::BIDI, "bidi"), State::Open(_)) => {
                Err(Error::new(Condition::PolicyViolation).text("bidi was not offered, or is too late"))
            }

            // XEP-0198
            ((ns::SM, _), State::Open(offered)) => self.manage(offered, element, out),

            // XEP-0220
            ((ns::DIALBACK, _), State::Open(offered)) => {
                let dialback = Dialback::read(element).ok_or(Condition::UnsupportedStanzaType)??;
                self.dialback(offered, dialback, out)
            }

            // two people compare keys; whoever says this has proven nothing, and only claims to be somebody
            ((pairing::NS, name), State::Open(offered))
                if self.tls && self.from.is_some() && self.proofs.is_empty() =>
            {
                let message = element.characters().and_then(|text| pairing::Message::read(name, &text));
                let message = message.ok_or(Condition::UnsupportedStanzaType)?;
                Ok((State::Open(offered), Some(Ask::Pairing(message))))
            }

            // §8
            ((uri, "iq" | "message" | "presence"), State::Open(offered)) if *uri == *self.scope.default => {
                Ok((
                    State::Open(offered),
                    Some(self.proofs.stanza(element)?.map_or(Ask::Dropped, Ask::Stanza)),
                ))
            }
            ((uri, "iq" | "message" | "presence"), State::Challenged(_)) if *uri == *self.scope.default => {
                Err(Condition::NotAuthorized.into())
            }

            // The driver feeds nothing in these.
            (_, State::Opening | State::Judging(_) | State::Asked(_) | State::Handshake) => {
                Err(Condition::InternalServerError.into())
            }
            (_, State::Reopening(_) | State::Closed) => Err(Condition::InternalServerError.into()),
            _ => Err(Condition::UnsupportedStanzaType.into()),
        }
    }

    // §6

    fn auth(&mut self, offered: Offered, element: &Element<'_>, out: &mut Vec<u8>) -> Step {
        let name = element.attr("mechanism").unwrap_or_default();
        if !self.tls {
            return self.refuse(offered, sasl::Condition::EncryptionRequired, out);
        }
        if Mechanism::named(&name) != Some(Mechanism::External) || offered.external.is_none() {
            return self.refuse(offered, sasl::Condition::InvalidMechanism, out);
        }
        match element.characters().as_deref() {
            // No initial response is another thing than one of no length, which is "=" (§6.4.2).
            Some("") => {
                Writer::new(out).leaf("challenge", ns::SASL);
                Ok((State::Challenged(offered), None))
            }
            _ => match content(element) {
                Ok(data) => self.external(offered, &data, out),
                Err(condition) => self.refuse(offered, condition, out),
            },
        }
    }

    /// XEP-0178 §3, step 11: as whom. The certificate was judged before it was offered (threats D5).
    fn external(&mut self, offered: Offered, data: &[u8], out: &mut Vec<u8>) -> Step {
        let (Some((remote, how)), Some(local)) = (&offered.external, &self.to) else {
            return self.refuse(offered, sasl::Condition::InvalidMechanism, out);
        };
        let same = match std::str::from_utf8(data) {
            Ok("") => true,
            Ok(authzid) => Domain::parse(authzid).is_ok_and(|authzid| authzid == *remote),
            Err(_) => false,
        };
        if !same {
            return self.refuse(offered, sasl::Condition::InvalidAuthzid, out);
        }
        let proof = self.proofs.prove(local, remote, *how);
        Writer::new(out).leaf("success", ns::SASL);
        // §6.4.6: the stream begins anew
        self.answered = false;
        self.restart = true;
        Ok((State::Reopening(proof), None))
    }

    /// §6.4.5: it may try again, or try dialback.
    fn refuse(&mut self, offered: Offered, condition: sasl::Condition, out: &mut Vec<u8>) -> Step {
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.settings.tries {
            return Err(Error::new(Condition::PolicyViolation).text("too many failed logins"));
        }
        Writer::new(out).start("failure").ns(ns::SASL).start(condition.name());
        Ok((State::Open(offered), Some(Ask::Refused)))
    }

    // XEP-0198

    fn manage(&mut self, offered: Offered, element: &Element<'_>, out: &mut Vec<u8>) -> Step {
        let count = || element.attr("h").and_then(|h| h.trim().parse().ok());
        let ask = match element.name().1 {
            "enable" if offered.manage && !self.managed => {
                self.managed = true;
                Writer::new(out).leaf("enabled", ns::SM);
                Ask::Managed
            }
            "r" if self.managed => Ask::Request,
            "a" if self.managed => Ask::Acknowledged(count().ok_or(Condition::InvalidXml)?),
            // §3, §5: no resumption between servers, and nothing before it is offered
            "enable" | "resume" => {
                let mut w = Writer::new(out);
                w.start("failed").ns(ns::SM).leaf("unexpected-request", ns::STANZA_ERRORS);
                drop(w);
                return Ok((State::Open(offered), None));
            }
            _ => return Err(Condition::UnsupportedStanzaType.into()),
        };
        Ok((State::Open(offered), Some(ask)))
    }

    // XEP-0220 §2.2

    fn dialback(&mut self, offered: Offered, dialback: Dialback, out: &mut Vec<u8>) -> Step {
        if !self.tls && matches!(dialback.says, Says::Key(_)) {
            let id = dialback.id.as_deref().filter(|_| dialback.word == Word::Verify);
            let pair = Pair { from: &dialback.to, to: &dialback.from, id };
            pair.error(Failed::PolicyViolation, Some("TLS comes first"), out);
            return Ok((State::Open(offered), None));
        }
        let ask = self.proofs.request(dialback, &self.id, out)?;
        Ok(match ask {
            Some(Ask::Judge { .. } | Ask::Vouch { .. }) => (State::Asked(offered), ask),
            ask => (State::Open(offered), ask),
        })
    }
}

/// §4.4: our footer, and the end.
fn close(out: &mut Vec<u8>) -> (State, Option<Ask>) {
    out.extend_from_slice(FOOTER);
    (State::Closed, Some(Ask::Closed))
}

fn content(element: &Element<'_>) -> Result<Vec<u8>, sasl::Condition> {
    sasl::decode(&element.characters().ok_or(sasl::Condition::MalformedRequest)?)
}
