//! `stonechat presence`: to be seen, and to see (RFC 6121 §4).

use super::account::Account;
use super::exit::{Exit, Failure};
use super::json::Object;
use super::terminal::Out;
use super::{Client, address, addresses};
use crate::net::client::wait::{now, or, sleep, until};
use crate::net::client::{Error, Event, Presence as Seen, Session, bare};
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Show one's own presence, or see that of contacts.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "presence",
    example = "{command_name} away -u me@example.org --status 'Back at six' --stay",
    example = "{command_name} show -u me@example.org bob@example.net && echo Bob is there",
    example = "{command_name} watch -u me@example.org bob@example.net --wait online -W 600",
    note = "available, away, chat, dnd, xa and unavailable set the own presence: for as long as the command runs, so --stay goes with most of them. With --to only that contact is told.",
    note = "show and watch see contacts whose presence this account may see (roster add, and their approval). The exit code tells how it stood at the end: 0 if one of them was online, 3 if all were offline; 2 if what --wait waits for did not come within -W."
)]
pub struct Presence {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum What {
    Show(Show),
    Watch(Watch),
    Available(Available),
    Away(Away),
    Chat(Chat),
    Dnd(Dnd),
    Xa(Xa),
    Unavailable(Unavailable),
}

/// Print the presence of contacts as it is now; without an address, of all that are online.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "show")]
struct Show {
    /// the contacts
    #[argh(positional)]
    jid: Vec<String>,
}

/// Print the presence of contacts as it is, and every change.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "watch")]
struct Watch {
    /// the contacts; without one, all
    #[argh(positional)]
    jid: Vec<String>,

    /// end once one of them is online, or all are offline
    #[argh(option, arg_name = "online|offline")]
    wait: Option<String>,
}

macro_rules! own {
    ($($(#[$doc:meta])* $name:ident $word:literal,)*) => {$(
        $(#[$doc])*
        #[derive(FromArgs, ArgsInfo)]
        #[argh(subcommand, name = $word)]
        struct $name {
            /// a line of text with it
            #[argh(option, arg_name = "text")]
            status: Option<String>,

            /// how much this session wants messages, from -128 to 127
            #[argh(option, arg_name = "number")]
            priority: Option<i8>,

            /// tell only this contact
            #[argh(option, arg_name = "jid")]
            to: Option<String>,

            /// stay until a signal or -W
            #[argh(switch)]
            stay: bool,
        }

        impl From<$name> for Own {
            fn from(own: $name) -> Own {
                let show = if matches!($word, "available" | "unavailable") { "" } else { $word };
                let gone = $word == "unavailable";
                Own { show, gone, status: own.status, priority: own.priority, to: own.to, stay: own.stay }
            }
        }
    )*};
}

own! {
    /// Be online.
    Available "available",
    /// Be away for a while.
    Away "away",
    /// Be glad to talk.
    Chat "chat",
    /// Be busy: do not disturb.
    Dnd "dnd",
    /// Be away for long.
    Xa "xa",
    /// Be seen to go.
    Unavailable "unavailable",
}

struct Own {
    show: &'static str,
    gone: bool,
    status: Option<String>,
    priority: Option<i8>,
    to: Option<String>,
    stay: bool,
}

impl Client for Presence {
    fn run(self, account: Account) -> Result<Exit, Failure> {
        let own: Own = match self.what {
            What::Show(show) => return see(account, &show.jid, Goal::Now),
            What::Watch(watch) => {
                let goal = match watch.wait.as_deref() {
                    None => Goal::Never,
                    Some("online") => Goal::Online,
                    Some("offline") => Goal::Offline,
                    Some(other) => {
                        return Err(Failure::usage(format!(
                            "--wait {other:?}: there are online and offline"
                        )));
                    }
                };
                return see(account, &watch.jid, goal);
            }
            What::Available(own) => own.into(),
            What::Away(own) => own.into(),
            What::Chat(own) => own.into(),
            What::Dnd(own) => own.into(),
            What::Xa(own) => own.into(),
            What::Unavailable(own) => own.into(),
        };
        let to = own.to.as_deref().map(address).transpose()?;
        let resolved = account.resolve(true)?;
        resolved.run(async |session| {
            let status = own.status.as_deref();
            let priority = own.priority.unwrap_or(0);
            match &to {
                Some(to) if own.gone => session.absent(Some(to), status),
                Some(to) => session.present_to(to, own.show, status),
                None if own.gone => {
                    // One who was never there cannot go.
                    session.present("", None, priority);
                    session.absent(None, status);
                }
                None => session.present(own.show, status, priority),
            }
            session.confirm().await?;
            if let Some(error) = session.take_bounces().into_iter().next() {
                return Err(Error::Stanza(error).into());
            }
            if !own.stay {
                return Ok(Exit::Ok);
            }
            while !matches!(session.next().await?, Event::Closed) {}
            Err(Failure::new(Exit::Unreachable, "the server has closed the stream"))
        })
    }
}

/// When to stop looking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// As soon as it is clear how things are.
    Now,
    Never,
    Online,
    Offline,
}

/// After so long a silence whoever has not been heard of is offline.
const SETTLED: Duration = Duration::from_millis(1500);

fn see(account: Account, words: &[String], goal: Goal) -> Result<Exit, Failure> {
    let jids: Vec<String> = addresses(words)?.iter().map(|jid| bare(jid).to_owned()).collect();
    let mut resolved = account.resolve(true)?;
    // What -W means depends on the goal.
    let deadline = resolved.deadline.take();
    let mut view = View {
        out: Out::new(false),
        json: resolved.json,
        jids,
        online: BTreeSet::new(),
        heard: BTreeSet::new(),
    };
    resolved.run(async |session| view.watch(session, goal, deadline).await)
}

struct View {
    out: Out,
    json: bool,
    /// Whom to look at; empty: all.
    jids: Vec<String>,
    /// Full addresses that are online.
    online: BTreeSet<String>,
    /// Accounts of whom something was heard.
    heard: BTreeSet<String>,
}

impl View {
    async fn watch(
        &mut self,
        session: &mut Session,
        goal: Goal,
        deadline: Option<Instant>,
    ) -> Result<Exit, Failure> {
        self.online.clear();
        self.heard.clear();
        // With a negative priority we see everybody and take nobody's messages.
        session.present("", None, -1);
        session.confirm().await?;
        let mut settled = false;
        loop {
            let met = match goal {
                Goal::Now => settled || (!self.jids.is_empty() && self.all_online()),
                Goal::Never => false,
                Goal::Online => self.any_online(),
                Goal::Offline => settled && !self.any_online(),
            };
            if met {
                break;
            }
            let quiet = async {
                if settled {
                    return std::future::pending().await;
                }
                sleep(SETTLED).await;
                Ok(None)
            };
            let over = async {
                match deadline {
                    Some(at) => until(at).await,
                    None => return std::future::pending().await,
                }
                Err(Failure::silent(Exit::TimedOut))
            };
            let event = async { Ok(Some(session.next().await?)) };
            match or(event, or(quiet, over)).await {
                Ok(Some(Event::Presence(seen))) => self.take(session, &seen)?,
                Ok(Some(Event::Closed)) => {
                    return Err(Failure::new(Exit::Unreachable, "the server has closed the stream"));
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    settled = true;
                    self.name_the_absent()?;
                }
                Err(failure) if failure.exit == Exit::TimedOut && failure.line.is_empty() => match goal {
                    Goal::Now | Goal::Never => break,
                    Goal::Online | Goal::Offline => {
                        return Err(Failure::new(Exit::TimedOut, "the time given by -W is over"));
                    }
                },
                Err(failure) => return Err(failure),
            }
        }
        Ok(if self.any_online() { Exit::Ok } else { Exit::Offline })
    }

    fn any_online(&self) -> bool {
        !self.online.is_empty()
    }

    fn all_online(&self) -> bool {
        self.jids.iter().all(|jid| self.online.iter().any(|full| bare(full) == jid))
    }

    fn take(&mut self, session: &Session, seen: &Seen) -> Result<(), Failure> {
        let who = bare(&seen.from);
        let wanted =
            if self.jids.is_empty() { who != session.bare() } else { self.jids.iter().any(|j| j == who) };
        if !wanted {
            return Ok(());
        }
        self.heard.insert(who.to_owned());
        match seen.kind.as_str() {
            "" => {
                self.online.insert(seen.from.clone());
                self.print(&seen.from, if seen.show.is_empty() { "available" } else { &seen.show }, seen)
            }
            "unavailable" => {
                // From a bare address it is the whole account.
                self.online.retain(|full| *full != seen.from && bare(full) != seen.from);
                self.print(&seen.from, "unavailable", seen)
            }
            "error" => {
                let text = seen.error.as_ref().map_or(String::new(), ToString::to_string);
                Err(Failure::new(Exit::Stanza, text))
            }
            _ => Ok(()),
        }
    }

    /// Those of whom nothing was heard.
    fn name_the_absent(&self) -> Result<(), Failure> {
        for jid in &self.jids {
            if !self.heard.contains(jid) {
                self.print(jid, "unavailable", &Seen::default())?;
            }
        }
        Ok(())
    }

    fn print(&self, from: &str, state: &str, seen: &Seen) -> Result<(), Failure> {
        if self.json {
            let mut o = Object::new();
            o.text("ts", &now()).text("type", state).text("from", from).opt("status", seen.status.as_deref());
            o.number("priority", i64::from(seen.priority)).opt("delay", seen.delay.as_deref());
            return self.out.line(&o.end());
        }
        let status = seen.status.as_deref().unwrap_or("");
        let line = format!("{}\t{}\t{}", self.out.field(from), self.out.field(state), self.out.field(status));
        self.out.line(line.trim_end())
    }
}
