//! A client's connection from accept to close (RFC 6120 §4.3, §4.4): negotiation, which is boxed and
//! dropped once a resource is bound; then [`Drive`]; then the last words.

use super::drive::Drive;
use super::outbox::{Conn, End, Outbox};
use super::reactor::{Sleep, Socket};
use super::resume::NotResumed;
use super::ring::{Scratch, Shared};
use super::tls::{self, Tls, Wait};
use crate::hub::talk::{Input, SessionId};
use crate::store::change::{Answer, Ask as StoreAsk};
use crate::stream::{self, Ask, Condition, Receiving, Security, sasl};
use crate::xml::{Flow, Kind, Reader, Scope};
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// What a listener is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// `--c2s`: nothing before STARTTLS (RFC 7590 §3.1).
    Starttls,
    /// `--c2s-tls`: TLS from the first byte (XEP-0368).
    Direct,
    /// `--c2s-plain`: TLS is offered, not required; never PLAIN without it.
    Plain,
}

/// One connection's place in the counts.
pub struct Place {
    shared: Rc<Shared>,
    address: IpAddr,
    early: bool,
}

impl Place {
    /// A place for a new connection, if there is one.
    pub fn take(shared: &Rc<Shared>, address: IpAddr) -> Option<Place> {
        let limits = shared.limits();
        let mut connections = shared.connections.borrow_mut();
        let here = connections.by_address.get(&address).copied().unwrap_or(0);
        if connections.total >= limits.connections
            || connections.early >= limits.unauthenticated
            || here >= limits.connections_per_address
        {
            return None;
        }
        connections.total += 1;
        connections.early += 1;
        connections.by_address.insert(address, here + 1);
        Some(Place { shared: shared.clone(), address, early: true })
    }

    /// The same place, of a connection that has a session now.
    pub(super) fn settled(mut self) -> Place {
        self.settle();
        self
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.early) {
            self.shared.connections.borrow_mut().early -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.settle();
        let mut connections = self.shared.connections.borrow_mut();
        connections.total -= 1;
        match connections.by_address.get_mut(&self.address) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(connections.by_address.remove(&self.address)),
        }
    }
}

/// A connection's place on the list of those that have no session yet.
pub(super) struct Early {
    shared: Rc<Shared>,
    conn: Rc<Conn>,
}

impl Early {
    pub(super) fn new(shared: &Rc<Shared>, conn: &Rc<Conn>) -> Early {
        shared.early.borrow_mut().push(conn.clone());
        Early { shared: shared.clone(), conn: conn.clone() }
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.conn.login.take();
        self.shared.early.borrow_mut().retain(|c| !Rc::ptr_eq(c, &self.conn));
    }
}

/// Takes the session out of the tables even when its task fails.
struct Parting {
    shared: Rc<Shared>,
    conn: Rc<Conn>,
}

impl Drop for Parting {
    fn drop(&mut self) {
        if self.conn.session.get() != SessionId::NONE {
            self.shared.lost(self.conn.clone());
        }
    }
}

/// One connection, from accept to a bound resource; then [`Session`] goes on, so that nothing of
/// negotiation is kept.
pub async fn serve(shared: Rc<Shared>, io: Socket<TcpStream>, peer: SocketAddr, mode: Mode, place: Place) {
    let conn = Conn::new(io, peer);
    let parting = Parting { shared: shared.clone(), conn: conn.clone() };
    let early = Early::new(&shared, &conn);
    let negotiated = Negotiation::new(shared.clone(), conn.clone(), mode).run().await;
    drop(early);
    if let Some((reader, scope)) = negotiated {
        let drive = Drive::new(shared.clone(), conn, reader, scope);
        let back = drive.is_managed().then(|| drive.session());
        shared.spawn_small(Session { drive, place: Some(place.settled()), parting });
        if let Some(session) = back {
            shared.hear(Input::Back { session });
        }
    }
}

/// A connection with a session. All that an idle one owns of memory is here and in [`Conn`].
struct Session {
    drive: Drive,
    place: Option<Place>,
    parting: Parting,
}

impl Future for Session {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let end = ready!(Pin::new(&mut self.drive).poll(cx));
        let (shared, conn) = (self.parting.shared.clone(), self.parting.conn.clone());
        let place = self.place.take();
        // Lost is not closed (XEP-0198 §5).
        let stays = matches!(end, End::Dead) && shared.hibernate(&conn);
        let outbox = if stays { None } else { shared.part(&conn) };
        shared.clone().spawn(async move {
            if let Some(mut outbox) = outbox {
                last_words(&shared, &conn, &mut outbox, end).await;
                shared.give_back(outbox);
            } else if let End::Error(error) = end {
                // Another connection has its outbox.
                let mut words = Vec::new();
                error.write(&mut words);
                words.extend_from_slice(b"</stream:stream>");
                goodbye(&shared, &conn, conn.write_all(&words)).await;
            }
            // Whoever still waits for the socket need wait no longer.
            let _ = conn.io.get_ref().shutdown(Shutdown::Both);
            drop(place);
        });
        Poll::Ready(())
    }
}

/// Closes a stream (RFC 6120 §4.4, §4.9.1.1) and then the connection.
pub(super) async fn last_words(shared: &Rc<Shared>, conn: &Rc<Conn>, outbox: &mut Outbox, end: End) {
    let mut words = Vec::new();
    match end {
        End::Dead => return,
        End::Closed => {}
        End::Error(error) => {
            log::debug!("{}: stream error: {error}", conn.peer);
            error.write(&mut words);
        }
    }
    words.extend_from_slice(b"</stream:stream>");
    goodbye(shared, conn, shared.say(outbox, &words)).await;
}

/// Lets the last be said, then closes; all of it in the time that the peer is given, for it may
/// neither read nor close.
pub(super) async fn goodbye(
    shared: &Rc<Shared>,
    conn: &Rc<Conn>,
    saying: impl Future<Output = io::Result<()>>,
) {
    let patience = Duration::from_secs(shared.limits().close_seconds);
    let all = async {
        if saying.await.is_ok() {
            if let Some(tls) = conn.tls.borrow_mut().as_mut() {
                tls.close_notify();
            }
            let _ = conn.write_all(&[]).await;
            hang_up(shared, conn).await;
        }
    };
    smol::future::or(all, shared.reactor.after(patience)).await;
}

/// Ends our half of the connection and reads the other one out: closing over unread bytes would make
/// the system throw away what we have just said.
async fn hang_up(shared: &Rc<Shared>, conn: &Rc<Conn>) {
    let _ = conn.io.get_ref().shutdown(Shutdown::Write);
    loop {
        let read = (&conn.io).read(&mut shared.scratch.borrow_mut().wire);
        match read {
            Ok(0) => return,
            Ok(_) => smol::future::yield_now().await,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                if conn.io.readable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Why negotiation ends without a session.
pub enum Fail {
    /// Something to say.
    Error(stream::Error),
    /// The footers are exchanged; only the connection is left to close.
    Closed,
    /// Nothing to say, or nobody to say it to.
    Gone,
}

impl From<stream::Error> for Fail {
    fn from(error: stream::Error) -> Fail {
        Fail::Error(error)
    }
}

impl From<crate::xml::Error> for Fail {
    fn from(error: crate::xml::Error) -> Fail {
        Fail::Error(error.into())
    }
}

impl From<std::io::Error> for Fail {
    fn from(_: std::io::Error) -> Fail {
        Fail::Gone
    }
}

/// A connection before it has a session.
pub struct Negotiation {
    /// The ring.
    pub shared: Rc<Shared>,
    /// The connection.
    pub conn: Rc<Conn>,
    reader: Reader,
    receiving: Receiving,
    mode: Mode,
    /// To be written.
    pub out: Vec<u8>,
    deadline: Instant,
    timer: Sleep,
    /// The frame that an [`Ask`] is about.
    frame: Vec<u8>,
    /// What registration remembers between its stanzas.
    pub registration: super::register::Progress,
}

impl Negotiation {
    fn new(shared: Rc<Shared>, conn: Rc<Conn>, mode: Mode) -> Negotiation {
        let limits = shared.limits();
        let security = Security::Plain { starttls: true, required: mode == Mode::Starttls };
        let settings = shared.settings.borrow().clone();
        let deadline = Instant::now() + Duration::from_secs(limits.login_seconds.min(86_400));
        Negotiation {
            reader: new_reader(&shared),
            receiving: Receiving::new(settings, security, super::random()),
            conn,
            mode,
            out: Vec::new(),
            deadline,
            timer: shared.reactor.at(deadline),
            frame: Vec::new(),
            registration: Default::default(),
            shared,
        }
    }

    /// Whether what is said here can't be read by others.
    pub fn encrypted(&self) -> bool {
        self.conn.tls.borrow().is_some()
    }

    async fn run(mut self) -> Option<(Reader, Scope)> {
        match self.negotiate().await {
            Ok(()) => {
                self.shared.release(&self.conn, &self.out);
                self.reader.set_max_bytes(self.shared.limits().stanza_bytes as usize);
                Some((self.reader, self.receiving.established().scope))
            }
            Err(Fail::Gone) => None,
            Err(Fail::Error(error)) => {
                log::debug!("{}: stream error: {error}", self.conn.peer);
                let mut out = std::mem::take(&mut self.out);
                self.receiving.fail(&error, &mut out);
                goodbye(&self.shared, &self.conn, self.conn.write_all(&out)).await;
                None
            }
            Err(Fail::Closed) => {
                goodbye(&self.shared, &self.conn, self.conn.write_all(&self.out)).await;
                None
            }
        }
    }

    async fn negotiate(&mut self) -> Result<(), Fail> {
        let mut next = None;
        if self.mode == Mode::Direct {
            next = self.handshake().await?;
        }
        loop {
            while let Some(ask) = next.take() {
                match ask {
                    Ask::Closed => return Err(Fail::Closed),
                    Ask::StartTls => {
                        if !self.reader.is_blank() {
                            log::info!("{}: bytes in the clear behind <starttls/>", self.conn.peer);
                            return Err(Fail::Gone);
                        }
                        self.flush().await?;
                        next = self.handshake().await?;
                    }
                    Ask::Register => super::register::answer(self).await?,
                    Ask::Refused { localpart } => self.refused(localpart.as_deref()).await?,
                    Ask::Bind { account, resource } => {
                        let jid = account.jid().clone();
                        let lang = self.receiving.lang();
                        match self.shared.bind(&self.conn, &jid, &resource, lang).await {
                            Ok((_, full)) => {
                                self.shared
                                    .throttle
                                    .borrow_mut()
                                    .succeeded(self.conn.peer.ip(), jid.local().unwrap_or(""));
                                self.receiving.bound(&full, &mut self.out);
                                log::info!("{} is {full}", self.conn.peer);
                                return Ok(());
                            }
                            Err(error) => self.receiving.bind_refused(error, &mut self.out),
                        }
                    }
                    Ask::Resume { account, previd, h } => {
                        let jid = account.jid();
                        match self.in_time(self.shared.resume(&self.conn, jid, &previd, h)).await? {
                            Ok(resumed) => {
                                let local = jid.local().unwrap_or("");
                                self.shared.throttle.borrow_mut().succeeded(self.conn.peer.ip(), local);
                                self.receiving.resumed(resumed.h, &mut self.out);
                                log::info!("{} is {jid} again", self.conn.peer);
                                return Ok(());
                            }
                            Err(NotResumed::NotFound) => self.receiving.resume_refused(&mut self.out),
                            Err(NotResumed::TooHigh(counts)) => {
                                return Err(stream::Error::from(counts).into());
                            }
                        }
                    }
                    question => next = self.look_up(question).await?,
                }
                self.after_answer();
            }
            next = self.frames(&[])?;
            if next.is_none() {
                self.flush().await?;
                next = self.read().await?;
            }
        }
    }

    /// Waits for something that is not the socket, for as long as there is time to log in and
    /// nobody ends the connection.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Fail> {
        smol::future::or(async { Err(self.cut_off().await) }, async { Ok(work.await) }).await
    }

    /// There is no more time to log in, or somebody has ended the connection.
    async fn cut_off(&self) -> Fail {
        let late = async {
            self.shared.reactor.at(self.deadline).await;
            stream::Error::new(Condition::ConnectionTimeout).into()
        };
        smol::future::or(ended(&self.conn), late).await
    }

    /// Asks the store or a worker for what SASL wants to know.
    async fn look_up(&mut self, ask: Ask) -> Result<Option<Ask>, Fail> {
        Ok(match ask {
            Ask::Keys { localpart } => {
                self.throttle(&localpart).await?;
                *self.conn.login.borrow_mut() = Some(localpart.clone());
                let asking = self.shared.ask(Vec::new(), StoreAsk::Credentials { localpart });
                let answer = self.in_time(asking).await?;
                match answer {
                    Answer::Credentials(Some((id, keys))) => {
                        self.receiving.keys(Some((id, &keys)), &mut self.out)?
                    }
                    Answer::Credentials(None) => self.receiving.keys(None, &mut self.out)?,
                    _ => return Err(stream::Error::new(Condition::InternalServerError).into()),
                }
            }
            Ask::Derive { password, salt, iterations, sha } => {
                let work = move || sasl::derive(&password, &salt, iterations, sha);
                match self.in_time(self.shared.workers.run(work)).await? {
                    Some(salted) => self.receiving.derived(&salted, &mut self.out)?,
                    None => return Err(stream::Error::new(Condition::InternalServerError).into()),
                }
            }
            Ask::Owner { spki, .. } => {
                let asking = self.shared.ask(Vec::new(), StoreAsk::Owner { spki });
                let owner = match self.in_time(asking).await? {
                    Answer::Owner(owner) => owner,
                    _ => return Err(stream::Error::new(Condition::InternalServerError).into()),
                };
                *self.conn.login.borrow_mut() = owner.clone();
                self.receiving.owner(owner.as_deref(), &mut self.out)?
            }
            _ => None,
        })
    }

    /// A failed login is answered at once; the next one waits (see [`crate::hub::throttle`]).
    pub async fn throttle(&self, localpart: &str) -> Result<(), Fail> {
        let (now, step) = (self.shared.now(), self.shared.limits().login_delay_ms);
        let wait = self.shared.throttle.borrow().wait(now, self.conn.peer.ip(), localpart, step);
        if wait > 0 {
            self.in_time(self.shared.reactor.after(Duration::from_millis(wait))).await?;
        }
        Ok(())
    }

    async fn refused(&mut self, localpart: Option<&str>) -> Result<(), Fail> {
        let name = localpart.unwrap_or("");
        match name {
            "" => log::warn!(
                "{}: login refused; for a client certificate: stonechat user certificate",
                self.conn.peer
            ),
            _ => log::warn!(
                "{}: login refused for {name:?}; to set the password: stonechat user passwd",
                self.conn.peer
            ),
        }
        self.shared.throttle.borrow_mut().failed(self.shared.now(), self.conn.peer.ip(), name);
        Ok(())
    }

    fn after_answer(&mut self) {
        if self.receiving.restarts() {
            self.reader.restart();
        }
    }

    /// Hands frames to the stream core until it asks for something.
    fn frames(&mut self, bytes: &[u8]) -> Result<Option<Ask>, Fail> {
        let mut scratch = self.shared.scratch.borrow_mut();
        cut(&mut self.reader, &mut self.receiving, &mut self.frame, bytes, &mut scratch.scan, &mut self.out)
    }

    /// Waits for bytes and hands them on.
    async fn read(&mut self) -> Result<Option<Ask>, Fail> {
        loop {
            let conn = self.conn.clone();
            let timer = &mut self.timer;
            let readable = async { Ok(conn.io.readable().await?) };
            let told = async { Err(ended(&conn).await) };
            let late = async {
                timer.await;
                Err(stream::Error::new(Condition::ConnectionTimeout).into())
            };
            smol::future::or(told, smol::future::or(readable, late)).await?;
            let shared = self.shared.clone();
            let mut scratch = shared.scratch.borrow_mut();
            let Scratch { wire, plain, scan } = &mut *scratch;
            // Little at a time: nobody has proven anything yet.
            let wire = wire.get_mut(..4096).unwrap_or_default();
            let n = match (&conn.io).read(wire) {
                Ok(0) => return Err(Fail::Gone),
                Ok(n) => n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                Err(e) => return Err(e.into()),
            };
            let wire = wire.get(..n).unwrap_or_default();
            let fed = conn.tls.borrow_mut().as_mut().map(|tls| tls.feed(wire, plain));
            let bytes = match fed {
                Some(fed) => {
                    let got = fed.inspect_err(|_| conn.alert()).map_err(|_| Fail::Gone)?;
                    if got.closed && got.plain == 0 {
                        return Err(Fail::Gone);
                    }
                    plain.get(..got.plain).unwrap_or_default()
                }
                None => wire,
            };
            return cut(&mut self.reader, &mut self.receiving, &mut self.frame, bytes, scan, &mut self.out);
        }
    }

    async fn flush(&mut self) -> Result<(), Fail> {
        if self.out.is_empty() {
            return Ok(());
        }
        let (conn, out, timer) = (self.conn.clone(), &self.out, &mut self.timer);
        let wrote = smol::future::or(async { conn.write_all(out).await.is_ok() }, async {
            timer.await;
            false
        })
        .await;
        self.out.clear();
        if wrote { Ok(()) } else { Err(Fail::Gone) }
    }

    /// TLS, by STARTTLS or from the start; everything known before it is forgotten. What came with
    /// the handshake's last flight may ask for something already.
    async fn handshake(&mut self) -> Result<Option<Ask>, Fail> {
        let mut tls = Tls::server(&self.shared.tls).map_err(|_| Fail::Gone)?;
        if let Err(error) =
            tls::handshake(&mut tls, &self.conn.io, self.shared.reactor.at(self.deadline)).await
        {
            log::info!("{}: TLS: {error}", self.conn.peer);
            return Err(Fail::Gone);
        }
        let bindings = tls.channel_bindings();
        let bindings =
            stream::Bindings { exporter: bindings.exporter, server_end_point: bindings.server_end_point };
        self.receiving.secured(bindings, tls.peer_spki());
        self.reader = new_reader(&self.shared);
        let mut plain = vec![0; 4096];
        let more = tls.feed(&[], &mut plain).map(|got| got.plain).unwrap_or(0);
        *self.conn.tls.borrow_mut() = Some(tls);
        self.frames(plain.get(..more).unwrap_or_default())
    }

    /// The iq that [`Ask::Register`] is about.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }
}

/// Waits until somebody ends the connection from inside.
pub(super) async fn ended(conn: &Conn) -> Fail {
    let end = poll_fn(|cx| match conn.take_end() {
        Some(end) => Poll::Ready(end),
        None => {
            conn.wait(cx.waker());
            Poll::Pending
        }
    });
    match end.await {
        End::Error(error) => Fail::Error(error),
        End::Closed | End::Dead => Fail::Gone,
    }
}

fn new_reader(shared: &Shared) -> Reader {
    let limits = shared.limits();
    Reader::new(limits.early_bytes as usize, u16::try_from(limits.depth).unwrap_or(u16::MAX))
}

/// Cuts frames off `bytes` and hands them to the stream core until it asks for something.
fn cut(
    reader: &mut Reader,
    receiving: &mut Receiving,
    kept: &mut Vec<u8>,
    bytes: &[u8],
    scan: &mut crate::xml::Scan,
    out: &mut Vec<u8>,
) -> Result<Option<Ask>, Fail> {
    let mut bytes = bytes;
    loop {
        let (mut ask, mut stopped, mut restart) = (None, false, false);
        reader.feed(bytes, |kind: Kind, frame: &[u8]| -> Result<Flow, Fail> {
            ask = receiving.frame(kind, frame, scan, out)?;
            restart = receiving.restarts();
            stopped = ask.is_some() || restart;
            if matches!(ask, Some(Ask::Register)) {
                kept.clear();
                kept.extend_from_slice(frame);
            }
            Ok(if stopped { Flow::Stop } else { Flow::Go })
        })?;
        if restart {
            reader.restart();
        }
        if ask.is_some() || !stopped {
            return Ok(ask);
        }
        bytes = &[];
    }
}
