//! The command line: one file per command, one line per command in [`ALL`].

mod account;
#[cfg(feature = "hub")]
mod admin;
mod args;
#[cfg(feature = "federation")]
mod component;
pub mod config;
mod disco;
mod exec;
pub mod exit;
#[cfg(feature = "federation")]
mod federate;
#[cfg(all(feature = "hub", not(feature = "federation")))]
#[path = "alone.rs"]
mod federate;
mod iq;
mod json;
mod listen;
#[cfg(feature = "hub")]
mod log;
#[cfg(feature = "hub")]
pub mod options;
mod passwd;
#[cfg(feature = "federation")]
mod peer;
mod ping;
mod presence;
mod register;
mod roster;
mod seconds;
mod send;
#[cfg(feature = "hub")]
mod serve;
mod terminal;

use crate::jid::Jid;
use account::Account;
use argh::{ArgsInfo, CommandInfoWithArgs, EarlyExit, FromArgs, SubCommand};
use exit::{Exit, Failure};
use std::process::ExitCode;
use terminal::{Out, complain};

/// Every command, in the order of the help.
const ALL: &[Command] = &[
    #[cfg(feature = "hub")]
    Command::local::<serve::Serve>(),
    #[cfg(feature = "hub")]
    Command::local::<admin::User>(),
    #[cfg(feature = "hub")]
    Command::local::<admin::Invite>(),
    #[cfg(feature = "federation")]
    Command::local::<peer::Peer>(),
    #[cfg(feature = "federation")]
    Command::local::<component::Component>(),
    #[cfg(feature = "hub")]
    Command::local::<admin::Status>(),
    #[cfg(feature = "hub")]
    Command::local::<admin::Log>(),
    #[cfg(feature = "hub")]
    Command::local::<admin::Backup>(),
    #[cfg(feature = "hub")]
    Command::local::<admin::Restore>(),
    #[cfg(feature = "hub")]
    Command::local::<admin::Limits>(),
    #[cfg(feature = "hub")]
    Command::local::<admin::Xeps>(),
    Command::client::<send::Send>(),
    Command::client::<listen::Listen>(),
    Command::client::<presence::Presence>(),
    Command::client::<roster::Roster>(),
    Command::client::<ping::Ping>(),
    Command::client::<disco::Disco>(),
    Command::client::<iq::Iq>(),
    Command::client::<register::Register>(),
    Command::client::<passwd::Passwd>(),
];

/// A part of the program that a build may lack.
struct Part {
    /// The feature that brings it.
    feature: &'static str,
    /// Whether it is here.
    here: bool,
    /// Its commands.
    commands: &'static [&'static str],
}

/// All such parts. The client is always here.
const PARTS: &[Part] = &[
    Part {
        feature: "hub",
        here: cfg!(feature = "hub"),
        commands: &["serve", "user", "invite", "status", "log", "backup", "restore", "limits", "xeps"],
    },
    Part { feature: "federation", here: cfg!(feature = "federation"), commands: &["peer", "component"] },
];

/// A command of its own: it needs no account on a server.
pub trait Local: FromArgs + ArgsInfo + SubCommand {
    /// Does it.
    fn run(self) -> Result<Exit, Failure>;
}

/// A command of the client: it takes the options of [`Account`] besides its own.
pub trait Client: FromArgs + ArgsInfo + SubCommand {
    /// Does it.
    fn run(self, account: Account) -> Result<Exit, Failure>;
}

/// One line of [`ALL`].
struct Command {
    /// Name and description.
    about: &'static argh::CommandInfo,
    /// Its options, for [`args::sort`].
    info: fn() -> CommandInfoWithArgs,
    /// Whether it takes the options of an account.
    shares: bool,
    /// Reads its own words and the shared ones, and runs.
    run: Run,
}

/// From the command's name, its own words and the shared ones.
type Run = fn(&[&str], &[&str], &[&str]) -> Result<Exit, Early>;

/// Why a command did not run to its end.
enum Early {
    /// argh's answer: help, or what is wrong with the words.
    Argh(EarlyExit),
    /// The command's own.
    Failure(Failure),
}

impl Command {
    #[cfg(feature = "hub")]
    const fn local<C: Local>() -> Command {
        fn run<C: Local>(name: &[&str], own: &[&str], _: &[&str]) -> Result<Exit, Early> {
            C::from_args(name, own).map_err(Early::Argh)?.run().map_err(Early::Failure)
        }
        Command { about: C::COMMAND, info: C::get_args_info, shares: false, run: run::<C> }
    }

    const fn client<C: Client>() -> Command {
        fn run<C: Client>(name: &[&str], own: &[&str], shared: &[&str]) -> Result<Exit, Early> {
            let command = C::from_args(name, own).map_err(Early::Argh)?;
            let account = Account::from_args(name, shared).map_err(Early::Argh)?;
            command.run(account).map_err(Early::Failure)
        }
        Command { about: C::COMMAND, info: C::get_args_info, shares: true, run: run::<C> }
    }
}

/// Addresses from the command line, in normal form.
fn addresses(words: &[String]) -> Result<Vec<String>, Failure> {
    words.iter().map(|word| address(word)).collect()
}

/// An address from the command line, in normal form.
fn address(word: &str) -> Result<String, Failure> {
    let parsed = Jid::parse(word).map_err(|e| Failure::usage(format!("{word:?} is no address: {e}")))?;
    Ok(parsed.as_str().to_owned())
}

/// The whole program.
pub fn main() -> ExitCode {
    let ended = std::panic::catch_unwind(|| {
        let words: Result<Vec<String>, _> = std::env::args_os().skip(1).map(|w| w.into_string()).collect();
        match words {
            Ok(words) => dispatch(&words),
            Err(word) => Err(Failure::usage(format!("{word:?} is not UTF-8"))),
        }
    });
    let exit = match ended {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            if !failure.line.is_empty() {
                complain(&format!("error: {}", failure.line));
            }
            failure.exit
        }
        Err(_) => {
            complain("error: internal fault; please report what was done");
            Exit::Internal
        }
    };
    ExitCode::from(exit.code())
}

fn dispatch(words: &[String]) -> Result<Exit, Failure> {
    let out = Out::new(true);
    // Options may stand before the command: `stonechat -u me@example.org send …`.
    let shared = Account::get_args_info();
    let at = words
        .iter()
        .position(|word| ALL.iter().any(|c| c.about.name == word))
        .filter(|at| leads(words.get(..*at).unwrap_or(&[]), &shared));
    let Some((at, command)) = at.and_then(|at| {
        let word = words.get(at)?;
        Some((at, ALL.iter().find(|c| c.about.name == word)?))
    }) else {
        return match words.first().map(String::as_str) {
            None => {
                out.line(&overview())?;
                Ok(Exit::Usage)
            }
            Some("--help" | "help") => out.line(&overview()).map(|()| Exit::Ok),
            Some("--version" | "-V") => out.line(&version()).map(|()| Exit::Ok),
            Some(word) => Err(Failure::usage(unknown(word))),
        };
    };
    let mut rest: Vec<String> = words.get(..at).unwrap_or(&[]).to_vec();
    rest.extend_from_slice(words.get(at.saturating_add(1)..).unwrap_or(&[]));
    let sorted =
        args::sort(&rest, &(command.info)(), command.shares.then_some(&shared)).map_err(Failure::usage)?;
    let own: Vec<&str> = sorted.own.iter().map(String::as_str).collect();
    let common: Vec<&str> = sorted.shared.iter().map(String::as_str).collect();
    match (command.run)(&["stonechat", command.about.name], &own, &common) {
        Ok(exit) => Ok(exit),
        Err(Early::Failure(failure)) => Err(failure),
        Err(Early::Argh(early)) if early.status.is_ok() => {
            let mut help = early.output.trim_end().to_owned();
            if command.shares {
                help.push_str(&account::help());
            }
            out.line(&help).map(|()| Exit::Ok)
        }
        Err(Early::Argh(early)) => {
            let lines: Vec<&str> = early.output.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            Err(Failure::usage(format!("{} (see stonechat {} --help)", lines.join(" "), command.about.name)))
        }
    }
}

/// Whether these words are nothing but shared options with their values.
fn leads(words: &[String], shared: &CommandInfoWithArgs) -> bool {
    let none = CommandInfoWithArgs::default();
    args::sort(words, &none, Some(shared)).is_ok_and(|sorted| sorted.own.is_empty())
}

/// Why there is no such command.
fn unknown(word: &str) -> String {
    match PARTS.iter().find(|part| !part.here && part.commands.contains(&word)) {
        Some(Part { feature, .. }) => format!(
            "this build has no {feature}: {word:?} is in the usual one (cargo build --release), and comes with --features {feature}"
        ),
        None => format!(
            "there is no command {word:?}; there are {}",
            ALL.iter().map(|c| c.about.name).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The version, and what this build lacks.
fn version() -> String {
    let mut text = concat!("stonechat ", env!("CARGO_PKG_VERSION")).to_owned();
    for part in PARTS.iter().filter(|part| !part.here) {
        text.push_str(&format!(", without {}", part.feature));
    }
    text
}

fn overview() -> String {
    let mut text = String::from(
        "stonechat: XMPP for devices and people, server and client in one binary\n\n\
         Usage: stonechat COMMAND [ARGUMENTS]\n\nCommands:\n",
    );
    for command in ALL {
        text.push_str(&format!("  {:<10} {}\n", command.about.name, command.about.description));
    }
    text.push_str("\n  stonechat COMMAND --help tells more; stonechat --version prints the version.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_help_with_examples_and_notes() {
        for command in ALL {
            match (command.run)(&["stonechat", command.about.name], &["--help"], &[]) {
                Err(Early::Argh(early)) => {
                    assert!(early.status.is_ok(), "{}", command.about.name);
                    for part in ["Usage: stonechat", "Examples:", "Notes:"] {
                        assert!(early.output.contains(part), "{} lacks {part}", command.about.name);
                    }
                }
                _ => panic!("{} ran", command.about.name),
            }
        }
    }

    #[test]
    fn a_build_knows_what_it_lacks() {
        let has = |name: &&str| ALL.iter().any(|c| c.about.name == *name);
        for part in PARTS {
            assert!(part.commands.iter().all(|name| has(name) == part.here), "{}", part.feature);
            let line = unknown(part.commands[0]);
            assert_eq!(line.contains("this build has no"), !part.here, "{line}");
            assert_eq!(version().contains(part.feature), !part.here, "{}", part.feature);
        }
        let of_parts = PARTS.iter().filter(|p| p.here).map(|p| p.commands.len()).sum::<usize>();
        assert_eq!(ALL.iter().filter(|c| !c.shares).count(), of_parts, "a command of no part");
    }

    #[test]
    fn no_option_of_a_command_hides_a_shared_one() {
        let shared = Account::get_args_info();
        fn all(info: &CommandInfoWithArgs, to: &mut Vec<(String, Option<char>)>) {
            to.extend(info.flags.iter().map(|f| (f.long.to_owned(), f.short)));
            info.commands.iter().for_each(|sub| all(&sub.command, to));
        }
        for command in ALL.iter().filter(|c| c.shares) {
            let mut flags = Vec::new();
            all(&(command.info)(), &mut flags);
            for (long, short) in flags.iter().filter(|(long, _)| long != "--help") {
                for other in shared.flags {
                    assert_ne!(other.long, long, "{}", command.about.name);
                    assert!(short.is_none() || other.short != *short, "{} {long}", command.about.name);
                }
            }
        }
    }

    #[test]
    fn wrong_words_are_a_usage_error() {
        for words in [
            &["nonsense"][..],
            &["send", "--nonsense"],
            &["ping", "-c"],
            &["ping", "-c", "x"],
            &["-x", "ping"],
        ] {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            let failure = dispatch(&words).expect_err("wrong words");
            assert_eq!(failure.exit, Exit::Usage, "{words:?}");
            assert!(!failure.line.contains('\n'), "{words:?}");
        }
    }
}
