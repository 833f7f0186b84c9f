//! `stonechat iq`: any request, written by hand.

use super::account::Account;
use super::exit::{Exit, Failure};
use super::json::Object;
use super::terminal::Out;
use super::{Client, address};
use crate::net::client::{Get, Set};
use argh::{ArgsInfo, FromArgs};
use std::io::Read as _;

/// Send the request on standard input, and print the answer.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "iq",
    example = "echo \"<query xmlns='jabber:iq:version'/>\" | {command_name} -u me@example.org example.org",
    example = "echo \"<query xmlns='jabber:iq:private'><x xmlns='mine'/></query>\" | {command_name} -u me@example.org --type set",
    note = "Standard input holds the payload alone; the <iq/> around it is ours. The answer is printed as XML. An error as answer is exit code 8, or 5 if it says that you may not."
)]
pub struct Iq {
    /// whom to ask; without it, the account itself
    #[argh(positional)]
    jid: Option<String>,

    /// get (the default) or set
    #[argh(option, arg_name = "type")]
    r#type: Option<String>,
}

impl Client for Iq {
    fn run(self, account: Account) -> Result<Exit, Failure> {
        let kind = match self.r#type.as_deref() {
            None | Some("get") => Get,
            Some("set") => Set,
            Some(other) => return Err(Failure::usage(format!("--type {other:?}: there are get and set"))),
        };
        let to = self.jid.as_deref().map(address).transpose()?;
        if account.password_file.as_deref() == Some("-") {
            return Err(Failure::usage("standard input cannot be both the password and the request"));
        }
        let resolved = account.resolve(true)?;
        let mut payload = Vec::new();
        let read = std::io::stdin().lock().take(1 << 20).read_to_end(&mut payload);
        read.map_err(|e| Failure::new(Exit::Io, format!("standard input: {e}")))?;
        let payload =
            String::from_utf8(payload).map_err(|_| Failure::new(Exit::Io, "standard input is not UTF-8"))?;
        let json = resolved.json;
        let out = Out::new(false);
        resolved.run(async |session| {
            let answer = session.request_raw(kind, to.as_deref(), &payload).await?;
            if json {
                let mut o = Object::new();
                o.text("type", "result").opt("from", to.as_deref()).text("stanza", answer.text());
                return out.line(&o.end()).map(|()| Exit::Ok);
            }
            out.line(&out.body(answer.text())).map(|()| Exit::Ok)
        })
    }
}
