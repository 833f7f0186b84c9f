//! Why the store could not: one line for the operator, saying what is wrong and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// A failure of the store. Nothing in it comes from a peer, and it never holds stored content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failed {
    /// Another process has the data directory.
    Locked(PathBuf),
    /// A file or directory is not ours, or not what it should be.
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The operating system refused.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        error: String,
    },
    /// One of the two database files is gone while the other is there.
    Missing(PathBuf),
    /// The two database files do not belong together.
    Mismatch(PathBuf),
    /// A database file is damaged.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the database said.
        error: String,
    },
    /// A database file was written by a later stonechat.
    Newer {
        /// The file.
        path: PathBuf,
        /// The version that it has.
        found: u32,
    },
    /// One stored record cannot be read; it names the kind of record.
    Record(&'static str),
    /// The database refused a read or a write.
    Database(String),
    /// Too little space is left to write safely.
    NoSpace {
        /// Bytes that are left.
        free: u64,
        /// Bytes that there should be.
        need: u64,
    },
    /// The file to be written is there already.
    Exists(PathBuf),
    /// A bug: the store's own code panicked. The work at hand was undone.
    Panicked,
    /// The store is closed.
    Closed,
}

impl Failed {
    pub(super) fn io(path: &Path, error: &std::io::Error) -> Self {
        Failed::Io { path: path.into(), error: error.to_string() }
    }

    /// Whether a smaller batch may succeed, because a single job may be to blame.
    pub(super) fn may_be_one_job(&self) -> bool {
        matches!(self, Failed::Record(_) | Failed::NoSpace { .. } | Failed::Panicked)
    }

    /// Whether redb must be closed and opened again: after an I/O error it refuses all further
    /// work, and after a panic it has lost track of some pages until it is opened again.
    pub(super) fn needs_reopen(&self) -> bool {
        matches!(self, Failed::Database(_) | Failed::Panicked)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Locked(dir) => {
                let dir = dir.display();
                write!(f, "another stonechat is using {dir}; ask it: stonechat status --data {dir}")
            }
            Failed::Foreign { path, why } => {
                write!(f, "{} {why}; refusing to use it", path.display())
            }
            Failed::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Failed::Missing(path) => write!(
                f,
                "{} is missing, though its sister file is there; put it back, or restore a backup",
                path.display()
            ),
            Failed::Mismatch(dir) => write!(
                f,
                "accounts.redb and bulk.redb in {} do not belong together; put back the pair that does, or restore a backup",
                dir.display()
            ),
            Failed::Corrupt { path, error } => write!(
                f,
                "{} is damaged ({error}); it was left as it is: keep a copy, then restore a backup into an empty directory",
                path.display()
            ),
            Failed::Newer { path, found } => write!(
                f,
                "{} has layout version {found}, this stonechat knows versions up to {}; use the later stonechat that wrote it",
                path.display(),
                super::schema::VERSION
            ),
            Failed::Record(what) => write!(f, "a stored record cannot be read: {what}; restore a backup"),
            Failed::Database(error) => write!(f, "the database refused: {error}"),
            Failed::NoSpace { free, need } => write!(
                f,
                "the disk is nearly full: {} KiB left, {} KiB needed to write safely; make room",
                free / 1024,
                need / 1024
            ),
            Failed::Exists(path) => write!(f, "{} exists already; choose another name", path.display()),
            Failed::Panicked => f.write_str("a bug in the store; what it was doing was undone"),
            Failed::Closed => f.write_str("the store is closed"),
        }
    }
}

impl std::error::Error for Failed {}

macro_rules! from_redb {
    ($($error:ident),*) => { $(
        impl From<redb::$error> for Failed {
            fn from(error: redb::$error) -> Self {
                Failed::Database(redb::Error::from(error).to_string())
            }
        }
    )* };
}

from_redb!(StorageError, TableError, TransactionError, CommitError, SetDurabilityError, DatabaseError);
