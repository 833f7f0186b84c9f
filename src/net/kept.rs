//! XEP-0198: what was said to the other side and not acknowledged yet. The bytes stay in the outbox;
//! here is what they mean: where each stanza ends, and how many there were.

use crate::stream::management::{self, TooHigh};
use crate::xml::{Frame, Framer};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// So often a stanza that was not acknowledged is sent again; who still does not take it will not (threats A9).
const TRIES: u8 = 3;

/// The bookkeeping of an outbox whose stanzas are acknowledged. All places are in the outbox's bytes. `T` is what
/// is to be done when a stanza is acknowledged.
pub struct Kept<T> {
    /// The stanzas heard from the other side; their count is the reader's.
    pub inbound: Rc<Cell<u32>>,
    /// What the other side may resume it by.
    pub id: Option<u128>,
    /// Before this all is acknowledged, or was never to be counted.
    pub front: usize,
    /// The lengths of the stanzas behind `front`, each with the nonzas before it.
    lengths: VecDeque<u32>,
    /// The end of the last of them.
    whole: usize,
    /// The end of what was looked at.
    walked: usize,
    /// The number of the last stanza that was acknowledged.
    acknowledged: u64,
    /// The number of the last one that was written on a connection that is gone.
    sent: u64,
    /// The number of the last one that was given to the hub to be saved.
    saved: u64,
    /// An `<r/>` is written that has not been answered.
    asked: bool,
    /// What is due when the stanza of that number is acknowledged.
    taken: VecDeque<(u64, T)>,
    /// The stanza that stood first when the other side came back, and how often it did.
    tried: (u64, u8),
}

impl<T> Kept<T> {
    /// Starts counting behind `front`.
    pub fn from(front: usize) -> Kept<T> {
        Kept {
            inbound: Rc::default(),
            id: None,
            front,
            lengths: VecDeque::new(),
            whole: front,
            walked: front,
            acknowledged: 0,
            sent: 0,
            saved: 0,
            asked: false,
            taken: VecDeque::new(),
            tried: (0, 0),
        }
    }

    /// The same bytes, but for the nonzas, on another connection behind `front` others.
    pub fn moved(&mut self, front: usize) {
        (self.front, self.whole, self.walked) = (front, front, front);
        self.lengths.clear();
        self.asked = false;
    }

    /// All is acknowledged and written, and the bytes are gone.
    pub fn moved_clean(&mut self) {
        let asked = self.asked;
        self.moved(0);
        self.asked = asked;
    }

    /// A new count: what the other side has not acknowledged is new to it.
    pub fn anew(&mut self) {
        for (mark, _) in &mut self.taken {
            *mark = mark.saturating_sub(self.acknowledged);
        }
        (self.acknowledged, self.sent, self.saved, self.tried) = (0, 0, 0, (0, 0));
        self.inbound = Rc::default();
        self.id = None;
    }

    /// Looks at what was added.
    pub fn walk(&mut self, bytes: &[u8]) {
        let Kept { lengths, whole, walked, .. } = self;
        each_stanza(bytes.get(*walked..).unwrap_or_default(), |frame| {
            *walked += frame.len();
            if is_stanza(frame) {
                lengths.push_back(u32::try_from(*walked - *whole).unwrap_or(u32::MAX));
                *whole = *walked;
            }
            true
        });
    }

    /// Whether nothing waits to be acknowledged, as far as was looked.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// How many were acknowledged, if more were not.
    pub fn unacknowledged(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.acknowledged)
    }

    /// Appends `<r/>` if there is something to ask for and nothing is asked.
    pub fn request(&mut self, bytes: &mut Vec<u8>) {
        self.walk(bytes);
        if !self.asked && !self.lengths.is_empty() {
            self.asked = true;
            management::request(bytes);
        }
    }

    /// Keeps `then` until all stanzas are acknowledged that are in `bytes`, or gives it back.
    pub fn when_taken(&mut self, bytes: &[u8], then: T) -> Option<T> {
        self.walk(bytes);
        if self.lengths.is_empty() {
            return Some(then);
        }
        self.taken.push_back((self.acknowledged + self.lengths.len() as u64, then));
        None
    }

    /// The number of the last stanza that was written, when `sent` bytes are.
    fn last_sent(&self, sent: usize) -> u64 {
        let mut end = self.front;
        let written = self.lengths.iter().take_while(|n| {
            end = end.saturating_add(**n as usize);
            end <= sent
        });
        (self.acknowledged + written.count() as u64).max(self.sent)
    }

    /// The hub has saved what there is, or nothing of it.
    pub fn save(&mut self, bytes: &[u8], all: bool) {
        self.walk(bytes);
        self.saved = if all { self.acknowledged + self.lengths.len() as u64 } else { 0 };
    }

    /// How many of those that are not acknowledged the hub has saved.
    pub fn saved(&self) -> u32 {
        u32::try_from(self.saved.saturating_sub(self.acknowledged)).unwrap_or(u32::MAX)
    }

    /// The connection is gone on which `sent` bytes were written.
    pub fn lost(&mut self, bytes: &[u8], sent: usize) {
        self.walk(bytes);
        self.sent = self.last_sent(sent);
    }

    /// The other side has handled `h` stanzas. Says how many are new of them.
    pub fn acknowledge(
        &mut self,
        h: u32,
        bytes: &[u8],
        sent: usize,
        due: &mut Vec<T>,
    ) -> Result<usize, TooHigh> {
        self.walk(bytes);
        let more = h.wrapping_sub(self.acknowledged as u32);
        let last = self.last_sent(sent);
        if u64::from(more) > last - self.acknowledged {
            return Err(TooHigh { h, send_count: last as u32 });
        }
        for length in self.lengths.drain(..(more as usize).min(self.lengths.len())) {
            self.front += length as usize;
        }
        self.acknowledged += u64::from(more);
        self.asked = false;
        self.fulfil(due);
        Ok(more as usize)
    }

    fn fulfil(&mut self, due: &mut Vec<T>) {
        while self.taken.front().is_some_and(|(mark, _)| *mark <= self.acknowledged) {
            due.extend(self.taken.pop_front().map(|(_, then)| then));
        }
    }

    /// `count` bytes were cut off in front.
    pub fn cut(&mut self, count: usize) {
        self.front = self.front.saturating_sub(count);
        self.whole = self.whole.saturating_sub(count);
        self.walked = self.walked.saturating_sub(count);
    }

    /// The other side has come back. If the first stanza has stood there too often, it is left out: the length
    /// of it (threats A9).
    pub fn come_back(&mut self, bytes: &[u8], due: &mut Vec<T>) -> Option<usize> {
        self.walk(bytes);
        let first = self.acknowledged + 1;
        // What was not even written has done no harm.
        if self.lengths.is_empty() || self.sent < first {
            return None;
        }
        if self.tried.0 != first {
            self.tried = (first, 0);
        }
        if self.tried.1 < TRIES {
            self.tried.1 += 1;
            return None;
        }
        let length = self.lengths.pop_front()? as usize;
        self.front += length;
        // The others move up: the other side counts what it gets.
        self.sent -= 1;
        self.saved = self.saved.saturating_sub(u64::from(self.saved > self.acknowledged));
        for (mark, _) in &mut self.taken {
            *mark -= u64::from(*mark > self.acknowledged);
        }
        self.fulfil(due);
        self.tried = (0, 0);
        Some(length)
    }

    /// All that still waits for an acknowledgement that never comes.
    pub fn give_up(&mut self) -> impl Iterator<Item = T> {
        std::mem::take(&mut self.taken).into_iter().map(|(_, then)| then)
    }
}

/// Whether a first-level element that we have written is counted: nonzas are not (XEP-0198 §4).
pub fn is_stanza(frame: &[u8]) -> bool {
    let name = frame.get(1..).unwrap_or_default();
    let end = name.iter().position(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>'));
    let name = name.get(..end.unwrap_or(name.len())).unwrap_or_default();
    let local = name.rsplit(|b| *b == b':').next().unwrap_or_default();
    matches!(local, b"message" | b"presence" | b"iq")
}

/// Walks over whole stanzas for as long as `each` says so.
pub fn each_stanza(bytes: &[u8], mut each: impl FnMut(&[u8]) -> bool) {
    let mut framer = Framer::new(usize::MAX, u16::MAX);
    let _ = framer.next(b"<stream>"); // it wants a header first
    let mut rest = bytes;
    while let Ok(Some(frame)) = framer.next(rest) {
        let Some((stanza, behind)) = rest.split_at_checked(frame.split().1) else { return };
        if !matches!(frame, Frame::Element(_)) || !each(stanza) {
            return;
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: &[u8] = b"<message><body>x</body></message>";

    #[test]
    fn counts_stanzas_and_nothing_else() {
        for yes in ["<message/>", "<iq type='get'>", "<presence>", "<x:iq xmlns:x='a'/>"] {
            assert!(is_stanza(yes.as_bytes()), "{yes}");
        }
        for no in ["<r xmlns='urn:xmpp:sm:3'/>", "<a h='1'/>", "<db:result/>", "<iqx/>", "<", ""] {
            assert!(!is_stanza(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn drops_what_is_acknowledged() {
        let mut bytes = b"before".to_vec();
        let mut kept = Kept::<u8>::from(bytes.len());
        kept.request(&mut bytes);
        assert_eq!(bytes, b"before", "nothing to ask for");
        for _ in 0..3 {
            bytes.extend_from_slice(M);
            bytes.extend_from_slice(b"<a xmlns='urn:xmpp:sm:3' h='0'/>");
        }
        kept.request(&mut bytes);
        kept.request(&mut bytes);
        assert_eq!(bytes.len(), 6 + 3 * (M.len() + 32) + 26, "asked once");
        let mut due = Vec::new();
        let sent = 6 + M.len() + 32 + M.len(); // two of them
        assert_eq!(kept.acknowledge(3, &bytes, sent, &mut due), Err(TooHigh { h: 3, send_count: 2 }));
        assert_eq!(
            kept.acknowledge(u32::MAX, &bytes, sent, &mut due),
            Err(TooHigh { h: u32::MAX, send_count: 2 })
        );
        assert_eq!(kept.acknowledge(2, &bytes, sent, &mut due), Ok(2));
        assert_eq!(kept.front, sent);
        assert_eq!(kept.acknowledge(2, &bytes, bytes.len(), &mut due), Ok(0));
        assert_eq!(kept.acknowledge(3, &bytes, bytes.len(), &mut due), Ok(1));
        assert!(kept.is_empty());
    }

    #[test]
    fn the_count_wraps() {
        let mut kept =
            Kept { acknowledged: u64::from(u32::MAX), sent: u64::from(u32::MAX), ..Kept::<u8>::from(0) };
        let bytes = [M, M].concat();
        let mut due = Vec::new();
        assert_eq!(kept.acknowledge(1, &bytes, bytes.len(), &mut due), Ok(2));
        assert_eq!(kept.acknowledged, (1 << 32) + 1);
    }

    #[test]
    fn tells_when_it_is_acknowledged() {
        let mut due = Vec::new();
        let mut kept = Kept::from(0);
        assert!(kept.when_taken(b"", 0).is_some());
        let bytes = [M, M, M].concat();
        assert!(kept.when_taken(&bytes[..M.len() * 2], 2).is_none());
        assert!(kept.when_taken(&bytes, 3).is_none());
        kept.acknowledge(1, &bytes, bytes.len(), &mut due).unwrap();
        assert!(due.is_empty());
        kept.acknowledge(2, &bytes, bytes.len(), &mut due).unwrap();
        assert_eq!(due, [2]);
        assert_eq!(kept.give_up().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn poison_goes_after_three_times() {
        let mut due = Vec::new();
        let mut bytes = [M, b"<iq/>"].concat();
        let mut kept = Kept::from(0);
        assert!(kept.when_taken(&bytes, 1).is_none());
        for _ in 0..3 {
            kept.lost(&bytes, bytes.len());
            kept.moved(0);
            assert_eq!(kept.come_back(&bytes, &mut due), None);
        }
        kept.lost(&bytes, bytes.len());
        kept.moved(0);
        assert_eq!(kept.come_back(&bytes, &mut due), Some(M.len()));
        bytes.drain(..M.len());
        kept.cut(M.len());
        assert!(due.is_empty());
        // The other side has seen one stanza since.
        assert_eq!(kept.acknowledge(1, &bytes, bytes.len(), &mut due), Ok(1));
        assert_eq!(due, [1]);
    }
}
