//! §7: resource binding.

use crate::world::*;
use stonechat::stanza;

fn request(resource: &str) -> String {
    format!("<iq type='set' id='x'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{resource}</bind></iq>")
}

#[test]
fn s7_6_1_the_server_makes_one_up() {
    for xml in [request(""), request("<resource/>")] {
        let mut world = logged_in();
        let said = world.feed(xml);
        let (who, resource) = world.bound.unwrap();
        assert_eq!((who.as_str(), resource.len()), ("alice@a.test", 22));
        assert_eq!(
            said,
            format!(
                "<iq type='result' id='x'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>alice@a.test/{resource}</jid></bind></iq>"
            )
        );
    }
}

#[test]
fn s7_7_1_the_client_names_one() {
    let mut world = logged_in();
    let said = world.feed(request("<resource>balc&amp;ony</resource>"));
    assert!(said.contains("<jid>alice@a.test/balc&amp;ony</jid>"), "{said}");
    assert_eq!(world.bound.unwrap().1, "balc&ony");
}

#[test]
fn s7_6_bind_with_prefixes_from_the_header() {
    let mut world = World::new(tls());
    world.feed(HEADER);
    world.feed(auth("PLAIN", ALICE));
    world.feed(HEADER.replace(" to=", " xmlns:b='urn:ietf:params:xml:ns:xmpp-bind' to="));
    world.feed("<iq type='set' id='x'><b:bind><b:resource>desk</b:resource></b:bind></iq>");
    assert_eq!(world.bound.unwrap().1, "desk");
}

#[test]
fn s7_7_2_2_bad_request() {
    for (xml, id) in [
        (request("<resource>a&#9;b</resource>"), "x"),
        (request(&format!("<resource>{}</resource>", "x".repeat(1024))), "x"),
        (request("").replace("'set'", "'get'"), "x"),
    ] {
        let mut world = logged_in();
        let said = world.feed(xml);
        assert!(
            said.starts_with(&format!("<iq type='error' id='{id}'><error type='modify'><bad-request ")),
            "{said}"
        );
        world.feed(BIND);
        assert_eq!(world.bound.unwrap().1, "desk");
    }
    let mut world = logged_in();
    assert!(world.feed(request("").replace(" id='x'", "")).starts_with("<iq type='error'><error "));
}

#[test]
fn s7_6_2_refused() {
    let mut world = logged_in();
    world.refuse_bind = Some(stanza::Condition::ResourceConstraint.into());
    let said = world.feed(BIND);
    assert!(said.starts_with("<iq type='error' id='b1'><error type='wait'><resource-constraint "), "{said}");
    world.feed(BIND);
    assert!(world.bound.is_some());
}

#[test]
fn s7_1_nothing_before_bind() {
    for stanza in [
        "<message to='b@a.test'><body>x</body></message>",
        "<presence/>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
        "<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
        "<iq type='set' id='1'><x xmlns='y'/><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHBlbmNpbA==</auth>",
    ] {
        let mut world = logged_in();
        world.feed(stanza);
        assert_eq!(world.condition(), Some("not-authorized"), "{stanza}");
    }
}
