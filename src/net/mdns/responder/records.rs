//! What we say about ourselves: the records of one hub on one interface (RFC 6763 §4 to §6).

use super::{Config, Interface, Kind, service_name};
use crate::net::cert;
use crate::net::dns::wire::{self, Data, Name, Question, Record};
use std::net::IpAddr;

/// A set of our records: for each of four services its type, pointer, place and text; then the host's.
pub type Bits = u32;

const PER_KIND: usize = 4;
const META_AT: usize = 0;
const PTR_AT: usize = 1;
const SRV_AT: usize = 2;
const TXT_AT: usize = 3;
const A_AT: usize = Kind::ALL.len() * PER_KIND;
const AAAA_AT: usize = A_AT + 1;
const NSEC_AT: usize = A_AT + 2;

/// How many there are.
pub const COUNT: usize = A_AT + 3;
/// The types of our services, which others have, too (RFC 6763 §9).
pub const META: Bits = 0x1111;
/// Those of which others have some of the same name.
pub const SHARED: Bits = META | META << PTR_AT;

const HOST: Bits = 1 << A_AT | 1 << AAAA_AT | 1 << NSEC_AT;

/// RFC 6762 §10: what changes with the address, and the rest.
const SHORT: u32 = 120;
const LONG: u32 = 4500;
/// Addresses of one family that we give; nobody needs more.
const MAX_ADDRESSES: usize = 4;
/// Longer domains do not fit into a text record.
const MAX_DOMAIN: usize = 247;

/// How long a record counts.
pub fn ttl(bit: usize) -> u32 {
    if bit >= A_AT || bit % PER_KIND == SRV_AT { SHORT } else { LONG }
}

/// The names that we claim: the host's, and the instance's.
pub struct Owner {
    host: Name,
    label: Vec<u8>,
    numbers: [u32; 2],
}

impl Owner {
    /// As the configuration has it: the domain.
    pub fn new(config: &Config) -> Owner {
        let mut owner = Owner { host: Name::of(""), label: Vec::new(), numbers: [1; 2] };
        owner.reset(config);
        owner
    }

    /// Back to the first names.
    pub fn reset(&mut self, config: &Config) {
        self.numbers = [1; 2];
        self.name(config);
    }

    /// The next name instead of that one, as text.
    pub fn rename(&mut self, name: &Name, config: &Config) -> String {
        let [host, instance] = &mut self.numbers;
        let is_host = *name == self.host;
        let number = if is_host { host } else { instance };
        *number = number.saturating_add(1);
        self.name(config);
        if is_host { self.text(&self.host) } else { String::from_utf8_lossy(&self.label).into_owned() }
    }

    fn name(&mut self, config: &Config) {
        let [host, instance] = self.numbers;
        let local = config.domain.strip_suffix(".local").filter(|name| !name.is_empty());
        // A domain of DNS is not ours to answer for here: the host goes by its key.
        let base = match local {
            Some(name) => name.to_owned(),
            None => {
                let id: String = config.pin.iter().take(4).map(|b| format!("{b:02x}")).collect();
                format!("stonechat-{id}")
            }
        };
        let (first, rest) = base.split_once('.').unwrap_or((&base, ""));
        let numbered = if host > 1 { format!("{first}-{host}") } else { first.to_owned() };
        let labels = std::iter::once(numbered.as_str()).chain(rest.split('.')).chain(["local"]);
        self.host = Name::new(labels.map(str::as_bytes));
        let tail = if instance > 1 { format!(" ({instance})") } else { String::new() };
        let room = 63usize.saturating_sub(tail.len());
        let domain = config.domain.as_bytes();
        self.label = domain.get(..room).unwrap_or(domain).to_vec();
        self.label.extend_from_slice(tail.as_bytes());
    }

    /// Whether these are not the first names.
    pub fn renamed(&self) -> bool {
        self.numbers != [1; 2]
    }

    /// The instance's label.
    pub fn label(&self) -> &[u8] {
        &self.label
    }

    /// The host's name.
    pub fn host(&self) -> &Name {
        &self.host
    }

    /// A name for people.
    pub fn text(&self, name: &Name) -> String {
        let labels: Vec<_> = name.labels().map(String::from_utf8_lossy).collect();
        labels.join(".")
    }

    /// The records at `bit`; none if there are none on this interface.
    pub fn records(&self, config: &Config, on: &Interface, bit: usize, ttl: Option<u32>) -> Vec<Record> {
        let ttl = ttl.unwrap_or_else(|| self::ttl(bit));
        let record = |name: &Name, data| {
            let flush = SHARED & (1 << bit) == 0;
            Record { name: name.clone(), flush, ttl, data }
        };
        if let Some(kind) = Kind::ALL.get(bit / PER_KIND) {
            let Some(port) = config.port(*kind, on) else { return Vec::new() };
            let service = service_name(*kind);
            let instance = Name::under(&self.label, &service);
            return vec![match bit % PER_KIND {
                META_AT => record(&Name::of("_services._dns-sd._udp.local"), Data::Ptr(service)),
                PTR_AT => record(&service, Data::Ptr(instance)),
                SRV_AT => {
                    let target = self.host.clone();
                    record(&instance, Data::Srv { priority: 0, weight: 0, port, target })
                }
                _ => record(&instance, Data::Txt(text(config, *kind))),
            }];
        }
        let addresses = config.published(on);
        match bit {
            A_AT | AAAA_AT => {
                let data = addresses.into_iter().filter_map(|ip| match ip {
                    IpAddr::V4(v4) if bit == A_AT => Some(Data::A(v4)),
                    IpAddr::V6(v6) if bit == AAAA_AT => Some(Data::Aaaa(v6)),
                    _ => None,
                });
                data.take(MAX_ADDRESSES).map(|data| record(&self.host, data)).collect()
            }
            NSEC_AT if !addresses.is_empty() => {
                let mut kinds = Vec::new();
                for (kind, v6) in [(wire::A, false), (wire::AAAA, true)] {
                    if addresses.iter().any(|ip| ip.is_ipv6() == v6) {
                        kinds.push(kind);
                    }
                }
                vec![record(&self.host, Data::Nsec(self.host.clone(), kinds))]
            }
            _ => Vec::new(),
        }
    }

    /// All records of a set.
    pub fn all(&self, config: &Config, on: &Interface, mask: Bits, ttl: Option<u32>) -> Vec<Record> {
        let bits = (0..COUNT).filter(|bit| mask & (1 << bit) != 0);
        bits.flat_map(|bit| self.records(config, on, bit, ttl)).collect()
    }

    /// Those that nobody else may have (RFC 6762 §2), for probes.
    pub fn claims(&self, config: &Config, on: &Interface) -> Vec<Record> {
        self.all(config, on, available(config, on) & !SHARED & !(1 << NSEC_AT), None)
    }

    /// What answers a question; that there is no such address, too (RFC 6762 §6.1).
    pub fn matching(&self, config: &Config, on: &Interface, question: &Question) -> Bits {
        let available = available(config, on);
        let mut mask = 0;
        for bit in (0..COUNT).filter(|bit| available & (1 << bit) != 0 && *bit != NSEC_AT) {
            let records = self.records(config, on, bit, None);
            let kind = |r: &Record| question.kind == wire::ANY || question.kind == r.data.kind();
            if records.first().is_some_and(|r| r.name == question.name && kind(r)) {
                mask |= 1 << bit;
            }
        }
        if mask == 0 && available & HOST != 0 && question.name == self.host {
            mask = 1 << NSEC_AT;
        }
        mask
    }
}

/// What there is on an interface.
pub fn available(config: &Config, on: &Interface) -> Bits {
    let mut mask = 0;
    for (number, kind) in Kind::ALL.iter().enumerate() {
        if config.port(*kind, on).is_some() {
            mask |= 0xf << (number * PER_KIND);
        }
    }
    let addresses = config.published(on);
    if mask == 0 || addresses.is_empty() {
        return 0;
    }
    let has = |v6: bool| Bits::from(addresses.iter().any(|ip| ip.is_ipv6() == v6));
    mask | has(false) << A_AT | has(true) << AAAA_AT | 1 << NSEC_AT
}

/// The pointers that our own questions would be answered with.
pub fn pointers(config: &Config, on: &Interface) -> Bits {
    available(config, on) & (META << PTR_AT)
}

/// What goes along with a set (RFC 6763 §12), without what is in it.
pub fn along(mask: Bits) -> Bits {
    let pointers = mask >> PTR_AT & META;
    let places = mask >> SRV_AT & META;
    let mut more = pointers << SRV_AT | pointers << TXT_AT;
    if (pointers | places) != 0 || mask & HOST != 0 {
        more |= HOST;
    }
    more & !mask
}

/// RFC 6763 §6: the domain, whatever the instance is called; for servers also the key, as a hint of what
/// will be seen in TLS. Nobody's name.
fn text(config: &Config, kind: Kind) -> Vec<u8> {
    let mut parts = vec!["v=1".to_owned()];
    if config.domain.len() <= MAX_DOMAIN {
        parts.push(format!("domain={}", config.domain));
    }
    if matches!(kind, Kind::Server | Kind::ServerTls) {
        parts.push(format!("pin={}", cert::pin_text(&config.pin)));
    }
    let mut out = Vec::new();
    for part in parts {
        out.push(u8::try_from(part.len()).unwrap_or(0));
        out.extend_from_slice(part.as_bytes());
    }
    out
}
