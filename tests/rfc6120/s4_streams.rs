//! §4: headers, features, errors, the end.

use crate::world::*;
use stonechat::stream::{Condition, Error, Registration, Security};

/// Feeds a header built of attributes.
fn open(attributes: &str) -> World {
    let mut world = World::new(PLAIN);
    world.feed(format!("<stream:stream {attributes}>"));
    world
}

const NS: &str = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'";

#[test]
fn s4_7_the_answer_header() {
    let mut world = World::new(PLAIN);
    let said = world.feed(format!(
        "<?xml version='1.0'?><stream:stream {NS} to='A.Test' from='alice@a.test/x' version='1.0' xml:lang='de'>"
    ));
    let start = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='";
    assert!(said.starts_with(start), "{said}");
    assert!(
        said.contains("' from='a.test' to='alice@a.test' version='1.0' xml:lang='de'><stream:features>"),
        "{said}"
    );
    assert!(said.ends_with("</stream:features>"), "{said}");
}

#[test]
fn s4_7_3_ids_differ_within_a_connection() {
    let id = |said: &str| said.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let mut world = World::new(tls());
    let first = id(&world.feed(HEADER));
    world.feed(auth("PLAIN", ALICE));
    let second = id(&world.feed(HEADER));
    assert_eq!(first.len(), 22);
    assert_ne!(first, second);
}

#[test]
fn s4_7_2_no_to_means_the_domain_and_aliases_answer_by_their_name() {
    let mut world = World::new(PLAIN);
    let said = world.feed(format!("<stream:stream {NS} version='1.0'>"));
    assert!(said.contains(" from='a.test' "), "{said}");
    let mut world = World::new(PLAIN);
    let said = world.feed(format!("<stream:stream {NS} to='b.test' version='1.0'>"));
    assert!(said.contains(" from='b.test' "), "{said}");
    assert_eq!(&*world.stream.established().to, "b.test");
}

#[test]
fn s4_3_2_features_by_listener() {
    let mechanisms = |list: &[&str]| {
        let inner: String = list.iter().map(|m| format!("<mechanism>{m}</mechanism>")).collect();
        format!("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{inner}</mechanisms>")
    };
    let features = |security: Security, registration: Registration| {
        let said = World::with(settings(registration), security).feed(HEADER);
        said.split_once("<stream:features>").unwrap().1.replace("</stream:features>", "")
    };
    let limits = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes><idle-seconds>600</idle-seconds></limits>";
    let register = "<register xmlns='http://jabber.org/features/iq-register'/>";
    let invited = "<register xmlns='urn:xmpp:ibr-token:0'/>";
    let types = "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
                 <channel-binding type='tls-server-end-point'/></sasl-channel-binding>";

    for registration in [Registration::Closed, Registration::Invite, Registration::Open] {
        assert_eq!(
            features(REQUIRED, registration),
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
        );
    }
    let plain = mechanisms(&["SCRAM-SHA-256", "SCRAM-SHA-1"]);
    let starttls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    assert_eq!(features(PLAIN, Registration::Invite), format!("{starttls}{plain}{limits}"));
    assert_eq!(features(PLAIN, Registration::Open), format!("{starttls}{plain}{register}{limits}"));
    let bare = Security::Plain { starttls: false, required: false };
    assert_eq!(features(bare, Registration::Closed), format!("{plain}{limits}"));

    let plus = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];
    let all = mechanisms(&plus);
    assert_eq!(features(tls(), Registration::Closed), format!("{all}{types}{limits}"));
    assert_eq!(features(tls(), Registration::Invite), format!("{all}{types}{register}{invited}{limits}"));
    assert_eq!(features(tls(), Registration::Open), format!("{all}{types}{register}{invited}{limits}"));
    let external = mechanisms(&[&["EXTERNAL"][..], &plus[..]].concat());
    assert_eq!(features(tls_alice(), Registration::Closed), format!("{external}{types}{limits}"));
    let unbound = Security::Tls { bindings: Default::default(), certificate: None };
    let some = mechanisms(&["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"]);
    assert_eq!(features(unbound, Registration::Closed), format!("{some}{limits}"));
}

#[test]
fn s4_3_2_features_after_login() {
    let mut world = World::new(tls());
    world.feed(HEADER);
    world.feed(auth("PLAIN", ALICE));
    let said = world.feed(HEADER);
    let features = said.split_once("<stream:features>").unwrap().1;
    assert_eq!(
        features,
        "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
         <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>\
         <sub xmlns='urn:xmpp:features:pre-approval'/>\
         <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes><idle-seconds>600</idle-seconds></limits>\
         </stream:features>"
    );
}

#[test]
fn s4_4_the_footer_is_answered() {
    let mut world = World::new(PLAIN);
    world.feed(HEADER);
    assert_eq!(world.feed("</stream:stream>"), "</stream:stream>");
    assert_eq!(world.asked, ["closed"]);
    let mut world = logged_in();
    assert_eq!(world.feed("</stream:stream>"), "</stream:stream>");
    assert!(world.closed && world.error.is_none());
}

#[test]
fn s4_6_1_whitespace_is_nothing() {
    let mut world = World::new(tls());
    world.feed(HEADER);
    assert_eq!(world.feed(" \n"), "");
    world.feed(auth("PLAIN", ALICE));
    world.feed(HEADER);
    world.feed(" ");
    world.feed(BIND);
    assert!(world.bound.is_some());
}

#[test]
fn s4_9_1_1_an_error_from_the_client_ends_the_stream() {
    let mut world = World::new(PLAIN);
    world.feed(HEADER);
    let error = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    assert_eq!(world.feed(error), "</stream:stream>");
    assert!(world.closed);
}

#[test]
fn s4_9_1_2_an_error_in_the_header_comes_after_our_header() {
    let mut world = World::new(PLAIN);
    let said = world.feed(format!("<stream:stream {NS} to='c.test' version='1.0'>"));
    let (header, rest) = said.split_once("'en'>").unwrap();
    assert!(
        header.starts_with("<?xml version='1.0'?><stream:stream ") && header.contains(" from='a.test' "),
        "{said}"
    );
    assert_eq!(
        rest,
        "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
    );
}

#[test]
fn s4_9_3_1_bad_format() {
    let mut world = World::new(PLAIN);
    world.feed(format!("<stream:flood {NS} version='1.0'>"));
    assert_eq!(world.condition(), Some("bad-format"));
}

#[test]
fn s4_9_3_2_bad_namespace_prefix() {
    let mut world = World::new(PLAIN);
    world.feed("<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' to='a.test' version='1.0'>");
    assert_eq!(world.condition(), Some("bad-namespace-prefix"));
    let mut world = World::new(PLAIN);
    world.feed(format!("<stream:stream {NS} xmlns:c='jabber:client' version='1.0'>"));
    world.feed("<c:message><body xmlns='jabber:client'/></c:message>");
    assert_eq!(world.condition(), Some("bad-namespace-prefix"));
}

#[test]
fn s4_9_3_3_conflict_and_the_others_that_come_from_the_ring() {
    for condition in [
        Condition::Conflict,
        Condition::ConnectionTimeout,
        Condition::SystemShutdown,
        Condition::Reset,
        Condition::ResourceConstraint,
        Condition::InternalServerError,
    ] {
        let mut world = logged_in();
        let mut out = Vec::new();
        world.stream.fail(&Error::new(condition), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "<stream:error><{} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
                condition.name()
            )
        );
    }
}

#[test]
fn s4_9_3_4_connection_timeout_before_any_byte() {
    let mut world = World::new(PLAIN);
    let mut out = Vec::new();
    world.stream.fail(&Error::new(Condition::ConnectionTimeout), &mut out);
    let said = String::from_utf8(out).unwrap();
    assert!(said.starts_with("<?xml version='1.0'?><stream:stream "), "{said}");
    assert!(said.ends_with(
        "<connection-timeout xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
    ));
}

#[test]
fn s4_9_3_6_host_unknown() {
    for to in ["c.test", "a.test.evil", "alice@a.test", "a.test/x", "", " a.test"] {
        let world = open(&format!("{NS} to='{to}' version='1.0'"));
        assert_eq!(world.condition(), Some("host-unknown"), "{to}");
    }
}

#[test]
fn s4_9_3_9_invalid_from() {
    for (from, fits) in [
        ("alice@a.test", true),
        ("alice@a.test/desk", true),
        ("ALICE@a.test", true),
        ("bob@a.test", false),
        ("a.test", false),
        ("alice@evil.test", false),
        ("@", false),
        ("", false),
    ] {
        let mut world = World::new(tls());
        world.feed(HEADER);
        world.feed(auth("PLAIN", ALICE));
        world.feed(HEADER.replace("to='a.test'", &format!("to='a.test' from='{from}'")));
        assert_eq!(world.condition(), (!fits).then_some("invalid-from"), "{from}");
    }
}

#[test]
fn s4_9_3_10_invalid_namespace() {
    let world = open(
        "xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' to='a.test' version='1.0'",
    );
    assert_eq!(world.condition(), Some("invalid-namespace"));
    let world = open("xmlns:stream='http://etherx.jabber.org/streams' to='a.test' version='1.0'");
    assert_eq!(world.condition(), Some("invalid-namespace"));
    let world = open(
        "xmlns='jabber:client' xmlns:stream='http://wrong.namespace.example.org/' to='a.test' version='1.0'",
    );
    assert_eq!(world.condition(), Some("invalid-namespace"));
}

#[test]
fn s4_9_3_12_not_authorized() {
    for stanza in [
        "<message to='b@a.test'><body>x</body></message>",
        "<presence/>",
        "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>",
        BIND,
    ] {
        for security in [PLAIN, REQUIRED, tls()] {
            let mut world = World::new(security);
            world.feed(HEADER);
            world.feed(stanza);
            assert_eq!(world.condition(), Some("not-authorized"), "{stanza}");
        }
    }
}

#[test]
fn s4_9_3_13_not_well_formed() {
    for bytes in
        [&b"<iq></message>"[..], b"<iq a='1' a='2'/>", b"<iq>\xff</iq>", b"<x:y/>", b"junk", b"<iq>&#0;</iq>"]
    {
        let mut world = World::new(PLAIN);
        world.feed(HEADER);
        world.feed(bytes);
        assert_eq!(world.condition(), Some("not-well-formed"), "{bytes:?}");
    }
    let mut world = World::new(PLAIN);
    world.feed("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(world.condition(), Some("not-well-formed"));
}

#[test]
fn s4_9_3_14_policy_violation_for_what_is_too_big() {
    let mut world = World::new(PLAIN);
    world.feed(HEADER);
    let said = world.feed(format!("<iq>{}", "x".repeat(10_000)));
    assert!(
        said.contains("<policy-violation ") && said.contains("<stanza-too-big xmlns='urn:xmpp:errors'/>"),
        "{said}"
    );
    let mut world = World::new(PLAIN);
    world.feed(HEADER);
    world.feed("<a>".repeat(65));
    assert_eq!(world.condition(), Some("policy-violation"));
    let mut world = World::new(PLAIN);
    let said = world.feed(format!("<stream:stream {NS} x='{}", "x".repeat(10_000)));
    assert!(
        said.starts_with("<?xml version='1.0'?><stream:stream ") && said.contains("<policy-violation "),
        "{said}"
    );
}

#[test]
fn s4_9_3_18_restricted_xml() {
    for bytes in ["<!-- x -->", "<iq><!-- x --></iq>", "<?pi?>", "<iq><?pi?></iq>", "<!DOCTYPE x>"] {
        let mut world = World::new(PLAIN);
        world.feed(HEADER);
        world.feed(bytes);
        assert_eq!(world.condition(), Some("restricted-xml"), "{bytes}");
    }
}

#[test]
fn s4_9_3_22_unsupported_encoding() {
    let mut world = World::new(PLAIN);
    world.feed(HEADER.replace("<?xml version='1.0'?>", "<?xml version='1.0' encoding='ISO-8859-1'?>"));
    assert_eq!(world.condition(), Some("unsupported-encoding"));
}

#[test]
fn s4_9_3_24_unsupported_stanza_type() {
    for nonza in [
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'/>",
        "<iq xmlns='jabber:server'/>",
        "<auth/>",
        "<auth xmlns='urn:xmpp:sasl:0'/>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<stream:features/>",
    ] {
        let mut world = World::new(PLAIN);
        world.feed(HEADER);
        world.feed(nonza);
        assert_eq!(world.condition(), Some("unsupported-stanza-type"), "{nonza}");
        assert!(world.bound.is_none());
    }
}

#[test]
fn s4_9_3_25_unsupported_version() {
    for version in ["", "version='0.9'", "version='11'", "version='x'", "version=''"] {
        let world = open(&format!("{NS} to='a.test' {version}"));
        assert_eq!(world.condition(), Some("unsupported-version"), "{version}");
    }
    for version in ["1.0", "1.7", "2.0"] {
        let mut world = World::new(PLAIN);
        let said = world.feed(format!("<stream:stream {NS} to='a.test' version='{version}'>"));
        assert!(world.error.is_none() && said.contains(" version='1.0' "), "{said}");
    }
}
