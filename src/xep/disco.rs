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

/// §4: behind the domain are the gateways that are attached to it, and behind an account its resources.
fn items(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let node = node(request, ns::DISCO_ITEMS);
    let seen = request.may_see(cx.hub);
    if node.is_some() && (seen || request.target == Target::Domain) {
        return Err(Condition::ItemNotFound.into());
    }
    Ok(Cx::payload(|w| {
        w.start("query").ns(ns::DISCO_ITEMS).opt("node", node.as_deref());
        if request.target == Target::Domain {
            for component in cx.hub.components() {
                w.start("item").attr("jid", component).end();
            }
        }
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

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use crate::xml::ns;

    const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";

    #[test]
    fn the_domain_is_an_im_server() {
        let mut w = World::new(&["alice"]);
        let alice = w.login("alice", "desk");
        for name in ["hub.test", "10.0.0.1"] {
            let answer = w.iq(alice, "get", name, INFO);
            assert_eq!(answer.from(), name);
            let of = |attr| answer.of(ns::DISCO_INFO, "identity", attr).unwrap();
            assert_eq!(
                (of("category"), of("type"), of("name")),
                ("server".into(), "im".into(), "Stonechat".into())
            );
        }
        let items = w.iq(alice, "get", "hub.test", ITEMS);
        assert!(items.has(ns::DISCO_ITEMS, "query") && !items.has(ns::DISCO_ITEMS, "item"));
    }

    #[test]
    fn an_account_is_shown_to_its_user_with_its_resources() {
        let mut w = World::new(&["alice"]);
        let alice = w.login("alice", "desk");
        w.bound("alice", "never-available");
        for to in ["", "alice@hub.test"] {
            let answer = w.iq(alice, "get", to, INFO);
            let of = |attr| answer.of(ns::DISCO_INFO, "identity", attr).unwrap();
            assert_eq!((of("category"), of("type")), ("account".into(), "registered".into()));
            let items = w.iq(alice, "get", to, ITEMS);
            assert_eq!(items.count(ns::DISCO_ITEMS, "item"), 1);
            assert_eq!(items.of(ns::DISCO_ITEMS, "item", "jid").unwrap(), "alice@hub.test/desk");
        }
    }

    #[test]
    fn unknown_nodes_are_not_found() {
        let mut w = World::new(&["alice"]);
        let alice = w.login("alice", "desk");
        for ns in [ns::DISCO_INFO, ns::DISCO_ITEMS] {
            for to in ["hub.test", "alice@hub.test"] {
                let answer = w.iq(alice, "get", to, &format!("<query xmlns='{ns}' node='x'/>"));
                assert!(answer.is_error("item-not-found"), "{to} {ns}");
            }
        }
    }
}
