//! Several generators in one scene: each says when it stands on the stage, and acts begin and end
//! for all of them when the director says so, a line on standard input each time.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const OVER: usize = usize::MAX;

/// Where the scene is.
pub struct Cue(Arc<AtomicUsize>);

impl Cue {
    /// Logged in, all set.
    pub fn ready() -> Cue {
        println!("ready");
        let act = Arc::new(AtomicUsize::new(0));
        let heard = act.clone();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let number = line.ok().and_then(|line| line.trim().parse().ok());
                heard.store(number.unwrap_or(OVER), Relaxed);
            }
            heard.store(OVER, Relaxed);
        });
        Cue(act)
    }

    /// The act that is on; 0 before the first.
    pub fn act(&self) -> usize {
        self.0.load(Relaxed)
    }

    pub fn over(&self) -> bool {
        self.act() == OVER
    }
}
