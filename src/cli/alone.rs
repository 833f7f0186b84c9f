//! In the place of `federate.rs`, where that is not in the build: a hub that knows nobody but its clients.

use super::exit::Failure;
use super::options::Options;
use crate::hub::{Hub, Names};
use crate::net::cert::Identity;
use crate::net::federation::{self, Door, Federation};
use crate::net::listen;
use crate::net::ring::Shared;
use crate::store::Store;
use std::net::SocketAddr;
use std::rc::Rc;

/// Nothing: a hub speaks to nobody unless it is told so.
pub fn load(_: &Store, _: &mut Hub, _: &Options, _: &Identity) -> Result<Federation, Failure> {
    Ok(Federation)
}

/// None.
pub fn listeners(_: &Options) -> [(Door, &[SocketAddr]); 0] {
    []
}

/// Never called.
pub fn what(door: Door) -> &'static str {
    match door {}
}

/// Never called.
pub fn another(door: Door) -> &'static str {
    match door {}
}

/// Nothing begins.
pub async fn start(
    shared: &Rc<Shared>,
    _: &Options,
    _: &Names,
    _: &Identity,
    _: &[(listen::Door, SocketAddr)],
) -> Result<Announced, Failure> {
    shared.spawn_vital(federation::dial_for_ever(shared.clone()));
    Ok(Announced)
}

/// Nobody was told that we are here.
pub struct Announced;

impl Announced {
    /// So nobody is told that we go.
    pub fn goodbye(self) {}
}

/// Nothing changes.
pub fn reload(_: &Rc<Shared>, _: &Options, _: &Identity) -> Result<(), Failure> {
    Ok(())
}
