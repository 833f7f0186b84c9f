//! The straight way of a stanza: from a session (RFC 6120 §8.1, §10; RFC 6121 §8.1) to an address
//! of ours (RFC 6121 §8.5), as one match in the RFC's order.

use super::account::{Account, Session};
use super::extension::{Copy, Target};
use super::subscription::Verb;
use super::talk::{Parked, SessionId, Sink, Then};
use super::{Hub, Origin, bounce, jid};
use crate::jid::{FullJid, Jid};
use crate::stanza::{Condition, Error, Kind, Stanza, Type};
use crate::store::change::{Answer, Ask, Change};
use crate::stream;
use crate::xml::{Span, Writer, ns};
use std::borrow::Cow;

impl Hub {
    /// A client sent a stanza.
    pub(super) fn sent(&mut self, sink: &mut dyn Sink, id: SessionId, stanza: &Stanza<'_>) {
        self.counters.stanzas_in += 1;
        // The same buffer holds every sender's address in its turn.
        let mut origin = Origin { jid: std::mem::take(&mut self.sender), session: id };
        origin.jid.clear();
        origin.jid.push_str(self.session(id).map_or("", |s| s.jid.as_str()));
        self.judge(sink, &origin, stanza);
        self.sender = origin.jid;
    }

    fn judge(&mut self, sink: &mut dyn Sink, origin: &Origin, stanza: &Stanza<'_>) {
        let id = origin.session;
        let Some(session) = self.session(id) else { return };
        // RFC 6120 §8.1.2.1: a `from` of the client's must be its own; ours is what counts.
        if let Some(from) = stanza.from()
            && !Jid::parse(&from)
                .is_ok_and(|j| j.as_str() == session.jid.as_str() || j.as_str() == session.jid.bare())
        {
            self.closed(sink, id);
            return sink.close(id, stream::Error::new(stream::Condition::InvalidFrom));
        }
        if stanza.kind() == Kind::Iq
            && let Some(error) = malformed_iq(stanza)
        {
            return bounce(self, sink, origin, stanza, error);
        }
        let Some(to) = stanza.to() else {
            // RFC 6120 §10.3: no `to`.
            return match stanza.kind() {
                Kind::Message => {
                    let to = session.jid.to_bare();
                    self.route(sink, origin, &to.as_jid(), stanza);
                }
                Kind::Presence => self.broadcast(sink, origin, stanza),
                Kind::Iq => self.answer(sink, origin, stanza, Target::Own),
            };
        };
        let Ok(to) = Jid::parse(&to) else {
            return bounce(self, sink, origin, stanza, Condition::JidMalformed);
        };
        let to = self.canonical(to);
        if self.blocked_by(session.account, to.as_str()) && to.bare() != session.jid.bare() {
            // XEP-0191 §3.1.5: nothing goes out to a blocked contact.
            if stanza.kind() != Kind::Presence || stanza.type_() != "unavailable" {
                let error = Error::new(Condition::NotAcceptable)
                    .kind(Type::Cancel)
                    .app(ns::BLOCKING_ERRORS, "blocked");
                return bounce(self, sink, origin, stanza, error);
            }
        }
        if stanza.kind() == Kind::Presence {
            return self.presence_to(sink, id, origin, &to, stanza);
        }
        self.route(sink, origin, &to, stanza);
    }

    /// Whether an account blocks that address, or is not to be written to by it.
    fn blocked_by(&self, place: u32, jid: &str) -> bool {
        let Some(account) = self.account(place) else { return false };
        !account.blocked.is_empty()
            && self.extensions.iter().filter_map(|e| e.blocks).any(|blocks| blocks(account, jid))
    }

    /// RFC 6120 §10.5: to a domain of ours, or to another.
    pub(super) fn route(&mut self, sink: &mut dyn Sink, origin: &Origin, to: &Jid<'_>, stanza: &Stanza<'_>) {
        if !self.is_local(to.domain()) {
            // §10.4
            if stanza.kind() != Kind::Presence {
                let error =
                    Error::new(Condition::RemoteServerNotFound).text("this hub does not reach other domains");
                bounce(self, sink, origin, stanza, error);
            }
            return;
        }
        match (to.local(), to.resource()) {
            // §10.5.1, §10.5.2: the domain itself.
            (None, None) => match stanza.kind() {
                Kind::Iq => self.answer(sink, origin, stanza, Target::Domain),
                Kind::Message => bounce(self, sink, origin, stanza, Condition::ServiceUnavailable),
                Kind::Presence => {}
            },
            (None, Some(_)) => {
                if stanza.kind() != Kind::Presence {
                    bounce(self, sink, origin, stanza, Condition::ServiceUnavailable);
                }
            }
            // §10.5.3, §10.5.4: an account.
            (Some(local), _) => match self.find(local) {
                Some(place) => self.arrive(sink, origin, to, stanza, Some(place)),
                None => {
                    let work = Parked::Stanza {
                        origin: origin.clone(),
                        to: to.as_str().into(),
                        text: stanza.text().into(),
                    };
                    self.park(sink, local, origin.session, work);
                }
            },
        }
    }

    /// A parked stanza goes on its way.
    pub(super) fn resume(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        to: &str,
        text: &str,
        place: Option<u32>,
    ) {
        let Ok(to) = Jid::parse(to) else { return };
        self.view(text, |hub, stanza| hub.arrive(sink, origin, &to, stanza, place));
    }

    /// RFC 6121 §8.5: a stanza has arrived at an address `<local@domain>` or `<local@domain/resource>`.
    fn arrive(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
        place: Option<u32>,
    ) {
        // §8.5.1 No Such User
        let Some(place) = place else {
            return match stanza.kind() {
                Kind::Iq if to.is_bare() => self.answer(sink, origin, stanza, Target::Other(None)),
                Kind::Iq | Kind::Message if answerable(stanza) => {
                    bounce(self, sink, origin, stanza, Condition::ServiceUnavailable)
                }
                _ => {}
            };
        };
        let own = self.account(place).is_some_and(|a| a.jid.as_str() == origin.bare());
        if !own && self.blocked_by(place, &origin.jid) {
            // XEP-0191 §3.1.4: as if there were nobody.
            if stanza.kind() != Kind::Presence && answerable(stanza) && stanza.type_() != "groupchat" {
                bounce(self, sink, origin, stanza, Condition::ServiceUnavailable);
            }
            return;
        }
        match (stanza.kind(), to.resource()) {
            (Kind::Message, resource) => self.message(sink, origin, to, resource, stanza, place),
            (Kind::Presence, _) => self.presence_in(sink, origin, to, stanza, place),
            // §8.5.2.1.3, §8.5.2.2.3: the server answers for the account.
            (Kind::Iq, None) => {
                let target = if own { Target::Own } else { Target::Other(Some(place)) };
                self.answer(sink, origin, stanza, target);
            }
            (Kind::Iq, Some(resource)) => self.iq(sink, origin, to, resource, stanza, place),
        }
    }

    /// RFC 6121 §8.5.3 for an iq.
    fn iq(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        to: &Jid<'_>,
        resource: &str,
        stanza: &Stanza<'_>,
        place: u32,
    ) {
        let Some(session) = self.resource(place, resource) else {
            // §8.5.3.2.3
            return bounce(self, sink, origin, stanza, Condition::ServiceUnavailable);
        };
        // §8.5.3.1: a request from somebody who may not see the presence is not delivered, so that
        // it can't be used to find out whether a resource is there.
        let request = matches!(&*stanza.type_(), "get" | "set");
        if request && !self.shares_presence(place, session, origin) {
            return bounce(self, sink, origin, stanza, Condition::ServiceUnavailable);
        }
        let lang = self.lang(origin);
        match sink.outbox(session) {
            Some(out) => stanza.stamp(out, Some(&origin.jid), Some(to.as_str()), lang, &[]),
            None => bounce(self, sink, origin, stanza, Condition::ResourceConstraint),
        }
    }

    fn shares_presence(&self, place: u32, session: SessionId, origin: &Origin) -> bool {
        self.account(place).is_some_and(|a| a.shows_presence_to(origin.bare()))
            || self
                .session(session)
                .is_some_and(|s| s.directed.iter().any(|d| **d == *origin.jid || **d == *origin.bare()))
    }

    /// The `xml:lang` that a stanza without one inherits from its sender's stream.
    fn lang(&self, origin: &Origin) -> Option<&str> {
        self.session(origin.session).and_then(|s| s.lang.as_deref())
    }

    /// The session of an account with that resource.
    pub(super) fn resource(&self, place: u32, resource: &str) -> Option<SessionId> {
        let account = self.account(place)?;
        account
            .sessions
            .iter()
            .copied()
            .find(|id| self.session(*id).is_some_and(|s| s.jid.resource() == resource))
    }

    /// RFC 6121 §8.5.2 and §8.5.3 for a message.
    fn message(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        to: &Jid<'_>,
        resource: Option<&str>,
        stanza: &Stanza<'_>,
        place: u32,
    ) {
        let kind = stanza.type_();
        let matched = resource.and_then(|r| self.resource(place, r));
        let mut targets: Vec<SessionId> = std::mem::take(&mut self.targets);
        targets.clear();
        let mut later = false;
        let mut error = None;
        match (&*kind, matched) {
            // §8.5.3.1 Resource Matches: whatever it is.
            (_, Some(session)) => targets.push(session),
            // §8.5.3.2.1 No Resource Matches: only chat goes on as if to the bare address.
            ("groupchat" | "headline" | "error", None) if resource.is_some() => {
                error = (&*kind == "groupchat").then_some(Condition::ServiceUnavailable);
            }
            ("chat", None) => later = self.best(place, &mut targets),
            _ if resource.is_some() => error = Some(Condition::ServiceUnavailable),
            // §8.5.2.1.1 and §8.5.2.2.1 to the bare address.
            ("groupchat", None) => error = Some(Condition::ServiceUnavailable),
            ("error", None) => {}
            ("headline", None) => self.each(place, |s| s.priority() >= Some(0), &mut targets),
            // "normal", none, and what we do not know (§5.2.2).
            (_, None) => later = self.best(place, &mut targets),
        }
        if let Some(condition) = error {
            bounce(self, sink, origin, stanza, condition);
        } else if later {
            let id = self.next_id();
            if self.put_aside(sink, origin, to, stanza, place, &id) {
                self.copies(sink, origin, to, stanza, place, &[], &id, None);
            }
        } else if !targets.is_empty() {
            self.hand_over(sink, origin, to, stanza, place, &targets);
        }
        self.targets = targets;
    }

    /// The most available resources: all with the highest priority, never a negative one. True:
    /// there are none.
    fn best(&self, place: u32, targets: &mut Vec<SessionId>) -> bool {
        let Some(account) = self.account(place) else { return true };
        let top =
            account.sessions.iter().filter_map(|id| self.session(*id)?.priority()).filter(|p| *p >= 0).max();
        if top.is_some() {
            self.each(place, |s| s.priority() == top, targets);
        }
        top.is_none()
    }

    /// The sessions of an account that pass a test.
    pub(super) fn each(&self, place: u32, test: impl Fn(&Session) -> bool, into: &mut Vec<SessionId>) {
        let Some(account) = self.account(place) else { return };
        into.extend(account.sessions.iter().filter(|id| self.session(**id).is_some_and(&test)));
    }

    /// Delivers a message to sessions, with copies to others (XEP-0280). One of them must take it.
    fn hand_over(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
        place: u32,
        targets: &[SessionId],
    ) {
        let id = self.next_id();
        let mut cut: Vec<Span> = std::mem::take(&mut self.cut);
        let mut packet = std::mem::take(&mut self.packet);
        packet.clear();
        if let Some(account) = self.account(place) {
            let account = account.jid.as_str();
            self.forged(stanza, account, &mut cut);
            self.stamp_message(&mut packet, origin, to.as_str(), account, stanza, &cut, &id);
        }
        let (mut taken, mut waits) = (0, false);
        for target in targets {
            if self.stands_behind(*target, place, stanza, packet.len()) {
                waits = true;
            } else if let Some(out) = sink.outbox(*target) {
                out.extend_from_slice(&packet);
                taken += 1;
            }
        }
        self.counters.delivered += taken;
        self.copies(sink, origin, to, stanza, place, targets, &id, Some(&packet));
        self.packet = packet;
        self.cut = cut;
        if taken == 0 || waits {
            // Every reader of it is too slow or just gone, or one has others to read before: it is
            // kept, or comes back.
            let kept = self.put_aside(sink, origin, to, stanza, place, &id);
            for target in targets.iter().filter(|_| kept && !waits) {
                // It is read out when they are drained.
                self.behind(*target, self.session(*target).is_some_and(|s| s.priority() >= Some(0)));
            }
        }
    }

    /// Whether a message must go to the store because others for that session are there still, and
    /// there is room for it.
    fn stands_behind(&self, session: SessionId, place: u32, stanza: &Stanza<'_>, size: usize) -> bool {
        self.session(session).is_some_and(|s| s.behind)
            && self.account(place).is_some_and(|a| a.offline.0 > 0 && self.has_room(a, size as u64))
            && is_kept(stanza)
    }

    /// Whether one more message can be put aside.
    fn has_room(&self, account: &Account, size: u64) -> bool {
        u64::from(account.offline.0) < self.limits.offline_messages
            && account.offline.1.saturating_add(size) <= self.limits.offline_bytes
    }

    // ---- what was never sent ----------------------------------------------------------------

    /// A session has ended before this could be written to it. A message goes to whom it would go
    /// now that there is no such resource (RFC 6121 §8.5.3.2.1), or is kept; who waits for an answer
    /// gets one. It may come twice, for nobody knows what the dead have read, but then with the same
    /// stanza-id.
    pub(super) fn unsent(
        &mut self,
        sink: &mut dyn Sink,
        was: &FullJid,
        priority: Option<i8>,
        stanza: &Stanza<'_>,
    ) {
        // What has no sender is ours: a push, an answer.
        let Some(from) = stanza.from() else { return };
        let session = jid(&from).and_then(|from| self.resource(self.find(from.local()?)?, from.resource()?));
        let origin = Origin { jid: from.into_owned(), session: session.unwrap_or(SessionId::NONE) };
        match stanza.kind() {
            Kind::Iq if answerable(stanza) => {
                bounce(self, sink, &origin, stanza, Condition::ServiceUnavailable)
            }
            Kind::Iq | Kind::Presence => {}
            Kind::Message if self.is_elsewhere(stanza) => {}
            Kind::Message => {
                let (was, text) = (was.clone(), Box::<str>::from(stanza.text()));
                self.with_account(sink, was.clone().local().unwrap_or_default(), move |hub, sink, place| {
                    let Some(place) = place else { return };
                    hub.view(&text, |hub, stanza| hub.redirect(sink, &origin, &was, priority, stanza, place));
                });
            }
        }
    }

    /// Whether a message that was said to a session is not lost with it: it is of a kind that is not
    /// kept, or a copy, or was only lent from the store.
    fn is_elsewhere(&self, stanza: &Stanza<'_>) -> bool {
        !is_kept(stanza)
            || stanza.children().iter().any(|c| match (stanza.child_ns(c), stanza.child_name(c)) {
                // Only we write these: others' are cut out on the way in.
                (ns::CARBONS, "sent" | "received") => true,
                (ns::DELAY, "delay") => {
                    stanza.child_attr(c, "from").is_some_and(|from| *from == *self.names.domain)
                }
                _ => false,
            })
    }

    fn redirect(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        was: &FullJid,
        priority: Option<i8>,
        stanza: &Stanza<'_>,
        place: u32,
    ) {
        let Some(to) = stanza.to() else { return };
        let Ok(to) = Jid::parse(&to) else { return };
        let mut targets = Vec::new();
        match self.resource(place, was.resource()) {
            // The same device has come back. If it is not there yet, the message waits for it.
            Some(again) => {
                targets.extend(self.session(again).filter(|s| s.priority() >= Some(0)).map(|s| s.id))
            }
            None => {
                self.best(place, &mut targets);
                let top = targets.first().and_then(|id| self.session(*id)?.priority());
                // To the bare address: they have it already.
                if to.is_bare() && priority.is_some() && top >= priority {
                    return;
                }
            }
        }
        for target in &targets {
            if !self.stands_behind(*target, place, stanza, stanza.text().len())
                && let Some(out) = sink.outbox(*target)
            {
                out.extend_from_slice(stanza.text().as_bytes());
                return;
            }
        }
        // As it was, with the id that it had.
        let known = stanza.child(ns::SID, "stanza-id").and_then(|c| stanza.child_attr(c, "id"));
        let id = known.map_or_else(|| self.next_id().to_string(), Cow::into_owned);
        if self.put_aside(sink, origin, &to, stanza, place, &id) {
            for target in targets {
                self.behind(target, true);
            }
        }
    }

    /// XEP-0280 §7, §8: a message that was delivered or kept goes to the other sessions of both
    /// accounts. `packet` is the message as it was delivered, if it was.
    #[allow(clippy::too_many_arguments)] // the parts of one delivery
    fn copies(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
        place: u32,
        targets: &[SessionId],
        id: &str,
        packet: Option<&[u8]>,
    ) {
        let wanted = |hub: &Hub, place: u32, have: usize| {
            hub.account(place).is_some_and(|a| a.carbons > 0 && a.sessions.len() > have)
        };
        let sender = self.session(origin.session).map(|s| s.account).filter(|s| wanted(self, *s, 1));
        let received = wanted(self, place, targets.len());
        if !received && sender.is_none() {
            return;
        }
        let mut made = Vec::new();
        let packet = match packet {
            Some(packet) => packet,
            None => {
                let Some(account) = self.account(place).map(|a| a.jid.clone()) else { return };
                let mut cut = Vec::new();
                self.forged(stanza, account.as_str(), &mut cut);
                self.stamp_message(&mut made, origin, to.as_str(), account.as_str(), stanza, &cut, id);
                &made
            }
        };
        let mut have = vec![origin.session];
        have.extend_from_slice(targets);
        if received {
            // Who sent it to itself has it.
            self.copy(sink, &Copy { account: place, sent: false, have: &have, packet, stanza });
        }
        if let Some(sender) = sender.filter(|sender| !received || *sender != place) {
            self.copy(sink, &Copy { account: sender, sent: true, have: &have, packet, stanza });
        }
    }

    fn copy(&mut self, sink: &mut dyn Sink, copy: &Copy<'_>) {
        for copies in self.extensions.iter().filter_map(|e| e.copies) {
            copies(self, sink, copy);
        }
    }

    /// The children that only we may write, in a stanza for a local account.
    pub(super) fn forged(&self, stanza: &Stanza<'_>, account: &str, cut: &mut Vec<Span>) {
        cut.clear();
        for child in stanza.children() {
            if self.extensions.iter().filter_map(|e| e.forged).any(|f| f(self, stanza, child, account)) {
                cut.push(child.span);
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // the parts of one stamp
    fn stamp_message(
        &self,
        out: &mut Vec<u8>,
        origin: &Origin,
        to: &str,
        account: &str,
        stanza: &Stanza<'_>,
        cut: &[Span],
        id: &str,
    ) {
        stanza.stamp_with(out, Some(&origin.jid), Some(to), self.lang(origin), cut, |w| {
            for adds in self.extensions.iter().filter_map(|e| e.adds) {
                adds(self, account, id, w);
            }
        });
    }

    /// RFC 6121 §8.5.2.2.1 and XEP-0160: keep it for later, or give it back (then it is false).
    fn put_aside(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
        place: u32,
        id: &str,
    ) -> bool {
        match &*stanza.type_() {
            // XEP-0160 §3: not worth keeping. These come here only when their reader was too slow.
            "error" | "headline" => return true,
            "groupchat" => {
                bounce(self, sink, origin, stanza, Condition::ResourceConstraint);
                return false;
            }
            // A chat state of an hour ago is of no use.
            _ if !worth_keeping(stanza) => return true,
            _ => {}
        }
        let mut cut = std::mem::take(&mut self.cut);
        let Some(jid) = self.account(place).map(|a| a.jid.clone()) else { return false };
        self.forged(stanza, jid.as_str(), &mut cut);
        let (domain, at) = (self.names.domain.clone(), self.now);
        let mut bytes = Vec::with_capacity(stanza.text().len() + 256);
        stanza.stamp_with(&mut bytes, Some(&origin.jid), Some(to.as_str()), self.lang(origin), &cut, |w| {
            for adds in self.extensions.iter().filter_map(|e| e.adds) {
                adds(self, jid.as_str(), id, w);
            }
            delay(w, &domain, at.unix_ms);
        });
        self.cut = cut;
        let size = bytes.len() as u64;
        if !self.account(place).is_some_and(|account| self.has_room(account, size)) {
            bounce(self, sink, origin, stanza, Condition::ServiceUnavailable);
            return false;
        }
        let Some(account) = self.account_mut(place) else { return false };
        account.offline.0 += 1;
        account.offline.1 += size;
        let change = Change::OfflinePut { account: account.id, stanza: bytes.into() };
        self.counters.stored += 1;
        let mut refused = Vec::new();
        Error::new(Condition::ResourceConstraint).reply(
            &mut refused,
            stanza,
            Some(to.as_str()),
            Some(&origin.jid),
        );
        let refused = (!refused.is_empty()).then_some((origin.session, refused));
        self.persist(sink, origin.session, vec![change], Vec::new(), refused, place);
        true
    }

    /// Sends what was put aside to a session that has become available (XEP-0160 §2), a batch at a
    /// time: the next one is read, and the last one forgotten, when the session has taken it. What
    /// comes for it meanwhile is put aside as well.
    pub(super) fn fetch_offline(&mut self, sink: &mut dyn Sink, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let (place, wants) = (session.account, session.priority() >= Some(0));
        let Some(account) = self.account_mut(place) else { return };
        if account.fetching == Some(id) {
            return;
        }
        let nothing = account.offline.0 == 0 || account.fetching.is_some();
        if nothing || !wants {
            return self.behind(id, false);
        }
        account.fetching = Some(id);
        let account = account.id;
        self.behind(id, true);
        let ask = Ask::Offline { account, after: 0, max: 256, bytes: 131_072 };
        let then: Then = Box::new(move |hub, sink, answer| {
            // It may be gone, and another may be at it.
            if hub.account(place).is_none_or(|a| a.fetching != Some(id)) {
                return;
            }
            let messages = match answer {
                Answer::Offline { messages, .. } => messages,
                Answer::Failed(why) => {
                    log::error!("store: {why}");
                    Vec::new()
                }
                _ => Vec::new(),
            };
            let (mut up_to, mut count, mut size) = (None, 0u32, 0u64);
            for (number, message) in &messages {
                let Some(out) = sink.outbox(id) else { break };
                out.extend_from_slice(message);
                up_to = Some(*number);
                count += 1;
                size += message.len() as u64;
            }
            hub.counters.delivered += u64::from(count);
            let Some(up_to) = up_to else {
                if let Some(account) = hub.account_mut(place) {
                    account.fetching = None;
                }
                if messages.is_empty() {
                    hub.behind(id, false);
                }
                return;
            };
            sink.taken(id, Box::new(move |hub, sink| hub.offline_taken(sink, id, place, up_to, count, size)));
        });
        self.store_for(sink, id, Vec::new(), ask, then);
    }

    /// Notes whether messages for a session wait in the store.
    fn behind(&mut self, id: SessionId, behind: bool) {
        if let Some(session) = self.session_mut(id) {
            session.behind = behind;
        }
    }

    fn offline_taken(
        &mut self,
        sink: &mut dyn Sink,
        id: SessionId,
        place: u32,
        up_to: u64,
        count: u32,
        size: u64,
    ) {
        let Some(account) = self.account_mut(place).filter(|a| a.fetching == Some(id)) else { return };
        account.fetching = None;
        account.offline.0 = account.offline.0.saturating_sub(count);
        account.offline.1 = account.offline.1.saturating_sub(size);
        let change = Change::OfflineRemove { account: account.id, up_to };
        self.persist(sink, id, vec![change], Vec::new(), None, place);
        self.fetch_offline(sink, id);
    }
}

/// XEP-0203: when the hub took a message in.
fn delay(w: &mut Writer<'_>, domain: &str, unix_ms: u64) {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms);
    let stamp = humantime::format_rfc3339_millis(at).to_string();
    w.start("delay").ns(ns::DELAY).attr("from", domain).attr("stamp", &stamp).text("Offline storage").end();
}

/// RFC 6120 §8.2.3: an iq has an id, one of four types, and a request exactly one child.
fn malformed_iq(stanza: &Stanza<'_>) -> Option<Error> {
    let bad = |text| Some(Error::new(Condition::BadRequest).text(text));
    if stanza.id().is_none() {
        return bad("an iq needs an id");
    }
    match &*stanza.type_() {
        "get" | "set" if stanza.children().len() != 1 => bad("a request has exactly one child element"),
        "get" | "set" | "result" | "error" => None,
        _ => bad("the type of an iq is get, set, result or error"),
    }
}

/// Errors and results are never answered (RFC 6120 §8.3.1), or two servers would do it for ever.
fn answerable(stanza: &Stanza<'_>) -> bool {
    match stanza.kind() {
        Kind::Iq => matches!(&*stanza.type_(), "get" | "set"),
        Kind::Message => !matches!(&*stanza.type_(), "error" | "headline"),
        Kind::Presence => false,
    }
}

/// Whether [`Hub::put_aside`] keeps a message if there is room.
fn is_kept(stanza: &Stanza<'_>) -> bool {
    !matches!(&*stanza.type_(), "error" | "headline" | "groupchat") && worth_keeping(stanza)
}

/// XEP-0160 §3 and XEP-0334: what is worth keeping for somebody who is away.
fn worth_keeping(stanza: &Stanza<'_>) -> bool {
    if stanza.child(ns::HINTS, "no-store").is_some() {
        return false;
    }
    stanza.children().iter().any(|c| {
        !matches!(
            (stanza.child_ns(c), stanza.child_name(c)),
            (ns::CHAT_STATES, _)
                | ("", "thread")
                | (ns::SID, _)
                | (ns::HINTS, "no-copy" | "no-permanent-store")
        )
    })
}

/// Whether a presence stanza is one of the four of RFC 6121 §3.
pub(super) fn verb(stanza: &Stanza<'_>) -> Option<Verb> {
    Verb::parse(&stanza.type_())
}
