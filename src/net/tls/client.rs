//! The initiating half's configuration: whom it believes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::known::known_or_new;
use super::{Clock, Error, Refused, Tls, chain_fits, provider, refuse, server_name};
use crate::net::cert::{self, Identity, Pin};

/// A `--cafile` bundle; Debian's has 220 KB.
const MAX_BUNDLE: u64 = 8 << 20;

/// Where systems keep the certificates of the authorities that they trust: the first that is there counts.
/// (Before them OpenSSL's `SSL_CERT_FILE`.)
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora
    "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora before
    "/etc/ssl/ca-bundle.pem",             // SUSE
    "/etc/ssl/cert.pem",                  // OpenWrt, the BSDs
];

const DAY: i64 = 86_400;

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
    verifier: Arc<OurServer>,
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
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match identity {
            Some(identity) => builder.with_client_auth_cert(identity.certs.clone(), identity.key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.require_ems = true;
        Ok(ClientTls { config: Arc::new(config), tofu, verifier })
    }

    /// Judges the certificate that a peer showed on an *incoming* connection as if it were the
    /// certificate of the server of `domain`: the one ladder for both directions of s2s (XEP-0178).
    /// Purpose serverAuth is enough, since public authorities no longer issue clientAuth.
    pub fn judge(&self, incoming: &Tls, domain: &str) -> Result<(), Error> {
        let name = server_name(domain)?;
        let chain = incoming.peer_chain().unwrap_or_default();
        let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificate)?;
        self.verifier.judge(leaf, rest, &name).map_err(|why| Error::Refused(Box::new(why)))
    }
}

/// Judges a server's certificate. Every refusal is a [`Refused`], carried through rustls.
#[derive(Debug)]
pub(super) struct OurServer {
    judge: Judge,
    algorithms: WebPkiSupportedAlgorithms,
    clock: Clock,
}

#[derive(Debug)]
enum Judge {
    /// Anchors, and certificates that are good as they are.
    Roots(Vec<TrustAnchor<'static>>, Vec<CertificateDer<'static>>),
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
                let (mut anchors, mut exact) = (Vec::new(), Vec::new());
                let system = system_bundle();
                // A machine without is no fault until such an authority is asked for.
                if let Err(why) = read_bundle(&system, &mut anchors, &mut exact) {
                    log::debug!("{why}");
                }
                if let Some(path) = cafile {
                    read_bundle(&path, &mut anchors, &mut exact)?;
                }
                Judge::Roots(anchors, exact)
            }
        };
        Ok(OurServer { judge, algorithms, clock })
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
            Judge::Roots(anchors, exact) => self.judge_chain(anchors, exact, leaf, rest, name, pin),
        }
    }

    /// The ladder of RFC 5280 §6 and RFC 9525 §6: dates and purpose, issuer, name.
    fn judge_chain(
        &self,
        anchors: &[TrustAnchor<'_>],
        exact: &[CertificateDer<'_>],
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        pin: Pin,
    ) -> Result<(), Refused> {
        let now = self.clock.now();
        let parsed = EndEntityCert::try_from(leaf).map_err(|why| Refused::Unreadable(why.to_string()))?;
        if exact.iter().any(|cert| cert == leaf) {
            // webpki takes no CA:TRUE certificate for a server's, and a self-signed one often is that.
            self.in_time(leaf, now, pin)?;
        } else {
            let verdict = parsed.verify_for_usage(
                self.algorithms.all,
                anchors,
                rest,
                UnixTime::since_unix_epoch(Duration::from_secs(now)),
                KeyUsage::server_auth(),
                None,
                None,
            );
            if let Err(why) = verdict {
                return Err(self.explain(why, leaf, now, pin));
            }
        }
        parsed.verify_is_valid_for_subject_name(name).map_err(|_| Refused::WrongName {
            expected: name.to_str().into_owned(),
            found: cert::names(leaf).into_iter().take(16).collect(),
            pin,
        })
    }

    fn has_authorities(&self) -> bool {
        !matches!(&self.judge, Judge::Roots(anchors, _) if anchors.is_empty())
    }

    fn in_time(&self, leaf: &[u8], now: u64, pin: Pin) -> Result<(), Refused> {
        let (not_before, not_after) =
            cert::validity(leaf).ok_or_else(|| Refused::Unreadable("dates".to_owned()))?;
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if now < not_before {
            return Err(self.not_yet(not_before, now, pin));
        }
        if now > not_after {
            return Err(self.expired(not_after, now, pin));
        }
        Ok(())
    }

    fn expired(&self, not_after: i64, now: i64, pin: Pin) -> Refused {
        Refused::Expired { days: days_between(not_after, now), clock_set: self.clock.is_set(), pin }
    }

    fn not_yet(&self, not_before: i64, now: i64, pin: Pin) -> Refused {
        Refused::NotYetValid { days: days_between(now, not_before), clock_set: self.clock.is_set(), pin }
    }

    fn explain(&self, why: webpki::Error, leaf: &[u8], now: u64, pin: Pin) -> Refused {
        use webpki::Error as E;
        let unix = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        match why {
            E::CertExpired { not_after, .. } => self.expired(unix(not_after), now, pin),
            E::CertNotValidYet { not_before, .. } => self.not_yet(unix(not_before), now, pin),
            E::CaUsedAsEndEntity => Refused::SelfSigned { pin },
            E::UnknownIssuer if cert::self_issued(leaf) => Refused::SelfSigned { pin },
            E::UnknownIssuer if !self.has_authorities() => Refused::NoAuthorities { pin },
            E::UnknownIssuer => Refused::UnknownIssuer { pin },
            E::RequiredEkuNotFoundContext(_) => Refused::WrongPurpose { pin },
            E::InvalidSignatureForPublicKey => Refused::UnknownIssuer { pin },
            other => Refused::Unreadable(other.to_string()),
        }
    }
}

/// Full days, and one for what is begun.
fn days_between(from: i64, to: i64) -> i64 {
    to.saturating_sub(from).div_euclid(DAY).saturating_add(1)
}

/// Where this machine's authorities are, or would be.
fn system_bundle() -> PathBuf {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let [usual, ..] = SYSTEM_BUNDLES;
    let there = SYSTEM_BUNDLES.iter().find(|path| Path::new(path).exists());
    there.copied().unwrap_or(usual).into()
}

fn read_bundle(
    path: &Path,
    anchors: &mut Vec<TrustAnchor<'static>>,
    exact: &mut Vec<CertificateDer<'static>>,
) -> Result<(), Error> {
    let file = |why: String| Error::File { path: path.to_owned(), why };
    let pem = crate::net::read_capped(path, MAX_BUNDLE)
        .map_err(|why| file(format!("cannot be read: {why}; check --cafile")))?;
    let mut count = 0usize;
    for cert in CertificateDer::pem_slice_iter(&pem) {
        let cert = cert.map_err(|why| file(format!("is not PEM: {why}; check --cafile")))?;
        // A bundle may hold a certificate that webpki cannot use; the others are still good.
        if let Ok(anchor) = webpki::anchor_from_trusted_cert(&cert) {
            anchors.push(anchor.to_owned());
        }
        exact.push(cert);
        count = count.saturating_add(1);
    }
    match count {
        0 => Err(file("holds no certificate; --cafile wants PEM (-----BEGIN CERTIFICATE-----)".to_owned())),
        _ => Ok(()),
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
