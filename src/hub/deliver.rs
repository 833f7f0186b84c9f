//! The straight way of a stanza: from a session (RFC 6120 §8.1, §10; RFC 6121 §8.1) to an address
//! of ours (RFC 6121 §8.5), as one match in the RFC's order.

use super::account::Session;
use super::extension::{Copy, Target};
use super::subscription::Verb;
use super::talk::{Parked, SessionId, Sink};
use super::{Hub, Origin, bounce};
use crate::jid::Jid;
use crate::stanza::{Condition, Error, Kind, Stanza, Type};
use crate::stream;
use crate::xml::{Span, ns};

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

    pub(super) fn judge(&mut self, sink: &mut dyn Sink, origin: &Origin, stanza: &Stanza<'_>) {
        let id = origin.session;
        let Some(session) = self.session(id) else { return };
        // RFC 6120 §8.1.2.1: a `from` of the client's must be its own; ours is what counts.
        if let Some(from) = stanza.from()
            && !Jid::parse(&from)
                .map(|j| self.canonical(j))
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
    pub(super) fn blocked_by(&self, place: u32, jid: &str) -> bool {
        let Some(account) = self.account(place) else { return false };
        !account.blocked.is_empty()
            && self.extensions.iter().filter_map(|e| e.blocks).any(|blocks| blocks(account, jid))
    }

    /// RFC 6120 §10.5: to a domain of ours, or to another.
    pub(super) fn route(&mut self, sink: &mut dyn Sink, origin: &Origin, to: &Jid<'_>, stanza: &Stanza<'_>) {
        if !self.is_local(to.domain()) {
            // §10.4
            return self.forward(sink, origin, to, stanza);
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
    pub(super) fn arrive(
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
                // As from an account that shows nothing to the one who asks (threat B8).
                Kind::Presence if &*stanza.type_() == "probe" => {
                    self.route_verb(sink, to.bare(), origin.bare(), Verb::Unsubscribed)
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
    pub(super) fn iq(
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

    pub(super) fn shares_presence(&self, place: u32, session: SessionId, origin: &Origin) -> bool {
        self.account(place).is_some_and(|a| a.shows_presence_to(origin.bare()))
            || self
                .session(session)
                .is_some_and(|s| s.directed.iter().any(|d| **d == *origin.jid || **d == *origin.bare()))
    }

    /// The `xml:lang` that a stanza without one inherits from its sender's stream.
    pub(super) fn lang(&self, origin: &Origin) -> Option<&str> {
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
    pub(super) fn message(
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
    pub(super) fn best(&self, place: u32, targets: &mut Vec<SessionId>) -> bool {
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
    pub(super) fn hand_over(
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
        let Some(account) = self.account(place).map(|account| account.jid.as_str()) else { return };
        self.forged(stanza, account, &mut cut);
        // Nearly every message is for one session that is all ears: it is stamped where it goes.
        if let [target] = targets
            && self.session(*target).is_some_and(|s| !s.behind && !s.lost)
            && self.carbon_copies(origin, place, 1) == (None, false)
            && let Some(out) = sink.outbox(*target)
        {
            self.stamp_message(out, origin, to.as_str(), account, stanza, &cut, &id);
            self.counters.delivered += 1;
            (self.cut, self.packet) = (cut, packet);
            return;
        }
        self.stamp_message(&mut packet, origin, to.as_str(), account, stanza, &cut, &id);
        let (mut taken, mut waits) = (0, false);
        // What waits in memory is lost with us, so it is only there for whom others have read it.
        let absent = |s: &Session| s.lost && s.priority() >= Some(0);
        let absent = targets.iter().all(|t| self.session(*t).is_some_and(absent))
            && !matches!(&*stanza.type_(), "error" | "groupchat");
        for target in targets {
            if absent || self.stands_behind(*target, place, stanza) {
                waits = true;
            } else if let Some(out) = sink.outbox(*target) {
                out.extend_from_slice(&packet);
                taken += 1;
            }
        }
        self.counters.delivered += taken;
        self.copies(sink, origin, to, stanza, place, targets, &id, Some(&packet));
        let size = packet.len() as u64;
        self.packet = packet;
        self.cut = cut;
        let room = || self.account(place).is_some_and(|a| self.has_room(a, size));
        if taken == 0 || (waits && room()) {
            // Every reader of it is too slow or just gone, or one has others to read before: it is
            // kept, or comes back.
            let kept = self.put_aside(sink, origin, to, stanza, place, &id);
            for target in targets.iter().filter(|_| kept && (absent || !waits)) {
                // It is read out when they are drained.
                self.behind(*target, self.session(*target).is_some_and(|s| s.priority() >= Some(0)));
            }
        }
    }

    /// XEP-0280 §7, §8: a message that was delivered or kept goes to the other sessions of both
    /// accounts. `packet` is the message as it was delivered, if it was.
    #[allow(clippy::too_many_arguments)] // the parts of one delivery
    pub(super) fn copies(
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
        let (sender, received) = self.carbon_copies(origin, place, targets.len());
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

    /// The sender's account, if other sessions of it want a copy of what is sent, and whether other
    /// sessions of the recipient's want one than the `have` who get the message itself.
    fn carbon_copies(&self, origin: &Origin, place: u32, have: usize) -> (Option<u32>, bool) {
        let wanted = |place: u32, have: usize| {
            self.account(place).is_some_and(|a| a.carbons > 0 && a.sessions.len() > have)
        };
        let sender = self.session(origin.session).map(|s| s.account).filter(|s| wanted(*s, 1));
        (sender, wanted(place, have))
    }

    pub(super) fn copy(&mut self, sink: &mut dyn Sink, copy: &Copy<'_>) {
        for copies in self.extensions.iter().filter_map(|e| e.copies) {
            copies(self, sink, copy);
        }
    }

    /// The children that only we may write, in a stanza for a local account.
    pub(super) fn forged(&self, stanza: &Stanza<'_>, account: &str, cut: &mut Vec<Span>) {
        cut.clear();
        // None of them is of the content namespace, as nearly all that people write is.
        for child in stanza.children().iter().filter(|child| !stanza.child_ns(child).is_empty()) {
            if self.extensions.iter().filter_map(|e| e.forged).any(|f| f(self, stanza, child, account)) {
                cut.push(child.span);
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // the parts of one stamp
    pub(super) fn stamp_message(
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
}

/// RFC 6120 §8.2.3: an iq has an id, one of four types, and a request exactly one child.
pub(super) fn malformed_iq(stanza: &Stanza<'_>) -> Option<Error> {
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
pub(super) fn answerable(stanza: &Stanza<'_>) -> bool {
    match stanza.kind() {
        Kind::Iq => matches!(&*stanza.type_(), "get" | "set"),
        Kind::Message => !matches!(&*stanza.type_(), "error" | "headline"),
        Kind::Presence => false,
    }
}

/// Whether a presence stanza is one of the four of RFC 6121 §3.
pub(super) fn verb(stanza: &Stanza<'_>) -> Option<Verb> {
    Verb::parse(&stanza.type_())
}
