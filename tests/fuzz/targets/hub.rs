//! Whatever clients send, the hub does not panic, all that it says to anybody is what our own client
//! accepts, and nobody speaks in another's name.
//!
//! A line for each thing that happens: who (`r` and `R` are Romeo's sessions, `j` and `J` Juliet's,
//! `m` is Mallory's, whom nobody knows), then the stanza; or `c` and who goes away, `l` and whose session
//! comes back, `t` for a day that passes.
#![no_main]

#[path = "../../common/mod.rs"]
mod common;

use common::{Got, World, bare};
use libfuzzer_sys::fuzz_target;
use stonechat::client;
use stonechat::stanza;
use stonechat::store::change::Subscription;
use stonechat::xml::ns;
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
    world.drop_all();
    let place = |who: u8| SESSIONS.iter().position(|(letter, ..)| *letter == who);
    let mut rest = data;
    for _ in 0..12 {
        let Some((what, more)) = line(&mut rest).split_first() else { continue };
        let mut speaker = None;
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
                let Some(p) = place(*who) else { continue };
                let Some(id) = sessions[p] else { continue };
                let Ok(stanza) = std::str::from_utf8(stanza) else { continue };
                let _ = world.try_hear(id, stanza);
                world.settle();
                speaker = Some(SESSIONS[p].1);
            }
        }
        for ((_, account, _), id) in SESSIONS.iter().zip(sessions) {
            // Each is judged on the way.
            for got in id.map(|id| world.got(id)).unwrap_or_default() {
                if let Some(speaker) = speaker.filter(|speaker| speaker != account) {
                    honest(&bare(speaker), &bare(account), &got);
                }
            }
        }
    }
});

/// What somebody hears because another account has spoken is from that one, or, as only the hub can
/// say it, from themselves.
fn honest(speaker: &str, listener: &str, got: &Got) {
    got.with(|node| {
        let Some(from) = stanza::attr(&node, "from").map(client::bare) else {
            return assert!(stanza::child(&node, ns::ROSTER, "query").is_some(), "{got:?} of {speaker}");
        };
        assert!(from == speaker || from == listener, "{got:?} of {speaker}");
        let children = || node.children().filter(|child| child.is_element());
        if from == speaker && node.tag_name().name() == "message" {
            let copy = |name| children().any(|child| stanza::is(&child, ns::CARBONS, name));
            assert!(!copy("sent") && !copy("received"), "{got:?}");
            let ids = || children().filter(|child| stanza::is(child, ns::SID, "stanza-id"));
            let ours = ids().filter(|id| stanza::attr(id, "by") == Some(listener)).count();
            assert!(ours <= 1, "{got:?}");
        }
    });
}
