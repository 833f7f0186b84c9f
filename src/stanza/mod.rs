//! Stanzas (RFC 6120 §8): a view of judged bytes, what is read from them, and how they are
//! stamped for somebody else. The only door to roxmltree.

mod error;

pub use error::{Condition, Error, Type};
pub use roxmltree::{Document as Tree, Node};

use crate::xml::{self, Child, Ns, Scan, Scope, Span, ns, scan};
use std::borrow::Cow;

/// The three kinds of stanza (RFC 6120 §8.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl Kind {
    /// The element's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Presence => "presence",
            Kind::Iq => "iq",
        }
    }
}

/// One stanza over the bytes it came in: nothing is copied, nothing decoded before it is asked for.
///
/// The bytes have been judged by [`Scan::element`] and use no prefix that is not declared inside
/// them, so they mean the same on any stream.
#[derive(Clone, Copy)]
pub struct Stanza<'a> {
    text: &'a str,
    scan: &'a Scan,
    kind: Kind,
}

impl<'a> Stanza<'a> {
    /// A view of `text`, which `scan` has just judged. `None`: not a stanza of the content
    /// namespace (`<unsupported-stanza-type/>`, RFC 6120 §4.9.3.24).
    pub fn new(text: &'a str, scan: &'a Scan) -> Option<Stanza<'a>> {
        match scan.ns {
            Ns::Inherited => {}
            Ns::Literal(uri) if matches!(uri.of(text), ns::CLIENT | ns::SERVER | ns::COMPONENT) => {}
            _ => return None,
        }
        let kind = match scan.name.of(text) {
            "message" => Kind::Message,
            "presence" => Kind::Presence,
            "iq" => Kind::Iq,
            _ => return None,
        };
        Some(Stanza { text, scan, kind })
    }

    /// Message, presence or iq.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole element as it came.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// An attribute of the start tag, decoded.
    pub fn attr(&self, name: &str) -> Option<Cow<'a, str>> {
        self.scan.attr(self.text, name).map(scan::unescape)
    }

    /// The `to` attribute (RFC 6120 §8.1.1).
    pub fn to(&self) -> Option<Cow<'a, str>> {
        self.attr("to")
    }

    /// The `from` attribute (RFC 6120 §8.1.2).
    pub fn from(&self) -> Option<Cow<'a, str>> {
        self.attr("from")
    }

    /// The `id` attribute (RFC 6120 §8.1.3).
    pub fn id(&self) -> Option<Cow<'a, str>> {
        self.attr("id")
    }

    /// The `type` attribute (RFC 6120 §8.1.4); empty when there is none.
    pub fn type_(&self) -> Cow<'a, str> {
        self.attr("type").unwrap_or(Cow::Borrowed(""))
    }

    /// The first-level children.
    pub fn children(&self) -> &'a [Child] {
        &self.scan.children
    }

    /// The namespace of a child: the stream's content namespace is the empty string.
    pub fn child_ns(&self, child: &Child) -> &'a str {
        match child.ns {
            Ns::Literal(uri) => match uri.of(self.text) {
                ns::CLIENT | ns::SERVER | ns::COMPONENT => "",
                other => other,
            },
            _ => "",
        }
    }

    /// The name of a child without its prefix.
    pub fn child_name(&self, child: &Child) -> &'a str {
        child.name.of(self.text)
    }

    /// The first child of that namespace and name.
    pub fn child(&self, ns: &str, name: &str) -> Option<&'a Child> {
        self.children().iter().find(|c| self.child_name(c) == name && self.child_ns(c) == ns)
    }

    /// An attribute of a child's start tag, decoded.
    pub fn child_attr(&self, child: &Child, name: &str) -> Option<Cow<'a, str>> {
        scan::attributes(child.tag.of(self.text)).find(|(n, _)| *n == name).map(|(_, v)| scan::unescape(v))
    }

    /// The payload's namespace and name: the first child (RFC 6120 §8.2.3).
    pub fn payload(&self) -> Option<(&'a str, &'a str)> {
        self.children().first().map(|c| (self.child_ns(c), self.child_name(c)))
    }

    /// All between the start and the end tag.
    pub fn inside(&self) -> &'a str {
        self.scan.inside.of(self.text)
    }

    /// The same bytes as a tree, for what the hub itself must understand.
    pub fn tree(&self) -> Result<Tree<'a>, Error> {
        Tree::parse(self.text).map_err(|_| Error::new(Condition::BadRequest))
    }

    /// Appends the stanza as `from` sends it to `to`: the start tag is ours, all else is as it came,
    /// less the children in `cut` (in ascending order). With `lang`, a missing `xml:lang` is added
    /// (RFC 6120 §8.1.5).
    ///
    /// The content namespace is left to the stream it is written on, so `jabber:client` becomes
    /// `jabber:server` and back for free.
    pub fn stamp(
        &self,
        out: &mut Vec<u8>,
        from: Option<&str>,
        to: Option<&str>,
        lang: Option<&str>,
        cut: &[Span],
    ) {
        self.stamp_with(out, from, to, lang, cut, |_| {});
    }

    /// As [`Stanza::stamp`], with more children of ours before the end tag.
    pub fn stamp_with(
        &self,
        out: &mut Vec<u8>,
        from: Option<&str>,
        to: Option<&str>,
        lang: Option<&str>,
        cut: &[Span],
        add: impl FnOnce(&mut xml::Writer<'_>),
    ) {
        let text = self.text;
        let mut writer = xml::Writer::new(out);
        writer.start(self.kind.name());
        writer.opt("from", from).opt("to", to);
        let mut has_lang = false;
        for attr in &self.scan.attrs {
            match (attr.prefix.of(text), attr.name.of(text)) {
                ("", "from" | "to") => continue,
                ("xml", "lang") => has_lang = true,
                _ => {}
            }
            writer.judged_whole_attr(attr.whole().of(text));
        }
        for (prefix, uri) in &self.scan.decls {
            if !prefix.is_empty() {
                writer.judged_attr("xmlns", prefix.of(text), uri.of(text));
            }
        }
        if let (false, Some(lang)) = (has_lang, lang) {
            writer.attr("xml:lang", lang);
        }
        let end = self.scan.inside.end as usize;
        let mut at = self.scan.inside.start as usize;
        for span in cut {
            writer.raw(text.get(at..span.start as usize).unwrap_or("").as_bytes());
            at = span.end as usize;
            // The texts before and behind become one, and that may not have `]]>` in it.
            let behind = text.get(at..).unwrap_or("");
            let brackets = behind.len().saturating_sub(behind.trim_start_matches(']').len());
            if behind.get(brackets..).is_some_and(|rest| rest.starts_with('>')) {
                writer.raw(behind.get(..brackets).unwrap_or("").as_bytes()).raw(b"&gt;");
                at = at.saturating_add(brackets).saturating_add(1);
            }
        }
        writer.raw(text.get(at..end).unwrap_or("").as_bytes());
        writer.inside(add);
        writer.end();
    }
}

/// Runs `with` on the tree of any judged element, prefixes of the stream header included.
pub fn with_tree<R>(
    text: &str,
    scan: &Scan,
    scope: &Scope,
    with: impl FnOnce(Node<'_, '_>) -> R,
) -> Option<R> {
    if scan.outer == 0 {
        return Tree::parse(text).ok().map(|tree| with(tree.root_element()));
    }
    let mut own = Vec::with_capacity(text.len());
    scan::redeclare(text, scan, scope, &mut own);
    let own = String::from_utf8(own).ok()?;
    Tree::parse(&own).ok().map(|tree| with(tree.root_element()))
}

/// An element of a stanza as a text of its own: what it uses of prefixes and default namespace of
/// the elements around it is declared on it, so it may be kept and come back in another stanza.
pub fn whole(node: &Node<'_, '_>) -> Option<String> {
    let text = node.document().input_text().get(node.range())?;
    let end = text.find([' ', '\t', '\r', '\n', '/', '>'])?;
    let (name, rest) = text.split_at_checked(end)?;
    let mut quote = None;
    let tag_end = text.find(|c| match quote {
        Some(q) if c == q => {
            quote = None;
            false
        }
        None if matches!(c, '\'' | '"') => {
            quote = Some(c);
            false
        }
        None => c == '>',
        Some(_) => false,
    })?;
    let tag = text.get(..tag_end)?;
    let mut out = String::with_capacity(text.len());
    out.push_str(name);
    let mut declare = |prefix: Option<&str>, uri: &str| {
        let attr = prefix.map_or("xmlns".into(), |p| format!("xmlns:{p}"));
        if !scan::attributes(tag).any(|(name, _)| name == attr) {
            let uri = uri.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;");
            for part in [" ", &attr, "='", &uri, "'"] {
                out.push_str(part);
            }
        }
    };
    for namespace in node.namespaces().filter(|n| n.name().is_some_and(|name| name != "xml")) {
        declare(namespace.name(), namespace.uri());
    }
    declare(None, node.default_namespace().unwrap_or(ns::CLIENT));
    out.push_str(rest);
    Some(out)
}

/// Whether a node is the element of that namespace and name. The content namespace, written or
/// inherited, is the empty string.
pub fn is(node: &Node<'_, '_>, ns: &str, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name && namespace(node) == ns
}

/// An attribute without a prefix. Not [`Node::attribute`]: that takes the first of this local name,
/// be it of whatever namespace, and so the sender's `x:from` for the server's `from`.
pub fn attr<'a>(node: &Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut all = node.attributes();
    all.find(|attr| attr.namespace().is_none() && attr.name() == name).map(|attr| attr.value())
}

/// The namespace of an element; the content namespace is the empty string.
pub fn namespace<'a>(node: &Node<'a, '_>) -> &'a str {
    match node.tag_name().namespace() {
        None | Some(ns::CLIENT | ns::SERVER | ns::COMPONENT) => "",
        Some(uri) => uri,
    }
}

/// The first child element of that namespace and name.
pub fn child<'a, 'i>(node: &Node<'a, 'i>, ns: &str, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|n| is(n, ns, name))
}

/// The text of the first child element of that namespace and name.
pub fn child_text<'a>(node: &Node<'a, '_>, ns: &str, name: &str) -> Option<&'a str> {
    child(node, ns, name).map(|n| n.text().unwrap_or(""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::xml::Caps;

    #[test]
    fn c3_what_is_cut_out_leaves_no_end_of_cdata_in_the_text() {
        for (text, wanted) in [
            ("]]<x/>>", "]]>"),
            ("]<x/>]>", "]]>"),
            ("]<x/>]<x/>>", "]]>"),
            ("]]]<x/>]]<y/>]>", "]]]]]]>"),
            ("a]]<x/><x/>><x/>>", "a]]>>"),
            ("<x/>]]<x/>b>", "]]b>"),
            ("<x/>", ""),
        ] {
            let message = format!("<message>{text}</message>");
            let mut scan = Scan::new();
            let judged = scan.element(message.as_bytes(), &Scope::default(), &Caps::default()).unwrap();
            let stanza = Stanza::new(judged, &scan).unwrap();
            let cut: Vec<Span> =
                stanza.children().iter().filter(|c| stanza.child_name(c) == "x").map(|c| c.span).collect();
            let mut out = Vec::new();
            stanza.stamp(&mut out, None, None, None, &cut);
            let mut again = Scan::new();
            let out = again.element(&out, &Scope::default(), &Caps::default()).unwrap();
            let tree = Tree::parse(out).unwrap();
            let texts: String = tree.root_element().children().filter_map(|n| n.text()).collect();
            assert_eq!(texts, wanted, "{out}");
        }
    }
}
