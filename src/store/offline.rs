//! Messages for later (XEP-0160), in the order they came.

use super::batch::Batch;
use super::change::{AccountId, Answer};
use super::failed::Failed;
use super::record::{Decoder, Encoder};
use super::schema::{OFFLINE, OFFLINE_SUMS, id_key, under};
use super::side::with_span_of;
use std::ops::Bound;

const WHAT: &str = "a message kept for later";

/// What is known of an account's messages without looking at them.
pub(super) struct Sum {
    /// The number that the next message gets.
    next: u64,
    count: u32,
    bytes: u64,
}

impl Sum {
    pub(super) fn waiting(&self) -> (u32, u64) {
        (self.count, self.bytes)
    }

    fn encode(&self) -> Vec<u8> {
        Encoder::new(1).u64(self.next).u32(self.count).u64(self.bytes).done()
    }
}

pub(super) fn decode_sum(value: &[u8]) -> Result<Sum, Failed> {
    let mut decoder = Decoder::new(value, 1, "the sum of messages kept for later")?;
    let sum = Sum { next: decoder.u64()?, count: decoder.u32()?, bytes: decoder.u64()? };
    decoder.end()?;
    Ok(sum)
}

fn size(stanza: &[u8]) -> u64 {
    u64::try_from(stanza.len()).unwrap_or(u64::MAX)
}

/// Whether the stanza is from the domain and carries its `stanza-id`, under whatever prefix, with this `id`.
/// The hub has judged these bytes and written `from`, so there is no need of a parser here. Text has no `<`;
/// what a CDATA section shows is taken for a tag.
fn carries(stanza: &[u8], domain: &[u8], id: &[u8]) -> bool {
    let mut tags = stanza.split(|byte| *byte == b'<').skip(1).map(|tag| {
        let tag = tag.split(|byte| *byte == b'>').next().unwrap_or_default();
        let mut parts = tag.splitn(2, u8::is_ascii_whitespace);
        let name = parts.next().unwrap_or_default();
        let local = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
        (local, parts.next().unwrap_or_default())
    });
    let from = tags.next().and_then(|(_, attributes)| attribute(attributes, b"from")).unwrap_or_default();
    let bare = from.split(|byte| *byte == b'/').next().unwrap_or_default();
    bare.rsplit(|byte| *byte == b'@').next() == Some(domain)
        && tags.any(|(name, attributes)| {
            name == b"stanza-id"
                && attribute(attributes, b"by") == Some(domain)
                && attribute(attributes, b"id") == Some(id)
        })
}

/// `attributes` is what stands behind a tag's name: `name = 'value'`, and so on.
fn attribute<'a>(mut attributes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    loop {
        let equals = attributes.iter().position(|byte| *byte == b'=')?;
        let (found, rest) = attributes.split_at_checked(equals)?;
        let (quote, rest) = rest.get(1..)?.trim_ascii_start().split_first()?;
        let (text, rest) = rest.split_at_checked(rest.iter().position(|byte| byte == quote)?)?;
        if found.trim_ascii() == name {
            return Some(text);
        }
        attributes = rest.get(1..)?;
    }
}

impl Batch<'_> {
    pub(super) fn offline_sum(&mut self, id: AccountId) -> Result<Sum, Failed> {
        match self.bulk.get(OFFLINE_SUMS, &id_key(id))? {
            Some(value) => decode_sum(&value),
            None => Ok(Sum { next: 1, count: 0, bytes: 0 }),
        }
    }

    pub(super) fn put_offline(&mut self, id: AccountId, stanza: &[u8]) -> Result<(), Failed> {
        let mut sum = self.offline_sum(id)?;
        let key = under(id, &sum.next.to_be_bytes());
        sum.next = sum.next.checked_add(1).ok_or(Failed::Record("the sum of messages kept for later"))?;
        sum.count = sum.count.saturating_add(1);
        sum.bytes = sum.bytes.saturating_add(size(stanza));
        self.bulk.put(OFFLINE, &key, &Encoder::new(1).rest(stanza).done())?;
        self.bulk.put(OFFLINE_SUMS, &id_key(id), &sum.encode())
    }

    pub(super) fn remove_offline(&mut self, id: AccountId, up_to: u64) -> Result<(), Failed> {
        let (from, to) = (id_key(id), under(id, &up_to.to_be_bytes()));
        let span = (Bound::Included(from.as_slice()), Bound::Included(to.as_slice()));
        let (mut count, mut bytes) = (0_u32, 0_u64);
        self.bulk.scan(OFFLINE, span, |_, value| {
            count = count.saturating_add(1);
            bytes = bytes.saturating_add(size(value).saturating_sub(1));
            Ok(true)
        })?;
        if count == 0 {
            return Ok(());
        }
        let mut sum = self.offline_sum(id)?;
        sum.count = sum.count.saturating_sub(count);
        sum.bytes = sum.bytes.saturating_sub(bytes);
        self.bulk.remove_span(OFFLINE, span)?;
        self.bulk.put(OFFLINE_SUMS, &id_key(id), &sum.encode())
    }

    /// At least one message if there is any, however long it is.
    pub(super) fn offline(
        &mut self,
        id: AccountId,
        after: u64,
        max: u32,
        bytes: u32,
    ) -> Result<Answer, Failed> {
        let mut messages: Vec<(u64, Box<[u8]>)> = Vec::new();
        let mut more = false;
        let mut room = u64::from(bytes);
        let max = usize::try_from(max).unwrap_or(usize::MAX).max(1);
        let from = under(id, &after.to_be_bytes());
        with_span_of(id, |(_, to)| {
            self.bulk.scan(OFFLINE, (Bound::Excluded(&from), to), |key, value| {
                let stanza = Decoder::new(value, 1, WHAT)?.rest();
                if messages.len() >= max || (!messages.is_empty() && size(stanza) > room) {
                    more = true;
                    return Ok(false);
                }
                let number = key.get(8..).and_then(|number| number.try_into().ok());
                let number = u64::from_be_bytes(number.ok_or(Failed::Record(WHAT))?);
                room = room.saturating_sub(size(stanza));
                messages.push((number, stanza.into()));
                Ok(true)
            })
        })?;
        Ok(Answer::Offline { messages, more })
    }

    /// Looks through all that the account has waiting.
    pub(super) fn offline_has(&mut self, id: AccountId, by: &str, stanza_id: &str) -> Result<bool, Failed> {
        let mut has = false;
        with_span_of(id, |span| {
            self.bulk.scan(OFFLINE, span, |_, value| {
                has = carries(Decoder::new(value, 1, WHAT)?.rest(), by.as_bytes(), stanza_id.as_bytes());
                Ok(!has)
            })
        })?;
        Ok(has)
    }

    pub(super) fn all_offline(&mut self) -> Result<u64, Failed> {
        let mut count = 0_u64;
        self.bulk.scan(OFFLINE_SUMS, (Bound::Unbounded, Bound::Unbounded), |_, value| {
            count = count.saturating_add(u64::from(decode_sum(value)?.count));
            Ok(true)
        })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::carries;

    #[test]
    fn an_id_is_found_in_a_stanza_id_of_its_sender_and_nowhere_else() {
        let yes = [
            "<message from='x@a.b/@c/d'><stanza-id xmlns='urn:xmpp:sid:0' by='a.b' id='7-1'/><body>x</body></message>",
            "<message to='y' from=\"a.b\"><s:stanza-id\nid = \"7-1\" by='a.b' x='id=&apos;'/></message>",
            "<message from='x@a.b'><stanza-id id='7-2' by='a.b'/><stanza-id id='7-1' by='a.b'></stanza-id></message>",
        ];
        let no = [
            "<message from='x@a.b' id='7-1'><stanza-id by='a.b' id='7-2'/></message>",
            "<message from='x@a.b'><stanza-id by='a.b' xml:id='7-1'/><origin-id by='a.b' id='7-1'/></message>",
            "<message from='x@a.b'><body>stanza-id id='7-1'</body><stanza-id by=\"id='7-1'\"/></message>",
            "<message from='x@a.b'><stanza-id id='7-11' by='a.b'/><stanza-id id=' 7-1' by='a.b'/><stanza-id/><stanza-id id",
            "<message from='x@a.b'><stanza-id by='b' id='7-1'/><stanza-id id='7-1'/></message>",
            // Somebody else who has guessed it.
            "<message from='a.b@evil'><stanza-id by='a.b' id='7-1'/></message>",
            "<message from='evil/a.b' x='@a.b'><stanza-id by='a.b' id='7-1'/></message>",
            "<message to='x@a.b'><stanza-id by='a.b' id='7-1'/></message>",
            "<message from='a.b'><stanza-id by='a.b' id=",
            "a.b",
            "",
        ];
        for text in yes {
            assert!(carries(text.as_bytes(), b"a.b", b"7-1"), "{text}");
        }
        for text in no {
            assert!(!carries(text.as_bytes(), b"a.b", b"7-1"), "{text}");
        }
    }
}
