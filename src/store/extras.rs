//! vCards, private XML, last seen, and the hub's own named values.

use super::batch::Batch;
use super::change::AccountId;
use super::failed::Failed;
use super::record::{Decoder, Encoder, key_text};
use super::schema::{LAST_SEEN, NAMED, PRIVATE, Table, VCARDS, id_key, private_key};
use super::side::with_span_of;

fn xml(value: Option<Vec<u8>>, what: &'static str) -> Result<Option<Box<[u8]>>, Failed> {
    value.map(|value| Decoder::new(&value, 1, what).map(|decoder| decoder.rest().into())).transpose()
}

pub(super) fn decode_seen(value: &[u8]) -> Result<(u64, Box<str>), Failed> {
    const WHAT: &str = "when somebody was last seen";
    let mut decoder = Decoder::new(value, 1, WHAT)?;
    Ok((decoder.u64()?, key_text(decoder.rest(), WHAT)?))
}

impl Batch<'_> {
    fn put_xml(&mut self, table: Table, key: &[u8], xml: &[u8]) -> Result<(), Failed> {
        if xml.is_empty() {
            self.bulk.remove(table, key).map(drop)
        } else {
            self.bulk.put(table, key, &Encoder::new(1).rest(xml).done())
        }
    }

    pub(super) fn put_vcard(&mut self, id: AccountId, xml: &[u8]) -> Result<(), Failed> {
        self.put_xml(VCARDS, &id_key(id), xml)
    }

    pub(super) fn vcard(&mut self, id: AccountId) -> Result<Option<Box<[u8]>>, Failed> {
        xml(self.bulk.get(VCARDS, &id_key(id))?, "a vCard")
    }

    pub(super) fn put_private(
        &mut self,
        id: AccountId,
        ns: &str,
        name: &str,
        xml: &[u8],
    ) -> Result<(), Failed> {
        self.put_xml(PRIVATE, &private_key(id, ns, name), xml)
    }

    pub(super) fn private(
        &mut self,
        id: AccountId,
        ns: &str,
        name: &str,
    ) -> Result<Option<Box<[u8]>>, Failed> {
        xml(self.bulk.get(PRIVATE, &private_key(id, ns, name))?, "private XML")
    }

    /// Whether an element of `size` bytes fits beside the others of the account into `max` bytes.
    pub(super) fn private_fits(
        &mut self,
        id: AccountId,
        ns: &str,
        name: &str,
        size: usize,
        max: u64,
    ) -> Result<bool, Failed> {
        let own = private_key(id, ns, name);
        let mut sum = own.len().saturating_add(size);
        with_span_of(id, |span| {
            self.bulk.scan(PRIVATE, span, |key, value| {
                if *key != *own {
                    sum = sum.saturating_add(key.len()).saturating_add(value.len());
                }
                Ok(true)
            })
        })?;
        Ok(sum as u64 <= max)
    }

    /// Stays in memory until bulk is written to for another reason.
    pub(super) fn put_seen(&mut self, id: AccountId, time: u64, status: &str) -> Result<(), Failed> {
        if self.exists(id)? {
            self.seen.insert(id, (time, status.into()));
        }
        Ok(())
    }

    pub(super) fn last_seen(&mut self, id: AccountId) -> Result<Option<(u64, Box<str>)>, Failed> {
        if let Some(seen) = self.seen.get(&id) {
            return Ok(Some(seen.clone()));
        }
        self.bulk.get(LAST_SEEN, &id_key(id))?.map(|value| decode_seen(&value)).transpose()
    }

    /// Writes down what was put off.
    pub(super) fn write_seen(&mut self) -> Result<(), Failed> {
        let waiting: Vec<_> = self.seen.iter().map(|(id, seen)| (*id, seen.clone())).collect();
        for (id, (time, status)) in waiting {
            if self.exists(id)? {
                let value = Encoder::new(1).u64(time).rest(status.as_bytes()).done();
                self.bulk.put(LAST_SEEN, &id_key(id), &value)?;
            }
        }
        Ok(())
    }

    pub(super) fn put_named(&mut self, name: &str, value: &[u8]) -> Result<(), Failed> {
        if value.is_empty() {
            self.accounts.remove(NAMED, name.as_bytes()).map(drop)
        } else {
            self.accounts.put(NAMED, name.as_bytes(), value)
        }
    }

    pub(super) fn named(&mut self, name: &str) -> Result<Option<Box<[u8]>>, Failed> {
        Ok(self.accounts.get(NAMED, name.as_bytes())?.map(Vec::into_boxed_slice))
    }
}
