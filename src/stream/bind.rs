//! Resource binding (RFC 6120 §7), both halves.

use super::element::Element;
use crate::jid::{FullJid, resourcepart};
use crate::stanza::{self, Condition};
use crate::xml::{Writer, ns};

/// What the receiving entity sees in a stanza before a resource is bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// A request, with the resourcepart in normal form if the client has named one (§7.6, §7.7).
    Bind { id: Box<str>, resource: Option<Box<str>> },
    /// A request that is answered with an error (§7.7.2.2, §8.1.3).
    Bad { id: Option<Box<str>>, error: stanza::Error },
    /// Anything else, which has no business here (§7.1).
    Other,
}

/// Receiving: reads an element that came after login and before a resource was bound.
pub(super) fn read(element: &Element<'_>) -> Request {
    if element.name() != (&*element.scope.default, "iq") || element.payload() != Some((ns::BIND, "bind")) {
        return Request::Other;
    }
    let id = element.attr("id").map(Box::from);
    let bad = |id| Request::Bad { id, error: Condition::BadRequest.into() };
    if element.attr("type").as_deref() != Some("set") {
        return bad(id);
    }
    let Some(id) = id else { return bad(None) };
    // More than one resource, or something else beside it, is not looked for: the first one counts.
    let asked: Option<Box<str>> = element
        .tree(|iq| {
            let bind = stanza::child(&iq, ns::BIND, "bind")?;
            stanza::child_text(&bind, ns::BIND, "resource").filter(|text| !text.is_empty()).map(Box::from)
        })
        .flatten();
    match asked.map(|text| resourcepart(&text).map(|part| part.into())) {
        None => Request::Bind { id, resource: None },
        Some(Ok(resource)) => Request::Bind { id, resource: Some(resource) },
        Some(Err(_)) => bad(Some(id)),
    }
}

/// Receiving: §7.6.1, §7.7.1.
pub(super) fn bound(id: &str, jid: &FullJid, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("iq").attr("type", "result").attr("id", id);
    w.start("bind").ns(ns::BIND).text_leaf("jid", jid.as_str());
}

/// Receiving: §7.6.2, §7.7.2.
pub(super) fn refused(id: Option<&str>, error: &stanza::Error, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("iq").attr("type", "error").opt("id", id);
    error.write(&mut w);
}

/// Initiating: the id of the request.
const BIND_ID: &str = "bind";
/// Initiating: the id of the session request.
const SESSION_ID: &str = "session";

/// Initiating: asks for a resource (§7.6, §7.7).
pub(super) fn ask(resource: Option<&str>, out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("iq").attr("type", "set").attr("id", BIND_ID).start("bind").ns(ns::BIND);
    if let Some(resource) = resource {
        w.text_leaf("resource", resource);
    }
}

/// Initiating: asks for the session that RFC 3921 §3 wanted, of a server that insists.
pub(super) fn ask_session(out: &mut Vec<u8>) {
    let mut w = Writer::new(out);
    w.start("iq").attr("type", "set").attr("id", SESSION_ID).leaf("session", ns::SESSION);
}

/// Initiating: the answer to one of the two requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Bound(FullJid),
    Session,
    Refused(Condition),
    /// A result that makes no sense.
    Nonsense,
}

/// Initiating: reads the answer; `None` if the element is none.
pub(super) fn answer(element: &Element<'_>) -> Option<Answer> {
    if element.name() != (&*element.scope.default, "iq") {
        return None;
    }
    let id = element.attr("id")?;
    if id != BIND_ID && id != SESSION_ID {
        return None;
    }
    match element.attr("type").as_deref() {
        Some("error") => element.tree(|iq| Answer::Refused(error_condition(&iq))),
        Some("result") if id == SESSION_ID => Some(Answer::Session),
        Some("result") => element.tree(|iq| {
            let jid = stanza::child(&iq, ns::BIND, "bind").and_then(|bind| {
                stanza::child_text(&bind, ns::BIND, "jid").and_then(|jid| FullJid::parse(jid).ok())
            });
            jid.map_or(Answer::Nonsense, Answer::Bound)
        }),
        _ => None,
    }
}

fn error_condition(iq: &stanza::Node<'_, '_>) -> Condition {
    stanza::child(iq, "", "error")
        .and_then(|error| {
            let mut defined = error.children().filter(|n| stanza::namespace(n) == ns::STANZA_ERRORS);
            defined.find_map(|n| Condition::ALL.iter().copied().find(|c| c.name() == n.tag_name().name()))
        })
        .unwrap_or(Condition::UndefinedCondition)
}
