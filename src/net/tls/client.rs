//! The initiating half's configuration: whom it believes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::EndEntityCert;

use super::known::known_or_new;
use super::roots::Roots;
use super::{Clock, Error, Refused, chain_fits, provider, refuse};
use crate::net::cert::{self, Identity, Pin};

/// Whom the initiating half believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The authorities that this machine trusts, and those in `cafile`; a `cafile` may also hold the
    /// server's own self-signed certificate.
    Roots {
        /// A PEM bundle.
        cafile: Option<PathBuf>,
    },
    /// One of these keys, whatever the certificate around it says about names and dates.
    Pins(Vec<Pin>),
    /// The key of the first time, kept in this file (lines of `domain sha256:…`).
    Tofu(PathBuf),
    /// Anybody who holds the key of the certificate that they show.
    Insecure,
}

/// The initiating half's configuration.
#[derive(Clone)]
pub struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) tofu: Option<Arc<Path>>,
}

impl ClientTls {
    /// A configuration with this trust, ALPN (for direct TLS: [`ALPN_CLIENT`], [`ALPN_SERVER`]) and
    /// client certificate (SASL EXTERNAL).
    pub fn new(
        trust: Trust,
        alpn: Option<&str>,
        identity: Option<&Identity>,
        clock: &Clock,
    ) -> Result<ClientTls, Error> {
        let provider = provider();
        let tofu = match &trust {
            Trust::Tofu(file) => Some(Arc::from(file.as_path())),
            _ => None,
        };
        let verifier =
            Arc::new(OurServer::new(trust, provider.signature_verification_algorithms, clock.clone())?);
        let builder = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(identity) => builder.with_client_auth_cert(identity.certs.clone(), identity.key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.require_ems = true;
        Ok(ClientTls { config: Arc::new(config), tofu })
    }
}

/// Judges a server's certificate. Every refusal is a [`Refused`], carried through rustls.
#[derive(Debug)]
pub(super) struct OurServer {
    judge: Judge,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Judge {
    Roots(Roots),
    Pins(Vec<Pin>),
    Tofu(PathBuf),
    Insecure,
}

impl OurServer {
    pub(super) fn new(
        trust: Trust,
        algorithms: WebPkiSupportedAlgorithms,
        clock: Clock,
    ) -> Result<Self, Error> {
        let judge = match trust {
            Trust::Pins(pins) if pins.is_empty() => {
                return Err(Error::Config("no pin given; use --pin sha256:…".to_owned()));
            }
            Trust::Pins(pins) => Judge::Pins(pins),
            Trust::Tofu(file) => Judge::Tofu(file),
            Trust::Insecure => Judge::Insecure,
            Trust::Roots { cafile } => {
                let mut roots = Roots::new(algorithms, clock);
                // A machine without is no fault until such an authority is asked for.
                if let Err(why) = roots.add_system(true) {
                    log::debug!("{why}");
                }
                if let Some(path) = cafile {
                    roots.add_file(&path, "--cafile")?;
                }
                Judge::Roots(roots)
            }
        };
        Ok(OurServer { judge, algorithms })
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<(), Refused> {
        if !chain_fits(leaf, rest) {
            return Err(Refused::TooBig);
        }
        let pin = cert::spki_sha256(leaf).ok_or_else(|| Refused::Unreadable("not X.509".to_owned()))?;
        match &self.judge {
            Judge::Insecure => Ok(()),
            Judge::Pins(pins) if pins.contains(&pin) => Ok(()),
            Judge::Pins(pins) => Err(Refused::PinMismatch { wanted: pins.clone(), got: pin }),
            Judge::Tofu(file) => known_or_new(file, &name.to_str(), pin).map(|_| ()),
            Judge::Roots(roots) => {
                roots.vouch(leaf, rest, pin)?;
                let parsed =
                    EndEntityCert::try_from(leaf).map_err(|why| Refused::Unreadable(why.to_string()))?;
                parsed.verify_is_valid_for_subject_name(name).map_err(|_| Refused::WrongName {
                    expected: name.to_str().into_owned(),
                    found: cert::names(leaf).into_iter().take(16).collect(),
                    pin,
                })
            }
        }
    }
}

impl ServerCertVerifier for OurServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(leaf, rest, name).map(|()| ServerCertVerified::assertion()).map_err(refuse)
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
