//! What `serve` does for federation: whom the hub may speak to, and what waits for whom.

use super::exit::{Exit, Failure};
use super::options::Options;
use crate::hub::talk::Input;
use crate::hub::{Hub, Names};
use crate::net::c2s::Mode;
use crate::net::cert::Identity;
use crate::net::dns::Resolver;
use crate::net::listen::Door;
use crate::net::mdns::{self, Kind};
use crate::net::peers::Peers;
use crate::net::ring::Shared;
use crate::net::s2s::{self, S2s};
use crate::net::tls::{Clock, PeerTls};
use crate::store::change::{Answer, Ask};
use std::net::SocketAddr;
use std::rc::Rc;

/// Whom the hub may speak to, from the options and from what the store has.
pub fn permit(hub: &mut Hub, options: &Options, peers: &mut Peers) {
    let set = |all: &[String]| all.iter().map(|domain| domain.as_str().into()).collect();
    hub.peers.federation = options.federation;
    hub.peers.allowed = set(&options.peer_allow);
    hub.peers.denied = set(&options.peer_deny);
    peers.denied.clone_from(&hub.peers.denied);
    let denied = peers.records.values().filter(|record| record.denied);
    hub.peers.denied.extend(denied.map(|record| record.domain.clone()));
    peers.components.keys().for_each(|domain| hub.set_component(domain, true));
}

/// The same for a hub that runs: whom it no longer wants to speak to is left at once.
pub fn permit_anew(shared: &Rc<Shared>, options: &Options) {
    {
        let mut peers = shared.peers.borrow_mut();
        shared.with_hub(|hub, _| permit(hub, options, &mut peers));
    }
    s2s::review(shared);
}

/// Streams to and from other servers, whose listeners are open.
pub fn servers(
    shared: &Rc<Shared>,
    options: &Options,
    identity: &Identity,
    open: &[(Door, SocketAddr)],
) -> Result<(), Failure> {
    if options.federation {
        let (ca, public) = (options.s2s_ca.as_deref(), options.s2s_public_roots);
        let tls = PeerTls::new(identity, ca, public, &Clock::system());
        let tls = tls.map_err(|e| Failure::new(Exit::Tls, e.to_string()))?;
        let own = open.iter().filter(|(door, _)| matches!(door, Door::Servers { .. })).map(|(_, at)| *at);
        let resolver = Resolver::for_hub(options.dns.clone());
        let _ = shared.s2s.set(S2s::new(tls, resolver, options.s2s_trust, own.collect()));
    }
    shared.spawn_vital(s2s::dial_for_ever(shared.clone()));
    Ok(())
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

/// Tells the local network that we are here, and looks who else is. What is seen is a hint where to dial, and no
/// more (threat I1).
pub fn announce(
    shared: &Rc<Shared>,
    names: &Names,
    identity: &Identity,
    open: &[(Door, SocketAddr)],
) -> Option<Rc<mdns::Service>> {
    let kind = |door: &Door| match door {
        Door::Clients(Mode::Starttls) => Some(Kind::Client),
        Door::Clients(Mode::Direct) => Some(Kind::ClientTls),
        Door::Servers { direct: false } => Some(Kind::Server),
        Door::Servers { direct: true } => Some(Kind::ServerTls),
        _ => None,
    };
    let listeners = open.iter().filter_map(|(door, at)| Some((kind(door)?, *at))).collect();
    let config = mdns::Config::new(&names.domain, identity.spki_sha256, listeners);
    let told = shared.clone();
    let appeared = Rc::new(move |domain: &str| told.hear(Input::Sighted { domain }));
    let records = shared.peers.borrow().records.keys().cloned().collect::<Vec<_>>();
    shared.sightings.borrow_mut().pinned(records.iter().map(|domain| &**domain));
    let service = mdns::Service::open(&shared.reactor, config, shared.sightings.clone(), appeared)?;
    shared.spawn(service.clone().run());
    Some(service)
}
