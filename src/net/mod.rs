//! The ring around the two cores: sockets, TLS, DNS, clock and random. The only place that waits.

pub mod c2s;
pub mod cert;
pub mod console;
pub mod dns;
mod drive;
pub mod listen;
pub mod notify;
mod outbox;
pub mod ring;
pub mod tls;
pub mod work;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads a file that somebody else may have written, and not more of it than `max` bytes.
fn read_capped(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
    }
    Ok(bytes)
}
