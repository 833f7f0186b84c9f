//! XEP-0054: vcard-temp
//!
//! A business card for everybody to read. Somebody else's that is empty answers like an account that
//! does not exist (§3.3, threat B8). One's own that was never written is `<item-not-found/>`, as with
//! Prosody.

use super::{TOO_BIG, keep, kept};
use crate::hub::extension::{Cx, Extension, Reply, Request, Rule, Takes, Target};
use crate::stanza::{Condition, Error, child, whole};
use crate::store::change::{Ask, Change};
use crate::xml::ns;

/// The registry's entry.
pub const VCARD: Extension = Extension {
    number: 54,
    name: "vcard-temp",
    version: "1.3.0",
    scope: "get and set, bounded in size",
    features: &[ns::VCARD],
    account_features: &[ns::VCARD],
    iq: &[
        Rule { ns: ns::VCARD, name: "vCard", set: Some(false), takes: Takes::Account, run: get },
        Rule { ns: ns::VCARD, name: "vCard", set: Some(true), takes: Takes::Account, run: set },
    ],
    ..Extension::NEW
};

/// §3.1, §3.3
fn get(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    let none = match request.target {
        Target::Own => Condition::ItemNotFound,
        _ => Condition::ServiceUnavailable,
    };
    let account = request.account(cx).and_then(|place| cx.hub.account(place));
    let ask = Ask::Vcard { account: account.ok_or(none)?.id };
    Ok(kept(cx, request, ask, move |xml| xml.map(<[u8]>::to_vec).ok_or(none.into())))
}

/// §3.2
fn set(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    if request.target != Target::Own {
        return Err(Condition::Forbidden.into());
    }
    let account = request.account(cx).and_then(|place| cx.hub.account(place));
    let account = account.ok_or(Condition::InternalServerError)?.id;
    let tree = request.stanza.tree()?;
    let card = child(&tree.root_element(), ns::VCARD, "vCard").ok_or(Condition::BadRequest)?;
    let xml = whole(&card).ok_or(Condition::BadRequest)?;
    if xml.len() as u64 > cx.hub.limits.vcard_bytes {
        return Err(TOO_BIG);
    }
    let change = Change::VcardPut { account, xml: xml.into_bytes().into() };
    Ok(keep(cx, request, vec![change], |_, _| {}, |_, _| {}))
}
