//! TLS 1.2 and 1.3 (RFC 8446, RFC 7590, XEP-0368), both halves. The only door to rustls.
//!
//! A connection is asked, it does not wait: [`Tls::read`] and [`Tls::feed`] take ciphertext that is
//! there, [`Tls::send`] writes what fits. What waits is [`handshake`]. There are no tickets, no
//! session cache and no early data, so every connection has proven its key itself (RFC 8446 §8).
//!
//! An idle connection owns what rustls keeps, and nothing of ours.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_io::{Async, Timer};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct,
    DistinguishedName, InvalidMessage, OtherError, ServerConfig, ServerConnection, SignatureScheme,
    SupportedCipherSuite,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::cert::{self, Identity, Pin, pin_text};

/// ALPN of a client's stream (XEP-0368 §2).
pub const ALPN_CLIENT: &str = "xmpp-client";
/// ALPN of a server's stream (XEP-0368 §2).
pub const ALPN_SERVER: &str = "xmpp-server";

/// What rustls may hold for a peer that does not read: one full record.
const SEND_LIMIT: usize = 16 * 1024;
/// What rustls reads at once.
const READ_SIZE: usize = 4096;
/// A peer's whole chain. (rustls holds handshake messages to the same size.)
const MAX_CHAIN: usize = 64 * 1024;
/// Ciphertext that a peer may send before its handshake is done.
const MAX_HANDSHAKE: usize = 256 * 1024;
/// A `--cafile` bundle; Debian's has 220 KB.
const MAX_BUNDLE: u64 = 8 << 20;
/// `known_hubs`.
const MAX_KNOWN: u64 = 1 << 20;

const DAY: i64 = 86_400;

// ---- the clock -------------------------------------------------------------------------------------

/// Wall time that never stands before this program was made: many of our machines wake up in 1970.
#[derive(Clone, Debug)]
pub struct Clock(Arc<ClockInner>);

#[derive(Debug)]
struct ClockInner {
    /// Only ever raised: by the ring, to the last time that the store has seen.
    floor: AtomicU64,
    /// Stands still at this time, for tests.
    fixed: Option<u64>,
}

impl Clock {
    /// No certificate check happens before this: 2026-11-01.
    pub const BUILD: u64 = 1_793_491_200;

    /// The system's clock, held above [`Clock::BUILD`].
    pub fn system() -> Clock {
        Clock(Arc::new(ClockInner { floor: AtomicU64::new(Self::BUILD), fixed: None }))
    }

    /// A clock that stands still.
    pub fn fixed(unix: u64) -> Clock {
        Clock(Arc::new(ClockInner { floor: AtomicU64::new(Self::BUILD), fixed: Some(unix) }))
    }

    /// It is at least this late: call with the last time that was written to disk. Never with a time
    /// that came from a peer.
    pub fn raise(&self, unix: u64) {
        self.0.floor.fetch_max(unix, Ordering::Relaxed);
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        self.raw().max(self.0.floor.load(Ordering::Relaxed))
    }

    /// False if the system's clock stands before a time that has certainly passed.
    pub fn is_set(&self) -> bool {
        self.raw() >= self.0.floor.load(Ordering::Relaxed)
    }

    fn raw(&self) -> u64 {
        self.0.fixed.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
        })
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now())))
    }
}

// ---- errors ----------------------------------------------------------------------------------------

/// Why a server's certificate was refused. Each says what it saw and what to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody we trust has signed it.
    UnknownIssuer {
        /// The pin of the key that was shown.
        pin: Pin,
    },
    /// It has signed itself.
    SelfSigned {
        /// The pin of the key that was shown.
        pin: Pin,
    },
    /// Its time is over.
    Expired {
        /// For how many days.
        days: i64,
        /// Whether our own clock can be right.
        clock_set: bool,
        /// The pin of the key that was shown.
        pin: Pin,
    },
    /// Its time has not come.
    NotYetValid {
        /// For how many days.
        days: i64,
        /// Whether our own clock can be right.
        clock_set: bool,
        /// The pin of the key that was shown.
        pin: Pin,
    },
    /// It is for others.
    WrongName {
        /// The domain that we asked for.
        expected: String,
        /// The names that it carries, at most sixteen.
        found: Vec<String>,
        /// The pin of the key that was shown.
        pin: Pin,
    },
    /// It may not be used for a server.
    WrongPurpose {
        /// The pin of the key that was shown.
        pin: Pin,
    },
    /// `--pin` names another key.
    PinMismatch {
        /// The pins that were given.
        wanted: Vec<Pin>,
        /// The pin of the key that was shown.
        got: Pin,
    },
    /// `--tofu`, and this is not the key of the first time.
    TofuChanged {
        /// The domain.
        domain: String,
        /// What is on record.
        known: Vec<Pin>,
        /// The pin of the key that was shown.
        got: Pin,
        /// The file with the record.
        file: PathBuf,
    },
    /// `--tofu`, and the record cannot be read: not the same as an empty one.
    KnownHubs {
        /// The file with the record.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The other side does not have the key that its certificate names.
    BadSignature,
    /// Not a certificate that we can read, or a broken chain.
    Unreadable(String),
    /// The chain has more than 64 KB.
    TooBig,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |set: bool| match set {
            true => "is this machine's clock right?",
            false => "this machine's clock is not set, set it:",
        };
        match self {
            Refused::UnknownIssuer { pin } => write!(
                f,
                "certificate from an unknown issuer; if {} is the hub's key, use --pin with it, or --cafile ca.pem, or --tofu",
                pin_text(pin)
            ),
            Refused::SelfSigned { pin } => write!(
                f,
                "self-signed certificate; if {} is the hub's key, use --pin with it, or --cafile with that certificate, or --tofu",
                pin_text(pin)
            ),
            Refused::Expired { days, clock_set, pin } => write!(
                f,
                "certificate expired {days} days ago; {} pinned hubs are not date-checked (--pin {})",
                clock(*clock_set),
                pin_text(pin)
            ),
            Refused::NotYetValid { days, clock_set, pin } => write!(
                f,
                "certificate not valid for another {days} days; {} pinned hubs are not date-checked (--pin {})",
                clock(*clock_set),
                pin_text(pin)
            ),
            Refused::WrongName { expected, found, pin } => write!(
                f,
                "certificate is for {}, not for {}; use that domain, or --pin {}",
                cert::list(found),
                cert::printable(expected, 80),
                pin_text(pin)
            ),
            Refused::WrongPurpose { pin } => write!(
                f,
                "certificate is not made for servers; have it issued with serverAuth, or use --pin {}",
                pin_text(pin)
            ),
            Refused::PinMismatch { wanted, got } => write!(
                f,
                "key mismatch: wanted {}, got {}; if the hub has a new key, use --pin with the new one",
                pins(wanted),
                pin_text(got)
            ),
            Refused::TofuChanged { domain, known, got, file } => write!(
                f,
                "the key of {} has changed: known {}, got {}; if the hub has a new key, delete its line in {}",
                cert::printable(domain, 80),
                pins(known),
                pin_text(got),
                file.display()
            ),
            Refused::KnownHubs { file, why } => {
                write!(f, "{}: {why}; correct or delete the file", file.display())
            }
            Refused::BadSignature => f.write_str(
                "the other side does not hold the key of its certificate; somebody is in between, or it is misconfigured",
            ),
            Refused::Unreadable(why) => {
                write!(f, "certificate is not usable ({}); have it issued again", cert::printable(why, 120))
            }
            Refused::TooBig => f.write_str("certificate chain over 64 KB; send the leaf and what lies between only"),
        }
    }
}

impl std::error::Error for Refused {}

fn pins(pins: &[Pin]) -> String {
    let shown: Vec<String> = pins.iter().take(4).map(pin_text).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(" or ") }
}

/// Why there is no TLS connection, or no longer one.
#[derive(Debug)]
pub enum Error {
    /// The socket. `WouldBlock` is not a failure, see [`Error::would_block`].
    Io(io::Error),
    /// We refused their certificate.
    Refused(Box<Refused>),
    /// They refused us, and this is all that they say.
    Alert(String),
    /// What came is not TLS.
    NotTls,
    /// No version, suite or extension in common.
    Incompatible(String),
    /// They speak another protocol on this port (ALPN).
    NoAlpn,
    /// A record or message that TLS forbids, or a broken one.
    Misbehaved(String),
    /// Closed before the handshake was done.
    Closed,
    /// The handshake took too long.
    Deadline,
    /// Not a name that a certificate could be for.
    BadName(String),
    /// A file for the configuration, and what is wrong with it.
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Our own configuration, or the system.
    Config(String),
}

impl Error {
    /// True if there is just nothing to do until the socket is ready.
    pub fn would_block(&self) -> bool {
        matches!(self, Error::Io(why) if why.kind() == io::ErrorKind::WouldBlock)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(why) => write!(f, "connection failed: {why}"),
            Error::Refused(why) => why.fmt(f),
            Error::Alert(what) => write!(f, "the other side ended TLS: {what}"),
            Error::NotTls => f.write_str(
                "the other side does not speak TLS here; port 5223 is for --direct-tls, port 5222 for --starttls",
            ),
            Error::Incompatible(what) => {
                write!(f, "no TLS in common ({what}); the other side needs TLS 1.3, or TLS 1.2 with extended master secret")
            }
            Error::NoAlpn => f.write_str(
                "no XMPP on this port (ALPN refused); port 5223 is for --direct-tls, port 5222 for --starttls",
            ),
            Error::Misbehaved(what) => write!(f, "broken TLS from the other side ({what}); try again, then suspect the network"),
            Error::Closed => f.write_str("closed during the TLS handshake; the other side's log knows why"),
            Error::Deadline => f.write_str("the TLS handshake took too long; check the network, or raise --timeout"),
            Error::BadName(name) => write!(
                f,
                "{:?} is not a name for a hub; use a host name such as pi.local, or an IP address",
                cert::printable(name, 80)
            ),
            Error::File { path, why } => write!(f, "{}: {why}", path.display()),
            Error::Config(why) => write!(f, "cannot set up TLS: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(why: io::Error) -> Self {
        Error::Io(why)
    }
}

impl From<rustls::Error> for Error {
    fn from(why: rustls::Error) -> Self {
        use rustls::Error as E;
        let refused = |why| Error::Refused(Box::new(why));
        match why {
            // Our verifiers say what they saw; rustls carries it to here.
            E::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                match inner.downcast_ref::<Refused>() {
                    Some(why) => refused(why.clone()),
                    None => refused(Refused::Unreadable(inner.to_string())),
                }
            }
            E::InvalidCertificate(CertificateError::BadSignature) => refused(Refused::BadSignature),
            E::InvalidCertificate(why) => refused(Refused::Unreadable(why.to_string())),
            E::NoCertificatesPresented => refused(Refused::Unreadable("none was sent".to_owned())),
            E::AlertReceived(alert) => Error::Alert(alert_text(alert)),
            E::InvalidMessage(InvalidMessage::InvalidContentType)
            | E::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => Error::NotTls,
            E::PeerIncompatible(why) => Error::Incompatible(format!("{why:?}")),
            E::NoApplicationProtocol => Error::NoAlpn,
            E::FailedToGetRandomBytes => Error::Config("the system has no random numbers yet".to_owned()),
            E::General(why) => Error::Config(why),
            E::InconsistentKeys(_) => Error::Config("the key does not belong to the certificate".to_owned()),
            other => Error::Misbehaved(other.to_string()),
        }
    }
}

fn alert_text(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let hint = match alert {
        A::UnknownCA | A::CertificateUnknown | A::BadCertificate | A::UnsupportedCertificate => {
            "it does not trust our certificate"
        }
        A::CertificateExpired => "it finds our certificate expired; is its clock right?",
        A::CertificateRevoked => "our certificate is revoked",
        A::ProtocolVersion => "it wants another TLS version; TLS 1.2 and 1.3 are what we have",
        A::HandshakeFailure | A::InsufficientSecurity => "no cipher suite in common",
        A::NoApplicationProtocol => {
            "no XMPP on this port; port 5223 is for --direct-tls, 5222 for --starttls"
        }
        A::UnrecognisedName => "it does not serve this domain",
        A::CertificateRequired => "it wants a client certificate (--cert, --key)",
        _ => return format!("{alert:?}"),
    };
    format!("{hint} ({alert:?})")
}

fn poisoned<T>(why: PoisonError<T>) -> T {
    why.into_inner()
}

// ---- what both halves are made of ------------------------------------------------------------------

fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if !has_aes() {
        // Every Raspberry Pi before the 5: ChaCha20 is several times as fast. A server follows the
        // client's order, so this speaks for our client half.
        provider.cipher_suites.sort_by_key(|suite| !is_chacha(suite));
    }
    Arc::new(provider)
}

fn is_chacha(suite: &SupportedCipherSuite) -> bool {
    format!("{:?}", suite.suite()).contains("CHACHA20")
}

fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// The public half of a private key, as SubjectPublicKeyInfo; `None` if ring cannot use the key.
pub(super) fn public_key(key: &PrivateKeyDer<'_>) -> Option<Vec<u8>> {
    let key = ring::sign::any_supported_type(key).ok()?;
    key.public_key().map(|spki| spki.to_vec())
}

/// Whether a certificate is for this domain or address (subjectAltName only, RFC 9525 §6).
pub fn covers(cert: &[u8], name: &str) -> bool {
    let der = CertificateDer::from(cert);
    match (EndEntityCert::try_from(&der), server_name(name)) {
        (Ok(cert), Ok(name)) => cert.verify_is_valid_for_subject_name(&name).is_ok(),
        _ => false,
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    let bad = || Error::BadName(name.to_owned());
    ServerName::try_from(cert::ascii_name(name).ok_or_else(bad)?).map_err(|_| bad())
}

fn chain_fits(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> bool {
    let mut room = MAX_CHAIN;
    for cert in std::iter::once(leaf).chain(rest) {
        match room.checked_sub(cert.len()) {
            Some(left) => room = left,
            None => return false,
        }
    }
    true
}

fn refuse(why: Refused) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

// ---- server ----------------------------------------------------------------------------------------

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
struct Live {
    config: Arc<ServerConfig>,
    /// `tls-server-end-point` of the leaf that `config` sends.
    end_point: Option<Arc<[u8]>>,
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
        *self.0.live.lock().unwrap_or_else(poisoned) = live;
        Ok(())
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
        if !chain_fits(leaf, rest) {
            return Err(refuse(Refused::TooBig));
        }
        match cert::spki(leaf) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(refuse(Refused::Unreadable("not X.509".to_owned()))),
        }
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

// ---- client ----------------------------------------------------------------------------------------

/// Whom the initiating half believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The public authorities, and those in `cafile`; a `cafile` may also hold the server's own
    /// self-signed certificate.
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
    config: Arc<ClientConfig>,
    tofu: Option<Arc<Path>>,
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
        let verifier = OurServer::new(trust, provider.signature_verification_algorithms, clock.clone())?;
        let builder = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
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
struct OurServer {
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
    fn new(trust: Trust, algorithms: WebPkiSupportedAlgorithms, clock: Clock) -> Result<Self, Error> {
        let judge = match trust {
            Trust::Pins(pins) if pins.is_empty() => {
                return Err(Error::Config("no pin given; use --pin sha256:…".to_owned()));
            }
            Trust::Pins(pins) => Judge::Pins(pins),
            Trust::Tofu(file) => Judge::Tofu(file),
            Trust::Insecure => Judge::Insecure,
            Trust::Roots { cafile } => {
                let mut anchors = webpki_roots::TLS_SERVER_ROOTS.to_vec();
                let mut exact = Vec::new();
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

fn read_bundle(
    path: &Path,
    anchors: &mut Vec<TrustAnchor<'static>>,
    exact: &mut Vec<CertificateDer<'static>>,
) -> Result<(), Error> {
    let file = |why: String| Error::File { path: path.to_owned(), why };
    let pem = super::read_capped(path, MAX_BUNDLE)
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

// ---- trust on first use ----------------------------------------------------------------------------

/// True if the key is on record, false if the domain is not. A domain may have several lines: any of
/// its keys will do, so that a key can be announced before it is used.
fn known_or_new(file: &Path, domain: &str, pin: Pin) -> Result<bool, Refused> {
    let bad = |why: String| Refused::KnownHubs { file: file.to_owned(), why };
    let bytes = match super::read_capped(file, MAX_KNOWN) {
        Ok(bytes) => bytes,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(why) => return Err(bad(format!("cannot be read: {why}"))),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| bad("is not text".to_owned()))?;
    let mut known = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some(name) if !name.starts_with('#') && name.eq_ignore_ascii_case(domain) => {}
            _ => continue,
        }
        match (words.next().and_then(cert::parse_pin), words.next()) {
            (Some(pin), None) => known.push(pin),
            _ => return Err(bad(format!("line {} should be: domain sha256:…", at.saturating_add(1)))),
        }
    }
    if known.contains(&pin) {
        return Ok(true);
    }
    if known.is_empty() {
        return Ok(false);
    }
    Err(Refused::TofuChanged { domain: domain.to_owned(), known, got: pin, file: file.to_owned() })
}

/// Adds one line.
fn record(file: &Path, domain: &str, pin: Pin) -> io::Result<()> {
    if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut out = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)?;
    let unfinished = super::read_capped(file, MAX_KNOWN)?.last().is_some_and(|last| *last != b'\n');
    let newline = if unfinished { "\n" } else { "" };
    out.write_all(format!("{newline}{domain} {}\n", pin_text(&pin)).as_bytes())?;
    out.sync_all()
}

// ---- a connection ----------------------------------------------------------------------------------

/// One TLS connection, of either half. The socket is the caller's.
pub struct Tls(Box<Inner>);

struct Inner {
    conn: Connection,
    side: Side,
    /// Ciphertext taken since rustls's input buffer was last cut down.
    burst: usize,
}

enum Side {
    Server { end_point: Option<Arc<[u8]>> },
    Client { name: ServerName<'static>, tofu: Option<Arc<Path>> },
}

/// What one step of reading brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Got {
    /// Bytes of ciphertext taken ([`Tls::feed`]; [`Tls::read`] takes them from the socket itself).
    pub wire: usize,
    /// Bytes of plaintext put into the caller's buffer.
    pub plain: usize,
    /// Nothing more will come: `close_notify`, or the end of the TCP stream.
    pub closed: bool,
    /// There is decrypted plaintext left inside, for which no readiness of the socket will tell: call
    /// again with room.
    pub more: bool,
}

/// Channel bindings for SCRAM-PLUS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// `tls-exporter` (RFC 9266).
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` (RFC 5929 §4).
    pub server_end_point: Option<Vec<u8>>,
}

impl Tls {
    /// The receiving half of a new connection. It starts with nothing in its buffers: what arrived
    /// before TLS began cannot get in (RFC 6120 §5.4.3.3).
    pub fn server(config: &ServerTls) -> Result<Tls, Error> {
        let live = config.0.live.lock().unwrap_or_else(poisoned).clone();
        let conn = ServerConnection::new(live.config)?;
        Ok(Tls::new(conn.into(), Side::Server { end_point: live.end_point }))
    }

    /// The initiating half of a new connection to the hub of `domain`: the domain of the JID, not the
    /// host that SRV named (RFC 6120 §13.7.1.2.1).
    pub fn client(config: &ClientTls, domain: &str) -> Result<Tls, Error> {
        let name = server_name(domain)?;
        let conn = ClientConnection::new(config.config.clone(), name.clone())?;
        Ok(Tls::new(conn.into(), Side::Client { name, tofu: config.tofu.clone() }))
    }

    fn new(mut conn: Connection, side: Side) -> Tls {
        conn.set_buffer_limit(Some(SEND_LIMIT));
        Tls(Box::new(Inner { conn, side, burst: 0 }))
    }

    /// Copies out plaintext that is left inside; if there was none, reads ciphertext *once* from `io`
    /// (4 KB at most), decrypts it, and copies that out. `io` may be a non-blocking socket, whose
    /// `WouldBlock` comes back as [`Error::Io`]. After any other error there may be an alert to send:
    /// [`Tls::flush`] once, then close.
    pub fn read(&mut self, io: &mut impl Read, plain: &mut [u8]) -> Result<Got, Error> {
        let inner = &mut *self.0;
        let mut got = inner.copy_out(plain);
        if got.plain > 0 || got.more || got.closed {
            return Ok(got);
        }
        got.wire = loop {
            match inner.conn.read_tls(io) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                // rustls's own word for a record or message that is too long
                Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                    return Err(Error::Misbehaved(why.to_string()));
                }
                other => break other?,
            }
        };
        inner.conn.process_new_packets()?;
        let out = inner.copy_out(plain);
        if !out.more {
            inner.slim(got.wire);
        }
        Ok(Got { wire: got.wire, ..out })
    }

    /// Decrypts ciphertext that the caller has read, as much as `plain` has room for. With `plain` at
    /// least as long as `wire` all of it is taken, unless the peer has closed.
    pub fn feed(&mut self, mut wire: &[u8], plain: &mut [u8]) -> Result<Got, Error> {
        let mut total = Got::default();
        loop {
            let room = plain.get_mut(total.plain..).unwrap_or_default();
            if room.is_empty() || (wire.is_empty() && total.wire > 0) {
                total.more = self.has_plain();
                return Ok(total);
            }
            if wire.is_empty() && !self.has_plain() {
                return Ok(total); // an empty read would count as the end of the stream
            }
            let got = self.read(&mut wire, room)?;
            total.wire = total.wire.saturating_add(got.wire);
            total.plain = total.plain.saturating_add(got.plain);
            total.closed = got.closed;
            total.more = got.more;
            if got.closed {
                return Ok(total);
            }
        }
    }

    /// True if decrypted plaintext is waiting inside.
    pub fn has_plain(&mut self) -> bool {
        self.0.inside() == Inside::Plain
    }

    /// Encrypts up to 16 KiB of `plain` as one record, and says how much it took: 0 while an earlier
    /// record waits to be flushed, so that a batch never crumbles into small ones. (Before the end of
    /// the handshake it is kept, to the same limit.)
    pub fn write(&mut self, plain: &[u8]) -> usize {
        let conn = &mut self.0.conn;
        if conn.wants_write() && !conn.is_handshaking() {
            return 0;
        }
        conn.writer().write(plain).unwrap_or(0)
    }

    /// Writes what is ready to go. True if nothing is left, false if the socket takes no more for now.
    pub fn flush(&mut self, io: &mut impl Write) -> io::Result<bool> {
        let conn = &mut self.0.conn;
        while conn.wants_write() {
            match conn.write_tls(io) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(why) => return Err(why),
            }
        }
        Ok(true)
    }

    /// Writes and flushes by turns, and says how much of `plain` is taken: it need not be kept. Less
    /// than all of it means that the socket is full; what was taken may still wait in here, see
    /// [`Tls::wants_write`].
    pub fn send(&mut self, io: &mut impl Write, plain: &[u8]) -> io::Result<usize> {
        let mut taken = 0usize;
        while self.flush(io)? {
            let rest = plain.get(taken..).unwrap_or_default();
            let now = if rest.is_empty() { 0 } else { self.write(rest) };
            if now == 0 {
                break;
            }
            taken = taken.saturating_add(now);
        }
        Ok(taken)
    }

    /// True if there is ciphertext to flush.
    pub fn wants_write(&self) -> bool {
        self.0.conn.wants_write()
    }

    /// True until both sides are sure of each other.
    pub fn is_handshaking(&self) -> bool {
        self.0.conn.is_handshaking()
    }

    /// Queues `close_notify`; flush it, then close the socket.
    pub fn close_notify(&mut self) {
        self.0.conn.send_close_notify();
    }

    /// What SCRAM-PLUS binds to. Empty before the handshake is done.
    pub fn channel_bindings(&self) -> Bindings {
        if self.is_handshaking() {
            return Bindings::default();
        }
        let exporter = self.0.conn.export_keying_material([0u8; 32], b"EXPORTER-Channel-Binding", None).ok();
        let server_end_point = match &self.0.side {
            Side::Server { end_point } => end_point.as_deref().map(<[u8]>::to_vec),
            Side::Client { .. } => self.peer_certificate().and_then(cert::end_point),
        };
        Bindings { exporter, server_end_point }
    }

    /// The peer's certificate, whose key signed this handshake. Empty before that is known.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        if self.is_handshaking() {
            return None;
        }
        self.0.conn.peer_certificates()?.first().map(|cert| cert.as_ref())
    }

    /// The pin of the peer's certificate.
    pub fn peer_spki(&self) -> Option<Pin> {
        self.peer_certificate().and_then(cert::spki_sha256)
    }

    /// `TLS 1.3` or `TLS 1.2`.
    pub fn version(&self) -> Option<&'static str> {
        match self.0.conn.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
            rustls::ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
            _ => None,
        }
    }

    /// The cipher suite by its IANA name.
    pub fn cipher(&self) -> Option<&'static str> {
        self.0.conn.negotiated_cipher_suite()?.suite().as_str()
    }

    /// The ALPN name agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.conn.alpn_protocol()
    }

    /// With [`Trust::Tofu`], writes the key down if it is new; true if it was. Call it when the login
    /// has succeeded: SCRAM proves that this hub knows the password, so a stranger who answers once
    /// does not get into the record.
    pub fn remember(&self) -> Result<bool, Error> {
        let Side::Client { name, tofu: Some(file) } = &self.0.side else { return Ok(false) };
        let Some(pin) = self.peer_spki() else { return Ok(false) };
        let domain = name.to_str();
        // Read again: another process may have written it since.
        if known_or_new(file, &domain, pin).map_err(|why| Error::Refused(Box::new(why)))? {
            return Ok(false);
        }
        record(file, &domain, pin).map_err(|why| Error::File {
            path: file.to_path_buf(),
            why: format!("cannot be written: {why}; the key is not remembered"),
        })?;
        Ok(true)
    }
}

/// How rustls stands towards a reader of plaintext.
#[derive(PartialEq, Eq)]
enum Inside {
    Plain,
    Nothing,
    /// Closed, with or without `close_notify`: XMPP has its own end, `</stream:stream>`.
    End,
}

impl Inner {
    fn inside(&mut self) -> Inside {
        match self.conn.reader().fill_buf() {
            Ok([]) => Inside::End,
            Ok(_) => Inside::Plain,
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => Inside::Nothing,
            Err(_) => Inside::End,
        }
    }

    fn copy_out(&mut self, plain: &mut [u8]) -> Got {
        // Its errors (nothing there, end) are asked for below, in one place.
        let copied = self.conn.reader().read(plain).unwrap_or(0);
        let inside = self.inside();
        Got { wire: 0, plain: copied, closed: inside == Inside::End, more: inside == Inside::Plain }
    }

    /// rustls keeps the input buffer of its largest burst (up to 18 KB, 64 KB in the handshake) until
    /// the next read; asking it to read nothing now makes it cut that down to 4 KB. Only at the end of
    /// a burst, so that bulk input does not pay for it each time.
    fn slim(&mut self, wire: usize) {
        self.burst = self.burst.saturating_add(wire);
        if wire < READ_SIZE && self.burst > READ_SIZE {
            self.burst = 0;
            let _ = self.conn.read_tls(&mut Nothing);
        }
    }
}

/// A socket on which nothing has arrived.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// Finishes the handshake of a new connection, or of one whose STARTTLS has just been agreed. Until
/// `deadline`, whatever the peer does. Plaintext that came with its last flight stays inside: call
/// [`Tls::read`] before waiting for the socket.
pub async fn handshake<T>(tls: &mut Tls, io: &Async<T>, deadline: Instant) -> Result<(), Error>
where
    for<'a> &'a T: Read + Write,
{
    let late = async {
        Timer::at(deadline).await;
        Err(Error::Deadline)
    };
    smol::future::or(drive_handshake(tls, io), late).await
}

async fn drive_handshake<T>(tls: &mut Tls, io: &Async<T>) -> Result<(), Error>
where
    for<'a> &'a T: Read + Write,
{
    let mut wire = 0usize;
    loop {
        while !tls.flush(&mut io.get_ref())? {
            io.writable().await?;
        }
        if !tls.is_handshaking() {
            return Ok(());
        }
        match tls.read(&mut io.get_ref(), &mut []) {
            // Plaintext inside while we still shake hands would be early data, which we never offer.
            Ok(got) if got.closed || got.more => return Err(Error::Closed),
            Ok(got) => wire = wire.saturating_add(got.wire),
            Err(why) if why.would_block() => io.readable().await?,
            Err(why) => {
                let _ = tls.flush(&mut io.get_ref()); // the alert that says why, if there is room
                return Err(why);
            }
        }
        if wire > MAX_HANDSHAKE {
            return Err(Error::Misbehaved("endless handshake".to_owned()));
        }
    }
}
