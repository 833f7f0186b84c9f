//! CORE 2: the hub. Plain data, one owner; it never waits, looks at no clock and rolls no dice.
//!
//! [`Hub::handle`] hears an [`Input`] and says what follows from it straight into a [`Sink`].

pub mod account;
mod deliver;
pub mod extension;
pub mod limits;
mod loading;
mod lost;
mod offline;
pub mod peer;
mod presence;
mod queue;
mod relay;
mod remote;
mod roster;
mod sessions;
pub mod subscription;
pub mod talk;
pub mod throttle;

pub use roster::ROSTER;

use crate::jid::Jid;
use crate::stanza::{self, Stanza};
use crate::store::change::{Answer, Ask, Change};
use crate::xml::{Caps, Scan, Scope, Span, Writer};
use account::{Account, Session};
use extension::Extension;
use limits::Limits;
use std::collections::{HashMap, VecDeque};
use talk::{Input, Now, Parked, SessionId, Sink, Then};

/// Who sent a stanza: the address that we vouch for, and the way back.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Full address of a session, or the address of an account that we speak for.
    pub jid: String,
    /// The session; one that does not exist when we speak for an account.
    pub session: SessionId,
}

impl Origin {
    /// The address without the resource.
    pub fn bare(&self) -> &str {
        self.jid.split_once('/').map_or(&*self.jid, |(bare, _)| bare)
    }
}

/// An identifier of ours, `TIME-BOOT` in hexadecimal digits. It needs no memory of its own, for every
/// message gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id([u8; 23]);

impl Id {
    fn new(time: u64, boot: u32) -> Id {
        let digits = |mut number: u64, places: &mut [u8]| {
            for place in places.iter_mut().rev() {
                let digit = (number & 15) as u8;
                *place = digit + if digit < 10 { b'0' } else { b'a' - 10 };
                number >>= 4;
            }
        };
        let mut text = [b'-'; 23];
        let (front, back) = text.split_at_mut(14);
        digits(time, front);
        digits(boot.into(), back.get_mut(1..).unwrap_or_default());
        Id(text)
    }
}

impl std::ops::Deref for Id {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The names that the hub answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The domain of all accounts.
    pub domain: Box<str>,
    /// Other spellings of it: the bare hostname, IP literals.
    pub aliases: Vec<Box<str>>,
}

/// Traffic since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Stanzas from clients.
    pub stanzas_in: u64,
    /// Messages delivered to a session.
    pub delivered: u64,
    /// Messages put aside for later.
    pub stored: u64,
    /// Logins that got a resource.
    pub binds: u64,
}

enum Slot {
    Loaded(u32),
    Loading(Vec<(SessionId, Parked)>),
}

/// One process's hub.
pub struct Hub {
    /// Our names.
    pub names: Names,
    /// The bounds.
    pub limits: Limits,
    /// Everything with a domain of its own.
    pub peers: peer::Peers,
    /// The rooms, in order.
    pub extensions: &'static [Extension],
    /// Traffic.
    pub counters: Counters,
    /// When this input came.
    pub now: Now,
    /// When the hub started.
    pub started: Now,
    accounts: Vec<Option<Account>>,
    free_accounts: Vec<u32>,
    by_name: HashMap<Box<str>, Slot>,
    idle: VecDeque<u32>,
    sessions: Vec<(u32, Option<Box<Session>>)>,
    free_sessions: Vec<u32>,
    live_sessions: usize,
    last_id: u64,
    boot: u32,
    scan: Scan,
    sender: String,
    targets: Vec<SessionId>,
    cut: Vec<Span>,
    packet: Vec<u8>,
}

impl Hub {
    /// A hub with nobody on it. `boot` is a random number that tells this run's ids from others'.
    pub fn new(names: Names, limits: Limits, extensions: &'static [Extension], now: Now, boot: u32) -> Hub {
        Hub {
            names,
            limits,
            peers: peer::Peers::default(),
            extensions,
            counters: Counters::default(),
            now,
            started: now,
            accounts: Vec::new(),
            free_accounts: Vec::new(),
            by_name: HashMap::new(),
            idle: VecDeque::new(),
            sessions: Vec::new(),
            free_sessions: Vec::new(),
            live_sessions: 0,
            last_id: 0,
            boot,
            scan: Scan::new(),
            sender: String::new(),
            targets: Vec::new(),
            cut: Vec::new(),
            packet: Vec::new(),
        }
    }

    /// Hears one thing and says all that follows from it.
    pub fn handle(&mut self, now: Now, input: Input<'_>, sink: &mut dyn Sink) {
        self.now = now;
        match input {
            Input::Stanza { from, stanza } => self.sent(sink, from, stanza),
            Input::Bind { ticket, account, resource, lang } => {
                self.bind(sink, ticket, account, resource, lang)
            }
            Input::Lost { session, unread } => self.lost(sink, session, unread),
            Input::Back { session } => self.back(sink, session),
            Input::Drained { session } => match session.peer_place() {
                Some(_) => self.drained(sink, session),
                None => self.fetch_offline(sink, session),
            },
            Input::Unsent { to, priority, saved, stanza } => {
                if !(saved && offline::is_saved(stanza)) {
                    self.unsent(sink, to, priority, stanza);
                }
            }
            Input::Closed { session } => self.closed(sink, session),
            Input::Remote { peer, stanza } => self.remote(sink, peer, stanza),
            Input::Linked { peer } => self.linked(sink, peer),
            Input::Unlinked { peer, why } => self.unlinked(sink, peer, why),
            Input::Returned { peer, stanza } => self.returned(sink, peer, stanza),
            Input::Suspect { peer } => self.suspect(sink, peer),
            Input::Sighted { domain } => self.sighted(sink, domain),
        }
    }

    /// The stream features of all extensions, for after login (RFC 6120 §4.3.2).
    pub fn stream_features(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        for features in self.extensions.iter().filter_map(|e| e.stream_features) {
            features(self, &mut w);
        }
        drop(w);
        out
    }

    /// How many sessions there are.
    pub fn live_sessions(&self) -> usize {
        self.live_sessions
    }

    /// All sessions.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter_map(|(_, s)| s.as_deref())
    }

    /// A session that still lives.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        match self.sessions.get(id.index as usize) {
            Some((generation, session)) if *generation == id.generation => session.as_deref(),
            _ => None,
        }
    }

    /// A session that still lives.
    pub fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        match self.sessions.get_mut(id.index as usize) {
            Some((generation, session)) if *generation == id.generation => session.as_deref_mut(),
            _ => None,
        }
    }

    /// An account in memory by its place.
    pub fn account(&self, place: u32) -> Option<&Account> {
        self.accounts.get(place as usize).and_then(Option::as_ref)
    }

    /// An account in memory by its place.
    pub fn account_mut(&mut self, place: u32) -> Option<&mut Account> {
        self.accounts.get_mut(place as usize).and_then(Option::as_mut)
    }

    /// The place of an account that is in memory.
    pub fn find(&self, localpart: &str) -> Option<u32> {
        match self.by_name.get(localpart) {
            Some(Slot::Loaded(place)) => Some(*place),
            _ => None,
        }
    }

    /// Whether a domainpart is ours.
    pub fn is_local(&self, domain: &str) -> bool {
        *domain == *self.names.domain || self.names.aliases.iter().any(|a| **a == *domain)
    }

    /// An address under another of our names is one under the first: accounts, rosters and block
    /// lists know no other.
    pub fn canonical<'a>(&self, jid: Jid<'a>) -> Jid<'a> {
        if jid.domain() == &*self.names.domain || !self.is_local(jid.domain()) {
            return jid;
        }
        let mut text = String::with_capacity(jid.as_str().len() + self.names.domain.len());
        if let Some(local) = jid.local() {
            text.push_str(local);
            text.push('@');
        }
        text.push_str(&self.names.domain);
        if let Some(resource) = jid.resource() {
            text.push('/');
            text.push_str(resource);
        }
        Jid::parse(&text).map(Jid::into_owned).unwrap_or(jid)
    }

    /// Whether a session has so much under way at the store that it should be read no further.
    pub fn congested(&self, id: SessionId) -> bool {
        let most = self.limits.jobs_per_session.max(1);
        if let Some(peer) = self.peer_at(id) {
            return u64::from(peer.pending) >= most;
        }
        // Answers that wait for a peer stay in memory for as long as it likes.
        let owed = |s: &Session| s.away.as_ref().map_or(0, |away| away.owed.len() as u64);
        let under_way = |s: &Session| u64::from(s.pending).saturating_add(u64::from(s.parked));
        self.session(id).is_some_and(|s| under_way(s).saturating_add(owed(s)) >= most)
    }

    /// An identifier that no other stanza of this hub has (XEP-0359 §3), growing with time.
    pub fn next_id(&mut self) -> Id {
        let micros = self.now.unix_ms.saturating_mul(1000);
        self.last_id = micros.max(self.last_id.saturating_add(1));
        Id::new(self.last_id, self.boot)
    }

    // ---- the store, and what waits for it -------------------------------------------------

    /// Asks the store on behalf of a session (see [`Hub::congested`]).
    pub fn store_for(
        &mut self,
        sink: &mut dyn Sink,
        session: SessionId,
        changes: Vec<Change>,
        ask: Ask,
        then: Then,
    ) {
        let content = changes.iter().map(Change::weight).fold(ask.weight(), usize::saturating_add);
        let weight = weight(content);
        let Some(pending) = self.pending(session) else {
            return sink.store(changes, ask, then);
        };
        *pending = pending.saturating_add(weight);
        let counted: Then = Box::new(move |hub, sink, answer| {
            if let Some(pending) = hub.pending(session) {
                *pending = pending.saturating_sub(weight);
            }
            then(hub, sink, answer);
        });
        sink.store(changes, ask, counted);
    }

    /// The count of jobs under way for a session or a peer.
    fn pending(&mut self, id: SessionId) -> Option<&mut u32> {
        match id.peer_place() {
            Some(_) => self.peer_at_mut(id).map(|peer| &mut peer.pending),
            None => self.session_mut(id).map(|session| &mut session.pending),
        }
    }

    /// Writes `changes` and then sends `packets`; if the disk refuses, `refused` instead.
    fn persist(
        &mut self,
        sink: &mut dyn Sink,
        session: SessionId,
        changes: Vec<Change>,
        packets: Vec<(SessionId, Vec<u8>)>,
        refused: Option<(SessionId, Vec<u8>)>,
        place: u32,
    ) {
        let then: Then = Box::new(move |hub, sink, answer| {
            if let Answer::Failed(why) = answer {
                log::error!("store: {why}");
                // What is in memory is ahead of the disk: read it anew.
                hub.reload(sink, place);
                if let Some((to, packet)) = refused {
                    hub.send(sink, to, &packet);
                }
                return;
            }
            for (to, packet) in packets {
                hub.send(sink, to, &packet);
            }
        });
        self.store_for(sink, session, changes, Ask::Nothing, then);
    }

    /// Reads an account anew after a change of it that the disk has refused.
    pub fn reload(&mut self, sink: &mut dyn Sink, place: u32) {
        let Some(account) = self.account(place) else { return };
        let ask = Ask::Account { localpart: account.jid.local().unwrap_or("").into() };
        let then: Then = Box::new(move |hub, _, answer| {
            if let (Answer::Account(Some(loaded)), Some(account)) = (answer, hub.account_mut(place))
                && loaded.id == account.id
            {
                let fresh = Account::new(account.jid.clone(), *loaded);
                account.roster = fresh.roster;
                account.blocked = fresh.blocked;
                account.version = fresh.version;
                account.offline = fresh.offline;
            }
        });
        sink.store(Vec::new(), ask, then);
    }

    /// Sends a whole stanza to a session; one that is gone or full does not get it.
    pub fn send(&mut self, sink: &mut dyn Sink, to: SessionId, packet: &[u8]) -> bool {
        let out = match to.peer_place() {
            // An answer to a stanza of theirs: if there is no way, there is none.
            Some(_) => self.door(sink, to),
            None => sink.must(to),
        };
        match out {
            Some(out) => {
                out.extend_from_slice(packet);
                true
            }
            None => false,
        }
    }

    /// Sends an answer, but not before everything that the session sent earlier is on disk: an
    /// answer then tells a client that all before it is safe.
    pub fn send_after_pending(&mut self, sink: &mut dyn Sink, to: SessionId, packet: Vec<u8>) {
        self.after_pending(sink, to, move |hub, sink| {
            hub.send(sink, to, &packet);
        });
    }

    /// Does something once everything that the session sent earlier is on disk.
    pub fn after_pending(
        &mut self,
        sink: &mut dyn Sink,
        session: SessionId,
        then: impl FnOnce(&mut Hub, &mut dyn Sink) + 'static,
    ) {
        let under_way = match self.peer_at(session) {
            Some(peer) => (peer.pending, peer.pending),
            None => self.session(session).map_or((0, 0), |s| (s.pending, s.parked)),
        };
        if let Some(away) = self.session_mut(session).and_then(|s| s.away.as_deref_mut()) {
            let ticket = away.next;
            away.next = away.next.wrapping_add(1);
            away.owed.push_back((ticket, Box::new(then), false));
            let peers = away.peers.iter().map(|(peer, _)| *peer).collect();
            return self.settle(sink, session, peers, ticket);
        }
        if under_way == (0, 0) {
            return then(self, sink);
        }
        self.after_parked(sink, session, under_way.1 > 0, then);
    }

    /// Waits until these peers have taken what they were sent, or what they have not is on disk. Then the
    /// answer of that number may go, behind those that were asked for before it.
    fn settle(&mut self, sink: &mut dyn Sink, to: SessionId, mut peers: Vec<SessionId>, ticket: u64) {
        if let Some(peer) = peers.pop() {
            return sink.taken(peer, Box::new(move |hub, sink, _| hub.settle(sink, to, peers, ticket)));
        }
        let parked = self.session(to).is_some_and(|s| s.parked > 0);
        self.after_parked(sink, to, parked, move |hub, sink| {
            let Some(away) = hub.session_mut(to).and_then(|s| s.away.as_deref_mut()) else { return };
            if let Some(owed) = away.owed.iter_mut().find(|(number, ..)| *number == ticket) {
                owed.2 = true;
            }
            let mut due = Vec::new();
            while away.owed.front().is_some_and(|(.., may_go)| *may_go) {
                due.extend(away.owed.pop_front().map(|(_, then, _)| then));
            }
            if let Some(session) = hub.session_mut(to) {
                session.at_peers(SessionId::NONE, -1);
            }
            for then in due {
                then(hub, sink);
            }
        });
    }

    /// Does something when the store has done all that it was given until now, and what is `parked`.
    fn after_parked(
        &mut self,
        sink: &mut dyn Sink,
        session: SessionId,
        parked: bool,
        then: impl FnOnce(&mut Hub, &mut dyn Sink) + 'static,
    ) {
        self.after_jobs(sink, session, move |hub, sink| {
            // What was parked goes to the store once its account is read: behind that, then.
            if parked && hub.pending(session).is_some_and(|pending| *pending > 0) {
                hub.after_jobs(sink, session, then);
            } else {
                then(hub, sink);
            }
        });
    }

    /// Does something when the store has done all that it was given until now.
    fn after_jobs(
        &mut self,
        sink: &mut dyn Sink,
        session: SessionId,
        then: impl FnOnce(&mut Hub, &mut dyn Sink) + 'static,
    ) {
        let then: Then = Box::new(move |hub, sink, _| then(hub, sink));
        self.store_for(sink, session, Vec::new(), Ask::Nothing, then);
    }

    /// Judges and views bytes of our own again (parked, stored or made here).
    fn view<R>(&mut self, text: &str, with: impl FnOnce(&mut Hub, &Stanza<'_>) -> R) -> Option<R> {
        let mut scan = std::mem::take(&mut self.scan);
        let judged = scan.element(text.as_bytes(), &Scope::default(), &Caps::judged_before());
        let result = match judged {
            Ok(text) => Stanza::new(text, &scan).map(|stanza| with(self, &stanza)),
            Err(_) => None,
        };
        self.scan = scan;
        result
    }
}

/// What a job of so many bytes counts for, so that a session can hold as many small ones as is good
/// for a slow disk, and no more memory with large ones.
fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes / 4096).unwrap_or(u32::MAX).saturating_add(1)
}

fn weight_of(work: &Parked) -> u32 {
    match work {
        Parked::Stanza { text, .. } => weight(text.len()),
        Parked::Then(_) => 1,
    }
}

/// An error for a stanza from a session.
fn bounce(
    hub: &mut Hub,
    sink: &mut dyn Sink,
    origin: &Origin,
    stanza: &Stanza<'_>,
    error: impl Into<stanza::Error>,
) {
    let mut out = Vec::new();
    if error.into().reply(&mut out, stanza, stanza.to().as_deref(), Some(&origin.jid)) {
        hub.send_after_pending(sink, origin.session, out);
    }
}

/// The bare part of an address that is known to be normal.
fn bare_of(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}

/// Parses an address of ours or the client's again; our own are normal already.
fn jid(text: &str) -> Option<Jid<'_>> {
    Jid::parse(text).ok()
}
