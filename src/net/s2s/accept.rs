//! Streams that other servers open to us.

use super::drive::Stream;
use super::half::{Half, Over};
use crate::net::c2s::Place;
use crate::net::outbox::Conn;
use crate::net::reactor::Socket;
use crate::net::ring::Shared;
use crate::stream::peer::Receiving;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

/// One connection, from accept to close.
pub async fn serve(shared: Rc<Shared>, io: Socket<TcpStream>, from: SocketAddr, direct: bool, place: Place) {
    let Some(s2s) = shared.federation.s2s.get().cloned() else { return };
    let Some(settings) = s2s.settings(&shared) else { return };
    let half = Half::In(Box::new(Receiving::new(settings, crate::net::random())));
    let mut stream = Stream::new(&shared, &s2s, Conn::new(io, from), half, Some(place));
    let over = match direct {
        true => stream.handshake().await,
        false => Ok(()),
    };
    let over = match over {
        Ok(()) => stream.run(false).await.err().unwrap_or(Over::Closed),
        Err(over) => over,
    };
    stream.finish(over).await;
}
