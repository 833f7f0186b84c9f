//! Pairing of two hubs: two people compare six digits that depend on both keys (threats I4, I5).
//!
//! The exchange goes over an s2s stream under TLS, before anything is proven; each side has seen the other's
//! key there. With `H` SHA-256 over fields that carry their lengths:
//!
//! ```text
//! initiating                              receiving
//!   <commit>H(nonceA, pinA, pinB, A, B)</commit>  ──►
//!                                         ◄──  <nonce>nonceB</nonce>
//!   <reveal>nonceA</reveal>               ──►         checks the commitment
//!   both: code = H(nonceA, nonceB, pinA, pinB, A, B) mod 10⁶
//! ```
//!
//! Who stands between has one key with each side, so the two codes differ. To make them equal he would have to
//! choose a nonce when he knows what it leads to, and there is no such moment: the initiating side is bound
//! before it sees the other's nonce, and the receiving side says its own before it sees what the other is
//! bound to. That leaves one guess in a million, and there is one guess: a window is open for some minutes,
//! opened by hand at both hubs, and a try that comes to nothing closes it.

use crate::xml::Writer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use std::fmt;
use std::time::Duration;

/// The namespace of these elements.
pub const NS: &str = "urn:stonechat:pairing:0";

/// SHA-256 of a key (SubjectPublicKeyInfo).
pub type Pin = [u8; 32];

/// One side: its domain, and the key that TLS has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// Its domain, prepared. Of the other side it is what it claims.
    pub domain: Box<str>,
    /// Its key's pin.
    pub pin: Pin,
}

/// Why a side does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody has opened a window there, or it has closed.
    Closed,
    /// It pairs with somebody else.
    Busy,
    /// Both began; the other exchange counts.
    Collision,
    /// It sees itself.
    Ourselves,
    /// What was revealed is not what was committed to, or came at the wrong moment.
    Broken,
    /// A person has said no.
    Refused,
    /// The connection was lost in the middle.
    Lost,
}

impl Why {
    const ALL: [(Why, &'static str); 7] = [
        (Why::Closed, "closed"),
        (Why::Busy, "busy"),
        (Why::Collision, "collision"),
        (Why::Ourselves, "ourselves"),
        (Why::Broken, "broken"),
        (Why::Refused, "refused"),
        (Why::Lost, "lost"),
    ];

    fn name(self) -> &'static str {
        Why::ALL.iter().find(|(why, _)| *why == self).map_or("broken", |(_, name)| name)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Closed => "no pairing is open there; somebody has to say peer pair there, too",
            Why::Busy => "another pairing is under way",
            Why::Collision => "both hubs began; the other exchange goes on",
            Why::Ourselves => "that is our own key",
            Why::Broken => "the exchange makes no sense: somebody may stand in between; open a new pairing",
            Why::Refused => "it was refused; open a new pairing",
            Why::Lost => "the connection was lost in the middle; open a new pairing",
        })
    }
}

/// An element of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// What the initiating side is bound to.
    Commit([u8; 32]),
    /// The receiving side's nonce.
    Nonce([u8; 32]),
    /// The initiating side's nonce.
    Reveal([u8; 32]),
    /// It ends.
    Refused(Why),
}

impl Message {
    /// From an element of [`NS`] by its local name and its text. `None`: not one of ours.
    pub fn read(name: &str, text: &str) -> Option<Message> {
        let text = text.trim();
        let bytes = || <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
        Some(match name {
            "commit" => Message::Commit(bytes()?),
            "nonce" => Message::Nonce(bytes()?),
            "reveal" => Message::Reveal(bytes()?),
            "refused" => {
                let known = Why::ALL.iter().find(|(_, name)| *name == text);
                Message::Refused(known.map_or(Why::Broken, |(why, _)| *why))
            }
            _ => return None,
        })
    }

    /// The element.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (name, text) = match self {
            Message::Commit(bytes) => ("commit", STANDARD.encode(bytes)),
            Message::Nonce(bytes) => ("nonce", STANDARD.encode(bytes)),
            Message::Reveal(bytes) => ("reveal", STANDARD.encode(bytes)),
            Message::Refused(why) => ("refused", why.name().to_owned()),
        };
        Writer::new(out).start(name).ns(NS).text(&text).end();
    }
}

/// What a person is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Compare this with what the other hub shows.
    Compare(Offer),
    /// Nothing has happened yet; the window is still open, try again in a moment.
    Retry(Why),
    /// The window is closed, and nothing was pinned.
    Closed(Why),
}

/// What waits for a person's yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The other hub.
    pub peer: Hub,
    /// Six digits.
    pub code: u32,
}

impl Offer {
    /// The code as people read it: `012 345`.
    pub fn digits(&self) -> String {
        format!("{:03} {:03}", self.code / 1000, self.code % 1000)
    }
}

/// What to answer, and what to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// To be sent on the same stream.
    pub reply: Option<Message>,
    /// For the person.
    pub event: Option<Event>,
}

impl Heard {
    fn refuse(why: Why) -> Heard {
        Heard { reply: Some(Message::Refused(why)), event: None }
    }
}

/// What is answered where no window is open.
pub fn closed() -> Message {
    Message::Refused(Why::Closed)
}

enum State {
    /// Nobody yet.
    Open,
    /// We have committed ourselves.
    Committed { stream: u64, peer: Hub, nonce: [u8; 32] },
    /// We have said our nonce; from here on it counts as the try.
    Answered { stream: u64, peer: Hub, commitment: [u8; 32], nonce: [u8; 32] },
    /// People compare.
    Compare { stream: u64, offer: Offer },
    /// It is over.
    Closed,
}

/// An open pairing at one hub. There is one at a time; times are counted from any beginning.
pub struct Window {
    us: Hub,
    /// Only with that domain, if the person has said which.
    with: Option<Box<str>>,
    until: Duration,
    dice: hmac::Key,
    rolled: u64,
    state: State,
}

impl Window {
    /// Opened by hand, for so long. `seed` is fresh random.
    pub fn open(now: Duration, patience: Duration, us: Hub, with: Option<&str>, seed: &[u8; 32]) -> Window {
        Window {
            us,
            with: with.map(Box::from),
            until: now.saturating_add(patience),
            dice: hmac::Key::new(hmac::HMAC_SHA256, seed),
            rolled: 0,
            state: State::Open,
        }
    }

    /// When it closes by itself.
    pub fn until(&self) -> Duration {
        self.until
    }

    /// Whether something can still come of it.
    pub fn is_open(&self, now: Duration) -> bool {
        now < self.until && !matches!(self.state, State::Closed)
    }

    /// The domain that it was opened for.
    pub fn with(&self) -> Option<&str> {
        self.with.as_deref()
    }

    /// What waits for a person's yes.
    pub fn offer(&self, now: Duration) -> Option<&Offer> {
        match &self.state {
            State::Compare { offer, .. } if now < self.until => Some(offer),
            _ => None,
        }
    }

    /// We have dialled, and this is who is there. Gives the first element.
    pub fn initiate(&mut self, now: Duration, stream: u64, peer: &Hub) -> Result<Message, Why> {
        self.admit(now, peer)?;
        if !matches!(self.state, State::Open) {
            return Err(Why::Busy);
        }
        let nonce = self.nonce();
        let commitment = commitment(&nonce, &self.us, peer);
        self.state = State::Committed { stream, peer: peer.clone(), nonce };
        Ok(Message::Commit(commitment))
    }

    /// An element came on a stream whose other side has shown that key and claims that domain.
    pub fn hear(&mut self, now: Duration, stream: u64, peer: &Hub, message: &Message) -> Heard {
        if let Err(why) = self.admit(now, peer) {
            return match message {
                Message::Refused(_) => Heard::default(),
                _ => Heard::refuse(why),
            };
        }
        match (std::mem::replace(&mut self.state, State::Closed), message) {
            (State::Open, Message::Commit(commitment)) => self.answer(stream, peer, *commitment),
            // Both have begun: the hub whose domain is the lesser goes on.
            (State::Committed { peer: ours, .. }, Message::Commit(commitment))
                if ours == *peer && self.us.domain > peer.domain =>
            {
                self.answer(stream, peer, *commitment)
            }
            (state @ State::Committed { .. }, Message::Commit(_)) => {
                let same = matches!(&state, State::Committed { peer: ours, .. } if ours == peer);
                self.state = state;
                Heard::refuse(if same { Why::Collision } else { Why::Busy })
            }
            (State::Committed { stream: ours, peer: theirs, nonce }, Message::Nonce(other))
                if ours == stream && theirs == *peer && *other != nonce =>
            {
                let code = code(&nonce, other, &self.us, peer);
                self.compare(stream, peer, code, Some(Message::Reveal(nonce)))
            }
            (
                State::Answered { stream: ours, peer: theirs, commitment: bound, nonce },
                Message::Reveal(other),
            ) if ours == stream
                && theirs == *peer
                && *other != nonce
                && commitment(other, peer, &self.us) == bound =>
            {
                let code = code(other, &nonce, peer, &self.us);
                self.compare(stream, peer, code, None)
            }
            (
                State::Committed { stream: ours, .. },
                Message::Refused(why @ (Why::Closed | Why::Busy | Why::Collision)),
            ) if ours == stream => {
                self.state = State::Open;
                Heard { reply: None, event: Some(Event::Retry(*why)) }
            }
            (state, message) if state.stream() == Some(stream) => {
                // The try is over; the state stays closed.
                let (reply, why) = match message {
                    Message::Refused(why) => (None, *why),
                    _ => (Some(Message::Refused(Why::Broken)), Why::Broken),
                };
                Heard { reply, event: Some(Event::Closed(why)) }
            }
            (state, message) => {
                self.state = state;
                match message {
                    // A third one has nothing to say here.
                    Message::Refused(_) => Heard::default(),
                    _ => Heard::refuse(Why::Busy),
                }
            }
        }
    }

    /// A stream has ended. Whoever has seen our nonce knows what he would get; he does not get it again.
    pub fn lost(&mut self, stream: u64) -> Option<Event> {
        if self.state.stream() != Some(stream) {
            return None;
        }
        match &self.state {
            State::Committed { .. } => {
                self.state = State::Open;
                Some(Event::Retry(Why::Lost))
            }
            State::Answered { .. } => {
                self.state = State::Closed;
                Some(Event::Closed(Why::Lost))
            }
            // People may take longer than a connection.
            _ => None,
        }
    }

    /// A person has compared, and says yes for that domain. What it gives is to be pinned, here; the other
    /// hub has its own person.
    pub fn confirm(&mut self, now: Duration, domain: &str) -> Result<Hub, Why> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Compare { offer, .. } if now < self.until && *offer.peer.domain == *domain => {
                Ok(offer.peer)
            }
            state => {
                self.state = state;
                Err(Why::Closed)
            }
        }
    }

    /// A person says no, or closes the window. The stream that should hear of it, if there is one.
    pub fn refuse(&mut self) -> Option<(u64, Message)> {
        let stream = self.state.stream();
        self.state = State::Closed;
        Some((stream?, Message::Refused(Why::Refused)))
    }

    fn admit(&self, now: Duration, peer: &Hub) -> Result<(), Why> {
        if !self.is_open(now) {
            return Err(Why::Closed);
        }
        // Somebody holds a mirror (CVE-2020-26558).
        if peer.pin == self.us.pin || peer.domain == self.us.domain {
            return Err(Why::Ourselves);
        }
        match &self.with {
            Some(with) if **with != *peer.domain => Err(Why::Busy),
            _ => Ok(()),
        }
    }

    fn answer(&mut self, stream: u64, peer: &Hub, commitment: [u8; 32]) -> Heard {
        let nonce = self.nonce();
        self.state = State::Answered { stream, peer: peer.clone(), commitment, nonce };
        Heard { reply: Some(Message::Nonce(nonce)), event: None }
    }

    fn compare(&mut self, stream: u64, peer: &Hub, code: u32, reply: Option<Message>) -> Heard {
        let offer = Offer { peer: peer.clone(), code };
        self.state = State::Compare { stream, offer: offer.clone() };
        Heard { reply, event: Some(Event::Compare(offer)) }
    }

    fn nonce(&mut self) -> [u8; 32] {
        let tag = hmac::sign(&self.dice, &self.rolled.to_be_bytes());
        self.rolled = self.rolled.saturating_add(1);
        array(tag.as_ref())
    }
}

impl State {
    fn stream(&self) -> Option<u64> {
        match self {
            State::Committed { stream, .. }
            | State::Answered { stream, .. }
            | State::Compare { stream, .. } => Some(*stream),
            State::Open | State::Closed => None,
        }
    }
}

fn commitment(nonce: &[u8; 32], initiating: &Hub, receiving: &Hub) -> [u8; 32] {
    hash("commit", &[nonce], initiating, receiving)
}

fn code(a: &[u8; 32], b: &[u8; 32], initiating: &Hub, receiving: &Hub) -> u32 {
    let hash = hash("code", &[a, b], initiating, receiving);
    let number = hash.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    u32::try_from(number % 1_000_000).unwrap_or(0)
}

/// Each field with its length before it: no two lists of fields are the same bytes (threat D2).
fn hash(what: &str, nonces: &[&[u8; 32]], initiating: &Hub, receiving: &Hub) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut field = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    field(NS.as_bytes());
    field(what.as_bytes());
    nonces.iter().for_each(|nonce| field(&nonce[..]));
    for side in [initiating, receiving] {
        field(&side.pin);
        field(side.domain.as_bytes());
    }
    array(context.finish().as_ref())
}

fn array(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests;
