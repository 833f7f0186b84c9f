//! Where the nanoseconds of a message go: `cargo bench`, or `cargo bench -- NAME`. Figures to look at,
//! none to assert.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod world;

use std::hint::black_box;
use std::time::{Duration, Instant};
use stonechat::jid::Jid;
use stonechat::stanza::{Stanza, Tree};
use stonechat::xml::{Caps, Error, Flow, Framer, Reader, Scan, Scope, Writer, ns};
use world::{World, chat};

/// Runs `work` for a while, several times over, and prints the best time of one operation (the one
/// that was disturbed least); each call of `work` does `ops` of them.
fn measure(name: &str, ops: u32, mut work: impl FnMut()) {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    if wanted.is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let mut best = f64::MAX;
    for _ in 0..7 {
        let (start, mut calls) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(40) {
            for _ in 0..64 {
                work();
            }
            calls += 64;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(calls * ops));
    }
    println!("{name:<44} {best:>9.1} ns");
}

fn main() {
    let message = chat(1);
    let batch = message.repeat(20);
    let (scope, caps) = (Scope { default: ns::CLIENT.into(), ..Scope::default() }, Caps::default());
    println!("a chat message of {} bytes", message.len());

    let mut framer = Framer::new(262_144, 64);
    framer.next(b"<stream:stream>").unwrap();
    measure("framing", 1, || _ = black_box(framer.next(black_box(message.as_bytes()))));

    let mut reader = Reader::new(262_144, 64);
    let go = |_, frame: &[u8]| Ok::<_, Error>((black_box(frame), Flow::Go).1);
    reader.feed(b"<stream:stream>", go).unwrap();
    measure("reading 20 of them at once, each", 20, || reader.feed(black_box(batch.as_bytes()), go).unwrap());

    let mut scan = Scan::new();
    measure("judging (the scan)", 1, || {
        black_box(scan.element(black_box(message.as_bytes()), &scope, &caps)).unwrap();
    });
    measure("roxmltree, for comparison", 1, || drop(black_box(Tree::parse(black_box(&message)))));

    let text = scan.element(message.as_bytes(), &scope, &caps).unwrap();
    let stanza = Stanza::new(text, &scan).unwrap();
    measure("head: kind, to, id, type", 1, || {
        let stanza = Stanza::new(black_box(text), &scan).unwrap();
        black_box((stanza.kind(), stanza.to(), stanza.id(), stanza.type_()));
    });
    measure("address", 1, || _ = black_box(Jid::parse(black_box("u1@hub.test/lg"))));

    let mut out = Vec::with_capacity(4096);
    measure("stamping", 1, || {
        out.clear();
        stanza.stamp(&mut out, Some("u0@hub.test/lg"), Some("u1@hub.test/lg"), None, &[]);
        black_box(&out);
    });
    measure("writing <stanza-id/>", 1, || {
        out.clear();
        let mut w = Writer::new(&mut out);
        w.start("stanza-id")
            .ns(ns::SID)
            .attr("by", "u1@hub.test")
            .attr("id", "65bc0b5bd3a000-00000007")
            .end();
        drop(w);
        black_box(&out);
    });

    let mut world = World::new(2);
    measure("routing to a full address (the hub)", 1, || {
        world.boxes.clear();
        world.hear(0, &stanza);
    });
    let bare = message.replace("/lg'", "'");
    let mut scan = Scan::new();
    let text = scan.element(bare.as_bytes(), &scope, &caps).unwrap();
    let stanza = Stanza::new(text, &scan).unwrap();
    measure("routing to a bare address", 1, || {
        world.boxes.clear();
        world.hear(0, &stanza);
    });
    measure("the whole way: read, judge, route, each", 20, || {
        world.boxes.clear();
        world.feed(0, batch.as_bytes());
    });

    let mut world = World::new(101);
    let away = "<presence><show>away</show><status>lgm:1:2:</status></presence>";
    measure("presence to 100 contacts, each", 100, || {
        world.boxes.clear();
        world.feed(0, away.as_bytes());
    });
}
