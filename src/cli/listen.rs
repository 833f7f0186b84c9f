//! `stonechat listen`: messages to standard output, or to a program.

use super::account::Account;
use super::exec::{Exec, LIMIT};
use super::exit::{Exit, Failure};
use super::json::Object;
use super::terminal::Out;
use super::{Client, addresses};
use crate::net::client::wait::{now, or, sleep};
use crate::net::client::{Carbon, Event, Message, Session, bare};
use argh::{ArgsInfo, FromArgs};
use std::time::Duration;

/// Print the messages that arrive.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "listen",
    example = "{command_name} -u me@example.org -v",
    example = "{command_name} -u pi@kitchen.local --password-file pw admin@kitchen.local -C 1 -W 60",
    example = "{command_name} -u pi@kitchen.local --exec /usr/local/bin/on-message --exec-arg --loud",
    note = "Output: the text of each message, one per line. -F FORMAT: %b text, %j sender, %J sender with resource, %r resource, %t time, %i id, %T type, %s subject, %% percent; \\n and \\t work. On a terminal whatever could move its cursor or change its colours is spelled out; into a pipe it goes as it came.",
    note = "--exec runs the program for each message, at most four at a time, and without a shell: the text is on its standard input, the rest in STONECHAT_FROM, _FROM_BARE, _TO, _ID, _TYPE, _SUBJECT, _THREAD, _NICK, _OOB, _DELAY and _TS. What is in them was written by strangers: quote it."
)]
pub struct Listen {
    /// only messages from these: an account, one of its resources, or a whole domain
    #[argh(positional)]
    from: Vec<String>,

    /// end after so many messages
    #[argh(option, short = 'C', arg_name = "count")]
    count: Option<u64>,

    /// end once online: a test of the login
    #[argh(switch, short = 'E')]
    exit_online: bool,

    /// what to print for each message
    #[argh(option, short = 'F', arg_name = "format")]
    format: Option<String>,

    /// no line end after each message
    #[argh(switch, short = 'N')]
    no_newline: bool,

    /// the sender before each text
    #[argh(switch, short = 'v')]
    verbose: bool,

    /// leave out messages that were kept for us while we were away
    #[argh(switch, short = 'R')]
    no_delayed: bool,

    /// leave out messages from these (repeatable)
    #[argh(option, short = 'T', arg_name = "jid")]
    filter_out: Vec<String>,

    /// run this program for each message
    #[argh(option, arg_name = "program")]
    exec: Option<String>,

    /// an argument for it (repeatable)
    #[argh(option, arg_name = "argument")]
    exec_arg: Vec<String>,

    /// seconds that it may run (30)
    #[argh(option, arg_name = "seconds")]
    exec_limit: Option<u64>,

    /// also what other sessions of this account send and receive (XEP-0280)
    #[argh(switch)]
    carbons: bool,

    /// with --json: the whole stanza, too
    #[argh(switch)]
    xml: bool,

    /// to a terminal as well, everything as it came
    #[argh(switch)]
    raw: bool,

    /// send no receipts (XEP-0184) to those who ask for them
    #[argh(switch)]
    no_receipts: bool,

    /// how much this session wants messages, from -128 to 127 (0); below 0 it gets none that go to the account
    #[argh(option, default = "0", arg_name = "number")]
    priority: i8,
}

impl Client for Listen {
    fn run(self, account: Account) -> Result<Exit, Failure> {
        let from = addresses(&self.from)?;
        let not_from = addresses(&self.filter_out)?;
        if self.exec.is_none() && !(self.exec_arg.is_empty() && self.exec_limit.is_none()) {
            return Err(Failure::usage("--exec-arg and --exec-limit go with --exec"));
        }
        let format = match &self.format {
            Some(format) => Some(Format::parse(format)?),
            None => None,
        };
        let limit = Duration::from_secs(self.exec_limit.unwrap_or(LIMIT));
        let exec = self.exec.as_ref().map(|program| Exec::new(program.clone(), self.exec_arg.clone(), limit));
        let resolved = account.resolve(true)?;
        let mut work = Work {
            out: Out::new(self.raw),
            json: resolved.json,
            left: self.count,
            options: self,
            from,
            not_from,
            format,
            exec,
        };
        resolved.run(async |session| work.listen(session).await)
    }
}

struct Work {
    options: Listen,
    out: Out,
    json: bool,
    left: Option<u64>,
    from: Vec<String>,
    not_from: Vec<String>,
    format: Option<Format>,
    exec: Option<Exec>,
}

impl Work {
    async fn listen(&mut self, session: &mut Session) -> Result<Exit, Failure> {
        if self.options.carbons {
            session.enable_carbons().await?;
        }
        session.present("", None, self.options.priority);
        if self.options.exit_online {
            session.confirm().await?;
            return Ok(Exit::Ok);
        }
        session.flush().await?;
        while self.left != Some(0) {
            let Some(event) = self.next(session).await? else { continue };
            let message = match event {
                Event::Message(message) => message,
                Event::Closed => {
                    return Err(Failure::new(Exit::Unreachable, "the server has closed the stream"));
                }
                _ => continue,
            };
            if self.wants(&message) {
                self.take(&message)?;
                self.left = self.left.map(|n| n.saturating_sub(1));
            }
            if !self.options.no_receipts {
                session.acknowledge(&message);
                session.flush().await?;
            }
        }
        while self.exec.as_ref().is_some_and(|exec| !exec.is_idle()) {
            self.next(session).await?;
        }
        Ok(Exit::Ok)
    }

    /// The next event; `None` now and then while programs run, and always while they are too many.
    async fn next(&mut self, session: &mut Session) -> Result<Option<Event>, Failure> {
        let Some(exec) = self.exec.as_mut().filter(|exec| !exec.is_idle()) else {
            return Ok(Some(session.next().await?));
        };
        exec.reap();
        let tick = async {
            sleep(Duration::from_millis(20)).await;
            Ok(None)
        };
        if !exec.has_room() || self.left == Some(0) {
            return tick.await;
        }
        or(async { Ok(Some(session.next().await?)) }, tick).await
    }

    /// Whether a message is one that was asked for.
    fn wants(&self, message: &Message) -> bool {
        let has_content = message.body.is_some() || message.subject.is_some() || message.oob.is_some();
        // What we have sent ourselves elsewhere counts as part of the talk with its recipient.
        let with = match (message.carbon, &message.to) {
            (Some(Carbon::Sent), Some(to)) => to.as_str(),
            _ => message.from.as_str(),
        };
        has_content
            && message.kind != "error"
            && !(self.options.no_delayed && message.delay.is_some())
            && (self.from.is_empty() || self.from.iter().any(|f| covers(f, with)))
            && !self.not_from.iter().any(|f| covers(f, with))
    }

    fn take(&mut self, message: &Message) -> Result<(), Failure> {
        let now = now();
        if let Some(exec) = &mut self.exec {
            return exec.start(message, &now);
        }
        if self.json {
            return self.out.line(&json(message, &now, self.options.xml));
        }
        let text = match &self.format {
            Some(format) => format.fill(message, &now, &self.out),
            None => {
                let body = self.out.body(content(message));
                if self.options.verbose {
                    format!("{} {body}", self.out.field(sender(message)))
                } else {
                    body.into_owned()
                }
            }
        };
        self.out.write(&text, !self.options.no_newline)
    }
}

/// Whether an address given on the command line stands for this one.
fn covers(given: &str, jid: &str) -> bool {
    given == jid
        || given == bare(jid)
        || (!given.contains(['@', '/']) && bare(jid).rsplit('@').next() == Some(given))
}

/// The body, or what comes closest.
fn content(message: &Message) -> &str {
    message.body.as_deref().or(message.oob.as_deref()).or(message.subject.as_deref()).unwrap_or("")
}

/// In a room the sender is the resource, else the account.
fn sender(message: &Message) -> &str {
    if message.kind == "groupchat" { &message.from } else { message.from_bare() }
}

fn json(message: &Message, now: &str, xml: bool) -> String {
    let mut o = Object::new();
    o.text("ts", now).text("type", &message.kind).text("from", &message.from);
    o.opt("to", message.to.as_deref()).opt("id", message.id.as_deref());
    o.opt("body", message.body.as_deref()).opt("subject", message.subject.as_deref());
    o.opt("thread", message.thread.as_deref());
    let in_room = message.kind == "groupchat";
    o.opt("room", in_room.then(|| message.from_bare()));
    let room_nick = if in_room { message.from.split_once('/').map(|(_, nick)| nick) } else { None };
    o.opt("nick", room_nick.or(message.nick.as_deref()));
    o.opt("delay", message.delay.as_deref()).opt("oob", message.oob.as_deref());
    o.opt("carbon", message.carbon.map(Carbon::name));
    o.opt("stanza", xml.then_some(message.xml.as_str()));
    o.end()
}

/// `-F`, read once.
#[derive(Debug, PartialEq, Eq)]
struct Format(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Letter(char),
}

impl Format {
    fn parse(text: &str) -> Result<Format, Failure> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => match chars.next() {
                    Some('%') => plain.push('%'),
                    Some(letter @ ('b' | 'j' | 'J' | 'r' | 't' | 'i' | 'T' | 's')) => {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                        parts.push(Part::Letter(letter));
                    }
                    other => {
                        let what = other.map_or("a % at the end".to_owned(), |c| format!("%{c}"));
                        return Err(Failure::usage(format!(
                            "-F: {what} means nothing; there are %b %j %J %r %t %i %T %s %%"
                        )));
                    }
                },
                '\\' => match chars.next() {
                    Some('n') => plain.push('\n'),
                    Some('t') => plain.push('\t'),
                    Some('\\') | None => plain.push('\\'),
                    Some(other) => plain.extend(['\\', other]),
                },
                c => plain.push(c),
            }
        }
        parts.push(Part::Text(plain));
        Ok(Format(parts))
    }

    fn fill(&self, message: &Message, now: &str, out: &Out) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Letter('b') => text.push_str(&out.body(content(message))),
                Part::Letter(letter) => text.push_str(&out.field(match letter {
                    'j' => message.from_bare(),
                    'J' => &message.from,
                    'r' => message.from.split_once('/').map_or("", |(_, r)| r),
                    't' => now,
                    'i' => message.id.as_deref().unwrap_or(""),
                    'T' => &message.kind,
                    _ => message.subject.as_deref().unwrap_or(""),
                })),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            from: "bob@x.org/phone".into(),
            id: Some("7".into()),
            kind: "chat".into(),
            body: Some("a\nb".into()),
            subject: Some("s".into()),
            ..Message::default()
        }
    }

    #[test]
    fn formats() {
        let out = Out::new(true);
        let fill =
            |format: &str| Format::parse(format).map(|f| f.fill(&message(), "T", &out)).map_err(|f| f.exit);
        assert_eq!(
            fill("%j|%J|%r|%b|%t|%i|%T|%s|%%|\\n\\t\\\\\\x").as_deref(),
            Ok("bob@x.org|bob@x.org/phone|phone|a\nb|T|7|chat|s|%|\n\t\\\\x")
        );
        assert_eq!(fill(""), Ok(String::new()));
        assert_eq!(fill("%q"), Err(Exit::Usage));
        assert_eq!(fill("100%"), Err(Exit::Usage));
    }

    #[test]
    fn whom_an_address_covers() {
        for given in ["bob@x.org", "x.org", "bob@x.org/phone"] {
            assert!(covers(given, "bob@x.org/phone"), "{given}");
        }
        for given in ["bob@y.org", "org", "bob@x.org/tablet", "y.org", "bob"] {
            assert!(!covers(given, "bob@x.org/phone"), "{given}");
        }
        assert!(covers("x.org", "x.org"));
    }

    #[test]
    fn json_fields() {
        let mut m = message();
        assert_eq!(
            json(&m, "T", false),
            r#"{"ts":"T","type":"chat","from":"bob@x.org/phone","id":"7","body":"a\nb","subject":"s"}"#
        );
        m.kind = "groupchat".into();
        m.xml = "<message/>".into();
        assert_eq!(
            json(&m, "T", true),
            r#"{"ts":"T","type":"groupchat","from":"bob@x.org/phone","id":"7","body":"a\nb","subject":"s","room":"bob@x.org","nick":"phone","stanza":"<message/>"}"#
        );
    }
}
