//! What stands in for net/: the hub, the store, the connections between them, and the time.

use crate::connection::{Beneath, Connection, Phase, SPKI};
use crate::passwords::{self, ITERATIONS};
use crate::ring::Ring;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use stonechat::hub::limits::Limits;
use stonechat::hub::talk::{Input, Now, SessionId, Then};
use stonechat::hub::{Hub, Names};
use stonechat::stanza::{self, Stanza};
use stonechat::store::Store;
use stonechat::store::change::{Answer, Ask as StoreAsk, Change, Item, Loaded, Subscription};
use stonechat::stream::{self, Ask, Condition, Registration, Secret, Settings};
use stonechat::xep;
use stonechat::xml::{self, Caps, Flow, Kind, Ns, Scan, Scope, ns};

/// The hub's domain.
pub const DOMAIN: &str = "hub.test";

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// See the module.
pub struct World {
    pub hub: Hub,
    /// How many jobs the store does before it is slow; `None`: it is not.
    pub allowed: Option<u32>,
    /// The disk refuses.
    pub broken: bool,
    ring: Ring,
    store: Option<Store>,
    dir: PathBuf,
    now: Now,
    thin: bool,
    connections: BTreeMap<String, Connection>,
    registration: Registration,
    /// Of connections and binds.
    count: u64,
}

impl Drop for World {
    fn drop(&mut self) {
        self.store = None;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Why a bound stream ends.
enum Halt {
    Closed,
    Error(stream::Error),
}

impl From<xml::Error> for Halt {
    fn from(error: xml::Error) -> Halt {
        Halt::Error(error.into())
    }
}

type Outcome = Result<(), String>;

impl World {
    pub fn new(thin: bool) -> World {
        let shm = PathBuf::from("/dev/shm");
        let base = if shm.is_dir() { shm } else { std::env::temp_dir() };
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("stonechat-transcript-{}-{number}", std::process::id()));
        let store = Store::open(&dir).unwrap();
        // 2026-09-21T14:13:20Z
        let now = Now { unix_ms: 1_790_000_000_000, mono_ms: 5_000 };
        let names = Names { domain: DOMAIN.into(), aliases: Vec::new() };
        World {
            hub: Hub::new(names, Limits::default(), xep::ALL, now, 0xb007),
            allowed: None,
            broken: false,
            ring: Ring::default(),
            store: Some(store),
            dir,
            now,
            thin,
            connections: BTreeMap::new(),
            registration: Registration::Closed,
            count: 0,
        }
    }

    // ---- the operator ---------------------------------------------------------------------------

    fn ask(&self, changes: Vec<Change>, ask: StoreAsk) -> Answer {
        self.store.as_ref().unwrap().ask(changes, ask)
    }

    pub fn create(&mut self, local: &str, password: &str) -> Outcome {
        let keys = passwords::keys(&Secret::new(password));
        let ask = StoreAsk::Create { localpart: local.into(), keys, invite: None, now: self.now.unix() };
        match self.ask(Vec::new(), ask) {
            Answer::Created(Ok(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn loaded(&self, local: &str) -> Result<Loaded, String> {
        match self.ask(Vec::new(), StoreAsk::Account { localpart: local.into() }) {
            Answer::Account(Some(loaded)) => Ok(*loaded),
            other => Err(format!("{local}: {other:?}")),
        }
    }

    /// `one` sees `other` (to), the other way round (from), or both.
    pub fn acquaint(&mut self, one: &str, other: &str, subscription: Subscription) -> Outcome {
        let mirrored = match subscription {
            Subscription::To => Subscription::From,
            Subscription::From => Subscription::To,
            same => same,
        };
        for (local, contact, subscription) in [(one, other, subscription), (other, one, mirrored)] {
            if self.hub.find(local).is_some() {
                return Err(format!("the hub has {local} in memory already"));
            }
            let loaded = self.loaded(local)?;
            let jid = format!("{contact}@{DOMAIN}").into();
            let item = Item { jid, subscription, listed: true, ..Item::default() };
            let change = Change::RosterPut { account: loaded.id, version: loaded.version + 1, item };
            self.ask(vec![change], StoreAsk::Nothing);
        }
        Ok(())
    }

    pub fn certificate(&mut self, local: &str) -> Outcome {
        let change = Change::CertificatePut { account: self.loaded(local)?.id, spki: SPKI };
        match self.ask(vec![change], StoreAsk::Nothing) {
            Answer::Nothing => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// As the operator's command does it.
    pub fn remove(&mut self, local: &str) -> Outcome {
        let name: Box<str> = local.into();
        self.hub.now = self.now;
        self.hub.with_account(&mut self.ring, local, move |_, sink, place| {
            let then: Then = Box::new(move |hub, sink, _| {
                if let Some(place) = place {
                    hub.removed(sink, place);
                }
            });
            sink.store(Vec::new(), StoreAsk::Remove { localpart: name }, then);
        });
        self.settle();
        Ok(())
    }

    pub fn alias(&mut self, name: &str) -> Outcome {
        self.hub.names.aliases.push(name.into());
        Ok(())
    }

    pub fn registration(&mut self, how: &str) -> Outcome {
        self.registration = match how {
            "open" => Registration::Open,
            "closed" => Registration::Closed,
            _ => return Err("open or closed".into()),
        };
        Ok(())
    }

    pub fn pass(&mut self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.now.unix_ms += ms;
        self.now.mono_ms += ms;
    }

    /// The power fails: nobody hears of it, and the hub starts with what is on disk.
    pub fn restart(&mut self) {
        for connection in self.connections.values_mut() {
            connection.cut();
        }
        self.store = None;
        self.store = Some(Store::open(&self.dir).unwrap());
        self.ring = Ring::default();
        self.allowed = None;
        let (names, limits) = (self.hub.names.clone(), self.hub.limits.clone());
        self.hub = Hub::new(names, limits, xep::ALL, self.now, 0xb008);
    }

    // ---- the clients ----------------------------------------------------------------------------

    pub fn names(&self) -> Vec<String> {
        self.connections.keys().cloned().collect()
    }

    pub fn inbox(&mut self, name: &str) -> Result<&mut VecDeque<String>, String> {
        let connection = self.connections.get_mut(name);
        connection.map(Connection::inbox).ok_or(format!("{name} has not connected yet"))
    }

    /// A new connection; one of that name before it must be over and have been read out.
    pub fn connect(&mut self, name: &str, beneath: Beneath) -> Outcome {
        if let Some(old) = self.connections.get_mut(name) {
            if !matches!(old.phase, Phase::Over) {
                return Err(format!("{name} is still connected"));
            }
            if let Some(got) = old.inbox().front() {
                return Err(format!("{name} has not looked at {got}"));
            }
        }
        self.count += 1;
        let limits = &self.hub.limits;
        let settings = Settings {
            domain: self.hub.names.domain.clone(),
            aliases: self.hub.names.aliases.clone(),
            registration: self.registration,
            extra_features: self.hub.stream_features(),
            early_features: Vec::new(),
            max_bytes_early: limits.early_bytes as usize,
            max_bytes: limits.stanza_bytes as usize,
            idle_seconds: 0,
            login_tries: 3,
            secret: [7; 32],
            iterations: ITERATIONS,
        };
        let connection = Connection::new(Rc::new(settings), beneath, self.count as u8);
        self.connections.insert(name.to_owned(), connection);
        Ok(())
    }

    pub fn login(
        &mut self,
        name: &str,
        jid: &str,
        beneath: Beneath,
        via: Option<&str>,
        password: &str,
    ) -> Outcome {
        self.connect(name, beneath)?;
        let mut says = self.connections.get_mut(name).unwrap().login(jid, beneath, via, password)?;
        while !says.is_empty() {
            self.feed(name, &says)?;
            says = self.connections.get_mut(name).unwrap().client_says();
        }
        let connection = &self.connections[name];
        match connection.logged_in() {
            Some(Ok(got)) if got == jid || !jid.contains('/') => Ok(()),
            Some(Ok(got)) => Err(format!("{name} is {got}")),
            Some(Err(failure)) => {
                self.cut(name)?;
                self.inbox(name)?.clear();
                Err(failure)
            }
            None => Err(format!("{name} does not get an answer")),
        }
    }

    /// The client sends bytes.
    pub fn feed(&mut self, name: &str, bytes: &[u8]) -> Outcome {
        if !self.connections.contains_key(name) {
            self.connect(name, Beneath::Plain)?;
        }
        let connection = self.connections.get_mut(name).unwrap();
        if matches!(connection.phase, Phase::Over) {
            return Err(format!("{name}'s connection is over"));
        }
        connection.opens_anew(bytes);
        for chunk in bytes.chunks(if self.thin { 1 } else { usize::MAX }) {
            self.read(name, chunk);
            self.settle();
        }
        Ok(())
    }

    /// The client's connection is gone.
    pub fn cut(&mut self, name: &str) -> Outcome {
        let connection = self.connections.get_mut(name).ok_or(format!("{name} is not connected"))?;
        let session = connection.session();
        connection.cut();
        self.part(session);
        self.settle();
        Ok(())
    }

    /// The client's system takes so many bytes and no more; `None`: it takes all.
    pub fn stall(&mut self, name: &str, takes: Option<usize>) -> Outcome {
        let connection = self.connections.get_mut(name).ok_or(format!("{name} is not connected"))?;
        connection.takes = takes;
        self.settle();
        let session = self.connections[name].session();
        if let (None, Some(session)) = (takes, session) {
            self.hub.handle(self.now, Input::Drained { session }, &mut self.ring);
            self.settle();
        }
        Ok(())
    }

    // ---- the hub's end of a connection ------------------------------------------------------------

    /// Bytes have come.
    fn read(&mut self, name: &str, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(name) else { return };
        connection.unread.extend_from_slice(bytes);
        if connection.ticket.is_some() {
            connection.stopped = true;
            return;
        }
        let bytes = &*std::mem::take(&mut connection.unread);
        let mut reader = std::mem::replace(&mut connection.reader, xml::Reader::new(0, 0));
        match std::mem::replace(&mut connection.phase, Phase::Over) {
            Phase::Over => {}
            Phase::Negotiating(mut stream) => {
                let mut out = Vec::new();
                let mut asked = None;
                let mut stopped = false;
                let mut kept = Vec::new();
                let fed = reader.feed(bytes, |kind, frame| {
                    asked = stream.frame(kind, frame, &mut Scan::new(), &mut out)?;
                    stopped = true;
                    kept = frame.to_vec();
                    Ok::<_, stream::Error>(Flow::Stop)
                });
                connection.reader = reader;
                connection.phase = Phase::Negotiating(stream);
                connection.stopped = stopped;
                connection.wire.append(&mut out);
                match fed {
                    Ok(()) => self.asked(name, asked, &kept),
                    Err(error) => self.refuse(name, &error),
                }
            }
            Phase::Bound(session, scope) => {
                let mut stopped = false;
                let fed = {
                    let (hub, ring, now) = (&mut self.hub, &mut self.ring, self.now);
                    reader.feed(bytes, |kind, frame| {
                        match kind {
                            Kind::Keepalive => {}
                            Kind::Footer => return Err(Halt::Closed),
                            Kind::Header => {
                                return Err(Halt::Error(stream::Error::new(Condition::BadFormat)));
                            }
                            Kind::Element => element(hub, ring, now, session, frame, &scope)?,
                        }
                        stopped = hub.session(session).is_none() || hub.congested(session);
                        Ok(if stopped { Flow::Stop } else { Flow::Go })
                    })
                };
                connection.reader = reader;
                connection.phase = Phase::Bound(session, scope);
                connection.stopped = stopped;
                match fed {
                    Ok(()) => {}
                    Err(Halt::Closed) => self.end(name, None),
                    Err(Halt::Error(error)) => self.end(name, Some(&error)),
                }
            }
        }
    }

    /// Answers what a stream asks of the world.
    fn asked(&mut self, name: &str, asked: Option<Ask>, frame: &[u8]) {
        let store = self.store.as_ref().unwrap();
        let Some(connection) = self.connections.get_mut(name) else { return };
        let Phase::Negotiating(stream) = &mut connection.phase else { return };
        let out = &mut connection.wire;
        let mut next = Ok(asked);
        let rest = loop {
            next = match next {
                Ok(Some(Ask::Keys { localpart })) => {
                    match store.ask(Vec::new(), StoreAsk::Credentials { localpart }) {
                        Answer::Credentials(Some((id, keys))) => stream.keys(Some((id, &keys)), out),
                        _ => stream.keys(None, out),
                    }
                }
                Ok(Some(Ask::Derive { password, salt, iterations, sha })) => {
                    stream.derived(&passwords::derive(&password, &salt, iterations, sha), out)
                }
                Ok(Some(Ask::Owner { spki, .. })) => match store.ask(Vec::new(), StoreAsk::Owner { spki }) {
                    Answer::Owner(owner) => stream.owner(owner.as_deref(), out),
                    _ => stream.owner(None, out),
                },
                rest => break rest,
            };
        };
        if stream.restarts() {
            connection.reader.restart();
        }
        match rest {
            Ok(ask) => self.carry_out(name, ask, frame),
            Err(error) => self.refuse(name, &error),
        }
    }

    fn carry_out(&mut self, name: &str, ask: Option<Ask>, frame: &[u8]) {
        match ask {
            Some(Ask::StartTls) => self.connections.get_mut(name).unwrap().secured(),
            Some(Ask::Closed) => {
                let connection = self.connections.get_mut(name).unwrap();
                connection.phase = Phase::Over;
                connection.ending = true;
            }
            Some(Ask::Register) => {
                let answer = self.register(frame);
                self.connections.get_mut(name).unwrap().wire.extend(answer);
            }
            Some(Ask::Bind { account, resource }) => {
                self.count += 1;
                let ticket = self.count;
                let connection = self.connections.get_mut(name).unwrap();
                connection.ticket = Some(ticket);
                let Phase::Negotiating(stream) = &connection.phase else { return };
                let (account, lang) = (account.jid(), stream.lang());
                let input = Input::Bind { ticket, account, resource: &resource, lang };
                self.hub.handle(self.now, input, &mut self.ring);
            }
            _ => {}
        }
    }

    /// What net/ does with a request of XEP-0077 before login.
    fn register(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut scan = Scan::new();
        let text = scan.element(frame, &Scope::default(), &Caps::default()).unwrap();
        let stanza = Stanza::new(text, &scan).unwrap();
        let outcome = match xep::register::asked(&stanza) {
            Some(Ok(xep::register::Asked::Form)) => Ok(true),
            Some(Ok(xep::register::Asked::Account { localpart, password })) => {
                let keys = passwords::keys(&Secret::new(password.0));
                let now = self.now.unix();
                let ask = StoreAsk::Create { localpart, keys, invite: None, now };
                match self.ask(Vec::new(), ask) {
                    Answer::Created(Ok(_)) => Ok(false),
                    Answer::Created(Err(why)) => Err(xep::register::refused(why)),
                    other => panic!("{other:?}"),
                }
            }
            Some(Err(error)) => Err(error),
            _ => Err(stanza::Condition::NotAllowed.into()),
        };
        let mut out = Vec::new();
        match outcome {
            Ok(form) => {
                let mut w = xml::Writer::new(&mut out);
                w.start("iq").attr("type", "result").opt("id", stanza.id().as_deref());
                w.opt("from", stanza.to().as_deref());
                if form {
                    xep::register::form(&mut w);
                }
                w.end();
            }
            Err(error) => {
                error.reply(&mut out, &stanza, stanza.to().as_deref(), None);
            }
        }
        out
    }

    /// Negotiation ends with a stream error.
    fn refuse(&mut self, name: &str, error: &stream::Error) {
        let Some(connection) = self.connections.get_mut(name) else { return };
        if let Phase::Negotiating(stream) = &mut connection.phase {
            stream.fail(error, &mut connection.wire);
        }
        connection.phase = Phase::Over;
        connection.ending = true;
    }

    /// A bound stream ends, by the client's footer or with an error of ours.
    fn end(&mut self, name: &str, error: Option<&stream::Error>) {
        let Some(connection) = self.connections.get_mut(name) else { return };
        let Some(session) = connection.session() else { return };
        connection.phase = Phase::Over;
        self.hub.handle(self.now, Input::Closed { session }, &mut self.ring);
        let connection = self.connections.get_mut(name).unwrap();
        connection.wire.extend(self.ring.outboxes.remove(&session).unwrap_or_default());
        if let Some(error) = error {
            error.write(&mut connection.wire);
        }
        connection.wire.extend_from_slice(b"</stream:stream>");
        connection.ending = true;
    }

    fn part(&mut self, session: Option<SessionId>) {
        if let Some(session) = session {
            self.hub.handle(self.now, Input::Closed { session }, &mut self.ring);
            self.ring.outboxes.remove(&session);
        }
    }

    // ---- what is under way ------------------------------------------------------------------------

    /// Does all that can be done now.
    pub fn settle(&mut self) {
        self.ring.max = self.hub.limits.outbox_bytes as usize;
        self.hub.now = self.now;
        while self.turn() {}
    }

    fn turn(&mut self) -> bool {
        let mut moved = self.answer_binds();
        moved |= self.deliver();
        for (session, error) in std::mem::take(&mut self.ring.closed) {
            let of = |c: &Connection| c.session() == Some(session);
            let name = self.connections.iter().find(|(_, c)| of(c)).map(|(name, _)| name.clone());
            if let Some(name) = name {
                self.end(&name, Some(&error));
            }
            moved = true;
        }
        if self.allowed != Some(0)
            && let Some((changes, ask, then)) = self.ring.jobs.pop_front()
        {
            self.allowed = self.allowed.map(|n| n - 1);
            let answer = match self.broken && !changes.is_empty() {
                true => Answer::Failed("no space left".into()),
                false => self.ask(changes, ask),
            };
            then(&mut self.hub, &mut self.ring, answer);
            moved = true;
        }
        if let Some((password, then)) = self.ring.derivations.pop_front() {
            let keys = passwords::keys(&Secret::new(password.0));
            then(&mut self.hub, &mut self.ring, keys);
            moved = true;
        }
        if !moved {
            // Those that were not read on have their turn.
            let can =
                |c: &Connection| c.ticket.is_none() && !c.session().is_some_and(|s| self.hub.congested(s));
            let next = self.connections.iter().find(|(_, c)| c.stopped && can(c));
            if let Some(name) = next.map(|(name, _)| name.clone()) {
                self.connections.get_mut(&name).unwrap().stopped = false;
                self.read(&name, &[]);
                moved = true;
            }
        }
        moved
    }

    fn answer_binds(&mut self) -> bool {
        let bound = std::mem::take(&mut self.ring.bound);
        let moved = !bound.is_empty();
        for (ticket, outcome) in bound {
            let found = self.connections.values_mut().find(|c| c.ticket == Some(ticket));
            let Some(connection) = found else {
                // It was cut in the meantime.
                self.part(outcome.ok().map(|(session, _)| session));
                continue;
            };
            connection.ticket = None;
            match std::mem::replace(&mut connection.phase, Phase::Over) {
                Phase::Negotiating(mut stream) => match outcome {
                    Ok((session, jid)) => {
                        stream.bound(&jid, &mut connection.wire);
                        connection.reader.set_max_bytes(self.hub.limits.stanza_bytes as usize);
                        connection.phase = Phase::Bound(session, stream.established().scope);
                    }
                    Err(error) => {
                        stream.bind_refused(error, &mut connection.wire);
                        connection.phase = Phase::Negotiating(stream);
                    }
                },
                _ => self.part(outcome.ok().map(|(session, _)| session)),
            }
        }
        moved
    }

    /// From the outboxes onto the wire, and from there to the clients.
    fn deliver(&mut self) -> bool {
        let mut moved = false;
        let mut full = Vec::new();
        for connection in self.connections.values_mut() {
            let outbox = connection.session().and_then(|s| self.ring.outboxes.get_mut(&s));
            if let Some(bytes) = outbox {
                connection.wire.append(bytes);
            }
            moved |= connection.flush(self.thin);
            if let Some(session) = connection.session() {
                self.ring.waiting.insert(session, connection.wire.len());
                if !connection.wire.is_empty() {
                    full.push(session);
                }
            }
        }
        let alive = |s: &SessionId| self.ring.outboxes.contains_key(s);
        let taken = std::mem::take(&mut self.ring.taken);
        let (later, now): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(s, _)| full.contains(s));
        let now: Vec<_> = now.into_iter().filter(|(s, _)| alive(s)).collect();
        self.ring.taken = later;
        for (_, then) in now {
            then(&mut self.hub, &mut self.ring, true);
            moved = true;
        }
        moved
    }
}

/// One first-level element of a bound stream, as net/drive takes it.
fn element(
    hub: &mut Hub,
    ring: &mut Ring,
    now: Now,
    session: SessionId,
    frame: &[u8],
    scope: &Scope,
) -> Result<(), Halt> {
    let (mut scan, caps) = (Scan::new(), Caps::default());
    let text = scan.element(frame, scope, &caps)?;
    let mut own = Vec::new();
    let text = if scan.outer == 0 {
        text
    } else {
        xml::redeclare(text, &scan, scope, &mut own);
        scan.element(&own, &Scope::default(), &caps)?
    };
    if let Ns::Literal(uri) = scan.ns
        && matches!(uri.of(text), ns::SERVER | ns::COMPONENT)
    {
        return Err(Halt::Error(stream::Error::new(Condition::InvalidNamespace)));
    }
    match Stanza::new(text, &scan) {
        Some(stanza) => {
            hub.handle(now, Input::Stanza { from: session, stanza: &stanza }, ring);
            Ok(())
        }
        None => Err(Halt::Error(stream::Error::new(Condition::UnsupportedStanzaType))),
    }
}
