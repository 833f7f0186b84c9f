//! All that the hub hears and says, on one page.

use super::{Hub, Origin};
use crate::jid::{BareJid, FullJid};
use crate::stanza::{self, Stanza};
use crate::store::change::{Answer, Ask, Change, Keys};
use crate::stream;

/// The time, as the ring sees it; the core has no clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Milliseconds since 1970, never before the build (a clock that is not set shows that).
    pub unix_ms: u64,
    /// Milliseconds on a clock that only goes forward.
    pub mono_ms: u64,
}

impl Now {
    /// Seconds since 1970.
    pub fn unix(self) -> u64 {
        self.unix_ms / 1000
    }
}

/// Whatever has an outbox: one bound resource, or a peer (see [`super::peer`]). The generation makes
/// an old number of a closed session harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId {
    /// Place in the tables of hub and ring.
    pub index: u32,
    /// Which tenant of that place.
    pub generation: u32,
}

impl SessionId {
    /// No session: an account that we speak for, or the hub itself.
    pub const NONE: SessionId = SessionId { index: u32::MAX, generation: u32::MAX };

    /// Peers have a table of their own.
    const PEER: u32 = 1 << 31;

    /// The peer at a place of the table of peers.
    pub(super) fn peer(place: u32, generation: u32) -> SessionId {
        SessionId { index: place | Self::PEER, generation }
    }

    /// The place in the table of peers; `None` for a session.
    pub fn peer_place(self) -> Option<u32> {
        (self.index & Self::PEER != 0 && self != SessionId::NONE).then_some(self.index & !Self::PEER)
    }
}

/// Why there is no way to a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreachable {
    /// What that means for what waits.
    pub kind: Lost,
    /// One line for the operator.
    pub text: Box<str>,
}

/// What the end of a link, or a failed attempt at one, means for what waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// The stream was closed in good order: a new one is made when there is something to say.
    Closed,
    /// There is no such server, or none that we may talk to: nothing is kept (RFC 6120 §8.3.3.16).
    NotFound,
    /// It cannot be reached now: messages are kept (RFC 6120 §8.3.3.17).
    Timeout,
}

/// What the hub hears.
pub enum Input<'a> {
    /// A stream has logged in and wants a resource (RFC 6120 §7). Answered by [`Sink::bound`].
    Bind {
        /// The ring's own number for the waiting stream.
        ticket: u64,
        /// Who it is.
        account: &'a BareJid,
        /// The wished-for or generated resource, normalised.
        resource: &'a str,
        /// `xml:lang` of its stream (RFC 6120 §4.7.4).
        lang: Option<&'a str>,
    },
    /// A session sent a stanza.
    Stanza {
        /// Which.
        from: SessionId,
        /// What.
        stanza: &'a Stanza<'a>,
    },
    /// A session that was too slow has taken all that waited for it.
    Drained {
        /// Which.
        session: SessionId,
    },
    /// A stanza that was said to a session, which is gone and has not got it.
    Unsent {
        /// The session's address.
        to: &'a FullJid,
        /// The priority that it had to the end, if that is known.
        priority: Option<i8>,
        /// Its messages are in the store already ([`Session::has_saved`](super::account::Session::has_saved)).
        saved: bool,
        /// As it was written.
        stanza: &'a Stanza<'a>,
    },
    /// A session has lost its connection, and may get another (XEP-0198 §5).
    Lost {
        /// Which.
        session: SessionId,
        /// The stanzas that it has not acknowledged, as they were written.
        unread: &'a [&'a str],
    },
    /// It has got one.
    Back {
        /// Which.
        session: SessionId,
    },
    /// A session is gone, however that came about.
    Closed {
        /// Which.
        session: SessionId,
    },
    /// A stanza came from a peer, over a stream on which it has proven to be the domain in `from`, for
    /// the domain in `to` (see [`crate::stream::identity`]).
    Remote {
        /// See [`Hub::peer`].
        peer: SessionId,
        /// What.
        stanza: &'a Stanza<'a>,
    },
    /// Answers [`Sink::dial`], or a peer has come by itself: its outbox is written to a stream now.
    Linked {
        /// Which.
        peer: SessionId,
    },
    /// Answers [`Sink::dial`], or a link is gone. [`Input::Returned`] follows for what was not taken.
    Unlinked {
        /// Which.
        peer: SessionId,
        /// Why.
        why: Unreachable,
    },
    /// What a peer's outbox held when its link was gone, or could not be made; the last of it first, for all of
    /// it goes before what waits in the store.
    Returned {
        /// Which.
        peer: SessionId,
        /// As it was written.
        stanza: &'a Stanza<'a>,
    },
    /// A peer's stream to us has broken off: whether the peer is still there must be found out.
    Suspect {
        /// Which.
        peer: SessionId,
    },
    /// A peer may be reachable now: it was seen on the network, or the operator has added it.
    Sighted {
        /// Its domain.
        domain: &'a str,
    },
}

/// What happens once the store has answered. Everything that promises durability is said here.
pub type Then = Box<dyn FnOnce(&mut Hub, &mut dyn Sink, Answer)>;

/// What happens once the other side has what was sent: its system has taken it, or with stream management it
/// has said so. False: it never will, for it is gone; what it has not got was given back before.
pub type Taken = Box<dyn FnOnce(&mut Hub, &mut dyn Sink, bool)>;

/// A password on its way to its keys, prepared (see [`crate::prep::password`]). It is never printed.
pub struct Password(pub Box<str>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What happens once a password's keys are made.
pub type Derived = Box<dyn FnOnce(&mut Hub, &mut dyn Sink, Box<Keys>)>;

/// What the hub says, straight into the caller's hands.
pub trait Sink {
    /// The outbox of a session, to append whole stanzas to. `None`: it is gone or full, and the
    /// stanza needs another answer (RFC 6121 §8, threats of slow readers).
    fn outbox(&mut self, to: SessionId) -> Option<&mut Vec<u8>>;

    /// As [`Sink::outbox`], for what has no other answer (presence, pushes, results): a session that
    /// has no room for it would know less than it believes, so it is closed, and starts afresh.
    fn must(&mut self, to: SessionId) -> Option<&mut Vec<u8>> {
        self.outbox(to)
    }

    /// Has the store write `changes` and answer `ask`, in this order and after all that came
    /// before; then calls `then`.
    fn store(&mut self, changes: Vec<Change>, ask: Ask, then: Then);

    /// Calls `then` once the other side has all that is now in the session's outbox, or is gone before
    /// that. (Offline messages are forgotten only then.)
    fn taken(&mut self, by: SessionId, then: Taken);

    /// Has a link made for a peer, not before `after_ms` milliseconds have passed; sooner when it was
    /// asked for already. Answered by [`Input::Linked`] or [`Input::Unlinked`]. Meanwhile what is put
    /// into the peer's outbox waits.
    fn dial(&mut self, peer: SessionId, after_ms: u64);

    /// Has a worker make new keys, with new salts, for a password; then calls `then`. Slow by
    /// design (RFC 5802 §2.2), so never on the hub's thread.
    fn derive(&mut self, password: Password, then: Derived);

    /// Answers [`Input::Bind`].
    fn bound(&mut self, ticket: u64, outcome: Result<(SessionId, &FullJid), stanza::Error>);

    /// Ends the streams that are logging in as an account and have no session yet: what they have
    /// shown is no longer good.
    fn revoke(&mut self, localpart: &str);

    /// Closes a session's stream with an error (RFC 6120 §4.9). The hub has forgotten it already.
    fn close(&mut self, session: SessionId, error: stream::Error);
}

/// Work with an account's place, or with none where there is no such account.
pub(super) type Arrived = Box<dyn FnOnce(&mut Hub, &mut dyn Sink, Option<u32>)>;

/// A piece of work that waits for an account to be read from the store.
pub(super) enum Parked {
    /// A stanza that was on its way in.
    Stanza { origin: Origin, to: Box<str>, text: Box<str> },
    /// Anything else.
    Then(Arrived),
}
