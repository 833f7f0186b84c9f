//! What strangers wrote, on a terminal: shown, never obeyed.
//!
//! XML keeps ESC out but lets through C1 controls (U+009B is CSI), DEL, bidirectional overrides
//! and line separators, so every string that came from outside passes here before it is shown.
//! Into a pipe or a file the bytes go as they are, as `mosquitto_sub` does it.

use super::exit::Failure;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether a terminal must not see this character as it is: controls (TAB too; callers let it
/// pass where it is harmless), bidirectional controls, line and paragraph separators, what is
/// invisible, and what is not assigned.
pub fn is_unsafe(c: char) -> bool {
    matches!(u32::from(c),
        0x00..=0x1f | 0x7f..=0x9f
        | 0x00ad                    // soft hyphen
        | 0x061c | 0x200e | 0x200f  // Arabic letter mark, LRM, RLM
        | 0x200b                    // zero width space (joiners stay: scripts and emoji need them)
        | 0x2028..=0x202e           // separators, embeddings, overrides
        | 0x2060..=0x206f           // word joiner, isolates, deprecated formats
        | 0xfeff | 0xfff0..=0xfffb  // byte order mark, interlinear annotation
        | 0xfdd0..=0xfdef           // noncharacters
        | 0x40000..=0xe00ff         // never assigned, and tags
        | 0xe01f0..=0xeffff)
        || u32::from(c) & 0xfffe == 0xfffe
        || c.general_category() == GeneralCategory::Unassigned
}

/// The string with everything unsafe spelled out; a line stays a line.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| is_unsafe(c) && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().saturating_add(16));
    for c in text.chars() {
        push(&mut out, c);
    }
    Cow::Owned(out)
}

/// As [`line`], but a line feed begins a new line that is indented, so that a body cannot pass
/// for a line of ours.
pub fn body(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| is_unsafe(c) && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().saturating_add(16));
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\n    "),
            c => push(&mut out, c),
        }
    }
    Cow::Owned(out)
}

fn push(out: &mut String, c: char) {
    match c {
        '\t' => out.push('\t'),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        c if is_unsafe(c) => {
            let n = u32::from(c);
            let _ = if n < 0x100 { write!(out, "\\x{n:02x}") } else { write!(out, "\\u{{{n:x}}}") };
        }
        c => out.push(c),
    }
}

/// Standard output. Every write is checked: a closed pipe is a normal end, a full disk is not.
#[derive(Debug)]
pub struct Out {
    /// Whether strings from outside are made safe.
    safe: bool,
}

impl Out {
    /// Standard output, made safe when it is a terminal, unless `raw`.
    pub fn new(raw: bool) -> Out {
        Out { safe: !raw && std::io::stdout().is_terminal() }
    }

    /// A field from outside, fit for one line here.
    pub fn field<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.safe { line(text) } else { Cow::Borrowed(text) }
    }

    /// A body from outside, which may have several lines.
    pub fn body<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.safe { body(text) } else { Cow::Borrowed(text) }
    }

    /// Writes a line, and sees it off.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        self.write(text, true)
    }

    /// Writes, with or without a line feed, and sees it off.
    pub fn write(&self, text: &str, newline: bool) -> Result<(), Failure> {
        let mut bytes = Vec::with_capacity(text.len().saturating_add(1));
        bytes.extend_from_slice(text.as_bytes());
        if newline {
            bytes.push(b'\n');
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&bytes).and_then(|()| stdout.flush()).map_err(|e| Failure::io("standard output", &e))
    }
}

/// One line on standard error; whether it gets there is not our business.
pub fn complain(text: &str) {
    let text = line(text);
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes in, what a field shows, what a body shows (`None`: the same).
    #[test]
    fn golden() {
        let table: &[(&str, &str, Option<&str>)] = &[
            ("", "", None),
            ("plain", "plain", None),
            ("tab\tstays", "tab\tstays", None),
            ("žluťoučký 你好 عربي", "žluťoučký 你好 عربي", None),
            ("👩\u{200d}👩\u{200d}👧 family", "👩\u{200d}👩\u{200d}👧 family", None),
            ("❤\u{fe0f}", "❤\u{fe0f}", None),
            ("می\u{200c}خواهم", "می\u{200c}خواهم", None),
            ("two\nlines", "two\\nlines", Some("two\n    lines")),
            ("fake\nbob@x: hi", "fake\\nbob@x: hi", Some("fake\n    bob@x: hi")),
            ("end\n", "end\\n", Some("end\n    ")),
            ("\r\n", "\\r\\n", Some("\\r\n    ")),
            ("over\rwrite", "over\\rwrite", None),
            ("\u{1b}[31mred", "\\x1b[31mred", None),
            ("\u{1b}]0;title\u{7}", "\\x1b]0;title\\x07", None),
            ("\u{1b}]8;;http://evil\u{1b}\\x", "\\x1b]8;;http://evil\\x1b\\x", None),
            ("\u{9b}31mred", "\\x9b31mred", None),
            ("\u{9d}0;title\u{9c}", "\\x9d0;title\\x9c", None),
            ("\u{90}dcs", "\\x90dcs", None),
            ("\u{85}next line", "\\x85next line", None),
            ("\u{80}\u{9f}", "\\x80\\x9f", None),
            ("\0", "\\x00", None),
            ("\u{8}\u{8}back", "\\x08\\x08back", None),
            ("bell\u{7}", "bell\\x07", None),
            ("\u{b}vt\u{c}ff", "\\x0bvt\\x0cff", None),
            ("del\u{7f}", "del\\x7f", None),
            ("\u{202e}gnp.exe", "\\u{202e}gnp.exe", None),
            ("\u{202a}a\u{202b}b\u{202c}c\u{202d}", "\\u{202a}a\\u{202b}b\\u{202c}c\\u{202d}", None),
            ("\u{2066}\u{2067}\u{2068}\u{2069}", "\\u{2066}\\u{2067}\\u{2068}\\u{2069}", None),
            ("\u{200e}\u{200f}\u{61c}", "\\u{200e}\\u{200f}\\u{61c}", None),
            ("line\u{2028}sep\u{2029}par", "line\\u{2028}sep\\u{2029}par", None),
            ("ad\u{200b}min", "ad\\u{200b}min", None),
            ("\u{feff}bom", "\\u{feff}bom", None),
            ("soft\u{ad}hyphen", "soft\\xadhyphen", None),
            ("\u{2060}joiner", "\\u{2060}joiner", None),
            ("\u{fff9}a\u{fffa}b\u{fffb}", "\\u{fff9}a\\u{fffa}b\\u{fffb}", None),
            ("\u{fffd}", "\u{fffd}", None),
            ("\u{fffe}\u{ffff}\u{1ffff}", "\\u{fffe}\\u{ffff}\\u{1ffff}", None),
            ("\u{fdd0}", "\\u{fdd0}", None),
            ("\u{e0001}\u{e0041}tag", "\\u{e0001}\\u{e0041}tag", None),
            ("\u{50000}", "\\u{50000}", None),
            ("\u{378}\u{2fe0}", "\\u{378}\\u{2fe0}", None),
            ("葛\u{e0100}", "葛\u{e0100}", None),
            ("$(id) `id` %s \\n", "$(id) `id` %s \\n", None),
            ("\n\n\u{1b}", "\\n\\n\\x1b", Some("\n    \n    \\x1b")),
        ];
        assert!(table.len() >= 40);
        for (text, as_line, as_body) in table {
            assert_eq!(line(text), *as_line, "line {text:?}");
            assert_eq!(body(text), as_body.unwrap_or(as_line), "body {text:?}");
        }
    }
}
