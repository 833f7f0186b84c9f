//! How long a failed login makes the next one wait (threats of guessing): per address, and per
//! address and account, never per account alone, or a stranger could lock the owner out.

use super::talk::Now;
use std::collections::HashMap;
use std::net::IpAddr;

/// Addresses remembered at most; the oldest are forgotten first, as many hosts cost an attacker more
/// than the little they gain.
const REMEMBERED: usize = 4096;
/// A failure is forgotten after this time.
const FORGET_MS: u64 = 15 * 60 * 1000;
/// Longest wait: shorter than the time to log in, so that who knows the password gets in.
const MAX_MS: u64 = 20_000;

#[derive(Clone, Copy, Default)]
struct Record {
    failures: u32,
    last_ms: u64,
}

/// Failed logins, and registrations.
#[derive(Default)]
pub struct Throttle {
    failures: HashMap<(IpAddr, Box<str>), Record>,
    registrations: HashMap<IpAddr, (u64, u64)>,
}

/// Whom an address stands for: one IPv6 host owns a whole /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) & !(u128::from(u64::MAX))).into()),
        },
    }
}

impl Throttle {
    /// Milliseconds that an attempt from this address at this account waits. `step`: for the first
    /// failure; it doubles.
    pub fn wait(&self, now: Now, address: IpAddr, account: &str, step: u64) -> u64 {
        if step >= u64::from(u32::MAX) {
            return 0;
        }
        let address = network(address);
        let one = |key: &str| match self.failures.get(&(address, key.into())) {
            Some(r) if now.mono_ms.saturating_sub(r.last_ms) < FORGET_MS => r.failures,
            _ => 0,
        };
        // Many people share an address: it alone counts from the tenth failure on.
        let failures = one(account).max(one("").saturating_sub(10));
        if failures == 0 { 0 } else { step.saturating_mul(1 << (failures - 1).min(16)).min(MAX_MS) }
    }

    /// A login has failed.
    pub fn failed(&mut self, now: Now, address: IpAddr, account: &str) {
        let address = network(address);
        for key in ["", account] {
            self.make_room(now);
            let record = self.failures.entry((address, key.into())).or_default();
            if now.mono_ms.saturating_sub(record.last_ms) >= FORGET_MS {
                record.failures = 0;
            }
            record.failures = record.failures.saturating_add(1);
            record.last_ms = now.mono_ms;
            if account.is_empty() {
                break;
            }
        }
    }

    /// Forgets the older half of what there is least to know of, not everything: or who tries many
    /// names would be a stranger again.
    fn make_room(&mut self, now: Now) {
        if self.failures.len() < REMEMBERED {
            return;
        }
        self.failures.retain(|_, r| now.mono_ms.saturating_sub(r.last_ms) < FORGET_MS);
        let mut times: Vec<u64> = self.failures.values().map(|r| r.last_ms).collect();
        let middle = times.len() / 2;
        let Some(median) = times.get(middle).is_some().then(|| *times.select_nth_unstable(middle).1) else {
            return;
        };
        for often in [1, u32::MAX] {
            if self.failures.len() >= REMEMBERED {
                self.failures.retain(|_, r| r.last_ms > median || r.failures > often);
            }
        }
    }

    /// A login has succeeded: that account's failures from that address are forgotten.
    pub fn succeeded(&mut self, address: IpAddr, account: &str) {
        if !self.failures.is_empty() {
            self.failures.remove(&(network(address), account.into()));
        }
    }

    /// Whether one more registration from this address fits into `per_hour`; counts it if so.
    pub fn register(&mut self, now: Now, address: IpAddr, per_hour: u64) -> bool {
        const HOUR: u64 = 3_600_000;
        if self.registrations.len() >= REMEMBERED {
            self.registrations.retain(|_, (since, _)| now.mono_ms.saturating_sub(*since) < HOUR);
            if self.registrations.len() >= REMEMBERED {
                self.registrations.clear();
            }
        }
        let (since, count) = self.registrations.entry(network(address)).or_insert((now.mono_ms, 0));
        if now.mono_ms.saturating_sub(*since) >= HOUR {
            (*since, *count) = (now.mono_ms, 0);
        }
        *count += 1;
        *count <= per_hour
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who tries a new name each time fills the memory, and is not forgotten by it.
    #[test]
    fn many_names_do_not_wash_an_address_clean() {
        let mut throttle = Throttle::default();
        let (own, evil) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut now = Now { unix_ms: 0, mono_ms: 1_000 };
        for _ in 0..3 {
            throttle.failed(now, own, "alice");
        }
        for n in 0..3 * REMEMBERED {
            now.mono_ms += u64::from(n % 3 == 0);
            throttle.failed(now, evil, &format!("name{n}"));
            assert!(throttle.failures.len() <= REMEMBERED);
            if n > 20 {
                assert_eq!(throttle.wait(now, evil, "another", 500), MAX_MS);
            }
        }
        assert_eq!(throttle.wait(now, own, "alice", 500), 2_000, "nor others");
        assert_eq!(throttle.wait(now, own, "bob", 500), 0);
        for n in 0..3 * REMEMBERED as u32 {
            throttle.register(now, IpAddr::from(n.to_be_bytes()), 1);
            assert!(throttle.registrations.len() <= REMEMBERED);
        }
    }
}
