//! What a command line program waits for besides its stream: signals, time, standard input.

pub use smol::future::or;

use async_signal::Signal;
use smol::channel::{Receiver, bounded};
use smol::future;
use smol::stream::StreamExt as _;
use std::io::{self, BufRead as _};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Waits for it. The loop that waits is there once for each `R`, not once for each future.
pub fn block_on<R>(work: impl Future<Output = R>) -> R {
    let work: Pin<&mut dyn Future<Output = R>> = pin!(work);
    async_io::block_on(work)
}

/// Waits so long.
pub async fn sleep(time: Duration) {
    async_io::Timer::after(time).await;
}

/// Waits until then.
pub async fn until(at: Instant) {
    async_io::Timer::at(at).await;
}

/// The time of day, as RFC 3339 writes it.
pub fn now() -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + crate::net::unix_time()).to_string()
}

/// What cut the work short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The deadline.
    Deadline,
}

/// Watches for SIGINT and SIGTERM.
#[derive(Debug)]
pub struct Signals(async_signal::Signals);

impl Signals {
    /// From here on these signals are ours.
    pub fn new() -> io::Result<Signals> {
        async_signal::Signals::new([Signal::Int, Signal::Term]).map(Signals)
    }

    /// The work, unless a signal or the deadline comes first.
    pub async fn or<R>(
        &mut self,
        deadline: Option<Instant>,
        work: impl Future<Output = R>,
    ) -> Result<R, Cut> {
        // Once for each `R`, too.
        let work: Pin<&mut dyn Future<Output = R>> = pin!(work);
        let signal = async {
            match self.0.next().await {
                Some(Ok(Signal::Term)) => Err(Cut::Terminate),
                Some(Ok(_)) => Err(Cut::Interrupt),
                Some(Err(_)) | None => future::pending().await,
            }
        };
        let over = async {
            match deadline {
                Some(at) => {
                    until(at).await;
                    Err(Cut::Deadline)
                }
                None => future::pending().await,
            }
        };
        or(async { Ok(work.await) }, or(signal, over)).await
    }
}

/// Pauses between attempts: each twice as long as the one before, up to a limit, and each made
/// longer or shorter by chance, so that a thousand devices do not come back in the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// Begins with about `first`.
    pub fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, next: first, most: most.max(first) }
    }

    /// An attempt has succeeded.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// How long to pause now: between 3/4 and 5/4 of what the doubling says.
    pub fn pause(&mut self) -> Duration {
        let base = self.next;
        self.next = base.saturating_mul(2).min(self.most);
        let [chance] = crate::net::random::<1>().map(u32::from);
        base.saturating_mul(chance.saturating_add(384)) / 512
    }
}

/// The lines of standard input, read by a thread of their own.
#[derive(Debug)]
pub struct Lines(Receiver<io::Result<String>>);

impl Lines {
    /// Begins to read.
    pub fn stdin() -> Lines {
        let (to, from) = bounded(64);
        std::thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            loop {
                let mut line = Vec::new();
                let read = stdin.read_until(b'\n', &mut line);
                let line = match read {
                    Ok(0) => return,
                    Ok(_) => {
                        if line.last() == Some(&b'\n') {
                            line.pop();
                        }
                        Ok(String::from_utf8_lossy(&line).into_owned())
                    }
                    Err(e) => Err(e),
                };
                let failed = line.is_err();
                if to.send_blocking(line).is_err() || failed {
                    return;
                }
            }
        });
        Lines(from)
    }

    /// The next line, without its end. `None`: there are no more.
    pub async fn next(&self) -> io::Result<Option<String>> {
        self.0.recv().await.ok().transpose()
    }

    /// Whether a line waits that can be had without waiting.
    pub fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(10));
        for base in [4u64, 8, 10, 10] {
            let pause = backoff.pause().as_secs_f64();
            assert!(pause >= base as f64 * 0.74 && pause <= base as f64 * 1.26, "{pause} for {base}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(5));
    }
}
