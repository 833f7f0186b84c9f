//! Other domains, as the rest of the ring sees them: one field of [`Shared`], and whom a listener is for. A build without
//! federation has `alone.rs` in the place of this file.

use super::c2s::Place;
use super::cert::Identity;
use super::component;
use super::mdns::Sightings;
use super::pairing::Pairing;
use super::peers::Peers;
use super::reactor::Socket;
use super::ring::Shared;
use super::s2s::{self, S2s};
use std::cell::{OnceCell, RefCell};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

/// What the tasks share about other domains.
pub struct Federation {
    /// What is settled about other domains, components, and how the streams to them are doing.
    pub peers: RefCell<Peers>,
    /// Who was seen on the local network.
    pub sightings: Rc<RefCell<Sightings>>,
    /// The pairing that is open, if one is.
    pub pairing: Pairing,
    /// Streams between servers, if the operator wants any.
    pub s2s: OnceCell<Rc<S2s>>,
}

impl Federation {
    /// Nobody is connected, and nobody seen.
    pub fn new(mut peers: Peers, domain: &str, identity: &Identity) -> Federation {
        let own = identity.spki_sha256;
        peers.own = Some(own);
        Federation {
            peers: RefCell::new(peers),
            sightings: Rc::new(RefCell::new(Sightings::new(domain, own))),
            pairing: Pairing::default(),
            s2s: OnceCell::new(),
        }
    }
}

/// Whom a listener is for, if not for clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// Components (XEP-0114).
    Components,
    /// Other servers.
    Servers {
        /// TLS from the first byte (XEP-0368).
        direct: bool,
    },
}

impl Door {
    /// One connection, from accept to close.
    pub(super) fn serve(self, shared: &Rc<Shared>, io: Socket<TcpStream>, from: SocketAddr, place: Place) {
        match self {
            Door::Components => shared.spawn(component::serve(shared.clone(), io, from, place)),
            Door::Servers { direct } => shared.spawn(s2s::serve(shared.clone(), io, from, direct, place)),
        }
    }
}
