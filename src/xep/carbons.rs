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
        let Some(out) = sink.must(session.id) else { continue };
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

#[cfg(test)]
mod tests {
    use crate::testing::{Got, World};
    use crate::xml::ns;

    const ENABLE: &str = "<enable xmlns='urn:xmpp:carbons:2'/>";
    const DISABLE: &str = "<disable xmlns='urn:xmpp:carbons:2'/>";

    fn is_copy(got: &Got, way: &str, body: &str) -> bool {
        got.with(|n| {
            let wrapper = n.first_element_child().filter(|c| crate::stanza::is(c, ns::CARBONS, way));
            let message = wrapper.and_then(|w| {
                let forwarded = crate::stanza::child(&w, ns::FORWARD, "forwarded")?;
                forwarded.first_element_child()
            });
            message.is_some_and(|m| {
                m.tag_name().namespace() == Some(ns::CLIENT)
                    && crate::stanza::child_text(&m, "", "body") == Some(body)
            })
        })
    }

    #[test]
    fn both_sides_get_copies_and_nobody_gets_two() {
        let mut w = World::new(&["romeo", "juliet"]);
        let (orchard, garden) = (w.login_with("romeo", "orchard", 1), w.login("romeo", "garden"));
        let (balcony, home) = (w.login_with("juliet", "balcony", 1), w.login("juliet", "home"));
        let silent = w.bound("juliet", "without-carbons");
        for session in [orchard, garden, balcony, home] {
            assert_eq!(w.iq(session, "set", "", ENABLE).kind(), "result");
            assert_eq!(w.iq(session, "set", "", ENABLE).kind(), "result", "twice is once");
        }
        w.drop_all();
        for to in ["juliet@hub.test", "juliet@hub.test/balcony"] {
            w.send(orchard, &format!("<message to='{to}' type='chat' id='m'><body>hi</body></message>"));
            let original = w.one(balcony);
            assert_eq!(original.body().as_deref(), Some("hi"));
            let received = w.one(home);
            assert!(is_copy(&received, "received", "hi"), "{received:?}");
            assert_eq!((received.from(), received.kind()), ("juliet@hub.test".into(), "chat".into()));
            assert_eq!(received.attr("to").unwrap(), "juliet@hub.test/home");
            let sent = w.one(garden);
            assert!(is_copy(&sent, "sent", "hi"), "{sent:?}");
            assert_eq!(sent.from(), "romeo@hub.test");
            // The copy is the message as it was delivered, true addresses and our id included.
            assert!(received.0.contains("from='romeo@hub.test/orchard'"));
            let id = original.of(ns::SID, "stanza-id", "id");
            assert_eq!(received.of(ns::SID, "stanza-id", "id"), id);
            w.nothing(orchard);
            w.nothing(silent);
        }
        assert_eq!(w.iq(home, "set", "", DISABLE).kind(), "result");
        w.send(orchard, "<message to='juliet@hub.test' type='chat'><body>hi</body></message>");
        w.nothing(home);
        w.close(balcony);
        w.close(home);
        let place = w.hub.find("juliet").unwrap();
        assert_eq!(w.hub.account(place).unwrap().carbons, 0, "counted right");
    }

    /// §8 knows no difference: what waits for its recipient was sent as well.
    #[test]
    fn copies_of_what_is_kept_for_later() {
        let mut w = World::new(&["romeo", "juliet"]);
        let (orchard, garden) = (w.login("romeo", "orchard"), w.login("romeo", "garden"));
        let shy = w.login_with("juliet", "shy", -1);
        for session in [garden, shy] {
            w.iq(session, "set", "", ENABLE);
        }
        w.drop_all();
        w.send(orchard, "<message to='juliet@hub.test' type='chat'><body>hi</body></message>");
        assert!(is_copy(&w.one(garden), "sent", "hi"));
        let copy = w.one(shy);
        assert!(is_copy(&copy, "received", "hi"));
        assert_eq!(w.loaded("juliet").offline.0, 1);
        w.send(shy, "<presence/>");
        let kept = w.got(shy).into_iter().find(|g| g.name() == "message").unwrap();
        assert_eq!(kept.of(ns::SID, "stanza-id", "id"), copy.of(ns::SID, "stanza-id", "id"), "known again");
    }

    /// §6.1, line by line.
    #[test]
    fn eligible() {
        let body = "<body>hi</body>";
        let muc = |inside: &str| format!("<x xmlns='http://jabber.org/protocol/muc#user'>{inside}</x>");
        let cases: &[(&str, String, bool)] = &[
            ("chat", body.into(), true),
            ("chat", String::new(), true),
            ("normal", body.into(), true),
            ("", body.into(), true),
            ("normal", "<data xmlns='urn:x'/>".into(), false),
            ("headline", body.into(), false),
            ("groupchat", body.into(), false),
            ("normal", "<received xmlns='urn:xmpp:receipts' id='1'/>".into(), true),
            ("normal", "<composing xmlns='http://jabber.org/protocol/chatstates'/>".into(), true),
            ("normal", "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>".into(), true),
            ("normal", "<x xmlns='jabber:x:conference' jid='r@rooms.test'/>".into(), true),
            ("normal", muc("<invite from='a@b.test'/>"), true),
            ("chat", format!("{body}{}", muc("")), false),
            ("chat", format!("{body}<private xmlns='urn:xmpp:carbons:2'/>"), false),
            ("chat", format!("{body}<no-copy xmlns='urn:xmpp:hints'/>"), false),
            ("error", format!("{body}<error type='cancel'/>"), false),
        ];
        for (kind, payload, copied) in cases {
            let mut w = World::new(&["romeo", "juliet"]);
            let romeo = w.login("romeo", "orchard");
            let (balcony, home) = (w.login("juliet", "balcony"), w.login_with("juliet", "home", -1));
            w.iq(home, "set", "", ENABLE);
            w.drop_all();
            let kind = if kind.is_empty() { String::new() } else { format!("type='{kind}'") };
            w.send(romeo, &format!("<message to='juliet@hub.test/balcony' {kind}>{payload}</message>"));
            assert_eq!(w.got(balcony).len(), 1, "{kind} {payload}");
            assert_eq!(w.got(home).len(), usize::from(*copied), "{kind} {payload}");
        }
    }

    #[test]
    fn not_for_others() {
        let mut w = World::new(&["romeo", "juliet"]);
        let romeo = w.login("romeo", "orchard");
        for to in ["juliet@hub.test", "nobody@hub.test"] {
            assert!(w.iq(romeo, "set", to, ENABLE).is_error("service-unavailable"));
        }
    }
}
