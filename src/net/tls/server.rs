//! The receiving half's configuration.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{Clock, Error, provider, readable};
use crate::net::cert::{self, Identity};

/// The receiving half's configuration, shared by all its connections. Cloning shares it.
#[derive(Clone)]
pub struct ServerTls(Arc<Shared>);

struct Shared {
    /// Replaced as a whole by `reload`; connections keep the one that they began with.
    live: Mutex<Live>,
    alpn: Vec<Vec<u8>>,
    /// Set by the hub while some account has a certificate bound to it.
    ask_clients: Arc<AtomicBool>,
    clock: Clock,
}

#[derive(Clone)]
pub(super) struct Live {
    pub(super) config: Arc<ServerConfig>,
    /// `tls-server-end-point` of the leaf that `config` sends.
    pub(super) end_point: Option<Arc<[u8]>>,
}

impl ServerTls {
    /// A configuration that sends `identity`, knows these ALPN names (a client that offers none at all
    /// is served too; XEP-0368 §3), and asks for a client certificate only while `ask_clients` is
    /// set: asking makes browsers and some phones put up a dialogue.
    pub fn new(
        identity: &Identity,
        alpn: &[&str],
        ask_clients: Arc<AtomicBool>,
        clock: &Clock,
    ) -> Result<ServerTls, Error> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let live = Live::new(identity, &alpn, &ask_clients, clock)?;
        Ok(ServerTls(Arc::new(Shared { live: Mutex::new(live), alpn, ask_clients, clock: clock.clone() })))
    }

    /// New connections get the new certificate. If it cannot be used, all stays as it is.
    pub fn reload(&self, identity: &Identity) -> Result<(), Error> {
        let live = Live::new(identity, &self.0.alpn, &self.0.ask_clients, &self.0.clock)?;
        *self.0.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(())
    }

    pub(super) fn live(&self) -> Live {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Live {
    fn new(
        identity: &Identity,
        alpn: &[Vec<u8>],
        ask_clients: &Arc<AtomicBool>,
        clock: &Clock,
    ) -> Result<Live, Error> {
        let provider = provider();
        let verifier =
            AnyClient { ask: ask_clients.clone(), algorithms: provider.signature_verification_algorithms };
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(identity.certs.clone(), identity.key())?;
        config.alpn_protocols = alpn.to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.require_ems = true; // RFC 9266 §3, RFC 7627: the exporter is only then unique
        let end_point = identity.certs.first().and_then(|leaf| cert::end_point(leaf)).map(Arc::from);
        Ok(Live { config: Arc::new(config), end_point })
    }
}

/// Takes every client certificate whose key signed the handshake. Whether it may log anybody in is
/// decided at SASL EXTERNAL, by its SPKI; no chain is built, so none can be made to cost (B13).
#[derive(Debug)]
struct AnyClient {
    ask: Arc<AtomicBool>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn offer_client_auth(&self) -> bool {
        self.ask.load(Ordering::Relaxed)
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        readable(leaf, rest)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
