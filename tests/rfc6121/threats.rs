//! What others have tried: threats C1 to C5, C9, C12, B8 and E8 at the hub.

use crate::common::{DOMAIN, Got, World, keys};
use stonechat::store::change::{Answer, Ask, Subscription};

const BODY: &str = "<body>x</body>";

/// C1: however it is written, what arrives is from the session that sent it, or nothing arrives.
#[test]
fn c1_spellings_of_from() {
    let own = [
        "",
        "from='romeo@hub.test/a'",
        "from=\"romeo@hub.test/a\"",
        "from='romeo@hub.test'",
        "from='ROMEO@hub.test/a'",
        "from='romeo@HUB.test/a'",
        "from='romeo@hub.test./a'",
        "from='&#x72;omeo@hub.test/a'",
        "from = 'romeo@hub.test/a'",
        "from\n=\n'romeo&#64;hub.test&#47;a'",
        "FROM='juliet@hub.test'",
        "xmlns:x='urn:x' x:from='juliet@hub.test/b'",
        "xmlns:x='urn:x' x:from='juliet@hub.test/b' from='romeo@hub.test/a' x:to='nobody@hub.test'",
    ];
    let foreign = [
        "from='juliet@hub.test'",
        "from='juliet@hub.test/b'",
        "from='&#106;uliet@hub.test/b'",
        "from='&#x6A;&#x75;liet@hub.test/b'",
        "from='romeo@hub.test/other'",
        "from='romeo@hub.test/A'",
        "from='romeo@hub.test/a/'",
        "from='romeo@evil.test/a'",
        "from='hub.test'",
        "from='romeo'",
        "from='@hub.test'",
        "from=''",
        "from=' romeo@hub.test/a'",
        "from='\tromeo@hub.test/a'",
        "from='romeo@hub.test/a&#10;'",
        "from='r\u{43e}meo@hub.test/a'", // a Cyrillic letter
    ];
    let refused = [
        "from='romeo@hub.test/a' from='juliet@hub.test'",
        "from='romeo@hub.test/a' fr&#111;m='juliet@hub.test'",
        "from=romeo@hub.test",
        "from='ju<x/>liet@hub.test'",
    ];
    for (spellings, way) in [(&own[..], "taken"), (&foreign[..], "closed"), (&refused[..], "refused")] {
        for from in spellings {
            for element in ["message", "presence", "iq"] {
                let mut w = World::new(&["romeo", "juliet"]);
                w.acquaint("romeo", "juliet", Subscription::Both);
                let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
                w.drop_all();
                let payload = match element {
                    "message" => BODY,
                    "presence" => "<show>away</show>",
                    _ => "<q xmlns='urn:q'/>",
                };
                let rest = if element == "iq" { "type='get' id='1'" } else { "id='1'" };
                let stanza = format!("<{element} to='juliet@hub.test/b' {from} {rest}>{payload}</{element}>");
                let outcome = w.try_hear(romeo, &stanza);
                w.settle();
                let got: Vec<Got> = w.got(juliet);
                match way {
                    "taken" => {
                        assert_eq!(got.len(), 1, "{stanza}: {got:?}");
                        assert_eq!(got[0].from(), "romeo@hub.test/a", "{stanza}");
                        assert_eq!(got[0].0.matches(" from=").count(), 1, "{stanza}");
                        assert!(w.ended(romeo).is_none(), "{stanza}");
                    }
                    "closed" => {
                        assert!(w.ended(romeo).unwrap_or_default().contains("InvalidFrom"), "{stanza}");
                        assert!(got.iter().all(|g| g.kind() == "unavailable"), "{stanza}: {got:?}");
                        assert!(w.hub.session(romeo).is_none());
                    }
                    _ => {
                        assert!(outcome.is_err(), "{stanza}");
                        assert!(got.is_empty());
                    }
                }
            }
        }
    }
}

/// C1: the stanza itself under another name of its namespace, and `to` in other spellings.
#[test]
fn c1_prefixes_and_spellings_of_to() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    for stanza in [
        "<c:message xmlns:c='jabber:client' to='juliet@hub.test'><c:body>x</c:body></c:message>",
        "<message xmlns='urn:other' to='juliet@hub.test'/>",
        "<message xmlns='' to='juliet@hub.test'/>",
        "<Message to='juliet@hub.test'/>",
    ] {
        assert!(w.try_hear(romeo, stanza).is_err(), "{stanza}");
    }
    for to in [
        "JULIET@hub.test",
        "&#x6a;uliet@HUB.TEST",
        "juliet@hub.test.",
        "juliet&#64;hub.test",
        "juliet@10.0.0.1",
    ] {
        w.send(romeo, &format!("<message to='{to}'>{BODY}</message>"));
        assert_eq!(w.one(juliet).attr("to").as_deref(), Some("juliet@hub.test"), "{to}");
    }
}

/// C2: what looks like the hub's own words arrives with the name of who said it, or not at all.
#[test]
fn c2_forged_pushes_results_and_carbons() {
    let mut w = World::new(&["mallory", "juliet"]);
    let (mallory, juliet) = (w.login("mallory", "m"), w.login("juliet", "b"));
    let push = "<query xmlns='jabber:iq:roster'><item jid='mallory@hub.test' subscription='both'/></query>";
    for to in ["juliet@hub.test", "juliet@hub.test/b", "nobody@hub.test"] {
        w.send(mallory, &format!("<iq type='set' id='1' to='{to}'>{push}</iq>"));
        let answer = w.one(mallory);
        assert!(matches!(answer.error().as_deref(), Some("forbidden" | "service-unavailable")), "{to}");
        w.nothing(juliet);
    }
    w.send(mallory, &format!("<iq type='result' id='1' to='juliet@hub.test/b'>{push}</iq>"));
    assert_eq!(w.one(juliet).from(), "mallory@hub.test/m", "true, whatever it says");
    let message =
        "<message xmlns='jabber:client' from='nurse@hub.test' to='juliet@hub.test'><body>!</body></message>";
    let wrapped = format!("<forwarded xmlns='urn:xmpp:forward:0'>{message}</forwarded>");
    for forged in [
        format!("<received xmlns='urn:xmpp:carbons:2'>{wrapped}</received>"),
        format!("<sent xmlns='urn:xmpp:carbons:2'>{wrapped}</sent>"),
        format!("{BODY}<c:sent xmlns:c='urn:xmpp:carbons:2'>{wrapped}</c:sent>{BODY}"),
        format!(
            "<received xmlns=\"urn:xmpp:carbons:2\">{wrapped}</received><received xmlns='urn:xmpp:carbons:2'/>"
        ),
    ] {
        for to in ["juliet@hub.test", "juliet@hub.test/b"] {
            w.send(mallory, &format!("<message type='chat' to='{to}'>{forged}</message>"));
            let got = w.one(juliet);
            assert_eq!(got.from(), "mallory@hub.test/m");
            assert!(
                !got.has("urn:xmpp:carbons:2", "received") && !got.has("urn:xmpp:carbons:2", "sent"),
                "{got:?}"
            );
        }
    }
    // With the prefix declared on the stanza.
    let stanza = format!(
        "<message xmlns:c='urn:xmpp:carbons:2' to='juliet@hub.test'><c:sent>{wrapped}</c:sent></message>"
    );
    w.send(mallory, &stanza);
    assert!(!w.one(juliet).has("urn:xmpp:carbons:2", "sent"));
}

/// C3, C4: delays and ids in our name are ours alone, live and after a night in the store.
#[test]
fn c3_c4_forged_delays_and_ids() {
    for away in [false, true] {
        let mut w = World::new(&["mallory", "juliet"]);
        let mallory = w.login("mallory", "m");
        let early = (!away).then(|| w.login("juliet", "b"));
        let old = "stamp='2001-01-01T00:00:00Z'";
        let forged = [
            format!("<delay xmlns='urn:xmpp:delay' from='hub.test' {old}/>"),
            format!("<delay xmlns='urn:xmpp:delay' from='HUB.test' {old}>x</delay>"),
            format!("<delay xmlns='urn:xmpp:delay' from='10.0.0.1' {old}/>"),
            format!("<delay xmlns='urn:xmpp:delay' from='&#106;uliet@hub.test' {old}/>"),
            format!("<delay xmlns='urn:xmpp:delay' from='juliet@hub.test/b' {old}/>"),
            format!("<delay xmlns='urn:xmpp:delay' {old}/>"),
            format!("<d:delay xmlns:d='urn:xmpp:delay' from='hub.test' {old}/>"),
            "<x xmlns='jabber:x:delay' from='hub.test' stamp='20010101T00:00:00'/>".into(),
            "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@hub.test' id='1'/>".into(),
            "<stanza-id xmlns=\"urn:xmpp:sid:0\" by=\"JULIET@hub.test\" id=\"2\"></stanza-id>".into(),
            "<s:stanza-id xmlns:s='urn:xmpp:sid:0' by='hub.test' id='3'><a/></s:stanza-id>".into(),
            "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@10.0.0.1' id='4'/>".into(),
            "<stanza-id xmlns='urn:xmpp:sid:0' id='5'/>".into(),
        ];
        let kept = "<delay xmlns='urn:xmpp:delay' from='room@rooms.test' stamp='2002-02-02T00:00:00Z'/>\
            <stanza-id xmlns='urn:xmpp:sid:0' by='room@rooms.test' id='6'/><origin-id xmlns='urn:xmpp:sid:0' id='7'/>";
        let (first, rest) = forged.split_at(5);
        let inside = format!("{}{BODY}{kept}{}", first.concat(), rest.concat());
        w.send(mallory, &format!("<message type='chat' to='juliet@hub.test'>{inside}</message>"));
        let juliet = early.unwrap_or_else(|| {
            let juliet = w.bound("juliet", "b");
            w.send(juliet, "<presence/>");
            juliet
        });
        let got = w.got(juliet).into_iter().find(|g| g.name() == "message").unwrap();
        let of = |name: &str, attr: &str| -> Vec<String> {
            got.with(|n| {
                let all = n.children().filter(|c| c.tag_name().name() == name);
                all.filter_map(|c| c.attribute(attr).map(str::to_owned)).collect()
            })
        };
        let delays = of("delay", "from");
        assert_eq!(
            delays,
            if away { vec!["room@rooms.test", DOMAIN] } else { vec!["room@rooms.test"] },
            "{got:?}"
        );
        assert!(!got.has("jabber:x:delay", "x"));
        assert_eq!(of("stanza-id", "by"), ["room@rooms.test", "juliet@hub.test"], "{got:?}");
        assert!(!of("stanza-id", "id").iter().any(|id| "12345".contains(&**id)));
        assert_eq!(of("origin-id", "id"), ["7"]);
        assert_eq!(got.body().as_deref(), Some("x"));
    }
}

/// C5: no answer to an error or a result, from anything.
#[test]
fn c5_errors_are_never_answered() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.drop_all();
    let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    for to in [
        "",
        DOMAIN,
        "hub.test/x",
        "romeo@hub.test",
        "juliet@hub.test",
        "juliet@hub.test/none",
        "nobody@hub.test",
        "nobody@hub.test/x",
        "x@elsewhere.test",
        "@bad",
    ] {
        let to = if to.is_empty() { String::new() } else { format!("to='{to}'") };
        for stanza in [
            format!("<message {to} type='error'>{error}</message>"),
            format!("<iq {to} type='error' id='1'>{error}</iq>"),
            format!("<iq {to} type='result' id='1'/>"),
            format!("<iq {to} type='result' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"),
            format!("<presence {to} type='error'>{error}</presence>"),
        ] {
            w.send(romeo, &stanza);
            w.nothing(romeo);
            w.nothing(juliet);
            assert!(w.ended(romeo).is_none(), "{stanza}");
        }
    }
}

/// C9, B8: to whom an account does not show its presence, it answers like one that is not there.
#[test]
fn c9_b8_strangers_learn_nothing() {
    let requests = [
        ("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"),
        ("get", "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>"),
        ("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>"),
        ("get", "<query xmlns='http://jabber.org/protocol/disco#items' node='x'/>"),
        ("get", "<query xmlns='jabber:iq:last'/>"),
        ("get", "<query xmlns='jabber:iq:version'/>"),
        ("get", "<query xmlns='jabber:iq:roster'/>"),
        ("set", "<query xmlns='jabber:iq:roster'><item jid='a@b.test'/></query>"),
        ("get", "<query xmlns='jabber:iq:private'><x xmlns='y'/></query>"),
        ("get", "<query xmlns='jabber:iq:register'/>"),
        ("set", "<query xmlns='jabber:iq:register'><remove/></query>"),
        ("get", "<vCard xmlns='vcard-temp'/>"),
        ("set", "<vCard xmlns='vcard-temp'/>"),
        ("get", "<ping xmlns='urn:xmpp:ping'/>"),
        ("get", "<time xmlns='urn:xmpp:time'/>"),
        ("get", "<blocklist xmlns='urn:xmpp:blocking'/>"),
        ("set", "<enable xmlns='urn:xmpp:carbons:2'/>"),
        ("get", "<query xmlns='urn:example:unknown'/>"),
    ];
    for sub in [Subscription::None, Subscription::To, Subscription::From, Subscription::Both] {
        let mut w = World::new(&["mallory", "juliet", "absent"]);
        for account in ["juliet", "absent"] {
            w.acquaint(account, "mallory", sub);
        }
        let mallory = w.login("mallory", "m");
        w.login("juliet", "b");
        let shown = matches!(sub, Subscription::From | Subscription::Both);
        let mut differ = 0;
        for (kind, payload) in requests {
            for resource in ["", "/b", "/none"] {
                let answers: Vec<String> = ["juliet", "absent", "nobody"]
                    .iter()
                    .map(|name| {
                        let to = format!("{name}@hub.test{resource}");
                        w.send(mallory, &format!("<iq type='{kind}' id='q' to='{to}'>{payload}</iq>"));
                        format!("{:?}", w.got(mallory)).replace(&to, "TO")
                    })
                    .collect();
                let same = answers.iter().all(|a| *a == answers[2]);
                assert!(shown || same, "{sub:?} {resource} {payload}: {answers:?}");
                differ += usize::from(!same);
            }
        }
        assert_eq!(differ > 0, shown, "{sub:?}");
    }
}

/// C12: addresses of every shape on every kind of stanza: at most one answer, nobody falls over.
#[test]
fn c12_shapes_of_addresses() {
    let long = "x".repeat(1023);
    let longer = "x".repeat(1024);
    let mut shapes: Vec<(String, bool)> = Vec::new(); // and whether it is an address
    for (local, local_good) in [
        (None, true),
        (Some("a"), true),
        (Some(""), false),
        (Some(&*long), true),
        (Some(&*longer), false),
        (Some("a b"), false),
        (Some("a@b"), false),
        (Some("\u{ad}"), false),
    ] {
        for (domain, domain_good) in [
            ("hub.test", true),
            ("", false),
            ("elsewhere.test", true),
            ("[::1]", true),
            ("127.0.0.1", true),
            (&*longer, false),
            ("a..b", false),
        ] {
            for (resource, resource_good) in [
                (None, true),
                (Some("r"), true),
                (Some(""), false),
                (Some(&*long), true),
                (Some(&*longer), false),
                (Some("a/b@c"), true),
            ] {
                let mut jid = local.map_or(String::new(), |l| format!("{l}@"));
                jid.push_str(domain);
                jid.push_str(&resource.map_or(String::new(), |r| format!("/{r}")));
                shapes.push((jid, local_good && domain_good && resource_good));
            }
        }
    }
    let mut w = World::with(&["romeo"], |l| l.roster_items = 1_000_000);
    let romeo = w.login("romeo", "a");
    w.drop_all();
    for (shape, good) in shapes {
        for stanza in [
            format!("<message to='{shape}' id='s'>{BODY}</message>"),
            format!("<presence to='{shape}' id='s'/>"),
            format!("<presence to='{shape}' id='s' type='unavailable'/>"),
            format!("<presence to='{shape}' id='s' type='probe'/>"),
            format!("<iq to='{shape}' id='s' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"),
        ] {
            w.send(romeo, &stanza);
            let got = w.got(romeo);
            let malformed = got.iter().any(|g| g.is_error("jid-malformed"));
            assert_eq!(malformed, !good, "{stanza}: {got:?}");
            assert!(got.len() <= 1, "{stanza}: {got:?}");
            assert!(got.iter().all(|g| g.attr("id").as_deref() == Some("s") || g.name() == "presence"));
        }
    }
    assert!(w.ended(romeo).is_none());
}

/// E8: nothing of an account is left to the next owner of its name.
#[test]
fn e8_a_new_owner_inherits_nothing() {
    let mut w = World::new(&["romeo", "juliet"]);
    w.acquaint("juliet", "romeo", Subscription::Both);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    w.iq(juliet, "set", "", "<vCard xmlns='vcard-temp'><FN>J</FN></vCard>");
    w.iq(juliet, "set", "", "<query xmlns='jabber:iq:private'><x xmlns='y'>secret</x></query>");
    w.iq(juliet, "set", "", "<block xmlns='urn:xmpp:blocking'><item jid='tybalt@hub.test'/></block>");
    w.iq(juliet, "set", "", "<query xmlns='jabber:iq:roster'><item jid='nurse@hub.test'/></query>");
    w.send(juliet, "<presence type='unavailable'><status>gone</status></presence>");
    w.send(romeo, &format!("<message to='juliet@hub.test'>{BODY}</message>"));
    assert_eq!(w.loaded("juliet").offline.0, 1);
    w.drop_all();
    let answer = w.iq(juliet, "set", "", "<query xmlns='jabber:iq:register'><remove/></query>");
    assert_eq!(answer.kind(), "result");
    assert!(w.ended(juliet).unwrap().contains("NotAuthorized"), "XEP-0077 §3.2");
    assert!(w.got(romeo).iter().any(|g| g.kind() == "unsubscribed"));
    assert_eq!(w.ask(vec![], Ask::Account { localpart: "juliet".into() }), Answer::Account(None));

    let made =
        w.ask(vec![], Ask::Create { localpart: "juliet".into(), keys: keys("new"), invite: None, now: 2 });
    assert!(matches!(made, Answer::Created(Ok(_))));
    let juliet = w.bound("juliet", "b");
    w.send(juliet, "<presence/>");
    assert_eq!(w.got(juliet).len(), 1, "only her own presence");
    assert!(w.iq(juliet, "get", "", "<vCard xmlns='vcard-temp'/>").is_error("item-not-found"));
    assert!(
        !w.iq(juliet, "get", "", "<query xmlns='jabber:iq:private'><x xmlns='y'/></query>")
            .0
            .contains("secret")
    );
    assert!(
        !w.iq(juliet, "get", "", "<blocklist xmlns='urn:xmpp:blocking'/>").has("urn:xmpp:blocking", "item")
    );
    assert!(!w.iq(juliet, "get", "", "<query xmlns='jabber:iq:roster'/>").has("jabber:iq:roster", "item"));
    w.drop_all();
    w.send(juliet, "<presence><show>chat</show></presence>");
    w.nothing(romeo);
}

/// B8: a probe tells nobody whether there is such an account, not even who has asked to see it.
#[test]
fn probes_tell_nobody_who_exists() {
    let mut w = World::new(&["mallory", "juliet"]);
    let mallory = w.login("mallory", "m");
    let mut seen = Vec::new();
    for name in ["juliet", "nobody"] {
        for asked in [false, true] {
            if asked {
                w.send(mallory, &format!("<presence type='subscribe' to='{name}@hub.test'/>"));
                w.drop_all();
            }
            w.send(mallory, &format!("<presence type='probe' to='{name}@hub.test'/>"));
            let got = w.got(mallory);
            seen.push(got.iter().map(|g| g.short().replace(name, "X")).collect::<Vec<_>>());
        }
    }
    assert_eq!(seen[..2], seen[2..]);
    assert!(seen[0].is_empty() && seen[1].iter().any(|s| s.contains("unsubscribed")), "{seen:?}");
}

/// XEP-0191 §5: one blocked resource does not learn of us by coming online, either.
#[test]
fn a_blocked_resource_sees_nothing_at_login() {
    let mut w = World::new(&["juliet", "romeo"]);
    w.acquaint("juliet", "romeo", stonechat::store::change::Subscription::Both);
    let juliet = w.login("juliet", "j");
    let block = "<block xmlns='urn:xmpp:blocking'><item jid='romeo@hub.test/bad'/></block>";
    w.iq(juliet, "set", "", block);
    for (resource, sees) in [("bad", 0), ("good", 1)] {
        let romeo = w.bound("romeo", resource);
        w.send(romeo, "<presence/>");
        let all = w.got(romeo);
        assert_eq!(all.iter().filter(|g| g.from().starts_with("juliet")).count(), sees, "{all:?}");
    }
}

/// E1: what one session has under way is bounded in bytes as well as in number.
#[test]
fn large_jobs_count_for_more() {
    let mut w = World::with(&["romeo", "juliet"], |l| l.jobs_per_session = 8);
    let romeo = w.login("romeo", "a");
    w.held = true;
    let message =
        |to: &str, n: usize| format!("<message to='{to}@hub.test'><body>{}</body></message>", "x".repeat(n));
    for to in ["juliet", "nobody"] {
        for (n, times) in [(100, 8), (20_000, 2), (200_000, 1)] {
            for _ in 0..times {
                assert!(!w.hub.congested(romeo), "{to} {n}");
                w.hear(romeo, &message(to, n));
            }
            assert!(w.hub.congested(romeo), "{to} {n}");
            w.release();
            w.held = true;
            assert!(!w.hub.congested(romeo), "{to} {n}");
        }
    }
    w.hub.limits.jobs_per_session = 0;
    assert!(!w.hub.congested(romeo), "0 is as few as there can be");
}

/// RFC 6120 §8.1.2.1: a client that came by another of our names may call itself by it.
#[test]
fn from_under_another_name() {
    let mut w = World::new(&["romeo", "juliet"]);
    let (romeo, juliet) = (w.login("romeo", "a"), w.login("juliet", "b"));
    for from in ["romeo@10.0.0.1/a", "romeo@hub"] {
        w.send(romeo, &format!("<message from='{from}' to='juliet@hub.test'><body>x</body></message>"));
        assert_eq!(w.one(juliet).from(), "romeo@hub.test/a");
    }
    w.send(romeo, "<message from='juliet@10.0.0.1' to='juliet@hub.test'><body>x</body></message>");
    assert!(w.ended(romeo).is_some());
    w.nothing(juliet);
}
