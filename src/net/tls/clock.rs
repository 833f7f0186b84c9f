//! The time for certificates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::net::unix_time;

/// Wall time that never stands before this program was made: many of our machines wake up in 1970.
#[derive(Clone, Debug)]
pub struct Clock(Arc<ClockInner>);

#[derive(Debug)]
struct ClockInner {
    /// Only ever raised: by the ring, to the last time that the store has seen.
    floor: AtomicU64,
    /// Stands still at this time, for tests.
    fixed: Option<u64>,
}

impl Clock {
    /// No certificate check happens before this: 2026-11-01.
    pub const BUILD: u64 = 1_793_491_200;

    /// The system's clock, held above [`Clock::BUILD`].
    pub fn system() -> Clock {
        Clock(Arc::new(ClockInner { floor: AtomicU64::new(Self::BUILD), fixed: None }))
    }

    /// A clock that stands still.
    pub fn fixed(unix: u64) -> Clock {
        Clock(Arc::new(ClockInner { floor: AtomicU64::new(Self::BUILD), fixed: Some(unix) }))
    }

    /// It is at least this late: call with the last time that was written to disk. Never with a time
    /// that came from a peer.
    pub fn raise(&self, unix: u64) {
        self.0.floor.fetch_max(unix, Ordering::Relaxed);
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        self.raw().max(self.0.floor.load(Ordering::Relaxed))
    }

    /// False if the system's clock stands before a time that has certainly passed.
    pub fn is_set(&self) -> bool {
        self.raw() >= self.0.floor.load(Ordering::Relaxed)
    }

    fn raw(&self) -> u64 {
        self.0.fixed.unwrap_or_else(|| unix_time().as_secs())
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now())))
    }
}
