//! One connection, both ends of it: what the ring would hold of it at the hub's end, and what the
//! client has got.

use crate::passwords;
use std::collections::VecDeque;
use std::rc::Rc;
use stonechat::hub::talk::SessionId;
use stonechat::stream::{
    Account, Bindings, Failure, Initiating, Need, Policy, Receiving, Secret, Security, Settings, sasl,
};
use stonechat::xml::{Caps, Flow, Kind, Reader, Scan, Scope};

/// What the stream runs over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Beneath {
    /// A bare connection, STARTTLS neither offered nor needed.
    Plain,
    /// A bare connection on which STARTTLS comes first.
    StartTls,
    /// TLS.
    Tls,
    /// TLS, and the client has shown its certificate.
    Certificate,
}

/// What the hub's end and the client's end know of the TLS connection.
fn bindings() -> Bindings {
    Bindings { exporter: Some([3; 32]), server_end_point: Some(vec![4; 32]) }
}

/// SHA-256 of the public key of the one certificate that clients show.
pub const SPKI: [u8; 32] = [9; 32];

impl Beneath {
    pub fn parse(word: &str) -> Result<Beneath, String> {
        match word {
            "tls" => Ok(Beneath::Tls),
            "starttls" => Ok(Beneath::StartTls),
            "certificate" => Ok(Beneath::Certificate),
            _ => Err(format!("tls, starttls or certificate, not {word}")),
        }
    }

    fn security(self) -> Security {
        match self {
            Beneath::Plain => Security::Plain { starttls: false, required: false },
            Beneath::StartTls => Security::Plain { starttls: true, required: true },
            Beneath::Tls => Security::Tls { bindings: bindings(), certificate: None },
            Beneath::Certificate => Security::Tls { bindings: bindings(), certificate: Some(SPKI) },
        }
    }
}

/// Where the hub's end stands.
pub enum Phase {
    /// A resource is not bound yet.
    Negotiating(Box<Receiving>),
    /// It is.
    Bound(SessionId, Scope),
    /// Nothing more is read.
    Over,
}

/// See the module.
pub struct Connection {
    pub phase: Phase,
    pub reader: Reader,
    /// Frames may wait in the reader.
    pub stopped: bool,
    /// The number of the bind that is not answered yet: until then nothing is read.
    pub ticket: Option<u64>,
    /// What came meanwhile.
    pub unread: Vec<u8>,
    settings: Rc<Settings>,
    /// How many bytes the client's system takes; `None`: all.
    pub takes: Option<usize>,
    /// What it has not taken.
    pub wire: Vec<u8>,
    /// How the connection will end once that is taken.
    pub ending: bool,
    client: Client,
}

/// The client's end.
struct Client {
    reader: Reader,
    scan: Scan,
    scope: Scope,
    /// The client half, while it logs in.
    half: Option<Initiating>,
    via: Option<String>,
    ready: Option<String>,
    failure: Option<Failure>,
    /// What the client half wants sent.
    out: Vec<u8>,
    /// A stream header has come.
    open: bool,
    over: bool,
    inbox: VecDeque<String>,
}

impl Connection {
    pub fn new(settings: Rc<Settings>, beneath: Beneath, seed: u8) -> Connection {
        Connection {
            phase: Phase::Negotiating(Box::new(Receiving::new(
                settings.clone(),
                beneath.security(),
                [seed; 32],
            ))),
            reader: Reader::new(settings.max_bytes_early, 64),
            stopped: false,
            ticket: None,
            unread: Vec::new(),
            settings,
            takes: None,
            wire: Vec::new(),
            ending: false,
            client: Client {
                reader: Reader::new(16 << 20, 64),
                scan: Scan::new(),
                scope: Scope::default(),
                half: None,
                via: None,
                ready: None,
                failure: None,
                out: Vec::new(),
                open: false,
                over: false,
                inbox: VecDeque::new(),
            },
        }
    }

    pub fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Bound(session, _) => Some(session),
            _ => None,
        }
    }

    pub fn inbox(&mut self) -> &mut VecDeque<String> {
        &mut self.client.inbox
    }

    /// The hub's end: `<proceed/>` is sent and TLS is up. What has come behind `<starttls/>` ends it.
    pub fn secured(&mut self) {
        if !self.reader.is_empty() {
            self.phase = Phase::Over;
            self.ending = true;
        }
        if let Phase::Negotiating(stream) = &mut self.phase {
            stream.secured(bindings(), None);
            self.reader = Reader::new(self.settings.max_bytes_early, 64);
        }
    }

    /// A new stream on the same connection: the client's end of what `<success/>` and `<proceed/>` do.
    pub fn opens_anew(&mut self, bytes: &[u8]) {
        let header = bytes.starts_with(b"<stream:stream") || bytes.starts_with(b"<?xml");
        if header && std::mem::take(&mut self.client.open) {
            self.client.reader.restart();
        }
    }

    /// Starts to log in; gives the first bytes.
    pub fn login(
        &mut self,
        jid: &str,
        beneath: Beneath,
        via: Option<&str>,
        password: &str,
    ) -> Result<Vec<u8>, String> {
        let jid = stonechat::jid::Jid::parse(jid).map_err(|e| format!("{jid}: {e:?}"))?;
        let account = Account {
            jid: jid.to_bare(),
            resource: jid.resource().map(Box::from),
            password: (via != Some("EXTERNAL")).then(|| Secret::new(password)),
            register: false,
            tls: match beneath {
                Beneath::Plain => Policy::Never,
                Beneath::StartTls => Policy::Required,
                _ => Policy::Direct,
            },
            allow_plain: via == Some("PLAIN"),
            lang: None,
        };
        let mut half = Initiating::new(account, beneath.security(), [6; 32]);
        let mut out = Vec::new();
        half.start(&mut out);
        self.client.half = Some(half);
        self.client.via = via.map(str::to_owned);
        Ok(out)
    }

    /// What the client half wants to say now.
    pub fn client_says(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.client.out)
    }

    /// How the login has ended, if it has.
    pub fn logged_in(&self) -> Option<Result<&str, String>> {
        match (&self.client.ready, &self.client.failure) {
            (Some(jid), _) => Some(Ok(jid)),
            (None, Some(failure)) => Some(Err(failure.to_string())),
            (None, None) => None,
        }
    }

    /// Hands what waits to the client, unless it takes nothing. True: something has moved.
    pub fn flush(&mut self, thin: bool) -> bool {
        if self.client.over {
            return false;
        }
        let n = self.takes.map_or(self.wire.len(), |n| n.min(self.wire.len()));
        let bytes: Vec<u8> = self.wire.drain(..n).collect();
        if let Some(takes) = &mut self.takes {
            *takes -= n;
        }
        let done = self.ending && self.wire.is_empty();
        let moved = !bytes.is_empty() || done;
        for chunk in bytes.chunks(if thin { 1 } else { usize::MAX }) {
            self.client.feed(chunk);
        }
        if done {
            self.ending = false;
            self.client.over = true;
            self.client.inbox.push_back("(cut)".into());
        }
        moved
    }

    /// The connection is gone: nothing more is said or heard.
    pub fn cut(&mut self) {
        self.phase = Phase::Over;
        self.client.over = true;
    }
}

impl Client {
    fn feed(&mut self, bytes: &[u8]) {
        let edited = match &self.via {
            Some(via) if self.half.is_some() => only(bytes, via),
            _ => bytes.to_vec(),
        };
        let mut bytes = edited.as_slice();
        loop {
            let mut stopped = false;
            let mut frame_of = None;
            let fed = self.reader.feed(bytes, |kind, frame| {
                frame_of = Some((kind, frame.to_vec()));
                stopped = true;
                Ok::<_, stonechat::xml::Error>(Flow::Stop)
            });
            if let Err(error) = fed {
                self.inbox.push_back(format!("(what the hub sends is no XML: {error:?})"));
                self.over = true;
                return;
            }
            if let Some((kind, frame)) = frame_of {
                self.frame(kind, &frame);
            }
            if !stopped {
                return;
            }
            bytes = &[];
        }
    }

    fn frame(&mut self, kind: Kind, frame: &[u8]) {
        if self.half.is_some() {
            return self.negotiate(kind, frame);
        }
        let text = String::from_utf8_lossy(frame).into_owned();
        match kind {
            Kind::Keepalive => {}
            Kind::Footer => self.inbox.push_back("</stream:stream>".into()),
            Kind::Header => {
                if let Ok(text) = self.scan.header(frame, &Caps::default()) {
                    self.scope = Scope::of_header(text, &self.scan);
                    self.open = true;
                }
                self.inbox.push_back(text);
            }
            // Whatever the hub sends must be what the hub would take.
            Kind::Element => match self.scan.element(frame, &self.scope, &Caps::default()) {
                Ok(_) => self.inbox.push_back(text),
                Err(error) => self.inbox.push_back(format!("({error:?}: {text})")),
            },
        }
    }

    fn negotiate(&mut self, kind: Kind, frame: &[u8]) {
        let Some(half) = &mut self.half else { return };
        let mut need = half.frame(kind, frame, &mut self.scan, &mut self.out);
        loop {
            match need {
                Ok(None) => break,
                Ok(Some(Need::StartTls)) => {
                    half.secured(bindings());
                    self.reader = Reader::new(16 << 20, 64);
                    half.start(&mut self.out);
                    break;
                }
                Ok(Some(Need::Derive { password, salt, iterations, sha })) => {
                    let salted = passwords::derive(&password, &salt, iterations, sha);
                    need = half.derived(&salted, &mut self.out);
                }
                Ok(Some(Need::Ready { jid, .. })) => {
                    self.ready = Some(jid.to_string());
                    self.scope = half.scope().clone();
                    self.half = None;
                    self.open = true;
                    return;
                }
                Ok(Some(Need::Register { .. } | Need::Resumed { .. } | Need::Closed)) => break,
                Err(failure) => {
                    half.fail(&failure, &mut self.out);
                    self.failure = Some(failure);
                    self.half = None;
                    return;
                }
            }
        }
        if half.restarts() {
            self.reader.restart();
        }
    }
}

/// The features with no mechanism but one.
fn only(bytes: &[u8], via: &str) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for mechanism in sasl::Mechanism::ALL {
        if mechanism.name() != via {
            text = text.replace(&format!("<mechanism>{}</mechanism>", mechanism.name()), "");
        }
    }
    text.into_bytes()
}
