//! What the judge must refuse, must accept, and must say; and that other parsers agree.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::string_slice, clippy::arithmetic_side_effects)]

use super::*;
use proptest::prelude::*;
use std::fmt::Write;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:e='urn:outer' xml:lang='en' version='1.0'>";

fn scope() -> Scope {
    let mut scan = Scan::new();
    let text = scan.header(HEADER.as_bytes(), &Caps::default()).unwrap();
    Scope::of_header(text, &scan)
}

fn judge(element: impl AsRef<[u8]>) -> Result<(), Error> {
    judge_with(element, &Caps::default())
}

fn judge_with(element: impl AsRef<[u8]>, caps: &Caps) -> Result<(), Error> {
    Scan::new().element(element.as_ref(), &scope(), caps).map(|_| ())
}

fn refused(cases: &[&str], error: Error) {
    for case in cases {
        assert_eq!(judge(case), Err(error), "{case:?}");
    }
}

fn accepted(cases: &[&str]) {
    for case in cases {
        assert_eq!(judge(case), Ok(()), "{case:?}");
        assert_same_tree(case);
    }
}

/// An element as every reader should see it: start tags with expanded names and sorted
/// attributes, text run together, end tags. Line ends are not told apart: with a raw CR beside a
/// reference or in CDATA, roxmltree and rxml do not normalise as they should.
#[derive(Default)]
struct Tree {
    events: Vec<String>,
    text: String,
}

impl Tree {
    fn start(&mut self, ns: &str, name: &str, mut attrs: Vec<String>) {
        self.flush();
        attrs.sort();
        self.events.push(format!("<{{{ns}}}{name} {attrs:?}"));
    }

    fn end(&mut self) {
        self.flush();
        self.events.push(">".into());
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text).replace("\r\n", "\n").replace('\r', "\n");
        if !text.is_empty() {
            self.events.push(text);
        }
    }
}

fn roxmltree_sees(document: &str) -> Result<Vec<String>, String> {
    let document = roxmltree::Document::parse(document).map_err(|e| e.to_string())?;
    let mut tree = Tree::default();
    let root = document.root_element();
    let mut next = Some((root, true));
    while let Some((node, entering)) = next {
        if node.is_text() {
            tree.text += node.text().unwrap();
        } else if entering {
            let attrs = node.attributes();
            let attrs =
                attrs.map(|a| format!("{{{}}}{}={}", a.namespace().unwrap_or(""), a.name(), a.value()));
            let name = node.tag_name();
            tree.start(name.namespace().unwrap_or(""), name.name(), attrs.collect());
        }
        let below = if entering { node.first_child() } else { None };
        next = match (below, node.next_sibling(), node.parent()) {
            (Some(child), ..) => Some((child, true)),
            (None, sibling, parent) => {
                if node.is_element() && (entering || node.has_children()) {
                    tree.end();
                }
                match sibling {
                    _ if node == root => None,
                    Some(sibling) => Some((sibling, true)),
                    None => parent.map(|p| (p, false)),
                }
            }
        };
    }
    Ok(tree.events)
}

fn rxml_sees(document: &str) -> Result<Vec<String>, String> {
    use rxml::{Event, Parse};
    let mut parser = rxml::Parser::new();
    let mut bytes = document.as_bytes();
    let mut tree = Tree::default();
    loop {
        match parser.parse(&mut bytes, true).map_err(|e| format!("{e:?}"))? {
            None => return Ok(tree.events),
            Some(Event::XmlDeclaration(..)) => {}
            Some(Event::StartElement(_, (ns, name), attrs)) => {
                let attrs =
                    attrs.iter().map(|((ns, name), value)| format!("{{{}}}{name}={value}", ns.as_str()));
                tree.start(ns.as_str(), name.as_str(), attrs.collect());
            }
            Some(Event::EndElement(_)) => tree.end(),
            Some(Event::Text(_, text)) => tree.text += &text,
        }
    }
}

/// roxmltree and rxml accept the element on its stream, and see the same.
fn assert_same_tree(element: &str) {
    let document = format!("{HEADER}{element}</stream:stream>");
    let one = roxmltree_sees(&document).unwrap_or_else(|e| panic!("roxmltree: {e}: {element:?}"));
    let other = rxml_sees(&document).unwrap_or_else(|e| panic!("rxml: {e}: {element:?}"));
    assert_eq!(one, other, "{element:?}");
}

#[test]
fn where_parsers_disagree() {
    // threats.md §11, row by row
    refused(
        &[
            "<a xmlns='u' xmlns='v'/>",
            "<a>&#xD800;</a>",
            "<a b='&#xD800;'/>",
            "<a>&#xDFFF;</a>",
            "<a>&#x110000;</a>",
            "<a b='&#x110000;'/>",
            "<:a/>",
            "<a:/>",
            "<a xmlns:p=''/>",
            "<a xmlns:xmlns='u'/>",
            "<a xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>",
            "<\u{1F600}/>",
            "<\u{10000}/>",
            "<\u{378}/>",
            "<\u{FF41}/>",
            "<a\u{FF41}/>",
            "<a xmlns='a}b'/>",
            "<a xmlns='a{b'/>",
            "<a xmlns='a b'/>",
            "<a xmlns='a\nb'/>",
            "<a xmlns='a&#10;b'/>",
            "<a xmlns='a\u{FF}b'/>",
            "<xml:a/>",
            "<xmlns:a/>",
        ],
        Error::NotWellFormed,
    );
    refused(
        &["<?xml version='1.0' encoding='UTF-16'?><a/>", "<a><?xml version='1.0'?></a>"],
        Error::RestrictedXml,
    );
}

#[test]
fn where_parsers_agree() {
    refused(
        &[
            "",
            " <a/>",
            "<a/> ",
            "<a/><b/>",
            "<a></a></a>",
            "text",
            "<a>",
            "<a",
            "<",
            "</a>",
            "<a></b>",
            "<a></A>",
            "<e:a></a>",
            "<a></a b=''>",
            "< a/>",
            "<a / >",
            "<a b/>",
            "<a b=/>",
            "<a b=c/>",
            "<a b='c\"/>",
            "<a b=''c=''/>",
            "<a b='<'/>",
            "<a b=''\u{A0}c=''/>",
            "<a b='' b=''/>",
            "<e:x e:a='' e:a=''/>",
            "<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>",
            "<a xmlns:f='urn:outer' e:b='' f:b=''/>",
            "<a xmlns:p='u' xmlns:p='v'/>",
            "<a p:b=''/>",
            "<p:a/>",
            "<a><b xmlns:p='u'/><p:c/></a>",
            "<a:b:c/>",
            "<a b:c:d=''/>",
            "<-a/>",
            "<1/>",
            "<a>]]></a>",
            "<a>x]]]></a>",
            "<a>&</a>",
            "<a>&amp</a>",
            "<a>& amp;</a>",
            "<a>&foo;</a>",
            "<a>&nbsp;</a>",
            "<a>&#;</a>",
            "<a>&#x;</a>",
            "<a>&#X41;</a>",
            "<a>&#+65;</a>",
            "<a>&#0;</a>",
            "<a>&#8;</a>",
            "<a>&#x1F;</a>",
            "<a>&#xFFFE;</a>",
            "<a>&#xFFFF;</a>",
            "<a>&#99999999999999999999;</a>",
            "<a>\0</a>",
            "<a>\u{1}</a>",
            "<a>\u{B}</a>",
            "<a>\u{1B}</a>",
            "<a b='\u{1}'/>",
            "<a>\u{FFFE}</a>",
            "<a b='\u{FFFF}'/>",
            "<a><![CDATA[]]</a>",
            "<a><![CDATA[\u{FFFF}]]></a>",
            "<a xmlns:xml='u'/>",
            "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
            "<a xmlns:p='http://www.w3.org/2000/xmlns/'/>",
            "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
            "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
            "<a xmlns:='u'/>",
        ],
        Error::NotWellFormed,
    );
    refused(
        &[
            "<a><!-- c --></a>",
            "<a><?pi?></a>",
            "<!DOCTYPE a><a/>",
            "<a><!DOCTYPE a></a>",
            "<a><!ENTITY b 'c'></a>",
            "<![CDATA[x]]>",
        ],
        Error::RestrictedXml,
    );
    let ok = [
        "<a/>",
        "<a></a >",
        "<a\n b = 'c'\r\n\td=\"e\" />",
        "<a>x>y]]&gt;\"'</a>",
        "<a b='>\"' c=\"'\"/>",
        "<a>&lt;&gt;&amp;&apos;&quot;&#65;&#x1F600;&#x10FFFF;&#9;&#13;&#xE000;&#xFFFD;</a>",
        "<a b='&#10;&#x0000A;'/>",
        "<a>]]<![CDATA[<&]]]]>]]</a>",
        "<a>\u{7F}\u{80}\u{9B}\u{85}\u{2028}\u{FFFD}\u{10FFFF}</a>",
        "<a>one\r\ntwo\rthree</a>",
        "<é à='ü'>日本語</é>",
        "<a·-.1/>",
        "<_/>",
        "<xml/>",
        "<a xml:lang='en' xml:space='preserve'/>",
        "<message><e:x e:y='1' y='2'/></message>",
        "<a xmlns:e='urn:other' e:b=''><e:c/></a>",
        "<a xmlns:p='u'><b xmlns:p='v'><p:c/></b><p:d/></a>",
        "<a xmlns:b='u' b:c='' c=''/>",
        "<a><b xmlns=''><c/></b></a>",
        "<a xmlns='a' xmlns:b='a:b/c?d#e' xmlns:c='http://h:1/%41?x' xmlns:d='//u@h' xmlns:f='x!$()*+,;=~_-.'/>",
    ];
    accepted(&ok);
    // as much space as anybody likes, where there may be some
    let wide = " ".repeat(70_000);
    accepted(&[&format!("<a{wide}b{wide}={wide}'{}'{wide}></a{wide}>", " ".repeat(8000))]);
}

#[test]
fn mutated_samples_found() {
    // Each was accepted by us once, and not by all others.
    refused(
        &[
            "<a xml:xmlns='u'/>",                                    // roxmltree: namespace u
            "<a e:xmlns='u'/>",                                      // the same
            "<a xml:id='1'/>",                                       // libxml2: no name
            "<a><b xml:id='a'/><c xml:id='a'/></a>",                 // libxml2: twice
            "<a b='\r'/>",                                           // rxml forgets it
            "<a xml:lang='\rde'/>",                                  // rxml refuses it
            "<a>&#00000065;</a>",                                    // rxml counts digits
            "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>", // legal, but nobody needs it
        ],
        Error::NotWellFormed,
    );
}

#[test]
fn namespace_names_are_uris() {
    for uri in [
        "%zz",
        "%4",
        "a#b#c",
        ":b",
        "1:b",
        "+a:e",
        "http://a:b/",
        "http://a@b@c/",
        "http://[::1]/",
        "a[b",
        "a|b",
        "a\\b",
        "a^b",
        "a`b",
        "a&amp;b",
        "a\u{7F}b",
        "a\u{E9}",
        "http://a:99999999999/",
        "a'b",
        "a>b",
        "a\tb",
    ] {
        assert_eq!(judge(format!("<a xmlns=\"{uri}\"/>")), Err(Error::NotWellFormed), "{uri:?}");
        assert_eq!(judge(format!("<a xmlns:p=\"{uri}\"/>")), Err(Error::NotWellFormed), "{uri:?}");
    }
    for uri in
        ["vcard-temp", "jabber:client", "urn:xmpp:mam:2", "http://jabber.org/protocol/disco#info", "a/b:c"]
    {
        assert_eq!(judge(format!("<a xmlns='{uri}' xmlns:p='{uri}'/>")), Ok(()), "{uri:?}");
    }
}

#[test]
fn utf8_is_checked() {
    let bad: [&[u8]; 9] = [
        b"\x80",
        b"\xC0\xAF",
        b"\xC1\x81",
        b"\xE0\x80\x80",
        b"\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xF4\x90\x80\x80",
        b"\xF0\x9F\x98",
        b"\xFF",
    ];
    for bytes in bad {
        for (before, behind) in [("<a>", "</a>"), ("<a b='", "'/>"), ("<a", "/>"), ("<a ", "=''/>")] {
            let element = [before.as_bytes(), bytes, behind.as_bytes()].concat();
            assert_eq!(judge(&element), Err(Error::NotWellFormed), "{element:?}");
        }
    }
}

#[test]
fn names_are_a_subset_of_rxmls() {
    let mut accepted = 0;
    for c in (0x80..=0x1FFFFu32).filter_map(char::from_u32) {
        if names::begins(c) {
            assert!(names::follows(c));
            rxml::NcName::try_from(format!("{c}")).unwrap();
        }
        if names::follows(c) {
            rxml::NcName::try_from(format!("a{c}")).unwrap();
            accepted += 1;
        }
    }
    assert!(accepted > 30_000, "{accepted}");
    // the ends of the tables, and their neighbours
    assert!(names::begins('\u{C0}') && !names::begins('\u{BF}') && !names::begins('\u{D7}'));
    assert!(names::begins('\u{D7A3}') && !names::follows('\u{D7A4}'));
    assert!(names::follows('\u{B7}') && !names::begins('\u{B7}') && !names::follows('\u{FEFF}'));
}

#[test]
fn prefix_on_a_stanza() {
    refused(
        &["<c:message xmlns:c='jabber:client'/>", "<c:message xmlns:c='jabber:client'><body/></c:message>"],
        Error::BadNamespacePrefix,
    );
    let mut outer = scope();
    outer.prefixes.push(("c".into(), "jabber:client".into()));
    let judged = Scan::new().element(b"<c:iq/>", &outer, &Caps::default());
    assert_eq!(judged, Err(Error::BadNamespacePrefix));
    accepted(&["<stream:error/>", "<db:result xmlns:db='jabber:server:dialback'/>", "<e:x/>"]);
}

#[test]
fn every_cap_at_its_edge() {
    let caps = Caps::default();
    let nested = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
    assert_eq!(judge(nested(64)), Ok(()));
    assert_eq!(judge(nested(65)), Err(Error::TooBig(Cap::Depth)));
    assert_eq!(judge(format!("{}<b/>{}", "<a>".repeat(63), "</a>".repeat(63))), Ok(()));
    assert_eq!(
        judge(format!("{}<b/>{}", "<a>".repeat(64), "</a>".repeat(64))),
        Err(Error::TooBig(Cap::Depth))
    );

    let many = |n: usize, attr: &dyn Fn(usize) -> String| (0..n).map(attr).collect::<String>();
    let attributes = |n| format!("<a{}/>", many(n, &|i| format!(" b{i}=''")));
    assert_eq!(judge(attributes(64)), Ok(()));
    assert_eq!(judge(attributes(65)), Err(Error::TooBig(Cap::Attributes)));

    // `stream` and `e` are in scope already
    let prefixes = |n| format!("<a{}/>", many(n, &|i| format!(" xmlns:p{i}='u'")));
    assert_eq!(judge(prefixes(62)), Ok(()));
    assert_eq!(judge(prefixes(63)), Err(Error::TooBig(Cap::Declarations)));
    let sibling = "<b xmlns:q='v'/>";
    assert_eq!(judge(format!("<a>{}</a>", sibling.repeat(256))), Ok(()));
    assert_eq!(judge(format!("<a>{}</a>", sibling.repeat(257))), Err(Error::TooBig(Cap::Declarations)));
    // an outer prefix becomes a declaration when it is forwarded, once
    assert_eq!(judge(format!("<a>{}<e:x/><e:y/></a>", sibling.repeat(255))), Ok(()));
    assert_eq!(judge(format!("<a>{}<e:x/></a>", sibling.repeat(256))), Err(Error::TooBig(Cap::Declarations)));
    assert_eq!(
        judge(format!("<a>{}</a>", "<b xmlns='v'/>".repeat(257))),
        Err(Error::TooBig(Cap::Declarations))
    );

    assert_eq!(judge(format!("<a>{}</a>", "<b/>".repeat(9_999))), Ok(()));
    assert_eq!(judge(format!("<a>{}</a>", "<b/>".repeat(10_000))), Err(Error::TooBig(Cap::Elements)));

    assert_eq!(judge(format!("<a b='{}'/>", "x".repeat(8000))), Ok(()));
    assert_eq!(judge(format!("<a b='{}'/>", "x".repeat(8001))), Err(Error::NotWellFormed));
    assert_same_tree(&format!("<a b='{}'/>", "x".repeat(8000)));
    assert_eq!(judge(format!("<{}/>", "x".repeat(1024))), Ok(()));
    assert_eq!(judge(format!("<{}/>", "x".repeat(1025))), Err(Error::NotWellFormed));

    let small = Caps { depth: 1, attributes: 0, prefixes: 2, declarations: 0, elements: 1 };
    assert_eq!(judge_with("<a/>", &small), Ok(()));
    assert_eq!(judge_with("<a b=''/>", &small), Err(Error::TooBig(Cap::Attributes)));
    assert_eq!(judge_with("<a xmlns='b'/>", &small), Err(Error::TooBig(Cap::Declarations)));
    assert_eq!(caps, Caps::default());
}

#[test]
fn what_a_hub_adds_costs_nobody_the_stream() {
    let (hub, client) = (Caps::default(), Caps::passed_on());
    let most = |n: usize, attr: &str| (0..n).map(|i| format!(" {attr}{i}=''")).collect::<String>();
    let declared = |n: usize| (0..n).map(|i| format!(" xmlns:p{i}='u'")).collect::<String>();
    let deep = format!("{}{}", "<a>".repeat(63), "</a>".repeat(63));
    let many = "<b xmlns='v'/>".repeat(256);
    let all = "<b/>".repeat(9_999);
    for (attrs, content) in [
        (most(64, "a"), ""),
        (declared(64), ""),
        (String::new(), &*deep),
        (String::new(), &many),
        (String::new(), &all),
    ] {
        let stanza = format!("<message{attrs}>{content}</message>");
        let mut scan = Scan::new();
        let text = scan.element(stanza.as_bytes(), &Scope::default(), &hub).unwrap();
        let stanza = crate::stanza::Stanza::new(text, &scan).unwrap();
        let mut out = Vec::new();
        Writer::new(&mut out)
            .start("message")
            .start("sent")
            .ns(ns::CARBONS)
            .start("forwarded")
            .ns(ns::FORWARD)
            .inside(|w| {
                let mut inner = Vec::new();
                stanza.stamp_with(&mut inner, Some("a@b/c"), Some("d@e"), Some("de"), &[], |w| {
                    w.leaf("stanza-id", ns::SID).leaf("delay", ns::DELAY);
                });
                w.raw(&inner);
            });
        assert_eq!(Scan::new().element(&out, &scope(), &client).map(|_| ()), Ok(()));
        assert!(Scan::new().element(&out, &Scope::default(), &hub).is_err() || attrs.contains("xmlns"));
    }
}

#[test]
fn duplicates_among_many_attributes() {
    let mut tag = String::from("<a");
    for i in 0..63 {
        write!(tag, " b{i}=''").unwrap();
    }
    assert_eq!(judge(format!("{tag} b63=''/>")), Ok(()));
    assert_eq!(judge(format!("{tag} b17=''/>")), Err(Error::NotWellFormed));
}

#[test]
fn what_the_scan_tells() {
    let scope = scope();
    let mut scan = Scan::new();
    let element = "<message to='b@x' xmlns:p='urn:p' id=\"a&amp;b\" xml:lang='de'>text\
        <body xml:lang='en'>Hi<b/></body><x xmlns='urn:x' y='1'/><e:z/><p:q><r/></p:q></message>";
    let text = scan.element(element.as_bytes(), &scope, &Caps::default()).unwrap();
    assert_eq!(text, element);
    assert_eq!((scan.name.of(text), scan.prefix.of(text)), ("message", ""));
    assert_eq!(&text[..scan.tag.len()], scan.tag.of(text));
    assert!(scan.tag.of(text).ends_with("xml:lang='de'>"));
    assert!(!scan.empty);
    assert_eq!(scan.ns, Ns::Inherited);
    assert_eq!(scan.attr(text, "to"), Some("b@x"));
    assert_eq!(scan.attr(text, "id").map(unescape).as_deref(), Some("a&b"));
    assert_eq!(scan.attr(text, "lang"), None);
    assert_eq!(scan.lang(text), Some("de"));
    let decls: Vec<_> = scan.decls.iter().map(|(p, u)| (p.of(text), u.of(text))).collect();
    assert_eq!(decls, [("p", "urn:p")]);
    let children: Vec<_> =
        scan.children.iter().map(|c| (c.span.of(text), c.prefix.of(text), c.name.of(text))).collect();
    assert_eq!(
        children,
        [
            ("<body xml:lang='en'>Hi<b/></body>", "", "body"),
            ("<x xmlns='urn:x' y='1'/>", "", "x"),
            ("<e:z/>", "e", "z"),
            ("<p:q><r/></p:q>", "p", "q"),
        ]
    );
    let ns: Vec<_> = scan.children.iter().map(|c| c.ns).collect();
    let literal = |ns| match ns {
        Ns::Literal(span) => Span::of(span, text),
        other => panic!("{other:?}"),
    };
    assert_eq!((ns[0], ns[2]), (Ns::Inherited, Ns::Outer(1)));
    assert_eq!((literal(ns[1]), literal(ns[3])), ("urn:x", "urn:p"));
    assert_eq!(scan.outer, 0b10);
    let tag = scan.children[1].tag.of(text);
    assert_eq!(attributes(tag).collect::<Vec<_>>(), [("xmlns", "urn:x"), ("y", "1")]);
    assert_eq!(
        attributes("<a\n b = 'c d=\"e\"'\t f:g=\"h='i'/>\" />").collect::<Vec<_>>(),
        [("b", "c d=\"e\""), ("f:g", "h='i'/>")]
    );

    // nothing is left of it when the next comes
    let text = scan.element(b"<presence/>", &scope, &Caps::default()).unwrap();
    assert_eq!((scan.name.of(text), scan.tag.of(text), scan.empty), ("presence", "<presence/>", true));
    assert!(scan.attrs.is_empty() && scan.decls.is_empty() && scan.children.is_empty());
    assert_eq!(scan.outer, 0);
    // `xmlns=''` is no namespace, not the stream's
    let text = scan.element(b"<a><b xmlns=''/></a>", &scope, &Caps::default()).unwrap();
    assert!(matches!(scan.children[0].ns, Ns::Literal(uri) if uri.of(text).is_empty()));
}

#[test]
fn headers() {
    let caps = Caps::default();
    let mut scan = Scan::new();
    let text = scan.header(HEADER.as_bytes(), &caps).unwrap();
    assert_eq!((scan.prefix.of(text), scan.name.of(text)), ("stream", "stream"));
    assert!(matches!(scan.ns, Ns::Literal(uri) if uri.of(text) == ns::STREAM));
    assert_eq!(scan.attr(text, "version"), Some("1.0"));
    let scope = Scope::of_header(text, &scan);
    assert_eq!((&*scope.default, scope.lang.as_deref()), ("jabber:client", Some("en")));
    assert_eq!(scope.prefixes, [("stream".into(), ns::STREAM.into()), ("e".into(), "urn:outer".into())]);

    let with = |declaration: &str| {
        let header = format!("{declaration}<stream:stream xmlns:stream='s'>");
        Scan::new().header(header.as_bytes(), &caps).map(|_| ())
    };
    for ok in [
        "",
        "\n ",
        "\u{FEFF}",
        "\u{FEFF}<?xml version='1.0'?>",
        "<?xml version=\"1.0\" encoding='utf-8'?>\n",
        "<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>",
        "<?xml\tversion = '1.0'?>",
    ] {
        assert_eq!(with(ok), Ok(()), "{ok:?}");
    }
    for bad in [
        "<?xml ?>",
        "<?xml version='1.1'?>",
        "<?xml version='1.0'encoding='utf-8'?>",
        "<?xml encoding='utf-8'?>",
        "<?xml encoding='latin1'?>",
        "<?xml version='1.0' standalone='yes' encoding='utf-8'?>",
        "<?xml version='1.0' version='1.0'?>",
        "<?xml version='1.0' standalone='maybe'?>",
        "<?xml version='1.0'>",
        "x",
    ] {
        assert_eq!(with(bad), Err(Error::NotWellFormed), "{bad:?}");
    }
    assert_eq!(with("<?xml version='1.0' encoding='UTF-16'?>"), Err(Error::UnsupportedEncoding));
    assert_eq!(with("<?xml version='1.0' encoding='iso-8859-1'?>"), Err(Error::UnsupportedEncoding));
    for bad in ["<?xml?>", "<?xml-stylesheet href='a'?>", "<?pi?>", "<!-- -->", "<!DOCTYPE stream>"] {
        assert_eq!(with(bad), Err(Error::RestrictedXml), "{bad:?}");
    }
    for bad in ["<stream:stream>", "<s:s xmlns:s='u'/>", "<s:s xmlns:s='u'>x", "<s:s xmlns:s='u'", ""] {
        assert_eq!(Scan::new().header(bad.as_bytes(), &caps), Err(Error::NotWellFormed), "{bad:?}");
    }
}

#[test]
fn values_read_back() {
    assert!(matches!(unescape("plain é"), std::borrow::Cow::Borrowed("plain é")));
    assert_eq!(unescape("&lt;&gt;&amp;&apos;&quot;&#65;&#x1F600;"), "<>&'\"A😀");
    assert_eq!(unescape("a\tb\nc\rd\r\ne"), "a b c d e");
    assert_eq!(unescape("&#9;&#10;&#13;"), "\t\n\r");
    assert_eq!(unescape("&amp;lt;"), "&lt;");
    assert_eq!(unescape("&unknown; & &#xD800;"), "&unknown; & &#xD800;");
}

#[test]
fn outer_prefixes_are_declared_again() {
    // threat A7
    let scope = scope();
    let mut scan = Scan::new();
    for (element, standing) in [
        ("<message/>", "<message/>"),
        ("<message to='a'><e:x/></message>", "<message xmlns:e='urn:outer' to='a'><e:x/></message>"),
        ("<e:x/>", "<e:x xmlns:e='urn:outer'/>"),
        ("<a e:b=''/>", "<a xmlns:e='urn:outer' e:b=''/>"),
        ("<a xmlns:e='urn:in'><e:b/></a>", "<a xmlns:e='urn:in'><e:b/></a>"),
        ("<a><b xmlns:e='urn:in'><e:b/></b></a>", "<a><b xmlns:e='urn:in'><e:b/></b></a>"),
        ("<a><b xmlns:e='u'/><e:b/></a>", "<a xmlns:e='urn:outer'><b xmlns:e='u'/><e:b/></a>"),
    ] {
        let text = scan.element(element.as_bytes(), &scope, &Caps::default()).unwrap();
        let mut out = Vec::new();
        redeclare(text, &scan, &scope, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), standing);
    }
}

/// Scraps of XML, good and bad: what they make in a row is often nearly an element.
const SCRAPS: &[&str] = &[
    "<a>",
    "</a>",
    "<a/>",
    "<e:b c='d'>",
    "</e:b>",
    "<b xmlns='u'>",
    "</b>",
    "<p:x xmlns:p='u' p:y='' y=''/>",
    "<a ",
    "/>",
    ">",
    " xmlns:p='u'",
    " xmlns:q='u'",
    " xmlns='v'",
    " p:a='1'",
    " q:a='2'",
    " e:a='3'",
    " a='4'",
    " xml:lang='en'",
    " xml:id='i'",
    " p:xmlns='v'",
    "xmlns",
    "xmlns:p=''",
    "='",
    "'",
    "\"",
    "=",
    " ",
    "\t",
    "\n",
    "\r",
    "text",
    "é",
    "\u{1F600}",
    "\u{FF41}",
    "\u{FFFE}",
    "\u{B7}",
    "&amp;",
    "&#65;",
    "&#xD800;",
    "&#x0;",
    "&",
    ";",
    "]]>",
    "]]",
    "<![CDATA[",
    "<!--",
    "-->",
    "<?x?>",
    ":",
    "<:a/>",
    "<xml:a/>",
    "%",
    "#",
    "{",
    "//",
    "urn:x",
    "\0",
    "\u{9B}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_we_accept_others_accept(
        name in "[a-z]{1,3}",
        tag in proptest::collection::vec(proptest::sample::select(SCRAPS), 0..3),
        inside in proptest::collection::vec(proptest::sample::select(SCRAPS), 0..7),
    ) {
        let element = format!("<{name}{}>{}</{name}>", tag.concat(), inside.concat());
        let scope = scope();
        let mut scan = Scan::new();
        if let Ok(text) = scan.element(element.as_bytes(), &scope, &Caps::default()) {
            assert_same_tree(text);
            // and it stands for itself elsewhere, and for the framer it is one element
            let mut out = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>".to_vec();
            redeclare(text, &scan, &scope, &mut out);
            out.extend_from_slice(b"</stream:stream>");
            let alone = roxmltree_sees(std::str::from_utf8(&out).unwrap()).unwrap();
            let at_home = roxmltree_sees(&format!("{HEADER}{text}</stream:stream>")).unwrap();
            prop_assert_eq!(&alone[1..], &at_home[1..]);
            let mut framer = Framer::new(text.len(), 64);
            let mut stream = HEADER.as_bytes().to_vec();
            framer.set_max_bytes(stream.len());
            framer.next(&stream).unwrap().unwrap();
            framer.set_max_bytes(text.len());
            stream.clear();
            stream.extend_from_slice(text.as_bytes());
            stream.extend_from_slice(b"<x/>");
            prop_assert_eq!(framer.next(&stream), Ok(Some(Frame::Element(text.len()))));
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = judge(&bytes);
        let _ = Scan::new().header(&bytes, &Caps::default());
        let text = String::from_utf8_lossy(&bytes);
        let _ = (attributes(&text).count(), unescape(&text));
    }
}
