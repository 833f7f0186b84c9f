//! The scan's alphabet: it knows what a name, a value, a run of text, a reference is, and nothing
//! of how they nest.

use super::scan::Span;
use super::{Cap, Error, names};
use memchr::{memchr_iter, memchr3, memmem};

/// A name longer than this is refused: rxml stops at tokens of 8,192 bytes, libxml2 at names of 50,000.
pub(super) const MAX_NAME: usize = 1024;
/// An attribute value longer than this is refused: rxml, as commonly set up, stops at 8,192 bytes.
pub(super) const MAX_VALUE: usize = 8000;
/// Digits in a character reference: enough for every character; rxml stops at 8.
const MAX_DIGITS: usize = 7;

/// Where the scan stands. `at` is never above `bytes.len()`, so adding small numbers to it cannot
/// overflow; wrapping arithmetic says so without a branch.
pub(super) struct Cursor<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) text: &'b str,
    pub(super) at: usize,
}

impl<'b> Cursor<'b> {
    /// A cursor over bytes that are UTF-8, that are characters of XML, and that a `Span` can count.
    pub(super) fn new(bytes: &'b [u8]) -> Result<Cursor<'b>, Error> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Error::TooBig(Cap::Bytes));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Error::NotWellFormed)?;
        // Char (XML 1.0 §2.2) leaves out controls and U+FFFE, U+FFFF (and surrogates, as does UTF-8).
        // They are illegal everywhere, so one look at all bytes keeps them out of everybody's way;
        // the lowest and the highest byte tell whether a closer one is needed.
        let (low, high) = bytes.iter().fold((u8::MAX, 0), |(low, high), &b| (b.min(low), b.max(high)));
        if low < 0x20 && bytes.iter().any(|&b| b < 0x20 && class(b) & SPACE == 0) {
            return Err(Error::NotWellFormed);
        }
        if high >= 0xEF && memchr_iter(0xEF, bytes).any(|n| is_noncharacter(bytes.get(n..))) {
            return Err(Error::NotWellFormed);
        }
        Ok(Cursor { bytes, text, at: 0 })
    }

    /// The next byte, or 0, which no XML text holds.
    #[inline(always)]
    pub(super) fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// The byte after the next, or 0.
    #[inline(always)]
    pub(super) fn second(&self) -> u8 {
        self.bytes.get(self.at.wrapping_add(1)).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, n: usize) {
        self.at = self.at.wrapping_add(n);
    }

    pub(super) fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn expect(&mut self, wanted: &[u8]) -> Result<(), Error> {
        if !self.rest().starts_with(wanted) {
            return Err(Error::NotWellFormed);
        }
        self.skip(wanted.len());
        Ok(())
    }

    /// Skips the bytes that are of this class.
    #[inline(always)]
    fn run(&mut self, of: u8) {
        let rest = self.rest();
        self.skip(rest.iter().position(|&b| class(b) & of == 0).unwrap_or(rest.len()));
    }

    fn since(&self, start: usize) -> Span {
        Span { start: position(start), end: position(self.at) }
    }

    /// Skips whitespace; whether there was some.
    #[inline(always)]
    pub(super) fn space(&mut self) -> bool {
        let start = self.at;
        self.run(SPACE);
        self.at != start
    }

    /// `prefix:name` or `name`.
    #[inline(always)]
    pub(super) fn qname(&mut self) -> Result<(Span, Span), Error> {
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
            self.run(NAME);
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
    pub(super) fn value(&mut self) -> Result<Span, Error> {
        let quote = self.peek();
        if quote != b'\'' && quote != b'"' {
            return Err(Error::NotWellFormed);
        }
        self.skip(1);
        let start = self.at;
        loop {
            self.run(VALUE);
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
    pub(super) fn chars(&mut self) -> Result<(), Error> {
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
    pub(super) fn cdata(&mut self) -> Result<(), Error> {
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
    pub(super) fn declaration(&mut self) -> Result<(), Error> {
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

/// Whether these bytes begin with U+FFFE or U+FFFF.
fn is_noncharacter(bytes: Option<&[u8]>) -> bool {
    matches!(bytes, Some([0xEF, 0xBF, 0xBE | 0xBF, ..]))
}

/// A position in bytes that `Cursor::new` has found countable.
#[inline(always)]
pub(super) fn position(at: usize) -> u32 {
    at as u32
}

/// Reads the reference at the front of `bytes`: its character, and how many bytes it takes.
pub(super) fn reference(bytes: &[u8]) -> Option<(char, usize)> {
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

/// May stand in a name (ASCII, without the colon).
pub(super) const NAME: u8 = 1;
/// May begin a name.
pub(super) const BEGIN: u8 = 2;
/// Whitespace.
pub(super) const SPACE: u8 = 4;
/// Means nothing in an attribute value. (That it is a character at all is already known.)
pub(super) const VALUE: u8 = 8;
/// May stand in a namespace name.
pub(super) const URI: u8 = 16;
/// And needs a second look there.
pub(super) const URI_SPECIAL: u8 = 32;

static CLASS: [u8; 256] = classes();

#[inline(always)]
#[allow(clippy::indexing_slicing)] // 256 entries: every u8 is an index
pub(super) fn class(b: u8) -> u8 {
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
        // A raw CR is legal, but rxml refuses it or forgets it.
        if !matches!(b, b'<' | b'&' | b'\'' | b'"' | b'\r' | 0) {
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
