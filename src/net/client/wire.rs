//! A TCP connection, with TLS or without, and what waits to be written to it.

use super::error::Error;
use crate::net::tls::{self, ClientTls, Tls, handshake};
use crate::stream::Bindings;
use async_io::Async;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

/// See the module. Dropping a future of its methods loses nothing: what was read has been handed
/// over, what was written is gone from `out`.
pub(super) struct Wire {
    io: Async<TcpStream>,
    tls: Option<Tls>,
    /// What waits to be written.
    pub out: Vec<u8>,
}

impl Wire {
    /// A fresh connection.
    pub fn new(io: Async<TcpStream>) -> Wire {
        Wire { io, tls: None, out: Vec::new() }
    }

    /// Begins TLS.
    pub async fn secure(
        &mut self,
        config: &ClientTls,
        domain: &str,
        deadline: Instant,
    ) -> Result<(), tls::Error> {
        let mut tls = Tls::client(config, domain)?;
        handshake(&mut tls, &self.io, async_io::Timer::at(deadline)).await?;
        self.tls = Some(tls);
        Ok(())
    }

    /// Channel bindings; there are none without TLS.
    pub fn bindings(&self) -> Bindings {
        let bindings = self.tls.as_ref().map(Tls::channel_bindings).unwrap_or_default();
        Bindings { exporter: bindings.exporter, server_end_point: bindings.server_end_point }
    }

    /// Keeps the server's key for the next time, if that was asked for.
    pub fn remember(&self) -> Result<(), Error> {
        match self.tls.as_ref().map(Tls::remember) {
            Some(Err(e)) => Err(Error::Tls(e.to_string())),
            _ => Ok(()),
        }
    }

    /// Writes all that waits.
    pub async fn flush(&mut self) -> Result<(), Error> {
        loop {
            let (taken, all) = match &mut self.tls {
                Some(tls) => {
                    let taken = tls.send(&mut self.io.get_ref(), &self.out).map_err(|e| lost(&e))?;
                    (taken, !tls.wants_write())
                }
                None if self.out.is_empty() => (0, true),
                None => match self.io.get_ref().write(&self.out) {
                    Ok(taken) => (taken, true),
                    Err(e) if would_block(&e) => (0, true),
                    Err(e) => return Err(lost(&e)),
                },
            };
            self.out.drain(..taken.min(self.out.len()));
            if self.out.is_empty() && all {
                // A burst's memory is not kept.
                if self.out.capacity() > 65_536 {
                    self.out = Vec::new();
                }
                return Ok(());
            }
            self.io.writable().await.map_err(|e| lost(&e))?;
        }
    }

    /// Reads what there is, or waits for it. 0: the other side has closed.
    pub async fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        loop {
            match &mut self.tls {
                Some(tls) => match tls.read(&mut self.io.get_ref(), into) {
                    Ok(got) if got.plain > 0 => return Ok(got.plain),
                    Ok(got) if got.closed => return Ok(0),
                    Ok(_) => continue,
                    Err(e) if e.would_block() => {}
                    Err(tls::Error::Io(e)) => return Err(lost(&e)),
                    Err(e) => {
                        let _ = tls.flush(&mut self.io.get_ref());
                        return Err(Error::Lost(e.to_string()));
                    }
                },
                None => match self.io.get_ref().read(into) {
                    Ok(n) => return Ok(n),
                    Err(e) if would_block(&e) => {}
                    Err(e) => return Err(lost(&e)),
                },
            }
            if self.tls.as_ref().is_some_and(Tls::wants_write) {
                self.flush().await?;
            }
            self.io.readable().await.map_err(|e| lost(&e))?;
        }
    }

    /// Says the end of TLS, and writes what can be written.
    pub async fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close_notify();
        }
        let _ = self.flush().await;
    }
}

fn would_block(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn lost(e: &io::Error) -> Error {
    Error::Lost(format!("the connection is lost: {e}"))
}
