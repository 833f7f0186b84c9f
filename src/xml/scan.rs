//! The strict judge of one first-level element or stream header.
//!
//! What this scan accepts is forwarded as it stands, byte for byte, to readers that use other
//! parsers. So it accepts only what *all* of expat, libxml2, rxml and roxmltree accept, with the
//! same tree: XML 1.0 and Namespaces in XML 1.0, less what RFC 6120 §11 forbids, less the corners
//! in which those four disagree. Refusing a stanza costs its sender a stream; accepting one that
//! somebody else refuses costs an innocent receiver theirs.
//!
//! One pass, no recursion, and no allocation once the vectors have grown: keep one `Scan` and use
//! it again.

use super::cursor::{Cursor, position};
use super::namespaces::Namespaces;
pub use super::read::{attributes, redeclare, unescape};
use super::{Cap, Error};

/// A range of bytes in the text that was judged.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte behind the last.
    pub end: u32,
}

impl Span {
    /// The text in this range; empty when `text` has no such range.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// How many bytes it holds.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether it holds none.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    pub(super) fn bytes(self, of: &[u8]) -> &[u8] {
        of.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The namespace of an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ns {
    /// No prefix, and no default namespace declared inside the first-level element: the default
    /// namespace of the stream, which is its content namespace.
    #[default]
    Inherited,
    /// The namespace name stands here. Empty: no namespace (`xmlns=''`).
    Literal(Span),
    /// A prefix that the stream header declared: index in [`Scope::prefixes`].
    Outer(u16),
    /// The namespace of the prefix `xml`.
    Xml,
}

/// An attribute of the root, as it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attr {
    /// What stands before the colon; empty without one.
    pub prefix: Span,
    /// The local name.
    pub name: Span,
    /// What stands between the quotes; [`unescape`] reads it.
    pub value: Span,
}

impl Attr {
    /// All of it, name and quotes included.
    pub fn whole(&self) -> Span {
        let start = if self.prefix.is_empty() { self.name.start } else { self.prefix.start };
        Span { start, end: self.value.end.saturating_add(1) }
    }
}

/// A child of the root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Child {
    /// The whole child.
    pub span: Span,
    /// Its start tag; [`attributes`] reads it.
    pub tag: Span,
    /// Its prefix; empty without one.
    pub prefix: Span,
    /// Its local name.
    pub name: Span,
    /// Its namespace.
    pub ns: Ns,
}

/// What one first-level element may cost us and those we forward it to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// Nesting; the first-level element is 1.
    pub depth: u16,
    /// Attributes on one tag, namespace declarations not counted.
    pub attributes: u16,
    /// Prefixes in scope at any place, those of the stream header included.
    pub prefixes: u16,
    /// Namespace declarations in the whole element, and the outer prefixes that it uses, for they
    /// become declarations when it is forwarded.
    pub declarations: u16,
    /// Elements in the whole first-level element.
    pub elements: u32,
}

impl Default for Caps {
    fn default() -> Caps {
        Caps {
            // Deep enough for any protocol (a forwarded, encrypted, formatted message has about
            // 12); libxml2 stops at 256, and recursive readers long before their stack does.
            depth: 64,
            // vCards, forms and Jingle stay under 16. Comparing each with each is 2,016 steps.
            attributes: 64,
            // roxmltree compares each prefix in scope with each new one.
            prefixes: 64,
            // The sibling form of the namespace bomb: with 64 in scope, 256 declarations cost
            // roxmltree well under a millisecond, 4,000 cost it 40 seconds (threat A6).
            declarations: 256,
            // Some 150 bytes of tree per element in a reader's memory: 1.5 MB at the most.
            elements: 10_000,
        }
    }
}

impl Caps {
    /// For what a hub passes on: it adds addresses, a language, an id, a delay, and with XEP-0280 three
    /// elements around the stanza. A stanza that it has let through at the edge of its caps may not
    /// cost the one who reads it then.
    pub fn passed_on() -> Caps {
        let caps = Caps::default();
        Caps {
            depth: caps.depth.saturating_add(16),
            attributes: caps.attributes.saturating_add(16),
            prefixes: caps.prefixes.saturating_add(16),
            declarations: caps.declarations.saturating_add(64),
            elements: caps.elements.saturating_add(64),
        }
    }

    /// For what was judged when it came, by caps that an operator may have raised.
    pub fn judged_before() -> Caps {
        let (most, elements) = (u16::MAX, u32::MAX);
        Caps { depth: most, attributes: most, declarations: most, elements, ..Caps::default() }
    }
}

/// More space than this in a vector is given back before the next element.
const KEEP: usize = 512;

/// What a stream header declared for all elements of its stream.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Scope {
    /// The default namespace: the content namespace (RFC 6120 §4.8.2).
    pub default: Box<str>,
    /// Prefixes, each with its namespace name. No more than 64 are of use.
    pub prefixes: Vec<(Box<str>, Box<str>)>,
    /// `xml:lang`, decoded.
    pub lang: Option<Box<str>>,
}

impl Scope {
    /// The scope that a header opens: `text` and `scan` as [`Scan::header`] left them.
    pub fn of_header(text: &str, scan: &Scan) -> Scope {
        let mut scope = Scope { lang: scan.lang(text).map(|raw| unescape(raw).into()), ..Scope::default() };
        for &(prefix, uri) in &scan.decls {
            match prefix.of(text) {
                "" => scope.default = uri.of(text).into(),
                "xml" => {}
                prefix => scope.prefixes.push((prefix.into(), uri.of(text).into())),
            }
        }
        scope
    }
}

/// The judge. Its public fields tell of the element that it accepted last.
#[derive(Debug, Default)]
pub struct Scan {
    /// The root's local name.
    pub name: Span,
    /// The root's prefix; empty without one.
    pub prefix: Span,
    /// The root's start tag, `>` included.
    pub tag: Span,
    /// Whether the root is written as `<x/>`.
    pub empty: bool,
    /// What stands between the root's start tag and its end tag.
    pub inside: Span,
    /// The root's attributes, without the namespace declarations.
    pub attrs: Vec<Attr>,
    /// The root's namespace declarations: prefix (empty for the default) and namespace name.
    pub decls: Vec<(Span, Span)>,
    /// The root's namespace.
    pub ns: Ns,
    /// The root's child elements.
    pub children: Vec<Child>,
    /// Which of [`Scope::prefixes`] are used without being declared inside, a bit for each.
    pub outer: u64,

    open: Vec<Open>,
    names: Namespaces,
    scratch: Vec<Attr>,
    elements: u32,
}

/// An element whose end tag is still to come.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Prefix, colon, name: what its end tag must repeat.
    name: Span,
    /// What was in scope before it.
    bindings: u32,
    /// The default namespace outside of it.
    default: Ns,
}

/// What a start tag turned out to be.
struct Tag {
    prefix: Span,
    name: Span,
    span: Span,
    empty: bool,
    ns: Ns,
    /// Bindings and default namespace before it.
    bindings: usize,
    default: Ns,
}

impl Scan {
    /// A judge that has seen nothing yet.
    pub fn new() -> Scan {
        Scan::default()
    }

    /// Judges `bytes`, which must be exactly one element. The answer is the same bytes as text.
    pub fn element<'b>(&mut self, bytes: &'b [u8], scope: &Scope, caps: &Caps) -> Result<&'b str, Error> {
        self.clear();
        let mut cursor = Cursor::new(bytes)?;
        let mut attrs = std::mem::take(&mut self.attrs);
        let tag = self.start_tag(&mut cursor, &mut attrs, true, scope, caps);
        self.attrs = attrs;
        let tag = tag?;
        // RFC 6120 §4.8.5: a stanza has no prefix. Elements of other namespaces may.
        let of_content = match tag.ns {
            Ns::Literal(uri) => uri.bytes(bytes) == scope.default.as_bytes(),
            Ns::Outer(i) => scope.prefixes.get(usize::from(i)).is_some_and(|(_, uri)| *uri == scope.default),
            Ns::Inherited | Ns::Xml => false,
        };
        if of_content && !tag.prefix.is_empty() {
            return Err(Error::BadNamespacePrefix);
        }
        self.set_root(&tag);
        if !tag.empty {
            self.push_open(&tag);
            self.content(&mut cursor, scope, caps)?;
        }
        self.outer = self.names.outer;
        if cursor.at != bytes.len() {
            return Err(Error::NotWellFormed);
        }
        Ok(cursor.text)
    }

    /// Judges a stream header: an XML declaration, perhaps, and a start tag that stays open. Its
    /// prefixes are resolved among its own declarations.
    pub fn header<'b>(&mut self, bytes: &'b [u8], caps: &Caps) -> Result<&'b str, Error> {
        self.clear();
        let mut cursor = Cursor::new(bytes)?;
        if bytes.starts_with(b"\xEF\xBB\xBF") {
            cursor.skip(3);
        }
        if cursor.rest().starts_with(b"<?") {
            cursor.declaration()?;
        }
        cursor.space();
        let scope = Scope::default();
        let mut attrs = std::mem::take(&mut self.attrs);
        let tag = self.start_tag(&mut cursor, &mut attrs, true, &scope, caps);
        self.attrs = attrs;
        let tag = tag?;
        self.set_root(&tag);
        // `<stream:stream/>` would open a stream and close it: nobody means that.
        if tag.empty || cursor.at != bytes.len() {
            return Err(Error::NotWellFormed);
        }
        Ok(cursor.text)
    }

    /// The raw value of the root's attribute of this name, without prefix.
    pub fn attr<'t>(&self, text: &'t str, name: &str) -> Option<&'t str> {
        let attr = self.attrs.iter().find(|a| a.prefix.is_empty() && a.name.of(text) == name)?;
        Some(attr.value.of(text))
    }

    /// The raw value of the root's `xml:lang`.
    pub fn lang<'t>(&self, text: &'t str) -> Option<&'t str> {
        let attr = self.attrs.iter().find(|a| a.prefix.of(text) == "xml" && a.name.of(text) == "lang")?;
        Some(attr.value.of(text))
    }

    fn clear(&mut self) {
        self.attrs.clear();
        self.decls.clear();
        self.children.clear();
        if self.children.capacity() > KEEP {
            self.children.shrink_to(KEEP);
        }
        self.open.clear();
        self.elements = 0;
        self.outer = 0;
        self.names.clear();
    }

    fn set_root(&mut self, tag: &Tag) {
        self.name = tag.name;
        self.prefix = tag.prefix;
        self.tag = tag.span;
        self.empty = tag.empty;
        self.inside = Span { start: tag.span.end, end: tag.span.end };
        self.ns = tag.ns;
    }

    fn push_open(&mut self, tag: &Tag) {
        let start = if tag.prefix.is_empty() { tag.name.start } else { tag.prefix.start };
        let name = Span { start, end: tag.name.end };
        let bindings = u32::try_from(tag.bindings).unwrap_or(u32::MAX); // never above the cap on prefixes
        self.open.push(Open { name, bindings, default: tag.default });
    }

    /// Everything behind the root's start tag, its end tag included.
    fn content(&mut self, cursor: &mut Cursor<'_>, scope: &Scope, caps: &Caps) -> Result<(), Error> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let judged = self.content_with(cursor, &mut scratch, scope, caps);
        self.scratch = scratch;
        judged
    }

    fn content_with(
        &mut self,
        cursor: &mut Cursor<'_>,
        scratch: &mut Vec<Attr>,
        scope: &Scope,
        caps: &Caps,
    ) -> Result<(), Error> {
        loop {
            if cursor.peek() != b'<' {
                cursor.chars()?;
                continue;
            }
            match cursor.second() {
                b'/' => {
                    let end = cursor.at;
                    cursor.skip(2);
                    let Some(open) = self.open.pop() else { return Err(Error::NotWellFormed) };
                    cursor.expect(open.name.bytes(cursor.bytes))?;
                    cursor.space();
                    cursor.expect(b">")?;
                    self.names.leave(open.bindings as usize, open.default);
                    match self.open.len() {
                        0 => {
                            self.inside.end = position(end);
                            return Ok(());
                        }
                        1 => self.end_child(cursor.at),
                        _ => {}
                    }
                }
                b'!' => cursor.cdata()?,
                b'?' => return Err(Error::RestrictedXml),
                _ => {
                    if self.open.len() >= usize::from(caps.depth) {
                        return Err(Error::TooBig(Cap::Depth));
                    }
                    scratch.clear();
                    let tag = self.start_tag(cursor, scratch, false, scope, caps)?;
                    let child = self.open.len() == 1;
                    if child {
                        let Tag { span, prefix, name, ns, .. } = tag;
                        self.children.push(Child { span, tag: span, prefix, name, ns });
                    }
                    if tag.empty {
                        self.names.leave(tag.bindings, tag.default);
                    } else {
                        self.push_open(&tag);
                    }
                }
            }
        }
    }

    fn end_child(&mut self, at: usize) {
        if let Some(child) = self.children.last_mut() {
            child.span.end = position(at);
        }
    }

    fn start_tag(
        &mut self,
        cursor: &mut Cursor<'_>,
        attrs: &mut Vec<Attr>,
        root: bool,
        scope: &Scope,
        caps: &Caps,
    ) -> Result<Tag, Error> {
        self.elements = self.elements.saturating_add(1);
        if self.elements > caps.elements {
            return Err(Error::TooBig(Cap::Elements));
        }
        let bindings = self.names.bindings();
        let default = self.names.default;
        let mut default_declared = false;
        let mut prefixed = false;
        let start = position(cursor.at);
        match (cursor.peek(), cursor.second()) {
            (b'<', b'!' | b'?') => return Err(Error::RestrictedXml),
            (b'<', _) => cursor.skip(1),
            _ => return Err(Error::NotWellFormed),
        }
        let (prefix, name) = cursor.qname()?;
        let empty = loop {
            let gap = cursor.space();
            match cursor.peek() {
                b'>' => {
                    cursor.skip(1);
                    break false;
                }
                b'/' => {
                    cursor.skip(1);
                    cursor.expect(b">")?;
                    break true;
                }
                _ if !gap => return Err(Error::NotWellFormed),
                _ => {}
            }
            let (prefix, name) = cursor.qname()?;
            cursor.space();
            cursor.expect(b"=")?;
            cursor.space();
            let value = cursor.value()?;
            let bytes = cursor.bytes;
            if prefix.is_empty() && name.bytes(bytes) == b"xmlns" {
                if default_declared {
                    return Err(Error::NotWellFormed);
                }
                default_declared = true;
                self.names.declare_default(bytes, value, caps)?;
                if root {
                    self.decls.push((Span::default(), value));
                }
            } else if prefix.bytes(bytes) == b"xmlns" {
                self.names.declare(bytes, name, value, bindings, scope, caps)?;
                if root {
                    self.decls.push((name, value));
                }
            } else {
                if attrs.len() >= usize::from(caps.attributes) {
                    return Err(Error::TooBig(Cap::Attributes));
                }
                if !prefix.is_empty() {
                    prefixed = true;
                    // roxmltree takes any `p:xmlns='u'` for a default namespace.
                    if name.bytes(bytes) == b"xmlns" {
                        return Err(Error::NotWellFormed);
                    }
                    // libxml2 refuses an `xml:id` that is not a name, or that comes twice in its
                    // document, which is the stream. No protocol of ours has one.
                    if prefix.bytes(bytes) == b"xml" && name.bytes(bytes) == b"id" {
                        return Err(Error::NotWellFormed);
                    }
                }
                attrs.push(Attr { prefix, name, value });
            }
        };
        // Only now is every declaration of the tag known.
        let ns = if prefix.is_empty() {
            self.names.default
        } else {
            let (ns, _) = self.names.resolve(cursor.bytes, prefix, scope, caps)?;
            if ns == Ns::Xml {
                return Err(Error::NotWellFormed); // roxmltree refuses `<xml:a/>`
            }
            ns
        };
        if attrs.len() > 1 || prefixed {
            self.names.unique(cursor.bytes, attrs, prefixed, scope, caps)?;
        }
        let span = Span { start, end: position(cursor.at) };
        Ok(Tag { prefix, name, span, empty, ns, bindings, default })
    }
}
