//! What a client has to be told before it connects.

use super::error::Error;
use crate::jid::{BareJid, Domain, Jid};
use crate::net::tls::Trust;
use crate::stream::Secret;
use std::path::PathBuf;
use std::time::Duration;

/// How the stream is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Security {
    /// Direct TLS where it is offered, or else STARTTLS. Nothing is ever sent in the clear.
    #[default]
    Required,
    /// Direct TLS only (XEP-0368).
    DirectTls,
    /// STARTTLS only (RFC 6120 §5).
    StartTls,
    /// STARTTLS where it is offered, or else no TLS at all; the password itself is never sent without it, only a
    /// proof of it (SCRAM).
    Plaintext,
}

/// Where a traced stanza went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// We sent it.
    Sent,
    /// We received it.
    Received,
}

/// Sees every stanza that goes over the stream, passwords taken out.
pub type Trace = fn(Direction, &str);

/// What a client has to be told before it connects. [`Options::new`] fills in what most need.
#[derive(Clone, Debug)]
pub struct Options {
    /// The account.
    pub jid: BareJid,
    /// Its password. `None`: the account proves itself by [`Options::identity`].
    pub password: Option<Secret>,
    /// The resource to ask for. `None`: the server chooses.
    pub resource: Option<String>,
    /// Where to connect to, instead of asking the DNS about the domain of the account.
    pub host: Option<String>,
    /// The port to go with it. `None`: 5222 for STARTTLS and 5223 for direct TLS.
    pub port: Option<u16>,
    /// Whether SRV records are asked for.
    pub srv: bool,
    /// How the stream is protected.
    pub security: Security,
    /// Whom to believe.
    pub trust: Trust,
    /// Certificate and key of the client, in PEM files, for SASL EXTERNAL.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long to wait: for a connection and login in all, and for each answer after that.
    pub timeout: Duration,
    /// After so long a silence the server is asked whether it is still there, and given up after the same time again.
    pub keepalive: Option<Duration>,
    /// Whether a lost connection is made again and the session gone on with, where the server can do that (XEP-0198):
    /// for as long as [`Options::timeout`] says.
    pub resume: bool,
    /// What is said about us on request: name and category come from us, the type (`bot`, `pc`) is the caller's.
    pub kind: &'static str,
    /// Sees every stanza.
    pub trace: Option<Trace>,
}

impl Options {
    /// Connects as that account (`romeo@example.net`, or with a resource `romeo@example.net/balcony`) with that
    /// password: TLS is required, and the certificate must be one that the authorities vouch for that this machine trusts.
    pub fn new(jid: &str, password: impl Into<String>) -> Result<Options, Error> {
        let mut options = Options::anonymous(jid)?;
        if options.jid.local().is_none() {
            return Err(Error::Invalid(format!("{jid:?} is no account: there is no \"@\"")));
        }
        options.password = Some(Secret::new(password));
        Ok(options)
    }

    /// As [`Options::new`], without a password.
    pub fn anonymous(jid: &str) -> Result<Options, Error> {
        let parsed = Jid::parse(jid).map_err(|e| Error::Invalid(format!("{jid:?} is no address: {e}")))?;
        Ok(Options {
            jid: parsed.to_bare(),
            password: None,
            resource: parsed.resource().map(str::to_owned),
            host: None,
            port: None,
            srv: true,
            security: Security::Required,
            trust: Trust::Roots { cafile: None },
            identity: None,
            timeout: Duration::from_secs(30),
            keepalive: Some(Duration::from_secs(60)),
            resume: true,
            kind: "bot",
            trace: None,
        })
    }

    /// Connects to that host and port, whatever the DNS says.
    pub fn at(mut self, host: &str, port: u16) -> Options {
        self.host = Some(host.to_owned());
        self.port = Some(port);
        self
    }

    /// Believes these.
    pub fn trust(mut self, trust: Trust) -> Options {
        self.trust = trust;
        self
    }

    /// Protects the stream like this.
    pub fn security(mut self, security: Security) -> Options {
        self.security = security;
        self
    }

    /// Waits so long.
    pub fn timeout(mut self, timeout: Duration) -> Options {
        self.timeout = timeout;
        self
    }

    /// The domain of the account.
    pub(super) fn domain(&self) -> Result<Domain, Error> {
        Domain::parse(self.jid.domain()).map_err(|e| Error::Invalid(format!("{}: {e}", self.jid)))
    }
}
