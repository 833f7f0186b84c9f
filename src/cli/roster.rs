//! `stonechat roster`: the contact list (RFC 6121 §2, §3).

use super::account::{Account, Resolved};
use super::exit::{Exit, Failure};
use super::json::Object;
use super::terminal::Out;
use super::{Client, address, addresses};
use crate::net::client::{Get, Session, Set};
use crate::stanza;
use crate::xml::ns;
use argh::{ArgsInfo, FromArgs};

/// Show and change the contact list.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "roster",
    example = "{command_name} ls -u me@example.org",
    example = "{command_name} add -u me@example.org bob@example.net --name Bob --group Friends",
    example = "{command_name} approve -u me@example.org eve@example.com",
    note = "ls prints a line per contact: address, subscription (none, to, from, both; \"+ask\" while the contact has not answered), name, groups with commas, with TABs between."
)]
pub struct Roster {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum What {
    Ls(Ls),
    Add(Add),
    Rm(Rm),
    Approve(Approve),
    Deny(Deny),
}

/// Show the contacts.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "ls")]
struct Ls {
    /// only those in this group
    #[argh(option, arg_name = "name")]
    group: Option<String>,
}

/// Add a contact, or change its name and groups, and ask to see its presence.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "add")]
struct Add {
    /// the contact
    #[argh(positional)]
    jid: String,

    /// what to call it
    #[argh(option, arg_name = "name")]
    name: Option<String>,

    /// a group to put it into (repeatable)
    #[argh(option, arg_name = "name")]
    group: Vec<String>,

    /// do not ask to see its presence
    #[argh(switch)]
    no_subscribe: bool,
}

/// Remove contacts, and end all subscriptions with them.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "rm")]
struct Rm {
    /// the contacts
    #[argh(positional)]
    jid: Vec<String>,
}

/// Let them see when this account is online.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "approve")]
struct Approve {
    /// the contacts
    #[argh(positional)]
    jid: Vec<String>,
}

/// Refuse them that, or let them no longer.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "deny")]
struct Deny {
    /// the contacts
    #[argh(positional)]
    jid: Vec<String>,
}

impl Client for Roster {
    fn run(self, account: Account) -> Result<Exit, Failure> {
        match self.what {
            What::Ls(ls) => {
                let resolved = account.resolve(true)?;
                let json = resolved.json;
                resolved.run(async |session| show(session, &ls, json).await)
            }
            What::Add(add) => {
                let jid = address(&add.jid)?;
                account.resolve(true)?.run(async |session| {
                    set(session, &jid, Some(&add)).await?;
                    if !add.no_subscribe {
                        session.subscription("subscribe", &jid);
                        session.confirm().await?;
                    }
                    refused(session)
                })
            }
            What::Rm(rm) => {
                let jids = some(&rm.jid)?;
                account.resolve(true)?.run(async |session| {
                    for jid in &jids {
                        set(session, jid, None).await?;
                    }
                    Ok(Exit::Ok)
                })
            }
            What::Approve(them) => tell(account.resolve(true)?, "subscribed", &them.jid),
            What::Deny(them) => tell(account.resolve(true)?, "unsubscribed", &them.jid),
        }
    }
}

fn some(words: &[String]) -> Result<Vec<String>, Failure> {
    match addresses(words)? {
        none if none.is_empty() => Err(Failure::usage("which contacts? (see --help)")),
        jids => Ok(jids),
    }
}

fn tell(resolved: Resolved, kind: &'static str, words: &[String]) -> Result<Exit, Failure> {
    let jids = some(words)?;
    resolved.run(async |session| {
        for jid in &jids {
            session.subscription(kind, jid);
        }
        session.confirm().await?;
        refused(session)
    })
}

/// The first error that came back for what was sent.
fn refused(session: &mut Session) -> Result<Exit, Failure> {
    match session.take_bounces().into_iter().next() {
        Some(error) => Err(crate::net::client::Error::Stanza(error).into()),
        None => Ok(Exit::Ok),
    }
}

async fn set(session: &mut Session, jid: &str, add: Option<&Add>) -> Result<(), Failure> {
    let answer = session.request(Set, None, |w| {
        w.start("query").ns(ns::ROSTER).start("item").attr("jid", jid);
        match add {
            Some(add) => {
                w.opt("name", add.name.as_deref());
                for group in &add.group {
                    w.text_leaf("group", group);
                }
            }
            None => {
                w.attr("subscription", "remove");
            }
        }
        w.end().end();
    });
    answer.await.map(drop).map_err(Failure::from)
}

struct Item {
    jid: String,
    name: Option<String>,
    subscription: String,
    ask: bool,
    groups: Vec<String>,
}

async fn show(session: &mut Session, ls: &Ls, json: bool) -> Result<Exit, Failure> {
    let answer = session
        .request(Get, None, |w| {
            w.leaf("query", ns::ROSTER);
        })
        .await?;
    let mut items = Vec::new();
    answer.with(|iq| {
        for node in stanza::child(iq, ns::ROSTER, "query").iter().flat_map(|q| q.children()) {
            if !stanza::is(&node, ns::ROSTER, "item") {
                continue;
            }
            let groups = node.children().filter(|g| stanza::is(g, ns::ROSTER, "group"));
            items.push(Item {
                jid: stanza::attr(&node, "jid").unwrap_or("").to_owned(),
                name: stanza::attr(&node, "name").filter(|n| !n.is_empty()).map(str::to_owned),
                subscription: stanza::attr(&node, "subscription").unwrap_or("none").to_owned(),
                ask: stanza::attr(&node, "ask") == Some("subscribe"),
                groups: groups.map(|g| g.text().unwrap_or("").to_owned()).collect(),
            });
        }
    });
    items.retain(|item| ls.group.as_ref().is_none_or(|group| item.groups.contains(group)));
    items.sort_by(|a, b| a.jid.cmp(&b.jid));
    let out = Out::new(false);
    for item in &items {
        if json {
            let mut o = Object::new();
            o.text("jid", &item.jid)
                .opt("name", item.name.as_deref())
                .text("subscription", &item.subscription);
            o.truth("ask", item.ask).texts("groups", item.groups.iter().map(String::as_str));
            out.line(&o.end())?;
            continue;
        }
        let ask = if item.ask { "+ask" } else { "" };
        let name = item.name.as_deref().unwrap_or("");
        let fields = [&item.jid, &format!("{}{ask}", item.subscription), name, &item.groups.join(",")];
        let fields: Vec<_> = fields.iter().map(|f| out.field(f)).collect();
        out.line(fields.join("\t").trim_end())?;
    }
    Ok(Exit::Ok)
}
