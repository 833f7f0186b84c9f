//! Base64 as SASL has it, and the messages of PLAIN and EXTERNAL. The text is tried as base64 and as
//! the message itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stonechat::jid::BareJid;
use stonechat::prep;
use stonechat::stream::Secret;
use stonechat::stream::sasl::{self, external, plain};

fn messages(data: &[u8]) {
    if let Ok(message) = plain::read(data, "hub.test") {
        let local = message.account.local().expect("an account");
        assert_eq!(message.account.domain(), "hub.test");
        // What our own client says for them is read the same.
        let own = plain::message(local, &message.password);
        if let Ok(again) = plain::read(&own, "hub.test") {
            assert_eq!(again.account, message.account);
            assert_eq!(again.password.expose(), message.password.expose());
        }
        let secret = format!("{:?}", Secret::new(message.password.expose_str()));
        assert!(!secret.contains(message.password.expose_str()) || message.password.expose().len() < 7);
    }
    if let Ok(Some(jid)) = external::read(data) {
        assert_eq!(BareJid::parse(jid.as_str()).as_ref(), Ok(&jid));
        for owner in ["alice", "bob"] {
            let account = format!("{owner}@hub.test");
            let let_in = external::check(Some(owner), Some(&jid), "hub.test");
            assert_eq!(let_in.is_ok(), jid.as_str() == account, "{jid}");
        }
        assert!(external::check(None, Some(&jid), "hub.test").is_err());
    }
}

fuzz_target!(|data: &[u8]| {
    assert_eq!(sasl::decode(&sasl::encode(data)).as_deref(), Ok(data));
    messages(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(decoded) = sasl::decode(text) {
        // One spelling for each, but for nothing at all, which has two.
        assert!(sasl::encode(&decoded) == text || (text.is_empty() && decoded.is_empty()));
        messages(&decoded);
    }
    if let Ok(password) = prep::password(text) {
        assert!((1..=1023).contains(&password.len()));
        assert_eq!(prep::password(&password).as_deref(), Ok(&*password), "{text:?}");
    }
});
