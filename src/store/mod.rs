//! The only door to redb: one thread, one commit per batch.
//!
//! ```text
//! change    what is asked and answered, plain data; all that the hub knows of the store
//! schema    every table drawn to the byte
//! mod       Store: hands jobs to ──► worker: the thread, batches ──► batch: one transaction per file
//! accounts · invites · rosters · offline · extras · peers · forward    one file per group of tables, as methods of Batch
//! journal   jobs that span both files · side: one file as a batch sees it · record: how values are spelled
//! files     the data directory · backup: one file with everything, and back · failed: what to tell the operator
//! ```

mod accounts;
mod backup;
mod batch;
mod extras;
mod failed;
mod files;
mod forward;
mod invites;
mod journal;
mod offline;
mod peers;
mod record;
mod rosters;
mod schema;
mod side;
#[cfg(test)]
mod tests;
mod worker;

pub use backup::restore;
pub use failed::Failed;
pub use stonechat_core::store::change;

use change::{Answer, Ask, Change, Job};
use redb::StorageBackend;
use redb::backends::FileBackend;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use worker::Worker;

/// An open data directory. Handing in work never waits for the disk; dropping it does.
///
/// It may be shared between threads in an [`Arc`].
pub struct Store {
    /// `None` only while it is being closed.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<Result<(), Failed>>>,
    counters: Arc<Counters>,
}

/// Shared with the thread.
struct Counters {
    /// Jobs handed in and not yet begun.
    waiting: AtomicUsize,
    max_accounts: AtomicU64,
    commits: AtomicU64,
    bytes: AtomicU64,
}

impl Store {
    /// Opens the data directory, makes it if it is not there, and has it alone until closed.
    ///
    /// The directory is made private (0700, its files 0600) whatever the umask says. A file that
    /// belongs to somebody else, is a link, or is damaged is refused; none is ever made anew in
    /// the place of a damaged one.
    ///
    /// # Errors
    ///
    /// Whatever keeps the directory from being used, as one line for the operator.
    pub fn open(dir: &Path) -> Result<Self, Failed> {
        let free = {
            let dir = dir.to_path_buf();
            move || files::free(&dir)
        };
        Self::open_with(dir, |file| file, free)
    }

    /// `wrap` goes between redb and the files, `free` tells what room is left.
    fn open_with<B: StorageBackend>(
        dir: &Path,
        wrap: impl Fn(FileBackend) -> B + Clone + Send + 'static,
        free: impl Fn() -> Result<u64, Failed> + Send + 'static,
    ) -> Result<Self, Failed> {
        let lock = files::lock(dir)?;
        let reopen = {
            let dir = dir.to_path_buf();
            move || {
                // redb may panic over damage that it does not expect.
                let opened = catch_unwind(AssertUnwindSafe(|| files::open(&dir, &wrap)));
                opened.unwrap_or_else(|_| {
                    Err(Failed::Corrupt { path: dir.clone(), error: "it cannot be read".into() })
                })
            }
        };
        let counters = Arc::new(Counters {
            waiting: AtomicUsize::new(0),
            max_accounts: AtomicU64::new(u64::MAX),
            commits: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let files = reopen()?;
        let worker =
            Worker::new(dir.to_path_buf(), lock, files, counters.clone(), Box::new(reopen), Box::new(free));
        let (jobs, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || worker.work(&inbox))
            .map_err(|error| Failed::io(dir, &error))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), counters })
    }

    /// From how many accounts on [`Ask::Create`] is refused; no limit until this is called.
    pub fn set_max_accounts(&self, max: u64) {
        self.counters.max_accounts.store(max, Ordering::Relaxed);
    }

    /// Jobs that were handed in and not begun. There is no bound: who hands in decides when to
    /// stop reading from the outside.
    pub fn waiting(&self) -> usize {
        self.counters.waiting.load(Ordering::Relaxed)
    }

    /// Hands in one job and returns at once.
    pub fn submit(&self, job: Job) {
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        let refused = match &self.jobs {
            Some(jobs) => jobs.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        if let Some(job) = refused {
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
            (job.then)(Answer::Failed(Failed::Closed.to_string()));
        }
    }

    /// Hands in one job and waits for the answer. Not for the hub: the command line and tests.
    pub fn ask(&self, changes: Vec<Change>, ask: Ask) -> Answer {
        let (tell, told) = mpsc::channel();
        let then = Box::new(move |answer| drop(tell.send(answer)));
        self.submit(Job { changes, ask, then });
        told.recv().unwrap_or_else(|_| Answer::Failed(Failed::Closed.to_string()))
    }

    /// A small value by its name; waits.
    ///
    /// # Errors
    ///
    /// If it cannot be read, which is not the same as not being there.
    pub fn meta_get(&self, name: &str) -> Result<Option<Box<[u8]>>, Failed> {
        match self.ask(Vec::new(), Ask::Named { name: name.into() }) {
            Answer::Xml(value) => Ok(value),
            Answer::Failed(line) => Err(Failed::Database(line)),
            _ => Err(Failed::Closed),
        }
    }

    /// Keeps a small value under a name; empty bytes remove it. Waits until it is on disk.
    ///
    /// # Errors
    ///
    /// If it is not.
    pub fn meta_put(&self, name: &str, value: &[u8]) -> Result<(), Failed> {
        let change = Change::NamedPut { name: name.into(), value: value.into() };
        match self.ask(vec![change], Ask::Nothing) {
            Answer::Failed(line) => Err(Failed::Database(line)),
            _ => Ok(()),
        }
    }

    /// Does what was handed in, writes what was put off, and closes the files. Dropping the store
    /// does the same without telling how it went.
    ///
    /// # Errors
    ///
    /// If what was put off could not be written; all that was acknowledged is on disk anyway.
    pub fn close(mut self) -> Result<(), Failed> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Failed> {
        self.jobs = None;
        match self.thread.take() {
            // The last handle may be dropped by a job's own `then`: that thread cannot wait for itself.
            Some(thread) if thread.thread().id() != std::thread::current().id() => {
                thread.join().unwrap_or(Err(Failed::Panicked))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(failed) = self.end() {
            log::error!("store: {failed}");
        }
    }
}
