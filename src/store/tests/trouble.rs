//! Crashes, disks that fail or are full, and damage.

use super::*;
use crate::schema::ACCOUNTS_FILE;
use redb::{BackendError, Database};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicI64};

/// A disk that fails when its fuel is used up: every write, and every promise to have written.
#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    fuel: Arc<AtomicI64>,
}

impl Faulty {
    fn burn(&self) -> Result<(), std::io::Error> {
        if self.fuel.fetch_sub(1, Ordering::Relaxed) > 0 {
            Ok(())
        } else {
            Err(std::io::Error::new(ErrorKind::StorageFull, "no space left on device"))
        }
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.burn()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.burn()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.burn()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> Result<(), std::io::Error> {
        self.file.close()
    }
    fn try_lock_range(
        &self,
        from: std::ops::Bound<u64>,
        to: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_range(from, to)
    }
}

/// A store whose two files (accounts, bulk) have fuel, and whose file system has room.
pub(super) struct Trouble {
    fuel: [Arc<AtomicI64>; 2],
    free: Arc<AtomicU64>,
}

impl Trouble {
    pub(super) fn open(dir: &Dir) -> (Store, Self) {
        let fuel = [i64::MAX, i64::MAX].map(|fuel| Arc::new(AtomicI64::new(fuel)));
        let free = Arc::new(AtomicU64::new(u64::MAX));
        // The files are opened in this order, again and again.
        let turn = Arc::new(AtomicBool::new(false));
        let trouble = Self { fuel: fuel.clone(), free: free.clone() };
        let wrap = move |file| {
            let which = usize::from(turn.fetch_xor(true, Ordering::Relaxed));
            Faulty { file, fuel: fuel[which].clone() }
        };
        let store = Store::open_with(&dir.data(), wrap, move || Ok(free.load(Ordering::Relaxed)));
        (store.unwrap(), trouble)
    }

    pub(super) fn fuel(&self, accounts: i64, bulk: i64) {
        self.fuel[0].store(accounts, Ordering::Relaxed);
        self.fuel[1].store(bulk, Ordering::Relaxed);
    }
}

/// The disk dies at every single write of a run with both files in it; what was acknowledged
/// before is there afterwards, in full, and no job is there in part.
#[test]
fn a_crash_at_any_write_loses_nothing_that_was_acknowledged() {
    let mut died = 0;
    let new = Dir::new();
    drop(new.open());
    for fuel in 0..160 {
        let dir = new.copy();
        let (store, trouble) = Trouble::open(&dir);
        trouble.fuel(fuel, fuel);
        let mut acknowledged = 0_u64;
        let mut made = None;
        for n in 1..=6_u64 {
            let ask = Ask::Create { localpart: "ann".into(), keys: keys(1), invite: None, now: 7 };
            let answer = match made {
                None => store.ask(vec![], ask),
                Some(account) => {
                    let roster = Change::RosterPut { account, version: n, item: item(&format!("{n}@y")) };
                    store.ask(vec![roster, message(account, &format!("{n}"))], Ask::Nothing)
                }
            };
            match answer {
                Answer::Created(Ok((id, _))) => made = Some(id),
                Answer::Nothing => acknowledged = n,
                Answer::Failed(_) => break,
                other => panic!("{other:?}"),
            }
        }
        died += u64::from(acknowledged < 6);
        trouble.fuel(0, 0);
        drop(store);
        let store = dir.open();
        let loaded = account(&store, "ann");
        assert!(loaded.is_some() || made.is_none());
        let Some(loaded) = loaded else { continue };
        let messages = offline(&store, loaded.id, 0, 100, 1000).0;
        let rosters: Vec<_> =
            loaded.roster.iter().map(|item| item.jid.trim_end_matches("@y").to_string()).collect();
        let texts: Vec<_> = messages.iter().map(|(_, text)| text.clone()).collect();
        assert_eq!(rosters, texts, "fuel {fuel}: whole or absent");
        assert!(
            texts.len() as u64 >= acknowledged.saturating_sub(1),
            "fuel {fuel}: {texts:?} of {acknowledged}"
        );
    }
    assert!(died > 50 && died < 160, "{died}");
}

#[test]
fn what_is_copied_from_under_a_running_store_is_whole() {
    let dir = Dir::new();
    let store = dir.open();
    let id = create(&store, "ann");
    for n in 0..50 {
        store.ask(vec![message(id, &format!("{n}"))], Ask::Nothing);
        if n % 10 == 9 {
            let copy = dir.copy().open();
            assert_eq!(account(&copy, "ann").unwrap().offline.0, n + 1);
            assert_eq!(offline(&copy, id, 0, 100, 10_000).0.len(), n as usize + 1);
        }
    }
}

#[test]
fn a_job_over_both_files_that_stops_halfway_is_finished_when_the_files_are_opened() {
    let dir = Dir::new();
    let (store, trouble) = Trouble::open(&dir);
    let id = create(&store, "ann");
    let bob = create(&store, "bob");
    store.ask(everything(id), Ask::Nothing);
    trouble.fuel(i64::MAX, 0);
    assert!(matches!(store.ask(vec![], Ask::Remove { localpart: "ann".into() }), Answer::Failed(_)));
    // Accounts is through, bulk is not: the store is out of order and says so.
    assert!(matches!(store.ask(vec![], Ask::Accounts), Answer::Failed(_)));
    trouble.fuel(i64::MAX, i64::MAX);
    assert_eq!(store.ask(vec![], Ask::Accounts), Answer::Accounts(vec![("bob".into(), bob, 7)]));
    drop(store);
    let files = files::open(&dir.data(), |file| file).unwrap();
    assert!(!journal::leftovers(&files, id).unwrap());
}

#[test]
fn bulk_that_fails_fails_only_who_needed_it() {
    let dir = Dir::new();
    let (store, trouble) = Trouble::open(&dir);
    let id = create(&store, "ann");
    let release = hold(&store);
    trouble.fuel(i64::MAX, 0);
    let (tell, told) = mpsc::channel();
    for change in [Change::BlockPut { account: id, jid: "x@y".into() }, message(id, "lost")] {
        let tell = tell.clone();
        let then = Box::new(move |answer| tell.send(answer).unwrap());
        store.submit(Job { changes: vec![change], ask: Ask::Nothing, then });
    }
    drop(release);
    assert_eq!(told.recv().unwrap(), Answer::Nothing);
    assert!(matches!(told.recv().unwrap(), Answer::Failed(line) if line.contains("no space left")));
    trouble.fuel(i64::MAX, i64::MAX);
    let loaded = account(&store, "ann").unwrap();
    assert_eq!((loaded.blocked.len(), loaded.offline), (1, (0, 0)));
    assert_eq!(store.ask(vec![message(id, "kept")], Ask::Nothing), Answer::Nothing);
    assert_eq!(account(&store, "ann").unwrap().offline, (1, 4));
}

#[test]
fn a_nearly_full_disk_refuses_what_grows_and_serves_the_rest() {
    let dir = Dir::new();
    let (store, trouble) = Trouble::open(&dir);
    let id = create(&store, "ann");
    store.ask(vec![message(id, "one")], Ask::Nothing);
    trouble.free.store(2 << 20, Ordering::Relaxed);
    // In one batch: each job is judged alone.
    let release = hold(&store);
    let (tell, told) = mpsc::channel();
    let removal = Change::OfflineRemove { account: id, up_to: 1 };
    for changes in [vec![message(id, "two")], vec![removal], vec![]] {
        let tell = tell.clone();
        let then = Box::new(move |answer| tell.send(answer).unwrap());
        store.submit(Job { changes, ask: Ask::Account { localpart: "ann".into() }, then });
    }
    drop(release);
    assert!(matches!(told.recv().unwrap(), Answer::Failed(line) if line.contains("nearly full")));
    for _ in 0..2 {
        let Answer::Account(Some(loaded)) = told.recv().unwrap() else { panic!() };
        assert_eq!(loaded.offline, (0, 0));
    }
    trouble.free.store(0, Ordering::Relaxed);
    assert!(matches!(store.ask(vec![], Ask::Remove { localpart: "ann".into() }), Answer::Failed(_)));
    assert!(account(&store, "ann").is_some());
    trouble.free.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(store.ask(vec![message(id, "two")], Ask::Nothing), Answer::Nothing);
}

/// Writes to a file of a closed store behind its back.
pub(super) fn tamper(dir: &Dir, layout: &schema::Layout, table: schema::Table, key: &[u8], value: &[u8]) {
    let database = Database::open(dir.data().join(layout.file)).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(table).unwrap().insert(key, value).unwrap();
    write.commit().unwrap();
}

#[test]
fn a_damaged_record_fails_those_who_need_it_and_nobody_else() {
    let dir = Dir::new();
    let store = dir.open();
    let (ann, bob) = (create(&store, "ann"), create(&store, "bob"));
    drop(store);
    tamper(&dir, &ACCOUNTS_FILE, schema::KEYS, &schema::id_key(ann), &[1, 0, 0]);
    let store = dir.open();
    let release = hold(&store);
    let (tell, told) = mpsc::channel();
    for (name, account) in [("bob", bob), ("ann", ann), ("bob", bob)] {
        let tell = tell.clone();
        let then = Box::new(move |answer| tell.send(answer).unwrap());
        let changes = vec![message(account, "hello")];
        store.submit(Job { changes, ask: Ask::Credentials { localpart: name.into() }, then });
    }
    drop(release);
    let good = Answer::Credentials(Some((bob, keys(1))));
    assert_eq!(told.recv().unwrap(), good);
    assert!(matches!(told.recv().unwrap(), Answer::Failed(line) if line.contains("credentials")));
    assert_eq!(told.recv().unwrap(), good);
    assert_eq!(account(&store, "bob").unwrap().offline.0, 2);
    assert_eq!(account(&store, "ann").unwrap().offline.0, 0, "not half done");
}

#[test]
fn a_truncated_or_altered_accounts_file_opens_no_door() {
    let dir = Dir::new();
    let store = dir.open();
    let id = create(&store, "ann");
    drop(store);
    let whole = fs::read(dir.data().join("accounts.redb")).unwrap();
    let good = Answer::Credentials(Some((id, keys(1))));
    let check = |bytes: &[u8], what: String| {
        let copy = dir.copy();
        fs::write(copy.data().join("accounts.redb"), bytes).unwrap();
        if let Ok(store) = Store::open(&copy.data()) {
            let answer = store.ask(vec![], Ask::Credentials { localpart: "ann".into() });
            assert_eq!(answer, good, "{what}");
        }
    };
    for cut in (0..whole.len()).step_by(4096 - 7).chain([1, 9, 64, 320, 512, whole.len() - 1]) {
        check(&whole[..cut], format!("cut at {cut}"));
    }
    for at in (0..whole.len()).step_by(509).chain(0..24) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        check(&bytes, format!("changed at {at}"));
    }
}
