//! What a server uses, from /proc; and one line of JSON for each measurement.

use std::fs;
use std::time::{Duration, Instant};

/// The processes of a server.
pub struct Meter {
    pids: Vec<u32>,
    /// Where they count their allocations (`count.c`).
    count: String,
}

/// One look at them.
#[derive(Clone, Copy)]
pub struct Look {
    at: Instant,
    /// Milliseconds of CPU time, user and system.
    cpu: f64,
    /// The generator's own.
    own: f64,
    pub rss: f64,
    pub pss: f64,
    /// Allocations, if they are counted.
    pub allocations: f64,
}

impl Look {
    pub fn cpu_ms(&self, before: &Look) -> f64 {
        self.cpu - before.cpu
    }

    pub fn seconds(&self, before: &Look) -> f64 {
        (self.at - before.at).as_secs_f64()
    }
}

/// Milliseconds of CPU time of one process: to the nanosecond from its threads' schedstat; where the
/// kernel has none, or threads have gone that stat still counts, in ticks of 10 ms.
fn cpu_of(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    let coarse = (ticks(11) + ticks(12)) * 10.0;
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let fine: f64 = tasks
        .filter_map(|t| fs::read_to_string(t.path().join("schedstat")).ok())
        .filter_map(|s| s.split(' ').next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1e6;
    if fine + 20.0 < coarse { coarse } else { fine }
}

impl Meter {
    pub fn new(pids: Vec<u32>, count: String) -> Meter {
        Meter { pids, count }
    }

    /// CPU only.
    pub fn cpu(&self) -> Look {
        let cpu = self.family().iter().map(|pid| cpu_of(&pid.to_string())).sum();
        let count = fs::read(&self.count).ok().and_then(|bytes| bytes.try_into().ok());
        let allocations = count.map_or(f64::NAN, |bytes| u64::from_ne_bytes(bytes) as f64);
        Look { at: Instant::now(), cpu, own: cpu_of("self"), rss: 0.0, pss: 0.0, allocations }
    }

    /// And memory.
    pub fn look(&self) -> Look {
        let mut look = self.cpu();
        for pid in self.family() {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let kib = |key: &str| {
                let line = rollup.lines().find_map(|line| line.strip_prefix(key))?;
                line.split_whitespace().next()?.parse::<f64>().ok()
            };
            look.rss += kib("Rss:").unwrap_or(0.0);
            look.pss += kib("Pss:").unwrap_or(0.0);
        }
        look
    }

    /// They and their children.
    fn family(&self) -> Vec<u32> {
        let mut all = self.pids.clone();
        let mut n = 0;
        while let Some(pid) = all.get(n).copied() {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
            n += 1;
        }
        all
    }

    /// Waits until they are busy with nothing.
    pub fn calm(&self) {
        let mut last = self.cpu();
        let mut quiet = 0;
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.cpu();
            quiet = if now.cpu_ms(&last) < 5.0 { quiet + 1 } else { 0 };
            last = now;
            if quiet == 2 {
                return;
            }
        }
    }
}

/// One line of JSON.
pub struct Line(String);

impl Line {
    pub fn new() -> Line {
        Line(String::from("{"))
    }

    pub fn put(&mut self, key: &str, value: f64) -> &mut Line {
        let comma = if self.0.len() > 1 { "," } else { "" };
        let value = if value.is_finite() { format!("{value:.3}") } else { "null".into() };
        self.0.push_str(&format!("{comma}\"{key}\":{value}"));
        self
    }

    /// Latencies in nanoseconds; their names begin with `prefix`.
    pub fn percentiles(&mut self, prefix: &str, of: &mut [u64]) -> &mut Line {
        of.sort_unstable();
        let at = |share: f64| {
            let n = ((of.len() as f64 * share).ceil() as usize).saturating_sub(1);
            of.get(n).map_or(f64::NAN, |ns| *ns as f64 / 1e3)
        };
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        for (name, value) in [("p50_us", p50), ("p99_us", p99), ("max_us", max), ("samples", of.len() as f64)]
        {
            self.put(&format!("{prefix}{name}"), value);
        }
        self
    }

    /// How busy everybody was between two looks: near 1, the generator was the bottleneck.
    pub fn busy(&mut self, before: &Look, after: &Look) -> &mut Line {
        let wall = after.seconds(before) * 1e3;
        self.put("server_busy", after.cpu_ms(before) / wall).put("own_busy", (after.own - before.own) / wall)
    }

    pub fn print(&self) {
        println!("{}}}", self.0);
    }
}
