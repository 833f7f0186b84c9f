//! One connection between servers, of either direction, from its first byte to its last.

use super::{S2s, note, permits};
use crate::hub::Hub;
use crate::hub::talk::{Input, Lost, SessionId, Sink, Unreachable};
use crate::jid::Domain;
use crate::net::c2s::{self, Early, Place};
use crate::net::outbox::{Conn, End};
use crate::net::peers::{Found, Link};
use crate::net::ring::{Scratch, Shared};
use crate::net::tls::{self, Presented, Tls};
use crate::stanza::Stanza;
use crate::store::change::Ask as StoreAsk;
use crate::stream::peer::{Ask, Callback, Failure, Initiating, Ready, Receiving, Verdict};
use crate::stream::trust::{Distrust, Trusted};
use crate::stream::{self, Condition, Verified, pairing};
use crate::xml::{Caps, Flow, Kind, Reader, Scan, Scope, Writer, ns, scan};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Who is there says something by then.
const MUTE: Duration = Duration::from_secs(8);
/// Nobody who counts (XEP-0198) takes longer to say so.
const UNMANAGED: Duration = Duration::from_secs(2);

/// Either half of a stream.
pub(super) enum Half {
    In(Box<Receiving>),
    Out(Box<Initiating>),
}

impl Half {
    fn frame(
        &mut self,
        kind: Kind,
        frame: &[u8],
        scan: &mut Scan,
        caps: &Caps,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Failure> {
        match self {
            Half::In(half) => Ok(half.frame(kind, frame, scan, caps, out)?),
            Half::Out(half) => half.frame(kind, frame, scan, caps, out),
        }
    }

    fn judged(
        &mut self,
        judgement: Result<Trusted, Distrust>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Failure> {
        match self {
            Half::In(half) => Ok(half.judged(judgement, out)?),
            Half::Out(half) => half.judged(judgement, out),
        }
    }

    fn vouched(&mut self, ours: bool, out: &mut Vec<u8>) {
        match self {
            Half::In(half) => half.vouched(ours, out),
            Half::Out(half) => half.vouched(ours, out),
        }
    }

    fn verified(
        &mut self,
        call: &Callback,
        verdict: Verdict,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Failure> {
        match self {
            Half::In(half) => Ok(half.verified(&call.local, &call.remote, verdict, out)?),
            Half::Out(half) => half.verified(&call.local, &call.remote, verdict, out),
        }
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        match (self, failure) {
            (Half::In(half), Failure::Broken(error)) => half.fail(error, out),
            (Half::In(_), _) => {}
            (Half::Out(half), _) => half.fail(failure, out),
        }
    }

    fn restarts(&mut self) -> bool {
        match self {
            Half::In(half) => half.restarts(),
            Half::Out(half) => half.restarts(),
        }
    }

    fn scope(&self) -> Rc<Scope> {
        match self {
            Half::In(half) => half.scope().clone(),
            Half::Out(half) => half.scope().clone(),
        }
    }

    /// Who the other side is, or says that it is.
    fn remote(&self) -> Option<&Domain> {
        match self {
            Half::In(half) => half.claims(),
            Half::Out(half) => Some(&half.wanted().remote),
        }
    }
}

/// How a stream ends.
#[derive(Debug)]
pub(super) enum Over {
    /// In good order.
    Closed,
    /// Somebody broke a rule, or is not who he should be.
    Failed(Failure),
    /// The connection is gone, or nobody answers any more.
    Dead(&'static str),
    /// Somebody here has ended it.
    Killed(End),
    /// What was asked is answered.
    Answer(Verdict),
    /// What there was to say for a pairing is said.
    Paired,
}

impl From<Failure> for Over {
    fn from(failure: Failure) -> Over {
        Over::Failed(failure)
    }
}

impl From<stream::Error> for Over {
    fn from(error: stream::Error) -> Over {
        Over::Failed(Failure::Broken(error))
    }
}

/// What others tell a stream.
enum Event {
    /// What came of a call-back.
    Verified(Callback, Verdict),
    /// All that was heard until then is settled: it may be acknowledged (XEP-0198).
    Settled(u32),
}

/// Why a stream goes on.
enum Woken {
    Readable,
    Told,
    Late,
}

/// One connection.
pub(super) struct Stream {
    shared: Rc<Shared>,
    s2s: Rc<S2s>,
    conn: Rc<Conn>,
    half: Half,
    reader: Reader,
    /// To be written.
    out: Vec<u8>,
    events: Rc<RefCell<Vec<Event>>>,
    presented: Option<Presented>,
    /// The pairs that were heard of, and their peers.
    pairs: Vec<(Rc<Verified>, SessionId)>,
    /// The peer whose outbox is written here.
    attached: Option<SessionId>,
    /// The one whose outbox will be, once it is known whether the other side counts (XEP-0198), but not later.
    waits: Option<(SessionId, Instant)>,
    /// XEP-0198: what was heard.
    heard: Option<u32>,
    /// Its number, where it is used for a pairing.
    pairing: Option<u64>,
    /// `<starttls/>` is agreed on.
    starttls: bool,
    /// Frames may wait in the reader (or in TLS) that no readiness of the socket will tell of.
    stopped: bool,
    /// Our stanzas flow: [`Stream::run`] may return.
    ready: bool,
    /// Until when something must be proven; until when, once anything has come.
    deadline: Option<Instant>,
    then: Option<Instant>,
    /// The best that was proven.
    how: Option<Trusted>,
    /// When the other side was last heard, or asked whether it is there.
    last: Instant,
    asked: bool,
    /// Its places in the counts.
    place: Option<Place>,
    _counted: Option<Counted>,
    _early: Early,
}

/// A connection of our making, among all: when the hub stops, it waits for them, too.
struct Counted(Rc<Shared>);

impl Counted {
    fn new(shared: &Rc<Shared>) -> Counted {
        shared.connections.borrow_mut().total += 1;
        Counted(shared.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.borrow_mut().total -= 1;
    }
}

impl Stream {
    /// A connection that was just made, in the clear.
    pub fn new(
        shared: &Rc<Shared>,
        s2s: &Rc<S2s>,
        conn: Rc<Conn>,
        half: Half,
        place: Option<Place>,
    ) -> Stream {
        let patience = Duration::from_secs(shared.limits().login_seconds.min(86_400));
        let now = Instant::now();
        Stream {
            reader: new_reader(shared),
            _early: Early::new(shared, &conn),
            shared: shared.clone(),
            s2s: s2s.clone(),
            conn,
            half,
            out: Vec::new(),
            events: Rc::default(),
            presented: None,
            pairs: Vec::new(),
            attached: None,
            waits: None,
            heard: None,
            pairing: None,
            starttls: false,
            stopped: true,
            ready: false,
            deadline: now.checked_add(patience),
            then: None,
            how: None,
            last: now,
            asked: false,
            _counted: place.is_none().then(|| Counted::new(shared)),
            place,
        }
    }

    /// The first words of a stream of ours in the clear.
    pub fn start(&mut self) {
        if let Half::Out(half) = &mut self.half {
            half.start(&mut self.out);
        }
    }

    /// Gives up sooner than others, and at once on somebody who takes the connection and says nothing.
    pub fn within(&mut self, patience: Duration) {
        let now = Instant::now();
        self.deadline = now.checked_add(patience.min(MUTE));
        self.then = now.checked_add(patience);
    }

    /// TLS, by STARTTLS or from the start; everything known before it is forgotten.
    pub async fn handshake(&mut self) -> Result<(), Over> {
        let made = match &self.half {
            Half::In(_) => Tls::peer_in(&self.s2s.tls),
            Half::Out(half) => Tls::peer_out(&self.s2s.tls, half.wanted().remote.as_str()),
        };
        let Ok(mut tls) = made else { return Err(Over::Dead("TLS is not possible with that name")) };
        let deadline = self.deadline.unwrap_or_else(Instant::now);
        if let Err(why) = tls::handshake(&mut tls, &self.conn.io, self.shared.reactor.at(deadline)).await {
            log::info!("{}: TLS with a server: {why}", self.conn.peer);
            return Err(Over::Dead("TLS could not be agreed on"));
        }
        self.deadline = self.then.take().or(self.deadline);
        self.presented = tls.presented();
        self.reader = new_reader(&self.shared);
        *self.conn.tls.borrow_mut() = Some(tls);
        // What came with its last flight is in there.
        self.stopped = true;
        match &mut self.half {
            Half::In(half) => half.secured(),
            Half::Out(half) => {
                let remote = half.wanted().remote.clone();
                let judgement = self.s2s.judge(&self.shared, self.presented.as_ref(), &remote);
                half.secured(judgement, &mut self.out)?;
            }
        }
        Ok(())
    }

    /// Goes on until the stream is over or, if that is asked for, our stanzas flow.
    pub async fn run(&mut self, until_ready: bool) -> Result<(), Over> {
        loop {
            if let Some(end) = self.conn.take_end() {
                return Err(Over::Killed(end));
            }
            self.hear_events()?;
            self.flush().await?;
            if until_ready && self.ready {
                return Ok(());
            }
            if std::mem::take(&mut self.starttls) {
                if !self.reader.is_blank() {
                    log::info!("{}: bytes in the clear behind STARTTLS", self.conn.peer);
                    return Err(Over::Dead("it sends in the clear what belongs into TLS"));
                }
                self.handshake().await?;
                continue;
            }
            if std::mem::take(&mut self.stopped) {
                self.go_on()?;
                continue;
            }
            match self.wait().await {
                Woken::Told => {}
                Woken::Readable => self.read()?,
                Woken::Late => self.late().await?,
            }
        }
    }

    // ---- waiting ----------------------------------------------------------------------------------

    async fn wait(&self) -> Woken {
        let next = self.next_look();
        let mut timer = next.map(|at| self.shared.reactor.at(at));
        poll_fn(|cx| {
            self.conn.wait(cx.waker());
            if self.conn.ends() || !self.events.borrow().is_empty() {
                return Poll::Ready(Woken::Told);
            }
            if self.pairs.iter().any(|(_, peer)| self.shared.congested(*peer)) {
                // Woken when the store has answered.
                self.shared.wait_for_store(&self.conn);
            } else if self.conn.io.poll_readable(cx).is_ready() {
                return Poll::Ready(Woken::Readable);
            }
            let late = timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(cx).is_ready());
            if late { Poll::Ready(Woken::Late) } else { Poll::Pending }
        })
        .await
    }

    /// When there is something to do if nothing happens.
    fn next_look(&self) -> Option<Instant> {
        match self.deadline.or(self.waits.map(|(_, until)| until)) {
            Some(deadline) => Some(deadline),
            // Whoever was asked has answered, or is gone, in half the time.
            None if self.asked => self.last.checked_add(self.idle() / 2),
            None if self.attached.is_some() => self.last.checked_add(self.idle()),
            None => None,
        }
    }

    /// How long silence is taken for nothing.
    fn idle(&self) -> Duration {
        let limits = self.shared.limits();
        Duration::from_secs(match self.how {
            Some(Trusted::Pinned) => limits.peer_idle_pinned_seconds,
            _ => limits.peer_idle_seconds,
        })
    }

    /// Nothing came for too long.
    async fn late(&mut self) -> Result<(), Over> {
        if self.deadline.is_some() {
            if self.then.is_some() {
                return Err(Over::Dead("somebody takes the connection, and says nothing"));
            }
            let error = stream::Error::new(Condition::ConnectionTimeout);
            return Err(error.text("nothing was proven in time").into());
        }
        if self.waits.is_some() {
            self.attach(false);
            return Ok(());
        }
        if self.asked {
            return Err(Over::Dead("it does not answer any more"));
        }
        self.last = Instant::now();
        if self.heard.is_some() {
            self.asked = true;
            Writer::new(&mut self.out).leaf("r", ns::SM);
            return Ok(());
        }
        // Nobody answers to a space (RFC 6120 §4.6.1), but the system notices when it does not arrive.
        if self.attached.is_some_and(|peer| self.shared.is_quiet(peer))
            && self.conn.write_all(b" ").await.is_err()
        {
            return Err(Over::Dead("the connection is broken"));
        }
        Ok(())
    }

    // ---- reading ----------------------------------------------------------------------------------

    fn read(&mut self) -> Result<(), Over> {
        let shared = self.shared.clone();
        let mut scratch = shared.scratch.borrow_mut();
        let Scratch { wire, plain, scan } = &mut *scratch;
        let n = match (&self.conn.io).read(wire) {
            Ok(0) => return Err(Over::Dead("the connection was closed")),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(_) => return Err(Over::Dead("the connection is broken")),
        };
        (self.last, self.asked) = (Instant::now(), false);
        self.deadline = self.then.take().or(self.deadline);
        shared.read.set(shared.read.get().wrapping_add(n as u64));
        let got = wire.get(..n).unwrap_or_default();
        let encrypted = self.conn.tls.borrow().is_some();
        if encrypted { self.decrypt(got, plain, scan) } else { self.take(got, scan) }
    }

    /// What was left when the last frame stopped us.
    fn go_on(&mut self) -> Result<(), Over> {
        let shared = self.shared.clone();
        let mut scratch = shared.scratch.borrow_mut();
        let Scratch { plain, scan, .. } = &mut *scratch;
        self.take(&[], scan)?;
        let encrypted = self.conn.tls.borrow().is_some();
        if encrypted && !self.stopped { self.decrypt(&[], plain, scan) } else { Ok(()) }
    }

    fn decrypt(&mut self, mut wire: &[u8], plain: &mut [u8], scan: &mut Scan) -> Result<(), Over> {
        loop {
            let fed = match self.conn.tls.borrow_mut().as_mut() {
                Some(tls) => tls.feed(wire, plain),
                None => return Err(Over::Dead("TLS is gone")),
            };
            let Ok(got) = fed else {
                self.conn.alert();
                return Err(Over::Dead("TLS is broken"));
            };
            wire = wire.get(got.wire..).unwrap_or_default();
            self.take(plain.get(..got.plain).unwrap_or_default(), scan)?;
            if got.closed {
                return Err(Over::Dead("TLS was closed"));
            }
            if wire.is_empty() && !got.more {
                return Ok(());
            }
        }
    }

    /// Takes bytes of the stream.
    fn take(&mut self, mut bytes: &[u8], scan: &mut Scan) -> Result<(), Over> {
        let caps = self.shared.caps.get();
        loop {
            let (mut ask, mut restart, mut stopped) = (None, false, false);
            let Stream { shared, conn, half, reader, out, pairs, heard, .. } = self;
            reader.feed(bytes, |kind, frame| -> Result<Flow, Failure> {
                match half.frame(kind, frame, scan, &caps, out)? {
                    Some(Ask::Stanza(proof)) => {
                        let peer = hear(shared, pairs, &proof, frame, scan, &half.scope(), &caps)?;
                        *heard = heard.map(|n| n.wrapping_add(1));
                        stopped = conn.ends() || shared.congested(peer);
                    }
                    Some(Ask::Dropped) => *heard = heard.map(|n| n.wrapping_add(1)),
                    other => ask = other,
                }
                restart = half.restarts();
                Ok(if stopped || restart || ask.is_some() { Flow::Stop } else { Flow::Go })
            })?;
            bytes = &[];
            if restart {
                self.reader.restart();
            }
            if let Half::Out(half) = &self.half {
                self.s2s.note_waiting(&self.conn, half);
            }
            match ask {
                Some(Ask::StartTls) => {
                    self.starttls = true;
                    return Ok(());
                }
                Some(ask) => self.answer(ask)?,
                None if stopped => {
                    self.stopped = true;
                    return Ok(());
                }
                None if restart => {}
                None => return Ok(()),
            }
        }
    }

    // ---- what the core asks -----------------------------------------------------------------------

    fn answer(&mut self, ask: Ask) -> Result<(), Over> {
        let mut next = Some(ask);
        while let Some(ask) = next.take() {
            match ask {
                Ask::Judge { remote } => {
                    if !permits(&self.shared, remote.as_str()) {
                        log::info!("{}: {remote} is not welcome here", self.conn.peer);
                        let error = stream::Error::new(Condition::PolicyViolation);
                        return Err(error
                            .text("the operator of this hub does not want it to talk to that domain")
                            .into());
                    }
                    let judgement = self.s2s.judge(&self.shared, self.presented.as_ref(), &remote);
                    if let Err(why) = &judgement
                        && !self.shared.pairing.wants(remote.as_str())
                    {
                        log::info!("{} says that it is {remote}: not trusted, {why}", self.conn.peer);
                        let trouble = format!("it came, and is not trusted, {why}");
                        self.s2s.trouble(&self.shared, &remote, trouble);
                    }
                    next = self.half.judged(judgement, &mut self.out)?;
                }
                Ask::Vouch { local, remote, id } => {
                    let ours = self.s2s.waits(&local, &remote, &id);
                    self.half.vouched(ours, &mut self.out);
                }
                Ask::Verify(call) => self.call_back(call),
                Ask::Proven(proof) => self.proven(proof),
                Ask::Ready(ready) => self.is_ready(ready)?,
                Ask::Managed => {
                    self.heard = Some(0);
                    self.attach(true);
                }
                Ask::Request => self.settle(),
                Ask::Acknowledged(h) => {
                    if let Some(peer) = self.attached
                        && let Err(counts) = self.shared.acknowledge(peer, h)
                    {
                        log::info!("{}: acknowledges {} of {}", self.conn.peer, counts.h, counts.send_count);
                        let error = stream::Error::new(Condition::UndefinedCondition);
                        return Err(error.app(ns::SM, "handled-count-too-high").into());
                    }
                }
                Ask::Pair => {
                    let peer = self.stranger()?;
                    let number = *self.pairing.get_or_insert_with(|| self.shared.pairing.number());
                    match self.shared.pairing.begin(number, &peer) {
                        Ok(word) => self.out.extend(word),
                        Err(why) => {
                            log::debug!("{}: pairing: {why}", self.conn.peer);
                            return Err(self.said_all());
                        }
                    }
                }
                Ask::Pairing(word) => {
                    let peer = self.stranger()?;
                    let number = *self.pairing.get_or_insert_with(|| self.shared.pairing.number());
                    self.out.extend(self.shared.pairing.hear(number, &peer, &word).unwrap_or_default());
                    // Whoever has begun hears one word, and has one more to say.
                    if matches!(self.half, Half::Out(_)) {
                        return Err(self.said_all());
                    }
                }
                Ask::Refused => log::info!("{}: a server's login was refused", self.conn.peer),
                Ask::Answer(verdict) => return Err(Over::Answer(verdict)),
                Ask::Closed => return Err(Over::Closed),
                Ask::StartTls | Ask::Stanza(_) | Ask::Dropped => {}
            }
        }
        Ok(())
    }

    /// Who is there, as far as a pairing knows: a claim, and a key.
    fn stranger(&self) -> Result<pairing::Hub, Over> {
        match (self.half.remote(), &self.presented) {
            (Some(remote), Some(presented)) => {
                Ok(pairing::Hub { domain: remote.as_str().into(), pin: presented.pin() })
            }
            _ => Err(stream::Error::new(Condition::PolicyViolation).text("no key was shown in TLS").into()),
        }
    }

    fn said_all(&mut self) -> Over {
        self.out.extend_from_slice(b"</stream:stream>");
        Over::Paired
    }

    /// A pair is proven on a stream of theirs, or in their direction of one of ours.
    fn proven(&mut self, proof: Rc<Verified>) {
        log::info!("{} is {}, by {}", self.conn.peer, proof.remote(), proof.how().rung());
        self.settled(proof.remote(), proof.how());
        let (local, remote) = (proof.local().as_str(), proof.remote().as_str());
        let Some(peer) = self.shared.with_hub(|hub, _| hub.peer(local, remote)) else { return };
        note(&self.shared, proof.remote(), Link::Up, Some(Found::Came), Some(proof.how()), None);
        self.pairs.push((proof.clone(), peer));
        match &self.half {
            Half::In(half) if half.bidi() && self.attached.is_none() && self.waits.is_none() => {
                let patience = if half.may_manage() { UNMANAGED } else { Duration::ZERO };
                self.waits = Instant::now().checked_add(patience).map(|until| (peer, until));
                if patience.is_zero() {
                    self.attach(false);
                }
            }
            // It is there, so perhaps it can be reached, too.
            _ => self.shared.hear(Input::Sighted { domain: remote }),
        }
    }

    /// Their stream carries our stanzas as well. What has waited is not lost with the stream only if the other side
    /// counts, so whoever may begin to is given the time to say it.
    fn attach(&mut self, managed: bool) {
        let Some((peer, _)) = self.waits.take() else { return };
        if self.shared.attach(peer, &self.conn, &self.out, managed) {
            self.out.clear();
            self.attached = Some(peer);
        }
    }

    /// Something is proven: the time to do it in, and the small cap, were for strangers.
    fn settled(&mut self, remote: &Domain, how: Trusted) {
        (self.deadline, self.then) = (None, None);
        self.how = Some(self.how.map_or(how, |best| if best.rung() > how.rung() { best } else { how }));
        self.place = self.place.take().map(Place::settled);
        self.reader.set_max_bytes(self.shared.limits().stanza_bytes as usize);
        self.s2s.arrived(remote, &self.conn);
        let patience = self.idle().saturating_mul(2).as_millis();
        let patience = u32::try_from(patience).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(self.conn.io.get_ref(), patience);
        self.last = Instant::now();
    }

    /// Our stanzas may flow.
    fn is_ready(&mut self, ready: Ready) -> Result<(), Over> {
        let Half::Out(half) = &self.half else { return Ok(()) };
        let (local, remote) = (half.wanted().local.clone(), half.wanted().remote.clone());
        self.settled(&remote, ready.how);
        log::info!(
            "{}: linked with {remote} as {local}, which is known by {}",
            self.conn.peer,
            ready.how.rung()
        );
        self.heard = ready.managed.then_some(0);
        self.ready = true;
        let Some(peer) = self.shared.with_hub(|hub, _| {
            let peer = hub.peer(local.as_str(), remote.as_str())?;
            if let Some(peer) = hub.peer_at_mut(peer) {
                peer.max_bytes = ready.max_bytes.map(|n| n as u64);
            }
            Some(peer)
        }) else {
            return Err(Over::Closed);
        };
        note(&self.shared, &remote, Link::Up, None, Some(ready.how), None);
        if self.shared.attach(peer, &self.conn, &self.out, ready.managed) {
            self.out.clear();
            self.attached = Some(peer);
            return Ok(());
        }
        // Theirs was there first. If they may use this one, they perhaps do.
        if ready.bidi {
            return Ok(());
        }
        self.out.extend_from_slice(b"</stream:stream>");
        Err(Over::Closed)
    }

    /// Has a key confirmed by the authoritative server, while the stream goes on.
    fn call_back(&mut self, call: Callback) {
        let (shared, events, conn) = (self.shared.clone(), self.events.clone(), self.conn.clone());
        self.shared.spawn(async move {
            let verdict = super::dial::call_back(&shared, &call).await;
            events.borrow_mut().push(Event::Verified(call, verdict));
            conn.wake_reader();
        });
    }

    /// XEP-0198 §4: says what was heard until now, once all of that is settled: delivered, or on disk.
    fn settle(&mut self) {
        let Some(heard) = self.heard else { return };
        let peers: Vec<SessionId> = self.pairs.iter().map(|(_, peer)| *peer).collect();
        let (events, conn) = (self.events.clone(), self.conn.clone());
        let then = move || {
            events.borrow_mut().push(Event::Settled(heard));
            conn.wake_reader();
        };
        self.shared.with_hub(|hub, mouth| after_pending(hub, mouth, peers, 2, Box::new(then)));
    }

    fn hear_events(&mut self) -> Result<(), Over> {
        let events = std::mem::take(&mut *self.events.borrow_mut());
        for event in events {
            match event {
                Event::Settled(heard) => {
                    let mut w = Writer::new(&mut self.out);
                    w.start("a").ns(ns::SM).attr("h", &heard.to_string());
                }
                Event::Verified(call, verdict) => {
                    if let Some(ask) = self.half.verified(&call, verdict, &mut self.out)? {
                        self.answer(ask)?;
                    }
                }
            }
        }
        Ok(())
    }

    // ---- writing ----------------------------------------------------------------------------------

    async fn flush(&mut self) -> Result<(), Over> {
        if self.out.is_empty() {
            return Ok(());
        }
        if let Some(peer) = self.attached {
            return self.say_to(peer);
        }
        let patience = Duration::from_secs(self.shared.limits().stall_seconds);
        let conn = self.conn.clone();
        let out = std::mem::take(&mut self.out);
        let wrote = smol::future::or(async { conn.write_all(&out).await.is_ok() }, async {
            self.shared.reactor.after(patience).await;
            false
        })
        .await;
        if wrote { Ok(()) } else { Err(Over::Dead("it takes nothing any more")) }
    }

    /// What we have to say goes between the stanzas, not into one.
    fn say_to(&mut self, peer: SessionId) -> Result<(), Over> {
        let said = self.shared.with_hub(|_, mouth| match mouth.outbox(peer) {
            Some(out) => {
                out.extend_from_slice(&self.out);
                true
            }
            None => false,
        });
        self.out.clear();
        if said { Ok(()) } else { Err(Over::Dead("it takes nothing any more")) }
    }

    // ---- the end ----------------------------------------------------------------------------------

    /// Says the last words, and tells the hub.
    pub async fn finish(mut self, over: Over) {
        let remote = self.half.remote().cloned();
        let (why, failure) = match over {
            Over::Closed | Over::Answer(_) | Over::Paired => (None, None),
            Over::Dead(why) => (Some(why.to_owned()), None),
            Over::Failed(failure) => (Some(failure.to_string()), Some(failure)),
            Over::Killed(End::Error(error)) => {
                if error.condition == Condition::SystemShutdown {
                    self.s2s.stopping.set(true);
                }
                (Some(format!("we have ended it: {error}")), Some(Failure::Broken(error)))
            }
            Over::Killed(_) => (Some("it takes nothing any more".to_owned()), None),
        };
        let dead = why.is_some() && failure.is_none();
        let name = remote.as_ref().map_or("a server", Domain::as_str);
        match &why {
            Some(why) => log::info!("{}: the stream with {name} is over: {why}", self.conn.peer),
            None => log::debug!("{}: the stream with {name} is over", self.conn.peer),
        }
        if let Some(number) = self.pairing.take() {
            self.shared.pairing.lost(number);
        }
        let mut words = std::mem::take(&mut self.out);
        if let Some(failure) = &failure {
            self.half.fail(failure, &mut words);
        }
        self.s2s.left(&self.conn);
        let broken = why.is_some();
        if let Some(peer) = self.attached.take()
            && self.conn.session.get() == peer
        {
            let kind = if broken { Lost::Timeout } else { Lost::Closed };
            let text = why.clone().unwrap_or_else(|| "it was closed".to_owned()).into();
            // A stanza that is half written stays so; nothing can be said behind it.
            self.shared.unlink(peer, Unreachable { kind, text });
        }
        if broken {
            for (_, peer) in std::mem::take(&mut self.pairs) {
                self.shared.hear(Input::Suspect { peer });
            }
        }
        if let Some(remote) = remote.filter(|_| self.how.is_some()) {
            let up = self.s2s.streams.borrow().contains_key(&remote);
            if !up {
                note(&self.shared, &remote, Link::Down, None, None, why);
            }
        }
        if !dead {
            c2s::goodbye(&self.shared, &self.conn, self.conn.write_all(&words)).await;
        }
        let _ = self.conn.io.get_ref().shutdown(Shutdown::Both);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Only if the task has failed: otherwise it has been done.
        self.s2s.left(&self.conn);
        if let Some(number) = self.pairing.take() {
            self.shared.pairing.lost(number);
        }
        if let Some(peer) = self.attached.take()
            && self.conn.session.get() == peer
        {
            let shared = self.shared.clone();
            self.shared.spawn(async move {
                let text = "its connection has failed here (a bug)".into();
                shared.unlink(peer, Unreachable { kind: Lost::Timeout, text });
            });
        }
    }
}

/// Calls `then` once these peers have nothing under way at the store; what was parked goes there once its account
/// is read, so it may take two rounds.
fn after_pending(
    hub: &mut Hub,
    sink: &mut dyn Sink,
    peers: Vec<SessionId>,
    rounds: u8,
    then: Box<dyn FnOnce()>,
) {
    let settled = peers.iter().all(|peer| hub.peer_at(*peer).is_none_or(|peer| peer.pending == 0));
    match rounds.checked_sub(1) {
        Some(rounds) if !settled => sink.store(
            Vec::new(),
            StoreAsk::Nothing,
            Box::new(move |hub, sink, _| after_pending(hub, sink, peers, rounds, then)),
        ),
        _ => then(),
    }
}

/// A stanza whose addresses are proven goes to the hub.
fn hear(
    shared: &Rc<Shared>,
    pairs: &mut Vec<(Rc<Verified>, SessionId)>,
    proof: &Rc<Verified>,
    frame: &[u8],
    scan: &mut Scan,
    scope: &Scope,
    caps: &Caps,
) -> Result<SessionId, Failure> {
    let mut own = Vec::new();
    let text = match scan.outer {
        0 => std::str::from_utf8(frame).unwrap_or_default(),
        // It uses prefixes of its stream header, which mean nothing elsewhere: written in.
        _ => {
            let text = std::str::from_utf8(frame).unwrap_or_default();
            own.reserve(text.len() + 128);
            scan::redeclare(text, scan, scope, &mut own);
            scan.element(&own, &Scope::default(), caps)?
        }
    };
    let known = pairs.iter().position(|(pair, _)| Rc::ptr_eq(pair, proof));
    shared.with_hub(|hub, mouth| {
        let peer = match known.and_then(|at| pairs.get_mut(at)) {
            Some((_, peer)) if hub.peer_at(*peer).is_some() => *peer,
            known => {
                let found = hub.peer(proof.local().as_str(), proof.remote().as_str());
                let error = || stream::Error::new(Condition::ResourceConstraint);
                let peer = found.ok_or_else(|| Failure::Broken(error().text("too many domains at once")))?;
                match known {
                    Some((_, old)) => *old = peer,
                    None => pairs.push((proof.clone(), peer)),
                }
                peer
            }
        };
        if let Some(stanza) = Stanza::new(text, scan) {
            hub.handle(hub.now, Input::Remote { peer, stanza: &stanza }, mouth);
        }
        Ok(peer)
    })
}

fn new_reader(shared: &Shared) -> Reader {
    let limits = shared.limits();
    Reader::new(limits.early_bytes as usize, u16::try_from(limits.depth).unwrap_or(u16::MAX))
}

/// What follows of a failure for what waits: whether it is to be kept.
pub(super) fn lost(failure: &Failure, on_record: bool) -> Lost {
    use crate::stream::peer::Condition as Said;
    let passing = match failure {
        // Somebody has written that domain down: it is right, and will be trusted again (threats I6).
        _ if on_record => true,
        Failure::Distrust(_) | Failure::StarttlsNotOffered | Failure::NothingOffered | Failure::Invalid => {
            false
        }
        Failure::Dialback(Said::ItemNotFound | Said::NotAuthorized | Said::Forbidden, _) => false,
        Failure::Auth(condition, _) => *condition == stream::sasl::Condition::TemporaryAuthFailure,
        Failure::Stream(error) => !matches!(
            error.condition,
            Condition::HostUnknown
                | Condition::HostGone
                | Condition::NotAuthorized
                | Condition::PolicyViolation
        ),
        _ => true,
    };
    if passing { Lost::Timeout } else { Lost::NotFound }
}
