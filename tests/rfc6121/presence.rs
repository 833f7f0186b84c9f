//! §4: exchanging presence.

use crate::common::{DOMAIN, World, short};
use stonechat::store::change::Subscription::{Both, From, None, To};

fn p(from: &str, kind: &str) -> String {
    format!(
        "presence {}@{DOMAIN}/{} {kind}",
        from.split('/').next().unwrap(),
        from.split('/').nth(1).unwrap()
    )
    .trim_end()
    .into()
}

/// §4.2.2: to those that may see it, and to one's own resources; §4.3: and back from those one sees.
#[test]
fn s_4_2_initial_presence() {
    for (state, sees_me, i_see) in
        [(None, false, false), (From, true, false), (To, false, true), (Both, true, true)]
    {
        let mut w = World::new(&["juliet", "romeo"]);
        w.acquaint("juliet", "romeo", state);
        let romeo = w.login("romeo", "orchard");
        let other = w.login("juliet", "other");
        w.drop_all();
        let juliet = w.bound("juliet", "balcony");
        w.send(juliet, "<presence><show>chat</show></presence>");
        let theirs = short(&w.got(romeo));
        assert_eq!(theirs, if sees_me { vec![p("juliet/balcony", "")] } else { vec![] }, "{state:?}");
        assert_eq!(short(&w.got(other)), [p("juliet/balcony", "")]);
        let mut mine = short(&w.got(juliet));
        mine.sort();
        let mut due = vec![p("juliet/balcony", ""), p("juliet/other", "")];
        due.extend(i_see.then(|| p("romeo/orchard", "")));
        assert_eq!(mine, due, "{state:?}");
    }
}

/// §4.2.2: it arrives as it was sent, with a `to` that is a bare address, and only once.
#[test]
fn s_4_2_2_as_it_was_sent() {
    let mut w = World::new(&["juliet", "romeo"]);
    w.acquaint("juliet", "romeo", Both);
    let romeo = w.login("romeo", "orchard");
    let juliet = w.bound("juliet", "balcony");
    w.drop_all();
    w.send(juliet, "<presence id='p1' xml:lang='it'><status>ciao</status><x xmlns='y:z'/></presence>");
    let got = w.one(romeo);
    assert_eq!(got.attr("to").unwrap(), format!("romeo@{DOMAIN}"));
    assert_eq!((got.text("", "status").as_deref(), got.has("y:z", "x")), (Some("ciao"), true));
    // A probe later brings the same.
    let again = w.bound("romeo", "again");
    w.send(again, "<presence/>");
    let probed = w.got(again).into_iter().find(|g| g.from().starts_with("juliet")).unwrap();
    assert_eq!(probed.text("", "status").as_deref(), Some("ciao"));
}

/// §4.4: later presence; nobody is probed again.
#[test]
fn s_4_4_subsequent() {
    let mut w = World::new(&["juliet", "romeo"]);
    w.acquaint("juliet", "romeo", Both);
    let (romeo, juliet) = (w.login("romeo", "orchard"), w.login("juliet", "balcony"));
    w.drop_all();
    w.send(juliet, "<presence><show>away</show></presence>");
    assert_eq!(short(&w.got(romeo)), [p("juliet/balcony", "")]);
    assert_eq!(short(&w.got(juliet)), [p("juliet/balcony", "")]);
}

/// §4.5: by its own word, by a disconnect, by a conflict: once, to everybody who saw it.
#[test]
fn s_4_5_unavailable() {
    for how in ["said", "closed", "conflict", "both"] {
        let mut w = World::new(&["juliet", "romeo", "nurse"]);
        w.acquaint("juliet", "romeo", Both);
        let (romeo, nurse) = (w.login("romeo", "orchard"), w.login("nurse", "hall"));
        let other = w.login("juliet", "other");
        let juliet = w.login("juliet", "balcony");
        w.send(juliet, &format!("<presence to='nurse@{DOMAIN}/hall'/>"));
        w.drop_all();
        match how {
            "said" => w.send(juliet, "<presence type='unavailable'><status>bye</status></presence>"),
            "closed" => w.close(juliet),
            "conflict" => {
                w.bound("juliet", "balcony");
                assert!(w.ended(juliet).unwrap().contains("Conflict"));
            }
            _ => {
                w.send(juliet, "<presence type='unavailable'/>");
                w.close(juliet);
            }
        }
        let gone = [p("juliet/balcony", "unavailable")];
        let heard = w.got(romeo);
        assert_eq!(short(&heard), gone, "{how}");
        assert_eq!(short(&w.got(other)), gone, "{how}");
        assert_eq!(short(&w.got(nurse)), gone, "{how}: §4.6.3, shown by hand");
        if how == "said" {
            assert_eq!(heard[0].text("", "status").as_deref(), Some("bye"));
            // §4.5.2: it is connected still, and hears nothing more.
            w.got(juliet);
            w.send(romeo, "<presence><show>xa</show></presence>");
            w.nothing(juliet);
        }
    }
}

/// §4.3.2: a probe that a client sends itself.
#[test]
fn s_4_3_2_probe() {
    let mut w = World::new(&["juliet", "romeo", "stranger"]);
    w.acquaint("juliet", "romeo", From);
    let juliet = w.login("juliet", "balcony");
    w.bound("juliet", "silent");
    let romeo = w.login("romeo", "orchard");
    let stranger = w.login("stranger", "x");
    w.drop_all();
    for to in ["juliet@hub.test", "juliet@hub.test/balcony"] {
        w.send(romeo, &format!("<presence type='probe' to='{to}'/>"));
        assert_eq!(short(&w.got(romeo)), [p("juliet/balcony", "")], "{to}");
    }
    w.nothing(juliet);
    // Threat C9: a stranger learns nothing, least of all whether there is such an account.
    let mut answers = Vec::new();
    for to in ["juliet@hub.test", "nobody@hub.test"] {
        w.send(stranger, &format!("<presence type='probe' to='{to}'/>"));
        answers.push(w.got(stranger).iter().map(|g| g.0.replace(to, "TO")).collect::<Vec<_>>());
    }
    assert_eq!(answers[0], answers[1]);
}

/// §4.6: directed presence, bounded, and forgotten when it is taken back.
#[test]
fn s_4_6_directed() {
    let mut w = World::with(&["juliet", "romeo"], |l| l.directed = 2);
    let (romeo, juliet) = (w.login("romeo", "orchard"), w.login("juliet", "balcony"));
    w.drop_all();
    w.send(juliet, &format!("<presence to='romeo@{DOMAIN}'/>"));
    assert_eq!(short(&w.got(romeo)), [p("juliet/balcony", "")]);
    // §8.5.3.1: who was shown it may ask the resource.
    w.send(
        romeo,
        "<iq type='get' id='v' to='juliet@hub.test/balcony'><query xmlns='jabber:iq:version'/></iq>",
    );
    assert_eq!(w.got(juliet).len(), 1);
    w.send(juliet, &format!("<presence type='unavailable' to='romeo@{DOMAIN}'/>"));
    assert_eq!(short(&w.got(romeo)), [p("juliet/balcony", "unavailable")]);
    w.send(juliet, "<presence type='unavailable'/>");
    w.nothing(romeo);
    w.drop_all();
    for n in 0..3 {
        w.send(juliet, &format!("<presence to='{n}@{DOMAIN}'/>"));
    }
    assert!(w.one(juliet).is_error("resource-constraint"));
}

/// §4.7.2.3
#[test]
fn s_4_7_2_3_priority() {
    let mut w = World::new(&["juliet"]);
    let juliet = w.login("juliet", "a");
    for (text, good) in [
        ("-128", true),
        ("127", true),
        ("+5", true),
        (" 0 ", true),
        ("128", false),
        ("-129", false),
        ("x", false),
        ("", false),
    ] {
        w.send(juliet, &format!("<presence><priority>{text}</priority></presence>"));
        let got = w.one(juliet);
        assert_eq!(got.is_error("bad-request"), !good, "{text:?}: {got:?}");
    }
    w.send(juliet, "<presence><priority a='>'>5</priority></presence>");
    assert!(!w.one(juliet).is_error("bad-request"));
    w.send(juliet, "<presence type='blah'/>");
    assert!(w.one(juliet).is_error("bad-request"));
}

/// RFC 6120 §7.6, threat C8: so many resources and no more; the freed place can be taken.
#[test]
fn c8_resources_are_bounded() {
    let mut w = World::with(&["juliet"], |l| l.resources_per_account = 3);
    let ids: Vec<_> = (0..3).map(|n| w.bound("juliet", &format!("r{n}"))).collect();
    assert_eq!(w.bind("juliet", "one-more").unwrap_err().condition.name(), "resource-constraint");
    assert!(w.bind("juliet", "r0").is_ok(), "§7.7.2.2: a conflict takes no place");
    assert!(w.ended(ids[0]).unwrap().contains("Conflict"));
    w.close(ids[1]);
    assert!(w.bind("juliet", "one-more").is_ok());
    assert_eq!(w.hub.live_sessions(), 3);
    assert_eq!(w.bind("nobody", "x").unwrap_err().condition.name(), "not-allowed");
}

/// A number of a session that is gone speaks for nobody, not even after its place was taken.
#[test]
fn old_numbers_are_harmless() {
    let mut w = World::new(&["juliet", "romeo"]);
    let old = w.login("juliet", "a");
    w.close(old);
    let new = w.login("romeo", "b");
    assert_eq!(old.index, new.index);
    w.send(old, &format!("<message to='romeo@{DOMAIN}'><body>x</body></message>"));
    w.nothing(new);
    w.close(old);
    assert_eq!(w.hub.live_sessions(), 1);
}
