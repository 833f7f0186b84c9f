//! §8: every row of §8.5.4's table, and what the table leaves to the text.

use crate::common::{DOMAIN, World};
use stonechat::hub::talk::SessionId;

/// What §8.5.4 allows in a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Delivered to the one resource that matches or is there.
    D,
    /// To the most available resource or resources.
    M,
    /// To all non-negative resources.
    A,
    /// Kept for later.
    O,
    /// An error comes back.
    E,
    /// Silently ignored, or an error comes back.
    S,
}
use Way::*;

type Row = (&'static str, Option<&'static [(&'static str, i8)]>, &'static str, [Way; 4]);

const TYPES: [&str; 4] = ["normal", "chat", "groupchat", "headline"];

/// The table: the contact's resources with their priorities, the resource in `to`, and a cell for
/// each type.
const TABLE: &[Row] = &[
    ("account does not exist: bare", None, "", [S, S, E, S]),
    ("account does not exist: full", None, "/x", [S, S, S, S]),
    ("no active resources: bare", Some(&[]), "", [O, O, E, S]),
    ("no active resources: full", Some(&[]), "/x", [S, O, S, S]),
    ("only negative: bare", Some(&[("n", -1)]), "", [O, O, E, S]),
    ("only negative: full, match", Some(&[("n", -1)]), "/n", [D, D, D, D]),
    ("only negative: full, no match", Some(&[("n", -1)]), "/x", [S, O, S, S]),
    ("one non-negative: bare", Some(&[("a", 0)]), "", [D, D, E, D]),
    ("one non-negative: full, match", Some(&[("a", 0)]), "/a", [D, D, D, D]),
    ("one non-negative: full, no match", Some(&[("a", 0)]), "/x", [S, D, S, S]),
    ("several: bare", Some(&[("a", 0), ("b", 5), ("c", 5), ("n", -1)]), "", [M, M, E, A]),
    ("several: full, match", Some(&[("a", 0), ("b", 5), ("n", -1)]), "/a", [D, D, D, D]),
    ("several: full, match of a negative", Some(&[("a", 0), ("n", -1)]), "/n", [D, D, D, D]),
    ("several: full, no match", Some(&[("a", 0), ("b", 5), ("c", 5), ("n", -1)]), "/x", [S, M, S, S]),
];

#[test]
fn s_8_5_4_the_table() {
    for (row, resources, to, cells) in TABLE {
        for (kind, way) in TYPES.into_iter().zip(cells) {
            // §5.2.2: no type, and an unknown one, are "normal".
            let spellings: &[&str] =
                if kind == "normal" { &["", " type='normal'", " type='blah'"] } else { &[""] };
            for spelling in spellings {
                let typed = format!(" type='{kind}'");
                let typed = if kind == "normal" { *spelling } else { &*typed };
                one(row, *resources, to, typed, *way);
            }
        }
    }
}

fn one(row: &str, resources: Option<&[(&str, i8)]>, to: &str, typed: &str, way: Way) {
    let mut w = World::new(&["romeo", "juliet"]);
    let contact = if resources.is_some() { "juliet" } else { "nobody" };
    let sessions: Vec<(&str, i8, SessionId)> =
        resources.unwrap_or(&[]).iter().map(|(r, p)| (*r, *p, w.login_with("juliet", r, *p))).collect();
    // Connected, but never available: no delivery by the bare address.
    let silent = resources.map(|_| w.bound("juliet", "silent"));
    let romeo = w.login("romeo", "orchard");
    w.drop_all();
    let to = format!("{contact}@{DOMAIN}{to}");
    w.send(romeo, &format!("<message to='{to}' id='m'{typed}><body>hi</body></message>"));
    let case = format!("{row}, message{typed}");
    let best = sessions.iter().map(|(_, p, _)| *p).max().unwrap_or(0);
    for (resource, priority, session) in &sessions {
        let due = match way {
            D => sessions.len() == 1 || to.ends_with(&format!("/{resource}")),
            M => *priority == best,
            A => *priority >= 0,
            O | E | S => false,
        };
        let got = w.got(*session);
        assert_eq!(got.len(), usize::from(due), "{case}: {resource} got {got:?}");
        for g in got {
            assert_eq!((g.from(), g.attr("to").unwrap()), (w.jid(romeo), to.clone()), "{case}");
            assert_eq!(g.body().as_deref(), Some("hi"), "{case}");
        }
    }
    if let Some(silent) = silent {
        w.nothing(silent);
    }
    let back = w.got(romeo);
    let errors = back.iter().filter(|g| g.is_error("service-unavailable") && g.from() == to).count();
    assert_eq!(errors, back.len(), "{case}: {back:?}");
    match way {
        E => assert_eq!(errors, 1, "{case}"),
        S => assert!(errors <= 1, "{case}"),
        _ => assert_eq!(errors, 0, "{case}"),
    }
    if resources.is_some() {
        assert_eq!(w.loaded("juliet").offline.0, u32::from(way == O), "{case}: kept for later");
    }
}

/// §8.5: an error is delivered to the resource that it is for, and otherwise nobody hears of it.
#[test]
fn s_8_5_errors_are_delivered_or_dropped() {
    for (row, resources, to, _) in TABLE {
        let mut w = World::new(&["romeo", "juliet"]);
        let contact = if resources.is_some() { "juliet" } else { "nobody" };
        let sessions: Vec<(&str, SessionId)> =
            resources.unwrap_or(&[]).iter().map(|(r, p)| (*r, w.login_with("juliet", r, *p))).collect();
        let romeo = w.login("romeo", "orchard");
        w.drop_all();
        let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        let to = format!("{contact}@{DOMAIN}{to}");
        w.send(romeo, &format!("<message to='{to}' type='error'>{error}</message>"));
        w.send(romeo, &format!("<presence to='{to}' type='error'>{error}</presence>"));
        for (resource, session) in sessions {
            let due = if to.ends_with(&format!("/{resource}")) { 2 } else { 0 };
            assert_eq!(w.got(session).len(), due, "{row}: {resource}");
        }
        w.nothing(romeo);
        if resources.is_some() {
            assert_eq!(w.loaded("juliet").offline.0, 0, "{row}");
        }
    }
}

/// §8.5.1, §8.5.2.1.3, §8.5.2.2.3, §8.5.3 for an iq.
#[test]
fn s_8_5_iq() {
    let query = "<query xmlns='urn:example:unknown'/>";
    for (row, resources, to, _) in TABLE {
        for kind in ["get", "set", "result", "error"] {
            for knows in [false, true] {
                let mut w = World::new(&["romeo", "juliet"]);
                if knows {
                    w.acquaint("juliet", "romeo", stonechat::store::change::Subscription::From);
                }
                let contact = if resources.is_some() { "juliet" } else { "nobody" };
                let sessions: Vec<(&str, SessionId)> = resources
                    .unwrap_or(&[])
                    .iter()
                    .map(|(r, p)| (*r, w.login_with("juliet", r, *p)))
                    .collect();
                let romeo = w.login("romeo", "orchard");
                w.drop_all();
                let to = format!("{contact}@{DOMAIN}{to}");
                let payload = if kind == "error" {
                    "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
                } else {
                    query
                };
                w.send(romeo, &format!("<iq to='{to}' type='{kind}' id='i'>{payload}</iq>"));
                let request = matches!(kind, "get" | "set");
                let mut delivered = false;
                for (resource, session) in sessions {
                    let matches = to.ends_with(&format!("/{resource}"));
                    // §8.5.3.1: a request only from one who may see that the resource is there.
                    let due = matches && (knows || !request);
                    assert_eq!(w.got(session).len(), usize::from(due), "{row} {kind} {knows}: {resource}");
                    delivered |= due;
                }
                let back = w.got(romeo);
                if request && !delivered {
                    assert!(
                        back.len() == 1 && back[0].is_error("service-unavailable"),
                        "{row} {kind}: {back:?}"
                    );
                    assert_eq!(back[0].from(), to);
                } else {
                    assert!(back.is_empty(), "{row} {kind}: {back:?}");
                }
            }
        }
    }
}

/// §8.5.2.1.2, §8.5.3.1: presence without a verb goes to those who are available, or to the resource.
#[test]
fn s_8_5_presence() {
    for (row, resources, to, _) in TABLE {
        for kind in ["", " type='unavailable'"] {
            let mut w = World::new(&["romeo", "juliet"]);
            let contact = if resources.is_some() { "juliet" } else { "nobody" };
            let sessions: Vec<(&str, SessionId)> =
                resources.unwrap_or(&[]).iter().map(|(r, p)| (*r, w.login_with("juliet", r, *p))).collect();
            let romeo = w.login("romeo", "orchard");
            w.drop_all();
            let address = format!("{contact}@{DOMAIN}{to}");
            w.send(romeo, &format!("<presence to='{address}'{kind}/>"));
            for (resource, session) in sessions {
                let due = to.is_empty() || to[1..] == *resource;
                let got = w.got(session);
                assert_eq!(got.len(), usize::from(due), "{row}{kind}: {resource} {got:?}");
                assert!(got.iter().all(|g| g.from() == format!("romeo@{DOMAIN}/orchard")));
            }
            w.nothing(romeo);
        }
    }
}

/// §8.1.1.1: a message without `to` is to oneself.
#[test]
fn s_8_1_no_to() {
    let mut w = World::new(&["romeo"]);
    let (a, b) = (w.login_with("romeo", "a", 1), w.login_with("romeo", "b", 1));
    w.drop_all();
    w.send(a, "<message><body>note</body></message>");
    for session in [a, b] {
        let got = w.one(session);
        assert_eq!(got.attr("to").unwrap(), format!("romeo@{DOMAIN}"));
        assert_eq!(got.from(), format!("romeo@{DOMAIN}/a"));
    }
}

/// RFC 6120 §10.3, §10.5: the domain itself, another domain, and other names of ours.
#[test]
fn rfc_6120_10_5_domains() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.drop_all();
    for to in [DOMAIN, "hub.test/x", "10.0.0.1"] {
        w.send(romeo, &format!("<message to='{to}'><body>x</body></message>"));
        assert!(w.one(romeo).is_error("service-unavailable"), "{to}");
        w.send(romeo, &format!("<presence to='{to}'/>"));
        w.nothing(romeo);
    }
    w.send(romeo, "<message to='a@elsewhere.test'><body>x</body></message>");
    assert!(w.one(romeo).is_error("remote-server-not-found"));
    assert!(
        w.iq(romeo, "get", "elsewhere.test", "<ping xmlns='urn:xmpp:ping'/>")
            .is_error("remote-server-not-found")
    );
    // An address under another name of ours is the same account.
    w.send(romeo, "<message to='juliet@10.0.0.1'><body>x</body></message>");
    assert_eq!(w.one(juliet).attr("to").unwrap(), format!("juliet@{DOMAIN}"));
    let answer = w.iq(romeo, "get", "10.0.0.1", "<ping xmlns='urn:xmpp:ping'/>");
    assert_eq!((answer.kind(), answer.from()), ("result".into(), "10.0.0.1".into()));
}

/// RFC 6120 §8.2.3, §8.3.1: what an iq must be, and what a request to nobody in particular gets.
#[test]
fn rfc_6120_8_2_3_iq() {
    let mut w = World::new(&["romeo"]);
    let romeo = w.login("romeo", "a");
    for iq in [
        "<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq id='1' type='get'/>",
        "<iq id='1' type='set'><a xmlns='x'/><b xmlns='x'/></iq>",
        "<iq id='1' type='blah'><a xmlns='x'/></iq>",
        "<iq id='1'><a xmlns='x'/></iq>",
    ] {
        w.send(romeo, iq);
        assert!(w.one(romeo).is_error("bad-request"), "{iq}");
    }
    for to in ["", DOMAIN, "romeo@hub.test"] {
        assert!(w.iq(romeo, "get", to, "<a xmlns='urn:example:unknown'/>").is_error("service-unavailable"));
    }
}

/// §5.2.2 and RFC 6120 §8.1.5: `xml:lang` of the stream is put on what leaves it without one.
#[test]
fn rfc_6120_8_1_5_language() {
    use stonechat::hub::talk::Input;
    let mut w = World::new(&["romeo", "juliet"]);
    let account = stonechat::jid::BareJid::parse("romeo@hub.test").unwrap();
    let input = Input::Bind { ticket: 99, account: &account, resource: "fr", lang: Some("fr") };
    w.hub.handle(w.now, input, &mut w.ring);
    w.settle();
    let romeo = w.hub.sessions().next().unwrap().id;
    let juliet = w.login("juliet", "b");
    w.send(romeo, "<message to='juliet@hub.test'><body>salut</body></message>");
    w.send(romeo, "<message to='juliet@hub.test' xml:lang='it'><body>ciao</body></message>");
    let langs: Vec<_> = w
        .got(juliet)
        .iter()
        .map(|g| g.with(|n| n.attribute(("http://www.w3.org/XML/1998/namespace", "lang")).map(str::to_owned)))
        .collect();
    assert_eq!(langs, [Some("fr".into()), Some("it".into())]);
}
