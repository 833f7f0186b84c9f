//! What a hub's resolver remembers: answers, for as long as they hold, and which questions are under
//! way, so that no two ask the same at once.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use smol::channel::{Receiver, Sender, bounded};

use super::question::Record;
use super::{Config, Reason};

/// An answer is believed at least so long, whatever its time to live: a peer that is asked for again and
/// again costs one question each.
const SHORTEST: Duration = Duration::from_secs(5);
/// And at most so long: an operator who has moved a server does not wait for days.
const LONGEST: Duration = Duration::from_secs(3600);
/// What is not there is asked for again sooner: somebody may just be setting it up.
const LONGEST_ABSENT: Duration = Duration::from_secs(300);
/// Without a word from the zone (RFC 2308 §5).
const ABSENT: Duration = Duration::from_secs(60);
/// Names and types: some hundred peers with their hosts; what users make up may push out nothing but itself
/// for long.
const MAX_ENTRIES: usize = 1024;
/// Records in all of them: 64 hosts of 253 bytes in each entry would be 16 MB.
const MAX_RECORDS: usize = 4096;
/// Questions under way at once.
const MAX_FLIGHTS: usize = 64;
/// How long the files of this machine are taken as read.
const FILES: Duration = Duration::from_secs(30);

pub(super) type Outcome = Result<Vec<Record>, Reason>;
/// A name, and the type of its records.
type Key = (String, u16);

/// Answers with their time. Pure: what time it is comes from outside.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    outcome: Outcome,
    until: Instant,
}

impl Cache {
    pub(super) fn get(&self, now: Instant, key: &Key) -> Option<&Outcome> {
        let entry = self.entries.iter().find(|entry| entry.key == *key)?;
        (now < entry.until).then_some(&entry.outcome)
    }

    pub(super) fn put(&mut self, now: Instant, key: Key, outcome: Outcome, ttl: Option<u32>) {
        let Some(until) = holds(&outcome, ttl).and_then(|time| now.checked_add(time)) else { return };
        self.entries.retain(|entry| entry.key != key && now < entry.until);
        let more = outcome.as_ref().map_or(0, Vec::len);
        while self.entries.len() >= MAX_ENTRIES || self.records().saturating_add(more) > MAX_RECORDS {
            // Who would be the first to go goes now.
            let first = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.until);
            let Some((at, _)) = first else { return };
            self.entries.swap_remove(at);
        }
        self.entries.push(Entry { key, outcome, until });
    }

    fn records(&self) -> usize {
        self.entries.iter().flat_map(|entry| &entry.outcome).map(Vec::len).sum()
    }
}

/// How long an outcome is believed; `None` for what says nothing about the name.
fn holds(outcome: &Outcome, ttl: Option<u32>) -> Option<Duration> {
    let ttl = ttl.map(|seconds| Duration::from_secs(seconds.into()));
    match outcome {
        Ok(_) => Some(ttl.unwrap_or_default().clamp(SHORTEST, LONGEST)),
        Err(Reason::NoSuchName | Reason::NoRecords) => {
            Some(ttl.unwrap_or(ABSENT).clamp(SHORTEST, LONGEST_ABSENT))
        }
        Err(_) => None,
    }
}

/// The cache, and the questions under way. Nobody waits while holding its lock.
#[derive(Debug)]
pub(super) struct Memory {
    inner: Mutex<Inner>,
    follows_files: bool,
}

#[derive(Debug, Default)]
struct Inner {
    cache: Cache,
    flights: Vec<(Key, Arc<Flight>)>,
    config: Option<(Instant, Arc<Config>)>,
}

/// A question that somebody else has asked.
#[derive(Debug)]
pub(super) struct Flight {
    outcome: OnceLock<Outcome>,
    /// Closed when the one who asked has an outcome, or is gone.
    end: Receiver<Infallible>,
}

impl Flight {
    /// The outcome, once it is there; `None` if whoever asked will not have one.
    pub(super) async fn landed(&self) -> Option<Outcome> {
        let _ = self.end.recv().await;
        self.outcome.get().cloned()
    }
}

/// The duty to ask. Dropping it without an outcome leaves it to the next.
pub(super) struct Lead {
    memory: Arc<Memory>,
    key: Key,
    flight: Arc<Flight>,
    /// Dropped after the flight is off the list: nobody who is woken by that finds it there.
    _end: Sender<Infallible>,
}

/// What to do about a question.
pub(super) enum Begin {
    Known(Outcome),
    Wait(Arc<Flight>),
    Ask(Lead),
    Busy,
}

impl Memory {
    pub(super) fn new(follows_files: bool) -> Memory {
        Memory { inner: Mutex::default(), follows_files }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(self: &Arc<Self>, now: Instant, name: &str, kind: u16) -> Begin {
        let key = (name.to_owned(), kind);
        let mut inner = self.inner();
        if let Some(outcome) = inner.cache.get(now, &key) {
            return Begin::Known(outcome.clone());
        }
        if let Some((_, flight)) = inner.flights.iter().find(|(other, _)| *other == key) {
            return Begin::Wait(flight.clone());
        }
        if inner.flights.len() >= MAX_FLIGHTS {
            return Begin::Busy;
        }
        let (sender, end) = bounded(1);
        let flight = Arc::new(Flight { outcome: OnceLock::new(), end });
        inner.flights.push((key.clone(), flight.clone()));
        Begin::Ask(Lead { memory: self.clone(), key, flight, _end: sender })
    }

    /// The files of this machine, if they are what counts. Where the servers have changed, so may have
    /// what they say: nothing is remembered from one network to the next.
    pub(super) fn config(&self, now: Instant) -> Option<Arc<Config>> {
        if !self.follows_files {
            return None;
        }
        let mut inner = self.inner();
        let last = inner.config.take();
        let config = match &last {
            Some((at, config)) if now.saturating_duration_since(*at) < FILES => {
                let config = config.clone();
                inner.config = last;
                return Some(config);
            }
            _ => Arc::new(Config::of_this_machine()),
        };
        if last.is_some_and(|(_, last)| last.servers != config.servers) {
            inner.cache = Cache::default();
        }
        inner.config = Some((now, config.clone()));
        Some(config)
    }
}

impl Lead {
    /// Tells those who wait, and remembers it.
    pub(super) fn land(self, now: Instant, outcome: Outcome, ttl: Option<u32>) {
        self.memory.inner().cache.put(now, self.key.clone(), outcome.clone(), ttl);
        let _ = self.flight.outcome.set(outcome);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.memory.inner().flights.retain(|(key, _)| *key != self.key);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::super::wire::{A, AAAA};
    use super::*;
    use std::net::IpAddr;

    fn key(name: &str) -> Key {
        (name.to_owned(), A)
    }

    fn records(count: usize) -> Outcome {
        Ok((0..count).map(|i| Record::Address(IpAddr::from([10, 0, (i / 256) as u8, i as u8]))).collect())
    }

    #[test]
    fn answers_hold_for_their_time() {
        let begin = Instant::now();
        let after = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let seconds = |outcome: &Outcome, ttl| {
            let mut cache = Cache::default();
            cache.put(begin, key("a"), outcome.clone(), ttl);
            let Some(held) = holds(outcome, ttl) else {
                assert!(cache.get(begin, &key("a")).is_none());
                return None;
            };
            assert_eq!(cache.get(begin, &key("a")), Some(outcome));
            assert_eq!(cache.get(after(held.as_secs_f64() - 0.1), &key("a")), Some(outcome));
            assert!(cache.get(after(held.as_secs_f64()), &key("a")).is_none());
            assert!(cache.get(begin, &key("b")).is_none());
            assert!(cache.get(begin, &("a".to_owned(), AAAA)).is_none());
            Some(held.as_secs())
        };
        for (ttl, held) in [(0, 5), (4, 5), (6, 6), (3600, 3600), (86_400, 3600), (u32::MAX, 3600)] {
            assert_eq!(seconds(&records(1), Some(ttl)), Some(held));
        }
        for why in [Reason::NoSuchName, Reason::NoRecords] {
            for (ttl, held) in [(None, 60), (Some(0), 5), (Some(90), 90), (Some(86_400), 300)] {
                assert_eq!(seconds(&Err(why.clone()), ttl), Some(held));
            }
        }
        for why in [Reason::TimedOut, Reason::ServerSaid("SERVFAIL"), Reason::NoServers, Reason::Garbled] {
            assert_eq!(seconds(&Err(why), Some(60)), None, "says nothing about the name");
        }
    }

    #[test]
    fn it_stays_small() {
        let begin = Instant::now();
        let mut cache = Cache::default();
        for i in 0..5000u32 {
            let outcome = match i % 3 {
                0 => Err(Reason::NoSuchName),
                n => records(n as usize * 20),
            };
            cache.put(begin, key(&format!("host-{i}")), outcome, Some(i % 200));
            assert!(cache.entries.len() <= MAX_ENTRIES && cache.records() <= MAX_RECORDS);
        }
        // One name again and again is one entry.
        for count in [64, 1, 30] {
            cache.put(begin, key("same"), records(count), Some(3600));
        }
        assert_eq!(cache.get(begin, &key("same")), Some(&records(30)));
        // Those that hold longest stay; those that are over go first.
        let later = begin + Duration::from_secs(300);
        for i in 0..1023 {
            cache.put(later, key(&format!("new-{i}")), Err(Reason::NoSuchName), Some(10));
        }
        assert_eq!(cache.get(later, &key("same")), Some(&records(30)));
        assert_eq!(cache.entries.len(), MAX_ENTRIES);
        assert_eq!(cache.records(), 30);
    }

    #[test]
    fn one_asks_and_the_others_wait() {
        let memory = Arc::new(Memory::new(false));
        let now = Instant::now();
        let Begin::Ask(lead) = memory.begin(now, "a", A) else { panic!() };
        let Begin::Wait(first) = memory.begin(now, "a", A) else { panic!() };
        let Begin::Wait(second) = memory.begin(now, "a", A) else { panic!() };
        assert!(matches!(memory.begin(now, "a", AAAA), Begin::Ask(_)));
        // Also what is not remembered is told to those who waited for it.
        lead.land(now, Err(Reason::TimedOut), None);
        assert_eq!(smol::block_on(first.landed()), Some(Err(Reason::TimedOut)));
        assert_eq!(smol::block_on(second.landed()), Some(Err(Reason::TimedOut)));
        // One that is called off leaves it to the next.
        let Begin::Ask(lead) = memory.begin(now, "a", A) else { panic!() };
        let Begin::Wait(waits) = memory.begin(now, "a", A) else { panic!() };
        drop(lead);
        assert_eq!(smol::block_on(waits.landed()), None);
        let Begin::Ask(lead) = memory.begin(now, "a", A) else { panic!() };
        lead.land(now, records(1), Some(60));
        assert!(matches!(memory.begin(now, "a", A), Begin::Known(outcome) if outcome == records(1)));
        assert!(memory.inner().flights.is_empty());

        let leads: Vec<Begin> = (0..MAX_FLIGHTS).map(|i| memory.begin(now, &format!("n{i}"), A)).collect();
        assert!(matches!(memory.begin(now, "one more", A), Begin::Busy));
        assert!(matches!(memory.begin(now, "a", A), Begin::Known(_)), "what is known is known");
        drop(leads);
        assert!(matches!(memory.begin(now, "one more", A), Begin::Ask(_)));
    }
}
