//! What the hub has said, until the world carries it out.

use std::collections::{HashMap, VecDeque};
use stonechat::hub::talk::{Derived, Password, SessionId, Sink, Taken, Then};
use stonechat::jid::FullJid;
use stonechat::stanza;
use stonechat::store::change::{Ask as StoreAsk, Change};
use stonechat::stream::{self, Condition};

/// The outcome of a bind.
pub type Bound = Result<(SessionId, FullJid), stanza::Error>;

/// What the hub has said and nobody has carried out yet.
#[derive(Default)]
pub struct Ring {
    pub outboxes: HashMap<SessionId, Vec<u8>>,
    /// Bytes that wait for a client that takes none; its outbox may be full.
    pub waiting: HashMap<SessionId, usize>,
    pub max: usize,
    pub jobs: VecDeque<(Vec<Change>, StoreAsk, Then)>,
    pub derivations: VecDeque<(Password, Derived)>,
    pub taken: Vec<(SessionId, Taken)>,
    pub bound: Vec<(u64, Bound)>,
    pub closed: Vec<(SessionId, stream::Error)>,
}

impl Sink for Ring {
    fn outbox(&mut self, to: SessionId) -> Option<&mut Vec<u8>> {
        let waiting = self.waiting.get(&to).copied().unwrap_or(0);
        self.outboxes.get_mut(&to).filter(|bytes| bytes.len() + waiting < self.max)
    }

    fn must(&mut self, to: SessionId) -> Option<&mut Vec<u8>> {
        if self.outboxes.contains_key(&to) && self.outbox(to).is_none() {
            self.closed.push((to, Condition::ResourceConstraint.into()));
        }
        self.outbox(to)
    }

    fn store(&mut self, changes: Vec<Change>, ask: StoreAsk, then: Then) {
        self.jobs.push_back((changes, ask, then));
    }

    fn taken(&mut self, by: SessionId, then: Taken) {
        self.taken.push((by, then));
    }

    fn dial(&mut self, _: SessionId, _: u64) {}

    fn derive(&mut self, password: Password, then: Derived) {
        self.derivations.push_back((password, then));
    }

    fn bound(&mut self, ticket: u64, outcome: Result<(SessionId, &FullJid), stanza::Error>) {
        let outcome = outcome.map(|(id, jid)| {
            self.outboxes.insert(id, Vec::new());
            (id, jid.clone())
        });
        self.bound.push((ticket, outcome));
    }

    fn revoke(&mut self, _: &str) {}

    fn close(&mut self, session: SessionId, error: stream::Error) {
        self.closed.push((session, error));
    }
}
