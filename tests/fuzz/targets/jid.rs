//! Addresses: a normal form is its own normal form, and all ways to read or build one agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stonechat::jid::{BareJid, Domain, FullJid, Jid, domainpart, localpart, resourcepart};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for part in [localpart, domainpart, resourcepart] {
        if let Ok(normal) = part(text) {
            assert!(normal.len() <= 1023);
            assert_eq!(part(&normal).as_deref(), Ok(&*normal), "{text:?}");
        }
    }
    if let Ok(normal) = localpart(text) {
        assert!(!normal.contains(['"', '&', '\'', '/', ':', '<', '>', '@', ' ']), "{normal:?} of {text:?}");
    }
    let parsed = Jid::parse(text);
    if let Err(why) = &parsed {
        assert!(!why.to_string().contains(char::is_control));
    }
    let Ok(jid) = parsed else { return };
    let normal = jid.as_str();
    assert_eq!(Jid::parse(normal).as_ref(), Ok(&jid), "{text:?}");
    assert!(normal.len() <= 3 * 1023 + 2);
    assert!(!normal.contains(|c: char| c.is_ascii_control()), "{normal:?}");

    // The parts are those of the text, and make the same address again.
    let mut again = String::new();
    if let Some(local) = jid.local() {
        again = format!("{local}@");
    }
    again += jid.domain();
    assert_eq!(again, jid.bare());
    let bare = BareJid::from_parts(jid.local(), jid.domain()).expect("parts of an address");
    assert_eq!(bare, jid.to_bare());
    assert_eq!(BareJid::parse(jid.bare()).as_ref(), Ok(&bare));
    assert_eq!((bare.local(), bare.domain()), (jid.local(), jid.domain()));
    assert_eq!(bare.as_jid(), Jid::parse(jid.bare()).expect("bare"));
    assert_eq!(Domain::parse(jid.domain()), Ok(jid.to_domain()));
    match jid.resource() {
        Some(resource) => {
            let full = bare.with_resource(resource).expect("parts of an address");
            assert_eq!(full.as_str(), normal);
            assert_eq!(FullJid::parse(text), Ok(full.clone()));
            assert_eq!(jid.to_full().as_ref(), Some(&full));
            assert_eq!(full.as_jid(), jid);
            assert_eq!((full.bare(), full.resource()), (jid.bare(), resource));
            assert_eq!((full.local(), full.domain()), (jid.local(), jid.domain()));
        }
        None => assert!(jid.is_bare() && FullJid::parse(text).is_err()),
    }
    assert_eq!(jid.clone().into_owned(), jid);
});
