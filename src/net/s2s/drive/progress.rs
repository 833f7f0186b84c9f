//! A peer that counts (XEP-0198) has to say so now and then: those who have written to it hear nothing before that.

use super::Stream;
use crate::net::s2s::half::Over;
use std::time::{Duration, Instant};

/// What the other side has acknowledged, and since when nothing more.
pub(super) struct Progress {
    acknowledged: Option<u64>,
    since: Instant,
}

impl Progress {
    pub fn new(now: Instant) -> Progress {
        Progress { acknowledged: None, since: now }
    }

    /// `acknowledged` is how many were, if there are more. Says for how long it has been that number.
    fn stands(&mut self, acknowledged: Option<u64>, now: Instant) -> Duration {
        if acknowledged.is_none() || acknowledged != self.acknowledged {
            *self = Progress { acknowledged, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

impl Stream {
    /// Who goes on speaking and acknowledges nothing is taken for one who takes nothing.
    pub(super) fn progresses(&mut self) -> Result<(), Over> {
        let Some(peer) = self.attached else { return Ok(()) };
        // What is large is on its way for a while.
        let patience = Duration::from_secs(self.shared.limits().stall_seconds.saturating_mul(2));
        let acknowledged = self.shared.unacknowledged(peer);
        match self.progress.stands(acknowledged, Instant::now()) > patience {
            true => Err(Over::Dead("it acknowledges nothing")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waits_grows_old() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::new(start);
        assert_eq!(progress.stands(None, at(100)).as_secs(), 0);
        assert_eq!(progress.stands(Some(0), at(200)).as_secs(), 0);
        assert_eq!(progress.stands(Some(0), at(250)).as_secs(), 50);
        assert_eq!(progress.stands(Some(3), at(260)).as_secs(), 0);
        assert_eq!(progress.stands(None, at(270)).as_secs(), 0);
        assert_eq!(progress.stands(Some(3), at(400)).as_secs(), 0);
        assert_eq!(progress.stands(Some(3), at(401)).as_secs(), 1);
    }
}
