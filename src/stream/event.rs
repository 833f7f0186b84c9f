//! The conversation on one page: all that a stream asks of the world, and all that it is told.
//!
//! ```text
//!              receiving half (server)                 initiating half (client)
//! built with   Settings, Security, seed                Account, Security, seed
//! fed with     frame(kind, bytes)                      start(), frame(kind, bytes)
//! asks         Ask ── one at a time ──┐                Need ── one at a time ──┐
//! is answered  secured keys derived owner bound        secured derived
//! ends as      Established, or Error, or Ask::Closed   Established, or Failure, or Need::Closed
//! ```
//!
//! While an [`Ask`] or a [`Need`] is open the driver feeds no frames. What a half wants sent is
//! appended to the `out` it is given, before anything is asked.

use super::error::{Condition, Error, Plain};
use super::identity::Authenticated;
use super::sasl::{self, BindingType, Hash};
use super::secret::Secret;
use crate::jid::{BareJid, FullJid};
use crate::stanza;
use crate::xml::{self, Scope};
use std::fmt;

/// Who may make an account over the wire (XEP-0077, XEP-0401).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Registration {
    /// Nobody.
    #[default]
    Closed,
    /// Whoever has an invitation, under TLS.
    Invite,
    /// Everybody.
    Open,
}

/// What the receiving half is set up with; shared by all streams of a listener.
#[derive(Clone)]
pub struct Settings {
    /// The domain of all accounts, in normal form.
    pub domain: Box<str>,
    /// Other names that this server is asked for and answers to, in normal form.
    pub aliases: Vec<Box<str>>,
    /// Who may make an account.
    pub registration: Registration,
    /// Features to offer after login, written.
    pub extra_features: Vec<u8>,
    /// Features to offer along with the SASL mechanisms, written.
    pub early_features: Vec<u8>,
    /// XEP-0478: the cap on one element before login.
    pub max_bytes_early: usize,
    /// XEP-0478: the cap on one element after login.
    pub max_bytes: usize,
    /// XEP-0478: silence that is taken for absence.
    pub idle_seconds: u32,
    /// Failed logins on one connection before it is closed (RFC 6120 §6.4.5: 2 to 5).
    pub login_tries: u8,
    /// What the salts of accounts that do not exist are made from (threats B8). Must outlive
    /// restarts, or the salts tell.
    pub secret: [u8; 32],
    /// The iteration count of new passwords, and of accounts that do not exist.
    pub iterations: u32,
}

/// What lies beneath the stream.
#[derive(Clone, Debug)]
pub enum Security {
    /// A bare connection.
    Plain {
        /// Receiving: STARTTLS is offered.
        starttls: bool,
        /// Receiving: and nothing else is, until it is done.
        required: bool,
    },
    /// TLS.
    Tls {
        /// For the `-PLUS` mechanisms.
        bindings: Bindings,
        /// SHA-256 of the SubjectPublicKeyInfo of the certificate that the client presented, and
        /// has proven to hold the key of.
        certificate: Option<[u8; 32]>,
    },
}

/// Channel binding data of the TLS connection (RFC 9266, RFC 5929).
#[derive(Clone, Default, Debug)]
pub struct Bindings {
    /// `tls-exporter`
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point`
    pub server_end_point: Option<Vec<u8>>,
}

impl Bindings {
    /// The data for a type.
    pub fn get(&self, kind: BindingType) -> Option<&[u8]> {
        match kind {
            BindingType::Exporter => self.exporter.as_ref().map(|data| &data[..]),
            BindingType::ServerEndPoint => self.server_end_point.as_deref(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.server_end_point.is_none()
    }
}

/// What the receiving half asks of the world.
#[derive(Debug)]
pub enum Ask {
    /// `<proceed/>` is written: send it, do the handshake, then `secured()`. Bytes that came
    /// behind `<starttls/>` came in the clear: if there are any, close (threats B1).
    StartTls,
    /// The keys of an account, if it exists. Then `keys()`.
    Keys {
        /// In normal form.
        localpart: Box<str>,
    },
    /// [`sasl::derive`], where nobody waits for it. Then `derived()`.
    Derive {
        /// Prepared.
        password: Secret,
        /// See [`sasl::derive`].
        salt: Vec<u8>,
        /// See [`sasl::derive`].
        iterations: u32,
        /// See [`sasl::derive`].
        sha: Hash,
    },
    /// The localpart of the account that a client certificate is registered for. Then `owner()`.
    Owner {
        /// SHA-256 of its SubjectPublicKeyInfo.
        spki: [u8; 32],
        /// The account that the client says it is.
        authzid: Option<BareJid>,
    },
    /// The frame is an iq of XEP-0077 or XEP-0445, before login. The driver answers it into `out`
    /// and goes on with the next frame.
    Register,
    /// `<failure/>` is written: wait a little before it is sent, then go on with the next frame.
    Refused {
        /// Whom the client said it was, if it got so far.
        localpart: Option<Box<str>>,
    },
    /// The client wants to be reachable. Then `bound()` or `bind_refused()`.
    Bind {
        /// Whose resource it will be.
        account: Authenticated,
        /// In normal form; of our own making if the client has asked for none.
        resource: Box<str>,
    },
    /// The client wants to go on with a stream that was lost (XEP-0198 §5). Then `resumed()` or
    /// `resume_refused()`.
    Resume {
        /// Whose it must have been.
        account: Authenticated,
        /// What it calls the stream.
        previd: Box<str>,
        /// The stanzas that it has handled on it.
        h: u32,
    },
    /// The footers are exchanged: send what is written, and close.
    Closed,
}

/// How the initiating half protects the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// STARTTLS, and nothing without it (threats B2).
    #[default]
    Required,
    /// The stream begins inside TLS (XEP-0368).
    Direct,
    /// No TLS, and then no mechanism that shows the password.
    Never,
}

/// What the initiating half is set up with.
#[derive(Clone, Debug)]
pub struct Account {
    /// Who logs in.
    pub jid: BareJid,
    /// The resourcepart to ask for; the server makes one up if there is none.
    pub resource: Option<Box<str>>,
    /// The password; without one only the client certificate is left.
    pub password: Option<Secret>,
    /// To stop before login, when the server offers to make accounts: [`Need::Register`].
    pub register: bool,
    /// TLS.
    pub tls: Policy,
    /// Whether the password may be shown to the server (under TLS) when it offers nothing better.
    pub allow_plain: bool,
    /// The language of the stream.
    pub lang: Option<Box<str>>,
}

/// What the initiating half asks of the world.
#[derive(Debug)]
pub enum Need {
    /// `<proceed/>` has come: do the handshake, then `secured()` and `start()`. Bytes that came
    /// behind it came in the clear: if there are any, close (threats B1).
    StartTls,
    /// [`sasl::derive`], where nobody waits for it. Then `derived()`.
    Derive {
        /// Prepared.
        password: Secret,
        /// See [`sasl::derive`].
        salt: Vec<u8>,
        /// See [`sasl::derive`].
        iterations: u32,
        /// See [`sasl::derive`].
        sha: Hash,
    },
    /// The server offers to make accounts, and [`Account::register`] said to stop here. The frames
    /// are the caller's now; `login()` goes on where this left off.
    Register {
        /// XEP-0445: it takes invitations.
        invitations: bool,
    },
    /// Logged in and bound.
    Ready {
        /// The address that the server has given.
        jid: FullJid,
        /// The features offered after login: namespace and name.
        features: Vec<(Box<str>, Box<str>)>,
    },
    /// Logged in, and the lost stream goes on (XEP-0198 §5).
    Resumed {
        /// The stanzas that the server has handled on it.
        h: u32,
    },
    /// The server has closed the stream: send what is written, and close.
    Closed,
}

/// What a half leaves behind when its work is done.
#[derive(Clone, Debug)]
pub struct Established {
    /// What the other side's header declared.
    pub scope: Scope,
    /// The language of the other side's header (RFC 6120 §8.1.5).
    pub lang: Option<Box<str>>,
    /// The name that the server was asked for: its domain, or one of its aliases.
    pub to: Box<str>,
}

/// Why the initiating half gave up: one line that says whose fault it is and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The server, or somebody in between, offers no STARTTLS (threats B2). Nothing was sent that
    /// matters.
    StarttlsNotOffered,
    /// The server offers STARTTLS and refuses to do it (RFC 6120 §5.4.2.2).
    StarttlsRefused,
    /// The server insists on STARTTLS, and [`Policy::Never`] forbids it.
    TlsDemanded,
    /// RFC 6120 §6.5
    Auth {
        /// By name.
        condition: sasl::Condition,
        /// The server's own words.
        text: Option<Box<str>>,
    },
    /// No mechanism that the server offers can be used.
    NoMechanism {
        /// What it offers.
        offered: Vec<Box<str>>,
    },
    /// The server offers PLAIN only, and [`Account::allow_plain`] does not allow it.
    OnlyPlain,
    /// The features have been edited on the way (threats B5): channel binding types without a
    /// mechanism that uses them, or the reverse.
    Downgrade,
    /// The server does not know the password's keys: it is not the server.
    ServerSignature,
    /// Too few PBKDF2 rounds to protect the password, or so many that they are an attack
    /// (threats B7).
    Iterations(u32),
    /// The address names a server only.
    NoLocalpart,
    /// The password cannot be prepared: it has characters that no password has.
    Password,
    /// No account can be made here.
    RegistrationNotOffered,
    /// RFC 6120 §4.9: the server has ended the stream.
    Stream(Error),
    /// What the server sends breaks a rule of the stream itself.
    Broken(Error),
    /// RFC 6120 §7.7.2
    Bind(stanza::Condition),
    /// XEP-0198 §5: the server does not know the lost stream any more.
    NotResumed,
    /// The server does not follow the RFC.
    Protocol(&'static str),
}

impl From<xml::Error> for Failure {
    fn from(error: xml::Error) -> Failure {
        Failure::Broken(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::StarttlsNotOffered => f.write_str(
                "the server offers no encryption, or somebody in between hides it; nothing secret was sent: \
                 try direct TLS, or ask the server's operator",
            ),
            Failure::StarttlsRefused => {
                f.write_str("the server offers encryption and then refuses it: ask its operator")
            }
            Failure::TlsDemanded => {
                f.write_str("the server insists on encryption: allow TLS for this connection")
            }
            Failure::Auth { condition, text } => {
                f.write_str(match condition {
                    sasl::Condition::NotAuthorized => "the server refuses the user name or the password: check both",
                    sasl::Condition::AccountDisabled => "the account is disabled: ask the server's operator",
                    sasl::Condition::CredentialsExpired => "the password has expired: set a new one",
                    sasl::Condition::TemporaryAuthFailure => "the server cannot check passwords now: try again later",
                    sasl::Condition::EncryptionRequired => "the server wants encryption for this login: allow TLS",
                    sasl::Condition::InvalidMechanism | sasl::Condition::MechanismTooWeak => {
                        "the server refuses a login method that it has offered itself: ask its operator"
                    }
                    _ => "the server cannot make sense of our login: please report this",
                })?;
                write!(f, " [{}]", condition.name())?;
                match text {
                    Some(text) => write!(f, ", it says: {}", Plain(text)),
                    None => Ok(()),
                }
            }
            Failure::NoMechanism { offered } => {
                f.write_str("the server offers no login method that can be used here (it has:")?;
                for name in offered {
                    write!(f, " {}", name.escape_debug())?;
                }
                f.write_str("): a password or a client certificate may be missing")
            }
            Failure::OnlyPlain => {
                f.write_str("the server wants to see the password itself: allow PLAIN if you trust it")
            }
            Failure::Downgrade => f.write_str(
                "the server's login methods contradict each other, as if somebody in between had removed some: \
                 do not log in over this network",
            ),
            Failure::ServerSignature => f.write_str(
                "this is not the server that knows the password: somebody is in between, do not log in over this network",
            ),
            Failure::Iterations(n) => write!(
                f,
                "the server wants {n} rounds of password hashing, and only {}..={} are sane: ask its operator",
                sasl::MIN_ITERATIONS,
                sasl::MAX_ITERATIONS
            ),
            Failure::Password => f.write_str("the password has characters that passwords cannot have: check it"),
            Failure::RegistrationNotOffered => {
                f.write_str("the server makes no accounts over the network: ask its operator for one")
            }
            Failure::NoLocalpart => f.write_str("the address has no user name: write it as user@server"),
            Failure::Stream(error) => {
                f.write_str(match error.condition {
                    Condition::HostUnknown | Condition::HostGone => {
                        "the server does not know this domain: check the part behind the @"
                    }
                    Condition::SeeOtherHost => "the server sends us elsewhere: connect there if you trust it",
                    Condition::SystemShutdown | Condition::Reset | Condition::ResourceConstraint => {
                        "the server cannot serve us now: try again later"
                    }
                    Condition::PolicyViolation => "the server refuses us by a rule of its own: wait, or ask its operator",
                    _ => "the server has ended the stream",
                })?;
                write!(f, " [{error}]")
            }
            Failure::Broken(error) => write!(f, "the server sends what is no XMPP: is it one? [{error}]"),
            Failure::Bind(condition) => {
                write!(f, "the server refuses the resource ({}): choose another", condition.name())
            }
            Failure::NotResumed => f.write_str("the server has given up the session: log in anew"),
            Failure::Protocol(what) => write!(f, "the server does not speak XMPP as it should: {what}"),
        }
    }
}

impl std::error::Error for Failure {}
