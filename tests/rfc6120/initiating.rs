//! The initiating half against a server that is old, odd, broken or hostile.

use crate::client::{Client, account};
use crate::world::{bindings, tls};
use stonechat::stream::{Account, Bindings, Condition, Failure, Policy, Security, sasl};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams' id='1' from='a.test' version='1.0'>";
const CLEAR: Security = Security::Plain { starttls: false, required: false };
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const BIND: &str = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

fn features(inner: &str) -> String {
    format!("{HEADER}<stream:features>{inner}</stream:features>")
}

fn mechanisms(list: &[&str]) -> String {
    let inner: String = list.iter().map(|m| format!("<mechanism>{m}</mechanism>")).collect();
    format!("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{inner}</mechanisms>")
}

fn types(list: &[&str]) -> String {
    let inner: String = list.iter().map(|m| format!("<channel-binding type='{m}'/>")).collect();
    format!("<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>{inner}</sasl-channel-binding>")
}

fn challenge(text: &str) -> String {
    format!(
        "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{}</challenge>",
        sasl::encode(text.as_bytes())
    )
}

fn direct() -> Account {
    Account { tls: Policy::Direct, ..account() }
}

/// A client in TLS that has been offered this.
fn offered(account: Account, security: Security, inner: &str) -> (Client, String) {
    let mut client = Client::new(account, security);
    client.start();
    let said = client.feed(features(inner));
    (client, said)
}

/// What stands inside `<auth/>`: the mechanism and the data.
fn auth_of(said: &str) -> (String, String) {
    let text = stonechat::stanza::Tree::parse(said).unwrap_or_else(|e| panic!("{e}: {said}"));
    let root = text.root_element();
    let data = sasl::decode(root.text().unwrap_or("")).unwrap();
    (root.attribute("mechanism").unwrap().to_owned(), String::from_utf8(data).unwrap())
}

#[test]
fn s4_7_1_who_we_are_is_told_under_tls_only() {
    assert!(!Client::new(account(), CLEAR).start().contains("alice"));
    let said = Client::new(direct(), tls()).start();
    assert!(said.contains(" from='alice@a.test' to='a.test' version='1.0' xml:lang='en'>"), "{said}");
}

#[test]
fn b2_no_starttls_no_login() {
    for inner in ["", &mechanisms(&["SCRAM-SHA-1", "PLAIN"]), BIND] {
        let (client, said) = offered(account(), CLEAR, inner);
        assert_eq!(client.failure, Some(Failure::StarttlsNotOffered));
        assert_eq!(said, "</stream:stream>");
    }
    let (client, _) = offered(Account { tls: Policy::Direct, ..account() }, CLEAR, &mechanisms(&["PLAIN"]));
    assert_eq!(client.failure, Some(Failure::StarttlsNotOffered));
}

#[test]
fn b1_bytes_behind_proceed_end_the_connection() {
    let (mut client, said) = offered(account(), CLEAR, STARTTLS);
    assert_eq!(said, STARTTLS);
    let said = client.feed(format!("{PROCEED}{}", features(&mechanisms(&["PLAIN"]))));
    assert_eq!(said, "");
    assert!(client.closed && client.ready.is_none());
}

#[test]
fn s5_4_2_starttls() {
    let (mut client, _) = offered(account(), CLEAR, STARTTLS);
    assert!(client.feed(PROCEED).starts_with("<?xml version='1.0'?><stream:stream "));
    let said = client.feed(features(&mechanisms(&["SCRAM-SHA-256"])));
    assert_eq!(auth_of(&said).0, "SCRAM-SHA-256");

    let (mut client, _) = offered(account(), CLEAR, STARTTLS);
    client.feed("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>");
    assert_eq!(client.failure, Some(Failure::StarttlsRefused));

    let (mut client, _) = offered(account(), CLEAR, STARTTLS);
    client.feed(SUCCESS);
    assert!(matches!(client.failure, Some(Failure::Protocol(_))));

    let never = || Account { tls: Policy::Never, allow_plain: true, ..account() };
    let required = STARTTLS.replace("/>", "><required/></starttls>");
    let (client, _) = offered(never(), CLEAR, &required);
    assert_eq!(client.failure, Some(Failure::TlsDemanded));
    let (client, _) = offered(never(), CLEAR, &mechanisms(&["PLAIN"]));
    assert!(matches!(client.failure, Some(Failure::NoMechanism { .. })), "the password is never shown");
}

#[test]
fn s6_3_3_the_strongest_mechanism() {
    let all = ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "X-OTHER", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"];
    let both = types(&["tls-server-end-point", "tls-exporter"]);
    let (_, said) = offered(direct(), tls(), &format!("{}{both}", mechanisms(&all)));
    let (mechanism, data) = auth_of(&said);
    assert_eq!(mechanism, "SCRAM-SHA-256-PLUS");
    assert!(data.starts_with("p=tls-exporter,,n=alice,r="), "{data}");

    let one = types(&["tls-unique", "tls-server-end-point"]);
    let (_, said) = offered(direct(), tls(), &format!("{one}{}", mechanisms(&all)));
    assert!(auth_of(&said).1.starts_with("p=tls-server-end-point,,"));

    // A server older than XEP-0440 does not say which types it has, and means tls-unique.
    let (_, said) = offered(direct(), tls(), &mechanisms(&all));
    assert!(auth_of(&said).1.starts_with("n,,"));
    let end_point = Bindings { exporter: None, ..bindings() };
    let older = Security::Tls { bindings: end_point, certificate: None };
    let (_, said) = offered(direct(), older, &format!("{both}{}", mechanisms(&all)));
    assert!(auth_of(&said).1.starts_with("p=tls-server-end-point,,"));

    let (_, said) = offered(direct(), tls(), &mechanisms(&["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"]));
    let (mechanism, data) = auth_of(&said);
    assert_eq!(mechanism, "SCRAM-SHA-256");
    assert!(data.starts_with("y,,n=alice,r="), "{data}");

    let unbound = Security::Tls { bindings: Bindings::default(), certificate: None };
    let (_, said) = offered(direct(), unbound, &mechanisms(&all));
    let (mechanism, data) = auth_of(&said);
    assert_eq!(mechanism, "SCRAM-SHA-256");
    assert!(data.starts_with("n,,n=alice,r="), "{data}");
}

#[test]
fn s6_3_3_plain_last_and_only_if_allowed() {
    let (client, said) = offered(direct(), tls(), &mechanisms(&["PLAIN"]));
    assert_eq!((client.failure, &*said), (Some(Failure::OnlyPlain), "</stream:stream>"));
    let allowed = || Account { allow_plain: true, ..direct() };
    let (_, said) = offered(allowed(), tls(), &mechanisms(&["PLAIN"]));
    assert_eq!(auth_of(&said), ("PLAIN".to_owned(), "\0alice\0pencil".to_owned()));
    let (_, said) = offered(allowed(), tls(), &mechanisms(&["PLAIN", "SCRAM-SHA-1"]));
    assert_eq!(auth_of(&said).0, "SCRAM-SHA-1");
    let (client, _) = offered(allowed(), tls(), &mechanisms(&["X-OTHER"]));
    assert_eq!(client.failure, Some(Failure::NoMechanism { offered: vec!["X-OTHER".into()] }));
}

#[test]
fn b5_an_edited_list_of_bindings_is_noticed() {
    let plus = mechanisms(&["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"]);
    for list in [&["tls-unique"][..], &[], &["x"]] {
        let (client, said) = offered(direct(), tls(), &format!("{plus}{}", types(list)));
        assert_eq!((client.failure, &*said), (Some(Failure::Downgrade), "</stream:stream>"));
    }
    let (client, _) =
        offered(direct(), tls(), &format!("{}{}", mechanisms(&["SCRAM-SHA-1"]), types(&["tls-exporter"])));
    assert_eq!(client.failure, Some(Failure::Downgrade));
}

#[test]
fn b7_iterations() {
    for (i, failure) in [
        ("2147483647", Failure::Iterations(2_147_483_647)),
        ("99999999999", Failure::Iterations(u32::MAX)),
        ("500001", Failure::Iterations(500_001)),
        ("4095", Failure::Iterations(4095)),
        ("1", Failure::Iterations(1)),
    ] {
        let (mut client, said) = offered(direct(), tls(), &mechanisms(&["SCRAM-SHA-256"]));
        let data = auth_of(&said).1;
        let nonce = data.split_once("r=").unwrap().1;
        let said = client.feed(challenge(&format!("r={nonce}x,s=AAAA,i={i}")));
        assert_eq!(client.failure, Some(failure));
        assert!(said.starts_with("<abort "), "{said}");
        assert!(client.needed.is_empty());
    }
}

#[test]
fn s6_a_server_that_does_not_know_the_password() {
    let begin = || {
        let (client, said) = offered(direct(), tls(), &mechanisms(&["SCRAM-SHA-256"]));
        let data = auth_of(&said).1;
        let nonce = data.split_once("r=").unwrap().1.to_owned();
        (client, nonce)
    };
    // success before the proof
    let (mut client, _) = begin();
    client.feed(SUCCESS);
    assert_eq!(client.failure, Some(Failure::ServerSignature));
    // no signature, a wrong one, a wrong one in a challenge
    for last in [
        SUCCESS.to_owned(),
        SUCCESS.replace("/>", &format!(">{}</success>", sasl::encode(b"v=AAAA"))),
        SUCCESS.replace("/>", &format!(">{}</success>", sasl::encode(b"e=other-error"))),
        challenge("v=AAAA"),
    ] {
        let (mut client, nonce) = begin();
        assert!(client.feed(challenge(&format!("r={nonce}x,s=AAAA,i=4096"))).starts_with("<response "));
        client.feed(last);
        assert_eq!(client.failure, Some(Failure::ServerSignature));
    }
    // another login's nonce, or only ours
    for other in ["x".to_owned(), begin().1] {
        let (mut client, _) = begin();
        client.feed(challenge(&format!("r={other},s=AAAA,i=4096")));
        assert!(matches!(client.failure, Some(Failure::Protocol(_))));
    }
}

#[test]
fn s6_5_every_condition_by_name() {
    for &condition in sasl::Condition::ALL {
        let (mut client, _) = offered(direct(), tls(), &mechanisms(&["SCRAM-SHA-1"]));
        client.feed(format!(
            "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{}/><text xml:lang='en'>why\u{9b}</text></failure>",
            condition.name()
        ));
        let failure = client.failure.unwrap();
        assert_eq!(failure, Failure::Auth { condition, text: Some("why\u{9b}".into()) });
        let line = failure.to_string();
        assert!(line.contains(condition.name()) && !line.contains(['\u{9b}', '\n']), "{line}");
    }
}

#[test]
fn s4_9_3_every_condition_by_name() {
    for &condition in Condition::ALL {
        let (mut client, _) = offered(direct(), tls(), &mechanisms(&["SCRAM-SHA-1"]));
        client.feed(format!(
            "<stream:error><{0} xmlns='urn:ietf:params:xml:ns:xmpp-streams'>c.test:5222</{0}></stream:error></stream:stream>",
            condition.name()
        ));
        let Some(Failure::Stream(error)) = client.failure else { panic!("{condition:?}") };
        assert_eq!(error.condition, condition);
        assert_eq!(error.host.is_some(), condition == Condition::SeeOtherHost);
    }
}

#[test]
fn s4_what_is_no_xmpp() {
    for (bytes, condition) in [
        ("HTTP/1.1 400 Bad Request\r\n", Condition::NotWellFormed),
        (
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
            Condition::UnsupportedVersion,
        ),
        (
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
            Condition::InvalidNamespace,
        ),
        ("<!DOCTYPE x>", Condition::RestrictedXml),
    ] {
        let mut client = Client::new(direct(), tls());
        client.start();
        let said = client.feed(bytes);
        assert_eq!(client.failure, Some(Failure::Broken(condition.into())), "{bytes}");
        assert!(said.contains(condition.name()) && said.ends_with("</stream:stream>"));
    }
}

/// A client that has just logged in with PLAIN, and has seen these features.
fn logged_in(inner: &str) -> (Client, String) {
    let allowed = Account { allow_plain: true, ..direct() };
    let (mut client, _) = offered(allowed, tls(), &mechanisms(&["PLAIN"]));
    assert!(client.feed(SUCCESS).starts_with("<?xml"));
    let said = client.feed(features(inner));
    (client, said)
}

#[test]
fn s7_bind_and_the_session_of_old() {
    let result = "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>alice@a.test/other</jid></bind></iq>";
    let (mut client, said) = logged_in(&format!("{BIND}<ver xmlns='urn:xmpp:features:rosterver'/>"));
    assert_eq!(
        said,
        "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>desk</resource></bind></iq>"
    );
    client.feed(result);
    assert_eq!(client.ready.as_deref(), Some("alice@a.test/other"));
    assert!(client.features.contains(&("urn:xmpp:features:rosterver".into(), "ver".into())));

    let session = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>";
    let (mut client, _) = logged_in(&format!("{BIND}{session}"));
    let said = client.feed(result);
    assert_eq!(said, format!("<iq type='set' id='session'>{session}</iq>"));
    client.feed("<iq type='result' id='session'/>");
    assert!(client.ready.is_some());

    let optional = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>";
    let (mut client, _) = logged_in(&format!("{BIND}{optional}"));
    client.feed(result);
    assert!(client.ready.is_some());

    let (mut client, _) = logged_in(BIND);
    client.feed("<iq type='error' id='bind'><error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
    assert_eq!(client.failure, Some(Failure::Bind(stonechat::stanza::Condition::Conflict)));

    for nonsense in ["<iq type='result' id='bind'/>", "<iq type='result' id='x'/>", "<message/>"] {
        let (mut client, _) = logged_in(BIND);
        client.feed(nonsense);
        assert!(matches!(client.failure, Some(Failure::Protocol(_))));
    }
    let (client, _) = logged_in("");
    assert!(matches!(client.failure, Some(Failure::Protocol(_))));
}

#[test]
fn s4_4_the_server_closes() {
    let mut client = Client::new(direct(), tls());
    client.start();
    assert_eq!(client.feed(format!("{HEADER}</stream:stream>")), "</stream:stream>");
    assert_eq!(client.needed, ["closed"]);
}

#[test]
fn accounts_that_cannot_log_in() {
    let jid = stonechat::jid::BareJid::parse("a.test").unwrap();
    let (client, _) = offered(Account { jid, ..direct() }, tls(), &mechanisms(&["SCRAM-SHA-1"]));
    assert_eq!(client.failure, Some(Failure::NoLocalpart));
    let password = Some(stonechat::stream::Secret::new("a\u{7}b"));
    let (client, _) = offered(Account { password, ..direct() }, tls(), &mechanisms(&["SCRAM-SHA-1"]));
    assert_eq!(client.failure, Some(Failure::Password));
    let (client, _) = offered(Account { register: true, ..direct() }, tls(), &mechanisms(&["SCRAM-SHA-1"]));
    assert_eq!(client.failure, Some(Failure::RegistrationNotOffered));
}
