//! A TCP connection, with TLS or without, and what waits to be written to it.

use super::error::Error;
use crate::net::kept::{Kept, each_stanza, is_stanza};
use crate::net::tls::{self, ClientTls, Tls, handshake};
use crate::stream::Bindings;
use crate::stream::management::TooHigh;
use async_io::Async;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

/// See the module. Dropping a future of its methods loses nothing: what was read has been handed
/// over, what was written is gone from `out`.
pub(super) struct Wire {
    io: Async<TcpStream>,
    tls: Option<Tls>,
    /// What waits to be written; with stream management, what is not acknowledged stands before it.
    pub out: Vec<u8>,
    /// Written already, from the front of `out`.
    sent: usize,
    /// Stream management (XEP-0198).
    kept: Option<Box<Kept<()>>>,
}

impl Wire {
    /// A fresh connection.
    pub fn new(io: Async<TcpStream>) -> Wire {
        Wire { io, tls: None, out: Vec::new(), sent: 0, kept: None }
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

    /// From here on, what goes into `out` stays there until the server acknowledges it.
    pub fn manage(&mut self) {
        self.kept = Some(Box::new(Kept::from(self.out.len())));
    }

    /// The server does not do that.
    pub fn unmanage(&mut self) {
        self.kept = None;
        self.let_go();
    }

    /// The server has handled `h` stanzas.
    pub fn acknowledge(&mut self, h: u32) -> Result<(), Error> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        kept.acknowledge(h, &self.out, self.sent, &mut Vec::new()).map_err(too_high)?;
        self.let_go();
        Ok(())
    }

    /// Goes on over another connection, whose server says that it has handled `h` stanzas: what it has not is
    /// written again.
    pub fn go_on(&mut self, over: Wire, h: u32) -> Result<(), Error> {
        let Some(mut kept) = self.kept.take() else {
            return Err(Error::Protocol("the server goes on with what was never begun".to_owned()));
        };
        kept.lost(&self.out, self.sent);
        kept.acknowledge(h, &self.out, self.sent, &mut Vec::new()).map_err(too_high)?;
        let mut rest = Vec::new();
        each_stanza(self.out.get(kept.front..).unwrap_or_default(), |frame| {
            if is_stanza(frame) {
                rest.extend_from_slice(frame);
            }
            true
        });
        kept.moved(0);
        *self = Wire { out: rest, sent: 0, kept: Some(kept), ..over };
        Ok(())
    }

    /// Bytes that are written and not acknowledged.
    pub fn kept(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| self.sent.saturating_sub(kept.front))
    }

    /// Drops what nobody will ask for again.
    fn let_go(&mut self) {
        let front = match &self.kept {
            Some(kept) if !kept.is_empty() || self.sent < self.out.len() => kept.front.min(self.sent),
            _ => self.sent,
        };
        if front < self.out.len() / 2 {
            return; // not worth moving the rest
        }
        self.out.drain(..front);
        self.sent -= front;
        if let Some(kept) = &mut self.kept {
            kept.cut(front);
        }
        // A burst's memory is not kept.
        if self.out.is_empty() && self.out.capacity() > 65_536 {
            self.out = Vec::new();
        }
    }

    /// Writes all that waits.
    pub async fn flush(&mut self) -> Result<(), Error> {
        if let Some(kept) = &mut self.kept {
            kept.request(&mut self.out);
        }
        loop {
            let rest = self.out.get(self.sent..).unwrap_or_default();
            let (taken, all) = match &mut self.tls {
                Some(tls) => {
                    let taken = tls.send(&mut self.io.get_ref(), rest).map_err(|e| lost(&e))?;
                    (taken, !tls.wants_write())
                }
                None if rest.is_empty() => (0, true),
                None => match self.io.get_ref().write(rest) {
                    Ok(taken) => (taken, true),
                    Err(e) if would_block(&e) => (0, true),
                    Err(e) => return Err(lost(&e)),
                },
            };
            self.sent += taken.min(rest.len());
            let done = self.sent == self.out.len() && all;
            self.let_go();
            if done {
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

fn too_high(counts: TooHigh) -> Error {
    Error::Protocol(format!(
        "the server acknowledges {} stanzas and was sent {}",
        counts.h, counts.send_count
    ))
}

fn would_block(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn lost(e: &io::Error) -> Error {
    Error::Lost(format!("the connection is lost: {e}"))
}
