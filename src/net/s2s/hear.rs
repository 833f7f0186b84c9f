//! What comes from another server goes to the hub.

use crate::hub::Hub;
use crate::hub::talk::{Input, SessionId, Sink};
use crate::net::ring::Shared;
use crate::stanza::Stanza;
use crate::store::change::Ask;
use crate::stream::peer::Failure;
use crate::stream::{self, Condition, Verified};
use crate::xml::{Caps, Scan, Scope, scan};
use std::rc::Rc;

/// Calls `then` once these peers have nothing under way at the store; what was parked goes there once its account
/// is read, so it may take some rounds. More than [`crate::hub::limits::fixed::SETTLE_ROUNDS`] only what has come later does.
pub(super) fn after_pending(
    hub: &mut Hub,
    sink: &mut dyn Sink,
    peers: Vec<SessionId>,
    rounds: u8,
    then: Box<dyn FnOnce()>,
) {
    let settled = peers.iter().all(|peer| hub.peer_at(*peer).is_none_or(|peer| peer.pending == 0));
    match rounds.checked_sub(1) {
        Some(rounds) if !settled => sink.store(
            Vec::new(),
            Ask::Nothing,
            Box::new(move |hub, sink, _| after_pending(hub, sink, peers, rounds, then)),
        ),
        _ => then(),
    }
}

/// A stanza whose addresses are proven goes to the hub.
pub(super) fn hear(
    shared: &Rc<Shared>,
    pairs: &mut Vec<(Rc<Verified>, SessionId)>,
    proof: &Rc<Verified>,
    frame: &[u8],
    scan: &mut Scan,
    scope: &Scope,
    caps: &Caps,
) -> Result<SessionId, Failure> {
    let mut own = Vec::new();
    let text = match scan.outer {
        0 => std::str::from_utf8(frame).unwrap_or_default(),
        // It uses prefixes of its stream header, which mean nothing elsewhere: written in.
        _ => {
            let text = std::str::from_utf8(frame).unwrap_or_default();
            own.reserve(text.len() + 128);
            scan::redeclare(text, scan, scope, &mut own);
            scan.element(&own, &Scope::default(), caps)?
        }
    };
    let known = pairs.iter().position(|(pair, _)| Rc::ptr_eq(pair, proof));
    shared.with_hub(|hub, mouth| {
        let peer = match known.and_then(|at| pairs.get_mut(at)) {
            Some((_, peer)) if hub.peer_at(*peer).is_some() => *peer,
            known => {
                let found = hub.peer(proof.local().as_str(), proof.remote().as_str());
                let error = || stream::Error::new(Condition::ResourceConstraint);
                let peer = found.ok_or_else(|| Failure::Broken(error().text("too many domains at once")))?;
                match known {
                    Some((_, old)) => *old = peer,
                    None => pairs.push((proof.clone(), peer)),
                }
                peer
            }
        };
        if let Some(stanza) = Stanza::new(text, scan) {
            hub.handle(hub.now, Input::Remote { peer, stanza: &stanza }, mouth);
        }
        Ok(peer)
    })
}
