//! Who may import whom, and who has the key to which door: the floor plan of ARCHITECTURE.md, read
//! off the sources. Tests inside of `src/` may look where they like; what ships may not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

use std::path::{Path, PathBuf};

/// Each room of the house and what it may name after `crate::`. The longest match counts.
const ARROWS: &[(&str, &[&str])] = &[
    ("jid", &[]),
    ("prep", &[]),
    ("xml", &["jid"]),
    ("stanza", &["jid", "xml"]),
    (
        "stream",
        &[
            "jid",
            "prep",
            "xml",
            "stanza",
            "store::change::Keys",
            "store::change::ScramKeys",
            "store::change::AccountId",
        ],
    ),
    (
        "hub",
        &[
            "jid",
            "xml",
            "stanza",
            "store::change",
            "stream::identity",
            "stream::error",
            "stream::Error",
            "stream::Condition",
            "stream::Authenticated",
            "stream::trust",
        ],
    ),
    ("xep", &["jid", "prep", "xml", "stanza", "hub", "store::change", "stream::Error", "stream::Condition"]),
    ("store", &["jid"]),
    ("net", &["jid", "prep", "xml", "stanza", "stream", "hub", "xep", "store"]),
    ("cli", &["jid", "prep", "xml", "stanza", "stream", "hub", "xep", "store", "net"]),
    // The roots of the packages, which only say what is in them.
    ("wire", &[]),
    ("core", &[]),
    ("house", &[]),
    ("lib", &[]),
    ("main", &[]),
];

/// One door per dependency: the crate, and where it may be named.
const DOORS: &[(&str, &[&str])] = &[
    ("roxmltree", &["stanza/"]),
    ("rustls", &["net/tls"]),
    ("redb", &["store/"]),
    ("argh", &["cli/", "main.rs"]),
    ("smol", &["net/", "cli/"]),
    ("async_io", &["net/", "cli/"]),
    ("rcgen", &["net/cert/authority.rs"]),
    ("idna", &["jid", "net/cert"]),
    ("idna_adapter", &["jid/precis"]),
    ("unicode_normalization", &["jid/precis"]),
    ("stringprep", &["prep.rs"]),
    ("memchr", &["xml/"]),
];

/// The cores have no clock and no dice; nobody has `unsafe`. (What `net` has the cores cannot name.)
const WORDS: &[(&str, &[&str])] = &[
    // It panics from 2038 on where the processor has 32 bits; `net::unix_time` does not.
    ("SystemTime::now", &[""]),
    ("unix_time", &["net/mdns/"]),
    (
        "Instant::now",
        &[
            "stream",
            "hub",
            "xep",
            "stanza",
            "xml",
            "jid",
            "prep",
            "store/change.rs",
            "net/mdns/",
            "net/dns/wire.rs",
        ],
    ),
    ("SystemRandom", &["hub", "xep", "stanza", "xml", "jid", "prep"]),
    ("rand::", &["stream", "hub", "xep", "stanza", "xml", "jid", "prep"]),
    ("getrandom", &["stream", "hub", "xep", "stanza", "xml", "jid", "prep"]),
    ("async fn", &["stream", "hub", "xep", "stanza", "xml", "jid", "prep", "store"]),
    (".await", &["stream", "hub", "xep", "stanza", "xml", "jid", "prep", "store"]),
    ("unsafe", &[""]),
];

/// A source file: its path under `src/`, and its code without comments, strings and tests.
struct Source {
    path: String,
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut dirs = vec![root.clone()];
    let mut all = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                dirs.push(path);
            } else if name.ends_with(".rs") && !is_test(&name) {
                all.push(Source { path: name, code: code(&std::fs::read_to_string(&path).unwrap()) });
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(all.len() > 20, "found only {} sources", all.len());
    all
}

fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/")
}

/// The code without comments, strings, and the tests at the bottom.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if let Some(raw) = ["r#\"", "br#\""].iter().find(|raw| rest.starts_with(**raw)) {
            rest = rest[raw.len()..].split_once("\"#").map_or("", |(_, rest)| rest);
        } else if c == '"' {
            let mut end = 1;
            let bytes = rest.as_bytes();
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            rest = rest.get(end + 1..).unwrap_or("");
            out.push_str("\"\"");
        } else if rest.starts_with("'\"'") {
            rest = &rest[3..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    let tests = out.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|at| {
        let mut lines = out[*at..].lines().skip(1).skip_while(|line| line.starts_with("#["));
        lines.next().is_some_and(|line| line == "mod tests {")
    });
    match tests {
        Some(tests) => out[..tests].to_owned(),
        None => out,
    }
}

/// Whether a character can be part of a name.
fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every path that the code names after `crate::`, as in `stream::Error`; groups are spelled out.
fn named(code: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(in_name) || code[..at].ends_with('$') {
            continue;
        }
        spell_out("", &code[at + "crate::".len()..], &mut all);
    }
    all
}

/// Adds the paths of one use tree to `all`; gives what follows it.
fn spell_out<'c>(before: &str, tree: &'c str, all: &mut Vec<String>) -> &'c str {
    let mut tree = tree.trim_start();
    if let Some(group) = tree.strip_prefix('{') {
        tree = group;
        loop {
            tree = spell_out(before, tree, all).trim_start();
            match tree.chars().next() {
                Some(',') => tree = tree[1..].trim_start(),
                Some('}') => return &tree[1..],
                _ => return tree, // no use tree after all
            }
            if let Some(after) = tree.strip_prefix('}') {
                return after;
            }
        }
    }
    let end = tree.find(|c| !in_name(c) && c != '*').unwrap_or(tree.len());
    let (name, mut rest) = tree.split_at(end);
    let path = match (before, name) {
        ("", name) => name.to_owned(),
        (before, "self" | "") => before.to_owned(),
        (before, name) => format!("{before}::{name}"),
    };
    if let Some(more) = rest.strip_prefix("::") {
        return spell_out(&path, more, all);
    }
    all.push(path);
    if let Some(alias) = rest.trim_start().strip_prefix("as ") {
        let alias = alias.trim_start();
        rest = &alias[alias.find(|c| !in_name(c)).unwrap_or(alias.len())..];
    }
    rest
}

/// What the code names through a module that it has imported: the paths that begin with its name.
fn used_of(code: &str, module: &str) -> Vec<String> {
    let name = module.rsplit("::").next().unwrap_or(module);
    let mut all = Vec::new();
    for (at, found) in code.match_indices(&format!("{name}::")) {
        if !code[..at].ends_with(|c| in_name(c) || c == ':') {
            spell_out(module, &code[at + found.len()..], &mut all);
        }
    }
    all
}

#[test]
fn nobody_imports_against_the_arrows() {
    let mut wrong = Vec::new();
    for source in sources() {
        let room = source.room();
        let Some((_, may)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("src/{}: {room} is not on the floor plan", source.path));
            continue;
        };
        let allowed = |path: &str| {
            let under = |m: &str| path == m || path.starts_with(&format!("{m}::"));
            under(room) || may.iter().copied().any(under)
        };
        for path in named(&source.code) {
            // `use crate::stream;` is as good as what it is used for.
            let through = used_of(&source.code, &path);
            if !allowed(&path) && (through.is_empty() || !through.iter().all(|p| allowed(p))) {
                wrong.push(format!("src/{} names crate::{path}; {room} may name only {may:?}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "against the floor plan:\n{}", wrong.join("\n"));
}

#[test]
fn each_dependency_has_one_door() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, doors) in DOORS {
            let named = source.code.match_indices(name).any(|(at, _)| {
                let (before, after) = (&source.code[..at], &source.code[at + name.len()..]);
                let alone = !before.ends_with(in_name) && !before.ends_with("::");
                alone && (after.starts_with("::") || (before.ends_with("use ") && after.starts_with(';')))
            });
            if named && !doors.iter().any(|door| source.path.starts_with(door)) {
                wrong.push(format!("src/{} names {name}, whose door is {doors:?}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "through the wrong door:\n{}", wrong.join("\n"));
}

#[test]
fn the_cores_have_no_clock_and_no_dice_and_nobody_is_unsafe() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (word, rooms) in WORDS {
            let here = |room: &&str| room.is_empty() || source.room() == *room || source.path == **room;
            let said = source.code.match_indices(word).any(|(at, _)| {
                let follows = source.code[at + word.len()..].starts_with(in_name);
                !source.code[..at].ends_with(in_name) && !follows
            });
            if rooms.iter().any(here) && said {
                wrong.push(format!("src/{} says `{word}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "not in these rooms:\n{}", wrong.join("\n"));
}

#[test]
fn this_test_can_read() {
    let code = code(
        "use crate::{hub::{Hub, talk::Sink as S}, jid}; // crate::net\nlet s = \"crate::cli\"; crate::store::x()",
    );
    assert_eq!(named(&code), ["hub::Hub", "hub::talk::Sink", "jid", "store::x"]);
}
