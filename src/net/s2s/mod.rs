//! Streams between servers (RFC 6120 §1.3): those that come ([`serve`]), those that we make ([`dial`]), and what
//! they share. What is said on them is decided in [`crate::stream::peer`]; here are sockets, TLS, names and time.
//!
//! One stream of ours for each pair of domains, made when the hub asks for it ([`crate::hub::peer`]); where both
//! sides know XEP-0288, what comes back comes on the same one, and theirs serves for ours.

mod accept;
mod dial;
mod drive;
mod half;
mod hear;

pub use accept::serve;
pub use dial::{dial_for_ever, pair};

use super::dns::Resolver;
use super::lines::Lines;
use super::outbox::{Conn, End};
use super::peers::{Found, Link, Live};
use super::ring::Shared;
use super::tls::{PeerTls, Presented};
use crate::hub::limits::fixed;
use crate::hub::talk::SessionId;
use crate::jid::Domain;
use crate::stream::peer::{Initiating, Keys, Settings, Wanted};
use crate::stream::trust::{Distrust, Ladder, Rung, Trusted};
use crate::stream::{self, Condition};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What all streams between servers share.
pub struct S2s {
    /// Our certificate, and whom we believe.
    pub tls: PeerTls,
    /// Where domains are looked up.
    pub resolver: Resolver,
    /// `--s2s-trust`
    pub lowest: Cell<Rung>,
    /// Our own listeners for servers: where not to dial (threats D10).
    pub own: RefCell<Vec<SocketAddr>>,
    /// What our dialback keys are made with.
    keys: Keys,
    /// The hub is stopping: nobody is dialled any more.
    stopping: Cell<bool>,
    /// Peers whose links have not lived long, how often in a row, and when the last one ended.
    short: RefCell<HashMap<SessionId, (u32, Instant)>>,
    /// Attempts to make links, by peer.
    dials: RefCell<HashMap<SessionId, dial::Dial>>,
    /// No more than [`fixed::PEER_DIALS`] of them at once.
    dialling: smol::lock::Semaphore,
    /// Call-backs under way, by who wants them.
    calls: RefCell<HashMap<IpAddr, usize>>,
    /// What is said in the log of those who have proven nothing.
    lines: Lines,
    /// Streams of ours that wait for the result of their dialback, by connection.
    waiting: RefCell<HashMap<*const Conn, Waiting>>,
    /// Streams on which a domain is proven, and how, the oldest first.
    streams: RefCell<HashMap<Domain, Vec<Known>>>,
}

/// Lines a minute about those who have proven nothing.
const STRANGERS: u32 = 60;

/// A link that has lived so long is a good one.
const LIVED: Duration = Duration::from_secs(20);
/// The longest pause before one that keeps breaking is made anew.
const PAUSE: Duration = Duration::from_secs(8);
/// After that, nobody remembers.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A stream on which a domain is proven, and how.
type Known = (Rc<Conn>, Trusted);

/// Local and remote domain, and the id of the stream.
type Waiting = (Domain, Domain, Box<str>);

impl S2s {
    /// For a hub that has just been started.
    pub fn new(tls: PeerTls, resolver: Resolver, lowest: Rung, own: Vec<SocketAddr>) -> Rc<S2s> {
        Rc::new(S2s {
            tls,
            resolver,
            lowest: Cell::new(lowest),
            own: RefCell::new(own),
            keys: Keys::new(&super::random::<32>()),
            stopping: Cell::new(false),
            short: RefCell::default(),
            dials: RefCell::default(),
            dialling: smol::lock::Semaphore::new(fixed::PEER_DIALS),
            calls: RefCell::default(),
            lines: Lines::new(STRANGERS),
            waiting: RefCell::default(),
            streams: RefCell::default(),
        })
    }

    /// What the stream cores are set up with, by the limits in force.
    fn settings(&self, shared: &Rc<Shared>) -> Option<Rc<Settings>> {
        let limits = shared.limits();
        let domain = shared.with_hub(|hub, _| Domain::parse(&hub.names.domain).ok())?;
        let ours = Rc::downgrade(shared);
        Some(Rc::new(Settings {
            domain,
            // Aliases are for clients: to other servers we have one name, and one for each component.
            ours: Rc::new(move |domain| {
                ours.upgrade().is_some_and(|shared| {
                    shared.with_hub(|hub, _| *hub.names.domain == *domain || hub.is_component(domain))
                })
            }),
            dialback: self.lowest.get() == Rung::Dialback,
            keys: self.keys.clone(),
            manage: true,
            max_bytes_early: limits.early_bytes as usize,
            max_bytes: limits.stanza_bytes as usize,
            idle_seconds: 0,
            pairs: fixed::PAIRS_PER_STREAM,
            calls: fixed::CALLS_PER_STREAM,
            tries: u8::try_from(limits.login_tries).unwrap_or(u8::MAX),
        }))
    }

    /// How far a domain is proven by what was shown, and by what is on record. `hint`: it is only because it was
    /// seen on the local network that we are there.
    fn judge(
        &self,
        shared: &Shared,
        presented: Option<&Presented>,
        domain: &Domain,
        hint: bool,
    ) -> Result<Trusted, Distrust> {
        let pin = shared.federation.peers.borrow().known(domain.as_str()).and_then(|record| record.pin);
        let ladder = Ladder { lowest: self.lowest.get(), pin };
        self.tls.judge(presented, domain.as_str(), &if hint { ladder.of_a_hint() } else { ladder })
    }

    /// Whether a stream of ours waits for its dialback (threats D2).
    fn waits(&self, local: &Domain, remote: &Domain, id: &str) -> bool {
        self.waiting.borrow().values().any(|(l, r, i)| l == local && r == remote && **i == *id)
    }

    /// A link to a peer has broken after that time. One that breaks again and again at once, over what it was
    /// sent perhaps (threats A9), is not made anew as fast as that.
    fn broke(&self, peer: SessionId, lived: Duration) {
        let (mut short, now) = (self.short.borrow_mut(), Instant::now());
        short.retain(|_, (_, at)| now.saturating_duration_since(*at) < FORGOTTEN);
        if lived >= LIVED {
            short.remove(&peer);
            return;
        }
        let (count, at) = short.entry(peer).or_insert((0, now));
        (*count, *at) = (count.saturating_add(1), now);
    }

    /// When the next attempt for a peer may be made: the first breaks may have been hiccups.
    fn not_before(&self, peer: SessionId) -> Option<Instant> {
        let (count, at) = self.short.borrow().get(&peer).copied()?;
        let seconds = 1u64.checked_shl(count.checked_sub(3)?).unwrap_or(u64::MAX).min(PAUSE.as_secs());
        at.checked_add(Duration::from_secs(seconds))
    }

    /// Notes whether a stream of ours waits for its dialback now.
    fn note_waiting(&self, conn: &Rc<Conn>, half: &Initiating) {
        let mut waiting = self.waiting.borrow_mut();
        match half.waits_for_dialback() {
            Some(id) => {
                let Wanted { local, remote, .. } = half.wanted();
                let value = (local.clone(), remote.clone(), id.into());
                waiting.insert(Rc::as_ptr(conn), value);
            }
            None => drop(waiting.remove(&Rc::as_ptr(conn))),
        }
    }

    /// A domain is proven on a connection. Of too many the oldest gives way: it may be dead, and its owner does
    /// not know.
    fn arrived(&self, domain: &Domain, conn: &Rc<Conn>, how: Trusted) {
        let mut streams = self.streams.borrow_mut();
        let all = streams.entry(domain.clone()).or_default();
        if all.iter().any(|(known, _)| Rc::ptr_eq(known, conn)) {
            return;
        }
        all.push((conn.clone(), how));
        if all.len() > fixed::STREAMS_PER_DOMAIN {
            let error = stream::Error::new(Condition::Conflict);
            all.remove(0).0.kill(End::Error(error.text("there are newer streams for that domain")));
        }
    }

    /// A connection is gone.
    fn left(&self, conn: &Rc<Conn>) {
        self.waiting.borrow_mut().remove(&Rc::as_ptr(conn));
        self.streams.borrow_mut().retain(|_, all| {
            all.retain(|(known, _)| !Rc::ptr_eq(known, conn));
            !all.is_empty()
        });
    }

    /// Writes down what is wrong with a domain, if there is no stream that shows otherwise.
    fn trouble(&self, shared: &Shared, domain: &Domain, error: String) {
        if !self.streams.borrow().contains_key(domain) {
            note(shared, domain, Link::Down, Some(Found::Came), None, Some(error));
        }
    }

    /// How many streams there are.
    pub fn count(&self) -> usize {
        self.streams.borrow().values().map(Vec::len).sum()
    }
}

/// Whether a domain may be spoken to, in either direction. One that our clients know us by is no other's, whatever its
/// certificate or DNS says (threats A17, D7).
fn permits(shared: &Rc<Shared>, domain: &str) -> bool {
    let denied = shared.federation.peers.borrow().known(domain).is_some_and(|record| record.denied);
    !denied && shared.with_hub(|hub, _| !hub.is_local(domain) && hub.peers.permits(domain))
}

/// What is on record about a domain is another thing now: streams that rest on what was before are closed, to
/// be made anew.
pub fn changed(shared: &Rc<Shared>, domain: &str) {
    let Some(s2s) = shared.federation.s2s.get() else { return };
    let Ok(domain) = Domain::parse(domain) else { return };
    let streams = s2s.streams.borrow().get(&domain).cloned().unwrap_or_default();
    for (conn, _) in streams {
        let error = stream::Error::new(Condition::Reset);
        conn.kill(End::Error(error.text("what is on record about your domain has changed")));
    }
}

/// The options are others now: streams with domains that are no longer welcome, or that are not proven as well as it is
/// asked for from here on, are closed.
pub fn review(shared: &Rc<Shared>) {
    let Some(s2s) = shared.federation.s2s.get() else { return };
    let all = s2s.streams.borrow().clone();
    for (domain, streams) in all {
        let welcome = permits(shared, domain.as_str());
        for (conn, _) in streams.iter().filter(|(_, how)| !welcome || how.rung() < s2s.lowest.get()) {
            let error = stream::Error::new(Condition::PolicyViolation);
            conn.kill(End::Error(
                error.text("the operator of this hub has changed what it asks of your domain"),
            ));
        }
    }
}

/// Writes down how a domain is doing, for `peer list`. How it was found stays as it is unless something better is
/// known: who was looked up and comes later was looked up.
fn note(
    shared: &Shared,
    domain: &Domain,
    state: Link,
    found: Option<Found>,
    trusted: Option<Trusted>,
    error: Option<String>,
) {
    let mut peers = shared.federation.peers.borrow_mut();
    let live = peers.live.get(domain.as_str());
    let known = live.and_then(|live| live.found);
    // What was wrong last time stays until it is known to be over.
    let before = live.filter(|_| state == Link::Dialling).and_then(|live| live.error.clone());
    let error = error.or(before);
    let found = match (found, known) {
        (Some(Found::Came) | None, Some(known)) => Some(known),
        (found, _) => found,
    };
    let since = shared.now().unix();
    peers.note(domain.as_str(), Live { state, found, trusted, error, since });
}

/// The level for what is wrong with a domain: a line when it changes, and not one for each attempt of either side.
fn news(shared: &Shared, domain: &Domain, why: &str) -> log::Level {
    let peers = shared.federation.peers.borrow();
    let error = peers.live.get(domain.as_str()).and_then(|live| live.error.as_deref());
    if error.is_some_and(|error| error.ends_with(why)) { log::Level::Debug } else { log::Level::Info }
}

/// A time that is up at different moments for many who wait for the same thing (threats D9).
fn jittered(after: Duration) -> Instant {
    let [dice] = super::random::<1>();
    let more = after.saturating_mul(u32::from(dice)) / 1024; // up to a quarter
    let now = Instant::now();
    now.checked_add(after.saturating_add(more)).unwrap_or(now)
}
