//! `stonechat passwd`: another password for the account (XEP-0077 §3.3).

use super::Client;
use super::account::{Account, prompt, read_password};
use super::exit::{Exit, Failure};
use crate::stream::Secret;
use argh::{ArgsInfo, FromArgs};

/// Change the password of the account.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "passwd",
    example = "{command_name} -u me@example.org",
    example = "{command_name} -u pi@kitchen.local --password-file old --new-password-file new",
    note = "Without --new-password-file the new password is asked for on the terminal, twice."
)]
pub struct Passwd {
    /// file with the new password in its first line; "-" is standard input
    #[argh(option, arg_name = "file")]
    new_password_file: Option<String>,
}

impl Client for Passwd {
    fn run(self, account: Account) -> Result<Exit, Failure> {
        if account.password_file.as_deref() == Some("-") && self.new_password_file.as_deref() == Some("-") {
            return Err(Failure::usage("standard input cannot be both passwords"));
        }
        let quiet = account.quiet;
        let resolved = account.resolve(true)?;
        let new = new_password(self.new_password_file.as_deref(), quiet)?;
        resolved.run(async |session| {
            session.change_password(&new).await?;
            Ok(Exit::Ok)
        })
    }
}

/// A new password, from a file or asked for twice.
pub fn new_password(file: Option<&str>, quiet: bool) -> Result<Secret, Failure> {
    if let Some(file) = file {
        return read_password(file, quiet);
    }
    let none = || Failure::usage("no new password: use --new-password-file FILE, or run it on a terminal");
    let first = prompt("New password: ")?.ok_or_else(none)?;
    let second = prompt("Once more: ")?.ok_or_else(none)?;
    if first.expose_str().is_empty() {
        return Err(Failure::usage("an empty password is none"));
    }
    if first.expose() != second.expose() {
        return Err(Failure::usage("these are two different passwords"));
    }
    Ok(first)
}
