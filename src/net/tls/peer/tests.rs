#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, NameConstraints, SanType, date_time_ymd,
};

use super::super::tests::{IN_2099, Made, NOON_2027, Pair, authority, clock, made, many_links};
use super::*;
use crate::net::cert::tests::Scratch;
use crate::net::tls::{ClientTls, Trust};
use crate::stream::trust::{Rung, Why};

const CA: Ladder = Ladder { lowest: Rung::Ca, pin: None };
const DIALBACK: Ladder = Ladder { lowest: Rung::Dialback, pin: None };

fn pinned(pin: Pin) -> Ladder {
    Ladder { lowest: Rung::Ca, pin: Some(pin) }
}

fn peer_at(id: &Identity, ca: Option<&Path>, unix: u64) -> PeerTls {
    PeerTls::new(id, ca, false, &Clock::fixed(unix)).unwrap()
}

fn peer(id: &Identity, ca: Option<&Path>) -> PeerTls {
    peer_at(id, ca, NOON_2027)
}

/// One server calls another. What each has seen of the other: the caller first.
fn call(caller: &PeerTls, called: &PeerTls, domain: &str) -> (Option<Presented>, Option<Presented>) {
    let mut pair = Pair::new(Tls::peer_out(caller, domain).unwrap(), Tls::peer_in(called).unwrap());
    assert!(pair.client.presented().is_none() && pair.server.presented().is_none(), "not yet proven");
    pair.shake().unwrap();
    assert_eq!(pair.server.alpn(), Some(ALPN_SERVER.as_bytes()));
    assert_eq!(pair.client.0.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    (pair.client.presented(), pair.server.presented())
}

/// What a hub that trusts `ca` sees when a server with this certificate calls it, and is called.
fn shown(made: &Made) -> Presented {
    let us = peer(&made.id, None);
    let (of_called, of_caller) = call(&us, &us, "x.test");
    assert_eq!(of_called, of_caller, "the same certificate in both directions");
    of_caller.unwrap()
}

fn wrong(judged: Result<Trusted, Distrust>) -> String {
    let why = judged.unwrap_err();
    assert_eq!(why.rung, Rung::Ca);
    let text = why.to_string();
    assert!(!text.contains(char::is_control) && text.starts_with("ca: "), "{text}");
    text
}

/// An authority with these parameters, and the file to trust it by.
fn authority_with(
    change: impl FnOnce(&mut CertificateParams),
) -> (Issuer<'static, KeyPair>, PathBuf, Scratch) {
    let dir = Scratch::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    change(&mut params);
    let file = dir.0.join("ca.pem");
    fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    (Issuer::new(params, key), file, dir)
}

// ---- subjectAltName by hand --------------------------------------------------------------------------

fn der(tag: u8, inside: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match inside.len() {
        len @ ..0x80 => out.push(len as u8),
        len => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend(inside);
    out
}

fn other_name(kind: u8, tag: u8, text: &[u8]) -> Vec<u8> {
    let id = der(0x06, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, kind]);
    der(0xa0, &[id, der(0xa0, &der(tag, text))].concat())
}

fn srv_id(name: &str) -> Vec<u8> {
    other_name(7, 0x16, name.as_bytes())
}

fn xmpp_addr(jid: &str) -> Vec<u8> {
    other_name(5, 0x0c, jid.as_bytes())
}

fn dns(name: &[u8]) -> Vec<u8> {
    der(0x82, name)
}

fn with_names(params: &mut CertificateParams, names: &[Vec<u8>]) {
    let names = der(0x30, &names.concat());
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], names));
}

// ---- tests -------------------------------------------------------------------------------------------

#[test]
fn a_certificate_for_servers_alone_proves_both_directions() {
    let (issuer, ca, _dir) = authority();
    let server_only = |name: &str| {
        made(&[name], Some(&issuer), |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])
    };
    let (a, b) = (server_only("a.test"), server_only("b.test"));
    let (us, them) = (peer(&a.id, Some(&ca)), peer(&b.id, Some(&ca)));
    let (of_called, of_caller) = call(&us, &them, "b.test");
    assert_eq!(us.judge(of_called.as_ref(), "b.test", &CA), Ok(Trusted::Ca));
    assert_eq!(them.judge(of_caller.as_ref(), "a.test", &CA), Ok(Trusted::Ca));
    assert_eq!(of_caller.as_ref().map(Presented::pin), Some(a.id.spki_sha256));
    assert_eq!(cert::sha256(of_caller.as_ref().unwrap().leaf()), a.id.cert_sha256);
    // The other's name is not proven by it, in neither direction; only dialback may do it then.
    assert!(wrong(us.judge(of_called.as_ref(), "a.test", &CA)).contains("is for b.test, not for a.test"));
    assert!(wrong(them.judge(of_caller.as_ref(), "b.test", &CA)).contains("is for a.test, not for b.test"));
    assert_eq!(them.judge(of_caller.as_ref(), "b.test", &DIALBACK), Ok(Trusted::Dialback));

    let client_only = made(&["c.test"], Some(&issuer), |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let text = wrong(us.judge(Some(&shown(&client_only)), "c.test", &CA));
    assert!(text.contains("serverAuth"), "{text}");
}

#[test]
fn who_shows_nothing_has_proven_nothing() {
    let (_, ca, _dir) = authority();
    let own = made(&["a.test"], None, |_| {});
    let us = peer(&own.id, Some(&ca));
    let silent = ClientTls::new(Trust::Insecure, Some(ALPN_SERVER), None, &clock()).unwrap();
    let mut pair = Pair::new(Tls::client(&silent, "a.test").unwrap(), Tls::peer_in(&us).unwrap());
    pair.shake().unwrap();
    assert!(pair.server.presented().is_none());
    let why = |ladder: &Ladder| us.judge(None, "b.test", ladder).unwrap_err().why;
    assert_eq!(why(&CA), Why::NoCertificate);
    assert_eq!(why(&pinned([7; 32])), Why::KeyMissing { was: [7; 32] });
    assert_eq!(why(&Ladder { lowest: Rung::Pinned, pin: None }), Why::NotPinned { is: None });
    assert_eq!(us.judge(None, "b.test", &DIALBACK), Ok(Trusted::Dialback));
}

#[test]
fn i6_a_pin_is_final() {
    let (issuer, ca, _dir) = authority();
    let good = made(&["a.test"], Some(&issuer), |_| {});
    let us = peer(&good.id, Some(&ca));
    let presented = shown(&good);
    for lowest in Rung::ALL {
        let ladder = |pin| Ladder { lowest, pin: Some(pin) };
        // Names do not count with the right key, and signatures do not with another.
        let right = us.judge(Some(&presented), "anybody.test", &ladder(good.id.spki_sha256));
        assert_eq!(right, Ok(Trusted::Pinned));
        let why = us.judge(Some(&presented), "a.test", &ladder([7; 32])).unwrap_err();
        assert_eq!(
            (why.rung, &why.why),
            (Rung::Pinned, &Why::KeyChanged { was: [7; 32], is: presented.pin })
        );
        let said = why.to_string();
        assert!(said.contains(&good.id.pin()) && said.contains("stonechat peer repair a.test"), "{said}");
    }
}

#[test]
fn d5_d6_names() {
    let (issuer, ca, _dir) = authority();
    let us = peer(&made(&["us.test"], None, |_| {}).id, Some(&ca));
    let is_for = |names: &[&str], domain: &str| {
        let presented = shown(&made(names, Some(&issuer), |_| {}));
        us.judge(Some(&presented), domain, &CA).is_ok()
    };
    for (names, domain) in [
        (["example.org"], "example.org"),
        (["example.org"], "EXAMPLE.Org"),
        (["Example.ORG"], "example.org"),
        (["example.org"], "example.org."),
        (["*.example.org"], "xmpp.example.org"),
        (["*.EXAMPLE.org"], "XMPP.example.org"),
        (["xn--bcher-kva.example"], "bücher.example"),
        (["xn--bcher-kva.example"], "BÜCHER.example"),
        (["xn--bcher-kva.example"], "xn--bcher-kva.example"),
        (["192.0.2.7"], "192.0.2.7"),
        (["2001:db8::7"], "[2001:db8::7]"),
        (["pi"], "pi"),
    ] {
        assert!(is_for(&names, domain), "{names:?} {domain}");
    }
    for (names, domain) in [
        (["example.org"], "evilexample.org"),
        (["example.org"], "example.org.evil"),
        (["example.org"], "xmpp.example.org"),
        (["example.org"], "org"),
        (["evilexample.org"], "example.org"),
        (["example.org.evil"], "example.org"),
        (["*.example.org"], "example.org"),
        (["*.example.org"], "a.b.example.org"),
        (["*.example.org"], "evilexample.org"),
        (["*.example.org"], ".example.org"),
        (["*.org"], "example.org"),
        (["*"], "example.org"),
        (["*"], "pi"),
        (["*.*.org"], "a.example.org"),
        (["x*.example.org"], "xmpp.example.org"),
        (["xmpp.*.org"], "xmpp.example.org"),
        (["*.xn--bcher-kva.example"], "bücher.example"),
        (["bucher.example"], "bücher.example"),
        (["192.0.2.7"], "192.0.2.8"),
        (["*.0.2.7"], "192.0.2.7"),
        (["192.0.2.7.example"], "192.0.2.7"),
    ] {
        assert!(!is_for(&names, domain), "{names:?} {domain}");
    }
    let presented = shown(&made(&["example.org"], Some(&issuer), |_| {}));
    for no_name in ["", "a b", "a/b", "*.example.org", "*", "evil\u{1b}[2J", "example.org\0.evil"] {
        let text = wrong(us.judge(Some(&presented), no_name, &CA));
        assert!(text.contains("is not a name"), "{text}");
    }
}

#[test]
fn srv_ids_and_xmpp_addresses() {
    let (issuer, ca, _dir) = authority();
    let us = peer(&made(&["us.test"], None, |_| {}).id, Some(&ca));
    let is_for = |name: Vec<u8>, domain: &str| {
        let presented = shown(&made(&[], Some(&issuer), |p| with_names(p, &[name])));
        us.judge(Some(&presented), domain, &CA).is_ok()
    };
    for (name, domain) in [
        (srv_id("_xmpp-server.example.org"), "example.org"),
        (srv_id("_XMPP-Server.Example.ORG"), "example.org"),
        (srv_id("_xmpp-server.xn--bcher-kva.example"), "bücher.example"),
        (xmpp_addr("example.org"), "example.org"),
        (xmpp_addr("Example.org"), "EXAMPLE.ORG"),
        (xmpp_addr("bücher.example"), "xn--bcher-kva.example"),
    ] {
        assert!(is_for(name, domain), "{domain}");
    }
    for (name, domain) in [
        (srv_id("_xmpp-client.example.org"), "example.org"),
        (srv_id("_xmpps-server.example.org"), "example.org"),
        (srv_id("_xmpp-server.*.org"), "example.org"),
        (srv_id("_xmpp-server.*"), "example.org"),
        (srv_id("_xmpp-server.example.org.evil"), "example.org"),
        (srv_id("_xmpp-server.evilexample.org"), "example.org"),
        (srv_id("_xmpp-server"), "example.org"),
        (srv_id("example.org"), "example.org"),
        (srv_id("_xmpp-server.example.org\0.evil"), "example.org"),
        (xmpp_addr("*.example.org"), "a.example.org"),
        (xmpp_addr("user@example.org"), "example.org"),
        (xmpp_addr("example.org/x"), "example.org"),
        (xmpp_addr("example.org\0.evil"), "example.org"),
        (other_name(5, 0x04, b"example.org"), "example.org"), // no string
        (other_name(9, 0x0c, b"example.org"), "example.org"), // another kind
        (other_name(5, 0x0c, b"example\xff.org"), "example.org"),
        (der(0xa0, &[]), "example.org"),
    ] {
        assert!(!is_for(name.clone(), domain), "{name:?} {domain}");
    }
    // They are named with the others.
    let several = made(&[], Some(&issuer), |p| {
        with_names(p, &[dns(b"a.test"), srv_id("_xmpp-server.b.test"), xmpp_addr("c\u{202e}.test")]);
    });
    let text = wrong(us.judge(Some(&shown(&several)), "d.test", &CA));
    assert!(text.contains("is for a.test, _xmpp-server.b.test, c?.test, not for d.test"), "{text}");
}

#[test]
fn an_authority_for_some_names_is_not_one_for_others() {
    let (issuer, ca, _dir) = authority_with(|p| {
        let only = vec![GeneralSubtree::DnsName("corp.test".to_owned())];
        p.name_constraints = Some(NameConstraints { permitted_subtrees: only, excluded_subtrees: vec![] });
    });
    let us = peer(&made(&["us.test"], None, |_| {}).id, Some(&ca));
    let judge = |made: &Made, domain| us.judge(Some(&shown(made)), domain, &CA);
    assert_eq!(judge(&made(&["a.corp.test"], Some(&issuer), |_| {}), "a.corp.test"), Ok(Trusted::Ca));
    assert!(judge(&made(&["victim.test"], Some(&issuer), |_| {}), "victim.test").is_err());
    for name in [xmpp_addr("victim.test"), srv_id("_xmpp-server.victim.test")] {
        let sly = made(&[], Some(&issuer), |p| with_names(p, &[dns(b"a.corp.test"), name]));
        assert!(wrong(judge(&sly, "victim.test")).contains("not for victim.test"));
    }

    // The same where the one in between is held to them.
    let (root, ca, _dir) = authority_with(|_| {});
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "in between");
    let only = vec![GeneralSubtree::DnsName("corp.test".to_owned())];
    params.name_constraints = Some(NameConstraints { permitted_subtrees: only, excluded_subtrees: vec![] });
    let between = params.signed_by(&key, &root).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let us = peer(&made(&["us.test"], None, |_| {}).id, Some(&ca));
    let mut sly =
        made(&[], Some(&issuer), |p| with_names(p, &[dns(b"a.corp.test"), xmpp_addr("victim.test")]));
    sly.id.certs.push(between);
    let presented = shown(&sly);
    assert_eq!(us.judge(Some(&presented), "a.corp.test", &CA), Ok(Trusted::Ca));
    assert!(us.judge(Some(&presented), "victim.test", &CA).is_err());
}

#[test]
fn b12_what_is_no_name() {
    let (issuer, ca, _dir) = authority();
    let us = peer(&made(&["us.test"], None, |_| {}).id, Some(&ca));
    let cn = made(&[], Some(&issuer), |p| {
        p.distinguished_name.push(DnType::CommonName, "example.org");
        p.distinguished_name.push(DnType::OrganizationalUnitName, "CN=example.org,");
    });
    let text = wrong(us.judge(Some(&shown(&cn)), "example.org", &CA));
    assert!(text.contains("is for no name at all, not for example.org"), "{text}");

    for name in [b"example.org\0.evil".as_slice(), b"example.org\0", b"\0example.org", b"example.org ", b""] {
        let nul = made(&[], Some(&issuer), |p| with_names(p, &[dns(name)]));
        assert!(us.judge(Some(&shown(&nul)), "example.org", &CA).is_err(), "{name:?}");
    }
    // Other kinds of names are none: an e-mail address, a URI, a directory name.
    let kinds = made(&[], Some(&issuer), |p| {
        p.subject_alt_names = vec![
            SanType::Rfc822Name("example.org".try_into().unwrap()),
            SanType::URI("xmpp:example.org".try_into().unwrap()),
        ];
    });
    assert!(us.judge(Some(&shown(&kinds)), "example.org", &CA).is_err());
}

#[test]
fn a_thousand_names() {
    let (issuer, ca, _dir) = authority();
    let us = peer(&made(&["us.test"], None, |_| {}).id, Some(&ca));
    let many = made(&[], Some(&issuer), |p| {
        let name = |i: usize| format!("host-{i}.example.org");
        let dns = (0..500).map(|i| SanType::DnsName(name(i).try_into().unwrap()));
        let xmpp = (500..1000).map(|i| SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, 5], name(i).into())));
        p.subject_alt_names = dns.chain(xmpp).collect();
    });
    let presented = shown(&many);
    for last in ["host-499.example.org", "host-999.example.org"] {
        assert_eq!(us.judge(Some(&presented), last, &CA), Ok(Trusted::Ca));
    }
    let text = wrong(us.judge(Some(&presented), "host-1000.example.org", &CA));
    assert!(text.len() < 1000 && text.contains("and 8 more"), "{text}");
}

#[test]
fn b14_dates_and_clocks() {
    let (issuer, ca, _dir) = authority();
    let short = made(&["a.test"], Some(&issuer), |p| {
        p.not_before = date_time_ymd(2027, 1, 1);
        p.not_after = date_time_ymd(2027, 2, 1);
    });
    let presented = shown(&short);
    let at = |unix| peer_at(&short.id, Some(&ca), unix);
    let pin = pinned(short.id.spki_sha256);
    for unix in [0, NOON_2027, IN_2099] {
        assert_eq!(at(unix).judge(Some(&presented), "other.test", &pin), Ok(Trusted::Pinned), "{unix}");
    }
    assert_eq!(at(NOON_2027).judge(Some(&presented), "a.test", &CA), Ok(Trusted::Ca));
    let text = wrong(at(NOON_2027 + 20 * 86_400).judge(Some(&presented), "a.test", &CA));
    assert!(text.contains("expired 4 days ago; is this machine's clock right?"), "{text}");
    assert!(text.contains(&format!("stonechat peer add a.test --pin {}", short.id.pin())), "{text}");
    let text = wrong(at(0).judge(Some(&presented), "a.test", &CA));
    assert!(text.contains("not valid for another 62 days; this machine's clock is not set"), "{text}");
}

#[test]
fn authorities() {
    let ((one, file, dir), (two, other, _dir)) = (authority_with(|_| {}), authority_with(|_| {}));
    let (a, b) = (made(&["a.test"], Some(&one), |_| {}), made(&["b.test"], Some(&two), |_| {}));
    let (a, b) = (shown(&a), shown(&b));
    let own = made(&["us.test"], None, |_| {});
    let first = peer(&own.id, Some(&file));
    assert_eq!(first.judge(Some(&a), "a.test", &CA), Ok(Trusted::Ca));
    let text = wrong(first.judge(Some(&b), "b.test", &CA));
    assert!(text.contains("unknown issuer") && text.contains(&pin_text(&b.pin)), "{text}");
    let text = wrong(peer(&own.id, None).judge(Some(&a), "a.test", &CA));
    assert!(text.contains("no authorities are set (--s2s-ca FILE, or --s2s-public-roots)"), "{text}");

    // A file may hold several.
    let both = dir.0.join("both.pem");
    fs::write(&both, [fs::read(&file).unwrap(), fs::read(&other).unwrap()].concat()).unwrap();
    let both = peer(&own.id, Some(&both));
    assert_eq!(both.judge(Some(&a), "a.test", &CA), Ok(Trusted::Ca));
    assert_eq!(both.judge(Some(&b), "b.test", &CA), Ok(Trusted::Ca));

    let empty = dir.0.join("empty.pem");
    fs::write(&empty, "").unwrap();
    for bad in [empty, dir.0.join("none.pem")] {
        let Err(why) = PeerTls::new(&own.id, Some(&bad), false, &clock()) else { panic!() };
        assert!(why.to_string().contains("--s2s-ca"), "{why}");
    }
}

#[test]
fn a_self_signed_certificate_that_is_listed_is_good_for_its_name() {
    for ca in [false, true] {
        let own = made(&["a.test"], None, |p| {
            if ca {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            p.not_after = date_time_ymd(2027, 2, 1);
        });
        let presented = shown(&own);
        let text = wrong(peer(&own.id, None).judge(Some(&presented), "a.test", &CA));
        assert!(text.contains("self-signed"), "{text}");
        let given = |unix| peer_at(&own.id, Some(&own.file), unix);
        assert_eq!(given(NOON_2027).judge(Some(&presented), "a.test", &CA), Ok(Trusted::Ca));
        assert!(wrong(given(NOON_2027).judge(Some(&presented), "b.test", &CA)).contains("is for a.test"));
        assert!(wrong(given(IN_2099).judge(Some(&presented), "a.test", &CA)).contains("expired"));
    }
    // Its key signs for nobody else, unless it says that it is an authority's.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a.test");
    let dir = Scratch::new();
    let file = dir.0.join("a.pem");
    fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    let sly = made(&["victim.test"], Some(&Issuer::new(params, key)), |_| {});
    let us = peer(&sly.id, Some(&file));
    assert!(us.judge(Some(&shown(&sly)), "victim.test", &CA).is_err());
}

#[test]
fn a_chain_of_three_and_in_any_order() {
    let (root, ca, _dir) = authority_with(|_| {});
    let link = |name: &str, above: &Issuer<'_, KeyPair>| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, above).unwrap().der().clone();
        (cert, Issuer::new(params, key))
    };
    let (upper, issuer) = link("upper", &root);
    let (lower, issuer) = link("lower", &issuer);
    let mut made = made(&["a.test"], Some(&issuer), |_| {});
    let us = peer(&made.id, Some(&ca));
    assert!(us.judge(Some(&shown(&made)), "a.test", &CA).is_err(), "what lies between is missing");
    made.id.certs.extend([upper, lower]);
    assert_eq!(us.judge(Some(&shown(&made)), "a.test", &CA), Ok(Trusted::Ca));
}

#[test]
fn b13_a_hundred_certificates() {
    let (issuer, ca, _dir) = authority();
    let mut many = made(&["a.test"], Some(&issuer), |_| {});
    many.id.certs.extend(many_links());
    let presented = shown(&many);
    let us = peer(&many.id, Some(&ca));
    let begin = Instant::now();
    // Its own issuer is the authority: the rest does not matter. Of another authority nothing holds.
    assert_eq!(us.judge(Some(&presented), "a.test", &CA), Ok(Trusted::Ca));
    let (_, other, _dir) = authority();
    assert!(peer(&many.id, Some(&other)).judge(Some(&presented), "a.test", &CA).is_err());
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    assert_eq!(straight(&presented.chain[0], &presented.chain[1..]).len(), 1, "one of each name");

    // Over 64 KB there is no talking at all, in either direction.
    many.id.certs.extend([crate::net::cert::tests::many_names(), crate::net::cert::tests::many_names()]);
    let (big, us) = (peer(&many.id, None), peer(&made(&["us.test"], None, |_| {}).id, None));
    for (caller, called) in [(&big, &us), (&us, &big)] {
        let mut pair = Pair::new(Tls::peer_out(caller, "a.test").unwrap(), Tls::peer_in(called).unwrap());
        assert!(pair.shake().is_err());
    }
}

#[test]
fn a_new_certificate_is_for_new_connections_of_both_directions() {
    let (old, new) = (made(&["a.test"], None, |_| {}), made(&["a.test"], None, |_| {}));
    let us = peer(&old.id, None);
    let (of_called, of_caller) = call(&us, &us, "a.test");
    assert_eq!([of_called.unwrap().pin, of_caller.unwrap().pin], [old.id.spki_sha256; 2]);
    us.clone().reload(&new.id).unwrap();
    let (of_called, of_caller) = call(&us, &us, "a.test");
    assert_eq!([of_called.unwrap().pin, of_caller.unwrap().pin], [new.id.spki_sha256; 2]);
}

#[test]
fn another_protocol_on_this_port() {
    let us = peer(&made(&["a.test"], None, |_| {}).id, None);
    let client = ClientTls::new(Trust::Insecure, Some("xmpp-client"), None, &clock()).unwrap();
    let mut pair = Pair::new(Tls::client(&client, "a.test").unwrap(), Tls::peer_in(&us).unwrap());
    let (_, why) = pair.shake().unwrap_err();
    assert!(matches!(why, Error::NoAlpn) && why.for_peer().contains("port 5270"), "{why}");
    // STARTTLS of other servers names no protocol at all (XEP-0368 §3).
    let plain = ClientTls::new(Trust::Insecure, None, None, &clock()).unwrap();
    Pair::new(Tls::client(&plain, "a.test").unwrap(), Tls::peer_in(&us).unwrap()).shake().unwrap();
}

#[test]
fn what_others_offer_to_resume_is_not_resumed() {
    let own = made(&["a.test"], None, |_| {});
    let us = peer(&own.id, None);
    // A server of the usual kind, which remembers sessions and hands out tickets.
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(own.id.certs.clone(), own.id.key())
        .unwrap();
    let config = Arc::new(config);
    for _ in 0..3 {
        let server = rustls::ServerConnection::new(config.clone()).unwrap();
        let server = Tls::new(server.into(), super::super::Side::Server { end_point: None });
        let mut pair = Pair::new(Tls::peer_out(&us, "a.test").unwrap(), server);
        pair.shake().unwrap();
        assert_eq!(pair.client.0.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}
