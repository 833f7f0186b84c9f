//! The client half: an account on somebody's server, from finding the server to saying goodbye.
//!
//! [`Client`] waits for everything itself and is all that most programs need. [`Session`] is the
//! same for those that wait for other things besides. One connection, one thread, no runtime to
//! start.
//!
//! What comes from the network is believed as far as it must be: an answer from whom was asked, a
//! copy of what other sessions of the account do from the account itself, a redirection from a
//! server that has shown the domain's certificate; and nothing secret is sent before TLS.

mod answer;
mod dial;
mod draft;
mod ear;
mod error;
mod event;
mod negotiate;
mod options;
mod register;
mod revive;
mod session;
pub mod wait;
mod wire;

pub use draft::{Draft, Kind};
pub use error::{Error, StanzaError};
pub use event::{Carbon, Element, Event, Message, Presence, bare};
pub use options::{Direction, Options, Security, Trace};
pub use register::{Invitation, register};
pub use session::{
    Request::{self, Get, Set},
    Session,
};

use crate::xml::Writer;
use negotiate::{Goal, arrive};
use std::time::Instant;

impl Session {
    /// Finds the server, connects, logs in. No presence is sent: [`Session::present`] does that.
    pub async fn connect(options: &Options) -> Result<Session, Error> {
        arrive(options, &Goal::Login).await.map(|arrived| arrived.session)
    }
}

/// A client that waits for everything itself.
pub struct Client {
    session: Session,
}

impl Client {
    /// Finds the server, connects, logs in, and shows itself as available, so that messages come.
    pub fn connect(options: &Options) -> Result<Client, Error> {
        wait::block_on(async {
            let mut session = Session::connect(options).await?;
            session.present("", None, 0);
            session.flush().await?;
            Ok(Client { session })
        })
    }

    /// Our full address, as the server has given it.
    pub fn jid(&self) -> &str {
        self.session.jid()
    }

    /// Sends a message, and makes sure that the server has taken it and none of its recipients was refused at once.
    pub fn send(&mut self, draft: &Draft) -> Result<(), Error> {
        wait::block_on(async {
            self.session.send(draft);
            self.session.confirm().await?;
            match self.session.take_bounces().into_iter().next() {
                Some(error) => Err(Error::Stanza(error)),
                None => Ok(()),
            }
        })
    }

    /// Waits for the next event.
    pub fn next_event(&mut self) -> Result<Event, Error> {
        wait::block_on(self.session.next())
    }

    /// Waits for the next event, but not beyond that time. `None`: there was none.
    pub fn next_event_until(&mut self, deadline: Instant) -> Result<Option<Event>, Error> {
        wait::block_on(wait::or(async { self.session.next().await.map(Some) }, async {
            wait::until(deadline).await;
            Ok(None)
        }))
    }

    /// Asks `to`, or our own account when there is no `to`, and waits for the answer; `payload`
    /// writes what is asked.
    pub fn request(
        &mut self,
        kind: Request,
        to: Option<&str>,
        payload: impl FnOnce(&mut Writer<'_>),
    ) -> Result<Element, Error> {
        wait::block_on(self.session.request(kind, to, payload))
    }

    /// Sends the receipt that a message asks for.
    pub fn acknowledge(&mut self, message: &Message) -> Result<(), Error> {
        self.session.acknowledge(message);
        wait::block_on(self.session.flush())
    }

    /// The session, for all that has no shorter way.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Closes the stream in peace.
    pub fn close(self) {
        wait::block_on(self.session.close());
    }
}

/// An id that nobody can guess.
fn fresh_id() -> String {
    crate::net::random::<12>().iter().map(|b| format!("{b:02x}")).collect()
}
