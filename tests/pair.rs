//! Both halves of a stream against each other, in memory: every mechanism on every kind of
//! connection, all bytes at once and one at a time.
#![allow(missing_docs, dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::string_slice, clippy::arithmetic_side_effects)]

#[path = "rfc6120/client.rs"]
mod client;
#[path = "rfc6120/world.rs"]
mod world;

use client::{Client, account};
use stonechat::stream::{Account, Bindings, Failure, Policy, Registration, Security};
use world::{PLAIN, REQUIRED, World, settings, tls, tls_alice};

/// Lets the two talk until both are silent. `edit` sits in between and changes what the server
/// says; with `thin`, bytes come one at a time. Gives all that the client said.
fn talk(client: &mut Client, server: &mut World, edit: impl Fn(String) -> String, thin: bool) -> String {
    let chunks = |text: &str| -> Vec<Vec<u8>> {
        match thin {
            true => text.bytes().map(|b| vec![b]).collect(),
            false => vec![text.as_bytes().to_vec()],
        }
    };
    let mut up = client.start();
    let mut said = String::new();
    for _ in 0..20 {
        if up.is_empty() {
            return said;
        }
        said += &up;
        let mut down = String::new();
        for chunk in chunks(&up) {
            down += &server.feed(chunk);
        }
        up.clear();
        for chunk in chunks(&edit(down)) {
            up += &client.feed(chunk);
        }
    }
    panic!("they talk without end");
}

/// Takes mechanisms out of the features.
fn without(names: &'static [&'static str]) -> impl Fn(String) -> String {
    move |mut text| {
        for name in names {
            text = text.replace(&format!("<mechanism>{name}</mechanism>"), "");
        }
        text
    }
}

const CLEAR: Security = Security::Plain { starttls: false, required: false };

#[test]
fn every_mechanism_on_every_connection() {
    let starttls = account();
    let direct = || Account { tls: Policy::Direct, ..account() };
    let clear = || Account { tls: Policy::Never, ..account() };
    let plain = || Account { allow_plain: true, ..direct() };
    let certificate = || Account { password: None, ..direct() };
    let unbound = || Security::Tls { bindings: Bindings::default(), certificate: None };
    let end_point =
        || Security::Tls { bindings: Bindings { exporter: None, ..world::bindings() }, certificate: None };
    const NO_256: &[&str] = &["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"];
    const NO_SCRAM: &[&str] = &["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"];
    // what shall come of it, who, with what, to what, and which mechanisms are taken out
    let cases: [(&str, Account, Security, Security, &'static [&'static str]); 14] = [
        ("STARTTLS: SCRAM-SHA-256-PLUS", starttls.clone(), CLEAR, PLAIN, &[]),
        ("STARTTLS: SCRAM-SHA-256-PLUS required", starttls.clone(), CLEAR, REQUIRED, &[]),
        ("STARTTLS: SCRAM-SHA-1-PLUS required", starttls, CLEAR, REQUIRED, NO_256),
        ("TLS: SCRAM-SHA-256-PLUS", direct(), tls(), tls(), &[]),
        ("TLS: SCRAM-SHA-1-PLUS", direct(), tls(), tls(), NO_256),
        ("TLS: SCRAM-SHA-256-PLUS tls-server-end-point", direct(), end_point(), end_point(), &[]),
        ("TLS: SCRAM-SHA-256 n", direct(), unbound(), unbound(), &[]),
        ("TLS: SCRAM-SHA-1 n", direct(), unbound(), unbound(), NO_256),
        ("TLS: SCRAM-SHA-256 y", direct(), tls(), unbound(), &[]),
        ("TLS: SCRAM-SHA-1 y", direct(), tls(), unbound(), NO_256),
        ("TLS: PLAIN", plain(), tls(), tls(), NO_SCRAM),
        ("TLS: EXTERNAL", certificate(), tls(), tls_alice(), &[]),
        ("clear: SCRAM-SHA-256", clear(), CLEAR, PLAIN, &[]),
        ("clear: SCRAM-SHA-1", clear(), CLEAR, CLEAR, NO_256),
    ];
    for (name, account, ours, theirs, cut) in cases {
        for thin in [false, true] {
            let mut client = Client::new(account.clone(), ours.clone());
            let mut server = World::new(theirs.clone());
            let said = talk(&mut client, &mut server, without(cut), thin);
            let mechanism = name.split(' ').nth(1).unwrap();
            assert!(said.contains(&format!("mechanism='{mechanism}'>")), "{name}: {said}");
            assert_eq!(client.ready.as_deref(), Some("alice@a.test/desk"), "{name}: {:?}", client.failure);
            assert_eq!(server.bound.as_ref().unwrap().0.as_str(), "alice@a.test", "{name}");
            assert_eq!(server.asked.contains(&"owner"), name.contains("EXTERNAL"), "{name}");
            assert_eq!(server.asked.contains(&"derive"), name.ends_with("PLAIN"), "{name}");
        }
    }
}

#[test]
fn a_resource_of_the_servers_making() {
    let mut client = Client::new(Account { resource: None, ..account() }, CLEAR);
    let mut server = World::new(REQUIRED);
    talk(&mut client, &mut server, |t| t, false);
    let jid = client.ready.unwrap();
    assert_eq!(jid.strip_prefix("alice@a.test/").unwrap().len(), 22);
    assert_eq!(server.bound.unwrap().1, jid["alice@a.test/".len()..]);
}

/// XEP-0198 §5
#[test]
fn a_lost_stream_goes_on() {
    let offer = |t: String| t.replace("<bind ", "<sm xmlns='urn:xmpp:sm:3'/><bind ");
    let resuming = |previd: &str| {
        let mut client = Client::new(account(), CLEAR);
        client.stream = client.stream.resuming(previd.into(), 7);
        client
    };
    for thin in [false, true] {
        let (mut client, mut server) = (resuming("alice's"), World::new(REQUIRED));
        talk(&mut client, &mut server, offer, thin);
        assert_eq!(client.ready.as_deref(), Some("resumed 7"), "{:?}", client.failure);
        assert!(server.bound.is_none());
    }
    let (mut client, mut server) = (resuming("bob's"), World::new(REQUIRED));
    talk(&mut client, &mut server, offer, false);
    assert_eq!(client.failure, Some(Failure::NotResumed));
    // The server may be another one by now.
    let (mut client, mut server) = (resuming("alice's"), World::new(REQUIRED));
    talk(&mut client, &mut server, |t| t, false);
    assert_eq!(client.failure, Some(Failure::NotResumed));
    assert!(!server.asked.contains(&"resume"));
}

/// XEP-0198 §3, §5: what is refused leaves the way to binding open.
#[test]
fn refused_and_then_bound() {
    let mut world = world::logged_in();
    for (said, condition) in [
        ("<enable xmlns='urn:xmpp:sm:3' resume='1'/>", "unexpected-request"),
        ("<resume xmlns='urn:xmpp:sm:3' previd='x'/>", "bad-request"),
        ("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>", "item-not-found"),
    ] {
        let answer = world.feed(said);
        let wanted = format!(
            "<failed xmlns='urn:xmpp:sm:3'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
        );
        assert_eq!(answer, wanted, "{said}");
    }
    assert!(world.feed(world::BIND).contains("alice@a.test/desk"));
}

#[test]
fn an_alias_leads_to_the_domain() {
    let jid = stonechat::jid::BareJid::parse("alice@b.test").unwrap();
    let mut client = Client::new(Account { jid, ..account() }, CLEAR);
    let mut server = World::new(REQUIRED);
    talk(&mut client, &mut server, |t| t, false);
    assert_eq!(client.ready.as_deref(), Some("alice@a.test/desk"));
}

#[test]
fn a_wrong_password() {
    let password = Some(stonechat::stream::Secret::new("wrong"));
    for (security, account) in [
        (CLEAR, Account { password: password.clone(), ..account() }),
        (tls(), Account { password, tls: Policy::Direct, allow_plain: true, ..account() }),
    ] {
        let mut client = Client::new(account, security.clone());
        let mut server =
            World::new(if matches!(security, Security::Plain { .. }) { REQUIRED } else { tls() });
        talk(&mut client, &mut server, |t| t, false);
        let line = client.failure.unwrap().to_string();
        assert!(line.contains("password") && line.contains("not-authorized"), "{line}");
        assert_eq!(server.refused, [Some("alice".to_owned())]);
        assert!(server.bound.is_none());
    }
}

#[test]
fn b2_a_man_in_the_middle_strips_starttls() {
    let strip = |text: String| {
        text.replace("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>", "")
            .replace("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "")
    };
    for theirs in [PLAIN, REQUIRED] {
        let mut client = Client::new(account(), CLEAR);
        let mut server = World::new(theirs);
        talk(&mut client, &mut server, strip, false);
        assert_eq!(client.failure, Some(Failure::StarttlsNotOffered));
        assert!(!server.asked.contains(&"keys"));
    }
}

/// A proxy that ends TLS on both sides with a certificate that the client believes (threats B5).
#[test]
fn b5_a_man_in_the_middle_of_tls() {
    let direct = || Account { tls: Policy::Direct, allow_plain: true, ..account() };
    let his = || Security::Tls {
        bindings: Bindings { exporter: Some([77; 32]), server_end_point: Some(vec![78; 32]) },
        certificate: None,
    };
    const PLUS: &[&str] = &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"];
    let types = |text: String| {
        let Some((before, rest)) = text.split_once("<sasl-channel-binding") else { return text };
        format!("{before}{}", rest.split_once("</sasl-channel-binding>").unwrap().1)
    };
    type Edit = Box<dyn Fn(String) -> String>;
    // Taking away only the list of types leaves what servers older than XEP-0440 offer, and those mean a
    // type that TLS 1.3 does not have: that one is told by the certificate alone.
    let edits: [(&str, Edit); 4] = [
        ("nothing", Box::new(|t| t)),
        ("the mechanisms", Box::new(without(PLUS))),
        ("both", Box::new(move |t| types(without(PLUS)(t)))),
        ("a type nobody has", Box::new(|t: String| t.replace("type='tls-", "type='x-"))),
    ];
    for (what, edit) in edits {
        let mut client = Client::new(direct(), his());
        let mut server = World::new(tls());
        talk(&mut client, &mut server, edit, false);
        assert!(client.failure.is_some() && client.ready.is_none(), "{what}");
        assert!(server.bound.is_none(), "{what}");
    }
}

#[test]
fn registration_and_then_login_on_the_same_stream() {
    for theirs in [REQUIRED, PLAIN] {
        let mut client = Client::new(Account { register: true, password: None, ..account() }, CLEAR);
        client.registered = Some("pencil");
        let mut server = World::with(settings(Registration::Open), theirs);
        talk(&mut client, &mut server, |t| t, false);
        assert_eq!(client.needed, ["starttls", "register", "derive", "ready"]);
    }
    let mut client = Client::new(Account { register: true, ..account() }, CLEAR);
    let mut server = World::with(settings(Registration::Closed), REQUIRED);
    talk(&mut client, &mut server, |t| t, false);
    assert_eq!(client.failure, Some(Failure::RegistrationNotOffered));
}

/// Names and passwords that are written otherwise than they are meant.
#[test]
fn names_and_passwords_are_prepared_on_both_sides() {
    let jid = stonechat::jid::BareJid::parse("ALICE@A.test").unwrap();
    // full-width letters and a soft hyphen (RFC 4013 §2)
    let password = Some(stonechat::stream::Secret::new("p\u{ad}en\u{ff43}il"));
    for (allow_plain, cut) in [
        (false, &[][..]),
        (true, &["SCRAM-SHA-256", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"]),
    ] {
        let account = Account {
            jid: jid.clone(),
            password: password.clone(),
            tls: Policy::Direct,
            allow_plain,
            ..account()
        };
        let mut client = Client::new(account, tls());
        let mut server = World::new(tls());
        talk(&mut client, &mut server, without(cut), false);
        assert_eq!(client.ready.as_deref(), Some("alice@a.test/desk"), "{:?}", client.failure);
    }
}
