//! How a stream between servers ends, whatever it was that ended it.

use super::{Failure, Stream};
use crate::hub::Hub;
use crate::hub::peer::Link as Wanted;
use crate::hub::talk::{Input, Lost, Unreachable};
use crate::jid::Domain;
use crate::net::c2s;
use crate::net::outbox::End;
use crate::net::peers::Link;
use crate::net::s2s::half::Over;
use crate::net::s2s::note;
use crate::stream::Condition;
use std::net::Shutdown;

impl Stream {
    /// Says the last words, and tells the hub.
    pub async fn finish(mut self, over: Over) {
        let remote = self.half.remote().cloned();
        let (why, failure) = match over {
            Over::Closed | Over::Answer(_) | Over::Paired => (None, None),
            Over::Dead(why) => (Some(why.to_owned()), None),
            Over::Failed(failure) => (Some(failure.to_string()), Some(failure)),
            Over::Killed(End::Error(error)) => {
                if error.condition == Condition::SystemShutdown {
                    self.s2s.stopping.set(true);
                }
                (Some(format!("we have ended it: {error}")), Some(Failure::Broken(error)))
            }
            Over::Killed(_) => (Some("it takes nothing any more".to_owned()), None),
        };
        let dead = why.is_some() && failure.is_none();
        let name = remote.as_ref().map_or("a server", Domain::as_str);
        // Of those that have proven nothing, strangers can make any number; who has dialled says why there is no link.
        match &why {
            Some(why) if self.how.is_none() => {
                log::debug!("{}: no stream with {name}: {why}", self.conn.peer)
            }
            Some(why) => log::info!("{}: the stream with {name} is over: {why}", self.conn.peer),
            None => log::debug!("{}: the stream with {name} is over", self.conn.peer),
        }
        if let Some(number) = self.pairing.take() {
            self.shared.federation.pairing.lost(number);
        }
        let mut words = std::mem::take(&mut self.out);
        if let Some(failure) = &failure {
            self.half.fail(failure, &mut words);
        }
        self.s2s.left(&self.conn);
        // Who has nothing to say for long may say goodbye (RFC 6120 §4.9.3.4); he comes again when he has.
        let idle = |failure: &Failure| matches!(failure, Failure::Stream(error) if error.condition == Condition::ConnectionTimeout);
        let broken = why.is_some() && !failure.as_ref().is_some_and(idle);
        if let Some(peer) = self.attached.take()
            && self.conn.session.get() == peer
        {
            let kind = if broken { Lost::Timeout } else { Lost::Closed };
            let text = why.clone().unwrap_or_else(|| "it was closed".to_owned()).into();
            // A stanza that is half written stays so; nothing can be said behind it.
            self.shared.unlink(peer, Unreachable { kind, text });
            // Closed in good order over what it was sent is broken, too.
            let again = |hub: &Hub| hub.peer_at(peer).is_some_and(|peer| peer.link.get() == Wanted::Dialling);
            if broken || self.shared.with_hub(|hub, _| again(hub)) {
                self.s2s.broke(peer, self.since.elapsed());
            }
        }
        // All that was proven on it, and not only what its header has said.
        let mut gone: Vec<Domain> = remote.filter(|_| self.how.is_some()).into_iter().collect();
        for (proof, peer) in std::mem::take(&mut self.pairs) {
            if !gone.contains(proof.remote()) {
                gone.push(proof.remote().clone());
            }
            if broken {
                self.shared.hear(Input::Suspect { peer });
            }
        }
        for remote in gone {
            let up = self.s2s.streams.borrow().contains_key(&remote);
            if !up {
                note(&self.shared, &remote, Link::Down, None, None, why.clone());
            }
        }
        if !dead {
            c2s::goodbye(&self.shared, &self.conn, self.conn.write_all(&words)).await;
        }
        let _ = self.conn.io.get_ref().shutdown(Shutdown::Both);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Only if the task has failed: otherwise it has been done.
        self.s2s.left(&self.conn);
        if let Some(number) = self.pairing.take() {
            self.shared.federation.pairing.lost(number);
        }
        if let Some(peer) = self.attached.take()
            && self.conn.session.get() == peer
        {
            let shared = self.shared.clone();
            self.shared.spawn(async move {
                let text = "its connection has failed here (a bug)".into();
                shared.unlink(peer, Unreachable { kind: Lost::Timeout, text });
            });
        }
    }
}
