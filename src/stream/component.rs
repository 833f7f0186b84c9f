//! The receiving half of a component's stream (XEP-0114): an external gateway proves that it knows the
//! secret of its domain, and may then speak for every address there.
//!
//! ```text
//! Opening ──header──► Asked ──secret()──► Open ──handshake──► Attached
//! ```
//!
//! The protocol is older than RFC 6120: no version, no features, no resources (§3).

use super::element::Element;
use super::error::{Condition, Error};
use super::header::{FOOTER, Header};
use super::identity::Attached;
use super::sasl::Dice;
use super::secret::{Secret, Verifier};
use crate::jid::domainpart;
use crate::xml::{Caps, Kind, Scan, Scope, Writer, ns};
use std::rc::Rc;

/// See the module.
pub struct Component {
    dice: Dice,
    state: State,
    scope: Rc<Scope>,
    answered: bool,
}

enum State {
    /// A header.
    Opening,
    /// `secret()`
    Asked(Box<str>),
    /// `<handshake/>`, which must be this.
    Open(Box<str>, Verifier),
    /// Nothing: `established()`.
    Attached,
    /// Nothing.
    Closed,
}

/// What the stream asks of the world.
#[derive(Debug)]
pub enum ComponentAsk {
    /// The secret of a domain, if it is a component's. Then `secret()`.
    Secret {
        /// In normal form.
        domain: Box<str>,
    },
    /// The component has proven itself, and hears so; its stanzas come next.
    Attached(Attached),
    /// The footers are exchanged: send what is written, and close.
    Closed,
}

impl Component {
    /// A stream that waits for its header. The seed is fresh random bytes.
    pub fn new(seed: [u8; 32]) -> Component {
        Component { dice: Dice::new(&seed), state: State::Opening, scope: Rc::default(), answered: false }
    }

    /// What its header declared.
    pub fn scope(&self) -> Rc<Scope> {
        self.scope.clone()
    }

    /// Takes one frame. On an error: [`Component::fail`], flush, close.
    pub fn frame(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        scan: &mut Scan,
        out: &mut Vec<u8>,
    ) -> Result<Option<ComponentAsk>, Error> {
        if kind == Kind::Keepalive {
            return Ok(None);
        }
        match (kind, std::mem::replace(&mut self.state, State::Closed)) {
            // §3: step 1
            (Kind::Header, State::Opening) => {
                let (header, _) = Header::without_version(bytes, scan, ns::COMPONENT)?;
                let to = header.to.as_deref().ok_or(Condition::HostUnknown)?;
                let domain: Box<str> = domainpart(to).map_err(|_| Condition::HostUnknown)?.into();
                self.scope = Rc::new(header.scope);
                self.state = State::Asked(domain.clone());
                Ok(Some(ComponentAsk::Secret { domain }))
            }
            // §3: step 3
            (Kind::Element, State::Open(domain, wanted)) => {
                let scope = Rc::clone(&self.scope);
                let text = scan.element(bytes, &scope, &Caps::default())?;
                let element = Element { text, scan, scope: &scope };
                if element.name() != (ns::COMPONENT, "handshake") {
                    return Err(Condition::NotAuthorized.into());
                }
                let said = element.characters().unwrap_or_default().trim().to_ascii_lowercase();
                if !wanted.accepts(said.as_bytes()) {
                    return Err(Error::new(Condition::NotAuthorized).text("that is not the secret"));
                }
                Writer::new(out).start("handshake").end();
                self.state = State::Attached;
                Ok(Some(ComponentAsk::Attached(Attached::new(domain))))
            }
            (Kind::Footer, _) => {
                out.extend_from_slice(FOOTER);
                Ok(Some(ComponentAsk::Closed))
            }
            _ => Err(Condition::InternalServerError.into()),
        }
    }

    /// Answers [`ComponentAsk::Secret`]. §3: a domain that nobody has named is unknown here.
    pub fn secret(&mut self, secret: Option<&Secret>, out: &mut Vec<u8>) -> Result<(), Error> {
        let State::Asked(domain) = std::mem::replace(&mut self.state, State::Closed) else {
            return Err(Condition::InternalServerError.into());
        };
        let secret = secret.ok_or(Condition::HostUnknown)?;
        // §3: step 2
        let id = self.dice.word();
        self.write_header(Some(&domain), Some(&id), out);
        let mut proof = id.into_bytes();
        proof.extend_from_slice(secret.expose());
        let digest: String = super::sasl::sha1(&proof).iter().map(|byte| format!("{byte:02x}")).collect();
        self.state = State::Open(domain, Verifier::new(digest.into_bytes()));
        Ok(())
    }

    fn write_header(&mut self, from: Option<&str>, id: Option<&str>, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.xml_declaration();
        w.start("stream:stream").ns(ns::COMPONENT).attr("xmlns:stream", ns::STREAM);
        w.opt("id", id).opt("from", from);
        w.open_tag();
        self.answered = true;
    }

    /// Ends the stream with an error: our header if it is still due, the error, the footer.
    pub fn fail(&mut self, error: &Error, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.answered, true) {
            self.write_header(None, None, out);
        }
        error.write(out);
        out.extend_from_slice(FOOTER);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn feed(c: &mut Component, kind: Kind, xml: &str) -> (Result<Option<ComponentAsk>, Error>, String) {
        let mut out = Vec::new();
        let result = c.frame(kind, xml.as_bytes(), &mut Scan::new(), &mut out);
        (result, String::from_utf8(out).unwrap())
    }

    fn opened(secret: Option<&str>) -> (Component, Result<(), Error>, String) {
        let mut c = Component::new([7; 32]);
        let header = "<stream:stream xmlns='jabber:component:accept' \
                      xmlns:stream='http://etherx.jabber.org/streams' to='IRC.hub.test'>";
        let asked = feed(&mut c, Kind::Header, header).0.unwrap().unwrap();
        assert!(
            matches!(&asked, ComponentAsk::Secret { domain } if &**domain == "irc.hub.test"),
            "{asked:?}"
        );
        let mut out = Vec::new();
        let answer = c.secret(secret.map(Secret::new).as_ref(), &mut out);
        (c, answer, String::from_utf8(out).unwrap())
    }

    fn id(header: &str) -> String {
        header.split("id='").nth(1).unwrap().split('\'').next().unwrap().into()
    }

    fn handshake(id: &str, secret: &str) -> String {
        let digest = super::super::sasl::sha1(format!("{id}{secret}").as_bytes());
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        format!("<handshake>{hex}</handshake>")
    }

    #[test]
    fn xep0114_s3_who_knows_the_secret_is_let_in() {
        let (mut c, answer, header) = opened(Some("s3cret"));
        answer.unwrap();
        assert!(header.contains("from='irc.hub.test'") && !header.contains("version='1.0' "), "{header}");
        let (asked, out) = feed(&mut c, Kind::Element, &handshake(&id(&header), "s3cret"));
        assert!(matches!(asked, Ok(Some(ComponentAsk::Attached(a))) if a.domain() == "irc.hub.test"));
        assert_eq!(out, "<handshake/>");
    }

    #[test]
    fn xep0114_s3_who_does_not_is_not() {
        let (mut c, _, header) = opened(Some("s3cret"));
        let (asked, _) = feed(&mut c, Kind::Element, &handshake(&id(&header), "secret"));
        assert_eq!(asked.unwrap_err().condition, Condition::NotAuthorized);
        let (mut c, ..) = opened(Some("s3cret"));
        let (asked, _) = feed(&mut c, Kind::Element, "<message to='a@hub.test'/>");
        assert_eq!(asked.unwrap_err().condition, Condition::NotAuthorized);
        let (_, answer, _) = opened(None);
        assert_eq!(answer.unwrap_err().condition, Condition::HostUnknown);
    }

    #[test]
    fn xep0114_s3_another_namespace_is_another_protocol() {
        let mut c = Component::new([7; 32]);
        let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                      to='irc.hub.test'>";
        let error = feed(&mut c, Kind::Header, header).0.unwrap_err();
        assert_eq!(error.condition, Condition::InvalidNamespace);
        let mut out = Vec::new();
        c.fail(&error, &mut out);
        assert!(String::from_utf8(out).unwrap().ends_with("</stream:stream>"));
    }
}
