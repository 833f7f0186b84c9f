//! How much one source, and all of them, may have us read (threat I3).

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Packets of one source at once, and per second after that. A busy machine says some ten at its start.
const BURST: u32 = 100;
const RATE: u32 = 20;
/// The same for all of them: 0.1 ms each.
const TOTAL_BURST: u32 = 1000;
const TOTAL_RATE: u32 = 300;
/// Sources that are counted one by one; the others share what one gets.
const MAX_SOURCES: usize = 256;

struct Bucket {
    tokens: u32,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, rate: u32, burst: u32) -> bool {
        let passed = u32::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u32::MAX);
        let new = passed.saturating_mul(rate) / 1000;
        if new > 0 {
            self.tokens = self.tokens.saturating_add(new).min(burst);
            self.at = now;
        }
        let some = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        some
    }
}

/// What all sources have left.
pub struct Rate {
    sources: Vec<(IpAddr, Bucket)>,
    others: Bucket,
    total: Bucket,
}

impl Rate {
    /// Nobody has said anything yet.
    pub fn new(now: Instant) -> Rate {
        let bucket = |tokens| Bucket { tokens, at: now };
        Rate { sources: Vec::new(), others: bucket(BURST), total: bucket(TOTAL_BURST) }
    }

    /// Whether a packet of that source is read.
    pub fn admit(&mut self, now: Instant, from: IpAddr) -> bool {
        let known = self.sources.iter().position(|(ip, _)| *ip == from);
        if known.is_none() && self.sources.len() >= MAX_SOURCES {
            // Whoever has been quiet for as long as it takes to fill his bucket is as good as new.
            let full = Duration::from_secs(u64::from(BURST / RATE));
            self.sources.retain(|(_, bucket)| now.saturating_duration_since(bucket.at) < full);
        }
        let at = known.unwrap_or(self.sources.len());
        if at == self.sources.len() && at < MAX_SOURCES {
            self.sources.push((from, Bucket { tokens: BURST, at: now }));
        }
        let bucket = self.sources.get_mut(at).map_or(&mut self.others, |(_, bucket)| bucket);
        // One that is over his own share takes nothing of the others'.
        bucket.take(now, RATE, BURST) && self.total.take(now, TOTAL_RATE, TOTAL_BURST)
    }
}
