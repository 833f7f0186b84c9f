//! One room per extension; [`ALL`] is the one registry.
//!
//! A room is one file: why and what on top, its line of the registry, what it does, its tests. From
//! [`ALL`] come the dispatch of requests, disco#info, the order of the hooks, `stonechat xeps`, and
//! the table in the README.

pub mod bidi;
pub mod blocking;
pub mod caps;
pub mod carbons;
pub mod component;
pub mod delay;
pub mod dialback;
pub mod dialback_keys;
pub mod direct_tls;
pub mod disco;
pub mod external;
pub mod ibr_token;
pub mod invite;
pub mod last;
pub mod legacy_session;
pub mod management;
pub mod offline;
pub mod pars;
pub mod ping;
pub mod private;
pub mod register;
pub mod stanza_ids;
pub mod time;
pub mod vcard;
pub mod version;

use crate::hub::extension::{Cx, Extension, Reply, Request};
use crate::stanza::{Condition, Error, Type};
use crate::store::change::{Answer, Ask, Change};
use std::fmt::Write as _;

/// All extensions, in the order in which their hooks run.
pub const ALL: &[Extension] = &[
    crate::hub::ROSTER,
    legacy_session::LEGACY_SESSION,
    last::LAST,
    disco::DISCO,
    private::PRIVATE,
    vcard::VCARD,
    register::REGISTER,
    version::VERSION,
    caps::CAPS,
    offline::OFFLINE,
    blocking::BLOCKING,
    management::MANAGEMENT,
    ping::PING,
    time::TIME,
    delay::DELAY,
    carbons::CARBONS,
    stanza_ids::STANZA_IDS,
    pars::PARS,
    invite::INVITE,
    ibr_token::IBR_TOKEN,
    // Of streams themselves.
    #[cfg(feature = "federation")]
    component::COMPONENT,
    external::EXTERNAL,
    #[cfg(feature = "federation")]
    dialback_keys::DIALBACK_KEYS,
    #[cfg(feature = "federation")]
    dialback::DIALBACK,
    #[cfg(feature = "federation")]
    bidi::BIDI,
    direct_tls::DIRECT_TLS,
];

/// The table of extensions, as the README has it.
pub fn table() -> String {
    let mut out = String::from("| Document | Title | Version | What of it |\n|---|---|---|---|\n");
    for e in ALL {
        let xep = format!("XEP-{:04}", e.number);
        // A part of an RFC has the document behind its name.
        let (title, document) = match e.name.strip_suffix(')').and_then(|n| n.split_once(" (")) {
            Some(parts) if e.number == 0 => parts,
            _ => (e.name, &*xep),
        };
        let _ = writeln!(out, "| {document} | {title} | {} | {} |", e.version, e.scope);
    }
    out
}

/// The disk did not take it.
const DISK: Error = Error::new(Condition::ResourceConstraint).text("the hub's disk refuses");

/// More than is kept of one such thing.
const TOO_BIG: Error =
    Error::new(Condition::PolicyViolation).kind(Type::Modify).text("that is more than this hub keeps");

/// Writes a change, then gives an empty result, or an error if the disk refuses.
fn keep(cx: &mut Cx<'_>, request: &Request<'_>, change: Change) -> Reply {
    let to = request.answer_to();
    let session = request.origin.session;
    cx.store(
        session,
        vec![change],
        Ask::Nothing,
        Box::new(move |hub, sink, answer| match answer {
            Answer::Failed(why) => {
                log::error!("store: {why}");
                to.error(hub, sink, DISK);
            }
            _ => to.result(hub, sink, b""),
        }),
    );
    Reply::Later
}

/// Asks the store for kept XML and gives it as the result: `payload` makes it from what is kept.
fn kept(
    cx: &mut Cx<'_>,
    request: &Request<'_>,
    ask: Ask,
    payload: impl FnOnce(Option<&[u8]>) -> Result<Vec<u8>, Error> + 'static,
) -> Reply {
    let to = request.answer_to();
    let session = request.origin.session;
    cx.store(
        session,
        Vec::new(),
        ask,
        Box::new(move |hub, sink, answer| {
            let outcome = match answer {
                Answer::Xml(xml) => payload(xml.as_deref()),
                Answer::Failed(why) => {
                    log::error!("store: {why}");
                    Err(Condition::InternalServerError.into())
                }
                _ => Err(Condition::InternalServerError.into()),
            };
            match outcome {
                Ok(payload) => to.result(hub, sink, &payload),
                Err(error) => to.error(hub, sink, error),
            }
        }),
    );
    Reply::Later
}
