//! How this machine is configured.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{ATTEMPT, MAX_SERVERS, TOTAL};

/// resolv.conf(5): `nameserver`, and of `options` the `timeout`.
pub(super) fn resolv_conf(text: &str) -> (Vec<SocketAddr>, Duration) {
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
pub(super) fn hosts_file(text: &str) -> Vec<(String, IpAddr)> {
    let mut hosts = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        hosts.extend(words.map(|name| (name.to_ascii_lowercase(), ip)));
    }
    hosts
}
