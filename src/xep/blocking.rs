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
use crate::stanza::{Condition, Error, child, is};
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
        let jid = item.attribute("jid").ok_or(Condition::BadRequest)?;
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
            push(hub, sink, place, name, &items);
            then(hub, sink);
            to.result(hub, sink, b"");
        }),
    );
}

fn push(hub: &mut Hub, sink: &mut dyn Sink, place: u32, name: &'static str, items: &[Box<str>]) {
    let id = hub.next_id();
    let Some(account) = hub.account(place) else { return };
    for session in account.sessions.iter().filter_map(|id| hub.session(*id)).filter(|s| s.watches_blocks) {
        let Some(out) = sink.outbox(session.id) else { continue };
        let mut w = Writer::new(out);
        w.start("iq").attr("type", "set").attr("id", &id);
        w.attr("from", account.jid.as_str()).attr("to", session.jid.as_str());
        w.start(name).ns(ns::BLOCKING);
        write_items(&mut w, items);
        w.end().end();
    }
}
