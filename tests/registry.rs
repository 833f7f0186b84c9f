//! The registry is the truth: each room's file, disco#info and the README say what it says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{DOMAIN, World};
use std::collections::BTreeSet;
use std::path::Path;
use stonechat::xep::{ALL, table};

/// Number and title of each room, from the first line of its file.
fn rooms() -> Vec<(String, u16, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/xep");
    let mut rooms = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if file == "mod.rs" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        let title = first.strip_prefix("//! ").unwrap_or_else(|| panic!("{file} opens with {first:?}"));
        let (document, title) = title.split_once(": ").unwrap_or_else(|| panic!("{file}: {title:?}"));
        let number = match document.strip_prefix("XEP-") {
            Some(number) => {
                assert_eq!(number.len(), 4, "{file}: {document}");
                number.parse().unwrap()
            }
            None => {
                assert!(document.starts_with("RFC "), "{file}: {document}");
                0
            }
        };
        let second = text.lines().nth(1).unwrap_or_default();
        assert_eq!(second, "//!", "{file}: a line of why or what follows the title");
        assert!(text.lines().nth(2).is_some_and(|l| l.len() > 5), "{file}: says nothing");
        rooms.push((file, number, title.to_owned()));
    }
    rooms
}

#[test]
fn every_room_opens_with_its_title_and_is_listed() {
    for (file, number, title) in rooms() {
        let listed = ALL.iter().any(|e| e.number == number && e.name.starts_with(&title));
        assert!(listed, "{file} (XEP-{number:04}: {title}) is not in xep::ALL under that number and name");
    }
}

#[test]
fn every_extension_has_a_room() {
    let rooms = rooms();
    for e in ALL.iter().filter(|e| e.number != 0) {
        let room = rooms.iter().find(|(_, number, _)| *number == e.number);
        let (file, _, title) = room.unwrap_or_else(|| panic!("XEP-{:04} has no room", e.number));
        assert_eq!(title, e.name, "{file}");
    }
}

#[test]
fn numbers_are_unique_and_all_fields_are_filled() {
    let mut seen = BTreeSet::new();
    for e in ALL {
        assert!(e.number == 0 || seen.insert(e.number), "XEP-{:04} twice", e.number);
        assert!(!e.name.is_empty() && !e.version.is_empty() && !e.scope.is_empty(), "XEP-{:04}", e.number);
        for text in [e.name, e.version, e.scope] {
            assert!(!text.contains('|') && !text.contains('\n'), "would break the table: {text:?}");
        }
    }
}

#[test]
fn every_feature_answers_in_disco() {
    let mut w = World::new(&["alice"]);
    let alice = w.login("alice", "desk");
    let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    for (to, all) in [
        (DOMAIN.to_owned(), ALL.iter().flat_map(|e| e.features).collect::<BTreeSet<_>>()),
        (format!("alice@{DOMAIN}"), ALL.iter().flat_map(|e| e.account_features).collect()),
    ] {
        let answer = w.iq(alice, "get", &to, query);
        let shown: Vec<String> = answer.with(|n| {
            let features = n.descendants().filter(|d| d.tag_name().name() == "feature");
            features.map(|f| f.attribute("var").unwrap().to_owned()).collect()
        });
        assert_eq!(shown.len(), all.len(), "{to}: each once");
        for feature in all {
            assert!(shown.iter().any(|s| s == feature), "{to} lacks {feature}");
        }
    }
}

#[test]
fn every_request_of_a_rule_is_answered() {
    let mut w = World::new(&["alice"]);
    let alice = w.login("alice", "desk");
    for rule in ALL.iter().flat_map(|e| e.iq) {
        // Those that end the session or change what the next one finds have tests of their own.
        let name = if rule.name.is_empty() { "query" } else { rule.name };
        for kind in ["get", "set"] {
            if rule.set.is_some_and(|set| set != (kind == "set")) {
                continue;
            }
            for to in ["", DOMAIN, "alice@hub.test", "nobody@hub.test"] {
                let answer = w.iq(alice, kind, to, &format!("<{name} xmlns='{}'/>", rule.ns));
                assert!(matches!(&*answer.kind(), "result" | "error"), "{answer:?}");
            }
        }
    }
}

#[test]
fn the_readme_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = readme.split_once("<!-- xeps -->").expect("README.md lacks <!-- xeps -->");
    let (written, _) = rest.split_once("<!-- /xeps -->").expect("README.md lacks <!-- /xeps -->");
    let table = table();
    assert!(
        written.trim() == table.trim(),
        "README.md: between <!-- xeps --> and <!-- /xeps --> must stand\n\n{table}"
    );
}
