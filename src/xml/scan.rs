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

use super::{Cap, Error, names};
use memchr::{memchr3, memmem};
use std::borrow::Cow;

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

    fn bytes(self, of: &[u8]) -> &[u8] {
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

/// A name longer than this is refused: rxml stops at tokens of 8,192 bytes, libxml2 at names of 50,000.
const MAX_NAME: usize = 1024;
/// An attribute value longer than this is refused: rxml, as commonly set up, stops at 8,192 bytes.
const MAX_VALUE: usize = 8000;
/// Digits in a character reference: enough for every character; rxml stops at 8.
const MAX_DIGITS: usize = 7;
/// [`Scan::outer`] has a bit for so many prefixes.
const MAX_OUTER: usize = 64;
/// More space than this in a vector is given back before the next element.
const KEEP: usize = 512;

const XML: &[u8] = b"http://www.w3.org/XML/1998/namespace";
const XMLNS: &[u8] = b"http://www.w3.org/2000/xmlns/";

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

/// A prefix in scope.
#[derive(Clone, Copy, Debug)]
struct Binding {
    hash: u64,
    prefix: Span,
    uri: Span,
    /// Equal for equal namespace names.
    id: u16,
}

/// A namespace name that some prefix in this element stands for.
#[derive(Clone, Copy, Debug)]
enum Name {
    Inside(Span),
    Outer(u16),
}

/// The namespaces of the element that is being judged.
#[derive(Debug, Default)]
struct Namespaces {
    bindings: Vec<Binding>,
    default: Ns,
    /// Every namespace name bound to a prefix so far, once each. Numbering them makes comparing
    /// two attributes' namespaces a matter of comparing numbers.
    known: Vec<Name>,
    /// Index in `known` for each outer prefix used so far.
    outer_ids: Vec<Option<u16>>,
    outer: u64,
    declarations: u32,
    /// The current tag's attributes, to be sorted: number of the namespace (0 without prefix), local name.
    order: Vec<(u16, Span)>,
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
        let names = &mut self.names;
        names.bindings.clear();
        names.known.clear();
        names.outer_ids.clear();
        names.default = Ns::Inherited;
        names.outer = 0;
        names.declarations = 0;
    }

    fn set_root(&mut self, tag: &Tag) {
        self.name = tag.name;
        self.prefix = tag.prefix;
        self.tag = tag.span;
        self.empty = tag.empty;
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
                    cursor.skip(2);
                    let Some(open) = self.open.pop() else { return Err(Error::NotWellFormed) };
                    cursor.expect(open.name.bytes(cursor.bytes))?;
                    cursor.space();
                    cursor.expect(b">")?;
                    self.names.leave(open.bindings as usize, open.default);
                    match self.open.len() {
                        0 => return Ok(()),
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
        let bindings = self.names.bindings.len();
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
                prefixed |= !prefix.is_empty();
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

impl Namespaces {
    /// Back to what was in scope before an element.
    fn leave(&mut self, bindings: usize, default: Ns) {
        self.bindings.truncate(bindings);
        self.default = default;
    }

    fn count(&mut self, caps: &Caps) -> Result<(), Error> {
        self.declarations = self.declarations.saturating_add(1);
        if self.declarations > u32::from(caps.declarations) {
            return Err(Error::TooBig(Cap::Declarations));
        }
        Ok(())
    }

    fn declare_default(&mut self, bytes: &[u8], uri: Span, caps: &Caps) -> Result<(), Error> {
        self.count(caps)?;
        let name = uri.bytes(bytes);
        if name == XML || name == XMLNS {
            return Err(Error::NotWellFormed);
        }
        if !name.is_empty() {
            namespace_name(name)?;
        }
        self.default = Ns::Literal(uri);
        Ok(())
    }

    /// `xmlns:prefix='uri'`; `own` is the place of the tag's first binding.
    fn declare(
        &mut self,
        bytes: &[u8],
        prefix: Span,
        uri: Span,
        own: usize,
        scope: &Scope,
        caps: &Caps,
    ) -> Result<(), Error> {
        self.count(caps)?;
        let name = uri.bytes(bytes);
        namespace_name(name)?;
        let prefix_text = prefix.bytes(bytes);
        // `xml` may be bound to its own name, but there is no need to, and nobody does.
        if matches!(prefix_text, b"xml" | b"xmlns") || name == XML || name == XMLNS {
            return Err(Error::NotWellFormed);
        }
        let hash = hash(prefix_text);
        let mut here = self.bindings.get(own..).unwrap_or_default().iter();
        if here.any(|b| b.hash == hash && b.prefix.bytes(bytes) == prefix_text) {
            return Err(Error::NotWellFormed);
        }
        if self.bindings.len().saturating_add(scope.prefixes.len()) >= usize::from(caps.prefixes) {
            return Err(Error::TooBig(Cap::Declarations));
        }
        let id = self.number(bytes, Name::Inside(uri), scope);
        self.bindings.push(Binding { hash, prefix, uri, id });
        Ok(())
    }

    /// The number of a namespace name: 2 and up; 0 is no namespace, 1 that of `xml`.
    fn number(&mut self, bytes: &[u8], name: Name, scope: &Scope) -> u16 {
        let text = |name: &Name| match *name {
            Name::Inside(span) => span.bytes(bytes),
            Name::Outer(i) => scope.prefixes.get(usize::from(i)).map_or(&b""[..], |(_, uri)| uri.as_bytes()),
        };
        let wanted = text(&name);
        let place = self.known.iter().position(|known| text(known) == wanted).unwrap_or_else(|| {
            self.known.push(name);
            self.known.len().saturating_sub(1)
        });
        // the caps on declarations and outer prefixes are u16 and 64
        u16::try_from(place.saturating_add(2)).unwrap_or(u16::MAX)
    }

    fn resolve(
        &mut self,
        bytes: &[u8],
        prefix: Span,
        scope: &Scope,
        caps: &Caps,
    ) -> Result<(Ns, u16), Error> {
        let text = prefix.bytes(bytes);
        let hash = hash(text);
        let found = self.bindings.iter().rev().find(|b| b.hash == hash && b.prefix.bytes(bytes) == text);
        if let Some(binding) = found {
            return Ok((Ns::Literal(binding.uri), binding.id));
        }
        match text {
            b"xml" => return Ok((Ns::Xml, 1)),
            b"xmlns" => return Err(Error::NotWellFormed),
            _ => {}
        }
        let outer = scope.prefixes.iter().take(MAX_OUTER).position(|(p, _)| p.as_bytes() == text);
        let Some(outer) = outer else { return Err(Error::NotWellFormed) };
        let index = u16::try_from(outer).unwrap_or(u16::MAX); // below MAX_OUTER
        if self.outer_ids.len() <= outer {
            self.outer_ids.resize(outer.saturating_add(1), None);
        }
        if let Some(Some(id)) = self.outer_ids.get(outer) {
            return Ok((Ns::Outer(index), *id));
        }
        self.count(caps)?;
        let id = self.number(bytes, Name::Outer(index), scope);
        if let Some(slot) = self.outer_ids.get_mut(outer) {
            *slot = Some(id);
        }
        self.outer |= 1u64.checked_shl(u32::from(index)).unwrap_or(0);
        Ok((Ns::Outer(index), id))
    }

    /// No two attributes of a tag may have the same expanded name.
    fn unique(
        &mut self,
        bytes: &[u8],
        attrs: &[Attr],
        prefixed: bool,
        scope: &Scope,
        caps: &Caps,
    ) -> Result<(), Error> {
        /// Above so many, sorting is cheaper than comparing each with each.
        const FEW: usize = 8;
        if !prefixed && attrs.len() <= FEW {
            let mut rest = attrs;
            while let Some((one, others)) = rest.split_first() {
                if others.iter().any(|other| {
                    other.name.len() == one.name.len() && other.name.bytes(bytes) == one.name.bytes(bytes)
                }) {
                    return Err(Error::NotWellFormed);
                }
                rest = others;
            }
            return Ok(());
        }
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        for attr in attrs {
            let id =
                if attr.prefix.is_empty() { 0 } else { self.resolve(bytes, attr.prefix, scope, caps)?.1 };
            order.push((id, attr.name));
        }
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.bytes(bytes).cmp(b.1.bytes(bytes))));
        let twice = order
            .iter()
            .zip(order.iter().skip(1))
            .any(|(a, b)| a.0 == b.0 && a.1.bytes(bytes) == b.1.bytes(bytes));
        self.order = order;
        if twice { Err(Error::NotWellFormed) } else { Ok(()) }
    }
}

/// Where the scan stands. `at` is never above `bytes.len()`, so adding small numbers to it cannot
/// overflow; wrapping arithmetic says so without a branch.
struct Cursor<'b> {
    bytes: &'b [u8],
    text: &'b str,
    at: usize,
}

impl<'b> Cursor<'b> {
    /// A cursor over bytes that are UTF-8, that are characters of XML, and that a `Span` can count.
    fn new(bytes: &'b [u8]) -> Result<Cursor<'b>, Error> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Error::TooBig(Cap::Bytes));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Error::NotWellFormed)?;
        // Char (XML 1.0 §2.2) leaves out controls and U+FFFE, U+FFFF. They are illegal everywhere,
        // so one pass that the compiler can vectorise keeps them out of everybody's way. (As does
        // from_utf8 for surrogates.)
        let mut control = false;
        let mut ef = false;
        for &b in bytes {
            control |= (b < 0x20) & (b != b'\t') & (b != b'\n') & (b != b'\r');
            ef |= b == 0xEF;
        }
        let noncharacter = |last| memmem::find(bytes, &[0xEF, 0xBF, last]).is_some();
        if control || (ef && (noncharacter(0xBE) || noncharacter(0xBF))) {
            return Err(Error::NotWellFormed);
        }
        Ok(Cursor { bytes, text, at: 0 })
    }

    /// The next byte, or 0, which no XML text holds.
    #[inline(always)]
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// The byte after the next, or 0.
    #[inline(always)]
    fn second(&self) -> u8 {
        self.bytes.get(self.at.wrapping_add(1)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn skip(&mut self, n: usize) {
        self.at = self.at.wrapping_add(n);
    }

    fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline(always)]
    fn expect(&mut self, wanted: &[u8]) -> Result<(), Error> {
        if !self.rest().starts_with(wanted) {
            return Err(Error::NotWellFormed);
        }
        self.skip(wanted.len());
        Ok(())
    }

    fn since(&self, start: usize) -> Span {
        Span { start: position(start), end: position(self.at) }
    }

    /// Skips whitespace; whether there was some.
    #[inline(always)]
    fn space(&mut self) -> bool {
        let start = self.at;
        while class(self.peek()) & SPACE != 0 {
            self.skip(1);
        }
        self.at != start
    }

    /// `prefix:name` or `name`.
    #[inline(always)]
    fn qname(&mut self) -> Result<(Span, Span), Error> {
        let start = self.at;
        let first = self.ncname()?;
        let both = if self.peek() == b':' {
            self.skip(1);
            (first, self.ncname()?)
        } else {
            (Span::default(), first)
        };
        if self.at.wrapping_sub(start) > MAX_NAME {
            return Err(Error::NotWellFormed);
        }
        Ok(both)
    }

    #[inline(always)]
    fn ncname(&mut self) -> Result<Span, Error> {
        let start = self.at;
        if class(self.peek()) & BEGIN == 0 {
            self.wide(names::begins)?;
        }
        loop {
            while class(self.peek()) & NAME != 0 {
                self.skip(1);
            }
            if self.peek() < 0x80 {
                return Ok(self.since(start));
            }
            self.wide(names::follows)?;
        }
    }

    /// A character of a name that is not ASCII.
    #[cold]
    fn wide(&mut self, fits: fn(char) -> bool) -> Result<(), Error> {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) if !c.is_ascii() && fits(c) => {
                self.skip(c.len_utf8());
                Ok(())
            }
            _ => Err(Error::NotWellFormed),
        }
    }

    /// An attribute value; what stands between the quotes.
    #[inline(always)]
    fn value(&mut self) -> Result<Span, Error> {
        let quote = self.peek();
        if quote != b'\'' && quote != b'"' {
            return Err(Error::NotWellFormed);
        }
        self.skip(1);
        let start = self.at;
        loop {
            while class(self.peek()) & VALUE != 0 {
                self.skip(1);
            }
            match self.peek() {
                b if b == quote => break,
                b'\'' | b'"' => self.skip(1),
                b'&' => self.reference()?,
                _ => return Err(Error::NotWellFormed),
            }
        }
        let value = self.since(start);
        self.skip(1);
        if value.len() > MAX_VALUE {
            return Err(Error::NotWellFormed);
        }
        Ok(value)
    }

    /// Character data up to the next `<`.
    #[inline(always)]
    fn chars(&mut self) -> Result<(), Error> {
        loop {
            // Unterminated text is an unterminated element.
            let n = memchr3(b'<', b'&', b'>', self.rest()).ok_or(Error::NotWellFormed)?;
            self.skip(n);
            match self.peek() {
                b'<' => return Ok(()),
                b'&' => self.reference()?,
                _ => {
                    // Markup and references end in `>` and `;`: two `]` before are text.
                    if self.bytes.get(..self.at).is_some_and(|before| before.ends_with(b"]]")) {
                        return Err(Error::NotWellFormed);
                    }
                    self.skip(1);
                }
            }
        }
    }

    /// A CDATA section. Everything else that begins with `<!` is restricted.
    #[cold]
    fn cdata(&mut self) -> Result<(), Error> {
        if self.expect(b"<![CDATA[").is_err() {
            return Err(Error::RestrictedXml);
        }
        let n = memmem::find(self.rest(), b"]]>").ok_or(Error::NotWellFormed)?;
        self.skip(n.wrapping_add(3));
        Ok(())
    }

    /// One of the five predefined entities, or a reference to a character that XML has.
    fn reference(&mut self) -> Result<(), Error> {
        let (_, len) = reference(self.rest()).ok_or(Error::NotWellFormed)?;
        self.skip(len);
        Ok(())
    }

    /// `<?xml version='1.0' encoding='UTF-8' standalone='yes'?>`; other instructions are restricted.
    fn declaration(&mut self) -> Result<(), Error> {
        self.expect(b"<?xml").map_err(|_| Error::RestrictedXml)?;
        if class(self.peek()) & SPACE == 0 {
            return Err(Error::RestrictedXml);
        }
        let mut last = 0;
        loop {
            let gap = self.space();
            if self.peek() == b'?' {
                self.expect(b"?>")?;
                return if last > 0 { Ok(()) } else { Err(Error::NotWellFormed) };
            }
            let name = self.ncname()?;
            self.space();
            self.expect(b"=")?;
            self.space();
            let value = self.value()?.of(self.text);
            let place = match name.of(self.text) {
                "version" if value == "1.0" => 1,
                "encoding" if value.eq_ignore_ascii_case("utf-8") => 2,
                "encoding" if last == 1 => return Err(Error::UnsupportedEncoding),
                "standalone" if matches!(value, "yes" | "no") => 3,
                _ => return Err(Error::NotWellFormed),
            };
            // in this order, each once, the version always
            if !gap || place <= last || (last == 0 && place != 1) {
                return Err(Error::NotWellFormed);
            }
            last = place;
        }
    }
}

/// A position in bytes that `Cursor::new` has found countable.
#[inline(always)]
fn position(at: usize) -> u32 {
    at as u32
}

/// FNV-1a: prefixes are compared by number first, for there may be 64 of one length in scope.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Reads the reference at the front of `bytes`: its character, and how many bytes it takes.
fn reference(bytes: &[u8]) -> Option<(char, usize)> {
    let body = bytes.strip_prefix(b"&")?;
    let end = body.iter().take(MAX_DIGITS.saturating_add(3)).position(|&b| b == b';')?;
    let body = body.get(..end)?;
    let c = match body {
        b"lt" => '<',
        b"gt" => '>',
        b"amp" => '&',
        b"apos" => '\'',
        b"quot" => '"',
        _ => {
            let number = body.strip_prefix(b"#")?;
            let (digits, radix) = match number.strip_prefix(b"x") {
                Some(digits) => (digits, 16),
                None => (number, 10),
            };
            if digits.is_empty() || digits.len() > MAX_DIGITS {
                return None;
            }
            let code = digits.iter().try_fold(0u32, |code, &b| {
                code.checked_mul(radix)?.checked_add(char::from(b).to_digit(radix)?)
            })?;
            char::from_u32(code).filter(|&c| is_char(c))?
        }
    };
    Some((c, end.saturating_add(2)))
}

/// Char of XML 1.0 §2.2.
pub(super) fn is_char(c: char) -> bool {
    !matches!(c, '\0'..='\u{8}' | '\u{B}' | '\u{C}' | '\u{E}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}')
}

/// Whether all four readers take this for a namespace name.
///
/// Printable ASCII without space, quotes, `{`, `}`, backquote and the like, because parsers join
/// namespace and local name with such a character and refuse names that hold it (CVE-2022-25236);
/// no references, so that comparing bytes is comparing names; and a URI reference of RFC 3986 with
/// nothing rare in it, because libxml2 refuses all else.
fn namespace_name(name: &[u8]) -> Result<(), Error> {
    let mut specials = false;
    for &b in name {
        let class = class(b);
        if class & URI == 0 {
            return Err(Error::NotWellFormed);
        }
        specials |= class & URI_SPECIAL != 0;
    }
    if name.is_empty() || name.len() > MAX_NAME || !uri_reference(name, specials) {
        return Err(Error::NotWellFormed);
    }
    Ok(())
}

/// RFC 3986 §4.1, less IP literals. `specials`: whether it holds any of `%`, `#`, `@`.
fn uri_reference(uri: &[u8], specials: bool) -> bool {
    if specials {
        let mut rest = uri;
        while let Some((&b, behind)) = rest.split_first() {
            rest = behind;
            match b {
                b'%' if !matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()) => {
                    return false;
                }
                b'#' if rest.contains(&b'#') => return false,
                _ => {}
            }
        }
    }
    let uri = uri.split(|&b| b == b'#').next().unwrap_or_default();
    // What stands before a colon in the first segment is a scheme.
    let hierarchy = match uri.iter().position(|b| matches!(b, b':' | b'/' | b'?')) {
        Some(n) if uri.get(n) == Some(&b':') => {
            let scheme = uri.get(..n).unwrap_or_default();
            let letter = scheme.first().is_some_and(u8::is_ascii_alphabetic);
            if !letter || !scheme.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            {
                return false;
            }
            uri.get(n.saturating_add(1)..).unwrap_or_default()
        }
        _ => uri,
    };
    // The authority: perhaps somebody's name, a host, perhaps a port.
    let Some(authority) = hierarchy.strip_prefix(b"//") else { return true };
    let authority = authority.split(|b| matches!(b, b'/' | b'?')).next().unwrap_or_default();
    let mut parts = authority.rsplitn(2, |&b| b == b'@');
    let host = parts.next().unwrap_or_default();
    if parts.next().is_some_and(|user| user.contains(&b'@')) {
        return false;
    }
    let mut parts = host.splitn(2, |&b| b == b':');
    let host = parts.next().unwrap_or_default();
    let port = parts.next();
    !host.is_empty() && port.is_none_or(|p| !p.is_empty() && p.len() <= 5 && p.iter().all(u8::is_ascii_digit))
}

/// May stand in a name (ASCII, without the colon).
const NAME: u8 = 1;
/// May begin a name.
const BEGIN: u8 = 2;
/// Whitespace.
const SPACE: u8 = 4;
/// Means nothing in an attribute value. (That it is a character at all is already known.)
const VALUE: u8 = 8;
/// May stand in a namespace name.
const URI: u8 = 16;
/// And needs a second look there.
const URI_SPECIAL: u8 = 32;

static CLASS: [u8; 256] = classes();

#[inline(always)]
#[allow(clippy::indexing_slicing)] // 256 entries: every u8 is an index
fn class(b: u8) -> u8 {
    CLASS[b as usize]
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // runs at compile time only
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let mut class = 0;
        if b.is_ascii_alphabetic() || b == b'_' {
            class |= NAME | BEGIN;
        }
        if b.is_ascii_digit() || b == b'-' || b == b'.' {
            class |= NAME;
        }
        if matches!(b, b' ' | b'\t' | b'\n' | b'\r') {
            class |= SPACE;
        }
        if !matches!(b, b'<' | b'&' | b'\'' | b'"' | 0) {
            class |= VALUE;
        }
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'?') {
            class |= URI;
        }
        if matches!(b, b'!' | b'$' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=') {
            class |= URI;
        }
        if matches!(b, b'%' | b'#' | b'@') {
            class |= URI | URI_SPECIAL;
        }
        table[i] = class;
        i += 1;
    }
    table
}

/// The attributes of a start tag that was judged before: qualified name (namespace declarations
/// included) and raw value, in their order.
pub fn attributes(tag: &str) -> impl Iterator<Item = (&str, &str)> {
    let space = [' ', '\t', '\n', '\r'];
    let mut rest = tag.split_once(space).map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        let (name, behind) = rest.split_once('=')?;
        let behind = behind.trim_start_matches(space);
        let quote = behind.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (value, behind) = behind.get(1..)?.split_once(quote)?;
        rest = behind;
        Some((name.trim_matches(space), value))
    })
}

/// What a raw attribute value says: references decoded, TAB, LF and CR made spaces (XML 1.0
/// §3.3.3). For text that the scan has accepted; other references stay as they are.
pub fn unescape(raw: &str) -> Cow<'_, str> {
    let plain = |c: char| !matches!(c, '&' | '\t' | '\n' | '\r');
    if raw.chars().all(plain) {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '&' => match reference(rest.as_bytes()) {
                Some((c, len)) => {
                    out.push(c);
                    taken = len;
                }
                None => out.push('&'),
            },
            '\r' => {
                // CR LF is one line end
                out.push(' ');
                if rest.starts_with("\r\n") {
                    taken = 2;
                }
            }
            '\t' | '\n' => out.push(' '),
            c => out.push(c),
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    Cow::Owned(out)
}

/// Appends the element with the outer prefixes that it uses declared on its start tag, so that it
/// stands for itself on any stream. `text` and `scan` as [`Scan::element`] left them.
pub fn redeclare(text: &str, scan: &Scan, scope: &Scope, out: &mut Vec<u8>) {
    let (head, rest) = text.split_at_checked(scan.name.end as usize).unwrap_or((text, ""));
    out.extend_from_slice(head.as_bytes());
    for (i, (prefix, uri)) in scope.prefixes.iter().enumerate().take(MAX_OUTER) {
        if scan.outer >> i & 1 == 1 {
            // Neither a prefix nor a namespace name can hold anything that needs escaping.
            for part in [" xmlns:", prefix, "='", uri, "'"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
}
