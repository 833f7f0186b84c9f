//! What waits is written: the flusher, once for each dirty outbox in a turn, and whoever waits for a slow reader.

use super::Shared;
use crate::hub::talk::{Input, SessionId};
use crate::net::outbox::{Conn, End, Flushed};
use crate::net::tls::Wait;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

impl Shared {
    pub(super) fn mark(&self, session: SessionId) {
        self.dirty.borrow_mut().push(session);
        if let Some(waker) = self.flusher.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The flusher: lets every ready reader go first, then writes each dirty outbox once.
    pub async fn flush_for_ever(self: Rc<Self>) {
        loop {
            std::future::poll_fn(|cx| {
                if self.dirty.borrow().is_empty() {
                    *self.flusher.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            smol::future::yield_now().await;
            self.flush_once();
        }
    }

    fn flush_once(self: &Rc<Self>) {
        let mut list = std::mem::take(&mut *self.dirty.borrow_mut());
        let (mut due, mut drained) = (Vec::new(), Vec::new());
        let bound = self.limits.borrow().outbox_bytes as usize;
        for session in &list {
            let mut ring = self.ring.borrow_mut();
            let Some(outbox) = ring.outbox(*session) else { continue };
            match outbox.flush(&mut self.pool.borrow_mut(), &mut due) {
                Flushed::Clean if outbox.has_room(bound) && outbox.was_full() => drained.push(*session),
                Flushed::Clean => {}
                Flushed::Dead => outbox.kill(End::Dead),
                Flushed::Blocked => {
                    let Some(conn) = outbox.conn.clone() else { continue };
                    let (shared, session) = (self.clone(), *session);
                    self.spawn(async move { shared.drain(&conn, session).await });
                }
            }
        }
        list.clear();
        let mut dirty = self.dirty.borrow_mut();
        if dirty.is_empty() {
            *dirty = list; // keep its memory
        }
        drop(dirty);
        if !due.is_empty() {
            self.run(due);
        }
        for session in drained {
            self.hear(Input::Drained { session });
        }
    }

    /// Waits for a slow reader, for as long as it takes something now and then.
    async fn drain(self: Rc<Self>, conn: &Rc<Conn>, session: SessionId) {
        loop {
            let patience = Duration::from_secs(self.limits().stall_seconds);
            let ready = smol::future::or(async { conn.io.writable().await.is_ok() }, async {
                self.reactor.after(patience).await;
                false
            })
            .await;
            let mut due = Vec::new();
            let flushed = {
                let mut ring = self.ring.borrow_mut();
                let Some(outbox) = ring.outbox(session) else { return };
                if !outbox.conn.as_ref().is_some_and(|now| Rc::ptr_eq(now, conn)) {
                    return; // it goes another way now
                }
                if ready { outbox.flush_on(&mut self.pool.borrow_mut(), &mut due) } else { Flushed::Dead }
            };
            self.run(due);
            match flushed {
                Flushed::Blocked => {}
                // There is nobody to tell: what we would say waits behind what is not read.
                Flushed::Dead => return conn.kill(End::Dead),
                // What was put aside for it while it was slow can come now.
                Flushed::Clean => return self.hear(Input::Drained { session }),
            }
        }
    }
}
