//! Stream errors (RFC 6120 §4.9): what ends a stream, by name.

use super::management::TooHigh;
use crate::stanza::{self, Node};
use crate::xml::{self, Cap, Writer, ns};
use std::borrow::Cow;
use std::fmt;

conditions! {
    /// The defined conditions (RFC 6120 §4.9.3).
    pub enum Condition;
    /// §4.9.3.1: XML that cannot be processed.
    BadFormat "bad-format",
    /// §4.9.3.2: a prefix where none may be, or another than the usual.
    BadNamespacePrefix "bad-namespace-prefix",
    /// §4.9.3.3: a new stream takes this one's place.
    Conflict "conflict",
    /// §4.9.3.4: nothing came for too long.
    ConnectionTimeout "connection-timeout",
    /// §4.9.3.5: the name was ours, and is no longer.
    HostGone "host-gone",
    /// §4.9.3.6: the name is not ours.
    HostUnknown "host-unknown",
    /// §4.9.3.7: an address is missing or is none.
    ImproperAddressing "improper-addressing",
    /// §4.9.3.8: our fault.
    InternalServerError "internal-server-error",
    /// §4.9.3.9: not the address that was proven.
    InvalidFrom "invalid-from",
    /// §4.9.3.10: the stream's or the content's namespace is not what we speak.
    InvalidNamespace "invalid-namespace",
    /// §4.9.3.11: XML that a schema forbids.
    InvalidXml "invalid-xml",
    /// §4.9.3.12: something that only comes after login, or never on this stream.
    NotAuthorized "not-authorized",
    /// §4.9.3.13: not XML, or not Namespaces in XML.
    NotWellFormed "not-well-formed",
    /// §4.9.3.14: against a rule of this place.
    PolicyViolation "policy-violation",
    /// §4.9.3.15: a server that we need cannot be reached.
    RemoteConnectionFailed "remote-connection-failed",
    /// §4.9.3.16: come again, and negotiate anew.
    Reset "reset",
    /// §4.9.3.17: not enough memory, disk or patience.
    ResourceConstraint "resource-constraint",
    /// §4.9.3.18: comment, processing instruction, DTD or entity.
    RestrictedXml "restricted-xml",
    /// §4.9.3.19: go to another server.
    SeeOtherHost "see-other-host",
    /// §4.9.3.20: the server stops.
    SystemShutdown "system-shutdown",
    /// §4.9.3.21: something else.
    UndefinedCondition "undefined-condition",
    /// §4.9.3.22: not UTF-8.
    UnsupportedEncoding "unsupported-encoding",
    /// §4.9.3.23: a feature that must be negotiated is not known.
    UnsupportedFeature "unsupported-feature",
    /// §4.9.3.24: a first-level element that nobody here knows.
    UnsupportedStanzaType "unsupported-stanza-type",
    /// §4.9.3.25: a version of XMPP that nobody here speaks.
    UnsupportedVersion "unsupported-version",
}

/// A stream error. Whoever sends or gets one closes the stream (§4.9.1.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// The defined condition.
    pub condition: Condition,
    /// One line for a person.
    pub text: Option<Cow<'static, str>>,
    /// An application-specific condition (§4.9.4): namespace and name.
    pub app: Option<(&'static str, &'static str)>,
    /// XEP-0198 §4: more was acknowledged than was sent.
    pub counts: Option<TooHigh>,
    /// Where to go instead, for [`Condition::SeeOtherHost`].
    pub host: Option<Box<str>>,
}

/// XEP-0205 §3: what was sent is over the limit (see XEP-0478).
const STANZA_TOO_BIG: (&str, &str) = (ns::ERRORS, "stanza-too-big");

impl Error {
    /// The condition and nothing else.
    pub const fn new(condition: Condition) -> Error {
        Error { condition, text: None, app: None, counts: None, host: None }
    }

    /// With a line for a person.
    pub fn text(mut self, text: &'static str) -> Error {
        self.text = Some(Cow::Borrowed(text));
        self
    }

    /// With an application-specific condition.
    pub const fn app(mut self, ns: &'static str, name: &'static str) -> Error {
        self.app = Some((ns, name));
        self
    }

    /// Writes `<stream:error/>` (§4.9.2).
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.start("stream:error").start(self.condition.name()).ns(ns::STREAM_ERRORS);
        if let Some(host) = &self.host {
            w.text(host);
        }
        w.end();
        if let Some(text) = &self.text {
            w.start("text").ns(ns::STREAM_ERRORS).attr("xml:lang", "en").text(text).end();
        }
        if let Some((ns, name)) = self.app {
            w.leaf(name, ns);
        }
        if let Some(TooHigh { h, send_count }) = self.counts {
            w.start("handled-count-too-high").ns(ns::SM);
            w.attr("h", &h.to_string()).attr("send-count", &send_count.to_string()).end();
        }
    }

    /// Reads `<stream:error/>`. A condition that is missing or not known is undefined (§4.9.3.21).
    pub fn read(node: &Node<'_, '_>) -> Error {
        let mut error = Error::new(Condition::UndefinedCondition);
        for child in node.children().filter(|n| n.is_element()) {
            let name = child.tag_name().name();
            match stanza::namespace(&child) {
                ns::STREAM_ERRORS if name == "text" => {
                    error.text = child.text().map(|t| Cow::Owned(cut(t).to_owned()));
                }
                ns::STREAM_ERRORS => {
                    error.condition = Condition::named(name).unwrap_or(Condition::UndefinedCondition);
                    if error.condition == Condition::SeeOtherHost {
                        error.host = child.text().map(|t| cut(t.trim()).into());
                    }
                }
                uri if (uri, name) == STANZA_TOO_BIG => error.app = Some(STANZA_TOO_BIG),
                _ => {}
            }
        }
        error
    }
}

impl From<Condition> for Error {
    fn from(condition: Condition) -> Error {
        Error::new(condition)
    }
}

impl From<xml::Error> for Error {
    fn from(error: xml::Error) -> Error {
        match error {
            xml::Error::NotWellFormed => Condition::NotWellFormed.into(),
            xml::Error::RestrictedXml => Condition::RestrictedXml.into(),
            xml::Error::UnsupportedEncoding => Condition::UnsupportedEncoding.into(),
            xml::Error::BadNamespacePrefix => Condition::BadNamespacePrefix.into(),
            xml::Error::TooBig(cap) => {
                let error = Error::new(Condition::PolicyViolation);
                match cap {
                    Cap::Bytes => error.app(STANZA_TOO_BIG.0, STANZA_TOO_BIG.1),
                    Cap::Depth => error.text("elements are nested too deep"),
                    Cap::Attributes => error.text("too many attributes on one element"),
                    Cap::Declarations => error.text("too many namespace declarations"),
                    Cap::Elements => error.text("too many elements in one stanza"),
                }
            }
        }
    }
}

/// What another has said, for a log or a terminal: what is no plain character is escaped. (Quotes are plain.)
pub(super) struct Plain<'a>(pub &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\'' | '"' => write!(f, "{c}"),
            c => write!(f, "{}", c.escape_debug()),
        })
    }
}

/// As much of what the other side has to say about an error as anybody wants to read: it goes into logs and lists
/// (threats J2, J7).
pub(super) fn cut(text: &str) -> &str {
    text.char_indices().nth(MAX_TEXT).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// In characters.
const MAX_TEXT: usize = 300;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition.name())?;
        if let Some(host) = &self.host {
            write!(f, " {}", host.escape_debug())?;
        }
        match (&self.text, self.app) {
            (Some(text), _) => write!(f, " ({})", Plain(text)),
            (None, Some((_, name))) => write!(f, " ({name})"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::Tree;

    #[test]
    fn rfc6120_s4_9_3_every_condition_is_written_and_read() {
        assert_eq!(Condition::ALL.len(), 25);
        for &condition in Condition::ALL {
            let mut error = Error::new(condition).text("a < b");
            if condition == Condition::SeeOtherHost {
                error.host = Some("[2001:41d0::1]:9222".into());
            }
            let mut out = b"<r xmlns:stream='http://etherx.jabber.org/streams'>".to_vec();
            error.write(&mut out);
            out.extend_from_slice(b"</r>");
            let text = String::from_utf8(out).unwrap();
            let tree = Tree::parse(&text).unwrap();
            assert_eq!(Error::read(&tree.root_element().first_child().unwrap()), error, "{text}");
        }
    }

    #[test]
    fn too_many_bytes_is_named_as_xep_0205_says() {
        let mut out = Vec::new();
        Error::from(xml::Error::TooBig(Cap::Bytes)).write(&mut out);
        assert_eq!(
            std::str::from_utf8(&out),
            Ok("<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                <stanza-too-big xmlns='urn:xmpp:errors'/></stream:error>")
        );
    }
}
