//! Cuts the byte stream into what RFC 6120 §4 makes it of: a stream header, first-level
//! elements, whitespace between them, a footer.
//!
//! The framer finds ends and nothing more: it keeps its state across reads, so that each byte is
//! looked at once however thinly the bytes come. What an element *says* is for [`super::Scan`] to
//! judge; the framer may cut nonsense, but never two elements where the scan would see one.

use super::{Cap, Error};
use memchr::memchr;

/// What stands at the front of the buffer, with the number of bytes it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// The XML declaration, if there is one, and the `<stream:stream …>` start tag.
    Header(usize),
    /// One whole first-level element.
    Element(usize),
    /// `</stream:stream>`.
    Footer(usize),
    /// Whitespace between first-level elements (RFC 6120 §4.6.1).
    Keepalive(usize),
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// See [`Frame::Header`].
    Header,
    /// See [`Frame::Element`].
    Element,
    /// See [`Frame::Footer`].
    Footer,
    /// See [`Frame::Keepalive`].
    Keepalive,
}

/// What the reader of a frame wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// The next frame.
    Go,
    /// Nothing for now: keep what follows.
    Stop,
}

impl Frame {
    /// The frame's kind and its length.
    pub fn split(self) -> (Kind, usize) {
        match self {
            Frame::Header(n) => (Kind::Header, n),
            Frame::Element(n) => (Kind::Element, n),
            Frame::Footer(n) => (Kind::Footer, n),
            Frame::Keepalive(n) => (Kind::Keepalive, n),
        }
    }
}

/// Where in the grammar the framer stands: what it knows of the byte that comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Before the header: byte order mark, whitespace.
    Prolog,
    /// Behind the `<` that is to begin the header or the XML declaration.
    PrologMarkup,
    /// In the XML declaration.
    Declaration,
    /// In the header's start tag.
    HeaderTag,
    /// In an attribute value of the header; the quote that ends it.
    HeaderQuote(u8),
    /// Between first-level elements.
    Between,
    /// In the footer.
    Footer,
    /// Behind the footer.
    Closed,
    /// In an element's text.
    Text,
    /// Behind a `<`.
    Markup,
    /// In a start tag.
    Tag,
    /// In an attribute value; the quote that ends it.
    Quote(u8),
    /// In an end tag.
    EndTag,
    /// In `<![CDATA[`, with so many of its bytes seen.
    CdataOpening(u8),
    /// In a CDATA section.
    Cdata,
}

/// RFC 6120 §4.8.5 fixes the prefix by convention; everybody uses it, and it spares us keeping a name.
const FOOTER: &[u8] = b"</stream:stream";
const CDATA: &[u8] = b"<![CDATA[";
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Finds where frames end. Holds no bytes.
#[derive(Clone, Debug)]
pub struct Framer {
    at: At,
    depth: u16,
    max_depth: u16,
    looked: usize,
    max_bytes: usize,
}

impl Framer {
    /// A framer that expects a header first, lets no frame grow over `max_bytes` and no element
    /// nest deeper than `max_depth` (the first-level element itself is depth 1).
    pub fn new(max_bytes: usize, max_depth: u16) -> Framer {
        Framer { at: At::Prolog, depth: 0, max_depth, looked: 0, max_bytes }
    }

    /// Changes the cap on bytes; it holds for the pending frame, too.
    pub fn set_max_bytes(&mut self, n: usize) {
        self.max_bytes = n;
    }

    /// How many bytes of a pending, partial frame were looked at; 0 at a frame boundary.
    pub fn looked(&self) -> usize {
        self.looked
    }

    /// Stream restart: the next thing must be a header.
    pub fn restart(&mut self) {
        self.at = At::Prolog;
        self.depth = 0;
        self.looked = 0;
    }

    /// The next frame at the front of `buf`, which begins with the first byte not yet taken. After
    /// `Some` the caller drops that many bytes; after `None` it comes again with the same bytes
    /// and more behind them.
    pub fn next(&mut self, buf: &[u8]) -> Result<Option<Frame>, Error> {
        // Before a header as well: go-xmpp ends each element with a newline, and the one behind
        // `<auth/>` comes when the next stream has begun.
        if matches!(self.at, At::Prolog | At::Between | At::Closed) && self.looked == 0 {
            let spaces = buf.iter().take_while(|&&b| is_space(b)).count();
            if spaces > 0 {
                return Ok(Some(Frame::Keepalive(spaces)));
            }
        }
        // A frame that is not whole within its cap never will be, so nobody looks behind it.
        let window = buf.get(..self.max_bytes).unwrap_or(buf);
        match self.run(window)? {
            Some(frame) => {
                self.looked = 0;
                Ok(Some(frame))
            }
            None if buf.len() > window.len() => Err(Error::TooBig(Cap::Bytes)),
            None => {
                self.looked = window.len();
                Ok(None)
            }
        }
    }

    #[allow(clippy::arithmetic_side_effects)] // positions are at most buf.len(), which is at most isize::MAX; depth is checked
    fn run(&mut self, buf: &[u8]) -> Result<Option<Frame>, Error> {
        let mut i = self.looked;
        let mut at = self.at;
        // Invariant: everything before `i` has been looked at, `at` is what that taught.
        while let Some(&b) = buf.get(i) {
            match at {
                At::Text => match find(b'<', buf, i) {
                    Some(n) => {
                        i = n + 1;
                        at = At::Markup;
                    }
                    None => break,
                },
                At::Markup => match b {
                    b'/' => {
                        i += 1;
                        at = At::EndTag;
                    }
                    b'!' => at = At::CdataOpening(1),
                    b'?' => return Err(Error::RestrictedXml),
                    _ => {
                        if self.depth >= self.max_depth {
                            return Err(Error::TooBig(Cap::Depth));
                        }
                        self.depth += 1;
                        at = At::Tag;
                    }
                },
                At::Tag => match find3(buf, i) {
                    Some((n, b'>')) => {
                        // The byte before is this tag's own: a tag has a name before its `>`, or
                        // is refused by the scan.
                        let empty = buf.get(n - 1) == Some(&b'/');
                        i = n + 1;
                        if empty {
                            self.depth -= 1;
                        }
                        if self.depth == 0 {
                            self.at = At::Between;
                            return Ok(Some(Frame::Element(i)));
                        }
                        at = At::Text;
                    }
                    Some((n, quote)) => {
                        i = n + 1;
                        at = At::Quote(quote);
                    }
                    None => break,
                },
                At::Quote(quote) | At::HeaderQuote(quote) => match find(quote, buf, i) {
                    Some(n) => {
                        i = n + 1;
                        at = if matches!(at, At::Quote(_)) { At::Tag } else { At::HeaderTag };
                    }
                    None => break,
                },
                At::EndTag => match find(b'>', buf, i) {
                    Some(n) => {
                        i = n + 1;
                        // An end tag is only met inside an element, so depth is 1 or more.
                        self.depth -= 1;
                        if self.depth == 0 {
                            self.at = At::Between;
                            return Ok(Some(Frame::Element(i)));
                        }
                        at = At::Text;
                    }
                    None => break,
                },
                At::CdataOpening(seen) => {
                    if CDATA.get(usize::from(seen)) != Some(&b) {
                        return Err(Error::RestrictedXml); // comment, DOCTYPE, or nothing known
                    }
                    i += 1;
                    at = At::CdataOpening(seen + 1);
                    if usize::from(seen) + 1 == CDATA.len() {
                        at = At::Cdata;
                    }
                }
                At::Cdata => match find(b'>', buf, i) {
                    Some(n) => {
                        i = n + 1;
                        // `<![CDATA[` ends in `[`, so two `]` before are the section's own.
                        if buf.get(..n).is_some_and(|before| before.ends_with(b"]]")) {
                            at = At::Text;
                        }
                    }
                    None => break,
                },
                At::Between => match b {
                    // Whitespace was a frame of its own, so this is an element's first byte
                    b'<' if i == 0 => i = 1,
                    b'/' if i == 1 => at = At::Footer,
                    b'!' | b'?' if i == 1 => return Err(Error::RestrictedXml),
                    _ if i == 1 => {
                        self.depth = 0;
                        at = At::Markup;
                    }
                    _ => return Err(Error::NotWellFormed),
                },
                At::Footer => {
                    let fits = match FOOTER.get(i) {
                        Some(&wanted) => b == wanted,
                        None => b == b'>' || is_space(b),
                    };
                    if !fits {
                        return Err(Error::NotWellFormed);
                    }
                    i += 1;
                    if b == b'>' {
                        self.at = At::Closed;
                        return Ok(Some(Frame::Footer(i)));
                    }
                }
                At::Closed => return Err(Error::NotWellFormed),
                At::Prolog => {
                    // A byte order mark is whole before anything else may come.
                    let in_mark = i < BOM.len() && buf.first() == BOM.first();
                    let fits = if in_mark { BOM.get(i) == Some(&b) } else { is_space(b) || b == b'<' };
                    if !fits {
                        return Err(Error::NotWellFormed);
                    }
                    i += 1;
                    if b == b'<' {
                        at = At::PrologMarkup;
                    }
                }
                At::PrologMarkup => match b {
                    b'?' if i == 1 || (i == 4 && buf.starts_with(BOM)) => {
                        i += 1;
                        at = At::Declaration;
                    }
                    b'?' | b'!' => return Err(Error::RestrictedXml),
                    b'/' => return Err(Error::NotWellFormed),
                    _ => at = At::HeaderTag,
                },
                At::Declaration => {
                    // `<?xml` and a space, or it is another instruction
                    let start = if buf.starts_with(BOM) { 3 } else { 0 };
                    let fits = match b"<?xml".get(i - start) {
                        Some(&wanted) => b == wanted,
                        None => i - start > 5 || is_space(b),
                    };
                    if !fits {
                        return Err(Error::RestrictedXml);
                    }
                    i += 1;
                    if b == b'>' {
                        at = At::Prolog;
                    }
                }
                At::HeaderTag => match find3(buf, i) {
                    Some((n, b'>')) => {
                        self.at = At::Between;
                        return Ok(Some(Frame::Header(n + 1)));
                    }
                    Some((n, quote)) => {
                        i = n + 1;
                        at = At::HeaderQuote(quote);
                    }
                    None => break,
                },
            }
        }
        self.at = at;
        Ok(None)
    }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

/// The place of `needle` at or behind `from`.
fn find(needle: u8, buf: &[u8], from: usize) -> Option<usize> {
    memchr(needle, buf.get(from..)?)?.checked_add(from)
}

/// The place of the next quote or `>` at or behind `from`, and which of them it is.
fn find3(buf: &[u8], from: usize) -> Option<(usize, u8)> {
    // Names are short: a plain loop is there before memchr has begun.
    let behind = buf.get(from..)?.iter();
    let n = behind.copied().position(|b| matches!(b, b'>' | b'\'' | b'"'))?.checked_add(from)?;
    Some((n, *buf.get(n)?))
}

/// A framer, and the bytes left over between reads. Holds no memory while there are none.
#[derive(Debug)]
pub struct Reader {
    framer: Framer,
    left: Vec<u8>,
}

/// How much of a read is put behind a left-over at a time: the rest of most stanzas, and little
/// enough that what follows the stanza is hardly ever copied.
const CHUNK: usize = 1024;

impl Reader {
    /// See [`Framer::new`].
    pub fn new(max_bytes: usize, max_depth: u16) -> Reader {
        Reader { framer: Framer::new(max_bytes, max_depth), left: Vec::new() }
    }

    /// See [`Framer::set_max_bytes`].
    pub fn set_max_bytes(&mut self, n: usize) {
        self.framer.set_max_bytes(n);
    }

    /// See [`Framer::restart`]. Keeps bytes that wait; [`Reader::is_empty`] tells of them.
    pub fn restart(&mut self) {
        self.framer.restart();
    }

    /// Whether nothing but whitespace waits.
    pub fn is_blank(&self) -> bool {
        self.left.iter().all(|b| is_space(*b))
    }

    /// Whether no byte waits, be it of a partial frame or behind a [`Flow::Stop`].
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Drops all bytes that wait.
    pub fn clear(&mut self) {
        self.left = Vec::new();
        self.framer.looked = 0;
    }

    /// Hands each whole frame in `bytes` to `each`, straight from `bytes` where it can, and keeps
    /// the rest for the next call. After [`Flow::Stop`] all that follows is kept; `feed(&[])`
    /// goes on with it. After an error the stream is over and what was kept is dropped.
    pub fn feed<E: From<Error>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Kind, &[u8]) -> Result<Flow, E>,
    ) -> Result<(), E> {
        let mut left = std::mem::take(&mut self.left);
        let mut rest = bytes;
        if !left.is_empty() {
            let mut taken = 0usize;
            // how much of `left` comes from `bytes`
            let mut borrowed = 0usize;
            loop {
                let pending = left.get(taken..).unwrap_or_default();
                if pending.len() <= borrowed && self.framer.looked == 0 {
                    // All that was left over is taken. The framer stands at a boundary, and what
                    // is pending can be read where it came from.
                    let done = borrowed.saturating_sub(pending.len());
                    rest = bytes.get(done..).unwrap_or_default();
                    break;
                }
                if let Some(frame) = self.framer.next(pending)? {
                    let (kind, len) = frame.split();
                    let stop = each(kind, pending.get(..len).unwrap_or_default())? == Flow::Stop;
                    taken = taken.saturating_add(len);
                    if stop {
                        self.left = left.get(taken..).unwrap_or_default().to_vec();
                        self.left.extend_from_slice(bytes.get(borrowed..).unwrap_or_default());
                        return Ok(());
                    }
                } else {
                    let more = bytes.get(borrowed..).unwrap_or_default();
                    if more.is_empty() {
                        self.left =
                            if taken == 0 { left } else { left.get(taken..).unwrap_or_default().to_vec() };
                        return Ok(());
                    }
                    let more = more.get(..CHUNK).unwrap_or(more);
                    left.extend_from_slice(more);
                    borrowed = borrowed.saturating_add(more.len());
                }
            }
        }
        while !rest.is_empty() {
            let Some(frame) = self.framer.next(rest)? else { break };
            let (kind, len) = frame.split();
            let flow = each(kind, rest.get(..len).unwrap_or_default())?;
            rest = rest.get(len..).unwrap_or_default();
            if flow == Flow::Stop {
                break;
            }
        }
        if !rest.is_empty() {
            self.left = rest.to_vec();
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use Kind::*;

    const STREAM: &str = "\u{FEFF}<?xml version='1.0'?>\r\n<stream:stream to='a>b' xmlns=\"jabber:client\" \
        xmlns:stream='http://etherx.jabber.org/streams'><iq id='1'/> \n <message to='</message>'><body>1 > 0 &lt;\
        <![CDATA[</body> ]] ]>]]]>]]]]></body><a><b c=\"/>\"/></a></message><presence/>\t</stream:stream >\n";

    /// What a stream is made of when it comes in these pieces; neighbouring keep-alives joined.
    fn frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<(Kind, Vec<u8>)>, Error> {
        let mut reader = Reader::new(10_000, 8);
        let mut frames: Vec<(Kind, Vec<u8>)> = Vec::new();
        for piece in pieces {
            reader.feed(piece, |kind, bytes| {
                match frames.last_mut() {
                    Some((Keepalive, before)) if kind == Keepalive => before.extend_from_slice(bytes),
                    _ => frames.push((kind, bytes.to_vec())),
                }
                Ok::<_, Error>(Flow::Go)
            })?;
        }
        assert_eq!(reader.is_empty(), reader.framer.looked() == 0);
        Ok(frames)
    }

    fn header(framer: &mut Framer) {
        assert_eq!(framer.next(b"<stream:stream>"), Ok(Some(Frame::Header(15))));
    }

    fn first(bytes: &[u8]) -> Result<Option<Frame>, Error> {
        let mut framer = Framer::new(1000, 8);
        header(&mut framer);
        framer.next(bytes)
    }

    #[test]
    fn a_stream_is_cut() {
        let whole = frames([STREAM.as_bytes()]).unwrap();
        let kinds: Vec<_> = whole.iter().map(|(kind, _)| *kind).collect();
        let expected = [Header, Element, Keepalive, Element, Element, Keepalive, Footer, Keepalive];
        assert_eq!(kinds, expected);
        assert_eq!(whole[1].1, b"<iq id='1'/>");
        assert!(whole[3].1.ends_with(b"</message>"));
        assert_eq!(whole[6].1, b"</stream:stream >");
        assert_eq!(whole.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), STREAM.len());
    }

    #[test]
    fn every_split_cuts_the_same() {
        let bytes = STREAM.as_bytes();
        let whole = frames([bytes]).unwrap();
        for n in 0..=bytes.len() {
            let (one, other) = bytes.split_at(n);
            assert_eq!(frames([one, other]).unwrap(), whole, "split at {n}");
        }
        for n in 1..8 {
            assert_eq!(frames(bytes.chunks(n)).unwrap(), whole, "in pieces of {n}");
        }
        // a left-over longer than one chunk
        let long = format!("<stream:stream><a>{}</a><b/><c/>", "x".repeat(3 * CHUNK));
        let whole = frames([long.as_bytes()]).unwrap();
        for n in [20, CHUNK, CHUNK + 20, long.len() - 6, long.len() - 1] {
            let (one, other) = long.as_bytes().split_at(n);
            assert_eq!(frames([one, other]).unwrap(), whole, "split at {n}");
        }
    }

    #[test]
    fn every_split_refuses_the_same() {
        for (bad, error) in [
            ("<stream:stream><a><!-- c --></a>", Error::RestrictedXml),
            ("<stream:stream> <!DOCTYPE a>", Error::RestrictedXml),
            ("<stream:stream><?pi?>", Error::RestrictedXml),
            ("<stream:stream>x", Error::NotWellFormed),
            ("<stream:stream><a/>x", Error::NotWellFormed),
            ("<stream:stream></stream:strea>", Error::NotWellFormed),
            ("<stream:stream></stream:streams>", Error::NotWellFormed),
            ("<stream:stream></stream:stream><a/>", Error::NotWellFormed),
            ("</stream:stream>", Error::NotWellFormed),
            ("<?xml-style?><stream:stream>", Error::RestrictedXml),
            ("<?xml version='1.0'?><?xml version='1.0'?>", Error::RestrictedXml),
            ("<!DOCTYPE stream><stream:stream>", Error::RestrictedXml),
            ("\u{FFFE}<stream:stream>", Error::NotWellFormed),
            ("\u{FEFF}\u{FEFF}<stream:stream>", Error::NotWellFormed),
            ("<stream:stream><a><a><a><a><a><a><a><a><a>", Error::TooBig(Cap::Depth)),
        ] {
            let bytes = bad.as_bytes();
            assert_eq!(frames([bytes]), Err(error), "{bad}");
            assert_eq!(frames(bytes.chunks(1)), Err(error), "{bad} byte by byte");
            for n in 0..=bytes.len() {
                let (one, other) = bytes.split_at(n);
                assert_eq!(frames([one, other]), Err(error), "{bad} split at {n}");
            }
        }
    }

    #[test]
    fn refused_as_soon_as_seen() {
        for bad in ["<!", "<?", "<a><?", "<a><!-", "<a><!D", "<a><![I"] {
            assert_eq!(first(bad.as_bytes()), Err(Error::RestrictedXml), "{bad}");
        }
        for bad in ["x", "</s:", "</stream:x", "&"] {
            assert_eq!(first(bad.as_bytes()), Err(Error::NotWellFormed), "{bad}");
        }
        assert_eq!(first(b"<a><![CDATA["), Ok(None));
    }

    #[test]
    fn caps_at_their_edges() {
        let mut framer = Framer::new(15, 2);
        header(&mut framer);
        assert_eq!(framer.next(b"<a><b></b>  </a>"), Err(Error::TooBig(Cap::Bytes)));
        let mut framer = Framer::new(15, 2);
        header(&mut framer);
        assert_eq!(framer.next(b"<a><b></b> </a>"), Ok(Some(Frame::Element(15))));
        assert_eq!(framer.next(b"<a><b></b> </a> "), Ok(Some(Frame::Element(15))));
        // as much whitespace as there may be is nobody's frame
        assert_eq!(framer.next(&[b' '; 100]), Ok(Some(Frame::Keepalive(100))));
        assert_eq!(framer.next(b"<a><b><c/></b></a>"), Err(Error::TooBig(Cap::Depth)));

        let mut framer = Framer::new(14, 2);
        assert_eq!(framer.next(b"<stream:stream>"), Err(Error::TooBig(Cap::Bytes)));
        let mut framer = Framer::new(15, 2);
        header(&mut framer);
        assert_eq!(framer.next(b"<a>............"), Ok(None));
        framer.set_max_bytes(20);
        assert_eq!(framer.next(b"<a>.............</a>"), Ok(Some(Frame::Element(20))));
    }

    #[test]
    fn each_byte_is_looked_at_once() {
        // threat A12: were it not so, this would take minutes
        let mut framer = Framer::new(1 << 20, 8);
        header(&mut framer);
        let element = format!("<a b='{0}'>{0}<![CDATA[{0}]]></a>", "x".repeat(80_000));
        for n in 0..element.len() {
            assert_eq!(framer.next(&element.as_bytes()[..n]), Ok(None));
            assert_eq!(framer.looked(), n);
        }
        assert_eq!(framer.next(element.as_bytes()), Ok(Some(Frame::Element(element.len()))));
        assert_eq!(framer.looked(), 0);
    }

    #[test]
    fn stop_keeps_what_follows() {
        let mut reader = Reader::new(1000, 8);
        let mut seen = Vec::new();
        let mut one = |reader: &mut Reader, bytes: &[u8]| {
            reader
                .feed(bytes, |kind, bytes| {
                    seen.push((kind, String::from_utf8(bytes.to_vec()).unwrap()));
                    Ok::<_, Error>(Flow::Stop)
                })
                .unwrap();
        };
        one(&mut reader, b"<stream:stream><auth/><stream:stream><a/><b");
        one(&mut reader, b"");
        assert!(!reader.is_empty());
        reader.restart();
        one(&mut reader, b"");
        one(&mut reader, b"/>");
        one(&mut reader, b"");
        assert!(reader.is_empty());
        one(&mut reader, b"");
        let seen: Vec<_> = seen.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
        let expected = [
            (Header, "<stream:stream>"),
            (Element, "<auth/>"),
            (Header, "<stream:stream>"),
            (Element, "<a/>"),
            (Element, "<b/>"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(reader.left.capacity(), 0);

        reader.feed(b"<c", |_, _| Ok::<_, Error>(Flow::Go)).unwrap();
        assert!(!reader.is_empty());
        reader.clear();
        reader.restart();
        assert!(reader.is_empty());
    }

    #[test]
    fn an_error_of_the_reader_ends_the_feeding() {
        #[derive(Debug, PartialEq)]
        enum Mine {
            Xml(Error),
            Enough,
        }
        impl From<Error> for Mine {
            fn from(error: Error) -> Mine {
                Mine::Xml(error)
            }
        }
        let mut reader = Reader::new(1000, 8);
        let fed = reader.feed(b"<stream:stream><a/>", |kind, _| match kind {
            Header => Ok(Flow::Go),
            _ => Err(Mine::Enough),
        });
        assert_eq!(fed, Err(Mine::Enough));
        assert_eq!(reader.feed(b"x", |_, _| Ok::<_, Mine>(Flow::Go)), Err(Mine::Xml(Error::NotWellFormed)));
    }
}
