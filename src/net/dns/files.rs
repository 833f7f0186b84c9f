//! How this machine is configured.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{ATTEMPT, Config, MAX_SEARCH, MAX_SERVERS, TOTAL, ascii_name};

/// resolv.conf(5): `nameserver`, `search`, and of `options` the `timeout`.
pub(super) fn resolv_conf(text: &str) -> Config {
    let mut config = Config { attempt: ATTEMPT, ..Config::default() };
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                if let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok())
                    && config.servers.len() < MAX_SERVERS
                {
                    config.servers.push(SocketAddr::new(ip, 53));
                }
            }
            // The last of these lines is the one that counts.
            Some("search" | "domain") => {
                config.search = words.take(MAX_SEARCH).filter_map(ascii_name).collect();
            }
            Some("options") => {
                let seconds = words.find_map(|word| word.strip_prefix("timeout:")?.parse::<u64>().ok());
                if let Some(seconds) = seconds {
                    config.attempt = Duration::from_secs(seconds.clamp(1, TOTAL.as_secs()));
                }
            }
            _ => {}
        }
    }
    config
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
