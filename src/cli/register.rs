//! `stonechat register`: an account on somebody's server.

use super::Client;
use super::account::Account;
use super::exit::{Exit, Failure};
use super::terminal::Out;
use crate::jid::BareJid;
use crate::net::client::wait::{Cut, Signals, block_on};
use crate::net::client::{Invitation, register};
use crate::stream::Secret;
use argh::{ArgsInfo, FromArgs};

/// Make an account on a server.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "register",
    example = "{command_name} 'xmpp:kitchen.local?register;preauth=Xq7...' -u me@kitchen.local",
    example = "{command_name} me@example.org --password-file pw",
    note = "The password of the new account comes from the same places as that of an old one: --password-file, STONECHAT_PASSWORD, the terminal. Quote an invitation: the shell has other plans for its \"?\" and \";\".",
    note = "Prints the address of the account."
)]
pub struct Register {
    /// an invitation (xmpp:...), or the account to make: user@domain
    #[argh(positional)]
    what: Option<String>,

    /// the token of an invitation, if it came by itself
    #[argh(option, arg_name = "text")]
    token: Option<String>,
}

impl Client for Register {
    fn run(self, mut account: Account) -> Result<Exit, Failure> {
        let what = self.what.as_deref().or(account.user.as_deref());
        let what =
            what.ok_or_else(|| Failure::usage("which account? user@domain, or an invitation xmpp:…"))?;
        let invitation = Invitation::parse(what)?;
        let token = self.token.map(Secret::new).or(invitation.token);
        if invitation.jid.local().is_some() {
            account.user = Some(invitation.jid.to_string());
        } else {
            // The invitation leaves the name to us.
            let user = account.user.as_deref().ok_or_else(|| {
                Failure::usage(format!("what is it to be called? add --user NAME@{}", invitation.jid))
            })?;
            let jid = if user.contains('@') { user.to_owned() } else { format!("{user}@{}", invitation.jid) };
            let jid =
                BareJid::parse(&jid).map_err(|e| Failure::usage(format!("{jid:?} is no account: {e}")))?;
            if jid.domain() != invitation.jid.domain() {
                return Err(Failure::usage(format!(
                    "the invitation is for {}, not for {}",
                    invitation.jid,
                    jid.domain()
                )));
            }
            account.user = Some(jid.to_string());
        }
        let resolved = account.resolve(true)?;
        let made = block_on(async {
            let mut signals = Signals::new().map_err(|e| Failure::io("signals", &e))?;
            match signals.or(resolved.deadline, register(&resolved.options, token.as_ref())).await {
                Ok(made) => made.map_err(Failure::from),
                Err(Cut::Deadline) => Err(Failure::new(Exit::TimedOut, "the time given by -W is over")),
                Err(Cut::Interrupt) => Err(Failure::silent(Exit::Interrupted)),
                Err(Cut::Terminate) => Err(Failure::silent(Exit::Terminated)),
            }
        });
        made?;
        Out::new(false).line(resolved.options.jid.as_str()).map(|()| Exit::Ok)
    }
}
