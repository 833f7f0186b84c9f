//! The responder and the browser, without sockets: packets and times in, packets out (RFC 6762, RFC 6763).
//!
//! It browses for `_xmpp-server._tcp` and `_xmpps-server._tcp`, and announces what this hub listens for, under
//! the domain as the instance's name. Nothing that it says is about people (threat I7), and nothing that it
//! hears is believed (threat I1).

use super::rate::Rate;
use super::records::{self, Bits, COUNT, META, Owner, SHARED};
use super::sightings::Sightings;
use super::{Config, Interface, Kind, PORT, service_name};
use crate::net::cert::{self, printable};
use crate::net::dns::wire::{self, Message, Question, Record, Section, Writer};
use crate::net::sort_few;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// RFC 6762 §8.1: three probes, 250 ms apart.
const PROBES: u8 = 3;
const PROBE: Duration = Duration::from_millis(250);
/// RFC 6762 §8.3: two announcements at least, a second apart, then twice that.
const ANNOUNCEMENTS: u8 = 3;
const SECOND: Duration = Duration::from_secs(1);
/// Other names taken within an hour, and disputes gone into; then we stay (threat I2).
const MAX_DISPUTES: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);
/// The longest time between two of our questions.
const PATIENCE: Duration = Duration::from_secs(300);
/// RFC 6762 §6.7: for those who do not speak multicast DNS.
const LEGACY_TTL: u32 = 10;

/// A packet to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Through which interface.
    pub interface: u32,
    /// To the group of IPv6, or of IPv4.
    pub v6: bool,
    /// To this one alone, and not to the group.
    pub to: Option<SocketAddr>,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// What comes of a packet or of time.
#[derive(Debug, Default)]
pub struct Output {
    /// Packets to be sent.
    pub packets: Vec<Outgoing>,
    /// Domains that were seen for the first time, again, or somewhere else.
    pub appeared: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// RFC 6762 §8.1. We say nothing yet.
    Probing {
        sent: u8,
        at: Instant,
    },
    /// RFC 6762 §8.3.
    Announcing {
        sent: u8,
        at: Instant,
    },
    Settled,
}

/// One record on one link.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// To be sent then.
    at: Option<Instant>,
    /// Only this one has asked.
    asker: Option<IpAddr>,
    /// Was sent to the group then.
    sent: Option<Instant>,
}

/// An interface and a family of addresses.
struct Link {
    interface: usize,
    v6: bool,
    slots: [Slot; COUNT],
}

/// Multicast DNS for one hub.
pub struct Mdns {
    config: Config,
    interfaces: Vec<Interface>,
    links: Vec<Link>,
    /// What was heard before the network was another one is asked for anew.
    since: Instant,
    owner: Owner,
    phase: Phase,
    renamed: Vec<Instant>,
    disputed: Vec<Instant>,
    /// Enough of disputes, until then.
    stays: Option<Instant>,
    query_at: Instant,
    asked: Option<Instant>,
    interval: Duration,
    rate: Rate,
    dice: u64,
}

impl Mdns {
    /// Knows of no interface yet; the first list of them starts it.
    pub fn new(now: Instant, config: Config) -> Mdns {
        let owner = Owner::new(&config);
        let dice = config.seed | 1;
        Mdns {
            config,
            interfaces: Vec::new(),
            links: Vec::new(),
            since: now,
            owner,
            phase: Phase::Settled,
            renamed: Vec::new(),
            disputed: Vec::new(),
            stays: None,
            query_at: now,
            asked: None,
            interval: SECOND,
            rate: Rate::new(now),
            dice,
        }
    }

    /// The interfaces of the machine, as often as one likes. Whoever is in another network asks who is there,
    /// and says that he is, from the beginning (RFC 6762 §8).
    pub fn interfaces(&mut self, now: Instant, list: Vec<Interface>) {
        if list == self.interfaces {
            return;
        }
        self.interfaces = list;
        self.since = now;
        self.links.clear();
        for (interface, is) in self.interfaces.iter().enumerate() {
            for v6 in [false, true] {
                // The loopback has no way to the group of IPv6.
                let leads = !(v6 && is.loopback);
                if leads && is.addresses.iter().any(|(ip, _)| ip.is_ipv6() == v6) {
                    self.links.push(Link { interface, v6, slots: [Slot::default(); COUNT] });
                }
            }
        }
        self.probe_after(now, PROBE);
        self.interval = SECOND;
        self.query_at = self.in_random(now, 20, 120);
    }

    /// Another key: announced from the beginning, for the host may go by it.
    pub fn key(&mut self, now: Instant, pin: cert::Pin) {
        if self.config.pin != pin {
            self.config.pin = pin;
            self.owner.reset(&self.config);
            self.probe_after(now, PROBE);
        }
    }

    /// Somebody looks for a domain: asks soon.
    pub fn look(&mut self, now: Instant) {
        let soonest = self.asked.and_then(|asked| asked.checked_add(SECOND)).map_or(now, |at| at.max(now));
        self.query_at = self.query_at.min(soonest);
    }

    /// A packet has come. `from` decides on which links: what is from none of their networks is for nobody
    /// (RFC 6762 §11, threat I3).
    pub fn handle(&mut self, now: Instant, bytes: &[u8], from: SocketAddr, seen: &mut Sightings) -> Output {
        let mut out = Output::default();
        let links = self.links_of(from);
        if links.is_empty() || !self.rate.admit(now, from.ip()) {
            return out;
        }
        // RFC 6762 §18.11.
        let Some(message) = wire::read(bytes).filter(|message| message.rcode == 0) else { return out };
        if !message.response {
            self.probed(now, &message, &links);
            self.asked(now, &message, from, &links, &mut out);
            self.send_due(now, &mut out);
        } else if from.port() == PORT {
            // RFC 6762 §6: from another port it is nobody's.
            self.disputes(now, &message);
            seen.hear(now, &message, from, self.owner.label());
            if seen.incomplete() {
                self.look(now);
            }
        }
        out.appeared = seen.news(now).0;
        out
    }

    /// What time brings, and when there is more.
    pub fn tick(&mut self, now: Instant, seen: &mut Sightings) -> (Output, Instant) {
        let mut out = Output::default();
        self.advance(now, &mut out);
        self.send_due(now, &mut out);
        if now >= self.query_at {
            self.query(now, seen, &mut out);
        }
        if let Some(pin) = seen.take_twin(now) {
            let pin = cert::pin_text(&pin);
            log::warn!(
                "another hub on this network says that it is {}, too (with the key {pin}): people may reach it instead; one of the two needs another --domain",
                self.config.domain
            );
        }
        let (appeared, more) = seen.news(now);
        out.appeared = appeared;
        let phase = match self.phase {
            Phase::Probing { at, .. } | Phase::Announcing { at, .. } => Some(at),
            Phase::Settled => {
                self.renamed.last().filter(|_| self.owner.renamed()).and_then(|at| at.checked_add(HOUR))
            }
        };
        let due = self.links.iter().flat_map(|link| &link.slots).filter_map(|slot| slot.at);
        let next = due.chain(phase).chain(more).fold(self.query_at, Instant::min);
        (out, next)
    }

    /// Takes leave (RFC 6762 §10.1).
    pub fn goodbye(&mut self) -> Vec<Outgoing> {
        let mut out = Output::default();
        if !matches!(self.phase, Phase::Probing { .. }) {
            for at in 0..self.links.len() {
                let mask = self.available(at) & !META;
                self.send(at, mask, Some(0), &mut out);
            }
        }
        out.packets
    }

    // ---- who may speak to us -----------------------------------------------------------------------

    fn links_of(&self, from: SocketAddr) -> Vec<usize> {
        let on = |link: &&(usize, &Link)| {
            let (_, link) = link;
            link.v6 == from.is_ipv6()
                && self.interfaces.get(link.interface).is_some_and(|interface| interface.reaches(from))
        };
        let all: Vec<_> = self.links.iter().enumerate().collect();
        all.iter().filter(on).map(|(at, _)| *at).collect()
    }

    // ---- probing, announcing, disputes -------------------------------------------------------------

    fn probe_after(&mut self, now: Instant, at_most: Duration) {
        let ms = u64::try_from(at_most.as_millis()).unwrap_or(0);
        self.phase = Phase::Probing { sent: 0, at: self.in_random(now, 0, ms) };
    }

    fn advance(&mut self, now: Instant, out: &mut Output) {
        match self.phase {
            Phase::Probing { sent, at } if now >= at => {
                if sent < PROBES {
                    (0..self.links.len()).for_each(|link| self.probe(link, out));
                    self.phase = Phase::Probing { sent: sent + 1, at: now + PROBE };
                } else {
                    self.phase = Phase::Announcing { sent: 0, at: now };
                    self.advance_announcing(now, out);
                }
            }
            Phase::Announcing { at, .. } if now >= at => self.advance_announcing(now, out),
            // Whoever had our name may have gone.
            Phase::Settled if self.owner.renamed() && self.stays.is_none_or(|until| now >= until) => {
                let over = |at: &Instant| now.saturating_duration_since(*at) >= HOUR;
                if self.renamed.last().is_none_or(over) {
                    self.owner.reset(&self.config);
                    self.probe_after(now, PROBE);
                }
            }
            _ => {}
        }
    }

    fn advance_announcing(&mut self, now: Instant, out: &mut Output) {
        let Phase::Announcing { sent, .. } = self.phase else { return };
        for at in 0..self.links.len() {
            let mask = self.available(at);
            self.send(at, mask, None, out);
            self.note_sent(at, mask, now);
        }
        self.phase = match sent + 1 {
            ANNOUNCEMENTS => Phase::Settled,
            sent => Phase::Announcing { sent, at: now + SECOND * (1 << (sent - 1)) },
        };
    }

    /// Asks for what we are about to claim, and says what that is (RFC 6762 §8.1, §8.2). Not for answers by
    /// unicast: where another responder shares the port, they go to only one of us.
    fn probe(&self, link: usize, out: &mut Output) {
        let Some((interface, v6)) = self.at(link) else { return };
        let mut writer = Writer::query();
        let claims = self.owner.claims(&self.config, interface);
        let mut names: Vec<&wire::Name> = Vec::new();
        for record in &claims {
            if !names.contains(&&record.name) {
                names.push(&record.name);
                writer.question(&Question { name: record.name.clone(), kind: wire::ANY, unicast: false });
            }
        }
        for record in &claims {
            writer.record(Section::Authority, &Record { flush: false, ..record.clone() });
        }
        push(out, interface.index, v6, None, writer);
    }

    /// Somebody else probes at the same time: the one whose data are later in order has it (RFC 6762 §8.2).
    fn probed(&mut self, now: Instant, message: &Message, links: &[usize]) {
        if message.authority.is_empty() || !matches!(self.phase, Phase::Probing { .. }) {
            return;
        }
        for link in links {
            let Some((interface, _)) = self.at(*link) else { continue };
            let claims = self.owner.claims(&self.config, interface);
            for name in claims.iter().map(|record| &record.name) {
                let sorted = |list: &[Record]| {
                    let of_name = list.iter().filter(|r| r.name == *name && !self.machine_has(r));
                    let mut all: Vec<_> = of_name.map(|r| (r.data.kind(), r.data.bytes())).collect();
                    sort_few(&mut all, |a, b| a < b);
                    all
                };
                let (ours, theirs) = (sorted(&claims), sorted(&message.authority));
                if theirs.is_empty() || theirs <= ours {
                    continue;
                }
                if self.may_dispute(now) {
                    self.disputed.push(now);
                    self.phase = Phase::Probing { sent: 0, at: now + SECOND };
                }
                return;
            }
        }
    }

    /// Somebody says otherwise about a name of ours (RFC 6762 §9).
    fn disputes(&mut self, now: Instant, message: &Message) {
        let ours = self.interfaces.iter().flat_map(|i| self.owner.claims(&self.config, i));
        let ours: Vec<Record> = ours.collect();
        let disputed = message.answers.iter().chain(&message.additional).find(|theirs| {
            let of_ours = || ours.iter().filter(|r| r.name == theirs.name);
            theirs.ttl > 0
                && of_ours().next().is_some()
                && matches!(theirs.data.kind(), wire::A | wire::AAAA | wire::SRV | wire::TXT)
                && !self.machine_has(theirs)
                && !of_ours().any(|r| r.data == theirs.data)
        });
        let Some(disputed) = disputed.map(|record| record.name.clone()) else { return };
        if !self.may_dispute(now) {
            return;
        }
        if !matches!(self.phase, Phase::Probing { .. }) {
            // It may have been a slip, or a lie: whoever really has it says so again when we ask.
            self.disputed.push(now);
            self.probe_after(now, Duration::ZERO);
            return;
        }
        let before = self.owner.text(&disputed);
        self.renamed.push(now);
        let after = self.owner.rename(&disputed, &self.config);
        log::warn!(
            "mDNS: {} belongs to another machine on this network; announcing {after} instead. The domain stays; give one of the two machines another host name",
            printable(&before, 80)
        );
        self.probe_after(now, PROBE);
    }

    /// An address of this machine is never in dispute: another responder here (avahi) says it, too, also one that
    /// we do not announce.
    fn machine_has(&self, record: &Record) -> bool {
        let ip = match &record.data {
            wire::Data::A(ip) => IpAddr::V4(*ip),
            wire::Data::Aaaa(ip) => IpAddr::V6(*ip),
            _ => return false,
        };
        self.interfaces
            .iter()
            .any(|i| i.addresses.iter().any(|(own, _)| *own == ip) || i.passing.contains(&ip))
    }

    /// Whether we go into a dispute: not more than a few times an hour, whatever is sprayed at us.
    fn may_dispute(&mut self, now: Instant) -> bool {
        if self.stays.is_some_and(|until| now < until) {
            return false;
        }
        self.stays = None;
        for list in [&mut self.renamed, &mut self.disputed] {
            list.retain(|at| now.saturating_duration_since(*at) < HOUR);
        }
        let probing = matches!(self.phase, Phase::Probing { .. });
        let enough = self.disputed.len() >= MAX_DISPUTES && !probing || self.renamed.len() >= MAX_DISPUTES;
        if enough || self.disputed.len() > MAX_DISPUTES {
            self.stays = now.checked_add(HOUR);
            log::warn!(
                "mDNS: somebody on this network disputes our names again and again; staying with {} (clients and peers know us by our key)",
                printable(&self.owner.text(self.owner.host()), 80)
            );
            return false;
        }
        true
    }

    // ---- answering ---------------------------------------------------------------------------------

    fn asked(
        &mut self,
        now: Instant,
        message: &Message,
        from: SocketAddr,
        links: &[usize],
        out: &mut Output,
    ) {
        if matches!(self.phase, Phase::Probing { .. }) {
            return;
        }
        let legacy = from.port() != PORT;
        let probe = !message.authority.is_empty();
        for link in links.iter().copied() {
            let known = self.known(link, &message.answers);
            let (mut group, mut alone) = (0, 0);
            for question in &message.questions {
                let mask = self.matching(link, question) & !known;
                // RFC 6762 §5.4: to one alone only what the others have heard not long ago.
                if question.unicast && !probe && self.recently(link, mask, now) {
                    alone |= mask;
                } else {
                    group |= mask;
                }
            }
            if legacy {
                if group | alone != 0 {
                    self.send_legacy(link, group | alone, message, from, out);
                    return;
                }
                continue;
            }
            if alone & !group != 0 {
                self.send_to(link, alone & !group, Some(from), out);
            }
            if message.questions.is_empty() {
                self.suppress(link, from.ip(), known);
            }
            // RFC 6762 §6 and §7.2: what others may answer, too, not all at once; and if more known answers
            // follow, after them.
            let at = match (message.truncated, group & SHARED != 0) {
                (true, _) => self.in_random(now, 400, 500),
                (false, true) => self.in_random(now, 20, 120),
                (false, false) => now,
            };
            self.plan(link, group, at, from.ip(), probe);
        }
    }

    /// Plans to send, a second after the last time at the earliest, unless that is what defends a name.
    fn plan(&mut self, link: usize, mask: Bits, at: Instant, asker: IpAddr, defends: bool) {
        let Some(link) = self.links.get_mut(link) else { return };
        for (bit, slot) in link.slots.iter_mut().enumerate() {
            if mask & (1 << bit) == 0 {
                continue;
            }
            let again = if defends { PROBE } else { SECOND };
            let earliest =
                slot.sent.and_then(|sent| sent.checked_add(again)).map_or(at, |again| again.max(at));
            slot.asker = match slot.at {
                None => Some(asker),
                Some(_) => slot.asker.filter(|first| *first == asker),
            };
            slot.at = Some(slot.at.map_or(earliest, |planned| planned.min(earliest)));
        }
    }

    /// The only one who asked knows it already (RFC 6762 §7.2).
    fn suppress(&mut self, link: usize, asker: IpAddr, known: Bits) {
        let Some(link) = self.links.get_mut(link) else { return };
        for (bit, slot) in link.slots.iter_mut().enumerate() {
            if known & (1 << bit) != 0 && slot.asker == Some(asker) {
                slot.at = None;
            }
        }
    }

    fn send_due(&mut self, now: Instant, out: &mut Output) {
        if matches!(self.phase, Phase::Probing { .. }) {
            self.links.iter_mut().flat_map(|link| &mut link.slots).for_each(|slot| slot.at = None);
            return;
        }
        for at in 0..self.links.len() {
            let Some(link) = self.links.get(at) else { continue };
            let due = link.slots.iter().enumerate().filter(|(_, slot)| slot.at.is_some_and(|at| at <= now));
            let mask = due.fold(0, |mask: Bits, (bit, _)| mask | 1 << bit);
            if mask != 0 {
                self.send(at, mask, None, out);
                self.note_sent(at, mask, now);
            }
        }
    }

    fn note_sent(&mut self, link: usize, mask: Bits, now: Instant) {
        let Some(link) = self.links.get_mut(link) else { return };
        for (bit, slot) in link.slots.iter_mut().enumerate() {
            if mask & (1 << bit) != 0 {
                *slot = Slot { sent: Some(now), ..Slot::default() };
            }
        }
    }

    fn recently(&self, link: usize, mask: Bits, now: Instant) -> bool {
        let Some(link) = self.links.get(link) else { return false };
        link.slots.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0).all(|(bit, slot)| {
            let quarter = Duration::from_secs(u64::from(records::ttl(bit) / 4));
            slot.sent.is_some_and(|sent| now.saturating_duration_since(sent) < quarter)
        })
    }

    fn at(&self, link: usize) -> Option<(&Interface, bool)> {
        let link = self.links.get(link)?;
        Some((self.interfaces.get(link.interface)?, link.v6))
    }

    fn available(&self, link: usize) -> Bits {
        self.at(link).map_or(0, |(interface, _)| records::available(&self.config, interface))
    }

    fn matching(&self, link: usize, question: &Question) -> Bits {
        self.at(link).map_or(0, |(interface, _)| self.owner.matching(&self.config, interface, question))
    }

    /// What is known at the other side, and for long enough (RFC 6762 §7.1).
    fn known(&self, link: usize, theirs: &[Record]) -> Bits {
        let Some((interface, _)) = self.at(link) else { return 0 };
        if theirs.is_empty() {
            return 0;
        }
        let mut mask = 0;
        for bit in 0..COUNT {
            let ours = self.owner.records(&self.config, interface, bit, None);
            let same = |o: &Record, t: &Record| o.name == t.name && o.data == t.data && t.ttl >= o.ttl / 2;
            if !ours.is_empty() && ours.iter().all(|o| theirs.iter().any(|t| same(o, t))) {
                mask |= 1 << bit;
            }
        }
        mask
    }

    fn send(&self, link: usize, mask: Bits, ttl: Option<u32>, out: &mut Output) {
        self.write(link, mask, ttl, None, out);
    }

    fn send_to(&self, link: usize, mask: Bits, to: Option<SocketAddr>, out: &mut Output) {
        self.write(link, mask, None, to, out);
    }

    /// The records of `mask`, in as many packets as it takes, and in the last what goes along.
    fn write(&self, link: usize, mask: Bits, ttl: Option<u32>, to: Option<SocketAddr>, out: &mut Output) {
        let Some((interface, v6)) = self.at(link) else { return };
        let mask = mask & records::available(&self.config, interface);
        let mut writer = Writer::response(0);
        for record in self.owner.all(&self.config, interface, mask, ttl) {
            if !writer.record(Section::Answer, &record) {
                push(out, interface.index, v6, to, std::mem::replace(&mut writer, Writer::response(0)));
                writer.record(Section::Answer, &record);
            }
        }
        if ttl.is_none() {
            for record in self.owner.all(&self.config, interface, records::along(mask), None) {
                writer.record(Section::Additional, &record);
            }
        }
        push(out, interface.index, v6, to, writer);
    }

    /// As a name server would answer (RFC 6762 §6.7): the id and the questions again, short times, no flush.
    fn send_legacy(&self, link: usize, mask: Bits, asked: &Message, to: SocketAddr, out: &mut Output) {
        let Some((interface, v6)) = self.at(link) else { return };
        let mut writer = Writer::response(asked.id);
        for question in &asked.questions {
            writer.question(&Question { unicast: false, ..question.clone() });
        }
        let mask = mask & records::available(&self.config, interface);
        for (section, mask) in [(Section::Answer, mask), (Section::Additional, records::along(mask))] {
            for record in self.owner.all(&self.config, interface, mask, None) {
                let ttl = record.ttl.min(LEGACY_TTL);
                writer.record(section, &Record { flush: false, ttl, ..record });
            }
        }
        push(out, interface.index, v6, Some(to), writer);
    }

    // ---- asking ------------------------------------------------------------------------------------

    fn query(&mut self, now: Instant, seen: &mut Sightings, out: &mut Output) {
        let services = [Kind::Server, Kind::ServerTls].map(service_name);
        let mut questions: Vec<Question> =
            services.into_iter().map(|name| Question { name, kind: wire::PTR, unicast: false }).collect();
        questions.extend(seen.questions());
        let known = seen.known(now, self.since);
        for link in 0..self.links.len() {
            let Some((interface, v6)) = self.at(link) else { continue };
            let mut writer = Writer::query();
            questions.iter().for_each(|question| {
                writer.question(question);
            });
            // Our own: there is no need to answer ourselves.
            let ours =
                self.owner.all(&self.config, interface, records::pointers(&self.config, interface), None);
            for record in ours.iter().chain(&known) {
                // More than fit are answered again; that is cheaper than packets that announce packets.
                if !writer.record(Section::Answer, record) {
                    break;
                }
            }
            push(out, interface.index, v6, None, writer);
        }
        self.asked = Some(now);
        self.query_at = now + self.interval;
        // RFC 6762 §5.2: twice as long each time.
        self.interval = (self.interval * 2).min(PATIENCE);
    }

    fn in_random(&mut self, now: Instant, from: u64, to: u64) -> Instant {
        // xorshift: it only has to differ from that of others who were started by the same power cut.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let span = to.saturating_sub(from).saturating_add(1);
        let ms = from.saturating_add(self.dice.checked_rem(span).unwrap_or(0));
        now + Duration::from_millis(ms)
    }
}

fn push(out: &mut Output, interface: u32, v6: bool, to: Option<SocketAddr>, writer: Writer) {
    if !writer.is_empty() {
        out.packets.push(Outgoing { interface, v6, to, bytes: writer.finish() });
    }
}
