//! The server's half of a stream under whatever bytes: it does not panic, lets nobody in without a
//! valid proof, and what it says is XML.
//!
//! The first byte picks the connection (TLS, certificate, registration), the second the size of the
//! reads. Alice's password is `pencil` for PLAIN; no password fits her keys for SCRAM-SHA-1.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::rc::Rc;
use std::sync::OnceLock;
use stonechat::jid::FullJid;
use stonechat::stanza;
use stonechat::store::change::Keys;
use stonechat::stream::{Ask, Bindings, Error, Receiving, Registration, Secret, Security, Settings, sasl};
use stonechat::xml::{Caps, Flow, Kind, Reader, Scan, Scope};
use stonechat_fuzz::cut;

const ROUNDS: u32 = 4096;

fn keys() -> &'static (Keys, Vec<u8>) {
    static KEYS: OnceLock<(Keys, Vec<u8>)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut keys = sasl::keys(&Secret::new("pencil"), [[1; 16], [2; 16]], ROUNDS);
        keys.sha1.stored_key = vec![7; 20].into();
        let salted = sasl::derive(&Secret::new("pencil"), &[2; 16], ROUNDS, sasl::Hash::Sha256);
        (keys, salted)
    })
}

fn bindings() -> Bindings {
    Bindings { exporter: Some([5; 32]), server_end_point: Some(vec![6; 32]) }
}

/// The world around a stream: what it has answered.
struct World {
    receiving: Receiving,
    scan: Scan,
    said: Vec<u8>,
    /// Whether whoever speaks has shown that it is Alice.
    proven: bool,
    /// Whether the account that PLAIN names is hers.
    alice: bool,
    owner: bool,
    secured: bool,
    over: bool,
}

impl World {
    fn answer(&mut self, ask: Ask) -> Result<Option<Ask>, Error> {
        let World { receiving, said, .. } = self;
        Ok(match ask {
            Ask::StartTls => {
                assert!(!self.secured, "TLS twice");
                self.secured = true;
                receiving.secured(bindings(), None);
                None
            }
            Ask::Keys { localpart } => {
                self.alice = &*localpart == "alice";
                receiving.keys(self.alice.then_some((1, &keys().0)), said)?
            }
            Ask::Derive { password, salt, iterations, .. } => {
                assert!(iterations <= sasl::MAX_ITERATIONS);
                let right = password.expose() == b"pencil" && salt == [2; 16];
                self.proven |= right && self.alice;
                receiving.derived(if right { &keys().1 } else { &[0; 32] }, said)?
            }
            Ask::Owner { spki, authzid } => {
                assert_eq!(spki, [9; 32], "a certificate that was not presented");
                let hers = authzid.is_none_or(|jid| jid.as_str() == "alice@hub.test");
                self.proven |= self.owner && hers;
                receiving.owner(self.owner.then_some("alice"), said)?
            }
            Ask::Register | Ask::Refused { .. } => None,
            Ask::Bind { account, resource } => {
                assert!(self.proven, "in without a proof");
                assert_eq!(account.jid().as_str(), "alice@hub.test");
                if &*resource == "taken" {
                    receiving.bind_refused(stanza::Condition::Conflict.into(), said);
                    return Ok(None);
                }
                let full: FullJid = account.jid().with_resource(&resource).expect("in normal form");
                assert_eq!(full.resource(), &*resource);
                receiving.bound(&full, said);
                self.over = true;
                None
            }
            Ask::Resume { account, previd, h } => {
                assert!(self.proven, "in without a proof");
                assert_eq!(account.jid().as_str(), "alice@hub.test");
                match &*previd == "known" {
                    true => receiving.resumed(h, said),
                    false => receiving.resume_refused(said),
                }
                self.over = &*previd == "known";
                None
            }
            Ask::Closed => {
                self.over = true;
                None
            }
        })
    }

    /// Reads as the driver does: one frame, then all that is asked about it.
    fn feed(&mut self, reader: &mut Reader, bytes: &[u8]) -> Result<(), Error> {
        let mut part = bytes;
        while !self.over {
            let (mut asked, mut restart) = (None, false);
            let World { receiving, scan, said, .. } = self;
            reader.feed::<Error>(part, |kind, frame| {
                asked = receiving.frame(kind, frame, scan, said)?;
                restart = receiving.restarts();
                Ok(if asked.is_some() || restart { Flow::Stop } else { Flow::Go })
            })?;
            let (stopped, tls) = (asked.is_some() || restart, matches!(asked, Some(Ask::StartTls)));
            if tls && !reader.is_blank() {
                self.over = true; // threats B1: bytes in the clear behind it
                return Ok(());
            }
            while let Some(ask) = asked {
                asked = self.answer(ask)?;
            }
            if tls {
                *reader = new_reader();
            }
            if restart || self.receiving.restarts() {
                reader.restart();
            }
            if !stopped {
                return Ok(());
            }
            part = &[];
        }
        Ok(())
    }
}

fn new_reader() -> Reader {
    Reader::new(10_240, 64)
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = data;
    let [choice] = *cut(&mut bytes, 1) else { return };
    let [size] = *cut(&mut bytes, 1) else { return };
    let on = |bit: u8| choice >> bit & 1 == 1;
    let settings = Settings {
        domain: "hub.test".into(),
        aliases: vec!["alias.test".into()],
        registration: match (on(3), on(4)) {
            (false, _) => Registration::Closed,
            (true, false) => Registration::Invite,
            (true, true) => Registration::Open,
        },
        extra_features: b"<sub xmlns='urn:xmpp:features:pre-approval'/>".to_vec(),
        early_features: Vec::new(),
        max_bytes_early: 10_240,
        max_bytes: 262_144,
        idle_seconds: 300,
        login_tries: 3,
        secret: [3; 32],
        iterations: ROUNDS,
    };
    let certificate = on(1).then_some([9; 32]);
    let security = match on(0) {
        true => Security::Tls { bindings: bindings(), certificate },
        false => Security::Plain { starttls: true, required: on(1) },
    };
    let mut world = World {
        receiving: Receiving::new(Rc::new(settings), security, [4; 32]),
        scan: Scan::new(),
        said: Vec::new(),
        proven: false,
        alice: false,
        owner: on(2),
        secured: on(0),
        over: false,
    };
    let mut reader = new_reader();
    let size = if size == b'0' { bytes.len() } else { usize::from(size % 64) + 1 };
    while !world.over && !bytes.is_empty() {
        let part = cut(&mut bytes, size);
        if let Err(error) = world.feed(&mut reader, part) {
            world.receiving.fail(&error, &mut world.said);
            world.over = true;
        }
    }
    check(&world.said);
});

/// What a server says is streams, one after the other, of which the last may stay open.
fn check(said: &[u8]) {
    let mut rest = said;
    let mut framer = stonechat::xml::Framer::new(1 << 20, 64);
    let mut scan = Scan::new();
    let mut scope = Scope::default();
    let caps = Caps::default();
    while !rest.is_empty() {
        if rest.starts_with(b"<?xml") {
            framer.restart();
        }
        let frame = framer.next(rest).unwrap_or_else(|e| panic!("{e:?}: {}", String::from_utf8_lossy(said)));
        let frame = frame.unwrap_or_else(|| panic!("half a frame: {}", String::from_utf8_lossy(said)));
        let (kind, len) = frame.split();
        let bytes = cut(&mut rest, len);
        match kind {
            Kind::Header => {
                let text = scan.header(bytes, &caps).expect("our header");
                scope = Scope::of_header(text, &scan);
            }
            Kind::Element => drop(scan.element(bytes, &scope, &caps).expect("our element")),
            Kind::Footer => assert!(rest.is_empty()),
            Kind::Keepalive => panic!("space"),
        }
    }
}
