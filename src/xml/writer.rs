//! The only place that writes `<`.
//!
//! Every value passes through one of two escapes on its way out, so nothing that came from outside
//! can become markup of ours (threat A8).

use super::cursor::is_char;

/// So many open elements need no memory of their own; we never write deeper.
const DEPTH: usize = 8;

/// Appends XML to a buffer. What is still open when it is dropped gets closed.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// The first [`DEPTH`] open elements, and those beyond.
    open: [&'static str; DEPTH],
    deeper: Vec<&'static str>,
    depth: usize,
    /// Whether the innermost start tag still lacks its `>`.
    in_tag: bool,
}

impl<'o> Writer<'o> {
    /// A writer that appends to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Writer { out, open: [""; DEPTH], deeper: Vec::new(), depth: 0, in_tag: false }
    }

    /// `<name`
    pub fn start(&mut self, name: &'static str) -> &mut Self {
        self.close_tag();
        self.put("<");
        self.put(name);
        match self.open.get_mut(self.depth) {
            Some(slot) => *slot = name,
            None => self.deeper.push(name),
        }
        self.depth = self.depth.saturating_add(1);
        self.in_tag = true;
        self
    }

    /// `xmlns='uri'`
    pub fn ns(&mut self, uri: &str) -> &mut Self {
        self.attr("xmlns", uri)
    }

    /// `name='value'`, in the start tag just begun. A character that XML does not have becomes U+FFFD.
    pub fn attr(&mut self, name: &str, value: &str) -> &mut Self {
        debug_assert!(self.in_tag, "attribute {name} outside of a start tag");
        if self.in_tag {
            self.put(" ");
            self.put(name);
            self.put("='");
            self.escape(value, IN_VALUE);
            self.put("'");
        }
        self
    }

    /// The attribute, if there is a value for it.
    pub fn opt(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// An attribute as it came, from a tag that [`super::Scan`] has judged: `value` is raw and goes
    /// out with the quotes that it can't contain.
    pub fn judged_attr(&mut self, prefix: &str, name: &str, value: &str) -> &mut Self {
        self.put(" ");
        if !prefix.is_empty() {
            self.put(prefix);
            self.put(":");
        }
        self.put(name);
        let (open, close) = if value.contains('\'') { ("=\"", "\"") } else { ("='", "'") };
        self.put(open);
        self.put(value);
        self.put(close);
        self
    }

    /// The same, name and quotes included.
    pub fn judged_whole_attr(&mut self, attr: &str) -> &mut Self {
        self.put(" ");
        self.put(attr);
        self
    }

    /// All that follows the attributes of the start tag just begun, up to and with its end tag, from
    /// an element that [`super::Scan`] has judged.
    pub fn judged_rest(&mut self, rest: &[u8]) -> &mut Self {
        self.in_tag = false;
        self.pop();
        self.out.extend_from_slice(rest);
        self
    }

    /// Lets somebody else write children into the innermost element.
    pub fn inside(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        let before = self.out.len();
        if self.in_tag {
            self.put(">");
        }
        let mark = self.out.len();
        write(&mut Writer::new(self.out));
        if self.out.len() == mark {
            self.out.truncate(before); // nothing was written: the tag may still become empty
        } else {
            self.in_tag = false;
        }
        self
    }

    /// Text inside the innermost element. A character that XML does not have becomes U+FFFD.
    pub fn text(&mut self, text: &str) -> &mut Self {
        if !text.is_empty() {
            self.close_tag();
            self.escape(text, IN_TEXT);
        }
        self
    }

    /// Bytes that [`super::Scan`] has judged: whole elements, or the content of one.
    pub fn raw(&mut self, judged: &[u8]) -> &mut Self {
        if !judged.is_empty() {
            self.close_tag();
            self.out.extend_from_slice(judged);
        }
        self
    }

    /// Closes the innermost element: `/>` when nothing was written inside.
    pub fn end(&mut self) -> &mut Self {
        let Some(name) = self.pop() else { return self };
        if self.in_tag {
            self.in_tag = false;
            self.put("/>");
        } else {
            self.put("</");
            self.put(name);
            self.put(">");
        }
        self
    }

    /// `<name xmlns='ns'/>`
    pub fn leaf(&mut self, name: &'static str, ns: &str) -> &mut Self {
        self.start(name).ns(ns).end()
    }

    /// `<name>text</name>`
    pub fn text_leaf(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.start(name).text(text).end()
    }

    /// Ends the start tag and forgets the element, which stays open: for stream headers.
    pub fn open_tag(&mut self) {
        self.close_tag();
        self.pop();
    }

    /// `<?xml version='1.0'?>`
    pub fn xml_declaration(&mut self) {
        self.close_tag();
        self.put("<?xml version='1.0'?>");
    }

    fn pop(&mut self) -> Option<&'static str> {
        self.depth = self.depth.checked_sub(1)?;
        match self.open.get(self.depth) {
            Some(name) => Some(name),
            None => self.deeper.pop(),
        }
    }

    fn close_tag(&mut self) {
        if std::mem::take(&mut self.in_tag) {
            self.put(">");
        }
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Writes `text`: runs of plain bytes as they are, what is special to `place` replaced.
    fn escape(&mut self, text: &str, place: u8) {
        let mut rest = text;
        while let Some((plain, special)) =
            rest.bytes().position(|b| special(b) & place != 0).and_then(|n| rest.split_at_checked(n))
        {
            let Some(c) = special.chars().next() else { break };
            let (one, behind) = special.split_at_checked(c.len_utf8()).unwrap_or((special, ""));
            self.put(plain);
            self.put(match c {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\'' => "&apos;",
                '\t' => "&#9;",
                '\n' => "&#10;",
                '\r' => "&#13;",
                c if !is_char(c) => "\u{FFFD}",
                _ => one,
            });
            rest = behind;
        }
        self.put(rest);
    }
}

/// Can't stand as it is in text.
const IN_TEXT: u8 = 1;
/// Can't stand as it is in an attribute value.
const IN_VALUE: u8 = 2;

static SPECIAL: [u8; 256] = specials();

#[inline(always)]
#[allow(clippy::indexing_slicing)] // 256 entries: every u8 is an index
fn special(b: u8) -> u8 {
    SPECIAL[b as usize]
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // runs at compile time only
const fn specials() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = match i as u8 {
            b'\t' | b'\n' | b'"' | b'\'' => IN_VALUE,
            // U+FFFE and U+FFFF, which XML lacks as it lacks controls, begin with 0xEF.
            0..0x20 | b'&' | b'<' | b'>' | 0xEF => IN_TEXT | IN_VALUE,
            _ => 0,
        };
        i += 1;
    }
    table
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        while self.depth > 0 {
            self.end();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn elements() {
        let iq = written(|w| {
            w.start("iq").attr("type", "result").opt("id", Some("a")).opt("to", None);
            w.start("query").ns("urn:q").leaf("x", "urn:x").text_leaf("y", "1 < 2").text_leaf("z", "").end();
            w.raw(b"<judged/>").raw(b"").end();
        });
        let expected = "<iq type='result' id='a'><query xmlns='urn:q'><x xmlns='urn:x'/><y>1 &lt; 2</y><z/></query>\
            <judged/></iq>";
        assert_eq!(iq, expected);
    }

    #[test]
    fn headers_stay_open() {
        let header = written(|w| {
            w.xml_declaration();
            w.start("stream:stream").attr("xmlns:stream", "s").open_tag();
            w.start("stream:features");
        });
        assert_eq!(header, "<?xml version='1.0'?><stream:stream xmlns:stream='s'><stream:features/>");
    }

    #[test]
    fn what_is_open_gets_closed() {
        assert_eq!(written(|w| _ = w.start("a").start("b").text("c")), "<a><b>c</b></a>");
        assert_eq!(written(|w| _ = w.end().end()), "");
        // deeper than we ever write, still well-formed
        let deep = written(|w| (0..40).for_each(|i| _ = w.start(if i % 2 == 0 { "a" } else { "b" })));
        assert!(deep.contains("<a><b/></a></b>"), "{deep}");
        roxmltree::Document::parse(&deep).unwrap();
    }

    #[test]
    fn an_id_cannot_become_a_stanza() {
        // threat A8
        let id = "x'/><message to='c'/>\"&\t\n\r<![CDATA[]]>";
        let iq = written(|w| _ = w.start("iq").attr("id", id).text(id));
        let document = roxmltree::Document::parse(&iq).unwrap();
        let root = document.root_element();
        assert_eq!(root.attribute("id"), Some(id));
        assert_eq!(root.text(), Some(id));
        assert_eq!(root.children().count(), 1);
        assert_eq!(written(|w| _ = w.start("a").attr("b", "\t\n\r")), "<a b='&#9;&#10;&#13;'/>");
    }

    #[test]
    fn what_xml_lacks_is_replaced() {
        let text = written(|w| _ = w.start("a").attr("b", "\0\u{1B}c\u{FFFE}").text("\u{FFFF}\u{8}é"));
        assert_eq!(text, "<a b='\u{FFFD}\u{FFFD}c\u{FFFD}'>\u{FFFD}\u{FFFD}é</a>");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_reads_back(value in any::<String>(), text in any::<String>()) {
            let element = written(|w| _ = w.start("a").attr("b", &value).text(&text));
            let known = |s: &str| s.replace(|c| !is_char(c), "\u{FFFD}");
            let document = roxmltree::Document::parse(&element).unwrap();
            let root = document.root_element();
            prop_assert_eq!(root.attribute("b").unwrap(), known(&value));
            prop_assert_eq!(root.text().unwrap_or(""), known(&text));
            // and the judge has nothing against it
            let mut scan = crate::xml::Scan::new();
            let judged = scan.element(element.as_bytes(), &Default::default(), &Default::default()).unwrap();
            prop_assert_eq!(crate::xml::unescape(scan.attr(judged, "b").unwrap()), known(&value));
        }
    }
}
