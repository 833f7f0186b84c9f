//! What waits in the store for a peer that cannot be reached: put there in order, sent when it is back, given
//! back when it has waited for too long or nobody takes it.

use super::deliver::answerable;
use super::peer::Link;
use super::relay::{domain_of, is_stored};
use super::talk::{Lost, SessionId, Sink, Taken, Then};
use super::{Hub, Origin, bounce, jid};
use crate::jid::Jid;
use crate::stanza::{Condition, Error, Kind, Stanza};
use crate::store::change::{Answer, Ask, Change};
use crate::xml::ns;

/// Messages that are read from the store at once.
pub(super) const BATCH: u16 = 256;
/// How often a link may be lost over one message. A network that fails that often in the same second is rare.
const FALLS: u8 = 4;

impl Hub {
    /// Keeps a stanza for a peer, behind the others or before them, or gives it back (then it is false).
    #[allow(clippy::too_many_arguments)] // the parts of one stamp, and where it goes
    pub(super) fn store_forward(
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
}
