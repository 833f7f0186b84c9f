//! Answers of a name server, over UDP from this machine: whatever comes, the resolver says something.
//!
//! The first byte: `r` for a raw answer (only the id is put right), anything else for one to the very
//! question; `s` looks for SRV, `p` for the server of a domain, anything else for addresses. Behind it flags (2 bytes), three counts (a byte
//! each), and the records. A plain refusal follows each answer, so that nobody waits for a better one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use stonechat::net::dns::{Policy, Resolver, Service, only_dialable};
use stonechat_fuzz::cut;

static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A name server that says what [`ANSWER`] holds.
fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("an address");
        std::thread::spawn(move || {
            let mut query = [0; 1024];
            while let Ok((len, from)) = socket.recv_from(&mut query) {
                let query = &query[..len];
                let data = ANSWER.lock().expect("no panic").clone();
                let _ = socket.send_to(&answer(&data, query), from);
                let mut refusal = query.to_vec();
                refusal[2] |= 0x80;
                refusal[3] = 3;
                let _ = socket.send_to(&refusal, from);
            }
        });
        address
    })
}

fn answer(data: &[u8], query: &[u8]) -> Vec<u8> {
    let mut data = data;
    let mut out = query[..2].to_vec();
    if cut(&mut data, 1) == b"r" {
        out.extend(data);
        return out;
    }
    out.extend(cut(&mut data, 2));
    out.extend([0, 1]);
    for _ in 0..3 {
        out.push(0);
        out.extend(cut(&mut data, 1));
    }
    out.resize(12, 0);
    out.extend(&query[12..]);
    out.extend(data);
    out
}

fuzz_target!(|data: &[u8]| {
    let data = &data[..data.len().min(3000)];
    let Some(first) = data.first() else { return };
    *ANSWER.lock().expect("no panic") = data.to_vec();
    let resolver = Resolver::with_servers(vec![server()])
        .patience(Duration::from_millis(200), Duration::from_millis(400));
    if *first == b's' {
        let found = async_io::block_on(resolver.lookup_srv("hub.example", Service::Client));
        assert_eq!(found.targets.is_empty(), found.reason.is_some());
        assert!(found.targets.len() <= 64);
        for target in &found.targets {
            assert!(target.port != 0 && target.host != ".");
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
            assert!(target.host.bytes().all(plain), "{:?}", target.host);
        }
    } else if *first == b'p' {
        match async_io::block_on(resolver.server_targets("hub.example")) {
            Ok(found) => {
                assert!((1..=16).contains(&found.len()));
                assert!(found.iter().all(|candidate| candidate.addr.port() != 0));
                let policy = Policy { loopback_ok: true, own: &[] };
                let good = only_dialable(found, &policy).unwrap_or_default();
                assert!(good.iter().all(|c| !c.addr.ip().is_unspecified() && !c.addr.ip().is_multicast()));
            }
            Err(why) => assert!(!why.to_string().is_empty()),
        }
    } else {
        match async_io::block_on(resolver.resolve("hub.example")) {
            Ok(addresses) => assert!((1..=128).contains(&addresses.len())),
            Err(why) => assert!(!why.to_string().is_empty()),
        }
    }
});
