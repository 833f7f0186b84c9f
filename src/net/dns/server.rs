//! Where the server of a domain is (RFC 6120 §3.2, XEP-0368): SRV, else its own addresses.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::{Reason, Resolver, Service, Target, until};

/// Without SRV (RFC 6120 §3.2.2, §14.7), with STARTTLS.
const PORT: u16 = 5269;
/// Hosts that are looked up for one domain: 64 SRV records must not make 128 questions (threats D10).
const MAX_HOSTS: usize = 8;
/// Addresses of one host, of each family.
const MAX_PER_HOST: usize = 3;
/// All that are worth trying.
const MAX_CANDIDATES: usize = 16;

/// An address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The host it belongs to. It is *not* what the certificate is checked against, that is the domain.
    pub host: String,
    /// Where to connect to, if [`super::dialable`] does not mind.
    pub addr: SocketAddr,
    /// TLS from the first byte (XEP-0368), or STARTTLS.
    pub direct_tls: bool,
}

/// Why there is no address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfound {
    /// There is no such domain, or nothing at it.
    NotFound,
    /// Nobody can tell for now.
    NoAnswer(Reason),
    /// The domain says that it has no server for servers (SRV target `.`, RFC 6120 §3.2.1).
    Absent,
}

impl fmt::Display for Unfound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfound::NotFound => f.write_str(
                "not found in DNS; check the spelling, or give its address: stonechat peer add DOMAIN --address HOST:PORT",
            ),
            Unfound::Absent => f.write_str("says in DNS that it has no XMPP for other servers"),
            Unfound::NoAnswer(why) => match why {
                Reason::NoServers => f.write_str("no name server is set; give one with --dns"),
                Reason::ServerSaid(what) => write!(f, "the name server said {what}"),
                Reason::TimedOut => f.write_str("no name server answered in time; check the network, or --dns"),
                Reason::Garbled => f.write_str("the name server's answer makes no sense"),
                Reason::Io(kind) => write!(f, "cannot ask the name server: {kind}; check the network, or --dns"),
                other => other.fmt(f),
            },
        }
    }
}

impl std::error::Error for Unfound {}

impl Resolver {
    /// Where to connect to for the server of `domain`, in the order to try: the targets of
    /// `_xmpps-server._tcp` and `_xmpp-server._tcp`; where there are none, the domain's own addresses.
    pub async fn server_targets(&self, domain: &str) -> Result<Vec<Candidate>, Unfound> {
        let end = Instant::now().checked_add(self.total.saturating_mul(2));
        let found = self.lookup_srv(domain, Service::Server).await;
        if found.absent {
            return Err(Unfound::Absent);
        }
        if found.reason == Some(Reason::BadName) {
            return Err(Unfound::NotFound);
        }
        let by_srv = !found.targets.is_empty();
        let targets = match by_srv {
            true => found.targets,
            false => vec![Target { host: domain.to_owned(), port: PORT, direct_tls: false }],
        };
        let mut known: Vec<(String, Vec<IpAddr>)> = Vec::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        // Of several failures one that may pass counts: there is hope.
        let mut unfound = Unfound::NotFound;
        for Target { host, port, direct_tls } in targets {
            let ips = match known.iter().find(|(name, _)| *name == host) {
                Some((_, ips)) => ips.clone(),
                None if known.len() >= MAX_HOSTS => continue,
                None => {
                    let answer = match end {
                        Some(end) => until(end, self.resolve(&host)).await,
                        None => None,
                    };
                    let ips = match answer.unwrap_or(Err(Reason::TimedOut)) {
                        Ok(ips) => ips,
                        Err(why) => {
                            unfound = match (lasting(&why), &found.reason) {
                                (false, _) => Unfound::NoAnswer(why),
                                // It exists, and who would know where its server is did not say.
                                (true, Some(srv)) if why == Reason::NoRecords && !lasting(srv) => {
                                    Unfound::NoAnswer(srv.clone())
                                }
                                (true, _) => unfound,
                            };
                            Vec::new()
                        }
                    };
                    known.push((host.clone(), ips.clone()));
                    ips
                }
            };
            let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = ips.into_iter().partition(IpAddr::is_ipv4);
            for ip in v4.into_iter().take(MAX_PER_HOST).chain(v6.into_iter().take(MAX_PER_HOST)) {
                let addr = SocketAddr::new(ip, port);
                let new = !candidates.iter().any(|c| c.addr == addr && c.direct_tls == direct_tls);
                if new && candidates.len() < MAX_CANDIDATES {
                    candidates.push(Candidate { host: host.clone(), addr, direct_tls });
                }
            }
            if candidates.len() >= MAX_CANDIDATES {
                break;
            }
        }
        if candidates.is_empty() { Err(unfound) } else { Ok(candidates) }
    }
}

/// Whether asking again soon would bring the same.
fn lasting(why: &Reason) -> bool {
    matches!(why, Reason::NotInDns | Reason::NoSuchName | Reason::NoRecords | Reason::BadName)
}

#[cfg(test)]
mod tests;
