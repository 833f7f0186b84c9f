//! The operator's commands about components: gateways and services that attach with a domain of their
//! own (XEP-0114).

use super::Local;
use super::admin::{data, line_of_stdin, order, say};
use super::exit::{Exit, Failure};
use super::json;
use super::terminal::{Out, complain};
use argh::{ArgsInfo, FromArgs};

/// Manage gateways and services that attach with a domain of their own.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "component",
    example = "stonechat component add irc.kitchen.local\n  stonechat component list\n  stonechat component remove irc.kitchen.local",
    example = "With a secret of your own:\n\n  echo SECRET | stonechat component add irc.kitchen.local --secret-stdin",
    note = "They attach (XEP-0114) where the hub listens for them: stonechat serve --component 127.0.0.1:5347",
    note = "Works while the hub runs and when it does not."
)]
pub struct Component {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum What {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Let a component attach; prints the secret that it needs. Once more: a new secret.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "add")]
struct Add {
    /// its domain, as irc.kitchen.local
    #[argh(positional)]
    domain: String,
    /// read the secret from standard input instead of making one
    #[argh(switch)]
    secret_stdin: bool,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// List the components, and whether they are attached.
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

/// Let a component attach no longer.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "remove")]
struct Remove {
    /// its domain
    #[argh(positional)]
    domain: String,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

impl Local for Component {
    fn run(self) -> Result<Exit, Failure> {
        match self.what {
            What::Add(a) => {
                let secret = match a.secret_stdin {
                    true => Some(line_of_stdin()?).filter(|secret| !secret.is_empty()),
                    false => Some(String::new()),
                };
                let secret = secret.ok_or_else(|| Failure::usage("there is no secret on standard input"))?;
                let reply = order(&data(a.data), None, &["component", "add", &a.domain, &secret])?;
                let (made, said) = reply.split_once('\n').unwrap_or(("", &reply));
                if made.is_empty() {
                    return say(said);
                }
                // So that a script gets the secret and nothing else.
                complain(&format!("{said}; it attaches with this secret:"));
                say(made)
            }
            What::List(l) => {
                let table = order(&data(l.data), None, &["component", "list"])?;
                let out = Out::new(false);
                for (domain, attached) in table.lines().filter_map(|line| line.split_once('\t')) {
                    if l.json {
                        let mut object = json::Object::new();
                        object.text("domain", domain).truth("attached", attached == "true");
                        out.line(&object.end())?;
                    } else {
                        let is = if attached == "true" { "  attached" } else { "" };
                        out.line(&format!("{}{is}", out.field(domain)))?;
                    }
                }
                Ok(Exit::Ok)
            }
            What::Remove(r) => say(&order(&data(r.data), None, &["component", "remove", &r.domain])?),
        }
    }
}
