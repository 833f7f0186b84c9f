//! Trust on first use: the file of known hubs.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::Refused;
use crate::net::cert::{self, Pin, pin_text};
use crate::net::read_capped;

const MAX_KNOWN: u64 = 1 << 20;

/// True if the key is on record, false if the domain is not. A domain may have several lines: any of
/// its keys will do, so that a key can be announced before it is used.
pub(super) fn known_or_new(file: &Path, domain: &str, pin: Pin) -> Result<bool, Refused> {
    let bad = |why: String| Refused::KnownHubs { file: file.to_owned(), why };
    let bytes = match read_capped(file, MAX_KNOWN) {
        Ok(bytes) => bytes,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(why) => return Err(bad(format!("cannot be read: {why}"))),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| bad("is not text".to_owned()))?;
    let mut known = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some(name) if !name.starts_with('#') && name.eq_ignore_ascii_case(domain) => {}
            _ => continue,
        }
        match (words.next().and_then(cert::parse_pin), words.next()) {
            (Some(pin), None) => known.push(pin),
            _ => return Err(bad(format!("line {} should be: domain sha256:…", at.saturating_add(1)))),
        }
    }
    if known.contains(&pin) {
        return Ok(true);
    }
    if known.is_empty() {
        return Ok(false);
    }
    Err(Refused::TofuChanged { domain: domain.to_owned(), known, got: pin, file: file.to_owned() })
}

/// Adds one line.
pub(super) fn record(file: &Path, domain: &str, pin: Pin) -> io::Result<()> {
    if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut out = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)?;
    let unfinished = read_capped(file, MAX_KNOWN)?.last().is_some_and(|last| *last != b'\n');
    let newline = if unfinished { "\n" } else { "" };
    out.write_all(format!("{newline}{domain} {}\n", pin_text(&pin)).as_bytes())?;
    out.sync_all()
}
