//! Exit codes, which scripts rely on, and the one line that goes with each failure.

use crate::net::client::Error;
use std::fmt;

/// How the program ends. The numbers are documented and stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Anything that has no number of its own.
    Other = 1,
    /// The time given by `-W`, or for an answer, is over.
    TimedOut = 2,
    /// The contact is offline, or nothing matched.
    Offline = 3,
    /// The server refused the login.
    Login = 4,
    /// Logged in, but not allowed to do that.
    Forbidden = 5,
    /// The name was not found, or nothing answered there, or the connection was lost.
    Unreachable = 6,
    /// TLS is missing, or the certificate was refused.
    Tls = 7,
    /// The other side answered with a stanza error.
    Stanza = 8,
    /// Nobody confirmed that the message arrived.
    Undelivered = 9,
    /// The command line or the configuration is wrong (`EX_USAGE`).
    Usage = 64,
    /// A fault of ours (`EX_SOFTWARE`).
    Internal = 70,
    /// Reading or writing a file, or standard output, failed (`EX_IOERR`).
    Io = 74,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command ended early, and what is said about it. An empty line says nothing: a closed
/// pipe is an end like any other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One line for a person.
    pub line: String,
}

impl Failure {
    /// A failure with its line.
    pub fn new(exit: Exit, line: impl Into<String>) -> Failure {
        Failure { exit, line: line.into() }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(line: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, line)
    }

    /// An end without a word.
    pub fn silent(exit: Exit) -> Failure {
        Failure { exit, line: String::new() }
    }

    /// A file or standard stream could not be read or written.
    pub fn io(what: &str, error: &std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::silent(Exit::Ok);
        }
        Failure::new(Exit::Io, format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = match &error {
            Error::Unreachable(_) | Error::Lost(_) => Exit::Unreachable,
            Error::Tls(_) => Exit::Tls,
            Error::Login(_) => Exit::Login,
            Error::Stanza(e) if e.is_refusal() => Exit::Forbidden,
            Error::Stanza(_) => Exit::Stanza,
            Error::TimedOut(_) => Exit::TimedOut,
            Error::Invalid(_) => Exit::Usage,
            Error::Protocol(_) => Exit::Other,
        };
        Failure::new(exit, error.to_string())
    }
}
