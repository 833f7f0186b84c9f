//! A judged stanza: all that is read from its bytes is what roxmltree reads, and what is made of it
//! for somebody else is accepted again and says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use stonechat::stanza::{self, Stanza};
use stonechat::xml::{Caps, Ns, Scan, Scope, Span, Writer, attributes, ns, redeclare, unescape};
use stonechat_fuzz::{document, plain_attributes, roxmltree_sees, scope, seen};

thread_local! {
    static SCOPE: Scope = scope();
    static SCANS: RefCell<(Scan, Scan)> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    SCOPE.with(|scope| SCANS.with_borrow_mut(|(one, two)| on_stream(data, scope, one, two)));
});

/// The tree of an element on a stream, without the stream.
fn below(element: &str) -> Vec<String> {
    let mut events = roxmltree_sees(&document(element)).unwrap_or_else(|e| panic!("{e}: {element:?}"));
    events.pop();
    events.remove(0);
    events
}

fn on_stream(data: &[u8], scope: &Scope, scan: &mut Scan, again: &mut Scan) {
    let caps = Caps::default();
    let Ok(text) = scan.element(data, scope, &caps) else { return };
    let wanted = below(text);

    // threats A7: what the stream header declared goes along.
    let mut own = Vec::new();
    redeclare(text, scan, scope, &mut own);
    let used = scan.outer;
    let text = scan
        .element(&own, &Scope::default(), &caps)
        .unwrap_or_else(|e| panic!("{e:?}: {:?}", String::from_utf8_lossy(&own)));
    assert_eq!(scan.outer, 0);
    assert_eq!(wanted, below(text), "redeclared, {used:b}");
    let listed: Vec<(&str, &str)> = attributes(scan.tag.of(text)).collect();
    assert_eq!(listed.len(), scan.attrs.len() + scan.decls.len());

    let Some(stanza) = Stanza::new(text, scan) else { return };
    let tree = stanza.tree().expect("accepted by the judge");
    let root = tree.root_element();
    assert_eq!(root.tag_name().name(), stanza.kind().name());
    let attrs = plain_attributes(&root);
    for (name, value) in &attrs {
        assert_eq!(stanza.attr(name).as_deref(), Some(*value));
    }
    assert_eq!(stanza.to().as_deref(), attrs.get("to").copied());
    assert_eq!(stanza.from().as_deref(), attrs.get("from").copied());
    assert_eq!(stanza.id().as_deref(), attrs.get("id").copied());
    assert_eq!(stanza.type_(), attrs.get("type").copied().unwrap_or(""));
    let children: Vec<_> = root.children().filter(|n| n.is_element()).collect();
    assert_eq!(children.len(), stanza.children().len());
    for (child, node) in stanza.children().iter().zip(&children) {
        assert_eq!(stanza.child_name(child), node.tag_name().name());
        assert_eq!(child.span.of(text), &text[node.range()]);
        if child.ns != Ns::Inherited || !stanza.child_ns(child).is_empty() {
            assert_eq!(stanza.child_ns(child), stanza::namespace(node));
        }
        for (name, value) in plain_attributes(node) {
            assert_eq!(stanza.child_attr(child, name).as_deref(), Some(value));
        }
    }
    assert_eq!(stanza.payload().map(|(_, name)| name), children.first().map(|n| n.tag_name().name()));
    assert!(text.contains(stanza.inside()));

    // Kept by itself, an element means what it meant where it stood.
    for node in root.descendants().filter(|n| n.is_element()).take(20) {
        let whole = stanza::whole(&node).expect("an element has a text");
        let kept = stanza::Tree::parse(&whole).unwrap_or_else(|e| panic!("{e}: {whole:?} of {text:?}"));
        let (kept, before) = (seen(kept.root_element()), seen(node));
        let plain = |events: Vec<String>| -> Vec<String> {
            events.iter().map(|e| e.replace("<{jabber:client}", "<{}")).collect()
        };
        assert_eq!(plain(kept), plain(before), "{whole:?} of {text:?}");
        again
            .element(whole.as_bytes(), &Scope::default(), &Caps { declarations: 1024, ..caps })
            .unwrap_or_else(|e| panic!("{e:?}: {whole:?} of {text:?}"));
    }

    // As it is sent on: what we add does not make it one that our client refuses.
    let cuts: Vec<Span> = stanza.children().iter().skip(1).step_by(2).map(|c| c.span).collect();
    let mut out = Vec::new();
    stanza.stamp_with(&mut out, Some("a@b/c"), Some("d'<>&@e"), Some("de"), &cuts, |w| {
        w.leaf("delay", "urn:xmpp:delay");
    });
    let room = Caps::passed_on();
    let stamped = again.element(&out, &Scope::default(), &room).unwrap_or_else(|e| {
        panic!("{e:?}: {:?} of {text:?}", String::from_utf8_lossy(&out));
    });
    assert_eq!(again.attr(stamped, "from"), Some("a@b/c"));
    assert_eq!(again.attr(stamped, "to").map(unescape).as_deref(), Some("d'<>&@e"));
    assert_eq!(again.children.len(), children.len() - cuts.len() + 1);

    let mut out = Vec::new();
    stanza.stamp(&mut out, stanza.from().as_deref(), stanza.to().as_deref(), None, &[]);
    let stamped = String::from_utf8(out).expect("text");
    again.element(stamped.as_bytes(), &Scope::default(), &room).expect("accepted again");
    let content = |events: Vec<String>| -> Vec<String> {
        events.iter().map(|e| e.replace("<{jabber:server}", "<{jabber:client}")).collect()
    };
    if !stamped.contains("'jabber:") && !stamped.contains("\"jabber:") && !text.contains("jabber:server") {
        assert_eq!(content(wanted), content(below(&stamped)), "{stamped:?} of {text:?}");
    }

    // As a carbon (XEP-0280) holds it.
    let mut copy = Vec::new();
    let rest =
        stamped.strip_prefix("<").and_then(|s| s.strip_prefix(stanza.kind().name())).expect("its name");
    let mut w = Writer::new(&mut copy);
    w.start("message").attr("to", "a@b/c").start("sent").ns(ns::CARBONS).start("forwarded").ns(ns::FORWARD);
    w.start(stanza.kind().name()).ns(ns::CLIENT).judged_rest(rest.as_bytes());
    w.end().end().end();
    drop(w);
    again.element(&copy, &Scope::default(), &room).unwrap_or_else(|e| {
        panic!("{e:?}: {:?}", String::from_utf8_lossy(&copy));
    });
}
