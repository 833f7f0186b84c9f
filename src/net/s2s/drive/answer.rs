//! What the core of a stream asks of the world, and what it is told.

use super::{Event, Stream, UNMANAGED};
use crate::hub::limits::fixed;
use crate::hub::talk::{Input, SessionId};
use crate::jid::Domain;
use crate::net::c2s::Place;
use crate::net::peers::{Found, Link};
use crate::net::s2s::half::{Half, Over};
use crate::net::s2s::hear::after_pending;
use crate::net::s2s::{news, note, permits};
use crate::stream::peer::{Ask, Callback, Ready};
use crate::stream::trust::Trusted;
use crate::stream::{self, Condition, Verified, pairing};
use crate::xml::{Writer, ns};
use std::rc::Rc;
use std::time::{Duration, Instant};

impl Stream {
    pub(super) fn answer(&mut self, ask: Ask) -> Result<(), Over> {
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
                        && !self.shared.federation.pairing.wants(remote.as_str())
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
                    let number = *self.pairing.get_or_insert_with(|| self.shared.federation.pairing.number());
                    match self.shared.federation.pairing.begin(number, &peer) {
                        Ok(word) => self.out.extend(word),
                        Err(why) => {
                            log::debug!("{}: pairing: {why}", self.conn.peer);
                            return Err(self.said_all());
                        }
                    }
                }
                Ask::Pairing(word) => {
                    let peer = self.stranger()?;
                    let number = *self.pairing.get_or_insert_with(|| self.shared.federation.pairing.number());
                    self.out.extend(
                        self.shared.federation.pairing.hear(number, &peer, &word).unwrap_or_default(),
                    );
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
    pub(super) fn level(&self) -> log::Level {
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
    pub(super) fn attach(&mut self, managed: bool) {
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
            let verdict = crate::net::s2s::dial::call_back(&shared, &call, conn.peer.ip()).await;
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

    pub(super) fn hear_events(&mut self) -> Result<(), Over> {
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
}
