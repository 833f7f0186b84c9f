//! Start tags: `attributes` and `unescape` on whatever comes, and on what the judge has accepted they
//! say what roxmltree says; headers the same; and what is read can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stonechat::xml::{Caps, Scan, Scope, Writer, attributes, unescape};

const XML: &str = "http://www.w3.org/XML/1998/namespace";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(attributes(text).count() <= text.len());
    let plain = unescape(text);
    assert!(plain.len() <= text.len());

    // Whatever it says, it can be written, and reads back but for what XML cannot say.
    let mut out = Vec::new();
    Writer::new(&mut out).start("a").attr("b", &plain).text(&plain);
    let mut scan = Scan::new();
    match scan.element(&out, &Scope::default(), &Caps::default()) {
        Ok(written) => {
            let tree = roxmltree::Document::parse(written).expect("accepted by the judge");
            let value = tree.root_element().attribute("b").expect("written");
            assert_eq!(unescape(scan.attr(written, "b").expect("written")), value);
            if !value.contains('\u{FFFD}') {
                assert_eq!(value, plain);
                assert_eq!(tree.root_element().text().unwrap_or_default(), plain);
            }
        }
        Err(error) => assert!(plain.len() > 1000, "{error:?}"),
    }

    // As a header, and as an element that says the same.
    let Ok(header) = scan.header(data, &Caps::default()) else { return };
    let scope = Scope::of_header(header, &scan);
    let name = match scan.prefix.of(header) {
        "" => scan.name.of(header).to_owned(),
        prefix => format!("{prefix}:{}", scan.name.of(header)),
    };
    let whole = format!("{header}</{name}>");
    let tree = roxmltree::Document::parse(&whole).unwrap_or_else(|e| panic!("{e}: {whole:?}"));
    let root = tree.root_element();
    assert_eq!(root.tag_name().name(), scan.name.of(header));
    assert_eq!(root.attributes().count(), scan.attrs.len());
    for attr in &scan.attrs {
        let (prefix, local) = (attr.prefix.of(header), attr.name.of(header));
        // `attribute` with a name alone would take one of any namespace.
        let uri = match prefix {
            "" => None,
            "xml" => Some(XML),
            _ => root.lookup_namespace_uri(Some(prefix)),
        };
        let mut all = root.attributes();
        let found = all.find(|a| (a.namespace(), a.name()) == (uri, local)).map(|a| a.value());
        assert_eq!(found, Some(&*unescape(attr.value.of(header))));
    }
    let listed: Vec<(&str, &str)> = attributes(scan.tag.of(header)).collect();
    assert_eq!(listed.len(), scan.attrs.len() + scan.decls.len());
    assert_eq!(scope.default, root.lookup_namespace_uri(None).unwrap_or("").into());
    for (prefix, uri) in &scope.prefixes {
        assert_eq!(root.lookup_namespace_uri(Some(prefix)), Some(&**uri));
    }
    let lang = root.attribute((XML, "lang"));
    assert_eq!(scope.lang.as_deref(), lang);
});
