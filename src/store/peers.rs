//! Remote domains that something is settled about, and components (XEP-0114): few, small, and known to
//! the hub by heart, so there is a question for all of them and none for one.

use super::batch::Batch;
use super::change::{Answer, PeerRecord, PeerSource};
use super::failed::Failed;
use super::record::{Decoder, Encoder, key_text};
use super::schema::{COMPONENTS, PEERS};
use std::ops::Bound;

const WHAT: &str = "what is known of a remote domain";
const COMPONENT: &str = "a component";

fn encode(peer: &PeerRecord) -> Vec<u8> {
    let source = match peer.source {
        PeerSource::Said => 0,
        PeerSource::Paired => 1,
    };
    Encoder::new(1)
        .u8(source)
        .u8(peer.denied.into())
        .u64(peer.added)
        .option(peer.pin.as_ref().map(<[u8; 32]>::as_slice))
        .option(peer.address.as_deref().map(str::as_bytes))
        .done()
}

pub(super) fn decode(domain: &[u8], value: &[u8]) -> Result<PeerRecord, Failed> {
    let mut decoder = Decoder::new(value, 1, WHAT)?;
    let peer = PeerRecord {
        domain: key_text(domain, WHAT)?,
        source: if decoder.flag()? { PeerSource::Paired } else { PeerSource::Said },
        denied: decoder.flag()?,
        added: decoder.u64()?,
        pin: decoder.option(|decoder| decoder.bytes()?.try_into().map_err(|_| Failed::Record(WHAT)))?,
        address: decoder.option(Decoder::text)?.map(Box::from),
    };
    decoder.end()?;
    Ok(peer)
}

impl Batch<'_> {
    pub(super) fn put_peer(&mut self, peer: &PeerRecord) -> Result<(), Failed> {
        self.accounts.put(PEERS, peer.domain.as_bytes(), &encode(peer))
    }

    pub(super) fn remove_peer(&mut self, domain: &str) -> Result<(), Failed> {
        self.accounts.remove(PEERS, domain.as_bytes()).map(drop)
    }

    pub(super) fn peers(&mut self) -> Result<Vec<PeerRecord>, Failed> {
        let mut peers = Vec::new();
        self.accounts.scan(PEERS, (Bound::Unbounded, Bound::Unbounded), |key, value| {
            peers.push(decode(key, value)?);
            Ok(true)
        })?;
        Ok(peers)
    }

    pub(super) fn put_component(&mut self, domain: &str, secret: &str) -> Result<(), Failed> {
        let value = Encoder::new(1).rest(secret.as_bytes()).done();
        self.accounts.put(COMPONENTS, domain.as_bytes(), &value)
    }

    pub(super) fn remove_component(&mut self, domain: &str) -> Result<(), Failed> {
        self.accounts.remove(COMPONENTS, domain.as_bytes()).map(drop)
    }

    pub(super) fn components(&mut self) -> Result<Answer, Failed> {
        let mut components = Vec::new();
        self.accounts.scan(COMPONENTS, (Bound::Unbounded, Bound::Unbounded), |key, value| {
            let secret = key_text(Decoder::new(value, 1, COMPONENT)?.rest(), COMPONENT)?;
            components.push((key_text(key, COMPONENT)?, secret));
            Ok(true)
        })?;
        Ok(Answer::Components(components))
    }
}
