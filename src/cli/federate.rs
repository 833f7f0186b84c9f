//! What `serve` does for federation: whom the hub may speak to, and what waits for whom.

use super::exit::{Exit, Failure};
use super::options::Options;
use crate::hub::Hub;
use crate::net::peers::Peers;
use crate::net::ring::Shared;
use crate::store::change::{Answer, Ask};
use std::rc::Rc;

/// Whom the hub may speak to, from the options and from what the store has.
pub fn permit(hub: &mut Hub, options: &Options, peers: &Peers) {
    let set = |all: &[String]| all.iter().map(|domain| domain.as_str().into()).collect();
    hub.peers.federation = options.federation;
    hub.peers.allowed = set(&options.peer_allow);
    hub.peers.denied = set(&options.peer_deny);
    let denied = peers.records.values().filter(|record| record.denied);
    hub.peers.denied.extend(denied.map(|record| record.domain.clone()));
    peers.components.keys().for_each(|domain| hub.set_component(domain, true));
}

/// Goes for those whom messages wait for since before the start.
pub async fn start(shared: &Rc<Shared>) -> Result<(), Failure> {
    match shared.ask(Vec::new(), Ask::Forwards).await {
        Answer::Forwards(waiting) => {
            shared.with_hub(|hub, sink| hub.peers_at_start(sink, waiting));
            Ok(())
        }
        Answer::Failed(why) => Err(Failure::new(Exit::Io, why)),
        _ => Ok(()),
    }
}
