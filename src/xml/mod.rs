//! XML as RFC 6120 §11 wants it: cutting the byte stream into first-level elements, judging
//! them in full before anybody else sees them, and writing.

mod cursor;
pub mod framer;
mod names;
mod namespaces;
pub mod ns;
pub mod read;
pub mod scan;
pub mod writer;

pub use framer::{Flow, Frame, Framer, Kind, Reader};
pub use read::{attributes, redeclare, unescape};
pub use scan::{Attr, Caps, Child, Ns, Scan, Scope, Span};
pub use writer::Writer;

/// Why bytes from the wire were refused. Each is a stream error of RFC 6120 §4.9.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// `<not-well-formed/>` (§4.9.3.13): not XML, or not Namespaces in XML.
    NotWellFormed,
    /// `<restricted-xml/>` (§4.9.3.18): comment, processing instruction, DTD, entity (§11.1).
    RestrictedXml,
    /// `<unsupported-encoding/>` (§4.9.3.22): a declared encoding other than UTF-8 (§11.6).
    UnsupportedEncoding,
    /// `<bad-namespace-prefix/>` (§4.9.3.2): a prefix on the stanza element itself.
    BadNamespacePrefix,
    /// `<policy-violation/>` (§4.9.3.14) for being over a cap; the word says which.
    TooBig(Cap),
}

/// The caps that a first-level element can exceed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cap {
    /// Bytes of one element or stream header.
    Bytes,
    /// Nesting.
    Depth,
    /// Attributes on one tag.
    Attributes,
    /// Namespace declarations in the whole element, or prefixes in scope at one place in it.
    Declarations,
    /// Elements in the whole element.
    Elements,
}

#[cfg(test)]
mod tests;
