//! XEP-0030: Service Discovery
//!
//! What the hub and its accounts can do, derived from the registry, so that it can't be forgotten
//! there. An account is shown only to those who may see its presence (§10 of the document, threats
//! B8 and C9): to all others one that exists answers like one that does not.

use super::caps;
use crate::hub::Hub;
use crate::hub::extension::{Cx, Extension, Reply, Request, Rule, Takes, Target};
use crate::stanza::{Condition, Error};
use crate::xml::{Writer, ns};

/// The registry's entry.
pub const DISCO: Extension = Extension {
    number: 30,
    name: "Service Discovery",
    version: "2.5.0",
    scope: "the domain, and accounts to those who may see their presence",
    features: &[ns::DISCO_INFO, ns::DISCO_ITEMS],
    account_features: &[ns::DISCO_INFO, ns::DISCO_ITEMS],
    iq: &[
        Rule { ns: ns::DISCO_INFO, name: "query", set: Some(false), takes: Takes::All, run: info },
        Rule { ns: ns::DISCO_ITEMS, name: "query", set: Some(false), takes: Takes::All, run: items },
    ],
    ..Extension::NEW
};

/// Category, type and name of the domain (XEP-0030 §3.1 and its registry).
pub(super) const IDENTITY: (&str, &str, &str) = ("server", "im", "Stonechat");

/// The domain's features, sorted, each once.
pub(super) fn features(hub: &Hub) -> Vec<&'static str> {
    sorted(hub.extensions.iter().flat_map(|e| e.features))
}

fn sorted(all: impl Iterator<Item = &'static &'static str>) -> Vec<&'static str> {
    let mut all: Vec<&'static str> = all.copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn node(request: &Request<'_>, ns: &str) -> Option<String> {
    let query = request.stanza.child(ns, "query")?;
    request.stanza.child_attr(query, "node").map(|node| node.into_owned())
}

/// §3
fn info(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let node = node(request, ns::DISCO_INFO);
    let known = match (request.target, node.as_deref()) {
        (_, None) => true,
        // XEP-0115 §6.2
        (Target::Domain, Some(node)) => node == caps::node_ver(cx.hub),
        _ => false,
    };
    let (identity, features) = match request.target {
        Target::Domain => (IDENTITY, features(cx.hub)),
        _ if request.may_see(cx.hub) => {
            let features = sorted(cx.hub.extensions.iter().flat_map(|e| e.account_features));
            (("account", "registered", ""), features)
        }
        // §10: whether or not there is such an account, and whatever node was asked for.
        _ => return Err(Condition::ServiceUnavailable.into()),
    };
    if !known {
        return Err(Condition::ItemNotFound.into());
    }
    Ok(Cx::payload(|w| {
        w.start("query").ns(ns::DISCO_INFO).opt("node", node.as_deref());
        let (category, kind, name) = identity;
        w.start("identity").attr("category", category).attr("type", kind);
        w.opt("name", Some(name).filter(|n| !n.is_empty())).end();
        for feature in features {
            w.start("feature").attr("var", feature).end();
        }
        w.end();
    }))
}

/// §4: there is nothing behind the domain yet, and behind an account its resources.
fn items(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let node = node(request, ns::DISCO_ITEMS);
    let seen = request.may_see(cx.hub);
    if node.is_some() && (seen || request.target == Target::Domain) {
        return Err(Condition::ItemNotFound.into());
    }
    Ok(Cx::payload(|w| {
        w.start("query").ns(ns::DISCO_ITEMS).opt("node", node.as_deref());
        if let (true, Some(account)) = (seen, request.account(cx).and_then(|place| cx.hub.account(place))) {
            resources(cx.hub, account, w);
        }
        w.end();
    }))
}

fn resources(hub: &Hub, account: &crate::hub::account::Account, w: &mut Writer<'_>) {
    for session in account.sessions.iter().filter_map(|id| hub.session(*id)) {
        if session.presence.is_some() {
            w.start("item").attr("jid", session.jid.as_str()).end();
        }
    }
}
