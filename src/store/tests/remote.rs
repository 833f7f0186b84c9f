//! Remote domains, what waits for them, and components.

use super::*;

pub(super) fn forward(remote: &str, time: u64, text: &str) -> Change {
    let (local, remote, stanza) = ("pi.local".into(), remote.into(), text.as_bytes().into());
    Change::ForwardPut { local, remote, first: false, time, stanza }
}

fn done(remote: &str, up_to: u64) -> Change {
    Change::ForwardRemove { local: "pi.local".into(), remote: remote.into(), up_to }
}

/// What [`Ask::Forward`] says of pi.local and another.
pub(super) fn waiting(
    store: &Store,
    remote: &str,
    after: u64,
    max: u32,
    bytes: u32,
) -> (Vec<(u64, u64, String)>, bool) {
    let ask = Ask::Forward { local: "pi.local".into(), remote: remote.into(), after, max, bytes };
    match store.ask(vec![], ask) {
        Answer::Forward { messages, more } => {
            let text = |stanza: Box<[u8]>| String::from_utf8(stanza.into()).unwrap();
            (messages.into_iter().map(|(number, time, stanza)| (number, time, text(stanza))).collect(), more)
        }
        other => panic!("{other:?}"),
    }
}

fn forwards(store: &Store) -> Vec<Forwards> {
    match store.ask(vec![], Ask::Forwards) {
        Answer::Forwards(all) => all,
        other => panic!("{other:?}"),
    }
}

fn sum(remote: &str, count: u32, bytes: u64, oldest: u64) -> Forwards {
    Forwards { local: "pi.local".into(), remote: remote.into(), count, bytes, oldest }
}

fn boat() -> PeerRecord {
    PeerRecord {
        domain: "boat.local".into(),
        pin: Some([7; 32]),
        source: PeerSource::Paired,
        added: 9,
        ..PeerRecord::default()
    }
}

fn hill() -> PeerRecord {
    PeerRecord {
        domain: "hill.example".into(),
        address: Some("10.0.0.1:".into()),
        denied: true,
        added: 8,
        ..PeerRecord::default()
    }
}

/// One of everything that concerns other domains.
pub(super) fn everything_remote() -> Vec<Change> {
    vec![
        Change::PeerPut { peer: hill() },
        Change::PeerPut { peer: boat() },
        Change::ComponentPut { domain: "irc.pi.local".into(), secret: "s3cret".into() },
        forward("boat.local", 77, "one"),
        forward("hill.example", 78, "two"),
        forward("boat.local", 79, "three"),
    ]
}

/// All answers about other domains, to compare before and after.
pub(super) fn remote_picture(store: &Store) -> Vec<Answer> {
    let boat = Ask::Forward {
        local: "pi.local".into(),
        remote: "boat.local".into(),
        after: 0,
        max: 100,
        bytes: 10_000,
    };
    [Ask::Peers, Ask::Components, Ask::Forwards, boat].map(|ask| store.ask(vec![], ask)).into()
}

pub(super) fn full_remote_picture() -> Vec<Answer> {
    full_remote_picture_from(forward::FIRST)
}

/// With the number of the first message.
pub(super) fn full_remote_picture_from(one: u64) -> Vec<Answer> {
    vec![
        Answer::Peers(vec![boat(), hill()]),
        Answer::Components(vec![("irc.pi.local".into(), "s3cret".into())]),
        Answer::Forwards(vec![sum("boat.local", 2, 8, 77), sum("hill.example", 1, 3, 78)]),
        Answer::Forward {
            messages: vec![(one, 77, b"one".as_slice().into()), (one + 2, 79, b"three".as_slice().into())],
            more: false,
        },
    ]
}

pub(super) fn nothing_remote() -> Vec<Answer> {
    vec![
        Answer::Peers(vec![]),
        Answer::Components(vec![]),
        Answer::Forwards(vec![]),
        Answer::Forward { messages: vec![], more: false },
    ]
}

#[test]
fn it_comes_back_outlives_a_restart_and_goes_again() {
    let dir = Dir::new();
    let store = dir.open();
    assert_eq!(remote_picture(&store), nothing_remote());
    store.ask(everything_remote(), Ask::Nothing);
    assert_eq!(remote_picture(&store), full_remote_picture());
    let Answer::Status(status) = store.ask(vec![], Ask::Status) else { panic!() };
    assert_eq!((status.forward, status.components, status.offline), (3, 1, 0));
    drop(store);
    let store = dir.open();
    assert_eq!(remote_picture(&store), full_remote_picture());

    // Another record of the same domain takes the place of the first.
    let again = PeerRecord { pin: None, denied: true, ..boat() };
    store.ask(vec![Change::PeerPut { peer: again.clone() }], Ask::Nothing);
    assert_eq!(store.ask(vec![], Ask::Peers), Answer::Peers(vec![again, hill()]));
    let before = commits(&store);
    store.ask(vec![Change::PeerRemove { domain: "unknown".into() }], Ask::Nothing);
    store.ask(vec![Change::ComponentRemove { domain: "unknown".into() }, done("unknown", 9)], Ask::Nothing);
    drop(remote_picture(&store));
    assert_eq!(commits(&store), before, "that was no work");
    store.ask(
        vec![
            Change::PeerRemove { domain: "boat.local".into() },
            Change::PeerRemove { domain: "hill.example".into() },
            Change::ComponentRemove { domain: "irc.pi.local".into() },
            done("boat.local", u64::MAX),
            done("hill.example", u64::MAX),
        ],
        Ask::Nothing,
    );
    assert_eq!(remote_picture(&store), nothing_remote());
}

#[test]
fn messages_for_a_domain_keep_their_order_and_their_numbers() {
    let dir = Dir::new();
    let store = dir.open();
    for (n, text) in ["aa", "bb", "cc"].into_iter().enumerate() {
        store.ask(vec![forward("boat.local", 10 + n as u64, text)], Ask::Nothing);
    }
    let one = forward::FIRST;
    let all: Vec<_> = [(0, 10, "aa"), (1, 11, "bb"), (2, 12, "cc")]
        .map(|(number, time, text)| (one + number, time, text.to_string()))
        .into();
    assert_eq!(waiting(&store, "boat.local", 0, 10, 100), (all.clone(), false));
    assert_eq!(waiting(&store, "boat.local", 0, 2, 100), (all[..2].to_vec(), true));
    assert_eq!(waiting(&store, "boat.local", one, 10, 100), (all[1..].to_vec(), false));
    assert_eq!(waiting(&store, "boat.local", 0, 10, 4), (all[..2].to_vec(), true));
    assert_eq!(waiting(&store, "boat.local", 0, 10, 0), (all[..1].to_vec(), true), "one, however long");
    assert_eq!(waiting(&store, "boat.local", u64::MAX, 10, 0), (vec![], false));
    assert_eq!(forwards(&store), [sum("boat.local", 3, 6, 10)]);
    store.ask(vec![done("boat.local", one + 1)], Ask::Nothing);
    assert_eq!(forwards(&store), [sum("boat.local", 1, 2, 12)]);
    store.ask(vec![done("boat.local", u64::MAX)], Ask::Nothing);
    assert_eq!(forwards(&store), []);
    // Also when nothing was left to remember them by, and after a restart.
    drop(store);
    let store = dir.open();
    store.ask(vec![forward("boat.local", 13, "dd"), done("boat.local", one + 2)], Ask::Nothing);
    assert_eq!(
        waiting(&store, "boat.local", 0, 9, 99).0,
        [(one + 3, 13, "dd".into())],
        "a number is used once"
    );
}

#[test]
fn what_must_be_the_first_is() {
    let dir = Dir::new();
    let store = dir.open();
    let first = |text: &str| match forward("boat.local", 10, text) {
        Change::ForwardPut { local, remote, time, stanza, .. } => {
            Change::ForwardPut { local, remote, first: true, time, stanza }
        }
        other => other,
    };
    let texts = |store: &Store| {
        waiting(store, "boat.local", 0, 99, 999).0.into_iter().map(|(.., text)| text).collect::<Vec<_>>()
    };
    store.ask(vec![first("3"), forward("boat.local", 11, "4"), first("2"), first("1")], Ask::Nothing);
    assert_eq!(texts(&store), ["1", "2", "3", "4"]);
    drop(store);
    let store = dir.open();
    store.ask(vec![forward("boat.local", 12, "5"), first("0")], Ask::Nothing);
    assert_eq!(texts(&store), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(forwards(&store), [sum("boat.local", 6, 6, 10)]);
}

#[test]
fn pairs_share_nothing() {
    let dir = Dir::new();
    let store = dir.open();
    let long = "x".repeat(1023);
    let names = ["a", "a.b", "b", "ab", "\u{1}b", "", &long];
    let mut expected = Vec::new();
    for (local, remote) in names.iter().flat_map(|one| names.iter().map(move |other| (*one, *other))) {
        let stanza = format!("{local} to {remote}");
        expected.push((local, remote, stanza.clone()));
        let (local, remote, stanza) = (local.into(), remote.into(), stanza.as_bytes().into());
        store.ask(vec![Change::ForwardPut { local, remote, first: false, time: 1, stanza }], Ask::Nothing);
    }
    assert_eq!(forwards(&store).len(), expected.len());
    let gone = Change::ForwardRemove { local: "a".into(), remote: "b".into(), up_to: u64::MAX };
    store.ask(vec![gone], Ask::Nothing);
    for (local, remote, stanza) in expected {
        let ask = Ask::Forward { local: local.into(), remote: remote.into(), after: 0, max: 9, bytes: 99 };
        let Answer::Forward { messages, more: false } = store.ask(vec![], ask) else { panic!() };
        let texts: Vec<_> = messages.iter().map(|(_, _, stanza)| &**stanza).collect();
        match (local, remote) {
            ("a", "b") => assert!(texts.is_empty()),
            _ => assert_eq!(texts, [stanza.as_bytes()]),
        }
    }
    let all = forwards(&store);
    assert_eq!(all.len(), names.len() * names.len() - 1);
    assert!(all.iter().any(|f| (&*f.local, &*f.remote, f.count) == ("", &*long, 1)));
}

#[test]
fn what_is_handed_in_together_stays_together_over_both_files() {
    let dir = Dir::new();
    let (store, trouble) = trouble::Trouble::open(&dir);
    store.ask(vec![forward("boat.local", 1, "one")], Ask::Nothing);
    let both = || {
        vec![
            Change::PeerPut { peer: boat() },
            forward("boat.local", 2, "two"),
            done("boat.local", forward::FIRST),
        ]
    };
    trouble.fuel(0, 0);
    assert!(matches!(store.ask(both(), Ask::Nothing), Answer::Failed(_)));
    trouble.fuel(i64::MAX, i64::MAX);
    assert_eq!(forwards(&store), [sum("boat.local", 1, 3, 1)]);
    trouble.fuel(i64::MAX, 0);
    assert!(matches!(store.ask(both(), Ask::Nothing), Answer::Failed(_)));
    trouble.fuel(i64::MAX, i64::MAX);
    // Accounts was through, so the rest is done when the files are opened.
    assert_eq!(store.ask(vec![], Ask::Peers), Answer::Peers(vec![boat()]));
    assert_eq!(waiting(&store, "boat.local", 0, 9, 99).0, [(forward::FIRST + 1, 2, "two".to_string())]);
    assert_eq!(forwards(&store), [sum("boat.local", 1, 3, 2)]);
}

#[test]
fn a_waiting_message_is_known_by_its_stanza_id() {
    let dir = Dir::new();
    let store = dir.open();
    let (ann, bob) = (create(&store, "ann"), create(&store, "bob"));
    for id in ["1-0", "2-0"] {
        let text = format!("<message from='x@far'><stanza-id by='far' id='{id}'/></message>");
        store.ask(vec![message(ann, &text)], Ask::Nothing);
    }
    let has =
        |account, id: &str| store.ask(vec![], Ask::OfflineHas { account, by: "far".into(), id: id.into() });
    assert_eq!([has(ann, "1-0"), has(ann, "2-0")], [Answer::Has(true), Answer::Has(true)]);
    assert_eq!([has(ann, "3-0"), has(bob, "1-0")], [Answer::Has(false), Answer::Has(false)]);
    store.ask(vec![Change::OfflineRemove { account: ann, up_to: 1 }], Ask::Nothing);
    assert_eq!([has(ann, "1-0"), has(ann, "2-0")], [Answer::Has(false), Answer::Has(true)]);
}

proptest! {
    #[test]
    fn keys_tell_pairs_apart(one: [String; 2], other: [String; 2]) {
        let [a, b] = [&one, &other].map(|[local, remote]| schema::pair_key(local, remote));
        prop_assert_eq!(a == b, one == other);
        prop_assert!(!b.starts_with(&a) || a == b, "no pair's rows are among another's");
        let back = one.map(Box::<str>::from);
        prop_assert_eq!(super::super::forward::decode_pair(&a), Ok(back));
    }
}
