//! DNS messages, those of name servers and of multicast DNS (RFC 1035 §4, RFC 6762 §18): read with every bound,
//! written with compression. Of our own, because a type that nobody knows must not spoil the rest: phones ask for
//! several in one packet.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A longer message is not read (RFC 6762 §17), over TCP either: compressed names cost more than their bytes.
pub const MAX_READ: usize = 9000;
/// A longer one is not written: it fits into a frame of Ethernet, tunnels included.
pub const MAX_WRITE: usize = 1400;
/// Questions and records of one message; a house full of printers has some fifty.
pub const MAX_ITEMS: usize = 400;
/// RFC 1035 §2.3.4.
const MAX_NAME: usize = 255;
/// Pointers in one name. Each must point further back than the one before, so they end in any case.
const MAX_POINTERS: usize = 32;

/// RFC 1035 §3.2.2.
pub const A: u16 = 1;
/// RFC 1035 §3.2.2.
pub const CNAME: u16 = 5;
/// RFC 1035 §3.2.2.
pub const SOA: u16 = 6;
/// RFC 1035 §3.2.2.
pub const PTR: u16 = 12;
/// RFC 1035 §3.2.2.
pub const TXT: u16 = 16;
/// RFC 3596 §2.1.
pub const AAAA: u16 = 28;
/// RFC 2782.
pub const SRV: u16 = 33;
/// RFC 4034 §4.1, as RFC 6762 §6.1 uses it.
pub const NSEC: u16 = 47;
/// RFC 1035 §3.2.3.
pub const ANY: u16 = 255;

const IN: u16 = 1;
/// Cache flush in a record, unicast response in a question (RFC 6762 §18.12, §18.13).
const TOP: u16 = 0x8000;

/// The flags (RFC 1035 §4.1.1).
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const AUTHORITATIVE: u16 = 0x0400;
const RECURSION: u16 = 0x0100;
const RCODE: u16 = 0x000f;

/// A name as it goes over the wire, uncompressed; equal whatever the case (RFC 6762 §16).
#[derive(Clone, Debug, Eq)]
pub struct Name(Vec<u8>);

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        // No length of a label is an ASCII letter.
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Name {
    /// Of these labels; those that are empty or too long are left out or cut.
    pub fn new<'l>(labels: impl IntoIterator<Item = &'l [u8]>) -> Name {
        let mut bytes = Vec::new();
        for label in labels {
            let label = label.get(..63).unwrap_or(label);
            if !label.is_empty() && bytes.len() + label.len() + 2 <= MAX_NAME {
                bytes.push(label.len() as u8);
                bytes.extend_from_slice(label);
            }
        }
        bytes.push(0);
        Name(bytes)
    }

    /// Of text with dots.
    pub fn of(text: &str) -> Name {
        Name::new(text.split('.').map(str::as_bytes))
    }

    /// This name under another one's.
    pub fn under(label: &[u8], parent: &Name) -> Name {
        Name::new(std::iter::once(label).chain(parent.labels()))
    }

    /// Its labels.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (len, more) = rest.split_first()?;
            let label = more.get(..usize::from(*len)).filter(|label| !label.is_empty())?;
            rest = more.get(label.len()..)?;
            Some(label)
        })
    }

    /// Whether it has no labels.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The label before `parent`, if it is one label under it.
    pub fn label_under(&self, parent: &Name) -> Option<&[u8]> {
        let first = self.labels().next()?;
        let rest = self.0.get(first.len() + 1..)?;
        rest.eq_ignore_ascii_case(&parent.0).then_some(first)
    }

    /// A host's name as text in lower case; `None` for what could not be one.
    pub fn host(&self) -> Option<String> {
        let mut out = String::new();
        for label in self.labels() {
            if !out.is_empty() {
                out.push('.');
            }
            for byte in label {
                if !byte.is_ascii_alphanumeric() && *byte != b'-' && *byte != b'_' {
                    return None;
                }
                out.push(char::from(byte.to_ascii_lowercase()));
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name.
    Ptr(Name),
    /// The name that this one stands for.
    Cname(Name),
    /// Where a service is.
    Srv {
        /// Lower ones first.
        priority: u16,
        /// The odds among equals.
        weight: u16,
        /// Its port.
        port: u16,
        /// Its host.
        target: Name,
    },
    /// Strings, each with its length before it.
    Txt(Vec<u8>),
    /// The types below 256 that a name has, and no others.
    Nsec(Name, Vec<u16>),
    /// Anything else.
    Other(u16, Vec<u8>),
}

impl Data {
    /// Its type.
    pub fn kind(&self) -> u16 {
        match self {
            Data::A(_) => A,
            Data::Aaaa(_) => AAAA,
            Data::Ptr(_) => PTR,
            Data::Cname(_) => CNAME,
            Data::Srv { .. } => SRV,
            Data::Txt(_) => TXT,
            Data::Nsec(..) => NSEC,
            Data::Other(kind, _) => *kind,
        }
    }

    /// Uncompressed, as probes are compared (RFC 6762 §8.2).
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Data::A(ip) => ip.octets().to_vec(),
            Data::Aaaa(ip) => ip.octets().to_vec(),
            Data::Ptr(name) | Data::Cname(name) => name.0.clone(),
            Data::Srv { priority, weight, port, target } => {
                let mut out = [priority, weight, port].map(|word| word.to_be_bytes()).concat();
                out.extend_from_slice(&target.0);
                out
            }
            Data::Txt(bytes) | Data::Other(_, bytes) => bytes.clone(),
            Data::Nsec(name, kinds) => {
                let mut out = name.0.clone();
                let mut bits = [0u8; 32];
                for kind in kinds {
                    if let Some(byte) = bits.get_mut(usize::from(*kind) / 8) {
                        *byte |= 0x80 >> (*kind % 8);
                    }
                }
                let len = bits.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
                out.extend_from_slice(&[0, len as u8]);
                out.extend(bits.iter().take(len));
                out
            }
        }
    }
}

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose.
    pub name: Name,
    /// No other record of this name and type holds any more (RFC 6762 §10.2).
    pub flush: bool,
    /// Seconds to keep it.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// About which name.
    pub name: Name,
    /// Which type.
    pub kind: u16,
    /// The answer may go to the one who asks alone (RFC 6762 §5.4).
    pub unicast: bool,
}

/// A message, of which only what is of class IN is kept.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// To be repeated to one who does not speak multicast DNS.
    pub id: u16,
    /// A response; otherwise a query.
    pub response: bool,
    /// More known answers follow (RFC 6762 §7.2); from a name server, more than fits.
    pub truncated: bool,
    /// What went wrong; 0 is nothing.
    pub rcode: u16,
    /// What is asked.
    pub questions: Vec<Question>,
    /// Answers; in a query what is known already.
    pub answers: Vec<Record>,
    /// What somebody who probes is about to claim; from a name server, whose the name is.
    pub authority: Vec<Record>,
    /// What goes along.
    pub additional: Vec<Record>,
}

/// Reads a message. `None`: malformed, too large, or of another kind than these (RFC 6762 §18.3).
pub fn read(bytes: &[u8]) -> Option<Message> {
    if bytes.len() > MAX_READ {
        return None;
    }
    let mut cursor = Cursor { bytes, at: 0 };
    let (id, flags) = (cursor.word()?, cursor.word()?);
    if flags & OPCODE != 0 {
        return None;
    }
    let mut counts = [0usize; 4];
    for count in &mut counts {
        *count = usize::from(cursor.word()?);
    }
    let [questions, answers, authority, additional] = counts;
    if counts.iter().sum::<usize>() > MAX_ITEMS {
        return None;
    }
    let mut message = Message {
        id,
        response: flags & RESPONSE != 0,
        truncated: flags & TRUNCATED != 0,
        rcode: flags & RCODE,
        ..Message::default()
    };
    for _ in 0..questions {
        let (name, kind, class) = (cursor.name()?, cursor.word()?, cursor.word()?);
        if matches!(class & !TOP, IN | ANY) {
            message.questions.push(Question { name, kind, unicast: class & TOP != 0 });
        }
    }
    message.answers = cursor.records(answers)?;
    message.authority = cursor.records(authority)?;
    message.additional = cursor.records(additional)?;
    Some(message)
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn name(&mut self) -> Option<Name> {
        let mut name = Vec::new();
        // Where to go on behind the first pointer, and what the next must be before.
        let (mut back, mut before, mut pointers) = (None, self.at, 0);
        loop {
            let len = self.byte()?;
            match len {
                0 => break,
                1..=63 => {
                    name.push(len);
                    name.extend_from_slice(self.take(usize::from(len))?);
                    if name.len() >= MAX_NAME {
                        return None;
                    }
                }
                0xc0.. => {
                    let to = usize::from(len & 0x3f) << 8 | usize::from(self.byte()?);
                    pointers += 1;
                    if to >= before || pointers > MAX_POINTERS {
                        return None;
                    }
                    back = back.or(Some(self.at));
                    (before, self.at) = (to, to);
                }
                _ => return None,
            }
        }
        if let Some(back) = back {
            self.at = back;
        }
        name.push(0);
        Some(Name(name))
    }

    fn records(&mut self, count: usize) -> Option<Vec<Record>> {
        let mut all = Vec::new();
        for _ in 0..count {
            let (name, kind, class) = (self.name()?, self.word()?, self.word()?);
            let ttl = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
            let len = usize::from(self.word()?);
            let start = self.at;
            let raw = self.take(len)?;
            // Names in it may point back to the whole message, but its end is its end.
            let mut inner = Cursor { bytes: self.bytes.get(..self.at)?, at: start };
            let data = match kind {
                A => Data::A(<[u8; 4]>::try_from(raw).ok()?.into()),
                AAAA => Data::Aaaa(<[u8; 16]>::try_from(raw).ok()?.into()),
                PTR => Data::Ptr(inner.name()?),
                CNAME => Data::Cname(inner.name()?),
                SRV => Data::Srv {
                    priority: inner.word()?,
                    weight: inner.word()?,
                    port: inner.word()?,
                    target: inner.name()?,
                },
                TXT => Data::Txt(raw.to_vec()),
                _ => Data::Other(kind, raw.to_vec()),
            };
            if class & !TOP == IN {
                all.push(Record { name, flush: class & TOP != 0, ttl, data });
            }
        }
        Some(all)
    }
}

/// The strings of a TXT record: key, and value if there is one (RFC 6763 §6).
pub fn attributes(txt: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = txt;
    std::iter::from_fn(move || {
        loop {
            let (len, more) = rest.split_first()?;
            let one = more.get(..usize::from(*len))?;
            rest = more.get(one.len()..)?;
            let Some(at) = one.iter().position(|b| *b == b'=') else { continue };
            return Some((one.get(..at)?, one.get(at + 1..)?));
        }
    })
}

/// The parts of a message, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// Answers.
    Answer = 1,
    /// What a probe proposes.
    Authority,
    /// What goes along.
    Additional,
}

/// A message that is being written. What is too much is refused, and leaves no trace.
pub struct Writer {
    bytes: Vec<u8>,
    counts: [u16; 4],
    /// Names that can be pointed to, with their places.
    known: Vec<(Vec<u8>, u16)>,
}

impl Writer {
    /// A query.
    pub fn query() -> Writer {
        Writer { bytes: vec![0; 12], counts: [0; 4], known: Vec::new() }
    }

    /// A response; `id` is 0 except to one who does not speak multicast DNS (RFC 6762 §18.1).
    pub fn response(id: u16) -> Writer {
        let mut writer = Writer::query();
        writer.set(0, id);
        writer.set(2, RESPONSE | AUTHORITATIVE);
        writer
    }

    /// For one who wants to know his answer again (RFC 6762 §6.7, RFC 5452 §4.3).
    pub fn id(&mut self, id: u16) {
        self.set(0, id);
    }

    fn set(&mut self, at: usize, word: u16) {
        for (to, byte) in self.bytes.iter_mut().skip(at).zip(word.to_be_bytes()) {
            *to = byte;
        }
    }

    fn word(&mut self, word: u16) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    fn name(&mut self, name: &Name) {
        let mut rest = name.0.as_slice();
        while let Some((len, more)) = rest.split_first() {
            if *len == 0 {
                break;
            }
            if let Some((_, at)) = self.known.iter().find(|(known, _)| known == rest) {
                let at = *at;
                return self.word(0xc000 | at);
            }
            if let Ok(at @ ..0x4000) = u16::try_from(self.bytes.len()) {
                self.known.push((rest.to_vec(), at));
            }
            let end = usize::from(*len);
            self.bytes.push(*len);
            self.bytes.extend_from_slice(more.get(..end).unwrap_or_default());
            rest = more.get(end..).unwrap_or_default();
        }
        self.bytes.push(0);
    }

    /// Keeps what was written since, if it is not too much; counts it.
    fn keep(&mut self, (bytes, known): (usize, usize), section: usize) -> bool {
        if self.bytes.len() > MAX_WRITE {
            self.bytes.truncate(bytes);
            self.known.truncate(known);
            return false;
        }
        if let Some(count) = self.counts.get_mut(section) {
            *count = count.saturating_add(1);
        }
        true
    }

    /// A question; all of them come first.
    pub fn question(&mut self, question: &Question) -> bool {
        let mark = (self.bytes.len(), self.known.len());
        self.name(&question.name);
        self.word(question.kind);
        self.word(IN | if question.unicast { TOP } else { 0 });
        self.keep(mark, 0)
    }

    /// A record; sections come in their order.
    pub fn record(&mut self, section: Section, record: &Record) -> bool {
        let mark = (self.bytes.len(), self.known.len());
        self.name(&record.name);
        self.word(record.data.kind());
        self.word(IN | if record.flush { TOP } else { 0 });
        self.bytes.extend_from_slice(&record.ttl.to_be_bytes());
        let at = self.bytes.len();
        self.word(0);
        match &record.data {
            Data::Ptr(name) => self.name(name),
            // The target of a SRV is not compressed: those who speak only unicast DNS could not read it.
            other => self.bytes.extend(other.bytes()),
        }
        let len = self.bytes.len().saturating_sub(at + 2);
        self.set(at, u16::try_from(len).unwrap_or(u16::MAX));
        self.keep(mark, section as usize)
    }

    /// Says that more follows (RFC 6762 §7.2).
    pub fn truncate(&mut self) {
        self.set(2, TRUNCATED);
    }

    /// Asks a name server to ask others (RFC 1035 §4.1.1).
    pub fn recurse(&mut self) {
        self.set(2, RECURSION);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.counts == [0; 4]
    }

    /// The message.
    pub fn finish(mut self) -> Vec<u8> {
        for (number, count) in self.counts.into_iter().enumerate() {
            self.set(4 + number * 2, count);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, data: Data) -> Record {
        Record { name: Name::of(name), flush: true, ttl: 120, data }
    }

    #[test]
    fn what_is_written_is_read() {
        let all = [
            record("pi.local", Data::A([192, 0, 2, 1].into())),
            record("pi.local", Data::Aaaa("fe80::1".parse().unwrap())),
            record("_x._tcp.local", Data::Ptr(Name::of("pi._x._tcp.local"))),
            record(
                "pi._x._tcp.local",
                Data::Srv { priority: 1, weight: 2, port: 5269, target: Name::of("pi.local") },
            ),
            record("www.local", Data::Cname(Name::of("pi.local"))),
            record("pi._x._tcp.local", Data::Txt(b"\x03v=1".to_vec())),
        ];
        let mut writer = Writer::response(0);
        for record in &all {
            assert!(writer.record(Section::Answer, record));
        }
        let bytes = writer.finish();
        // Names are written once; only those of the SRV's target and of CNAME are not compressed.
        assert_eq!(bytes.windows(6).filter(|w| w == b"\x05local").count(), 3);
        let message = read(&bytes).unwrap();
        assert!(message.response && !message.truncated);
        assert_eq!(message.answers, all);
        assert_eq!(Name::of("PI.local"), Name::of("pi.LOCAL"));
        assert_eq!(Name::of("pi._x._tcp.local").label_under(&Name::of("_x._tcp.local")), Some(&b"pi"[..]));
        assert_eq!(Name::of("a.pi._x._tcp.local").label_under(&Name::of("_x._tcp.local")), None);
    }

    #[test]
    fn a_message_that_is_full_takes_no_more_and_stays_whole() {
        let mut writer = Writer::response(7);
        let mut taken = 0;
        while writer.record(Section::Answer, &record(&format!("n{taken}.local"), Data::Txt(vec![0; 90]))) {
            taken += 1;
        }
        assert!((10..20).contains(&taken));
        let bytes = writer.finish();
        assert!(bytes.len() <= MAX_WRITE);
        assert_eq!(read(&bytes).unwrap().answers.len(), taken);
    }

    #[test]
    fn loops_ends_and_lies_are_refused() {
        let header = |counts: [u8; 4]| {
            let mut bytes = vec![0, 0, 0x84, 0];
            counts.iter().for_each(|c| bytes.extend([0, *c]));
            bytes
        };
        let with = |counts, rest: &[u8]| [header(counts).as_slice(), rest].concat();
        assert!(read(&[]).is_none());
        assert!(read(&[0; 11]).is_none());
        assert!(read(&header([0; 4])).is_some());
        assert!(read(&header([1, 0, 0, 0])).is_none());
        // To itself, forwards, and two that point at each other.
        for pointer in [12u8, 14, 200] {
            assert!(read(&with([1, 0, 0, 0], &[0xc0, pointer, 0, 1, 0, 1])).is_none());
        }
        assert!(read(&with([2, 0, 0, 0], &[0xc0, 18, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1])).is_none());
        // A label of a kind that nobody uses; a name that grows too long by pointing.
        assert!(read(&with([1, 0, 0, 0], &[0x40, 0, 0, 1, 0, 1])).is_none());
        // An address of three bytes, and a name that runs out of its record.
        assert!(read(&with([0, 1, 0, 0], &[0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 3, 1, 2, 3])).is_none());
        assert!(read(&with([0, 1, 0, 0], &[0, 0, 12, 0, 1, 0, 0, 0, 9, 0, 2, 1, 97, 0])).is_none());
        let many = [header([0, 0, 0, 0]), vec![0; MAX_READ]].concat();
        assert!(read(&many).is_none());
        // A type that nobody knows does not spoil the others.
        let other = [0, 0xff, 0, 0, 1, 0, 0, 0, 9, 0, 1, 7];
        assert_eq!(read(&with([0, 1, 0, 0], &other)).unwrap().answers.len(), 1);
        assert_eq!(attributes(b"\x03a=1\x01x\x02b=\x09c=").count(), 2);
    }
}
