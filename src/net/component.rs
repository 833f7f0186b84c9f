//! A component's connection from accept to close (XEP-0114): an external gateway attaches a domain of its
//! own, and is a peer of the hub's from then on.

use super::c2s::{self, Fail, Place};
use super::outbox::{Conn, End};
use super::reactor::Socket;
use super::ring::{Scratch, Shared};
use super::tls::Wait;
use crate::hub::peer::Link;
use crate::hub::talk::{Input, Lost, SessionId, Unreachable};
use crate::jid::Jid;
use crate::stanza::Stanza;
use crate::stream::component::{Component, ComponentAsk};
use crate::stream::identity::Attached;
use crate::stream::{self, Condition, Secret};
use crate::xml::{Flow, Kind, Reader, Scan, Scope, scan};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

/// One connection of a component, from accept to close.
pub async fn serve(shared: Rc<Shared>, io: Socket<TcpStream>, from: SocketAddr, place: Place) {
    let conn = Conn::new(io, from);
    let early = c2s::Early::new(&shared, &conn);
    let limits = shared.limits();
    let mut this = Stream {
        reader: Reader::new(limits.early_bytes as usize, u16::try_from(limits.depth).unwrap_or(u16::MAX)),
        shared: shared.clone(),
        conn: conn.clone(),
    };
    let mut core = Component::new(super::random());
    let mut out = Vec::new();
    let patience = shared.reactor.after(Duration::from_secs(limits.login_seconds));
    let late = async {
        patience.await;
        Err(stream::Error::new(Condition::ConnectionTimeout).into())
    };
    let negotiated = smol::future::or(this.negotiate(&mut core, &mut out), late).await;
    drop(early);
    match negotiated {
        Ok((attached, peer)) => {
            let _settled = place.settled();
            let guard = Guard { shared: shared.clone(), conn: conn.clone(), peer };
            log::info!("{from}: component {} is attached", attached.domain());
            let end = this.run(&attached, peer, &core.scope()).await;
            log::info!("{from}: component {} is gone", attached.domain());
            guard.end(end).await;
        }
        Err(Fail::Gone) => {}
        Err(fail) => {
            if let Fail::Error(error) = fail {
                log::warn!("{from}: component refused: {error}");
                core.fail(&error, &mut out);
            }
            c2s::goodbye(&shared, &conn, conn.write_all(&out)).await;
        }
    }
}

/// Takes the peer's link down even when the task fails.
struct Guard {
    shared: Rc<Shared>,
    conn: Rc<Conn>,
    peer: SessionId,
}

impl Guard {
    async fn end(self, end: End) {
        let (shared, conn) = (self.shared.clone(), self.conn.clone());
        let outbox = self.unlink();
        if let Some(mut outbox) = outbox {
            c2s::last_words(&shared, &conn, &mut outbox, end).await;
        }
    }

    fn unlink(&self) -> Option<super::outbox::Outbox> {
        if self.conn.session.get() != self.peer {
            return None;
        }
        let why = Unreachable { kind: Lost::Closed, text: "the component is not connected".into() };
        self.shared.unlink(self.peer, why)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.conn.session.get() == self.peer {
            let (shared, peer) = (self.shared.clone(), self.peer);
            self.shared.spawn(async move {
                let why = Unreachable { kind: Lost::Closed, text: "the component is not connected".into() };
                shared.unlink(peer, why);
            });
        }
    }
}

struct Stream {
    shared: Rc<Shared>,
    conn: Rc<Conn>,
    reader: Reader,
}

impl Stream {
    async fn negotiate(
        &mut self,
        core: &mut Component,
        out: &mut Vec<u8>,
    ) -> Result<(Attached, SessionId), Fail> {
        loop {
            let mut ask = None;
            self.read(|kind, frame, scan| {
                ask = core.frame(kind, frame, scan, out)?;
                Ok(if ask.is_some() { Flow::Stop } else { Flow::Go })
            })
            .await?;
            match ask {
                None => {}
                Some(ComponentAsk::Closed) => return Err(Fail::Closed),
                Some(ComponentAsk::Secret { domain }) => {
                    let secret = self.shared.federation.peers.borrow().secret(&domain).map(Secret::new);
                    core.secret(secret.as_ref(), out)?;
                    self.conn.write_all(out).await?;
                    out.clear();
                }
                Some(ComponentAsk::Attached(attached)) => {
                    let peer = self.shared.with_hub(|hub, _| {
                        let main = hub.names.domain.clone();
                        let peer = hub.peer(&main, attached.domain())?;
                        hub.peer_at(peer).filter(|p| p.component && p.link.get() != Link::Up).map(|p| p.id)
                    });
                    // XEP-0114 §3: one at a time speaks for a domain.
                    let taken = stream::Error::new(Condition::Conflict);
                    let peer = peer.ok_or(Fail::Error(taken.text("that component is connected already")))?;
                    self.reader.set_max_bytes(self.shared.limits().stanza_bytes as usize);
                    self.shared.attach(peer, &self.conn, out, false);
                    return Ok((attached, peer));
                }
            }
        }
    }

    /// Stanzas, until the end.
    async fn run(mut self, attached: &Attached, peer: SessionId, scope: &Scope) -> End {
        loop {
            if let Some(end) = self.conn.take_end() {
                return end;
            }
            let (shared, conn) = (self.shared.clone(), self.conn.clone());
            if shared.congested(peer) {
                std::future::poll_fn(|cx| match shared.congested(peer) && !conn.ends() {
                    true => {
                        conn.wait(cx.waker());
                        shared.wait_for_store(&conn);
                        std::task::Poll::Pending
                    }
                    false => std::task::Poll::Ready(()),
                })
                .await;
                continue;
            }
            let heard = self.read(|kind, frame, scan| {
                match kind {
                    Kind::Keepalive => {}
                    Kind::Footer => return Err(Fail::Closed),
                    Kind::Header => return Err(stream::Error::new(Condition::BadFormat).into()),
                    Kind::Element => element(&shared, attached, peer, frame, scan, scope)?,
                }
                Ok(if conn.ends() || shared.congested(peer) { Flow::Stop } else { Flow::Go })
            });
            let ended = async { Err(c2s::ended(&conn).await) };
            match smol::future::or(ended, heard).await {
                Ok(()) => {}
                Err(Fail::Closed) => return End::Closed,
                Err(Fail::Error(error)) => return End::Error(error),
                Err(Fail::Gone) => return End::Dead,
            }
        }
    }

    /// Waits for bytes and hands over the frames in them, and those that were left from before.
    async fn read(
        &mut self,
        mut hear: impl FnMut(Kind, &[u8], &mut Scan) -> Result<Flow, Fail>,
    ) -> Result<(), Fail> {
        let mut stopped = false;
        {
            let mut scratch = self.shared.scratch.borrow_mut();
            let scan = &mut scratch.scan;
            self.reader.feed(&[], |kind, frame| -> Result<Flow, Fail> {
                let flow = hear(kind, frame, scan)?;
                stopped |= matches!(flow, Flow::Stop);
                Ok(flow)
            })?;
        }
        if stopped {
            return Ok(());
        }
        loop {
            self.conn.io.readable().await?;
            let shared = self.shared.clone();
            let mut scratch = shared.scratch.borrow_mut();
            let Scratch { wire, scan, .. } = &mut *scratch;
            match (&self.conn.io).read(wire) {
                Ok(0) => return Err(Fail::Gone),
                Ok(n) => {
                    let bytes = wire.get(..n).unwrap_or_default();
                    return self.reader.feed(bytes, |kind, frame| hear(kind, frame, scan));
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// One first-level element of an attached component: judged in full, from an address of its own, and then
/// heard.
fn element(
    shared: &Rc<Shared>,
    attached: &Attached,
    peer: SessionId,
    frame: &[u8],
    scan: &mut Scan,
    scope: &Scope,
) -> Result<(), Fail> {
    let caps = shared.caps.get();
    let mut own = Vec::new();
    let mut text = scan.element(frame, scope, &caps)?;
    if scan.outer != 0 {
        scan::redeclare(text, scan, scope, &mut own);
        text = scan.element(&own, &Scope::default(), &caps)?;
    }
    let stanza = Stanza::new(text, scan).ok_or(stream::Error::new(Condition::UnsupportedStanzaType))?;
    // XEP-0114 §3, threat D14: it speaks for its own domain and for no other.
    let (Some(from), Some(_)) = (stanza.from(), stanza.to()) else {
        let error = stream::Error::new(Condition::ImproperAddressing);
        return Err(error.text("a component's stanzas need a from and a to").into());
    };
    if !Jid::parse(&from).is_ok_and(|from| from.domain() == attached.domain()) {
        return Err(stream::Error::new(Condition::InvalidFrom).into());
    }
    shared.hear(Input::Remote { peer, stanza: &stanza });
    Ok(())
}
