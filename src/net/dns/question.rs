//! One question to one server, and what counts as its answer.
//!
//! An answer counts if it comes from the server that was asked (the socket is connected), to a fresh
//! port, with the random id and the very question (RFC 5452 §4.5, §9).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use async_io::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::{self, Data, Message, Name, Question, Writer};
use super::{MAX_CNAMES, MAX_RECORDS, Reason};

/// Datagrams that are not our answer, before we stop listening on that port.
const MAX_STRANGERS: usize = 64;

/// What we read of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Srv { priority: u16, weight: u16, port: u16, host: String },
    Address(IpAddr),
}

impl Record {
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Record::Address(ip) => Some(*ip),
            Record::Srv { .. } => None,
        }
    }
}

/// What a server has said, and for how many seconds it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) answer: Result<Answer, Reason>,
    pub(super) ttl: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Records(Vec<Record>),
    /// A CNAME whose own records the server left out.
    Elsewhere(Name),
}

/// What a message is to the one who asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Not the answer to this question: forged, late, or broken.
    Stranger,
    Truncated,
    Final(Said),
}

/// Over UDP, and over TCP what is truncated. An error is no answer at all.
pub(super) async fn ask(server: SocketAddr, asked: &Question) -> Result<Said, Reason> {
    let id = u16::from_ne_bytes(crate::net::random());
    let query = query(id, asked);

    // Port 0: the system picks another random one for every question.
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = Async::<UdpSocket>::bind(any)?;
    socket.get_ref().connect(server)?;
    // A socket that is new has room.
    socket.get_ref().send(&query)?;
    let mut buffer = vec![0u8; 4096];
    for _ in 0..MAX_STRANGERS {
        let len = socket.recv(&mut buffer).await?;
        match judge(buffer.get(..len).unwrap_or_default(), id, asked) {
            Judged::Stranger => continue,
            Judged::Truncated => return ask_by_tcp(server, &query, id, asked).await,
            Judged::Final(said) => return Ok(said),
        }
    }
    Err(Reason::Garbled)
}

/// RFC 7766 §8: two bytes of length, then the message.
async fn ask_by_tcp(server: SocketAddr, query: &[u8], id: u16, asked: &Question) -> Result<Said, Reason> {
    let mut stream = Async::<TcpStream>::connect(server).await?;
    let len = u16::try_from(query.len()).map_err(|_| Reason::BadName)?;
    stream.write_all(&[&len.to_be_bytes(), query].concat()).await?;
    let mut len = [0u8; 2];
    stream.read_exact(&mut len).await?;
    let len = usize::from(u16::from_be_bytes(len));
    if len > wire::MAX_READ {
        return Err(Reason::Garbled);
    }
    let mut answer = vec![0u8; len];
    stream.read_exact(&mut answer).await?;
    match judge(&answer, id, asked) {
        Judged::Final(said) => Ok(said),
        Judged::Stranger | Judged::Truncated => Err(Reason::Garbled),
    }
}

/// `None` if the name is not one in lower case, with labels and in all as long as they may be.
pub(super) fn question(name: &str, kind: u16) -> Option<Question> {
    let question = Question { name: Name::of(name), kind, unicast: false };
    (question.name.host().as_deref() == Some(name)).then_some(question)
}

pub(super) fn query(id: u16, asked: &Question) -> Vec<u8> {
    let mut writer = Writer::query();
    writer.id(id);
    writer.recurse();
    writer.question(asked);
    writer.finish()
}

pub(super) fn judge(bytes: &[u8], id: u16, asked: &Question) -> Judged {
    let Some(message) = wire::read(bytes) else { return Judged::Stranger };
    if message.id != id || !message.response || message.questions != std::slice::from_ref(asked) {
        return Judged::Stranger;
    }
    if message.truncated {
        return Judged::Truncated;
    }
    let not = |why, ttl| Said { answer: Err(why), ttl };
    // RFC 1035 §4.1.1.
    Judged::Final(match message.rcode {
        0 => read_answer(&message, asked),
        1 => not(Reason::ServerSaid("FORMERR"), None),
        2 => not(Reason::ServerSaid("SERVFAIL"), None),
        3 => not(Reason::NoSuchName, absence(&message)),
        4 => not(Reason::ServerSaid("NOTIMP"), None),
        5 => not(Reason::ServerSaid("REFUSED"), None),
        _ => not(Reason::ServerSaid("an error"), None),
    })
}

/// How long a name or record is known not to be there (RFC 2308 §5): the SOA's time, or the last of its numbers.
fn absence(message: &Message) -> Option<u32> {
    message.authority.iter().find_map(|record| match &record.data {
        Data::Other(wire::SOA, bytes) => Some(seconds(record).min(u32::from_be_bytes(*bytes.last_chunk()?))),
        _ => None,
    })
}

/// RFC 2181 §8: with the highest bit set it is none.
fn seconds(record: &wire::Record) -> u32 {
    if record.ttl > i32::MAX.unsigned_abs() { 0 } else { record.ttl }
}

fn read_answer(message: &Message, asked: &Question) -> Said {
    let mut owner = &asked.name;
    let mut records = Vec::new();
    let mut ttl = None;
    // Each turn follows one CNAME, in whatever order they stand.
    for _ in 0..MAX_CNAMES {
        let mut next = None;
        for record in message.answers.iter().filter(|record| record.name == *owner) {
            match &record.data {
                Data::Cname(other) => next = other.host().and(Some(other)),
                data if data.kind() != asked.kind => continue,
                Data::A(ip) => records.push(Record::Address((*ip).into())),
                Data::Aaaa(ip) => records.push(Record::Address((*ip).into())),
                Data::Srv { priority, weight, port, target } => {
                    let Some(host) = text(target) else { continue };
                    records.push(Record::Srv { priority: *priority, weight: *weight, port: *port, host });
                }
                _ => continue,
            }
            ttl = ttl.into_iter().chain([seconds(record)]).min();
        }
        if !records.is_empty() {
            records.truncate(MAX_RECORDS);
            return Said { answer: Ok(Answer::Records(records)), ttl };
        }
        let Some(other) = next else { break };
        owner = other;
    }
    if *owner == asked.name {
        return Said { answer: Err(Reason::NoRecords), ttl: absence(message) };
    }
    Said { answer: Ok(Answer::Elsewhere(owner.clone())), ttl }
}

/// As [`Name::host`], and `.` for the root.
fn text(name: &Name) -> Option<String> {
    if name.is_root() { Some(".".to_owned()) } else { name.host() }
}
