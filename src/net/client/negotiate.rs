//! From a TCP connection to a stream that is logged in: the driver of [`stream::Initiating`].

use super::dial::{self, Try};
use super::ear::Me;
use super::error::Error;
use super::options::{Options, Security};
use super::session::{MAX_BYTES, Session};
use super::wait::{or, until};
use super::wire::Wire;
use crate::jid::Domain;
use crate::net::cert;
use crate::net::tls::{self, ALPN_CLIENT, ClientTls, Clock, Trust};
use crate::stream::{self, Condition, Failure, Initiating, Need, Policy, sasl};
use crate::xml::{Caps, Flow, Kind, Reader, Scan, ns};
use std::cell::Cell;
use std::path::Path;
use std::time::Instant;

/// How often a server may send us elsewhere (RFC 6120 §4.9.3.19).
const REDIRECTS: usize = 3;

/// What the negotiation is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Goal {
    /// To log in.
    Login,
    /// To make an account.
    Register,
    /// To go on with a lost stream, on which so many stanzas were heard.
    Resume(Box<str>, u32),
}

/// A stream that has come as far as it should.
pub(super) struct Arrived {
    /// The stream.
    pub session: Session,
    /// With [`Goal::Register`]: whether the server takes invitations.
    pub invitations: bool,
    /// With [`Goal::Resume`]: the stanzas that the server has handled.
    pub h: u32,
}

/// Why one attempt failed, and whether another may do better.
enum Miss {
    /// Another host, port or way to begin TLS may do.
    Next(Error),
    /// The server offers no STARTTLS.
    NoTls,
    /// The server sends us there.
    Elsewhere(String, Error),
    /// It would be the same everywhere.
    Final(Error),
}

impl From<Error> for Miss {
    fn from(error: Error) -> Miss {
        Miss::Next(error)
    }
}

/// Finds the server, connects, negotiates.
pub(super) async fn arrive(options: &Options, goal: &Goal) -> Result<Arrived, Error> {
    let deadline = Instant::now()
        .checked_add(options.timeout)
        .ok_or_else(|| Error::Invalid("too long a timeout".to_owned()))?;
    let all = attempts(options, goal, deadline);
    let late = async {
        until(deadline).await;
        let seconds = options.timeout;
        Err(Error::Unreachable(format!("{}: no login in {seconds:.0?}; see --timeout", options.jid.domain())))
    };
    or(all, late).await
}

async fn attempts(options: &Options, goal: &Goal, deadline: Instant) -> Result<Arrived, Error> {
    let domain = options.domain()?;
    let direct = client_tls(options, Some(ALPN_CLIENT))?;
    let starttls = client_tls(options, None)?;
    let mut plan: Vec<Try> = dial::plan(options).await?;
    let mut redirects = 0usize;
    let mut why: Vec<Error> = Vec::new();
    plan.reverse();
    while let Some(target) = plan.pop() {
        let config = if target.direct { &direct } else { &starttls };
        let spoke = Cell::new(false);
        let attempt =
            Attempt { options, goal, domain: &domain, target: &target, config, deadline, spoke: &spoke };
        let policy = if target.direct { Policy::Direct } else { Policy::Required };
        let mut ended = attempt.make(policy).await;
        if matches!(ended, Err(Miss::NoTls)) && options.security == Security::Plaintext {
            ended = attempt.make(Policy::Never).await;
        }
        if spoke.get() {
            // What it speaks is known: no need to knock there in another way.
            plan.retain(|other| (&other.host, other.port) != (&target.host, target.port));
        }
        match ended {
            Ok(arrived) => return Ok(arrived),
            Err(Miss::Final(error)) => return Err(error),
            Err(Miss::NoTls) => why.push(Error::Tls(Failure::StarttlsNotOffered.to_string())),
            Err(Miss::Next(error)) => why.push(error),
            Err(Miss::Elsewhere(host, error)) => {
                redirects = redirects.saturating_add(1);
                match elsewhere(&host) {
                    Some((host, port)) if redirects <= REDIRECTS => {
                        // Its certificate must be good for our domain, as every one's.
                        let port = port.unwrap_or(target.port);
                        plan.push(Try { host, port, direct: target.direct });
                    }
                    _ => return Err(error),
                }
            }
        }
    }
    Err(worst(why, options.jid.domain()))
}

/// Of several failures the one that says most: a refused certificate, rather than a closed port
/// that was only a guess.
fn worst(why: Vec<Error>, domain: &str) -> Error {
    let rank = |e: &Error| match e {
        Error::Tls(_) => 3,
        Error::Protocol(_) | Error::Login(_) => 2,
        Error::Lost(_) => 1,
        _ => 0,
    };
    let best = why.iter().map(rank).max().unwrap_or(0);
    let mut lines: Vec<String> = Vec::new();
    let mut first = None;
    for error in why.into_iter().filter(|e| rank(e) == best) {
        let line = error.to_string();
        if !lines.contains(&line) {
            lines.push(line);
        }
        first.get_or_insert(error);
    }
    let line = if lines.is_empty() { format!("{domain}: nowhere to connect to") } else { lines.join("; ") };
    match first {
        Some(Error::Tls(_)) => Error::Tls(line),
        Some(Error::Protocol(_)) => Error::Protocol(line),
        Some(Error::Login(_)) => Error::Login(line),
        _ => Error::Unreachable(line),
    }
}

/// `host`, `host:port` or `[address]:port`, as `<see-other-host/>` has it.
pub(super) fn elsewhere(text: &str) -> Option<(String, Option<u16>)> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        let port = rest.strip_prefix(':').map(|p| p.parse().ok());
        return match port {
            None => Some((host.to_owned(), None)),
            Some(port) => Some((host.to_owned(), Some(port?))),
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    Domain::parse(host).ok().map(|host| (host.as_str().to_owned(), port))
}

fn client_tls(options: &Options, alpn: Option<&str>) -> Result<ClientTls, Error> {
    let identity = match &options.identity {
        None => None,
        Some((certificate, key)) => Some(identity(certificate, key, options.jid.domain())?),
    };
    ClientTls::new(options.trust.clone(), alpn, identity.as_ref(), &Clock::system())
        .map_err(|e| Error::Invalid(e.to_string()))
}

fn identity(certificate: &Path, key: &Path, domain: &str) -> Result<cert::Identity, Error> {
    // Its warnings are for servers.
    let (identity, _) =
        cert::from_files(certificate, key, domain).map_err(|e| Error::Invalid(e.to_string()))?;
    Ok(identity)
}

struct Attempt<'a> {
    options: &'a Options,
    goal: &'a Goal,
    domain: &'a Domain,
    target: &'a Try,
    config: &'a ClientTls,
    deadline: Instant,
    /// Whether a stream header was heard.
    spoke: &'a Cell<bool>,
}

impl Attempt<'_> {
    /// One connection, from the first byte to the goal.
    async fn make(&self, policy: Policy) -> Result<Arrived, Miss> {
        let addresses = dial::addresses(&self.target.host).await?;
        let mut wire = Wire::new(dial::connect(self.target, &addresses, self.deadline).await?);
        let security = if policy == Policy::Direct {
            self.secure(&mut wire).await?;
            stream::Security::Tls { bindings: wire.bindings(), certificate: None }
        } else {
            stream::Security::Plain { starttls: false, required: false }
        };
        let account = stream::Account {
            jid: self.options.jid.clone(),
            resource: self.options.resource.as_deref().map(Box::from),
            password: self.options.password.clone(),
            register: *self.goal == Goal::Register,
            tls: policy,
            allow_plain: true,
            lang: None,
        };
        let mut half = Initiating::new(account, security, crate::net::random());
        if let Goal::Resume(previd, h) = self.goal {
            half = half.resuming(previd.clone(), *h);
        }
        half.start(&mut wire.out);
        let mut reader = self.reader();
        let mut encrypted = policy == Policy::Direct;
        loop {
            match self.need(&mut wire, &mut reader, &mut half, encrypted).await? {
                Need::StartTls => {
                    // What came behind <proceed/> came in the clear (threats B1).
                    if !reader.is_empty() {
                        let line = "the server, or somebody in between, sends data into the beginning of TLS";
                        return Err(Miss::Final(Error::Tls(line.to_owned())));
                    }
                    wire.out.clear();
                    self.secure(&mut wire).await?;
                    encrypted = true;
                    reader = self.reader();
                    half.secured(wire.bindings());
                    half.start(&mut wire.out);
                }
                Need::Derive { .. } => return Err(Miss::Final(Error::Protocol("out of turn".to_owned()))),
                Need::Register { invitations } => {
                    let me = Me {
                        jid: self.domain.to_string(),
                        bare: self.domain.to_string(),
                        domain: self.domain.to_string(),
                    };
                    let scope = half.established().scope;
                    let session = Session::new(me, wire, reader, scope, self.options);
                    return Ok(Arrived { session, invitations, h: 0 });
                }
                Need::Resumed { h } => {
                    wire.remember().map_err(Miss::Final)?;
                    let jid = &self.options.jid;
                    let me =
                        Me { jid: jid.to_string(), bare: jid.to_string(), domain: jid.domain().to_owned() };
                    let scope = half.established().scope;
                    let session = Session::new(me, wire, reader, scope, self.options);
                    return Ok(Arrived { session, invitations: false, h });
                }
                Need::Ready { jid, features } => {
                    wire.remember().map_err(Miss::Final)?;
                    let me = Me {
                        jid: jid.as_str().to_owned(),
                        bare: jid.bare().to_owned(),
                        domain: jid.domain().to_owned(),
                    };
                    let scope = half.established().scope;
                    let mut session = Session::new(me, wire, reader, scope, self.options);
                    if self.options.resume
                        && features.iter().any(|(ns, name)| (&**ns, &**name) == (ns::SM, "sm"))
                    {
                        session.manage();
                    }
                    // What the server sent along with the last answer.
                    session.hear(0);
                    return Ok(Arrived { session, invitations: false, h: 0 });
                }
                Need::Closed => {
                    return Err(Miss::Next(Error::Lost(format!(
                        "{}: the server closed the stream before the login",
                        self.place()
                    ))));
                }
            }
        }
    }

    /// Drives the stream until it needs something that is not done here.
    async fn need(
        &self,
        wire: &mut Wire,
        reader: &mut Reader,
        half: &mut Initiating,
        encrypted: bool,
    ) -> Result<Need, Miss> {
        let mut buffer = vec![0u8; 8192];
        let mut scan = Scan::new();
        let mut n = 0usize;
        loop {
            let mut need = None;
            let bytes = buffer.get(..n).unwrap_or_default();
            let mut restart = false;
            let fed = reader.feed(bytes, |kind, frame| {
                need = half.frame(kind, frame, &mut scan, &mut wire.out)?;
                restart = half.restarts();
                self.spoke.set(self.spoke.get() || kind == Kind::Header);
                Ok::<_, Failure>(if need.is_some() || restart { Flow::Stop } else { Flow::Go })
            });
            if let Err(failure) = fed {
                half.fail(&failure, &mut wire.out);
                let _ = wire.flush().await;
                return Err(self.miss(failure, encrypted));
            }
            if restart {
                reader.restart();
            }
            while let Some(Need::Derive { password, salt, iterations, sha }) = need {
                // Nobody else waits in this process.
                let salted = sasl::derive(&password, &salt, iterations, sha);
                need = half.derived(&salted, &mut wire.out).map_err(|f| self.miss(f, encrypted))?;
            }
            wire.flush().await?;
            if let Some(need) = need {
                return Ok(need);
            }
            if restart && !reader.is_empty() {
                n = 0;
                continue;
            }
            n = wire.read(&mut buffer).await?;
            if n == 0 {
                let line = format!("{}: the server cut the connection before the login", self.place());
                return Err(Miss::Next(Error::Lost(line)));
            }
        }
    }

    fn reader(&self) -> Reader {
        Reader::new(MAX_BYTES, Caps::passed_on().depth)
    }

    async fn secure(&self, wire: &mut Wire) -> Result<(), Miss> {
        let secured = wire.secure(self.config, self.options.jid.domain(), self.deadline).await;
        secured.map_err(|e| {
            let line = format!("{}: {e}", self.place());
            match e {
                // Somebody who shows a certificate is the one we look for, or an impostor.
                tls::Error::Refused(_) | tls::Error::BadName(_) | tls::Error::File { .. } => {
                    Miss::Final(Error::Tls(line))
                }
                tls::Error::Io(_) => Miss::Next(Error::Unreachable(line)),
                _ => Miss::Next(Error::Tls(line)),
            }
        })
    }

    fn place(&self) -> String {
        format!("{}:{}", self.target.host, self.target.port)
    }

    fn miss(&self, failure: Failure, encrypted: bool) -> Miss {
        let line = failure.to_string();
        match failure {
            Failure::StarttlsNotOffered => Miss::NoTls,
            Failure::StarttlsRefused | Failure::TlsDemanded => Miss::Final(Error::Tls(line)),
            Failure::Stream(error) if error.condition == Condition::SeeOtherHost => {
                let host = error.host.as_deref().unwrap_or("").to_owned();
                let line = format!("{line}; the server names {host:?}, to which we do not follow it");
                // Only one that has proven to be the domain's may send us on (threats H3).
                if encrypted && !matches!(self.options.trust, Trust::Insecure) {
                    Miss::Elsewhere(host, Error::Protocol(line))
                } else {
                    Miss::Final(Error::Protocol(line))
                }
            }
            // Knocking with the wrong protocol brings one of these.
            Failure::Stream(_) | Failure::Broken(_) | Failure::Protocol(_) => {
                Miss::Next(Error::Protocol(format!("{}: {line}", self.place())))
            }
            Failure::Bind(_) | Failure::NotResumed => Miss::Final(Error::Protocol(line)),
            Failure::RegistrationNotOffered => Miss::Final(Error::Stanza(super::StanzaError {
                from: Some(self.domain.to_string()),
                kind: "cancel".to_owned(),
                condition: "not-allowed".to_owned(),
                text: Some(line),
            })),
            _ => Miss::Final(Error::Login(line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_server_sends_us() {
        assert_eq!(elsewhere("h.example"), Some(("h.example".into(), None)));
        assert_eq!(elsewhere(" H.example:9 "), Some(("h.example".into(), Some(9))));
        assert_eq!(elsewhere("[2001:db8::1]:9"), Some(("2001:db8::1".into(), Some(9))));
        assert_eq!(elsewhere("[::1]"), Some(("::1".into(), None)));
        for bad in ["", "a b", "h:99999", "h:", "[x]:1", "h@i", "[::1"] {
            assert_eq!(elsewhere(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_failure_that_says_most() {
        let why = vec![Error::Unreachable("a".into()), Error::Tls("b".into()), Error::Lost("c".into())];
        assert_eq!(worst(why, "d"), Error::Tls("b".into()));
        let why = vec![
            Error::Unreachable("a".into()),
            Error::Unreachable("a".into()),
            Error::Unreachable("e".into()),
        ];
        assert_eq!(worst(why, "d"), Error::Unreachable("a; e".into()));
        assert_eq!(worst(vec![], "d"), Error::Unreachable("d: nowhere to connect to".into()));
    }
}
