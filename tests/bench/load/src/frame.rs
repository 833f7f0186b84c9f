//! Where one frame ends and the next begins, and the little that is read from them.

use crate::net::Proto;
use memchr::{memchr, memchr3, memmem};

/// The length of the first whole frame in `bytes`.
pub fn next(proto: Proto, bytes: &[u8]) -> Option<usize> {
    match proto {
        Proto::Line => memchr(b'\n', bytes).map(|n| n + 1),
        Proto::Mqtt => mqtt(bytes).map(|(_, end)| end),
        Proto::Xmpp => element(bytes),
    }
}

/// A stream header, a stream footer, or a first-level element; whitespace before it goes with it.
fn element(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut depth = 0usize;
    loop {
        at += memchr(b'<', bytes.get(at..)?)?;
        let second = *bytes.get(at + 1)?;
        let start = at;
        loop {
            at += memchr3(b'>', b'\'', b'"', bytes.get(at..)?)?;
            let quote = bytes[at];
            at += 1;
            if quote == b'>' {
                break;
            }
            at += memchr(quote, bytes.get(at..)?)? + 1;
        }
        match second {
            b'?' | b'!' => continue,
            b'/' => depth = depth.saturating_sub(1),
            _ if bytes[start..].starts_with(b"<stream:stream") => return Some(at),
            _ if bytes[at - 2] == b'/' => {}
            _ => depth += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The element's name.
pub fn name(frame: &[u8]) -> &[u8] {
    let start = match memmem::find(frame, b"?>") {
        Some(n) if frame.starts_with(b"<?xml") => n + 2,
        _ => 0,
    };
    let frame = &frame[start..];
    let start = memchr(b'<', frame).map_or(0, |n| n + 1);
    let rest = &frame[start..];
    let end = rest.iter().position(|b| matches!(b, b' ' | b'>' | b'\n')).unwrap_or(rest.len());
    rest[..end].strip_suffix(b"/").unwrap_or(&rest[..end])
}

/// An attribute of the start tag (of the first tag that has it, to be exact).
pub fn attr<'a>(frame: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let tag = &frame[..memchr(b'>', frame)?];
    for quote in ['\'', '"'] {
        let key = format!(" {name}={quote}");
        if let Some(n) = memmem::find(tag, key.as_bytes()) {
            let value = &tag[n + key.len()..];
            return value.get(..memchr(quote as u8, value)?);
        }
    }
    None
}

/// The text of the first element of this name.
pub fn text<'a>(frame: &'a [u8], name: &str) -> Option<&'a str> {
    let open = memmem::find(frame, format!("<{name}").as_bytes())?;
    let start = open + memchr(b'>', &frame[open..])? + 1;
    let end = start + memchr(b'<', &frame[start..])?;
    std::str::from_utf8(&frame[start..end]).ok()
}

pub fn has(frame: &[u8], what: &str) -> bool {
    memmem::find(frame, what.as_bytes()).is_some()
}

/// An MQTT packet: where its body begins, and where it ends.
pub fn mqtt(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0usize;
    for i in 0..4 {
        let b = *bytes.get(1 + i)?;
        len |= usize::from(b & 127) << (7 * i);
        if b < 128 {
            let start = 2 + i;
            return (bytes.len() >= start + len).then_some((start, start + len));
        }
    }
    None
}

/// Appends the head of an MQTT packet.
pub fn mqtt_head(out: &mut Vec<u8>, kind: u8, mut len: usize) {
    out.push(kind);
    loop {
        let b = (len & 127) as u8;
        len >>= 7;
        out.push(if len > 0 { b | 128 } else { b });
        if len == 0 {
            return;
        }
    }
}

#[test]
fn frames() {
    let stream = b"<?xml version='1.0'?><stream:stream a='>'><m a='/>'><b>x</b><c/></m> <p/></stream:stream>";
    let mut rest = &stream[..];
    let mut names = Vec::new();
    while let Some(n) = next(Proto::Xmpp, rest) {
        names.push(String::from_utf8_lossy(name(&rest[..n])).into_owned());
        rest = &rest[n..];
    }
    assert_eq!(names, ["stream:stream", "m", "p", "/stream:stream"]);
    assert!(rest.is_empty());
    assert_eq!(next(Proto::Xmpp, b"<a><b></b></"), None);
    assert_eq!(attr(b"<m to='x' id=\"y\"/>", "id"), Some(&b"y"[..]));
    assert_eq!(text(b"<m><jid a='1'>z</jid></m>", "jid"), Some("z"));
    let mut packet = Vec::new();
    mqtt_head(&mut packet, 0x30, 200);
    packet.resize(203, 0);
    assert_eq!(mqtt(&packet), Some((3, 203)));
}
