//! Reading what the scan has accepted.

use super::cursor::reference;
use super::namespaces::MAX_OUTER;
use super::scan::{Scan, Scope};
use std::borrow::Cow;

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
