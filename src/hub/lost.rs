//! Sessions that have lost their connection and may get another (XEP-0198 §5). Their presence stays, what
//! comes for them waits, and what the hub has answered for is on disk.

use super::offline::is_kept;
use super::talk::{SessionId, Sink, Then};
use super::{Hub, Origin};
use crate::jid::Jid;
use crate::stanza::{Kind, Stanza};
use crate::store::change::{Answer, Ask, Change};

impl Hub {
    /// A session has lost its connection. The messages among the `unread` go to the store as well, unless
    /// somebody else reads along, others wait there already or there is no room: as if they were lent from it, they are forgotten
    /// once they are acknowledged, and whoever comes after this session gets them in their order.
    pub(super) fn lost(&mut self, sink: &mut dyn Sink, id: SessionId, unread: &[&str]) {
        let Some(session) = self.session_mut(id) else { return };
        session.lost = true;
        let (place, available) = (session.account, session.priority() >= Some(0));
        let Some(account) = self.account(place) else { return };
        if account.fetching == Some(id) {
            return; // they are there from the last time, or were read from there
        }
        let empty = account.offline.0 == 0 && account.fetching.is_none();
        if let Some(session) = self.session_mut(id) {
            session.saved = 0;
        }
        let mut others = Vec::new();
        self.each(place, |s| s.priority() >= Some(0) && !s.lost, &mut others);
        if !(available && empty && others.is_empty()) {
            return;
        }
        let (mut changes, mut size) = (Vec::new(), 0u64);
        for text in unread {
            let bytes = self.view(text, |hub, stanza| hub.saved(stanza, place)).flatten();
            let Some(bytes) = bytes else { continue };
            size += bytes.len() as u64;
            let Some(account) = self.account(place) else { return };
            let room = self.has_room(account, bytes.len() as u64);
            let Some(account) = self.account_mut(place) else { return };
            if !room {
                // All or nothing, or nobody could tell later which of them are there.
                account.offline = (0, 0);
                return;
            }
            account.offline.0 += 1;
            account.offline.1 += bytes.len() as u64;
            changes.push(Change::OfflinePut { account: account.id, stanza: bytes.into() });
        }
        if changes.is_empty() {
            return;
        }
        let count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        log::debug!("{count} messages, {size} bytes wait for a lost session");
        self.counters.stored += u64::from(count);
        if let Some(account) = self.account_mut(place) {
            account.fetching = Some(id);
        }
        if let Some(session) = self.session_mut(id) {
            (session.saved, session.behind) = (count, true);
        }
        let then: Then = Box::new(move |hub, sink, answer| {
            if let Answer::Failed(why) = answer {
                log::error!("store: {why}");
                hub.unsave(id, place);
                hub.reload(sink, place);
            }
        });
        self.store_for(sink, id, changes, Ask::Nothing, then);
    }

    /// A message as it is kept, if it is one to keep.
    fn saved(&mut self, stanza: &Stanza<'_>, place: u32) -> Option<Vec<u8>> {
        if stanza.kind() != Kind::Message || !is_kept(stanza) || self.is_elsewhere(stanza) {
            return None;
        }
        let (from, to) = (stanza.from()?, stanza.to()?);
        let to = Jid::parse(&to).ok()?;
        let origin = Origin { jid: from.into_owned(), session: SessionId::NONE };
        let id = self.known_id(stanza);
        self.aside(&origin, &to, stanza, place, &id)
    }

    fn unsave(&mut self, id: SessionId, place: u32) {
        if let Some(session) = self.session_mut(id) {
            session.saved = 0;
        }
        if let Some(account) = self.account_mut(place).filter(|a| a.fetching == Some(id)) {
            account.fetching = None;
        }
    }

    /// It has another connection, on which it is sent again what it has not acknowledged; then comes what
    /// waits in the store.
    pub(super) fn back(&mut self, sink: &mut dyn Sink, id: SessionId) {
        let Some(session) = self.session_mut(id) else { return };
        session.lost = false;
        let (place, saved) = (session.account, session.saved);
        let Some(account) = self.account(place) else { return };
        if saved == 0 || account.fetching != Some(id) {
            session_saved(self, id, 0);
            return self.fetch_offline(sink, id);
        }
        // Those that were saved are the first.
        let ask = Ask::Offline { account: account.id, after: 0, max: saved, bytes: u32::MAX };
        let then: Then = Box::new(move |hub, sink, answer| {
            let Answer::Offline { messages, .. } = answer else { return hub.unsave(id, place) };
            let Some((up_to, _)) = messages.last() else { return hub.unsave(id, place) };
            let (up_to, count) = (*up_to, messages.len() as u32);
            let size = messages.iter().map(|(_, m)| m.len() as u64).sum();
            let taken = move |hub: &mut Hub, sink: &mut dyn Sink, taken: bool| {
                // Twice, if the connection was lost twice.
                if taken && hub.session(id).is_some_and(|s| s.saved > 0) {
                    session_saved(hub, id, 0);
                    hub.offline_taken(sink, id, place, up_to, count, size);
                }
            };
            sink.taken(id, Box::new(taken));
        });
        self.store_for(sink, id, Vec::new(), ask, then);
    }
}

fn session_saved(hub: &mut Hub, id: SessionId, count: u32) {
    if let Some(session) = hub.session_mut(id) {
        session.saved = count;
    }
}
