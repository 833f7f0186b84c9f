//! Connections on one epoll, cut into frames by whatever their protocol is.

use crate::frame;
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// What the bytes of a connection are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Proto {
    Xmpp,
    Mqtt,
    /// Lines, for the relay.
    Line,
}

pub struct Conn {
    io: TcpStream,
    tls: Option<Box<ClientConnection>>,
    proto: Proto,
    input: Vec<u8>,
    pub output: Vec<u8>,
    /// On the list of those that have something to write.
    dirty: bool,
    /// The socket took no more, and will say when it does.
    full: bool,
    pub closed: bool,
}

pub struct Net {
    epoll: OwnedFd,
    pub conns: Vec<Option<Conn>>,
    dirty: Vec<usize>,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// Where connections come from, and how many from one address before the next one's turn.
    pub from: Option<(Ipv4Addr, u32)>,
    /// How often a socket took less than it was given.
    pub refused: u64,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
}

impl Net {
    pub fn new(domain: &str) -> Net {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled(); // every login pays for itself
        Net {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll"),
            conns: Vec::new(),
            dirty: Vec::new(),
            config: Arc::new(config),
            name: ServerName::try_from(domain.to_owned()).expect("a domain"),
            from: None,
            refused: 0,
            events: Vec::with_capacity(1024),
            scratch: vec![0; 256 * 1024],
        }
    }

    /// Connects (waiting for it: on one machine it takes microseconds) as number `i`.
    pub fn connect(&mut self, i: usize, to: SocketAddr, proto: Proto, tls: bool) -> io::Result<()> {
        let io = match self.from {
            None => TcpStream::connect(to)?,
            Some((first, each)) => connect_from((first.to_bits() + i as u32 / each).into(), to)?,
        };
        io.set_nodelay(true)?;
        io.set_nonblocking(true)?;
        epoll::add(&self.epoll, &io, epoll::EventData::new_u64(i as u64), epoll::EventFlags::IN)?;
        if self.conns.len() <= i {
            self.conns.resize_with(i + 1, || None);
        }
        let conn = Conn {
            io,
            tls: None,
            proto,
            input: Vec::new(),
            output: Vec::new(),
            dirty: false,
            full: false,
            closed: false,
        };
        self.conns[i] = Some(conn);
        if tls {
            self.start_tls(i);
        }
        Ok(())
    }

    pub fn start_tls(&mut self, i: usize) {
        let client = ClientConnection::new(self.config.clone(), self.name.clone()).expect("a client");
        let conn = self.conns[i].as_mut().expect("a connection");
        conn.input.clear();
        conn.tls = Some(Box::new(client));
        self.touch(i);
    }

    /// The output of a connection; it is written at the end of the turn.
    pub fn out(&mut self, i: usize) -> &mut Vec<u8> {
        self.touch(i);
        &mut self.conns[i].as_mut().expect("a connection").output
    }

    fn touch(&mut self, i: usize) {
        let conn = self.conns[i].as_mut().expect("a connection");
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(i);
        }
    }

    /// Reads nothing from it any more but by [`Net::sip`], or everything again.
    pub fn hold(&mut self, i: usize, hold: bool) {
        let conn = self.conns[i].as_ref().expect("a connection");
        let flags = if hold { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
        // Or the system would read megabytes in its stead. With less than a segment it would crawl.
        let _ = sockopt::set_socket_recv_buffer_size(&conn.io, 1 << 18);
        let _ = epoll::modify(&self.epoll, &conn.io, epoll::EventData::new_u64(i as u64), flags);
    }

    /// Reads a little of what waits (of TLS at least a record); how much.
    pub fn sip(&mut self, i: usize, most: usize, mut each: impl FnMut(&mut Net, usize, &[u8])) -> usize {
        self.read(i, most, &mut each)
    }

    /// The system keeps little of what is written: a flood shall be felt.
    pub fn narrow(&mut self, i: usize) {
        let conn = self.conns[i].as_ref().expect("a connection");
        let _ = sockopt::set_socket_send_buffer_size(&conn.io, 1 << 16);
    }

    /// Connections that are still open.
    pub fn open(&self) -> usize {
        self.conns.iter().flatten().filter(|c| !c.closed).count()
    }

    pub fn drop(&mut self, i: usize) {
        if let Some(slot) = self.conns.get_mut(i) {
            *slot = None; // epoll forgets a closed socket by itself
        }
    }

    /// Waits for input at most `timeout` and gives each frame to `each`; an empty one is the end of a
    /// connection. Then writes. True: something came.
    pub fn turn(&mut self, timeout: Duration, mut each: impl FnMut(&mut Net, usize, &[u8])) -> bool {
        self.flush();
        let wait = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait));
        for event in &events {
            let (i, what) = (event.data.u64() as usize, event.flags);
            if what.contains(epoll::EventFlags::OUT) {
                self.listen(i, false);
                self.touch(i);
            }
            if what != epoll::EventFlags::OUT {
                self.read(i, usize::MAX, &mut each);
            }
        }
        let came = !events.is_empty();
        self.events = events;
        self.flush();
        came
    }

    fn read(&mut self, i: usize, most: usize, each: &mut impl FnMut(&mut Net, usize, &[u8])) -> usize {
        let Some(conn) = self.conns.get_mut(i).and_then(Option::as_mut) else { return 0 };
        let mut scratch = std::mem::take(&mut self.scratch);
        let got = match conn.tls.as_mut() {
            None => {
                let most = most.min(scratch.len());
                conn.io.read(&mut scratch[..most])
            }
            Some(tls) => decrypt(tls, &mut conn.io, &mut scratch, most),
        };
        if conn.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            self.touch(i);
        }
        match &got {
            Ok(n) if *n > 0 => self.cut(i, &scratch[..*n], each),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            _ => {
                let conn = self.conns[i].as_mut().expect("a connection");
                conn.closed = true;
                let _ = epoll::delete(&self.epoll, &conn.io);
                each(self, i, b"");
            }
        }
        self.scratch = scratch;
        got.unwrap_or(0)
    }

    fn cut(&mut self, i: usize, bytes: &[u8], each: &mut impl FnMut(&mut Net, usize, &[u8])) {
        let Some(conn) = self.conns[i].as_mut() else { return };
        let proto = conn.proto;
        let mut input = std::mem::take(&mut conn.input);
        let kept = !input.is_empty();
        if kept {
            input.extend_from_slice(bytes);
        }
        let mut rest = if kept { &input[..] } else { bytes };
        while let Some(n) = frame::next(proto, rest) {
            let (one, behind) = rest.split_at(n);
            each(self, i, one);
            rest = behind;
        }
        if let Some(conn) = self.conns[i].as_mut() {
            conn.input = rest.to_vec();
        }
    }

    pub fn flush(&mut self) {
        let list = std::mem::take(&mut self.dirty);
        for i in list {
            let Some(conn) = self.conns[i].as_mut() else { continue };
            conn.dirty = false;
            if !conn.closed && !conn.full && !conn.write() {
                self.refused += 1;
                self.listen(i, true);
            }
        }
    }

    /// Whether to wait until there is room, too.
    fn listen(&mut self, i: usize, full: bool) {
        let Some(conn) = self.conns[i].as_mut() else { return };
        conn.full = full;
        let flags = if full { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        let _ = epoll::modify(&self.epoll, &conn.io, epoll::EventData::new_u64(i as u64), flags);
    }
}

fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // The same port may serve to another destination, and ports are scarce.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket.into())
}

fn decrypt(
    tls: &mut ClientConnection,
    io: &mut TcpStream,
    into: &mut [u8],
    most: usize,
) -> io::Result<usize> {
    let mut total = 0;
    loop {
        match tls.read_tls(io) {
            Ok(0) => return Ok(total), // 0 in all: the end
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock && total > 0 => return Ok(total),
            Err(e) => return Err(e),
        }
        tls.process_new_packets().map_err(io::Error::other)?;
        while total < into.len() {
            match tls.reader().read(&mut into[total..]) {
                Ok(0) => break,
                Ok(n) => total += n,
                Err(_) => break,
            }
        }
        if total + 32 * 1024 > into.len() || total >= most {
            return Ok(total);
        }
    }
}

impl Conn {
    /// True: all is written.
    fn write(&mut self) -> bool {
        let mut done = 0;
        let full = |e: &io::Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
        match &mut self.tls {
            None => {
                while done < self.output.len() {
                    match self.io.write(&self.output[done..]) {
                        Ok(n) => done += n,
                        Err(e) if full(&e) => break,
                        Err(_) => done = self.output.len(), // the reader will notice
                    }
                }
            }
            Some(tls) => loop {
                while tls.wants_write() {
                    match tls.write_tls(&mut self.io) {
                        Ok(_) => {}
                        Err(e) if full(&e) => {
                            self.output.drain(..done);
                            return false;
                        }
                        Err(_) => return true,
                    }
                }
                if tls.is_handshaking() || done == self.output.len() {
                    break;
                }
                done += tls.writer().write(&self.output[done..]).unwrap_or(0);
            },
        }
        self.output.drain(..done);
        // What waits for the handshake is written when that is done.
        self.output.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }
}

/// It is the server's speed that is measured, not its papers.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
