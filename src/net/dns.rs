//! Names to addresses: SRV (RFC 6120 §3.2.1, RFC 2782, XEP-0368), A and AAAA, by a stub resolver over
//! UDP with TCP for what is truncated. Never fatal: what cannot be looked up is an empty list and a
//! reason, and everything together ends after five seconds.
//!
//! A hub's resolver also remembers ([`Resolver::for_hub`]), and knows where another server is to be found
//! ([`Resolver::server_targets`]) and where not to go ([`dialable`]).

mod cache;
mod files;
mod order;
mod policy;
mod question;
mod server;
#[cfg(test)]
mod tests;
pub mod wire;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Timer;
use smol::future;

use super::cert::{ascii_name, ip_literal};
use super::sort_few;
use cache::{Begin, Memory, Outcome};
use files::{hosts_file, resolv_conf};
use order::{below, mix};
pub use policy::{Policy, Undialable, dialable, only_dialable, own_addresses};
use question::{Answer, Record, Said, ask, question};
pub use server::{Candidate, Unfound};
use wire::Question;

/// Everything that one call does, all servers and retries included.
const TOTAL: Duration = Duration::from_secs(5);
/// A question to the local network, where whoever is there answers at once.
const LOCAL: Duration = Duration::from_secs(1);
/// One question to one server.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// As the C library reads them.
const MAX_SERVERS: usize = 3;
/// More names than these would make one that does not exist slow.
const MAX_SEARCH: usize = 3;
const ROUNDS: usize = 2;
/// CNAMEs from the name that was asked for.
const MAX_CNAMES: usize = 8;
/// Records of one answer, and targets in all.
const MAX_RECORDS: usize = 64;
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
    /// There are too many questions under way.
    Busy,
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
            Reason::Busy => f.write_str("too many look-ups at once; try again"),
            Reason::BadName => f.write_str("not a host name; use a name such as pi.local, or an IP address"),
        }
    }
}

impl std::error::Error for Reason {}

impl From<io::Error> for Reason {
    fn from(why: io::Error) -> Reason {
        Reason::Io(why.kind())
    }
}

/// Which servers to ask, and what is known without asking.
#[derive(Clone, Debug)]
pub struct Resolver {
    config: Arc<Config>,
    total: Duration,
    /// Whether `.local` is asked for by mDNS, and names without a dot as this machine's network has them.
    system: bool,
    /// What is remembered, shared by all clones.
    memory: Option<Arc<Memory>>,
}

#[derive(Clone, Debug, Default)]
struct Config {
    servers: Vec<SocketAddr>,
    hosts: Vec<(String, IpAddr)>,
    /// What may stand behind a name without a dot.
    search: Vec<String>,
    attempt: Duration,
}

impl Config {
    /// `/etc/resolv.conf` and `/etc/hosts`. Files that are not there count as empty.
    fn of_this_machine() -> Config {
        let text = |path: &str| {
            let bytes = super::read_capped(Path::new(path), MAX_FILE).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Config { hosts: hosts_file(&text("/etc/hosts")), ..resolv_conf(&text("/etc/resolv.conf")) }
    }
}

impl Resolver {
    /// As this machine is configured: `/etc/resolv.conf` and `/etc/hosts`. Read anew for each use: a
    /// laptop moves.
    pub fn system() -> Resolver {
        let config = Arc::new(Config::of_this_machine());
        Resolver { config, total: TOTAL, system: true, memory: None }
    }

    /// Only these servers: no files, no mDNS.
    pub fn with_servers(servers: Vec<SocketAddr>) -> Resolver {
        let config = Arc::new(Config { servers, attempt: ATTEMPT, ..Config::default() });
        Resolver { config, total: TOTAL, system: false, memory: None }
    }

    /// For a hub: one for the whole process, which remembers answers for their time and asks no question
    /// twice at once. `servers` are those of `--dns`; without any it goes by `/etc/resolv.conf` and
    /// `/etc/hosts` as they are (looked at again every half minute).
    pub fn for_hub(servers: Vec<SocketAddr>) -> Resolver {
        let follows_files = servers.is_empty();
        Resolver { memory: Some(Arc::new(Memory::new(follows_files))), ..Resolver::with_servers(servers) }
    }

    /// The same with other patience.
    pub fn patience(mut self, attempt: Duration, total: Duration) -> Resolver {
        self.config = Arc::new(Config { attempt, ..Config::clone(&self.config) });
        self.total = total;
        self
    }

    fn config(&self) -> Arc<Config> {
        let followed = self.memory.as_ref().and_then(|memory| memory.config(Instant::now()));
        followed.unwrap_or_else(|| self.config.clone())
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
        let (direct, starttls) = self.both((&direct, wire::SRV), (&starttls, wire::SRV)).await;
        mix(direct, starttls, &mut below)
    }

    /// The addresses of a host, IPv4 first (on a LAN that is what works): IP literals and `localhost`
    /// without asking, then `/etc/hosts`, mDNS for `.local` (RFC 6762 §3), and DNS. The C library is not asked: in a
    /// static program it knows no more, and it holds a thread for every name.
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
            self.config().hosts.iter().filter(|(name, _)| *name == host).map(|(_, ip)| *ip).collect();
        if !known.is_empty() {
            return Ok(known);
        }
        let local = self.system && is_local(&host);
        if local {
            let ips = super::mdns::resolve(&host, LOCAL).await;
            if !ips.is_empty() {
                return Ok(ips);
            }
        }
        let Some(end) = Instant::now().checked_add(self.total) else { return Err(Reason::TimedOut) };
        let mut reason = Reason::NotInDns;
        for name in self.asked(host) {
            let said = until(end, self.both((&name, wire::A), (&name, wire::AAAA))).await;
            let Some((v4, v6)) = said else { return Err(Reason::TimedOut) };
            let records = [&v4, &v6].into_iter().flatten().flatten();
            let ips = distinct(records.filter_map(Record::address).collect());
            if !ips.is_empty() {
                return Ok(ips);
            }
            reason = v4.err().or(v6.err()).unwrap_or(Reason::NoRecords);
        }
        // Nobody wonders that no name server knows it.
        Err(if local { Reason::NoSuchName } else { reason })
    }

    /// What the name servers are asked for a host. One without a dot is a machine of this network: with what resolv.conf
    /// says may stand behind it, and alone, which is what a router knows its clients by. Some have `.local` from their
    /// router, too (RFC 6762 §3 lets them). Neither is asked for in the name of a hub.
    fn asked(&self, host: String) -> Vec<String> {
        let whole = host.contains('.');
        if !self.system && (!whole || is_local(&host)) {
            return Vec::new();
        }
        let search: &[String] = if whole { &[] } else { &self.config.search };
        search.iter().map(|behind| format!("{host}.{behind}")).chain([host.clone()]).collect()
    }

    /// Two questions at once.
    async fn both(&self, one: (&str, u16), other: (&str, u16)) -> (Outcome, Outcome) {
        future::zip(self.query(one.0, one.1), self.query(other.0, other.1)).await
    }

    /// One name and type: what is remembered, or what the servers say.
    async fn query(&self, name: &str, kind: u16) -> Outcome {
        let mut lead = None;
        while let (Some(memory), None) = (&self.memory, &lead) {
            match memory.begin(Instant::now(), name, kind) {
                Begin::Known(outcome) => return outcome,
                Begin::Wait(flight) => {
                    // Without an outcome whoever had asked was called off.
                    if let Some(outcome) = flight.landed().await {
                        return outcome;
                    }
                }
                Begin::Ask(ours) => lead = Some(ours),
                Begin::Busy => return Err(Reason::Busy),
            }
        }
        let (outcome, ttl) = self.look_up(name, kind).await;
        if let Some(lead) = lead {
            lead.land(Instant::now(), outcome.clone(), ttl);
        }
        outcome
    }

    /// One name and type, through CNAMEs, from the first server that knows; and for how long it holds.
    async fn look_up(&self, name: &str, kind: u16) -> (Outcome, Option<u32>) {
        let Some(end) = Instant::now().checked_add(self.total) else {
            return (Err(Reason::TimedOut), None);
        };
        let Some(mut asked) = question(name, kind) else { return (Err(Reason::BadName), None) };
        let config = self.config();
        let mut holds = None;
        for _ in 0..MAX_CNAMES {
            let Said { answer, ttl } = match query_servers(&config, &asked, end).await {
                Ok(said) => said,
                Err(why) => return (Err(why), None),
            };
            holds = holds.into_iter().chain(ttl).min();
            match answer {
                Ok(Answer::Records(records)) => return (Ok(records), holds),
                Ok(Answer::Elsewhere(other)) => asked.name = other,
                Err(why) => return (Err(why), holds),
            }
        }
        (Err(Reason::Garbled), None)
    }
}

async fn query_servers(config: &Config, asked: &Question, end: Instant) -> Result<Said, Reason> {
    let mut reason = Reason::NoServers;
    for _ in 0..ROUNDS {
        for server in config.servers.iter().take(MAX_SERVERS) {
            let now = Instant::now();
            if now >= end {
                return Err(if reason == Reason::NoServers { Reason::TimedOut } else { reason });
            }
            let attempt = now.checked_add(config.attempt).map_or(end, |at| at.min(end));
            match until(attempt, ask(*server, asked)).await {
                Some(Ok(said)) => match said.answer {
                    // Another server would say the same.
                    Ok(_) | Err(Reason::NoSuchName | Reason::NoRecords) => return Ok(said),
                    Err(why) => reason = why,
                },
                Some(Err(why)) => reason = why,
                None => reason = Reason::TimedOut,
            }
        }
    }
    Err(reason)
}

/// [`Resolver::lookup_srv`] as this machine is configured.
pub async fn lookup_srv(domain: &str) -> Found {
    Resolver::system().lookup_srv(domain, Service::Client).await
}

/// [`Resolver::resolve`] as this machine is configured.
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, Reason> {
    Resolver::system().resolve(host).await
}

/// Each once, IPv4 first.
pub(super) fn distinct(all: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in all {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    sort_few(&mut ips, |a, b| a.is_ipv4() && b.is_ipv6());
    ips
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
