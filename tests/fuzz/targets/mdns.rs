//! Packets of strangers on the network (threat I3): whatever comes, what goes out is well-formed, fits into a
//! frame, and is not more than a few packets for each; what is remembered is bounded, and is nothing that nobody
//! should dial.
//!
//! Each packet: who (a byte: an address of the network, or of another), how much later (a byte, squared, in
//! ms), how long (two bytes), and its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use stonechat::net::dns::wire;
use stonechat::net::mdns::{Config, Interface, Kind, Mdns, Outgoing, PORT, Sightings};
use stonechat_fuzz::cut;

fn check(packets: &[Outgoing]) {
    for packet in packets {
        assert!(packet.bytes.len() <= wire::MAX_WRITE);
        assert!(wire::read(&packet.bytes).is_some(), "ours, and not to be read");
    }
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let at = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listeners = vec![(Kind::Client, at(5222)), (Kind::Server, at(5269)), (Kind::ServerTls, at(5270))];
    let config = Config { domain: "hub.local".into(), pin: [1; 32], listeners, seed: 1 };
    let mut sightings = Sightings::new("hub.local", [1; 32]);
    let mut now = Instant::now();
    let mut mdns = Mdns::new(now, config);
    let addresses = vec![(IpAddr::from([192, 0, 2, 1]), 24), ("fe80::1".parse().expect("one"), 64)];
    mdns.interfaces(now, vec![Interface { index: 2, loopback: false, addresses, passing: vec![] }]);
    for _ in 0..20 {
        now += Duration::from_millis(250);
        check(&mdns.tick(now, &mut sightings).0.packets);
    }
    sightings.look("peer.local");
    sightings.pinned(["other.local"].into_iter());
    while let [who, later, long, length, ..] = *data {
        data = &data[4..];
        let bytes = cut(&mut data, usize::from(long & 7) << 8 | usize::from(length));
        let port = if who & 1 == 0 { PORT } else { 40_000 };
        let from: SocketAddr = match who >> 1 & 3 {
            0 => ([192, 0, 2, who >> 3], port).into(),
            1 => std::net::SocketAddrV6::new("fe80::9".parse().expect("one"), port, 0, 2).into(),
            2 => ([127, 0, 0, 1], port).into(),
            _ => ([203, 0, 113, who >> 3], port).into(),
        };
        now += Duration::from_millis(u64::from(later) * u64::from(later));
        let out = mdns.handle(now, bytes, from, &mut sightings);
        check(&out.packets);
        assert!(out.packets.len() <= 4);
        let (out, next) = mdns.tick(now, &mut sightings);
        check(&out.packets);
        assert!(out.packets.len() <= 8 && next > now);
        let list = sightings.list();
        assert!(list.len() <= 64);
        for sighting in list {
            assert!(sighting.addresses.len() <= 8);
            let candidates = sightings.candidates(&sighting.domain);
            assert!((1..=16).contains(&candidates.len()));
            for one in candidates {
                let ip = one.address.ip();
                assert!(one.address.port() != 0);
                assert!(!ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified(), "{ip}");
            }
        }
    }
    check(&mdns.goodbye());
});
