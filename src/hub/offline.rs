//! Messages that can't be delivered now: kept for later (XEP-0160), sent when somebody is there, and
//! what a session that ended has never read.

use super::account::Account;
use super::deliver::answerable;
use super::talk::{SessionId, Sink, Taken, Then};
use super::{Hub, Origin, bounce, jid};
use crate::jid::{FullJid, Jid};
use crate::stanza::{Condition, Error, Kind, Stanza};
use crate::store::change::{Answer, Ask, Change};
use crate::xml::{Writer, ns};
use std::borrow::Cow;

impl Hub {
    /// Whether a message must not go to a session because others for it are in the store still. If
    /// there is no room there it comes back, for overtaking them it must not (RFC 6120 §10.1).
    pub(super) fn stands_behind(&self, session: SessionId, place: u32, stanza: &Stanza<'_>) -> bool {
        self.session(session).is_some_and(|s| s.behind)
            && self.account(place).is_some_and(|a| a.offline.0 > 0)
            && is_kept(stanza)
    }

    /// Whether one more message can be put aside.
    pub(super) fn has_room(&self, account: &Account, size: u64) -> bool {
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
        let origin = self.origin_of(&from);
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

    /// The sender of a stanza that we have stamped: where it is now, if it is there.
    pub(super) fn origin_of(&mut self, from: &str) -> Origin {
        let session = jid(from).and_then(|from| match self.is_local(from.domain()) {
            true => self.resource(self.find(from.local()?)?, from.resource()?),
            false => self.peer(&self.names.domain.clone(), from.domain()),
        });
        Origin { jid: from.to_owned(), session: session.unwrap_or(SessionId::NONE) }
    }

    /// Whether a message that was said to a session is not lost with it: it is of a kind that is not
    /// kept, or a copy, or was only lent from the store.
    pub(super) fn is_elsewhere(&self, stanza: &Stanza<'_>) -> bool {
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

    pub(super) fn redirect(
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
            if !self.stands_behind(*target, place, stanza)
                && let Some(out) = sink.outbox(*target)
            {
                out.extend_from_slice(stanza.text().as_bytes());
                return;
            }
        }
        // As it was, with the id that it had.
        let id = self.known_id(stanza);
        if self.put_aside(sink, origin, &to, stanza, place, &id) {
            for target in targets {
                self.behind(target, true);
            }
        }
    }

    /// The id that we have given to a message, or a new one.
    pub(super) fn known_id(&mut self, stanza: &Stanza<'_>) -> String {
        let known = stanza.child(ns::SID, "stanza-id").and_then(|c| stanza.child_attr(c, "id"));
        known.map_or_else(|| self.next_id().to_string(), Cow::into_owned)
    }

    /// A message as it is kept.
    pub(super) fn aside(
        &mut self,
        origin: &Origin,
        to: &Jid<'_>,
        stanza: &Stanza<'_>,
        place: u32,
        id: &str,
    ) -> Option<Vec<u8>> {
        let mut cut = std::mem::take(&mut self.cut);
        let jid = self.account(place).map(|a| a.jid.clone())?;
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
        Some(bytes)
    }

    /// RFC 6121 §8.5.2.2.1 and XEP-0160: keep it for later, or give it back (then it is false).
    pub(super) fn put_aside(
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
        let Some(bytes) = self.aside(origin, to, stanza, place, id) else { return false };
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
        let Some(account) = self.account(place) else { return };
        if account.fetching == Some(id) {
            return;
        }
        // Who has lost its connection does not keep them from others.
        let busy = account.fetching.and_then(|by| self.session(by)).is_some_and(|s| !s.lost);
        if account.offline.0 == 0 || busy || !wants {
            return self.behind(id, false);
        }
        let Some(account) = self.account_mut(place) else { return };
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
            let then: Taken = Box::new(move |hub, sink, taken| {
                if taken {
                    hub.offline_taken(sink, id, place, up_to, count, size);
                }
            });
            sink.taken(id, then);
        });
        self.store_for(sink, id, Vec::new(), ask, then);
    }

    /// Notes whether messages for a session wait in the store.
    pub(super) fn behind(&mut self, id: SessionId, behind: bool) {
        if let Some(session) = self.session_mut(id) {
            session.behind = behind;
        }
    }

    pub(super) fn offline_taken(
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
pub(super) fn delay(w: &mut Writer<'_>, domain: &str, unix_ms: u64) {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms);
    let stamp = humantime::format_rfc3339_millis(at).to_string();
    w.start("delay").ns(ns::DELAY).attr("from", domain).attr("stamp", &stamp).text("Offline storage").end();
}

/// Whether [`Hub::put_aside`] keeps a message if there is room.
pub(super) fn is_kept(stanza: &Stanza<'_>) -> bool {
    !matches!(&*stanza.type_(), "error" | "headline" | "groupchat") && worth_keeping(stanza)
}

/// Whether it is of those that [`Hub::lost`] has put into the store.
pub(super) fn is_saved(stanza: &Stanza<'_>) -> bool {
    stanza.kind() == Kind::Message && is_kept(stanza)
}

/// XEP-0160 §3 and XEP-0334: what is worth keeping for somebody who is away.
pub(super) fn worth_keeping(stanza: &Stanza<'_>) -> bool {
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
