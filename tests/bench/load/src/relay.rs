//! The least that a server on one thread can do: bytes from one connection to another, no questions.
//! The floor to compare with.

use rustix::event::epoll;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

const LISTENER: u64 = u64::MAX;

/// Serves for ever, and writes what it has read at once, or each line by itself. The first line of a connection names its pair; both get a line when it is complete.
pub fn serve(at: SocketAddr, each: bool) -> std::io::Result<()> {
    let listener = TcpListener::bind(at)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut conns: HashMap<u64, (TcpStream, Option<u64>)> = HashMap::new();
    let mut halves: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut scratch = vec![0; 64 * 1024];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let id = event.data.u64();
            if id == LISTENER {
                let (io, _) = listener.accept()?;
                io.set_nonblocking(true)?;
                io.set_nodelay(true)?;
                let id = io.as_raw_fd() as u64;
                epoll::add(&epoll, &io, epoll::EventData::new_u64(id), epoll::EventFlags::IN)?;
                conns.insert(id, (io, None));
                continue;
            }
            let Some((io, other)) = conns.get(&id) else { continue };
            let n = match (&*io).read(&mut scratch) {
                Ok(n) if n > 0 => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => continue,
                _ => {
                    conns.remove(&id);
                    continue;
                }
            };
            let bytes = &scratch[..n];
            match other {
                Some(other) => {
                    // What the other one does not take is lost: its reader is this machine's own.
                    if let Some((other, _)) = conns.get(other) {
                        let write = |bytes: &[u8]| _ = (&*other).write_all(bytes);
                        match each {
                            true => bytes.split_inclusive(|b| *b == b'\n').for_each(write),
                            false => write(bytes),
                        }
                    }
                }
                None => match halves.remove(bytes) {
                    None => _ = halves.insert(bytes.to_vec(), id),
                    Some(other) => {
                        for (one, two) in [(id, other), (other, id)] {
                            if let Some((io, slot)) = conns.get_mut(&one) {
                                *slot = Some(two);
                                io.write_all(b"ok\n")?;
                            }
                        }
                    }
                },
            }
        }
    }
}
