//! What the store promises, tried out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::arithmetic_side_effects)]

use super::change::*;
use super::files::Files;
use super::journal::{self, Redo};
use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

mod places;
mod remote;
mod trouble;

use remote::{
    everything_remote, forward, full_remote_picture, full_remote_picture_from, nothing_remote,
    remote_picture, waiting,
};

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

/// Holds the store's thread in a `then` until the returned sender is dropped; what is handed in
/// meanwhile is one batch.
fn hold(store: &Store) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let then = Box::new(move |_| {
        begin.send(()).unwrap();
        let _released = released.recv();
    });
    store.submit(Job { changes: vec![], ask: Ask::Nothing, then });
    begun.recv().unwrap();
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
            drop(peers::decode(b"pi.local", &bytes));
            drop(forward::decode_sum(&bytes));
            drop(forward::decode(&bytes));
            drop(forward::decode_pair(&bytes));
            drop(journal::decode(&bytes));
        }
    }

    #[test]
    fn a_journal_comes_back(number: u64, account: u64, stanza: Vec<u8>, ns: String, name: String) {
        let (one, two) = (Box::<str>::from(&*ns), Box::<str>::from(&*name));
        let kept = stanza.clone().into();
        let entries = vec![
            Redo::OfflinePut { account, stanza: stanza.clone().into() },
            Redo::OfflineRemove { account, up_to: number },
            Redo::VcardPut { account, xml: stanza.clone().into() },
            Redo::PrivatePut { account, ns: ns.into(), name: name.into(), xml: stanza.into() },
            Redo::Wipe { account },
            Redo::ForwardPut { local: one.clone(), remote: two.clone(), first: true, time: account, stanza: kept },
            Redo::ForwardPut {
                local: one.clone(),
                remote: two.clone(),
                first: false,
                time: account,
                stanza: Box::default(),
            },
            Redo::ForwardRemove { local: one, remote: two, up_to: number },
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
    let Answer::Status(status) = store.ask(vec![], Ask::Status) else { panic!() };
    assert_eq!(status.certificates, 1);
    store.ask(vec![Change::CertificateRemove { account: ann, spki }], Ask::Nothing);
    assert_eq!(owner(), Answer::Owner(Some("bob".into())), "not hers any more");
    store.ask(vec![], Ask::Remove { localpart: "bob".into() });
    assert_eq!(owner(), Answer::Owner(None));
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
