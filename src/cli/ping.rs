//! `stonechat ping`: XEP-0199.

use super::account::Account;
use super::exit::{Exit, Failure};
use super::json::{self, Object};
use super::seconds::Seconds;
use super::terminal::{Out, complain};
use super::{Client, address};
use crate::net::client::wait::{now, sleep};
use crate::net::client::{Error, Get};
use crate::xml::ns;
use argh::{ArgsInfo, FromArgs};
use std::time::{Duration, Instant};

/// Measure the way to a server or client and back.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "ping",
    example = "{command_name} -u me@example.org",
    example = "{command_name} -u me@example.org bob@example.net/phone -c 5",
    note = "Without an address the account's own server is asked. One line for each answer, in milliseconds. An answer that says \"ping is unknown here\" is an answer; exit code 8 or 5 tells that nobody is there."
)]
pub struct Ping {
    /// whom to ask
    #[argh(positional)]
    jid: Option<String>,

    /// how many times
    #[argh(option, short = 'c', default = "1", arg_name = "count")]
    count: u32,

    /// seconds from one to the next (1)
    #[argh(option, default = "Seconds(Duration::from_secs(1))", arg_name = "seconds")]
    interval: Seconds,
}

impl Client for Ping {
    fn run(self, account: Account) -> Result<Exit, Failure> {
        let to = self.jid.as_deref().map(address).transpose()?;
        let Seconds(interval) = self.interval;
        let resolved = account.resolve(true)?;
        let json = resolved.json;
        let out = Out::new(false);
        resolved.run(async |session| {
            let to = to.clone().unwrap_or_else(|| session.domain().to_owned());
            let mut last = Ok(Exit::Ok);
            for n in 1..=self.count {
                let begun = Instant::now();
                let answer = session.request(Get, Some(&to), |w| {
                    w.leaf("ping", ns::PING);
                });
                let error = match answer.await {
                    Ok(_) => None,
                    // RFC 6120 §8.4: whoever does not know it, says so; that is an answer, too.
                    Err(Error::Stanza(e)) if e.condition == "feature-not-implemented" => None,
                    Err(e @ (Error::Stanza(_) | Error::TimedOut(_))) => Some(e),
                    Err(e) => return Err(e.into()),
                };
                let took = begun.elapsed();
                match error {
                    None if json => {
                        let mut o = Object::new();
                        o.text("ts", &now()).text("type", "pong").text("from", &to);
                        o.number("seq", i64::from(n)).millis("ms", took);
                        out.line(&o.end())?;
                        last = Ok(Exit::Ok);
                    }
                    None => {
                        out.line(&format!("{}: {} ms", out.field(&to), json::millis(took)))?;
                        last = Ok(Exit::Ok);
                    }
                    Some(e) => {
                        if n < self.count {
                            complain(&format!("error: {e}"));
                        }
                        last = Err(e);
                    }
                }
                if n < self.count {
                    sleep(interval).await;
                }
            }
            last.map_err(Failure::from)
        })
    }
}
