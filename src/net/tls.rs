//! TLS 1.2 and 1.3 (RFC 8446, RFC 7590, XEP-0368), both halves. The only door to rustls.
//!
//! A connection is asked, it does not wait: [`Tls::read`] and [`Tls::feed`] take ciphertext that is
//! there, [`Tls::send`] writes what fits. What waits is [`handshake`]. There are no tickets, no
//! session cache and no early data, so every connection has proven its key itself (RFC 8446 §8).
//!
//! An idle connection owns what rustls keeps, and nothing of ours.

mod client;
mod clock;
mod error;
mod known;
mod peer;
mod roots;
mod server;
#[cfg(all(test, feature = "hub"))]
mod tests;

use async_io::Async;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, OtherError, ServerConnection,
    SupportedCipherSuite,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use webpki::EndEntityCert;

use super::cert::{self, Pin};
pub use client::{ClientTls, Trust};
pub use clock::Clock;
pub use error::{Error, Refused};
use known::{known_or_new, record};
pub use peer::{PeerTls, Presented};
pub use server::ServerTls;

/// ALPN of a client's stream (XEP-0368 §2).
pub const ALPN_CLIENT: &str = "xmpp-client";
/// ALPN of a server's stream (XEP-0368 §2).
pub const ALPN_SERVER: &str = "xmpp-server";

/// What rustls may hold for a peer that does not read: one full record.
const SEND_LIMIT: usize = 16 * 1024;
/// A peer's whole chain. (rustls holds handshake messages to the same size.)
const MAX_CHAIN: usize = 64 * 1024;
/// Ciphertext that a peer may send before its handshake is done.
const MAX_HANDSHAKE: usize = 256 * 1024;

fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if !has_aes() {
        // Every Raspberry Pi before the 5: ChaCha20 is several times as fast. A server follows the
        // client's order, so this speaks for our client half.
        super::sort_few(&mut provider.cipher_suites, |a, b| is_chacha(a) && !is_chacha(b));
    }
    Arc::new(provider)
}

fn is_chacha(suite: &SupportedCipherSuite) -> bool {
    format!("{:?}", suite.suite()).contains("CHACHA20")
}

fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// The public half of a private key, as SubjectPublicKeyInfo; `None` if ring cannot use the key.
pub(super) fn public_key(key: &PrivateKeyDer<'_>) -> Option<Vec<u8>> {
    let key = ring::sign::any_supported_type(key).ok()?;
    key.public_key().map(|spki| spki.to_vec())
}

/// Whether a certificate is for this domain or address (subjectAltName only, RFC 9525 §6).
pub fn covers(cert: &[u8], name: &str) -> bool {
    let der = CertificateDer::from(cert);
    match (EndEntityCert::try_from(&der), server_name(name)) {
        (Ok(cert), Ok(name)) => cert.verify_is_valid_for_subject_name(&name).is_ok(),
        _ => false,
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    let bad = || Error::BadName(name.to_owned());
    ServerName::try_from(cert::ascii_name(name).ok_or_else(bad)?).map_err(|_| bad())
}

fn chain_fits(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> bool {
    let mut room = MAX_CHAIN;
    for cert in std::iter::once(leaf).chain(rest) {
        match room.checked_sub(cert.len()) {
            Some(left) => room = left,
            None => return false,
        }
    }
    true
}

/// What is asked of any chain before its signature is looked at: that it can be read, and is no burden.
fn readable(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
    if !chain_fits(leaf, rest) {
        return Err(refuse(Refused::TooBig));
    }
    match cert::spki(leaf) {
        Some(_) => Ok(()),
        None => Err(refuse(Refused::Unreadable("not X.509".to_owned()))),
    }
}

fn refuse(why: Refused) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// One TLS connection, of either half. The socket is the caller's.
pub struct Tls(Box<Inner>);

struct Inner {
    conn: Connection,
    side: Side,
    /// Plaintext that was taken and whose record is not yet whole at the socket.
    unflushed: usize,
}

enum Side {
    Server { end_point: Option<Arc<[u8]>> },
    Client { name: ServerName<'static>, tofu: Option<Arc<Path>> },
}

/// What one step of reading brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Got {
    /// Bytes of ciphertext taken ([`Tls::feed`]; [`Tls::read`] takes them from the socket itself).
    pub wire: usize,
    /// Bytes of plaintext put into the caller's buffer.
    pub plain: usize,
    /// Nothing more will come: `close_notify`, or the end of the TCP stream.
    pub closed: bool,
    /// There is decrypted plaintext left inside, for which no readiness of the socket will tell: call
    /// again with room.
    pub more: bool,
}

/// Channel bindings for SCRAM-PLUS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// `tls-exporter` (RFC 9266).
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point` (RFC 5929 §4).
    pub server_end_point: Option<Vec<u8>>,
}

impl Tls {
    /// The receiving half of a new connection. It starts with nothing in its buffers: what arrived
    /// before TLS began cannot get in (RFC 6120 §5.4.3.3).
    pub fn server(config: &ServerTls) -> Result<Tls, Error> {
        let live = config.live();
        let conn = ServerConnection::new(live.config)?;
        Ok(Tls::new(conn.into(), Side::Server { end_point: live.end_point }))
    }

    /// The initiating half of a new connection to the hub of `domain`: the domain of the JID, not the
    /// host that SRV named (RFC 6120 §13.7.1.2.1).
    pub fn client(config: &ClientTls, domain: &str) -> Result<Tls, Error> {
        let name = server_name(domain)?;
        Tls::initiating(config.config.clone(), name, config.tofu.clone())
    }

    fn initiating(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        tofu: Option<Arc<Path>>,
    ) -> Result<Tls, Error> {
        let conn = ClientConnection::new(config, name.clone())?;
        Ok(Tls::new(conn.into(), Side::Client { name, tofu }))
    }

    fn new(mut conn: Connection, side: Side) -> Tls {
        conn.set_buffer_limit(Some(SEND_LIMIT));
        Tls(Box::new(Inner { conn, side, unflushed: 0 }))
    }

    /// Copies out plaintext that is left inside; if there was none, reads ciphertext *once* from `io`
    /// (4 KB at most), decrypts it, and copies that out. `io` may be a non-blocking socket, whose
    /// `WouldBlock` comes back as [`Error::Io`]. After any other error there may be an alert to send:
    /// [`Tls::flush`] once, then close.
    pub fn read(&mut self, io: &mut impl Read, plain: &mut [u8]) -> Result<Got, Error> {
        let inner = &mut *self.0;
        let mut got = inner.copy_out(plain);
        if got.plain > 0 || got.more || got.closed {
            return Ok(got);
        }
        got.wire = loop {
            match inner.conn.read_tls(io) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                // rustls's own word for a record or message that is too long
                Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                    return Err(Error::Misbehaved(why.to_string()));
                }
                other => break other?,
            }
        };
        inner.conn.process_new_packets()?;
        let out = inner.copy_out(plain);
        if !out.more {
            inner.slim();
        }
        Ok(Got { wire: got.wire, ..out })
    }

    /// Decrypts ciphertext that the caller has read, as much as `plain` has room for. With `plain` at
    /// least as long as `wire` all of it is taken, unless the peer has closed.
    pub fn feed(&mut self, mut wire: &[u8], plain: &mut [u8]) -> Result<Got, Error> {
        let mut total = Got::default();
        loop {
            let room = plain.get_mut(total.plain..).unwrap_or_default();
            if room.is_empty() || (wire.is_empty() && total.wire > 0) {
                total.more = self.has_plain();
                return Ok(total);
            }
            if wire.is_empty() && !self.has_plain() {
                return Ok(total); // an empty read would count as the end of the stream
            }
            let got = self.read(&mut wire, room)?;
            total.wire = total.wire.saturating_add(got.wire);
            total.plain = total.plain.saturating_add(got.plain);
            total.closed = got.closed;
            total.more = got.more;
            if got.closed {
                return Ok(total);
            }
        }
    }

    /// True if decrypted plaintext is waiting inside.
    pub fn has_plain(&mut self) -> bool {
        self.0.inside() == Inside::Plain
    }

    /// Encrypts up to 16 KiB of `plain` as one record, and says how much it took: 0 while an earlier
    /// record waits to be flushed, so that a batch never crumbles into small ones. (Before the end of
    /// the handshake it is kept, to the same limit.)
    pub fn write(&mut self, plain: &[u8]) -> usize {
        let conn = &mut self.0.conn;
        if conn.wants_write() && !conn.is_handshaking() {
            return 0;
        }
        let taken = conn.writer().write(plain).unwrap_or(0);
        self.0.unflushed = self.0.unflushed.saturating_add(taken);
        taken
    }

    /// Writes what is ready to go. True if nothing is left, false if the socket takes no more for now.
    pub fn flush(&mut self, io: &mut impl Write) -> io::Result<bool> {
        let conn = &mut self.0.conn;
        while conn.wants_write() {
            match conn.write_tls(io) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(why) => return Err(why),
            }
        }
        self.0.unflushed = 0;
        Ok(true)
    }

    /// Bytes of plaintext that were taken and can't have reached the peer: of a record that is not
    /// whole it can read nothing.
    pub fn unflushed(&self) -> usize {
        self.0.unflushed
    }

    /// Writes and flushes by turns, and says how much of `plain` is taken: it need not be kept. Less
    /// than all of it means that the socket is full; what was taken may still wait in here, see
    /// [`Tls::wants_write`].
    pub fn send(&mut self, io: &mut impl Write, plain: &[u8]) -> io::Result<usize> {
        let mut taken = 0usize;
        while self.flush(io)? {
            let rest = plain.get(taken..).unwrap_or_default();
            let now = if rest.is_empty() { 0 } else { self.write(rest) };
            if now == 0 {
                break;
            }
            taken = taken.saturating_add(now);
        }
        Ok(taken)
    }

    /// True if there is ciphertext to flush.
    pub fn wants_write(&self) -> bool {
        self.0.conn.wants_write()
    }

    /// True until both sides are sure of each other.
    pub fn is_handshaking(&self) -> bool {
        self.0.conn.is_handshaking()
    }

    /// Queues `close_notify`; flush it, then close the socket.
    pub fn close_notify(&mut self) {
        self.0.conn.send_close_notify();
    }

    /// What SCRAM-PLUS binds to. Empty before the handshake is done.
    pub fn channel_bindings(&self) -> Bindings {
        if self.is_handshaking() {
            return Bindings::default();
        }
        let exporter = self.0.conn.export_keying_material([0u8; 32], b"EXPORTER-Channel-Binding", None).ok();
        let server_end_point = match &self.0.side {
            Side::Server { end_point } => end_point.as_deref().map(<[u8]>::to_vec),
            Side::Client { .. } => self.peer_certificate().and_then(cert::end_point),
        };
        Bindings { exporter, server_end_point }
    }

    /// The peer's certificate, whose key signed this handshake. Empty before that is known.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.peer_chain()?.first().map(|cert| cert.as_ref())
    }

    /// The peer's certificate and what it sent along.
    fn peer_chain(&self) -> Option<&[CertificateDer<'static>]> {
        if self.is_handshaking() { None } else { self.0.conn.peer_certificates() }
    }

    /// The pin of the peer's certificate.
    pub fn peer_spki(&self) -> Option<Pin> {
        self.peer_certificate().and_then(cert::spki_sha256)
    }

    /// `TLS 1.3` or `TLS 1.2`.
    pub fn version(&self) -> Option<&'static str> {
        match self.0.conn.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
            rustls::ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
            _ => None,
        }
    }

    /// The cipher suite, as rustls names it.
    pub fn cipher(&self) -> Option<&'static str> {
        self.0.conn.negotiated_cipher_suite()?.suite().as_str()
    }

    /// The ALPN name agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.conn.alpn_protocol()
    }

    /// With [`Trust::Tofu`], writes the key down if it is new; true if it was. Call it when the login
    /// has succeeded: SCRAM proves that this hub knows the password, so a stranger who answers once
    /// does not get into the record.
    pub fn remember(&self) -> Result<bool, Error> {
        let Side::Client { name, tofu: Some(file) } = &self.0.side else { return Ok(false) };
        let Some(pin) = self.peer_spki() else { return Ok(false) };
        let domain = name.to_str();
        // Read again: another process may have written it since.
        if known_or_new(file, &domain, pin).map_err(|why| Error::Refused(Box::new(why)))? {
            return Ok(false);
        }
        record(file, &domain, pin).map_err(|why| Error::File {
            path: file.to_path_buf(),
            why: format!("cannot be written: {why}; the key is not remembered"),
        })?;
        Ok(true)
    }
}

/// How rustls stands towards a reader of plaintext.
#[derive(PartialEq, Eq)]
enum Inside {
    Plain,
    Nothing,
    /// Closed, with or without `close_notify`: XMPP has its own end, `</stream:stream>`.
    End,
}

impl Inner {
    fn inside(&mut self) -> Inside {
        match self.conn.reader().fill_buf() {
            Ok([]) => Inside::End,
            Ok(_) => Inside::Plain,
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => Inside::Nothing,
            Err(_) => Inside::End,
        }
    }

    fn copy_out(&mut self, plain: &mut [u8]) -> Got {
        // Its errors (nothing there, end) are asked for below, in one place.
        let copied = self.conn.reader().read(plain).unwrap_or(0);
        let inside = self.inside();
        Got { wire: 0, plain: copied, closed: inside == Inside::End, more: inside == Inside::Plain }
    }

    /// rustls keeps the input buffer of its largest burst (32 KB for full records) until the next read
    /// begins; beginning one that finds nothing makes it go back to 4 KB now. It costs a few
    /// nanoseconds when there is nothing to give back.
    fn slim(&mut self) {
        let _ = self.conn.read_tls(&mut Nothing);
    }
}

/// A socket on which nothing has arrived.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A socket that can be waited for, whoever it is that waits: the hub's `Socket`, the client's `Async`.
pub trait Wait {
    /// What reads and writes.
    type Io<'a>: Read + Write
    where
        Self: 'a;

    /// What reads and writes.
    fn io(&self) -> Self::Io<'_>;

    /// Waits until a read that would have blocked may be tried again.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    /// Waits until a write that would have blocked may be tried again.
    fn writable(&self) -> impl Future<Output = io::Result<()>>;
}

impl<T: 'static> Wait for Async<T>
where
    for<'a> &'a T: Read + Write,
{
    type Io<'a> = &'a T;

    fn io(&self) -> &T {
        self.get_ref()
    }

    async fn readable(&self) -> io::Result<()> {
        Async::readable(self).await
    }

    async fn writable(&self) -> io::Result<()> {
        Async::writable(self).await
    }
}

/// Finishes the handshake of a new connection, or of one whose STARTTLS has just been agreed. Until
/// `deadline`, whatever the peer does. Plaintext that came with its last flight stays inside: call
/// [`Tls::read`] before waiting for the socket.
pub async fn handshake(tls: &mut Tls, io: &impl Wait, deadline: impl Future) -> Result<(), Error> {
    let late = async {
        deadline.await;
        Err(Error::Deadline)
    };
    smol::future::or(drive_handshake(tls, io), late).await
}

async fn drive_handshake(tls: &mut Tls, io: &impl Wait) -> Result<(), Error> {
    let mut wire = 0usize;
    loop {
        while !tls.flush(&mut io.io())? {
            io.writable().await?;
        }
        if !tls.is_handshaking() {
            return Ok(());
        }
        match tls.read(&mut io.io(), &mut []) {
            // The last flight may bring plaintext, or even the end, behind it: that is for the caller.
            Ok(got) if got.closed && tls.is_handshaking() => return Err(Error::Closed),
            Ok(got) => wire = wire.saturating_add(got.wire),
            Err(why) if why.would_block() => io.readable().await?,
            Err(why) => {
                let _ = tls.flush(&mut io.io()); // the alert that says why, if there is room
                return Err(why);
            }
        }
        if wire > MAX_HANDSHAKE {
            return Err(Error::Misbehaved("endless handshake".to_owned()));
        }
    }
}
