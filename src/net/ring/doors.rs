//! Connections and outboxes find each other, and part: of sessions, and of peers.

use super::Shared;
use crate::hub::talk::{Input, SessionId, Unreachable};
use crate::jid::{BareJid, FullJid};
use crate::net::kept::each_stanza;
use crate::net::outbox::{Conn, Outbox};
use crate::stanza::Stanza;
use crate::stream::management::TooHigh;
use crate::xml::{Caps, Scan, Scope};
use std::cell::Cell;
use std::rc::Rc;

impl Shared {
    /// Negotiation is done: `first` goes out, then what has come for the session meanwhile.
    pub fn release(&self, conn: &Rc<Conn>, first: &[u8]) {
        let session = conn.session.get();
        if let Some(outbox) = self.ring.borrow_mut().outbox(session) {
            outbox.attach(conn.clone(), first);
            self.mark(session);
        }
    }

    /// With the outbox of a session, if it has one.
    pub(in crate::net) fn with_outbox<R>(
        &self,
        id: SessionId,
        with: impl FnOnce(&mut Outbox) -> R,
    ) -> Option<R> {
        self.ring.borrow_mut().outbox(id).map(with)
    }

    /// Takes the outbox of a session out of the table.
    pub(in crate::net) fn take_outbox(&self, id: SessionId) -> Option<Outbox> {
        let mut ring = self.ring.borrow_mut();
        ring.outbox(id).filter(|_| id.peer_place().is_none())?;
        ring.boxes.get_mut(id.index as usize)?.take().map(|(_, outbox)| outbox)
    }

    /// Whether the session is one of that account's.
    pub(in crate::net) fn is_session_of(&self, id: SessionId, account: &BareJid) -> bool {
        self.hub.borrow().session(id).is_some_and(|s| s.jid.bare() == account.as_str())
    }

    /// The session's connection is going: takes it out of the tables, tells the hub, and returns
    /// its outbox, for the last words and then [`Shared::give_back`].
    pub fn part(self: &Rc<Self>, conn: &Conn) -> Option<Outbox> {
        let session = conn.session.replace(SessionId::NONE);
        let priority = self.hub.borrow().session(session).and_then(|s| s.priority());
        self.hear(Input::Closed { session });
        let mut outbox = self.take_outbox(session).or_else(|| conn.left.take().map(|outbox| *outbox));
        if let Some(outbox) = &mut outbox {
            outbox.priority = priority;
        }
        outbox
    }

    /// The task of a session's connection has failed, and is being unwound: what is left to do is
    /// done by another.
    pub fn lost(self: &Rc<Self>, conn: Rc<Conn>) {
        let shared = self.clone();
        self.spawn(async move {
            if let Some(outbox) = shared.part(&conn) {
                shared.give_back(outbox);
            }
        });
    }

    /// What a session that is gone was never sent goes back to the hub, which finds it another way
    /// (RFC 6121 §8.5.3.2.1), so that a connection that dies takes no message with it.
    pub fn give_back(self: &Rc<Self>, mut outbox: Outbox) {
        if let Some(id) = outbox.kept().and_then(|kept| kept.id) {
            self.resumable.borrow_mut().forget(id);
        }
        let (unsent, waiting) = outbox.give_up();
        if let Some(jid) = &outbox.jid {
            self.unsent(jid, outbox.priority, outbox.saved, &unsent);
        }
        for then in waiting {
            self.with_hub(|hub, mouth| then(hub, mouth, false));
        }
    }

    fn unsent(self: &Rc<Self>, jid: &FullJid, priority: Option<i8>, mut saved: u32, unsent: &[u8]) {
        self.each_of(unsent, |stanza| {
            self.hear(Input::Unsent { to: jid, priority, saved: saved > 0, stanza });
            saved = saved.saturating_sub(1);
        });
    }

    /// Reads stanzas of an outbox again.
    fn each_of(&self, bytes: &[u8], mut hear: impl FnMut(&Stanza<'_>)) {
        if bytes.is_empty() {
            return;
        }
        let mut scan = Scan::new();
        each_stanza(bytes, |text| {
            // All of it has been judged on its way in; with what we have added it may be over a cap.
            if let Ok(text) = scan.element(text, &Scope::default(), &Caps::judged_before())
                && let Some(stanza) = Stanza::new(text, &scan)
            {
                hear(&stanza);
            }
            true
        });
    }

    // ---- peers --------------------------------------------------------------------------------

    /// A stream to a peer is ready: `first` goes out on it, then what has waited, to be acknowledged if the
    /// stream is managed (XEP-0198); the hub is told. False: there is another already, or the peer is forgotten.
    pub fn attach(self: &Rc<Self>, peer: SessionId, conn: &Rc<Conn>, first: &[u8], managed: bool) -> bool {
        // Its place may be another's by now, with an outbox that holds something.
        if self.hub.borrow().peer_at(peer).is_none() {
            return false;
        }
        {
            let mut ring = self.ring.borrow_mut();
            let Some(outbox) = ring.peer(peer) else { return false };
            if outbox.conn.is_some() {
                return false;
            }
            if managed {
                outbox.manage();
            }
            outbox.attach(conn.clone(), first);
        }
        conn.session.set(peer);
        self.mark(peer);
        self.hear(Input::Linked { peer });
        true
    }

    /// There is no link to a peer any more, or none to be had: the hub is told, and gets back what was
    /// not taken. The outbox, for the last words on its connection.
    pub fn unlink(self: &Rc<Self>, peer: SessionId, why: Unreachable) -> Option<Outbox> {
        let outbox = {
            let mut ring = self.ring.borrow_mut();
            match peer.peer_place().and_then(|place| ring.peers.get_mut(place as usize)) {
                Some(slot) if slot.as_ref().is_some_and(|(g, _)| *g == peer.generation) => slot.take(),
                _ => None,
            }
        };
        self.hear(Input::Unlinked { peer, why });
        let (_, mut outbox) = outbox?;
        if let Some(conn) = &outbox.conn {
            conn.session.set(SessionId::NONE);
        }
        let conn = outbox.conn.clone();
        let (returned, waiting) = outbox.give_up();
        let mut stanzas = Vec::new();
        each_stanza(&returned, |stanza| {
            stanzas.push(stanza.len());
            true
        });
        let mut end = stanzas.iter().sum();
        for length in stanzas.into_iter().rev() {
            let start = end - length;
            let stanza = returned.get(start..end).unwrap_or_default();
            self.each_of(stanza, |stanza| self.hear(Input::Returned { peer, stanza }));
            end = start;
        }
        for then in waiting {
            self.with_hub(|hub, mouth| then(hub, mouth, false));
        }
        self.wake_behind();
        outbox.conn = conn;
        Some(outbox)
    }

    /// Whether there is a stream to a peer.
    pub fn is_linked(&self, peer: SessionId) -> bool {
        self.ring.borrow_mut().outbox(peer).is_some_and(|outbox| outbox.conn.is_some())
    }

    /// Whether a peer has been sent all that there was.
    pub fn is_quiet(&self, peer: SessionId) -> bool {
        self.ring.borrow_mut().outbox(peer).is_some_and(|outbox| outbox.is_quiet())
    }

    // ---- stream management (XEP-0198), of sessions and of peers ----------------------------------

    /// Keeps what is written from here on until it is acknowledged.
    pub fn manage(&self, id: SessionId) {
        if let Some(outbox) = self.ring.borrow_mut().outbox(id) {
            outbox.manage();
        }
    }

    /// The other side has handled `h` stanzas.
    pub fn acknowledge(self: &Rc<Self>, id: SessionId, h: u32) -> Result<(), TooHigh> {
        let (mut due, bound) = (Vec::new(), self.limits.borrow().outbox_bytes as usize);
        let drained = {
            let mut ring = self.ring.borrow_mut();
            let Some(outbox) = ring.outbox(id) else { return Ok(()) };
            if outbox.acknowledge(h, &mut self.pool.borrow_mut(), &mut due)? {
                self.mark(id);
            }
            outbox.has_room(bound) && outbox.was_full()
        };
        self.run(due);
        if drained {
            self.hear(Input::Drained { session: id });
        }
        Ok(())
    }

    /// How many stanzas the other side has acknowledged, if it has not acknowledged all.
    pub fn unacknowledged(&self, id: SessionId) -> Option<u64> {
        self.ring.borrow_mut().outbox(id)?.kept()?.unacknowledged()
    }

    /// The count of the stanzas that were heard on a managed stream; whoever reads it counts.
    pub fn inbound(&self, id: SessionId) -> Option<Rc<Cell<u32>>> {
        self.ring.borrow_mut().outbox(id)?.kept().map(|kept| kept.inbound.clone())
    }
}
