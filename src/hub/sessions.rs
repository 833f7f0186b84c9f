//! Sessions: bound (RFC 6120 §7), and ended (RFC 6121 §4.5.2).

use super::Hub;
use super::account::Session;
use super::talk::{SessionId, Sink};
use crate::jid::{BareJid, FullJid};
use crate::stanza::Condition;
use crate::store::change::{Ask, Change};
use crate::stream;

impl Hub {
    /// Resource binding (RFC 6120 §7).
    pub(super) fn bind(
        &mut self,
        sink: &mut dyn Sink,
        ticket: u64,
        account: &BareJid,
        resource: &str,
        lang: Option<&str>,
    ) {
        let (jid, lang) = (account.clone(), lang.map(Box::<str>::from));
        let resource: Box<str> = resource.into();
        let local: Box<str> = account.local().unwrap_or("").into();
        self.with_account(sink, &local, move |hub, sink, place| match place {
            Some(place) => hub.bind_at(sink, ticket, place, &resource, lang),
            // Removed between login and bind.
            None => {
                log::debug!("bind: no account {jid}");
                sink.bound(ticket, Err(Condition::NotAllowed.into()));
            }
        });
    }

    pub(super) fn bind_at(
        &mut self,
        sink: &mut dyn Sink,
        ticket: u64,
        place: u32,
        resource: &str,
        lang: Option<Box<str>>,
    ) {
        let Some(account) = self.account(place) else { return };
        let Ok(jid) = FullJid::parse(&format!("{}/{resource}", account.jid)) else {
            return sink.bound(ticket, Err(Condition::BadRequest.into()));
        };
        let same = account
            .sessions
            .iter()
            .copied()
            .find(|id| self.session(*id).is_some_and(|s| s.jid.resource() == jid.resource()));
        match same {
            // §7.7.2.2: the new one wins, so that a device that lost its Wi-Fi gets back in.
            Some(old) => {
                self.closed(sink, old);
                sink.close(old, stream::Error::new(stream::Condition::Conflict));
            }
            None if account.sessions.len() as u64 >= self.limits.resources_per_account => {
                let lost = |id: &&SessionId| self.session(**id).is_some_and(|s| s.lost);
                let Some(old) = account.sessions.iter().find(lost).copied() else {
                    return sink.bound(ticket, Err(Condition::ResourceConstraint.into()));
                };
                self.closed(sink, old);
                sink.close(old, stream::Error::new(stream::Condition::ResourceConstraint));
            }
            None => {}
        }
        let index = match self.free_sessions.pop() {
            Some(index) => index,
            None => {
                self.sessions.push((0, None));
                (self.sessions.len() - 1) as u32
            }
        };
        let Some(slot) = self.sessions.get_mut(index as usize) else { return };
        let id = SessionId { index, generation: slot.0 };
        let lang = lang.filter(|l| &**l != "en");
        slot.1 = Some(Box::new(Session {
            id,
            account: place,
            jid: jid.clone(),
            lang,
            presence: None,
            interested: false,
            watches_blocks: false,
            carbons: false,
            directed: Vec::new(),
            pending: 0,
            parked: 0,
            behind: false,
            lost: false,
            saved: 0,
            rekeying: false,
            away: None,
        }));
        self.live_sessions += 1;
        self.counters.binds += 1;
        if let Some(account) = self.account_mut(place) {
            account.sessions.reserve_exact(1);
            account.sessions.push(id);
        }
        sink.bound(ticket, Ok((id, &jid)));
    }

    /// A session has ended (RFC 6121 §4.5.2: unavailable on any kind of disconnect).
    pub(super) fn closed(&mut self, sink: &mut dyn Sink, id: SessionId) {
        if self.session(id).is_none() {
            return;
        }
        self.unavailable(sink, id, None);
        let Some(slot) = self.sessions.get_mut(id.index as usize) else { return };
        let Some(session) = slot.1.take() else { return };
        slot.0 = slot.0.wrapping_add(1);
        self.free_sessions.push(id.index);
        self.live_sessions -= 1;
        let now = self.now.unix();
        let Some(account) = self.account_mut(session.account) else { return };
        account.sessions.retain(|s| *s != id);
        if account.fetching == Some(id) {
            account.fetching = None;
        }
        if session.carbons {
            account.carbons = account.carbons.saturating_sub(1);
        }
        if account.sessions.is_empty() {
            account.sessions = Vec::new();
            let status = account.last.take().map(|(_, status)| status).unwrap_or_default();
            account.last = Some((now, status.clone()));
            let change = Change::LastSeen { account: account.id, time: now, status };
            sink.store(vec![change], Ask::Nothing, Box::new(|_, _, _| {}));
            self.let_go(session.account);
        } else if account.offline.0 > 0 {
            // What this session has not taken is for another that is there.
            let mut others = Vec::new();
            self.each(session.account, |s| s.priority() >= Some(0), &mut others);
            if let Some(other) = others.first() {
                self.fetch_offline(sink, *other);
            }
        }
    }
}
