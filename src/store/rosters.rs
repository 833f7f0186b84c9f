//! Rosters with their versions, and block lists.

use super::batch::Batch;
use super::change::{AccountId, Item, Subscription};
use super::failed::Failed;
use super::record::{Decoder, Encoder, key_text};
use super::schema::{BLOCKS, ROSTER, ROSTER_VERSIONS, id_key, mark, under};
use super::side::with_span_of;

const SUBSCRIPTION: u8 = 0b11;
const ASK: u8 = 1 << 2;
const APPROVED: u8 = 1 << 3;
const LISTED: u8 = 1 << 4;

/// Everything but the address, which is in the key.
fn encode(item: &Item) -> Vec<u8> {
    let subscription = match item.subscription {
        Subscription::None => 0,
        Subscription::To => 1,
        Subscription::From => 2,
        Subscription::Both => 3,
    };
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    Encoder::new(1)
        .u8(subscription | bit(item.ask, ASK) | bit(item.approved, APPROVED) | bit(item.listed, LISTED))
        .option(item.name.as_deref().map(str::as_bytes))
        .list(item.groups.iter().map(|group| &**group))
        .option(item.pending.as_deref())
        .done()
}

pub(super) fn decode(jid: &[u8], value: &[u8]) -> Result<Item, Failed> {
    const WHAT: &str = "a roster item";
    let mut decoder = Decoder::new(value, 1, WHAT)?;
    let flags = decoder.u8()?;
    if flags & !(SUBSCRIPTION | ASK | APPROVED | LISTED) != 0 {
        return Err(Failed::Record(WHAT));
    }
    let item = Item {
        jid: key_text(jid, WHAT)?,
        subscription: match flags & SUBSCRIPTION {
            0 => Subscription::None,
            1 => Subscription::To,
            2 => Subscription::From,
            _ => Subscription::Both,
        },
        ask: flags & ASK != 0,
        approved: flags & APPROVED != 0,
        listed: flags & LISTED != 0,
        name: decoder.option(Decoder::text)?.map(Box::from),
        groups: decoder.list()?,
        pending: decoder.option(Decoder::bytes)?.map(Box::from),
    };
    decoder.end()?;
    Ok(item)
}

impl Batch<'_> {
    pub(super) fn put_item(&mut self, id: AccountId, version: u64, item: &Item) -> Result<(), Failed> {
        if !self.exists(id)? {
            return Ok(());
        }
        self.accounts.put(ROSTER, &under(id, item.jid.as_bytes()), &encode(item))?;
        self.put_roster_version(id, version)
    }

    pub(super) fn remove_item(&mut self, id: AccountId, version: u64, jid: &str) -> Result<(), Failed> {
        if !self.exists(id)? {
            return Ok(());
        }
        self.accounts.remove(ROSTER, &under(id, jid.as_bytes()))?;
        self.put_roster_version(id, version)
    }

    fn put_roster_version(&mut self, id: AccountId, version: u64) -> Result<(), Failed> {
        self.accounts.put(ROSTER_VERSIONS, &id_key(id), &Encoder::new(1).u64(version).done())
    }

    pub(super) fn roster_version(&mut self, id: AccountId) -> Result<u64, Failed> {
        let Some(value) = self.accounts.get(ROSTER_VERSIONS, &id_key(id))? else { return Ok(0) };
        let mut decoder = Decoder::new(&value, 1, "a roster's version")?;
        let version = decoder.u64()?;
        decoder.end()?;
        Ok(version)
    }

    pub(super) fn roster(&mut self, id: AccountId) -> Result<Vec<Item>, Failed> {
        let mut items = Vec::new();
        with_span_of(id, |span| {
            self.accounts.scan(ROSTER, span, |key, value| {
                items.push(decode(key.get(8..).unwrap_or_default(), value)?);
                Ok(true)
            })
        })?;
        Ok(items)
    }

    pub(super) fn put_block(&mut self, id: AccountId, jid: &str) -> Result<(), Failed> {
        if !self.exists(id)? {
            return Ok(());
        }
        self.accounts.put(BLOCKS, &under(id, jid.as_bytes()), &mark())
    }

    pub(super) fn remove_block(&mut self, id: AccountId, jid: &str) -> Result<(), Failed> {
        self.accounts.remove(BLOCKS, &under(id, jid.as_bytes())).map(drop)
    }

    pub(super) fn blocks(&mut self, id: AccountId) -> Result<Vec<Box<str>>, Failed> {
        let mut jids = Vec::new();
        with_span_of(id, |span| {
            self.accounts.scan(BLOCKS, span, |key, _| {
                jids.push(key_text(key.get(8..).unwrap_or_default(), "a blocked address")?);
                Ok(true)
            })
        })?;
        Ok(jids)
    }
}
