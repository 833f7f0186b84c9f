//! How a stored value is spelled, and how it is read back without trusting it.
//!
//! ```text
//! value  = version (1 byte) then fields in order, nothing after the last one
//! number = big-endian, 1, 4 or 8 bytes
//! bytes  = length (u32) then that many bytes;  text = bytes that are UTF-8
//! option = 0, or 1 and the field
//! list   = count (u32) then the fields
//! ```
//!
//! A value that breaks these rules is a named error and never a panic, and no count or length
//! from the disk decides how much memory is asked for.

use super::failed::Failed;

/// Writes one value.
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn new(version: u8) -> Self {
        Self(vec![version])
    }

    pub(super) fn u8(mut self, n: u8) -> Self {
        self.0.push(n);
        self
    }

    pub(super) fn u32(mut self, n: u32) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, n: u64) -> Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    /// What is longer than 4 GiB gets a length that is wrong, but redb refuses values of 3 GiB.
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut done = self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        done.0.extend_from_slice(bytes);
        done
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn option(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            None => self.u8(0),
            Some(bytes) => self.u8(1).bytes(bytes),
        }
    }

    pub(super) fn list<'a>(self, texts: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let count = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        texts.fold(self.u32(count), Encoder::text)
    }

    /// Bytes without a length; only good as the last field.
    pub(super) fn rest(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Reads one value; every method fails rather than read past the end.
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// `what` names the kind of record in the error. Only the given version is understood:
    /// older ones are rewritten by a migration before anybody reads them.
    pub(super) fn new(bytes: &'a [u8], version: u8, what: &'static str) -> Result<Self, Failed> {
        let mut decoder = Self { rest: bytes, what };
        if decoder.u8()? == version { Ok(decoder) } else { Err(decoder.damaged()) }
    }

    fn damaged(&self) -> Failed {
        Failed::Record(self.what)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Failed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Failed> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| self.damaged())
    }

    pub(super) fn u8(&mut self) -> Result<u8, Failed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Failed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Failed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Failed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged()),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Failed> {
        let length = usize::try_from(self.u32()?).map_err(|_| self.damaged())?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Failed> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged())
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Failed>,
    ) -> Result<Option<T>, Failed> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn list(&mut self) -> Result<Vec<Box<str>>, Failed> {
        let mut texts = Vec::new();
        for _ in 0..self.u32()? {
            texts.push(self.text()?.into());
        }
        Ok(texts)
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Ends the value: bytes that nobody has read mean that it is not what we think it is.
    pub(super) fn end(self) -> Result<(), Failed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged()) }
    }
}

/// Text that stands in a key.
pub(super) fn key_text(bytes: &[u8], what: &'static str) -> Result<Box<str>, Failed> {
    std::str::from_utf8(bytes).map(Box::from).map_err(|_| Failed::Record(what))
}
