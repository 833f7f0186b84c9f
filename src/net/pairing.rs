//! The one pairing that a hub can have open, between the people at its console and the streams
//! ([`crate::stream::pairing`] is the exchange itself).

use crate::stream::pairing::{self, Event, Hub, Message, Offer, Why, Window};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How it stands, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// None is open; why the last one ended without a pin, if it did.
    Closed(Option<Why>),
    /// Open for so many seconds more, with nobody yet; what the other side said last.
    Waiting {
        /// For that domain only.
        with: Option<String>,
        /// Seconds.
        left: u64,
        /// It is not ready, or goes its own way; try again in a moment.
        said: Option<Why>,
    },
    /// Two people have to compare.
    Compare(Offer),
}

/// What the streams and the console share.
pub struct Pairing {
    started: Instant,
    window: RefCell<Option<Window>>,
    said: Cell<Option<Why>>,
    opened: Cell<u64>,
    streams: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
    changes: Cell<u64>,
}

impl Default for Pairing {
    fn default() -> Pairing {
        Pairing {
            started: Instant::now(),
            window: RefCell::default(),
            said: Cell::default(),
            opened: Cell::default(),
            streams: Cell::default(),
            wakers: RefCell::default(),
            changes: Cell::default(),
        }
    }
}

impl Pairing {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Opens one, by hand, in the place of what was open: there is one at a time (threat I4).
    pub fn open(&self, us: Hub, with: Option<&str>, patience: Duration) {
        let window = Window::open(self.now(), patience, us, with, &super::random());
        *self.window.borrow_mut() = Some(window);
        self.said.set(None);
        self.opened.set(self.opened.get().wrapping_add(1));
        self.changed_now();
    }

    /// How many were opened: another number, another pairing.
    pub fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// A number for a stream, that no other has.
    pub fn number(&self) -> u64 {
        self.streams.replace(self.streams.get().wrapping_add(1))
    }

    /// Whether a stream of that domain, which nothing else proves, is there for the sake of pairing.
    pub fn wants(&self, domain: &str) -> bool {
        let (now, window) = (self.now(), self.window.borrow());
        window.as_ref().is_some_and(|w| w.is_open(now) && w.with().is_none_or(|with| with == domain))
    }

    /// We have dialled: what to send first. `peer` is the domain that was dialled and the key that TLS has shown.
    pub fn begin(&self, stream: u64, peer: &Hub) -> Result<Vec<u8>, Why> {
        let mut window = self.window.borrow_mut();
        let first = window.as_mut().ok_or(Why::Closed)?.initiate(self.now(), stream, peer)?;
        Ok(bytes(&first))
    }

    /// A word came before anything was proven on the stream. What to answer.
    pub fn hear(&self, stream: u64, peer: &Hub, message: &Message) -> Option<Vec<u8>> {
        let mut window = self.window.borrow_mut();
        let reply = match (window.as_mut(), message) {
            (Some(window), message) => {
                let heard = window.hear(self.now(), stream, peer, message);
                if let Some(event) = heard.event {
                    self.tell(event, Some(&peer.domain));
                }
                heard.reply
            }
            // No answer to an answer.
            (None, Message::Refused(_)) => None,
            (None, _) => Some(pairing::closed()),
        };
        drop(window);
        reply.map(|reply| bytes(&reply))
    }

    /// A stream that was begun with or heard has ended.
    pub fn lost(&self, stream: u64) {
        let event = self.window.borrow_mut().as_mut().and_then(|window| window.lost(stream));
        if let Some(event) = event {
            self.tell(event, None);
        }
    }

    /// A person says that the codes are the same. What it gives is to be pinned.
    pub fn accept(&self, domain: &str) -> Result<Hub, Why> {
        let now = self.now();
        let hub = self.window.borrow_mut().as_mut().ok_or(Why::Closed)?.confirm(now, domain)?;
        self.said.set(None);
        self.changed_now();
        Ok(hub)
    }

    /// A person says no, or has enough. The stream that should hear of it.
    pub fn close(&self) -> Option<(u64, Vec<u8>)> {
        let mut window = self.window.borrow_mut().take()?;
        self.said.set(Some(Why::Refused));
        self.changed_now();
        window.refuse().map(|(stream, message)| (stream, bytes(&message)))
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let (now, window) = (self.now(), self.window.borrow());
        let Some(window) = window.as_ref().filter(|window| window.is_open(now)) else {
            return Status::Closed(self.said.get());
        };
        match window.offer(now) {
            Some(offer) => Status::Compare(offer.clone()),
            None => Status::Waiting {
                with: window.with().map(str::to_owned),
                left: window.until().saturating_sub(now).as_secs(),
                said: self.said.get(),
            },
        }
    }

    /// Waits until the status is another. (Time, which closes a window, too, is the caller's.)
    pub async fn changed(&self) {
        let before = self.changes.get();
        poll_fn(|cx| {
            if self.changes.get() != before {
                return Poll::Ready(());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn tell(&self, event: Event, domain: Option<&str>) {
        let who = super::cert::printable(domain.unwrap_or("the other hub"), 80);
        match event {
            Event::Compare(offer) => {
                self.said.set(None);
                // The code is for the two of them, and for this moment; it is no secret.
                log::info!("pairing with {who}: compare {} with what is shown there", offer.digits());
            }
            Event::Retry(why) => {
                self.said.set(Some(why));
                log::debug!("pairing with {who}: {why}");
            }
            Event::Closed(why) => {
                self.said.set(Some(why));
                log::warn!("pairing with {who} has failed: {why}");
            }
        }
        self.changed_now();
    }

    fn changed_now(&self) {
        self.changes.set(self.changes.get().wrapping_add(1));
        self.wakers.take().into_iter().for_each(Waker::wake);
    }
}

fn bytes(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(name: &str, key: u8) -> Hub {
        Hub { domain: name.into(), pin: [key; 32] }
    }

    /// The name and the text of an element.
    fn parts(bytes: &[u8]) -> (String, String) {
        let text = std::str::from_utf8(bytes).unwrap();
        let name = text.trim_start_matches('<').split(' ').next().unwrap();
        let inner = text.split_once('>').unwrap().1.split_once('<').unwrap().0;
        (name.to_owned(), inner.to_owned())
    }

    #[test]
    fn two_consoles_and_a_stream_between() {
        let (one, two) = (hub("a.local", 1), hub("b.local", 2));
        let (a, b) = (Pairing::default(), Pairing::default());
        let hear = |at: &Pairing, from: &Hub, bytes: &[u8]| {
            let (name, text) = parts(bytes);
            at.hear(1, from, &Message::read(&name, &text).unwrap())
        };
        assert_eq!((a.status(), a.wants("b.local")), (Status::Closed(None), false));
        assert_eq!(a.begin(1, &two), Err(Why::Closed));
        a.open(one.clone(), Some("c.local"), Duration::from_secs(60));
        a.open(one.clone(), Some("b.local"), Duration::from_secs(60));
        assert_eq!(a.opened(), 2);
        assert!(a.wants("b.local") && !a.wants("c.local"));
        // Nobody has opened one at the other hub yet.
        let answer = hear(&b, &one, &a.begin(1, &two).unwrap()).unwrap();
        assert_eq!(hear(&a, &two, &answer), None);
        assert!(matches!(a.status(), Status::Waiting { said: Some(Why::Closed), left: 50..=60, .. }));
        b.open(two.clone(), None, Duration::from_secs(60));
        let nonce = hear(&b, &one, &a.begin(1, &two).unwrap()).unwrap();
        let reveal = hear(&a, &two, &nonce).unwrap();
        let shown = smol::block_on(async {
            let waiting = async {
                b.changed().await;
                b.status()
            };
            let coming = async { hear(&b, &one, &reveal) };
            smol::future::zip(waiting, coming).await
        });
        let (Status::Compare(at_b), None) = shown else { panic!("{shown:?}") };
        let Status::Compare(at_a) = a.status() else { panic!() };
        assert_eq!(at_a.digits(), at_b.digits());
        a.lost(1);
        assert_eq!(a.accept("b.local"), Ok(two));
        assert_eq!(a.status(), Status::Closed(None));
        // The person at the other hub does not like it.
        assert!(b.close().is_some());
        assert_eq!(b.accept("a.local"), Err(Why::Closed));
        assert_eq!(b.status(), Status::Closed(Some(Why::Refused)));
        assert_eq!(parts(&b.hear(1, &one, &Message::Commit([0; 32])).unwrap()).1, "closed");
        assert_eq!(b.hear(1, &one, &Message::Refused(Why::Closed)), None);
    }
}
