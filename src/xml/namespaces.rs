//! Namespaces in XML 1.0, as the scan keeps them: which prefix stands for what, and which names
//! all readers can bear.

use super::cursor::{MAX_NAME, URI, URI_SPECIAL, class};
use super::scan::{Attr, Caps, Ns, Scope, Span};
use super::{Cap, Error};

/// [`super::Scan::outer`] has a bit for so many prefixes.
pub(super) const MAX_OUTER: usize = 64;

const XML: &[u8] = b"http://www.w3.org/XML/1998/namespace";
const XMLNS: &[u8] = b"http://www.w3.org/2000/xmlns/";

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
pub(super) struct Namespaces {
    bindings: Vec<Binding>,
    pub(super) default: Ns,
    /// Every namespace name bound to a prefix so far, once each. Numbering them makes comparing
    /// two attributes' namespaces a matter of comparing numbers.
    known: Vec<Name>,
    /// Index in `known` for each outer prefix used so far.
    outer_ids: Vec<Option<u16>>,
    pub(super) outer: u64,
    declarations: u32,
    /// The current tag's attributes, to be sorted: number of the namespace (0 without prefix), local name.
    order: Vec<(u16, Span)>,
}

impl Namespaces {
    /// Forgets the last element.
    pub(super) fn clear(&mut self) {
        self.bindings.clear();
        self.known.clear();
        self.outer_ids.clear();
        self.default = Ns::Inherited;
        self.outer = 0;
        self.declarations = 0;
    }

    /// How many prefixes are bound: what [`Namespaces::leave`] goes back to.
    pub(super) fn bindings(&self) -> usize {
        self.bindings.len()
    }

    /// Back to what was in scope before an element.
    pub(super) fn leave(&mut self, bindings: usize, default: Ns) {
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

    pub(super) fn declare_default(&mut self, bytes: &[u8], uri: Span, caps: &Caps) -> Result<(), Error> {
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
    pub(super) fn declare(
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

    pub(super) fn resolve(
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
    pub(super) fn unique(
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

/// FNV-1a: prefixes are compared by number first, for there may be 64 of one length in scope.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
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
    // Nearly every namespace that we see begins like one of these, behind which all is fine.
    if uri.starts_with(b"urn:xmpp:") || uri.starts_with(b"http://jabber.org/") || uri.starts_with(b"jabber:i")
    {
        return true;
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
