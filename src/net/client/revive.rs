//! A lost connection is made again, and the session gone on with (XEP-0198 §5).

use super::ear::Hold;
use super::error::Error;
use super::negotiate::{Arrived, Goal, arrive, elsewhere};
use super::options::Options;
use super::wait::sleep;
use std::pin::Pin;
use std::time::{Duration, Instant};

/// The first pause between two attempts; each is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(250);
/// So many attempts share the time that a login has.
const ATTEMPTS: u32 = 3;
/// The shortest time for one.
const SHORTEST: Duration = Duration::from_secs(5);
/// The longest.
const LONGEST: Duration = Duration::from_secs(10);

/// A new connection on its way. It goes on where it was when whoever waits for it waits again.
pub(super) struct Revival {
    way: Pin<Box<dyn Future<Output = Result<Arrived, Error>>>>,
    /// Why there is one.
    why: Error,
}

impl Revival {
    /// For a stream on which `heard` stanzas were.
    pub fn begin(options: &Options, hold: &Hold, heard: u32, why: Error) -> Revival {
        let goal = Goal::Resume(hold.id.clone(), heard);
        let patience =
            hold.max.map_or(options.timeout, |max| options.timeout.min(Duration::from_secs(max.into())));
        // Where the server wants to be found again, unless the user has said where (§5).
        let there = hold.location.as_deref().and_then(elsewhere).filter(|_| options.host.is_none());
        let mut options = options.clone();
        // One attempt that hangs leaves time for others.
        options.timeout = (options.timeout / ATTEMPTS).max(SHORTEST).min(options.timeout);
        let there = there.map(|(host, port)| Options { host: Some(host), port, ..options.clone() });
        Revival { way: Box::pin(again(options, there, goal, patience)), why }
    }

    /// Waits for it. If there will be none, says what was wrong in the beginning: that is what the user can see.
    pub async fn finish(&mut self) -> Result<Arrived, Error> {
        self.way.as_mut().await.map_err(|error| match &self.why {
            Error::Lost(line) => Error::Lost(format!("{line}; {error}")),
            other => other.clone(),
        })
    }
}

async fn again(
    options: Options,
    mut there: Option<Options>,
    goal: Goal,
    patience: Duration,
) -> Result<Arrived, Error> {
    let started = Instant::now();
    let mut pause = FIRST;
    loop {
        let first = there.take();
        match arrive(first.as_ref().unwrap_or(&options), &goal).await {
            Err(Error::Unreachable(_) | Error::Lost(_) | Error::TimedOut(_))
                if first.is_some() || started.elapsed().saturating_add(pause) < patience =>
            {
                if first.is_none() {
                    sleep(pause).await;
                    pause = pause.saturating_mul(2).min(LONGEST);
                }
            }
            ended => return ended,
        }
    }
}
