//! What was proven on one stream between servers, and the proving: the table of pairs, and the questions that
//! lead into it. Both halves have one, for with XEP-0288 stanzas and dialback go both ways.

use super::dialback::{Condition, Dialback, Pair, Says, Word};
use super::event::{Ask, Callback, Settings, Verdict};
use crate::jid::{Domain, Jid, domainpart};
use crate::stream::element::Element;
use crate::stream::error::{self, Error};
use crate::stream::trust::{Distrust, Trusted, Why};
use std::borrow::Cow;
use std::rc::Rc;

/// Proof that on one stream the other side is `remote`, for stanzas between it and `local`, a domain of ours.
/// Only this file makes one: of a certificate that is good for the domain, or of a dialback that was confirmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    local: Domain,
    remote: Domain,
    how: Trusted,
}

impl Verified {
    /// Our domain.
    pub fn local(&self) -> &Domain {
        &self.local
    }

    /// Theirs.
    pub fn remote(&self) -> &Domain {
        &self.remote
    }

    /// The rung that it stands on.
    pub fn how(&self) -> Trusted {
        self.how
    }
}

/// One stream's proofs, and what is on the way to become one.
pub(super) struct Proofs {
    settings: Rc<Settings>,
    proven: Vec<Rc<Verified>>,
    /// Waits for `judged()`.
    judging: Option<Callback>,
    /// Waits for `vouched()`: the pair and the id.
    vouching: Option<(Domain, Domain, Box<str>)>,
    /// Wait for `verified()`.
    calls: Vec<(Domain, Domain)>,
    /// Domains whose certificate was not good enough.
    refused: usize,
    /// A lie of this stream's stands in the log.
    caught: bool,
}

impl Proofs {
    pub fn new(settings: Rc<Settings>) -> Proofs {
        Proofs {
            settings,
            proven: Vec::new(),
            judging: None,
            vouching: None,
            calls: Vec::new(),
            refused: 0,
            caught: false,
        }
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.proven.is_empty()
    }

    /// A certificate was judged, and is good enough for that domain: to be called nowhere else.
    pub fn prove(&mut self, local: &Domain, remote: &Domain, how: Trusted) -> Rc<Verified> {
        if let Some(known) = self.find(local.as_str(), remote.as_str()) {
            return known.clone();
        }
        let proof = Rc::new(Verified { local: local.clone(), remote: remote.clone(), how });
        self.proven.push(proof.clone());
        proof
    }

    fn find(&self, local: &str, remote: &str) -> Option<&Rc<Verified>> {
        self.proven.iter().find(|p| p.remote.as_str() == remote && p.local.as_str() == local)
    }

    /// The addresses of a stanza (RFC 6120 §8.1.1.2, §8.1.2.2; threats D7). `None`: `from` is no address to us,
    /// but of a domain that is proven: it may be one to the other side, whose tables of letters are older (RFC
    /// 6122), so it ends the stanza and not the stream. What is wrong with `to`, any user may have written: the
    /// hub answers that.
    pub fn stanza(&self, element: &Element<'_>) -> Result<Option<Rc<Verified>>, Error> {
        // §4.9.3.12
        if self.proven.is_empty() {
            return Err(error::Condition::NotAuthorized.into());
        }
        let (Some(from), Some(to)) = (element.attr("from"), element.attr("to")) else {
            let error = Error::new(error::Condition::ImproperAddressing);
            return Err(error.text("a stanza between servers needs a from and a to"));
        };
        let (of, good) = domain_of(&from)?;
        let (at, _) = domain_of(&to)?;
        if let Some(proof) = self.find(&at, &of) {
            return Ok(good.then(|| proof.clone()));
        }
        if !self.proven.iter().any(|p| p.remote.as_str() == &*of) {
            let error = Error::new(error::Condition::InvalidFrom);
            return Err(error.text("nothing was proven for the domain in from"));
        }
        if !(self.settings.ours)(&at) {
            return Err(Error::new(error::Condition::HostUnknown).text("the domain in to is not served here"));
        }
        let error = Error::new(error::Condition::InvalidFrom);
        Err(error.text("for this from and to nothing was proven: dialback first (XEP-0220)"))
    }

    /// A dialback request that came in; `id` is the stream's, made by us or by them.
    pub fn request(&mut self, dialback: Dialback, id: &str, out: &mut Vec<u8>) -> Result<Option<Ask>, Error> {
        let Dialback { word, from, to, id: about, says } = dialback;
        let Says::Key(key) = says else { return Err(unasked(&from, &to)) };
        if (self.settings.ours)(from.as_str()) {
            let error = Error::new(error::Condition::InvalidFrom);
            return Err(error.text("that domain is served here: we are talking to ourselves"));
        }
        match (word, about) {
            (Word::Verify, Some(about)) => Ok(self.asked_about(from, to, about, &key, out)),
            (Word::Verify, None) => {
                Err(Error::new(error::Condition::InvalidXml).text("a verify without an id"))
            }
            (Word::Result, _) => {
                Ok(self.shown(Callback { local: to, remote: from, id: id.into(), key }, out))
            }
        }
    }

    /// We are the authoritative server (XEP-0220 §2.2.2).
    fn asked_about(
        &mut self,
        remote: Domain,
        local: Domain,
        id: Box<str>,
        key: &str,
        out: &mut Vec<u8>,
    ) -> Option<Ask> {
        let answer = Pair { from: &local, to: &remote, id: Some(&id) };
        if !(self.settings.ours)(local.as_str()) {
            answer.error(Condition::ItemNotFound, None, out);
            return None;
        }
        if !self.settings.keys.accepts(key, &remote, &local, &id) {
            // Anybody may ask, and as often as he likes (threats J7).
            log::debug!("dialback: {remote} asks about a key of {local} that is not one");
            answer.valid(false, out);
            return None;
        }
        self.vouching = Some((local.clone(), remote.clone(), id.clone()));
        Some(Ask::Vouch { local, remote, id })
    }

    /// Answers [`Ask::Vouch`].
    pub fn vouched(&mut self, ours: bool, out: &mut Vec<u8>) {
        if let Some((local, remote, id)) = self.vouching.take() {
            Pair { from: &local, to: &remote, id: Some(&id) }.valid(ours, out);
        }
    }

    /// We are the receiving server (XEP-0220 §2.2.1).
    fn shown(&mut self, call: Callback, out: &mut Vec<u8>) -> Option<Ask> {
        let answer = Pair { from: &call.local, to: &call.remote, id: None };
        let pair = |(local, remote): &(Domain, Domain)| *local == call.local && *remote == call.remote;
        if !(self.settings.ours)(call.local.as_str()) {
            answer.error(Condition::ItemNotFound, None, out);
        } else if self.find(call.local.as_str(), call.remote.as_str()).is_some() {
            answer.valid(true, out);
        } else if self.calls.iter().any(pair) {
            // The answer to the first one will be the answer to this.
        } else if self.proven.len().saturating_add(self.calls.len()) >= self.settings.pairs
            || self.calls.len() >= self.settings.calls
        {
            answer.error(Condition::ResourceConstraint, Some("too many domains on one stream"), out);
        } else {
            let remote = call.remote.clone();
            self.judging = Some(call);
            return Some(Ask::Judge { remote });
        }
        None
    }

    /// Answers an [`Ask::Judge`] that came of a key. A certificate that is good for the domain spares the call. An error
    /// ends the stream: each judgement may be a chain of signatures, and there is no end of domains (threats J5).
    pub fn judged(
        &mut self,
        judgement: Result<Trusted, Distrust>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Error> {
        let Some(call) = self.judging.take() else { return Ok(None) };
        let answer = Pair { from: &call.local, to: &call.remote, id: None };
        match judgement {
            Ok(Trusted::Dialback) => {
                self.calls.push((call.local.clone(), call.remote.clone()));
                Ok(Some(Ask::Verify(call)))
            }
            Ok(how) => {
                answer.valid(true, out);
                Ok(Some(Ask::Proven(self.prove(&call.local, &call.remote, how))))
            }
            Err(_) if self.refused >= self.settings.pairs => {
                let error = Error::new(error::Condition::PolicyViolation);
                Err(error.text("too many domains that your certificate is not good for"))
            }
            Err(why) => {
                self.refused = self.refused.saturating_add(1);
                answer.error(Condition::NotAuthorized, Some(&told(&why)), out);
                Ok(None)
            }
        }
    }

    /// Answers [`Ask::Verify`]. An error ends the stream.
    pub fn verified(
        &mut self,
        local: &Domain,
        remote: &Domain,
        verdict: Verdict,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Error> {
        // Only what was asked for (threats D1).
        let Some(at) = self.calls.iter().position(|(l, r)| l == local && r == remote) else {
            return Ok(None);
        };
        self.calls.swap_remove(at);
        let answer = Pair { from: local, to: remote, id: None };
        let (condition, text) = match verdict {
            Verdict::Valid => {
                answer.valid(true, out);
                return Ok(Some(Ask::Proven(self.prove(local, remote, Trusted::Dialback))));
            }
            Verdict::Invalid => {
                let level = if self.caught { log::Level::Debug } else { log::Level::Warn };
                self.caught = true;
                log::log!(
                    level,
                    "dialback: somebody has said that he is {remote}, and {remote} does not know him"
                );
                // §2.2.1: the end of the stream, unless others live on it: §2.1.2.
                if self.proven.is_empty() && self.calls.is_empty() {
                    answer.valid(false, out);
                    let error = Error::new(error::Condition::NotAuthorized);
                    return Err(error.text("the authoritative server does not know that dialback key"));
                }
                (Condition::Forbidden, "the authoritative server does not know that key")
            }
            Verdict::NotFound => (Condition::RemoteServerNotFound, "your domain was not found from here"),
            Verdict::Unreachable => {
                (Condition::RemoteConnectionFailed, "the server of your domain cannot be reached from here")
            }
            Verdict::Timeout => {
                (Condition::RemoteServerTimeout, "the server of your domain does not answer about the key")
            }
        };
        answer.error(condition, Some(text), out);
        Ok(None)
    }
}

/// The domain of an address, and whether all of the address is good.
fn domain_of<'a>(address: &'a str) -> Result<(Cow<'a, str>, bool), Error> {
    if let Ok(jid) = Jid::parse(address) {
        // Nearly always as it was written, and then nothing is copied.
        let domain = address.split('/').next().unwrap_or(address);
        let domain = domain.split_once('@').map_or(domain, |(_, domain)| domain);
        return Ok(match jid.domain() == domain {
            true => (Cow::Borrowed(domain), true),
            false => (Cow::Owned(jid.domain().to_owned()), true),
        });
    }
    let bare = address.split('/').next().unwrap_or(address);
    let domain = bare.split_once('@').map_or(bare, |(_, domain)| domain);
    match domainpart(domain) {
        Ok(domain) => Ok((domain, false)),
        Err(_) => Err(Error::new(error::Condition::ImproperAddressing).text("that is no address")),
    }
}

/// An answer that nobody has asked for, or not here (threats D1; XEP-0220, "Unsolicited Dialback"). It is not
/// looked at, and there is nothing good to expect of who sent it.
pub(super) fn unasked(from: &Domain, to: &Domain) -> Error {
    // The end of the stream is told of, by whoever knows how many of them there are (threats J7).
    log::debug!("dialback: an answer that nobody has asked for, from {from} to {to}; the stream is closed");
    Error::new(error::Condition::PolicyViolation).text("a dialback answer that was not asked for here")
}

/// What the other side's operator is told of our distrust. (Ours reads all of it in the log.)
pub(super) fn told(why: &Distrust) -> String {
    match &why.why {
        Why::KeyChanged { .. } => "another key than yours is pinned for your domain here".to_owned(),
        Why::KeyMissing { .. } => {
            "a key is pinned for your domain here, and you show no certificate".to_owned()
        }
        Why::NotPinned { .. } => "only servers whose key an operator has pinned are accepted here".to_owned(),
        Why::NoCertificate => "a certificate for your domain is wanted here, and you show none".to_owned(),
        // What comes behind is what our operator may do.
        Why::Certificate(why) => {
            let why = why.split("; ").next().unwrap_or_default();
            format!("your certificate is not accepted here for your domain: {why}")
        }
    }
}
