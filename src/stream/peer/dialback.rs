//! Server Dialback (XEP-0220): its keys (XEP-0185), its two elements, its errors.

use crate::jid::Domain;
use crate::stanza;
use crate::stream::element::Element;
use crate::stream::error::{self, Error};
use crate::stream::sasl::Hash;
use crate::stream::secret::Verifier;
use crate::xml::{Writer, ns};
use std::fmt;
use std::fmt::Write as _;

/// What the keys of all our streams are made with (XEP-0185): one secret, known to nobody else.
#[derive(Clone)]
pub struct Keys {
    /// SHA-256 of the secret, in hexadecimal, as the XEP has it.
    hashed: Box<str>,
}

impl Keys {
    /// From fresh random bytes (threats D3). They need not outlive a restart: no stream does.
    pub fn new(secret: &[u8]) -> Keys {
        Keys { hashed: hex(Hash::Sha256.digest(secret).as_ref()).into() }
    }

    /// The key for a stream that `originating` has opened to `receiving`, who gave it that id. With spaces
    /// between them, of which a domain has none, so that no two triples read the same (threats D2).
    pub fn key(&self, receiving: &Domain, originating: &Domain, id: &str) -> String {
        let message = format!("{receiving} {originating} {id}");
        hex(Hash::Sha256.hmac(self.hashed.as_bytes(), message.as_bytes()).as_ref())
    }

    /// Whether a key is that one, in a time that does not tell how nearly it is.
    pub fn accepts(&self, key: &str, receiving: &Domain, originating: &Domain, id: &str) -> bool {
        Verifier::new(self.key(receiving, originating, id).into_bytes()).accepts(key.as_bytes())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

conditions! {
    /// What a dialback error says (XEP-0220 §2.5), and what we add to it.
    pub enum Condition;
    /// The domain asked for is not served there.
    ItemNotFound "item-not-found",
    /// The authoritative server cannot be connected to.
    RemoteConnectionFailed "remote-connection-failed",
    /// There is no authoritative server, or it does not know the domain.
    RemoteServerNotFound "remote-server-not-found",
    /// The authoritative server does not answer.
    RemoteServerTimeout "remote-server-timeout",
    /// TLS comes first.
    PolicyViolation "policy-violation",
    /// A certificate is wanted.
    NotAuthorized "not-authorized",
    /// The authoritative server says that the key is not one of its own.
    Forbidden "forbidden",
    /// It could not be established who asks.
    NotAcceptable "not-acceptable",
    /// Not of the XEP: there are too many pairs on this stream.
    ResourceConstraint "resource-constraint",
    /// Not of the XEP: anything else.
    UndefinedCondition "undefined-condition",
}

/// Which of the two elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// Between initiating and receiving server, steps 1 and 4.
    Result,
    /// Between receiving and authoritative server, steps 2 and 3.
    Verify,
}

/// What one of them says.
#[derive(Debug)]
pub(super) enum Says {
    /// A key, to be verified.
    Key(Box<str>),
    /// `type='valid'`
    Valid,
    /// `type='invalid'`
    Invalid,
    /// `type='error'`
    Error(Condition, Option<Box<str>>),
    /// Another type: there is none.
    Nonsense,
}

/// One of them, read.
#[derive(Debug)]
pub(super) struct Dialback {
    pub word: Word,
    pub from: Domain,
    pub to: Domain,
    pub id: Option<Box<str>>,
    pub says: Says,
}

/// No key is longer: ours have 64 characters, those of others are of the same kind.
const KEY_MAX: usize = 1024;

impl Dialback {
    /// Reads it, if it is of dialback at all.
    pub fn read(element: &Element<'_>) -> Option<Result<Dialback, Error>> {
        let word = match element.name() {
            (ns::DIALBACK, "result") => Word::Result,
            (ns::DIALBACK, "verify") => Word::Verify,
            _ => return None,
        };
        Some(Dialback::of(word, element))
    }

    fn of(word: Word, element: &Element<'_>) -> Result<Dialback, Error> {
        let domain = |name| {
            let text = element.attr(name).ok_or(error::Condition::ImproperAddressing)?;
            Domain::parse(&text).map_err(|_| Error::from(error::Condition::ImproperAddressing))
        };
        let says = match element.attr("type").as_deref() {
            None => {
                let key = element.characters().ok_or(error::Condition::InvalidXml)?;
                let key = key.trim();
                if key.len() > KEY_MAX {
                    return Err(Error::new(error::Condition::PolicyViolation).text("a key of such length"));
                }
                Says::Key(key.into())
            }
            Some("valid") => Says::Valid,
            Some("invalid") => Says::Invalid,
            Some("error") => {
                let (condition, text) = failed(element);
                Says::Error(condition, text)
            }
            Some(_) => Says::Nonsense,
        };
        let id = element.attr("id").map(Box::from);
        Ok(Dialback { word, from: domain("from")?, to: domain("to")?, id, says })
    }
}

/// What stands in `<error/>`.
fn failed(element: &Element<'_>) -> (Condition, Option<Box<str>>) {
    let read = element.tree(|node| {
        // It is of the content namespace, but some write it in that of its parent.
        let error = node.children().find(|n| n.is_element() && n.tag_name().name() == "error")?;
        let mut children = error.children().filter(|n| n.is_element());
        let condition = children.find_map(|n| Condition::named(n.tag_name().name()));
        let text = stanza::child_text(&error, ns::STANZA_ERRORS, "text").map(error::cut).map(Box::from);
        Some((condition.unwrap_or(Condition::UndefinedCondition), text))
    });
    read.flatten().unwrap_or((Condition::UndefinedCondition, None))
}

/// What is said: from whom to whom, and about which stream.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub from: &'a Domain,
    pub to: &'a Domain,
    /// Only `<db:verify/>` has one.
    pub id: Option<&'a str>,
}

impl Pair<'_> {
    fn start(&self, w: &mut Writer<'_>) {
        w.start(if self.id.is_some() { "db:verify" } else { "db:result" });
        w.attr("from", self.from.as_str()).attr("to", self.to.as_str()).opt("id", self.id);
    }

    /// Steps 1 and 2: a key.
    pub fn key(&self, key: &str, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        self.start(&mut w);
        w.text(key);
    }

    /// Steps 3 and 4: what we think of it.
    pub fn valid(&self, valid: bool, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        self.start(&mut w);
        w.attr("type", if valid { "valid" } else { "invalid" });
    }

    /// Steps 3 and 4: why we cannot think of it.
    pub fn error(&self, condition: Condition, text: Option<&str>, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        self.start(&mut w);
        w.attr("type", "error").start("error");
        w.attr("type", if condition == Condition::ResourceConstraint { "wait" } else { "cancel" });
        w.leaf(condition.name(), ns::STANZA_ERRORS);
        if let Some(text) = text {
            w.start("text").ns(ns::STANZA_ERRORS).attr("xml:lang", "en").text(text).end();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    /// The examples of XEP-0185 §3 and XEP-0220 §2.1.1.
    #[test]
    fn xep0185_known_answers() {
        let keys = Keys::new(b"s3cr3tf0rd14lb4ck");
        let (org, com) = (domain("example.org"), domain("xmpp.example.com"));
        let key = "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643";
        assert_eq!(keys.key(&com, &org, "D60000229F"), key);
        assert!(keys.accepts(key, &com, &org, "D60000229F"));
        assert_eq!(
            keys.key(&domain("montague.example"), &domain("capulet.example"), "D60000229F"),
            "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3"
        );
        assert_eq!(
            Keys::new(b"d14lb4ck43v3r").key(
                &domain("capulet.example"),
                &domain("montague.example"),
                "417GAF25"
            ),
            "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d"
        );
    }

    #[test]
    fn d2_wrong_number() {
        let keys = Keys::new(&[7; 32]);
        let key = keys.key(&domain("example.in"), &domain("form.example.org"), "1");
        assert_ne!(key, keys.key(&domain("example.info"), &domain("rm.example.org"), "1"));
        // the other way round, another stream, another secret, parts that move over the border
        for (receiving, originating, id) in [
            ("form.example.org", "example.in", "1"),
            ("example.in", "form.example.org", "2"),
            ("example.in", "form.example.org", ""),
            ("example.in", "form.example.or", "g 1"),
            ("example.i", "nform.example.org", "1"),
        ] {
            assert!(!keys.accepts(&key, &domain(receiving), &domain(originating), id), "{receiving}");
        }
        assert!(!Keys::new(&[8; 32]).accepts(&key, &domain("example.in"), &domain("form.example.org"), "1"));
        for near in ["", key.get(..63).unwrap(), &format!("{key}0"), &key.to_uppercase()] {
            assert!(!keys.accepts(near, &domain("example.in"), &domain("form.example.org"), "1"));
        }
        assert_eq!(format!("{keys:?}"), "Keys(…)");
    }
}
