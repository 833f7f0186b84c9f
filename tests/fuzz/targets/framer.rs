//! The framer cuts the same however the bytes come, and where the judge sees one element so does it.
//!
//! Four bytes of seed for the splits, then the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stonechat::xml::{Caps, Error, Flow, Frame, Framer, Kind, Reader, Scan};
use stonechat_fuzz::{HEADER, cut, roll, scope};

const BYTES: usize = 600;
const DEPTH: u16 = 6;

/// The frames, keepalives run together, and how it ends. After an element `<r…` the stream restarts,
/// as it does after login; before that the reader is told to stop and to keep what follows. Then more
/// bytes are allowed.
fn frames(stream: &[u8], mut size: impl FnMut() -> usize) -> (Vec<(Kind, Vec<u8>)>, Option<Error>) {
    let mut reader = Reader::new(BYTES, DEPTH);
    let mut seen: Vec<(Kind, Vec<u8>)> = Vec::new();
    let mut rest = stream;
    loop {
        let mut part = cut(&mut rest, size().max(1));
        loop {
            let mut restart = false;
            let fed = reader.feed::<Error>(part, |kind, bytes| {
                restart = kind == Kind::Element && bytes.starts_with(b"<r");
                match seen.last_mut() {
                    Some((Kind::Keepalive, before)) if kind == Kind::Keepalive => before.extend(bytes),
                    _ => seen.push((kind, bytes.to_vec())),
                }
                Ok(if restart { Flow::Stop } else { Flow::Go })
            });
            if let Err(error) = fed {
                return (seen, Some(error));
            }
            if !restart {
                break;
            }
            reader.restart();
            reader.set_max_bytes(2 * BYTES);
            part = &[];
        }
        if rest.is_empty() {
            return (seen, None);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut stream = data;
    let seed = cut(&mut stream, 4).iter().fold(1u64, |n, b| n << 8 | u64::from(*b));
    let whole = frames(stream, || stream.len());
    let mut state = seed;
    let most = 1 + seed % 40;
    assert_eq!(whole, frames(stream, || usize::try_from(roll(&mut state) % most).unwrap_or(1)));
    assert_eq!(whole, frames(stream, || 1));
    let mut two = [usize::try_from(seed).unwrap_or(1) % (stream.len() + 1), stream.len()].into_iter();
    assert_eq!(whole, frames(stream, || two.next().unwrap_or(1)));
    let together: Vec<u8> = whole.0.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert!(stream.starts_with(&together), "frames are what came");

    let mut scan = Scan::new();
    let caps = Caps { depth: DEPTH, ..Caps::default() };
    if stream.len() <= BYTES && scan.element(stream, &scope(), &caps).is_ok() {
        let mut framer = Framer::new(BYTES, DEPTH);
        assert_eq!(framer.next(HEADER.as_bytes()), Ok(Some(Frame::Header(HEADER.len()))));
        assert_eq!(framer.next(stream), Ok(Some(Frame::Element(stream.len()))));
    }
    if stream.len() <= BYTES && !stream.starts_with(b" ") && scan.header(stream, &caps).is_ok() {
        // Whitespace before a header is a frame of its own.
        let start = stream.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let header = &stream[start..];
        assert_eq!(Framer::new(BYTES, DEPTH).next(header), Ok(Some(Frame::Header(header.len()))));
    }
});
