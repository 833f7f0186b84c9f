//! One connection as everybody but its reader sees it: a socket, perhaps TLS, and what waits to be
//! written. Nothing is ever written from inside routing; the flusher does it once per turn.

use super::kept::{Kept, each_stanza, is_stanza};
use super::reactor::Socket;
use super::tls::{Tls, Wait};
use crate::hub::limits::fixed;
use crate::hub::talk::{SessionId, Taken};
use crate::jid::FullJid;
use crate::stream;
use crate::stream::management::TooHigh;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::task::Waker;

/// One connection.
pub struct Conn {
    /// The socket.
    pub io: Socket<TcpStream>,
    /// TLS, once there is any.
    pub tls: RefCell<Option<Tls>>,
    /// The other side.
    pub peer: SocketAddr,
    /// The session that was bound here.
    pub session: Cell<SessionId>,
    /// Whom its client says it is, until it has a session.
    pub login: RefCell<Option<Box<str>>>,
    /// Set when the connection has to end. (What is hardly ever there stands in a box: there are
    /// thousands of these, and most are idle.)
    end: RefCell<Option<Box<End>>>,
    /// The reader, when it waits for something else than the socket as well.
    pub reader: RefCell<Option<Waker>>,
    /// Its outbox, when the place of that was given to another session.
    pub left: RefCell<Option<Box<Outbox>>>,
}

/// Why a connection has to end.
#[derive(Debug)]
pub enum End {
    /// The other side sent `</stream:stream>`, or nothing more will come.
    Closed,
    /// We refuse to go on.
    Error(stream::Error),
    /// The socket or TLS is gone, or nobody reads: nothing more can be said.
    Dead,
}

impl Conn {
    /// A fresh connection.
    pub fn new(io: Socket<TcpStream>, peer: SocketAddr) -> Rc<Conn> {
        Rc::new(Conn {
            io,
            tls: RefCell::new(None),
            peer,
            session: Cell::new(SessionId::NONE),
            login: RefCell::default(),
            end: RefCell::new(None),
            reader: RefCell::new(None),
            left: RefCell::default(),
        })
    }

    /// Has the reader end the connection.
    pub fn kill(&self, end: End) {
        self.end.borrow_mut().get_or_insert_with(|| Box::new(end));
        self.wake_reader();
    }

    /// Whether it has to end.
    pub fn ends(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Why it has to end, if it has; the reader asks, and acts on it.
    pub fn take_end(&self) -> Option<End> {
        self.end.borrow_mut().take().map(|end| *end)
    }

    /// Has the reader woken by [`Conn::kill`] and [`Conn::wake_reader`]. One that waits as before costs
    /// nothing.
    pub fn wait(&self, reader: &Waker) {
        match &mut *self.reader.borrow_mut() {
            Some(waker) => waker.clone_from(reader),
            none => *none = Some(reader.clone()),
        }
    }

    /// Wakes the reader.
    pub fn wake_reader(&self) {
        if let Some(waker) = self.reader.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Writes what the socket takes of `bytes`: how much that was, and whether it would take more.
    fn write(&self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let mut socket = &self.io;
        let mut tls = self.tls.borrow_mut();
        let mut done = 0;
        loop {
            let rest = bytes.get(done..).unwrap_or_default();
            let wrote = match tls.as_mut() {
                Some(tls) => match tls.send(&mut socket, rest) {
                    // TLS takes less than it is given only when the socket is full.
                    Ok(n) => return Ok((done + n, n == rest.len() && !tls.wants_write())),
                    Err(e) => Err(e),
                },
                None if rest.is_empty() => return Ok((done, true)),
                None => socket.write(rest),
            };
            match wrote {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok((done, false)),
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends the alert that says why TLS is over, if the socket takes it.
    pub fn alert(&self) {
        let _ = self.write(&[]);
    }

    /// Writes bytes and waits until the system has them; for negotiation and for last words.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let (n, open) = self.write(bytes)?;
            bytes = bytes.get(n..).unwrap_or_default();
            if bytes.is_empty() && open {
                return Ok(());
            }
            self.io.writable().await?;
        }
    }
}

/// What waits to be written for a session. Empty, without memory, when idle.
pub struct Outbox {
    /// Where it goes; while there is nowhere, all that is put in here waits.
    pub conn: Option<Rc<Conn>>,
    /// Whose it is, if it is a session's.
    pub jid: Option<FullJid>,
    /// The priority that the session had when it ended, if the hub knew it then.
    pub priority: Option<i8>,
    /// How many of the first stanzas that were given up were saved before ([`Kept::saved`]).
    pub(super) saved: u32,
    /// Whole stanzas, but for the first `first` bytes.
    bytes: Vec<u8>,
    /// What negotiation had to say.
    first: usize,
    /// Written already, from the front of `bytes`.
    sent: usize,
    /// All that was ever written before `bytes`.
    before: u64,
    /// Called when that many bytes have been written.
    taken: VecDeque<(u64, Taken)>,
    /// With stream management, what is written stays in `bytes` until it is acknowledged.
    kept: Option<Box<Kept<Taken>>>,
    /// The socket takes no more; a task waits for it.
    blocked: bool,
    /// On the flusher's list.
    dirty: bool,
    /// Negotiation still writes, or there is no connection; what comes for the session waits behind it.
    held: bool,
    /// It was full when somebody had something for it.
    refused: bool,
}

/// What a visit of the flusher came to.
pub enum Flushed {
    /// All written.
    Clean,
    /// The socket is full: somebody has to wait for it.
    Blocked,
    /// The socket is dead.
    Dead,
}

impl Outbox {
    /// For a session that was just bound on `conn`.
    pub fn new(conn: Rc<Conn>, jid: FullJid) -> Outbox {
        Outbox { conn: Some(conn), jid: Some(jid), ..Outbox::without_conn() }
    }

    /// For whom there is no connection yet: see [`Outbox::attach`].
    pub fn without_conn() -> Outbox {
        Outbox {
            conn: None,
            jid: None,
            priority: None,
            saved: 0,
            bytes: Vec::new(),
            first: 0,
            sent: 0,
            before: 0,
            taken: VecDeque::new(),
            kept: None,
            blocked: false,
            dirty: false,
            held: true,
            refused: false,
        }
    }

    /// Has the reader of its connection end it.
    pub fn kill(&self, end: End) {
        if let Some(conn) = &self.conn {
            conn.kill(end);
        }
    }

    /// What waits to be written, or to be acknowledged.
    fn waits(&self) -> usize {
        let gone = self.kept.as_ref().map_or(self.sent, |kept| kept.front.min(self.sent));
        self.bytes.len() - gone
    }

    /// Whether nothing waits to be written.
    pub fn is_quiet(&self) -> bool {
        self.sent == self.bytes.len() && !self.blocked && !self.held
    }

    /// Whether `bound` bytes wait already.
    pub fn is_full(&mut self, bound: usize, pool: &mut Pool) -> bool {
        if self.bytes.len() - self.sent >= fixed::EARLY_WRITE && !self.blocked && !self.held {
            let _ = self.push(pool); // an error shows at the next visit as well
        }
        let lost = self.conn.is_none() && self.jid.is_some();
        self.waits() >= if lost { bound / fixed::LOST_SHARE } else { bound }
    }

    /// The buffer to append to, unless `bound` bytes wait already. True with it: the connection
    /// was clean and belongs on the flusher's list now.
    pub fn open(&mut self, bound: usize, pool: &mut Pool) -> Option<(&mut Vec<u8>, bool)> {
        if self.is_full(bound, pool) {
            self.refused = true;
            return None;
        }
        if self.bytes.capacity() == 0 {
            self.bytes = pool.free.pop().unwrap_or_default();
        }
        let first = !(self.dirty || self.blocked || self.held);
        self.dirty |= first;
        Some((&mut self.bytes, first))
    }

    /// Calls `then` when all that is in here now has been taken, by the system or with stream management by
    /// the other side; gives it back when that is so already.
    pub fn when_taken(&mut self, then: Taken) -> Option<Taken> {
        if let Some(kept) = &mut self.kept {
            return kept.when_taken(&self.bytes, then);
        }
        if self.bytes.len() == self.gone() {
            return Some(then);
        }
        self.taken.push_back((self.before + self.bytes.len() as u64, then));
        None
    }

    /// Negotiation is done: `first` goes out before all that has come for the session meanwhile.
    pub fn release(&mut self, first: &[u8]) {
        self.bytes.splice(0..0, first.iter().copied());
        self.first = first.len();
        self.held = false;
        self.dirty = true;
    }

    /// There is a connection now: `first` goes out on it, then all that has waited.
    pub fn attach(&mut self, conn: Rc<Conn>, first: &[u8]) {
        self.conn = Some(conn);
        if let Some(kept) = &mut self.kept {
            kept.moved(first.len());
        }
        self.release(first);
    }

    /// The connection is gone, or another comes: what was not taken waits from here on. False: a stanza was
    /// being written.
    pub fn detach(&mut self) -> bool {
        let all = self.rest();
        let (gone, whole) = (self.bytes.len() - all.len(), self.sent == 0 || self.ends_at(self.sent));
        self.before += gone as u64;
        self.bytes = all;
        if let Some(kept) = &mut self.kept {
            let mut stanzas = Vec::with_capacity(self.bytes.len());
            each_stanza(&self.bytes, |frame| {
                if is_stanza(frame) {
                    stanzas.extend_from_slice(frame);
                }
                true
            });
            self.bytes = stanzas;
            kept.moved(0);
        }
        (self.conn, self.first, self.sent) = (None, 0, 0);
        (self.held, self.blocked) = (true, false);
        whole
    }

    /// What waits, while there is no connection.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes
    }

    // ---- stream management ----------------------------------------------------------------------

    /// From here on, what is put in here stays until the other side acknowledges it (XEP-0198). What it has
    /// not acknowledged of a stream before is new to it.
    pub fn manage(&mut self) {
        let front = if self.conn.is_some() { self.bytes.len() } else { 0 };
        match &mut self.kept {
            Some(kept) => {
                kept.anew();
            }
            none => *none = Some(Box::new(Kept::from(front))),
        }
    }

    /// The bookkeeping of stream management, if there is any.
    pub(super) fn kept(&mut self) -> Option<&mut Kept<Taken>> {
        self.kept.as_deref_mut()
    }

    /// The other side has handled `h` stanzas (XEP-0198 §4). Says whether it was sent more since then, which it
    /// has to be asked for.
    pub fn acknowledge(&mut self, h: u32, pool: &mut Pool, due: &mut Vec<Taken>) -> Result<bool, TooHigh> {
        let Some(kept) = &mut self.kept else { return Ok(false) };
        let news = kept.acknowledge(h, &self.bytes, self.sent, due)?;
        // Who has handled nothing new is asked again only if others wait for it, or it would be asked for ever.
        let more = !kept.is_empty() && (news > 0 || self.refused);
        self.let_go(pool);
        let visit = more && !(self.dirty || self.blocked || self.held);
        self.dirty |= visit;
        Ok(visit)
    }

    /// The other side is back, before [`Outbox::attach`]. A stanza that it has been given too often without
    /// acknowledging it is taken out, and returned (threats A9).
    pub fn come_back(&mut self, due: &mut Vec<Taken>) -> Option<Vec<u8>> {
        let kept = self.kept.as_mut()?;
        let length = kept.come_back(&self.bytes, due)?;
        let start = kept.front.saturating_sub(length);
        let poison = self.bytes.get(start..kept.front).unwrap_or_default().to_vec();
        let front = kept.front.min(self.bytes.len());
        self.bytes.drain(..front);
        kept.cut(front);
        self.before += front as u64;
        Some(poison)
    }

    /// Whether another stanza could come in with so little waiting that it is worth telling.
    pub fn has_room(&self, bound: usize) -> bool {
        self.waits() <= bound / 2
    }

    /// Drops what was acknowledged, once that is much of what there is.
    fn let_go(&mut self, pool: &mut Pool) {
        let Some(kept) = &mut self.kept else { return };
        if self.held {
            let front = kept.front.min(self.bytes.len());
            self.bytes.drain(..front);
            kept.cut(front);
            self.before += front as u64;
            return;
        }
        if kept.is_empty() && self.sent == self.bytes.len() {
            self.before += self.sent as u64;
            (self.sent, self.first) = (0, 0);
            kept.moved_clean();
            return pool.keep(std::mem::take(&mut self.bytes));
        }
        let front = kept.front;
        if front <= self.sent && front >= self.bytes.len() / 2 {
            self.bytes.drain(..front);
            kept.cut(front);
            (self.before, self.sent, self.first) = (self.before + front as u64, self.sent - front, 0);
        }
    }

    // ---- writing --------------------------------------------------------------------------------

    fn push(&mut self, pool: &mut Pool) -> io::Result<bool> {
        let Some(conn) = &self.conn else { return Err(ErrorKind::NotConnected.into()) };
        let (n, open) = conn.write(self.bytes.get(self.sent..).unwrap_or_default())?;
        self.sent += n;
        pool.written = pool.written.wrapping_add(n as u64);
        Ok(open)
    }

    /// How much of `bytes` the system has. Of what TLS has taken it may have only a part.
    fn gone(&self) -> usize {
        let tls = self.conn.as_ref().map(|conn| conn.tls.borrow());
        let held = tls.as_ref().and_then(|tls| tls.as_ref()).map_or(0, Tls::unflushed);
        self.sent.saturating_sub(held)
    }

    /// A visit of the flusher. `due` gets what has been waiting for bytes to be taken.
    pub fn flush(&mut self, pool: &mut Pool, due: &mut Vec<Taken>) -> Flushed {
        self.dirty = false;
        if self.held || self.blocked {
            return Flushed::Clean;
        }
        self.flush_on(pool, due)
    }

    /// The same, when the socket has been waited for.
    pub fn flush_on(&mut self, pool: &mut Pool, due: &mut Vec<Taken>) -> Flushed {
        if let Some(kept) = &mut self.kept {
            kept.request(&mut self.bytes);
        }
        let Ok(open) = self.push(pool) else { return Flushed::Dead };
        self.blocked = !open;
        let reached = self.before + self.gone() as u64;
        while self.taken.front().is_some_and(|(mark, _)| *mark <= reached) {
            due.extend(self.taken.pop_front().map(|(_, then)| then));
        }
        if !open {
            if self.kept.is_some() {
                self.let_go(pool);
            } else if self.sent > fixed::EARLY_WRITE {
                self.cut();
            }
            return Flushed::Blocked;
        }
        if self.kept.is_some() {
            self.let_go(pool);
            return Flushed::Clean;
        }
        (self.before, self.sent, self.first) = (reached, 0, 0);
        pool.keep(std::mem::take(&mut self.bytes));
        Flushed::Clean
    }

    /// Whether it was full since the last time this was asked, so that something for it may have been
    /// put aside.
    pub fn was_full(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Lets go of the stanzas that the system has.
    fn cut(&mut self) {
        let at = self.whole(self.gone());
        if at <= self.gone() {
            self.bytes.drain(..at);
            (self.before, self.sent, self.first) = (self.before + at as u64, self.sent - at, 0);
        }
    }

    /// The end of the last whole stanza within the first `bound` bytes.
    fn whole(&self, bound: usize) -> usize {
        let mut at = self.first;
        each_stanza(self.bytes.get(at..).unwrap_or_default(), |stanza| {
            let fits = at + stanza.len() <= bound;
            at += if fits { stanza.len() } else { 0 };
            fits
        });
        at
    }

    /// Whether no stanza is cut in two there.
    fn ends_at(&self, place: usize) -> bool {
        place == self.bytes.len() || self.whole(place) == place
    }

    /// Puts the last words behind all else and says everything.
    pub async fn say(&mut self, words: &[u8], shared: &RefCell<Pool>) -> io::Result<()> {
        self.bytes.extend_from_slice(words);
        while !self.push(&mut shared.borrow_mut())? {
            let Some(conn) = &self.conn else { return Err(ErrorKind::NotConnected.into()) };
            conn.io.writable().await?;
        }
        Ok(())
    }

    /// The stanzas that the other side has not, as far as we know: with stream management those it has not
    /// acknowledged, and else those that the system has not, or not to the end.
    fn rest(&mut self) -> Vec<u8> {
        let gone = self.gone();
        let start = match &mut self.kept {
            Some(kept) => {
                kept.lost(&self.bytes, self.sent);
                if kept.front <= self.sent { kept.front } else { self.whole(gone) }
            }
            None => self.whole(gone),
        };
        self.bytes.get(start..).unwrap_or_default().to_vec()
    }

    /// Nothing more will be written: what the other side has not, to be given back, and then who waits to hear
    /// that it never will.
    pub fn give_up(&mut self) -> (Vec<u8>, Vec<Taken>) {
        let rest = self.rest();
        let mut waiting: Vec<Taken> =
            std::mem::take(&mut self.taken).into_iter().map(|(_, then)| then).collect();
        if let Some(mut kept) = self.kept.take() {
            self.saved = kept.saved();
            waiting.extend(kept.give_up());
        }
        self.before += self.bytes.len() as u64;
        self.bytes = Vec::new();
        (self.conn, self.first, self.sent) = (None, 0, 0);
        (self.held, self.blocked) = (true, false);
        (rest, waiting)
    }
}

/// Empty buffers of the thread: connections that have nothing to write own none.
#[derive(Default)]
pub struct Pool {
    free: Vec<Vec<u8>>,
    /// Bytes written to all connections.
    pub written: u64,
}

impl Pool {
    fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.free.len() < fixed::POOL && bytes.capacity() <= fixed::POOLED {
            bytes.clear();
            self.free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
