//! What has gone wrong in this field, as attacks on the receiving half.

use crate::s6_sasl::scram;
use crate::world::*;
use stonechat::stream::sasl::scram::Bind;
use stonechat::stream::{Registration, Security, sasl};

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

#[test]
fn a5_restricted_forms_at_every_entrance() {
    // A reference to an entity that nobody can have declared may go by either name.
    let ends = |world: &World| matches!(world.condition(), Some("restricted-xml" | "not-well-formed"));
    let bare = HEADER.replace("<?xml version='1.0'?>", "");
    for form in [
        "<!DOCTYPE x [<!ENTITY a 'b'>]>",
        "<!-- c -->",
        "<?pi x?>",
        "<x>&a;</x>",
        "<!ELEMENT x ANY>",
        "<![CDATA[x]]>",
    ] {
        let mut world = World::new(PLAIN);
        world.feed(format!("{form}{bare}"));
        assert!(world.error.is_some(), "{form} in the first header");

        let mut world = World::new(tls());
        world.feed(HEADER);
        world.feed(form);
        assert!(ends(&world), "{form} before login");

        let mut world = World::new(tls());
        world.feed(HEADER);
        world.feed(auth("PLAIN", ALICE));
        world.feed(format!("{form}{bare}"));
        assert!(world.error.is_some(), "{form} in the second header");

        let mut world = logged_in();
        world.feed(form);
        assert!(ends(&world), "{form} after login");
        assert!(world.bound.is_none());
    }
    let mut world = World::new(PLAIN);
    world.feed(HEADER.replace("to='a.test'", "to='&a;'"));
    assert!(ends(&world));
}

#[test]
fn a8_an_echoed_id_stays_an_attribute() {
    let mut world = logged_in();
    let evil = "x'/><message to='c@a.test' from='a.test'><body>y</body></message><a b='";
    let escaped = evil.replace('<', "&lt;").replace('\'', "&apos;").replace('>', "&gt;");
    let said = world.feed(BIND.replace("b1", &escaped));
    let tree = stonechat::stanza::Tree::parse(&said).unwrap();
    assert_eq!(tree.root_element().attribute("id"), Some(evil));
    let mut world = World::new(PLAIN);
    let said =
        world.feed(HEADER.replace(" to=", " from=\"a@b/'&gt;&lt;x/&gt;\" xml:lang=\"'&gt;&lt;x/&gt;\" to="));
    assert!(!said.contains("<x/>") && !said.contains("'><x"), "{said}");
}

#[test]
fn a15_compression_is_never_there() {
    let compress = "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>";
    let refused = "<failure xmlns='http://jabber.org/protocol/compress'><unsupported-method/></failure>";
    let mut world = World::new(tls());
    assert!(!world.feed(HEADER).contains("compress"));
    assert_eq!(world.feed(compress), refused);
    world.feed(auth("PLAIN", ALICE));
    assert!(!world.feed(HEADER).contains("compress"));
    assert_eq!(world.feed(compress), refused);
    world.feed(BIND);
    assert!(world.bound.is_some());
}

#[test]
fn a16_the_servers_name_is_fixed_at_login() {
    for (to, condition) in
        [("a.test", None), ("b.test", Some("not-authorized")), ("c.test", Some("host-unknown"))]
    {
        let mut world = World::new(tls());
        world.feed(HEADER);
        world.feed(auth("PLAIN", ALICE));
        world.feed(HEADER.replace("to='a.test'", &format!("to='{to}'")));
        assert_eq!(world.condition(), condition, "{to}");
    }
    let mut world = World::new(tls());
    world.feed(HEADER.replace("to='a.test'", "to='b.test'"));
    world.feed(auth("PLAIN", ALICE));
    let said = world.feed(HEADER.replace("to='a.test'", ""));
    assert!(said.contains(" from='b.test' "), "{said}");
    world.feed(BIND);
    assert_eq!(world.bound.unwrap().0.as_str(), "alice@a.test");
}

#[test]
fn b1_bytes_behind_starttls_end_the_connection() {
    for behind in [auth("PLAIN", ALICE), "<".to_owned(), " ".to_owned(), HEADER.to_owned()] {
        let mut world = World::new(REQUIRED);
        world.feed(HEADER);
        let said = world.feed(format!("{STARTTLS}{behind}"));
        assert_eq!(said, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        assert!(world.closed && world.bound.is_none(), "{behind}");
    }
}

#[test]
fn b4_every_known_mechanism_on_every_listener() {
    let known = [
        "EXTERNAL",
        "PLAIN",
        "ANONYMOUS",
        "LOGIN",
        "CRAM-MD5",
        "DIGEST-MD5",
        "GSSAPI",
        "GS2-KRB5",
        "OAUTHBEARER",
        "X-OAUTH2",
        "SCRAM-SHA-512",
        "SCRAM-SHA-512-PLUS",
        "SCRAM-SHA-1",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256-PLUS",
        "plain",
        "PLAIN ",
        "",
    ];
    for security in [PLAIN, REQUIRED, tls(), tls_alice()] {
        for mechanism in known {
            let mut world = World::new(security.clone());
            let features = world.feed(HEADER);
            let offered = features.contains(&format!("<mechanism>{mechanism}</mechanism>"));
            let said = world.feed(auth(mechanism, b"n,,n=alice,r=x"));
            if !offered {
                assert!(
                    said == failure("invalid-mechanism") || said == failure("encryption-required"),
                    "{mechanism}: {said}"
                );
                assert_eq!(world.asked, ["refused"]);
            }
        }
    }
}

fn lacks_plain(security: &Security) -> bool {
    matches!(security, Security::Plain { .. })
}

/// The elements of stream and SASL negotiation, in every order of two, from
/// every start: nothing but the right order gets a resource.
#[test]
fn b6_no_wrong_order_reaches_bound() {
    let client_first = auth("SCRAM-SHA-256", b"n,,n=alice,r=x");
    let elements = [
        HEADER.to_owned(),
        STARTTLS.to_owned(),
        auth("PLAIN", ALICE),
        client_first,
        response(ALICE),
        "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned(),
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned(),
        BIND.to_owned(),
        "</stream:stream>".to_owned(),
    ];
    for security in [PLAIN, REQUIRED, tls()] {
        for first in &elements {
            for second in &elements {
                for prefix in ["", HEADER] {
                    let mut world = World::new(security.clone());
                    world.feed(prefix);
                    world.feed(first);
                    world.feed(second);
                    assert!(world.bound.is_none(), "{prefix}\n{first}\n{second}");
                    world.feed(BIND);
                    // the one right order: header, login, header, bind
                    let right = prefix == HEADER && *first == auth("PLAIN", ALICE) && second == HEADER;
                    let right = right && !lacks_plain(&security);
                    assert_eq!(world.bound.is_some(), right, "{prefix}\n{first}\n{second}\nbind");
                }
            }
        }
    }
    // After login: only the header and then the request.
    for first in &elements {
        for second in &elements {
            let mut world = World::new(tls());
            world.feed(HEADER);
            world.feed(auth("PLAIN", ALICE));
            world.feed(first);
            world.feed(second);
            let right = first == HEADER && second == BIND;
            assert_eq!(world.bound.is_some(), right, "{first}\n{second}");
        }
    }
}

#[test]
fn b6_inside_an_exchange() {
    let client_first = auth("SCRAM-SHA-256", b"n,,n=alice,r=x");
    for (element, answer) in [
        (client_first.clone(), failure("malformed-request")),
        (auth("PLAIN", ALICE), failure("malformed-request")),
        (response(ALICE), failure("malformed-request")),
        (response(b"c=biws,r=other,p=AAAA"), failure("not-authorized")),
    ] {
        let mut world = World::new(tls());
        world.feed(HEADER);
        world.feed(&client_first);
        assert_eq!(world.feed(element), answer);
        assert!(world.feed(auth("PLAIN", ALICE)).starts_with("<success"));
    }
    for (element, condition) in
        [(BIND, "not-authorized"), ("<presence/>", "not-authorized"), ("<x/>", "unsupported-stanza-type")]
    {
        let mut world = World::new(tls());
        world.feed(HEADER);
        world.feed(&client_first);
        world.feed(element);
        assert_eq!(world.condition(), Some(condition));
    }
}

#[test]
fn b6_a_failed_login_leaves_nothing_behind() {
    let mut world = World::new(tls());
    world.feed(HEADER);
    world.feed(auth("PLAIN", b"\0bob\0wrong"));
    assert_eq!(world.stream.account_id(), None);
    world.feed(auth("PLAIN", ALICE));
    assert_eq!(world.stream.account_id(), Some(1));
    // what follows belongs to nobody until it is bound
    world.feed(HEADER);
    world.feed(BIND);
    assert_eq!((world.bound.unwrap().0.as_str(), world.id), ("alice@a.test", Some(1)));
}

#[test]
fn b7_a_huge_password_costs_nothing() {
    let mut world = World::new(tls());
    world.feed(HEADER);
    let data = [b"\0alice\0".to_vec(), vec![b'x'; 1024]].concat();
    assert_eq!(world.feed(auth("PLAIN", &data)), failure("not-authorized"));
    assert_eq!(world.asked, ["refused"]);
}

#[test]
fn b8_unknown_accounts_answer_as_known_ones_do() {
    let first = |user: &str, seed: [u8; 32], mechanism: &str| {
        let mut world = World::new(tls());
        world.stream =
            stonechat::stream::Receiving::new(std::rc::Rc::new(settings(Registration::Closed)), tls(), seed);
        world.feed(HEADER);
        let said = world.feed(auth(mechanism, format!("n,,n={user},r=x").as_bytes()));
        let challenge = challenge_of(&said);
        let (nonce, rest) = challenge.split_once(',').unwrap();
        (nonce.len(), rest.to_owned())
    };
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
        let known = first("alice", [1; 32], mechanism);
        let one = first("nobody", [1; 32], mechanism);
        let two = first("nobody", [2; 32], mechanism);
        assert_eq!(one, two, "the salt stays");
        assert_ne!(first("other", [1; 32], mechanism), one);
        assert_eq!(known.0, one.0);
        assert_eq!(known.1.len(), one.1.len());
        assert!(known.1.ends_with(",i=4096") && one.1.ends_with(",i=4096"));
    }
    // the same questions, and the same answers
    let mut worlds = [World::new(tls()), World::new(tls())];
    let said = ["alice", "nobody"].map(|user| {
        let world = worlds.iter_mut().find(|w| w.asked.is_empty()).unwrap();
        world.feed(HEADER);
        let plain = world.feed(auth("PLAIN", format!("\0{user}\0wrong").as_bytes()));
        let scram = scram(world, "SCRAM-SHA-256", user, "wrong", Bind::Unsupported);
        (plain, scram)
    });
    assert_eq!(said[0], said[1]);
    assert_eq!(worlds[0].asked, worlds[1].asked);
    assert_eq!(worlds[0].asked, ["keys", "derive", "refused", "keys", "refused"]);
}

#[test]
fn secrets_are_not_printed() {
    let ask = stonechat::stream::Ask::Derive {
        password: stonechat::stream::Secret::new("pencil"),
        salt: vec![],
        iterations: 1,
        sha: sasl::Hash::Sha1,
    };
    assert!(!format!("{ask:?}").contains("pencil"));
}

/// Bytes changed, lost and doubled: whatever comes, nobody panics, and nobody but alice gets in.
#[test]
fn broken_transcripts() {
    let whole = [HEADER, &auth("PLAIN", ALICE), HEADER, BIND].concat().into_bytes();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut dice = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..=dice(3) {
            let at = dice(bytes.len());
            match dice(4) {
                0 => bytes[at] = b"<>/&'\"= :\0\xff?!A"[dice(14)],
                1 => drop(bytes.remove(at)),
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let more = bytes[at..(at + dice(60)).min(bytes.len())].to_vec();
                    let to = dice(bytes.len());
                    bytes.splice(to..to, more);
                }
            }
        }
        let mut world = World::new(tls());
        world.feed(&bytes);
        if let Some((who, _)) = &world.bound {
            assert_eq!(who.as_str(), "alice@a.test");
        }
    }
}
