//! A message that is to be sent.

use crate::xml::{Writer, ns};

/// The type of a message (RFC 6121 §5.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// Part of a talk between two.
    #[default]
    Chat,
    /// By itself, as a letter.
    Normal,
    /// News: shown now or never, not kept for later.
    Headline,
    /// To a room.
    Groupchat,
}

impl Kind {
    /// The attribute's value.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Chat => "chat",
            Kind::Normal => "normal",
            Kind::Headline => "headline",
            Kind::Groupchat => "groupchat",
        }
    }
}

/// A message that is to be sent. All its fields may be set.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The type.
    pub kind: Kind,
    /// Whom it is for.
    pub to: String,
    /// A fresh random one, unless set.
    pub id: String,
    /// The text.
    pub body: Option<String>,
    /// The subject.
    pub subject: Option<String>,
    /// The conversation it belongs to.
    pub thread: Option<String>,
    /// A link to go with it (XEP-0066).
    pub oob: Option<String>,
    /// Whether to ask for a receipt (XEP-0184).
    pub receipt: bool,
}

impl Draft {
    /// An empty message.
    pub fn new(kind: Kind, to: impl Into<String>) -> Draft {
        Draft { kind, to: to.into(), id: super::fresh_id(), ..Draft::default() }
    }

    /// A chat message.
    pub fn chat(to: impl Into<String>, body: impl Into<String>) -> Draft {
        Draft { body: Some(body.into()), ..Draft::new(Kind::Chat, to) }
    }

    /// With a subject.
    pub fn subject(mut self, subject: impl Into<String>) -> Draft {
        self.subject = Some(subject.into());
        self
    }

    /// That asks for a receipt.
    pub fn receipt(mut self) -> Draft {
        self.receipt = true;
        self
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.start("message").attr("to", &self.to).attr("id", &self.id);
        if self.kind != Kind::Normal {
            w.attr("type", self.kind.name());
        }
        if let Some(subject) = &self.subject {
            w.text_leaf("subject", subject);
        }
        match (&self.body, &self.oob) {
            (Some(body), _) => {
                w.text_leaf("body", body);
            }
            // Clients show a link only beside a text.
            (None, Some(url)) => {
                w.text_leaf("body", url);
            }
            (None, None) => {}
        }
        if let Some(thread) = &self.thread {
            w.text_leaf("thread", thread);
        }
        if let Some(url) = &self.oob {
            w.start("x").ns(ns::OOB).text_leaf("url", url).end();
        }
        if self.receipt {
            w.leaf("request", ns::RECEIPTS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written() {
        let mut draft = Draft::chat("bob@x", "<&>").subject("s").receipt();
        draft.id = "1".into();
        draft.oob = Some("http://u?a&b".into());
        let mut out = Vec::new();
        draft.write(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "<message to='bob@x' id='1' type='chat'><subject>s</subject><body>&lt;&amp;&gt;</body>\
             <x xmlns='jabber:x:oob'><url>http://u?a&amp;b</url></x><request xmlns='urn:xmpp:receipts'/></message>"
        );
        assert_ne!(Draft::new(Kind::Normal, "a").id, Draft::new(Kind::Normal, "a").id);
    }
}
