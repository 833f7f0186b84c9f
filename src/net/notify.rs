//! systemd's readiness and watchdog protocol (sd_notify(3)): datagrams to `$NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The door to a supervisor, if there is one.
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often to say that we live: half of what `$WATCHDOG_USEC` demands.
    pub watchdog: Option<Duration>,
}

impl Notify {
    /// From the environment.
    pub fn from_env() -> Notify {
        let to = std::env::var("NOTIFY_SOCKET").ok().and_then(|path| {
            let address = match path.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(&path).ok()?,
            };
            Some((UnixDatagram::unbound().ok()?, address))
        });
        let ours = match std::env::var("WATCHDOG_PID") {
            Ok(pid) => pid == std::process::id().to_string(),
            Err(_) => true,
        };
        let watchdog = std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|usec| usec.parse::<u64>().ok())
            .filter(|usec| ours && *usec > 0)
            .map(|usec| Duration::from_micros(usec / 2));
        Notify { to, watchdog }
    }

    /// Says something like `READY=1`. A supervisor that does not listen is no error.
    pub fn say(&self, what: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(what.as_bytes(), address);
        }
    }
}
