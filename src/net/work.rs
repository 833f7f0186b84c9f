//! Threads for what takes long and needs no disk: key derivation (RFC 5802 §3). Two at most, started
//! when first needed, with a bounded queue: a flood of logins waits outside.

use crate::hub::limits::fixed;
use smol::channel::{self, Receiver, Sender};
use std::cell::Cell;

type Job = Box<dyn FnOnce() + Send>;

/// The threads' door.
pub struct Workers {
    jobs: Sender<Job>,
    inbox: Receiver<Job>,
    threads: Cell<usize>,
}

impl Workers {
    /// No thread yet.
    pub fn new() -> Workers {
        let (jobs, inbox) = channel::bounded(fixed::DERIVATIONS);
        Workers { jobs, inbox, threads: Cell::new(0) }
    }

    /// Runs `work` on a thread and waits for its result. `None`: no thread can be had.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.start();
        let (tell, told) = channel::bounded(1);
        let job: Job = Box::new(move || drop(tell.try_send(work())));
        self.jobs.send(job).await.ok()?;
        told.recv().await.ok()
    }

    /// One thread at the first call, a second one when work waits already.
    fn start(&self) {
        let wanted = if self.threads.get() == 0 { 1 } else { 1 + usize::from(!self.jobs.is_empty()) };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.threads.get() >= wanted.min(cores) {
            return;
        }
        let inbox = self.inbox.clone();
        let thread =
            std::thread::Builder::new().name("keys".into()).stack_size(256 * 1024).spawn(move || {
                while let Ok(job) = inbox.recv_blocking() {
                    // A panic costs its asker an answer, not the others theirs.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                }
            });
        match thread {
            Ok(_) => self.threads.set(self.threads.get() + 1),
            Err(why) => log::error!("no thread for key derivation: {why}"),
        }
    }
}

impl Default for Workers {
    fn default() -> Workers {
        Workers::new()
    }
}
