//! Listeners: accept, count, hand over.

use super::c2s::{self, Mode, Place};
use super::federation;
use super::reactor::Socket;
use super::ring::Shared;
use crate::hub::limits::fixed::BACKLOG;
use rustix::fd::AsFd;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

/// Opens a listener.
pub fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    rustix::net::listen(&listener, BACKLOG)?;
    settle(&listener);
    Ok(listener)
}

/// Whom a listener is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// Clients.
    Clients(Mode),
    /// Others: servers, components.
    Others(federation::Door),
}

/// Accepts for ever.
pub async fn accept(shared: Rc<Shared>, listener: Socket<TcpListener>, door: Door) {
    loop {
        // A connection that waits already makes no wait: those that are inside get their turn all the
        // same, however fast others knock.
        smol::future::yield_now().await;
        match listener.reading(TcpListener::accept).await {
            // Whoever comes now would be waited for.
            Ok(_) if shared.closing.get() => {}
            Ok((io, peer)) => {
                let Some(place) = Place::take(&shared, peer.ip().to_canonical()) else {
                    log::debug!("{peer}: too many connections");
                    continue;
                };
                match Socket::new(&shared.reactor, io) {
                    Ok(io) => match door {
                        Door::Clients(mode) => {
                            shared.spawn(c2s::serve(shared.clone(), io, peer, mode, place))
                        }
                        Door::Others(door) => door.serve(&shared, io, peer, place),
                    },
                    Err(e) => log::error!("{peer}: {e}"),
                }
            }
            // The peer was gone before we looked.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            // Out of file descriptors or memory: it will not be better at once.
            Err(e) => {
                log::error!("accept: {e}");
                shared.reactor.after(Duration::from_secs(1)).await;
            }
        }
    }
}

/// What we want of every socket: small writes at once, and the system notices a peer that vanished,
/// so that an idle connection costs us no timer. What is accepted inherits it (tcp(7)).
pub(super) fn settle(io: &impl AsFd) {
    use rustix::net::sockopt;
    let _ = sockopt::set_tcp_nodelay(io, true);
    let _ = sockopt::set_socket_keepalive(io, true);
    let _ = sockopt::set_tcp_keepidle(io, Duration::from_secs(120));
    let _ = sockopt::set_tcp_keepintvl(io, Duration::from_secs(20));
    let _ = sockopt::set_tcp_keepcnt(io, 3);
}
