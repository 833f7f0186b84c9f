//! What can go wrong for a client, and whose fault it is.

use crate::stanza::{self, Node};
use crate::xml::ns;
use std::fmt;

/// Why something did not work. The line that each displays is meant for a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The name was not found, or nothing answered there.
    Unreachable(String),
    /// TLS is missing, or the certificate was refused; says the exact cause and what to type.
    Tls(String),
    /// The server refused the login, or we refused the server's.
    Login(String),
    /// The connection ended before its time.
    Lost(String),
    /// The other side answered with a stanza error.
    Stanza(StanzaError),
    /// No answer came in time.
    TimedOut(String),
    /// The caller asked for something that cannot be: an address or XML that is none.
    Invalid(String),
    /// The server does not keep to XMPP.
    Protocol(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable(line)
            | Error::Tls(line)
            | Error::Login(line)
            | Error::Lost(line)
            | Error::TimedOut(line)
            | Error::Invalid(line)
            | Error::Protocol(line) => f.write_str(line),
            Error::Stanza(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// A stanza error as it came (RFC 6120 §8.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StanzaError {
    /// Who says so: the `from` of the stanza.
    pub from: Option<String>,
    /// `auth`, `cancel`, `continue`, `modify` or `wait`.
    pub kind: String,
    /// The defined condition, such as `item-not-found`.
    pub condition: String,
    /// What the other side has to say about it.
    pub text: Option<String>,
}

impl StanzaError {
    /// Reads the `<error/>` child of a stanza.
    pub fn of(stanza: &Node<'_, '_>) -> StanzaError {
        let mut error = StanzaError {
            from: stanza::attr(stanza, "from").map(str::to_owned),
            condition: "undefined-condition".to_owned(),
            ..StanzaError::default()
        };
        let Some(node) = stanza::child(stanza, "", "error") else { return error };
        error.kind = stanza::attr(&node, "type").unwrap_or("cancel").to_owned();
        for child in node.children().filter(|c| c.is_element() && stanza::namespace(c) == ns::STANZA_ERRORS) {
            match child.tag_name().name() {
                "text" => error.text = child.text().map(str::to_owned),
                condition => error.condition = condition.to_owned(),
            }
        }
        error
    }

    /// Whether it says that we are not allowed to, rather than that it cannot be done.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.condition.as_str(),
            "forbidden"
                | "not-authorized"
                | "not-allowed"
                | "registration-required"
                | "subscription-required"
        )
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(from) = &self.from {
            write!(f, "{from} says ")?;
        }
        f.write_str(&self.condition)?;
        match &self.text {
            Some(text) if !text.is_empty() => write!(f, ": {text}"),
            _ => Ok(()),
        }
    }
}
