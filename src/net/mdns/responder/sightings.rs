//! Who has been seen on the network: hints, never proofs (threat I1). What is trusted is a key, and that is
//! decided where TLS is; here is only where one may try to reach somebody.

use super::{Kind, service_name};
use crate::net::cert::{self, Pin};
use crate::net::dns::wire::{self, Data, Message, Name, Question, Record};
use crate::net::lines::Lines;
use crate::net::sort_few;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::task::Waker;
use std::time::{Duration, Instant};

/// Hubs seen at once. A village has fewer; a flood of inventions does not get more (threat I3).
const MAX_SEEN: usize = 64;
/// Of these from one address: a machine has one hub, a test bench a few.
const MAX_FROM_ONE: usize = 8;
/// Addresses of one host, of each family.
const MAX_ADDRESSES: usize = 4;
/// Domains that somebody looks for.
const MAX_WANTED: usize = 16;
/// Addresses that have proven good, for the peers of one hub.
const MAX_GOOD: usize = 256;
/// Addresses to try for one domain.
const MAX_CANDIDATES: usize = 16;
/// Questions about one that is not complete, before it has to speak up itself.
const MAX_ASKED: u8 = 3;
/// No record counts for longer, whatever it says.
const MAX_TTL: u32 = 86_400;
/// One that changes all the time is news only so often.
const NEWS: Duration = Duration::from_secs(5);
/// Between two warnings of another that says it is us.
const TWINS: Duration = Duration::from_secs(3600);
/// The port of those that are found by their name alone.
const PORT: u16 = 5269;

/// Where to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Address and port; link-local ones with their interface.
    pub address: SocketAddr,
    /// TLS from the first byte (XEP-0368), or STARTTLS.
    pub direct_tls: bool,
}

/// One that has been seen, for `peer list`. Everything in it is what somebody on the network says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The domain that it says it serves.
    pub domain: String,
    /// Where it says it is.
    pub addresses: Vec<SocketAddr>,
    /// The key that it says it has.
    pub pin: Option<Pin>,
    /// When it was heard last.
    pub seen: Instant,
    /// It has taken leave, or was not heard for too long.
    pub gone: bool,
}

/// An instance of the service (RFC 6763 §4.1), under both of its types.
struct Instance {
    label: Box<[u8]>,
    domain: Option<Box<str>>,
    pin: Option<Pin>,
    host: Option<Box<str>>,
    /// Port with STARTTLS, with direct TLS.
    ports: [Option<u16>; 2],
    /// When each of its two pointers was heard, and how long it counts.
    pointers: [Option<(Instant, u32)>; 2],
    from: IpAddr,
    seen: Instant,
    asked: u8,
    news: bool,
    told: Option<Instant>,
}

struct Host {
    name: Box<str>,
    /// The newest first; without a port.
    addresses: Vec<SocketAddr>,
    /// Somebody looks for it by its name.
    wanted: bool,
}

/// What is known of the network.
pub struct Sightings {
    own: Box<str>,
    own_pin: Pin,
    instances: Vec<Instance>,
    hosts: Vec<Host>,
    /// Domains whose last address is never forgotten.
    pinned: Vec<Box<str>>,
    good: Vec<(Box<str>, Candidate)>,
    wanted: Vec<Box<str>>,
    waker: Option<Waker>,
    /// There is somebody who listens to the network.
    listens: bool,
    /// Another that says it is us, with its key; and when one was told of.
    twin: Option<Pin>,
    twin_told: Option<Instant>,
    /// What is said in the log of who appears.
    lines: Lines,
}

impl Sightings {
    /// Nobody seen yet, by a hub of that domain and key.
    pub fn new(own: &str, own_pin: Pin) -> Sightings {
        Sightings {
            own: domain(own).unwrap_or_default(),
            own_pin,
            instances: Vec::new(),
            hosts: Vec::new(),
            pinned: Vec::new(),
            good: Vec::new(),
            wanted: Vec::new(),
            waker: None,
            listens: false,
            twin: None,
            twin_told: None,
            lines: Lines::new(MAX_SEEN as u32),
        }
    }

    /// These domains are in the record of peers: no goodbye and no flood makes us forget where they were
    /// (threat I2). Replaces what was said before.
    pub fn pinned<'d>(&mut self, domains: impl Iterator<Item = &'d str>) {
        self.pinned = domains.filter_map(domain).collect();
    }

    /// A connection to that address has proven to be the domain; it is tried first from now on.
    pub fn good(&mut self, name: &str, at: Candidate) {
        let Some(name) = domain(name) else { return };
        self.good.retain(|(other, _)| *other != name);
        if self.good.len() >= MAX_GOOD {
            self.good.remove(0);
        }
        self.good.push((name, at));
    }

    /// Where to try for a domain: where it has just said that it is, for hubs move; where it has proven to be;
    /// then what else was seen, newest first, IPv4 first.
    pub fn candidates(&self, name: &str) -> Vec<Candidate> {
        let Some(name) = domain(name) else { return Vec::new() };
        if name == self.own {
            return Vec::new();
        }
        let mut all: Vec<Candidate> = Vec::new();
        let mut add = |one: Candidate| {
            if all.len() < MAX_CANDIDATES && !all.contains(&one) {
                all.push(one);
            }
        };
        let good = self.good.iter().find(|(other, _)| *other == name).map(|(_, at)| *at);
        let mut named: Vec<&Instance> =
            self.instances.iter().filter(|i| i.domain.as_ref() == Some(&name)).collect();
        sort_few(&mut named, |a, b| (a.gone(), b.seen) < (b.gone(), a.seen));
        let at = |address: &SocketAddr, port: u16, direct_tls| {
            let mut address = *address;
            address.set_port(port);
            Candidate { address, direct_tls }
        };
        let ends = |instance: &Instance, address: &SocketAddr| {
            let ends = [(instance.ports[1], true), (instance.ports[0], false)];
            ends.map(|(port, direct)| port.map(|port| at(address, port, direct)))
        };
        if let Some(first) = named.first()
            && let Some(address) = self.addresses(first).next().filter(|_| !first.gone())
            && good.is_none_or(|good| good.address.ip() != address.ip())
        {
            ends(first, address).into_iter().flatten().for_each(&mut add);
        }
        good.into_iter().for_each(&mut add);
        for instance in &named {
            let addresses = self.addresses(instance);
            addresses.flat_map(|address| ends(instance, address)).flatten().for_each(&mut add);
        }
        if named.is_empty() {
            let hosts = self.hosts.iter().filter(|h| h.name == name);
            hosts.flat_map(|h| &h.addresses).map(|address| at(address, PORT, false)).for_each(&mut add);
        }
        all
    }

    /// Asks the network for a domain now; whoever answers is among the candidates a moment later.
    pub fn look(&mut self, name: &str) {
        let Some(name) = domain(name) else { return };
        if self.wanted.contains(&name) || name == self.own {
            return;
        }
        if name.ends_with(".local") && self.host(&name).is_none() {
            let waiting = self.hosts.iter().filter(|h| h.wanted).count();
            if waiting >= MAX_WANTED
                && let Some(first) = self.hosts.iter().position(|h| h.wanted)
            {
                self.hosts.remove(first);
            }
            self.hosts.push(Host { name: name.clone(), addresses: Vec::new(), wanted: true });
        }
        if self.wanted.len() < MAX_WANTED {
            self.wanted.push(name);
        }
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// All that have been seen, by domain.
    pub fn list(&self) -> Vec<Sighting> {
        let complete = self.instances.iter().filter(|i| self.complete(i));
        let mut all: Vec<Sighting> = complete
            .map(|i| {
                let port = i.ports[0].or(i.ports[1]).unwrap_or(PORT);
                let with_port = |address: &SocketAddr| {
                    let mut address = *address;
                    address.set_port(port);
                    address
                };
                Sighting {
                    domain: i.domain.as_deref().unwrap_or_default().to_owned(),
                    addresses: self.addresses(i).map(with_port).collect(),
                    pin: i.pin,
                    seen: i.seen,
                    gone: i.gone(),
                }
            })
            .collect();
        sort_few(&mut all, |a, b| a.domain < b.domain);
        all
    }

    /// Whether there is somebody who listens to the network at all.
    pub fn listens(&self) -> bool {
        self.listens
    }

    pub(super) fn set_listens(&mut self) {
        self.listens = true;
    }

    /// Our own key is another from now on (a reload); it is announced.
    pub fn own_key(&mut self, pin: Pin) {
        self.own_pin = pin;
        self.wake();
    }

    pub(super) fn own_pin(&self) -> Pin {
        self.own_pin
    }

    /// Whether somebody looks for a domain; if not, whoever looks next wakes this.
    pub(super) fn take_wanted(&mut self, waker: Option<&Waker>) -> bool {
        let wanted = !std::mem::take(&mut self.wanted).is_empty();
        if !wanted {
            self.waker = waker.cloned();
        }
        wanted
    }

    /// Another that says it is us, if it is time to tell of one: whoever says so says it with each announcement, and
    /// with another key each time if he likes (threats I6, J7).
    pub(super) fn take_twin(&mut self, now: Instant) -> Option<Pin> {
        let twin = self.twin.take()?;
        if self.twin_told.is_some_and(|told| now.saturating_duration_since(told) < TWINS) {
            return None;
        }
        self.twin_told = Some(now);
        Some(twin)
    }

    /// Hears a response. `ours` is the label that our own instance goes by.
    pub(super) fn hear(&mut self, now: Instant, message: &Message, from: SocketAddr, ours: &[u8]) {
        let records = || message.answers.iter().chain(&message.additional);
        for (number, kind) in [Kind::Server, Kind::ServerTls].into_iter().enumerate() {
            let service = service_name(kind);
            for record in records() {
                let label = match &record.data {
                    Data::Ptr(target) if record.name == service => target.label_under(&service),
                    Data::Srv { .. } | Data::Txt(_) => record.name.label_under(&service),
                    _ => None,
                };
                let Some(label) = label.filter(|label| !label.eq_ignore_ascii_case(ours)) else { continue };
                let ttl = record.ttl.min(MAX_TTL);
                let Some(instance) = self.instance(now, label, from.ip(), ttl) else { continue };
                instance.hear(now, number, &record.data, ttl);
            }
        }
        self.drop_own();
        for record in records().filter(|record| record.ttl > 0) {
            let ip = match &record.data {
                Data::A(ip) => IpAddr::V4(*ip),
                Data::Aaaa(ip) => IpAddr::V6(*ip),
                _ => continue,
            };
            if let Some(name) = record.name.host() {
                self.address(&name, ip, from);
            }
        }
        self.forget_hosts();
    }

    /// The instance of that label: known, or new if there is room and it has not just said goodbye.
    fn instance(&mut self, now: Instant, label: &[u8], from: IpAddr, ttl: u32) -> Option<&mut Instance> {
        if let Some(at) = self.instances.iter().position(|i| i.label.eq_ignore_ascii_case(label)) {
            return self.instances.get_mut(at);
        }
        if ttl == 0 || self.instances.iter().filter(|i| i.from == from).count() >= MAX_FROM_ONE {
            return None;
        }
        if self.instances.len() >= MAX_SEEN {
            let others = self.instances.iter().enumerate().filter(|(_, i)| !self.keeps(i));
            let (oldest, _) = others.min_by_key(|(_, i)| (!i.gone(), i.seen))?;
            self.instances.remove(oldest);
        }
        self.instances.push(Instance {
            label: label.into(),
            domain: std::str::from_utf8(label).ok().filter(|l| l.contains('.')).and_then(domain),
            pin: None,
            host: None,
            ports: [None; 2],
            pointers: [None; 2],
            from,
            seen: now,
            asked: 0,
            news: true,
            told: None,
        });
        self.instances.last_mut()
    }

    /// What says that it is us is not somebody else: either we hear ourselves, or it lies, or it is a twin.
    fn drop_own(&mut self) {
        let Sightings { instances, twin, own, own_pin, .. } = self;
        instances.retain(|i| {
            let is_own = i.domain.as_ref() == Some(own);
            if is_own && let Some(pin) = i.pin.filter(|pin| pin != own_pin) {
                *twin = Some(pin);
            }
            !is_own
        });
    }

    /// An address counts only for a host that somebody has named.
    fn address(&mut self, name: &str, ip: IpAddr, from: SocketAddr) {
        // RFC 6762 §11; threat D10. What more is not dialled is decided where one dials.
        let odd = match ip {
            IpAddr::V4(v4) => v4.is_broadcast(),
            IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
        };
        if odd || ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() && !from.ip().is_loopback() {
            return;
        }
        let scope = match (ip, from) {
            (IpAddr::V6(v6), SocketAddr::V6(from)) if v6.is_unicast_link_local() => from.scope_id(),
            // It can't be reached without an interface, and this came over IPv4.
            (IpAddr::V6(v6), SocketAddr::V4(_)) if v6.is_unicast_link_local() => return,
            _ => 0,
        };
        let address = match ip {
            IpAddr::V4(v4) => SocketAddr::from((v4, 0)),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, 0, 0, scope).into(),
        };
        let named = self.instances.iter().any(|i| i.host.as_deref() == Some(name));
        if self.host(name).is_none() {
            if !named {
                return;
            }
            self.hosts.push(Host { name: name.into(), addresses: Vec::new(), wanted: false });
        }
        let Some(host) = self.hosts.iter_mut().find(|h| &*h.name == name) else { return };
        let known = host.addresses.contains(&address);
        host.addresses.retain(|other| *other != address);
        // IPv4 first, and of each family the newest.
        let at = if address.is_ipv4() { 0 } else { host.addresses.partition_point(SocketAddr::is_ipv4) };
        host.addresses.insert(at, address);
        let (mut v4, mut v6) = (0, 0);
        host.addresses.retain(|a| {
            let count = if a.is_ipv4() { &mut v4 } else { &mut v6 };
            *count += 1;
            *count <= MAX_ADDRESSES
        });
        if !known {
            let named = self.instances.iter_mut().filter(|i| i.host.as_deref() == Some(name));
            named.for_each(|i| i.news = true);
        }
    }

    fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|h| &*h.name == name)
    }

    fn forget_hosts(&mut self) {
        let Sightings { instances, hosts, .. } = self;
        hosts.retain(|h| h.wanted || instances.iter().any(|i| i.host.as_ref() == Some(&h.name)));
    }

    fn addresses(&self, instance: &Instance) -> impl Iterator<Item = &SocketAddr> {
        let host = instance.host.as_deref().and_then(|name| self.host(name));
        host.into_iter().flat_map(|host| &host.addresses)
    }

    fn complete(&self, instance: &Instance) -> bool {
        instance.domain.is_some() && instance.ports != [None; 2] && self.addresses(instance).next().is_some()
    }

    fn keeps(&self, instance: &Instance) -> bool {
        instance.domain.as_ref().is_some_and(|domain| self.pinned.contains(domain))
    }

    /// Domains that have appeared, have said so again, or are somewhere else, since this was asked last; and when there is more to
    /// tell. Those that were not heard for too long go.
    pub(super) fn news(&mut self, now: Instant) -> (Vec<String>, Option<Instant>) {
        for instance in &mut self.instances {
            for pointer in &mut instance.pointers {
                let past =
                    |(heard, ttl): &(Instant, u32)| now.saturating_duration_since(*heard) > seconds(*ttl);
                if pointer.as_ref().is_some_and(past) {
                    *pointer = None;
                }
            }
        }
        // One without a pointer has a moment to get one: RFC 6762 §10.1.
        let stays =
            |i: &Instance, keeps: bool| keeps || !i.gone() || now.saturating_duration_since(i.seen) < NEWS;
        let staying: Vec<bool> = self.instances.iter().map(|i| stays(i, self.keeps(i))).collect();
        let mut staying = staying.into_iter();
        self.instances.retain(|_| staying.next().unwrap_or(true));
        self.forget_hosts();
        let (mut names, mut next) = (Vec::new(), None);
        let complete: Vec<bool> = self.instances.iter().map(|i| self.complete(i)).collect();
        for (instance, complete) in self.instances.iter_mut().zip(complete) {
            if !complete || !instance.news || instance.gone() {
                continue;
            }
            match instance.told.and_then(|told| told.checked_add(NEWS)).filter(|at| *at > now) {
                Some(at) => next = Some(next.map_or(at, |next: Instant| next.min(at))),
                None => {
                    let domain = instance.domain.as_deref().unwrap_or_default();
                    if instance.told.is_none() {
                        let level = self.lines.level(now);
                        log::log!(level, "mDNS: {} is on the network", cert::printable(domain, 80));
                    }
                    instance.news = false;
                    instance.told = Some(now);
                    names.push(domain.to_owned());
                }
            }
        }
        (names, next)
    }

    /// What to ask besides who is there: what is missing, and the names that somebody looks for.
    pub(super) fn questions(&mut self) -> Vec<Question> {
        let mut all = Vec::new();
        let mut ask = |name: Name, kind| all.push(Question { name, kind, unicast: false });
        let complete: Vec<bool> = self.instances.iter().map(|i| self.complete(i)).collect();
        for (instance, complete) in self.instances.iter_mut().zip(complete) {
            if complete || instance.asked >= MAX_ASKED {
                continue;
            }
            instance.asked = instance.asked.saturating_add(1);
            for (number, kind) in [Kind::Server, Kind::ServerTls].into_iter().enumerate() {
                if instance.pointers.get(number).is_some_and(Option::is_some) {
                    let name = Name::under(&instance.label, &service_name(kind));
                    ask(name.clone(), wire::SRV);
                    ask(name, wire::TXT);
                }
            }
            if let Some(host) = &instance.host {
                ask(Name::of(host), wire::A);
                ask(Name::of(host), wire::AAAA);
            }
        }
        for host in self.hosts.iter().filter(|h| h.wanted) {
            ask(Name::of(&host.name), wire::A);
            ask(Name::of(&host.name), wire::AAAA);
        }
        all
    }

    /// Whether there is one that has to be asked about.
    pub(super) fn incomplete(&self) -> bool {
        self.instances.iter().any(|i| i.asked == 0 && !i.gone() && !self.complete(i))
    }

    /// Those that need not answer (RFC 6762 §7.1): heard not too long ago, and since we are on this network.
    pub(super) fn known(&self, now: Instant, since: Instant) -> Vec<Record> {
        let mut all = Vec::new();
        for instance in &self.instances {
            for (kind, pointer) in [Kind::Server, Kind::ServerTls].into_iter().zip(instance.pointers) {
                let Some((heard, ttl)) = pointer else { continue };
                let age = u32::try_from(now.saturating_duration_since(heard).as_secs()).unwrap_or(u32::MAX);
                if self.complete(instance) && heard >= since && age < ttl / 2 {
                    let service = service_name(kind);
                    let data = Data::Ptr(Name::under(&instance.label, &service));
                    all.push(Record { name: service, flush: false, ttl: ttl.saturating_sub(age), data });
                }
            }
        }
        all
    }
}

impl Instance {
    fn gone(&self) -> bool {
        self.pointers == [None; 2]
    }

    fn hear(&mut self, now: Instant, number: usize, data: &Data, ttl: u32) {
        match data {
            Data::Ptr(_) => {
                // Known ones are said again by those who come back to the network, or to newcomers.
                let again = |told: Instant| now.saturating_duration_since(told) > NEWS;
                if let Some(pointer) = self.pointers.get_mut(number) {
                    self.news |= ttl > 0 && (pointer.is_none() || self.told.is_none_or(again));
                    *pointer = (ttl > 0).then_some((now, ttl));
                }
            }
            // Goodbyes of these change nothing: the pointer's counts.
            _ if ttl == 0 => return,
            Data::Srv { port, target, .. } => {
                let host = target.host().filter(|host| host.ends_with(".local")).map(String::into_boxed_str);
                if let Some(kept) = self.ports.get_mut(number)
                    && *port != 0
                    && host.is_some()
                {
                    self.news |= *kept != Some(*port) || self.host != host;
                    *kept = Some(*port);
                    self.host = host;
                }
            }
            Data::Txt(txt) => {
                for (key, value) in wire::attributes(txt) {
                    let value = std::str::from_utf8(value).unwrap_or_default();
                    if key.eq_ignore_ascii_case(b"domain") {
                        let said = domain(value);
                        self.news |= said.is_some() && said != self.domain;
                        self.domain = said.or(self.domain.take());
                    } else if key.eq_ignore_ascii_case(b"pin") {
                        self.pin = cert::parse_pin(value);
                    }
                }
            }
            _ => return,
        }
        if ttl > 0 {
            self.seen = now;
        }
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

/// Domains are compared as A-labels in lower case. An address is none: it can be looked for nowhere.
fn domain(name: &str) -> Option<Box<str>> {
    let name = cert::ascii_name(name)?;
    cert::ip_literal(&name).is_none().then(|| name.into())
}
