//! Stanza errors (RFC 6120 §8.3).

use super::{Kind, Stanza};
use crate::xml::{Writer, ns};

/// What the sender should do about it (RFC 6120 §8.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// Retry after providing credentials.
    Auth,
    /// Do not retry.
    Cancel,
    /// Proceed: it was only a warning.
    Continue,
    /// Retry after changing the data sent.
    Modify,
    /// Retry after waiting.
    Wait,
}

macro_rules! conditions {
    ($($(#[$doc:meta])* $variant:ident $name:literal $kind:ident),* $(,)?) => {
        /// The defined conditions (RFC 6120 §8.3.3), each with the type the RFC gives it.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Condition { $($(#[$doc])* $variant),* }

        impl Condition {
            /// All of them, in the RFC's order.
            pub const ALL: &[Condition] = &[$(Condition::$variant),*];

            /// The element's name.
            pub const fn name(self) -> &'static str {
                match self { $(Condition::$variant => $name),* }
            }

            /// The type that goes with it unless somebody says otherwise.
            pub const fn default_type(self) -> Type {
                match self { $(Condition::$variant => Type::$kind),* }
            }
        }
    };
}

conditions! {
    /// §8.3.3.1
    BadRequest "bad-request" Modify,
    /// §8.3.3.2
    Conflict "conflict" Cancel,
    /// §8.3.3.3
    FeatureNotImplemented "feature-not-implemented" Cancel,
    /// §8.3.3.4
    Forbidden "forbidden" Auth,
    /// §8.3.3.5
    Gone "gone" Cancel,
    /// §8.3.3.6
    InternalServerError "internal-server-error" Cancel,
    /// §8.3.3.7
    ItemNotFound "item-not-found" Cancel,
    /// §8.3.3.8
    JidMalformed "jid-malformed" Modify,
    /// §8.3.3.9
    NotAcceptable "not-acceptable" Modify,
    /// §8.3.3.10
    NotAllowed "not-allowed" Cancel,
    /// §8.3.3.11
    NotAuthorized "not-authorized" Auth,
    /// §8.3.3.12
    PolicyViolation "policy-violation" Modify,
    /// §8.3.3.13
    RecipientUnavailable "recipient-unavailable" Wait,
    /// §8.3.3.14
    Redirect "redirect" Modify,
    /// §8.3.3.15
    RegistrationRequired "registration-required" Auth,
    /// §8.3.3.16
    RemoteServerNotFound "remote-server-not-found" Cancel,
    /// §8.3.3.17
    RemoteServerTimeout "remote-server-timeout" Wait,
    /// §8.3.3.18
    ResourceConstraint "resource-constraint" Wait,
    /// §8.3.3.19
    ServiceUnavailable "service-unavailable" Cancel,
    /// §8.3.3.20
    SubscriptionRequired "subscription-required" Auth,
    /// §8.3.3.21
    UndefinedCondition "undefined-condition" Cancel,
    /// §8.3.3.22
    UnexpectedRequest "unexpected-request" Wait,
}

/// A stanza error: whose fault it is and what to do stands in the condition and its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error {
    /// The defined condition.
    pub condition: Condition,
    /// The type.
    pub kind: Type,
    /// One line for a person (English).
    pub text: Option<&'static str>,
    /// An application-specific condition (§8.3.2): namespace and name.
    pub app: Option<(&'static str, &'static str)>,
}

impl From<Condition> for Error {
    fn from(condition: Condition) -> Error {
        Error::new(condition)
    }
}

impl Error {
    /// The condition with its usual type and no text.
    pub const fn new(condition: Condition) -> Error {
        Error { condition, kind: condition.default_type(), text: None, app: None }
    }

    /// With another type than usual.
    pub const fn kind(mut self, kind: Type) -> Error {
        self.kind = kind;
        self
    }

    /// With a line for a person.
    pub const fn text(mut self, text: &'static str) -> Error {
        self.text = Some(text);
        self
    }

    /// With an application-specific condition.
    pub const fn app(mut self, ns: &'static str, name: &'static str) -> Error {
        self.app = Some((ns, name));
        self
    }

    /// Writes the `<error/>` element.
    pub fn write(&self, w: &mut Writer<'_>) {
        w.start("error").attr(
            "type",
            match self.kind {
                Type::Auth => "auth",
                Type::Cancel => "cancel",
                Type::Continue => "continue",
                Type::Modify => "modify",
                Type::Wait => "wait",
            },
        );
        w.leaf(self.condition.name(), ns::STANZA_ERRORS);
        if let Some(text) = self.text {
            w.start("text").ns(ns::STANZA_ERRORS).attr("xml:lang", "en").text(text).end();
        }
        if let Some((ns, name)) = self.app {
            w.leaf(name, ns);
        }
        w.end();
    }

    /// Answers `stanza` with this error. `from` is who answers, `to` who sent it. The body is not
    /// sent back (RFC 6120 §8.3.1 leaves it open), so an error is never bigger than its cause.
    /// Nothing is written in answer to an error or a result: no reply to a reply.
    pub fn reply(
        &self,
        out: &mut Vec<u8>,
        stanza: &Stanza<'_>,
        from: Option<&str>,
        to: Option<&str>,
    ) -> bool {
        if matches!(&*stanza.type_(), "error") || (stanza.kind() == Kind::Iq && &*stanza.type_() == "result")
        {
            return false;
        }
        let mut w = Writer::new(out);
        w.start(stanza.kind().name()).attr("type", "error");
        w.opt("from", from).opt("to", to).opt("id", stanza.id().as_deref());
        self.write(&mut w);
        w.end();
        true
    }
}
