//! Stream features (RFC 6120 §4.3.2): one table of what is offered when, and the reading of it.

use super::element::Element;
use super::event::{Registration, Security, Settings};
use super::sasl::{BindingType, Mechanism};
use crate::stanza;
use crate::xml::{Writer, ns};

/// Where a receiving stream stands. All that is offered follows from this.
#[derive(Clone, Copy)]
pub(super) struct Stage<'a> {
    pub settings: &'a Settings,
    pub security: &'a Security,
    pub authenticated: bool,
}

/// One feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Feature {
    /// §5.3.1
    StartTls,
    /// §6.3.3
    Mechanisms,
    /// XEP-0440
    ChannelBinding,
    /// XEP-0077 §8
    Register,
    /// XEP-0445 §3
    RegisterInvited,
    /// [`Settings::early_features`]
    Early,
    /// §7.4
    Bind,
    /// RFC 3921 §3, for clients that still look for it
    Session,
    /// [`Settings::extra_features`]
    Extra,
    /// XEP-0478
    Limits,
}

impl Feature {
    const ALL: [Feature; 10] = [
        Feature::StartTls,
        Feature::Mechanisms,
        Feature::ChannelBinding,
        Feature::Register,
        Feature::RegisterInvited,
        Feature::Early,
        Feature::Bind,
        Feature::Session,
        Feature::Extra,
        Feature::Limits,
    ];

    /// The table.
    fn offered(self, at: &Stage<'_>) -> bool {
        let login = !at.authenticated;
        let tls = matches!(at.security, Security::Tls { .. });
        let may_start = matches!(at.security, Security::Plain { starttls: true, .. });
        // With TLS mandatory, nothing else is offered before it (§5.3.1; threats B2)
        let open = !matches!(at.security, Security::Plain { required: true, .. });
        match self {
            Feature::StartTls => login && may_start,
            Feature::Mechanisms => login && open,
            Feature::ChannelBinding => login && bindings(at.security).next().is_some(),
            Feature::Register => {
                login
                    && match at.settings.registration {
                        Registration::Closed => false,
                        // an invitation is a secret
                        Registration::Invite => tls,
                        Registration::Open => open,
                    }
            }
            Feature::RegisterInvited => login && tls && at.settings.registration != Registration::Closed,
            Feature::Early => login && open,
            Feature::Bind | Feature::Session | Feature::Extra => at.authenticated,
            Feature::Limits => at.authenticated || open,
        }
    }

    fn write(self, at: &Stage<'_>, offered: &Offered, w: &mut Writer<'_>) {
        match self {
            Feature::StartTls => {
                w.start("starttls").ns(ns::TLS);
                if matches!(at.security, Security::Plain { required: true, .. }) {
                    w.start("required").end();
                }
                w.end();
            }
            Feature::Mechanisms => {
                w.start("mechanisms").ns(ns::SASL);
                for m in &offered.mechanisms {
                    w.text_leaf("mechanism", m.name());
                }
                w.end();
            }
            Feature::ChannelBinding => {
                w.start("sasl-channel-binding").ns(ns::SASL_CB);
                for kind in bindings(at.security) {
                    w.start("channel-binding").attr("type", kind.name()).end();
                }
                w.end();
            }
            Feature::Register => {
                w.leaf("register", ns::REGISTER_FEATURE);
            }
            Feature::RegisterInvited => {
                w.leaf("register", ns::IBR_TOKEN);
            }
            Feature::Early => {
                w.raw(&at.settings.early_features);
            }
            Feature::Bind => {
                w.leaf("bind", ns::BIND);
            }
            Feature::Session => {
                w.start("session").ns(ns::SESSION).start("optional").end().end();
            }
            Feature::Extra => {
                w.raw(&at.settings.extra_features);
            }
            Feature::Limits => {
                let max = if at.authenticated { at.settings.max_bytes } else { at.settings.max_bytes_early };
                w.start("limits").ns(ns::STREAM_LIMITS);
                w.text_leaf("max-bytes", &max.to_string());
                if at.settings.idle_seconds > 0 {
                    w.text_leaf("idle-seconds", &at.settings.idle_seconds.to_string());
                }
                w.end();
            }
        }
    }
}

/// The channel binding types that this connection has.
fn bindings(security: &Security) -> impl Iterator<Item = BindingType> {
    BindingType::ALL.into_iter().filter(move |kind| binding(security, *kind).is_some())
}

/// The channel binding data of a type.
pub(super) fn binding(security: &Security, kind: BindingType) -> Option<&[u8]> {
    match security {
        Security::Tls { bindings, .. } => bindings.get(kind),
        Security::Plain { .. } => None,
    }
}

/// Whether a mechanism can be offered on such a connection.
fn possible(mechanism: Mechanism, security: &Security) -> bool {
    match mechanism {
        Mechanism::External => matches!(security, Security::Tls { certificate: Some(_), .. }),
        Mechanism::Scram { plus: true, .. } => bindings(security).next().is_some(),
        Mechanism::Scram { plus: false, .. } => true,
        // §13.8.3: the password itself, only where nobody else can read it
        Mechanism::Plain => matches!(security, Security::Tls { .. }),
    }
}

/// What was offered on this stream. Nothing that is not in here can be used on it (threats B4).
#[derive(Clone, Default, Debug)]
pub(super) struct Offered {
    features: Vec<Feature>,
    mechanisms: Vec<Mechanism>,
}

impl Offered {
    /// Writes `<stream:features/>`, and remembers what stands in it.
    pub fn write(at: &Stage<'_>, out: &mut Vec<u8>) -> Offered {
        let features: Vec<Feature> = Feature::ALL.into_iter().filter(|f| f.offered(at)).collect();
        let mut offered = Offered { features, mechanisms: Vec::new() };
        if offered.has(Feature::Mechanisms) {
            offered.mechanisms = Mechanism::ALL.into_iter().filter(|m| possible(*m, at.security)).collect();
        }
        let mut w = Writer::new(out);
        w.start("stream:features");
        for feature in &offered.features {
            feature.write(at, &offered, &mut w);
        }
        drop(w);
        offered
    }

    /// Whether a feature was offered.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// Whether a mechanism was offered.
    pub fn mechanism(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.contains(&mechanism)
    }

    /// Whether a mechanism with channel binding was offered.
    pub fn plus(&self) -> bool {
        self.mechanisms.iter().any(|m| matches!(m, Mechanism::Scram { plus: true, .. }))
    }
}

/// The features that a server offers, as the initiating half reads them.
#[derive(Clone, Default, Debug)]
pub(super) struct Seen {
    /// STARTTLS, and whether it is required.
    pub starttls: Option<bool>,
    /// The mechanisms' names; empty without any.
    pub mechanisms: Vec<Box<str>>,
    /// XEP-0440; `None` when the server does not say.
    pub bindings: Option<Vec<Box<str>>>,
    /// XEP-0077
    pub register: bool,
    /// XEP-0445
    pub invitations: bool,
    /// §7
    pub bind: bool,
    /// XEP-0198
    pub management: bool,
    /// RFC 3921 §3, and the server insists on it.
    pub session: bool,
    /// All of them: namespace and name.
    pub all: Vec<(Box<str>, Box<str>)>,
}

impl Seen {
    /// Reads `<stream:features/>`.
    pub fn read(element: &Element<'_>) -> Option<Seen> {
        if element.name() != (ns::STREAM, "features") {
            return None;
        }
        element.tree(|features| {
            let mut seen = Seen::default();
            for node in features.children().filter(|n| n.is_element()) {
                let (uri, name) = (stanza::namespace(&node), node.tag_name().name());
                seen.all.push((uri.into(), name.into()));
                let children = || node.children().filter(|n| n.is_element());
                match (uri, name) {
                    (ns::TLS, "starttls") => {
                        seen.starttls = Some(children().any(|n| n.tag_name().name() == "required"));
                    }
                    (ns::SASL, "mechanisms") => {
                        let names = children().filter(|n| n.tag_name().name() == "mechanism");
                        seen.mechanisms = names.filter_map(|n| n.text()).map(|t| t.trim().into()).collect();
                    }
                    (ns::SASL_CB, "sasl-channel-binding") => {
                        let types = children().filter_map(|n| stanza::attr(&n, "type").map(Box::from));
                        seen.bindings = Some(types.collect());
                    }
                    (ns::REGISTER_FEATURE, "register") => seen.register = true,
                    (ns::IBR_TOKEN, "register") => seen.invitations = true,
                    (ns::BIND, "bind") => seen.bind = true,
                    (ns::SM, "sm") => seen.management = true,
                    (ns::SESSION, "session") => {
                        seen.session = !children().any(|n| n.tag_name().name() == "optional");
                    }
                    _ => {}
                }
            }
            seen
        })
    }

    /// Whether a mechanism is offered.
    pub fn offers(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.iter().any(|name| **name == *mechanism.name())
    }
}
