//! XEP-0191: Blocking Command
//!
//! Whom a user wants nothing from, and does not want to write to by accident. To those blocked the
//! account looks offline. What is blocked, and what is not, is on disk before the user hears so.

use super::DISK;
use crate::hub::Hub;
use crate::hub::account::Account;
use crate::hub::extension::{Cx, Extension, Reply, Request, Rule, Takes};
use crate::hub::talk::Sink;
use crate::jid::Jid;
use crate::stanza::{Condition, Error, attr, child, is};
use crate::store::change::{Answer, Ask, Change};
use crate::xml::{Writer, ns};

/// The registry's entry.
pub const BLOCKING: Extension = Extension {
    number: 191,
    name: "Blocking Command",
    version: "1.3",
    scope: "list, block, unblock, pushes, presence",
    features: &[ns::BLOCKING],
    account_features: &[ns::BLOCKING],
    iq: &[
        Rule { ns: ns::BLOCKING, name: "blocklist", set: Some(false), takes: Takes::Own, run: list },
        Rule { ns: ns::BLOCKING, name: "block", set: Some(true), takes: Takes::Own, run: block },
        Rule { ns: ns::BLOCKING, name: "unblock", set: Some(true), takes: Takes::Own, run: unblock },
    ],
    blocks: Some(|account, jid| jid != account.jid.domain() && matches(&account.blocked, jid)),
    ..Extension::NEW
};

/// §5 JID Matching, against a sorted list: `user@domain/resource` and `domain/resource` only that
/// resource, `user@domain` any of its resources, `domain` all that ends in it. (The user's own
/// domain itself is spared by the hook above: to block everybody at home must not cut off the hub.)
fn matches(list: &[Box<str>], jid: &str) -> bool {
    let listed = |jid: &str| list.binary_search_by(|b| (**b).cmp(jid)).is_ok();
    let bare = jid.split_once('/').map_or(jid, |(bare, _)| bare);
    let (local, domain) = bare.split_once('@').map_or((false, bare), |(_, domain)| (true, domain));
    listed(jid) || (local && listed(bare)) || listed(domain)
}

/// §3.2
fn list(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let session = cx.session(request.origin.session).ok_or(Condition::InternalServerError)?;
    session.watches_blocks = true;
    let place = session.account;
    let account = cx.hub.account(place).ok_or(Condition::InternalServerError)?;
    Ok(Cx::payload(|w| {
        w.start("blocklist").ns(ns::BLOCKING);
        write_items(w, &account.blocked);
        w.end();
    }))
}

fn write_items(w: &mut Writer<'_>, items: &[Box<str>]) {
    for jid in items {
        w.start("item").attr("jid", jid).end();
    }
}

/// The addresses of a request, normal, sorted, each once.
fn items(hub: &Hub, request: &Request<'_>, name: &str) -> Result<Vec<Box<str>>, Error> {
    let tree = request.stanza.tree()?;
    let list = child(&tree.root_element(), ns::BLOCKING, name).ok_or(Condition::BadRequest)?;
    let mut items = Vec::new();
    for item in list.children().filter(|n| is(n, ns::BLOCKING, "item")) {
        let jid = attr(&item, "jid").ok_or(Condition::BadRequest)?;
        let jid = Jid::parse(jid).map_err(|_| Condition::JidMalformed)?;
        items.push(hub.canonical(jid).as_str().into());
    }
    items.sort_unstable();
    items.dedup();
    Ok(items)
}

/// §3.3
fn block(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let items = items(cx.hub, request, "block")?;
    if items.is_empty() {
        return Err(Condition::BadRequest.into());
    }
    let max = cx.hub.limits.blocked;
    let (place, account) = asking(cx, request)?;
    let new: Vec<Box<str>> =
        items.iter().filter(|jid| account.blocked.binary_search(jid).is_err()).cloned().collect();
    if (account.blocked.len() as u64).saturating_add(new.len() as u64) > max {
        return Err(Error::new(Condition::ResourceConstraint).text("the block list is full"));
    }
    let id = account.id;
    let before: Vec<Box<str>> = account.blocked.clone();
    let changes = new.iter().map(|jid| Change::BlockPut { account: id, jid: jid.clone() }).collect();
    // Those that are blocked already have heard it.
    cx.hub.hide(cx.sink, place, |jid| matches(&new, jid) && !matches(&before, jid));
    if let Some(account) = cx.hub.account_mut(place) {
        account.blocked.extend(new);
        account.blocked.sort_unstable();
    }
    answer(cx, request, place, "block", items, changes, |_, _| {});
    Ok(Reply::Later)
}

/// §3.4, and §3.5 when nothing is named
fn unblock(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let items = items(cx.hub, request, "unblock")?;
    let (place, account) = asking(cx, request)?;
    let id = account.id;
    let gone: Vec<Box<str>> =
        account.blocked.iter().filter(|jid| items.is_empty() || items.contains(jid)).cloned().collect();
    account.blocked.retain(|jid| gone.binary_search(jid).is_err());
    let changes = gone.iter().map(|jid| Change::BlockRemove { account: id, jid: jid.clone() }).collect();
    answer(cx, request, place, "unblock", items, changes, move |hub, sink| {
        hub.reveal(sink, place, |jid| matches(&gone, jid));
    });
    Ok(Reply::Later)
}

fn asking<'a>(cx: &'a mut Cx<'_>, request: &Request<'_>) -> Result<(u32, &'a mut Account), Error> {
    let place = cx.session(request.origin.session).ok_or(Condition::InternalServerError)?.account;
    let account = cx.hub.account_mut(place).ok_or(Condition::InternalServerError)?;
    Ok((place, account))
}

/// Writes; then pushes to all that watch the list, does `then`, and gives the result.
fn answer(
    cx: &mut Cx<'_>,
    request: &Request<'_>,
    place: u32,
    name: &'static str,
    items: Vec<Box<str>>,
    changes: Vec<Change>,
    then: impl FnOnce(&mut Hub, &mut dyn Sink) + 'static,
) {
    let to = request.answer_to();
    let Some(id) = cx.hub.account(place).map(|a| a.id) else { return };
    cx.store(
        request.origin.session,
        changes,
        Ask::Nothing,
        Box::new(move |hub, sink, answer| {
            if let Answer::Failed(why) = answer {
                log::error!("store: {why}");
                hub.reload(sink, place);
                return to.error(hub, sink, DISK);
            }
            // Who asked may be gone, and another account in that place.
            if hub.account(place).is_some_and(|a| a.id == id) {
                push(hub, sink, place, name, &items);
                then(hub, sink);
            }
            to.result(hub, sink, b"");
        }),
    );
}

fn push(hub: &mut Hub, sink: &mut dyn Sink, place: u32, name: &'static str, items: &[Box<str>]) {
    let id = hub.next_id();
    let Some(account) = hub.account(place) else { return };
    for session in account.sessions.iter().filter_map(|id| hub.session(*id)).filter(|s| s.watches_blocks) {
        let Some(out) = sink.must(session.id) else { continue };
        let mut w = Writer::new(out);
        w.start("iq").attr("type", "set").attr("id", &id);
        w.attr("from", account.jid.as_str()).attr("to", session.jid.as_str());
        w.start(name).ns(ns::BLOCKING);
        write_items(&mut w, items);
        w.end().end();
    }
}

#[cfg(test)]
mod tests {
    use super::matches;
    use crate::store::change::Subscription;
    use crate::testing::{Got, World, short};
    use crate::xml::ns;

    const LIST: &str = "<blocklist xmlns='urn:xmpp:blocking'/>";

    fn command(name: &str, items: &[&str]) -> String {
        let items: String = items.iter().map(|jid| format!("<item jid='{jid}'/>")).collect();
        format!("<{name} xmlns='urn:xmpp:blocking'>{items}</{name}>")
    }

    fn items(got: &Got) -> Vec<String> {
        got.with(|n| {
            let all = n.descendants().filter(|d| d.tag_name().name() == "item");
            all.map(|i| i.attribute("jid").unwrap().into()).collect()
        })
    }

    /// §5
    #[test]
    fn jid_matching() {
        let all = ["a@b.c", "d@b.c/r", "e.f", "g.h/r"];
        let list: Vec<Box<str>> = all.iter().map(|j| Box::from(*j)).collect();
        for (jid, blocked) in [
            ("a@b.c", true),
            ("a@b.c/any", true),
            ("d@b.c", false),
            ("d@b.c/r", true),
            ("d@b.c/q", false),
            ("e.f", true),
            ("x@e.f", true),
            ("x@e.f/r", true),
            ("e.f/r", true),
            ("x.e.f", false),
            ("g.h", false),
            ("g.h/r", true),
            ("x@g.h/r", false),
            ("b.c", false),
            ("x@b.c/a@b.c", false),
        ] {
            assert_eq!(matches(&list, jid), blocked, "{jid}");
        }
    }

    #[test]
    fn list_block_unblock_and_pushes() {
        let mut w = World::new(&["juliet"]);
        let (a, b) = (w.login("juliet", "a"), w.login("juliet", "b"));
        let c = w.login("juliet", "never-asked");
        for session in [a, b] {
            assert_eq!(items(&w.iq(session, "get", "", LIST)), [""; 0]);
        }
        let two = command("block", &["Romeo@montague.NET", "iago@shakespeare.lit", "romeo@montague.net"]);
        w.send(a, &format!("<iq type='set' id='s'>{two}</iq>"));
        let got = w.got(a);
        assert_eq!((got[0].kind(), got[1].kind()), ("set".into(), "result".into()));
        assert_eq!(items(&got[0]), ["iago@shakespeare.lit", "romeo@montague.net"]);
        assert_eq!(items(&w.one(b)), items(&got[0]));
        w.nothing(c);
        assert_eq!(w.loaded("juliet").blocked.len(), 2);
        assert_eq!(w.iq(b, "set", "", &command("unblock", &["iago@shakespeare.lit"])).kind(), "result");
        assert_eq!(items(&w.one(a)), ["iago@shakespeare.lit"]);
        assert_eq!(items(&w.iq(a, "get", "", LIST)), ["romeo@montague.net"]);
        assert_eq!(w.iq(b, "set", "", &command("unblock", &[])).kind(), "result");
        let push = w.one(a);
        assert!(push.has(ns::BLOCKING, "unblock") && items(&push).is_empty());
        assert_eq!(w.loaded("juliet").blocked.len(), 0);
    }

    #[test]
    fn errors_and_bounds() {
        let mut w = World::with(&["juliet", "romeo"], |l| l.blocked = 3);
        let juliet = w.login("juliet", "a");
        assert!(w.iq(juliet, "set", "", &command("block", &[])).is_error("bad-request"));
        assert!(
            w.iq(juliet, "set", "", "<block xmlns='urn:xmpp:blocking'><item/></block>")
                .is_error("bad-request")
        );
        assert!(w.iq(juliet, "set", "", &command("block", &["@"])).is_error("jid-malformed"));
        assert_eq!(
            w.iq(juliet, "set", "", &command("block", &["a.test", "b.test", "c.test"])).kind(),
            "result"
        );
        assert_eq!(
            w.iq(juliet, "set", "", &command("block", &["a.test", "c.test"])).kind(),
            "result",
            "has them"
        );
        assert!(w.iq(juliet, "set", "", &command("block", &["d.test"])).is_error("resource-constraint"));
        for to in ["romeo@hub.test", "nobody@hub.test", "hub.test"] {
            assert!(w.iq(juliet, "get", to, LIST).is_error("service-unavailable"), "{to}");
        }
        w.ring.broken = true;
        assert!(w.iq(juliet, "set", "", &command("unblock", &["a.test"])).is_error("resource-constraint"));
        w.ring.broken = false;
        assert_eq!(items(&w.iq(juliet, "get", "", LIST)).len(), 3, "as the disk has it");
    }

    /// The result means that it is on disk.
    #[test]
    fn durable() {
        let mut w = World::new(&["juliet"]);
        let juliet = w.login("juliet", "a");
        w.held = true;
        w.hear(juliet, &format!("<iq type='set' id='s'>{}</iq>", command("block", &["romeo@hub.test"])));
        w.nothing(juliet);
        w.release();
        assert_eq!(w.one(juliet).kind(), "result");
        assert_eq!(w.loaded("juliet").blocked.len(), 1);
    }

    /// §3.3: nothing comes in, nothing goes out, and the account looks offline.
    #[test]
    fn in_force_both_ways() {
        for blocked in ["romeo@hub.test", "romeo@hub.test/r", "hub.test"] {
            let mut w = World::new(&["juliet", "romeo"]);
            w.acquaint("juliet", "romeo", Subscription::Both);
            let (juliet, romeo) = (w.login("juliet", "j"), w.login("romeo", "r"));
            w.drop_all();
            assert_eq!(w.iq(juliet, "set", "", &command("block", &[blocked])).kind(), "result");
            assert_eq!(short(&w.got(romeo)), ["presence juliet@hub.test/j unavailable"], "{blocked}");
            w.send(romeo, "<presence><show>away</show></presence>");
            w.drop_all();
            for (n, stanza) in [
                ("message", "<message to='juliet@hub.test' type='chat' id='q'><body>x</body></message>"),
                ("iq", "<iq to='juliet@hub.test/j' type='get' id='q'><a xmlns='b'/></iq>"),
                ("iq", "<iq to='juliet@hub.test' type='get' id='q'><ping xmlns='urn:xmpp:ping'/></iq>"),
                ("", "<iq to='juliet@hub.test/j' type='result' id='q'/>"),
                ("", "<presence to='juliet@hub.test'/>"),
                ("", "<presence to='juliet@hub.test/j'/>"),
            ] {
                w.send(romeo, stanza);
                w.nothing(juliet);
                let back = w.got(romeo);
                let due = usize::from(!n.is_empty());
                assert_eq!(back.len(), due, "{blocked} {stanza}: {back:?}");
                assert!(back.iter().all(|g| g.is_error("service-unavailable")), "{back:?}");
            }
            assert_eq!(w.loaded("juliet").offline.0, 0);
            for stanza in [
                "<message to='romeo@hub.test/r' id='q'><body>x</body></message>",
                "<iq to='romeo@hub.test/r' type='get' id='q'><a xmlns='b'/></iq>",
                "<presence to='romeo@hub.test/r' id='q'/>",
            ] {
                w.send(juliet, stanza);
                let back = w.one(juliet);
                assert!(
                    back.is_error("not-acceptable") && back.has(ns::BLOCKING_ERRORS, "blocked"),
                    "{back:?}"
                );
                w.nothing(romeo);
            }
            // Her presence goes on without him, also her last.
            w.send(juliet, "<presence><show>dnd</show></presence>");
            w.send(juliet, "<presence type='unavailable'/>");
            w.nothing(romeo);
            w.send(juliet, "<presence/>");
            w.nothing(romeo);
            w.drop_all();
            // §3.4: he sees her again, and she him.
            assert_eq!(w.iq(juliet, "set", "", &command("unblock", &[blocked])).kind(), "result");
            assert_eq!(short(&w.got(romeo)), ["presence juliet@hub.test/j"], "{blocked}");
            w.send(romeo, "<message to='juliet@hub.test'><body>x</body></message>");
            assert_eq!(w.one(juliet).body().as_deref(), Some("x"));
        }
    }

    /// A full address blocks one resource, and the others hear and see as before.
    #[test]
    fn one_resource() {
        let mut w = World::new(&["juliet", "romeo"]);
        w.acquaint("juliet", "romeo", Subscription::Both);
        let (juliet, one, other) =
            (w.login("juliet", "j"), w.login("romeo", "one"), w.login("romeo", "other"));
        w.drop_all();
        w.iq(juliet, "set", "", &command("block", &["romeo@hub.test/one"]));
        assert_eq!(short(&w.got(one)), ["presence juliet@hub.test/j unavailable"]);
        w.nothing(other);
        w.send(juliet, "<presence><show>away</show></presence>");
        w.nothing(one);
        assert_eq!(w.got(other).len(), 1);
        w.drop_all();
        w.send(other, "<message to='juliet@hub.test'><body>x</body></message>");
        assert_eq!(w.got(juliet).len(), 1);
    }

    /// Who was shown presence by hand hears the end of it, once.
    #[test]
    fn directed_presence() {
        let mut w = World::new(&["juliet", "romeo"]);
        let (juliet, romeo) = (w.login("juliet", "j"), w.login("romeo", "r"));
        w.send(juliet, "<presence to='romeo@hub.test/r'/>");
        w.drop_all();
        w.iq(juliet, "set", "", &command("block", &["romeo@hub.test"]));
        assert_eq!(short(&w.got(romeo)), ["presence juliet@hub.test/j unavailable"]);
        w.close(juliet);
        w.nothing(romeo);
    }

    /// At home: to block everybody here is not to block the hub.
    #[test]
    fn the_own_domain() {
        let mut w = World::new(&["juliet", "romeo"]);
        let (a, b) = (w.login("juliet", "a"), w.login("juliet", "b"));
        w.iq(a, "set", "", &command("block", &["hub.test", "juliet@hub.test"]));
        w.drop_all();
        assert_eq!(w.iq(a, "get", "hub.test", "<ping xmlns='urn:xmpp:ping'/>").kind(), "result");
        w.send(a, "<message to='juliet@hub.test/b'><body>x</body></message>");
        assert_eq!(w.got(b).len(), 1);
    }
}
