//! What can go wrong, by its exact name and with what to type instead.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError};

use crate::net::cert::{self, Pin, pin_text};

/// Why a server's certificate was refused. Each says what it saw and what to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody we trust has signed it.
    UnknownIssuer {
        /// The pin of the key that was shown.
        pin: Pin,
    },
    /// An authority has signed it, and this machine knows none.
    NoAuthorities {
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
            Refused::NoAuthorities { pin } => write!(
                f,
                "this machine has no list of certificate authorities: install ca-certificates, or if {} is the hub's key, \
                 use --pin with it, or --cafile ca.pem, or --tofu",
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
    /// The peer showed no certificate.
    NoCertificate,
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

    /// The same for the operator of a hub, about a stream between servers: other ports, other options.
    pub fn for_peer(&self) -> String {
        match self {
            Error::NotTls => {
                "the other side does not speak TLS here; port 5269 is for STARTTLS, port 5270 for direct TLS".to_owned()
            }
            Error::NoAlpn => {
                "no XMPP between servers on this port (ALPN refused); port 5269 is for STARTTLS, port 5270 for direct TLS"
                    .to_owned()
            }
            Error::Deadline => "the TLS handshake took too long; check the network".to_owned(),
            other => other.to_string(),
        }
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
            Error::NoCertificate => {
                f.write_str("the other side showed no certificate; give it one (--cert, --key)")
            }
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
            E::AlertReceived(AlertDescription::NoApplicationProtocol) | E::NoApplicationProtocol => {
                Error::NoAlpn
            }
            E::AlertReceived(alert) => Error::Alert(alert_text(alert)),
            E::InvalidMessage(InvalidMessage::InvalidContentType)
            | E::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => Error::NotTls,
            E::PeerIncompatible(why) => Error::Incompatible(format!("{why:?}")),
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
        A::UnrecognisedName => "it does not serve this domain",
        A::CertificateRequired => "it wants a client certificate (--cert, --key)",
        _ => return format!("{alert:?}"),
    };
    format!("{hint} ({alert:?})")
}
