#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};

use super::*;
use crate::net::cert::tests::{Scratch, many_names};
use crate::net::cert::{Authority, Identity, Names, from_files, parse_pin, pin_text};

pub(super) const NOON_2027: u64 = 1_800_014_400; // 2027-01-15
pub(super) const IN_2099: u64 = 4_070_908_800;

// ---- both halves in memory -------------------------------------------------------------------------

/// What is under way in one direction.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    closed: bool,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && !self.closed {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.read(buf)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.bytes.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct Pair {
    pub(super) client: Tls,
    pub(super) server: Tls,
    up: Pipe,
    down: Pipe,
}

impl Pair {
    pub(super) fn new(client: Tls, server: Tls) -> Pair {
        Pair { client, server, up: Pipe::default(), down: Pipe::default() }
    }

    /// Until neither has anything to say. The first error and who had it.
    pub(super) fn shake(&mut self) -> Result<(), (&'static str, Error)> {
        for _ in 0..60 {
            self.client.flush(&mut self.up).unwrap();
            self.server.flush(&mut self.down).unwrap();
            for (who, tls, pipe) in
                [("server", &mut self.server, &mut self.up), ("client", &mut self.client, &mut self.down)]
            {
                match tls.read(pipe, &mut []) {
                    Ok(_) => {}
                    Err(why) if why.would_block() => {}
                    Err(why) => return Err((who, why)),
                }
            }
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        Ok(())
    }
}

pub(super) fn clock() -> Clock {
    Clock::fixed(NOON_2027)
}

struct Hub {
    dir: Scratch,
    id: Identity,
}

/// The hub of pi.local. Made once: keys cost time.
fn hub() -> &'static Hub {
    static HUB: OnceLock<Hub> = OnceLock::new();
    HUB.get_or_init(|| {
        let dir = Scratch::new();
        let names = Names { domain: "pi.local".into(), aliases: vec!["10.0.0.9".into()] };
        let id = Authority::with_addresses(&dir.0, &names, &[]).unwrap();
        Hub { dir, id }
    })
}

fn server_of(id: &Identity) -> ServerTls {
    ServerTls::new(id, &[ALPN_CLIENT], Arc::new(AtomicBool::new(false)), &clock()).unwrap()
}

fn client(trust: Trust, clock: Clock) -> ClientTls {
    ClientTls::new(trust, Some(ALPN_CLIENT), None, &clock).unwrap()
}

fn ca_file() -> Trust {
    Trust::Roots { cafile: Some(hub().dir.0.join("ca.pem")) }
}

fn join(client: &ClientTls, domain: &str, server: &ServerTls) -> Result<Pair, Error> {
    let mut pair = Pair::new(Tls::client(client, domain).unwrap(), Tls::server(server).unwrap());
    match pair.shake() {
        Ok(()) => Ok(pair),
        Err((_, why)) => Err(why),
    }
}

fn refused(client: &ClientTls, domain: &str, server: &ServerTls) -> Refused {
    match join(client, domain, server) {
        Err(Error::Refused(why)) => {
            let text = why.to_string();
            assert!(text.lines().count() == 1 && !text.contains(char::is_control), "{text}");
            *why
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

/// A certificate outside the hub's own ways, signed by itself or by the given authority.
pub(super) struct Made {
    pub(super) id: Identity,
    pub(super) file: PathBuf,
    _dir: Scratch,
}

pub(super) fn made(
    names: &[&str],
    issuer: Option<&Issuer<'_, KeyPair>>,
    change: impl FnOnce(&mut CertificateParams),
) -> Made {
    let dir = Scratch::new();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let cert = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let (file, key_file) = (dir.0.join("cert.pem"), dir.0.join("key.pem"));
    fs::write(&file, cert.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let (id, _) = from_files(&file, &key_file, "pi.local").unwrap();
    Made { id, file, _dir: dir }
}

/// An authority and the file to trust it by.
pub(super) fn authority() -> (Issuer<'static, KeyPair>, PathBuf, Scratch) {
    let dir = Scratch::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let file = dir.0.join("ca.pem");
    fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    (Issuer::new(params, key), file, dir)
}

// ---- trust -----------------------------------------------------------------------------------------

#[test]
fn every_trust_accepts_its_hub() {
    let server = server_of(&hub().id);
    let known = Scratch::new();
    let other_pin = [7; 32];
    for trust in [
        ca_file(),
        Trust::Pins(vec![other_pin, hub().id.spki_sha256]),
        Trust::Tofu(known.0.join("known_hubs")),
        Trust::Insecure,
    ] {
        let pair = join(&client(trust.clone(), clock()), "pi.local", &server).unwrap();
        assert_eq!(pair.client.version(), Some("TLS 1.3"));
        assert_eq!(pair.client.alpn(), Some(ALPN_CLIENT.as_bytes()));
        assert_eq!(pair.server.alpn(), Some(ALPN_CLIENT.as_bytes()));
        assert!(pair.client.cipher().unwrap().starts_with("TLS13_"));
        assert_eq!(pair.client.peer_spki(), Some(hub().id.spki_sha256), "{trust:?}");
        assert_eq!(pair.server.peer_spki(), None, "nobody asked for a certificate");
    }
    let by_address = client(ca_file(), clock());
    for name in ["10.0.0.9", "127.0.0.1", "[::1]", "localhost", "PI.local."] {
        join(&by_address, name, &server).unwrap();
    }
}

#[test]
fn any_clock_will_do_for_our_own_and_for_pins() {
    let server = server_of(&hub().id);
    let strict = made(&["pi.local"], None, |p| {
        p.not_before = date_time_ymd(2027, 1, 1);
        p.not_after = date_time_ymd(2027, 2, 1);
    });
    let strict_server = server_of(&strict.id);
    for unix in [0, NOON_2027, IN_2099] {
        join(&client(ca_file(), Clock::fixed(unix)), "pi.local", &server).unwrap();
        let pinned = Trust::Pins(vec![strict.id.spki_sha256]);
        join(&client(pinned, Clock::fixed(unix)), "whatever.example", &strict_server).unwrap();
    }
}

#[test]
fn clocks() {
    let unset = Clock::fixed(0);
    assert_eq!((unset.now(), unset.is_set()), (Clock::BUILD, false));
    unset.raise(NOON_2027);
    unset.raise(5);
    assert_eq!(unset.now(), NOON_2027);
    assert!(Clock::fixed(IN_2099).is_set());
    assert!(Clock::system().now() >= Clock::BUILD);
}

#[test]
fn refusals_by_name() {
    let (issuer, ca, _dir) = authority();
    let roots = |cafile: Option<PathBuf>, at| client(Trust::Roots { cafile }, Clock::fixed(at));
    let ours = hub().id.spki_sha256;
    let server = server_of(&hub().id);

    let why = refused(&roots(None, NOON_2027), "pi.local", &server);
    assert_eq!(why, Refused::UnknownIssuer { pin: ours });
    assert!(why.to_string().contains(&pin_text(&ours)) && why.to_string().contains("--tofu"));

    let why = refused(&client(ca_file(), clock()), "evil.local", &server);
    let Refused::WrongName { expected, found, .. } = &why else { panic!("{why}") };
    assert_eq!((expected.as_str(), found[0].as_str()), ("evil.local", "pi.local"));
    assert!(matches!(refused(&client(ca_file(), clock()), "10.0.0.8", &server), Refused::WrongName { .. }));

    let pins = vec![[7; 32]];
    let why = refused(&client(Trust::Pins(pins.clone()), clock()), "pi.local", &server);
    assert_eq!(why, Refused::PinMismatch { wanted: pins, got: ours });
    assert!(why.to_string().contains(&pin_text(&[7; 32])) && why.to_string().contains(&pin_text(&ours)));

    let short = made(&["pi.local"], Some(&issuer), |p| {
        p.not_before = date_time_ymd(2027, 1, 1);
        p.not_after = date_time_ymd(2027, 2, 1);
    });
    let (server, pin) = (server_of(&short.id), short.id.spki_sha256);
    let trusting = |at| roots(Some(ca.clone()), at);
    join(&trusting(NOON_2027), "pi.local", &server).unwrap();
    let why = refused(&trusting(NOON_2027 + 20 * 86_400), "pi.local", &server);
    assert_eq!(why, Refused::Expired { days: 4, clock_set: true, pin });
    let why = refused(&trusting(0), "pi.local", &server);
    assert_eq!(why, Refused::NotYetValid { days: 62, clock_set: false, pin });
    assert!(why.to_string().contains("clock is not set"), "{why}");
    assert!(matches!(
        refused(&trusting(IN_2099), "pi.local", &server),
        Refused::Expired { days: 26_267.., .. }
    ));

    let client_only = made(&["pi.local"], Some(&issuer), |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let why = refused(&trusting(NOON_2027), "pi.local", &server_of(&client_only.id));
    assert_eq!(why, Refused::WrongPurpose { pin: client_only.id.spki_sha256 });

    // Labels whole, one wildcard on the left (D6).
    let star = made(&["*.example.org"], Some(&issuer), |_| {});
    let server = server_of(&star.id);
    join(&trusting(NOON_2027), "a.example.org", &server).unwrap();
    for wrong in ["example.org", "a.b.example.org", "evilexample.org", "a.example.org.evil"] {
        assert!(matches!(refused(&trusting(NOON_2027), wrong, &server), Refused::WrongName { .. }));
    }

    // The common name is nothing.
    let cn = made(&[], Some(&issuer), |p| {
        p.distinguished_name.push(rcgen::DnType::CommonName, "pi.local");
    });
    let why = refused(&trusting(NOON_2027), "pi.local", &server_of(&cn.id));
    assert!(why.to_string().contains("no name at all"), "{why}");

    // A forgery of the same name by another authority.
    let (forger, _, _dir) = authority();
    let forged = made(&["pi.local"], Some(&forger), |_| {});
    let why = refused(&trusting(NOON_2027), "pi.local", &server_of(&forged.id));
    assert_eq!(why, Refused::UnknownIssuer { pin: forged.id.spki_sha256 });
}

#[test]
fn self_signed() {
    for ca in [false, true] {
        let own = made(&["pi.local"], None, |p| {
            if ca {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            p.not_after = date_time_ymd(2027, 2, 1);
        });
        let server = server_of(&own.id);
        let pin = own.id.spki_sha256;
        let bare = client(Trust::Roots { cafile: None }, clock());
        assert_eq!(refused(&bare, "pi.local", &server), Refused::SelfSigned { pin });
        let given = |at| client(Trust::Roots { cafile: Some(own.file.clone()) }, Clock::fixed(at));
        join(&given(NOON_2027), "pi.local", &server).unwrap();
        assert!(matches!(refused(&given(NOON_2027), "other.local", &server), Refused::WrongName { .. }));
        assert!(matches!(refused(&given(IN_2099), "pi.local", &server), Refused::Expired { .. }));
    }
}

#[test]
fn bad_cafiles_say_so() {
    let dir = Scratch::new();
    let at = |name: &str, text: &str| {
        let file = dir.0.join(name);
        fs::write(&file, text).unwrap();
        Trust::Roots { cafile: Some(file) }
    };
    for trust in [
        at("empty", ""),
        at("key", &fs::read_to_string(hub().dir.0.join("ca.key")).unwrap()),
        at("broken", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        Trust::Roots { cafile: Some(dir.0.join("none")) },
    ] {
        match ClientTls::new(trust, None, None, &clock()) {
            Err(why @ Error::File { .. }) => assert!(why.to_string().contains("--cafile"), "{why}"),
            _ => panic!(),
        }
    }
    assert!(ClientTls::new(Trust::Pins(vec![]), None, None, &clock()).is_err());
    for name in ["", "a b", "a/b", "evil\u{1b}[2J"] {
        let client = client(Trust::Insecure, clock());
        assert!(matches!(Tls::client(&client, name), Err(Error::BadName(_))), "{name:?}");
    }
}

#[test]
fn first_use_is_remembered_and_a_change_refused() {
    let dir = Scratch::new();
    let file = dir.0.join("config/stonechat/known_hubs");
    let tofu = client(Trust::Tofu(file.clone()), clock());
    let server = server_of(&hub().id);
    let pair = join(&tofu, "pi.local", &server).unwrap();
    assert!(!file.exists(), "only after the login");
    assert!(pair.client.remember().unwrap());
    assert!(!pair.client.remember().unwrap());
    let line = format!("pi.local {}\n", hub().id.pin());
    assert_eq!(fs::read_to_string(&file).unwrap(), line);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!join(&tofu, "PI.local", &server).unwrap().client.remember().unwrap());
    assert!(join(&tofu, "other.local", &server).unwrap().client.remember().unwrap());

    let twin = made(&["pi.local"], None, |_| {});
    let why = refused(&tofu, "pi.local", &server_of(&twin.id));
    let Refused::TofuChanged { known, got, .. } = &why else { panic!("{why}") };
    assert_eq!((known.as_slice(), *got), ([hub().id.spki_sha256].as_slice(), twin.id.spki_sha256));
    assert!(why.to_string().contains("known_hubs"));

    // A second line announces the next key.
    fs::write(&file, format!("# mine\n\n{line}pi.local {}", twin.id.pin())).unwrap();
    join(&tofu, "pi.local", &server_of(&twin.id)).unwrap();
    assert!(join(&tofu, "third.local", &server).unwrap().client.remember().unwrap());
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 5, "a last line without its end");

    // What cannot be read is not the same as what is not there.
    fs::write(&file, "other.local junk\npi.local sha256:short\n").unwrap();
    let why = refused(&tofu, "pi.local", &server);
    assert!(why.to_string().contains("line 2"), "{why}");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(matches!(refused(&tofu, "pi.local", &server), Refused::KnownHubs { .. }));
}

// ---- the connection --------------------------------------------------------------------------------

/// A client that knows only this version.
fn only(version: &'static rustls::SupportedProtocolVersion) -> ClientTls {
    let mut tls = client(ca_file(), clock());
    let verifier =
        client::OurServer::new(ca_file(), provider().signature_verification_algorithms, clock()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.require_ems = true;
    tls.config = Arc::new(config);
    tls
}

#[test]
fn channel_bindings_are_the_same_on_both_sides() {
    let server = server_of(&hub().id);
    let mut seen = Vec::new();
    for (version, name) in [(&rustls::version::TLS12, "TLS 1.2"), (&rustls::version::TLS13, "TLS 1.3")] {
        let mut pair =
            Pair::new(Tls::client(&only(version), "pi.local").unwrap(), Tls::server(&server).unwrap());
        assert_eq!(pair.client.channel_bindings(), Bindings::default(), "nothing before the end");
        pair.shake().unwrap();
        assert_eq!(pair.client.version(), Some(name));
        let (ours, theirs) = (pair.server.channel_bindings(), pair.client.channel_bindings());
        assert_eq!(ours, theirs);
        assert_eq!(ours.server_end_point.as_deref(), Some(hub().id.cert_sha256.as_slice()));
        seen.push(ours.exporter.unwrap());
    }
    assert_ne!(seen[0], seen[1]);
}

#[test]
fn tls12_without_extended_master_secret_is_refused() {
    let server = server_of(&hub().id);
    let mut old = only(&rustls::version::TLS12);
    let mut config = (*old.config).clone();
    config.require_ems = false;
    old.config = Arc::new(config);
    // rustls always offers it, so cut it from the ClientHello: type 23, length 0.
    let mut pair = Pair::new(Tls::client(&old, "pi.local").unwrap(), Tls::server(&server).unwrap());
    pair.client.flush(&mut pair.up).unwrap();
    let hello = pair.up.bytes.make_contiguous();
    let at = hello.windows(4).rposition(|w| w == [0, 23, 0, 0]).unwrap();
    hello[at..at + 2].copy_from_slice(&[0xfa, 0xfa]);
    assert!(matches!(pair.shake(), Err(("server", Error::Incompatible(_)))));
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let server = server_of(&hub().id);
    let any = client(Trust::Insecure, clock());
    let mut old = Pair::new(Tls::client(&any, "pi.local").unwrap(), Tls::server(&server).unwrap());
    let other = made(&["pi.local"], None, |_| {});
    server.clone().reload(&other.id).unwrap();
    old.shake().unwrap();
    assert_eq!(old.client.peer_spki(), Some(hub().id.spki_sha256));
    assert_eq!(old.client.channel_bindings(), old.server.channel_bindings());
    let new = join(&any, "pi.local", &server).unwrap();
    assert_eq!(new.client.peer_spki(), Some(other.id.spki_sha256));
    assert_eq!(new.client.channel_bindings(), new.server.channel_bindings());
}

#[test]
fn alpn() {
    let server = server_of(&hub().id);
    let with = |alpn| ClientTls::new(Trust::Insecure, alpn, None, &clock()).unwrap();
    let none = join(&with(None), "pi.local", &server).unwrap();
    assert_eq!(none.server.alpn(), None);
    assert!(matches!(join(&with(Some("h2")), "pi.local", &server), Err(Error::NoAlpn)));
}

#[test]
fn client_certificates() {
    let asks = Arc::new(AtomicBool::new(false));
    let server = ServerTls::new(&hub().id, &[ALPN_CLIENT], asks.clone(), &clock()).unwrap();
    // Any will do, also a CA's own, one for nobody, one that is over, one with 10,000 names.
    let device = made(&["x"], None, |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        p.not_after = date_time_ymd(1999, 1, 1);
    });
    let with = ClientTls::new(ca_file(), None, Some(&device.id), &clock()).unwrap();
    assert_eq!(join(&with, "pi.local", &server).unwrap().server.peer_spki(), None);
    asks.store(true, Ordering::Relaxed);
    let pair = join(&with, "pi.local", &server).unwrap();
    assert_eq!(pair.server.peer_spki(), Some(device.id.spki_sha256));
    assert_eq!(cert::sha256(pair.server.peer_certificate().unwrap()), device.id.cert_sha256);
    join(&client(ca_file(), clock()), "pi.local", &server).unwrap();
}

#[test]
fn a_hundred_certificates_cost_no_path_building() {
    // Cross-signed both ways, so that a path builder would have 2^50 paths to try.
    let (issuer, _, _dir) = authority();
    let mut device = made(&["x"], Some(&issuer), |_| {}).id;
    let link = many_links();
    device.certs.extend(link);
    let asks = Arc::new(AtomicBool::new(true));
    let server = ServerTls::new(&hub().id, &[], asks, &clock()).unwrap();
    let with = ClientTls::new(ca_file(), None, Some(&device), &clock()).unwrap();
    let begin = Instant::now();
    assert_eq!(join(&with, "pi.local", &server).unwrap().server.peer_spki(), Some(device.spki_sha256));
    assert!(begin.elapsed() < Duration::from_millis(500));
    // The same chain from a server: webpki's budgets end it.
    let server = server_of(&device);
    let begin = Instant::now();
    refused(&client(ca_file(), clock()), "x", &server);
    assert!(begin.elapsed() < Duration::from_secs(2));

    // Over 64 KB there is no talking at all.
    device.certs.extend([many_names(), many_names()]);
    let with = ClientTls::new(ca_file(), None, Some(&device), &clock()).unwrap();
    let server = ServerTls::new(&hub().id, &[], Arc::new(AtomicBool::new(true)), &clock()).unwrap();
    assert!(join(&with, "pi.local", &server).is_err());
}

pub(super) fn many_links() -> Vec<CertificateDer<'static>> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (0..100u64)
        .map(|serial| {
            params.serial_number = Some(serial.into());
            params.self_signed(&key).unwrap().der().clone()
        })
        .collect()
}

#[test]
fn data_both_ways_in_few_records() {
    let server = server_of(&hub().id);
    let mut pair = join(&client(ca_file(), clock()), "pi.local", &server).unwrap();
    let body: Vec<u8> = (0..50_000u32).map(|i| i as u8).collect();

    // One write, one record: 16 KiB and 22 bytes around it.
    assert_eq!(pair.server.write(&body), SEND_LIMIT);
    assert_eq!(pair.server.write(&body), 0, "flush first");
    assert!(pair.server.flush(&mut pair.down).unwrap() && !pair.server.wants_write());
    assert_eq!(pair.down.bytes.len(), SEND_LIMIT + 22);

    assert_eq!(pair.server.send(&mut pair.down, &body[SEND_LIMIT..]).unwrap(), body.len() - SEND_LIMIT);
    let wire: Vec<u8> = pair.down.bytes.drain(..).collect();
    assert_eq!(wire.len(), body.len() + 4 * 22);

    // Room for all: all is taken, nothing stays inside.
    let mut plain = vec![0; 65_536];
    let got = pair.client.feed(&wire, &mut plain).unwrap();
    assert_eq!(got, Got { wire: wire.len(), plain: body.len(), closed: false, more: false });
    assert_eq!(plain[..got.plain], body);
    assert_eq!(pair.client.feed(&[], &mut plain).unwrap(), Got::default());

    // Little room: the rest comes by asking again.
    assert_eq!(pair.server.send(&mut pair.down, &body).unwrap(), body.len());
    let wire: Vec<u8> = pair.down.bytes.drain(..).collect();
    let (mut at, mut out, mut small) = (0, Vec::new(), [0; 1000]);
    loop {
        let got = pair.client.feed(&wire[at..], &mut small).unwrap();
        at += got.wire;
        out.extend_from_slice(&small[..got.plain]);
        if got.plain == 0 && at == wire.len() {
            break;
        }
    }
    assert_eq!(out, body);

    // From the socket, 4 KB at a time.
    pair.server.send(&mut pair.down, &body).unwrap();
    out.clear();
    loop {
        match pair.client.read(&mut pair.down, &mut small) {
            Ok(got) => out.extend_from_slice(&small[..got.plain]),
            Err(why) => break assert!(why.would_block()),
        }
    }
    assert_eq!(out, body);

    pair.client.close_notify();
    pair.client.flush(&mut pair.up).unwrap();
    assert!(pair.server.read(&mut pair.up, &mut small).unwrap().closed);
    assert!(pair.server.read(&mut pair.up, &mut small).unwrap().closed, "and stays so");
}

#[test]
fn a_full_socket_keeps_what_it_took() {
    struct Full(Vec<u8>, usize);
    impl Write for Full {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let room = self.1.saturating_sub(self.0.len()).min(buf.len());
            if room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.write(&buf[..room])
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let server = server_of(&hub().id);
    let mut pair = join(&client(ca_file(), clock()), "pi.local", &server).unwrap();
    let body = vec![b'x'; 100_000];
    let mut out = Full(Vec::new(), 10_000);
    let mut taken = pair.server.send(&mut out, &body).unwrap();
    assert_eq!(taken, SEND_LIMIT);
    assert_eq!(pair.server.send(&mut out, &body[taken..]).unwrap(), 0);
    assert!(pair.server.wants_write());
    out.1 = usize::MAX;
    taken += pair.server.send(&mut out, &body[taken..]).unwrap();
    assert_eq!(taken, body.len());
    let mut plain = vec![0; 200_000];
    assert_eq!(pair.client.feed(&out.0, &mut plain).unwrap().plain, body.len());
}

#[test]
fn the_end_of_tcp_is_the_end() {
    let server = server_of(&hub().id);
    let mut pair = join(&client(ca_file(), clock()), "pi.local", &server).unwrap();
    pair.server.send(&mut pair.down, b"last").unwrap();
    pair.down.closed = true;
    let mut plain = [0; 100];
    let got = pair.client.read(&mut pair.down, &mut plain).unwrap();
    assert_eq!((got.plain, got.closed), (4, false));
    assert!(pair.client.read(&mut pair.down, &mut plain).unwrap().closed);
}

#[test]
fn client_hello_in_one_byte_records() {
    // RUSTSEC-2024-0399 and its kin: each byte of the handshake message in a record of its own.
    let server = server_of(&hub().id);
    let mut pair = Pair::new(
        Tls::client(&client(ca_file(), clock()), "pi.local").unwrap(),
        Tls::server(&server).unwrap(),
    );
    pair.client.flush(&mut pair.up).unwrap();
    let hello: Vec<u8> = pair.up.bytes.drain(..).collect();
    for byte in &hello[5..] {
        pair.up.bytes.extend([22, 3, 1, 0, 1, *byte]);
    }
    pair.shake().unwrap();
}

#[test]
fn hostile_bytes() {
    let server = server_of(&hub().id);
    let judge = |bytes: &[u8]| {
        let mut tls = Tls::server(&server).unwrap();
        let mut pipe = Pipe { bytes: bytes.to_vec().into(), closed: true };
        for _ in 0..10_000 {
            match tls.read(&mut pipe, &mut []) {
                Ok(got) if got.closed => return "closed",
                Ok(_) => {}
                Err(Error::NotTls) => return "not TLS",
                Err(Error::Misbehaved(_)) => return "misbehaved",
                Err(Error::Alert(_)) => return "alert",
                Err(why) => panic!("{why}"),
            }
        }
        panic!("endless")
    };
    assert_eq!(judge(b"<?xml version='1.0'?><stream:stream xmlns='jabber:client'>"), "not TLS");
    assert_eq!(judge(b"GET / HTTP/1.1\r\n\r\n"), "not TLS");
    assert_eq!(judge(b""), "closed");
    assert_eq!(judge(&[21, 3, 3, 0, 2, 1, 0]), "closed"); // close_notify in the middle
    assert_eq!(judge(&[21, 3, 3, 0, 2, 2, 40]), "alert");
    assert_eq!(judge(&[22, 3, 3, 0xff, 0xff]), "misbehaved");
    assert_eq!(judge(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]), "misbehaved"); // a hello of 16 MB
    let mut endless = vec![22, 3, 1, 0x40, 0, 1, 0x00, 0xff, 0xff];
    endless.extend(vec![0; 0x4000 - 4]);
    for _ in 0..5 {
        endless.extend([22, 3, 1, 0x40, 0]);
        endless.extend(vec![0; 0x4000]);
    }
    assert_eq!(judge(&endless), "misbehaved");
}

// ---- over sockets ----------------------------------------------------------------------------------

fn sockets() -> (Async<TcpStream>, Async<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (b, _) = listener.accept().unwrap();
    (Async::new(a).unwrap(), Async::new(b).unwrap())
}

fn soon() -> Timer {
    Timer::after(Duration::from_secs(10))
}

#[test]
fn handshake_over_tcp() {
    let server = server_of(&hub().id);
    let (a, b) = sockets();
    let mut near = Tls::client(&client(ca_file(), clock()), "pi.local").unwrap();
    let mut far = Tls::server(&server).unwrap();
    near.write(b"early words"); // kept until the handshake is done
    let (one, other) = smol::block_on(smol::future::zip(
        async {
            handshake(&mut near, &a, soon()).await?;
            near.flush(&mut a.get_ref()).map_err(Error::Io)
        },
        handshake(&mut far, &b, soon()),
    ));
    assert!(one.unwrap());
    other.unwrap();
    let mut plain = [0; 100];
    let got = smol::block_on(async {
        loop {
            match far.read(&mut b.get_ref(), &mut plain) {
                Err(why) if why.would_block() => b.readable().await.unwrap(),
                other => break other.unwrap(),
            }
        }
    });
    assert_eq!(&plain[..got.plain], b"early words");
}

#[test]
fn handshake_tells_both_why_not() {
    let server = server_of(&hub().id);
    let (a, b) = sockets();
    let mut near = Tls::client(&client(Trust::Pins(vec![[1; 32]]), clock()), "pi.local").unwrap();
    let mut far = Tls::server(&server).unwrap();
    let (one, other) =
        smol::block_on(smol::future::zip(handshake(&mut near, &a, soon()), handshake(&mut far, &b, soon())));
    assert!(matches!(one, Err(Error::Refused(_))));
    let Err(Error::Alert(text)) = other else { panic!("{other:?}") };
    assert!(text.contains("does not trust our certificate"), "{text}");
}

#[test]
fn handshake_ends_in_time() {
    let server = server_of(&hub().id);
    // Silence, half a record, and close_notify in the middle: a warning then, no end (RUSTSEC-2024-0336).
    for junk in [b"".as_slice(), &[22, 3, 1, 0, 4, 1], &[21, 3, 3, 0, 2, 1, 0]] {
        let (a, b) = sockets();
        (&mut a.get_ref()).write_all(junk).unwrap();
        let mut far = Tls::server(&server).unwrap();
        let end = Timer::after(Duration::from_millis(50));
        assert!(matches!(smol::block_on(handshake(&mut far, &b, end)), Err(Error::Deadline)));
        drop(a);
        assert!(matches!(smol::block_on(handshake(&mut far, &b, soon())), Err(Error::Closed)));
    }
    // Warnings without end.
    let (a, b) = sockets();
    (&mut a.get_ref()).write_all(&[21, 3, 3, 0, 2, 1, 0].repeat(100)).unwrap();
    let mut far = Tls::server(&server).unwrap();
    assert!(matches!(smol::block_on(handshake(&mut far, &b, soon())), Err(Error::Misbehaved(_))));
}

#[test]
fn pins_of_identities_read_back() {
    assert_eq!(parse_pin(&hub().id.pin()), Some(hub().id.spki_sha256));
}
