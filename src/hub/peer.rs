//! Peers: everything with a domain of its own that stanzas go to and come from. A peer is a pair of
//! domains, ours and theirs (RFC 6120 §1.3, §10.1: order is kept between two domains), with one outbox:
//! a remote server, or a component that is attached to us (XEP-0114).
//!
//! ```text
//!            dial            Linked
//! Idle ──────────► Dialling ────────► Up
//!   ▲                 │ ▲              │
//!   └─────────────────┼─┼──────────────┤ Unlinked: closed in good order
//!           Unlinked: ▼ │ dial later   │
//!                   Waiting ◄──────────┘ Unlinked: lost
//! ```
//!
//! While it is `Dialling` for the first time, stanzas wait in the outbox. `Waiting` means that there is no
//! way now: messages go to the store, in order, and come from there when the link is up ([`super::queue`]);
//! what else there is comes back at once.

use super::Hub;
use super::talk::{Lost, SessionId, Sink, Unreachable};
use crate::store::change::Forwards;
use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// How the way to a peer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Nothing has asked for one.
    Idle,
    /// Being made; what is said meanwhile waits.
    Dialling,
    /// There is one.
    Up,
    /// There is none to be had now.
    Waiting {
        /// Whether there is such a server at all.
        why: Lost,
        /// On the clock that only goes forward: not to be tried before.
        until_ms: u64,
    },
}

/// One pair of domains.
pub struct Peer {
    /// Its number.
    pub id: SessionId,
    /// Our side.
    pub local: Box<str>,
    /// Their side.
    pub remote: Box<str>,
    /// Whether it is a component, which comes by itself and is never dialled.
    pub component: bool,
    /// How the way to it stands. (A cell, because presence is shown by walking through accounts.)
    pub link: Cell<Link>,
    /// Messages that wait in the store: count and bytes.
    pub queued: (u32, u64),
    /// Seconds since 1970 when the oldest of these came.
    pub oldest: u64,
    /// They are being sent.
    pub(super) fetching: bool,
    /// The number of the first of them, how often the link was lost over it, and how many are still sent one by
    /// one because of that (threats A9).
    pub(super) head: (u64, u8, u16),
    /// How often the link was gone: what was read before that is not for the next one.
    pub(super) round: u32,
    /// Those that have waited for too long are being given back.
    pub(super) expiring: bool,
    /// Its outbox had no room for them.
    pub(super) full: bool,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// Presence was not sent, or may be out of date: with the next link it is exchanged anew.
    pub stale: Cell<bool>,
    /// Resources of theirs that some account of ours believes to be available.
    pub(super) available: BTreeSet<Box<str>>,
    /// What they weigh.
    pub(super) available_weight: u64,
    /// Jobs at the store on its behalf.
    pub pending: u32,
    /// Stanza ids that came from it lately, hashed: what comes again is dropped.
    recent: VecDeque<u64>,
    recent_set: std::collections::HashSet<u64>,
    hash: RandomState,
    /// Messages from it that wait to be told from repetitions.
    pub(super) asking: u32,
    /// The largest stanza that it takes, if it has said so (XEP-0478).
    pub max_bytes: Option<u64>,
    /// Why there is no way, for the operator.
    pub trouble: Option<Box<str>>,
}

impl Peer {
    fn new(id: SessionId, local: &str, remote: &str) -> Peer {
        Peer {
            id,
            local: local.into(),
            remote: remote.into(),
            component: false,
            link: Cell::new(Link::Idle),
            queued: (0, 0),
            oldest: 0,
            fetching: false,
            head: (0, 0, 0),
            round: 0,
            expiring: false,
            full: false,
            attempts: 0,
            stale: Cell::new(false),
            available: BTreeSet::new(),
            available_weight: 0,
            pending: 0,
            recent: VecDeque::new(),
            recent_set: Default::default(),
            hash: RandomState::new(),
            asking: 0,
            max_bytes: None,
            trouble: None,
        }
    }

    /// Whether nothing would be lost with it.
    fn is_spare(&self) -> bool {
        let idle = match self.link.get() {
            Link::Idle => true,
            Link::Waiting { why, .. } => why == Lost::NotFound,
            _ => false,
        };
        idle && !self.component && self.queued.0 == 0 && self.pending == 0 && self.available.is_empty()
    }

    /// Whether an id of theirs (XEP-0359) is new. It is not the next time.
    pub(super) fn is_new(&mut self, id: &str) -> bool {
        let hash = self.hash.hash_one(id);
        if !self.recent_set.insert(hash) {
            return false;
        }
        self.recent.push_back(hash);
        if self.recent.len() > super::limits::fixed::RECENT
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_set.remove(&oldest);
        }
        true
    }

    /// Whether so much has come since the start that nothing of before it can come again: a peer sends in order.
    pub(super) fn is_known_well(&self) -> bool {
        self.recent.len() >= super::limits::fixed::RECENT
    }
}

/// All peers.
#[derive(Default)]
pub struct Peers {
    slots: Vec<(u32, Option<Box<Peer>>)>,
    by_pair: std::collections::BTreeMap<(Box<str>, Box<str>), u32>,
    /// Domains of components, attached or not.
    components: BTreeSet<Box<str>>,
    /// Whether there is federation at all.
    pub federation: bool,
    /// If there are any, only these are spoken to.
    pub allowed: BTreeSet<Box<str>>,
    /// These are not spoken to.
    pub denied: BTreeSet<Box<str>>,
}

impl Peers {
    /// Whether a remote domain may be spoken to, in either direction.
    pub fn permits(&self, domain: &str) -> bool {
        self.federation
            && !self.denied.contains(domain)
            && (self.allowed.is_empty() || self.allowed.contains(domain))
    }
}

impl Hub {
    /// A peer.
    pub fn peer_at(&self, id: SessionId) -> Option<&Peer> {
        let place = id.peer_place()?;
        match self.peers.slots.get(place as usize) {
            Some((generation, peer)) if *generation == id.generation => peer.as_deref(),
            _ => None,
        }
    }

    /// A peer.
    pub fn peer_at_mut(&mut self, id: SessionId) -> Option<&mut Peer> {
        let place = id.peer_place()?;
        match self.peers.slots.get_mut(place as usize) {
            Some((generation, peer)) if *generation == id.generation => peer.as_deref_mut(),
            _ => None,
        }
    }

    /// All peers.
    pub fn all_peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.slots.iter().filter_map(|(_, peer)| peer.as_deref())
    }

    /// The peer of a pair of domains, if it is known.
    pub fn find_peer(&self, local: &str, remote: &str) -> Option<SessionId> {
        let place = *self.peers.by_pair.get(&(Box::from(local), Box::from(remote)))?;
        self.peers.slots.get(place as usize).map(|(generation, _)| SessionId::peer(place, *generation))
    }

    /// The peer of a pair of domains. `None`: there are as many as we keep, and all are in use.
    pub fn peer(&mut self, local: &str, remote: &str) -> Option<SessionId> {
        if let Some(known) = self.find_peer(local, remote) {
            return Some(known);
        }
        if self.peers.by_pair.len() as u64 >= self.limits.peers {
            let spare = self.all_peers().find(|peer| peer.is_spare()).map(|peer| peer.id)?;
            self.forget_peer(spare);
        }
        let free = self.peers.slots.iter().position(|(_, peer)| peer.is_none());
        let place = match free {
            Some(place) => place,
            None => {
                self.peers.slots.push((0, None));
                self.peers.slots.len().saturating_sub(1)
            }
        };
        let slot = self.peers.slots.get_mut(place)?;
        let place = u32::try_from(place).ok()?;
        let id = SessionId::peer(place, slot.0);
        slot.1 = Some(Box::new(Peer::new(id, local, remote)));
        self.peers.by_pair.insert((local.into(), remote.into()), place);
        Some(id)
    }

    fn forget_peer(&mut self, id: SessionId) {
        let Some(slot) = id.peer_place().and_then(|place| self.peers.slots.get_mut(place as usize)) else {
            return;
        };
        if let Some(peer) = slot.1.take() {
            slot.0 = slot.0.wrapping_add(1);
            self.peers.by_pair.remove(&(peer.local, peer.remote));
        }
    }

    /// At the start: the pairs for which messages wait in the store.
    pub fn peers_at_start(&mut self, sink: &mut dyn Sink, waiting: Vec<Forwards>) {
        for Forwards { local, remote, count, bytes, oldest } in waiting {
            let Some(id) = self.peer(&local, &remote) else { continue };
            if let Some(peer) = self.peer_at_mut(id) {
                (peer.queued, peer.oldest) = ((count, bytes), oldest);
            }
            // Started without federation for once, they wait on.
            if self.peers.federation {
                self.redial(sink, id, 0);
            }
        }
    }

    /// A domain that belongs to a component (XEP-0114 §2), attached or not.
    pub fn set_component(&mut self, domain: &str, is: bool) {
        if is {
            self.peers.components.insert(domain.into());
        } else {
            self.peers.components.remove(domain);
        }
        let main = self.names.domain.clone();
        if let Some(id) = self.peer(&main, domain)
            && let Some(peer) = self.peer_at_mut(id)
        {
            peer.component = is;
        }
    }

    /// Whether a domain belongs to a component of ours.
    pub fn is_component(&self, domain: &str) -> bool {
        self.peers.components.contains(domain)
    }

    /// The domains of our components.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.peers.components.iter().map(|c| &**c)
    }

    /// The outbox of a peer, for a stanza that cannot be kept: opened if there is a link or one is
    /// being made for the first time, and asked for if nobody has yet.
    pub(super) fn door<'s>(&self, sink: &'s mut dyn Sink, id: SessionId) -> Option<&'s mut Vec<u8>> {
        let peer = self.peer_at(id)?;
        match peer.link.get() {
            Link::Up | Link::Dialling => {}
            _ if peer.component => return None,
            Link::Waiting { until_ms, .. } if self.now.mono_ms < until_ms => return None,
            Link::Idle | Link::Waiting { .. } => {
                peer.link.set(Link::Dialling);
                sink.dial(id, 0);
            }
        }
        sink.outbox(id)
    }

    /// Has a link made, if there is none.
    fn redial(&mut self, sink: &mut dyn Sink, id: SessionId, after_ms: u64) {
        let now = self.now.mono_ms;
        let Some(peer) = self.peer_at_mut(id) else { return };
        if peer.component || matches!(peer.link.get(), Link::Up | Link::Dialling) {
            return;
        }
        peer.link.set(match after_ms {
            0 => Link::Dialling,
            _ => Link::Waiting { why: Lost::Timeout, until_ms: now.saturating_add(after_ms) },
        });
        sink.dial(id, after_ms);
    }

    /// Something waits in the store for a peer: if nobody is on the way to it, somebody goes.
    pub(super) fn want(&mut self, sink: &mut dyn Sink, id: SessionId) {
        let Some(peer) = self.peer_at(id) else { return };
        match peer.link.get() {
            Link::Idle => self.redial(sink, id, 0),
            Link::Waiting { until_ms, .. } => sink.dial(id, until_ms.saturating_sub(self.now.mono_ms)),
            Link::Dialling | Link::Up => {}
        }
    }

    /// The peer's outbox is written to a stream.
    pub(super) fn linked(&mut self, sink: &mut dyn Sink, id: SessionId) {
        let Some(peer) = self.peer_at_mut(id) else { return };
        peer.link.set(Link::Up);
        peer.attempts = 0;
        peer.trouble = None;
        if peer.stale.replace(false) {
            self.exchange_presence(sink, id);
        }
        self.fetch_forward(sink, id);
    }

    /// There is no link any more, or none to be had.
    pub(super) fn unlinked(&mut self, sink: &mut dyn Sink, id: SessionId, why: Unreachable) {
        let now = self.now.mono_ms;
        let longest = self.limits.peer_retry_seconds.saturating_mul(1000);
        let Some(peer) = self.peer_at_mut(id) else { return };
        if peer.fetching && peer.link.get() == Link::Up {
            // Only one that was alone on its way can be the reason.
            peer.head.1 = peer.head.1.saturating_add(u8::from(peer.head.2 > 0));
            peer.head.2 = super::queue::BATCH;
        }
        (peer.fetching, peer.full) = (false, false);
        peer.round = peer.round.wrapping_add(1);
        if why.kind == Lost::Closed || peer.component {
            peer.link.set(Link::Idle);
            if peer.component {
                self.presence_lost(sink, id);
            } else {
                self.make_up(sink, id);
            }
            return;
        }
        let attempts = peer.attempts;
        peer.attempts = attempts.saturating_add(1);
        peer.trouble = Some(why.text);
        // The first failure of a link that was there is tried again at once: it may have been a hiccup.
        let was_up = peer.link.get() == Link::Up;
        let after = match attempts {
            _ if was_up => 0,
            0 => 1000,
            n => 1000u64.checked_shl(n.min(20)).unwrap_or(u64::MAX).min(longest),
        };
        peer.stale.set(true);
        if was_up {
            peer.link.set(Link::Idle);
            return self.redial(sink, id, 0);
        }
        peer.link.set(Link::Waiting { why: why.kind, until_ms: now.saturating_add(after) });
        self.presence_lost(sink, id);
        self.expire(sink, id, why.kind == Lost::NotFound);
        if why.kind == Lost::Timeout && self.is_wanted(id) {
            sink.dial(id, after);
        }
    }

    /// Has a link made at once if somebody waits for one.
    pub(super) fn make_up(&mut self, sink: &mut dyn Sink, id: SessionId) {
        if self.is_wanted(id) {
            self.redial(sink, id, 0);
        }
    }

    /// A stream of theirs has broken off. If nothing of ours tells that they are there, we look.
    pub(super) fn suspect(&mut self, sink: &mut dyn Sink, id: SessionId) {
        if self.peer_at(id).is_some_and(|peer| !peer.available.is_empty()) {
            self.redial(sink, id, 0);
        }
    }

    /// A domain may be reachable now.
    pub(super) fn sighted(&mut self, sink: &mut dyn Sink, domain: &str) {
        let waiting = |peer: &&Peer| {
            *peer.remote == *domain && matches!(peer.link.get(), Link::Waiting { .. } | Link::Idle)
        };
        let ids: Vec<SessionId> = self.all_peers().filter(waiting).map(|peer| peer.id).collect();
        for id in ids {
            if let Some(peer) = self.peer_at_mut(id) {
                peer.attempts = 0;
                peer.link.set(Link::Idle);
            }
            self.make_up(sink, id);
        }
    }

    /// Whether somebody waits for a link: messages, or people who want to see each other.
    fn is_wanted(&self, id: SessionId) -> bool {
        self.peer_at(id).is_some_and(|peer| {
            peer.queued.0 > 0 || (peer.stale.get() && self.has_contacts_at(&peer.local, &peer.remote))
        })
    }
}
