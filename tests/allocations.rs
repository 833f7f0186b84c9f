//! A message costs no memory: from the bytes that a socket gave to the bytes that another one will
//! be given, nothing is allocated once the buffers have grown. (Issue: what one message costs.)

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

#[path = "bench/world.rs"]
mod world;

use world::{World, chat};

/// How many allocations 100 batches make in the steady state.
fn allocations(world: &mut World, from: usize, batch: &[u8], expected: &[u8]) -> u64 {
    let mut turn = |times: usize| {
        for _ in 0..times {
            world.boxes.clear();
            world.feed(from, batch);
        }
    };
    turn(3);
    let info = allocation_counter::measure(|| turn(100));
    let told = world.boxes.of(world.sessions[1]);
    let text = String::from_utf8_lossy(told);
    assert!(text.contains(std::str::from_utf8(expected).unwrap()), "{text}");
    info.count_total
}

#[test]
fn a_chat_message_to_a_full_address() {
    let mut world = World::new(2);
    let batch = chat(1).repeat(20);
    assert_eq!(allocations(&mut world, 0, batch.as_bytes(), b"from='u0@hub.test/lg'"), 0);
}

#[test]
fn a_chat_message_to_a_bare_address() {
    let mut world = World::new(2);
    let batch = chat(1).replace("/lg'", "'");
    assert_eq!(allocations(&mut world, 0, batch.as_bytes(), b"to='u1@hub.test'"), 0);
}

#[test]
fn an_iq_from_one_client_to_another() {
    let mut world = World::new(2);
    let iq = "<iq type='get' id='1' to='u1@hub.test/lg'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
    assert_eq!(allocations(&mut world, 0, iq.as_bytes(), b"disco#info"), 0);
}

#[test]
fn presence_to_contacts_costs_a_few_however_many_they_are() {
    let mut few = World::new(2);
    let mut many = World::new(101);
    let presence = b"<presence><show>away</show></presence>";
    let count = |world: &mut World| allocations(world, 0, presence, b"<show>away");
    assert_eq!(count(&mut few), count(&mut many));
}
