//! Where the data lies: who may read it, files of other versions, backups.

use super::trouble::tamper;
use super::*;
use crate::schema::{ACCOUNTS_FILE, BULK_FILE};
use redb::{Builder, Database};
use std::os::unix::fs::PermissionsExt;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn nobody_else_may_read_whatever_the_umask() {
    let dir = Dir::new();
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    let store = dir.open();
    let file = dir.0.join("backup");
    let answer = store.ask(vec![], Ask::Backup { file: file.clone() });
    rustix::process::umask(umask);
    assert!(matches!(answer, Answer::Backup(Ok(size)) if size > 0));
    assert_eq!(mode(&dir.data()), 0o700);
    for path in ["accounts.redb", "bulk.redb", "lock"] {
        assert_eq!(mode(&dir.data().join(path)), 0o600);
    }
    assert_eq!(mode(&file), 0o600);
    drop(store);
    // Looser than it should be and ours: made tight.
    fs::set_permissions(dir.data(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.data().join("bulk.redb"), fs::Permissions::from_mode(0o644)).unwrap();
    drop(dir.open());
    assert_eq!((mode(&dir.data()), mode(&dir.data().join("bulk.redb"))), (0o700, 0o600));
    // Not our directory at all, as far as one can see.
    let home = Dir::new();
    fs::create_dir(home.data()).unwrap();
    fs::set_permissions(home.data(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(home.data().join("letter"), b"").unwrap();
    assert!(matches!(home.refused(), Failed::Foreign { .. }));
    assert_eq!(mode(&home.data()), 0o755);
    // Only root can give files away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir.data().join("bulk.redb"), Some(1), None).unwrap();
        assert!(matches!(dir.refused(), Failed::Foreign { path, .. } if path.ends_with("bulk.redb")));
        std::os::unix::fs::chown(dir.data(), Some(1), None).unwrap();
        assert_eq!(dir.refused(), Failed::Foreign { path: dir.data(), why: "belongs to another user" });
    }
}

#[test]
fn one_at_a_time() {
    let dir = Dir::new();
    let store = dir.open();
    let refused = dir.refused();
    assert_eq!(refused, Failed::Locked(dir.data()));
    assert!(refused.to_string().contains("stonechat status --data"));
    assert_eq!(restore(Path::new("/nowhere"), &dir.data()), Err(Failed::Locked(dir.data())));
    drop(store);
    drop(dir.open());
}

#[test]
fn what_is_not_ours_or_not_whole_is_refused_and_left_alone() {
    let dir = Dir::new();
    let store = dir.open();
    create(&store, "ann");
    drop(store);
    let accounts = dir.data().join("accounts.redb");
    let bulk = dir.data().join("bulk.redb");
    let aside = dir.0.join("aside");

    for file in [&accounts, &bulk] {
        fs::rename(file, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, file).unwrap();
        assert!(matches!(dir.refused(), Failed::Foreign { .. }));
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
        assert!(matches!(dir.refused(), Failed::Foreign { .. } | Failed::Io { .. }));
        fs::remove_dir(file).unwrap();
        fs::write(file, b"").unwrap();
        assert!(matches!(dir.refused(), Failed::Corrupt { .. }));
        fs::write(file, b"not a database").unwrap();
        assert!(matches!(dir.refused(), Failed::Corrupt { .. }));
        assert_eq!(fs::read(file).unwrap(), b"not a database");
        fs::rename(&aside, file).unwrap();
    }
    fs::rename(&bulk, &aside).unwrap();
    assert_eq!(dir.refused(), Failed::Missing(bulk.clone()));
    let other = Dir::new();
    drop(other.open());
    fs::copy(other.data().join("bulk.redb"), &bulk).unwrap();
    assert_eq!(dir.refused(), Failed::Mismatch(dir.data()));
    fs::rename(&aside, &bulk).unwrap();
    assert!(account(&dir.open(), "ann").is_some());

    // A first start that was cut short goes on; lost accounts are not made anew.
    fs::remove_file(other.data().join("accounts.redb")).unwrap();
    let store = other.open();
    let id = create(&store, "ann");
    store.ask(vec![message(id, "hello")], Ask::Nothing);
    drop(store);
    fs::remove_file(other.data().join("accounts.redb")).unwrap();
    assert_eq!(other.refused(), Failed::Missing(other.data().join("accounts.redb")));
}

/// Table, key, value.
type Rows<'a> = &'a [(&'a str, &'a [u8], &'a [u8])];

/// Into a file of its own, or beside what it holds.
fn write_rows(path: &Path, rows: Rows<'_>) {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    for (table, key, value) in rows {
        let table = redb::TableDefinition::<&[u8], &[u8]>::new(table);
        write.open_table(table).unwrap().insert(*key, *value).unwrap();
    }
    write.commit().unwrap();
}

/// The files as version 1 wrote them, in literals: they must open for ever.
fn version_1(dir: &Dir) -> [(PathBuf, Rows<'static>); 2] {
    let accounts: Rows<'_> = &[
        ("meta", b"schema", b"\0\0\0\x01"),
        ("meta", b"pair", b"0123456789abcdef"),
        ("meta", b"next_id", b"\0\0\0\0\0\0\0\x06"),
        ("named", b"domain", b"pi.local"),
        ("accounts", b"ann", b"\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x07"),
        ("names", b"\0\0\0\0\0\0\0\x05", b"\x01ann"),
        (
            "keys",
            b"\0\0\0\0\0\0\0\x05",
            b"\x01\0\0\0\x02\x01\x01\0\0\x10\x01\0\0\0\x14\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\0\0\0\x14\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\
              \0\0\0\x02\x01\x02\0\0\x10\x01\0\0\0\x14\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\0\0\0\x14\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01",
        ),
        ("certificates", &[5; 32], b"\x01\0\0\0\0\0\0\0\x05"),
        (
            "certificates_of",
            b"\0\0\0\0\0\0\0\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05",
            b"\x01",
        ),
        (
            "roster",
            b"\0\0\0\0\0\0\0\x05x@y",
            b"\x01\x1e\x01\0\0\0\x05N\xc3\xa4me\0\0\0\x02\0\0\0\x01a\0\0\0\0\x01\0\0\0\x0b<presence/>",
        ),
        ("roster_versions", b"\0\0\0\0\0\0\0\x05", b"\x01\0\0\0\0\0\0\0\x09"),
        ("blocks", b"\0\0\0\0\0\0\0\x05evil@y", b"\x01"),
        (
            "invites",
            &[3; 32],
            b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x64\0\0\0\x01\x01\0\0\0\x07root@pi\0",
        ),
    ];
    let bulk: Rows<'_> = &[
        ("bulk_meta", b"schema", b"\0\0\0\x01"),
        ("bulk_meta", b"pair", b"0123456789abcdef"),
        ("offline", b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01", b"\x01one"),
        ("offline_sums", b"\0\0\0\0\0\0\0\x05", b"\x01\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\x03"),
        ("vcards", b"\0\0\0\0\0\0\0\x05", b"\x01<vCard/>"),
        ("private", b"\0\0\0\0\0\0\0\x05\0\0\0\x01ne", b"\x01<e/>"),
        ("last_seen", b"\0\0\0\0\0\0\0\x05", b"\x01\0\0\0\0\0\0\0\x4dbye"),
    ];
    [(dir.data().join("accounts.redb"), accounts), (dir.data().join("bulk.redb"), bulk)]
}

/// All that [`version_1`] holds is there, and what came later can be put beside it.
fn is_version_1_brought_up(store: &Store) {
    assert_eq!(picture(store, "ann", 5), full_picture(5));
    assert_eq!(
        store.ask(vec![], Ask::Invite { token: [3; 32], now: 9 }),
        Answer::Invite(Some(invite(1, 100)))
    );
    assert_eq!(store.meta_get("domain").unwrap().as_deref(), Some(b"pi.local".as_slice()));
    assert_eq!(create(store, "bob"), 6);
    assert_eq!(remote_picture(store), nothing_remote());
    assert_eq!(store.ask(everything_remote(), Ask::Nothing), Answer::Nothing);
    assert_eq!(remote_picture(store), full_remote_picture());
}

#[test]
fn files_of_version_1_open() {
    let dir = Dir::new();
    fs::create_dir(dir.data()).unwrap();
    for (file, rows) in version_1(&dir) {
        write_rows(&file, rows);
    }
    // A start that was cut short between the two files.
    let pulled = dir.copy();
    drop(files::lock(&pulled.data()).unwrap());
    let database = Database::open(pulled.data().join("accounts.redb")).unwrap();
    let write = database.begin_write().unwrap();
    schema::migrate(&write, schema::META, 1, ACCOUNTS_FILE.steps).unwrap();
    write.commit().unwrap();
    drop(database);
    for dir in [dir, pulled] {
        is_version_1_brought_up(&dir.open());
        assert_eq!(remote_picture(&dir.open()), full_remote_picture());
    }
}

#[test]
fn a_backup_of_version_1_becomes_a_data_directory() {
    let dir = Dir::new();
    let file = dir.0.join("backup");
    for (_, rows) in version_1(&dir) {
        write_rows(&file, rows);
    }
    write_rows(&file, &[("backup", b"format", b"\0\0\0\x01")]);
    assert_eq!(restore(&file, &dir.data()), Ok(()));
    is_version_1_brought_up(&dir.open());
}

/// What version 2 added, in literals.
#[test]
fn files_of_version_2_open() {
    let dir = Dir::new();
    fs::create_dir(dir.data()).unwrap();
    for (file, rows) in version_1(&dir) {
        write_rows(&file, rows);
    }
    let accounts: Rows<'_> = &[
        ("meta", b"schema", b"\0\0\0\x02"),
        ("peers", b"boat.local", b"\x01\x01\0\0\0\0\0\0\0\0\x09\x01\0\0\0\x20\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\0"),
        ("peers", b"hill.example", b"\x01\0\x01\0\0\0\0\0\0\0\x08\0\x01\0\0\0\x0910.0.0.1:"),
        ("components", b"irc.pi.local", b"\x01s3cret"),
    ];
    let bulk: Rows<'_> = &[
        ("bulk_meta", b"schema", b"\0\0\0\x02"),
        ("forward", b"\0\x08pi.local\0\x0aboat.local\0\0\0\0\0\0\0\x01", b"\x01\0\0\0\0\0\0\0\x4done"),
        ("forward", b"\0\x08pi.local\0\x0aboat.local\0\0\0\0\0\0\0\x03", b"\x01\0\0\0\0\0\0\0\x4fthree"),
        ("forward", b"\0\x08pi.local\0\x0chill.example\0\0\0\0\0\0\0\x02", b"\x01\0\0\0\0\0\0\0\x4etwo"),
        ("forward_sums", b"", b"\x01\0\0\0\0\0\0\0\x04"),
        ("forward_sums", b"\0\x08pi.local\0\x0aboat.local", b"\x01\0\0\0\x02\0\0\0\0\0\0\0\x08"),
        ("forward_sums", b"\0\x08pi.local\0\x0chill.example", b"\x01\0\0\0\x01\0\0\0\0\0\0\0\x03"),
    ];
    write_rows(&dir.data().join("accounts.redb"), accounts);
    write_rows(&dir.data().join("bulk.redb"), bulk);
    let store = dir.open();
    assert_eq!(picture(&store, "ann", 5), full_picture(5));
    assert_eq!(remote_picture(&store), full_remote_picture_from(1));
    store.ask(vec![forward("hill.example", 1, "four")], Ask::Nothing);
    let hill = waiting(&store, "hill.example", 0, 9, 99).0;
    assert_eq!(hill, [(2, 78, "two".to_string()), (super::forward::FIRST, 1, "four".to_string())]);
}

#[test]
fn migrations_run_in_order_from_where_the_file_is() {
    assert_eq!(ACCOUNTS_FILE.steps.len() + 1, schema::VERSION as usize);
    assert_eq!(BULK_FILE.steps.len() + 1, schema::VERSION as usize);
    fn step(name: &'static [u8], transaction: &redb::WriteTransaction) -> Result<(), Failed> {
        let mut table = transaction.open_table(schema::NAMED)?;
        let count = redb::ReadableTableMetadata::len(&table)?;
        table.insert(name, [u8::try_from(count).unwrap()].as_slice())?;
        Ok(())
    }
    let steps: [schema::Step; 3] = [|t| step(b"1 to 2", t), |t| step(b"2 to 3", t), |t| step(b"3 to 4", t)];
    let database = Builder::new().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
    let write = database.begin_write().unwrap();
    schema::create(&ACCOUNTS_FILE, &write, &[0; 16]).unwrap();
    schema::migrate(&write, schema::META, 2, &steps).unwrap();
    let named = write.open_table(schema::NAMED).unwrap();
    let rows: Vec<_> = redb::ReadableTable::iter(&named)
        .unwrap()
        .map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value()[0])).unwrap())
        .collect();
    assert_eq!(rows, [(b"2 to 3".to_vec(), 0), (b"3 to 4".to_vec(), 1)]);
    let meta = write.open_table(schema::META).unwrap();
    let version = redb::ReadableTable::get(&meta, schema::SCHEMA_KEY).unwrap().unwrap();
    assert_eq!(version.value(), 4_u32.to_be_bytes());
}

#[test]
fn a_file_from_the_future_is_refused() {
    let dir = Dir::new();
    drop(dir.open());
    tamper(&dir, &BULK_FILE, schema::BULK_META, schema::SCHEMA_KEY, &9_u32.to_be_bytes());
    assert_eq!(dir.refused(), Failed::Newer { path: dir.data().join("bulk.redb"), found: 9 });
    tamper(&dir, &BULK_FILE, schema::BULK_META, schema::SCHEMA_KEY, &[1]);
    assert!(matches!(dir.refused(), Failed::Corrupt { .. }));
}

#[test]
fn a_backup_taken_in_mid_run_becomes_a_data_directory() {
    let dir = Dir::new();
    let store = dir.open();
    let id = create(&store, "ann");
    store.meta_put("secret", b"x").unwrap();
    let file = dir.0.join("backup");
    // Its moment is its place among the jobs.
    let release = hold(&store);
    let (tell, told) = mpsc::channel();
    let then = Box::new(move |answer| tell.send(answer).unwrap());
    let changes = everything(id).into_iter().chain(everything_remote()).collect();
    store.submit(Job { changes, ask: Ask::Backup { file: file.clone() }, then });
    let nothing = Box::new(|_| ());
    store.submit(Job { changes: vec![message(id, "later")], ask: Ask::Nothing, then: nothing });
    drop(release);
    let Answer::Backup(Ok(size)) = told.recv().unwrap() else { panic!() };
    assert_eq!(size, fs::metadata(&file).unwrap().len());
    assert_eq!(account(&store, "ann").unwrap().offline.0, 2);

    let before = fs::read(&file).unwrap();
    let again = store.ask(vec![], Ask::Backup { file: file.clone() });
    assert!(matches!(again, Answer::Backup(Err(line)) if line.contains("exists already")));
    assert_eq!(restore(&file, &dir.0.join("data2")), Ok(()));
    assert_eq!(fs::read(&file).unwrap(), before, "untouched");
    let second = Store::open(&dir.0.join("data2")).unwrap();
    assert_eq!(picture(&second, "ann", id), full_picture(id));
    assert_eq!(remote_picture(&second), full_remote_picture());
    assert_eq!(second.meta_get("secret").unwrap().as_deref(), Some(b"x".as_slice()));
    assert_eq!(create(&second, "bob"), id + 1);
    drop(second);
    let there = restore(&file, &dir.0.join("data2"));
    assert_eq!(there, Err(Failed::Exists(dir.0.join("data2/accounts.redb"))));

    // A damaged backup leaves nothing behind that opens.
    for cut in [0, 100, before.len() / 2, before.len() - 4096] {
        fs::write(&file, &before[..cut]).unwrap();
        let target = dir.0.join("data3");
        if restore(&file, &target).is_ok() {
            let store = Store::open(&target).unwrap();
            assert_eq!(picture(&store, "ann", id), full_picture(id), "cut at {cut}");
        } else {
            assert!(!target.join("accounts.redb").exists() && !target.join("restore.tmp").exists());
        }
        fs::remove_dir_all(&target).unwrap();
    }
    fs::write(&file, fs::read(dir.data().join("bulk.redb")).unwrap()).unwrap();
    let wrong = restore(&file, &dir.0.join("data4"));
    assert!(matches!(wrong, Err(Failed::Corrupt { path, .. }) if path == file));
}
