//! Stream features between servers (RFC 6120 §4.3.2): what is offered when, and the reading of it.

use super::event::Settings;
use crate::jid::Domain;
use crate::stanza;
use crate::stream::element::Element;
use crate::stream::sasl::Mechanism;
use crate::stream::trust::Trusted;
use crate::xml::{Writer, ns};

/// What was offered on this stream. Nothing that is not in here can be used on it (threats B4).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Offered {
    /// §5.3.1, required: and then nothing else is.
    pub starttls: bool,
    /// XEP-0178 §3: for the domain that the certificate proves, and for no other.
    pub external: Option<(Domain, Trusted)>,
    /// XEP-0220 §2.4.2
    pub dialback: bool,
    /// XEP-0288: under TLS only (threats D8), and before anything is proven.
    pub bidi: bool,
    /// XEP-0198: when somebody is there to count for.
    pub manage: bool,
}

impl Offered {
    /// Writes `<stream:features/>`.
    pub fn write(&self, settings: &Settings, out: &mut Vec<u8>) {
        let mut w = Writer::new(out);
        w.start("stream:features");
        if self.starttls {
            w.start("starttls").ns(ns::TLS).start("required").end().end();
            return;
        }
        if self.external.is_some() {
            w.start("mechanisms").ns(ns::SASL).text_leaf("mechanism", Mechanism::External.name()).end();
        }
        if self.dialback {
            w.start("dialback").ns(ns::DIALBACK_FEATURE).start("errors").end().end();
        }
        if self.bidi {
            w.leaf("bidi", ns::BIDI_FEATURE);
        }
        if self.manage {
            w.leaf("sm", ns::SM);
        }
        // After dialback there are no other features: what holds then is said now.
        let max = if self.dialback { settings.max_bytes } else { settings.max_bytes_early };
        w.start("limits").ns(ns::STREAM_LIMITS).text_leaf("max-bytes", &max.to_string());
        if settings.idle_seconds > 0 {
            w.text_leaf("idle-seconds", &settings.idle_seconds.to_string());
        }
        w.end();
    }
}

/// The features that the receiving server offers, as the initiating half reads them.
#[derive(Clone, Default, Debug)]
pub(super) struct Seen {
    pub starttls: bool,
    pub external: bool,
    pub dialback: bool,
    pub bidi: bool,
    pub manage: bool,
    /// XEP-0478
    pub max_bytes: Option<usize>,
}

impl Seen {
    /// Reads `<stream:features/>`.
    pub fn read(element: &Element<'_>) -> Option<Seen> {
        element.tree(|features| {
            let mut seen = Seen::default();
            for node in features.children().filter(|n| n.is_element()) {
                match (stanza::namespace(&node), node.tag_name().name()) {
                    (ns::TLS, "starttls") => seen.starttls = true,
                    (ns::SASL, "mechanisms") => {
                        let mut names = node.children().filter(|n| n.tag_name().name() == "mechanism");
                        let external = Mechanism::External.name();
                        seen.external = names.any(|n| n.text().is_some_and(|t| t.trim() == external));
                    }
                    (ns::DIALBACK_FEATURE, "dialback") => seen.dialback = true,
                    (ns::BIDI_FEATURE, "bidi") => seen.bidi = true,
                    (ns::SM, "sm") => seen.manage = true,
                    (ns::STREAM_LIMITS, "limits") => {
                        let max = stanza::child_text(&node, ns::STREAM_LIMITS, "max-bytes");
                        seen.max_bytes = max.and_then(|n| n.trim().parse().ok());
                    }
                    _ => {}
                }
            }
            seen
        })
    }
}
