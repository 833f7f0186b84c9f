//! Rosters (RFC 6121 §2): get, set, push, remove, versions.

use super::extension::{Cx, Extension, Reply, Request, Rule, Takes};
use super::subscription::Verb;
use super::talk::{SessionId, Sink};
use super::{Hub, Origin};
use crate::jid::Jid;
use crate::stanza::{Condition, Error, attr, child, is};
use crate::store::change::{Change, Item, Subscription};
use crate::xml::{Writer, ns};
use std::collections::BTreeSet;

/// The registry's entry.
pub const ROSTER: Extension = Extension {
    name: "Rosters (RFC 6121 §2)",
    version: "2011",
    scope: "get, set, push, remove, versioning, pre-approval",
    stream_features: Some(|_, w| {
        w.leaf("ver", ns::ROSTER_VERSIONING);
        w.leaf("sub", ns::PRE_APPROVAL);
    }),
    iq: &[
        Rule { ns: ns::ROSTER, name: "query", set: Some(false), takes: Takes::Own, run: get },
        Rule { ns: ns::ROSTER, name: "query", set: Some(true), takes: Takes::Own, run: set },
        Rule {
            ns: ns::ROSTER,
            name: "query",
            set: None,
            takes: Takes::All,
            run: |_, _| Err(Condition::Forbidden.into()),
        },
    ],
    ..Extension::NEW
};

/// Longest name of a contact or group in bytes (RFC 6121 §2.3.3 wants some limit; a JID's part).
const NAME_BYTES: usize = 1023;

/// §2.1.3, §2.2, §2.6.3
fn get(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let known = request
        .stanza
        .child(ns::ROSTER, "query")
        .and_then(|c| request.stanza.child_attr(c, "ver"))
        .map(|v| v.into_owned());
    let session = cx.session(request.origin.session).ok_or(Condition::InternalServerError)?;
    session.interested = true;
    let place = session.account;
    let account = cx.hub.account(place).ok_or(Condition::InternalServerError)?;
    let version = version_text(account.id, account.version);
    if known.as_deref() == Some(&version) {
        return Ok(Reply::Empty);
    }
    Ok(Cx::payload(|w| {
        w.start("query").ns(ns::ROSTER).opt("ver", known.is_some().then_some(&version));
        for item in account.roster.values().filter(|item| item.listed) {
            write_item(w, item);
        }
        w.end();
    }))
}

/// A version means something only for the account it is of (E8: the name may change hands).
fn version_text(id: u64, version: u64) -> String {
    format!("{id:x}.{version:x}")
}

fn write_item(w: &mut Writer<'_>, item: &Item) {
    w.start("item").attr("jid", &item.jid).opt("name", item.name.as_deref());
    if item.approved {
        w.attr("approved", "true");
    }
    w.attr(
        "subscription",
        match item.subscription {
            Subscription::None => "none",
            Subscription::To => "to",
            Subscription::From => "from",
            Subscription::Both => "both",
        },
    );
    if item.ask {
        w.attr("ask", "subscribe");
    }
    for group in &item.groups {
        w.text_leaf("group", group);
    }
    w.end();
}

/// §2.1.5, §2.3, §2.4, §2.5
fn set(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let session = cx.session(request.origin.session).ok_or(Condition::InternalServerError)?;
    let (place, own) = (session.account, session.jid.to_bare());
    let tree = request.stanza.tree()?;
    let query = child(&tree.root_element(), ns::ROSTER, "query").ok_or(Condition::BadRequest)?;
    let mut items = query.children().filter(|n| n.is_element());
    // §2.3.3: exactly one item.
    let (Some(item), None) = (items.next(), items.next()) else { return Err(Condition::BadRequest.into()) };
    if !is(&item, ns::ROSTER, "item") {
        return Err(Condition::BadRequest.into());
    }
    let jid = attr(&item, "jid").ok_or(Condition::BadRequest)?;
    let jid = cx.hub.canonical(Jid::parse(jid).map_err(|_| Condition::JidMalformed)?);
    if attr(&item, "subscription") == Some("remove") {
        return remove(cx, request, place, jid.as_str());
    }
    // §2.1.2.3: oneself is not a contact.
    if jid.as_str() == own.as_str() {
        return Err(Condition::NotAllowed.into());
    }
    let name = attr(&item, "name").filter(|n| !n.is_empty()).map(Box::<str>::from);
    let mut groups: Vec<Box<str>> = Vec::new();
    let mut seen = BTreeSet::new();
    for group in item.children().filter(|n| is(n, ns::ROSTER, "group")) {
        let group = group.text().unwrap_or("");
        // §2.3.3: no empty, double or too long group.
        if group.is_empty() || group.len() > NAME_BYTES {
            return Err(Condition::NotAcceptable.into());
        }
        if !seen.insert(group.to_owned()) {
            return Err(Condition::BadRequest.into());
        }
        groups.push(group.into());
    }
    let limits = &cx.hub.limits;
    if name.as_ref().is_some_and(|n| n.len() > NAME_BYTES) || groups.len() as u64 > limits.roster_groups {
        return Err(Condition::NotAcceptable.into());
    }
    let max_items = limits.roster_items;
    let account = cx.hub.account_mut(place).ok_or(Condition::InternalServerError)?;
    if account.roster.len() as u64 >= max_items && !account.roster.contains_key(jid.as_str()) {
        return Err(Error::new(Condition::ResourceConstraint).text("the roster is full"));
    }
    let item = account.roster.entry(jid.as_str().into()).or_default();
    item.jid = jid.as_str().into();
    item.name = name;
    item.groups = groups;
    item.listed = true;
    let item = item.clone();
    cx.hub.push_item(cx.sink, place, item, Some(request));
    Ok(Reply::Later)
}

/// §2.5
fn remove(cx: &mut Cx<'_>, request: &Request<'_>, place: u32, jid: &str) -> Result<Reply, Error> {
    let account = cx.hub.account_mut(place).ok_or(Condition::InternalServerError)?;
    let own: Box<str> = account.jid.as_str().into();
    if account.roster.get(jid).is_none_or(|item| !item.listed) {
        return Err(Condition::ItemNotFound.into());
    }
    let Some(item) = account.roster.remove(jid) else { return Err(Condition::ItemNotFound.into()) };
    account.version += 1;
    let change = Change::RosterRemove { account: account.id, version: account.version, jid: jid.into() };
    let version = version_text(account.id, account.version);
    cx.hub.push(cx.sink, place, vec![change], &version, Some(request), |w| {
        w.start("item").attr("jid", jid).attr("subscription", "remove").end();
    });
    cx.hub.leave(cx.sink, &own, jid, &item);
    Ok(Reply::Later)
}

impl Hub {
    /// §2.5.2: the contact is no longer to see us, nor we it.
    pub(super) fn leave(&mut self, sink: &mut dyn Sink, own: &str, contact: &str, item: &Item) {
        if matches!(item.subscription, Subscription::From | Subscription::Both) {
            self.unavailable_to(sink, own, contact);
        }
        if item.ask || matches!(item.subscription, Subscription::To | Subscription::Both) {
            self.route_verb(sink, own, contact, Verb::Unsubscribe);
        }
        if item.pending.is_some() || matches!(item.subscription, Subscription::From | Subscription::Both) {
            self.route_verb(sink, own, contact, Verb::Unsubscribed);
        }
    }

    /// A subscription stanza from an account to a contact.
    pub(super) fn route_verb(&mut self, sink: &mut dyn Sink, own: &str, contact: &str, verb: Verb) {
        let origin = Origin { jid: own.into(), session: SessionId::NONE };
        let text = format!("<presence type='{}'/>", verb.name()); // no outside text in it
        let Ok(to) = Jid::parse(contact) else { return };
        let to = to.into_owned();
        self.view(&text, |hub, stanza| hub.route(sink, &origin, &to, stanza));
    }

    /// Stores an item that has changed in memory and pushes it (§2.1.6); then answers `request`.
    pub(super) fn push_item(
        &mut self,
        sink: &mut dyn Sink,
        place: u32,
        item: Item,
        request: Option<&Request<'_>>,
    ) {
        let Some(account) = self.account_mut(place) else { return };
        account.version += 1;
        let version = version_text(account.id, account.version);
        let change = Change::RosterPut { account: account.id, version: account.version, item: item.clone() };
        self.push(sink, place, vec![change], &version, request, |w| write_item(w, &item));
    }

    /// Writes `changes`; then a push to every interested resource, then the result to the one that
    /// asked. Nobody hears of a change that is not on disk.
    fn push(
        &mut self,
        sink: &mut dyn Sink,
        place: u32,
        changes: Vec<Change>,
        version: &str,
        request: Option<&Request<'_>>,
        write: impl Fn(&mut Writer<'_>),
    ) {
        let id = self.next_id();
        let mut packets = Vec::new();
        let Some(account) = self.account(place) else { return };
        for session in account.sessions.iter().filter_map(|id| self.session(*id)).filter(|s| s.interested) {
            let mut out = Vec::new();
            let mut w = Writer::new(&mut out);
            w.start("iq").attr("type", "set").attr("id", &id).attr("to", session.jid.as_str());
            w.start("query").ns(ns::ROSTER).attr("ver", version);
            write(&mut w);
            w.end().end();
            drop(w);
            packets.push((session.id, out));
        }
        let by = request.map_or(SessionId::NONE, |r| r.origin.session);
        let mut refused = None;
        if let Some(request) = request {
            let mut result = Vec::new();
            let mut w = Writer::new(&mut result);
            w.start("iq").attr("type", "result").opt("id", request.stanza.id().as_deref());
            w.opt("from", request.stanza.to().as_deref()).attr("to", &request.origin.jid).end();
            drop(w);
            packets.push((by, result));
            let mut error = Vec::new();
            Error::new(Condition::ResourceConstraint).text("the hub's disk refuses").reply(
                &mut error,
                request.stanza,
                request.stanza.to().as_deref(),
                Some(&request.origin.jid),
            );
            refused = Some((by, error));
        }
        self.persist(sink, by, changes, packets, refused, place);
    }
}
