//! How much of the log strangers may fill (threats J7): who only has to connect, or to speak on the local network, is
//! good for some lines a minute, and what is beyond that is said at level debug.

use std::cell::Cell;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// The lines of one cause.
pub(super) struct Lines {
    most: u32,
    since: Cell<Option<Instant>>,
    said: Cell<u32>,
}

impl Lines {
    /// So many in a minute.
    pub fn new(most: u32) -> Lines {
        Lines { most, since: Cell::default(), said: Cell::default() }
    }

    /// At which level the next one is said.
    pub fn level(&self, now: Instant) -> log::Level {
        if self.since.get().is_none_or(|since| now.saturating_duration_since(since) >= MINUTE) {
            self.since.set(Some(now));
            self.said.set(0);
        }
        let said = self.said.get();
        self.said.set(said.saturating_add(1));
        if said < self.most { log::Level::Info } else { log::Level::Debug }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn j7_a_million_failures_are_less_than_a_megabyte() {
        let (lines, start) = (Lines::new(60), Instant::now());
        let at = |n: u32| start + Duration::from_millis(u64::from(n) * 3);
        let said = (0..1_000_000).filter(|n| lines.level(at(*n)) == log::Level::Info).count();
        assert!((50 * 60..=51 * 60).contains(&said) && said * 300 < 1_000_000, "{said}");
    }
}
