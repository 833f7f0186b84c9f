//! One file with everything, taken while the hub runs, and a data directory from it.
//!
//! The file is a redb file of its own, with all tables of both files under their own names and
//!
//! ```text
//! backup           "format"                   1 as u32
//! ```
//!
//! It holds what the accounts' passwords are proven with, and the secrets of components: who can read it can pass for this hub towards its
//! users and guess their passwords at leisure. It is as private as the data directory.

use super::failed::Failed;
use super::files::{self, Files};
use super::schema::{self, ACCOUNTS_FILE, BULK_FILE, Layout, Table};
use super::worker::FLOOR;
use redb::backends::FileBackend;
use redb::{Builder, ReadTransaction, ReadableDatabase, ReadableTable, TableError, WriteTransaction};
use rustix::fs::{CWD, RenameFlags};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const BACKUP: Table = Table::new("backup");
const FORMAT_KEY: &[u8] = b"format";
const FORMAT: u32 = 1;
/// Copying needs no memory to speak of.
const CACHE: usize = 1 << 20;

/// Both files at one moment.
pub(super) struct Snapshot {
    accounts: ReadTransaction,
    bulk: ReadTransaction,
}

impl Snapshot {
    /// To be called between two batches, when no job is half done.
    pub(super) fn take(files: &Files) -> Result<Self, Failed> {
        Ok(Self { accounts: files.accounts.begin_read()?, bulk: files.bulk.begin_read()? })
    }
}

/// Writes a file that must not exist yet; it has its name once it is whole and on disk. `at_most`
/// is about how large it can get: it must not fill the disk under the running store. The answer is its size.
pub(super) fn write(
    snapshot: &Snapshot,
    file: &Path,
    at_most: u64,
    stop: &AtomicBool,
) -> Result<u64, Failed> {
    if fs::symlink_metadata(file).is_ok() {
        return Err(Failed::Exists(file.into()));
    }
    let (free, need) = (files::free(directory_of(file))?, at_most.saturating_add(FLOOR));
    if free < need {
        return Err(Failed::NoSpace { free, need });
    }
    let unfinished = beside(file, ".partial");
    let backend = files::open_own(&unfinished, OpenOptions::new().read(true).write(true).create_new(true))?;
    let written = (|| {
        let database =
            Builder::new().set_cache_size(CACHE).create_with_backend(FileBackend::new(backend)?)?;
        let transaction = database.begin_write()?;
        transaction.open_table(BACKUP)?.insert(FORMAT_KEY, FORMAT.to_be_bytes().as_slice())?;
        copy(&snapshot.accounts, &transaction, &ACCOUNTS_FILE, stop)?;
        copy(&snapshot.bulk, &transaction, &BULK_FILE, stop)?;
        transaction.commit()?;
        database.close()?;
        let size = fs::metadata(&unfinished).map_err(|error| Failed::io(&unfinished, &error))?.len();
        rename_new(&unfinished, file)?;
        Ok(size)
    })();
    if written.is_err() {
        files::remove_if_there(&unfinished)?;
    }
    written
}

/// Makes a data directory from a backup. There must be none in its place.
///
/// # Errors
///
/// If the backup is damaged or from a later stonechat, or the directory is in use or already has
/// data in it.
pub fn restore(file: &Path, dir: &Path) -> Result<(), Failed> {
    let lock = files::lock(dir)?;
    for layout in [&ACCOUNTS_FILE, &BULK_FILE] {
        let path = dir.join(layout.file);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(Failed::Exists(path));
        }
    }
    // redb writes to what it verifies, and the backup is not ours to write to.
    let copied = dir.join("restore.tmp");
    files::remove_if_there(&copied)?;
    let result = copy_file(file, &copied).and_then(|()| restore_from(file, &copied, dir));
    files::remove_if_there(&copied)?;
    drop(lock);
    result
}

fn restore_from(file: &Path, copied: &Path, dir: &Path) -> Result<(), Failed> {
    let corrupt = |error: String| Failed::Corrupt { path: file.into(), error };
    let database =
        files::open_database(copied, CACHE, true, |backend| backend).map_err(|failed| match failed {
            Failed::Corrupt { error, .. } => corrupt(error),
            other => other,
        })?;
    let read = database.begin_read()?;
    let format = read.open_table(BACKUP).map_err(|_| corrupt("it is not a stonechat backup".into()))?;
    let format = format.get(FORMAT_KEY)?.map(|format| format.value() == FORMAT.to_be_bytes());
    if format != Some(true) {
        return Err(corrupt("it is a backup of an unknown kind".into()));
    }
    for layout in [&ACCOUNTS_FILE, &BULK_FILE] {
        let meta = read.open_table(layout.meta).map_err(|error| corrupt(error.to_string()))?;
        schema::version(file, &meta)?;
    }
    // Bulk first, as for a new directory: accounts alone makes the pair complete.
    for layout in [&BULK_FILE, &ACCOUNTS_FILE] {
        files::create_with(dir, layout, |transaction| {
            copy(&read, transaction, layout, &AtomicBool::new(false))
        })?;
    }
    Ok(())
}

fn copy(
    from: &ReadTransaction,
    to: &WriteTransaction,
    layout: &Layout,
    stop: &AtomicBool,
) -> Result<(), Failed> {
    for table in layout.tables {
        let source = match from.open_table(*table) {
            Ok(source) => source,
            // A backup of an earlier version has no such table; whoever opens the directory makes it. (In
            // one of this version it is damage, and opening says so.)
            Err(TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut target = to.open_table(*table)?;
        for row in source.iter()? {
            if stop.load(Ordering::Relaxed) {
                return Err(Failed::Closed);
            }
            let (key, value) = row?;
            target.insert(key.value(), value.value())?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), Failed> {
    let mut source = fs::File::open(from).map_err(|error| Failed::io(from, &error))?;
    let mut target = files::open_own(to, OpenOptions::new().write(true).create_new(true))?;
    std::io::copy(&mut source, &mut target).map_err(|error| Failed::io(to, &error))?;
    Ok(())
}

/// Renames without ever taking the place of another file.
fn rename_new(from: &Path, to: &Path) -> Result<(), Failed> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(Failed::Exists(to.into())),
        // A file system that cannot promise it, such as NFS.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to).map_err(|error| Failed::io(to, &error))?;
        }
        Err(error) => return Err(Failed::io(to, &error.into())),
    }
    files::sync_dir(directory_of(to))
}

fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}
