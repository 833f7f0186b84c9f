//! SCRAM. One line each: client-first, client-final, server-first, server-final, a user name, an edit.
//!
//! The four messages are read by the half that they are for; without the keys nobody gets in. Then the
//! two halves talk to each other under the user name, and somebody between them edits a message: which
//! one (`0` to `3`), where (a letter), how many bytes are taken out (a digit), what is put there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use stonechat::jid::BareJid;
use stonechat::store::change::Keys;
use stonechat::stream::Secret;
use stonechat::stream::sasl::scram::{Bind, Client, ClientFirst, Server};
use stonechat::stream::sasl::{self, BindingType, Hash};
use stonechat_fuzz::line;

const ROUNDS: u32 = 4096;

/// The keys of the password `pencil`, and what is derived of it.
fn pencil() -> &'static (Keys, [Vec<u8>; 2]) {
    static PENCIL: OnceLock<(Keys, [Vec<u8>; 2])> = OnceLock::new();
    PENCIL.get_or_init(|| {
        let password = Secret::new("pencil");
        let salted = [(Hash::Sha1, [1; 16]), (Hash::Sha256, [2; 16])];
        let salted = salted.map(|(hash, salt)| sasl::derive(&password, &salt, ROUNDS, hash));
        (sasl::keys(&password, [[1; 16], [2; 16]], ROUNDS), salted)
    })
}

fn salted(hash: Hash) -> &'static [u8] {
    &pencil().1[usize::from(hash == Hash::Sha256)]
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let [client_first, client_final, server_first, server_final, name, edit] =
        std::array::from_fn(|_| line(&mut data));
    let hash = if edit.len() % 2 == 0 { Hash::Sha1 } else { Hash::Sha256 };

    if let Ok(first) = ClientFirst::read(client_first) {
        for (plus, offered) in [(false, false), (false, true), (true, true)] {
            let Ok(account) = Server::account(&first, plus, offered, "hub.test") else { continue };
            assert_eq!(account.domain(), "hub.test");
            let keys = hash.of(&pencil().0).clone();
            let (server, message) = Server::challenge(&first, hash, account, (keys, true), b"cb", "server");
            assert!(message.starts_with("r=") && !message.contains(['\0', '\n']));
            assert!(server.verify(client_final).is_err(), "in without the password");
        }
    }
    for bind in [Bind::Unsupported, Bind::To(BindingType::Exporter, b"cb")] {
        let (client, _) = Client::new(hash, "alice", bind, "client");
        if let Ok(waiting) = client.challenged(server_first) {
            assert!((sasl::MIN_ITERATIONS..=sasl::MAX_ITERATIONS).contains(&waiting.iterations));
            let (expect, message) = waiting.finish(salted(hash));
            assert!(message.starts_with("c="));
            assert!(expect.check(server_final).is_err(), "a server without the keys");
        }
    }

    let Ok(name) = std::str::from_utf8(name) else { return };
    conversation(hash, name, edit);
});

/// Alters a message if the edit is for it; whether it is another one now.
fn altered(edit: &[u8], number: u8, message: &mut Vec<u8>) -> bool {
    let [which, place, less, put @ ..] = edit else { return false };
    if *which != b'0' + number {
        return false;
    }
    let before = message.clone();
    let place = (usize::from(*place) % 96) * message.len() / 96;
    let end = place.saturating_add(usize::from(less.saturating_sub(b'0'))).min(message.len());
    message.splice(place..end, put.iter().copied());
    before != *message
}

fn conversation(hash: Hash, name: &str, edit: &[u8]) {
    // Our client asks for accounts in normal form only.
    let Ok(jid) = BareJid::from_parts(Some(name), "hub.test") else { return };
    let name = jid.local().unwrap_or_default();
    let bound = name.len() % 2 == 0;
    let bind = if bound { Bind::To(BindingType::Exporter, b"cb") } else { Bind::Unsupported };
    let (client, first) = Client::new(hash, name, bind, "client");
    let mut first = first.into_bytes();
    let mut wrong = altered(edit, 0, &mut first);
    let Ok(read) = ClientFirst::read(&first) else { return assert!(wrong) };
    assert!(wrong || read.username == name);
    let Ok(account) = Server::account(&read, bound, bound, "hub.test") else { return assert!(wrong) };
    assert!(wrong || account == jid);
    let keys = hash.of(&pencil().0).clone();
    let binding: &[u8] = if bound { b"cb" } else { b"" };
    let (server, challenge) = Server::challenge(&read, hash, account, (keys, true), binding, "server");
    let mut challenge = challenge.into_bytes();
    wrong |= altered(edit, 1, &mut challenge);
    let Ok(waiting) = client.challenged(&challenge) else { return assert!(wrong) };
    let (expect, answer) = waiting.finish(salted(hash));
    let mut answer = answer.into_bytes();
    wrong |= altered(edit, 2, &mut answer);
    let verified = server.verify(&answer);
    assert_eq!(verified.is_err(), wrong, "{edit:?}");
    let Ok((who, success)) = verified else { return };
    assert_eq!(*who.jid(), jid);
    let mut success = success.into_bytes();
    let first = |bytes: &[u8]| bytes.split(|b| *b == b',').next().map(<[u8]>::to_vec);
    let before = first(&success);
    altered(edit, 3, &mut success);
    let utf8 = std::str::from_utf8(&success).is_ok();
    assert_eq!(expect.check(&success).is_ok(), utf8 && first(&success) == before, "{edit:?}");
}
