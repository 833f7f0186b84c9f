//! The world around an initiating half, in memory.

use crate::world::{bindings, derive};
use stonechat::jid::BareJid;
use stonechat::stream::{Account, Failure, Initiating, Need, Policy, Secret, Security};
use stonechat::xml::{Flow, Reader, Scan};

pub fn account() -> Account {
    Account {
        jid: BareJid::parse("alice@a.test").unwrap(),
        resource: Some("desk".into()),
        password: Some(Secret::new("pencil")),
        register: false,
        tls: Policy::Required,
        allow_plain: false,
        lang: None,
    }
}

/// An initiating half and all that it needs.
pub struct Client {
    pub stream: Initiating,
    pub reader: Reader,
    pub scan: Scan,
    /// What it asked for, by name.
    pub needed: Vec<&'static str>,
    pub ready: Option<String>,
    pub features: Vec<(Box<str>, Box<str>)>,
    pub failure: Option<Failure>,
    pub closed: bool,
    /// The password to go on with after registration.
    pub registered: Option<&'static str>,
}

impl Client {
    pub fn new(account: Account, security: Security) -> Client {
        Client {
            stream: Initiating::new(account, security, [6; 32]),
            reader: Reader::new(262_144, 64),
            scan: Scan::new(),
            needed: Vec::new(),
            ready: None,
            features: Vec::new(),
            failure: None,
            closed: false,
            registered: None,
        }
    }

    /// The first bytes.
    pub fn start(&mut self) -> String {
        let mut out = Vec::new();
        self.stream.start(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Feeds bytes and does what is needed; gives what was written.
    pub fn feed(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let mut out = Vec::new();
        let mut bytes = bytes.as_ref().to_vec();
        while !self.closed && self.ready.is_none() {
            let mut open = None;
            let mut stopped = false;
            let (stream, scan) = (&mut self.stream, &mut self.scan);
            let fed = self.reader.feed(&bytes, |kind, frame| {
                open = stream.frame(kind, frame, scan, &mut out)?;
                stopped = true;
                Ok::<_, Failure>(Flow::Stop)
            });
            bytes.clear();
            let mut result = fed.map(|()| open);
            while let Ok(Some(need)) = result {
                result = self.answer(need, &mut out);
            }
            if let Err(failure) = result {
                self.stream.fail(&failure, &mut out);
                self.failure = Some(failure);
                self.closed = true;
            }
            if self.stream.restarts() {
                self.reader.restart();
            }
            if !stopped {
                break;
            }
        }
        String::from_utf8(out).unwrap()
    }

    fn answer(&mut self, need: Need, out: &mut Vec<u8>) -> Result<Option<Need>, Failure> {
        match need {
            Need::StartTls => {
                self.needed.push("starttls");
                if self.reader.is_empty() {
                    self.stream.secured(bindings());
                    self.reader = Reader::new(262_144, 64);
                    self.stream.start(out);
                } else {
                    self.closed = true;
                }
                Ok(None)
            }
            Need::Derive { password, salt, iterations, sha } => {
                self.needed.push("derive");
                let salted = derive(&password, &salt, iterations, sha);
                self.stream.derived(&salted, out)
            }
            Need::Register { .. } => {
                self.needed.push("register");
                match self.registered {
                    Some(password) => self.stream.login(Secret::new(password), out),
                    None => Ok(None),
                }
            }
            Need::Ready { jid, features } => {
                self.needed.push("ready");
                self.ready = Some(jid.to_string());
                self.features = features;
                Ok(None)
            }
            Need::Resumed { h } => {
                self.needed.push("resumed");
                self.ready = Some(format!("resumed {h}"));
                Ok(None)
            }
            Need::Closed => {
                self.needed.push("closed");
                self.closed = true;
                Ok(None)
            }
        }
    }
}
