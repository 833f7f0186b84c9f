//! Whatever clients send, the hub does not panic, and all that it says to anybody is what our own
//! client accepts.
//!
//! A line for each thing that happens: who (`r` and `R` are Romeo's sessions, `j` and `J` Juliet's,
//! `m` is Mallory's, whom nobody knows), then the stanza; or `c` and who goes away, `l` and whose session
//! comes back, `t` for a day that passes.
#![no_main]

#[path = "../../common/mod.rs"]
mod common;

use common::World;
use libfuzzer_sys::fuzz_target;
use stonechat::hub::talk::SessionId;
use stonechat::store::change::Subscription;
use stonechat_fuzz::line;

const SESSIONS: [(u8, &str, &str); 5] = [
    (b'r', "romeo", "orchard"),
    (b'R', "romeo", "garden"),
    (b'j', "juliet", "balcony"),
    (b'J', "juliet", "home"),
    (b'm', "mallory", "dark"),
];

fuzz_target!(|data: &[u8]| {
    let mut world = World::new(&["romeo", "juliet", "mallory"]);
    world.acquaint("romeo", "juliet", Subscription::Both);
    let mut sessions = SESSIONS.map(|(_, account, resource)| Some(world.login(account, resource)));
    for id in sessions.iter().flatten().copied().take(4) {
        world.send(id, "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    }
    let place = |who: u8| SESSIONS.iter().position(|(letter, ..)| *letter == who);
    let mut rest = data;
    for _ in 0..12 {
        let Some((what, more)) = line(&mut rest).split_first() else { continue };
        match (what, more) {
            (b't', _) => world.pass(86_400),
            (b'c', [who, ..]) => {
                if let Some(id) = place(*who).and_then(|p| sessions[p].take()) {
                    world.close(id);
                }
            }
            (b'l', [who, ..]) => {
                if let Some(p) = place(*who).filter(|p| sessions[*p].is_none()) {
                    // What it got by that is looked at below.
                    let id = world.bind(SESSIONS[p].1, SESSIONS[p].2);
                    sessions[p] = id.ok();
                    if let Some(id) = sessions[p] {
                        world.send(id, "<presence/>");
                    }
                }
            }
            (who, stanza) => {
                let Some(id) = place(*who).and_then(|p| sessions[p]) else { continue };
                let Ok(stanza) = std::str::from_utf8(stanza) else { continue };
                let _ = world.try_hear(id, stanza);
                world.settle();
            }
        }
        let all: Vec<SessionId> = sessions.iter().flatten().copied().collect();
        for id in all {
            // Each is judged on the way.
            world.got(id);
        }
    }
});
