//! Names to addresses: SRV (RFC 6120 §3.2.1, RFC 2782, XEP-0368), A and AAAA, by a stub resolver over
//! UDP with TCP for what is truncated. Never fatal: what cannot be looked up is an empty list and a
//! reason, and everything together ends after five seconds.
//!
//! An answer counts if it comes from the server that was asked (the socket is connected), to a fresh
//! port, with the random id and the very question (RFC 5452 §4.5, §9).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use ring::rand::{SecureRandom, SystemRandom};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use smol::future;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::cert::{ascii_name, ip_literal};

/// Everything that one call does, all servers and retries included.
const TOTAL: Duration = Duration::from_secs(5);
/// One question to one server.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// As the C library reads them.
const MAX_SERVERS: usize = 3;
const ROUNDS: usize = 2;
/// CNAMEs from the name that was asked for.
const MAX_CNAMES: usize = 8;
/// An answer of more bytes is not read: compressed names cost more than their bytes.
const MAX_ANSWER: usize = 16 * 1024;
/// Records of one answer, and targets in all.
const MAX_RECORDS: usize = 64;
/// Datagrams that are not our answer, before we stop listening on that port.
const MAX_STRANGERS: usize = 64;
const MAX_FILE: u64 = 1 << 20;

/// What is looked for at a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `_xmpp-client._tcp`, and `_xmpps-client._tcp` for direct TLS.
    Client,
    /// `_xmpp-server._tcp`, and `_xmpps-server._tcp` for direct TLS.
    Server,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A host name. It is *not* what the certificate is checked against, that is the domain.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS from the first byte (XEP-0368), or STARTTLS.
    pub direct_tls: bool,
}

/// What SRV has to say about a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In the order to try them.
    pub targets: Vec<Target>,
    /// The domain says that it has no such service (target `.`): do not try its own addresses
    /// (RFC 6120 §3.2.1 point 3).
    pub absent: bool,
    /// Why the list is empty. Not an error: go on with the domain's own address.
    pub reason: Option<Reason>,
}

/// Why a look-up brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No name server is configured.
    NoServers,
    /// Names of this kind (address, `.local`, one label) have no SRV records in DNS.
    NotInDns,
    /// The name does not exist.
    NoSuchName,
    /// The name exists, and has no such records.
    NoRecords,
    /// The server answered with an error.
    ServerSaid(&'static str),
    /// No answer in time.
    TimedOut,
    /// An answer that makes no sense.
    Garbled,
    /// The network said no.
    Io(io::ErrorKind),
    /// Not a name.
    BadName,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoServers => {
                f.write_str("no name server is set in /etc/resolv.conf; give the address with --host")
            }
            Reason::NotInDns => f.write_str("such names have no SRV records"),
            Reason::NoSuchName => {
                f.write_str("no such name in DNS; check the spelling, or give the address with --host")
            }
            Reason::NoRecords => f.write_str("no such records in DNS"),
            Reason::ServerSaid(what) => {
                write!(f, "the name server said {what}; try again, or give the address with --host")
            }
            Reason::TimedOut => f.write_str(
                "no name server answered in time; check the network, or give the address with --host",
            ),
            Reason::Garbled => {
                f.write_str("the name server's answer makes no sense; try another in /etc/resolv.conf")
            }
            Reason::Io(kind) => write!(
                f,
                "cannot ask the name server: {kind}; check the network, or give the address with --host"
            ),
            Reason::BadName => f.write_str("not a host name; use a name such as pi.local, or an IP address"),
        }
    }
}

impl std::error::Error for Reason {}

/// Which servers to ask, and what is known without asking.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    hosts: Vec<(String, IpAddr)>,
    attempt: Duration,
    total: Duration,
    /// Whether the C library is asked last.
    system: bool,
}

impl Resolver {
    /// As this machine is configured: `/etc/resolv.conf` and `/etc/hosts`. Files that are not there
    /// count as empty. Read anew for each use: a laptop moves.
    pub fn system() -> Resolver {
        let text = |path: &str| {
            let bytes = super::read_capped(Path::new(path), MAX_FILE).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (servers, attempt) = resolv_conf(&text("/etc/resolv.conf"));
        Resolver { servers, hosts: hosts_file(&text("/etc/hosts")), attempt, total: TOTAL, system: true }
    }

    /// Only these servers: no files, no C library.
    pub fn with_servers(servers: Vec<SocketAddr>) -> Resolver {
        Resolver { servers, hosts: Vec::new(), attempt: ATTEMPT, total: TOTAL, system: false }
    }

    /// The same with other patience.
    pub fn patience(mut self, attempt: Duration, total: Duration) -> Resolver {
        self.attempt = attempt;
        self.total = total;
        self
    }

    /// The targets of both SRV names of `domain`, mixed by priority and weight (XEP-0368 §3).
    pub async fn lookup_srv(&self, domain: &str, service: Service) -> Found {
        let none = |reason| Found { reason: Some(reason), ..Found::default() };
        let Some(domain) = ascii_name(domain) else { return none(Reason::BadName) };
        if ip_literal(&domain).is_some()
            || !domain.contains('.')
            || is_local(&domain)
            || is_localhost(&domain)
        {
            return none(Reason::NotInDns);
        }
        let (direct, starttls) = match service {
            Service::Client => ("_xmpps-client", "_xmpp-client"),
            Service::Server => ("_xmpps-server", "_xmpp-server"),
        };
        let (direct, starttls) = (format!("{direct}._tcp.{domain}"), format!("{starttls}._tcp.{domain}"));
        let (direct, starttls) =
            future::zip(self.query(&direct, TYPE::SRV), self.query(&starttls, TYPE::SRV)).await;
        mix(direct, starttls, &mut below)
    }

    /// The addresses of a host, IPv4 first (on a LAN that is what works): IP literals and `localhost`
    /// without asking, then `/etc/hosts`, DNS, and the C library, which also knows `.local` where it
    /// has been taught.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Reason> {
        let host = ascii_name(host).ok_or(Reason::BadName)?;
        if let Some(ip) = ip_literal(&host) {
            return Ok(vec![ip]);
        }
        if is_localhost(&host) {
            // RFC 6761 §6.3: never asked, never anything else.
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let known: Vec<IpAddr> =
            self.hosts.iter().filter(|(name, _)| *name == host).map(|(_, ip)| *ip).collect();
        if !known.is_empty() {
            return Ok(known);
        }
        let Some(end) = Instant::now().checked_add(self.total) else { return Err(Reason::TimedOut) };
        let mut reason = Reason::NotInDns;
        if host.contains('.') && !is_local(&host) {
            let (v4, v6) = future::zip(self.query(&host, TYPE::A), self.query(&host, TYPE::AAAA)).await;
            let mut ips: Vec<IpAddr> = Vec::new();
            for record in [&v4, &v6].into_iter().flatten().flatten() {
                if let Record::Address(ip) = record
                    && !ips.contains(ip)
                {
                    ips.push(*ip);
                }
            }
            if !ips.is_empty() {
                return Ok(ips);
            }
            reason = v4.err().or(v6.err()).unwrap_or(Reason::NoRecords);
        }
        if !self.system {
            return Err(reason);
        }
        let name = host.clone();
        let lookup = smol::unblock(move || (name.as_str(), 0u16).to_socket_addrs().map(Vec::from_iter));
        match until(end, lookup).await {
            Some(Ok(found)) if !found.is_empty() => {
                let mut ips: Vec<IpAddr> = Vec::new();
                for ip in found.iter().map(SocketAddr::ip).take(MAX_RECORDS) {
                    if !ips.contains(&ip) {
                        ips.push(ip);
                    }
                }
                ips.sort_by_key(IpAddr::is_ipv6);
                Ok(ips)
            }
            _ if reason == Reason::NotInDns => Err(Reason::NoSuchName),
            _ => Err(reason),
        }
    }

    /// One name and type, through CNAMEs, from the first server that knows.
    async fn query(&self, name: &str, kind: TYPE) -> Result<Vec<Record>, Reason> {
        let Some(end) = Instant::now().checked_add(self.total) else { return Err(Reason::TimedOut) };
        let mut name = name.to_owned();
        for _ in 0..MAX_CNAMES {
            match self.query_servers(&name, kind, end).await? {
                Answer::Records(records) => return Ok(records),
                Answer::Elsewhere(other) => name = other,
            }
        }
        Err(Reason::Garbled)
    }

    async fn query_servers(&self, name: &str, kind: TYPE, end: Instant) -> Result<Answer, Reason> {
        let mut reason = Reason::NoServers;
        for _ in 0..ROUNDS {
            for server in self.servers.iter().take(MAX_SERVERS) {
                let now = Instant::now();
                if now >= end {
                    return Err(if reason == Reason::NoServers { Reason::TimedOut } else { reason });
                }
                let attempt = now.checked_add(self.attempt).map_or(end, |at| at.min(end));
                match until(attempt, ask(*server, name, kind)).await {
                    Some(Ok(answer)) => return Ok(answer),
                    // These are answers; another server would say the same.
                    Some(Err(why @ (Reason::NoSuchName | Reason::NoRecords | Reason::BadName))) => {
                        return Err(why);
                    }
                    Some(Err(why)) => reason = why,
                    None => reason = Reason::TimedOut,
                }
            }
        }
        Err(reason)
    }
}

/// [`Resolver::lookup_srv`] as this machine is configured.
pub async fn lookup_srv(domain: &str) -> Found {
    Resolver::system().lookup_srv(domain, Service::Client).await
}

/// [`Resolver::resolve`] as this machine is configured.
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, Reason> {
    Resolver::system().resolve(host).await
}

fn is_local(name: &str) -> bool {
    name.ends_with(".local")
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// `None` if the time came first.
async fn until<T>(at: Instant, what: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Timer::at(at).await;
        None
    };
    future::or(async { Some(what.await) }, late).await
}

/// A random number below `bound`; 0 if there is none to be had, which costs only fairness.
fn below(bound: u32) -> u32 {
    let mut bytes = [0u8; 4];
    let _ = SystemRandom::new().fill(&mut bytes);
    u32::from_ne_bytes(bytes).checked_rem(bound).unwrap_or(0)
}

// ---- the order of SRV ------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
enum Record {
    Srv { priority: u16, weight: u16, port: u16, host: String },
    Address(IpAddr),
}

struct Weighed {
    priority: u16,
    weight: u16,
    target: Target,
}

fn mix(
    direct: Result<Vec<Record>, Reason>,
    starttls: Result<Vec<Record>, Reason>,
    below: &mut impl FnMut(u32) -> u32,
) -> Found {
    let mut list: Vec<Weighed> = Vec::new();
    let none = |answer: &Result<Vec<Record>, Reason>| {
        matches!(answer, Ok(records) if !records.is_empty()
            && records.iter().all(|r| matches!(r, Record::Srv { host, .. } if host == ".")))
    };
    // `.` for direct TLS alone says only that there is no direct TLS.
    let refused = none(&starttls);
    for (answer, direct_tls) in [(&direct, true), (&starttls, false)] {
        for record in answer.iter().flatten() {
            let Record::Srv { priority, weight, port, host } = record else { continue };
            let target = Target { host: host.clone(), port: *port, direct_tls };
            if host != "."
                && *port != 0
                && list.len() < MAX_RECORDS
                && !list.iter().any(|w| w.target == target)
            {
                list.push(Weighed { priority: *priority, weight: *weight, target });
            }
        }
    }
    if list.is_empty() {
        // A refusal counts as the reason only if nothing better is known.
        let reason = match (&starttls, &direct) {
            (Err(why), Ok(_) | Err(Reason::NoSuchName | Reason::NoRecords)) => why.clone(),
            (_, Err(why)) => why.clone(),
            _ => Reason::NoRecords,
        };
        return Found { targets: Vec::new(), absent: refused, reason: Some(reason) };
    }
    Found { targets: order(list, below), absent: false, reason: None }
}

/// RFC 2782, "Usage rules": by priority, and within one by lot, with the weights as the odds.
fn order(mut list: Vec<Weighed>, below: &mut impl FnMut(u32) -> u32) -> Vec<Target> {
    list.sort_by_key(|w| (w.priority, w.weight));
    let mut out = Vec::new();
    while let Some(first) = list.first() {
        let priority = first.priority;
        let group = || list.iter().take_while(|w| w.priority == priority);
        let sum = group().fold(0u32, |sum, w| sum.saturating_add(u32::from(w.weight)));
        let lot = below(sum.saturating_add(1));
        let mut running = 0u32;
        let at = group().position(|w| {
            running = running.saturating_add(u32::from(w.weight));
            running >= lot
        });
        out.push(list.remove(at.unwrap_or(0).min(list.len().saturating_sub(1))).target);
    }
    out
}

// ---- one question ----------------------------------------------------------------------------------

enum Answer {
    Records(Vec<Record>),
    /// A CNAME whose own records the server left out.
    Elsewhere(String),
}

/// What a message is to the one who asked.
enum Judged {
    /// Not the answer to this question: forged, late, or broken.
    Stranger,
    Truncated,
    Final(Result<Answer, Reason>),
}

async fn ask(server: SocketAddr, name: &str, kind: TYPE) -> Result<Answer, Reason> {
    let mut id = [0u8; 2];
    SystemRandom::new().fill(&mut id).map_err(|_| Reason::Io(io::ErrorKind::Other))?;
    let id = u16::from_ne_bytes(id);
    let question = question(id, name, kind)?;
    let io_failed = |why: io::Error| Reason::Io(why.kind());

    // Port 0: the system picks another random one for every question.
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = Async::<UdpSocket>::bind(any).map_err(io_failed)?;
    socket.get_ref().connect(server).map_err(io_failed)?;
    socket.send(&question).await.map_err(io_failed)?;
    let mut buffer = vec![0u8; 4096];
    for _ in 0..MAX_STRANGERS {
        let len = socket.recv(&mut buffer).await.map_err(io_failed)?;
        match judge(buffer.get(..len).unwrap_or_default(), id, name, kind) {
            Judged::Stranger => continue,
            Judged::Truncated => return ask_by_tcp(server, &question, id, name, kind).await,
            Judged::Final(answer) => return answer,
        }
    }
    Err(Reason::Garbled)
}

/// RFC 7766 §8: two bytes of length, then the message.
async fn ask_by_tcp(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &str,
    kind: TYPE,
) -> Result<Answer, Reason> {
    let io_failed = |why: io::Error| Reason::Io(why.kind());
    let mut stream = Async::<TcpStream>::connect(server).await.map_err(io_failed)?;
    let len = u16::try_from(question.len()).map_err(|_| Reason::BadName)?;
    let mut message = len.to_be_bytes().to_vec();
    message.extend_from_slice(question);
    stream.write_all(&message).await.map_err(io_failed)?;
    let mut len = [0u8; 2];
    stream.read_exact(&mut len).await.map_err(io_failed)?;
    let len = usize::from(u16::from_be_bytes(len));
    if len > MAX_ANSWER {
        return Err(Reason::Garbled);
    }
    let mut answer = vec![0u8; len];
    stream.read_exact(&mut answer).await.map_err(io_failed)?;
    match judge(&answer, id, name, kind) {
        Judged::Final(answer) => answer,
        Judged::Stranger | Judged::Truncated => Err(Reason::Garbled),
    }
}

fn question(id: u16, name: &str, kind: TYPE) -> Result<Vec<u8>, Reason> {
    let name = Name::new(name).map_err(|_| Reason::BadName)?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(|_| Reason::BadName)
}

fn judge(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> Judged {
    if !plausible(bytes, id) {
        return Judged::Stranger;
    }
    let Ok(packet) = Packet::parse(bytes) else { return Judged::Stranger };
    let asked = match packet.questions.as_slice() {
        [one] => {
            one.qtype == QTYPE::TYPE(kind)
                && one.qclass == QCLASS::CLASS(CLASS::IN)
                && text(&one.qname).is_some_and(|asked| asked == name)
        }
        _ => false,
    };
    if !asked {
        return Judged::Stranger;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Judged::Truncated;
    }
    Judged::Final(match packet.rcode() {
        RCODE::NoError => read_answer(&packet, name, kind),
        RCODE::NameError => Err(Reason::NoSuchName),
        RCODE::ServerFailure => Err(Reason::ServerSaid("SERVFAIL")),
        RCODE::Refused => Err(Reason::ServerSaid("REFUSED")),
        RCODE::NotImplemented => Err(Reason::ServerSaid("NOTIMP")),
        RCODE::FormatError => Err(Reason::ServerSaid("FORMERR")),
        _ => Err(Reason::ServerSaid("an error")),
    })
}

/// A response to this id, whose counts fit into its bytes: the codec takes its capacities from them.
fn plausible(bytes: &[u8], id: u16) -> bool {
    let word = |at: usize| {
        let pair = bytes.get(at..at.saturating_add(2)).and_then(|pair| <[u8; 2]>::try_from(pair).ok());
        pair.map(u16::from_be_bytes)
    };
    let (Some(got), Some(flags)) = (word(0), word(2)) else { return false };
    let (Some(questions), Some(answers), Some(servers), Some(more)) = (word(4), word(6), word(8), word(10))
    else {
        return false;
    };
    let records = usize::from(answers).saturating_add(servers.into()).saturating_add(more.into());
    let least = usize::from(questions).saturating_mul(5).saturating_add(records.saturating_mul(11));
    got == id
        && flags & 0x8000 != 0
        && questions == 1
        && bytes.len() <= MAX_ANSWER
        && least <= bytes.len().saturating_sub(12)
}

fn read_answer(packet: &Packet<'_>, name: &str, kind: TYPE) -> Result<Answer, Reason> {
    let mut owner = name.to_owned();
    let mut records = Vec::new();
    // Each turn follows one CNAME, in whatever order they stand.
    for _ in 0..MAX_CNAMES {
        let mut next = None;
        for record in packet.answers.iter().filter(|record| record.class == CLASS::IN) {
            if text(&record.name).as_deref() != Some(owner.as_str()) {
                continue;
            }
            match &record.rdata {
                RData::SRV(srv) if kind == TYPE::SRV => {
                    if let Some(host) = text(&srv.target) {
                        let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
                        records.push(Record::Srv { priority, weight, port, host });
                    }
                }
                RData::A(a) if kind == TYPE::A => {
                    records.push(Record::Address(Ipv4Addr::from(a.address).into()));
                }
                RData::AAAA(a) if kind == TYPE::AAAA => {
                    records.push(Record::Address(Ipv6Addr::from(a.address).into()));
                }
                RData::CNAME(other) => next = text(&other.0),
                _ => {}
            }
        }
        if !records.is_empty() {
            records.truncate(MAX_RECORDS);
            return Ok(Answer::Records(records));
        }
        match next {
            Some(other) if other != "." => owner = other,
            _ => break,
        }
    }
    if owner == name { Err(Reason::NoRecords) } else { Ok(Answer::Elsewhere(owner)) }
}

/// A name as text, lower case, `.` for the root; `None` if it could not be a host's or service's.
fn text(name: &Name<'_>) -> Option<String> {
    let mut out = String::new();
    for label in name.as_bytes() {
        if !out.is_empty() {
            out.push('.');
        }
        for byte in label {
            if !byte.is_ascii_alphanumeric() && *byte != b'-' && *byte != b'_' {
                return None;
            }
            out.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    Some(if out.is_empty() { ".".to_owned() } else { out })
}

// ---- files -----------------------------------------------------------------------------------------

/// resolv.conf(5): `nameserver`, and of `options` the `timeout`.
fn resolv_conf(text: &str) -> (Vec<SocketAddr>, Duration) {
    let mut servers = Vec::new();
    let mut attempt = ATTEMPT;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                if let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok())
                    && servers.len() < MAX_SERVERS
                {
                    servers.push(SocketAddr::new(ip, 53));
                }
            }
            Some("options") => {
                let seconds = words.find_map(|word| word.strip_prefix("timeout:")?.parse::<u64>().ok());
                if let Some(seconds) = seconds {
                    attempt = Duration::from_secs(seconds.clamp(1, TOTAL.as_secs()));
                }
            }
            _ => {}
        }
    }
    (servers, attempt)
}

/// hosts(5).
fn hosts_file(text: &str) -> Vec<(String, IpAddr)> {
    let mut hosts = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        hosts.extend(words.map(|name| (name.to_ascii_lowercase(), ip)));
    }
    hosts
}

#[cfg(test)]
mod tests;
