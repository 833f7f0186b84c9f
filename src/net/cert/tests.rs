#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice)]

use super::authority::common_name;
use super::*;
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};

/// A directory of its own, gone at the end.
pub(in crate::net) struct Scratch(pub PathBuf);

impl Scratch {
    pub(in crate::net) fn new() -> Scratch {
        let mut tag = [0u8; 8];
        SystemRandom::new().fill(&mut tag).unwrap();
        let dir = std::env::temp_dir().join(format!("stonechat-{:x}", u64::from_ne_bytes(tag)));
        fs::create_dir(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pi() -> Names {
    Names { domain: "pi.local".into(), aliases: vec!["pi".into(), "10.0.0.9".into()] }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A certificate with just these parameters.
fn made(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

/// 10,000 names of three letters and digits, and one more.
pub(in crate::net) fn many_names() -> CertificateDer<'static> {
    made(|p| {
        let digit = |n: usize| char::from_digit((n % 36) as u32, 36).unwrap();
        let name = |i: usize| format!("{}{}{}", digit(i / 1296), digit(i / 36), digit(i));
        let names = (0..9_999).map(name).chain(["x99z9".to_owned()]);
        p.subject_alt_names = names.map(|name| SanType::DnsName(name.as_str().try_into().unwrap())).collect();
    })
}

#[test]
fn first_run_makes_private_files_and_a_leaf_for_every_clock() {
    let dir = Scratch::new();
    let dir = dir.0.join("tls");
    let id = Authority::with_addresses(&dir, &pi(), &[ip("192.168.1.5"), ip("fe80::1")]).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for file in [CA_CERT, CA_KEY, LEAF_CERT, LEAF_KEY] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 4, "no temporary file is left");
    assert_eq!(id.certs.len(), 1);
    let leaf = &id.certs[0];
    assert!(leaf.len() < 600, "{} bytes", leaf.len());
    assert_eq!(
        names(leaf),
        ["pi.local", "pi", "localhost", "127.0.0.1", "::1", "10.0.0.9", "192.168.1.5", "fe80::1"]
    );
    assert_eq!(validity(leaf), Some((0, 4_733_510_400)));
    assert!(!self_issued(leaf));
    let ca = Authority::ca_pem(&dir).unwrap();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
    assert!(self_issued(&ca));
    assert_eq!(id.spki_sha256, sha256(spki(leaf).unwrap()));
    assert_eq!(format!("{id:?}"), format!("Identity({}, 1 certificates)", id.pin()));
}

#[test]
fn real_addresses_are_in_it() {
    let dir = Scratch::new();
    let id = Authority::open_or_create(&dir.0, &Names::of_this_machine("hub.test")).unwrap();
    let names = names(&id.certs[0]);
    assert!(names.contains(&"127.0.0.1".to_owned()), "{names:?}");
    assert_eq!(names[0], "hub.test");
}

#[test]
fn a_reissue_keeps_the_key() {
    let dir = Scratch::new();
    let open = |names: &Names, ips: &[IpAddr]| Authority::with_addresses(&dir.0, names, ips).unwrap();
    let first = open(&pi(), &[ip("192.168.1.5")]);
    let same = open(&pi(), &[ip("192.168.1.5")]);
    assert_eq!(first.cert_sha256, same.cert_sha256);
    let moved = open(&pi(), &[ip("192.168.7.7")]);
    assert_ne!(first.cert_sha256, moved.cert_sha256);
    assert_eq!(first.spki_sha256, moved.spki_sha256);
    assert!(!names(&moved.certs[0]).contains(&"192.168.1.5".to_owned()));
    let gone = open(&pi(), &[]);
    assert_eq!(moved.cert_sha256, gone.cert_sha256, "an address that went costs no write");
    let renamed = open(&Names { domain: "hub.local".into(), aliases: vec![] }, &[]);
    assert_eq!(first.spki_sha256, renamed.spki_sha256);
    assert_eq!(names(&renamed.certs[0]), ["hub.local", "localhost", "127.0.0.1", "::1"]);
    assert_eq!(mode(&dir.0.join(LEAF_CERT)), 0o600);
}

#[test]
fn lost_files() {
    let dir = Scratch::new();
    let open = |names: &Names| Authority::with_addresses(&dir.0, names, &[]);
    let first = open(&pi()).unwrap();
    fs::remove_file(dir.0.join(CA_CERT)).unwrap();
    assert_eq!(open(&pi()).unwrap().cert_sha256, first.cert_sha256, "made again from its key");

    fs::rename(dir.0.join(CA_KEY), dir.0.join("elsewhere")).unwrap();
    assert_eq!(open(&pi()).unwrap().cert_sha256, first.cert_sha256, "the key may live elsewhere");
    let other = Names { domain: "other.local".into(), aliases: vec![] };
    assert!(matches!(open(&other), Err(Failed::CaKeyMissing { .. })));

    fs::remove_file(dir.0.join(CA_CERT)).unwrap();
    let anew = open(&pi()).unwrap();
    assert_ne!(anew.cert_sha256, first.cert_sha256, "a new authority signs a new leaf");
    assert_eq!(anew.spki_sha256, first.spki_sha256, "for the old key");

    fs::rename(dir.0.join("elsewhere"), dir.0.join(CA_KEY)).unwrap();
    assert!(matches!(open(&pi()), Err(Failed::KeyMismatch { .. })));
    fs::remove_file(dir.0.join(CA_CERT)).unwrap();
    open(&pi()).unwrap();

    fs::write(dir.0.join(LEAF_KEY), "").unwrap();
    let why = open(&pi()).unwrap_err();
    assert!(matches!(why, Failed::NotAKey { .. }), "never a new key in silence");
    assert_eq!(why.to_string().lines().count(), 1);
}

#[test]
fn names_that_cannot_be() {
    let dir = Scratch::new();
    for bad in ["", "a b", "pi.local\0.evil", "-x", "a..b", "*.local", "pi/x"] {
        let names = Names { domain: bad.into(), aliases: vec![] };
        assert!(matches!(Authority::with_addresses(&dir.0, &names, &[]), Err(Failed::BadName(_))), "{bad:?}");
    }
    assert_eq!(ascii_name("Bücher.Example.").as_deref(), Some("xn--bcher-kva.example"));
    assert_eq!(ascii_name("[2001:DB8::1]").as_deref(), Some("2001:db8::1"));
    assert_eq!(ascii_name("10.0.0.1").as_deref(), Some("10.0.0.1"));
}

#[test]
fn files_of_the_operator() {
    let dir = Scratch::new();
    Authority::with_addresses(&dir.0, &pi(), &[]).unwrap();
    let at = |name: &str| dir.0.join(name);
    let (id, warnings) = from_files(&at(LEAF_CERT), &at(LEAF_KEY), "pi.local").unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let (_, warnings) = from_files(&at(LEAF_CERT), &at(LEAF_KEY), "example.org").unwrap();
    assert!(warnings[0].contains("for pi.local, pi, localhost") && warnings[0].contains(&id.pin()));
    assert!(matches!(from_files(&at(LEAF_CERT), &at(CA_KEY), "x"), Err(Failed::KeyMismatch { .. })));
    assert!(matches!(from_files(&at(LEAF_KEY), &at(LEAF_KEY), "x"), Err(Failed::NotACertificate { .. })));
    assert!(matches!(from_files(&at(LEAF_CERT), &at(LEAF_CERT), "x"), Err(Failed::NotAKey { .. })));
    assert!(matches!(from_files(&at("none"), &at(LEAF_KEY), "x"), Err(Failed::Read { .. })));

    for alg in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(alg).unwrap();
        let cert = CertificateParams::new(vec!["pi.local".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(at("own.pem"), cert.pem()).unwrap();
        fs::write(at("own.key"), key.serialize_pem()).unwrap();
        assert!(from_files(&at("own.pem"), &at("own.key"), "pi.local").unwrap().1.is_empty());
    }
}

#[test]
fn pins_in_every_spelling() {
    let pin: Pin = std::array::from_fn(|i| i as u8 * 7);
    let text = pin_text(&pin);
    assert!(text.starts_with("sha256:") && text.ends_with('='));
    let hex: String = pin.iter().map(|b| format!("{b:02X}")).collect();
    let colons = pin.map(|b| format!("{b:02x}")).join(":");
    for spelling in [
        text.clone(),
        text.trim_end_matches('=').to_owned(),
        text[7..].to_owned(),
        format!("sha256//{}", &text[7..]),
        format!(" SHA256:{hex}\n"),
        hex,
        colons.clone(),
        format!("sha256:{colons}"),
    ] {
        assert_eq!(parse_pin(&spelling), Some(pin), "{spelling}");
    }
    for wrong in ["", "sha256:", "sha256:AAAA", "sha1:00", "é", "sha256é", &"0".repeat(63), &"A".repeat(300)]
    {
        assert_eq!(parse_pin(wrong), None, "{wrong}");
    }
}

#[test]
fn only_alt_names_count() {
    let cert = made(|p| {
        p.distinguished_name = common_name("good.test");
        p.distinguished_name.push(DnType::OrganizationalUnitName, "CN=good.test,");
    });
    assert!(names(&cert).is_empty());
    assert!(!super::super::tls::covers(&cert, "good.test"));

    let nul = made(|p| {
        for name in ["good.test\0.evil.test", "evil.test"] {
            p.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()));
        }
    });
    assert_eq!(names(&nul), ["evil.test"]);
    assert!(!super::super::tls::covers(&nul, "good.test"));

    let many = many_names();
    assert!(many.len() < 64 * 1024, "a peer could send it");
    assert_eq!(names(&many).len(), 10_000);
    assert!(super::super::tls::covers(&many, "x99z9"));
    assert!(!super::super::tls::covers(&many, "y0000"));
    assert!(list(&names(&many)).ends_with("and 9992 more"));
}

#[test]
fn end_point_hashes() {
    let with = |alg| {
        let key = KeyPair::generate_for(alg).unwrap();
        CertificateParams::default().self_signed(&key).unwrap().der().clone()
    };
    let p256 = with(&rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(signature_hash(&p256), Some(Hash::Sha256));
    assert_eq!(end_point(&p256).unwrap(), sha256(&p256));
    let p384 = with(&rcgen::PKCS_ECDSA_P384_SHA384);
    assert_eq!(signature_hash(&p384), Some(Hash::Sha384));
    assert_eq!(end_point(&p384).unwrap().len(), 48);
    assert_eq!(signature_hash(&with(&rcgen::PKCS_ED25519)), None, "RFC 5929: undefined");
}

proptest! {
    #[test]
    fn no_der_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        every_reader(&bytes);
    }

    #[test]
    fn no_mutated_certificate_panics(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        static LEAF: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let leaf = LEAF.get_or_init(|| {
            made(|p| p.subject_alt_names = vec![
                SanType::DnsName("a.test".try_into().unwrap()),
                SanType::IpAddress(ip("::1")),
            ]).to_vec()
        });
        let mut bytes = leaf.clone();
        for (at, value) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        every_reader(&bytes);
        every_reader(&bytes[..cut.index(bytes.len())]);
    }
}

fn every_reader(bytes: &[u8]) {
    let _ = (spki(bytes), names(bytes), validity(bytes), end_point(bytes), self_issued(bytes));
    let _ = super::super::tls::covers(bytes, "a.test");
}
