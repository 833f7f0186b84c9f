//! The store's thread: takes what is waiting, does it in one batch, tells.

use super::Counters;
use super::backup::{self, Snapshot};
use super::batch::{Batch, Done, Seen, Writes};
use super::change::{Answer, Ask, Change, Job, Status};
use super::failed::Failed;
use super::files::{self, Files};
use std::collections::HashMap;
use std::fs::File;
use std::mem::Discriminant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

/// Jobs in one batch. More would not make a commit cheaper (200 are already close to the price of
/// the data itself), and those who wait for the first answer wait for the last job.
const MAX_JOBS: usize = 4096;
/// Bytes in one batch: what is written twice at the same time should stay small on a small machine.
const MAX_BYTES: usize = 4 << 20;
/// Room that must be left on the disk before anything is added. redb refuses all further work,
/// reading too, once a write has failed, so it must not come to that.
pub(super) const FLOOR: u64 = 4 << 20;
/// The same for jobs that only remove: they need a few pages to make room.
const FLOOR_REMOVING: u64 = 512 << 10;

pub(super) struct Worker {
    dir: PathBuf,
    /// `None` after a failure, until the files can be opened again.
    files: Option<Files>,
    reopen: Box<dyn Fn() -> Result<Files, Failed> + Send>,
    free: Box<dyn Fn() -> Result<u64, Failed> + Send>,
    seen: Seen,
    counters: Arc<Counters>,
    backup: Option<JoinHandle<()>>,
    /// False again before the backup's answer is given.
    backing_up: Arc<AtomicBool>,
    stop_backup: Arc<AtomicBool>,
    /// The kind of trouble that the log has a line about already.
    complained: Option<Discriminant<Failed>>,
    /// Dropped last: the directory is ours until the files are closed.
    lock: File,
}

impl Worker {
    pub(super) fn new(
        dir: PathBuf,
        lock: File,
        files: Files,
        counters: Arc<Counters>,
        reopen: Box<dyn Fn() -> Result<Files, Failed> + Send>,
        free: Box<dyn Fn() -> Result<u64, Failed> + Send>,
    ) -> Self {
        Self {
            dir,
            files: Some(files),
            reopen,
            free,
            seen: HashMap::new(),
            counters,
            backup: None,
            backing_up: Arc::default(),
            stop_backup: Arc::default(),
            complained: None,
            lock,
        }
    }

    /// Until the last sender is gone.
    pub(super) fn work(mut self, jobs: &Receiver<Job>) -> Result<(), Failed> {
        while let Ok(first) = jobs.recv() {
            let mut room = MAX_BYTES.saturating_sub(weight(&first));
            let mut batch = vec![first];
            let mut ended = is_backup(&batch);
            while !ended && batch.len() < MAX_JOBS && room > 0 {
                let Ok(next) = jobs.try_recv() else { break };
                room = room.saturating_sub(weight(&next));
                batch.push(next);
                ended = is_backup(&batch);
            }
            self.counters.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
            self.run(batch);
        }
        self.close()
    }

    /// Does the jobs and tells. One that cannot be done takes no other with it: the batch is cut
    /// in halves until it stands alone.
    fn run(&mut self, mut jobs: Vec<Job>) {
        match self.attempt(&jobs) {
            Ok(done) => {
                for (job, answer) in jobs.into_iter().zip(done.answers) {
                    self.tell(job, answer);
                }
            }
            Err(failed) if jobs.len() > 1 && failed.may_be_one_job() => {
                let rest = jobs.split_off(jobs.len().div_ceil(2));
                self.run(jobs);
                self.run(rest);
            }
            Err(failed) => {
                self.complain(&failed);
                for job in jobs {
                    self.tell(job, Answer::Failed(failed.to_string()));
                }
            }
        }
    }

    fn attempt(&mut self, jobs: &[Job]) -> Result<Done, Failed> {
        self.check_room(jobs)?;
        let files = match self.files.take() {
            Some(files) => files,
            None => (self.reopen)()?,
        };
        let max_accounts = self.counters.max_accounts.load(Ordering::Relaxed);
        let result =
            catch_unwind(AssertUnwindSafe(|| Batch::new(&files, &mut self.seen, max_accounts).run(jobs)))
                .unwrap_or(Err(Failed::Panicked));
        let broken = match &result {
            Ok(done) => done.broken.clone(),
            Err(failed) => Some(failed.clone()).filter(Failed::needs_reopen),
        };
        match broken {
            None => self.files = Some(files),
            Some(failed) => {
                self.complain(&failed);
                close_files(files);
            }
        }
        if let Ok(done) = &result {
            if done.commits > 0 && done.broken.is_none() {
                self.complained = None;
            }
            self.counters.commits.fetch_add(done.commits, Ordering::Relaxed);
            self.counters.bytes.fetch_add(done.bytes, Ordering::Relaxed);
        }
        result
    }

    /// One line for each kind of trouble until a commit succeeds again, however many jobs it hits.
    fn complain(&mut self, failed: &Failed) {
        let kind = std::mem::discriminant(failed);
        if self.complained.replace(kind) != Some(kind) {
            log::error!("store: {failed}");
        }
    }

    fn check_room(&self, jobs: &[Job]) -> Result<(), Failed> {
        let (mut any, mut grows, mut bytes) = (false, false, 0_u64);
        for job in jobs {
            let writes = Writes::of(job);
            any = any || writes.any();
            grows = grows || writes.grows();
            bytes = bytes.saturating_add(u64::try_from(weight(job)).unwrap_or(u64::MAX));
        }
        if !any {
            return Ok(());
        }
        // Pages are copied before they are changed, and what is deleted is free only later.
        let floor = if grows { FLOOR } else { FLOOR_REMOVING };
        let need = floor.saturating_add(bytes.saturating_mul(4));
        let free = (self.free)()?;
        if free < need { Err(Failed::NoSpace { free, need }) } else { Ok(()) }
    }

    fn tell(&mut self, job: Job, mut answer: Answer) {
        if let (Ask::Backup { file }, Answer::Nothing) = (&job.ask, &answer) {
            let file = file.clone();
            return self.start_backup(file, job);
        }
        if let Answer::Status(status) = &mut answer {
            self.add_to(status);
        }
        tell(job, answer);
    }

    /// What the tables do not tell.
    fn add_to(&self, status: &mut Status) {
        status.file_bytes = files::sizes(&self.dir).unwrap_or(0);
        status.commits = self.counters.commits.load(Ordering::Relaxed);
        status.logical_bytes = self.counters.bytes.load(Ordering::Relaxed);
    }

    /// The moment of the backup is now; the copying is somebody else's work.
    fn start_backup(&mut self, file: PathBuf, job: Job) {
        if self.backing_up.load(Ordering::Acquire) {
            return tell(job, Answer::Backup(Err("another backup is still running".into())));
        }
        let snapshot = match self.files.as_ref().ok_or(Failed::Closed).and_then(Snapshot::take) {
            Ok(snapshot) => snapshot,
            Err(failed) => return tell(job, Answer::Backup(Err(failed.to_string()))),
        };
        let (stop, running) = (self.stop_backup.clone(), self.backing_up.clone());
        let size = files::sizes(&self.dir).unwrap_or(0);
        // The job is handed over through here so that it is still ours if there is no thread.
        let (hand, over) = std::sync::mpsc::channel();
        let copying = move || {
            let Ok(job) = over.recv() else { return };
            let written = catch_unwind(AssertUnwindSafe(|| backup::write(&snapshot, &file, size, &stop)));
            let written = written.unwrap_or(Err(Failed::Panicked));
            drop(snapshot);
            running.store(false, Ordering::Release);
            tell(job, Answer::Backup(written.map_err(|failed| failed.to_string())));
        };
        match std::thread::Builder::new().name("store-backup".into()).spawn(copying) {
            Ok(thread) => {
                self.backup = Some(thread);
                self.backing_up.store(true, Ordering::Release);
                if let Err(unsent) = hand.send(job) {
                    self.backing_up.store(false, Ordering::Release);
                    tell(unsent.0, Answer::Backup(Err(Failed::Panicked.to_string())));
                }
            }
            Err(error) => tell(job, Answer::Backup(Err(format!("no thread for the backup: {error}")))),
        }
    }

    fn close(mut self) -> Result<(), Failed> {
        self.stop_backup.store(true, Ordering::Relaxed);
        if let Some(backup) = self.backup.take() {
            drop(backup.join());
        }
        let files = self.files.take().map_or_else(|| (self.reopen)(), Ok)?;
        let result = if self.seen.is_empty() {
            Ok(())
        } else {
            catch_unwind(AssertUnwindSafe(|| Batch::new(&files, &mut self.seen, u64::MAX).last()))
                .unwrap_or(Err(Failed::Panicked))
        };
        close_files(files);
        drop(self.lock);
        result
    }
}

/// In order, so that the next opening need not look at every page. After a failure redb leaves the
/// files as they are, and the next opening does look.
fn close_files(files: Files) {
    for database in [files.accounts, files.bulk] {
        match catch_unwind(AssertUnwindSafe(|| database.close())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn!("store: closing: {error}"),
            Err(_) => log::warn!("store: closing panicked"),
        }
    }
}

/// A job's own code must not take the thread with it.
fn tell(job: Job, answer: Answer) {
    if catch_unwind(AssertUnwindSafe(|| (job.then)(answer))).is_err() {
        log::error!("store: what was to happen after a commit panicked");
    }
}

fn is_backup(batch: &[Job]) -> bool {
    batch.last().is_some_and(|job| matches!(job.ask, Ask::Backup { .. }))
}

/// About how many bytes a job brings along.
fn weight(job: &Job) -> usize {
    let sum = |all: usize, more: usize| all.saturating_add(more);
    let asked = if let Ask::PrivatePut { xml, .. } = &job.ask { xml.len() } else { 0 };
    job.changes.iter().map(weight_of).fold(asked.saturating_add(256), sum)
}

fn weight_of(change: &Change) -> usize {
    let content = match change {
        Change::RosterPut { item, .. } => item
            .groups
            .iter()
            .map(|group| group.len())
            .fold(item.jid.len(), usize::saturating_add)
            .saturating_add(item.name.as_deref().map_or(0, str::len))
            .saturating_add(item.pending.as_deref().map_or(0, <[u8]>::len)),
        Change::OfflinePut { stanza, .. } => stanza.len(),
        Change::VcardPut { xml, .. } | Change::PrivatePut { xml, .. } => xml.len(),
        Change::LastSeen { status, .. } => status.len(),
        Change::NamedPut { value, .. } => value.len(),
        _ => 0,
    };
    content.saturating_add(128)
}
