//! Whether what was received is what a line of a transcript says.

use std::collections::HashMap;
use stonechat::stanza::{Node, Tree};

/// What was captured so far, by name.
pub type Captured = HashMap<String, String>;

const OPEN: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// Runs `with` on the tree of something that was sent on a stream: a header, or an element in it.
fn with_tree<R>(xml: &str, with: impl FnOnce(Node<'_, '_>) -> R) -> Result<R, String> {
    let xml = xml.trim();
    let header = xml.strip_prefix("<?xml version='1.0'?>").unwrap_or(xml).trim_start();
    if header.starts_with("<stream:stream") {
        let whole = format!("{header}</stream:stream>");
        let tree = Tree::parse(&whole).map_err(|e| format!("{e} in {xml}"))?;
        return Ok(with(tree.root_element()));
    }
    let whole = format!("{OPEN}{xml}</stream:stream>");
    let tree = Tree::parse(&whole).map_err(|e| format!("{e} in {xml}"))?;
    let mut elements = tree.root_element().children();
    match (elements.next(), elements.next()) {
        (Some(element), None) if element.is_element() => Ok(with(element)),
        _ => Err(format!("this is not one element: {xml}")),
    }
}

/// Compares; what is captured goes into `captured`. The error says where they differ.
pub fn compare(pattern: &str, got: &str, captured: &mut Captured) -> Result<(), String> {
    with_tree(pattern, |p| with_tree(got, |g| element(&p, &g, captured)))??
}

fn element(pattern: &Node<'_, '_>, got: &Node<'_, '_>, captured: &mut Captured) -> Result<(), String> {
    let name =
        |n: &Node<'_, '_>| format!("{{{}}}{}", n.tag_name().namespace().unwrap_or(""), n.tag_name().name());
    if pattern.tag_name() != got.tag_name() {
        return Err(format!("{} is not {}", name(got), name(pattern)));
    }
    let here = pattern.tag_name().name();
    for attr in pattern.attributes() {
        let find = got.attributes().find(|a| (a.namespace(), a.name()) == (attr.namespace(), attr.name()));
        let Some(found) = find else { return Err(format!("<{here}> has no attribute {}", attr.name())) };
        value(attr.value(), found.value(), captured)
            .map_err(|why| format!("<{here}>, attribute {}: {why}", attr.name()))?;
    }
    for attr in got.attributes() {
        if !pattern.attributes().any(|a| (a.namespace(), a.name()) == (attr.namespace(), attr.name())) {
            return Err(format!("<{here}> has the attribute {}='{}' as well", attr.name(), attr.value()));
        }
    }
    let said = text(pattern);
    let open = said.contains("...");
    let said = said.replace("...", "");
    let elements = pattern.children().any(|n| n.is_element());
    if open && said.trim().is_empty() {
        // whatever
    } else if elements || open {
        value(said.trim(), text(got).trim(), captured).map_err(|why| format!("text of <{here}>: {why}"))?;
    } else {
        value(&said, &text(got), captured).map_err(|why| format!("text of <{here}>: {why}"))?;
    }
    children(pattern, got, open, captured)
}

/// In order; with `open`, others may stand between and behind them.
fn children(
    pattern: &Node<'_, '_>,
    got: &Node<'_, '_>,
    open: bool,
    captured: &mut Captured,
) -> Result<(), String> {
    let mut rest = got.children().filter(|n| n.is_element());
    for child in pattern.children().filter(|n| n.is_element()) {
        let mut why = format!("<{}> is missing in <{}>", child.tag_name().name(), pattern.tag_name().name());
        loop {
            let Some(candidate) = rest.next() else { return Err(why) };
            let mut trial = captured.clone();
            match element(&child, &candidate, &mut trial) {
                Ok(()) => {
                    *captured = trial;
                    break;
                }
                Err(other) if !open => return Err(other),
                Err(other) => why = format!("{why}; {other}"),
            }
        }
    }
    match rest.next() {
        Some(more) if !open => {
            Err(format!("<{}> has <{}> as well", pattern.tag_name().name(), more.tag_name().name()))
        }
        _ => Ok(()),
    }
}

fn text(node: &Node<'_, '_>) -> String {
    node.children().filter(|n| n.is_text()).filter_map(|n| n.text().map(str::to_owned)).collect()
}

fn value(pattern: &str, got: &str, captured: &mut Captured) -> Result<(), String> {
    if pattern == "*" {
        return Ok(());
    }
    // What this very stanza has captured is not in the pattern yet.
    let known = put_in(pattern, captured, str::to_owned);
    if let Some((before, name, after)) = capture(&known) {
        let inner = got.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        return match inner {
            Some(inner) if !inner.is_empty() => {
                captured.insert(name.to_owned(), inner.to_owned());
                Ok(())
            }
            _ => Err(format!("'{got}' is not like '{known}'")),
        };
    }
    if known == got { Ok(()) } else { Err(format!("'{got}' is not '{known}'")) }
}

/// With what was captured in the place of each `{name}` that is known, as XML.
pub fn fill(text: &str, captured: &Captured) -> String {
    put_in(text, captured, |value| {
        value.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;").replace('"', "&quot;")
    })
}

fn put_in(text: &str, captured: &Captured, spell: impl Fn(&str) -> String) -> String {
    let mut text = text.to_owned();
    for (name, value) in captured {
        text = text.replace(&format!("{{{name}}}"), &spell(value));
    }
    text
}

/// What stands before and behind a `{name}`, and the name.
pub fn capture(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then_some((before, name, after))
}
