//! The hub's door for its operator: a unix socket in the data directory. Who can open the directory
//! is let in; the peer's user id is checked all the same.

use super::desk::Desk;
use super::ring::Shared;
use async_io::{Async, Timer};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The socket's name.
pub const NAME: &str = "control.sock";
/// An order is short.
const MAX_ORDER: u64 = 64 * 1024;
/// Who connects and says nothing is in the way of nobody, but not for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// Operators at once.
const AT_ONCE: usize = 8;

/// Where the socket is. An address has room for 107 bytes: a longer path goes by way of the
/// directory, which is open as long as the first half is there.
fn door(dir: &Path) -> io::Result<(Option<File>, PathBuf)> {
    let path = dir.join(NAME);
    if path.as_os_str().len() < 108 {
        return Ok((None, path));
    }
    let dir = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd());
    Ok((Some(dir), path.into()))
}

/// Opens the socket, in the place of a dead one.
pub fn open(dir: &Path) -> io::Result<Async<UnixListener>> {
    let (_dir, path) = door(dir)?;
    if let Ok(found) = std::fs::symlink_metadata(&path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::other(format!("{} is in the way: it is no socket", path.display())));
        }
        std::fs::remove_file(&path)?; // the store's lock says that nobody is behind it
    }
    let listener = UnixListener::bind(&path)?; // the directory is 0700 and the umask 077
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    Async::new(listener)
}

/// Serves operators for ever.
pub async fn serve(shared: Rc<Shared>, listener: Async<UnixListener>) {
    let busy = Rc::new(());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            Timer::after(Duration::from_secs(1)).await;
            continue;
        };
        let mine = rustix::process::getuid().as_raw();
        let uid = rustix::net::sockopt::socket_peercred(&stream).map(|c| c.uid.as_raw());
        if !uid.is_ok_and(|uid| uid == mine || uid == 0) {
            continue;
        }
        if Rc::strong_count(&busy) > AT_ONCE {
            let mut socket = stream.get_ref();
            let _ = socket.write(b"-the hub is busy with other orders; try again in a moment");
            continue;
        }
        let (shared, busy) = (shared.clone(), busy.clone());
        shared.clone().spawn(async move {
            let _busy = busy;
            if let Err(e) = one(shared, stream).await {
                log::debug!("console: {e}");
            }
        });
    }
}

async fn one(shared: Rc<Shared>, mut stream: Async<UnixStream>) -> io::Result<()> {
    let mut order = Vec::new();
    let reading = async { (&mut stream).take(MAX_ORDER).read_to_end(&mut order).await.map(drop) };
    let late = async {
        Timer::after(PATIENCE).await;
        Err(io::Error::from(io::ErrorKind::TimedOut))
    };
    smol::future::or(reading, late).await?;
    let words: Result<Vec<String>, _> =
        order.split(|b| *b == 0).map(|word| String::from_utf8(word.to_vec())).collect();
    let outcome = match words {
        Ok(words) => {
            // The rest of the words may be a password.
            let order = words.iter().take(2).map(String::as_str).collect::<Vec<_>>().join(" ");
            // Whoever only looks may do so every second.
            let looks = order == "status" || order.ends_with(" list") || order == "peer key";
            log::log!(if looks { log::Level::Debug } else { log::Level::Info }, "console: {order}");
            Desk::Hub(shared).carry_out(&words).await
        }
        Err(_) => Err("an order is UTF-8".into()),
    };
    let (sign, text) = match &outcome {
        Ok(text) => (b"+", text),
        Err(text) => (b"-", text),
    };
    let writing = async {
        stream.write_all(sign).await?;
        stream.write_all(text.as_bytes()).await?;
        stream.close().await
    };
    let late = async {
        Timer::after(PATIENCE).await;
        Err(io::Error::from(io::ErrorKind::TimedOut))
    };
    smol::future::or(writing, late).await
}

/// Hands an order to the hub that runs on a data directory. `None`: none does.
pub fn order(dir: &Path, words: &[String]) -> Option<io::Result<Result<String, String>>> {
    let (_dir, path) = door(dir).ok()?;
    let stream = UnixStream::connect(path).ok()?;
    Some(converse(stream, words))
}

fn converse(mut stream: UnixStream, words: &[String]) -> io::Result<Result<String, String>> {
    use std::io::Read;
    // A busy hub answers without having read.
    let sent = stream.write_all(words.join("\0").as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut reply = String::new();
    let read = stream.read_to_string(&mut reply);
    if reply.is_empty() {
        sent?;
        read?;
    }
    match (reply.strip_prefix('+'), reply.strip_prefix('-')) {
        (Some(text), _) => Ok(Ok(text.to_owned())),
        (None, Some(text)) => Ok(Err(text.to_owned())),
        (None, None) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path() {
        let top = std::env::temp_dir().join(format!("stonechat-console-{}", std::process::id()));
        for long in ["short".to_owned(), "long".repeat(50)] {
            let dir = top.join(long);
            std::fs::create_dir_all(&dir).unwrap();
            let _listener = open(&dir).unwrap();
            let _listener = open(&dir).unwrap(); // in the place of the dead one
            let mode = std::fs::metadata(dir.join(NAME)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let (_dir, path) = door(&dir).unwrap();
            UnixStream::connect(path).unwrap();
        }
        std::fs::remove_dir_all(&top).unwrap();
    }
}
