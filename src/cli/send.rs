//! `stonechat send`: messages from the command line, a file or standard input.

use super::account::Account;
use super::exit::{Exit, Failure};
use super::seconds::Seconds;
use super::terminal::complain;
use super::{Client, addresses};
use crate::net::client::wait::{Lines, or, sleep, until};
use crate::net::client::{Draft, Event, Kind, Session, StanzaError, bare};
use argh::{ArgsInfo, FromArgs};
use std::io::{IsTerminal as _, Read as _};
use std::time::{Duration, Instant};

/// Send a message.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "send",
    example = "{command_name} -u me@example.org bob@example.org -m 'Dinner is ready'",
    example = "dmesg -w | {command_name} -u pi@kitchen.local --password-file pw admin@kitchen.local -l",
    example = "{command_name} -u me@example.org bob@example.org --receipt -W 20 -m 'Are you there?' || echo no answer",
    note = "Without -m, -l, -s, -n and --file the whole of standard input is the message, unless it is a terminal.",
    note = "Exit code 0 means that the server has taken every message and none came back; with --receipt, that every recipient's client has it. With -l a lost connection and --retry-connect can bring a line twice, but lose none."
)]
pub struct Send {
    /// whom to send it to
    #[argh(positional)]
    to: Vec<String>,

    /// the text
    #[argh(option, short = 'm', arg_name = "text")]
    message: Option<String>,

    /// a message for each line of standard input, as it comes
    #[argh(switch, short = 'l')]
    lines: bool,

    /// the same as --lines (go-sendxmpp's word for it)
    #[argh(switch, short = 'i')]
    interactive: bool,

    /// all of standard input as one message
    #[argh(switch, short = 's')]
    stdin: bool,

    /// a message without a text
    #[argh(switch, short = 'n')]
    null_message: bool,

    /// the text from a file
    #[argh(option, arg_name = "file")]
    file: Option<String>,

    /// the subject
    #[argh(option, short = 'S', arg_name = "text")]
    subject: Option<String>,

    /// the conversation that it belongs to
    #[argh(option, arg_name = "id")]
    thread: Option<String>,

    /// a message of type headline: shown now or never
    #[argh(switch)]
    headline: bool,

    /// chat (the default), normal, headline or groupchat
    #[argh(option, arg_name = "type")]
    r#type: Option<String>,

    /// a link to go with it (XEP-0066)
    #[argh(option, arg_name = "url")]
    oob: Option<String>,

    /// the text is XML: whole stanzas, sent as they are
    #[argh(switch)]
    raw: bool,

    /// ask for a receipt (XEP-0184) and wait for it, as long as --timeout says
    #[argh(switch)]
    receipt: bool,

    /// send it so many times
    #[argh(option, default = "1", arg_name = "count")]
    repeat: u32,

    /// seconds from one time to the next
    #[argh(option, default = "Seconds(Duration::ZERO)", arg_name = "seconds")]
    repeat_delay: Seconds,
}

/// Where the texts come from.
enum Source {
    /// The same so many times.
    Fixed { text: Option<String>, left: u32, delay: Duration, next: Option<Instant> },
    /// A line each.
    Lines(Lines),
}

/// So many messages may be on their way without a confirmation.
const WINDOW: usize = 50;

impl Client for Send {
    fn run(self, account: Account) -> Result<Exit, Failure> {
        let kind = self.kind()?;
        let to = addresses(&self.to)?;
        if to.is_empty() && !self.raw {
            return Err(Failure::usage("send to whom? (see stonechat send --help)"));
        }
        if self.receipt && !matches!(kind, Kind::Chat | Kind::Normal) {
            return Err(Failure::usage("--receipt goes with the types chat and normal"));
        }
        let mut source = self.source(account.password_file.as_deref() == Some("-"))?;
        let resolved = account.resolve(true)?;
        let timeout = resolved.options.timeout;
        let make = |text: Option<&str>| -> Vec<Draft> {
            to.iter()
                .map(|to| {
                    let mut draft = Draft::new(kind, to.as_str());
                    draft.body = text.map(str::to_owned);
                    draft.subject.clone_from(&self.subject);
                    draft.thread.clone_from(&self.thread);
                    draft.oob.clone_from(&self.oob);
                    draft.receipt = self.receipt;
                    draft
                })
                .collect()
        };
        let mut state = State { raw: self.raw, receipt: self.receipt, timeout, ..State::default() };
        resolved.run(async |session| state.deliver(session, &mut source, &make).await)
    }
}

impl Send {
    fn kind(&self) -> Result<Kind, Failure> {
        match (self.headline, self.r#type.as_deref()) {
            (true, None | Some("headline")) | (false, Some("headline")) => Ok(Kind::Headline),
            (true, Some(_)) => Err(Failure::usage("--headline and --type exclude each other")),
            (false, None | Some("chat")) => Ok(Kind::Chat),
            (false, Some("normal")) => Ok(Kind::Normal),
            (false, Some("groupchat")) => Ok(Kind::Groupchat),
            (false, Some(other)) => {
                Err(Failure::usage(format!("--type {other:?}: there are chat, normal, headline, groupchat")))
            }
        }
    }

    fn source(&self, stdin_taken: bool) -> Result<Source, Failure> {
        let lines = self.lines || self.interactive;
        let given = [self.message.is_some(), lines, self.stdin, self.null_message, self.file.is_some()];
        let whole = match given.iter().filter(|g| **g).count() {
            0 if std::io::stdin().is_terminal() => {
                return Err(Failure::usage("send what? use -m TEXT, or -s, -l, -n, --file"));
            }
            0 => true,
            1 => self.stdin,
            _ => return Err(Failure::usage("-m, -l, -s, -n and --file exclude each other")),
        };
        if stdin_taken && (whole || lines) {
            return Err(Failure::usage("standard input cannot be both the password and the message"));
        }
        if lines {
            return Ok(Source::Lines(Lines::stdin()));
        }
        let text = if whole {
            let mut text = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut text)
                .map_err(|e| Failure::new(Exit::Io, format!("standard input: {e}")))?;
            Some(utf8(text, "standard input")?)
        } else if let Some(file) = &self.file {
            let text = std::fs::read(file).map_err(|e| Failure::new(Exit::Io, format!("{file}: {e}")))?;
            Some(utf8(text, file)?)
        } else {
            self.message.clone()
        };
        let Seconds(delay) = self.repeat_delay;
        Ok(Source::Fixed { text, left: self.repeat, delay, next: None })
    }
}

/// Text, without the line end that every file has.
fn utf8(bytes: Vec<u8>, name: &str) -> Result<String, Failure> {
    let mut text =
        String::from_utf8(bytes).map_err(|_| Failure::new(Exit::Io, format!("{name} is not UTF-8")))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

impl Source {
    /// Whether the next text is there without waiting.
    fn is_ready(&self) -> bool {
        match self {
            Source::Fixed { left, next, .. } => *left > 0 && next.is_none_or(|at| at <= Instant::now()),
            Source::Lines(lines) => lines.is_ready(),
        }
    }

    /// The next text; the outer `None` is the end.
    async fn next(&mut self) -> Result<Option<Option<String>>, Failure> {
        match self {
            Source::Fixed { left: 0, .. } => Ok(None),
            Source::Fixed { text, left, delay, next } => {
                if let Some(at) = *next {
                    until(at).await;
                }
                *left = left.saturating_sub(1);
                *next = (!delay.is_zero()).then(|| Instant::now().checked_add(*delay)).flatten();
                Ok(Some(text.clone()))
            }
            Source::Lines(lines) => {
                let line =
                    lines.next().await.map_err(|e| Failure::new(Exit::Io, format!("standard input: {e}")))?;
                Ok(line.map(Some))
            }
        }
    }
}

/// What was sent and is not confirmed, across connections.
#[derive(Default)]
struct State {
    raw: bool,
    receipt: bool,
    timeout: Duration,
    unconfirmed: Vec<Draft>,
    /// Receipts that have not come: id of the message, and who is to send it.
    awaited: Vec<(String, String)>,
    refused: Option<StanzaError>,
}

impl State {
    async fn deliver(
        &mut self,
        session: &mut Session,
        source: &mut Source,
        make: &impl Fn(Option<&str>) -> Vec<Draft>,
    ) -> Result<Exit, Failure> {
        for draft in &self.unconfirmed {
            session.send(draft);
        }
        loop {
            if !self.unconfirmed.is_empty() && (self.unconfirmed.len() >= WINDOW || !source.is_ready()) {
                self.confirm(session).await?;
            }
            // While we wait for a text the stream lives on.
            let text = or(source.next(), async {
                loop {
                    let event = session.next().await?;
                    if matches!(event, Event::Closed) {
                        return Err(Failure::new(Exit::Unreachable, "the server has closed the stream"));
                    }
                    self.hear(event);
                }
            });
            let Some(text) = text.await? else { break };
            if self.raw {
                session.send_raw(text.as_deref().unwrap_or(""))?;
                session.flush().await?;
                self.confirm(session).await?;
                continue;
            }
            for draft in make(text.as_deref()) {
                session.send(&draft);
                if self.receipt {
                    self.awaited.push((draft.id.clone(), bare(&draft.to).to_owned()));
                }
                self.unconfirmed.push(draft);
            }
            session.flush().await?;
        }
        if !self.unconfirmed.is_empty() {
            self.confirm(session).await?;
        }
        self.receipts(session).await?;
        match self.refused.take() {
            Some(error) => Err(crate::net::client::Error::Stanza(error).into()),
            None => Ok(Exit::Ok),
        }
    }

    /// Makes sure that the server has taken all that was sent so far.
    async fn confirm(&mut self, session: &mut Session) -> Result<(), Failure> {
        session.confirm().await.map_err(|error| {
            let failure = Failure::from(error);
            match failure.exit {
                Exit::TimedOut => {
                    Failure::new(Exit::Undelivered, "the server did not confirm the message in time")
                }
                _ => failure,
            }
        })?;
        self.unconfirmed.clear();
        for error in session.take_bounces() {
            self.refuse(error);
        }
        Ok(())
    }

    fn refuse(&mut self, error: StanzaError) {
        if let Some(from) = &error.from {
            self.awaited.retain(|(_, who)| who != bare(from));
        }
        // Each is said; the last one goes with the exit code.
        if let Some(before) = self.refused.replace(error) {
            complain(&format!("error: {before}"));
        }
    }

    fn hear(&mut self, event: Event) {
        if let Event::Message(message) = event
            && let Some(id) = &message.receipt
        {
            self.awaited.retain(|(wanted, who)| wanted != id || who != message.from_bare());
        }
    }

    /// Waits for the receipts that were asked for.
    async fn receipts(&mut self, session: &mut Session) -> Result<(), Failure> {
        let timeout = self.timeout;
        let wait = async {
            while !self.awaited.is_empty() {
                let event = session.next().await?;
                if matches!(event, Event::Closed) {
                    return Err(Failure::new(
                        Exit::Undelivered,
                        "the server closed the stream before the receipt came",
                    ));
                }
                self.hear(event);
                for error in session.take_bounces() {
                    self.refuse(error);
                }
            }
            Ok(true)
        };
        let over = async {
            sleep(timeout).await;
            Ok::<bool, Failure>(false)
        };
        if or(wait, over).await? {
            return Ok(());
        }
        let who: Vec<&str> = self.awaited.iter().map(|(_, who)| who.as_str()).collect();
        Err(Failure::new(Exit::Undelivered, format!("no receipt from {} in time", who.join(", "))))
    }
}
