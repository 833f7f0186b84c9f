//! Accounts come into memory when somebody needs them, and go when nobody has for a while.

use super::account::Account;
use super::talk::{Parked, SessionId, Sink, Then};
use super::{Hub, Slot, weight_of};
use crate::jid::BareJid;
use crate::store::change::{Answer, Ask, Loaded};
use crate::stream;

impl Hub {
    /// Runs `then` with the account's place, now or once it is loaded; with `None` when there is
    /// no such account.
    pub fn with_account(
        &mut self,
        sink: &mut dyn Sink,
        localpart: &str,
        then: impl FnOnce(&mut Hub, &mut dyn Sink, Option<u32>) + 'static,
    ) {
        match self.find(localpart) {
            Some(place) => then(self, sink, Some(place)),
            None => self.park(sink, localpart, SessionId::NONE, Parked::Then(Box::new(then))),
        }
    }

    /// Lets a piece of work wait for an account that is not in memory.
    pub(super) fn park(&mut self, sink: &mut dyn Sink, localpart: &str, by: SessionId, work: Parked) {
        let weight = weight_of(&work);
        match self.by_name.get_mut(localpart) {
            Some(Slot::Loading(waiting)) => waiting.push((by, work)),
            Some(Slot::Loaded(_)) => return, // the caller has looked: can't be
            None => {
                let name: Box<str> = localpart.into();
                self.by_name.insert(name.clone(), Slot::Loading(vec![(by, work)]));
                let ask = Ask::Account { localpart: name.clone() };
                let then: Then = Box::new(move |hub, sink, answer| hub.loaded(sink, &name, answer));
                sink.store(Vec::new(), ask, then);
            }
        }
        match self.session_mut(by) {
            Some(session) => session.parked = session.parked.saturating_add(weight),
            None => self.peer_pending(by, |pending| pending.saturating_add(weight)),
        }
    }

    fn peer_pending(&mut self, by: SessionId, change: impl FnOnce(u32) -> u32) {
        if let Some(peer) = self.peer_at_mut(by) {
            peer.pending = change(peer.pending);
        }
    }

    pub(super) fn loaded(&mut self, sink: &mut dyn Sink, localpart: &str, answer: Answer) {
        let Some(Slot::Loading(waiting)) = self.by_name.remove(localpart) else { return };
        let place = match answer {
            Answer::Account(Some(loaded)) => self.keep(localpart, *loaded),
            Answer::Failed(why) => {
                log::error!("store: {why}");
                None
            }
            _ => None,
        };
        for (by, work) in waiting {
            let weight = weight_of(&work);
            match self.session_mut(by) {
                Some(session) => session.parked = session.parked.saturating_sub(weight),
                None => self.peer_pending(by, |pending| pending.saturating_sub(weight)),
            }
            match work {
                Parked::Then(then) => then(self, sink, place),
                Parked::Stanza { origin, to, text } => self.resume(sink, &origin, &to, &text, place),
            }
        }
        if let Some(place) = place {
            self.let_go(place);
        }
    }

    pub(super) fn keep(&mut self, localpart: &str, loaded: Loaded) -> Option<u32> {
        let jid = BareJid::parse(&format!("{localpart}@{}", self.names.domain)).ok()?;
        let account = Account::new(jid, loaded);
        let place = match self.free_accounts.pop() {
            Some(place) => place,
            None => {
                self.accounts.push(None);
                u32::try_from(self.accounts.len().saturating_sub(1)).ok()?
            }
        };
        *self.accounts.get_mut(place as usize)? = Some(account);
        self.by_name.insert(localpart.into(), Slot::Loaded(place));
        Some(place)
    }

    /// An account without sessions stays in memory for a while, because what comes for it seldom
    /// comes alone; the one that was idle longest goes first.
    pub(super) fn let_go(&mut self, place: u32) {
        if self.account(place).is_none_or(|a| !a.sessions.is_empty()) || self.idle.contains(&place) {
            return;
        }
        self.idle.push_back(place);
        while self.idle.len() as u64 > self.limits.cached_accounts {
            let Some(oldest) = self.idle.pop_front() else { return };
            if self.account(oldest).is_some_and(|a| a.sessions.is_empty()) {
                self.forget(oldest);
            }
        }
    }

    /// Drops what is in memory of an account. All its changes are at the store already, and the
    /// store answers in order, so the next look sees them.
    pub(super) fn forget(&mut self, place: u32) {
        if let Some(account) = self.accounts.get_mut(place as usize).and_then(Option::take) {
            self.by_name.remove(account.jid.local().unwrap_or(""));
            self.idle.retain(|p| *p != place);
            self.free_accounts.push(place);
        }
    }

    /// Ends all that an account holds open: its password has changed or it is gone. `except` may
    /// stay (it has just proven itself).
    pub fn revoke(
        &mut self,
        sink: &mut dyn Sink,
        place: u32,
        except: Option<SessionId>,
        why: &stream::Error,
    ) {
        let Some(account) = self.account(place) else { return };
        sink.revoke(account.jid.local().unwrap_or(""));
        let sessions = account.sessions.clone();
        for id in sessions.into_iter().filter(|id| Some(*id) != except) {
            self.closed(sink, id);
            sink.close(id, why.clone());
        }
    }

    /// An account was removed from the store: end its sessions, and take it out of its contacts'
    /// sight, so that a new owner of the name inherits nothing (RFC 6121 §2.5.2's way for each item).
    pub fn removed(&mut self, sink: &mut dyn Sink, place: u32) {
        let Some(account) = self.account(place) else { return };
        let jid: Box<str> = account.jid.as_str().into();
        let contacts: Vec<(Box<str>, crate::store::change::Item)> =
            account.roster.iter().map(|(j, i)| (j.clone(), i.clone())).collect();
        self.revoke(sink, place, None, &stream::Error::new(stream::Condition::NotAuthorized));
        for (contact, item) in contacts {
            self.leave(sink, &jid, &contact, &item);
        }
        self.forget(place);
    }
}
