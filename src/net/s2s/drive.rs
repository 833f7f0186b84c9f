//! One connection between servers, of either direction, from its first byte to its last.

mod end;
mod progress;

use super::half::{Half, Over};
use super::hear::{after_pending, hear};
use super::{S2s, news, note, permits};
use crate::hub::limits::fixed;
use crate::hub::talk::{Input, SessionId, Sink};
use crate::jid::Domain;
use crate::net::c2s::{Early, Place};
use crate::net::outbox::Conn;
use crate::net::peers::{Found, Link};
use crate::net::ring::{Scratch, Shared};
use crate::net::tls::{self, Presented, Tls};
use crate::stream::peer::{Ask, Callback, Failure, Ready, Verdict};
use crate::stream::trust::Trusted;
use crate::stream::{self, Condition, Verified, pairing};
use crate::xml::{Caps, Flow, Reader, Scan, Writer, ns};
use progress::Progress;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Who is there says something by then.
const MUTE: Duration = Duration::from_secs(8);
/// Nobody who counts (XEP-0198) takes longer to say so.
const UNMANAGED: Duration = Duration::from_secs(2);

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
    /// Since when.
    since: Instant,
    /// The one whose outbox will be, once it is known whether the other side counts (XEP-0198), but not later.
    waits: Option<(SessionId, Instant)>,
    /// XEP-0198: what was heard.
    heard: Option<u32>,
    /// XEP-0198: what the other side has acknowledged.
    progress: Progress,
    /// It was asked for, and is being settled; and, it was asked for again meanwhile.
    settling: bool,
    owed: bool,
    /// That it is not what it says stands in the log.
    caught: bool,
    /// Its number, where it is used for a pairing.
    pairing: Option<u64>,
    /// It leads to where its domain was only seen ([`Found::Mdns`]).
    hint: bool,
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
            since: now,
            waits: None,
            heard: None,
            progress: Progress::new(now),
            settling: false,
            owed: false,
            caught: false,
            pairing: None,
            hint: false,
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

    /// How the place that it leads to was found.
    pub fn found(&mut self, found: Found) {
        self.hint = found == Found::Mdns;
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
            log::log!(self.level(), "{}: TLS with a server: {why}", self.conn.peer);
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
                let presented = self.presented.as_ref();
                let judgement = self.s2s.judge(&self.shared, presented, &remote, self.hint);
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
            self.progresses()?;
            self.flush().await?;
            if until_ready && self.ready {
                return Ok(());
            }
            if std::mem::take(&mut self.starttls) {
                if !self.reader.is_blank() {
                    log::log!(self.level(), "{}: bytes in the clear behind STARTTLS", self.conn.peer);
                    return Err(Over::Dead("it sends in the clear what belongs into TLS"));
                }
                self.handshake().await?;
                continue;
            }
            if self.stopped && !self.congested() {
                self.stopped = false;
                self.go_on()?;
                // However fast it speaks, others get their turn.
                smol::future::yield_now().await;
                continue;
            }
            match self.wait().await {
                Woken::Told => {}
                Woken::Readable => {
                    for _ in 0..fixed::READS {
                        if !self.read()? {
                            break;
                        }
                    }
                    smol::future::yield_now().await;
                }
                Woken::Late => self.late().await?,
            }
        }
    }

    /// Whether so much of what it has said is under way that it should be read no further.
    fn congested(&self) -> bool {
        self.pairs.iter().any(|(_, peer)| self.shared.congested(*peer))
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
            if self.congested() {
                // Woken when the store has answered.
                self.shared.wait_for_store(&self.conn);
            } else if self.stopped {
                return Poll::Ready(Woken::Told);
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

    /// Reads once; says whether there is more, and it may be read.
    fn read(&mut self) -> Result<bool, Over> {
        let shared = self.shared.clone();
        let mut scratch = shared.scratch.borrow_mut();
        let Scratch { wire, plain, scan } = &mut *scratch;
        let n = match (&self.conn.io).read(wire) {
            Ok(0) => return Err(Over::Dead("the connection was closed")),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(false),
            Err(_) => return Err(Over::Dead("the connection is broken")),
        };
        (self.last, self.asked) = (Instant::now(), false);
        self.deadline = self.then.take().or(self.deadline);
        shared.read.set(shared.read.get().wrapping_add(n as u64));
        let full = n == wire.len();
        let got = wire.get(..n).unwrap_or_default();
        let encrypted = self.conn.tls.borrow().is_some();
        if encrypted {
            self.decrypt(got, plain, scan)?
        } else {
            self.take(got, scan)?
        }
        Ok(full && !self.stopped && !self.starttls)
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
        let caps = passed_on(&self.shared);
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
                        log::log!(self.level(), "{}: {remote} is not welcome here", self.conn.peer);
                        let error = stream::Error::new(Condition::PolicyViolation);
                        return Err(error
                            .text("the operator of this hub does not want it to talk to that domain")
                            .into());
                    }
                    let judgement = self.s2s.judge(&self.shared, self.presented.as_ref(), &remote, false);
                    if let Err(why) = &judgement
                        && !self.shared.pairing.wants(remote.as_str())
                    {
                        let trouble = format!("it came, and is not trusted, {why}");
                        // One line for one stream, whatever it claims to be (threats J7).
                        let level = match std::mem::replace(&mut self.caught, true) {
                            true => log::Level::Debug,
                            false => match news(&self.shared, &remote, &why.to_string()) {
                                log::Level::Info => self.level(),
                                known => known,
                            },
                        };
                        log::log!(level, "{} says that it is {remote}: not trusted, {why}", self.conn.peer);
                        self.s2s.trouble(&self.shared, &remote, trouble);
                    }
                    next = self.half.judged(judgement, &mut self.out)?;
                }
                Ask::Vouch { local, remote, id } => {
                    let ours = self.s2s.waits(&local, &remote, &id);
                    self.half.vouched(ours, &mut self.out);
                }
                Ask::Verify(call) => self.call_back(call),
                Ask::Proven(proof) => self.proven(proof)?,
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
                Ask::Refused => log::log!(self.level(), "{}: a server's login was refused", self.conn.peer),
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

    /// At which level something is said of it: of those who come and have proven nothing there may be any number.
    fn level(&self) -> log::Level {
        match (&self.half, self.how) {
            (Half::In(_), None) => self.s2s.lines.level(Instant::now()),
            _ => log::Level::Info,
        }
    }

    /// What was judged a while ago has to hold now that something comes of it: between the certificate and the proof a
    /// call-back may be under way, or the other side takes its time, and streams that prove nothing yet are not in the
    /// table from which [`super::changed`] closes them (threats I6).
    fn stands(&self, remote: &Domain, how: Trusted, hint: bool) -> Result<(), Over> {
        let now = self.s2s.judge(&self.shared, self.presented.as_ref(), remote, hint);
        let ours = || self.shared.with_hub(|hub, _| hub.is_component(remote.as_str()));
        if permits(&self.shared, remote.as_str()) && !ours() && how.stands(&now) {
            return Ok(());
        }
        let error = stream::Error::new(Condition::Reset);
        Err(error.text("what is on record about your domain has changed").into())
    }

    /// A pair is proven on a stream of theirs, or in their direction of one of ours.
    fn proven(&mut self, proof: Rc<Verified>) -> Result<(), Over> {
        self.stands(proof.remote(), proof.how(), false)?;
        log::info!("{} is {}, known by {}", self.conn.peer, proof.remote(), proof.how().words());
        self.settled(proof.remote(), proof.how());
        let (local, remote) = (proof.local().as_str(), proof.remote().as_str());
        let Some(peer) = self.shared.with_hub(|hub, _| hub.peer(local, remote)) else { return Ok(()) };
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
        Ok(())
    }

    /// Their stream carries our stanzas as well. What has waited is not lost with the stream only if the other side
    /// counts, so whoever may begin to is given the time to say it.
    fn attach(&mut self, managed: bool) {
        let Some((peer, _)) = self.waits.take() else { return };
        if self.shared.attach(peer, &self.conn, &self.out, managed) {
            self.out.clear();
            (self.attached, self.since) = (Some(peer), Instant::now());
        }
    }

    /// Something is proven: the time to do it in, and the small cap, were for strangers.
    fn settled(&mut self, remote: &Domain, how: Trusted) {
        (self.deadline, self.then) = (None, None);
        self.how = Some(self.how.map_or(how, |best| if best.rung() > how.rung() { best } else { how }));
        self.place = self.place.take().map(Place::settled);
        self.reader.set_max_bytes(self.shared.limits().stanza_bytes as usize);
        self.s2s.arrived(remote, &self.conn, how);
        let patience = self.idle().saturating_mul(2).as_millis();
        let patience = u32::try_from(patience).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(self.conn.io.get_ref(), patience);
        self.last = Instant::now();
    }

    /// Our stanzas may flow.
    fn is_ready(&mut self, ready: Ready) -> Result<(), Over> {
        let Half::Out(half) = &self.half else { return Ok(()) };
        let (local, remote) = (half.wanted().local.clone(), half.wanted().remote.clone());
        self.stands(&remote, ready.how, self.hint)?;
        self.settled(&remote, ready.how);
        log::info!(
            "{}: linked with {remote} as {local}, which is known by {}",
            self.conn.peer,
            ready.how.words()
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
            (self.attached, self.since) = (Some(peer), Instant::now());
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
            let verdict = super::dial::call_back(&shared, &call, conn.peer.ip()).await;
            events.borrow_mut().push(Event::Verified(call, verdict));
            conn.wake_reader();
        });
    }

    /// XEP-0198 §4: says what was heard until now, once all of that is settled: delivered, or on disk. However often it
    /// is asked for, one answer is on its way, and perhaps one more is due: each may be a job at the store.
    fn settle(&mut self) {
        let Some(heard) = self.heard else { return };
        if std::mem::replace(&mut self.settling, true) {
            self.owed = true;
            return;
        }
        let peers: Vec<SessionId> = self.pairs.iter().map(|(_, peer)| *peer).collect();
        let (events, conn) = (self.events.clone(), self.conn.clone());
        let then = move || {
            events.borrow_mut().push(Event::Settled(heard));
            conn.wake_reader();
        };
        self.shared
            .with_hub(|hub, mouth| after_pending(hub, mouth, peers, fixed::SETTLE_ROUNDS, Box::new(then)));
    }

    fn hear_events(&mut self) -> Result<(), Over> {
        let events = std::mem::take(&mut *self.events.borrow_mut());
        for event in events {
            match event {
                Event::Settled(heard) => {
                    let mut w = Writer::new(&mut self.out);
                    w.start("a").ns(ns::SM).attr("h", &heard.to_string());
                    drop(w);
                    self.settling = false;
                    if std::mem::take(&mut self.owed) {
                        self.settle();
                    }
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
}

fn new_reader(shared: &Shared) -> Reader {
    Reader::new(shared.limits().early_bytes as usize, passed_on(shared).depth)
}

/// The caps on what another server passes on: it has its own on what its users write, and adds something.
fn passed_on(shared: &Shared) -> Caps {
    let (ours, room, usual) = (shared.caps.get(), Caps::passed_on(), Caps::default());
    let more = |ours: u16, room: u16, usual: u16| ours.saturating_add(room.saturating_sub(usual));
    Caps {
        depth: more(ours.depth, room.depth, usual.depth),
        attributes: more(ours.attributes, room.attributes, usual.attributes),
        prefixes: more(ours.prefixes, room.prefixes, usual.prefixes),
        declarations: more(ours.declarations, room.declarations, usual.declarations),
        elements: ours.elements.saturating_add(room.elements.saturating_sub(usual.elements)),
    }
}
