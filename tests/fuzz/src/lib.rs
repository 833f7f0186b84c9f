//! What the targets share: the stream that elements are judged on, and the tree that each reader
//! makes of them.

pub mod peers;

use std::collections::BTreeMap;
use stonechat::xml::{Caps, Scan, Scope};

/// The stream header before each element: a content namespace and two prefixes.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns:e='urn:outer' xml:lang='en' version='1.0'>";

/// What [`HEADER`] declares.
pub fn scope() -> Scope {
    let mut scan = Scan::new();
    let text = scan.header(HEADER.as_bytes(), &Caps::default()).expect("the header is one");
    Scope::of_header(text, &scan)
}

/// The element on its stream.
pub fn document(element: &str) -> String {
    format!("{HEADER}{element}</stream:stream>")
}

/// An element as every reader should see it: start tags with expanded names and sorted attributes,
/// text run together, end tags. Line ends are neither told apart nor counted: with a raw CR beside a
/// reference or in CDATA, roxmltree and rxml do not normalise as they should.
#[derive(Default)]
pub struct Tree {
    events: Vec<String>,
    text: String,
}

impl Tree {
    fn start(&mut self, ns: &str, name: &str, mut attrs: Vec<String>) {
        self.flush();
        attrs.sort();
        self.events.push(format!("<{{{ns}}}{name}\u{1}{}", attrs.join("\u{1}")));
    }

    fn end(&mut self) {
        self.flush();
        self.events.push(">".into());
    }

    fn flush(&mut self) {
        let mut text = std::mem::take(&mut self.text).replace('\r', "\n");
        if text.contains("\n\n") {
            let mut last = ' ';
            text.retain(|c| std::mem::replace(&mut last, c) != '\n' || c != '\n');
        }
        if !text.is_empty() {
            self.events.push(text);
        }
    }
}

/// What roxmltree sees below and with a node.
pub fn seen(root: roxmltree::Node) -> Vec<String> {
    let mut tree = Tree::default();
    let mut next = Some((root, true));
    while let Some((node, entering)) = next {
        if node.is_text() {
            tree.text += node.text().unwrap_or_default();
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
    tree.events
}

/// What roxmltree sees in a document.
pub fn roxmltree_sees(document: &str) -> Result<Vec<String>, String> {
    let document = roxmltree::Document::parse(document).map_err(|e| e.to_string())?;
    Ok(seen(document.root_element()))
}

/// What rxml sees in a document.
pub fn rxml_sees(document: &str) -> Result<Vec<String>, String> {
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

/// The attributes of a node without namespace, by name.
pub fn plain_attributes<'a>(node: &roxmltree::Node<'a, 'a>) -> BTreeMap<&'a str, &'a str> {
    node.attributes().filter(|a| a.namespace().is_none()).map(|a| (a.name(), a.value())).collect()
}

/// Cuts a number of bytes off the front; fewer if there are fewer.
pub fn cut<'d>(data: &mut &'d [u8], n: usize) -> &'d [u8] {
    let (front, rest) = data.split_at(n.min(data.len()));
    *data = rest;
    front
}

/// The next number of a sequence that looks random (xorshift).
pub fn roll(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The text up to the next line end, which is cut off along with it.
pub fn line<'d>(data: &mut &'d [u8]) -> &'d [u8] {
    let n = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let front = cut(data, n);
    cut(data, 1);
    front
}
