//! What the judge accepts, roxmltree and rxml accept with the same tree; with `FUZZ_PEERS` set, expat
//! and libxml2 do, too.
//!
//! The input is an element; or a stream header, a NUL, and an element of that stream. Of such a one the
//! prefixes of the header are declared within, and it says the same without the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use stonechat::xml::{Caps, Scan, Scope, redeclare};
use stonechat_fuzz::{document, peers, roxmltree_sees, rxml_sees, scope};

thread_local! {
    static SCOPE: Scope = scope();
    static SCAN: RefCell<Scan> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    SCAN.with_borrow_mut(|scan| match data.iter().position(|b| *b == 0) {
        None => SCOPE.with(|scope| {
            if let Ok(text) = scan.element(data, scope, &Caps::default()) {
                agreed(&document(text));
            }
        }),
        Some(n) => on_stream(&data[..n], &data[n + 1..], scan),
    });
});

/// What all of them see.
fn agreed(document: &str) -> Vec<String> {
    let one = roxmltree_sees(document).unwrap_or_else(|e| panic!("roxmltree: {e}: {document:?}"));
    let other = rxml_sees(document).unwrap_or_else(|e| panic!("rxml: {e}: {document:?}"));
    assert_eq!(one, other, "{document:?}");
    for (name, tree) in peers::see(document) {
        let tree = tree.unwrap_or_else(|e| panic!("{name}: {e}: {document:?}"));
        assert_eq!(one, tree, "{name}: {document:?}");
    }
    one
}

fn on_stream(header: &[u8], element: &[u8], scan: &mut Scan) {
    let caps = Caps::default();
    let Ok(header) = scan.header(header, &caps) else { return };
    let scope = Scope::of_header(header, scan);
    let colon = if scan.prefix.is_empty() { "" } else { ":" };
    let end = format!("</{}{colon}{}>", scan.prefix.of(header), scan.name.of(header));
    let tag = scan.tag.of(header);
    let Ok(text) = scan.element(element, &scope, &caps) else { return };
    let together = agreed(&format!("{tag}{text}{end}"));

    let mut own = Vec::new();
    redeclare(text, scan, &scope, &mut own);
    let own = String::from_utf8(own).expect("text");
    scan.element(own.as_bytes(), &Scope::default(), &caps).unwrap_or_else(|e| panic!("{e:?}: {own:?}"));
    let alone = agreed(&format!("<a xmlns='{}'>{own}</a>", scope.default));
    assert_eq!(together[1..], alone[1..], "{tag:?}: {own:?}");
}
