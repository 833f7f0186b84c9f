//! Presence (RFC 6121 §3 subscriptions, §4 exchanging presence).

use super::account::Available;
use super::deliver::verb;
use super::subscription::{State, Verb, inbound, outbound};
use super::talk::{SessionId, Sink, Then};
use super::{Hub, Origin, bounce, jid};
use crate::jid::Jid;
use crate::stanza::{Condition, Error, Stanza, child_text};
use crate::store::change::{Ask, Change, Item, Subscription};
use crate::xml::Writer;

/// What `<presence` is followed by once an address is known: the way one presence goes to many.
pub(super) fn stamped(out: &mut Vec<u8>, from: &str, to: &str, text: &str) {
    let mut w = Writer::new(out);
    w.start("presence").attr("from", from).attr("to", to);
    w.judged_rest(text.strip_prefix("<presence").unwrap_or("/>").as_bytes());
}

impl Hub {
    // ---- §4.2 to §4.5: presence without an address ------------------------------------------

    /// A client's presence without `to`.
    pub(super) fn broadcast(&mut self, sink: &mut dyn Sink, origin: &Origin, stanza: &Stanza<'_>) {
        let id = origin.session;
        let Some(session) = self.session(id) else { return };
        match &*stanza.type_() {
            "" => {}
            "unavailable" => return self.unavailable(sink, id, Some(stanza)),
            _ => return bounce(self, sink, origin, stanza, Condition::BadRequest),
        }
        let priority = match priority(stanza) {
            Ok(priority) => priority,
            Err(error) => return bounce(self, sink, origin, stanza, error),
        };
        let mut text = Vec::with_capacity(stanza.text().len());
        let mut cut = Vec::new();
        self.forged(stanza, session.jid.bare(), &mut cut);
        stanza.stamp(&mut text, None, None, session.lang.as_deref(), &cut);
        let Ok(text) = String::from_utf8(text) else { return };
        let place = session.account;
        let Some(session) = self.session_mut(id) else { return };
        let before = session.presence.replace(Available { priority, text: text.into() });
        let first = before.is_none();
        if first {
            self.meet(place);
        }
        self.announce(sink, id);
        if first {
            self.catch_up(sink, id, place);
        }
        // XEP-0160 §2, RFC 6121 §8.5.2.1.1: with a priority that takes messages, what waited comes.
        if priority >= 0 && before.is_none_or(|b| b.priority < 0) {
            self.fetch_offline(sink, id);
        }
    }

    /// §4.2.2, §4.4.2: to the contacts that see us, and to all our own resources.
    fn announce(&mut self, sink: &mut dyn Sink, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let Some(presence) = &session.presence else { return };
        let Some(account) = self.account(session.account) else { return };
        let text = &presence.text;
        for to in account.sessions.iter().filter_map(|s| self.session(*s)).filter(|s| s.presence.is_some()) {
            if let Some(out) = sink.must(to.id) {
                stamped(out, session.jid.as_str(), account.jid.as_str(), text);
            }
        }
        for item in account.roster.values() {
            if matches!(item.subscription, Subscription::From | Subscription::Both)
                && !self.blocks(account, &item.jid)
            {
                self.show(sink, session.jid.as_str(), &item.jid, text, |to| !self.blocks(account, to));
            }
        }
    }

    /// One presence to one contact's available resources. A contact that is not in memory has none.
    /// `whom` tells of a full address whether it may have it.
    fn show(&self, sink: &mut dyn Sink, from: &str, contact: &str, text: &str, whom: impl Fn(&str) -> bool) {
        let Some(contact) = jid(contact) else { return };
        if !self.is_local(contact.domain()) {
            if whom(contact.as_str()) {
                self.show_remote(sink, from, contact.as_str(), text);
            }
            return;
        }
        let Some(place) = self.local_place(&contact) else { return };
        let Some(account) = self.account(place) else { return };
        if self.blocks(account, from) {
            return;
        }
        for to in account.sessions.iter().filter_map(|s| self.session(*s)) {
            let wanted = match contact.resource() {
                Some(resource) => to.jid.resource() == resource,
                None => to.presence.is_some(),
            };
            if wanted
                && whom(to.jid.as_str())
                && let Some(out) = sink.must(to.id)
            {
                stamped(out, from, contact.as_str(), text);
            }
        }
    }

    pub(super) fn blocks(&self, account: &super::account::Account, jid: &str) -> bool {
        !account.blocked.is_empty()
            && self.extensions.iter().filter_map(|e| e.blocks).any(|blocks| blocks(account, jid))
    }

    fn local_place(&self, jid: &Jid<'_>) -> Option<u32> {
        if self.is_local(jid.domain()) { self.find(jid.local()?) } else { None }
    }

    /// A resource has become available: it hears of the others (§4.2.2, probes §4.3) and of the
    /// requests that wait (§3.1.3).
    fn catch_up(&mut self, sink: &mut dyn Sink, id: SessionId, place: u32) {
        let Some(account) = self.account(place) else { return };
        let own = account.jid.clone();
        // Our own other resources.
        for other in account.sessions.iter().filter(|s| **s != id).filter_map(|s| self.session(*s)) {
            if let (Some(presence), Some(out)) = (&other.presence, sink.must(id)) {
                stamped(out, other.jid.as_str(), own.as_str(), &presence.text);
            }
        }
        // Nothing goes out to whom it blocks (XEP-0191 §3.1.5).
        let roster = || account.roster.values().filter(|item| !self.blocks(account, &item.jid));
        // §4.3.1: probes to those we see; a local contact's answer is given on the spot (§4.3.2).
        for item in roster() {
            if matches!(item.subscription, Subscription::To | Subscription::Both) {
                self.answer_probe(sink, own.as_str(), &item.jid, id);
            }
        }
        // §3.1.2: a request that was not answered may have got lost on the way to another server.
        for item in roster().filter(|item| item.ask) {
            if jid(&item.jid).is_some_and(|contact| !self.is_local(contact.domain())) {
                self.show_remote(sink, own.as_str(), &item.jid, "<presence type='subscribe'/>");
            }
        }
        let waiting: Vec<Box<[u8]>> = account.roster.values().filter_map(|i| i.pending.clone()).collect();
        for request in waiting {
            self.send(sink, id, &request);
        }
    }

    /// §4.3.2: the presence of a contact of ours, if it may be seen.
    fn answer_probe(&self, sink: &mut dyn Sink, prober: &str, contact: &str, to: SessionId) {
        let Some(contact) = jid(contact) else { return };
        if !self.is_local(contact.domain()) {
            return self.probe_remote(sink, prober, contact.as_str());
        }
        let Some(account) = self.local_place(&contact).and_then(|p| self.account(p)) else { return };
        let blocks = |jid: &str| self.blocks(account, jid);
        if !account.shows_presence_to(prober)
            || blocks(prober)
            || self.session(to).is_some_and(|s| blocks(s.jid.as_str()))
        {
            return;
        }
        for session in account.sessions.iter().filter_map(|s| self.session(*s)) {
            if contact.resource().is_some_and(|r| r != session.jid.resource()) {
                continue;
            }
            let Some(presence) = &session.presence else { continue };
            let out = if to.peer_place().is_some() { self.door(sink, to) } else { sink.must(to) };
            if let Some(out) = out {
                stamped(out, session.jid.as_str(), prober, &presence.text);
            }
        }
    }

    /// §4.5: a session becomes unavailable, by its own word or because it is gone.
    pub(super) fn unavailable(&mut self, sink: &mut dyn Sink, id: SessionId, said: Option<&Stanza<'_>>) {
        let Some(session) = self.session_mut(id) else { return };
        let presence = session.presence.take();
        let directed = std::mem::take(&mut session.directed);
        let (place, from) = (session.account, session.jid.clone());
        let text = match said {
            Some(stanza) => {
                let mut text = Vec::new();
                stanza.stamp(&mut text, None, None, session.lang.as_deref(), &[]);
                String::from_utf8(text).unwrap_or_default()
            }
            None => String::from("<presence type='unavailable'/>"),
        };
        let status = said.and_then(|s| {
            s.tree().ok().and_then(|t| child_text(&t.root_element(), "", "status").map(Box::from))
        });
        if let (Some(status), Some(account)) = (status, self.account_mut(place)) {
            account.last = Some((0, status));
        }
        let Some(account) = self.account(place) else { return };
        if presence.is_some() {
            for to in account.sessions.iter().filter_map(|s| self.session(*s)) {
                let itself = to.id == id && said.is_some();
                if (itself || to.presence.is_some())
                    && let Some(out) = sink.must(to.id)
                {
                    stamped(out, from.as_str(), account.jid.as_str(), &text);
                }
            }
            for item in account.roster.values() {
                if matches!(item.subscription, Subscription::From | Subscription::Both)
                    && !self.blocks(account, &item.jid)
                {
                    self.show(sink, from.as_str(), &item.jid, &text, |to| !self.blocks(account, to));
                }
            }
        }
        // §4.6.3: also to whom it was shown by hand.
        for to in &directed {
            if presence.is_none() || !account.shows_presence_to(super::bare_of(to)) {
                self.show(sink, from.as_str(), to, &text, |to| !self.blocks(account, to));
            }
        }
    }

    /// An account stops showing itself to a contact: unavailable from each of its resources
    /// (§3.2.2, §3.3.2).
    pub(super) fn unavailable_to(&self, sink: &mut dyn Sink, own: &str, contact: &str) {
        let Some(account) = jid(own).and_then(|j| self.local_place(&j)).and_then(|p| self.account(p)) else {
            return;
        };
        for session in account.sessions.iter().filter_map(|s| self.session(*s)) {
            if session.presence.is_some() {
                let gone = "<presence type='unavailable'/>";
                self.show(sink, session.jid.as_str(), contact, gone, |to| !self.blocks(account, to));
            }
        }
    }

    // ---- presence with an address -----------------------------------------------------------

    /// A client's presence with `to`.
    pub(super) fn presence_to(
        &mut self,
        sink: &mut dyn Sink,
        id: SessionId,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
    ) {
        if let Some(verb) = verb(stanza) {
            return self.subscription_out(sink, id, origin, to, stanza, verb);
        }
        match &*stanza.type_() {
            // §4.6.3 directed presence, and its end.
            "" => {
                if let Err(error) = priority(stanza) {
                    return bounce(self, sink, origin, stanza, error);
                }
                let max = self.limits.directed as usize;
                let shown = self
                    .session(id)
                    .and_then(|s| self.account(s.account))
                    .is_some_and(|a| a.shows_presence_to(to.bare()));
                let Some(session) = self.session_mut(id) else { return };
                let known = session.directed.iter().any(|d| **d == *to.as_str());
                let broadcast = shown && session.presence.is_some();
                if !known && !broadcast {
                    if session.directed.len() >= max {
                        return bounce(self, sink, origin, stanza, Condition::ResourceConstraint);
                    }
                    session.directed.push(to.as_str().into());
                }
                self.route(sink, origin, to, stanza);
            }
            "unavailable" => {
                if let Some(session) = self.session_mut(id) {
                    session.directed.retain(|d| **d != *to.as_str());
                }
                self.route(sink, origin, to, stanza);
            }
            "error" | "probe" => self.route(sink, origin, to, stanza),
            _ => bounce(self, sink, origin, stanza, Condition::BadRequest),
        }
    }

    /// RFC 6121 §8.5.2.1.2, §8.5.3: presence arrives at an account.
    pub(super) fn presence_in(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
        place: u32,
    ) {
        if let Some(verb) = verb(stanza) {
            return self.subscription_in(sink, origin, stanza, place, verb);
        }
        match &*stanza.type_() {
            "probe" => self.probe(sink, origin, to, place),
            "" | "unavailable" | "error" => {
                self.note_available(origin, place, &stanza.type_());
                if stanza.type_() == "error" && to.is_bare() {
                    return;
                }
                let mut targets = Vec::new();
                match to.resource() {
                    Some(resource) => targets.extend(self.resource(place, resource)),
                    None => self.each(place, |s| s.presence.is_some(), &mut targets),
                }
                let mut cut = Vec::new();
                self.forged(stanza, to.bare(), &mut cut);
                let lang = self.session(origin.session).and_then(|s| s.lang.as_deref());
                for target in targets {
                    // It is dropped if there is no room: it must not be in a stranger's power to have
                    // a slow session closed.
                    if let Some(out) = sink.outbox(target) {
                        stanza.stamp(out, Some(&origin.jid), Some(to.as_str()), lang, &cut);
                    }
                }
            }
            _ => {}
        }
    }

    /// §4.3.2 for a probe that a client sent itself.
    fn probe(&mut self, sink: &mut dyn Sink, origin: &Origin, to: &Jid<'_>, place: u32) {
        let Some(account) = self.account(place) else { return };
        if account.shows_presence_to(origin.bare()) {
            return self.answer_probe(sink, origin.bare(), to.as_str(), origin.session);
        }
        // §4.3.2 rule 1: one who may not see it hears "unsubscribed" - from an account without
        // presence to see as well, so that nothing shows.
        let own = account.jid.clone();
        self.route_verb(sink, own.as_str(), origin.bare(), Verb::Unsubscribed);
    }

    // ---- §3: subscriptions --------------------------------------------------------------------

    /// §3.1.2, §3.1.5, §3.2.2, §3.3.2, §3.4.2: the user's server handles what the user sends.
    fn subscription_out(
        &mut self,
        sink: &mut dyn Sink,
        id: SessionId,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
        verb: Verb,
    ) {
        // §3.1.1: always to the bare address.
        let contact: Box<str> = to.bare().into();
        let max = self.limits.roster_items;
        let Some(place) = self.session(id).map(|s| s.account) else { return };
        let Some(account) = self.account_mut(place) else { return };
        if *contact == *account.jid.as_str() {
            return; // one always sees oneself (§4.2.2)
        }
        let own = account.jid.clone();
        let before = account.roster.get(&contact).cloned().unwrap_or_default();
        let state = State::of(&before);
        let (routed, next) = outbound(verb, state);
        let mut item = before.clone();
        item.jid = contact.clone();
        next.put(&mut item, Box::default);
        match verb {
            // §3.4.2: nothing to approve yet, so it is approved beforehand.
            Verb::Subscribed if matches!(state, State::None | State::NonePendingOut | State::To) => {
                item.approved = true;
            }
            // §3.4.2: and cancelled.
            Verb::Unsubscribed => item.approved = false,
            _ => {}
        }
        item.listed |= item.approved || !matches!(next, State::None | State::NonePendingIn);
        if item != before {
            if account.roster.len() as u64 >= max && !account.roster.contains_key(&contact) {
                let error = Error::new(Condition::ResourceConstraint).text("the roster is full");
                return bounce(self, sink, origin, stanza, error);
            }
            self.put_item(sink, place, item);
        }
        if !routed {
            return;
        }
        let bare = Origin { jid: own.as_str().into(), session: origin.session };
        let Ok(to) = Jid::parse(&contact) else { return };
        let to = to.into_owned();
        let seen = matches!(state, State::From | State::FromPendingOut | State::Both);
        let seen_next = matches!(next, State::From | State::FromPendingOut | State::Both);
        // §3.2.2: that we are gone comes while the contact still may see us.
        if seen && !seen_next {
            self.unavailable_to(sink, own.as_str(), &contact);
        }
        self.route(sink, &bare, &to, stanza);
        // §3.1.5: the contact now sees us.
        if seen_next && !seen {
            self.show_all(sink, place, &contact);
        }
    }

    /// §3.1.5: the presence of each available resource, behind the roster pushes of both sides
    /// (§3.1.6), which wait for the disk: a client has no use for presence of somebody whom it does
    /// not know to be a contact yet.
    fn show_all(&mut self, sink: &mut dyn Sink, place: u32, contact: &str) {
        let contact: Box<str> = contact.into();
        let then: Then = Box::new(move |hub, sink, _| {
            if hub.account(place).is_some_and(|a| a.shows_presence_to(&contact)) {
                hub.show_now(sink, place, &contact);
            }
        });
        sink.store(Vec::new(), Ask::Nothing, then);
    }

    fn show_now(&self, sink: &mut dyn Sink, place: u32, contact: &str) {
        let Some(account) = self.account(place) else { return };
        for session in account.sessions.iter().filter_map(|s| self.session(*s)) {
            if let Some(presence) = &session.presence {
                let whom = |to: &str| !self.blocks(account, to);
                self.show(sink, session.jid.as_str(), contact, &presence.text, whom);
            }
        }
    }

    /// XEP-0191 §3.3: an account goes out of the sight of those that see it and that pass the test.
    /// Says so before the block is in force, or it would not get through.
    pub fn hide(&mut self, sink: &mut dyn Sink, place: u32, test: impl Fn(&str) -> bool) {
        let Some(account) = self.account(place) else { return };
        let gone = "<presence type='unavailable'/>";
        let mut directed = Vec::new();
        for session in account.sessions.iter().filter_map(|s| self.session(*s)) {
            let from = session.jid.as_str();
            if session.presence.is_some() {
                for item in account.roster.values().filter(|i| account.shows_presence_to(&i.jid)) {
                    self.show(sink, from, &item.jid, gone, &test);
                }
            }
            for to in session.directed.iter().filter(|to| test(to)) {
                self.show(sink, from, to, gone, |_| true);
                directed.push(session.id);
            }
        }
        for id in directed {
            if let Some(session) = self.session_mut(id) {
                session.directed.retain(|to| !test(to));
            }
        }
    }

    /// XEP-0191 §3.4: an account shows itself again to those that may see it and that pass the
    /// test, and hears of them what it has missed.
    pub fn reveal(&self, sink: &mut dyn Sink, place: u32, test: impl Fn(&str) -> bool) {
        let Some(account) = self.account(place) else { return };
        for session in account.sessions.iter().filter_map(|s| self.session(*s)) {
            let Some(presence) = &session.presence else { continue };
            for item in account.roster.values() {
                if account.shows_presence_to(&item.jid) {
                    let whom = |to: &str| test(to) && !self.blocks(account, to);
                    self.show(sink, session.jid.as_str(), &item.jid, &presence.text, whom);
                }
                if account.sees_presence_of(&item.jid) && test(&item.jid) {
                    self.answer_probe(sink, account.jid.as_str(), &item.jid, session.id);
                }
            }
        }
    }

    /// XEP-0379, XEP-0401: two accounts see each other from now on without having asked; this is
    /// the half of one of them.
    pub fn befriend(&mut self, sink: &mut dyn Sink, place: u32, contact: &str) {
        let max = self.limits.roster_items;
        let Some(account) = self.account(place) else { return };
        let mut item = account.roster.get(contact).cloned().unwrap_or_default();
        let full = account.roster.len() as u64 >= max && item.jid.is_empty();
        if full || contact == account.jid.as_str() {
            return;
        }
        item.jid = contact.into();
        State::Both.put(&mut item, Box::default);
        item.listed = true;
        self.put_item(sink, place, item);
        self.show_all(sink, place, contact);
    }

    /// §3.1.3, §3.1.6, §3.2.3, §3.3.3: the contact's server handles what comes in.
    fn subscription_in(
        &mut self,
        sink: &mut dyn Sink,
        origin: &Origin,
        stanza: &Stanza<'_>,
        place: u32,
        verb: Verb,
    ) {
        let from: Box<str> = origin.bare().into();
        let (max, max_bytes) = (self.limits.roster_items, self.limits.early_bytes as usize);
        let Some(account) = self.account(place) else { return };
        let own = account.jid.clone();
        if *from == *own.as_str() {
            return;
        }
        let before = account.roster.get(&from).cloned().unwrap_or_default();
        let state = State::of(&before);
        if verb == Verb::Subscribe {
            // §3.1.3: already allowed, or approved beforehand: the server answers.
            let allowed = matches!(state, State::From | State::FromPendingOut | State::Both);
            if allowed || before.approved {
                if !allowed {
                    let mut item = before.clone();
                    item.jid = from.clone();
                    let next = if state == State::To {
                        State::Both
                    } else if item.ask {
                        State::FromPendingOut
                    } else {
                        State::From
                    };
                    next.put(&mut item, Box::default);
                    item.listed = true;
                    self.put_item(sink, place, item);
                }
                self.route_verb(sink, own.as_str(), &from, Verb::Subscribed);
                return self.show_all(sink, place, &from);
            }
        }
        let (delivered, next) = inbound(verb, state);
        let mut packet = Vec::new();
        let lang = self.session(origin.session).and_then(|s| s.lang.as_deref());
        stanza.stamp(&mut packet, Some(&from), Some(own.as_str()), lang, &[]);
        let Some(account) = self.account(place) else { return };
        let mut item = before.clone();
        item.jid = from.clone();
        // A request is kept whole (§3.1.3), but of a huge one only that there was one.
        next.put(&mut item, || {
            if packet.len() > max_bytes {
                let mut plain = Vec::new();
                stamped(&mut plain, &from, own.as_str(), "<presence type='subscribe'/>");
                return plain.into();
            }
            packet.clone().into()
        });
        let full =
            account.roster.len() as u64 >= max.saturating_mul(2) && !account.roster.contains_key(&from);
        if full {
            return; // silently: an answer would tell who exists
        }
        let (seen, next_seen) = (
            matches!(state, State::From | State::FromPendingOut | State::Both),
            matches!(next, State::From | State::FromPendingOut | State::Both),
        );
        if delivered {
            // To all that can do something with it; what nobody sees now is shown later (catch_up).
            let mut targets = Vec::new();
            self.each(
                place,
                |s| s.presence.is_some() || (s.interested && verb != Verb::Subscribe),
                &mut targets,
            );
            for target in targets {
                self.send(sink, target, &packet);
            }
        }
        if item != before {
            self.put_item(sink, place, item);
        }
        if seen && !next_seen {
            // §3.3.3: the other side no longer wants to see us.
            self.unavailable_to(sink, own.as_str(), &from);
        }
    }

    /// Keeps, or drops when nothing is left of it, a roster item that a subscription has changed. What
    /// clients see nothing of (a request that waits) is no new version and is not pushed (§2.1.6, §3.1.3).
    fn put_item(&mut self, sink: &mut dyn Sink, place: u32, item: Item) {
        let Some(account) = self.account_mut(place) else { return };
        let (id, version) = (account.id, account.version);
        let seen = |item: &Item| item.listed.then(|| Item { pending: None, ..item.clone() });
        let change = if !item.listed && item.pending.is_none() && !item.approved {
            account.roster.remove(&item.jid);
            Change::RosterRemove { account: id, version, jid: item.jid }
        } else {
            let before = account.roster.insert(item.jid.clone(), item.clone());
            if before.as_ref().and_then(seen) != seen(&item) {
                return self.push_item(sink, place, item, None);
            }
            Change::RosterPut { account: id, version, item }
        };
        self.persist(sink, SessionId::NONE, vec![change], Vec::new(), None, place);
    }
}

/// §4.7.2.3: an integer from -128 to 127; zero when there is none.
fn priority(stanza: &Stanza<'_>) -> Result<i8, Error> {
    let Some(child) = stanza.child("", "priority") else { return Ok(0) };
    let behind = stanza.text().get(child.tag.end as usize..child.span.end as usize).unwrap_or("");
    let inner = behind.split_once('<').map_or("", |(inner, _)| inner);
    let bad = Error::new(Condition::BadRequest).text("a priority is a number from -128 to 127");
    inner.trim().trim_start_matches('+').parse().map_err(|_| bad)
}
