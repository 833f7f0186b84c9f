//! expat and libxml2, asked through a Python process: only when `FUZZ_PEERS` is set, for it is slow.

use std::cell::RefCell;
use std::io::{BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

struct Peer {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

thread_local! {
    static PEER: RefCell<Option<Peer>> = RefCell::new(start());
}

fn start() -> Option<Peer> {
    std::env::var_os("FUZZ_PEERS")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers.py");
    let mut child = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed for FUZZ_PEERS");
    let to = child.stdin.take().expect("piped");
    let from = BufReader::new(child.stdout.take().expect("piped"));
    Some(Peer { _child: child, to, from })
}

/// The names of the other readers that are there, each with what it sees in the document: as
/// [`crate::Tree`] tells it, or why it refuses.
pub fn see(document: &str) -> Vec<(String, Result<Vec<String>, String>)> {
    PEER.with_borrow_mut(|peer| {
        let Some(peer) = peer else { return Vec::new() };
        let mut ask = || -> std::io::Result<_> {
            peer.to.write_all(&u32::try_from(document.len()).unwrap_or(0).to_be_bytes())?;
            peer.to.write_all(document.as_bytes())?;
            peer.to.flush()?;
            let mut len = [0; 4];
            peer.from.read_exact(&mut len)?;
            let mut reply = vec![0; u32::from_be_bytes(len) as usize];
            peer.from.read_exact(&mut reply)?;
            Ok(String::from_utf8_lossy(&reply).into_owned())
        };
        let reply = ask().expect("the readers answer");
        reply
            .split('\u{3}')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let mut words = part.splitn(3, '\u{4}');
                let name = words.next().unwrap_or_default().to_owned();
                let sign = words.next().unwrap_or_default();
                let text = words.next().unwrap_or_default();
                match sign {
                    "+" => (name, Ok(text.split('\u{2}').map(str::to_owned).collect())),
                    _ => (name, Err(text.to_owned())),
                }
            })
            .collect()
    })
}
