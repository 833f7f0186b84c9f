//! Stream headers (RFC 6120 §4.7): reading, judging, writing.

use super::error::{Condition, Error};
use crate::xml::{Caps, Ns, Scan, Scope, Writer, ns, unescape};

/// A header as it came, judged as far as both halves judge alike.
#[derive(Debug)]
pub(super) struct Header {
    /// §4.7.2
    pub to: Option<Box<str>>,
    /// §4.7.1
    pub from: Option<Box<str>>,
    /// §4.7.3
    pub id: Option<Box<str>>,
    /// §4.7.4
    pub lang: Option<Box<str>>,
    /// What it declares for all that follows.
    pub scope: Scope,
}

impl Header {
    /// Reads and judges a header: the namespaces (§4.8) and the version (§4.7.5).
    pub fn read(bytes: &[u8], scan: &mut Scan, content: &str) -> Result<Header, Error> {
        let (header, version) = Header::without_version(bytes, scan, content)?;
        if !version.is_some_and(|v| is_supported(&v)) {
            return Err(Condition::UnsupportedVersion.into());
        }
        Ok(header)
    }

    /// The same for a protocol that is older than versions (XEP-0114); the version, if it has one.
    pub fn without_version(
        bytes: &[u8],
        scan: &mut Scan,
        content: &str,
    ) -> Result<(Header, Option<Box<str>>), Error> {
        let text = scan.header(bytes, &Caps::default())?;
        // §4.8.1: `stream`, qualified by the one stream namespace, …
        let stream = matches!(scan.ns, Ns::Literal(uri) if uri.of(text) == ns::STREAM);
        match (scan.name.of(text), stream) {
            ("stream", true) => {}
            ("stream", false) => return Err(Condition::InvalidNamespace.into()),
            _ => return Err(Condition::BadFormat.into()),
        }
        // … §4.8.5: with the prefix that all the world uses; the footer is known by it, too.
        if scan.prefix.of(text) != "stream" {
            return Err(Condition::BadNamespacePrefix.into());
        }
        // §4.8.2: the content namespace is the default namespace.
        let mut scope = Scope::of_header(text, scan);
        // Stanzas without a language go out with this one: an attribute value of 8,000 bytes that
        // are all written as references would be too much for some who read them.
        scope.lang = scope.lang.take().filter(|tag| is_language(tag));
        if *scope.default != *content {
            return Err(Condition::InvalidNamespace.into());
        }
        let attr = |name| scan.attr(text, name).map(|raw| unescape(raw).into());
        let (to, from, id, version) = (attr("to"), attr("from"), attr("id"), attr("version"));
        Ok((Header { to, from, id, lang: scope.lang.clone(), scope }, version))
    }
}

/// §4.7.5: two numbers; 1.0 and all that comes after it can be spoken to as 1.0. A header without
/// a version is from before XMPP, when a stream had no features: nobody here speaks that.
fn is_supported(version: &str) -> bool {
    let number = |text: &str| {
        let digits = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.bytes().any(|b| b != b'0'))
    };
    let Some((major, minor)) = version.split_once('.') else { return false };
    matches!((number(major), number(minor)), (Some(true), Some(_)))
}

/// A header to be written.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    /// §4.7.3: only the receiving entity gives one.
    pub id: Option<&'a str>,
    pub lang: &'a str,
}

impl Outgoing<'_> {
    /// Writes it, for a client stream.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.xml_declaration();
        w.start("stream:stream").ns(ns::CLIENT).attr("xmlns:stream", ns::STREAM);
        self.rest(w);
    }

    /// Writes it, for a server stream. The prefix for dialback says that we know it (XEP-0220 §2.4.1).
    pub fn write_server(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.xml_declaration();
        w.start("stream:stream").ns(ns::SERVER).attr("xmlns:stream", ns::STREAM);
        w.attr("xmlns:db", ns::DIALBACK);
        self.rest(w);
    }

    fn rest(&self, mut w: Writer<'_>) {
        w.opt("id", self.id).opt("from", self.from).opt("to", self.to);
        w.attr("version", "1.0").attr("xml:lang", self.lang);
        w.open_tag();
    }
}

/// The footer (§4.4).
pub(super) const FOOTER: &[u8] = b"</stream:stream>";

/// §4.7.4: the language that both sides speak of. What is no language tag is not echoed.
pub(super) fn language(asked: Option<&str>) -> &str {
    asked.filter(|tag| is_language(tag)).unwrap_or("en")
}

/// RFC 5646 §2.1, as far as its letters go.
fn is_language(tag: &str) -> bool {
    (1..=35).contains(&tag.len())
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && tag.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rfc6120_s4_7_5_versions() {
        for good in ["1.0", "1.1", "01.0", "2.0", "1.00", "10.3"] {
            assert!(is_supported(good), "{good}");
        }
        for bad in
            ["", "1", "0.9", "00.1", "1.", ".0", "1.0.0", "one.0", "-1.0", "+1.0", " 1.0", "1.0000000000"]
        {
            assert!(!is_supported(bad), "{bad}");
        }
    }

    #[test]
    fn rfc6120_s4_7_4_languages() {
        assert_eq!(language(Some("de-AT")), "de-AT");
        assert_eq!(language(Some("x' y='")), "en");
        assert_eq!(language(Some("")), "en");
        assert_eq!(language(None), "en");
    }

    #[test]
    fn a6_what_is_no_language_is_not_given_to_stanzas() {
        let lang = |tag: &str| {
            let header = format!(
                "<stream:stream version='1.0' xmlns='jabber:client' xmlns:stream='{}' xml:lang='{tag}'>",
                ns::STREAM
            );
            Header::read(header.as_bytes(), &mut Scan::new(), ns::CLIENT).unwrap().scope.lang
        };
        assert_eq!(lang("de-AT").as_deref(), Some("de-AT"));
        assert_eq!(lang(&">".repeat(8000)), None);
        assert_eq!(lang("&apos;"), None);
    }
}
