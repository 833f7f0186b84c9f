//! Messages for remote domains that can't be reached, in the order they came, each pair of domains for itself.

use super::batch::Batch;
use super::change::{Answer, Forwards};
use super::failed::Failed;
use super::record::{Decoder, Encoder, key_text};
use super::schema::{FORWARD, FORWARD_SUMS, pair_key};
use std::ops::Bound;

const WHAT: &str = "a message for a remote domain";
const SUM: &str = "the sum of messages for a remote domain";
/// Of the row that has the next number; no pair's key is empty.
const NEXT: &[u8] = b"";
/// The first number: there is room before it.
pub(super) const FIRST: u64 = 1 << 32;

/// What is known of a pair's messages without looking at them.
#[derive(Default)]
pub(super) struct Sum {
    count: u32,
    bytes: u64,
}

pub(super) fn decode_sum(value: &[u8]) -> Result<Sum, Failed> {
    let mut decoder = Decoder::new(value, 1, SUM)?;
    let sum = Sum { count: decoder.u32()?, bytes: decoder.u64()? };
    decoder.end()?;
    Ok(sum)
}

/// A message's time and stanza.
pub(super) fn decode(value: &[u8]) -> Result<(u64, &[u8]), Failed> {
    let mut decoder = Decoder::new(value, 1, WHAT)?;
    Ok((decoder.u64()?, decoder.rest()))
}

/// The pair of a key of `forward_sums`.
pub(super) fn decode_pair(key: &[u8]) -> Result<[Box<str>; 2], Failed> {
    fn first(key: &[u8]) -> Result<(&[u8], &[u8]), Failed> {
        let (length, rest) = key.split_first_chunk().ok_or(Failed::Record(SUM))?;
        rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(Failed::Record(SUM))
    }
    let (local, rest) = first(key)?;
    match first(rest)? {
        (remote, []) => Ok([key_text(local, SUM)?, key_text(remote, SUM)?]),
        _ => Err(Failed::Record(SUM)),
    }
}

fn numbered(pair: &[u8], number: u64) -> Vec<u8> {
    [pair, &number.to_be_bytes()].concat()
}

fn size(stanza: &[u8]) -> u64 {
    u64::try_from(stanza.len()).unwrap_or(u64::MAX)
}

impl Batch<'_> {
    fn forward_sum(&mut self, pair: &[u8]) -> Result<Sum, Failed> {
        match self.bulk.get(FORWARD_SUMS, pair)? {
            Some(value) => decode_sum(&value),
            None => Ok(Sum::default()),
        }
    }

    fn put_forward_sum(&mut self, pair: &[u8], sum: &Sum) -> Result<(), Failed> {
        if sum.count == 0 {
            return self.bulk.remove(FORWARD_SUMS, pair).map(drop);
        }
        self.bulk.put(FORWARD_SUMS, pair, &Encoder::new(1).u32(sum.count).u64(sum.bytes).done())
    }

    /// A number before all that the pair has, if it has any.
    fn forward_before(&mut self, pair: &[u8]) -> Result<Option<u64>, Failed> {
        let (from, to) = (numbered(pair, 0), numbered(pair, u64::MAX));
        let mut before = None;
        self.bulk.scan(FORWARD, (Bound::Included(&from), Bound::Included(&to)), |key, _| {
            let number = key.last_chunk().copied().map(u64::from_be_bytes).ok_or(Failed::Record(WHAT))?;
            before = number.checked_sub(1).filter(|number| *number > 0);
            Ok(false)
        })?;
        Ok(before)
    }

    /// A number that no message had.
    fn next_forward(&mut self) -> Result<u64, Failed> {
        let next = match self.bulk.get(FORWARD_SUMS, NEXT)? {
            None => FIRST,
            Some(value) => {
                let mut decoder = Decoder::new(&value, 1, SUM)?;
                let next = decoder.u64()?;
                decoder.end()?;
                next.max(FIRST)
            }
        };
        let after = next.checked_add(1).ok_or(Failed::Record(SUM))?;
        self.bulk.put(FORWARD_SUMS, NEXT, &Encoder::new(1).u64(after).done())?;
        Ok(next)
    }

    pub(super) fn put_forward(
        &mut self,
        local: &str,
        remote: &str,
        first: bool,
        time: u64,
        stanza: &[u8],
    ) -> Result<(), Failed> {
        let pair = pair_key(local, remote);
        let mut sum = self.forward_sum(&pair)?;
        sum.count = sum.count.saturating_add(1);
        sum.bytes = sum.bytes.saturating_add(size(stanza));
        let before = if first { self.forward_before(&pair)? } else { None };
        let number = before.map_or_else(|| self.next_forward(), Ok)?;
        let key = numbered(&pair, number);
        self.bulk.put(FORWARD, &key, &Encoder::new(1).u64(time).rest(stanza).done())?;
        self.put_forward_sum(&pair, &sum)
    }

    pub(super) fn remove_forward(&mut self, local: &str, remote: &str, up_to: u64) -> Result<(), Failed> {
        let pair = pair_key(local, remote);
        let (from, to) = (numbered(&pair, 0), numbered(&pair, up_to));
        let span = (Bound::Included(from.as_slice()), Bound::Included(to.as_slice()));
        let (mut count, mut bytes) = (0_u32, 0_u64);
        self.bulk.scan(FORWARD, span, |_, value| {
            count = count.saturating_add(1);
            bytes = bytes.saturating_add(size(decode(value)?.1));
            Ok(true)
        })?;
        if count == 0 {
            return Ok(());
        }
        let mut sum = self.forward_sum(&pair)?;
        sum.count = sum.count.saturating_sub(count);
        sum.bytes = sum.bytes.saturating_sub(bytes);
        self.bulk.remove_span(FORWARD, span)?;
        self.put_forward_sum(&pair, &sum)
    }

    /// At least one message if there is any, however long it is.
    pub(super) fn forward(
        &mut self,
        local: &str,
        remote: &str,
        after: u64,
        max: u32,
        bytes: u32,
    ) -> Result<Answer, Failed> {
        let pair = pair_key(local, remote);
        let mut messages: Vec<(u64, u64, Box<[u8]>)> = Vec::new();
        let mut more = false;
        let mut room = u64::from(bytes);
        let max = usize::try_from(max).unwrap_or(usize::MAX).max(1);
        let (from, to) = (numbered(&pair, after), numbered(&pair, u64::MAX));
        self.bulk.scan(FORWARD, (Bound::Excluded(&from), Bound::Included(&to)), |key, value| {
            let (time, stanza) = decode(value)?;
            if messages.len() >= max || (!messages.is_empty() && size(stanza) > room) {
                more = true;
                return Ok(false);
            }
            let number = key.last_chunk().copied().map(u64::from_be_bytes).ok_or(Failed::Record(WHAT))?;
            room = room.saturating_sub(size(stanza));
            messages.push((number, time, stanza.into()));
            Ok(true)
        })?;
        Ok(Answer::Forward { messages, more })
    }

    pub(super) fn forwards(&mut self) -> Result<Vec<Forwards>, Failed> {
        let mut all = Vec::new();
        self.bulk.scan(FORWARD_SUMS, (Bound::Excluded(NEXT), Bound::Unbounded), |pair, value| {
            let [local, remote] = decode_pair(pair)?;
            let Sum { count, bytes } = decode_sum(value)?;
            all.push(Forwards { local, remote, count, bytes, oldest: 0 });
            Ok(true)
        })?;
        for waiting in &mut all {
            let pair = pair_key(&waiting.local, &waiting.remote);
            let (from, to) = (numbered(&pair, 0), numbered(&pair, u64::MAX));
            self.bulk.scan(FORWARD, (Bound::Included(&from), Bound::Included(&to)), |_, value| {
                waiting.oldest = decode(value)?.0;
                Ok(false)
            })?;
        }
        Ok(all)
    }

    pub(super) fn all_forward(&mut self) -> Result<u64, Failed> {
        let mut count = 0_u64;
        self.bulk.scan(FORWARD_SUMS, (Bound::Excluded(NEXT), Bound::Unbounded), |_, value| {
            count = count.saturating_add(u64::from(decode_sum(value)?.count));
            Ok(true)
        })?;
        Ok(count)
    }
}
