//! A hub with its accounts logged in and nothing around it: what it says to a session goes into
//! that session's buffer. For measuring; tests/common has a ring that behaves like the real one.

#![allow(dead_code, missing_docs)] // each user needs a part of this
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::VecDeque;
use stonechat::hub::limits::Limits;
use stonechat::hub::talk::{Derived, Input, Now, Password, SessionId, Sink, Taken, Then};
use stonechat::hub::{Hub, Names};
use stonechat::jid::{BareJid, FullJid};
use stonechat::stanza::{self, Stanza};
use stonechat::store::change::{AccountId, Answer, Ask, Change, Item, Loaded, Subscription};
use stonechat::xml::{Caps, Flow, Kind, Reader, Scan, Scope, ns};
use stonechat::{stream, xep, xml};

pub const DOMAIN: &str = "hub.test";

/// Outboxes; and the store's jobs, of which those that load an account are answered.
#[derive(Default)]
pub struct Boxes {
    boxes: Vec<Vec<u8>>,
    jobs: VecDeque<(Ask, Then)>,
    bound: Option<SessionId>,
}

impl Boxes {
    /// What has been said to a session.
    pub fn of(&mut self, id: SessionId) -> &mut Vec<u8> {
        &mut self.boxes[id.index as usize]
    }

    /// Throws away what has been said; the buffers stay. How many bytes that were.
    pub fn clear(&mut self) -> usize {
        self.boxes.iter_mut().map(|b| (b.len(), b.clear()).0).sum()
    }
}

impl Sink for Boxes {
    fn outbox(&mut self, to: SessionId) -> Option<&mut Vec<u8>> {
        self.boxes.get_mut(to.index as usize)
    }

    fn store(&mut self, _: Vec<Change>, ask: Ask, then: Then) {
        self.jobs.push_back((ask, then));
    }

    fn taken(&mut self, _: SessionId, _: Taken) {}

    fn dial(&mut self, _: SessionId, _: u64) {}

    fn derive(&mut self, _: Password, _: Derived) {}

    fn bound(&mut self, _: u64, outcome: Result<(SessionId, &FullJid), stanza::Error>) {
        let (id, _) = outcome.unwrap();
        self.boxes.resize_with(self.boxes.len().max(id.index as usize + 1), Vec::new);
        self.bound = Some(id);
    }

    fn revoke(&mut self, _: &str) {}

    fn close(&mut self, _: SessionId, error: stream::Error) {
        panic!("{error}");
    }
}

/// The hub, and what a connection keeps.
pub struct World {
    pub hub: Hub,
    pub boxes: Boxes,
    pub sessions: Vec<SessionId>,
    pub now: Now,
    reader: Reader,
    scan: Scan,
    scope: Scope,
}

impl World {
    /// `u0`, `u1`, … with a session `/lg` each, available; `u0` and all others see each other.
    pub fn new(accounts: usize) -> World {
        let now = Now { unix_ms: 1_790_000_000_000, mono_ms: 5_000 };
        let names = Names { domain: DOMAIN.into(), aliases: Vec::new() };
        let mut world = World {
            hub: Hub::new(names, Limits::default(), xep::ALL, now, 7),
            boxes: Boxes::default(),
            sessions: Vec::new(),
            now,
            reader: Reader::new(262_144, 64),
            scan: Scan::new(),
            scope: Scope {
                default: ns::CLIENT.into(),
                prefixes: vec![("stream".into(), ns::STREAM.into())],
                lang: None,
            },
        };
        world.feed(0, b"<stream:stream xmlns='jabber:client' xmlns:stream='s'>");
        for n in 0..accounts {
            world.log_in(n, accounts);
        }
        for n in 0..accounts {
            world.feed(n, b"<presence/>");
        }
        world.boxes.clear();
        world
    }

    fn log_in(&mut self, n: usize, accounts: usize) {
        let account = BareJid::parse(&format!("u{n}@{DOMAIN}")).unwrap();
        let bind = Input::Bind { ticket: 0, account: &account, resource: "lg", lang: None };
        self.hub.handle(self.now, bind, &mut self.boxes);
        while let Some((ask, then)) = self.boxes.jobs.pop_front() {
            let friends = if n == 0 { 1..accounts } else { 0..1 };
            let item = |n| Item {
                jid: format!("u{n}@{DOMAIN}").into(),
                subscription: Subscription::Both,
                listed: true,
                ..Item::default()
            };
            let loaded = Loaded {
                id: n as AccountId,
                version: 1,
                roster: friends.map(item).collect(),
                blocked: Vec::new(),
                offline: (0, 0),
            };
            let answer = match ask {
                Ask::Account { .. } => Answer::Account(Some(Box::new(loaded))),
                _ => Answer::Nothing,
            };
            then(&mut self.hub, &mut self.boxes, answer);
        }
        self.sessions.push(self.boxes.bound.take().unwrap());
    }

    /// Bytes of one session's stream, on their whole way.
    pub fn feed(&mut self, from: usize, bytes: &[u8]) {
        let World { hub, boxes, sessions, now, reader, scan, scope } = self;
        let caps = Caps::default();
        reader
            .feed(bytes, |kind, frame| {
                if kind == Kind::Element {
                    let text = scan.element(frame, scope, &caps)?;
                    let stanza = Stanza::new(text, scan).unwrap();
                    hub.handle(*now, Input::Stanza { from: sessions[from], stanza: &stanza }, boxes);
                }
                Ok::<_, xml::Error>(Flow::Go)
            })
            .unwrap();
    }

    /// One stanza that has been judged already, into the hub.
    pub fn hear(&mut self, from: usize, stanza: &Stanza<'_>) {
        let from = self.sessions[from];
        self.hub.handle(self.now, Input::Stanza { from, stanza }, &mut self.boxes);
    }
}

/// A chat message of the size that the comparison with other servers uses.
pub fn chat(to: usize) -> String {
    let body = "lgm:1:2:".to_owned() + &"x".repeat(92);
    format!("<message to='u{to}@{DOMAIN}/lg' type='chat' id='m1'><body>{body}</body></message>")
}
