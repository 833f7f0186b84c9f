//! XEP-0049: Private XML Storage
//!
//! Whatever a client wants to find again, for its own account only. Old clients keep their bookmarks
//! here (XEP-0048).

use super::{TOO_BIG, keep, kept};
use crate::hub::extension::{Cx, Extension, Reply, Request, Rule, Takes, Target};
use crate::stanza::{Condition, Error, child, namespace, whole};
use crate::store::change::{Ask, Change};
use crate::xml::{Writer, ns};

/// The registry's entry.
pub const PRIVATE: Extension = Extension {
    number: 49,
    name: "Private XML Storage",
    version: "1.2",
    scope: "one element per request, bounded in size",
    features: &[ns::PRIVATE],
    account_features: &[ns::PRIVATE],
    iq: &[Rule { ns: ns::PRIVATE, name: "query", set: None, takes: Takes::Account, run: query }],
    ..Extension::NEW
};

fn query(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    // §2.3: nobody else's, whoever that is.
    if request.target != Target::Own {
        return Err(Condition::Forbidden.into());
    }
    let account = request.account(cx).and_then(|place| cx.hub.account(place));
    let account = account.ok_or(Condition::InternalServerError)?.id;
    let tree = request.stanza.tree()?;
    let query = child(&tree.root_element(), ns::PRIVATE, "query").ok_or(Condition::BadRequest)?;
    let mut elements = query.children().filter(|n| n.is_element());
    let (Some(element), None) = (elements.next(), elements.next()) else {
        return Err(Error::new(Condition::BadRequest).text("exactly one element is kept or asked for"));
    };
    let (space, name) = (namespace(&element), element.tag_name().name());
    if matches!(space, "" | ns::PRIVATE) {
        return Err(Error::new(Condition::NotAcceptable).text("the element needs a namespace of its own"));
    }
    let text = whole(&element).ok_or(Condition::BadRequest)?;
    if request.set {
        if text.len() as u64 > cx.hub.limits.private_bytes {
            return Err(TOO_BIG);
        }
        let change = Change::PrivatePut {
            account,
            ns: space.into(),
            name: name.into(),
            xml: text.into_bytes().into(),
        };
        return Ok(keep(cx, request, vec![change], |_, _| {}, |_, _| {}));
    }
    let ask = Ask::Private { account, ns: space.into(), name: name.into() };
    Ok(kept(cx, request, ask, move |xml| {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out);
        // §2.3: what was never kept comes back as it was asked for.
        w.start("query").ns(ns::PRIVATE).raw(xml.unwrap_or(text.as_bytes())).end();
        drop(w);
        Ok(out)
    }))
}
