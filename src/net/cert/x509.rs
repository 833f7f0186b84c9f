//! A reader for the few X.509 fields that webpki keeps to itself (RFC 5280 §4.1). Every length is
//! checked against what is there, nothing recurses, nothing is trusted.

use std::net::{Ipv4Addr, Ipv6Addr};

use ring::digest;

/// The SubjectPublicKeyInfo, tag and length included (RFC 5280 §4.1.2.7).
pub fn spki(cert: &[u8]) -> Option<&[u8]> {
    Parts::of(cert).map(|parts| parts.spki)
}

/// Every dNSName and iPAddress in subjectAltName (RFC 5280 §4.2.1.6), for messages and for knowing
/// our own leaf. A name with anything but printable ASCII in it is left out: it matches nothing.
pub fn names(cert: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = Der(Parts::of(cert).and_then(|parts| parts.alt_names()).unwrap_or_default());
    while let Some((tag, value, _)) = rest.any() {
        match tag {
            0x82 => match std::str::from_utf8(value) {
                Ok(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) => {
                    found.push(name.to_ascii_lowercase());
                }
                _ => {}
            },
            0x87 => {
                if let Ok(v4) = <[u8; 4]>::try_from(value) {
                    found.push(Ipv4Addr::from(v4).to_string());
                } else if let Ok(v6) = <[u8; 16]>::try_from(value) {
                    found.push(Ipv6Addr::from(v6).to_string());
                }
            }
            _ => {}
        }
    }
    found
}

/// A name of a kind that only some protocols know (otherName in subjectAltName).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherName<'a> {
    /// `_service.domain` (SRVName, RFC 4985 §2).
    Srv(&'a str),
    /// A JID (XmppAddr, RFC 6120 §13.7.1.4).
    XmppAddr(&'a str),
}

/// Every SRVName and XmppAddr in subjectAltName, as they stand there.
pub fn other_names(cert: &[u8]) -> Vec<OtherName<'_>> {
    const SRV: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x07]; // 1.3.6.1.5.5.7.8.7
    const XMPP_ADDR: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x05]; // 1.3.6.1.5.5.7.8.5
    const IA5: u8 = 0x16;
    const UTF8: u8 = 0x0c;
    let read = |value| {
        let mut other = Der(value);
        let kind = other.take(0x06)?;
        let mut wrapped = Der(other.take(0xa0)?);
        let (tag, text, _) = wrapped.any()?;
        if !other.0.is_empty() || !wrapped.0.is_empty() || (tag != IA5 && tag != UTF8) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        match kind {
            SRV => Some(OtherName::Srv(text)),
            XMPP_ADDR => Some(OtherName::XmppAddr(text)),
            _ => None,
        }
    };
    let mut found = Vec::new();
    let mut rest = Der(Parts::of(cert).and_then(|parts| parts.alt_names()).unwrap_or_default());
    while let Some((tag, value, _)) = rest.any() {
        if tag == 0xa0 {
            found.extend(read(value));
        }
    }
    found
}

/// True if the certificate holds those that it signs to certain names (RFC 5280 §4.2.1.10).
pub fn constrains_names(cert: &[u8]) -> bool {
    Parts::of(cert).is_none_or(|parts| parts.extension([0x55, 0x1d, 0x1e]).is_some())
}

/// True if the certificate is one of an authority: `CA:TRUE`, or so old that it cannot say
/// (RFC 5280 §4.2.1.9).
pub fn may_sign(cert: &[u8]) -> bool {
    let Some(parts) = Parts::of(cert) else { return false };
    match parts.extension([0x55, 0x1d, 0x13]) {
        Some(constraints) => {
            Der(constraints).take(0x30).and_then(|inside| Der(inside).take(0x01)) == Some(&[0xff])
        }
        None => parts.extensions.is_none(),
    }
}

/// `(notBefore, notAfter)` in seconds since 1970 (RFC 5280 §4.1.2.5).
pub fn validity(cert: &[u8]) -> Option<(i64, i64)> {
    let mut der = Der(Parts::of(cert)?.validity);
    let (tag, value, _) = der.any()?;
    let not_before = time(tag, value)?;
    let (tag, value, _) = der.any()?;
    Some((not_before, time(tag, value)?))
}

/// True if the certificate names itself as its issuer.
pub fn self_issued(cert: &[u8]) -> bool {
    Parts::of(cert).is_some_and(|parts| parts.issuer == parts.subject)
}

/// True if `above` bears the name that `cert` gives its issuer. Says nothing of signatures.
pub fn issued_by(cert: &[u8], above: &[u8]) -> bool {
    match (Parts::of(cert), Parts::of(above)) {
        (Some(cert), Some(above)) => cert.issuer == above.subject,
        _ => false,
    }
}

/// The hash for `tls-server-end-point`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256, also in place of MD5 and SHA-1.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Which hash RFC 5929 §4.1 wants for this certificate, from its signatureAlgorithm. `None` where
/// the RFC leaves it undefined (Ed25519 names no hash) or where it is one we do not have.
pub fn signature_hash(cert: &[u8]) -> Option<Hash> {
    let mut algorithm = Der(Parts::of(cert)?.algorithm);
    hash_of(algorithm.take(0x06)?, algorithm)
}

/// The channel binding `tls-server-end-point` (RFC 5929 §4.1) of a server's certificate.
pub fn end_point(cert: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match signature_hash(cert)? {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    Some(digest::digest(algorithm, cert).as_ref().to_vec())
}

fn hash_of(oid: &[u8], mut parameters: Der<'_>) -> Option<Hash> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01]; // 1.2.840.113549.1.1
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04]; // 1.2.840.10045.4
    const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a]; // 1.3.14.3.2.26
    const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02]; // 2.16.840.1.101.3.4.2

    if let Some(arc) = oid.strip_prefix(RSA) {
        return match arc {
            [4] | [5] | [11] => Some(Hash::Sha256), // MD5, SHA-1, SHA-256
            [12] => Some(Hash::Sha384),
            [13] => Some(Hash::Sha512),
            [10] => {
                // RSASSA-PSS (RFC 4055 §3.1): [0] hashAlgorithm, SHA-1 if it is left out.
                let Some(mut parameters) = parameters.take(0x30).map(Der) else { return Some(Hash::Sha256) };
                let Some(hash) = parameters.take(0xa0) else { return Some(Hash::Sha256) };
                let mut hash = Der(Der(hash).take(0x30)?);
                match hash.take(0x06)? {
                    SHA1 => Some(Hash::Sha256),
                    oid => match oid.strip_prefix(SHA2)? {
                        [1] => Some(Hash::Sha256),
                        [2] => Some(Hash::Sha384),
                        [3] => Some(Hash::Sha512),
                        _ => None,
                    },
                }
            }
            _ => None,
        };
    }
    match oid.strip_prefix(ECDSA)? {
        [1] | [3, 2] => Some(Hash::Sha256),
        [3, 3] => Some(Hash::Sha384),
        [3, 4] => Some(Hash::Sha512),
        _ => None,
    }
}

/// The fields of a certificate that we look at (RFC 5280 §4.1).
pub(super) struct Parts<'a> {
    pub(super) issuer: &'a [u8],
    validity: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) spki: &'a [u8],
    extensions: Option<&'a [u8]>,
    algorithm: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn of(cert: &'a [u8]) -> Option<Self> {
        let mut outer = Der(cert);
        let mut cert = Der(outer.take(0x30)?);
        let mut tbs = Der(cert.take(0x30)?);
        let algorithm = cert.take(0x30)?;
        cert.take(0x03)?;
        if !outer.0.is_empty() || !cert.0.is_empty() {
            return None;
        }
        tbs.take(0xa0); // version
        tbs.take(0x02)?; // serialNumber
        tbs.take(0x30)?; // signature
        let issuer = tbs.take(0x30)?;
        let validity = tbs.take(0x30)?;
        let subject = tbs.take(0x30)?;
        let (tag, _, spki) = tbs.any()?;
        if tag != 0x30 {
            return None;
        }
        tbs.take(0x81); // issuerUniqueID
        tbs.take(0x82); // subjectUniqueID
        let extensions = match tbs.take(0xa3) {
            Some(wrapped) => Some(Der(wrapped).take(0x30)?),
            None => None,
        };
        Some(Parts { issuer, validity, subject, spki, extensions, algorithm })
    }

    /// The GeneralNames of subjectAltName.
    fn alt_names(&self) -> Option<&'a [u8]> {
        Der(self.extension([0x55, 0x1d, 0x11])?).take(0x30)
    }

    /// What is in the extension with this identifier.
    fn extension(&self, id: [u8; 3]) -> Option<&'a [u8]> {
        let mut extensions = Der(self.extensions?);
        while let Some(extension) = extensions.take(0x30) {
            let mut extension = Der(extension);
            if extension.take(0x06)? == id {
                extension.take(0x01); // critical
                return extension.take(0x04);
            }
        }
        None
    }
}

/// What is left to read of a run of DER values.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: tag, contents, and the whole with tag and length.
    fn any(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let all = self.0;
        let (&tag, rest) = all.split_first()?;
        if tag & 0x1f == 0x1f {
            return None; // long tags appear nowhere in what we read
        }
        let (&first, mut rest) = rest.split_first()?;
        let mut len = usize::from(first);
        if first >= 0x80 {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.is_empty() || digits.len() > 3 {
                return None;
            }
            len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
            rest = after;
        }
        let (value, after) = rest.split_at_checked(len)?;
        let (whole, _) = all.split_at_checked(all.len().checked_sub(after.len())?)?;
        self.0 = after;
        Some((tag, value, whole))
    }

    /// The contents of the next value if it has this tag; else nothing is consumed.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() != Some(&tag) {
            return None;
        }
        self.any().map(|(_, value, _)| value)
    }
}

/// UTCTime (0x17) or GeneralizedTime (0x18) in the forms that RFC 5280 §4.1.2.5 allows.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(b"Z")?;
    let (year, rest) = match tag {
        0x17 => {
            let (year, rest) = digits(text, 2)?;
            (year.checked_add(if year < 50 { 2000 } else { 1900 })?, rest)
        }
        0x18 => digits(text, 4)?,
        _ => return None,
    };
    let (month, rest) = digits(rest, 2)?;
    let (day, rest) = digits(rest, 2)?;
    let (hour, rest) = digits(rest, 2)?;
    let (minute, rest) = digits(rest, 2)?;
    let (second, rest) = digits(rest, 2)?;
    if !rest.is_empty()
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let days = days(year, month, day)?;
    let clock = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    days.checked_mul(86_400)?.checked_add(clock)
}

fn digits(text: &[u8], count: usize) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_at_checked(count)?;
    let mut value = 0i64;
    for byte in head {
        let digit = (*byte as char).to_digit(10)?;
        value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    Some((value, rest))
}

/// Days from 1970-01-01 in the Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let month = month.checked_add(9)?.checked_rem(12)?;
    let era_days = year
        .checked_mul(365)?
        .checked_add(year.div_euclid(4))?
        .checked_sub(year.div_euclid(100))?
        .checked_add(year.div_euclid(400))?;
    let in_year = month.checked_mul(153)?.checked_add(2)?.checked_div(5)?;
    era_days.checked_add(in_year)?.checked_add(day)?.checked_sub(719_469)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (tag, text, unix) in [
            (0x17, "700101000000Z", Some(0)),
            (0x17, "491231235959Z", Some(2_524_607_999)),
            (0x17, "500101000000Z", Some(-631_152_000)),
            (0x18, "20000229120000Z", Some(951_825_600)),
            (0x18, "21200101000000Z", Some(4_733_510_400)),
            (0x18, "99991231235959Z", Some(253_402_300_799)),
            (0x18, "00000101000000Z", Some(-62_167_219_200)),
            (0x17, "7001010000Z", None),
            (0x17, "701301000000Z", None),
            (0x17, "70010100000xZ", None),
            (0x17, "700101000000", None),
            (0x02, "700101000000Z", None),
        ] {
            assert_eq!(time(tag, text.as_bytes()), unix, "{text}");
        }
    }

    #[test]
    fn signature_algorithms() {
        const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
        let rsa = |last, parameters| hash_of(&[RSA.as_slice(), &[last]].concat(), Der(parameters));
        for (last, hash) in [
            (4, Some(Hash::Sha256)),
            (5, Some(Hash::Sha256)),
            (11, Some(Hash::Sha256)),
            (12, Some(Hash::Sha384)),
            (13, Some(Hash::Sha512)),
            (14, None),
        ] {
            assert_eq!(rsa(last, &[5, 0]), hash);
        }
        // RSASSA-PSS: parameters left out, hash left out, SHA-512, broken
        assert_eq!(rsa(10, &[]), Some(Hash::Sha256));
        assert_eq!(rsa(10, &[0x30, 0]), Some(Hash::Sha256));
        let sha512 =
            [0x30, 15, 0xa0, 13, 0x30, 11, 6, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];
        assert_eq!(rsa(10, &sha512), Some(Hash::Sha512));
        assert_eq!(rsa(10, &[0x30, 4, 0xa0, 2, 0x30, 0]), None);
        assert_eq!(hash_of(&[0x2b, 0x65, 0x70], Der(&[])), None);
    }
}
