//! The conversation on one page: all that a stream between servers asks of the world, and is told.
//!
//! ```text
//!              receiving half                          initiating half
//! built with   Settings, seed                          Settings, Wanted
//! fed with     frame(kind, bytes)                      start(), frame(kind, bytes)
//! asks         Ask ── one at a time, but for Verify ──┐
//! is answered  secured judged vouched verified         secured(judgement) judged vouched verified
//! says         Proven, then Stanza after Stanza        Ready, then Stanza after Stanza (XEP-0288); or Answer
//! ends with    Error, or Ask::Closed                   Failure, or Ask::Closed
//! ```
//!
//! While an [`Ask`] that wants an answer is open the driver feeds no frames. What a half wants sent is
//! appended to the `out` it is given, before anything is asked. The driver keeps what goes out in order: once
//! the stream carries stanzas of ours as well, `out` goes between them, never into one.

use super::dialback::{self, Keys};
use super::proofs::Verified;
use crate::jid::Domain;
use crate::stream::error::{Error, Plain};
use crate::stream::pairing;
use crate::stream::sasl;
use crate::stream::trust::{Distrust, Trusted};
use crate::xml;
use std::fmt;
use std::rc::Rc;

/// What both halves are set up with.
#[derive(Clone)]
pub struct Settings {
    /// The domain that we answer as when nobody has said whom he wants.
    pub domain: Domain,
    /// Whether a domain (in normal form) is one of ours, components included.
    pub ours: Rc<dyn Fn(&str) -> bool>,
    /// Whether dialback is ever good enough, so that it is offered to somebody who has not said yet who he is.
    pub dialback: bool,
    /// What our dialback keys are made with.
    pub keys: Keys,
    /// Whether stream management is offered and asked for (XEP-0198).
    pub manage: bool,
    /// XEP-0478: the cap on one element before anything is proven.
    pub max_bytes_early: usize,
    /// XEP-0478: the cap on one element afterwards.
    pub max_bytes: usize,
    /// XEP-0478: silence that is taken for absence.
    pub idle_seconds: u32,
    /// Pairs that may be proven on one stream.
    pub pairs: usize,
    /// Call-backs under way for one stream.
    pub calls: usize,
    /// Refused logins on one stream before it is closed (RFC 6120 §6.4.5: 2 to 5).
    pub tries: u8,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// A dialback key that somebody has shown us, and that the authoritative server has to confirm (XEP-0220 §2.1.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Callback {
    /// Our domain, to which stanzas are to flow.
    pub local: Domain,
    /// The domain that the other side says it is.
    pub remote: Domain,
    /// The id of the stream that it was shown on, which is of our making.
    pub id: Box<str>,
    /// The key.
    pub key: Box<str>,
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callback({} {})", self.local, self.remote) // a key is nobody's business
    }
}

/// What came of a call-back (XEP-0220 §2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The authoritative server knows the key.
    Valid,
    /// It does not.
    Invalid,
    /// There is no such server, or it does not know the domain: `<remote-server-not-found/>`.
    NotFound,
    /// It cannot be connected to: `<remote-connection-failed/>`.
    Unreachable,
    /// It does not answer: `<remote-server-timeout/>`.
    Timeout,
}

/// What either half asks of the world, or tells it.
#[derive(Debug)]
pub enum Ask {
    /// `<proceed/>` is written, or has come: send what is written, do the handshake, then `secured()`. Bytes
    /// that came behind it came in the clear: if there are any, close (threats B1).
    StartTls,
    /// What the other side's certificate, and what is on record, say about this domain. Then `judged()`.
    Judge {
        /// Who it says it is.
        remote: Domain,
    },
    /// Somebody shows a key that is good: is there a stream from us to `remote`, with this id, that waits for
    /// the result of its dialback (threats D2)? Then `vouched()`.
    Vouch {
        /// Our domain.
        local: Domain,
        /// Who asks.
        remote: Domain,
        /// The stream's id, as the remote made it.
        id: Box<str>,
    },
    /// Call back. Frames go on meanwhile; `verified()` whenever it is known.
    Verify(Callback),
    /// A pair is proven from now on. Receiving, when [`super::Receiving::bidi`] says so: the same stream
    /// carries our stanzas to that domain.
    Proven(Rc<Verified>),
    /// The frame is a stanza of that pair, both its addresses checked (RFC 6120 §8.1.1.2, §8.1.2.2).
    Stanza(Rc<Verified>),
    /// The frame is a stanza of a pair that is proven, but its `from` is no address (RFC 7622). It goes nowhere;
    /// where stanzas are counted it is one.
    Dropped,
    /// XEP-0198: the other side counts, and so do we, from here on.
    Managed,
    /// XEP-0198: `<r/>`; how many of its stanzas have we got?
    Request,
    /// XEP-0198: `<a/>`; so many of ours it has got.
    Acknowledged(u32),
    /// Initiating, [`Task::Pair`]: TLS is up and the stream is open; time for the first word of a pairing.
    Pair,
    /// A word of a pairing, before anything is proven ([`crate::stream::pairing`]).
    Pairing(pairing::Message),
    /// Receiving: EXTERNAL was refused, and that is written: go on with the next frame.
    Refused,
    /// Initiating: our stanzas may flow.
    Ready(Ready),
    /// Initiating, [`Task::Verify`]: what the authoritative server says. Nothing else will come; close.
    Answer(Verdict),
    /// The footers are exchanged: send what is written, and close.
    Closed,
}

/// What has been agreed on when our stanzas may flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ready {
    /// What we know of the other side.
    pub how: Trusted,
    /// What it took to know us: our certificate, or (false) dialback.
    pub external: bool,
    /// XEP-0198 is on.
    pub managed: bool,
    /// XEP-0288: its stanzas may come over the same stream.
    pub bidi: bool,
    /// XEP-0478: the most bytes that one element of ours may have (threats D12).
    pub max_bytes: Option<usize>,
}

/// What the initiating half is to do.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The domain of ours that it speaks for.
    pub local: Domain,
    /// The domain that it wants to reach.
    pub remote: Domain,
    /// What for.
    pub task: Task,
}

/// What a stream of ours is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// To carry stanzas.
    Link {
        /// Whether theirs may come back on it (XEP-0288).
        bidi: bool,
    },
    /// To compare keys, and nothing else: whoever is there, nobody is trusted.
    Pair,
    /// To ask the authoritative server about a key, and nothing else. The pair is that of [`Wanted`].
    Verify {
        /// The stream that the key was shown on.
        id: Box<str>,
        /// The key.
        key: Box<str>,
    },
}

/// Why the initiating half gave up: one line that says whose fault it is and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It, or somebody in between, offers no STARTTLS (threats B2, D4).
    StarttlsNotOffered,
    /// It offers STARTTLS and refuses to do it (RFC 6120 §5.4.2.2).
    StarttlsRefused,
    /// It is not who we want, as far as we can tell; nothing was said to it.
    Distrust(Distrust),
    /// It refuses our certificate, and has no dialback (RFC 6120 §6.5).
    Auth(sasl::Condition, Option<Box<str>>),
    /// It offers nothing to authenticate with: not for our certificate, and no dialback.
    NothingOffered,
    /// Dialback: it has asked whoever it takes for us, and our key is not known there.
    Invalid,
    /// Dialback: it could not, or would not (XEP-0220 §2.5).
    Dialback(dialback::Condition, Option<Box<str>>),
    /// RFC 6120 §4.9: it has ended the stream.
    Stream(Error),
    /// What it sends breaks a rule; this is what it is told.
    Broken(Error),
    /// It does not follow the RFC.
    Protocol(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Broken(error)
    }
}

impl From<xml::Error> for Failure {
    fn from(error: xml::Error) -> Failure {
        Failure::Broken(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |f: &mut fmt::Formatter<'_>, text: &Option<Box<str>>| match text {
            Some(text) => write!(f, ", it says: {}", Plain(text)),
            None => Ok(()),
        };
        match self {
            Failure::StarttlsNotOffered => {
                f.write_str("it offers no encryption, or somebody in between hides it; nothing was sent")
            }
            Failure::StarttlsRefused => f.write_str("it offers encryption and then refuses it: ask its operator"),
            Failure::Distrust(why) => write!(f, "not trusted, {why}"),
            Failure::Auth(condition, text) => {
                write!(
                    f,
                    "it does not accept our certificate, and has no other way to know us [{}]",
                    condition.name()
                )?;
                quoted(f, text)
            }
            Failure::NothingOffered => f.write_str(
                "it knows no way to make sure who we are: it does not trust our certificate, and does no dialback; \
                 its operator has to pin our key, or we need a certificate that it trusts",
            ),
            Failure::Invalid => f.write_str(
                "it has called back whoever it takes for us, and our key is not known there: our DNS records, or its \
                 address for us, lead elsewhere",
            ),
            Failure::Dialback(condition, text) => {
                f.write_str(match condition {
                    dialback::Condition::ItemNotFound => "it does not serve that domain",
                    dialback::Condition::RemoteConnectionFailed | dialback::Condition::RemoteServerTimeout => {
                        "it cannot call us back: our s2s port may not be reachable from there"
                    }
                    dialback::Condition::RemoteServerNotFound => {
                        "it cannot find us to call back: our DNS records are missing"
                    }
                    dialback::Condition::NotAuthorized => "it wants a certificate that it can trust, and ours is not",
                    _ => "it refuses to know us by dialback",
                })?;
                write!(f, " [{}]", condition.name())?;
                quoted(f, text)
            }
            Failure::Stream(error) => write!(f, "it has ended the stream: {error}"),
            Failure::Broken(error) => write!(f, "it breaks the rules of the stream: {error}"),
            Failure::Protocol(what) => write!(f, "it does not follow the rules: {what}"),
        }
    }
}

impl std::error::Error for Failure {}
