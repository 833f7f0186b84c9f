//! §6: SASL, every failure by name.

use crate::world::*;
use stonechat::stream::Registration;
use stonechat::stream::Secret;
use stonechat::stream::sasl::scram::{Bind, Client};
use stonechat::stream::sasl::{self, BindingType, Hash};

/// A world at the point where it waits for `<auth/>`.
fn opened(security: stonechat::stream::Security) -> World {
    let mut world = World::new(security);
    world.feed(HEADER);
    world
}

/// A whole SCRAM login; gives what the server said last.
pub fn scram(world: &mut World, mechanism: &str, user: &str, password: &str, bind: Bind<'_>) -> String {
    let hash = if mechanism.contains("256") { Hash::Sha256 } else { Hash::Sha1 };
    let (client, first) = Client::new(hash, user, bind, "clientnonce");
    let said = world.feed(auth(mechanism, first.as_bytes()));
    if !said.starts_with("<challenge") {
        return said;
    }
    let salted = client.challenged(challenge_of(&said).as_bytes()).unwrap();
    let key = derive(&Secret::new(password), &salted.salt, salted.iterations, hash);
    let (expect, last) = salted.finish(&key);
    let said = world.feed(response(last.as_bytes()));
    if let Some((_, data)) = said.split_once("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>") {
        let data = sasl::decode(data.trim_end_matches("</success>")).unwrap();
        assert_eq!(expect.check(&data), Ok(()));
    }
    said
}

#[test]
fn s6_4_every_mechanism_logs_in() {
    let exporter = [3; 32];
    let end_point = [4; 32];
    let cases = [
        ("SCRAM-SHA-256-PLUS", Bind::To(BindingType::Exporter, &exporter)),
        ("SCRAM-SHA-256-PLUS", Bind::To(BindingType::ServerEndPoint, &end_point)),
        ("SCRAM-SHA-1-PLUS", Bind::To(BindingType::Exporter, &exporter)),
        ("SCRAM-SHA-256", Bind::Unsupported),
        ("SCRAM-SHA-1", Bind::Unsupported),
    ];
    for (mechanism, bind) in cases {
        let mut world = opened(tls());
        let said = scram(&mut world, mechanism, "alice", "pencil", bind);
        assert!(said.starts_with("<success"), "{mechanism}: {said}");
        world.feed(HEADER);
        world.feed(BIND);
        assert_eq!(world.bound.unwrap().0.as_str(), "alice@a.test");
        assert_eq!(world.id, Some(1));
    }
    for (mechanism, bind) in [("SCRAM-SHA-256", Bind::Unsupported), ("SCRAM-SHA-1", Bind::NotOffered)] {
        let mut world = opened(PLAIN);
        assert!(scram(&mut world, mechanism, "bob", "pencil", bind).starts_with("<success"));
        world.feed(HEADER);
        world.feed(BIND);
        assert_eq!(world.id, Some(2));
    }
    let mut world = opened(tls_alice());
    assert!(world.feed(auth("EXTERNAL", b"")).starts_with("<success"));
    world.feed(HEADER);
    world.feed(BIND);
    assert_eq!(world.bound.unwrap().0.as_str(), "alice@a.test");
    assert_eq!(world.id, None);
}

#[test]
fn s6_4_2_without_an_initial_response() {
    let mut world = opened(tls());
    let said = world.feed("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>");
    assert_eq!(said, "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(world.feed(response(ALICE)).starts_with("<success"));
    let mut world = opened(tls_alice());
    world.feed("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'/>");
    assert!(world.feed(response(b"alice@a.test")).starts_with("<success"));
    let mut world = opened(tls_alice());
    world.feed("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'/>");
    assert!(world.feed("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").starts_with("<success"));
}

#[test]
fn s6_4_5_three_tries() {
    let mut world = opened(tls());
    for _ in 0..3 {
        assert_eq!(world.feed(auth("PLAIN", b"\0alice\0wrong")), failure("not-authorized"));
    }
    world.feed(auth("PLAIN", ALICE));
    assert_eq!(world.condition(), Some("policy-violation"));
    assert_eq!(world.refused, vec![Some("alice".to_owned()); 3]);

    let mut world = opened(tls());
    world.feed(auth("PLAIN", b"\0alice\0wrong"));
    world.feed(auth("PLAIN", b"\0alice\0wrong"));
    assert!(world.feed(auth("PLAIN", ALICE)).starts_with("<success"));
}

#[test]
fn s6_4_5_tries_are_counted_across_starttls() {
    let mut world = World::new(PLAIN);
    world.feed(HEADER);
    world.feed(auth("PLAIN", ALICE));
    world.feed(auth("PLAIN", ALICE));
    world.feed("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    world.feed(HEADER);
    assert_eq!(world.feed(auth("PLAIN", b"\0alice\0wrong")), failure("not-authorized"));
    world.feed(auth("PLAIN", ALICE));
    assert_eq!(world.condition(), Some("policy-violation"));
}

#[test]
fn s6_5_1_aborted() {
    let abort = "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    let mut world = opened(tls());
    world.feed("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>");
    assert_eq!(world.feed(abort), failure("aborted"));
    assert!(world.feed(auth("PLAIN", ALICE)).starts_with("<success"));
}

#[test]
fn s6_5_4_encryption_required() {
    let mut world = opened(PLAIN);
    assert_eq!(world.feed(auth("PLAIN", ALICE)), failure("encryption-required"));
    let mut world = opened(REQUIRED);
    assert_eq!(world.feed(auth("SCRAM-SHA-1", b"n,,n=alice,r=x")), failure("encryption-required"));
    assert_eq!(world.feed(auth("EXTERNAL", b"")), failure("encryption-required"));
    assert!(world.asked.iter().all(|a| *a == "refused"));
}

#[test]
fn s6_5_5_incorrect_encoding() {
    for data in ["AGE", "A G E =", "AGE=\n", "&#65;GE", "=A"] {
        let mut world = opened(tls());
        let auth = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{data}</auth>");
        assert_eq!(world.feed(auth), failure("incorrect-encoding"), "{data}");
    }
    let mut world = opened(PLAIN);
    world.feed(auth("SCRAM-SHA-1", b"n,,n=alice,r=x"));
    assert_eq!(
        world.feed("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>!</response>"),
        failure("incorrect-encoding")
    );
}

#[test]
fn s6_5_6_invalid_authzid() {
    let mut world = opened(tls());
    assert_eq!(world.feed(auth("PLAIN", b"bob\0alice\0pencil")), failure("invalid-authzid"));
    assert_eq!(world.feed(auth("PLAIN", b"bob@a.test\0alice\0pencil")), failure("invalid-authzid"));
    assert_eq!(world.feed(auth("SCRAM-SHA-1", b"n,a=alice@other,n=alice,r=x")), failure("invalid-authzid"));
    let mut world = opened(tls_alice());
    assert_eq!(world.feed(auth("EXTERNAL", b"bob@a.test")), failure("invalid-authzid"));
    assert_eq!(world.feed(auth("EXTERNAL", b"a b")), failure("invalid-authzid"));
    assert!(world.feed(auth("EXTERNAL", b"alice@a.test")).starts_with("<success"));
}

#[test]
fn s6_5_7_invalid_mechanism() {
    let mut world = opened(tls());
    assert_eq!(world.feed(auth("ANONYMOUS", b"")), failure("invalid-mechanism"));
    assert_eq!(world.feed(auth("EXTERNAL", b"")), failure("invalid-mechanism"));
    assert_eq!(world.feed("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"), failure("invalid-mechanism"));
}

#[test]
fn s6_5_8_malformed_request() {
    for data in [&b"alice"[..], b"\0alice", b"\0\0pencil", b"\xff\0a\0b"] {
        let mut world = opened(tls());
        assert_eq!(world.feed(auth("PLAIN", data)), failure("malformed-request"));
    }
    for data in [&b""[..], b"n,,m=x,n=alice,r=x", b"n,,n=alice", b"p=tls-exporter,,n=alice,r=x"] {
        let mut world = opened(tls());
        assert_eq!(world.feed(auth("SCRAM-SHA-256", data)), failure("malformed-request"));
    }
    for data in [&b"n,,n=alice,r=x"[..], b"y,,n=alice,r=x", b"p=tls-unique,,n=alice,r=x"] {
        let mut world = opened(tls());
        assert_eq!(world.feed(auth("SCRAM-SHA-256-PLUS", data)), failure("malformed-request"));
    }
    let mut world = opened(tls());
    let nested = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGE=<x/></auth>";
    assert_eq!(world.feed(nested), failure("malformed-request"));
}

#[test]
fn s6_5_10_not_authorized() {
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
        for (user, password) in [("alice", "wrong"), ("nobody", "pencil"), ("a b", "pencil")] {
            let mut world = opened(tls());
            let said = scram(&mut world, mechanism, user, password, Bind::Unsupported);
            assert_eq!(said, failure("not-authorized"), "{mechanism} {user}");
        }
    }
    let mut world = opened(tls_alice());
    world.stream.secured(bindings(), Some([8; 32]));
    world.reader.restart();
    world.feed(HEADER);
    assert_eq!(world.feed(auth("EXTERNAL", b"")), failure("not-authorized"));
}

#[test]
fn rfc5802_s6_channel_binding_is_checked() {
    let wrong = [1; 32];
    for kind in BindingType::ALL {
        let mut world = opened(tls());
        let said = scram(&mut world, "SCRAM-SHA-256-PLUS", "alice", "pencil", Bind::To(kind, &wrong));
        assert_eq!(said, failure("not-authorized"));
    }
    // somebody cut the -PLUS mechanisms out of our features (threats B5)
    let mut world = opened(tls());
    assert_eq!(
        scram(&mut world, "SCRAM-SHA-256", "alice", "pencil", Bind::NotOffered),
        failure("not-authorized")
    );
}

#[test]
fn rfc5802_s5_1_names_are_decoded_and_prepared() {
    let mut world = opened(tls());
    assert!(scram(&mut world, "SCRAM-SHA-256", "ALICE", "pencil", Bind::Unsupported).starts_with("<success"));
    let mut world = opened(tls());
    assert!(world.feed(auth("PLAIN", b"\0Alice\0pencil")).starts_with("<success"));
}

#[test]
fn registration_before_login() {
    let query = "<iq type='get' id='reg'><query xmlns='jabber:iq:register'/></iq>";
    let preauth = "<iq type='set' id='reg'><preauth xmlns='urn:xmpp:pars:0' token='t'/></iq>";
    let done = "<iq type='result' id='reg'/>";
    for (registration, security, xml, taken) in [
        (Registration::Open, PLAIN, query, true),
        (Registration::Open, tls(), query, true),
        (Registration::Open, REQUIRED, query, false),
        (Registration::Open, PLAIN, preauth, false),
        (Registration::Open, tls(), preauth, true),
        (Registration::Invite, PLAIN, query, false),
        (Registration::Invite, tls(), query, true),
        (Registration::Invite, tls(), preauth, true),
        (Registration::Closed, tls(), query, false),
        (Registration::Closed, tls(), preauth, false),
    ] {
        let mut world = World::with(settings(registration), security);
        world.feed(HEADER);
        let said = world.feed(xml);
        assert_eq!(said == done, taken, "{registration:?} {xml} {said}");
        assert_eq!(world.condition(), (!taken).then_some("not-authorized"));
    }
    let mut world = World::with(settings(Registration::Open), PLAIN);
    world.feed(HEADER);
    assert_eq!(world.feed(query), done);
    assert!(scram(&mut world, "SCRAM-SHA-256", "alice", "pencil", Bind::NotOffered).starts_with("<success"));
}
