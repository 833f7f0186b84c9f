//! What a job that spans both files still has to do in bulk once accounts is committed; see
//! "Which file is committed first" in [`schema`](super::schema).
//!
//! ```text
//! entry = 1 · id · stanza bytes                   a message for later
//!       | 2 · id · number u64                     messages up to here are done with
//!       | 3 · id · xml bytes                      vCard
//!       | 4 · id · ns bytes · name bytes · xml bytes     private XML
//!       | 5 · id                                  the account is gone: wipe all
//!       | 6 · local bytes · remote bytes · time u64 · stanza bytes     a message for a remote domain
//!       | 7 · local bytes · remote bytes · number u64     messages for it up to here are done with
//! ```

use super::batch::Batch;
use super::change::{AccountId, Change};
use super::failed::Failed;
use super::files::Files;
use super::record::{Decoder, Encoder};
use super::schema::{BULK_META, JOURNAL_KEY, LAST_SEEN, META, OFFLINE, OFFLINE_SUMS, PRIVATE, VCARDS};
use std::collections::HashMap;

/// A write to bulk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Redo {
    OfflinePut { account: AccountId, stanza: Box<[u8]> },
    OfflineRemove { account: AccountId, up_to: u64 },
    VcardPut { account: AccountId, xml: Box<[u8]> },
    PrivatePut { account: AccountId, ns: Box<str>, name: Box<str>, xml: Box<[u8]> },
    Wipe { account: AccountId },
    ForwardPut { local: Box<str>, remote: Box<str>, first: bool, time: u64, stanza: Box<[u8]> },
    ForwardRemove { local: Box<str>, remote: Box<str>, up_to: u64 },
}

impl Redo {
    /// The part of a change that concerns bulk.
    pub(super) fn of(change: &Change) -> Option<Self> {
        Some(match change.clone() {
            Change::OfflinePut { account, stanza } => Redo::OfflinePut { account, stanza },
            Change::OfflineRemove { account, up_to } => Redo::OfflineRemove { account, up_to },
            Change::VcardPut { account, xml } => Redo::VcardPut { account, xml },
            Change::PrivatePut { account, ns, name, xml } => Redo::PrivatePut { account, ns, name, xml },
            Change::ForwardPut { local, remote, first, time, stanza } => {
                Redo::ForwardPut { local, remote, first, time, stanza }
            }
            Change::ForwardRemove { local, remote, up_to } => Redo::ForwardRemove { local, remote, up_to },
            _ => return None,
        })
    }

    fn encode(&self, to: Encoder) -> Encoder {
        match self {
            Redo::OfflinePut { account, stanza } => to.u8(1).u64(*account).bytes(stanza),
            Redo::OfflineRemove { account, up_to } => to.u8(2).u64(*account).u64(*up_to),
            Redo::VcardPut { account, xml } => to.u8(3).u64(*account).bytes(xml),
            Redo::PrivatePut { account, ns, name, xml } => {
                to.u8(4).u64(*account).text(ns).text(name).bytes(xml)
            }
            Redo::Wipe { account } => to.u8(5).u64(*account),
            Redo::ForwardPut { local, remote, first, time, stanza } => {
                to.u8(if *first { 8 } else { 6 }).text(local).text(remote).u64(*time).bytes(stanza)
            }
            Redo::ForwardRemove { local, remote, up_to } => to.u8(7).text(local).text(remote).u64(*up_to),
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Failed> {
        Ok(match from.u8()? {
            1 => Redo::OfflinePut { account: from.u64()?, stanza: from.bytes()?.into() },
            2 => Redo::OfflineRemove { account: from.u64()?, up_to: from.u64()? },
            3 => Redo::VcardPut { account: from.u64()?, xml: from.bytes()?.into() },
            4 => Redo::PrivatePut {
                account: from.u64()?,
                ns: from.text()?.into(),
                name: from.text()?.into(),
                xml: from.bytes()?.into(),
            },
            5 => Redo::Wipe { account: from.u64()? },
            kind @ (6 | 8) => Redo::ForwardPut {
                local: from.text()?.into(),
                remote: from.text()?.into(),
                first: kind == 8,
                time: from.u64()?,
                stanza: from.bytes()?.into(),
            },
            7 => Redo::ForwardRemove {
                local: from.text()?.into(),
                remote: from.text()?.into(),
                up_to: from.u64()?,
            },
            _ => return Err(Failed::Record(WHAT)),
        })
    }
}

const WHAT: &str = "the journal";

pub(super) fn encode(number: u64, entries: &[Redo]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let header = Encoder::new(1).u64(number).u32(count);
    entries.iter().fold(header, |to, entry| entry.encode(to)).done()
}

pub(super) fn decode(value: &[u8]) -> Result<(u64, Vec<Redo>), Failed> {
    let mut decoder = Decoder::new(value, 1, WHAT)?;
    let number = decoder.u64()?;
    let mut entries = Vec::new();
    for _ in 0..decoder.u32()? {
        entries.push(Redo::decode(&mut decoder)?);
    }
    decoder.end()?;
    Ok((number, entries))
}

impl Batch<'_> {
    /// Writes to bulk now, and notes it if the job writes to accounts as well.
    pub(super) fn redo(&mut self, entry: Redo) -> Result<(), Failed> {
        self.apply_redo(&entry)?;
        if self.spans {
            self.journal.push(entry);
        }
        Ok(())
    }

    fn apply_redo(&mut self, entry: &Redo) -> Result<(), Failed> {
        let owner = match entry {
            Redo::OfflinePut { account, .. }
            | Redo::VcardPut { account, .. }
            | Redo::PrivatePut { account, .. } => Some(*account),
            _ => None,
        };
        if let Some(account) = owner
            && !self.exists(account)?
        {
            return Ok(());
        }
        match entry {
            Redo::OfflinePut { account, stanza } => self.put_offline(*account, stanza),
            Redo::OfflineRemove { account, up_to } => self.remove_offline(*account, *up_to),
            Redo::VcardPut { account, xml } => self.put_vcard(*account, xml),
            Redo::PrivatePut { account, ns, name, xml } => self.put_private(*account, ns, name, xml),
            Redo::Wipe { account } => self.wipe(*account),
            Redo::ForwardPut { local, remote, first, time, stanza } => {
                self.put_forward(local, remote, *first, *time, stanza)
            }
            Redo::ForwardRemove { local, remote, up_to } => self.remove_forward(local, remote, *up_to),
        }
    }

    fn wipe(&mut self, account: AccountId) -> Result<(), Failed> {
        for table in [OFFLINE, OFFLINE_SUMS, VCARDS, PRIVATE, LAST_SEEN] {
            self.bulk.remove_all_of(table, account)?;
        }
        self.seen.remove(&account);
        Ok(())
    }

    /// The number of the last journal that bulk has done.
    fn done(&mut self) -> Result<u64, Failed> {
        match self.bulk.get(BULK_META, JOURNAL_KEY)? {
            None => Ok(0),
            Some(value) => {
                value.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| Failed::Record(WHAT))
            }
        }
    }

    /// Before the commits: notes what spans both files, or sweeps out the note before.
    pub(super) fn write_journal(&mut self) -> Result<(), Failed> {
        if self.journal.is_empty() || !self.bulk.writing() {
            if self.accounts.writing() {
                self.accounts.remove(META, JOURNAL_KEY)?;
            }
            return Ok(());
        }
        let number = self.done()?.saturating_add(1);
        let value = encode(number, &self.journal);
        self.accounts.put(META, JOURNAL_KEY, &value)?;
        self.bulk.put(BULK_META, JOURNAL_KEY, &number.to_be_bytes())
    }
}

/// After opening: does what a crash left undone.
pub(super) fn replay(files: &Files) -> Result<(), Failed> {
    let mut seen = HashMap::new();
    let mut batch = Batch::new(files, &mut seen, u64::MAX);
    let Some(value) = batch.accounts.get(META, JOURNAL_KEY)? else { return Ok(()) };
    let (number, entries) = decode(&value)?;
    if number <= batch.done()? {
        return Ok(());
    }
    log::info!("finishing what was cut short: {} entries", entries.len());
    for entry in &entries {
        batch.apply_redo(entry)?;
    }
    batch.bulk.put(BULK_META, JOURNAL_KEY, &number.to_be_bytes())?;
    batch.bulk.commit().map(drop)
}

/// Whether an account's number is in use by any row of bulk: for tests and for checks.
#[cfg(test)]
pub(super) fn leftovers(files: &Files, account: AccountId) -> Result<bool, Failed> {
    let mut seen = HashMap::new();
    let mut batch = Batch::new(files, &mut seen, u64::MAX);
    let mut any = false;
    for table in [OFFLINE, OFFLINE_SUMS, VCARDS, PRIVATE, LAST_SEEN] {
        super::side::with_span_of(account, |span| {
            batch.bulk.scan(table, span, |_, _| {
                any = true;
                Ok(false)
            })
        })?;
    }
    Ok(any)
}
