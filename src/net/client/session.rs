//! A stream that is logged in: what we say on it, and what we make of what we hear.

use super::draft::Draft;
use super::ear::{Ear, End, Me, Pending, Said, redact, weight};
use super::error::{Error, StanzaError};
use super::event::{Element, Event, Message};
use super::options::{Direction, Options};
use super::revive::Revival;
use super::wait::{or, sleep, until};
use super::wire::Wire;
use crate::jid::Jid;
use crate::stanza;
use crate::stream;
use crate::stream::management;
use crate::xml::{self, Caps, Flow, Reader, Scan, Scope, Writer, ns};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One stanza from the server may have so many bytes: more than any server lets through.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// So many messages are watched for an error that comes back.
const MAX_WATCHED: usize = 256;
/// So many bytes may wait for the server's acknowledgement.
const MAX_KEPT: usize = 1 << 20;
/// How long the server gets to say its goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What kind of request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Asks.
    Get,
    /// Changes.
    Set,
}

/// A stream that is logged in.
pub struct Session {
    me: Me,
    wire: Wire,
    reader: Reader,
    /// All but the reader and the wire that hearing needs.
    ear: Ear,
    timeout: Duration,
    keepalive: Option<Duration>,
    heard: Instant,
    /// Whether the server was asked for a sign of life, and has given none since.
    asked: bool,
    buffer: Box<[u8]>,
    /// For when the connection is lost.
    options: Box<Options>,
    /// It is lost, and being made again.
    revival: Option<Revival>,
}

impl Session {
    /// A session over a stream that is past its negotiation.
    pub(super) fn new(me: Me, wire: Wire, reader: Reader, scope: Scope, options: &Options) -> Session {
        Session {
            me,
            wire,
            reader,
            ear: Ear {
                scan: Scan::new(),
                scope,
                events: VecDeque::new(),
                waiting: 0,
                pending: None,
                watched: VecDeque::new(),
                bounces: Vec::new(),
                end: None,
                asked: false,
                heard: None,
                hold: None,
                said: None,
                kind: options.kind,
                trace: options.trace,
            },
            timeout: options.timeout,
            keepalive: options.keepalive,
            heard: Instant::now(),
            asked: false,
            buffer: vec![0; 16_384].into_boxed_slice(),
            options: Box::new(options.clone()),
            revival: None,
        }
    }

    /// Asks for stream management (XEP-0198). Whatever is said from here on is kept until the server has
    /// acknowledged it; if it refuses, the wire is told.
    pub(super) fn manage(&mut self) {
        let at = self.wire.out.len();
        management::enable(true, &mut self.wire.out);
        self.traced(at);
        self.wire.manage();
        self.ear.asked = true;
    }

    /// Our full address, as the server has given it.
    pub fn jid(&self) -> &str {
        &self.me.jid
    }

    /// Our account.
    pub fn bare(&self) -> &str {
        &self.me.bare
    }

    /// Our server.
    pub fn domain(&self) -> &str {
        &self.me.domain
    }

    // ---- saying -------------------------------------------------------------------------------------

    /// Puts a message among what waits to be written.
    pub fn send(&mut self, draft: &Draft) {
        let at = self.wire.out.len();
        draft.write(&mut self.wire.out);
        self.watch(draft.id.clone(), draft.to.clone());
        self.traced(at);
    }

    /// Puts stanzas that the caller wrote among what waits to be written. They must be well-formed,
    /// each with its prefixes declared.
    pub fn send_raw(&mut self, text: &str) -> Result<(), Error> {
        let mut reader = Reader::new(MAX_BYTES, Caps::default().depth);
        let mut scan = Scan::new();
        let mut seen = Vec::new();
        let wrong = |e: xml::Error| Error::Invalid(format!("this cannot be sent: {}", words(e)));
        // A header first, as the framer wants it; it goes nowhere.
        let header = b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>";
        for bytes in [&header[..], text.trim().as_bytes()] {
            reader
                .feed(bytes, |kind, bytes| {
                    if kind == xml::Kind::Element {
                        let text = scan.element(bytes, &Scope::default(), &Caps::default())?;
                        let is_stanza = stanza::Stanza::new(text, &scan).is_some();
                        let id = scan.attr(text, "id").map(|id| xml::unescape(id).into_owned());
                        let to = scan.attr(text, "to").map(|to| xml::unescape(to).into_owned());
                        seen.push((text.to_owned(), is_stanza, id, to));
                    } else if kind == xml::Kind::Footer {
                        return Err(xml::Error::NotWellFormed);
                    }
                    Ok(Flow::Go)
                })
                .map_err(wrong)?;
        }
        if !reader.is_empty() || seen.is_empty() {
            return Err(wrong(xml::Error::NotWellFormed));
        }
        if let Some((text, ..)) = seen.iter().find(|(_, is_stanza, ..)| !is_stanza) {
            let start: String = text.chars().take(40).collect();
            return Err(Error::Invalid(format!("this is no message, presence or iq: {start}")));
        }
        for (text, _, id, to) in seen {
            let at = self.wire.out.len();
            self.wire.out.extend_from_slice(text.as_bytes());
            if let (Some(id), Some(to)) = (id, to) {
                self.watch(id, to);
            }
            self.traced(at);
        }
        Ok(())
    }

    /// Shows ourselves: `show` is `away`, `chat`, `dnd`, `xa`, or empty for plainly available.
    pub fn present(&mut self, show: &str, status: Option<&str>, priority: i8) {
        self.presence(None, None, show, status, priority);
    }

    /// Shows ourselves to one contact.
    pub fn present_to(&mut self, to: &str, show: &str, status: Option<&str>) {
        self.presence(Some(to), None, show, status, 0);
    }

    /// Is seen to go, by one contact or by all.
    pub fn absent(&mut self, to: Option<&str>, status: Option<&str>) {
        self.presence(to, Some("unavailable"), "", status, 0);
    }

    /// `subscribe`, `subscribed`, `unsubscribe`, `unsubscribed` (RFC 6121 §3).
    pub fn subscription(&mut self, kind: &str, to: &str) {
        self.presence(Some(to), Some(kind), "", None, 0);
    }

    fn presence(
        &mut self,
        to: Option<&str>,
        kind: Option<&str>,
        show: &str,
        status: Option<&str>,
        priority: i8,
    ) {
        let at = self.wire.out.len();
        let id = super::fresh_id();
        let mut w = Writer::new(&mut self.wire.out);
        w.start("presence").opt("to", to).opt("type", kind).attr("id", &id);
        if !show.is_empty() {
            w.text_leaf("show", show);
        }
        if let Some(status) = status {
            w.text_leaf("status", status);
        }
        if priority != 0 {
            w.text_leaf("priority", &priority.to_string());
        }
        drop(w);
        if let Some(to) = to {
            self.watch(id, to.to_owned());
        }
        self.traced(at);
    }

    /// Sends the receipt that a message asks for (XEP-0184), if it is one that gets one.
    pub fn acknowledge(&mut self, message: &Message) {
        let Some(id) = message.id.as_deref().filter(|_| message.wants_receipt) else { return };
        if message.carbon.is_some() || !matches!(message.kind.as_str(), "chat" | "normal") {
            return;
        }
        let at = self.wire.out.len();
        let mut w = Writer::new(&mut self.wire.out);
        w.start("message")
            .attr("to", &message.from)
            .attr("type", &message.kind)
            .attr("id", &super::fresh_id());
        w.start("received").ns(ns::RECEIPTS).attr("id", id);
        drop(w);
        self.traced(at);
    }

    /// Writes all that waits.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.write().await?;
        // Whoever only writes has to let the server's acknowledgements in now and then.
        while self.wire.kept() > MAX_KEPT && self.ear.end.is_none() {
            self.fill().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Error> {
        loop {
            if self.revival.is_some() {
                self.revive().await?;
            }
            match self.wire.flush().await {
                Err(error) => self.lost(error)?,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// The connection is gone: it is made again, if the session can be gone on with.
    fn lost(&mut self, error: Error) -> Result<(), Error> {
        match (&self.ear.hold, self.ear.heard, &self.ear.end) {
            (Some(hold), Some(heard), None) => {
                self.revival = Some(Revival::begin(&self.options, hold, heard, error));
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Waits for the new connection, and goes on over it. Dropping the future loses nothing.
    async fn revive(&mut self) -> Result<(), Error> {
        let Some(revival) = &mut self.revival else { return Ok(()) };
        let revived = revival.finish().await;
        self.revival = None;
        let arrived = match revived {
            Ok(arrived) => arrived,
            Err(error) => {
                self.ear.hold = None;
                return Err(error);
            }
        };
        let Session { wire, reader, ear, .. } = arrived.session;
        if let Err(error) = self.wire.go_on(wire, arrived.h) {
            self.ear.hold = None;
            return Err(error);
        }
        (self.reader, self.ear.scope) = (reader, ear.scope);
        (self.heard, self.asked) = (Instant::now(), false);
        // What the server sent along with its answer.
        self.hear(0);
        Ok(())
    }

    fn watch(&mut self, id: String, to: String) {
        if self.ear.watched.len() >= MAX_WATCHED {
            self.ear.watched.pop_front();
        }
        self.ear.watched.push_back((id, to));
    }

    fn traced(&self, at: usize) {
        if let (Some(trace), Some(text)) =
            (self.ear.trace, self.wire.out.get(at..).and_then(|b| std::str::from_utf8(b).ok()))
            && !text.is_empty()
        {
            trace(Direction::Sent, &redact(text));
        }
    }

    // ---- asking -------------------------------------------------------------------------------------

    /// Asks `to`, or our own account when there is no `to`, and waits for the answer. What else is
    /// heard meanwhile waits for [`Session::next`]. `payload` writes what stands inside the `<iq/>`.
    pub async fn request(
        &mut self,
        kind: Request,
        to: Option<&str>,
        payload: impl FnOnce(&mut Writer<'_>),
    ) -> Result<Element, Error> {
        let to = match to {
            None => None,
            Some(to) => {
                let parsed =
                    Jid::parse(to).map_err(|e| Error::Invalid(format!("{to:?} is no address: {e}")))?;
                Some(parsed.as_str().to_owned())
            }
        };
        let id = super::fresh_id();
        let at = self.wire.out.len();
        let mut w = Writer::new(&mut self.wire.out);
        w.start("iq").attr("type", if kind == Request::Get { "get" } else { "set" });
        w.opt("to", to.as_deref()).attr("id", &id);
        payload(&mut w);
        drop(w);
        self.traced(at);
        self.ear.pending = Some(Pending { id, to, answer: None });
        let ended = self.wait_for_answer().await;
        let pending = self.ear.pending.take();
        ended?;
        match pending.and_then(|p| p.answer) {
            Some(answer) => answer.map_err(Error::Stanza),
            None => Err(Error::TimedOut(format!("no answer in {:.0?}", self.timeout))),
        }
    }

    /// As [`Session::request`], with a payload that the caller wrote: one element with its prefixes declared.
    pub async fn request_raw(
        &mut self,
        kind: Request,
        to: Option<&str>,
        payload: &str,
    ) -> Result<Element, Error> {
        let payload = payload.trim();
        let mut scan = Scan::new();
        scan.element(payload.as_bytes(), &Scope::default(), &Caps::default())
            .map_err(|e| Error::Invalid(format!("the payload cannot be sent: {}", words(e))))?;
        self.request(kind, to, |w| {
            w.raw(payload.as_bytes());
        })
        .await
    }

    async fn wait_for_answer(&mut self) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(self.timeout);
        let over = async {
            match deadline {
                Some(at) => until(at).await,
                None => std::future::pending().await,
            }
            Ok(())
        };
        let answered = async {
            while self.ear.pending.as_ref().is_some_and(|p| p.answer.is_none()) {
                match &self.ear.end {
                    Some(End::Error(e)) => return Err(e.clone()),
                    Some(End::Closed) => {
                        return Err(Error::Lost("the server has closed the stream".to_owned()));
                    }
                    None => self.fill().await?,
                }
            }
            Ok(())
        };
        or(answered, over).await
    }

    /// Makes sure that the server has taken all that was sent before: it is asked for a sign of
    /// life, and answers in order. What came back as an error is in [`Session::take_bounces`].
    pub async fn confirm(&mut self) -> Result<(), Error> {
        let domain = self.me.domain.clone();
        let ping = self.request(Request::Get, Some(&domain), |w| {
            w.leaf("ping", ns::PING);
        });
        match ping.await {
            Ok(_) | Err(Error::Stanza(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The errors that came back for messages and presence of ours since the last time.
    pub fn take_bounces(&mut self) -> Vec<StanzaError> {
        std::mem::take(&mut self.ear.bounces)
    }

    /// Asks for copies of what our other sessions send and receive (XEP-0280).
    pub async fn enable_carbons(&mut self) -> Result<(), Error> {
        let enable = self.request(Request::Set, None, |w| {
            w.leaf("enable", ns::CARBONS);
        });
        enable.await.map(drop)
    }

    /// Gives the account another password (XEP-0077 §3.3).
    pub async fn change_password(&mut self, new: &stream::Secret) -> Result<(), Error> {
        let (domain, me) = (self.me.domain.clone(), self.me.bare.clone());
        let username = me.split_once('@').map_or("", |(local, _)| local);
        let change = self.request(Request::Set, Some(&domain), |w| {
            w.start("query").ns(ns::REGISTER);
            w.text_leaf("username", username).text_leaf("password", new.expose_str()).end();
        });
        change.await.map(drop)
    }

    // ---- hearing ------------------------------------------------------------------------------------

    /// The next event. Dropping the future before it is done loses nothing.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.ear.events.pop_front() {
                self.ear.waiting = self.ear.waiting.saturating_sub(weight(&event));
                return Ok(event);
            }
            match &self.ear.end {
                Some(End::Error(e)) => return Err(e.clone()),
                Some(End::Closed) => return Ok(Event::Closed),
                None => self.fill().await?,
            }
        }
    }

    /// Reads once, and hears what came.
    async fn fill(&mut self) -> Result<(), Error> {
        self.write().await?;
        let silent =
            self.keepalive.and_then(|k| self.heard.checked_add(k.saturating_mul(1 + u32::from(self.asked))));
        let read = async { self.wire.read(&mut self.buffer).await.map(Some) };
        let quiet = async {
            match silent {
                Some(at) => until(at).await,
                None => std::future::pending().await,
            }
            Ok(None)
        };
        let read = match or(read, quiet).await {
            Ok(read) => read,
            Err(error) => return self.lost(error),
        };
        match read {
            Some(0) => {
                if let Err(end) = self.lost(Error::Lost("the server has cut the connection".to_owned())) {
                    self.ear.end.get_or_insert(End::Error(end));
                }
            }
            Some(n) => {
                self.heard = Instant::now();
                self.asked = false;
                self.hear(n);
            }
            None if self.asked => {
                let seconds = self.heard.elapsed().as_secs();
                let error = Error::Lost(format!("nothing heard from the server for {seconds} s"));
                if let Err(end) = self.lost(error) {
                    self.ear.end = Some(End::Error(end));
                }
            }
            None => {
                self.asked = true;
                let mut w = Writer::new(&mut self.wire.out);
                w.start("iq").attr("type", "get").attr("to", &self.me.domain).attr("id", &super::fresh_id());
                w.leaf("ping", ns::PING);
            }
        }
        Ok(())
    }

    /// Takes in the first `n` bytes of the buffer, or those that were left over if there are none.
    pub(super) fn hear(&mut self, n: usize) {
        let Session { me, wire, reader, ear, buffer, .. } = self;
        let bytes = buffer.get(..n).unwrap_or_default();
        let fed = reader.feed(bytes, |kind, bytes| ear.frame(kind, bytes, me, &mut wire.out));
        if let Err(error) = fed {
            let name = stream::Error::from(error);
            name.write(&mut wire.out);
            wire.out.extend_from_slice(b"</stream:stream>");
            let line = format!("the server sends XML that we do not take: {}", name.condition.name());
            ear.end.get_or_insert(End::Error(Error::Protocol(line)));
        }
        match ear.said.take() {
            Some(Said::Ack(h)) => {
                if let Err(error) = wire.acknowledge(h) {
                    ear.end.get_or_insert(End::Error(error));
                }
            }
            Some(Said::Failed) => wire.unmanage(),
            None => {}
        }
    }

    // ---- ending -------------------------------------------------------------------------------------

    /// Closes the stream in peace: our footer, then up to two seconds for the server's.
    pub async fn close(mut self) {
        // This is the end of it.
        self.ear.hold = None;
        if self.revival.is_some() {
            return;
        }
        let goodbye = async {
            if self.ear.end.is_none() || matches!(self.ear.end, Some(End::Closed)) {
                if let Some(heard) = self.ear.heard {
                    management::ack(heard, &mut self.wire.out);
                }
                self.wire.out.extend_from_slice(b"</stream:stream>");
            }
            while self.ear.end.is_none() {
                if self.fill().await.is_err() {
                    return;
                }
                // What else comes is not of interest any more.
                self.ear.events.clear();
                self.ear.waiting = 0;
            }
            let _ = self.wire.flush().await;
            self.wire.finish().await;
        };
        or(goodbye, sleep(GOODBYE)).await;
    }
}

/// What is wrong with XML of the caller's.
fn words(error: xml::Error) -> String {
    match error {
        xml::Error::NotWellFormed => "it is not well-formed XML".to_owned(),
        xml::Error::RestrictedXml => "XMPP has no comments, processing instructions or DTDs".to_owned(),
        xml::Error::UnsupportedEncoding => "it is not UTF-8".to_owned(),
        xml::Error::BadNamespacePrefix => "a stanza has no prefix".to_owned(),
        xml::Error::TooBig(_) => format!("it is too big: {}", stream::Error::from(error)),
    }
}
