//! Certificates as a peer shows them. What our reader takes out of one is what webpki, which judges
//! the handshake by it, takes out of the same bytes: a pin is of no use on another key. And pins as
//! people write them.
//!
//! The input is tried as DER, and as a short form of it that has no lengths to get right: a tag, and
//! for a primitive one a byte of length and so many bytes, for a constructed one what is in it up to a
//! zero. An OCTET STRING with something in it is written as if it were constructed (0x24).
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use stonechat::net::cert;
use stonechat_fuzz::cut;
use webpki::{EndEntityCert, Error, KeyUsage};

/// The seconds of the years 0 and 9999.
const TIMES: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

fuzz_target!(|data: &[u8]| {
    judge(data);
    let (mut rest, mut der) = (data, Vec::new());
    while !rest.is_empty() {
        value(&mut rest, 0, &mut der);
    }
    judge(&der);
    if let Ok(text) = std::str::from_utf8(data) {
        names(text);
    }
});

/// Reads one value of the short form and writes it.
fn value(data: &mut &[u8], depth: usize, out: &mut Vec<u8>) {
    let [tag] = *cut(data, 1) else { return };
    let mut inside = Vec::new();
    if tag & 0x20 == 0 {
        let [len] = *cut(data, 1) else { return };
        inside.extend(cut(data, usize::from(len)));
    } else {
        while depth < 20 && !data.is_empty() && data[0] != 0 {
            value(data, depth + 1, &mut inside);
        }
        cut(data, 1);
    }
    out.push(if tag == 0x24 { 0x04 } else { tag });
    match u16::try_from(inside.len()).unwrap_or(u16::MAX).to_be_bytes() {
        [0, len @ ..=0x7f] => out.push(len),
        [0, len] => out.extend([0x81, len]),
        len => out.extend([0x82, len[0], len[1]]),
    }
    out.extend(inside);
}

fn judge(der: &[u8]) {
    let (spki, names, validity) = (cert::spki(der), cert::names(der), cert::validity(der));
    if let Some(spki) = spki {
        assert!(spki[0] == 0x30 && der.windows(spki.len()).any(|bytes| bytes == spki));
        assert_eq!(cert::spki_sha256(der), Some(cert::sha256(spki)));
    } else {
        assert!(names.is_empty() && validity.is_none() && !cert::self_issued(der));
        assert!(cert::signature_hash(der).is_none());
        assert!(cert::other_names(der).is_empty() && cert::constrains_names(der) && !cert::may_sign(der));
    }
    assert!(names.iter().all(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())));
    if let Some((from, to)) = validity {
        assert!(TIMES.contains(&from) && TIMES.contains(&to));
    }
    assert_eq!(cert::end_point(der).is_some(), cert::signature_hash(der).is_some());

    let whole = CertificateDer::from(der);
    let Ok(theirs) = EndEntityCert::try_from(&whole) else { return };
    assert_eq!(spki, Some(&*theirs.subject_public_key_info()), "another key");
    assert_eq!(cert::self_issued(der), theirs.issuer() == theirs.subject());
    for name in theirs.valid_dns_names() {
        assert!(names.contains(&name.to_ascii_lowercase()), "{name:?} is not in {names:?}");
    }
    // It tells the dates only when they are wrong. Dates of before 1970 it does not read.
    let at = |seconds| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        theirs.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).err()
    };
    let seconds = |time: UnixTime| i64::try_from(time.as_secs()).ok();
    if let Some(Error::CertNotValidYet { not_before, .. }) = at(0) {
        assert_eq!(validity.map(|dates| dates.0), seconds(not_before));
    }
    if let Some(Error::CertExpired { not_after, .. }) = at(u64::MAX) {
        assert_eq!(validity.map(|dates| dates.1), seconds(not_after));
    }
}

fn names(text: &str) {
    if let Some(pin) = cert::parse_pin(text) {
        assert_eq!(cert::parse_pin(&cert::pin_text(&pin)), Some(pin));
        let hex: String = pin.iter().map(|b| format!("{b:02X}:")).collect();
        assert_eq!(cert::parse_pin(hex.trim_end_matches(':')), Some(pin));
    }
    if let Some(name) = cert::ascii_name(text) {
        assert!(name.is_ascii() && !name.contains(|c: char| c.is_ascii_uppercase() || c.is_ascii_control()));
        assert_eq!(cert::ascii_name(&name).as_deref(), Some(&*name), "{text:?}");
    }
    assert!(cert::printable(text, 80).chars().all(|c| c.is_ascii_graphic() || c == ' ' || c == '…'));
}
