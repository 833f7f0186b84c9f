//! The ring around the two cores: sockets, TLS, DNS, clock and random. The only place that waits.

pub mod cert;
pub mod client;
pub mod dns;
pub mod kept;
pub mod mdns;
pub mod tls;

#[cfg(feature = "hub")]
pub mod c2s;
#[cfg(feature = "hub")]
pub mod console;
#[cfg(feature = "hub")]
pub mod desk;
#[cfg(feature = "hub")]
mod drive;
#[cfg(feature = "hub")]
pub mod listen;
#[cfg(feature = "hub")]
pub mod notify;
#[cfg(feature = "hub")]
mod outbox;
#[cfg(feature = "hub")]
pub mod reactor;
#[cfg(feature = "hub")]
mod register;
#[cfg(feature = "hub")]
mod resume;
#[cfg(feature = "hub")]
pub mod ring;
#[cfg(feature = "hub")]
pub mod work;

#[cfg(feature = "federation")]
pub mod component;
#[cfg(feature = "federation")]
pub mod federation;
#[cfg(feature = "federation")]
mod lines;
#[cfg(feature = "federation")]
pub mod pairing;
#[cfg(feature = "federation")]
pub mod peers;
#[cfg(feature = "federation")]
pub mod s2s;

#[cfg(all(feature = "hub", not(feature = "federation")))]
#[path = "alone.rs"]
pub mod federation;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// Sorts a short list by insertion, and leaves equals in their order: the library's sort is 4 KB for each type.
pub fn sort_few<T>(list: &mut [T], before: impl Fn(&T, &T) -> bool) {
    for end in 1..list.len() {
        for at in (1..=end).rev() {
            match list.get(at - 1..=at) {
                Some([a, b]) if before(b, a) => list.swap(at - 1, at),
                _ => break,
            }
        }
    }
}

/// Fresh random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // getrandom(2), which can fail only on a kernel older than any that we run on; a key of zeros
    // would be worse than no hub.
    if ::ring::rand::SecureRandom::fill(&::ring::rand::SystemRandom::new(), &mut bytes).is_err() {
        log::error!("the system gives no random numbers");
        std::process::abort();
    }
    bytes
}

/// The time since 1970 by this machine's clock. `SystemTime::now` panics from 2038 on where musl's processor has 32 bits.
pub fn unix_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let nanos = Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or_default());
    Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or_default()).saturating_add(nanos)
}

/// Salts for the keys of a new password.
pub fn salts() -> [[u8; 16]; 2] {
    [random(), random()]
}

/// Reads a file that somebody else may have written, and not more of it than `max` bytes.
fn read_capped(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
    }
    Ok(bytes)
}
