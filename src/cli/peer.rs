//! The operator's commands about other hubs and servers.

use super::Local;
use super::admin::{data, human, order, qr, say};
use super::exit::{Exit, Failure};
use super::json;
use super::terminal::{Out, complain};
use crate::net::peers::Found;
use crate::stream::trust::Trusted;
use argh::{ArgsInfo, FromArgs};
use std::borrow::Cow;
use std::io::IsTerminal;
use std::time::Duration;

/// Manage what is known of other hubs and servers.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "peer",
    example = "Two hubs on one network; the same at both, within some minutes:\n\n  stonechat peer list\n  stonechat peer pair boat.local\n  stonechat peer accept boat.local",
    example = "A key carried over by hand, from peer key there to here, and where that hub is:\n\n  stonechat peer key\n  stonechat peer add boat.local --pin sha256:… --address 10.0.0.7:5269",
    example = "The other hub has a new key, and its people say that this is right:\n\n  stonechat peer repair boat.local",
    note = "Servers that have a certificate and a name in the DNS need none of this.",
    note = "All but pair, accept and key work when the hub does not run, too."
)]
pub struct Peer {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum What {
    Add(Add),
    List(List),
    Pair(Pair),
    Accept(Accept),
    Key(Key),
    Remove(Remove),
    Repair(Repair),
}

/// Say where a domain is, or which key it has. What is not said stays as it was.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "add")]
struct Add {
    /// the other domain
    #[argh(positional)]
    domain: String,
    /// where it is; else it is looked for
    #[argh(option, arg_name = "host:port")]
    address: Option<String>,
    /// its key: sha256:…, as peer key shows it there; no other key is taken from then on
    #[argh(option, arg_name = "key")]
    pin: Option<String>,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// List other domains: how each is doing, and who is seen on the network.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list")]
struct List {
    /// one JSON object a line
    #[argh(switch, short = 'j')]
    json: bool,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// Open a pairing for some minutes, and show the code to compare.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "pair")]
struct Pair {
    /// the other domain; whoever is there if left out
    #[argh(positional)]
    domain: Option<String>,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// Accept a pairing: both hubs have shown the same code.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "accept")]
struct Accept {
    /// the other domain
    #[argh(positional)]
    domain: String,
    /// the code that the other hub has shown
    #[argh(positional)]
    code: Option<String>,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// Show this hub's key, to be said at another: as the words to type there.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "key")]
struct Key {
    /// as a QR code, too
    #[argh(switch)]
    qr: bool,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// Forget what was said or paired of a domain.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "remove")]
struct Remove {
    /// the other domain
    #[argh(positional)]
    domain: String,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// Forget a domain's pinned key, so that another can take its place.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "repair")]
struct Repair {
    /// the other domain
    #[argh(positional)]
    domain: String,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

impl Local for Peer {
    fn run(self) -> Result<Exit, Failure> {
        match self.what {
            What::Add(a) => {
                let (address, pin) = (a.address.unwrap_or_default(), a.pin.unwrap_or_default());
                say(&order(&data(a.data), None, &["peer", "add", &a.domain, &address, &pin])?)
            }
            What::List(l) => {
                let table = order(&data(l.data), None, &["peer", "list"])?;
                let out = Out::new(false);
                let rows: Vec<Row> = table.lines().map(Row::of).collect();
                let width = rows.iter().map(|row| row.domain.chars().count()).max().unwrap_or(0);
                for row in rows {
                    match l.json {
                        true => out.line(&row.json())?,
                        false => out.line(&row.text(width.min(40), |text| out.field(text)))?,
                    }
                }
                Ok(Exit::Ok)
            }
            What::Pair(p) => {
                let domain = p.domain.unwrap_or_default();
                // What is refused is refused at once.
                std::thread::spawn(|| {
                    std::thread::sleep(Duration::from_millis(500));
                    complain("waiting for the other hub, where somebody has to say the same");
                });
                say(&order(&data(p.data), None, &["peer", "pair", &domain])?)
            }
            What::Accept(a) => {
                let code = a.code.unwrap_or_default();
                say(&order(&data(a.data), None, &["peer", "accept", &a.domain, &code])?)
            }
            What::Key(k) => {
                let reply = order(&data(k.data), None, &["peer", "key"])?;
                let (domain, pin) = reply.split_once('\t').unwrap_or((&reply, ""));
                let text = format!("stonechat peer add {domain} --pin {pin}");
                if k.qr {
                    Out::new(false).line(&qr(&text, std::io::stdout().is_terminal()))?;
                }
                say(&text)
            }
            What::Remove(r) => say(&order(&data(r.data), None, &["peer", "remove", &r.domain])?),
            What::Repair(r) => say(&order(&data(r.data), None, &["peer", "repair", &r.domain])?),
        }
    }
}

/// One line of the desk's list; the fields as [`crate::net::peers::PeerState::line`] writes them.
#[derive(Default)]
struct Row<'a> {
    domain: &'a str,
    state: &'a str,
    found: &'a str,
    trusted: &'a str,
    pin: &'a str,
    address: &'a str,
    queued: &'a str,
    bytes: &'a str,
    oldest: &'a str,
    since: &'a str,
    denied: bool,
    error: &'a str,
}

impl<'a> Row<'a> {
    fn of(line: &'a str) -> Row<'a> {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        Row {
            domain: next(),
            state: next(),
            found: next(),
            trusted: next(),
            pin: next(),
            address: next(),
            queued: next(),
            bytes: next(),
            oldest: next(),
            since: next(),
            denied: next() == "true",
            error: next(),
        }
    }

    fn json(&self) -> String {
        let some = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        let number = |text: &'a str| text.parse::<i64>().ok();
        let mut object = json::Object::new();
        object.text("domain", self.domain).text("state", self.state);
        object.opt("found", some(self.found)).opt("trusted", some(self.trusted));
        object.opt("pin", some(self.pin)).opt("address", some(self.address));
        object.number("queued", number(self.queued).unwrap_or(0));
        object.number("queued_bytes", number(self.bytes).unwrap_or(0));
        for (name, value) in [("oldest_seconds", self.oldest), ("since_seconds", self.since)] {
            if let Some(n) = number(value) {
                object.number(name, n);
            }
        }
        if self.denied {
            object.truth("denied", true);
        }
        object.opt("error", some(self.error));
        object.end()
    }

    /// The state first, then what a person wants to know about it; the error on a line of its own.
    fn text(&self, width: usize, safe: impl Fn(&'a str) -> Cow<'a, str>) -> String {
        let mut parts: Vec<String> = Vec::new();
        parts.push(match Found::ALL.into_iter().find(|found| found.name() == self.found) {
            Some(found) => found.words().into(),
            None if self.error.is_empty() => "not looked for yet".into(),
            None => "not found".into(),
        });
        let trusted = [Trusted::Pinned, Trusted::Ca, Trusted::Dialback];
        match trusted.into_iter().find(|how| how.rung().name() == self.trusted) {
            Some(how) => parts.push(format!("trusted by {}", how.words())),
            None if self.pin.is_empty() => {}
            None if matches!(self.found, "said" | "paired") => parts.push(format!("pinned {}", self.pin)),
            // Of one that is only seen it is what it says of itself.
            None => parts.push(format!("not paired, says its key is {}", self.pin)),
        }
        if !self.address.is_empty() {
            parts.push(format!("at {}", safe(self.address)));
        }
        if self.queued != "0" {
            let (bytes, age) = (human("_bytes", self.bytes), human("_seconds", self.oldest));
            parts.push(format!("{} waiting ({bytes}, the oldest for {age})", self.queued));
        }
        if self.denied {
            parts.push("denied".into());
        }
        let mut text = format!("{:<width$}  {:<8}  {}", safe(self.domain), self.state, parts.join(", "));
        if !self.error.is_empty() {
            text.push_str(&format!("\n{:width$}            last error: {}", "", safe(self.error)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::peers::{Link, PeerState};

    #[test]
    fn what_the_desk_writes_the_list_reads() {
        let state = PeerState {
            domain: "boat.local".into(),
            state: Link::Waiting,
            found: Some(Found::Paired),
            pin: Some([0; 32]),
            address: Some("10.0.0.7:5269".into()),
            queued: 3,
            queued_bytes: 2048,
            oldest: 40,
            since: 90,
            error: Some("nothing answers at 10.0.0.7:5269".into()),
            ..PeerState::default()
        };
        let line = state.line(100);
        let row = Row::of(&line);
        assert_eq!(
            row.json(),
            concat!(
                r#"{"domain":"boat.local","state":"waiting","found":"paired","#,
                r#""pin":"sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","address":"10.0.0.7:5269","#,
                r#""queued":3,"queued_bytes":2048,"oldest_seconds":60,"since_seconds":10,"#,
                r#""error":"nothing answers at 10.0.0.7:5269"}"#
            )
        );
        assert_eq!(
            row.text(12, Cow::Borrowed),
            concat!(
                "boat.local    waiting   paired, pinned sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=, ",
                "at 10.0.0.7:5269, 3 waiting (2.0 KiB, the oldest for 1m)\n",
                "                        last error: nothing answers at 10.0.0.7:5269"
            )
        );
        let line = PeerState { domain: "x.example".into(), ..PeerState::default() }.line(100);
        assert_eq!(Row::of(&line).text(0, Cow::Borrowed), "x.example  down      not looked for yet");
        let came =
            PeerState { found: Some(Found::Came), pin: Some([0; 32]), ..PeerState::default() }.line(100);
        let text = Row::of(&came).text(0, Cow::Borrowed);
        assert!(text.contains("came by itself, not paired, says its key is sha256:AAAA"), "{text}");
        assert_eq!(
            Row::of(&line).json(),
            r#"{"domain":"x.example","state":"down","queued":0,"queued_bytes":0}"#
        );
    }
}
