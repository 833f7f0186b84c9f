//! What the store promises, tried out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::arithmetic_side_effects)]

use super::change::*;
use super::files::Files;
use super::journal::{self, Redo};
use super::schema::{self, ACCOUNTS_FILE, BULK_FILE};
use super::*;
use proptest::prelude::*;
use redb::{BackendError, Builder, Database};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64};

/// A directory for one test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stonechat-store-{}-{number}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn open(&self) -> Store {
        Store::open(&self.data()).unwrap()
    }

    fn refused(&self) -> Failed {
        Store::open(&self.data()).err().unwrap()
    }

    /// What a pulled plug leaves: the bytes as they are, with nobody to close the files.
    fn copy(&self) -> Self {
        let copy = Self::new();
        fs::create_dir(copy.data()).unwrap();
        for file in ["accounts.redb", "bulk.redb"] {
            fs::copy(self.data().join(file), copy.data().join(file)).unwrap();
        }
        copy
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn keys(n: u8) -> Box<Keys> {
    let scram = |m: u8| ScramKeys {
        salt: [n, m].into(),
        iterations: 4096 + u32::from(n),
        stored_key: vec![m; 20].into(),
        server_key: vec![n; 20].into(),
    };
    Box::new(Keys { sha1: scram(1), sha256: scram(2) })
}

fn create(store: &Store, localpart: &str) -> AccountId {
    let ask = Ask::Create { localpart: localpart.into(), keys: keys(1), invite: None, now: 7 };
    match store.ask(vec![], ask) {
        Answer::Created(Ok((id, None))) => id,
        other => panic!("{other:?}"),
    }
}

fn account(store: &Store, localpart: &str) -> Option<Box<Loaded>> {
    match store.ask(vec![], Ask::Account { localpart: localpart.into() }) {
        Answer::Account(account) => account,
        other => panic!("{other:?}"),
    }
}

fn offline(
    store: &Store,
    account: AccountId,
    after: u64,
    max: u32,
    bytes: u32,
) -> (Vec<(u64, String)>, bool) {
    match store.ask(vec![], Ask::Offline { account, after, max, bytes }) {
        Answer::Offline { messages, more } => {
            let text = |(n, stanza): (u64, Box<[u8]>)| (n, String::from_utf8(stanza.into()).unwrap());
            (messages.into_iter().map(text).collect(), more)
        }
        other => panic!("{other:?}"),
    }
}

fn message(account: AccountId, text: &str) -> Change {
    Change::OfflinePut { account, stanza: text.as_bytes().into() }
}

fn commits(store: &Store) -> u64 {
    match store.ask(vec![], Ask::Status) {
        Answer::Status(status) => status.commits,
        other => panic!("{other:?}"),
    }
}

fn item(jid: &str) -> Item {
    Item {
        jid: jid.into(),
        name: Some("Näme".into()),
        groups: vec!["a".into(), "".into()],
        subscription: Subscription::From,
        ask: true,
        approved: true,
        pending: Some(b"<presence/>".as_slice().into()),
        listed: true,
    }
}

/// One of everything that an account can have.
fn everything(account: AccountId) -> Vec<Change> {
    vec![
        Change::RosterPut { account, version: 9, item: item("x@y") },
        Change::BlockPut { account, jid: "evil@y".into() },
        message(account, "one"),
        Change::VcardPut { account, xml: b"<vCard/>".as_slice().into() },
        Change::PrivatePut { account, ns: "n".into(), name: "e".into(), xml: b"<e/>".as_slice().into() },
        Change::LastSeen { account, time: 77, status: "bye".into() },
        Change::CertificatePut { account, spki: [5; 32] },
    ]
}

/// All answers about an account, to compare before and after.
fn picture(store: &Store, localpart: &str, id: AccountId) -> Vec<Answer> {
    [
        Ask::Credentials { localpart: localpart.into() },
        Ask::Account { localpart: localpart.into() },
        Ask::Owner { spki: [5; 32] },
        Ask::Accounts,
        Ask::Offline { account: id, after: 0, max: 100, bytes: 10_000 },
        Ask::Vcard { account: id },
        Ask::Private { account: id, ns: "n".into(), name: "e".into() },
        Ask::LastSeen { account: id },
        Ask::Certificates { account: id },
    ]
    .into_iter()
    .map(|ask| store.ask(vec![], ask))
    .collect()
}

fn full_picture(id: AccountId) -> Vec<Answer> {
    vec![
        Answer::Credentials(Some((id, keys(1)))),
        Answer::Account(Some(Box::new(Loaded {
            id,
            version: 9,
            roster: vec![item("x@y")],
            blocked: vec!["evil@y".into()],
            offline: (1, 3),
        }))),
        Answer::Owner(Some("ann".into())),
        Answer::Accounts(vec![("ann".into(), id, 7)]),
        Answer::Offline { messages: vec![(1, b"one".as_slice().into())], more: false },
        Answer::Xml(Some(b"<vCard/>".as_slice().into())),
        Answer::Xml(Some(b"<e/>".as_slice().into())),
        Answer::LastSeen(Some((77, "bye".into()))),
        Answer::Certificates(vec![[5; 32]]),
    ]
}

#[test]
fn all_comes_back_and_outlives_a_restart() {
    let dir = Dir::new();
    let store = dir.open();
    let id = create(&store, "ann");
    assert_eq!(store.ask(everything(id), Ask::Nothing), Answer::Nothing);
    assert_eq!(picture(&store, "ann", id), full_picture(id));
    store.meta_put("domain", b"pi.local").unwrap();
    store.close().unwrap();

    let store = dir.open();
    assert_eq!(picture(&store, "ann", id), full_picture(id));
    assert_eq!(store.meta_get("domain").unwrap().as_deref(), Some(b"pi.local".as_slice()));
    store.meta_put("domain", b"").unwrap();
    assert_eq!(store.meta_get("domain").unwrap(), None);

    // And goes again, one by one.
    let account = id;
    store.ask(
        vec![
            Change::RosterRemove { account, version: 10, jid: "x@y".into() },
            Change::BlockRemove { account, jid: "evil@y".into() },
            Change::OfflineRemove { account, up_to: 1 },
            Change::VcardPut { account, xml: [].into() },
            Change::PrivatePut { account, ns: "n".into(), name: "e".into(), xml: [].into() },
            Change::CertificateRemove { account, spki: [5; 32] },
            Change::KeysPut { account, keys: keys(2) },
        ],
        Ask::Nothing,
    );
    let empty = Loaded { id, version: 10, ..Loaded::default() };
    assert_eq!(
        picture(&store, "ann", id),
        vec![
            Answer::Credentials(Some((id, keys(2)))),
            Answer::Account(Some(Box::new(empty))),
            Answer::Owner(None),
            Answer::Accounts(vec![("ann".into(), id, 7)]),
            Answer::Offline { messages: vec![], more: false },
            Answer::Xml(None),
            Answer::Xml(None),
            Answer::LastSeen(Some((77, "bye".into()))),
            Answer::Certificates(vec![]),
        ]
    );
}

#[test]
fn messages_keep_their_order_and_their_numbers() {
    let dir = Dir::new();
    let store = dir.open();
    let id = create(&store, "ann");
    for text in ["aa", "bb", "cc"] {
        store.ask(vec![message(id, text)], Ask::Nothing);
    }
    let all: Vec<_> = [(1, "aa"), (2, "bb"), (3, "cc")].map(|(n, text)| (n, text.to_string())).into();
    assert_eq!(offline(&store, id, 0, 10, 100), (all.clone(), false));
    assert_eq!(offline(&store, id, 0, 2, 100), (all[..2].to_vec(), true));
    assert_eq!(offline(&store, id, 1, 10, 100), (all[1..].to_vec(), false));
    assert_eq!(offline(&store, id, 0, 10, 4), (all[..2].to_vec(), true));
    assert_eq!(offline(&store, id, 0, 10, 0), (all[..1].to_vec(), true), "one, however long");
    assert_eq!(offline(&store, id, u64::MAX, 10, 0), (vec![], false));
    assert_eq!(account(&store, "ann").unwrap().offline, (3, 6));
    store.ask(vec![Change::OfflineRemove { account: id, up_to: 2 }], Ask::Nothing);
    assert_eq!(account(&store, "ann").unwrap().offline, (1, 2));
    store.ask(vec![Change::OfflineRemove { account: id, up_to: u64::MAX }, message(id, "dd")], Ask::Nothing);
    store.ask(vec![Change::OfflineRemove { account: id, up_to: 3 }], Ask::Nothing);
    assert_eq!(offline(&store, id, 0, 10, 100), (vec![(4, "dd".into())], false), "a number is used once");
    let Answer::Status(status) = store.ask(vec![], Ask::Status) else { panic!() };
    assert_eq!((status.accounts, status.offline), (1, 1));
    assert!(status.file_bytes > 0 && status.logical_bytes > 0);
}

/// Holds the store's thread in a `then` until the returned sender is dropped.
fn hold(store: &Store) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let then = Box::new(move |_| drop(released.recv()));
    store.submit(Job { changes: vec![], ask: Ask::Nothing, then });
    release
}

#[test]
fn many_jobs_few_commits_and_every_question_sees_what_came_before_it() {
    let dir = Dir::new();
    let store = dir.open();
    let id = create(&store, "ann");
    let before = commits(&store);
    let release = hold(&store);
    let told = Arc::new(Mutex::new(Vec::new()));
    for n in 0..500_u32 {
        let told = told.clone();
        let then = Box::new(move |answer: Answer| {
            let Answer::Account(Some(loaded)) = answer else { panic!("{answer:?}") };
            told.lock().unwrap().push((n, loaded.offline.0));
        });
        let ask = Ask::Account { localpart: "ann".into() };
        store.submit(Job { changes: vec![message(id, "hello")], ask, then });
    }
    assert!(store.waiting() >= 500);
    drop(release);
    let after = commits(&store);
    assert!(after - before <= 2, "{before} {after}");
    let expected: Vec<_> = (0..500).map(|n| (n, n + 1)).collect();
    assert_eq!(*told.lock().unwrap(), expected);
    assert_eq!(store.waiting(), 0);
}

#[test]
fn reading_and_what_is_lazy_and_what_is_there_already_commit_nothing() {
    let dir = Dir::new();
    let store = dir.open();
    let id = create(&store, "ann");
    store.ask(everything(id), Ask::Nothing);
    let before = commits(&store);
    drop(picture(&store, "ann", id));
    store.ask(vec![Change::LastSeen { account: id, time: 78, status: "later".into() }], Ask::Nothing);
    store.ask(vec![Change::BlockPut { account: id, jid: "evil@y".into() }], Ask::Nothing);
    store.ask(vec![Change::BlockRemove { account: id, jid: "unknown@y".into() }], Ask::Nothing);
    store.ask(vec![message(999, "for nobody")], Ask::Remove { localpart: "nobody".into() });
    assert_eq!(commits(&store), before);
    let seen = |store: &Store| store.ask(vec![], Ask::LastSeen { account: id });
    assert_eq!(seen(&store), Answer::LastSeen(Some((78, "later".into()))));
    drop(store);
    assert_eq!(seen(&dir.open()), Answer::LastSeen(Some((78, "later".into()))));
}

#[test]
fn a_new_owner_of_an_old_name_finds_nothing() {
    let dir = Dir::new();
    let store = dir.open();
    let old = create(&store, "ann");
    store.ask(everything(old), Ask::Nothing);
    let remove = || Ask::Remove { localpart: "ann".into() };
    assert_eq!(store.ask(vec![], remove()), Answer::Removed(true));
    assert_eq!(store.ask(vec![], remove()), Answer::Removed(false));
    assert_eq!(account(&store, "ann"), None);
    // Late changes for the one who left.
    store.ask(everything(old), Ask::Nothing);
    let new = create(&store, "ann");
    assert_ne!(old, new);
    for id in [old, new] {
        let mut picture = picture(&store, "ann", id);
        assert_eq!(picture.remove(0), Answer::Credentials(Some((new, keys(1)))));
        assert_eq!(
            picture,
            vec![
                Answer::Account(Some(Box::new(Loaded { id: new, ..Loaded::default() }))),
                Answer::Owner(None),
                Answer::Accounts(vec![("ann".into(), new, 7)]),
                Answer::Offline { messages: vec![], more: false },
                Answer::Xml(None),
                Answer::Xml(None),
                Answer::LastSeen(None),
                Answer::Certificates(vec![]),
            ]
        );
    }
    drop(store);
    let files = files::open(&dir.data(), |file| file).unwrap();
    assert!(!journal::leftovers(&files, old).unwrap());
}

#[test]
fn names_that_look_like_keys_share_nothing() {
    let dir = Dir::new();
    let store = dir.open();
    let names = ["a", "a/b", "a\0b", "aa", "a\u{ff}", "#", "+"];
    let ids: Vec<_> = names.iter().map(|name| create(&store, name)).collect();
    for (name, id) in names.iter().zip(&ids) {
        let put = Change::RosterPut { account: *id, version: 1, item: item(&format!("of {name}")) };
        store.ask(vec![put, message(*id, name)], Ask::Nothing);
    }
    assert_eq!(store.ask(vec![], Ask::Remove { localpart: "a".into() }), Answer::Removed(true));
    for (name, id) in names.iter().zip(&ids).skip(1) {
        let loaded = account(&store, name).unwrap();
        assert_eq!(loaded.roster, vec![item(&format!("of {name}"))]);
        assert_eq!(offline(&store, *id, 0, 9, 99).0, vec![(1, name.to_string())]);
    }
    let Answer::Accounts(all) = store.ask(vec![], Ask::Accounts) else { panic!() };
    let mut sorted = names[1..].to_vec();
    sorted.sort_unstable();
    assert_eq!(all.iter().map(|(name, ..)| &**name).collect::<Vec<_>>(), sorted);
}

proptest! {
    #[test]
    fn keys_tell_accounts_and_names_apart(
        a: u64, b: u64, x: Vec<u8>, y: Vec<u8>, ns: [String; 2], name: [String; 2],
    ) {
        prop_assert_eq!(schema::under(a, &x) == schema::under(b, &y), (a, &x) == (b, &y));
        let [one, other] = [0, 1].map(|n| schema::private_key(a, &ns[n], &name[n]));
        prop_assert_eq!(one == other, (&ns[0], &name[0]) == (&ns[1], &name[1]));
        for key in [schema::under(a, &x), one] {
            for id in [a, b] {
                let inside = side::with_span_of(id, |span| {
                    std::ops::RangeBounds::<[u8]>::contains(&span, key.as_slice())
                });
                prop_assert_eq!(inside, id == a);
            }
        }
    }

    /// Whatever stands in the file, reading it is an error at worst.
    #[test]
    fn no_bytes_make_a_reader_panic(mut bytes: Vec<u8>) {
        for version in [None, Some(1)] {
            if let (Some(version), Some(first)) = (version, bytes.first_mut()) {
                *first = version;
            }
            drop(accounts::decode_keys(&bytes));
            drop(accounts::decode_account(&bytes));
            drop(invites::decode(&bytes));
            drop(rosters::decode(&bytes, &bytes));
            drop(offline::decode_sum(&bytes));
            drop(extras::decode_seen(&bytes));
            drop(journal::decode(&bytes));
        }
    }

    #[test]
    fn a_journal_comes_back(number: u64, account: u64, stanza: Vec<u8>, ns: String, name: String) {
        let entries = vec![
            Redo::OfflinePut { account, stanza: stanza.clone().into() },
            Redo::OfflineRemove { account, up_to: number },
            Redo::VcardPut { account, xml: stanza.clone().into() },
            Redo::PrivatePut { account, ns: ns.into(), name: name.into(), xml: stanza.into() },
            Redo::Wipe { account },
        ];
        let bytes = journal::encode(number, &entries);
        prop_assert_eq!(journal::decode(&bytes), Ok((number, entries)));
        for cut in 0..bytes.len() {
            prop_assert!(journal::decode(&bytes[..cut]).is_err());
        }
    }
}

fn invite(uses: u32, expires: u64) -> Invite {
    Invite { created: 1, expires, uses, inviter: Some("root@pi".into()), localpart: None }
}

#[test]
fn an_invitation_for_one_lets_one_in() {
    let dir = Dir::new();
    let store = dir.open();
    let token = [3; 32];
    store.ask(vec![Change::InvitePut { token, invite: invite(1, 100) }], Ask::Nothing);
    let join =
        |name: &str, now| Ask::Create { localpart: name.into(), keys: keys(1), invite: Some(token), now };
    assert_eq!(store.ask(vec![], join("late", 101)), Answer::Created(Err(Refused::Invite)));
    // Both in one batch.
    let release = hold(&store);
    let (tell, told) = mpsc::channel();
    for name in ["ann", "bob"] {
        let tell = tell.clone();
        let then = Box::new(move |answer| tell.send(answer).unwrap());
        store.submit(Job { changes: vec![], ask: join(name, 100), then });
    }
    drop(release);
    let Answer::Created(Ok((_, Some(spent)))) = told.recv().unwrap() else { panic!() };
    assert_eq!(spent, invite(0, 100));
    assert_eq!(told.recv().unwrap(), Answer::Created(Err(Refused::Invite)));
    assert!(account(&store, "ann").is_some() && account(&store, "bob").is_none());
    assert_eq!(store.ask(vec![], Ask::Invite { token, now: 5 }), Answer::Invite(None));
}

#[test]
fn an_invitation_is_not_spent_on_a_refusal_and_may_name_its_guest() {
    let dir = Dir::new();
    let store = dir.open();
    create(&store, "ann");
    let (token, named) = ([3; 32], [4; 32]);
    let for_eve = Invite { localpart: Some("eve".into()), ..invite(2, u64::MAX) };
    let puts = [(token, invite(1, u64::MAX)), (named, for_eve.clone())];
    let puts = puts.map(|(token, invite)| Change::InvitePut { token, invite }).into();
    store.ask(puts, Ask::Nothing);
    let join = |name: &str, token| Ask::Create {
        localpart: name.into(),
        keys: keys(1),
        invite: Some(token),
        now: 9,
    };
    assert_eq!(store.ask(vec![], join("ann", token)), Answer::Created(Err(Refused::Exists)));
    assert_eq!(store.ask(vec![], join("ann", [9; 32])), Answer::Created(Err(Refused::Invite)));
    assert_eq!(store.ask(vec![], join("bob", named)), Answer::Created(Err(Refused::Invite)));
    store.set_max_accounts(1);
    assert_eq!(store.ask(vec![], join("bob", token)), Answer::Created(Err(Refused::Full)));
    store.set_max_accounts(3);
    assert!(matches!(store.ask(vec![], join("bob", token)), Answer::Created(Ok(_))));
    let Answer::Created(Ok((_, Some(left)))) = store.ask(vec![], join("eve", named)) else { panic!() };
    assert_eq!(left, Invite { uses: 1, ..for_eve });
    // What is long void goes when a new one comes.
    let old = Change::InvitePut { token: [6; 32], invite: invite(1, 50) };
    let new = Invite { created: 50 + 31 * 24 * 3600, ..invite(1, u64::MAX) };
    store.ask(vec![old, Change::InvitePut { token: [7; 32], invite: new }], Ask::Nothing);
    assert_eq!(store.ask(vec![], Ask::Invite { token: [6; 32], now: 1 }), Answer::Invite(None));
}

#[test]
fn a_certificate_speaks_for_who_claimed_it_last() {
    let dir = Dir::new();
    let store = dir.open();
    let (ann, bob) = (create(&store, "ann"), create(&store, "bob"));
    let spki = [8; 32];
    let owner = || store.ask(vec![], Ask::Owner { spki });
    for (account, name) in [(ann, "ann"), (bob, "bob"), (bob, "bob")] {
        store.ask(vec![Change::CertificatePut { account, spki }], Ask::Nothing);
        assert_eq!(owner(), Answer::Owner(Some(name.into())));
    }
    store.ask(vec![Change::CertificateRemove { account: ann, spki }], Ask::Nothing);
    assert_eq!(owner(), Answer::Owner(Some("bob".into())), "not hers any more");
    store.ask(vec![], Ask::Remove { localpart: "bob".into() });
    assert_eq!(owner(), Answer::Owner(None));
}

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
struct Trouble {
    fuel: [Arc<AtomicI64>; 2],
    free: Arc<AtomicU64>,
}

impl Trouble {
    fn open(dir: &Dir) -> (Store, Self) {
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

    fn fuel(&self, accounts: i64, bulk: i64) {
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
fn tamper(dir: &Dir, layout: &schema::Layout, table: schema::Table, key: &[u8], value: &[u8]) {
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
fn a_then_may_panic_or_drop_the_store() {
    let dir = Dir::new();
    let store = dir.open();
    let nothing = |then| Job { changes: vec![], ask: Ask::Nothing, then };
    store.submit(nothing(Box::new(|_| panic!("not the store's fault"))));
    create(&store, "ann");
    let (tell, told) = mpsc::channel();
    let slot: Arc<Mutex<Option<Store>>> = Arc::default();
    let inside = slot.clone();
    let job = nothing(Box::new(move |_| {
        while inside.lock().unwrap().is_none() {
            std::thread::yield_now();
        }
        drop(inside.lock().unwrap().take());
        tell.send(()).unwrap();
    }));
    store.submit(job);
    *slot.lock().unwrap() = Some(store);
    told.recv().unwrap();
}

#[test]
fn a_closed_store_still_answers() {
    let dir = Dir::new();
    let mut store = dir.open();
    store.end().unwrap();
    assert!(matches!(store.ask(vec![], Ask::Accounts), Answer::Failed(line) if line.contains("closed")));
    assert_eq!(store.waiting(), 0);
}

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

/// The files as version 1 wrote them, in literals: they must open for ever.
#[test]
fn files_of_version_1_open() {
    let dir = Dir::new();
    fs::create_dir(dir.data()).unwrap();
    type Rows<'a> = &'a [(&'a str, &'a [u8], &'a [u8])];
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
    for (file, rows) in [("accounts.redb", accounts), ("bulk.redb", bulk)] {
        let database = Database::create(dir.data().join(file)).unwrap();
        let write = database.begin_write().unwrap();
        for (table, key, value) in rows {
            let table = redb::TableDefinition::<&[u8], &[u8]>::new(table);
            write.open_table(table).unwrap().insert(*key, *value).unwrap();
        }
        write.commit().unwrap();
    }
    let store = dir.open();
    assert_eq!(picture(&store, "ann", 5), full_picture(5));
    assert_eq!(
        store.ask(vec![], Ask::Invite { token: [3; 32], now: 9 }),
        Answer::Invite(Some(invite(1, 100)))
    );
    assert_eq!(store.meta_get("domain").unwrap().as_deref(), Some(b"pi.local".as_slice()));
    assert_eq!(create(&store, "bob"), 6);
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
    store.submit(Job { changes: everything(id), ask: Ask::Backup { file: file.clone() }, then });
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

#[test]
fn a_big_batch_is_cut_and_still_in_order() {
    let dir = Dir::new();
    let store = dir.open();
    let id = create(&store, "ann");
    let before = commits(&store);
    let release = hold(&store);
    let big = "x".repeat(1 << 20);
    for _ in 0..12 {
        let then = Box::new(|answer| assert_eq!(answer, Answer::Nothing));
        store.submit(Job { changes: vec![message(id, &big)], ask: Ask::Nothing, then });
    }
    drop(release);
    let after = commits(&store);
    assert!((3..=5).contains(&(after - before)), "{}", after - before);
    assert_eq!(account(&store, "ann").unwrap().offline, (12, 12 << 20));
}

#[allow(dead_code)]
fn the_store_may_be_shared(store: Store) -> impl Send + Sync {
    store
}

#[allow(dead_code)]
fn files_may_go_to_a_thread(files: Files) -> impl Send {
    files
}
