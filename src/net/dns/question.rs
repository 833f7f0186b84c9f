//! One question to one server, and what counts as its answer.
//!
//! An answer counts if it comes from the server that was asked (the socket is connected), to a fresh
//! port, with the random id and the very question (RFC 5452 §4.5, §9).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use async_io::Async;
use ring::rand::{SecureRandom, SystemRandom};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::{MAX_CNAMES, MAX_RECORDS, Reason};

/// An answer of more bytes is not read: compressed names cost more than their bytes.
pub(super) const MAX_ANSWER: usize = 16 * 1024;
/// Datagrams that are not our answer, before we stop listening on that port.
const MAX_STRANGERS: usize = 64;

/// What we read of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Srv { priority: u16, weight: u16, port: u16, host: String },
    Address(IpAddr),
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
    Elsewhere(String),
}

/// What a message is to the one who asked.
pub(super) enum Judged {
    /// Not the answer to this question: forged, late, or broken.
    Stranger,
    Truncated,
    Final(Said),
}

/// Over UDP, and over TCP what is truncated. An error is no answer at all.
pub(super) async fn ask(server: SocketAddr, name: &str, kind: TYPE) -> Result<Said, Reason> {
    let mut id = [0u8; 2];
    SystemRandom::new().fill(&mut id).map_err(|_| Reason::Io(io::ErrorKind::Other))?;
    let id = u16::from_ne_bytes(id);
    let question = question(id, name, kind)?;
    let io_failed = |why: io::Error| Reason::Io(why.kind());

    // Port 0: the system picks another random one for every question.
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = Async::<UdpSocket>::bind(any).map_err(io_failed)?;
    socket.get_ref().connect(server).map_err(io_failed)?;
    socket.send(&question).await.map_err(io_failed)?;
    let mut buffer = vec![0u8; 4096];
    for _ in 0..MAX_STRANGERS {
        let len = socket.recv(&mut buffer).await.map_err(io_failed)?;
        match judge(buffer.get(..len).unwrap_or_default(), id, name, kind) {
            Judged::Stranger => continue,
            Judged::Truncated => return ask_by_tcp(server, &question, id, name, kind).await,
            Judged::Final(said) => return Ok(said),
        }
    }
    Err(Reason::Garbled)
}

/// RFC 7766 §8: two bytes of length, then the message.
async fn ask_by_tcp(
    server: SocketAddr,
    question: &[u8],
    id: u16,
    name: &str,
    kind: TYPE,
) -> Result<Said, Reason> {
    let io_failed = |why: io::Error| Reason::Io(why.kind());
    let mut stream = Async::<TcpStream>::connect(server).await.map_err(io_failed)?;
    let len = u16::try_from(question.len()).map_err(|_| Reason::BadName)?;
    let mut message = len.to_be_bytes().to_vec();
    message.extend_from_slice(question);
    stream.write_all(&message).await.map_err(io_failed)?;
    let mut len = [0u8; 2];
    stream.read_exact(&mut len).await.map_err(io_failed)?;
    let len = usize::from(u16::from_be_bytes(len));
    if len > MAX_ANSWER {
        return Err(Reason::Garbled);
    }
    let mut answer = vec![0u8; len];
    stream.read_exact(&mut answer).await.map_err(io_failed)?;
    match judge(&answer, id, name, kind) {
        Judged::Final(said) => Ok(said),
        Judged::Stranger | Judged::Truncated => Err(Reason::Garbled),
    }
}

pub(super) fn question(id: u16, name: &str, kind: TYPE) -> Result<Vec<u8>, Reason> {
    let name = Name::new(name).map_err(|_| Reason::BadName)?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().map_err(|_| Reason::BadName)
}

pub(super) fn judge(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> Judged {
    if !plausible(bytes, id) {
        return Judged::Stranger;
    }
    let Ok(packet) = Packet::parse(bytes) else { return Judged::Stranger };
    let asked = match packet.questions.as_slice() {
        [one] => {
            one.qtype == QTYPE::TYPE(kind)
                && one.qclass == QCLASS::CLASS(CLASS::IN)
                && text(&one.qname).is_some_and(|asked| asked == name)
        }
        _ => false,
    };
    if !asked {
        return Judged::Stranger;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Judged::Truncated;
    }
    let not = |why, ttl| Judged::Final(Said { answer: Err(why), ttl });
    match packet.rcode() {
        RCODE::NoError => Judged::Final(read_answer(&packet, name, kind)),
        RCODE::NameError => not(Reason::NoSuchName, absence(&packet)),
        RCODE::ServerFailure => not(Reason::ServerSaid("SERVFAIL"), None),
        RCODE::Refused => not(Reason::ServerSaid("REFUSED"), None),
        RCODE::NotImplemented => not(Reason::ServerSaid("NOTIMP"), None),
        RCODE::FormatError => not(Reason::ServerSaid("FORMERR"), None),
        _ => not(Reason::ServerSaid("an error"), None),
    }
}

/// How long a name or record is known not to be there (RFC 2308 §5).
fn absence(packet: &Packet<'_>) -> Option<u32> {
    packet.name_servers.iter().find_map(|record| match &record.rdata {
        RData::SOA(soa) => Some(seconds(record).min(soa.minimum)),
        _ => None,
    })
}

/// RFC 2181 §8: with the highest bit set it is none.
fn seconds(record: &ResourceRecord<'_>) -> u32 {
    if record.ttl > i32::MAX.unsigned_abs() { 0 } else { record.ttl }
}

/// A response to this id, whose counts fit into its bytes: the codec takes its capacities from them.
pub(super) fn plausible(bytes: &[u8], id: u16) -> bool {
    let word = |at: usize| {
        let pair = bytes.get(at..at.saturating_add(2)).and_then(|pair| <[u8; 2]>::try_from(pair).ok());
        pair.map(u16::from_be_bytes)
    };
    let (Some(got), Some(flags)) = (word(0), word(2)) else { return false };
    let (Some(questions), Some(answers), Some(servers), Some(more)) = (word(4), word(6), word(8), word(10))
    else {
        return false;
    };
    let records = usize::from(answers).saturating_add(servers.into()).saturating_add(more.into());
    let least = usize::from(questions).saturating_mul(5).saturating_add(records.saturating_mul(11));
    got == id
        && flags & 0x8000 != 0
        && questions == 1
        && bytes.len() <= MAX_ANSWER
        && least <= bytes.len().saturating_sub(12)
}

fn read_answer(packet: &Packet<'_>, name: &str, kind: TYPE) -> Said {
    let mut owner = name.to_owned();
    let mut records = Vec::new();
    let mut ttl = None;
    let shorter = |ttl: Option<u32>, record| Some(ttl.map_or(seconds(record), |t| t.min(seconds(record))));
    // Each turn follows one CNAME, in whatever order they stand.
    for _ in 0..MAX_CNAMES {
        let mut next = None;
        for record in packet.answers.iter().filter(|record| record.class == CLASS::IN) {
            if text(&record.name).as_deref() != Some(owner.as_str()) {
                continue;
            }
            match &record.rdata {
                RData::SRV(srv) if kind == TYPE::SRV => {
                    let Some(host) = text(&srv.target) else { continue };
                    let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
                    records.push(Record::Srv { priority, weight, port, host });
                }
                RData::A(a) if kind == TYPE::A => {
                    records.push(Record::Address(Ipv4Addr::from(a.address).into()));
                }
                RData::AAAA(a) if kind == TYPE::AAAA => {
                    records.push(Record::Address(Ipv6Addr::from(a.address).into()));
                }
                RData::CNAME(other) => next = text(&other.0),
                _ => continue,
            }
            ttl = shorter(ttl, record);
        }
        if !records.is_empty() {
            records.truncate(MAX_RECORDS);
            return Said { answer: Ok(Answer::Records(records)), ttl };
        }
        match next {
            Some(other) if other != "." => owner = other,
            _ => break,
        }
    }
    if owner == name {
        return Said { answer: Err(Reason::NoRecords), ttl: absence(packet) };
    }
    Said { answer: Ok(Answer::Elsewhere(owner)), ttl }
}

/// A name as text, lower case, `.` for the root; `None` if it could not be a host's or service's.
pub(super) fn text(name: &Name<'_>) -> Option<String> {
    let mut out = String::new();
    for label in name.as_bytes() {
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
    Some(if out.is_empty() { ".".to_owned() } else { out })
}
