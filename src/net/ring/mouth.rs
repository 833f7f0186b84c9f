//! What the hub says, and where it goes.

use super::{Done, Resume, Ring, Shared, end};
use crate::hub::talk::{Derived, Password, SessionId, Sink, Taken, Then};
use crate::jid::FullJid;
use crate::net::outbox::{End, Outbox};
use crate::stanza;
use crate::store::change::{Answer, Ask, Change, Job};
use crate::stream::{self, Condition, Secret, sasl};
use smol::channel::Sender;
use std::rc::Rc;

/// What the hub says goes straight to its place.
pub struct Mouth<'a> {
    pub(super) shared: &'a Rc<Shared>,
    pub(super) ring: std::cell::RefMut<'a, Ring>,
}

impl Mouth<'_> {
    fn wait(&mut self, resume: Resume) -> (u64, Sender<(u64, Done)>) {
        self.ring.next += 1;
        let number = self.ring.next;
        self.ring.waiting.insert(number, resume);
        (number, self.shared.done.clone())
    }
}

impl Sink for Mouth<'_> {
    fn outbox(&mut self, to: SessionId) -> Option<&mut Vec<u8>> {
        let bound = self.shared.limits.borrow().outbox_bytes as usize;
        let outbox = match to.peer_place() {
            Some(_) => self.ring.peer(to)?,
            None => self.ring.outbox(to)?,
        };
        let (bytes, first) = outbox.open(bound, &mut self.shared.pool.borrow_mut())?;
        if first {
            self.shared.mark(to);
        }
        Some(bytes)
    }

    fn must(&mut self, to: SessionId) -> Option<&mut Vec<u8>> {
        let bound = self.shared.limits.borrow().outbox_bytes as usize;
        if let Some(outbox) = self.ring.outbox(to)
            && outbox.is_full(bound, &mut self.shared.pool.borrow_mut())
        {
            if outbox.conn.is_none() && to.peer_place().is_none() {
                let shared = self.shared.clone();
                self.shared.spawn(async move { shared.expire(to) });
            }
            outbox.kill(end(Condition::ResourceConstraint));
            return None;
        }
        self.outbox(to)
    }

    fn store(&mut self, changes: Vec<Change>, ask: Ask, then: Then) {
        let (number, done) = self.wait(Box::new(move |hub, sink, done| {
            if let Done::Answer(answer) = done {
                then(hub, sink, answer);
            }
        }));
        let then = Box::new(move |answer| drop(done.try_send((number, Done::Answer(answer)))));
        self.shared.store.submit(Job { changes, ask, then });
    }

    fn taken(&mut self, by: SessionId, then: Taken) {
        let waits = match self.ring.outbox(by) {
            Some(outbox) => outbox.when_taken(then).map(|then| (then, true)),
            None => Some((then, false)),
        };
        if let Some((then, taken)) = waits {
            // Already so, or never to be: but not from inside the hub.
            let (number, done) = self.wait(Box::new(move |hub, sink, _| then(hub, sink, taken)));
            let _ = done.try_send((number, Done::Answer(Answer::Nothing)));
        }
    }

    fn dial(&mut self, peer: SessionId, after_ms: u64) {
        let _ = self.shared.dials.0.try_send((peer, after_ms));
    }

    fn derive(&mut self, password: Password, then: Derived) {
        let (number, done) = self.wait(Box::new(move |hub, sink, done| {
            if let Done::Keys(keys) = done {
                then(hub, sink, keys);
            }
        }));
        let shared = self.shared.clone();
        self.shared.spawn(async move {
            let password = Secret::new(password.0);
            let work = move || sasl::keys(&password, crate::net::salts(), crate::net::desk::ITERATIONS);
            if let Some(keys) = shared.workers.run(work).await {
                let _ = done.try_send((number, Done::Keys(Box::new(keys))));
            }
        });
    }

    fn bound(&mut self, ticket: u64, outcome: Result<(SessionId, &FullJid), stanza::Error>) {
        let Some((conn, tell)) = self.ring.tickets.remove(&ticket) else { return };
        let outcome = outcome.map(|(session, jid)| {
            conn.session.set(session);
            let index = session.index as usize;
            if self.ring.boxes.len() <= index {
                self.ring.boxes.resize_with(index + 1, || None);
            }
            if let Some(slot) = self.ring.boxes.get_mut(index)
                && let Some((_, old)) = slot.replace((session.generation, Outbox::new(conn, jid.clone())))
                && let Some(conn) = old.conn.clone()
            {
                *conn.left.borrow_mut() = Some(Box::new(old));
            }
            (session, jid.clone())
        });
        let _ = tell.try_send(outcome);
    }

    fn revoke(&mut self, localpart: &str) {
        for conn in self.shared.early.borrow().iter() {
            if conn.login.borrow().as_deref() == Some(localpart) {
                conn.kill(end(Condition::NotAuthorized));
            }
        }
    }

    fn close(&mut self, session: SessionId, error: stream::Error) {
        let Some(outbox) = self.ring.outbox(session) else { return };
        if outbox.conn.is_some() || session.peer_place().is_some() {
            return outbox.kill(End::Error(error));
        }
        // It waits to be resumed: there is nobody to tell.
        let left = self.ring.boxes.get_mut(session.index as usize).and_then(Option::take);
        if let Some((_, outbox)) = left {
            let shared = self.shared.clone();
            self.shared.spawn(async move { shared.give_back(outbox) });
        }
    }
}
