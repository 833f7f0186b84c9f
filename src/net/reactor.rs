//! What the hub's thread waits for: its sockets, times, and a word from another thread.
//!
//! One `epoll`, edge-triggered: a socket is registered once and costs no call of the system after that,
//! so a lone message takes three (wait, read, write). async-io arms a socket anew after each event, sets a
//! timer for each wait, and hands its turn over to a thread of its own after half a millisecond; with it the
//! same message takes eight. It serves what is rare: the console, signals, the client half.

use super::tls::Wait;
use crate::hub::limits::fixed::EVENTS;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// No wait is longer: more milliseconds than 31 bits count are not for every kernel.
const LONGEST: Duration = Duration::from_secs(86_400);
/// The key of the alarm; no socket has it.
const ALARM: u64 = u64::MAX;

/// One thread's reactor.
pub struct Reactor {
    epoll: OwnedFd,
    alarm: Arc<Alarm>,
    sources: RefCell<Slab<Rc<Source>>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next: Cell<u64>,
}

/// Wakes the thread.
struct Alarm {
    event: OwnedFd,
    rung: AtomicBool,
    /// The thread waits in the system, or is about to: flags do not reach it.
    asleep: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // Fails only when the count is full, and then it has been rung.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

/// What is known of one socket.
struct Source {
    key: usize,
    /// Its number: what comes late for a socket that is gone is not for the one in its place.
    number: u32,
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// The other side has closed, or the connection is broken; the system does not say so twice.
    ended: Cell<bool>,
    reader: Cell<Option<Waker>>,
    writers: RefCell<Vec<Waker>>,
}

impl Reactor {
    /// A reactor that has nothing to wait for.
    pub fn new() -> io::Result<Rc<Reactor>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered, so nobody has to read it empty.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &event, epoll::EventData::new_u64(ALARM), flags)?;
        let alarm = Arc::new(Alarm { event, rung: AtomicBool::new(false), asleep: AtomicBool::new(false) });
        Ok(Rc::new(Reactor {
            epoll,
            alarm,
            sources: RefCell::default(),
            timers: RefCell::default(),
            next: Cell::default(),
        }))
    }

    /// Runs a future to its end on this thread. Tasks that have work go first, but the system is asked
    /// for news between their turns.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> io::Result<T> {
        let mut future = pin!(future);
        let waker = Waker::from(self.alarm.clone());
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            // What has been rung for until here is what this turn is for.
            self.alarm.rung.store(false, Ordering::SeqCst);
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(value);
            }
            self.alarm.asleep.store(true, Ordering::SeqCst);
            let patience = if self.alarm.rung.load(Ordering::SeqCst) {
                Some(Duration::ZERO)
            } else {
                self.until_next_timer()
            };
            let waited = self.wait(&mut events, patience);
            self.alarm.asleep.store(false, Ordering::SeqCst);
            waited?;
            for event in events.drain(..) {
                self.happened(event);
            }
            self.ring_timers();
        }
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, patience: Option<Duration>) -> io::Result<()> {
        // In whole milliseconds, rounded up: that is as fine as epoll counts.
        let timeout = patience.and_then(|patience| Timespec::try_from(patience.min(LONGEST)).ok());
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn happened(&self, event: epoll::Event) {
        use epoll::EventFlags as Is;
        let (flags, data) = (event.flags, event.data);
        let key = data.u64();
        let place = usize::try_from(key & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        let source = self.sources.borrow().get(place).cloned();
        let Some(source) = source.filter(|s| u64::from(s.number) == key >> 32) else { return };
        if flags.intersects(Is::RDHUP | Is::HUP | Is::ERR) {
            source.ended.set(true);
        }
        if flags.intersects(Is::IN | Is::RDHUP | Is::HUP | Is::ERR) {
            source.readable.set(true);
            if let Some(reader) = source.reader.take() {
                reader.wake();
            }
        }
        if flags.intersects(Is::OUT | Is::HUP | Is::ERR) {
            source.writable.set(true);
            for writer in source.writers.take() {
                writer.wake();
            }
        }
    }

    fn until_next_timer(&self) -> Option<Duration> {
        let timers = self.timers.borrow();
        timers.keys().next().map(|(at, _)| at.saturating_duration_since(Instant::now()))
    }

    fn ring_timers(&self) {
        if self.timers.borrow().is_empty() {
            return;
        }
        let now = Instant::now();
        let due = || {
            let mut timers = self.timers.borrow_mut();
            let first = timers.first_entry().filter(|first| first.key().0 <= now)?;
            Some(first.remove())
        };
        // Nothing is borrowed while it is woken: that may set or drop a timer.
        while let Some(waker) = due() {
            waker.wake();
        }
    }

    /// A number that no other timer or socket has.
    fn number(&self) -> u64 {
        self.next.replace(self.next.get().wrapping_add(1))
    }

    /// Waits until then.
    pub fn at(self: &Rc<Self>, at: Instant) -> Sleep {
        Sleep { reactor: self.clone(), at, number: None }
    }

    /// Waits so long.
    pub fn after(self: &Rc<Self>, patience: Duration) -> Sleep {
        let now = Instant::now();
        // What is out of the clock's reach need not be waited for exactly.
        self.at(now.checked_add(patience).unwrap_or(now + Duration::from_secs(1 << 30)))
    }
}

/// See [`Reactor::at`].
pub struct Sleep {
    reactor: Rc<Reactor>,
    at: Instant,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| self.reactor.number());
        self.number = Some(number);
        self.reactor.timers.borrow_mut().insert((self.at, number), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.reactor.timers.borrow_mut().remove(&(self.at, number));
        }
    }
}

/// A socket of this thread's reactor. Reading and writing through it notes when the system has no more.
pub struct Socket<T> {
    io: T,
    source: Rc<Source>,
    reactor: Rc<Reactor>,
}

impl<T: AsFd> Socket<T> {
    /// Takes a socket in; it is made non-blocking.
    pub fn new(reactor: &Rc<Reactor>, io: T) -> io::Result<Socket<T>> {
        rustix::io::ioctl_fionbio(&io, true)?;
        let mut sources = reactor.sources.borrow_mut();
        let place = sources.vacant_entry();
        let source = Rc::new(Source {
            key: place.key(),
            number: (reactor.number() & u64::from(u32::MAX >> 1)) as u32,
            // The system says so if there is something already.
            readable: Cell::default(),
            writable: Cell::new(true),
            ended: Cell::default(),
            reader: Cell::default(),
            writers: RefCell::default(),
        });
        place.insert(source.clone());
        drop(sources);
        let socket = Socket { io, source, reactor: reactor.clone() };
        use epoll::EventFlags as Is;
        let Source { key, number, .. } = *socket.source;
        let data = epoll::EventData::new_u64(u64::from(number) << 32 | key as u64);
        epoll::add(&reactor.epoll, &socket.io, data, Is::IN | Is::OUT | Is::RDHUP | Is::ET)?;
        Ok(socket)
    }

    /// The socket itself, for what neither reads nor writes.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Waits for a socket that had nothing to read; one task at a time.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.source.readable.get() {
            return Poll::Ready(());
        }
        let waker = self.source.reader.take().filter(|waker| waker.will_wake(cx.waker()));
        self.source.reader.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
        Poll::Pending
    }

    /// The system has no more to read, unless it has said that there will never be.
    fn drained(&self) {
        self.source.readable.set(self.source.ended.get());
    }

    /// Tries `work`, which reads, and waits as long as it would block.
    pub async fn reading<R>(&self, work: impl Fn(&T) -> io::Result<R>) -> io::Result<R> {
        loop {
            match work(&self.io) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.source.readable.set(false);
                    std::future::poll_fn(|cx| self.poll_readable(cx)).await;
                }
                done => return done,
            }
        }
    }
}

impl Socket<TcpStream> {
    /// Connects, however long that takes.
    pub async fn connect(reactor: &Rc<Reactor>, to: SocketAddr) -> io::Result<Socket<TcpStream>> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let io = socket_with(family, SocketType::STREAM, flags, None)?;
        let done = match rustix::net::connect(&io, &to) {
            Ok(()) => true,
            Err(rustix::io::Errno::INPROGRESS) => false,
            Err(why) => return Err(why.into()),
        };
        let socket = Socket::new(reactor, TcpStream::from(io))?;
        // The system says when it may be written to: that is when it is connected, or never will be.
        socket.source.writable.set(done);
        socket.writable().await?;
        sockopt::socket_error(&socket.io)??;
        Ok(socket)
    }
}

impl<T> Drop for Socket<T> {
    fn drop(&mut self) {
        // Closing takes it out of the epoll.
        self.reactor.sources.borrow_mut().try_remove(self.source.key);
    }
}

impl<T: AsFd> Read for &Socket<T>
where
    for<'a> &'a T: Read,
{
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = (&self.io).read(buf);
        match &read {
            // A stream that gives less than it was asked for has no more.
            Ok(n) if *n < buf.len() => self.drained(),
            Err(e) if e.kind() == ErrorKind::WouldBlock => self.source.readable.set(false),
            _ => {}
        }
        read
    }
}

impl<T> Socket<T> {
    fn noting(&self, wrote: io::Result<usize>) -> io::Result<usize> {
        // Whoever has closed his half may still read ours; a broken connection does not block, it fails.
        if wrote.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock) {
            self.source.writable.set(false);
        }
        wrote
    }
}

impl<T: AsFd> Write for &Socket<T>
where
    for<'a> &'a T: Write,
{
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.noting((&self.io).write(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.noting((&self.io).write_vectored(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: AsFd + 'static> Wait for Socket<T>
where
    for<'a> &'a T: Read + Write,
{
    type Io<'a> = &'a Socket<T>;

    fn io(&self) -> &Socket<T> {
        self
    }

    async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_readable(cx)).await;
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            if self.source.writable.get() {
                return Poll::Ready(());
            }
            let mut writers = self.source.writers.borrow_mut();
            if !writers.iter().any(|writer| writer.will_wake(cx.waker())) {
                writers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use smol::future::{or, zip};
    use std::net::{Shutdown, TcpListener, TcpStream};

    fn sockets(reactor: &Rc<Reactor>) -> (Socket<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Socket::new(reactor, listener.accept().unwrap().0).unwrap(), far)
    }

    async fn read(socket: &Socket<TcpStream>, room: usize) -> Vec<u8> {
        let mut buf = vec![0; room];
        loop {
            match (&mut &*socket).read(&mut buf) {
                Ok(n) => return buf.drain(..n).collect(),
                Err(e) if e.kind() == ErrorKind::WouldBlock => socket.readable().await.unwrap(),
                Err(e) => panic!("{e}"),
            }
        }
    }

    #[test]
    fn a_word_from_another_thread_wakes() {
        let reactor = Reactor::new().unwrap();
        let (tell, told) = smol::channel::bounded(1);
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            tell.try_send(5).unwrap();
        });
        assert_eq!(reactor.run(told.recv()).unwrap(), Ok(5));
        other.join().unwrap();
    }

    #[test]
    fn times_come_in_their_order() {
        let reactor = Reactor::new().unwrap();
        let seen = RefCell::new(Vec::new());
        let wait = async |ms: u64| {
            reactor.after(Duration::from_millis(ms)).await;
            seen.borrow_mut().push(ms);
        };
        reactor.run(zip(wait(30), zip(wait(1), wait(15)))).unwrap();
        assert_eq!(*seen.borrow(), [1, 15, 30]);
        // Who loses patience with a time leaves nothing behind; far beyond the clock is just far.
        let never = async {
            reactor.after(Duration::MAX).await;
            false
        };
        let soon = async {
            reactor.after(Duration::from_millis(1)).await;
            true
        };
        assert!(reactor.run(or(never, soon)).unwrap());
        assert!(reactor.timers.borrow().is_empty());
    }

    #[test]
    fn bytes_and_the_end_behind_them_are_told_once_each() {
        let reactor = Reactor::new().unwrap();
        let (near, far) = sockets(&reactor);
        let writing = async {
            for word in [b"one", b"two"] {
                (&far).write_all(word).unwrap();
                reactor.after(Duration::from_millis(5)).await;
            }
            // In one event: what is read first leaves the end to be read.
            (&far).write_all(b"three").unwrap();
            far.shutdown(Shutdown::Write).unwrap();
        };
        let reading = async {
            assert_eq!(read(&near, 10).await, b"one");
            assert_eq!(read(&near, 10).await, b"two");
            reactor.after(Duration::from_millis(20)).await;
            assert_eq!(read(&near, 3).await, b"thr");
            assert_eq!(read(&near, 10).await, b"ee");
            assert_eq!(read(&near, 10).await, b"");
        };
        reactor.run(zip(writing, reading)).unwrap();
    }

    #[test]
    fn all_who_wait_for_room_are_woken() {
        let reactor = Reactor::new().unwrap();
        let (near, mut far) = sockets(&reactor);
        let mut filled = 0;
        while let Ok(n) = (&near).write(&[0; 65536]) {
            filled += n;
        }
        let emptying = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            let mut all = vec![0; filled];
            far.read_exact(&mut all).unwrap();
            far
        });
        let wait = async || near.writable().await.unwrap();
        reactor.run(zip(wait(), wait())).unwrap();
        drop(emptying.join().unwrap());
    }

    /// The other side has closed its half, and reads nothing: who writes waits, and does not try without end.
    #[test]
    fn half_closed_and_full_is_not_room() {
        let reactor = Reactor::new().unwrap();
        let (near, far) = sockets(&reactor);
        far.shutdown(Shutdown::Write).unwrap();
        let room = async {
            near.readable().await.unwrap(); // the end has been told
            while (&near).write(&[0; 65536]).is_ok() {}
            near.writable().await.unwrap();
            true
        };
        let late = async {
            reactor.after(Duration::from_millis(50)).await;
            false
        };
        assert!(!reactor.run(or(room, late)).unwrap());
    }

    #[test]
    fn what_comes_late_for_a_socket_that_is_gone_is_not_for_the_next() {
        let reactor = Reactor::new().unwrap();
        let (near, far) = sockets(&reactor);
        (&far).write_all(b"x").unwrap();
        let mut events = Vec::with_capacity(EVENTS);
        reactor.wait(&mut events, Some(Duration::from_millis(100))).unwrap();
        assert!(!events.is_empty());
        drop(near);
        let (next, _far) = sockets(&reactor);
        assert_eq!(next.source.key, 0);
        for event in events {
            reactor.happened(event);
        }
        assert!(!next.source.readable.get());
    }
}
