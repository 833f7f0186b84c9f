//! A session's way through the socket: one small task that owns no buffer while nothing happens.

use super::outbox::{Conn, End};
use super::ring::{Scratch, Shared};
use crate::hub::limits::fixed;
use crate::hub::talk::{Input, Now, SessionId};
use crate::stanza::{self, Stanza};
use crate::stream::management::{self, Nonza};
use crate::stream::{self, Condition};
use crate::xml::{self, Caps, Flow, Kind, Ns, Reader, Scan, Scope, scan};
use std::cell::Cell;
use std::future::Future;
use std::io::{ErrorKind, Read};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A bound session. Resolves when the connection has to end.
pub struct Drive {
    shared: Rc<Shared>,
    conn: Rc<Conn>,
    session: SessionId,
    reader: Reader,
    /// What the client declared on its stream header, if it is anything but the usual.
    scope: Option<Box<Scope>>,
    /// With stream management, the count of what was heard (XEP-0198 §4).
    heard: Option<Rc<Cell<u32>>>,
    /// Frames may wait in the reader (or in TLS) that no readiness of the socket will tell of: what
    /// negotiation read too much, or what came when the store was behind.
    stopped: bool,
}

/// Why the frames stop.
enum Halt {
    Closed,
    Error(stream::Error),
}

impl From<xml::Error> for Halt {
    fn from(error: xml::Error) -> Halt {
        Halt::Error(error.into())
    }
}

impl Drive {
    /// Goes on with a stream that was just bound.
    pub fn new(shared: Rc<Shared>, conn: Rc<Conn>, reader: Reader, scope: Scope) -> Drive {
        let session = conn.session.get();
        let plain = scope.prefixes.iter().all(|(p, uri)| &**p == "stream" && &**uri == xml::ns::STREAM);
        let scope = (!plain).then(|| Box::new(scope));
        let heard = shared.inbound(session);
        Drive { shared, conn, session, reader, scope, heard, stopped: true }
    }

    /// Whether the stream was managed before: it was resumed, then.
    pub fn is_managed(&self) -> bool {
        self.heard.is_some()
    }

    /// Whose stream it is.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Takes bytes of the stream. `Some`: it has to end.
    fn take(&mut self, bytes: &[u8], scan: &mut Scan) -> Option<End> {
        let (shared, session) = (&self.shared, self.session);
        let usual = shared.scope.clone();
        let scope = self.scope.as_deref().unwrap_or(&usual);
        let (caps, now) = (shared.caps.get(), shared.now());
        let (conn, heard, mut stopped) = (&self.conn, &mut self.heard, false);
        let outcome = self.reader.feed(bytes, |kind, frame| {
            match kind {
                Kind::Keepalive => {}
                Kind::Footer => return Err(Halt::Closed),
                // A stream is restarted only by SASL and STARTTLS (RFC 6120 §4.3.3).
                Kind::Header => return Err(Halt::Error(stream::Error::new(Condition::BadFormat))),
                Kind::Element => {
                    element(shared, session, now, frame, scan, scope, &caps, heard)?;
                }
            }
            // The hub may have ended the session over what it has just heard.
            stopped = conn.ends() || shared.congested(session);
            Ok(if stopped { Flow::Stop } else { Flow::Go })
        });
        self.stopped |= stopped;
        match outcome {
            Ok(()) => None,
            Err(Halt::Closed) => Some(End::Closed),
            Err(Halt::Error(error)) => Some(End::Error(error)),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let shared = self.shared.clone();
        for _ in 0..fixed::READS {
            if let Some(end) = self.conn.take_end() {
                return Poll::Ready(end);
            }
            if shared.congested(self.session) {
                // Woken when the store has answered.
                self.conn.wait(cx.waker());
                shared.wait_for_store(&self.conn);
                return Poll::Pending;
            }
            let mut scratch = shared.scratch.borrow_mut();
            let Scratch { wire, plain, scan } = &mut *scratch;
            if std::mem::take(&mut self.stopped) {
                let mut end = self.take(&[], scan);
                let encrypted = self.conn.tls.borrow().is_some();
                if end.is_none() && encrypted {
                    end = self.decrypt(&[], plain, scan);
                }
                if let Some(end) = end {
                    return Poll::Ready(end);
                }
                if self.stopped {
                    continue;
                }
            }
            match self.conn.io.poll_readable(cx) {
                Poll::Pending => {
                    self.conn.wait(cx.waker());
                    return Poll::Pending;
                }
                Poll::Ready(()) => {}
            }
            let n = match (&self.conn.io).read(wire) {
                Ok(0) => return Poll::Ready(End::Dead),
                Ok(n) => n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                Err(_) => return Poll::Ready(End::Dead),
            };
            shared.read.set(shared.read.get().wrapping_add(n as u64));
            let got = wire.get(..n).unwrap_or_default();
            let encrypted = self.conn.tls.borrow().is_some();
            let end = if encrypted { self.decrypt(got, plain, scan) } else { self.take(got, scan) };
            if let Some(end) = end {
                return Poll::Ready(end);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn decrypt(&mut self, mut wire: &[u8], plain: &mut [u8], scan: &mut Scan) -> Option<End> {
        loop {
            let fed = match self.conn.tls.borrow_mut().as_mut() {
                Some(tls) => tls.feed(wire, plain),
                None => return Some(End::Dead),
            };
            let Ok(got) = fed else {
                self.conn.alert();
                return Some(End::Dead);
            };
            wire = wire.get(got.wire..).unwrap_or_default();
            if let Some(end) = self.take(plain.get(..got.plain).unwrap_or_default(), scan) {
                return Some(end);
            }
            if got.closed {
                // Some end TLS in order when all that they have lost is their network.
                return Some(if self.heard.is_some() { End::Dead } else { End::Closed });
            }
            if wire.is_empty() && !got.more {
                return None;
            }
        }
    }
}

/// One first-level element of a bound stream: judged in full, then heard.
#[allow(clippy::too_many_arguments)] // what a frame is judged by
fn element(
    shared: &Rc<Shared>,
    session: SessionId,
    now: Now,
    frame: &[u8],
    scan: &mut Scan,
    scope: &Scope,
    caps: &Caps,
    heard: &mut Option<Rc<Cell<u32>>>,
) -> Result<(), Halt> {
    let text = scan.element(frame, scope, caps)?;
    if scan.outer != 0 {
        // It uses prefixes of its stream header, which mean nothing elsewhere: written in.
        let mut own = Vec::with_capacity(text.len() + 128);
        scan::redeclare(text, scan, scope, &mut own);
        return element_of(shared, session, now, scan.element(&own, &Scope::default(), caps)?, scan, heard);
    }
    element_of(shared, session, now, text, scan, heard)
}

fn element_of(
    shared: &Rc<Shared>,
    session: SessionId,
    now: Now,
    text: &str,
    scan: &Scan,
    heard: &mut Option<Rc<Cell<u32>>>,
) -> Result<(), Halt> {
    // RFC 6120 §4.9.3.10: on this stream the content namespace is jabber:client.
    if let Ns::Literal(uri) = scan.ns
        && matches!(uri.of(text), xml::ns::SERVER | xml::ns::COMPONENT)
    {
        return Err(Halt::Error(stream::Error::new(Condition::InvalidNamespace)));
    }
    match Stanza::new(text, scan) {
        Some(stanza) => {
            shared.hear_at(now, Input::Stanza { from: session, stanza: &stanza });
            if let Some(heard) = heard {
                heard.set(heard.get().wrapping_add(1));
            }
            Ok(())
        }
        None => manage(shared, session, text, scan, heard),
    }
}

/// What is said beside stanzas (XEP-0198).
fn manage(
    shared: &Rc<Shared>,
    session: SessionId,
    text: &str,
    scan: &Scan,
    heard: &mut Option<Rc<Cell<u32>>>,
) -> Result<(), Halt> {
    let mut answer = Vec::new();
    match (Nonza::read(text, scan, &Scope::default()), &heard) {
        (Some(Nonza::Enable { resume }), None) => {
            *heard = shared.enable(session, resume);
            return Ok(());
        }
        // §4: what was heard before this is ours to answer for.
        (Some(Nonza::Request), Some(heard)) => management::ack(heard.get(), &mut answer),
        (Some(Nonza::Ack { h }), Some(_)) => {
            return shared.acknowledge(session, h).map_err(|counts| Halt::Error(counts.into()));
        }
        // §3: once, and before there are stanzas to count
        (Some(Nonza::Enable { .. } | Nonza::Resume { .. }), _) => {
            management::failed(stanza::Condition::UnexpectedRequest, &mut answer);
        }
        (Some(Nonza::Malformed), Some(_)) => return Err(Halt::Error(Condition::BadFormat.into())),
        _ => return Err(Halt::Error(Condition::UnsupportedStanzaType.into())),
    }
    shared.with_hub(|hub, mouth| hub.send_after_pending(mouth, session, answer));
    Ok(())
}

impl Future for Drive {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        self.get_mut().turn(cx)
    }
}
