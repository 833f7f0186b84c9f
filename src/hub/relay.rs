//! The way of a stanza to and from a peer: RFC 6120 §10.4 (remote domain), and what no server has had
//! before: messages for a peer that cannot be reached are kept in the store, and delivered in order when
//! it is back.
//!
//! A message that goes straight into an outbox counts as under way for its sender until the peer has it,
//! so that nothing is acknowledged to a client (a ping, XEP-0198) that is neither delivered nor on disk. One
//! that may come twice (it was sent before the link was lost, or it comes out of the store) has the same
//! stanza-id in our domain's name as the first time, and a delay; who knows that id drops it.

use super::deliver::answerable;
use super::offline::{delay, is_kept};
use super::peer::Link;
use super::subscription::Verb;
use super::talk::{Lost, SessionId, Sink, Taken, Then};
use super::{Hub, Origin, bounce, jid, weight};
use crate::jid::Jid;
use crate::stanza::{Condition, Error, Kind, Stanza};
use crate::store::change::{Answer, Ask, Change};
use crate::xml::{Span, ns};

/// Messages that are read from the store at once.
pub(super) const BATCH: u16 = 256;
/// How often a link may be lost over one message. A network that fails that often in the same second is rare.
const FALLS: u8 = 4;

/// What may wait for a peer: messages that would be kept for an account, too, and the four stanzas that
/// change a subscription, for whose loss nobody would ever make up (RFC 6121 §3).
fn is_stored(stanza: &Stanza<'_>) -> bool {
    match stanza.kind() {
        Kind::Message => is_kept(stanza),
        Kind::Presence => Verb::parse(&stanza.type_()).is_some(),
        Kind::Iq => false,
    }
}

/// The domain of an address that is known to be normal.
pub(super) fn domain_of(jid: &str) -> &str {
    let bare = super::bare_of(jid);
    bare.split_once('@').map_or(bare, |(_, domain)| domain)
}

impl Hub {
    /// RFC 6120 §10.4: a stanza for a domain that is not ours, or for a component.
    pub(super) fn forward(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
    ) {
        let component = self.is_component(to.domain());
        // No relay: what comes from a remote server is for us or for a component of ours (threat D7).
        let remote = self.peer_at(origin.session).is_some_and(|peer| !peer.component);
        let refused = if component {
            None
        } else if remote || !self.peers.federation {
            Some("this hub does not reach other domains")
        } else if !self.peers.permits(to.domain()) {
            Some("the operator of this hub does not want it to reach that domain")
        } else {
            None
        };
        if let Some(text) = refused {
            if stanza.kind() != Kind::Presence {
                bounce(self, sink, origin, stanza, Error::new(Condition::RemoteServerNotFound).text(text));
            }
            return;
        }
        // A component is one peer to all; a remote server is one to each of our domains.
        let local: Box<str> = match component {
            true => self.names.domain.clone(),
            false => domain_of(&origin.jid).into(),
        };
        let Some(id) = self.peer(&local, to.domain()) else {
            if stanza.kind() != Kind::Presence {
                let text = "this hub is waiting for too many other domains";
                bounce(self, sink, origin, stanza, Error::new(Condition::ResourceConstraint).text(text));
            }
            return;
        };
        // XEP-0478, threat D12: what is too large for them would cost all the others the stream.
        let size = stanza.text().len() as u64 + 512;
        if self.peer_at(id).and_then(|peer| peer.max_bytes).is_some_and(|max| size > max) {
            let text = "that is larger than the other server takes";
            return bounce(self, sink, origin, stanza, Error::new(Condition::PolicyViolation).text(text));
        }
        if is_stored(stanza) && !component {
            return self.forward_safely(sink, id, origin, to, stanza);
        }
        let lang = self.lang(origin).map(str::to_owned);
        let mut cut = std::mem::take(&mut self.cut);
        self.forged(stanza, &local, &mut cut);
        match self.door(sink, id) {
            Some(out) => stanza.stamp(out, Some(&origin.jid), Some(to.as_str()), lang.as_deref(), &cut),
            None => match stanza.kind() {
                Kind::Presence => self.is_stale(id),
                _ if answerable(stanza) => {
                    let error = self.no_way(id);
                    bounce(self, sink, origin, stanza, error);
                }
                _ => {}
            },
        }
        self.cut = cut;
        if component && stanza.kind() == Kind::Message {
            self.carbon_of_sent(sink, origin, to, stanza);
        }
    }

    fn is_stale(&self, id: SessionId) {
        if let Some(peer) = self.peer_at(id) {
            peer.stale.set(true);
        }
    }

    /// RFC 6120 §8.3.3.16, §8.3.3.17: why something for a peer comes back.
    fn no_way(&self, id: SessionId) -> Error {
        let peer = self.peer_at(id);
        match peer.map(|peer| (peer.component, peer.link.get())) {
            Some((true, _)) => {
                Error::new(Condition::ServiceUnavailable).text("that gateway is not connected")
            }
            Some((_, Link::Waiting { why: Lost::NotFound, .. })) => {
                Error::new(Condition::RemoteServerNotFound)
                    .text("there is no such server, or none to be trusted")
            }
            _ => Error::new(Condition::RemoteServerTimeout).text("the other server can't be reached now"),
        }
    }

    /// A stanza that must not get lost.
    fn forward_safely(
        &mut self,
        sink: &mut dyn Sink,
        id: SessionId,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
    ) {
        let number = self.next_id();
        let Some(packet) = self.stamp_remote(id, origin, to, stanza, Some(&number), false) else { return };
        let size = packet.len();
        // A new link for one that was lost may take a while, and its messages would be nowhere meanwhile.
        let straight = self.peer_at(id).is_some_and(|peer| {
            let link = peer.link.get();
            let fresh = peer.attempts == 0 || matches!(link, Link::Waiting { why: Lost::NotFound, .. });
            peer.queued.0 == 0 && (link == Link::Up || fresh)
        });
        if straight && let Some(out) = self.door(sink, id) {
            out.extend_from_slice(&packet);
            self.under_way(sink, id, origin.session, size);
        } else if matches!(
            self.peer_at(id).map(|p| p.link.get()),
            Some(Link::Waiting { why: Lost::NotFound, .. })
        ) {
            let error = self.no_way(id);
            return bounce(self, sink, origin, stanza, error);
        } else if !self.store_forward(sink, id, origin, to, stanza, &number, false) {
            return;
        }
        if stanza.kind() == Kind::Message {
            self.carbon_of_sent(sink, origin, to, stanza);
        }
    }

    /// Counts for its sender as under way until the peer has taken it.
    fn under_way(&mut self, sink: &mut dyn Sink, id: SessionId, sender: SessionId, size: usize) {
        let weight = weight(size);
        let Some(session) = self.session_mut(sender) else { return };
        session.pending = session.pending.saturating_add(weight);
        session.at_peers(id, 1);
        let then: Taken = Box::new(move |hub, _, _| {
            if let Some(session) = hub.session_mut(sender) {
                session.pending = session.pending.saturating_sub(weight);
                session.at_peers(id, -1);
            }
        });
        sink.taken(id, then);
    }

    /// A stanza as the peer gets it. With `number` it says in our name which one it is.
    fn stamp_remote(
        &mut self,
        id: SessionId,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
        number: Option<&str>,
        late: bool,
    ) -> Option<Vec<u8>> {
        let local = self.peer_at(id)?.local.clone();
        let mut cut: Vec<Span> = std::mem::take(&mut self.cut);
        self.forged(stanza, &local, &mut cut);
        let mut packet = Vec::with_capacity(stanza.text().len() + 192);
        let number = number.filter(|_| stanza.kind() == Kind::Message);
        let now = self.now.unix_ms;
        stanza.stamp_with(&mut packet, Some(&origin.jid), Some(to.as_str()), self.lang(origin), &cut, |w| {
            if let Some(number) = number {
                w.start("stanza-id").ns(ns::SID).attr("by", &local).attr("id", number).end();
            }
            if late {
                delay(w, &local, now);
            }
        });
        self.cut = cut;
        Some(packet)
    }

    /// XEP-0280 §8: the sender's other sessions hear of what it has sent to another domain.
    fn carbon_of_sent(&mut self, sink: &mut dyn Sink, origin: &Origin, to: &Jid<'_>, stanza: &Stanza<'_>) {
        let Some(place) = self.session(origin.session).map(|s| s.account) else { return };
        if self.account(place).is_some_and(|a| a.carbons > 0 && a.sessions.len() > 1) {
            let mut packet = Vec::new();
            stanza.stamp(&mut packet, Some(&origin.jid), Some(to.as_str()), self.lang(origin), &[]);
            let have = [origin.session];
            self.copy(
                sink,
                &super::extension::Copy { account: place, sent: true, have: &have, packet: &packet, stanza },
            );
        }
    }

    // ---- the queue in the store ------------------------------------------------------------

    /// Keeps a stanza for a peer, behind the others or before them, or gives it back (then it is false).
    #[allow(clippy::too_many_arguments)] // the parts of one stamp, and where it goes
    fn store_forward(
        &mut self,
        sink: &mut dyn Sink,
        id: SessionId,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
        number: &str,
        first: bool,
    ) -> bool {
        let Some(packet) = self.stamp_remote(id, origin, to, stanza, Some(number), true) else {
            return false;
        };
        let size = packet.len() as u64;
        let total: u64 = self.all_peers().map(|peer| peer.queued.1).sum();
        let limits = &self.limits;
        let (most, bytes, all) = (limits.forward_messages, limits.forward_bytes, limits.forward_total);
        let now = self.now.unix();
        let Some(peer) = self.peer_at_mut(id) else { return false };
        let room = u64::from(peer.queued.0) < most
            && peer.queued.1.saturating_add(size) <= bytes
            && total.saturating_add(size) <= all;
        if !room {
            let error = Error::new(Condition::RemoteServerTimeout)
                .text("the other server can't be reached, and as much waits for it as is kept");
            if stanza.kind() == Kind::Message {
                bounce(self, sink, origin, stanza, error);
            }
            return false;
        }
        if peer.queued.0 == 0 {
            peer.oldest = now;
        }
        peer.queued = (peer.queued.0.saturating_add(1), peer.queued.1.saturating_add(size));
        let change = Change::ForwardPut {
            local: peer.local.clone(),
            remote: peer.remote.clone(),
            first,
            time: now,
            stanza: packet.into(),
        };
        let mut refused = Vec::new();
        Error::new(Condition::ResourceConstraint).text("the hub's disk refuses").reply(
            &mut refused,
            stanza,
            Some(to.as_str()),
            Some(&origin.jid),
        );
        let sender = origin.session;
        let then: Then = Box::new(move |hub, sink, answer| {
            if let Answer::Failed(why) = answer {
                log::error!("store: {why}");
                if let Some(peer) = hub.peer_at_mut(id) {
                    peer.queued = (peer.queued.0.saturating_sub(1), peer.queued.1.saturating_sub(size));
                }
                if !refused.is_empty() {
                    hub.send(sink, sender, &refused);
                }
                return;
            }
            hub.fetch_forward(sink, id);
        });
        self.store_for(sink, sender, vec![change], Ask::Nothing, then);
        self.counters.stored += 1;
        self.want(sink, id);
        true
    }

    /// A peer that was too slow has taken all that waited for it.
    pub(super) fn drained(&mut self, sink: &mut dyn Sink, id: SessionId) {
        if let Some(peer) = self.peer_at_mut(id) {
            peer.full = false;
        }
        self.fetch_forward(sink, id);
    }

    /// Sends what waits in the store, a batch at a time: the next one is read, and the last one
    /// forgotten, when the peer has taken it.
    pub(super) fn fetch_forward(&mut self, sink: &mut dyn Sink, id: SessionId) {
        let Some(peer) = self.peer_at_mut(id) else { return };
        if peer.fetching || peer.expiring || peer.full || peer.queued.0 == 0 || peer.link.get() != Link::Up {
            return;
        }
        peer.fetching = true;
        let round = peer.round;
        let (local, remote) = (peer.local.clone(), peer.remote.clone());
        let max = if peer.head.2 > 0 { 1 } else { BATCH.into() };
        let ask = Ask::Forward { local, remote, after: 0, max, bytes: 131_072 };
        let then: Then = Box::new(move |hub, sink, answer| hub.forwarded(sink, id, round, answer));
        sink.store(Vec::new(), ask, then);
    }

    fn forwarded(&mut self, sink: &mut dyn Sink, id: SessionId, round: u32, answer: Answer) {
        let Some(peer) = self.peer_at_mut(id).filter(|peer| peer.round == round) else { return };
        let messages = match answer {
            Answer::Forward { messages, .. } => messages,
            other => {
                if let Answer::Failed(why) = other {
                    log::error!("store: {why}");
                }
                // They are still the first; the next one that is put there has this tried again.
                peer.fetching = false;
                return;
            }
        };
        if let Some((first, _, stanza)) = messages.first() {
            if peer.head.0 != *first {
                (peer.head.0, peer.head.1) = (*first, 0);
            }
            if peer.head.1 >= FALLS {
                return self.quarantine(sink, id, *first, stanza);
            }
        }
        let (mut up_to, mut count, mut size) = (None, 0u32, 0u64);
        for (number, _, stanza) in &messages {
            let Some(out) = sink.outbox(id) else { break };
            out.extend_from_slice(stanza);
            up_to = Some(*number);
            count = count.saturating_add(1);
            size = size.saturating_add(stanza.len() as u64);
        }
        let Some(up_to) = up_to else {
            if let Some(peer) = self.peer_at_mut(id) {
                // A full outbox is told of by `Drained`; if there is nothing after all, the count was wrong.
                (peer.fetching, peer.full) = (false, !messages.is_empty());
                if messages.is_empty() {
                    peer.queued = (0, 0);
                }
            }
            return;
        };
        let then: Taken = Box::new(move |hub, sink, taken| {
            let Some(peer) = hub.peer_at_mut(id).filter(|peer| taken && peer.round == round) else { return };
            peer.fetching = false;
            peer.head = (0, 0, peer.head.2.saturating_sub(1));
            peer.queued = (peer.queued.0.saturating_sub(count), peer.queued.1.saturating_sub(size));
            let (local, remote) = (peer.local.clone(), peer.remote.clone());
            let then: Then = Box::new(|_, _, answer| {
                if let Answer::Failed(why) = answer {
                    log::error!("store: {why}");
                }
            });
            sink.store(vec![Change::ForwardRemove { local, remote, up_to }], Ask::Nothing, then);
            hub.fetch_forward(sink, id);
        });
        sink.taken(id, then);
    }

    /// The other side ends the link whenever it gets this (threats A9): its sender is told, and those behind it
    /// go on.
    fn quarantine(&mut self, sink: &mut dyn Sink, id: SessionId, number: u64, stanza: &[u8]) {
        let Some(peer) = self.peer_at_mut(id) else { return };
        log::warn!("{}: every link is lost over one message; it goes back to its sender", peer.remote);
        peer.fetching = false;
        (peer.head.0, peer.head.1) = (0, 0);
        let size = stanza.len() as u64;
        peer.queued = (peer.queued.0.saturating_sub(1), peer.queued.1.saturating_sub(size));
        let (local, remote) = (peer.local.clone(), peer.remote.clone());
        let error = Error::new(Condition::UndefinedCondition)
            .text("the other server breaks off whenever it gets this message");
        self.give_up(sink, stanza, error);
        let change = Change::ForwardRemove { local, remote, up_to: number };
        sink.store(vec![change], Ask::Nothing, Box::new(|_, _, _| {}));
        self.fetch_forward(sink, id);
    }

    /// Whether something has waited for too long that was kept at that time. What came after the start is no
    /// older than that, even if the clock was set meanwhile.
    fn is_over(&self, time: u64) -> bool {
        let longest = self.limits.forward_seconds;
        let up = self.now.mono_ms.saturating_sub(self.started.mono_ms) / 1000;
        time <= self.now.unix().saturating_sub(longest) && (time < self.started.unix() || up >= longest)
    }

    /// What has waited for too long goes back to its senders, or all of it when there turns out to be
    /// nobody to wait for.
    pub(super) fn expire(&mut self, sink: &mut dyn Sink, id: SessionId, all: bool) {
        let Some(oldest) = self.peer_at(id).filter(|p| !p.expiring && p.queued.0 > 0).map(|p| p.oldest)
        else {
            return;
        };
        if !all && !self.is_over(oldest) {
            return;
        }
        let Some(peer) = self.peer_at_mut(id) else { return };
        // Nobody else reads them meanwhile, and what the outbox held is there first.
        peer.expiring = true;
        let then: Then = Box::new(move |hub, sink, _| hub.give_back(sink, id, all));
        sink.store(Vec::new(), Ask::Nothing, then);
    }

    fn give_back(&mut self, sink: &mut dyn Sink, id: SessionId, all: bool) {
        let Some(peer) = self.peer_at(id) else { return };
        let (local, remote) = (peer.local.clone(), peer.remote.clone());
        let ask = Ask::Forward { local, remote, after: 0, max: 256, bytes: 1_048_576 };
        let then: Then = Box::new(move |hub, sink, answer| {
            if let Some(peer) = hub.peer_at_mut(id) {
                peer.expiring = false;
            }
            let Answer::Forward { messages, .. } = answer else { return hub.fetch_forward(sink, id) };
            let old: Vec<_> = messages.iter().take_while(|(_, time, _)| all || hub.is_over(*time)).collect();
            let (mut up_to, mut count, mut size) = (None, 0u32, 0u64);
            for (number, _, stanza) in old {
                up_to = Some(*number);
                count = count.saturating_add(1);
                size = size.saturating_add(stanza.len() as u64);
                let error = match hub.no_way(id) {
                    error if error.condition == Condition::RemoteServerNotFound => error,
                    _ => Error::new(Condition::RemoteServerTimeout)
                        .text("the other server was away for too long"),
                };
                hub.give_up(sink, stanza, error);
            }
            let rest = messages.get(count as usize).map(|(_, time, _)| *time);
            let Some(peer) = hub.peer_at_mut(id) else { return };
            peer.oldest = rest.unwrap_or(peer.oldest);
            peer.queued = (peer.queued.0.saturating_sub(count), peer.queued.1.saturating_sub(size));
            let Some(up_to) = up_to else { return hub.fetch_forward(sink, id) };
            peer.expiring = true;
            let (local, remote) = (peer.local.clone(), peer.remote.clone());
            let then: Then = Box::new(move |hub, sink, answer| {
                let Some(peer) = hub.peer_at_mut(id) else { return };
                let up = peer.link.get() == Link::Up;
                peer.expiring = false;
                if answer == Answer::Nothing && !(all && up) {
                    hub.expire(sink, id, all);
                }
                hub.fetch_forward(sink, id);
            });
            sink.store(vec![Change::ForwardRemove { local, remote, up_to }], Ask::Nothing, then);
        });
        sink.store(Vec::new(), ask, then);
    }

    /// A message out of the store that will not be delivered any more: its sender is told.
    fn give_up(&mut self, sink: &mut dyn Sink, stanza: &[u8], error: Error) {
        let Ok(text) = std::str::from_utf8(stanza) else { return };
        self.view(text, |hub, stanza| {
            if stanza.kind() == Kind::Message && answerable(stanza) {
                hub.return_to_sender(sink, stanza, error);
            }
        });
    }

    /// An error for a stanza of an account of ours whose session may be gone, or of a component's (RFC 6120
    /// §8.3.1).
    fn return_to_sender(&mut self, sink: &mut dyn Sink, stanza: &Stanza<'_>, error: Error) {
        let Some(from) = stanza.from() else { return };
        let mut out = Vec::new();
        if !error.reply(&mut out, stanza, stanza.to().as_deref(), Some(&from)) {
            return;
        }
        let Some(from) = jid(&from).map(Jid::into_owned) else { return };
        if !self.is_local(from.domain()) {
            // Over the pair that it came over: on no other may we speak for that domain of ours.
            let to = stanza.to();
            let local = to.as_deref().map_or(&*self.names.domain, domain_of);
            let local = if self.is_component(from.domain()) { &self.names.domain } else { local };
            if let Some(id) = self.find_peer(local, from.domain()) {
                self.send(sink, id, &out);
            }
            return;
        }
        let Some(local) = from.local().map(str::to_owned) else { return };
        self.with_account(sink, &local, move |hub, sink, place| {
            let Some(place) = place else { return };
            let session = from.resource().and_then(|resource| hub.resource(place, resource));
            let mut targets = Vec::new();
            match session {
                Some(session) => targets.push(session),
                // The device has come back under another name, or another one is there.
                None => drop(hub.best(place, &mut targets)),
            }
            for target in targets {
                hub.send(sink, target, &out);
            }
        });
    }

    /// What a peer's outbox held when its link was gone (see [`super::talk::Input::Returned`]).
    pub(super) fn returned(&mut self, sink: &mut dyn Sink, id: SessionId, stanza: &Stanza<'_>) {
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else { return };
        let Some(peer) = self.peer_at(id) else { return };
        let (local, link, component) = (peer.local.clone(), peer.link.get(), peer.component);
        // It was only lent by the store.
        let lent = stanza.children().iter().any(|c| {
            (stanza.child_ns(c), stanza.child_name(c)) == (ns::DELAY, "delay")
                && stanza.child_attr(c, "from").is_some_and(|from| *from == *local)
        });
        if lent && peer.queued.0 > 0 {
            return;
        }
        let gone = matches!(link, Link::Waiting { why: Lost::NotFound, .. });
        match stanza.kind() {
            _ if is_stored(stanza) && !gone && !component => {
                let known = stanza.child(ns::SID, "stanza-id").and_then(|c| stanza.child_attr(c, "id"));
                let number = known.map_or_else(|| self.next_id().to_string(), |id| id.into_owned());
                let Ok(to) = Jid::parse(&to) else { return };
                let origin = self.origin_of(&from);
                self.store_forward(sink, id, &origin, &to, stanza, &number, true);
            }
            Kind::Presence => {
                self.is_stale(id);
                if link == Link::Idle {
                    self.make_up(sink, id);
                }
            }
            _ if answerable(stanza) => {
                let error = self.no_way(id);
                self.return_to_sender(sink, stanza, error);
            }
            _ => {}
        }
    }

    // ---- what comes from a peer -----------------------------------------------------------

    /// A stanza from a peer. Its `from` and `to` were checked against what the stream has proven.
    pub(super) fn remote(&mut self, sink: &mut dyn Sink, id: SessionId, stanza: &Stanza<'_>) {
        self.counters.stanzas_in += 1;
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else { return };
        let origin = Origin { jid: from.into_owned(), session: id };
        let Ok(from) = Jid::parse(&origin.jid) else { return };
        let Ok(to) = Jid::parse(&to) else {
            // RFC 6120 §8.3.3.8, in our name: from an address that is none they would take nothing.
            let own = self.peer_at(id).map(|peer| peer.local.clone());
            let mut out = Vec::new();
            let error = Error::new(Condition::JidMalformed);
            if error.reply(&mut out, stanza, own.as_deref(), Some(from.as_str())) {
                self.send(sink, id, &out);
            }
            return;
        };
        let origin = Origin { jid: from.as_str().to_owned(), session: id };
        let to = self.canonical(to);
        if stanza.kind() == Kind::Iq
            && let Some(error) = super::deliver::malformed_iq(stanza)
        {
            return bounce(self, sink, &origin, stanza, error);
        }
        match stanza.kind() {
            Kind::Message => self.remote_message(sink, id, &origin, &to, stanza),
            Kind::Presence | Kind::Iq => self.route(sink, &origin, &to, stanza),
        }
    }

    /// A message from a peer, unless it has come before.
    fn remote_message(
        &mut self,
        sink: &mut dyn Sink,
        id: SessionId,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
    ) {
        let Some(remote) = self.peer_at(id).map(|peer| peer.remote.clone()) else { return };
        let by = |ns: &str, name: &str, attr: &str| {
            stanza.children().iter().find(|c| {
                (stanza.child_ns(c), stanza.child_name(c)) == (ns, name)
                    && stanza.child_attr(c, attr).is_some_and(|by| *by == *remote)
            })
        };
        let Some(number) = by(ns::SID, "stanza-id", "by").and_then(|c| stanza.child_attr(c, "id")) else {
            return self.route(sink, origin, to, stanza);
        };
        let Some(peer) = self.peer_at_mut(id) else { return };
        if !peer.is_new(&number) {
            log::debug!("{remote}: a message came again");
            return;
        }
        // It was sent before, perhaps to us before we were started again: then the account has it, and all
        // that it has is looked through. Those behind it must not overtake it meanwhile.
        let again = by(ns::DELAY, "delay", "from").is_some() && !peer.is_known_well();
        let Some(peer) = self.peer_at_mut(id) else { return };
        let local = match to.local() {
            Some(local) if (again || peer.asking > 0) && self.is_local(to.domain()) => local.to_owned(),
            _ => return self.route(sink, origin, to, stanza),
        };
        let Some(peer) = self.peer_at_mut(id) else { return };
        (peer.asking, peer.pending) = (peer.asking.saturating_add(1), peer.pending.saturating_add(1));
        let (origin, to) = (origin.clone(), to.clone().into_owned());
        let (text, number) = (Box::<str>::from(stanza.text()), Box::<str>::from(&*number));
        self.with_account(sink, &local, move |hub, sink, place| {
            let account = place.and_then(|place| hub.account(place)).map(|account| account.id);
            let ask = match account {
                Some(account) if again => Ask::OfflineHas { account, by: remote, id: number },
                _ => Ask::Nothing,
            };
            let then: Then = Box::new(move |hub, sink, answer| {
                if let Some(peer) = hub.peer_at_mut(id) {
                    (peer.asking, peer.pending) =
                        (peer.asking.saturating_sub(1), peer.pending.saturating_sub(1));
                }
                if answer != Answer::Has(true) {
                    hub.view(&text, |hub, stanza| hub.route(sink, &origin, &to, stanza));
                }
            });
            sink.store(Vec::new(), ask, then);
        });
    }
}
