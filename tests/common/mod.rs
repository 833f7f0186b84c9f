//! A whole hub with a fake ring around it: real rooms, a real store, no socket, a clock that stands
//! still. What the hub says to a session is collected, judged, and read by tests as stanzas.

#![allow(dead_code, missing_docs)] // each test file uses a part of this
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use stonechat::hub::limits::Limits;
use stonechat::hub::talk::{Derived, Input, Lost, Now, Password, SessionId, Sink, Taken, Then, Unreachable};
use stonechat::hub::{Hub, Names};
use stonechat::jid::{BareJid, FullJid};
use stonechat::stanza::{self, Node, Stanza, Tree};
use stonechat::store::Store;
use stonechat::store::change::{AccountId, Answer, Ask, Change, Item, Keys, ScramKeys, Subscription};
use stonechat::stream;
use stonechat::xml::{Caps, Scan, Scope};

/// The hub's domain in all tests.
pub const DOMAIN: &str = "hub.test";
/// Another name of it.
pub const ALIAS: &str = "10.0.0.1";

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// What stands in for net/.
pub struct Ring {
    store: Option<Store>,
    dir: PathBuf,
    outboxes: HashMap<SessionId, Vec<u8>>,
    jobs: VecDeque<(Vec<Change>, Ask, Then)>,
    derivations: VecDeque<(Password, Derived)>,
    taken: VecDeque<(SessionId, Taken)>,
    bound: Vec<(u64, Result<SessionId, stanza::Error>)>,
    /// Sessions whose outbox is full.
    pub full: HashSet<SessionId>,
    /// Which links the hub has asked for, and after how many milliseconds.
    pub dials: Vec<(SessionId, u64)>,
    /// What streams were closed with.
    pub closed: Vec<(SessionId, stream::Error)>,
    /// The passwords that were made into keys.
    pub passwords: Vec<String>,
    /// Readers that take nothing: what waits for [`Sink::taken`] goes on waiting.
    pub stalled: bool,
    /// Every write fails.
    pub broken: bool,
    /// Every reading of messages kept for later fails.
    pub unreadable: bool,
}

impl Sink for Ring {
    fn outbox(&mut self, to: SessionId) -> Option<&mut Vec<u8>> {
        if to.peer_place().is_some() {
            self.outboxes.entry(to).or_default();
        }
        if self.full.contains(&to) { None } else { self.outboxes.get_mut(&to) }
    }

    fn store(&mut self, changes: Vec<Change>, ask: Ask, then: Then) {
        self.jobs.push_back((changes, ask, then));
    }

    fn taken(&mut self, by: SessionId, then: Taken) {
        self.taken.push_back((by, then));
    }

    fn dial(&mut self, peer: SessionId, after_ms: u64) {
        self.dials.push((peer, after_ms));
    }

    fn derive(&mut self, password: Password, then: Derived) {
        self.derivations.push_back((password, then));
    }

    fn bound(&mut self, ticket: u64, outcome: Result<(SessionId, &FullJid), stanza::Error>) {
        let outcome = outcome.map(|(id, _)| {
            self.outboxes.insert(id, Vec::new());
            id
        });
        self.bound.push((ticket, outcome));
    }

    fn revoke(&mut self, _: &str) {}

    fn close(&mut self, session: SessionId, error: stream::Error) {
        self.closed.push((session, error));
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.store = None;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A hub, its ring, and the time.
pub struct World {
    pub hub: Hub,
    pub ring: Ring,
    pub now: Now,
    /// While this is on, the store answers nothing (see [`World::settle`]).
    pub held: bool,
    tickets: u64,
}

pub fn keys(of: &str) -> Box<Keys> {
    let scram = ScramKeys {
        salt: of.as_bytes().into(),
        iterations: 1,
        stored_key: of.as_bytes().into(),
        server_key: of.as_bytes().into(),
    };
    Box::new(Keys { sha1: scram.clone(), sha256: scram })
}

impl World {
    /// With these accounts.
    pub fn new(accounts: &[&str]) -> World {
        World::with(accounts, |_| {})
    }

    /// With these accounts and other limits than usual.
    pub fn with(accounts: &[&str], limit: impl FnOnce(&mut Limits)) -> World {
        let shm = PathBuf::from("/dev/shm");
        let base = if shm.is_dir() { shm } else { std::env::temp_dir() };
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("stonechat-test-{}-{number}", std::process::id()));
        let store = Store::open(&dir).unwrap();
        let now = Now { unix_ms: 1_790_000_000_000, mono_ms: 5_000 };
        let names = Names { domain: DOMAIN.into(), aliases: vec![ALIAS.into(), "hub".into()] };
        let mut limits = Limits::default();
        limit(&mut limits);
        let ring = Ring {
            store: Some(store),
            dir,
            outboxes: HashMap::new(),
            jobs: VecDeque::new(),
            derivations: VecDeque::new(),
            taken: VecDeque::new(),
            bound: Vec::new(),
            full: HashSet::new(),
            dials: Vec::new(),
            closed: Vec::new(),
            passwords: Vec::new(),
            stalled: false,
            broken: false,
            unreadable: false,
        };
        let hub = Hub::new(names, limits, stonechat::xep::ALL, now, 0xb007);
        let mut world = World { hub, ring, now, held: false, tickets: 0 };
        for account in accounts {
            world.create(account);
        }
        world
    }

    // ---- the store ------------------------------------------------------------------------

    pub fn ask(&self, changes: Vec<Change>, ask: Ask) -> Answer {
        self.ring.store.as_ref().unwrap().ask(changes, ask)
    }

    pub fn create(&mut self, localpart: &str) -> AccountId {
        let ask = Ask::Create { localpart: localpart.into(), keys: keys("old"), invite: None, now: 1 };
        match self.ask(Vec::new(), ask) {
            Answer::Created(Ok((id, _))) => id,
            other => panic!("{localpart}: {other:?}"),
        }
    }

    pub fn loaded(&self, localpart: &str) -> stonechat::store::change::Loaded {
        match self.ask(Vec::new(), Ask::Account { localpart: localpart.into() }) {
            Answer::Account(Some(loaded)) => *loaded,
            other => panic!("{localpart}: {other:?}"),
        }
    }

    /// The item on disk.
    pub fn item(&self, localpart: &str, contact: &str) -> Option<Item> {
        let contact = bare(contact);
        self.loaded(localpart).roster.into_iter().find(|item| *item.jid == *contact)
    }

    /// Puts an item on disk; before anybody logs in.
    pub fn put_item(&self, localpart: &str, item: Item) {
        let account = self.loaded(localpart).id;
        let version = self.loaded(localpart).version + 1;
        let answer = self.ask(vec![Change::RosterPut { account, version, item }], Ask::Nothing);
        assert_eq!(answer, Answer::Nothing);
    }

    /// Two accounts get this subscription, as the first has it, and the second the mirrored one.
    pub fn acquaint(&self, one: &str, other: &str, subscription: Subscription) {
        let mirrored = match subscription {
            Subscription::To => Subscription::From,
            Subscription::From => Subscription::To,
            same => same,
        };
        for (account, contact, subscription) in [(one, other, subscription), (other, one, mirrored)] {
            let item = Item { jid: bare(contact).into(), subscription, listed: true, ..Item::default() };
            self.put_item(account, item);
        }
    }

    // ---- time and turns ------------------------------------------------------------------------

    /// Does all that is under way: disk, workers, readers.
    pub fn settle(&mut self) {
        while !self.held && self.turn() {}
    }

    /// Does what is under way at the store now, and nothing that comes of it.
    #[allow(dead_code)] // not every program that has this world looks so closely
    pub fn round(&mut self) {
        for _ in 0..self.ring.jobs.len() {
            self.turn();
        }
    }

    /// Does one thing that is under way; false if there is none.
    pub fn turn(&mut self) -> bool {
        if let Some((changes, ask, then)) = self.ring.jobs.pop_front() {
            let writes = !changes.is_empty()
                || matches!(ask, Ask::PrivatePut { .. } | Ask::Remove { .. } | Ask::Create { .. });
            let fails = (self.ring.broken && writes)
                || (self.ring.unreadable && matches!(ask, Ask::Offline { .. } | Ask::Forward { .. }));
            let answer = match fails {
                true => Answer::Failed("no space left on the test".into()),
                false => self.ask(changes, ask),
            };
            then(&mut self.hub, &mut self.ring, answer);
            return true;
        }
        if let Some((password, then)) = self.ring.derivations.pop_front() {
            self.ring.passwords.push(password.0.to_string());
            then(&mut self.hub, &mut self.ring, keys(&password.0));
            return true;
        }
        if !self.ring.stalled
            && let Some((by, then)) = self.ring.taken.pop_front()
        {
            if self.ring.outboxes.contains_key(&by) {
                then(&mut self.hub, &mut self.ring, true);
            }
            return true;
        }
        false
    }

    /// Lets the store answer again.
    pub fn release(&mut self) {
        self.held = false;
        self.settle();
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now.unix_ms += seconds * 1000;
        self.now.mono_ms += seconds * 1000;
    }

    // ---- sessions ------------------------------------------------------------------------------

    pub fn bind(&mut self, account: &str, resource: &str) -> Result<SessionId, stanza::Error> {
        self.tickets += 1;
        let account = BareJid::parse(&bare(account)).unwrap();
        let input = Input::Bind { ticket: self.tickets, account: &account, resource, lang: None };
        self.hub.handle(self.now, input, &mut self.ring);
        self.settle();
        let ticket = self.tickets;
        let place = self.ring.bound.iter().position(|(t, _)| *t == ticket).expect("bound");
        self.ring.bound.remove(place).1
    }

    /// A session that has done nothing yet.
    pub fn bound(&mut self, account: &str, resource: &str) -> SessionId {
        self.bind(account, resource).unwrap()
    }

    /// A session as a client opens it: roster, presence. What it got by that is dropped.
    pub fn login(&mut self, account: &str, resource: &str) -> SessionId {
        self.login_with(account, resource, 0)
    }

    pub fn login_with(&mut self, account: &str, resource: &str, priority: i8) -> SessionId {
        let id = self.bound(account, resource);
        self.send(id, "<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
        self.send(id, &format!("<presence><priority>{priority}</priority></presence>"));
        self.drop_all();
        id
    }

    /// Sends a stanza and does all that follows.
    pub fn send(&mut self, from: SessionId, xml: &str) {
        self.hear(from, xml);
        self.settle();
    }

    /// Sends a stanza and does nothing else.
    pub fn hear(&mut self, from: SessionId, xml: &str) {
        self.try_hear(from, xml).unwrap_or_else(|e| panic!("{e} in {xml}"));
    }

    /// The same; an error if it never gets as far as the hub.
    pub fn try_hear(&mut self, from: SessionId, xml: &str) -> Result<(), String> {
        let mut scan = Scan::new();
        let scope = Scope { default: "jabber:client".into(), ..Scope::default() };
        let text = scan.element(xml.as_bytes(), &scope, &Caps::default()).map_err(|e| format!("{e:?}"))?;
        let stanza = Stanza::new(text, &scan).ok_or("no stanza")?;
        self.hub.handle(self.now, Input::Stanza { from, stanza: &stanza }, &mut self.ring);
        Ok(())
    }

    pub fn close(&mut self, session: SessionId) {
        self.hub.handle(self.now, Input::Closed { session }, &mut self.ring);
        self.ring.outboxes.remove(&session);
        self.settle();
    }

    /// The session's connection dies before anything that it has not looked at was written. It may
    /// have been `replaced` before.
    pub fn lose(&mut self, session: SessionId, replaced: Option<&str>) {
        let (jid, priority) = match replaced {
            Some(jid) => (jid.to_owned(), None),
            None => (self.jid(session), self.hub.session(session).unwrap().priority()),
        };
        let to = FullJid::parse(&jid).unwrap();
        let unsent = self.got(session);
        self.close(session);
        for got in unsent {
            let mut scan = Scan::new();
            let text = scan.element(got.0.as_bytes(), &Scope::default(), &Caps::judged_before()).unwrap();
            let stanza = Stanza::new(text, &scan).unwrap();
            let input = Input::Unsent { to: &to, priority, saved: false, stanza: &stanza };
            self.hub.handle(self.now, input, &mut self.ring);
        }
        self.settle();
    }

    // ---- peers ---------------------------------------------------------------------------------

    /// The peer that is the server of a domain.
    pub fn peer(&mut self, domain: &str) -> SessionId {
        self.hub.peers.federation = true;
        self.hub.peer(DOMAIN, domain).unwrap()
    }

    fn tell(&mut self, input: Input<'_>) {
        self.hub.handle(self.now, input, &mut self.ring);
        self.settle();
    }

    /// There is a stream to it now.
    pub fn link(&mut self, peer: SessionId) {
        self.tell(Input::Linked { peer });
    }

    /// The link is gone or can't be made. What the peer has not taken goes back.
    pub fn unlink(&mut self, peer: SessionId, kind: Lost) {
        let unsent = self.got(peer);
        self.hub.handle(
            self.now,
            Input::Unlinked { peer, why: Unreachable { kind, text: "a test".into() } },
            &mut self.ring,
        );
        for got in unsent.into_iter().rev() {
            let mut scan = Scan::new();
            let text = scan.element(got.0.as_bytes(), &Scope::default(), &Caps::judged_before()).unwrap();
            let stanza = Stanza::new(text, &scan).unwrap();
            self.hub.handle(self.now, Input::Returned { peer, stanza: &stanza }, &mut self.ring);
        }
        let (lost, kept) = std::mem::take(&mut self.ring.taken).into_iter().partition(|(by, _)| *by == peer);
        self.ring.taken = kept;
        let lost: VecDeque<(SessionId, Taken)> = lost;
        for (_, then) in lost {
            then(&mut self.hub, &mut self.ring, false);
        }
        self.settle();
    }

    /// A peer that was too slow has taken all that waited for it.
    pub fn drained(&mut self, peer: SessionId) {
        self.tell(Input::Drained { session: peer });
    }

    /// A stanza comes from a peer.
    pub fn remote(&mut self, peer: SessionId, xml: &str) {
        let mut scan = Scan::new();
        let scope = Scope { default: "jabber:server".into(), ..Scope::default() };
        let text = scan.element(xml.as_bytes(), &scope, &Caps::default()).unwrap();
        let stanza = Stanza::new(text, &scan).unwrap();
        self.tell(Input::Remote { peer, stanza: &stanza });
    }

    /// A domain was seen on the network.
    pub fn sight(&mut self, domain: &str) {
        self.tell(Input::Sighted { domain });
    }

    /// What a session was sent since the last look.
    pub fn got(&mut self, by: SessionId) -> Vec<Got> {
        let bytes = self.ring.outboxes.get_mut(&by).map(std::mem::take).unwrap_or_default();
        split(&bytes)
    }

    /// The same, without taking it.
    pub fn peek(&self, by: SessionId) -> Vec<Got> {
        split(self.ring.outboxes.get(&by).map_or(&[], Vec::as_slice))
    }

    /// The one stanza that a session was sent.
    pub fn one(&mut self, by: SessionId) -> Got {
        let mut all = self.got(by);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    pub fn nothing(&mut self, by: SessionId) {
        let all = self.got(by);
        assert!(all.is_empty(), "{all:?}");
    }

    pub fn drop_all(&mut self) {
        for outbox in self.ring.outboxes.values_mut() {
            outbox.clear();
        }
    }

    /// Sends an iq and gives the answer to it. What else it caused is dropped.
    pub fn iq(&mut self, from: SessionId, kind: &str, to: &str, payload: &str) -> Got {
        let to = if to.is_empty() { String::new() } else { format!(" to='{to}'") };
        self.send(from, &format!("<iq type='{kind}' id='q'{to}>{payload}</iq>"));
        let mut all = self.got(from);
        let place = all.iter().position(|g| g.attr("id").as_deref() == Some("q"));
        all.remove(place.unwrap_or_else(|| panic!("no answer: {all:?}")))
    }

    pub fn jid(&self, session: SessionId) -> String {
        self.hub.session(session).unwrap().jid.to_string()
    }

    /// With which condition a session's stream was closed.
    pub fn ended(&self, session: SessionId) -> Option<String> {
        let error = self.ring.closed.iter().find(|(id, _)| *id == session);
        error.map(|(_, error)| format!("{error:?}"))
    }
}

/// `name` or an address, as a bare address.
pub fn bare(name: &str) -> String {
    if name.contains('@') { name.into() } else { format!("{name}@{DOMAIN}") }
}

/// A stanza that a session was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Got(pub String);

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Cuts what was written on a stream into stanzas. Each must be one that our own client accepts.
fn split(bytes: &[u8]) -> Vec<Got> {
    let text = std::str::from_utf8(bytes).unwrap();
    let whole = format!("<stream xmlns='jabber:client'>{text}</stream>");
    let tree = Tree::parse(&whole).unwrap_or_else(|e| panic!("{e} in {text}"));
    let mut all = Vec::new();
    for node in tree.root_element().children() {
        let text = &whole[node.range()];
        assert!(node.is_element(), "between stanzas: {text:?}");
        let mut scan = Scan::new();
        let judged = scan.element(text.as_bytes(), &Scope::default(), &Caps::passed_on());
        let judged = judged.unwrap_or_else(|e| panic!("{e:?} in {text}"));
        assert!(Stanza::new(judged, &scan).is_some(), "no stanza: {text}");
        all.push(Got(text.into()));
    }
    all
}

impl Got {
    pub fn with<R>(&self, look: impl FnOnce(Node<'_, '_>) -> R) -> R {
        look(Tree::parse(&self.0).unwrap().root_element())
    }

    pub fn name(&self) -> String {
        self.with(|n| n.tag_name().name().into())
    }

    pub fn attr(&self, name: &str) -> Option<String> {
        self.with(|n| n.attribute(name).map(Into::into))
    }

    pub fn kind(&self) -> String {
        self.attr("type").unwrap_or_default()
    }

    pub fn from(&self) -> String {
        self.attr("from").unwrap_or_default()
    }

    pub fn body(&self) -> Option<String> {
        self.with(|n| stanza::child_text(&n, "", "body").map(Into::into))
    }

    /// Whether anywhere inside there is an element of that namespace and name.
    pub fn has(&self, ns: &str, name: &str) -> bool {
        self.count(ns, name) > 0
    }

    pub fn count(&self, ns: &str, name: &str) -> usize {
        self.with(|n| n.descendants().filter(|d| stanza::is(d, ns, name)).count())
    }

    /// An attribute of the first such element.
    pub fn of(&self, ns: &str, name: &str, attr: &str) -> Option<String> {
        self.with(|n| {
            let found = n.descendants().find(|d| stanza::is(d, ns, name))?;
            found.attribute(attr).map(Into::into)
        })
    }

    /// The text of the first such element.
    pub fn text(&self, ns: &str, name: &str) -> Option<String> {
        self.with(|n| {
            let found = n.descendants().find(|d| stanza::is(d, ns, name))?;
            Some(found.text().unwrap_or_default().into())
        })
    }

    /// The condition of the stanza error.
    pub fn error(&self) -> Option<String> {
        self.with(|n| {
            let error = stanza::child(&n, "", "error")?;
            error.first_element_child().map(|c| c.tag_name().name().into())
        })
    }

    pub fn is_error(&self, condition: &str) -> bool {
        self.kind() == "error" && self.error().as_deref() == Some(condition)
    }

    /// `name from kind`: what most tests need to know of a presence.
    pub fn short(&self) -> String {
        format!("{} {} {}", self.name(), self.from(), self.kind()).trim_end().into()
    }
}

/// [`Got::short`] of all.
pub fn short(all: &[Got]) -> Vec<String> {
    all.iter().map(Got::short).collect()
}
