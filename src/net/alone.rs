//! In the place of `federation.rs`, where that is not in the build: a hub that knows nobody but its clients.

use super::c2s::Place;
use super::desk::{Desk, Outcome, Standing};
use super::reactor::Socket;
use super::ring::Shared;
use crate::hub::talk::{Lost, Unreachable};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

/// There are no other domains.
pub struct Federation;

/// No listener is for anybody but clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {}

impl Door {
    /// Never called.
    pub(super) fn serve(self, _: &Rc<Shared>, _: Socket<TcpStream>, _: SocketAddr, _: Place) {
        match self {}
    }
}

/// Whatever link the hub may want, there is none.
pub async fn dial_for_ever(shared: Rc<Shared>) {
    while let Ok((peer, _)) = shared.dials.1.recv().await {
        let text = "this hub does not reach other domains".into();
        shared.unlink(peer, Unreachable { kind: Lost::NotFound, text });
    }
}

impl Desk {
    /// An order about peers or components.
    pub(super) async fn carry_out_abroad(&self, _: &[&str]) -> Outcome {
        Err("this hub has no federation: it was built without".into())
    }

    /// How the links are doing.
    pub(super) async fn standing(&self) -> Result<Standing, String> {
        Ok(Standing::default())
    }
}
