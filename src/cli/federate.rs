//! What `serve` does for federation: whom the hub may speak to, and what waits for whom. A build without has `alone.rs` in
//! the place of this file.

use super::exit::{Exit, Failure};
use super::options::Options;
use crate::hub::talk::Input;
use crate::hub::{Hub, Names};
use crate::net::c2s::Mode;
use crate::net::cert::Identity;
use crate::net::dns::Resolver;
use crate::net::federation::{Door, Federation};
use crate::net::listen;
use crate::net::mdns::{self, Kind};
use crate::net::peers::Peers;
use crate::net::ring::Shared;
use crate::net::s2s::{self, S2s};
use crate::net::tls::{Clock, PeerTls};
use crate::store::Store;
use crate::store::change::{Answer, Ask};
use std::net::SocketAddr;
use std::rc::Rc;

/// What the store has of other domains; and whom the hub may speak to.
pub fn load(
    store: &Store,
    hub: &mut Hub,
    options: &Options,
    identity: &Identity,
) -> Result<Federation, Failure> {
    let mut peers = Peers::load(store).map_err(|why| Failure::new(Exit::Io, why))?;
    permit(hub, options, &mut peers);
    peers.listens = !options.component.is_empty();
    Ok(Federation::new(peers, &hub.names.domain, identity))
}

fn permit(hub: &mut Hub, options: &Options, peers: &mut Peers) {
    let set = |all: &[String]| all.iter().map(|domain| domain.as_str().into()).collect();
    hub.peers.federation = options.federation;
    hub.peers.allowed = set(&options.peer_allow);
    hub.peers.denied = set(&options.peer_deny);
    peers.denied.clone_from(&hub.peers.denied);
    let denied = peers.records.values().filter(|record| record.denied);
    hub.peers.denied.extend(denied.map(|record| record.domain.clone()));
    peers.components.keys().for_each(|domain| hub.set_component(domain, true));
}

/// The listeners that the options ask for.
pub fn listeners(options: &Options) -> [(Door, &[SocketAddr]); 3] {
    [
        (Door::Servers { direct: false }, &options.s2s),
        (Door::Servers { direct: true }, &options.s2s_tls),
        (Door::Components, &options.component),
    ]
}

/// What a listener is for, as the hub says it when it starts.
pub fn what(door: Door) -> &'static str {
    match door {
        Door::Servers { direct: false } => "servers, STARTTLS",
        Door::Servers { direct: true } => "servers, direct TLS",
        Door::Components => "components",
    }
}

/// What to do when its port is taken.
pub fn another(door: Door) -> &'static str {
    match door {
        Door::Servers { .. } => {
            "choose another port with --s2s or --s2s-tls, or do without other servers: --no-s2s"
        }
        Door::Components => "choose another port with --component",
    }
}

/// The listeners are open: streams to and from other servers begin, and the local network is told.
pub async fn start(
    shared: &Rc<Shared>,
    options: &Options,
    names: &Names,
    identity: &Identity,
    open: &[(listen::Door, SocketAddr)],
) -> Result<Announced, Failure> {
    servers(shared, options, identity, open)?;
    waiting(shared).await?;
    Ok(Announced(options.mdns.then(|| announce(shared, names, identity, open)).flatten()))
}

/// What the local network was told.
pub struct Announced(Option<Rc<mdns::Service>>);

impl Announced {
    /// Tells it that we go.
    pub fn goodbye(self) {
        if let Some(service) = self.0 {
            service.goodbye();
        }
    }
}

/// Other options, perhaps another key: whom the hub no longer wants to speak to is left at once.
pub fn reload(shared: &Rc<Shared>, options: &Options, identity: &Identity) -> Result<(), Failure> {
    let federation = &shared.federation;
    federation.peers.borrow_mut().own = Some(identity.spki_sha256);
    federation.sightings.borrow_mut().own_key(identity.spki_sha256);
    if let Some(s2s) = federation.s2s.get() {
        s2s.tls.reload(identity).map_err(|e| Failure::new(Exit::Tls, e.to_string()))?;
        s2s.lowest.set(options.s2s_trust);
    }
    {
        let mut peers = federation.peers.borrow_mut();
        shared.with_hub(|hub, _| permit(hub, options, &mut peers));
    }
    s2s::review(shared);
    Ok(())
}

/// Streams to and from other servers, whose listeners are open.
fn servers(
    shared: &Rc<Shared>,
    options: &Options,
    identity: &Identity,
    open: &[(listen::Door, SocketAddr)],
) -> Result<(), Failure> {
    if options.federation {
        let (ca, public) = (options.s2s_ca.as_deref(), options.s2s_public_roots);
        let tls = PeerTls::new(identity, ca, public, &Clock::system());
        let tls = tls.map_err(|e| Failure::new(Exit::Tls, e.to_string()))?;
        let own = open
            .iter()
            .filter(|(door, _)| matches!(door, listen::Door::Others(Door::Servers { .. })))
            .map(|(_, at)| *at);
        let resolver = Resolver::for_hub(options.dns.clone());
        let _ = shared.federation.s2s.set(S2s::new(tls, resolver, options.s2s_trust, own.collect()));
    }
    shared.spawn_vital(s2s::dial_for_ever(shared.clone()));
    Ok(())
}

/// Goes for those whom messages wait for since before the start.
async fn waiting(shared: &Rc<Shared>) -> Result<(), Failure> {
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
fn announce(
    shared: &Rc<Shared>,
    names: &Names,
    identity: &Identity,
    open: &[(listen::Door, SocketAddr)],
) -> Option<Rc<mdns::Service>> {
    let kind = |door: &listen::Door| match door {
        listen::Door::Clients(Mode::Starttls) => Some(Kind::Client),
        listen::Door::Clients(Mode::Direct) => Some(Kind::ClientTls),
        listen::Door::Others(Door::Servers { direct: false }) => Some(Kind::Server),
        listen::Door::Others(Door::Servers { direct: true }) => Some(Kind::ServerTls),
        _ => None,
    };
    let listeners = open.iter().filter_map(|(door, at)| Some((kind(door)?, *at))).collect();
    let config = mdns::Config::new(&names.domain, identity.spki_sha256, listeners);
    let told = shared.clone();
    let appeared = Rc::new(move |domain: &str| told.hear(Input::Sighted { domain }));
    let records = shared.federation.peers.borrow().records.keys().cloned().collect::<Vec<_>>();
    shared.federation.sightings.borrow_mut().pinned(records.iter().map(|domain| &**domain));
    let service =
        mdns::Service::open(&shared.reactor, config, shared.federation.sightings.clone(), appeared)?;
    shared.spawn(service.clone().run());
    Some(service)
}
