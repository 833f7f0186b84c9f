//! Presence across domains (RFC 6121 §4): who was told what, when a link is lost and when it is back.
//!
//! Nothing of this is kept on disk. A peer that was away is asked about all contacts again (§4.3), and told
//! of all of ours (§4.2): that is what "comes back by itself" is made of.

use super::account::Account;
use super::relay::domain_of;
use super::subscription::Verb;
use super::talk::{SessionId, Sink};
use super::{Hub, Origin};
use crate::store::change::{Item, Subscription};
use crate::xml::Writer;
use std::collections::BTreeSet;
use std::ops::Bound;

impl Hub {
    /// Whether a peer is the server of some contact of somebody who is there.
    pub(super) fn has_contacts_at(&self, local: &str, remote: &str) -> bool {
        *self.names.domain == *local
            && self.accounts.iter().flatten().any(|account| {
                account.sessions.iter().any(|id| self.session(*id).is_some_and(|s| s.presence.is_some()))
                    && account.roster.values().any(|item| {
                        domain_of(&item.jid) == remote
                            && (item.ask || item.subscription != Subscription::None)
                    })
            })
    }

    /// Notes which resources of a peer's are available, as far as accounts of ours see them: anybody can say
    /// that he is there.
    pub(super) fn note_available(&mut self, origin: &Origin, place: u32, kind: &str) {
        let max = self.limits.peer_presences;
        let seen = kind.is_empty() && self.account(place).is_some_and(|a| self.sees(a, origin.bare()));
        let Some(peer) = self.peer_at_mut(origin.session) else { return };
        let from = &*origin.jid;
        // An address may have 3 KB; a usual one counts as one.
        let weight = 1 + from.len() as u64 / 64;
        let room = peer.available_weight.saturating_add(weight) <= max;
        match kind {
            "" if seen && room && peer.available.insert(from.into()) => {
                peer.available_weight = peer.available_weight.saturating_add(weight);
            }
            "unavailable" | "error" if peer.available.remove(from) => {
                peer.available_weight = peer.available_weight.saturating_sub(weight);
            }
            _ => {}
        }
    }

    /// Whether presence of an address is for an account: a contact's, or of whom it was shown to by hand (a
    /// room, say), which had shown itself by hand, too (§4.6).
    fn sees(&self, account: &Account, bare: &str) -> bool {
        account.sees_presence_of(bare)
            || account
                .sessions
                .iter()
                .filter_map(|id| self.session(*id))
                .any(|session| session.directed.iter().any(|to| super::bare_of(to) == bare))
    }

    /// A peer is out of reach: to all who saw its people they are gone (§4.5.2 in their server's place).
    pub(super) fn presence_lost(&mut self, sink: &mut dyn Sink, id: SessionId) {
        let Some(peer) = self.peer_at_mut(id) else { return };
        let (gone, remote) = (std::mem::take(&mut peer.available), peer.remote.clone());
        peer.available_weight = 0;
        if gone.is_empty() {
            return;
        }
        for account in self.accounts.iter().flatten().filter(|account| !account.sessions.is_empty()) {
            let contacts = account.roster.values().filter(|item| domain_of(&item.jid) == &*remote);
            let contacts: BTreeSet<&str> =
                contacts.map(|item| &*item.jid).filter(|jid| account.sees_presence_of(jid)).collect();
            for session in account.sessions.iter().filter_map(|id| self.session(*id)) {
                let directed = session.directed.iter().map(|to| super::bare_of(to));
                let mut bares: BTreeSet<&str> = directed.filter(|to| domain_of(to) == &*remote).collect();
                if session.presence.is_some() {
                    bares.extend(&contacts);
                }
                for from in bares.into_iter().flat_map(|bare| of_bare(&gone, bare)) {
                    if let Some(out) = sink.outbox(session.id) {
                        let mut w = Writer::new(out);
                        w.start("presence").attr("type", "unavailable");
                        w.attr("from", from).attr("to", session.jid.as_str()).end();
                    }
                }
            }
        }
    }

    /// A peer is there again: both sides hear of each other's presence anew (§4.2.2, §4.3.1), and what
    /// was asked for is asked again (§3.1.2).
    pub(super) fn exchange_presence(&mut self, sink: &mut dyn Sink, id: SessionId) {
        let Some(peer) = self.peer_at(id).filter(|peer| *peer.local == *self.names.domain) else { return };
        let remote = peer.remote.clone();
        for account in self.accounts.iter().flatten() {
            let available = || {
                account.sessions.iter().filter_map(|id| self.session(*id)).filter(|s| s.presence.is_some())
            };
            if available().next().is_none() {
                continue;
            }
            let theirs = |item: &&Item| domain_of(&item.jid) == &*remote && !self.blocks(account, &item.jid);
            for item in account.roster.values().filter(theirs) {
                if matches!(item.subscription, Subscription::To | Subscription::Both) {
                    self.probe_remote(sink, account.jid.as_str(), &item.jid);
                }
                if item.ask {
                    self.say_remote(sink, account.jid.as_str(), &item.jid, Verb::Subscribe.name());
                }
                if matches!(item.subscription, Subscription::From | Subscription::Both) {
                    for session in available() {
                        if let Some(presence) = &session.presence {
                            self.show_remote(sink, session.jid.as_str(), &item.jid, &presence.text);
                        }
                    }
                }
            }
        }
    }

    /// §4.3.1: a probe to a contact's server.
    pub(super) fn probe_remote(&self, sink: &mut dyn Sink, own: &str, contact: &str) {
        self.say_remote(sink, own, super::bare_of(contact), "probe");
    }

    fn say_remote(&self, sink: &mut dyn Sink, own: &str, contact: &str, kind: &str) {
        self.show_remote(sink, own, contact, &format!("<presence type='{kind}'/>")); // no outside text in it
    }

    /// One presence to one contact at another domain; if there is no way now, that is made up for when
    /// there is one.
    pub(super) fn show_remote(&self, sink: &mut dyn Sink, from: &str, contact: &str, text: &str) {
        let Some((id, peer)) = self.peer_of(domain_of(from), domain_of(contact)) else { return };
        match self.door(sink, id) {
            Some(out) => super::presence::stamped(out, from, contact, text),
            None => peer.stale.set(true),
        }
    }

    /// The peer for a stanza from one domain to another. (Peers are made by [`Hub::meet`].)
    fn peer_of(&self, local: &str, remote: &str) -> Option<(SessionId, &super::peer::Peer)> {
        let local = if self.is_component(remote) { &self.names.domain } else { local };
        let id = self.find_peer(local, remote)?;
        Some((id, self.peer_at(id)?))
    }

    /// Sees to it that there is a peer for each contact's domain of an account.
    pub(super) fn meet(&mut self, place: u32) {
        if !self.peers.federation {
            return;
        }
        let Some(account) = self.account(place) else { return };
        let mut domains: Vec<Box<str>> = Vec::new();
        for item in account.roster.values() {
            let domain = domain_of(&item.jid);
            if !self.is_local(domain) && self.peers.permits(domain) && !domains.iter().any(|d| **d == *domain)
            {
                domains.push(domain.into());
            }
        }
        let local = self.names.domain.clone();
        for domain in domains {
            self.peer(&local, &domain);
        }
    }
}

/// Those of the addresses that are of a bare one.
fn of_bare<'a>(all: &'a BTreeSet<Box<str>>, bare: &'a str) -> impl Iterator<Item = &'a str> {
    all.range::<str, _>((Bound::Included(bare), Bound::Unbounded))
        .map(|jid| &**jid)
        .take_while(move |jid| jid.starts_with(bare))
        .filter(move |jid| super::bare_of(jid) == bare)
}
