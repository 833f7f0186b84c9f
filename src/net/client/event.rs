//! What a client hears, read out of the XML once.

use super::error::StanzaError;
use crate::jid::Jid;
use crate::stanza::{self, Node, Tree};
use crate::xml::ns;

/// Something that happened on the stream.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message.
    Message(Box<Message>),
    /// A presence.
    Presence(Box<Presence>),
    /// A request that was put to us. Those that the client does not answer by itself have been
    /// answered with `<service-unavailable/>` already.
    Iq(Element),
    /// A change of the roster, from our own account (RFC 6121 §2.1.6).
    RosterPush(Element),
    /// The server ended the stream, in peace.
    Closed,
}

/// One first-level element that stands for itself: all its prefixes are declared inside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Element {
    text: String,
}

impl Element {
    /// For text that the scan has judged.
    pub(super) fn new(text: String) -> Element {
        Element { text }
    }

    /// The XML.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads it as a tree.
    pub fn with<R>(&self, read: impl FnOnce(&Node<'_, '_>) -> R) -> Option<R> {
        let tree = Tree::parse(&self.text).ok()?;
        Some(read(&tree.root_element()))
    }
}

/// Which way a message went that another of our own sessions sent or received (XEP-0280).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carbon {
    /// Another of our sessions sent it.
    Sent,
    /// Another of our sessions received it.
    Received,
}

impl Carbon {
    /// The element's name.
    pub fn name(self) -> &'static str {
        match self {
            Carbon::Sent => "sent",
            Carbon::Received => "received",
        }
    }
}

/// A message. Addresses are in normal form.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Who sent it; our own account when the server left it out.
    pub from: String,
    /// Whom it was for.
    pub to: Option<String>,
    /// The `id` attribute.
    pub id: Option<String>,
    /// The `type` attribute; `normal` when there was none.
    pub kind: String,
    /// The text.
    pub body: Option<String>,
    /// The subject.
    pub subject: Option<String>,
    /// The conversation it belongs to.
    pub thread: Option<String>,
    /// The sender's nickname (XEP-0172).
    pub nick: Option<String>,
    /// When it was sent, if it was kept on the way (XEP-0203).
    pub delay: Option<String>,
    /// A link beside the text (XEP-0066).
    pub oob: Option<String>,
    /// Whether the sender wants a receipt (XEP-0184).
    pub wants_receipt: bool,
    /// The id of the message of ours that this one confirms (XEP-0184).
    pub receipt: Option<String>,
    /// Set on a copy of what another of our sessions sent or received (XEP-0280).
    pub carbon: Option<Carbon>,
    /// What went wrong, with type `error`.
    pub error: Option<StanzaError>,
    /// The stanza as it came.
    pub xml: String,
}

impl Message {
    /// The sender without the resource.
    pub fn from_bare(&self) -> &str {
        bare(&self.from)
    }
}

/// A presence. Addresses are in normal form.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    /// Whose presence.
    pub from: String,
    /// The `type` attribute; empty for available.
    pub kind: String,
    /// `away`, `chat`, `dnd`, `xa`, or empty.
    pub show: String,
    /// The line of text with it.
    pub status: Option<String>,
    /// Which session wants messages most.
    pub priority: i8,
    /// When, if it was kept on the way.
    pub delay: Option<String>,
    /// What went wrong, with type `error`.
    pub error: Option<StanzaError>,
    /// The stanza as it came.
    pub xml: String,
}

/// An address without its resource.
pub fn bare(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}

/// Reads a message. `None`: its `from` is no address. `me` is our own bare address, which stands in for a missing one.
pub(super) fn message(node: &Node<'_, '_>, xml: &str, me: &str) -> Option<Message> {
    let mut message = Message {
        from: address(stanza::attr(node, "from"), me)?,
        to: stanza::attr(node, "to").map(str::to_owned),
        id: stanza::attr(node, "id").map(str::to_owned),
        kind: stanza::attr(node, "type").unwrap_or("normal").to_owned(),
        xml: xml.to_owned(),
        ..Message::default()
    };
    if !matches!(message.kind.as_str(), "chat" | "error" | "groupchat" | "headline") {
        // RFC 6121 §5.2.2: an unknown type means normal
        message.kind = "normal".to_owned();
    }
    for child in node.children().filter(|c| c.is_element()) {
        let text = || child.text().unwrap_or("").to_owned();
        match (stanza::namespace(&child), child.tag_name().name()) {
            ("", "body") => first(&mut message.body, &child),
            ("", "subject") => first(&mut message.subject, &child),
            ("", "thread") => message.thread = Some(text()),
            ("", "error") => message.error = Some(StanzaError::of(node)),
            (ns::DELAY, "delay") if message.delay.is_none() => message.delay = stamp(&child),
            (ns::RECEIPTS, "request") => message.wants_receipt = true,
            (ns::RECEIPTS, "received") => message.receipt = stanza::attr(&child, "id").map(str::to_owned),
            (ns::OOB, "x") => message.oob = stanza::child_text(&child, ns::OOB, "url").map(str::to_owned),
            (ns::NICK, "nick") => message.nick = Some(text()),
            _ => {}
        }
    }
    Some(message)
}

/// Of several bodies in several languages: the one that names no language of its own, or the first.
fn first(slot: &mut Option<String>, node: &Node<'_, '_>) {
    let has_lang = node.has_attribute((ns::XML, "lang"));
    if slot.is_none() || !has_lang {
        *slot = Some(node.text().unwrap_or("").to_owned());
    }
}

/// Reads a presence. `None`: its `from` is no address.
pub(super) fn presence(node: &Node<'_, '_>, xml: &str, me: &str) -> Option<Presence> {
    Some(Presence {
        from: address(stanza::attr(node, "from"), me)?,
        kind: stanza::attr(node, "type").unwrap_or("").to_owned(),
        show: stanza::child_text(node, "", "show").unwrap_or("").trim().to_owned(),
        status: stanza::child_text(node, "", "status").map(str::to_owned),
        priority: stanza::child_text(node, "", "priority").and_then(|p| p.trim().parse().ok()).unwrap_or(0),
        delay: stanza::child(node, ns::DELAY, "delay").and_then(|d| stamp(&d)),
        error: (stanza::attr(node, "type") == Some("error")).then(|| StanzaError::of(node)),
        xml: xml.to_owned(),
    })
}

fn stamp(delay: &Node<'_, '_>) -> Option<String> {
    stanza::attr(delay, "stamp").map(str::to_owned)
}

/// The address in normal form.
pub(super) fn address(jid: Option<&str>, me: &str) -> Option<String> {
    match jid {
        None => Some(me.to_owned()),
        Some(jid) => Jid::parse(jid).ok().map(|jid| jid.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(xml: &str) -> Option<Message> {
        let tree = Tree::parse(xml).expect("test XML");
        message(&tree.root_element(), xml, "me@x")
    }

    #[test]
    fn a_message_with_everything() {
        let m = read(
            "<message from='Bob@X/r' id='1' type='chat'><body xml:lang='de'>nein</body><body>yes &amp; <![CDATA[<no>]]></body>\
             <subject>s</subject><thread>t</thread><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>\
             <request xmlns='urn:xmpp:receipts'/><received xmlns='urn:xmpp:receipts' id='9'/>\
             <x xmlns='jabber:x:oob'><url>http://u</url></x><nick xmlns='http://jabber.org/protocol/nick'>B</nick>\
             <body xmlns='other'>not this</body></message>",
        )
        .expect("a message");
        assert_eq!((m.from.as_str(), m.from_bare()), ("bob@x/r", "bob@x"));
        assert_eq!(m.body.as_deref(), Some("yes & <no>"));
        assert_eq!((m.subject.as_deref(), m.thread.as_deref()), (Some("s"), Some("t")));
        assert_eq!(m.delay.as_deref(), Some("2020-01-01T00:00:00Z"));
        assert!(m.wants_receipt);
        assert_eq!(
            (m.receipt.as_deref(), m.oob.as_deref(), m.nick.as_deref()),
            (Some("9"), Some("http://u"), Some("B"))
        );
        assert_eq!(m.kind, "chat");
    }

    #[test]
    fn c1_an_attribute_of_another_namespace_is_no_address() {
        // Servers pass them on, and not all of them behind the address that they have stamped.
        let m = read(
            "<message xmlns:p='urn:p' p:from='boss@x/r' p:type='error' p:id='9' from='bob@x/r' id='1' type='chat'>\
             <body p:lang='de'>hi</body></message>",
        )
        .expect("a message");
        assert_eq!((m.from.as_str(), m.id.as_deref(), &*m.kind), ("bob@x/r", Some("1"), "chat"));
        let tree =
            Tree::parse("<presence xmlns:p='urn:p' p:from='boss@x/r' p:type='unavailable' from='bob@x/r'/>");
        let p = presence(&tree.expect("test XML").root_element(), "", "me@x").expect("a presence");
        assert_eq!((p.from.as_str(), &*p.kind), ("bob@x/r", ""));
    }

    #[test]
    fn errors_unknown_types_and_bad_senders() {
        let m = read(
            "<message from='x' type='error'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>gone</text></error></message>",
        )
        .expect("a message");
        assert_eq!(m.error.map(|e| e.to_string()).as_deref(), Some("x says item-not-found: gone"));
        assert_eq!(
            read("<message type='odd'/>").map(|m| (m.kind, m.from)),
            Some(("normal".into(), "me@x".into()))
        );
        assert!(read("<message from='a@@b'/>").is_none());
    }
}
