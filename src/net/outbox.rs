//! One connection as everybody but its reader sees it: a socket, perhaps TLS, and what waits to be
//! written. Nothing is ever written from inside routing; the flusher does it once per turn.

use super::reactor::{Socket, Wait};
use super::tls::Tls;
use crate::hub::limits::fixed;
use crate::hub::talk::{SessionId, Taken};
use crate::jid::FullJid;
use crate::stream;
use crate::xml::{Frame, Framer};
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
    /// Where it goes.
    pub conn: Rc<Conn>,
    /// Whose it is.
    pub jid: FullJid,
    /// The priority that the session had when it ended, if the hub knew it then.
    pub priority: Option<i8>,
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
    /// The socket takes no more; a task waits for it.
    blocked: bool,
    /// On the flusher's list.
    dirty: bool,
    /// Negotiation still writes; what comes for the session waits behind it.
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
        Outbox {
            conn,
            jid,
            priority: None,
            bytes: Vec::new(),
            first: 0,
            sent: 0,
            before: 0,
            taken: VecDeque::new(),
            blocked: false,
            dirty: false,
            held: true,
            refused: false,
        }
    }

    /// Whether `bound` bytes wait already.
    pub fn is_full(&mut self, bound: usize, pool: &mut Pool) -> bool {
        if self.bytes.len() - self.sent >= fixed::EARLY_WRITE && !self.blocked && !self.held {
            let _ = self.push(pool); // an error shows at the next visit as well
        }
        self.bytes.len() - self.sent >= bound
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

    /// Calls `then` when all that is in here now has been taken by the system; gives it back when
    /// that is so already.
    pub fn when_taken(&mut self, then: Taken) -> Option<Taken> {
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

    fn push(&mut self, pool: &mut Pool) -> io::Result<bool> {
        let (n, open) = self.conn.write(self.bytes.get(self.sent..).unwrap_or_default())?;
        self.sent += n;
        pool.written = pool.written.wrapping_add(n as u64);
        Ok(open)
    }

    /// How much of `bytes` the system has. Of what TLS has taken it may have only a part.
    fn gone(&self) -> usize {
        let held = self.conn.tls.borrow().as_ref().map_or(0, |tls| tls.unflushed());
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
        let Ok(open) = self.push(pool) else { return Flushed::Dead };
        self.blocked = !open;
        let reached = self.before + self.gone() as u64;
        while self.taken.front().is_some_and(|(mark, _)| *mark <= reached) {
            due.extend(self.taken.pop_front().map(|(_, then)| then));
        }
        if !open {
            if self.sent > fixed::EARLY_WRITE {
                self.cut();
            }
            return Flushed::Blocked;
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
        let gone = self.gone();
        let mut at = self.first;
        each_stanza(self.bytes.get(at..).unwrap_or_default(), |stanza| {
            let fits = at + stanza.len() <= gone;
            at += if fits { stanza.len() } else { 0 };
            fits
        });
        if at <= gone {
            self.bytes.drain(..at);
            (self.before, self.sent, self.first) = (self.before + at as u64, self.sent - at, 0);
        }
    }

    /// Puts the last words behind all else and says everything.
    pub async fn say(&mut self, words: &[u8], shared: &RefCell<Pool>) -> io::Result<()> {
        self.bytes.extend_from_slice(words);
        while !self.push(&mut shared.borrow_mut())? {
            self.conn.io.writable().await?;
        }
        Ok(())
    }

    /// The stanzas that the system has not, or not to the end. (What it has may be lost as well;
    /// that takes the other side's word, XEP-0198.)
    pub fn unsent(mut self) -> Vec<u8> {
        self.cut();
        self.bytes.drain(..self.first);
        self.bytes
    }
}

/// Walks over whole stanzas for as long as `each` says so.
pub fn each_stanza(bytes: &[u8], mut each: impl FnMut(&[u8]) -> bool) {
    let mut framer = Framer::new(usize::MAX, u16::MAX);
    let _ = framer.next(b"<stream>"); // it wants a header first
    let mut rest = bytes;
    while let Ok(Some(frame)) = framer.next(rest) {
        let Some((stanza, behind)) = rest.split_at_checked(frame.split().1) else { return };
        if !matches!(frame, Frame::Element(_)) || !each(stanza) {
            return;
        }
        rest = behind;
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
