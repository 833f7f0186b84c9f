//! The ring around the two cores: one thread that owns the hub, the outboxes and what waits for
//! the store. All that is shared between tasks stands in [`Shared`]; no task holds a borrow of it
//! across an await.

mod doors;
mod flush;
mod mouth;

pub use mouth::Mouth;

use super::federation::Federation;
use super::outbox::{Conn, End, Outbox, Pool};
use super::reactor::Reactor;
use super::resume::Resumable;
use super::tls::ServerTls;
use super::unix_time;
use super::work::Workers;
use crate::hub::limits::{Limits, fixed};
use crate::hub::talk::{Input, Now, SessionId, Sink, Taken};
use crate::hub::throttle::Throttle;
use crate::hub::{Hub, Names};
use crate::jid::{BareJid, FullJid};
use crate::stanza;
use crate::store::Store;
use crate::store::change::{Answer, Ask, Change, Job, Keys};
use crate::stream::{self, Condition};
use crate::xml::{Caps, Scan, Scope, ns};
use smol::LocalExecutor;
use smol::channel::{self, Receiver, Sender};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Poll, Waker};
use std::time::Instant;

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
    /// Other domains.
    pub federation: Federation,
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
    /// The hub is stopping: nobody new is let in.
    pub closing: Cell<bool>,
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
        federation: Federation,
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
            federation,
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
            closing: Cell::new(false),
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
        // As one type: what is around a task is compiled once, not once for each kind.
        let task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(task);
        self.spawn_small(task);
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
    unix_time().as_millis() >= u128::from(FLOOR_MS)
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
    let unix = unix_time();
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
