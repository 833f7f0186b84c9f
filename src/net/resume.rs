//! Streams that are lost and found again (XEP-0198 §5): the session stays, its outbox waits, and a new
//! connection takes the old one's place.

use super::kept::{each_stanza, is_stanza};
use super::outbox::{Conn, End};
use super::ring::Shared;
use crate::hub::talk::{Input, SessionId};
use crate::jid::BareJid;
use crate::stream::management::TooHigh;
use crate::stream::{self, Condition};
use crate::xml::{Caps, Scan, Scope, unescape};
use smol::channel;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What may be resumed.
#[derive(Default)]
pub(super) struct Resumable {
    /// By the id that its client was told. It is good for one account only (threats C6).
    by_id: HashMap<u128, SessionId>,
    /// Those that have lost their connection, the oldest first, and since when.
    away: VecDeque<(SessionId, Instant)>,
    /// A task looks after them.
    watched: bool,
}

/// A session on a new connection.
pub struct Resumed {
    /// Which.
    pub session: SessionId,
    /// The stanzas that were heard from it.
    pub h: u32,
}

/// Why there is no such thing to resume.
pub enum NotResumed {
    /// It is unknown, somebody else's, or over; which, is not told.
    NotFound,
    /// The client has handled more than it was sent.
    TooHigh(TooHigh),
}

impl Resumable {
    /// Another outbox is at its end. A session that was replaced while it was away must not be counted as one
    /// that may still come back, or others would have to go for it.
    pub fn forget(&mut self, id: u128) {
        if let Some(session) = self.by_id.remove(&id) {
            self.is_back(session);
        }
    }

    fn is_back(&mut self, session: SessionId) {
        self.away.retain(|(id, _)| *id != session);
    }
}

impl Shared {
    /// `<enable/>` on a bound stream (XEP-0198 §3). The count of what is heard from now on, to go on with.
    pub(super) fn enable(self: &Rc<Self>, session: SessionId, resume: bool) -> Option<Rc<Cell<u32>>> {
        let (mut words, max) = (Vec::new(), self.limits().resume_seconds);
        let id = (resume && max > 0).then(|| u128::from_be_bytes(super::random()));
        let name = id.map(|id| format!("{id:032x}"));
        stream::management::enabled(name.as_deref().map(|id| (id, max)), &mut words);
        if !self.with_hub(|hub, mouth| hub.send(mouth, session, &words)) {
            return None;
        }
        self.manage(session);
        if let Some(id) = id
            && self.with_outbox(session, |outbox| outbox.kept().map(|kept| kept.id = Some(id)).is_some())
                == Some(true)
        {
            self.resumable.borrow_mut().by_id.insert(id, session);
        }
        self.inbound(session)
    }

    /// The session's connection is lost. False: it ends with it.
    pub(super) fn hibernate(self: &Rc<Self>, conn: &Conn) -> bool {
        let session = conn.session.get();
        if self.with_hub(|hub, _| hub.session(session).is_none()) {
            return false;
        }
        let kept = self.with_outbox(session, |outbox| {
            let resumable = outbox.kept().is_some_and(|kept| kept.id.is_some());
            resumable.then(|| outbox.detach())
        });
        if kept.flatten().is_none() {
            return false;
        }
        conn.session.set(SessionId::NONE);
        let limits = self.limits();
        let (watch, oldest) = {
            let mut resumable = self.resumable.borrow_mut();
            resumable.away.push_back((session, Instant::now()));
            let many = resumable.away.len() as u64 > limits.hibernated;
            (
                !std::mem::replace(&mut resumable.watched, true),
                many.then(|| resumable.away.pop_front()).flatten(),
            )
        };
        log::debug!("{}: lost, may be resumed", conn.peer);
        self.save(session);
        if let Some((oldest, _)) = oldest {
            self.expire(oldest);
        }
        if watch {
            let shared = self.clone();
            self.spawn(async move { shared.watch().await });
        }
        true
    }

    /// The hub hears that a session has lost its connection, and what it has not acknowledged.
    fn save(self: &Rc<Self>, session: SessionId) {
        let waiting = self.with_outbox(session, |outbox| outbox.waiting().to_vec()).unwrap_or_default();
        let mut unread = Vec::new();
        let mut at = 0;
        each_stanza(&waiting, |frame| {
            unread.extend(waiting.get(at..at + frame.len()).and_then(|f| std::str::from_utf8(f).ok()));
            at += frame.len();
            true
        });
        let has = |shared: &Rc<Shared>| {
            shared.with_hub(|hub, _| hub.session(session).is_some_and(|session| session.has_saved()))
        };
        let before = has(self);
        self.hear(Input::Lost { session, unread: &unread });
        let now = has(self);
        // What came since the last time is not among them.
        if before != now {
            self.with_outbox(session, |outbox| {
                if let Some(kept) = outbox.kept() {
                    kept.save(&waiting, now);
                }
            });
        }
    }

    /// Ends those that were not resumed in time.
    async fn watch(self: Rc<Self>) {
        loop {
            let patience = Duration::from_secs(self.limits().resume_seconds.min(86_400));
            let due = {
                let mut resumable = self.resumable.borrow_mut();
                let Some((_, since)) = resumable.away.front() else {
                    resumable.watched = false;
                    return;
                };
                *since + patience
            };
            let now = Instant::now();
            if now < due {
                self.reactor.at(due).await;
                continue;
            }
            let oldest = self.resumable.borrow_mut().away.pop_front();
            if let Some((session, _)) = oldest {
                self.expire(session);
            }
        }
    }

    /// A session without a connection is over: what it has not acknowledged goes another way.
    pub(super) fn expire(self: &Rc<Self>, session: SessionId) {
        let priority = self.with_hub(|hub, _| hub.session(session).and_then(|s| s.priority()));
        self.hear(Input::Closed { session });
        self.orphan(session, priority);
    }

    /// The hub has forgotten a session that has no connection.
    pub(super) fn orphan(self: &Rc<Self>, session: SessionId, priority: Option<i8>) {
        if let Some(mut outbox) = self.take_outbox(session) {
            outbox.priority = priority;
            self.give_back(outbox);
        }
    }

    /// Ends all that have no connection: the hub stops.
    pub fn end_hibernation(self: &Rc<Self>) {
        let all = std::mem::take(&mut self.resumable.borrow_mut().away);
        for (session, _) in all {
            self.expire(session);
        }
    }

    /// `<resume/>` (XEP-0198 §5): `conn` takes the session over, and [`Shared::release`] comes next.
    pub async fn resume(
        self: &Rc<Self>,
        conn: &Rc<Conn>,
        account: &BareJid,
        previd: &str,
        h: u32,
    ) -> Result<Resumed, NotResumed> {
        let id = u128::from_str_radix(previd, 16).map_err(|_| NotResumed::NotFound)?;
        let session = self.resumable_by(account, id).ok_or(NotResumed::NotFound)?;
        // What we say that we have handled is on disk.
        let (tell, told) = channel::bounded(1);
        self.with_hub(|hub, mouth| {
            hub.after_pending(mouth, session, move |_, _| {
                let _ = tell.try_send(());
            })
        });
        let _ = told.recv().await;
        // Who came first meanwhile has it; it is taken from him as from a connection that is lost and does not
        // know it yet.
        if self.resumable_by(account, id) != Some(session) {
            return Err(NotResumed::NotFound);
        }
        self.acknowledge(session, h).map_err(NotResumed::TooHigh)?;
        let mut due = Vec::new();
        let taken = self.with_outbox(session, |outbox| {
            let old = outbox.conn.clone();
            let whole = outbox.detach();
            // Who is still there has not died of anything.
            let poison = if old.is_none() { outbox.come_back(&mut due) } else { None };
            outbox.conn = Some(conn.clone());
            (old, whole, poison, outbox.kept().map_or(0, |kept| kept.inbound.get()))
        });
        self.run(due);
        let Some((old, whole, poison, h)) = taken else { return Err(NotResumed::NotFound) };
        if let Some(old) = old {
            old.session.set(SessionId::NONE);
            old.kill(if whole { super::ring::end(Condition::Conflict) } else { End::Dead });
        }
        if let Some(poison) = poison {
            quarantined(account, &poison);
        }
        conn.session.set(session);
        self.resumable.borrow_mut().is_back(session);
        Ok(Resumed { session, h })
    }

    /// The session of that account that may be resumed by that id.
    fn resumable_by(&self, account: &BareJid, id: u128) -> Option<SessionId> {
        let session = self.resumable.borrow().by_id.get(&id).copied()?;
        self.is_session_of(session, account).then_some(session)
    }
}

/// A stanza that its reader cannot stand is said to the operator, without what is in it (threats A9).
fn quarantined(account: &BareJid, poison: &[u8]) {
    let mut scan = Scan::new();
    each_stanza(poison, |frame| {
        if is_stanza(frame)
            && let Ok(text) = scan.element(frame, &Scope::default(), &Caps::judged_before())
        {
            let id = scan.attr(text, "id").map(unescape).unwrap_or_default();
            log::warn!(
                "{account} was sent a stanza four times and never acknowledged it: it is not sent again (id {})",
                super::cert::printable(&id, 64)
            );
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_the_end_is_not_away() {
        let mut resumable = Resumable::default();
        for n in 0..3 {
            let session = SessionId { index: n, generation: 7 };
            resumable.by_id.insert(n.into(), session);
            resumable.away.push_back((session, Instant::now()));
        }
        resumable.forget(1);
        let left: Vec<u32> = resumable.away.iter().map(|(session, _)| session.index).collect();
        assert_eq!((left, resumable.by_id.len()), (vec![0, 2], 2));
    }
}
