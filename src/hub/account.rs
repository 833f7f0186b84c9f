//! What the hub holds of an account, and of each of its sessions.

use super::Hub;
use super::talk::{SessionId, Sink};
use crate::jid::{BareJid, FullJid};
use crate::store::change::{AccountId, Item, Loaded, Subscription};
use std::collections::{BTreeMap, VecDeque};

/// An account in memory: it has a session, or had one lately, or something waits for it.
pub struct Account {
    /// Its address.
    pub jid: BareJid,
    /// Its number in the store.
    pub id: AccountId,
    /// Version of the roster (RFC 6121 §2.6).
    pub version: u64,
    /// The roster and what waits beside it, by normalised address.
    pub roster: BTreeMap<Box<str>, Item>,
    /// XEP-0191, sorted.
    pub blocked: Vec<Box<str>>,
    /// Offline messages that wait: count and bytes.
    pub offline: (u32, u64),
    /// Its sessions, in the order they were bound.
    pub sessions: Vec<SessionId>,
    /// How many of them have carbons on (XEP-0280).
    pub carbons: u32,
    /// The session that offline messages are being sent to.
    pub fetching: Option<SessionId>,
    /// When the last session ended in this run: Unix seconds and last status (XEP-0012).
    pub last: Option<(u64, Box<str>)>,
}

impl Account {
    pub(super) fn new(jid: BareJid, loaded: Loaded) -> Account {
        let mut blocked = loaded.blocked;
        blocked.sort_unstable();
        Account {
            jid,
            id: loaded.id,
            version: loaded.version,
            roster: loaded.roster.into_iter().map(|item| (item.jid.clone(), item)).collect(),
            blocked,
            offline: loaded.offline,
            sessions: Vec::new(),
            carbons: 0,
            fetching: None,
            last: None,
        }
    }

    /// The subscription to a contact, by its bare address.
    pub fn subscription(&self, contact: &str) -> Subscription {
        self.roster.get(contact).map(|item| item.subscription).unwrap_or_default()
    }

    /// Whether the contact may see this account's presence: "from" or "both".
    pub fn shows_presence_to(&self, contact: &str) -> bool {
        contact == self.jid.as_str()
            || matches!(self.subscription(contact), Subscription::From | Subscription::Both)
    }

    /// Whether this account sees the contact's presence: "to" or "both".
    pub fn sees_presence_of(&self, contact: &str) -> bool {
        matches!(self.subscription(contact), Subscription::To | Subscription::Both)
    }
}

/// The last availability of a session, ready to be stamped for anybody.
pub struct Available {
    /// RFC 6121 §4.7.2.3.
    pub priority: i8,
    /// `<presence/>` as it came, without `from` and `to`.
    pub text: Box<str>,
}

/// One bound resource. Small: there are thousands, and most are idle.
pub struct Session {
    /// Where it stands in the tables.
    pub id: SessionId,
    /// The account's place in the hub.
    pub account: u32,
    /// Its address.
    pub jid: FullJid,
    /// `xml:lang` of its stream, unless it is the default.
    pub lang: Option<Box<str>>,
    /// `None`: connected, not available.
    pub presence: Option<Available>,
    /// It asked for the roster and so gets pushes (RFC 6121 §2.1.6).
    pub interested: bool,
    /// It asked for the block list and so gets pushes (XEP-0191 §3.3).
    pub watches_blocks: bool,
    /// XEP-0280.
    pub carbons: bool,
    /// Whom it sent directed presence to (RFC 6121 §4.6).
    pub directed: Vec<Box<str>>,
    /// Jobs of this session at the store, large ones counted several times.
    pub pending: u32,
    /// What it sent that waits for an account to be read, counted in the same way.
    pub parked: u32,
    /// Messages for it wait in the store: what comes now stands behind them (RFC 6120 §10.1).
    pub behind: bool,
    /// It has lost its connection, and may come back with another (XEP-0198 §5).
    pub lost: bool,
    /// How many messages that were sent to it, and may not have come, are in the store meanwhile.
    pub(super) saved: u32,
    /// A new password of its user's is being made into keys, which is a worker's time (XEP-0077).
    pub rekeying: bool,
    /// What it has sent to peers that have not taken it yet, and the answers that wait for that.
    pub(super) away: Option<Box<Away>>,
}

/// An answer, or what else may only happen then.
pub(super) type Owed = Box<dyn FnOnce(&mut Hub, &mut dyn Sink)>;

/// See [`Session::away`].
#[derive(Default)]
pub(super) struct Away {
    /// How many stanzas are with which peers.
    pub(super) peers: Vec<(SessionId, u32)>,
    /// Answers in the order they were asked for: a number, the answer, and whether it may go.
    pub(super) owed: VecDeque<(u64, Owed, bool)>,
    /// The number of the next.
    pub(super) next: u64,
}

impl Session {
    /// One more stanza of this session's is with that peer, or one less.
    pub(super) fn at_peers(&mut self, peer: SessionId, change: i32) {
        let away = self.away.get_or_insert_default();
        match away.peers.iter_mut().find(|(id, _)| *id == peer) {
            Some((_, count)) => *count = count.saturating_add_signed(change),
            None if change > 0 => away.peers.push((peer, 1)),
            None => {}
        }
        away.peers.retain(|(_, count)| *count > 0);
        if away.peers.is_empty() && away.owed.is_empty() {
            self.away = None;
        }
    }

    /// Whether messages that it has not acknowledged are in the store.
    pub fn has_saved(&self) -> bool {
        self.saved > 0
    }

    /// Whether it gets messages to the bare address (RFC 6121 §8.5.2.1.1): its priority.
    pub fn priority(&self) -> Option<i8> {
        self.presence.as_ref().map(|p| p.priority)
    }
}
