//! Registration before login (XEP-0077, XEP-0445): what the stream core calls [`Ask::Register`].
//!
//! [`Ask::Register`]: crate::stream::Ask::Register

use super::c2s::{Fail, Negotiation};
use super::desk::ITERATIONS;
use crate::stanza::{Condition, Error, Stanza};
use crate::store::change::{Answer, Ask};
use crate::stream::{Registration, Secret, sasl};
use crate::xep::register::{self, Asked};
use crate::xep::{ibr_token, pars};
use crate::xml::{Caps, Scan, Writer};

/// What a stream remembers between the stanzas of a registration.
#[derive(Default)]
pub struct Progress {
    /// The invitation that was shown and found good; spent with the account.
    invite: Option<[u8; 32]>,
    /// Requests so far.
    tries: u32,
}

/// Requests on one stream: a form, a token, a few names that are taken.
const TRIES: u32 = 10;

/// Answers the iq that the stream core has stopped at.
pub async fn answer(stream: &mut Negotiation) -> Result<(), Fail> {
    let mut scan = Scan::new();
    let frame = stream.frame().to_vec();
    let text = scan.element(&frame, &stream.shared.scope, &Caps::default())?;
    let Some(stanza) = Stanza::new(text, &scan) else { return Ok(()) };
    stream.registration.tries += 1;
    let asked = match register::asked(&stanza) {
        _ if stream.registration.tries > TRIES => Err(register::TOO_MANY),
        Some(asked) => asked,
        None => Err(Condition::NotAllowed.into()),
    };
    let outcome = match asked {
        Ok(asked) => carry_out(stream, asked).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(form) => {
            let mut w = Writer::new(&mut stream.out);
            w.start("iq").attr("type", "result").opt("id", stanza.id().as_deref());
            w.opt("from", stanza.to().as_deref());
            if form {
                register::form(&mut w);
            }
            w.end();
        }
        Err(error) => {
            error.reply(&mut stream.out, &stanza, stanza.to().as_deref(), None);
        }
    }
    Ok(())
}

/// True: the form is the answer.
async fn carry_out(stream: &mut Negotiation, asked: Asked) -> Result<bool, Error> {
    let shared = stream.shared.clone();
    let registration = shared.settings.borrow().registration;
    let now = shared.now();
    // A form may always be read; the rest needs registration open, or a good invitation.
    let open = registration == Registration::Open || stream.registration.invite.is_some();
    match asked {
        Asked::Form if registration == Registration::Closed => Err(Condition::NotAllowed.into()),
        Asked::Form => Ok(true),
        Asked::Token(token) => {
            // Guessing costs as much as guessing passwords.
            stream.throttle("").await.map_err(|_| Condition::InternalServerError)?;
            match shared.ask(Vec::new(), Ask::Invite { token, now: now.unix() }).await {
                Answer::Invite(Some(_)) if registration != Registration::Closed => {
                    stream.registration.invite = Some(token);
                    Ok(false)
                }
                _ => {
                    shared.throttle.borrow_mut().failed(now, stream.conn.peer.ip(), "");
                    Err(ibr_token::VOID)
                }
            }
        }
        Asked::Account { .. } if !open => Err(register::CLOSED),
        Asked::Account { localpart, password } => {
            let per_hour = shared.limits().registrations_per_hour;
            if !shared.throttle.borrow_mut().register(now, stream.conn.peer.ip(), per_hour) {
                return Err(register::TOO_MANY);
            }
            let password = Secret::new(password.0);
            let keys = shared.workers.run(move || sasl::keys(&password, super::salts(), ITERATIONS)).await;
            let keys = Box::new(keys.ok_or(Condition::InternalServerError)?);
            let invite = stream.registration.invite.take();
            let ask = Ask::Create { localpart: localpart.clone(), keys, invite, now: now.unix() };
            match shared.ask(Vec::new(), ask).await {
                Answer::Created(Ok((_, spent))) => {
                    log::info!("{}: registered {localpart}", stream.conn.peer);
                    if let Some(inviter) = spent.and_then(|i| i.inviter) {
                        shared.with_hub(|hub, sink| pars::acquaint(hub, sink, &localpart, &inviter));
                    }
                    Ok(false)
                }
                Answer::Created(Err(why)) => {
                    stream.registration.invite = invite; // not spent: another name may do
                    Err(register::refused(why))
                }
                _ => Err(Condition::ResourceConstraint.into()),
            }
        }
    }
}
