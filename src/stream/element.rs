//! One judged first-level element, seen with the stream header that it came after.

use crate::stanza::{self, Node};
use crate::xml::{Ns, Scan, Scope, unescape};
use std::borrow::Cow;

/// A view; nothing is copied.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub text: &'a str,
    pub scan: &'a Scan,
    pub scope: &'a Scope,
}

impl<'a> Element<'a> {
    /// Namespace and name.
    pub fn name(&self) -> (&'a str, &'a str) {
        (self.resolve(self.scan.ns), self.scan.name.of(self.text))
    }

    fn resolve(&self, ns: Ns) -> &'a str {
        match ns {
            Ns::Inherited => &self.scope.default,
            Ns::Literal(uri) => uri.of(self.text),
            Ns::Outer(i) => self.scope.prefixes.get(usize::from(i)).map_or("", |(_, uri)| uri),
            // The judge accepts no element with the prefix `xml`.
            Ns::Xml => "",
        }
    }

    /// An attribute, decoded.
    pub fn attr(&self, name: &str) -> Option<Cow<'a, str>> {
        self.scan.attr(self.text, name).map(unescape)
    }

    /// Namespace and name of the first child element.
    pub fn payload(&self) -> Option<(&'a str, &'a str)> {
        let child = self.scan.children.first()?;
        Some((self.resolve(child.ns), child.name.of(self.text)))
    }

    /// The characters inside, decoded; `None` where there is an element among them.
    pub fn characters(&self) -> Option<Cow<'a, str>> {
        if !self.scan.children.is_empty() {
            return None;
        }
        if self.scan.empty {
            return Some(Cow::Borrowed(""));
        }
        let end = self.text.rfind("</")?;
        self.text.get(self.scan.tag.end as usize..end).map(unescape)
    }

    /// The element as a tree.
    pub fn tree<R>(&self, with: impl FnOnce(Node<'_, '_>) -> R) -> Option<R> {
        stanza::with_tree(self.text, self.scan, self.scope, with)
    }
}
