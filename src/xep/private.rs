//! XEP-0049: Private XML Storage
//!
//! Whatever a client wants to find again, for its own account only. Old clients keep their bookmarks
//! here (XEP-0048).

use super::{DISK, TOO_BIG, kept};
use crate::hub::extension::{Cx, Extension, Reply, Request, Rule, Takes, Target};
use crate::stanza::{Condition, Error, child, namespace, whole};
use crate::store::change::{Answer, Ask};
use crate::xml::{Writer, ns};

/// The registry's entry.
pub const PRIVATE: Extension = Extension {
    number: 49,
    name: "Private XML Storage",
    version: "1.2",
    scope: "one element per request, bounded in size",
    features: &[ns::PRIVATE],
    account_features: &[ns::PRIVATE],
    iq: &[Rule { ns: ns::PRIVATE, name: "query", set: None, takes: Takes::Account, run: query }],
    ..Extension::NEW
};

fn query(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    // §2.3: nobody else's, whoever that is.
    if request.target != Target::Own {
        return Err(Condition::Forbidden.into());
    }
    let account = request.account(cx).and_then(|place| cx.hub.account(place));
    let account = account.ok_or(Condition::InternalServerError)?.id;
    let tree = request.stanza.tree()?;
    let query = child(&tree.root_element(), ns::PRIVATE, "query").ok_or(Condition::BadRequest)?;
    let mut elements = query.children().filter(|n| n.is_element());
    let (Some(element), None) = (elements.next(), elements.next()) else {
        return Err(Error::new(Condition::BadRequest).text("exactly one element is kept or asked for"));
    };
    let (space, name) = (namespace(&element), element.tag_name().name());
    if matches!(space, "" | ns::PRIVATE) {
        return Err(Error::new(Condition::NotAcceptable).text("the element needs a namespace of its own"));
    }
    let text = whole(&element).ok_or(Condition::BadRequest)?;
    if request.set {
        if text.len() as u64 > cx.hub.limits.private_bytes {
            return Err(TOO_BIG);
        }
        let ask = Ask::PrivatePut {
            account,
            ns: space.into(),
            name: name.into(),
            xml: text.into_bytes().into(),
            max: cx.hub.limits.private_total,
        };
        return Ok(put(cx, request, ask));
    }
    let ask = Ask::Private { account, ns: space.into(), name: name.into() };
    Ok(kept(cx, request, ask, move |xml| {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        // §2.3: what was never kept comes back as it was asked for.
        w.start("query").ns(ns::PRIVATE).raw(xml.unwrap_or(text.as_bytes())).end();
        drop(w);
        Ok(out)
    }))
}

/// Threat E1: one account, with one element under each of a million names, fills no disk.
fn put(cx: &mut Cx<'_>, request: &Request<'_>, ask: Ask) -> Reply {
    let to = request.answer_to();
    cx.store(
        request.origin.session,
        Vec::new(),
        ask,
        Box::new(move |hub, sink, answer| match answer {
            Answer::Kept(true) => to.result(hub, sink, b""),
            Answer::Kept(false) => to.error(hub, sink, FULL),
            Answer::Failed(why) => {
                log::error!("store: {why}");
                to.error(hub, sink, DISK);
            }
            _ => to.error(hub, sink, Condition::InternalServerError.into()),
        }),
    );
    Reply::Later
}

/// All that was kept before is too much already.
const FULL: Error = Error::new(Condition::ResourceConstraint).text("the private storage is full");

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use crate::xml::ns;

    fn query(inside: &str) -> String {
        format!("<query xmlns='jabber:iq:private'>{inside}</query>")
    }

    #[test]
    fn what_is_kept_comes_back() {
        let mut w = World::new(&["hamlet"]);
        let hamlet = w.login("hamlet", "denmark");
        let asked = query("<exodus xmlns='exodus:prefs'/>");
        let none = w.iq(hamlet, "get", "", &asked);
        assert!(none.has("exodus:prefs", "exodus") && !none.has("exodus:prefs", "defaultnick"));
        let kept =
            query("<exodus xmlns='exodus:prefs'><defaultnick a='1>0'>Ham &amp; let</defaultnick></exodus>");
        assert_eq!(w.iq(hamlet, "set", "", &kept).kind(), "result");
        w.close(hamlet);
        let hamlet = w.login("hamlet", "elsewhere");
        let got = w.iq(hamlet, "get", "hamlet@hub.test", &asked);
        assert_eq!(got.text("exodus:prefs", "defaultnick").as_deref(), Some("Ham & let"));
        // Another name in the same namespace is another element.
        assert!(!w.iq(hamlet, "get", "", &query("<other xmlns='exodus:prefs'/>")).0.contains("Ham"));
    }

    #[test]
    fn all_together_are_bounded() {
        let mut w = World::with(&["hamlet"], |l| l.private_total = 1_000);
        let hamlet = w.login("hamlet", "denmark");
        let element = |n: usize| query(&format!("<x{n} xmlns='y'>{}</x{n}>", "z".repeat(300)));
        for n in [1, 2, 1, 2] {
            assert_eq!(w.iq(hamlet, "set", "", &element(n)).kind(), "result", "in the place of the old one");
        }
        w.held = true;
        for n in 3..9 {
            w.hear(hamlet, &format!("<iq type='set' id='{n}'>{}</iq>", element(n)));
        }
        w.release();
        assert!(
            w.got(hamlet).iter().all(|g| g.is_error("resource-constraint")),
            "also when they come at once"
        );
        assert!(w.iq(hamlet, "get", "", &query("<x1 xmlns='y'/>")).0.contains("zzz"));
    }

    /// Prefixes that were declared around it are declared on it.
    #[test]
    fn it_stands_alone() {
        let mut w = World::new(&["hamlet"]);
        let hamlet = w.login("hamlet", "denmark");
        let iq = "<iq type='set' id='1' xmlns:e='exodus:prefs' xmlns:f='urn:f'><p:query xmlns:p='jabber:iq:private' xmlns='urn:d'>\
            <e:exodus f:a='>' xmlns:f='urn:g'><plain/><e:deep/></e:exodus></p:query></iq>";
        w.send(hamlet, iq);
        assert_eq!(w.one(hamlet).kind(), "result");
        let got = w.iq(hamlet, "get", "", &query("<exodus xmlns='exodus:prefs'/>"));
        assert!(got.has("exodus:prefs", "deep") && got.has("urn:d", "plain"), "{got:?}");
        assert!(got.with(|n| n.descendants().any(|d| d.attribute(("urn:g", "a")) == Some(">"))), "{got:?}");
    }

    #[test]
    fn errors() {
        let mut w = World::with(&["hamlet", "macbeth"], |l| l.private_bytes = 100);
        let hamlet = w.login("hamlet", "denmark");
        let fits = |n: usize| query(&format!("<x xmlns='y'>{}</x>", "z".repeat(n)));
        let overhead = "<x xmlns='y'></x>".len();
        for (kind, payload, error) in [
            ("get", query(""), "bad-request"),
            ("set", query("<a xmlns='a'/><b xmlns='b'/>"), "bad-request"),
            ("set", query("<a/>"), "not-acceptable"),
            ("set", query("<a xmlns='jabber:client'/>"), "not-acceptable"),
            ("set", fits(101 - overhead), "policy-violation"),
        ] {
            assert!(w.iq(hamlet, kind, "", &payload).is_error(error), "{payload}");
        }
        assert_eq!(w.iq(hamlet, "set", "", &fits(100 - overhead)).kind(), "result");
        for to in ["macbeth@hub.test", "nobody@hub.test"] {
            assert!(w.iq(hamlet, "get", to, &query("<x xmlns='y'/>")).is_error("forbidden"));
        }
        w.ring.broken = true;
        assert!(w.iq(hamlet, "set", "", &query("<x xmlns='y'/>")).is_error("resource-constraint"));
        w.ring.broken = false;
        assert_eq!(
            w.iq(hamlet, "get", "", &query("<x xmlns='y'/>")).text("y", "x").unwrap().len(),
            100 - overhead
        );
        assert!(w.iq(hamlet, "get", "hub.test", &query("<x xmlns='y'/>")).is_error("service-unavailable"));
        assert!(!w.iq(hamlet, "get", "", &query("<x xmlns='n'/>")).has(ns::STANZA_ERRORS, "x"));
    }
}
