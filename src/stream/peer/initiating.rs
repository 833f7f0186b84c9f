//! The initiating half: a stream that we open to another server (RFC 6120 §4 to §6, XEP-0178 §3, XEP-0220
//! §2.1), to its end.
//!
//! It says nothing that matters before TLS, and nothing in TLS before the other side's certificate was judged
//! for the domain that we want (threats D4, D5).
//!
//! ```text
//! Idle ──start──► Header ──► Features ──► Starttls ──► Handshake ──secured──► Header ──► Features
//!      EXTERNAL:  Features ──► Authenticating ──success──► Header ──► Features ──► (Enabling) ──► Linked
//!      dialback:  Features ──► Called ──valid──► Linked
//!      verify:    Features ──► Asking ──► Closed
//!      pairing:   Features ──► Pairing ──► Closed
//! ```

use super::dialback::{Condition as Failed, Dialback, Pair, Says, Word};
use super::event::{Ask, Failure, Ready, Settings, Task, Verdict, Wanted};
use super::features::Seen;
use super::proofs::{Proofs, unasked};
use crate::jid::Domain;
use crate::stanza;
use crate::stream::element::Element;
use crate::stream::error::{self, Condition, Error};
use crate::stream::header::{FOOTER, Header, Outgoing, language};
use crate::stream::pairing;
use crate::stream::sasl::{self, Mechanism};
use crate::stream::starttls;
use crate::stream::trust::{Distrust, Trusted};
use crate::xml::{Caps, Kind, Scan, Scope, Writer, ns};
use std::rc::Rc;

/// See the module.
pub struct Initiating {
    settings: Rc<Settings>,
    wanted: Wanted,
    state: State,
    /// What we know of the other side, once there is TLS.
    how: Option<Trusted>,
    /// What the other side's header declared.
    scope: Rc<Scope>,
    /// The id that it gave the current stream.
    id: Option<Box<str>>,
    /// We have asked for it.
    bidi: bool,
    managed: bool,
    restart: bool,
    proofs: Proofs,
}

/// Before our certificate was accepted, or after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Login {
    Before,
    After,
}

/// What may come next.
enum State {
    /// `start()` or `secured()`
    Idle,
    /// Its header.
    Header(Login),
    /// `<stream:features/>`
    Features(Login),
    /// `<proceed/>`
    Starttls,
    /// `secured()`
    Handshake,
    /// `<success/>`; what else it offers.
    Authenticating(Seen),
    /// The result of our dialback.
    Called(Seen),
    /// The authoritative server's word.
    Asking,
    /// Words of a pairing, until the driver has enough.
    Pairing,
    /// `<enabled/>`
    Enabling(Seen),
    /// All that a stream can bring.
    Linked,
    /// `judged()` or `vouched()`
    Asked,
    /// Nothing.
    Closed,
}

type Step = Result<(State, Option<Ask>), Failure>;

impl Initiating {
    /// A stream to another server. In the clear, [`Initiating::start`] comes next; for direct TLS
    /// (XEP-0368) the handshake and [`Initiating::secured`].
    pub fn new(settings: Rc<Settings>, wanted: Wanted) -> Initiating {
        Initiating {
            proofs: Proofs::new(settings.clone()),
            settings,
            wanted,
            state: State::Idle,
            how: None,
            scope: Rc::default(),
            id: None,
            bidi: false,
            managed: false,
            restart: false,
        }
    }

    /// Writes our header.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        if matches!(self.state, State::Idle) {
            self.write_header(out);
            self.state = State::Header(Login::Before);
        }
    }

    /// TLS is up, be it by [`Ask::StartTls`] or from the start; the certificate was judged for
    /// [`Wanted::remote`]. All that was learned before is forgotten (§5.4.3.3; threats B1); the reader must be
    /// a new one. Writes our header, if the other side is to be trusted with it.
    pub fn secured(
        &mut self,
        judgement: Result<Trusted, Distrust>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let state = std::mem::replace(&mut self.state, State::Closed);
        if !matches!(state, State::Idle | State::Handshake) {
            return Err(Failure::Protocol("not the time for TLS"));
        }
        self.how = Some(match (judgement, &self.wanted.task) {
            // Two people will judge; nothing else is said on this stream.
            (_, Task::Pair) => Trusted::Dialback,
            (judgement, _) => judgement.map_err(Failure::Distrust)?,
        });
        self.scope = Rc::default();
        self.id = None;
        self.write_header(out);
        self.state = State::Header(Login::Before);
        Ok(())
    }

    /// Takes one frame. On a failure: [`Initiating::fail`], flush, close.
    pub fn frame(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        scan: &mut Scan,
        caps: &Caps,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Failure> {
        if kind == Kind::Keepalive {
            return Ok(None);
        }
        let state = std::mem::replace(&mut self.state, State::Closed);
        let (state, ask) = match (kind, state) {
            (Kind::Header, State::Header(login)) => {
                let header = Header::read(bytes, scan, ns::SERVER)?;
                self.scope = Rc::new(header.scope);
                self.id = header.id.filter(|id| !id.is_empty());
                (State::Features(login), None)
            }
            (Kind::Element, state) => {
                let scope = Rc::clone(&self.scope);
                let text = scan.element(bytes, &scope, caps)?;
                self.element(state, &Element { text, scan, scope: &scope }, out)?
            }
            (Kind::Footer, state) if !matches!(state, State::Handshake) => {
                out.extend_from_slice(FOOTER);
                (State::Closed, Some(Ask::Closed))
            }
            (Kind::Header, State::Linked) => return Err(Error::new(Condition::BadFormat).into()),
            _ => return Err(Failure::Protocol("something came out of turn")),
        };
        self.state = state;
        Ok(ask)
    }

    /// True exactly once after login: the reader must be told of the restart (§6.4.6).
    pub fn restarts(&mut self) -> bool {
        std::mem::take(&mut self.restart)
    }

    /// The id of the stream, for as long as it waits for the result of its dialback: then, and only then, a key
    /// for it may be vouched for ([`Ask::Vouch`], threats D2).
    pub fn waits_for_dialback(&self) -> Option<&str> {
        match self.state {
            State::Called(_) => self.id.as_deref(),
            _ => None,
        }
    }

    /// Answers [`Ask::Judge`].
    pub fn judged(
        &mut self,
        judgement: Result<Trusted, Distrust>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Failure> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Asked => {
                self.state = State::Linked;
                Ok(self.proofs.judged(judgement, out)?)
            }
            _ => Err(Failure::Protocol("nobody was to be judged")),
        }
    }

    /// Answers [`Ask::Vouch`].
    pub fn vouched(&mut self, ours: bool, out: &mut Vec<u8>) {
        if matches!(self.state, State::Asked) {
            self.state = State::Linked;
        }
        self.proofs.vouched(ours, out);
    }

    /// Answers [`Ask::Verify`], whenever. On a failure: [`Initiating::fail`], flush, close.
    pub fn verified(
        &mut self,
        local: &Domain,
        remote: &Domain,
        verdict: Verdict,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Failure> {
        match self.state {
            State::Closed => Ok(None),
            _ => Ok(self.proofs.verified(local, remote, verdict, out)?),
        }
    }

    /// What the other side's header declared.
    pub fn scope(&self) -> &Rc<Scope> {
        &self.scope
    }

    /// What is wanted.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Ends the stream after a failure: an error if the other side broke a rule, and the footer. Between
    /// `<proceed/>` and TLS, and to somebody whom we do not trust, nothing can be said.
    pub fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        if matches!(state, State::Idle | State::Handshake) || matches!(failure, Failure::Distrust(_)) {
            return;
        }
        if let Failure::Broken(error) = failure {
            error.write(out);
        }
        out.extend_from_slice(FOOTER);
    }

    fn write_header(&self, out: &mut Vec<u8>) {
        // §4.7.1: between servers who we are is no secret, and some want to know it before TLS.
        Outgoing {
            from: Some(self.wanted.local.as_str()),
            to: Some(self.wanted.remote.as_str()),
            id: None,
            lang: language(None),
        }
        .write_server(out);
    }

    fn element(&mut self, state: State, element: &Element<'_>, out: &mut Vec<u8>) -> Step {
        match (element.name(), state) {
            // §4.9
            ((ns::STREAM, "error"), _) => {
                let error = element.tree(|node| Error::read(&node));
                Err(Failure::Stream(error.unwrap_or_else(|| Condition::UndefinedCondition.into())))
            }
            // §4.3.2
            ((ns::STREAM, "features"), State::Features(login)) => {
                let seen = Seen::read(element).ok_or(Failure::Protocol("its features make no sense"))?;
                match (login, self.how) {
                    (_, None) if seen.starttls => {
                        starttls::ask(out);
                        Ok((State::Starttls, None))
                    }
                    (_, None) => Err(Failure::StarttlsNotOffered),
                    (Login::Before, Some(_)) => self.begin(seen, out),
                    (Login::After, Some(how)) if self.settings.manage && seen.manage => {
                        Writer::new(out).leaf("enable", ns::SM);
                        // It knows us now, and may begin at once.
                        self.prove(how);
                        Ok((State::Enabling(seen), None))
                    }
                    (Login::After, Some(how)) => Ok(self.ready(how, true, &seen)),
                }
            }
            // §5.4.2
            (name, State::Starttls) => match starttls::answer(name) {
                Some(starttls::Answer::Proceed) => Ok((State::Handshake, Some(Ask::StartTls))),
                Some(starttls::Answer::Failure) => Err(Failure::StarttlsRefused),
                None => Err(Failure::Protocol("it answers STARTTLS with something else")),
            },
            // §6.4
            ((ns::SASL, "success"), State::Authenticating(_)) => {
                self.restart = true;
                self.scope = Rc::default();
                self.write_header(out);
                Ok((State::Header(Login::After), None))
            }
            // some want to be told twice (§6.4.2)
            ((ns::SASL, "challenge"), State::Authenticating(seen)) => {
                let mut w = Writer::new(out);
                w.start("response").ns(ns::SASL).text(&self.authzid());
                drop(w);
                Ok((State::Authenticating(seen), None))
            }
            ((ns::SASL, "failure"), State::Authenticating(seen)) => {
                let (condition, text) = sasl_failure(element);
                match self.may_call(&seen) {
                    true => self.call(seen, out),
                    false => Err(Failure::Auth(condition, text)),
                }
            }
            // XEP-0198 §3
            ((ns::SM, "enabled"), State::Enabling(seen)) => {
                self.managed = true;
                let how = self.how.unwrap_or(Trusted::Dialback);
                Ok(self.ready(how, true, &seen))
            }
            ((ns::SM, "failed"), State::Enabling(seen)) => {
                let how = self.how.unwrap_or(Trusted::Dialback);
                Ok(self.ready(how, true, &seen))
            }
            ((ns::SM, "r"), State::Linked) if self.managed => Ok((State::Linked, Some(Ask::Request))),
            ((ns::SM, "a"), State::Linked) if self.managed => {
                let count = element.attr("h").and_then(|h| h.trim().parse().ok());
                let count = count.ok_or(Error::new(Condition::InvalidXml))?;
                Ok((State::Linked, Some(Ask::Acknowledged(count))))
            }
            // XEP-0220
            ((ns::DIALBACK, _), state) => {
                let dialback = Dialback::read(element).ok_or(Failure::Protocol("no dialback"))??;
                self.dialback(state, dialback, out)
            }
            ((pairing::NS, name), State::Pairing) => {
                let message = element.characters().and_then(|text| pairing::Message::read(name, &text));
                let message = message.ok_or(Failure::Protocol("it does not know how to pair"))?;
                Ok((State::Pairing, Some(Ask::Pairing(message))))
            }
            // §8: against our stream's direction only when we have asked for it (XEP-0288; threats D8)
            ((uri, "iq" | "message" | "presence"), state @ (State::Linked | State::Enabling(_)))
                if *uri == *self.scope.default =>
            {
                Ok((state, Some(self.proofs.stanza(element)?.map_or(Ask::Dropped, Ask::Stanza))))
            }
            ((uri, "iq" | "message" | "presence"), _) if *uri == *self.scope.default => {
                Err(Error::new(Condition::NotAuthorized).into())
            }
            (_, State::Linked) => Err(Error::new(Condition::UnsupportedStanzaType).into()),
            _ => Err(Failure::Protocol("an element came out of turn")),
        }
    }

    /// Inside TLS, with the other side known as far as it will be.
    fn begin(&mut self, seen: Seen, out: &mut Vec<u8>) -> Step {
        match &self.wanted.task {
            Task::Verify { id, key } => {
                let Wanted { local, remote, .. } = &self.wanted;
                Pair { from: local, to: remote, id: Some(id) }.key(key, out);
                return Ok((State::Asking, None));
            }
            Task::Pair => return Ok((State::Pairing, Some(Ask::Pair))),
            Task::Link { bidi: true } if seen.bidi => {
                self.bidi = true;
                Writer::new(out).leaf("bidi", ns::BIDI);
            }
            Task::Link { .. } => {}
        }
        if seen.external {
            let mut w = Writer::new(out);
            w.start("auth").ns(ns::SASL).attr("mechanism", Mechanism::External.name()).text(&self.authzid());
            drop(w);
            return Ok((State::Authenticating(seen), None));
        }
        match self.may_call(&seen) {
            true => self.call(seen, out),
            false => Err(Failure::NothingOffered),
        }
    }

    /// XEP-0178 §3, step 10: as whom, in words.
    fn authzid(&self) -> String {
        sasl::encode(self.wanted.local.as_str().as_bytes())
    }

    /// Whether it does dialback: it says so in its features, or, as all did once, on its header.
    fn may_call(&self, seen: &Seen) -> bool {
        seen.dialback || self.scope.prefixes.iter().any(|(_, uri)| **uri == *ns::DIALBACK)
    }

    fn call(&mut self, seen: Seen, out: &mut Vec<u8>) -> Step {
        let id = self.id.as_deref().ok_or(Failure::Protocol("it gives its stream no id"))?;
        let Wanted { local, remote, .. } = &self.wanted;
        let key = self.settings.keys.key(remote, local, id);
        Pair { from: local, to: remote, id: None }.key(&key, out);
        Ok((State::Called(seen), None))
    }

    fn dialback(&mut self, state: State, dialback: Dialback, out: &mut Vec<u8>) -> Step {
        let Wanted { local, remote, task } = &self.wanted;
        let ours = dialback.from == *remote && dialback.to == *local;
        match (dialback.word, state, &dialback.says) {
            // the answer to our key, on the stream that it was for
            (Word::Result, State::Called(seen), says) if ours && !matches!(says, Says::Key(_)) => {
                match dialback.says {
                    Says::Valid => {
                        let how = self.how.unwrap_or(Trusted::Dialback);
                        Ok(self.ready(how, false, &seen))
                    }
                    Says::Invalid => Err(Failure::Invalid),
                    Says::Error(condition, text) => Err(Failure::Dialback(condition, text)),
                    Says::Key(_) | Says::Nonsense => Err(unasked(&dialback.from, &dialback.to).into()),
                }
            }
            // the answer to our question
            (Word::Verify, State::Asking, says) if ours && !matches!(says, Says::Key(_)) => {
                let same = matches!(task, Task::Verify { id, .. } if Some(id) == dialback.id.as_ref());
                let verdict = match says {
                    Says::Valid if same => Verdict::Valid,
                    Says::Invalid if same => Verdict::Invalid,
                    Says::Error(Failed::ItemNotFound, _) if same => Verdict::NotFound,
                    Says::Error(..) if same => Verdict::Timeout,
                    _ => return Err(unasked(&dialback.from, &dialback.to).into()),
                };
                out.extend_from_slice(FOOTER);
                Ok((State::Closed, Some(Ask::Answer(verdict))))
            }
            // the other direction of a stream that has two
            (_, State::Linked, Says::Key(_)) if self.bidi => {
                let id = self.id.clone().unwrap_or_default();
                let ask = self.proofs.request(dialback, &id, out)?;
                Ok(match ask {
                    Some(Ask::Judge { .. } | Ask::Vouch { .. }) => (State::Asked, ask),
                    ask => (State::Linked, ask),
                })
            }
            _ => Err(unasked(&dialback.from, &dialback.to).into()),
        }
    }

    /// With XEP-0288 their stanzas may come. That they are those of the domain that we wanted was judged before
    /// anything was said.
    fn prove(&mut self, how: Trusted) {
        if self.bidi {
            self.proofs.prove(&self.wanted.local, &self.wanted.remote, how);
        }
    }

    /// Our stanzas may flow.
    fn ready(&mut self, how: Trusted, external: bool, seen: &Seen) -> (State, Option<Ask>) {
        self.prove(how);
        let ready =
            Ready { how, external, managed: self.managed, bidi: self.bidi, max_bytes: seen.max_bytes };
        (State::Linked, Some(Ask::Ready(ready)))
    }
}

/// §6.5
fn sasl_failure(element: &Element<'_>) -> (sasl::Condition, Option<Box<str>>) {
    let read = element.tree(|node| {
        let mut conditions = node.children().filter_map(|n| sasl::Condition::named(n.tag_name().name()));
        (conditions.next_back(), stanza::child_text(&node, ns::SASL, "text").map(error::cut).map(Box::from))
    });
    let (condition, text) = read.unwrap_or_default();
    // a condition that is not known stands for this one
    (condition.unwrap_or(sasl::Condition::NotAuthorized), text)
}
