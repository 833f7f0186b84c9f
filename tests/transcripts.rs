//! Behaviour as transcripts: `tests/transcripts/*.txt`, one file for one behaviour or one bug. Several
//! clients talk to one hub in memory, with real streams, the real rooms and a real store, under a
//! clock that stands still. No socket is opened.
//!
//! Each transcript is run twice: with the bytes of a line all at once, and byte by byte. It must come
//! to the same. To run some of them only:
//!
//! ```text
//! TRANSCRIPT=rfc6121_s3 cargo test --test transcripts
//! ```
//!
//! # What stands in a transcript
//!
//! One thing per line. A line that begins with a space goes on with the line before; `#` begins a
//! comment. Names of clients are the transcript's own: `alice`, `phone`, …
//!
//! ```text
//! account bob [password PW]             bob@hub.test is there; the password is "pencil" if none is given
//! contacts bob carol both|to|from       they are in each other's rosters (before one of them logs in)
//! remove bob                            the operator removes the account
//! limit offline_messages 2              one of `stonechat limits`
//! alias hub.local                       another name of the hub's (before the first client)
//! registration open|closed              whether strangers may register (before the first client)
//! certificate bob                       bob may log in with the certificate that clients show
//!
//! connect bob [tls|starttls|certificate]   a connection: bare, inside TLS, bare with STARTTLS required,
//!                                       inside TLS with the certificate. Otherwise the first line of a
//!                                       client's makes a bare one
//! login bob bob@hub.test/desk [tls|starttls|certificate] [via MECHANISM] [password PW] [refused CONDITION]
//!                                       connects and logs in with our own client half; a resource is bound
//! online bob bob@hub.test/desk [priority N]
//!                                       and then asks for the roster and is available; what it gets by that
//!                                       is dropped
//!
//! bob: <message …>…</message>           bob sends this as it stands; {name} is what was captured
//! bob: bytes <a>\xff</a>                the same, with \xNN for any byte
//! bob: open                             bob sends the usual stream header
//! bob: close                            bob sends </stream:stream>
//! bob: cut                              bob's connection is gone without a word
//!
//! bob> <message …>…</message>           the next that bob gets is this, compared as XML: the order of
//!                                       attributes and the way namespaces are declared do not matter.
//!                                       * is any value, {name} any value that is captured, or the one that
//!                                       was; ... is any further children.
//!                                       {stanzas} is the namespace of stanza error conditions
//! bob> open                             the hub's usual stream header
//! bob> nothing                          nothing waits for bob
//! bob> ...                              whatever waits for bob is dropped
//! bob> closed [<condition/>]            the stream is closed, with that stream error
//! bob> cut                              the connection is closed without a word
//!
//! wait 10s                              time goes by (ms, s, m, h, d)
//! delay store, release store [JOBS]     the disk is slow: what has to be written or read waits; it goes on,
//!                                       or does no more than so many jobs
//! break store, mend store               the disk refuses to write
//! stall bob [BYTES], resume bob         bob's system takes no bytes any more, or only so many; it takes all
//! restart                               the power fails; the hub starts again with what the store has
//! ```
//!
//! At the end nothing may wait for any client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "transcripts/runner/connection.rs"]
mod connection;
#[path = "transcripts/runner/passwords.rs"]
mod passwords;
#[path = "transcripts/runner/pattern.rs"]
mod pattern;
#[path = "transcripts/runner/ring.rs"]
mod ring;
#[path = "transcripts/runner/script.rs"]
mod script;
#[path = "transcripts/runner/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn transcripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    all.sort();
    all
}

#[test]
fn transcripts_hold() {
    let only = std::env::var("TRANSCRIPT").unwrap_or_default();
    let mut failures = BTreeSet::new();
    let mut count = 0;
    for path in transcripts() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for thin in [false, true] {
            if let Err((line, why)) = script::run(&text, thin) {
                let how = if thin { "byte by byte" } else { "all at once" };
                failures.insert(format!("tests/transcripts/{name}:{line}: ({how})\n{why}\n"));
            }
        }
    }
    assert!(count > 0, "there is no transcript with {only:?} in its name");
    let failed: Vec<String> = failures.into_iter().collect();
    assert!(
        failed.is_empty(),
        "{} of {count} transcripts, twice each:\n\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// A transcript that holds whatever the hub does would be worse than none.
#[test]
fn transcripts_can_fail() {
    let start = "account alice\nonline alice alice@hub.test/desk\n";
    let ping = "alice: <iq type='get' id='1' to='hub.test'><ping xmlns='urn:xmpp:ping'/></iq>\n";
    let holds = |rest: &str| script::run(&format!("{start}{ping}{rest}"), false);
    assert_eq!(holds("alice> <iq from='hub.test' to='*' id='1' type='result'/>"), Ok(()));
    for (rest, line) in [
        ("", 4),
        ("# nothing\nalice> nothing", 5),
        ("alice> <iq from='hub.test' to='*' id='2' type='result'/>", 4),
        ("alice> <iq from='hub.test' to='*' id='1' type='result' more='*'/>", 4),
        ("alice> <iq from='hub.test' to='*' id='1'/>", 4),
        ("alice> <iq from='hub.test' to='*' id='1' type='result'>x</iq>", 4),
        ("alice> <iq from='hub.test' to='*' id='1' type='result'><x/></iq>", 4),
        ("alice> <iq xmlns='a' from='hub.test' to='*' id='1' type='result'/>", 4),
        ("alice> <message from='hub.test' to='*' id='1' type='result'/>", 4),
        ("alice> <iq from='{x}' to='{x}' id='1' type='result'/>", 4),
        ("alice> ...\nalice> <iq/>", 5),
        ("alice> closed", 4),
        ("alice> ...\nalice: close\nalice> closed <conflict/>", 6),
        ("alice> ...\nwait ten", 5),
        ("alice> ...\nbob> nothing", 5),
        ("alice> ...\nlogin alice alice@hub.test password wrong", 5),
        ("alice> ...\nlogin alice alice@hub.test refused not-authorized", 5),
    ] {
        let got = holds(rest);
        assert!(matches!(&got, Err((at, _)) if *at == line), "{rest}: {got:?}");
    }
}
