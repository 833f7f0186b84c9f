//! What the judge accepts, roxmltree and rxml accept with the same tree; with `FUZZ_PEERS` set, expat
//! and libxml2 do, too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use stonechat::xml::{Caps, Scan, Scope};
use stonechat_fuzz::{document, peers, roxmltree_sees, rxml_sees, scope};

thread_local! {
    static SCOPE: Scope = scope();
    static SCAN: RefCell<Scan> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    let accepted = SCOPE.with(|scope| {
        SCAN.with_borrow_mut(|scan| scan.element(data, scope, &Caps::default()).map(str::to_owned).ok())
    });
    let Some(text) = accepted else { return };
    let document = document(&text);
    let one = roxmltree_sees(&document).unwrap_or_else(|e| panic!("roxmltree: {e}: {text:?}"));
    let other = rxml_sees(&document).unwrap_or_else(|e| panic!("rxml: {e}: {text:?}"));
    assert_eq!(one, other, "{text:?}");
    for (name, tree) in peers::see(&document) {
        let tree = tree.unwrap_or_else(|e| panic!("{name}: {e}: {text:?}"));
        assert_eq!(one, tree, "{name}: {text:?}");
    }
});
