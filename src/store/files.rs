//! The data directory: who may read it, and how the files in it come to be.

use super::failed::Failed;
use super::journal;
use super::schema::{self, ACCOUNTS_FILE, BULK_FILE, Layout, PAIR_KEY};
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, StorageBackend, StorageError};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const LOCK_FILE: &str = "lock";
/// A file that is still being made has this after its name, and is worth nothing.
const UNFINISHED: &str = ".new";

/// The open database. Whoever has it has the lock on the directory.
pub(super) struct Files {
    pub(super) accounts: Database,
    pub(super) bulk: Database,
}

/// Makes the directory if it is not there, makes it private if it is not, and locks it. Nobody
/// else can have it while the returned file is open.
pub(super) fn lock(dir: &Path) -> Result<File, Failed> {
    let io = |error: std::io::Error| Failed::io(dir, &error);
    if !dir.try_exists().map_err(io)? {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
    }
    // A link to a directory is good: systemd's DynamicUser makes /var/lib/x one.
    let found = fs::metadata(dir).map_err(io)?;
    let foreign = |why| Failed::Foreign { path: dir.into(), why };
    if !found.is_dir() {
        return Err(foreign("is not a directory"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(foreign("belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        // Somebody's home or /tmp, given by mistake, is not ours to close to others.
        if !holds_only_ours(dir).map_err(io)? {
            return Err(foreign("is open to other users and holds files that are not ours"));
        }
        log::warn!("{} was open to others; making it private", dir.display());
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io)?;
    }
    let path = dir.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = open_own(&path, &mut options)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failed::Locked(dir.into())),
        Err(TryLockError::Error(error)) => Err(Failed::io(&path, &error)),
    }
}

fn holds_only_ours(dir: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if ![ACCOUNTS_FILE.file, BULK_FILE.file, LOCK_FILE].iter().any(|ours| name == *ours) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Opens a file of ours: no link, not somebody else's, readable to nobody else.
pub(super) fn open_own(path: &Path, options: &mut OpenOptions) -> Result<File, Failed> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let foreign = |why| Failed::Foreign { path: path.into(), why };
    let file = options.mode(0o600).custom_flags(no_follow).open(path).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            foreign("is a symbolic link")
        } else if error.kind() == ErrorKind::AlreadyExists {
            Failed::Exists(path.into())
        } else {
            Failed::io(path, &error)
        }
    })?;
    let found = file.metadata().map_err(|error| Failed::io(path, &error))?;
    if !found.is_file() {
        return Err(foreign("is not an ordinary file"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(foreign("belongs to another user"));
    }
    if found.mode() & 0o177 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(|error| Failed::io(path, &error))?;
    }
    Ok(file)
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), Failed> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Failed::io(dir, &error))
}

/// Opens both files, makes them if there is neither, brings them to the present layout and finishes what was
/// cut short. A file that is there is never made anew, whatever is wrong with it.
///
/// `wrap` may put something between redb and the files; only tests do.
pub(super) fn open<B: StorageBackend>(
    dir: &Path,
    wrap: impl Fn(FileBackend) -> B + Copy,
) -> Result<Files, Failed> {
    let path = |layout: &Layout| dir.join(layout.file);
    let is_there = |layout: &Layout| {
        let path = path(layout);
        // Not `try_exists`: a link to nowhere is there, too.
        match fs::symlink_metadata(&path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failed::io(&path, &error)),
        }
    };
    match (is_there(&ACCOUNTS_FILE)?, is_there(&BULK_FILE)?) {
        (true, true) => {}
        (true, false) => return Err(Failed::Missing(path(&BULK_FILE))),
        // Bulk is made first, so this is a first start that was cut short, or accounts are lost.
        (false, true) => {
            let (bulk, pair) = open_one(dir, &BULK_FILE, wrap)?;
            if !is_empty(&bulk, &BULK_FILE)? {
                return Err(Failed::Missing(path(&ACCOUNTS_FILE)));
            }
            drop(bulk);
            create(dir, &ACCOUNTS_FILE, &pair)?;
        }
        (false, false) => {
            let pair = random_pair()?;
            create(dir, &BULK_FILE, &pair)?;
            create(dir, &ACCOUNTS_FILE, &pair)?;
        }
    }
    let (accounts, one) = open_one(dir, &ACCOUNTS_FILE, wrap)?;
    let (bulk, other) = open_one(dir, &BULK_FILE, wrap)?;
    if one != other {
        return Err(Failed::Mismatch(dir.into()));
    }
    let files = Files { accounts, bulk };
    journal::replay(&files)?;
    Ok(files)
}

/// Under another name until it is whole and on disk, so that a file with the right name is
/// always one that was finished.
fn create(dir: &Path, layout: &Layout, pair: &[u8; 16]) -> Result<(), Failed> {
    create_with(dir, layout, |transaction| schema::create(layout, transaction, pair))
}

pub(super) fn create_with(
    dir: &Path,
    layout: &Layout,
    fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let path = dir.join(layout.file);
    let unfinished = dir.join(format!("{}{UNFINISHED}", layout.file));
    remove_if_there(&unfinished)?;
    let file = open_own(&unfinished, OpenOptions::new().read(true).write(true).create_new(true))?;
    let database =
        Builder::new().set_cache_size(layout.cache).create_with_backend(FileBackend::new(file)?)?;
    let transaction = database.begin_write()?;
    fill(&transaction)?;
    transaction.commit()?;
    database.close()?;
    fs::rename(&unfinished, &path).map_err(|error| Failed::io(&path, &error))?;
    sync_dir(dir)
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), Failed> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Failed::io(path, &error)),
        _ => Ok(()),
    }
}

/// Opens a file that is there; `verify` reads all of it.
pub(super) fn open_database<B: StorageBackend>(
    path: &Path,
    cache: usize,
    verify: bool,
    wrap: impl Fn(FileBackend) -> B,
) -> Result<Database, Failed> {
    let corrupt = |error: String| Failed::Corrupt { path: path.into(), error };
    let file = open_own(path, OpenOptions::new().read(true).write(true))?;
    if file.metadata().map_err(|error| Failed::io(path, &error))?.len() == 0 {
        return Err(corrupt("it is empty".into()));
    }
    let shown = path.display().to_string();
    let said = std::cell::Cell::new(false);
    let backend = wrap(FileBackend::new(file)?);
    // redb reports damage as an error where it looks for it and may panic where it does not.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        Builder::new()
            .set_cache_size(cache)
            .set_check_integrity_on_open(verify)
            .set_repair_callback(move |_| {
                if !said.replace(true) {
                    match verify {
                        // Looked through at each open, so this tells nothing.
                        true => log::debug!("checking {shown}"),
                        false => log::info!("{shown} was not closed in order; checking it"),
                    }
                }
            })
            .create_with_backend(backend)
    }));
    match opened {
        Ok(Ok(database)) => Ok(database),
        Err(_) => Err(corrupt("it cannot be read".into())),
        Ok(Err(error)) => Err(match error {
            redb::DatabaseError::DatabaseAlreadyOpen => {
                Failed::Locked(path.parent().unwrap_or(path).to_path_buf())
            }
            redb::DatabaseError::Storage(StorageError::Io(error))
                if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Failed::io(path, &error)
            }
            error => corrupt(error.to_string()),
        }),
    }
}

fn open_one<B: StorageBackend>(
    dir: &Path,
    layout: &Layout,
    wrap: impl Fn(FileBackend) -> B,
) -> Result<(Database, [u8; 16]), Failed> {
    let path = dir.join(layout.file);
    let corrupt = |error: String| Failed::Corrupt { path: path.clone(), error };
    let database = open_database(&path, layout.cache, layout.verify, wrap)?;
    let read = database.begin_read()?;
    let meta = read.open_table(layout.meta).map_err(|error| corrupt(error.to_string()))?;
    let version = schema::version(&path, &meta)?;
    let pair = redb::ReadableTable::get(&meta, PAIR_KEY)?;
    let pair = pair.and_then(|pair| pair.value().try_into().ok());
    let pair = pair.ok_or_else(|| corrupt("it does not name its sister file".into()))?;
    drop((read, meta));
    if version < schema::VERSION {
        log::info!("{}: from layout version {version} to {}", path.display(), schema::VERSION);
        let transaction = database.begin_write()?;
        schema::migrate(&transaction, layout.meta, version, layout.steps)?;
        transaction.commit()?;
    }
    let read = database.begin_read()?;
    for table in layout.tables {
        read.open_table(*table).map_err(|error| corrupt(error.to_string()))?;
    }
    drop(read);
    Ok((database, pair))
}

fn is_empty(database: &Database, layout: &Layout) -> Result<bool, Failed> {
    let read = database.begin_read()?;
    for table in layout.tables.iter().filter(|table| !same(**table, layout.meta)) {
        if !redb::ReadableTableMetadata::is_empty(&read.open_table(*table)?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same(one: schema::Table, other: schema::Table) -> bool {
    use redb::TableHandle;
    one.name() == other.name()
}

fn random_pair() -> Result<[u8; 16], Failed> {
    let source = Path::new("/dev/urandom");
    let mut pair = [0; 16];
    let read = File::open(source).and_then(|mut file| file.read_exact(&mut pair));
    read.map(|()| pair).map_err(|error| Failed::io(source, &error))
}

/// How large the files are together.
pub(super) fn sizes(dir: &Path) -> Result<u64, Failed> {
    let mut sum = 0_u64;
    for layout in [&ACCOUNTS_FILE, &BULK_FILE] {
        let path = dir.join(layout.file);
        let found = fs::metadata(&path).map_err(|error| Failed::io(&path, &error))?;
        sum = sum.saturating_add(found.len());
    }
    Ok(sum)
}

/// Bytes that are left for us on the file system.
pub(super) fn free(dir: &Path) -> Result<u64, Failed> {
    let found = rustix::fs::statvfs(dir).map_err(|error| Failed::io(dir, &error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
