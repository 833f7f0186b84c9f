//! The ring around the two cores: one thread that owns the hub, the outboxes and what waits for
//! the store. All that is shared between tasks stands in [`Shared`]; no task holds a borrow of it
//! across an await.

use super::mdns::Sightings;
use super::outbox::{Conn, End, Flushed, Outbox, Pool, each_stanza};
use super::pairing::Pairing;
use super::peers::Peers;
use super::reactor::{Reactor, Wait};
use super::resume::Resumable;
use super::s2s::S2s;
use super::tls::ServerTls;
use super::work::Workers;
use crate::hub::limits::{Limits, fixed};
use crate::hub::talk::{Derived, Input, Now, Password, SessionId, Sink, Taken, Then, Unreachable};
use crate::hub::throttle::Throttle;
use crate::hub::{Hub, Names};
use crate::jid::{BareJid, FullJid};
use crate::stanza::{self, Stanza};
use crate::store::Store;
use crate::store::change::{Answer, Ask, Change, Job, Keys};
use crate::stream::management::TooHigh;
use crate::stream::{self, Condition, Secret, sasl};
use crate::xml::{Caps, Scan, Scope, ns};
use smol::LocalExecutor;
use smol::channel::{self, Receiver, Sender};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that shows less was never set.
const FLOOR_MS: u64 = super::tls::Clock::BUILD * 1000;

/// Buffers of the thread, for whoever is running.
pub struct Scratch {
    /// What a socket gives.
    pub wire: Box<[u8]>,
    /// What TLS makes of it.
    pub plain: Box<[u8]>,
    /// The judge's memory.
    pub scan: Scan,
}

type Resume = Box<dyn FnOnce(&mut Hub, &mut dyn Sink, Done)>;

/// What a worker or the store has finished.
pub enum Done {
    /// The store's answer.
    Answer(Answer),
    /// New keys for a password.
    Keys(Box<Keys>),
}

/// What waits, and for whom.
pub struct Ring {
    boxes: Vec<Option<(u32, Outbox)>>,
    /// Those of peers, with or without a connection.
    peers: Vec<Option<(u32, Outbox)>>,
    waiting: HashMap<u64, Resume>,
    tickets: HashMap<u64, (Rc<Conn>, Sender<Bound>)>,
    next: u64,
}

/// The outcome of a bind.
pub type Bound = Result<(SessionId, FullJid), stanza::Error>;

/// Both ends of a channel.
type Channel<T> = (Sender<T>, Receiver<T>);

/// All that the tasks of the thread share.
pub struct Shared {
    /// Its tasks hold this, so it must not hold them: when the executor goes, they go, then this.
    executor: Weak<LocalExecutor<'static>>,
    /// What they wait for.
    pub reactor: Rc<Reactor>,
    /// The hub. Borrowed only inside [`Shared::with_hub`].
    hub: RefCell<Hub>,
    ring: RefCell<Ring>,
    pool: RefCell<Pool>,
    dirty: RefCell<Vec<SessionId>>,
    flusher: RefCell<Option<Waker>>,
    behind: RefCell<Vec<Rc<Conn>>>,
    /// Buffers of the thread.
    pub scratch: RefCell<Scratch>,
    /// Failed logins and registrations.
    pub throttle: RefCell<Throttle>,
    /// The store.
    pub store: Store,
    /// What is settled about other domains, components, and how the streams to them are doing.
    pub peers: RefCell<Peers>,
    /// Who was seen on the local network.
    pub sightings: Rc<RefCell<Sightings>>,
    /// The pairing that is open, if one is.
    pub pairing: Pairing,
    /// Threads for key derivation.
    pub workers: Workers,
    /// TLS for incoming connections.
    pub tls: ServerTls,
    /// Whether clients are asked for a certificate: only when some account has one.
    pub ask_clients: Arc<AtomicBool>,
    /// What the receiving half of a stream needs to know; replaced at a reload.
    pub settings: RefCell<Rc<stream::Settings>>,
    /// Connections that have no session yet.
    pub early: RefCell<Vec<Rc<Conn>>>,
    /// Connections, all and by address.
    pub connections: RefCell<Connections>,
    /// The usual stream header's declarations.
    pub scope: Rc<Scope>,
    /// The caps on one stanza.
    pub caps: Cell<Caps>,
    /// Sessions that may be resumed.
    pub(super) resumable: RefCell<Resumable>,
    /// Bytes read from clients.
    pub read: Cell<u64>,
    limits: RefCell<Rc<Limits>>,
    done: Sender<(u64, Done)>,
    finished: Receiver<(u64, Done)>,
    started: Instant,
    /// The hub's own state may be broken: a panic went through it.
    broken: Cell<bool>,
    /// Streams between servers, if there is federation.
    pub s2s: OnceCell<Rc<S2s>>,
    /// Told to stop; what is said to it is the reason.
    pub stop: Channel<Stop>,
    /// Links that the hub wants, and after how many milliseconds (see [`Sink::dial`]).
    pub dials: Channel<(SessionId, u64)>,
}

/// Why the hub stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Somebody asked for it.
    Asked,
    /// Its state can't be trusted any more; a supervisor should start it again.
    Broken,
}

/// See [`Shared::spawn_vital`].
struct Vital(Rc<Shared>);

impl Drop for Vital {
    fn drop(&mut self) {
        let _ = self.0.stop.0.try_send(Stop::Broken);
    }
}

/// Who is connected, as far as the bounds go.
#[derive(Default)]
pub struct Connections {
    /// All.
    pub total: u64,
    /// Those that have no session yet.
    pub early: u64,
    /// By address.
    pub by_address: HashMap<IpAddr, u64>,
}

impl Shared {
    /// Everything in place, nobody connected.
    #[allow(clippy::too_many_arguments)] // the parts of the ring
    pub fn new(
        hub: Hub,
        store: Store,
        peers: Peers,
        sightings: Sightings,
        tls: ServerTls,
        settings: stream::Settings,
        ask_clients: Arc<AtomicBool>,
        executor: &Rc<LocalExecutor<'static>>,
        reactor: Rc<Reactor>,
        started: Instant,
    ) -> Rc<Shared> {
        let (done, finished) = channel::unbounded();
        let limits = hub.limits.clone();
        Rc::new(Shared {
            executor: Rc::downgrade(executor),
            reactor,
            hub: RefCell::new(hub),
            ring: RefCell::new(Ring {
                boxes: Vec::new(),
                peers: Vec::new(),
                waiting: HashMap::new(),
                tickets: HashMap::new(),
                next: 0,
            }),
            pool: RefCell::default(),
            dirty: RefCell::default(),
            flusher: RefCell::default(),
            behind: RefCell::default(),
            scratch: RefCell::new(Scratch {
                wire: vec![0; fixed::READ].into(),
                plain: vec![0; fixed::READ].into(),
                scan: Scan::new(),
            }),
            throttle: RefCell::default(),
            store,
            peers: RefCell::new(peers),
            sightings: Rc::new(RefCell::new(sightings)),
            pairing: Pairing::default(),
            workers: Workers::new(),
            tls,
            ask_clients,
            settings: RefCell::new(Rc::new(settings)),
            early: RefCell::default(),
            connections: RefCell::default(),
            scope: Rc::new(usual_scope()),
            caps: Cell::new(caps(&limits)),
            resumable: RefCell::default(),
            read: Cell::default(),
            limits: RefCell::new(Rc::new(limits)),
            done,
            finished,
            started,
            broken: Cell::new(false),
            s2s: OnceCell::new(),
            stop: channel::unbounded(),
            dials: channel::unbounded(),
        })
    }

    /// The time, for the cores.
    pub fn now(&self) -> Now {
        now(self.started)
    }

    /// The limits in force.
    pub fn limits(&self) -> Rc<Limits> {
        self.limits.borrow().clone()
    }

    /// Other limits, names or settings from now on.
    pub fn reload(&self, limits: Limits, names: Names, settings: stream::Settings) {
        self.caps.set(caps(&limits));
        *self.limits.borrow_mut() = Rc::new(limits.clone());
        *self.settings.borrow_mut() = Rc::new(settings);
        let mut hub = self.hub.borrow_mut();
        hub.limits = limits;
        hub.names = names;
    }

    /// Whether a session should be read no further for now.
    pub fn congested(&self, session: SessionId) -> bool {
        self.hub.borrow().congested(session)
    }

    /// Wakes the connection's reader at the store's next answer.
    pub fn wait_for_store(&self, conn: &Rc<Conn>) {
        self.behind.borrow_mut().push(conn.clone());
    }

    /// Runs a task on the thread. A panic in it is logged and ends only the task, unless it went
    /// through the hub: then the hub stops, to be started again with all that was acknowledged.
    pub fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        self.spawn_small(Box::pin(task));
    }

    /// The same for a task that needs no box of its own.
    pub fn spawn_small(self: &Rc<Self>, mut task: impl Future<Output = ()> + Unpin + 'static) {
        let shared = self.clone();
        let Some(executor) = self.executor.upgrade() else { return };
        executor
            .spawn(std::future::poll_fn(move |cx| {
                match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut task).poll(cx))) {
                    Ok(poll) => poll,
                    Err(_) => {
                        log::error!("a task has failed (a bug); its connection is closed");
                        if shared.broken.get() {
                            log::error!("the hub's state may be damaged; stopping for a fresh start");
                            let _ = shared.stop.0.try_send(Stop::Broken);
                        }
                        Poll::Ready(())
                    }
                }
            }))
            .detach();
    }

    /// A task that the hub can't do without: when it ends, so does the hub.
    pub fn spawn_vital(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let vital = Vital(self.clone());
        self.spawn(async move {
            let _vital = vital;
            task.await;
        });
    }

    /// The hub and its mouth.
    pub fn with_hub<R>(self: &Rc<Self>, with: impl FnOnce(&mut Hub, &mut Mouth<'_>) -> R) -> R {
        self.with_hub_at(self.now(), with)
    }

    fn with_hub_at<R>(self: &Rc<Self>, now: Now, with: impl FnOnce(&mut Hub, &mut Mouth<'_>) -> R) -> R {
        let before = self.broken.replace(true); // stays so if what follows panics
        let mut hub = self.hub.borrow_mut();
        hub.now = now;
        let result = with(&mut hub, &mut Mouth { shared: self, ring: self.ring.borrow_mut() });
        self.broken.set(before);
        result
    }

    /// The hub hears something.
    pub fn hear(self: &Rc<Self>, input: Input<'_>) {
        self.hear_at(self.now(), input);
    }

    /// The same, when the time is known: a read brings many stanzas at once.
    pub fn hear_at(self: &Rc<Self>, now: Now, input: Input<'_>) {
        self.with_hub_at(now, |hub, mouth| hub.handle(now, input, mouth));
    }

    /// Lets run what has waited for bytes to be taken.
    pub(super) fn run(self: &Rc<Self>, due: Vec<Taken>) {
        for then in due {
            self.with_hub(|hub, mouth| then(hub, mouth, true));
        }
        self.wake_behind();
    }

    /// Who was read no further because of what it has under way may be now.
    fn wake_behind(&self) {
        for conn in self.behind.take() {
            conn.wake_reader();
        }
    }

    /// Asks the store and waits, without the hub.
    pub async fn ask(&self, changes: Vec<Change>, ask: Ask) -> Answer {
        let (tell, told) = channel::bounded(1);
        let then = Box::new(move |answer| drop(tell.try_send(answer)));
        self.store.submit(Job { changes, ask, then });
        told.recv().await.unwrap_or(Answer::Failed("the store is closed".into()))
    }

    /// Binds a resource on `conn` and waits for the outcome.
    pub async fn bind(
        self: &Rc<Self>,
        conn: &Rc<Conn>,
        account: &BareJid,
        resource: &str,
        lang: Option<&str>,
    ) -> Bound {
        let (tell, told) = channel::bounded(1);
        let ticket = {
            let mut ring = self.ring.borrow_mut();
            ring.next += 1;
            let ticket = ring.next;
            ring.tickets.insert(ticket, (conn.clone(), tell));
            ticket
        };
        self.hear(Input::Bind { ticket, account, resource, lang });
        told.recv().await.unwrap_or(Err(stanza::Condition::InternalServerError.into()))
    }

    /// Negotiation is done: `first` goes out, then what has come for the session meanwhile.
    pub fn release(&self, conn: &Rc<Conn>, first: &[u8]) {
        let session = conn.session.get();
        if let Some(outbox) = self.ring.borrow_mut().outbox(session) {
            outbox.attach(conn.clone(), first);
            self.mark(session);
        }
    }

    /// With the outbox of a session, if it has one.
    pub(super) fn with_outbox<R>(&self, id: SessionId, with: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        self.ring.borrow_mut().outbox(id).map(with)
    }

    /// Takes the outbox of a session out of the table.
    pub(super) fn take_outbox(&self, id: SessionId) -> Option<Outbox> {
        let mut ring = self.ring.borrow_mut();
        ring.outbox(id).filter(|_| id.peer_place().is_none())?;
        ring.boxes.get_mut(id.index as usize)?.take().map(|(_, outbox)| outbox)
    }

    /// Whether the session is one of that account's.
    pub(super) fn is_session_of(&self, id: SessionId, account: &BareJid) -> bool {
        self.hub.borrow().session(id).is_some_and(|s| s.jid.bare() == account.as_str())
    }

    /// The session's connection is going: takes it out of the tables, tells the hub, and returns
    /// its outbox, for the last words and then [`Shared::give_back`].
    pub fn part(self: &Rc<Self>, conn: &Conn) -> Option<Outbox> {
        let session = conn.session.replace(SessionId::NONE);
        let priority = self.hub.borrow().session(session).and_then(|s| s.priority());
        self.hear(Input::Closed { session });
        let mut outbox = self.take_outbox(session).or_else(|| conn.left.take().map(|outbox| *outbox));
        if let Some(outbox) = &mut outbox {
            outbox.priority = priority;
        }
        outbox
    }

    /// The task of a session's connection has failed, and is being unwound: what is left to do is
    /// done by another.
    pub fn lost(self: &Rc<Self>, conn: Rc<Conn>) {
        let shared = self.clone();
        self.spawn(async move {
            if let Some(outbox) = shared.part(&conn) {
                shared.give_back(outbox);
            }
        });
    }

    /// What a session that is gone was never sent goes back to the hub, which finds it another way
    /// (RFC 6121 §8.5.3.2.1), so that a connection that dies takes no message with it.
    pub fn give_back(self: &Rc<Self>, mut outbox: Outbox) {
        if let Some(id) = outbox.kept().and_then(|kept| kept.id) {
            self.resumable.borrow_mut().forget(id);
        }
        let (unsent, waiting) = outbox.give_up();
        if let Some(jid) = &outbox.jid {
            self.unsent(jid, outbox.priority, outbox.saved, &unsent);
        }
        for then in waiting {
            self.with_hub(|hub, mouth| then(hub, mouth, false));
        }
    }

    fn unsent(self: &Rc<Self>, jid: &FullJid, priority: Option<i8>, mut saved: u32, unsent: &[u8]) {
        self.each_of(unsent, |stanza| {
            self.hear(Input::Unsent { to: jid, priority, saved: saved > 0, stanza });
            saved = saved.saturating_sub(1);
        });
    }

    /// Reads stanzas of an outbox again.
    fn each_of(&self, bytes: &[u8], mut hear: impl FnMut(&Stanza<'_>)) {
        if bytes.is_empty() {
            return;
        }
        let mut scan = Scan::new();
        each_stanza(bytes, |text| {
            // All of it has been judged on its way in; with what we have added it may be over a cap.
            if let Ok(text) = scan.element(text, &Scope::default(), &Caps::judged_before())
                && let Some(stanza) = Stanza::new(text, &scan)
            {
                hear(&stanza);
            }
            true
        });
    }

    // ---- peers --------------------------------------------------------------------------------

    /// A stream to a peer is ready: `first` goes out on it, then what has waited, to be acknowledged if the
    /// stream is managed (XEP-0198); the hub is told. False: there is another already.
    pub fn attach(self: &Rc<Self>, peer: SessionId, conn: &Rc<Conn>, first: &[u8], managed: bool) -> bool {
        {
            let mut ring = self.ring.borrow_mut();
            let Some(outbox) = ring.peer(peer) else { return false };
            if outbox.conn.is_some() {
                return false;
            }
            if managed {
                outbox.manage();
            }
            outbox.attach(conn.clone(), first);
        }
        conn.session.set(peer);
        self.mark(peer);
        self.hear(Input::Linked { peer });
        true
    }

    /// There is no link to a peer any more, or none to be had: the hub is told, and gets back what was
    /// not taken. The outbox, for the last words on its connection.
    pub fn unlink(self: &Rc<Self>, peer: SessionId, why: Unreachable) -> Option<Outbox> {
        let outbox = {
            let mut ring = self.ring.borrow_mut();
            match peer.peer_place().and_then(|place| ring.peers.get_mut(place as usize)) {
                Some(slot) if slot.as_ref().is_some_and(|(g, _)| *g == peer.generation) => slot.take(),
                _ => None,
            }
        };
        self.hear(Input::Unlinked { peer, why });
        let (_, mut outbox) = outbox?;
        if let Some(conn) = &outbox.conn {
            conn.session.set(SessionId::NONE);
        }
        let conn = outbox.conn.clone();
        let (returned, waiting) = outbox.give_up();
        self.each_of(&returned, |stanza| self.hear(Input::Returned { peer, stanza }));
        for then in waiting {
            self.with_hub(|hub, mouth| then(hub, mouth, false));
        }
        self.wake_behind();
        outbox.conn = conn;
        Some(outbox)
    }

    /// Whether there is a stream to a peer.
    pub fn is_linked(&self, peer: SessionId) -> bool {
        self.ring.borrow_mut().outbox(peer).is_some_and(|outbox| outbox.conn.is_some())
    }

    /// Whether a peer has been sent all that there was.
    pub fn is_quiet(&self, peer: SessionId) -> bool {
        self.ring.borrow_mut().outbox(peer).is_some_and(|outbox| outbox.is_quiet())
    }

    // ---- stream management (XEP-0198), of sessions and of peers ----------------------------------

    /// Keeps what is written from here on until it is acknowledged.
    pub fn manage(&self, id: SessionId) {
        if let Some(outbox) = self.ring.borrow_mut().outbox(id) {
            outbox.manage();
        }
    }

    /// The other side has handled `h` stanzas.
    pub fn acknowledge(self: &Rc<Self>, id: SessionId, h: u32) -> Result<(), TooHigh> {
        let (mut due, bound) = (Vec::new(), self.limits.borrow().outbox_bytes as usize);
        let drained = {
            let mut ring = self.ring.borrow_mut();
            let Some(outbox) = ring.outbox(id) else { return Ok(()) };
            if outbox.acknowledge(h, &mut self.pool.borrow_mut(), &mut due)? {
                self.mark(id);
            }
            outbox.has_room(bound) && outbox.was_full()
        };
        self.run(due);
        if drained {
            self.hear(Input::Drained { session: id });
        }
        Ok(())
    }

    /// The count of the stanzas that were heard on a managed stream; whoever reads it counts.
    pub fn inbound(&self, id: SessionId) -> Option<Rc<Cell<u32>>> {
        self.ring.borrow_mut().outbox(id)?.kept().map(|kept| kept.inbound.clone())
    }

    /// See [`Outbox::say`].
    pub async fn say(&self, outbox: &mut Outbox, words: &[u8]) -> std::io::Result<()> {
        outbox.say(words, &self.pool).await
    }

    /// Bytes read from and written to clients.
    pub fn traffic(&self) -> (u64, u64) {
        (self.read.get(), self.pool.borrow().written)
    }

    /// All connections.
    pub fn connected(&self) -> Vec<Rc<Conn>> {
        let mut all = self.early.borrow().clone();
        let ring = self.ring.borrow();
        let outboxes = ring.boxes.iter().chain(&ring.peers).flatten();
        all.extend(outboxes.filter_map(|(_, outbox)| outbox.conn.clone()));
        all
    }

    fn mark(&self, session: SessionId) {
        self.dirty.borrow_mut().push(session);
        if let Some(waker) = self.flusher.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The flusher: lets every ready reader go first, then writes each dirty outbox once.
    pub async fn flush_for_ever(self: Rc<Self>) {
        loop {
            std::future::poll_fn(|cx| {
                if self.dirty.borrow().is_empty() {
                    *self.flusher.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            smol::future::yield_now().await;
            self.flush_once();
        }
    }

    fn flush_once(self: &Rc<Self>) {
        let mut list = std::mem::take(&mut *self.dirty.borrow_mut());
        let (mut due, mut drained) = (Vec::new(), Vec::new());
        let bound = self.limits.borrow().outbox_bytes as usize;
        for session in &list {
            let mut ring = self.ring.borrow_mut();
            let Some(outbox) = ring.outbox(*session) else { continue };
            match outbox.flush(&mut self.pool.borrow_mut(), &mut due) {
                Flushed::Clean if outbox.has_room(bound) && outbox.was_full() => drained.push(*session),
                Flushed::Clean => {}
                Flushed::Dead => outbox.kill(End::Dead),
                Flushed::Blocked => {
                    let Some(conn) = outbox.conn.clone() else { continue };
                    let (shared, session) = (self.clone(), *session);
                    self.spawn(async move { shared.drain(&conn, session).await });
                }
            }
        }
        list.clear();
        let mut dirty = self.dirty.borrow_mut();
        if dirty.is_empty() {
            *dirty = list; // keep its memory
        }
        drop(dirty);
        if !due.is_empty() {
            self.run(due);
        }
        for session in drained {
            self.hear(Input::Drained { session });
        }
    }

    /// Waits for a slow reader, for as long as it takes something now and then.
    async fn drain(self: Rc<Self>, conn: &Rc<Conn>, session: SessionId) {
        loop {
            let patience = Duration::from_secs(self.limits().stall_seconds);
            let ready = smol::future::or(async { conn.io.writable().await.is_ok() }, async {
                self.reactor.after(patience).await;
                false
            })
            .await;
            let mut due = Vec::new();
            let flushed = {
                let mut ring = self.ring.borrow_mut();
                let Some(outbox) = ring.outbox(session) else { return };
                if !outbox.conn.as_ref().is_some_and(|now| Rc::ptr_eq(now, conn)) {
                    return; // it goes another way now
                }
                if ready { outbox.flush_on(&mut self.pool.borrow_mut(), &mut due) } else { Flushed::Dead }
            };
            self.run(due);
            match flushed {
                Flushed::Blocked => {}
                // There is nobody to tell: what we would say waits behind what is not read.
                Flushed::Dead => return conn.kill(End::Dead),
                // What was put aside for it while it was slow can come now.
                Flushed::Clean => return self.hear(Input::Drained { session }),
            }
        }
    }

    /// Takes what store and workers have finished to those who wait for it.
    pub async fn finish_for_ever(self: Rc<Self>) {
        while let Ok((number, done)) = self.finished.recv().await {
            self.finish(number, done);
            while let Ok((number, done)) = self.finished.try_recv() {
                self.finish(number, done);
            }
        }
    }

    fn finish(self: &Rc<Self>, number: u64, done: Done) {
        let resume = self.ring.borrow_mut().waiting.remove(&number);
        if let Some(resume) = resume {
            self.with_hub(|hub, mouth| resume(hub, mouth, done));
        }
        self.wake_behind();
    }
}

/// Whether this machine's clock was ever set.
pub fn clock_is_set() -> bool {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    unix.as_millis() >= u128::from(FLOOR_MS)
}

/// An end with a stream error.
pub fn end(condition: Condition) -> End {
    End::Error(stream::Error::new(condition))
}

/// Whether any account may log in with a certificate.
pub fn certificates_in_use(store: &Store) -> Arc<AtomicBool> {
    let used =
        matches!(store.ask(Vec::new(), Ask::Status), Answer::Status(status) if status.certificates > 0);
    Arc::new(AtomicBool::new(used))
}

/// What nearly every client declares on its stream header.
fn usual_scope() -> Scope {
    Scope { default: ns::CLIENT.into(), prefixes: vec![("stream".into(), ns::STREAM.into())], lang: None }
}

fn caps(limits: &Limits) -> Caps {
    Caps {
        depth: u16::try_from(limits.depth).unwrap_or(u16::MAX),
        attributes: u16::try_from(limits.attributes).unwrap_or(u16::MAX),
        declarations: u16::try_from(limits.declarations).unwrap_or(u16::MAX),
        elements: u32::try_from(limits.elements).unwrap_or(u32::MAX),
        ..Caps::default()
    }
}

/// The time since `started` and since 1970.
pub fn now(started: Instant) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mono = started.elapsed();
    Now {
        unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX).max(FLOOR_MS),
        mono_ms: u64::try_from(mono.as_millis()).unwrap_or(u64::MAX),
    }
}

impl Ring {
    fn outbox(&mut self, id: SessionId) -> Option<&mut Outbox> {
        let slot = match id.peer_place() {
            Some(place) => self.peers.get_mut(place as usize),
            None => self.boxes.get_mut(id.index as usize),
        };
        match slot {
            Some(Some((generation, outbox))) if *generation == id.generation => Some(outbox),
            _ => None,
        }
    }

    /// The outbox of a peer, which is there as soon as somebody has something for it.
    fn peer(&mut self, id: SessionId) -> Option<&mut Outbox> {
        let place = id.peer_place()? as usize;
        if self.peers.len() <= place {
            self.peers.resize_with(place + 1, || None);
        }
        let slot = self.peers.get_mut(place)?;
        if slot.as_ref().is_none_or(|(generation, _)| *generation != id.generation) {
            *slot = Some((id.generation, Outbox::without_conn()));
        }
        slot.as_mut().map(|(_, outbox)| outbox)
    }
}

/// What the hub says goes straight to its place.
pub struct Mouth<'a> {
    shared: &'a Rc<Shared>,
    ring: std::cell::RefMut<'a, Ring>,
}

impl Mouth<'_> {
    fn wait(&mut self, resume: Resume) -> (u64, Sender<(u64, Done)>) {
        self.ring.next += 1;
        let number = self.ring.next;
        self.ring.waiting.insert(number, resume);
        (number, self.shared.done.clone())
    }
}

impl Sink for Mouth<'_> {
    fn outbox(&mut self, to: SessionId) -> Option<&mut Vec<u8>> {
        let bound = self.shared.limits.borrow().outbox_bytes as usize;
        let outbox = match to.peer_place() {
            Some(_) => self.ring.peer(to)?,
            None => self.ring.outbox(to)?,
        };
        let (bytes, first) = outbox.open(bound, &mut self.shared.pool.borrow_mut())?;
        if first {
            self.shared.mark(to);
        }
        Some(bytes)
    }

    fn must(&mut self, to: SessionId) -> Option<&mut Vec<u8>> {
        let bound = self.shared.limits.borrow().outbox_bytes as usize;
        if let Some(outbox) = self.ring.outbox(to)
            && outbox.is_full(bound, &mut self.shared.pool.borrow_mut())
        {
            if outbox.conn.is_none() && to.peer_place().is_none() {
                let shared = self.shared.clone();
                self.shared.spawn(async move { shared.expire(to) });
            }
            outbox.kill(end(Condition::ResourceConstraint));
            return None;
        }
        self.outbox(to)
    }

    fn store(&mut self, changes: Vec<Change>, ask: Ask, then: Then) {
        let (number, done) = self.wait(Box::new(move |hub, sink, done| {
            if let Done::Answer(answer) = done {
                then(hub, sink, answer);
            }
        }));
        let then = Box::new(move |answer| drop(done.try_send((number, Done::Answer(answer)))));
        self.shared.store.submit(Job { changes, ask, then });
    }

    fn taken(&mut self, by: SessionId, then: Taken) {
        let waits = match self.ring.outbox(by) {
            Some(outbox) => outbox.when_taken(then).map(|then| (then, true)),
            None => Some((then, false)),
        };
        if let Some((then, taken)) = waits {
            // Already so, or never to be: but not from inside the hub.
            let (number, done) = self.wait(Box::new(move |hub, sink, _| then(hub, sink, taken)));
            let _ = done.try_send((number, Done::Answer(Answer::Nothing)));
        }
    }

    fn dial(&mut self, peer: SessionId, after_ms: u64) {
        let _ = self.shared.dials.0.try_send((peer, after_ms));
    }

    fn derive(&mut self, password: Password, then: Derived) {
        let (number, done) = self.wait(Box::new(move |hub, sink, done| {
            if let Done::Keys(keys) = done {
                then(hub, sink, keys);
            }
        }));
        let shared = self.shared.clone();
        self.shared.spawn(async move {
            let password = Secret::new(password.0);
            let work = move || sasl::keys(&password, super::salts(), super::desk::ITERATIONS);
            if let Some(keys) = shared.workers.run(work).await {
                let _ = done.try_send((number, Done::Keys(Box::new(keys))));
            }
        });
    }

    fn bound(&mut self, ticket: u64, outcome: Result<(SessionId, &FullJid), stanza::Error>) {
        let Some((conn, tell)) = self.ring.tickets.remove(&ticket) else { return };
        let outcome = outcome.map(|(session, jid)| {
            conn.session.set(session);
            let index = session.index as usize;
            if self.ring.boxes.len() <= index {
                self.ring.boxes.resize_with(index + 1, || None);
            }
            if let Some(slot) = self.ring.boxes.get_mut(index)
                && let Some((_, old)) = slot.replace((session.generation, Outbox::new(conn, jid.clone())))
                && let Some(conn) = old.conn.clone()
            {
                *conn.left.borrow_mut() = Some(Box::new(old));
            }
            (session, jid.clone())
        });
        let _ = tell.try_send(outcome);
    }

    fn revoke(&mut self, localpart: &str) {
        for conn in self.shared.early.borrow().iter() {
            if conn.login.borrow().as_deref() == Some(localpart) {
                conn.kill(end(Condition::NotAuthorized));
            }
        }
    }

    fn close(&mut self, session: SessionId, error: stream::Error) {
        let Some(outbox) = self.ring.outbox(session) else { return };
        if outbox.conn.is_some() || session.peer_place().is_some() {
            return outbox.kill(End::Error(error));
        }
        // It waits to be resumed: there is nobody to tell.
        let left = self.ring.boxes.get_mut(session.index as usize).and_then(Option::take);
        if let Some((_, outbox)) = left {
            let shared = self.shared.clone();
            self.shared.spawn(async move { shared.give_back(outbox) });
        }
    }
}
