//! `stonechat disco`: XEP-0030.

use super::account::Account;
use super::exit::{Exit, Failure};
use super::json::Object;
use super::terminal::Out;
use super::{Client, address};
use crate::net::client::Get;
use crate::stanza;
use crate::xml::ns;
use argh::{ArgsInfo, FromArgs};

/// Ask what somebody is and can do.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "disco",
    example = "{command_name} -u me@example.org",
    example = "{command_name} -u me@example.org conference.example.org --items",
    example = "{command_name} -u me@example.org -j example.org",
    note = "Output: a line \"identity CATEGORY TYPE NAME\" or \"feature NAME\" or, with --items, \"item JID NODE NAME\" for each, with TABs between. Without an address the account's own server is asked."
)]
pub struct Disco {
    /// whom to ask, and perhaps which node there
    #[argh(positional, arg_name = "jid [node]")]
    whom: Vec<String>,

    /// what belongs to it (disco#items), instead of what it is
    #[argh(switch)]
    items: bool,
}

impl Client for Disco {
    fn run(self, account: Account) -> Result<Exit, Failure> {
        let (to, node) = match self.whom.as_slice() {
            [] => (None, None),
            [jid] => (Some(address(jid)?), None),
            [jid, node] => (Some(address(jid)?), Some(node.as_str())),
            _ => return Err(Failure::usage("one address and one node at most")),
        };
        let resolved = account.resolve(true)?;
        let json = resolved.json;
        let out = Out::new(false);
        resolved.run(async |session| {
            let to = to.clone().unwrap_or_else(|| session.domain().to_owned());
            let uri = if self.items { ns::DISCO_ITEMS } else { ns::DISCO_INFO };
            let answer = session
                .request(Get, Some(&to), |w| {
                    w.start("query").ns(uri).opt("node", node).end();
                })
                .await?;
            let mut rows: Vec<Row> = Vec::new();
            answer.with(|iq| {
                for node in stanza::child(iq, uri, "query").iter().flat_map(|q| q.children()) {
                    rows.extend(Row::read(&node, uri));
                }
            });
            if json {
                return out.line(&Row::json(&to, node, &rows)).map(|()| Exit::Ok);
            }
            for row in &rows {
                let fields: Vec<_> = row.fields.iter().map(|f| out.field(f)).collect();
                out.line(format!("{}\t{}", row.kind, fields.join("\t")).trim_end())?;
            }
            Ok(Exit::Ok)
        })
    }
}

struct Row {
    kind: &'static str,
    fields: Vec<String>,
}

impl Row {
    fn read(node: &stanza::Node<'_, '_>, uri: &str) -> Option<Row> {
        if !node.is_element() || stanza::namespace(node) != uri {
            return None;
        }
        let (kind, names): (_, &[&str]) = match node.tag_name().name() {
            "identity" => ("identity", &["category", "type", "name"]),
            "feature" => ("feature", &["var"]),
            "item" => ("item", &["jid", "node", "name"]),
            _ => return None,
        };
        Some(Row {
            kind,
            fields: names.iter().map(|n| stanza::attr(node, n).unwrap_or("").to_owned()).collect(),
        })
    }

    fn json(from: &str, node: Option<&str>, rows: &[Row]) -> String {
        let mut o = Object::new();
        o.text("from", from).opt("node", node);
        let objects = |kind: &'static str, names: [&'static str; 3]| {
            rows.iter().filter(move |r| r.kind == kind).map(move |row| {
                let mut o = Object::new();
                for (name, value) in names.iter().zip(&row.fields).filter(|(_, v)| !v.is_empty()) {
                    o.text(name, value);
                }
                o
            })
        };
        o.objects("identities", objects("identity", ["category", "type", "name"]));
        let features = rows.iter().filter(|r| r.kind == "feature");
        o.texts("features", features.filter_map(|r| r.fields.first()).map(String::as_str));
        o.objects("items", objects("item", ["jid", "node", "name"]));
        o.end()
    }
}
