//! What is settled about other domains, and how each of them is doing: plain data beside the hub, for
//! whoever dials and judges, and for `peer list`. The records and the components are the store's, held in
//! memory; what is live is written by those who make the streams.

use super::cert::{self, Pin};
use super::pairing::Status;
use super::ring::Shared;
use crate::hub::peer::Link as Way;
use crate::hub::talk::Input;
use crate::hub::talk::Sink as _;
use crate::hub::{Hub, limits::fixed};
use crate::jid::Domain;
use crate::store::Store;
use crate::store::change::{Answer, Ask, Forwards, PeerRecord, PeerSource};
use crate::stream;
use crate::stream::pairing::{self, Offer};
use crate::stream::trust::Trusted;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How the way to a domain stands; the best last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Link {
    /// Nothing asks for one.
    #[default]
    Down,
    /// It failed, and is tried again later.
    Waiting,
    /// Being made.
    Dialling,
    /// There is a stream.
    Up,
}

impl Link {
    /// The word for lists.
    pub const fn name(self) -> &'static str {
        match self {
            Link::Down => "down",
            Link::Waiting => "waiting",
            Link::Dialling => "dialling",
            Link::Up => "up",
        }
    }
}

/// How a domain was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// The operator said so (`peer add`).
    Said,
    /// It was paired with.
    Paired,
    /// It was seen on the local network.
    Mdns,
    /// By the DNS.
    Dns,
    /// It came to us.
    Came,
}

impl Found {
    /// The word for lists.
    pub const fn name(self) -> &'static str {
        match self {
            Found::Said => "said",
            Found::Paired => "paired",
            Found::Mdns => "mdns",
            Found::Dns => "dns",
            Found::Came => "came",
        }
    }

    /// The same for a person.
    pub const fn words(self) -> &'static str {
        match self {
            Found::Said => "added by hand",
            Found::Paired => "paired",
            Found::Mdns => "seen on this network",
            Found::Dns => "found by DNS",
            Found::Came => "came by itself",
        }
    }

    /// All of them.
    pub const ALL: [Found; 5] = [Found::Said, Found::Paired, Found::Mdns, Found::Dns, Found::Came];
}

impl From<PeerSource> for Found {
    fn from(source: PeerSource) -> Found {
        match source {
            PeerSource::Said => Found::Said,
            PeerSource::Paired => Found::Paired,
        }
    }
}

/// What those who make the streams know of a domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    /// How the way to it stands.
    pub state: Link,
    /// How it was found, if it was.
    pub found: Option<Found>,
    /// How it has proven itself, while there is a stream.
    pub trusted: Option<Trusted>,
    /// Why there is no stream, in plain words; may hold what the other side said.
    pub error: Option<String>,
    /// Unix seconds since when it is so.
    pub since: u64,
}

/// One that is to be seen on the local network, and has proven nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The domain that it says it serves.
    pub domain: Box<str>,
    /// The key that it says it has.
    pub pin: Option<Pin>,
    /// Where it says it is.
    pub address: Option<Box<str>>,
}

/// The table. The desk writes records and components, net/s2s what is live.
#[derive(Default)] // no Debug: there are secrets in it
pub struct Peers {
    /// What is settled about other domains.
    pub records: HashMap<Box<str>, PeerRecord>,
    /// Domains of components, and their secrets.
    pub components: HashMap<Box<str>, Box<str>>,
    /// See [`Peers::note`].
    pub live: HashMap<Box<str>, Live>,
    /// The hub's own key, to be shown to others. Written at the start and at a reload.
    pub own: Option<Pin>,
    /// `--peer-deny`: no order at the console changes that.
    pub denied: BTreeSet<Box<str>>,
    /// Whether there is a listener for components.
    pub listens: bool,
}

impl Peers {
    /// What the store has; waits for it.
    ///
    /// # Errors
    ///
    /// If it can't be read, in one line.
    pub fn load(store: &Store) -> Result<Peers, String> {
        let mut peers = Peers::default();
        match store.ask(Vec::new(), Ask::Peers) {
            Answer::Peers(records) => records.into_iter().for_each(|record| peers.put(record)),
            other => return Err(unfit(other)),
        }
        match store.ask(Vec::new(), Ask::Components) {
            Answer::Components(all) => peers.components.extend(all),
            other => return Err(unfit(other)),
        }
        Ok(peers)
    }

    /// What is settled about a domain, if anything is.
    pub fn known(&self, domain: &str) -> Option<&PeerRecord> {
        self.records.get(domain)
    }

    /// Settles it.
    pub fn put(&mut self, record: PeerRecord) {
        self.records.insert(record.domain.clone(), record);
    }

    /// Nothing is settled any more.
    pub fn remove(&mut self, domain: &str) {
        self.records.remove(domain);
    }

    /// A component's secret (XEP-0114 §3); `None`: there is no such component.
    pub fn secret(&self, component: &str) -> Option<&str> {
        self.components.get(component).map(|secret| &**secret)
    }

    /// Notes how the way to a domain stands now. Bounded: strangers can make any number of domains
    /// known, so the one that has been down for longest is forgotten.
    pub fn note(&mut self, domain: &str, live: Live) {
        if let Some(known) = self.live.get_mut(domain) {
            let since = if known.state == live.state { known.since } else { live.since };
            *known = Live { since, ..live };
            return;
        }
        if self.live.len() >= fixed::PEERS_SHOWN {
            let idle = self.live.iter().filter(|(_, live)| live.state <= Link::Waiting);
            match idle.min_by_key(|(_, live)| live.since).map(|(domain, _)| domain.clone()) {
                Some(oldest) => drop(self.live.remove(&oldest)),
                // All are in use, as far as other bounds allow; this one can do without a line.
                None => return,
            }
        }
        self.live.insert(domain.into(), live);
    }
}

fn unfit(answer: Answer) -> String {
    match answer {
        Answer::Failed(why) => why,
        _ => "the store gave an answer that does not fit; please report this".into(),
    }
}

/// An error is cut there: two keys and what to type fit.
const ERROR: usize = 600;

/// All that there is to say of one domain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerState {
    /// The domain.
    pub domain: Box<str>,
    /// How the way to it stands.
    pub state: Link,
    /// How it was found.
    pub found: Option<Found>,
    /// How it has proven itself.
    pub trusted: Option<Trusted>,
    /// Its key: the pinned one; of one that is only seen, what it says.
    pub pin: Option<Pin>,
    /// Where it is: as the operator said, or as it says itself.
    pub address: Option<Box<str>>,
    /// Messages that wait for it in the store.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Unix seconds when the first of them came; 0: none waits.
    pub oldest: u64,
    /// Unix seconds since when the way stands as it does; 0: not known.
    pub since: u64,
    /// Nobody speaks to it: the record says so, or an option of the hub.
    pub denied: bool,
    /// The last error, in plain words.
    pub error: Option<String>,
}

impl PeerState {
    /// How it is doing, in a few words.
    pub fn words(&self) -> String {
        let mut words = vec![self.state.name().to_owned()];
        words.extend(self.found.map(|found| found.words().to_owned()));
        words.extend(self.trusted.map(|trusted| format!("trusted by {}", trusted.words())));
        if self.queued > 0 {
            words.push(format!("messages waiting: {} ({} bytes)", self.queued, self.queued_bytes));
        }
        words.extend(self.denied.then(|| "denied".to_owned()));
        words.extend(self.error.as_ref().map(|error| cert::printable(error, ERROR)));
        words.join(", ")
    }

    /// The fields, with tabs between: how the desk hands them to the command line.
    pub fn line(&self, now: u64) -> String {
        let age = |time: u64| if time == 0 { String::new() } else { now.saturating_sub(time).to_string() };
        let plain = |text: &str| text.replace(char::is_control, " ");
        [
            plain(&self.domain),
            self.state.name().into(),
            self.found.map_or("", Found::name).into(),
            self.trusted.map_or("", |trusted| trusted.rung().name()).into(),
            self.pin.as_ref().map(cert::pin_text).unwrap_or_default(),
            plain(self.address.as_deref().unwrap_or_default()),
            self.queued.to_string(),
            self.queued_bytes.to_string(),
            age(self.oldest),
            age(self.since),
            self.denied.to_string(),
            cert::printable(&plain(self.error.as_deref().unwrap_or_default()), ERROR),
        ]
        .join("\t")
    }
}

/// Everybody that there is something to say of, by domain. `waiting` is what the store says, for when
/// there is no hub.
pub fn states(
    peers: &Peers,
    hub: Option<&Hub>,
    waiting: &[Forwards],
    seen: &[Seen],
) -> BTreeMap<Box<str>, PeerState> {
    let mut all: BTreeMap<Box<str>, PeerState> = BTreeMap::new();
    fn of<'a>(all: &'a mut BTreeMap<Box<str>, PeerState>, domain: &str) -> &'a mut PeerState {
        let new = || PeerState { domain: domain.into(), ..PeerState::default() };
        all.entry(domain.into()).or_insert_with(new)
    }
    for one in seen {
        let state = of(&mut all, &one.domain);
        (state.found, state.pin, state.address) = (Some(Found::Mdns), one.pin, one.address.clone());
    }
    for (domain, live) in peers.live.iter().filter(|(domain, _)| !peers.components.contains_key(*domain)) {
        let state = of(&mut all, domain);
        (state.state, state.trusted, state.since) = (live.state, live.trusted, live.since);
        // Whoever is to be seen here did not come from nowhere.
        state.found = match (live.found, state.found) {
            (Some(Found::Came) | None, Some(seen)) => Some(seen),
            (found, _) => found,
        };
        state.error.clone_from(&live.error);
    }
    for record in peers.records.values() {
        let state = of(&mut all, &record.domain);
        state.found = Some(record.source.into());
        state.denied = record.denied;
        // What is pinned, and not what somebody on the network says.
        state.pin = record.pin;
        state.address = record.address.clone().or(state.address.take());
    }
    for pair in waiting {
        let state = of(&mut all, &pair.remote);
        queue(state, (pair.count, pair.bytes), pair.oldest);
    }
    for pair in hub.into_iter().flat_map(Hub::all_peers).filter(|pair| !pair.component) {
        let way = match pair.link.get() {
            Way::Idle => Link::Down,
            Way::Dialling => Link::Dialling,
            Way::Up => Link::Up,
            Way::Waiting { .. } => Link::Waiting,
        };
        // Of one that was a component, or that nobody ever went for, there is nothing to say.
        if way == Link::Down && pair.queued.0 == 0 && !all.contains_key(&pair.remote) {
            continue;
        }
        let state = of(&mut all, &pair.remote);
        state.state = state.state.max(way);
        queue(state, pair.queued, pair.oldest);
        if let (true, Some(trouble)) = (way == Link::Waiting, &pair.trouble) {
            state.error = Some(trouble.to_string());
        }
    }
    if let Some(hub) = hub.filter(|hub| hub.peers.federation) {
        all.values_mut().for_each(|state| state.denied |= !hub.peers.permits(&state.domain));
    }
    for state in all.values_mut().filter(|state| state.state == Link::Up) {
        state.error = None;
    }
    all
}

fn queue(state: &mut PeerState, (count, bytes): (u32, u64), oldest: u64) {
    if count == 0 {
        return;
    }
    state.queued = state.queued.saturating_add(count.into());
    state.queued_bytes = state.queued_bytes.saturating_add(bytes);
    state.oldest = if state.oldest == 0 { oldest } else { state.oldest.min(oldest) };
}

// ---- what the running hub does at the operator's word -------------------------------------------------

/// A record is another one, or gone: streams that rest on what was before are closed, and the hub tries anew.
pub fn changed(shared: &Rc<Shared>, domain: &str) {
    {
        let mut peers = shared.federation.peers.borrow_mut();
        // What was wrong was so with what was on record before.
        if let Some(live) = peers.live.get_mut(domain).filter(|live| live.state != Link::Up) {
            (live.state, live.error) = (Link::Down, None);
        }
        let denied = peers.known(domain).is_some_and(|record| record.denied) || peers.denied.contains(domain);
        shared.with_hub(|hub, _| match denied {
            true => drop(hub.peers.denied.insert(domain.into())),
            false => drop(hub.peers.denied.remove(domain)),
        });
        shared.federation.sightings.borrow_mut().pinned(peers.records.keys().map(|domain| &**domain));
    }
    super::s2s::changed(shared, domain);
    shared.hear(Input::Sighted { domain });
}

/// A component may attach, under another secret perhaps, or no longer.
pub fn component_changed(shared: &Rc<Shared>, domain: &str) {
    let is = shared.federation.peers.borrow().components.contains_key(domain);
    // Nobody speaks for it any more by what it has proven as another server.
    super::s2s::changed(shared, domain);
    shared.with_hub(|hub, sink| {
        hub.set_component(domain, is);
        // Whoever is attached has proven what is no longer good.
        if let Some(attached) = hub.find_peer(&hub.names.domain.clone(), domain) {
            let why = if is { stream::Condition::Reset } else { stream::Condition::HostGone };
            sink.close(attached, stream::Error::new(why));
        }
    });
}

/// Who is to be seen on the local network.
pub fn seen(shared: &Rc<Shared>) -> Vec<Seen> {
    let list = shared.federation.sightings.borrow().list();
    let here = list.into_iter().filter(|one| !one.gone);
    here.map(|one| Seen {
        domain: one.domain.as_str().into(),
        pin: one.pin,
        address: one.addresses.first().map(|address| address.to_string().into()),
    })
    .collect()
}

/// Between two tries to reach the other hub of a pairing, whose people may come a little later.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a person waits for an answer to one order.
const WAIT: Duration = Duration::from_secs(30);

/// Opens a pairing for some minutes, with whoever is there or with one domain; what to do next.
///
/// # Errors
///
/// One line for a person.
pub async fn pair(shared: &Rc<Shared>, domain: Option<&str>) -> Result<String, String> {
    let own = shared.federation.peers.borrow().own;
    let (Some(own), true) = (own, shared.federation.s2s.get().is_some()) else {
        return Err("this hub does not reach other domains; it runs with --no-s2s".into());
    };
    // Whoever asks again for the same asks how it stands; for another, he has changed his mind.
    let same = match shared.federation.pairing.status() {
        Status::Closed(_) => false,
        Status::Waiting { with, .. } => with.as_deref() == domain,
        Status::Compare(offer) => domain.is_none_or(|domain| *offer.peer.domain == *domain),
    };
    if !same {
        let patience = Duration::from_secs(shared.limits().pairing_seconds);
        let us = shared.with_hub(|hub, _| (*hub.names.domain).into());
        shared.federation.pairing.open(pairing::Hub { domain: us, pin: own }, domain, patience);
        shared.spawn(seek(shared.clone(), domain.map(Box::from)));
    }
    let (mine, started) = (shared.federation.pairing.opened(), Instant::now());
    loop {
        if shared.federation.pairing.opened() != mine {
            return Err("another pairing has taken its place".into());
        }
        let left = match shared.federation.pairing.status() {
            Status::Compare(offer) => return Ok(compare(&offer)),
            Status::Closed(None) => return Err("nobody has come; the pairing is closed".into()),
            Status::Closed(Some(why)) => return Err(format!("nothing was paired: {why}")),
            Status::Waiting { left, .. } => Duration::from_secs(left.saturating_add(1)),
        };
        let Some(patience) = WAIT.checked_sub(started.elapsed()) else {
            return Err(format!(
                "nobody has come yet; the pairing stays open for {} seconds more: say the same at the other hub, and here again",
                left.as_secs()
            ));
        };
        smol::future::or(shared.federation.pairing.changed(), shared.reactor.after(left.min(patience))).await;
    }
}

fn compare(offer: &Offer) -> String {
    let domain = &offer.peer.domain;
    format!(
        "  {}\n\nThe same six digits must be shown at {domain}. If they are, and only then: stonechat peer accept {domain}\n(Its key is {}.)",
        offer.digits(),
        cert::pin_text(&offer.peer.pin)
    )
}

/// Dials the other hub of a pairing until somebody is there who wants the same.
async fn seek(shared: Rc<Shared>, with: Option<Box<str>>) {
    let mine = shared.federation.pairing.opened();
    let waits = || {
        shared.federation.pairing.opened() == mine
            && matches!(shared.federation.pairing.status(), Status::Waiting { .. })
    };
    while waits() {
        let domains: Vec<Box<str>> = match &with {
            Some(domain) => vec![domain.clone()],
            None => {
                let peers = shared.federation.peers.borrow();
                let paired = |domain: &str| peers.records.get(domain).is_some_and(|r| r.pin.is_some());
                let seen = seen(&shared).into_iter().map(|one| one.domain);
                seen.filter(|domain| !paired(domain)).collect()
            }
        };
        for domain in domains {
            if let (Ok(domain), true) = (Domain::parse(&domain), waits()) {
                super::s2s::pair(&shared, &domain).await;
            }
        }
        // Both have begun at the same moment: not again at the same moment.
        let [more] = super::random::<1>();
        shared.reactor.after(AGAIN + Duration::from_millis(u64::from(more) * 4)).await;
    }
}

/// A person has compared the codes, or read this one off the other hub. What it gives is to be written down.
///
/// # Errors
///
/// One line for a person.
pub fn accept(shared: &Rc<Shared>, domain: &str, code: Option<&str>) -> Result<Pin, String> {
    let Status::Compare(offer) = shared.federation.pairing.status() else {
        return Err(format!("no pairing waits for a yes; stonechat peer pair {domain} opens one"));
    };
    if *offer.peer.domain != *domain {
        return Err(format!("the pairing that waits for a yes is with {}", offer.peer.domain));
    }
    if let Some(code) = code {
        let digits =
            |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect::<String>();
        if digits(code) != digits(&offer.digits()) {
            // One guess (threats I5).
            let _ = shared.federation.pairing.close();
            return Err("the codes differ: somebody may stand between the two hubs. Nothing was pinned, and the pairing is closed".into());
        }
    }
    let hub = shared.federation.pairing.accept(domain).map_err(|why| why.to_string())?;
    Ok(hub.pin)
}

/// `HOST:PORT` of a record, for whoever dials it: a name or an address (`[…]` for IPv6), and a port
/// that is not 0.
pub fn host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match bare {
        // A link-local address may name the interface behind a %.
        Some(inner) => {
            let (address, _zone) = inner.split_once('%').unwrap_or((inner, ""));
            address.parse::<std::net::Ipv6Addr>().is_ok()
        }
        None => !host.contains(':') && crate::jid::domainpart(host).is_ok(),
    };
    valid.then_some((bare.unwrap_or(host), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(state: Link, since: u64) -> Live {
        Live { state, found: Some(Found::Dns), trusted: None, error: None, since }
    }

    fn record(domain: &str) -> PeerRecord {
        PeerRecord { domain: domain.into(), pin: Some([7; 32]), ..PeerRecord::default() }
    }

    #[test]
    fn strangers_push_out_strangers_and_nobody_who_is_connected() {
        let mut peers = Peers::default();
        peers.note("up.example", live(Link::Up, 0));
        for n in 1..fixed::PEERS_SHOWN as u64 + 9 {
            peers.note(&format!("d{n}.example"), live(Link::Waiting, n));
        }
        assert_eq!(peers.live.len(), fixed::PEERS_SHOWN);
        assert!(peers.live.contains_key("up.example") && !peers.live.contains_key("d9.example"));
        assert!(peers.live.contains_key("d10.example"));
        // The time is that of the last change of state.
        peers.note("d10.example", Live { error: Some("no".into()), ..live(Link::Waiting, 99_999) });
        assert_eq!(peers.live["d10.example"].since, 10);
        peers.note("d10.example", live(Link::Up, 99_999));
        assert_eq!(peers.live["d10.example"].since, 99_999);
        for live in peers.live.values_mut() {
            live.state = Link::Up;
        }
        peers.note("one.more", live(Link::Up, 1));
        assert!(!peers.live.contains_key("one.more"));
    }

    #[test]
    fn a_domain_is_one_line_whoever_knows_of_it() {
        let mut peers = Peers::default();
        peers.put(record("boat.local"));
        peers.put(PeerRecord { pin: None, source: PeerSource::Paired, ..record("repaired.local") });
        peers.components.insert("irc.us".into(), "secret".into());
        peers.note("irc.us", live(Link::Up, 3));
        peers.note("boat.local", Live { error: Some("a\tb\u{1b}\nc".into()), ..live(Link::Waiting, 5) });
        let seen = |domain: &str| Seen { domain: domain.into(), pin: Some([9; 32]), address: None };
        let seen = [seen("boat.local"), seen("repaired.local"), seen("cove.local")];
        let waits = |local: &str, count, oldest| Forwards {
            local: local.into(),
            remote: "boat.local".into(),
            count,
            bytes: 10,
            oldest,
        };
        let all = states(&peers, None, &[waits("us", 2, 90), waits("also.us", 1, 80)], &seen);
        assert_eq!(
            all.keys().map(|d| &**d).collect::<Vec<_>>(),
            ["boat.local", "cove.local", "repaired.local"]
        );
        let boat = &all["boat.local"];
        assert_eq!((boat.queued, boat.queued_bytes, boat.oldest, boat.pin), (3, 20, 80, Some([7; 32])));
        assert_eq!(boat.found, Some(Found::Said), "what a person said is above what is seen");
        assert_eq!(all["repaired.local"].pin, None, "what it says is not what is pinned");
        assert_eq!((all["cove.local"].pin, all["cove.local"].found), (Some([9; 32]), Some(Found::Mdns)));
        // Whoever is seen here and comes by itself is still seen here, and not pinned.
        peers.note("cove.local", Live { found: Some(Found::Came), ..live(Link::Down, 7) });
        assert_eq!(states(&peers, None, &[], &seen)["cove.local"].found, Some(Found::Mdns));
        let pin = cert::pin_text(&[7; 32]);
        assert_eq!(
            boat.line(100),
            format!("boat.local\twaiting\tsaid\t\t{pin}\t\t3\t20\t20\t95\tfalse\ta b  c")
        );
        assert_eq!(boat.line(100).split('\t').count(), all["cove.local"].line(100).split('\t').count());
    }

    #[test]
    fn host_and_port() {
        for (text, wanted) in [
            ("boat.local:5269", Some(("boat.local", 5269))),
            ("10.0.0.1:1", Some(("10.0.0.1", 1))),
            ("[::1]:5269", Some(("::1", 5269))),
            ("[fe80::1%eth0]:5269", Some(("fe80::1%eth0", 5269))),
            ("boat.local", None),
            ("boat.local:", None),
            ("boat.local:0", None),
            ("boat.local:65536", None),
            ("::1:5269", None),
            ("[boat]:5269", None),
            (":5269", None),
            ("a b:5269", None),
        ] {
            assert_eq!(host_port(text), wanted, "{text}");
        }
    }
}
