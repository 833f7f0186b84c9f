//! Multicast DNS (RFC 6762, RFC 6763): hubs on one network find each other, and are found by their names, where
//! there is no name server. Here is what both halves need; the client asks ([`resolve`]), a hub answers
//! (`responder`).

mod ask;
#[cfg(feature = "federation")]
mod responder;

pub use ask::resolve;
#[cfg(feature = "federation")]
pub use responder::{
    Candidate, Config, Kind, Mdns, Outgoing, Output, Service, Sighting, Sightings, core, find, sightings,
};

use super::dns::wire;
use super::sort_few;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// RFC 6762 §5.
pub const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// RFC 6762 §11.
const HOPS: u8 = 255;
/// More interfaces than the system lets one socket join are not of people.
const MAX_INTERFACES: usize = 16;
/// Addresses of one interface that are looked at.
const MAX_ADDRESSES: usize = 16;
const MAX_FILE: u64 = 1 << 20;

/// An interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The system's number.
    pub index: u32,
    /// Nobody else is there.
    pub loopback: bool,
    /// Addresses, with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// More that it has, and that are not announced, see [`passing`].
    pub passing: Vec<IpAddr>,
}

impl Interface {
    /// Its first IPv4 address.
    fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|(ip, _)| match ip {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
    }

    /// Whether that address is on this interface's link (RFC 6762 §11).
    fn reaches(&self, from: SocketAddr) -> bool {
        let ip = from.ip();
        match (ip, from) {
            _ if ip.is_loopback() != self.loopback => false,
            (IpAddr::V6(v6), SocketAddr::V6(from)) if v6.is_unicast_link_local() => {
                from.scope_id() == self.index
            }
            (IpAddr::V4(v4), _) if v4.is_link_local() => true,
            _ => self.addresses.iter().any(|(own, prefix)| same_network(*own, ip, *prefix)),
        }
    }
}

fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let rest = 32u32.saturating_sub(prefix.into());
            (a.to_bits() ^ b.to_bits()).checked_shr(rest).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let rest = 128u32.saturating_sub(prefix.into());
            (a.to_bits() ^ b.to_bits()).checked_shr(rest).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Interfaces that are up, without tunnels to one other machine; loopback if it is asked for, or if there is
/// nothing else.
fn list(loopback: bool) -> io::Result<Vec<Interface>> {
    let passing = passing();
    let mut all: Vec<Interface> = Vec::new();
    for one in if_addrs::get_if_addrs()? {
        let (Some(index), true, false) = (one.index, one.is_oper_up(), one.is_p2p) else { continue };
        let (ip, prefix) = match &one.addr {
            if_addrs::IfAddr::V4(v4) => (IpAddr::V4(v4.ip), v4.prefixlen),
            if_addrs::IfAddr::V6(v6) => (IpAddr::V6(v6.ip), v6.prefixlen),
        };
        let passes = matches!(ip, IpAddr::V6(v6) if passing.contains(&(index, v6)));
        let at = all.iter().position(|interface| interface.index == index).unwrap_or(all.len());
        if at == all.len() && at < MAX_INTERFACES {
            let loopback = one.is_loopback();
            all.push(Interface { index, loopback, addresses: Vec::new(), passing: Vec::new() });
        }
        match all.get_mut(at) {
            Some(interface) if passes && interface.passing.len() < MAX_ADDRESSES => {
                interface.passing.push(ip)
            }
            Some(interface) if !passes && interface.addresses.len() < MAX_ADDRESSES => {
                interface.addresses.push((ip, prefix));
            }
            _ => {}
        }
    }
    all.retain(|interface| !interface.addresses.is_empty());
    if !loopback && all.iter().any(|interface| !interface.loopback) {
        all.retain(|interface| !interface.loopback);
    }
    sort_few(&mut all, |a, b| a.index < b.index);
    for interface in &mut all {
        sort_few(&mut interface.addresses, |a, b| a < b);
        sort_few(&mut interface.passing, |a, b| a < b);
    }
    Ok(all)
}

/// IPv6 addresses that are not to be announced: temporary ones change every day, others may not be used at
/// all yet or any more (`/proc/net/if_inet6`: address, interface, prefix, scope, flags, name).
fn passing() -> Vec<(u32, Ipv6Addr)> {
    const TEMPORARY: u8 = 0x01;
    const FAILED: u8 = 0x08;
    const DEPRECATED: u8 = 0x20;
    const TENTATIVE: u8 = 0x40;
    let bytes = super::read_capped(Path::new("/proc/net/if_inet6"), MAX_FILE).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let ip = u128::from_str_radix(words.next()?, 16).ok()?;
        let index = u32::from_str_radix(words.next()?, 16).ok()?;
        let flags = u8::from_str_radix(words.nth(2)?, 16).ok()?;
        let passes = flags & (TEMPORARY | FAILED | DEPRECATED | TENTATIVE) != 0;
        passes.then_some((index, Ipv6Addr::from_bits(ip)))
    };
    text.lines().filter_map(line).collect()
}
