//! TLS between servers: both halves, and what the other side's certificate is worth (RFC 6120 §13.7.2,
//! XEP-0178, RFC 7590 §3.4).
//!
//! The handshake asks for a certificate and checks only that its key has signed. Whom it is for is
//! known later, from the stream header, so it is judged then, in both directions by the same rules:
//! those for a *server's* certificate, because public authorities issue no others any more.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::EndEntityCert;

use super::roots::Roots;
use super::{ALPN_SERVER, Clock, Error, Refused, ServerTls, Tls, provider, readable, server_name};
use crate::net::cert::{self, Identity, OtherName, Pin, pin_text, printable};
use crate::stream::trust::{self, Distrust, Ladder, Trusted, climb};

/// Certificates between a peer's own and an authority that we know. (webpki would try six.)
const MAX_BETWEEN: usize = 6;
/// Names in a message.
const MAX_NAMES: usize = 16;

/// Both halves' configuration for streams between servers, and whom we believe. Cloning shares it.
#[derive(Clone)]
pub struct PeerTls(Arc<Shared>);

struct Shared {
    incoming: ServerTls,
    /// Replaced as a whole by `reload`; connections keep the one that they began with.
    outgoing: Mutex<Arc<ClientConfig>>,
    roots: Roots,
    clock: Clock,
}

/// What a peer has shown: its certificate, and what it sent along. Its key has signed the handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented {
    chain: Vec<CertificateDer<'static>>,
    pin: Pin,
}

impl Presented {
    /// The pin of the key that has signed the handshake.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// The certificate, in DER.
    pub fn leaf(&self) -> &[u8] {
        self.chain.first().map_or(&[], |leaf| leaf.as_ref())
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presented({}, {} certificates)", pin_text(&self.pin), self.chain.len())
    }
}

impl PeerTls {
    /// A configuration that shows `identity` in both directions, and trusts the authorities (or peers'
    /// self-signed certificates) in `ca_file`, and with `public_roots` also those that this machine
    /// trusts.
    pub fn new(
        identity: &Identity,
        ca_file: Option<&Path>,
        public_roots: bool,
        clock: &Clock,
    ) -> Result<PeerTls, Error> {
        let mut roots = Roots::new(provider().signature_verification_algorithms, clock.clone());
        if let Some(path) = ca_file {
            roots.add_file(path, "--s2s-ca")?;
        }
        if public_roots && let Err(why) = roots.add_system(false) {
            log::warn!("no public authorities for servers: {why}");
        }
        // Always asked for, never required: who shows none may still do dialback, if that is allowed.
        let asks = Arc::new(AtomicBool::new(true));
        let incoming = ServerTls::new(identity, &[ALPN_SERVER], asks, clock)?;
        let outgoing = Mutex::new(outgoing(identity, clock)?);
        Ok(PeerTls(Arc::new(Shared { incoming, outgoing, roots, clock: clock.clone() })))
    }

    /// New connections show the new certificate. If it cannot be used, all stays as it is.
    pub fn reload(&self, identity: &Identity) -> Result<(), Error> {
        let new = outgoing(identity, &self.0.clock)?;
        self.0.incoming.reload(identity)?;
        *self.0.outgoing.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// How far `domain` is proven by what was shown: the one ladder, for connections of both directions.
    /// The domain is that of the stream header: `from` of an incoming stream, `to` of our own.
    pub fn judge(
        &self,
        presented: Option<&Presented>,
        domain: &str,
        ladder: &Ladder,
    ) -> Result<Trusted, Distrust> {
        let shown = presented.map(|presented| presented.pin);
        let certificate = || match presented {
            Some(presented) => self.certificate(presented, domain),
            None => Err("none was shown".to_owned()),
        };
        climb(ladder, shown, certificate).map_err(|why| why.of(&cert::ascii_name(domain).unwrap_or_default()))
    }

    /// The rung of the authorities.
    fn certificate(&self, presented: &Presented, domain: &str) -> Result<(), String> {
        let name = server_name(domain).map_err(|_| {
            format!("{:?} is not a name that a certificate could be for", printable(domain, 80))
        })?;
        let (leaf, rest) = presented.chain.split_first().ok_or("none was shown")?;
        let pin = presented.pin;
        let vouched = self.0.roots.vouch(leaf, &straight(leaf, rest), pin);
        let checked = vouched.and_then(|vouched| {
            let others = !vouched.constrained && xmpp_names(leaf).any(|other| other == *name.to_str());
            if others || is_for(leaf, &name) {
                return Ok(());
            }
            Err(Refused::WrongName { expected: name.to_str().into_owned(), found: shown_names(leaf), pin })
        });
        checked.map_err(|why| words(&why, &name.to_str()))
    }

    fn outgoing(&self) -> Arc<ClientConfig> {
        self.0.outgoing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tls {
    /// The receiving half of a connection from another server. It asks for a certificate; whether there
    /// was one, and what it is worth, is for [`PeerTls::judge`].
    pub fn peer_in(config: &PeerTls) -> Result<Tls, Error> {
        Tls::server(&config.0.incoming)
    }

    /// The initiating half of a connection to the server of `domain` (SNI, RFC 7590 §3.3). It takes any
    /// certificate whose key signs; what it is worth is for [`PeerTls::judge`].
    pub fn peer_out(config: &PeerTls, domain: &str) -> Result<Tls, Error> {
        Tls::initiating(config.outgoing(), server_name(domain)?, None)
    }

    /// What the other side has shown. `None` before the handshake is done, or if it was nothing.
    pub fn presented(&self) -> Option<Presented> {
        let chain = self.peer_chain()?;
        let pin = cert::spki_sha256(chain.first()?)?;
        Some(Presented { chain: chain.to_vec(), pin })
    }
}

fn outgoing(identity: &Identity, clock: &Clock) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let verifier = AnyServer(provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.certs.clone(), identity.key())?;
    config.alpn_protocols = vec![ALPN_SERVER.as_bytes().to_vec()];
    // A resumed connection shows no certificate; each has to prove its key itself.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.require_ems = true;
    Ok(Arc::new(config))
}

/// The chain as a straight line: of those sent along, the first that bears the issuer's name, and so
/// on. A peer that sends many of one name would have webpki try them all (threats B13).
fn straight<'c>(leaf: &CertificateDer<'_>, rest: &'c [CertificateDer<'static>]) -> Vec<CertificateDer<'c>> {
    let mut line: Vec<CertificateDer<'c>> = Vec::new();
    let mut below: &[u8] = leaf;
    while line.len() < MAX_BETWEEN {
        let next = rest.iter().find(|above| cert::issued_by(below, above));
        match next {
            Some(next) if !line.iter().any(|known| known.as_ref() == next.as_ref()) => {
                line.push(CertificateDer::from_slice(next));
                below = next;
            }
            _ => break,
        }
    }
    line
}

/// dNSName and iPAddress: whole labels, one wildcard as the whole left-most label with two behind it,
/// never the common name (RFC 9525 §6; threats D6).
fn is_for(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    EndEntityCert::try_from(leaf).is_ok_and(|cert| cert.verify_is_valid_for_subject_name(name).is_ok())
}

/// The domains of SRVName and XmppAddr, as A-labels (RFC 6120 §13.7.1.2.1). They know no wildcards.
fn xmpp_names(leaf: &[u8]) -> impl Iterator<Item = String> {
    const SERVICE: &str = "_xmpp-server.";
    cert::other_names(leaf).into_iter().filter_map(|name| {
        let domain = match name {
            OtherName::Srv(name) => {
                let (service, domain) = name.split_at_checked(SERVICE.len())?;
                (service.eq_ignore_ascii_case(SERVICE) && domain.is_ascii()).then_some(domain)?
            }
            OtherName::XmppAddr(jid) => jid,
        };
        cert::ascii_name(domain)
    })
}

/// What it is for, in a message.
fn shown_names(leaf: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = cert::names(leaf).into_iter().take(MAX_NAMES).collect();
    let others = cert::other_names(leaf).into_iter().map(|name| match name {
        OtherName::Srv(name) | OtherName::XmppAddr(name) => printable(name, 80),
    });
    for name in others {
        if names.len() < MAX_NAMES && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A refusal for the operator of a hub: [`Refused`] itself speaks to who sits at the client.
fn words(why: &Refused, domain: &str) -> String {
    // Of a hub nearby, what it shows here is no proof: people compare.
    let add = |pin: &Pin| match trust::is_nearby(domain) {
        true => format!("if that is {domain}: stonechat peer pair {domain}"),
        false => format!("if the key is {domain}'s: stonechat peer add {domain} --pin {}", pin_text(pin)),
    };
    let clock = |set: &bool| match set {
        true => "is this machine's clock right?",
        false => "this machine's clock is not set;",
    };
    match why {
        Refused::UnknownIssuer { pin } => format!(
            "certificate from an unknown issuer; give the issuer's certificate with --s2s-ca (for public ones --s2s-public-roots), or {}",
            add(pin)
        ),
        Refused::NoAuthorities { pin } => format!(
            "certificate from an unknown issuer, as no authorities are set (--s2s-ca FILE, or --s2s-public-roots); {}",
            add(pin)
        ),
        Refused::SelfSigned { pin } => {
            format!("self-signed certificate; give it with --s2s-ca, or {}", add(pin))
        }
        Refused::Expired { days, clock_set, pin } => format!(
            "certificate expired {days} days ago; {} pinned keys are not date-checked; {}",
            clock(clock_set),
            add(pin)
        ),
        Refused::NotYetValid { days, clock_set, pin } => format!(
            "certificate not valid for another {days} days; {} pinned keys are not date-checked; {}",
            clock(clock_set),
            add(pin)
        ),
        Refused::WrongName { expected, found, pin } => format!(
            "certificate is for {}, not for {}; have it issued for that name, or {}",
            cert::list(found),
            printable(expected, 80),
            add(pin)
        ),
        Refused::WrongPurpose { pin } => {
            format!("certificate is not made for servers; have it issued with serverAuth, or {}", add(pin))
        }
        other => other.to_string(),
    }
}

/// Takes every server certificate whose key signs the handshake.
#[derive(Debug)]
struct AnyServer(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        readable(leaf, rest)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(all(test, feature = "hub"))]
mod tests;
