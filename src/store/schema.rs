//! Every table, key and value, drawn to the byte; the version of that drawing; and the way from
//! one version to the next.
//!
//! # The two files
//!
//! `accounts.redb` is small and precious: who there is, how they prove it, their rosters. It is
//! checked in full, page by page, each time it is opened. `bulk.redb` holds what grows: messages
//! kept for later, for accounts and for remote domains, vCards, private XML, and when somebody was last here.
//!
//! # Spelling
//!
//! Numbers are big-endian, so that the order of bytes is the order of numbers. `id` is an account's
//! number, 8 bytes. Every key that has one begins with it: as it always has the same length, no two accounts'
//! keys can be confused and an account's rows are exactly the range `id .. id + 1`. A key has at
//! most one part of open length behind it, or length prefixes (`private`). Values are spelled as
//! in [`record`](super::record), where `v` is the version byte of that kind of record, now 1.
//!
//! # accounts.redb
//!
//! ```text
//! table            key                        value
//! meta             "schema"                   version u32           (no v: this is what tells)
//!                  "pair"                     16 random bytes, the same in both files
//!                  "next_id"                  id u64                the next account's number
//!                  "journal"                  v · number u64 · count u32 · entry*   (journal.rs)
//! named            name                       bytes                 small values of the hub's own
//! accounts         localpart                  v · id u64 · created u64
//! names            id                         v · localpart (the rest)
//! keys             id                         v · scram · scram     SHA-1, then SHA-256
//!                                             scram = salt bytes · iterations u32 · stored bytes · server bytes
//! certificates     spki [32]                  v · id u64
//! certificates_of  id · spki [32]             v                     the same, from the other side
//! roster           id · jid                   v · flags u8 · name option · groups list · pending option
//!                                             flags: bits 0-1 subscription (0 none 1 to 2 from 3 both)
//!                                             bit 2 ask · bit 3 approved · bit 4 listed · others 0
//! roster_versions  id                         v · version u64
//! blocks           id · jid                   v
//! invites          token [32]                 v · created u64 · expires u64 · uses u32 · inviter option · localpart option
//! peers            domain                     v · source u8 (0 said 1 paired) · denied u8 · added u64 · pin option · address option
//! components       domain                     v · secret (the rest)
//! ```
//!
//! # bulk.redb
//!
//! ```text
//! bulk_meta        "schema", "pair"           as above
//!                  "journal"                  number u64            the last journal entry that is done
//! offline          id · number u64            v · stanza (the rest)
//! offline_sums     id                         v · next u64 · count u32 · bytes u64
//! vcards           id                         v · xml (the rest)
//! private          id · length u32 · ns · name    v · xml (the rest)
//! last_seen        id                         v · time u64 · status (the rest)
//! forward          pair · number u64          v · time u64 · stanza (the rest)
//!                                             pair = length u16 · local · length u16 · remote
//! forward_sums     pair                       v · count u32 · bytes u64    only while something waits
//!                  nothing (0 bytes)          v · next u64                 the number that the next message of any pair gets, from 2^32:
//!                                             there is room before it for what must be the first
//! ```
//!
//! Version 1 had no `peers`, `components`, `forward` and `forward_sums`.
//!
//! `offline_sums.next` outlives the messages: their numbers are never used twice, so that an
//! [`OfflineRemove`](super::change::Change::OfflineRemove) that comes late cannot hit a newer message.
//! `forward_sums` has one such number for all pairs: anybody here can write to any domain, and a row for each that
//! was ever out of reach would stay for ever. It stands in this table, where each message touches a page anyway.
//! `last_seen` is here and not in the other file because this one is committed more often, and a
//! lazy value waits for a commit.
//!
//! # Which file is committed first
//!
//! Accounts, always, and then bulk. A job that writes to both leaves a note in `meta.journal`, in
//! the same commit as its part in accounts, of what it still has to do in bulk; bulk writes the
//! note's number down in the same commit as the work. Whoever opens the files does what is noted and not yet done. So
//! a job that spans both is whole or absent in every crash state, and removing an account cannot
//! leave messages behind for nobody. The other order would need an undo instead of a redo: bulk would
//! already show what accounts may never come to know. Jobs that touch one file alone, nearly all
//! of them, pay nothing for this.
//!
//! # Why no quick repair
//!
//! redb's `set_quick_repair` saves the allocator's state with each commit and commits in two
//! phases, so that opening after a crash need not walk the file. Measured with 500 accounts and
//! 36 MB of messages, the commit of one small change: 31 KB of writes and 3.7 ms without it, 44 KB and 7
//! to 9 ms with it; opening after a crash: 116 ms without, 61 ms with. Commits happen all day and
//! wear out the card, crashes hardly ever, and accounts are verified in full anyway: so we do
//! without. Should bulk come to hold hundreds of megabytes, such a commit when the hub has been
//! idle for a minute would be the cheap way to have both.
//!
//! # Why a table of its own for the sums
//!
//! As message number 0 among the messages, a sum saves a fifth of what a single commit writes while queues are
//! short, but with 20,000 messages waiting a batch of 200 writes twice as much (19 KB for each message
//! instead of 10): hundreds of scattered pages instead of a few where all sums are neighbours.

use super::failed::Failed;
use super::record::Encoder;
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use std::path::Path;

/// The version of the drawing above.
pub(super) const VERSION: u32 = 2;

/// All tables have this shape: redb orders the keys, what they mean is drawn above.
pub(super) type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) const META: Table = Table::new("meta");
pub(super) const NAMED: Table = Table::new("named");
pub(super) const ACCOUNTS: Table = Table::new("accounts");
pub(super) const NAMES: Table = Table::new("names");
pub(super) const KEYS: Table = Table::new("keys");
pub(super) const CERTIFICATES: Table = Table::new("certificates");
pub(super) const CERTIFICATES_OF: Table = Table::new("certificates_of");
pub(super) const ROSTER: Table = Table::new("roster");
pub(super) const ROSTER_VERSIONS: Table = Table::new("roster_versions");
pub(super) const BLOCKS: Table = Table::new("blocks");
pub(super) const INVITES: Table = Table::new("invites");
pub(super) const PEERS: Table = Table::new("peers");
pub(super) const COMPONENTS: Table = Table::new("components");

pub(super) const BULK_META: Table = Table::new("bulk_meta");
pub(super) const OFFLINE: Table = Table::new("offline");
pub(super) const OFFLINE_SUMS: Table = Table::new("offline_sums");
pub(super) const VCARDS: Table = Table::new("vcards");
pub(super) const PRIVATE: Table = Table::new("private");
pub(super) const LAST_SEEN: Table = Table::new("last_seen");
pub(super) const FORWARD: Table = Table::new("forward");
pub(super) const FORWARD_SUMS: Table = Table::new("forward_sums");

/// One migration step of one file: from its version, counted from 1, to the next.
pub(super) type Step = fn(&WriteTransaction) -> Result<(), Failed>;

/// One of the two files: everything that differs between them.
pub(super) struct Layout {
    pub(super) file: &'static str,
    pub(super) meta: Table,
    pub(super) tables: &'static [Table],
    /// `steps[n - 1]` leads from version n to n + 1, so there is one less than [`VERSION`].
    pub(super) steps: &'static [Step],
    /// For redb's cache, whose default is a gigabyte.
    pub(super) cache: usize,
    /// Whether opening verifies every page.
    pub(super) verify: bool,
}

pub(super) const ACCOUNTS_FILE: Layout = Layout {
    file: "accounts.redb",
    meta: META,
    tables: &[
        META,
        NAMED,
        ACCOUNTS,
        NAMES,
        KEYS,
        CERTIFICATES,
        CERTIFICATES_OF,
        ROSTER,
        ROSTER_VERSIONS,
        BLOCKS,
        INVITES,
        PEERS,
        COMPONENTS,
    ],
    steps: &[|transaction| make(transaction, &[PEERS, COMPONENTS])],
    cache: 256 << 10,
    verify: true,
};

pub(super) const BULK_FILE: Layout = Layout {
    file: "bulk.redb",
    meta: BULK_META,
    tables: &[BULK_META, OFFLINE, OFFLINE_SUMS, VCARDS, PRIVATE, LAST_SEEN, FORWARD, FORWARD_SUMS],
    steps: &[|transaction| make(transaction, &[FORWARD, FORWARD_SUMS])],
    cache: 2 << 20,
    verify: false,
};

pub(super) const SCHEMA_KEY: &[u8] = b"schema";
pub(super) const PAIR_KEY: &[u8] = b"pair";
pub(super) const NEXT_ID_KEY: &[u8] = b"next_id";
pub(super) const JOURNAL_KEY: &[u8] = b"journal";

/// The key of an account's only row, and the beginning of all its keys.
pub(super) fn id_key(id: u64) -> [u8; 8] {
    id.to_be_bytes()
}

/// `id · rest`.
pub(super) fn under(id: u64, rest: &[u8]) -> Vec<u8> {
    let mut key = id_key(id).to_vec();
    key.extend_from_slice(rest);
    key
}

/// `id · length u32 · ns · name`.
pub(super) fn private_key(id: u64, ns: &str, name: &str) -> Vec<u8> {
    let mut key = id_key(id).to_vec();
    key.extend_from_slice(&u32::try_from(ns.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend_from_slice(ns.as_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

/// `length u16 · local · length u16 · remote`: what all keys of the pair begin with, and no others.
pub(super) fn pair_key(local: &str, remote: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(local.len().saturating_add(remote.len()).saturating_add(12));
    for domain in [local, remote] {
        // A domain has at most 1023 bytes (RFC 7622 §3.2).
        key.extend_from_slice(&u16::try_from(domain.len()).unwrap_or(u16::MAX).to_be_bytes());
        key.extend_from_slice(domain.as_bytes());
    }
    key
}

fn make(transaction: &WriteTransaction, tables: &[Table]) -> Result<(), Failed> {
    for table in tables {
        transaction.open_table(*table)?;
    }
    Ok(())
}

/// Makes the tables of a new file.
pub(super) fn create(layout: &Layout, transaction: &WriteTransaction, pair: &[u8; 16]) -> Result<(), Failed> {
    make(transaction, layout.tables)?;
    let mut meta = transaction.open_table(layout.meta)?;
    meta.insert(SCHEMA_KEY, VERSION.to_be_bytes().as_slice())?;
    meta.insert(PAIR_KEY, pair.as_slice())?;
    Ok(())
}

/// The version that a file says it has.
pub(super) fn version(
    path: &Path,
    meta: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<u32, Failed> {
    let corrupt = |error: &str| Failed::Corrupt { path: path.into(), error: error.into() };
    let found = meta.get(SCHEMA_KEY)?.ok_or_else(|| corrupt("it has no layout version"))?;
    let found: [u8; 4] = found.value().try_into().map_err(|_| corrupt("its layout version is malformed"))?;
    match u32::from_be_bytes(found) {
        0 => Err(corrupt("its layout version is 0")),
        found if found > VERSION => Err(Failed::Newer { path: path.into(), found }),
        found => Ok(found),
    }
}

/// Takes a file from one version to the next, and so on to the last, inside one transaction.
pub(super) fn migrate(
    transaction: &WriteTransaction,
    meta: Table,
    from: u32,
    steps: &[Step],
) -> Result<(), Failed> {
    let mut version = from;
    for step in steps.iter().skip(usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX)) {
        step(transaction)?;
        version = version.saturating_add(1);
    }
    transaction.open_table(meta)?.insert(SCHEMA_KEY, version.to_be_bytes().as_slice())?;
    Ok(())
}

/// A value of nothing but its version byte.
pub(super) fn mark() -> Vec<u8> {
    Encoder::new(1).done()
}
