//! XEP-0280: Message Carbons
//!
//! All devices of a user see both sides of a conversation. A copy comes from the user's own bare
//! address and from nobody else: what looks like one in an incoming message is removed (§11,
//! threat C2).

use crate::hub::Hub;
use crate::hub::extension::{Copy, Cx, Extension, Reply, Request, Rule, Takes};
use crate::hub::talk::Sink;
use crate::jid::Jid;
use crate::stanza::{Condition, Error, Stanza, child};
use crate::xml::{Child, Writer, ns};

/// The registry's entry.
pub const CARBONS: Extension = Extension {
    number: 280,
    name: "Message Carbons",
    version: "1.0.1",
    scope: "sent and received; forged ones are removed",
    features: &[ns::CARBONS, ns::CARBONS_RULES],
    account_features: &[ns::CARBONS],
    iq: &[
        Rule {
            ns: ns::CARBONS,
            name: "enable",
            set: Some(true),
            takes: Takes::Own,
            run: |cx, request| switch(cx, request, true),
        },
        Rule {
            ns: ns::CARBONS,
            name: "disable",
            set: Some(true),
            takes: Takes::Own,
            run: |cx, request| switch(cx, request, false),
        },
    ],
    forged: Some(forged),
    copies: Some(copies),
    ..Extension::NEW
};

/// XEP-0333: Chat Markers.
const MARKERS: &str = "urn:xmpp:chat-markers:0";
/// XEP-0249: Direct MUC Invitations.
const CONFERENCE: &str = "jabber:x:conference";

/// §4, §5; twice is once (§10.1).
fn switch(cx: &mut Cx<'_>, request: &Request<'_>, on: bool) -> Result<Reply, Error> {
    let session = cx.session(request.origin.session).ok_or(Condition::NotAllowed)?;
    if session.carbons != on {
        session.carbons = on;
        let place = session.account;
        if let Some(account) = cx.hub.account_mut(place) {
            let one = if on { account.carbons.saturating_add(1) } else { account.carbons.saturating_sub(1) };
            account.carbons = one;
        }
    }
    Ok(Reply::Empty)
}

/// A wrapper in somebody's incoming message.
fn forged(_: &Hub, stanza: &Stanza<'_>, child: &Child, _to: &str) -> bool {
    stanza.child_ns(child) == ns::CARBONS && matches!(stanza.child_name(child), "sent" | "received")
}

/// §6.1, in its order.
fn eligible(copy: &Copy<'_>) -> bool {
    let stanza = copy.stanza;
    let has = |ns: &str, name: &str| stanza.child(ns, name).is_some();
    // "does not contain a <private/> child element"; §9: nor the hint.
    if has(ns::CARBONS, "private") || has(ns::HINTS, "no-copy") {
        return false;
    }
    let kind = stanza.type_();
    // "A message of type groupchat SHOULD NOT be carbon-copied."
    if kind == "groupchat" {
        return false;
    }
    let invitation = has(CONFERENCE, "x") || (has(ns::MUC_USER, "x") && mediated(stanza));
    // "A private message from a MUC participant to a local user SHOULD NOT be": it bears the
    // element by which such messages are known, and is no invitation.
    if !copy.sent && has(ns::MUC_USER, "x") && !invitation {
        return false;
    }
    match &*kind {
        // "it is of type chat"
        "chat" => return true,
        // "it is of type error and it was sent in response to a message that was eligible": what
        // the other side's server gives back of a message to a bare address.
        "error" => {
            return !copy.sent
                && stanza.from().is_some_and(|from| Jid::parse(&from).is_ok_and(|from| from.is_bare()));
        }
        // "it is of type normal and contains a <body> element"; RFC 6121 §5.2.2: so is any type
        // that is not known.
        "headline" => {}
        _ if has("", "body") => return true,
        _ => {}
    }
    // "it contains payload elements typically used in IM", or an invitation.
    invitation
        || stanza
            .children()
            .iter()
            .any(|c| matches!(stanza.child_ns(c), ns::RECEIPTS | ns::CHAT_STATES | MARKERS))
}

/// XEP-0045 §7.8.2
fn mediated(stanza: &Stanza<'_>) -> bool {
    stanza.tree().is_ok_and(|tree| {
        tree.root_element()
            .children()
            .any(|x| crate::stanza::is(&x, ns::MUC_USER, "x") && child(&x, ns::MUC_USER, "invite").is_some())
    })
}

/// §7, §8
fn copies(hub: &mut Hub, sink: &mut dyn Sink, copy: &Copy<'_>) {
    if !eligible(copy) {
        return;
    }
    let Some(account) = hub.account(copy.account) else { return };
    let Ok(packet) = std::str::from_utf8(copy.packet) else { return };
    let Some(rest) = packet.strip_prefix("<message") else { return };
    let kind = copy.stanza.type_();
    for session in account.sessions.iter().filter_map(|id| hub.session(*id)) {
        if !session.carbons || copy.have.contains(&session.id) {
            continue;
        }
        let Some(out) = sink.outbox(session.id) else { continue };
        let mut w = Writer::new(out);
        w.start("message").attr("from", account.jid.as_str()).attr("to", session.jid.as_str());
        w.opt("type", Some(&*kind).filter(|k| !k.is_empty()));
        w.start(if copy.sent { "sent" } else { "received" }).ns(ns::CARBONS);
        w.start("forwarded").ns(ns::FORWARD);
        // The message inherited its namespace from the stream; inside of others it must say so.
        w.start("message").ns(ns::CLIENT).judged_rest(rest.as_bytes());
        w.end().end().end();
    }
}
