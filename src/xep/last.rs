//! XEP-0012: Last Activity
//!
//! How long the hub is up, and how long ago somebody left. The latter is presence, so only those
//! who may see that get an answer; to the others an account that exists answers like one that does
//! not (threat B8).

use crate::hub::extension::{Cx, Extension, Reply, Request, Rule, Takes, Target};
use crate::stanza::{Condition, Error};
use crate::store::change::{Answer, Ask};
use crate::xml::{Writer, ns};

/// The registry's entry.
pub const LAST: Extension = Extension {
    number: 12,
    name: "Last Activity",
    version: "2.0",
    scope: "uptime of the hub; when and with which words a contact left",
    features: &[ns::LAST],
    account_features: &[ns::LAST],
    iq: &[Rule { ns: ns::LAST, name: "query", set: Some(false), takes: Takes::All, run: get }],
    ..Extension::NEW
};

fn get(cx: &mut Cx<'_>, request: &Request<'_>) -> Result<Reply, Error> {
    // §5
    if request.target == Target::Domain {
        let up = cx.hub.now.mono_ms.saturating_sub(cx.hub.started.mono_ms) / 1000;
        return Ok(Cx::payload(|w| query(w, up, "")));
    }
    // §3: the answer for an account that is not there is ours to choose; it must be this one.
    if !request.may_see(cx.hub) {
        return Err(Condition::Forbidden.into());
    }
    let now = cx.hub.now.unix();
    let account = request.account(cx).and_then(|place| cx.hub.account(place));
    let account = account.ok_or(Condition::InternalServerError)?;
    if !account.sessions.is_empty() {
        return Ok(Cx::payload(|w| query(w, 0, "")));
    }
    if let Some((time, status)) = &account.last {
        return Ok(Cx::payload(|w| query(w, now.saturating_sub(*time), status)));
    }
    let ask = Ask::LastSeen { account: account.id };
    let to = request.answer_to();
    cx.store(
        request.origin.session,
        Vec::new(),
        ask,
        Box::new(move |hub, sink, answer| match answer {
            Answer::LastSeen(Some((time, status))) => {
                let mut out = Vec::new();
                query(&mut Writer::new(&mut out), now.saturating_sub(time), &status);
                to.result(hub, sink, &out);
            }
            Answer::LastSeen(None) => to.error(hub, sink, Condition::ItemNotFound.into()), // never here
            _ => to.error(hub, sink, Condition::InternalServerError.into()),
        }),
    );
    Ok(Reply::Later)
}

fn query(w: &mut Writer<'_>, seconds: u64, status: &str) {
    w.start("query").ns(ns::LAST).attr("seconds", &seconds.to_string()).text(status).end();
}
