//! What a room in `xep/` hands in. The hub runs these hooks in the registry's order and never
//! names an extension.

use super::account::{Account, Session};
use super::talk::{SessionId, Sink, Then};
use super::{Hub, Origin};
use crate::stanza::{self, Condition, Stanza};
use crate::store::change::{Ask, Change};
use crate::xml::{Child, Writer};

/// One extension: a XEP, or a part of an RFC that is built the same way.
pub struct Extension {
    /// The XEP's number; 0 for a part of an RFC.
    pub number: u16,
    /// Its title.
    pub name: &'static str,
    /// The version of the document this was built from.
    pub version: &'static str,
    /// What of it there is, in a few words, for `stonechat xeps` and the README.
    pub scope: &'static str,
    /// Features of the domain in disco#info.
    pub features: &'static [&'static str],
    /// Features of an account's bare address in disco#info.
    pub account_features: &'static [&'static str],
    /// The requests it answers.
    pub iq: &'static [Rule],
    /// Stream features offered after login (RFC 6120 §4.3.2).
    pub stream_features: Option<fn(&Hub, &mut Writer<'_>)>,
    /// Children of a stanza that only we may write: true cuts the child out, wherever it stands.
    /// `to` is the bare address of the local account that the stanza goes to.
    pub forged: Option<Forged>,
    /// Whether an account wants nothing from, and to send nothing to, that address.
    pub blocks: Option<fn(&Account, jid: &str) -> bool>,
    /// Whether a message is copied to the other sessions of an account, and the copying itself.
    pub copies: Option<fn(&mut Hub, &mut dyn Sink, &Copy<'_>)>,
    /// What we add to a message for a local account.
    pub adds: Option<fn(&Hub, account: &str, id: &str, &mut Writer<'_>)>,
}

impl Extension {
    /// An extension that does nothing yet, to be filled in with `..Extension::NEW`.
    pub const NEW: Extension = Extension {
        number: 0,
        name: "",
        version: "",
        scope: "",
        features: &[],
        account_features: &[],
        iq: &[],
        stream_features: None,
        forged: None,
        blocks: None,
        copies: None,
        adds: None,
    };
}

/// See [`Extension::forged`].
pub type Forged = fn(&Hub, &Stanza<'_>, &Child, to: &str) -> bool;

/// A message on its way through an account, for [`Extension::copies`].
pub struct Copy<'a> {
    /// The account's place.
    pub account: u32,
    /// True: its user sent it. False: it was delivered to the user.
    pub sent: bool,
    /// The sessions that have it already.
    pub have: &'a [SessionId],
    /// The message, stamped with `from` and `to`, as it was delivered.
    pub packet: &'a [u8],
    /// As it came.
    pub stanza: &'a Stanza<'a>,
}

/// To whom a request was addressed (RFC 6120 §10.3, RFC 6121 §8.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The domain.
    Domain,
    /// The sender's own account: no `to`, or its bare address.
    Own,
    /// Somebody else's account, by its place; `None` for one that does not exist. The two must
    /// give the same answers to whom the account does not know.
    Other(Option<u32>),
}

/// Which targets a rule takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// The domain only.
    Domain,
    /// The own account only.
    Own,
    /// Any account.
    Account,
    /// The domain and the own account.
    DomainOrOwn,
    /// All.
    All,
}

impl Takes {
    fn target(self, target: Target) -> bool {
        match target {
            Target::Domain => matches!(self, Takes::Domain | Takes::DomainOrOwn | Takes::All),
            Target::Own => !matches!(self, Takes::Domain),
            Target::Other(_) => matches!(self, Takes::Account | Takes::All),
        }
    }
}

/// One kind of request that an extension answers.
pub struct Rule {
    /// Namespace of the payload.
    pub ns: &'static str,
    /// Its name; "" for any.
    pub name: &'static str,
    /// `get`, `set`, or both when `None`.
    pub set: Option<bool>,
    /// At which addresses.
    pub takes: Takes,
    /// The answer.
    pub run: fn(&mut Cx<'_>, &Request<'_>) -> Result<Reply, stanza::Error>,
}

/// A request that a rule has matched.
pub struct Request<'a> {
    /// The whole iq.
    pub stanza: &'a Stanza<'a>,
    /// `set`, not `get`.
    pub set: bool,
    /// At whom.
    pub target: Target,
    /// Who asks.
    pub origin: &'a Origin,
}

impl Request<'_> {
    /// What an answer needs to know when it is given later.
    pub fn answer_to(&self) -> AnswerTo {
        AnswerTo {
            origin: self.origin.clone(),
            from: self.stanza.to().map(|to| to.into_owned().into()),
            id: self.stanza.id().unwrap_or_default().into_owned().into(),
        }
    }

    /// Whether the one who asks may see the presence of the account asked, and so may know that it
    /// is there.
    pub fn may_see(&self, hub: &Hub) -> bool {
        match self.target {
            Target::Own => true,
            Target::Other(Some(place)) => {
                hub.account(place).is_some_and(|a| a.shows_presence_to(self.origin.bare()))
            }
            Target::Domain | Target::Other(None) => false,
        }
    }

    /// The account that was asked and exists.
    pub fn account(&self, cx: &Cx<'_>) -> Option<u32> {
        match self.target {
            Target::Domain => None,
            Target::Own => cx.hub.session(self.origin.session).map(|s| s.account),
            Target::Other(place) => place,
        }
    }
}

/// What a rule answers.
pub enum Reply {
    /// An empty result.
    Empty,
    /// A result with this payload (made with [`Cx::payload`]).
    Payload(Vec<u8>),
    /// The rule answers later, through [`AnswerTo`].
    Later,
}

/// Where the hub and its mouth are while a hook runs.
pub struct Cx<'a> {
    /// The hub.
    pub hub: &'a mut Hub,
    /// Its mouth.
    pub sink: &'a mut dyn Sink,
}

impl Cx<'_> {
    /// The session that asks.
    pub fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.hub.session_mut(id)
    }

    /// Writes the payload of a result.
    pub fn payload(write: impl FnOnce(&mut Writer<'_>)) -> Reply {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        Reply::Payload(out)
    }

    /// Has the store write and answer on behalf of a session, which is read no further while too
    /// much of it is under way.
    pub fn store(&mut self, session: SessionId, changes: Vec<Change>, ask: Ask, then: Then) {
        self.hub.store_for(self.sink, session, changes, ask, then);
    }
}

/// A request's return address, kept until the answer holds.
#[derive(Clone)]
pub struct AnswerTo {
    /// Who asked.
    pub origin: Origin,
    /// The address that was asked, as it was written; `None` when there was none.
    pub from: Option<Box<str>>,
    /// The request's `id`.
    pub id: Box<str>,
}

impl AnswerTo {
    /// `<iq type='result'>` with or without a payload.
    pub fn result(&self, hub: &mut Hub, sink: &mut dyn Sink, payload: &[u8]) {
        let mut out = Vec::with_capacity(payload.len() + 128);
        let mut w = Writer::new(&mut out);
        w.start("iq").attr("type", "result").attr("id", &self.id);
        w.opt("from", self.from.as_deref()).attr("to", &self.origin.jid);
        w.raw(payload).end();
        drop(w);
        hub.send_after_pending(sink, self.origin.session, out);
    }

    /// `<iq type='error'>`.
    pub fn error(&self, hub: &mut Hub, sink: &mut dyn Sink, error: stanza::Error) {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        w.start("iq").attr("type", "error").attr("id", &self.id);
        w.opt("from", self.from.as_deref()).attr("to", &self.origin.jid);
        error.write(&mut w);
        w.end();
        drop(w);
        hub.send_after_pending(sink, self.origin.session, out);
    }
}

impl Hub {
    /// Finds the rule for a request to us and answers it (RFC 6120 §8.2.3, §10.3.3).
    pub(super) fn answer(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        stanza: &Stanza<'_>,
        target: Target,
    ) {
        let set = match &*stanza.type_() {
            "get" => false,
            "set" => true,
            _ => return, // a result or an error to us: nothing of ours is waiting for it
        };
        let outcome = match (stanza.payload(), stanza.children().len()) {
            (Some((ns, name)), 1) => {
                let found = self
                    .extensions
                    .iter()
                    .flat_map(|e| e.iq)
                    .filter(|r| r.ns == ns && (r.name.is_empty() || r.name == name))
                    .find(|r| r.takes.target(target) && r.set.is_none_or(|s| s == set));
                match found {
                    Some(rule) => {
                        let request = Request { stanza, set, target, origin };
                        (rule.run)(&mut Cx { hub: self, sink }, &request)
                    }
                    None => Err(Condition::ServiceUnavailable.into()),
                }
            }
            _ => Err(Condition::BadRequest.into()),
        };
        let answer_to = AnswerTo {
            origin: origin.clone(),
            from: stanza.to().map(|to| to.into_owned().into()),
            id: stanza.id().unwrap_or_default().into_owned().into(),
        };
        match outcome {
            Ok(Reply::Empty) => answer_to.result(self, sink, b""),
            Ok(Reply::Payload(payload)) => answer_to.result(self, sink, &payload),
            Ok(Reply::Later) => {}
            Err(error) => answer_to.error(self, sink, error),
        }
    }
}
