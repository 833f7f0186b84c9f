//! The authorities that one side trusts, and what their signatures are worth.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::{Clock, Error, Refused};
use crate::net::cert::{self, Pin};

/// A bundle of authorities; Debian's has 220 KB.
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

/// Authorities, and certificates that are good as they are.
#[derive(Debug)]
pub(super) struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    exact: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    clock: Clock,
}

/// A certificate that somebody answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vouched {
    /// An authority on the way is held to certain names (RFC 5280 §4.2.1.10). webpki sees to it for host
    /// names and addresses; other kinds of names it does not hold to them.
    pub(super) constrained: bool,
}

impl Roots {
    pub(super) fn new(algorithms: WebPkiSupportedAlgorithms, clock: Clock) -> Roots {
        Roots { anchors: Vec::new(), exact: Vec::new(), algorithms, clock }
    }

    /// Adds what this machine trusts; with `exact` a certificate that stands there also counts itself.
    pub(super) fn add_system(&mut self, exact: bool) -> Result<(), Error> {
        self.add(&system_bundle(), true, exact, "SSL_CERT_FILE")
    }

    /// Adds a PEM bundle that was given with `option`. It may also hold somebody's self-signed certificate.
    pub(super) fn add_file(&mut self, path: &Path, option: &str) -> Result<(), Error> {
        self.add(path, false, true, option)
    }

    fn add(&mut self, path: &Path, system: bool, exact: bool, option: &str) -> Result<(), Error> {
        let file = |why: String| Error::File { path: path.to_owned(), why };
        let pem = crate::net::read_capped(path, MAX_BUNDLE)
            .map_err(|why| file(format!("cannot be read: {why}; check {option}")))?;
        let mut count = 0usize;
        for cert in CertificateDer::pem_slice_iter(&pem) {
            let cert = cert.map_err(|why| file(format!("is not PEM: {why}; check {option}")))?;
            // A bundle may hold a certificate that webpki cannot use; the others are still good. And in a
            // file that was given, one that is no authority's is good for itself, not for what it signs.
            if (system || cert::may_sign(&cert))
                && let Ok(anchor) = webpki::anchor_from_trusted_cert(&cert)
            {
                self.anchors.push(anchor.to_owned());
            }
            if exact {
                self.exact.push(cert);
            }
            count = count.saturating_add(1);
        }
        match count {
            0 => Err(file(format!("holds no certificate; {option} wants PEM (-----BEGIN CERTIFICATE-----)"))),
            _ => Ok(()),
        }
    }

    /// Dates, purpose and issuer of a server's certificate (RFC 5280 §6). The name is not looked at.
    pub(super) fn vouch(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        pin: Pin,
    ) -> Result<Vouched, Refused> {
        let now = self.clock.now();
        if self.exact.iter().any(|cert| cert.as_ref() == leaf.as_ref()) {
            // It is listed itself. webpki takes no CA:TRUE certificate for a server's, and a
            // self-signed one often is that.
            self.in_time(leaf, now, pin)?;
            return Ok(Vouched { constrained: false });
        }
        let parsed = EndEntityCert::try_from(leaf).map_err(|why| Refused::Unreadable(why.to_string()))?;
        let verdict = parsed.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            rest,
            UnixTime::since_unix_epoch(Duration::from_secs(now)),
            KeyUsage::server_auth(),
            None,
            None,
        );
        match verdict {
            Ok(path) => {
                let mut between = path.intermediate_certificates();
                let constrained = path.anchor().name_constraints.is_some()
                    || between.any(|cert| cert::constrains_names(&cert.der()));
                Ok(Vouched { constrained })
            }
            Err(why) => Err(self.explain(why, leaf, now, pin)),
        }
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
            E::UnknownIssuer if self.anchors.is_empty() => Refused::NoAuthorities { pin },
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
