//! The options that every command of the client takes, and the session that comes of them.

use super::config::{Config, directory, private};
use super::exit::{Exit, Failure};
use super::seconds::Seconds;
use super::terminal::{self, complain};
use crate::jid::Jid;
use crate::net::cert::parse_pin;
use crate::net::client::wait::{Backoff, Cut, Signals, block_on, sleep};
use crate::net::client::{Direction, Error, Options, Security, Session};
use crate::net::tls::Trust;
use crate::stream::Secret;
use argh::{ArgsInfo, FromArgs};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

/// Options of every command of the client.
#[derive(FromArgs, ArgsInfo, Default)]
pub struct Account {
    /// the account: user@domain, or user@domain/resource
    #[argh(option, short = 'u', arg_name = "jid")]
    pub user: Option<String>,

    /// the password; others on this machine can see it, better use a file
    #[argh(option, short = 'P', arg_name = "text")]
    pub password: Option<String>,

    /// file with the password in its first line; "-" is standard input
    #[argh(option, arg_name = "file")]
    pub password_file: Option<String>,

    /// configuration file instead of ~/.config/stonechat/client.conf
    #[argh(option, short = 'f', arg_name = "file")]
    pub config: Option<String>,

    /// where to connect to, whatever the DNS says
    #[argh(option, short = 'h', arg_name = "host")]
    pub host: Option<String>,

    /// port instead of 5223 (direct TLS) or 5222 (STARTTLS)
    #[argh(option, short = 'p', arg_name = "port")]
    pub port: Option<u16>,

    /// the resource to ask for
    #[argh(option, short = 'r', arg_name = "name")]
    pub resource: Option<String>,

    /// PEM file with authorities, or the server's own certificate, to believe besides the public ones
    #[argh(option, arg_name = "file")]
    pub cafile: Option<String>,

    /// PEM file with a client certificate, to log in with it (EXTERNAL)
    #[argh(option, arg_name = "file")]
    pub cert: Option<String>,

    /// PEM file with the key of --cert
    #[argh(option, arg_name = "file")]
    pub key: Option<String>,

    /// believe the server with this key and no other (repeatable): sha256:…
    #[argh(option, arg_name = "sha256:...")]
    pub pin: Vec<String>,

    /// believe the key seen first, and remember it
    #[argh(switch)]
    pub tofu: bool,

    /// believe any certificate: whoever is in between reads and writes along
    #[argh(switch)]
    pub insecure: bool,

    /// direct TLS only
    #[argh(switch)]
    pub direct_tls: bool,

    /// STARTTLS only
    #[argh(switch)]
    pub starttls: bool,

    /// go on without TLS where the server has none; SCRAM only
    #[argh(switch)]
    pub plaintext: bool,

    /// do not ask the DNS for SRV records
    #[argh(switch)]
    pub no_srv: bool,

    /// how long to wait for the login and for each answer, in seconds (30)
    #[argh(option, arg_name = "seconds")]
    pub timeout: Option<Seconds>,

    /// end after so many seconds, with exit code 2
    #[argh(option, short = 'W', arg_name = "seconds")]
    pub within: Option<Seconds>,

    /// without a connection try again after so many seconds, then after ever longer pauses
    #[argh(option, arg_name = "seconds")]
    pub retry_connect: Option<Seconds>,

    /// the longest of those pauses, in seconds (300)
    #[argh(option, arg_name = "seconds")]
    pub retry_connect_max: Option<Seconds>,

    /// ask the server whether it is there after so many silent seconds (60); 0 is never
    #[argh(option, short = 'k', arg_name = "seconds")]
    pub keepalive: Option<Seconds>,

    /// show every stanza on standard error, without passwords
    #[argh(switch, short = 'd')]
    pub debug: bool,

    /// no warnings
    #[argh(switch)]
    pub quiet: bool,

    /// print JSON, one object per line
    #[argh(switch, short = 'j')]
    pub json: bool,
}

/// The help on these options, to stand below that of a command.
pub fn help() -> String {
    let Err(early) = Account::from_args(&["stonechat"], &["--help"]) else { return String::new() };
    let options = early.output.split_once("Options:\n").map_or("", |(_, options)| options);
    let options: Vec<&str> =
        options.lines().take_while(|l| !l.trim().is_empty() && !l.contains("--help")).collect();
    format!(
        "\n\nOptions of every command of the client:\n{}\n\n\
         The password is looked for in: --password-file, STONECHAT_PASSWORD, --password, the configuration file; then it is asked for.\n\
         The configuration file has these names without the dashes, one per line: \"user me@example.org\".\n\
         Exit codes: 0 done, 2 timed out, 3 offline, 4 login refused, 5 forbidden, 6 cannot connect, 7 TLS refused,\n\
         8 error from the other side, 9 not delivered, 64 usage, 70 fault of ours, 74 input or output, 130/143 signal, 1 other.",
        options.join("\n")
    )
}

/// What the options come to, with the configuration file and the environment read.
pub struct Resolved {
    /// For the session.
    pub options: Options,
    /// Whether to print JSON.
    pub json: bool,
    /// Whether to keep warnings back.
    pub quiet: bool,
    /// When `-W` is over.
    pub deadline: Option<Instant>,
    /// First and longest pause between attempts to connect.
    pub retry: Option<(Duration, Duration)>,
}

impl Account {
    /// Reads configuration and password. `login`: whether a password is needed at all.
    pub fn resolve(self, login: bool) -> Result<Resolved, Failure> {
        let config = Config::find(self.config.as_deref(), self.quiet)?;
        let quiet = self.quiet || config.switch("quiet")?;
        let user = self.user.as_deref().or(config.get("user"));
        let user = user.ok_or_else(|| {
            Failure::usage("whose account? use --user you@example.org, or put \"user you@example.org\" into ~/.config/stonechat/client.conf")
        })?;
        let mut options = Options::anonymous(user)?;
        if login && options.jid.local().is_none() {
            return Err(Failure::usage(format!("{user:?} is no account: user@domain is wanted")));
        }
        if let Some(resource) = self.resource.as_deref().or(config.get("resource")) {
            options.resource = Some(resource.to_owned());
        }
        let host = self.host.as_deref().or(config.get("host"));
        if let Some((host, port)) = host.map(split_host).transpose()? {
            options.host = Some(host);
            options.port = port;
        }
        if let Some(port) = self.port.map_or_else(|| config.number("port"), |p| Ok(Some(p)))? {
            options.port = Some(port);
        }
        options.srv = !(self.no_srv || config.switch("no-srv")?);
        options.security = self.security(&config)?;
        options.trust = self.trust(&config, quiet)?;
        let cert = self.cert.as_deref().or(config.get("cert"));
        let key = self.key.as_deref().or(config.get("key"));
        options.identity = match (cert, key) {
            (None, None) => None,
            (Some(cert), key) => Some((PathBuf::from(cert), PathBuf::from(key.unwrap_or(cert)))),
            (None, Some(_)) => return Err(Failure::usage("--key goes with --cert")),
        };
        let seconds = |name: &str, given: Option<Seconds>| -> Result<Option<Duration>, Failure> {
            Ok(given.map_or_else(|| config.number(name), |n| Ok(Some(n)))?.map(|Seconds(n)| n))
        };
        if let Some(timeout) = seconds("timeout", self.timeout)? {
            options.timeout = timeout;
        }
        if let Some(keepalive) = seconds("keepalive", self.keepalive)? {
            options.keepalive = (!keepalive.is_zero()).then_some(keepalive);
        }
        let retry = seconds("retry-connect", self.retry_connect)?;
        let most = seconds("retry-connect-max", self.retry_connect_max)?.unwrap_or(Duration::from_secs(300));
        let deadline = match self.within {
            Some(Seconds(n)) => Instant::now().checked_add(n),
            None => None,
        };
        if self.debug {
            options.trace = Some(trace);
        }
        if login && options.identity.is_none() {
            options.password = Some(self.find_password(&config, options.jid.as_str(), quiet)?);
        }
        Ok(Resolved {
            options,
            json: self.json || config.switch("json")?,
            quiet,
            deadline,
            retry: retry.map(|first| (first.max(Duration::from_millis(100)), most.max(first))),
        })
    }

    fn security(&self, config: &Config) -> Result<Security, Failure> {
        let given = (self.direct_tls, self.starttls, self.plaintext);
        let chosen = match given {
            (false, false, false) => {
                (config.switch("direct-tls")?, config.switch("starttls")?, config.switch("plaintext")?)
            }
            given => given,
        };
        match chosen {
            (false, false, false) => Ok(Security::Required),
            (true, false, false) => Ok(Security::DirectTls),
            (false, true, false) => Ok(Security::StartTls),
            (false, false, true) => Ok(Security::Plaintext),
            _ => Err(Failure::usage("--direct-tls, --starttls and --plaintext exclude each other")),
        }
    }

    fn trust(&self, config: &Config, quiet: bool) -> Result<Trust, Failure> {
        let here = !self.pin.is_empty() || self.tofu || self.insecure || self.cafile.is_some();
        let (pins, tofu, insecure, cafile): (Vec<&str>, bool, bool, Option<&str>) = if here {
            (self.pin.iter().map(String::as_str).collect(), self.tofu, self.insecure, self.cafile.as_deref())
        } else {
            (
                config.all("pin").collect(),
                config.switch("tofu")?,
                config.switch("insecure")?,
                config.get("cafile"),
            )
        };
        if insecure {
            if !quiet {
                complain("warning: --insecure believes any certificate; whoever is in between reads along");
            }
            return Ok(Trust::Insecure);
        }
        if !pins.is_empty() {
            let pins = pins.iter().map(|pin| {
                parse_pin(pin).ok_or_else(|| Failure::usage(format!("{pin:?} is no pin: sha256: and 43 characters of base64, or 64 hexadecimal digits, are wanted")))
            });
            return Ok(Trust::Pins(pins.collect::<Result<_, _>>()?));
        }
        if tofu {
            let file = directory("XDG_STATE_HOME", ".local/state")
                .ok_or_else(|| Failure::usage("--tofu needs HOME, to remember the key there"))?;
            return Ok(Trust::Tofu(file.join("stonechat/known_hubs")));
        }
        Ok(Trust::Roots { cafile: cafile.map(PathBuf::from) })
    }

    fn find_password(&self, config: &Config, jid: &str, quiet: bool) -> Result<Secret, Failure> {
        if let Some(file) = &self.password_file {
            return read_password(file, quiet);
        }
        if let Some(password) = &self.password {
            if !quiet {
                complain(
                    "warning: others on this machine can see a password on the command line; use --password-file",
                );
            }
            return Ok(Secret::new(password.clone()));
        }
        if let Some(password) = std::env::var_os("STONECHAT_PASSWORD") {
            let password =
                password.into_string().map_err(|_| Failure::usage("STONECHAT_PASSWORD is not UTF-8"))?;
            return Ok(Secret::new(password));
        }
        // The file's password is for the file's user: another's server has no business with it.
        let same = config.get("user").is_none_or(|user| {
            Jid::parse(user).is_ok_and(|user| Jid::parse(jid).is_ok_and(|jid| jid.bare() == user.bare()))
        });
        if let (true, Some(file)) = (same, config.get("password-file")) {
            return read_password(file, quiet);
        }
        if let (true, Some(password)) = (same, config.get("password")) {
            return Ok(Secret::new(password));
        }
        prompt(&format!("Password of {}: ", terminal::line(jid)))?.ok_or_else(|| {
            Failure::usage(
                "no password: use --password-file FILE, or STONECHAT_PASSWORD, or run it on a terminal",
            )
        })
    }
}

/// The first line of a file.
pub fn read_password(file: &str, quiet: bool) -> Result<Secret, Failure> {
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(4096).read_to_string(&mut text)
    } else {
        private(Path::new(file), quiet);
        std::fs::File::open(file).and_then(|f| f.take(4096).read_to_string(&mut text))
    };
    let text = Secret::new(read.map(|_| text).map_err(|e| Failure::new(Exit::Io, format!("{file}: {e}")))?);
    match text.expose_str().lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        _ => Err(Failure::usage(format!("{file}: there is no password in the first line"))),
    }
}

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const CTRL_BACKSLASH: u8 = 28;
const DELETE: u8 = 127;

/// Asks on the terminal, without showing what is typed. `None`: there is no terminal.
pub fn prompt(question: &str) -> Result<Option<Secret>, Failure> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let Ok(tty) = std::fs::File::options().read(true).write(true).open("/dev/tty") else { return Ok(None) };
    if !tty.is_terminal() {
        return Ok(None);
    }
    let io = |e: rustix::io::Errno| Failure::io("/dev/tty", &e.into());
    let before = tcgetattr(&tty).map_err(io)?;
    let mut quiet = before.clone();
    // Signals and line editing are ours meanwhile: Ctrl-C must not leave the terminal without an echo.
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG | LocalModes::ICANON);
    tcsetattr(&tty, OptionalActions::Flush, &quiet).map_err(io)?;
    let mut line = Vec::new();
    let read = (&tty).write_all(question.as_bytes()).and_then(|()| {
        let mut byte = [0u8; 1];
        loop {
            let n = (&tty).read(&mut byte)?;
            match (n, byte) {
                (0, _) | (_, [b'\n' | b'\r' | CTRL_D]) => break Ok(()),
                (_, [CTRL_C | CTRL_BACKSLASH]) => break Err(std::io::ErrorKind::Interrupted.into()),
                (_, [CTRL_U]) => line.clear(),
                (_, [BACKSPACE | DELETE]) => {
                    // A character may have several bytes; all but the first are continuations.
                    while line.pop().is_some_and(|last: u8| last & 0xc0 == 0x80) {}
                }
                _ if line.len() < 1024 => line.extend_from_slice(&byte),
                _ => {}
            }
        }
    });
    let _ = tcsetattr(&tty, OptionalActions::Flush, &before);
    let _ = (&tty).write_all(b"\n");
    match read {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
            return Err(Failure::silent(Exit::Interrupted));
        }
        Err(e) => return Err(Failure::io("/dev/tty", &e)),
    }
    let text = String::from_utf8(line).map_err(|_| Failure::usage("what was typed is not UTF-8"))?;
    Ok(Some(Secret::new(text)))
}

fn trace(direction: Direction, xml: &str) {
    complain(&match direction {
        Direction::Sent => format!("> {xml}"),
        Direction::Received => format!("< {xml}"),
    });
}

/// `host`, `host:port`, `[address]:port`, or an IPv6 address.
fn split_host(text: &str) -> Result<(String, Option<u16>), Failure> {
    let bad = || Failure::usage(format!("{text:?} is no host"));
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
        (host, rest.strip_prefix(':'))
    } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
        (text, None)
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() {
        return Err(bad());
    }
    let port = port.map(|p| p.parse::<u16>().map_err(|_| bad())).transpose()?;
    Ok((host.to_owned(), port))
}

/// A step of a command, whichever.
type Step<'s, R> = Pin<Box<dyn Future<Output = R> + 's>>;

/// How a command gets its session.
trait Connect {
    fn connect<'s>(&'s self, options: &'s Options) -> Step<'s, Result<Session, Error>>;
}

impl<C: AsyncFn(&Options) -> Result<Session, Error>> Connect for C {
    fn connect<'s>(&'s self, options: &'s Options) -> Step<'s, Result<Session, Error>> {
        Box::pin(async move { self(options).await })
    }
}

/// What a command does with its session.
trait Work {
    fn work<'s>(&'s mut self, session: &'s mut Session) -> Step<'s, Result<Exit, Failure>>;
}

impl<W: AsyncFnMut(&mut Session) -> Result<Exit, Failure>> Work for W {
    fn work<'s>(&'s mut self, session: &'s mut Session) -> Step<'s, Result<Exit, Failure>> {
        Box::pin(async move { self(session).await })
    }
}

impl Resolved {
    /// Logs in, does the work, and takes leave of the server in every case. Signals and `-W` cut
    /// the work short; a lost connection is made again if `--retry-connect` says so.
    pub fn run(
        self,
        mut work: impl AsyncFnMut(&mut Session) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.go(&async |options: &Options| Session::connect(options).await, &mut work)
    }

    /// As [`Resolved::run`], with a way of its own to get a session.
    pub fn run_with(
        self,
        connect: impl AsyncFn(&Options) -> Result<Session, Error>,
        mut work: impl AsyncFnMut(&mut Session) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.go(&connect, &mut work)
    }

    /// It is there once, not once for each command.
    fn go(self, connect: &dyn Connect, work: &mut dyn Work) -> Result<Exit, Failure> {
        block_on(async {
            let mut signals =
                Signals::new().map_err(|e| Failure::new(Exit::Internal, format!("signals: {e}")))?;
            let mut slot: Option<Session> = None;
            let main = async {
                let mut backoff = self.retry.map(|(first, most)| Backoff::new(first, most));
                loop {
                    let ended = match connect.connect(&self.options).await {
                        Ok(session) => {
                            if let Some(backoff) = &mut backoff {
                                backoff.reset();
                            }
                            work.work(slot.insert(session)).await
                        }
                        Err(error) => Err(error.into()),
                    };
                    match (ended, &mut backoff) {
                        (Err(failure), Some(backoff)) if failure.exit == Exit::Unreachable => {
                            slot = None;
                            let pause = backoff.pause();
                            if !self.quiet {
                                complain(&format!("{}; next attempt in {pause:.1?}", failure.line));
                            }
                            sleep(pause).await;
                        }
                        (ended, _) => break ended,
                    }
                }
            };
            let ended = match signals.or(self.deadline, main).await {
                Ok(ended) => ended,
                Err(Cut::Deadline) => Err(Failure::new(Exit::TimedOut, "the time given by -W is over")),
                Err(Cut::Interrupt) => Err(Failure::silent(Exit::Interrupted)),
                Err(Cut::Terminate) => Err(Failure::silent(Exit::Terminated)),
            };
            if let Some(session) = slot {
                // A second signal ends this, too.
                let _ = signals.or(None, session.close()).await;
            }
            ended
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let host = |text: &str| split_host(text).map_err(|f| f.exit);
        assert_eq!(host("h"), Ok(("h".into(), None)));
        assert_eq!(host("h:5"), Ok(("h".into(), Some(5))));
        assert_eq!(host("::1"), Ok(("::1".into(), None)));
        assert_eq!(host("[::1]:5"), Ok(("::1".into(), Some(5))));
        assert_eq!(host("[::1]"), Ok(("::1".into(), None)));
        for bad in ["", ":5", "h:x", "h:70000", "[::1"] {
            assert_eq!(host(bad), Err(Exit::Usage), "{bad}");
        }
    }

    #[test]
    fn the_help_lists_the_options() {
        let help = help();
        assert!(
            help.contains("--user") && help.contains("-W") && help.contains("--retry-connect-max"),
            "{help}"
        );
        assert!(!help.contains("--help"), "{help}");
    }
}
