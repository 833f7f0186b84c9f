//! Appendix A: every cell of the eight tables, as the RFC prints them.

use crate::common::{DOMAIN, World, bare};
use stonechat::store::change::{Item, Subscription};

/// A cell: routed or delivered, and the new state; "." is "no state change".
type Cell = (bool, &'static str);

const YES: bool = true;
const NO: bool = false;

/// A.1, in its order.
const STATES: [&str; 9] = [
    "None",
    "None + Pending Out",
    "None + Pending In",
    "None + Pending Out+In",
    "To",
    "To + Pending In",
    "From",
    "From + Pending Out",
    "Both",
];

/// A.2: outbound, on the user's server.
const OUTBOUND: [(&str, [Cell; 9]); 4] = [
    (
        "subscribe", // A.2.1
        [
            (YES, "None + Pending Out"),
            (YES, "."),
            (YES, "None + Pending Out+In"),
            (YES, "."),
            (YES, "."),
            (YES, "."),
            (YES, "From + Pending Out"),
            (YES, "."),
            (YES, "."),
        ],
    ),
    (
        "unsubscribe", // A.2.2
        [
            (YES, "."),
            (YES, "None"),
            (YES, "."),
            (YES, "None + Pending In"),
            (YES, "None"),
            (YES, "None + Pending In"),
            (YES, "."),
            (YES, "From"),
            (YES, "From"),
        ],
    ),
    (
        "subscribed", // A.2.3
        [
            (NO, "."),
            (NO, "."),
            (YES, "From"),
            (YES, "From + Pending Out"),
            (NO, "."),
            (YES, "Both"),
            (NO, "."),
            (NO, "."),
            (NO, "."),
        ],
    ),
    (
        "unsubscribed", // A.2.4
        [
            (NO, "."),
            (NO, "."),
            (YES, "None"),
            (YES, "None + Pending Out"),
            (NO, "."),
            (YES, "To"),
            (YES, "None"),
            (YES, "None + Pending Out"),
            (YES, "To"),
        ],
    ),
];

/// A.3: inbound, on the contact's server.
const INBOUND: [(&str, [Cell; 9]); 4] = [
    (
        "subscribe", // A.3.1
        [
            (YES, "None + Pending In"),
            (YES, "None + Pending Out+In"),
            (NO, "."),
            (NO, "."),
            (YES, "To + Pending In"),
            (NO, "."),
            (NO, "."),
            (NO, "."),
            (NO, "."),
        ],
    ),
    (
        "unsubscribe", // A.3.2
        [
            (NO, "."),
            (NO, "."),
            (YES, "None"),
            (YES, "None + Pending Out"),
            (NO, "."),
            (YES, "To"),
            (YES, "None"),
            (YES, "None + Pending Out"),
            (YES, "To"),
        ],
    ),
    (
        "subscribed", // A.3.3
        [
            (NO, "."),
            (YES, "To"),
            (NO, "."),
            (YES, "To + Pending In"),
            (NO, "."),
            (NO, "."),
            (NO, "."),
            (YES, "Both"),
            (NO, "."),
        ],
    ),
    (
        "unsubscribed", // A.3.4
        [
            (NO, "."),
            (YES, "None"),
            (NO, "."),
            (YES, "None + Pending In"),
            (YES, "None"),
            (YES, "None + Pending In"),
            (NO, "."),
            (YES, "From"),
            (YES, "From"),
        ],
    ),
];

fn item(state: &str, contact: &str) -> Item {
    let (subscription, pending) = state.split_once(" + ").unwrap_or((state, ""));
    let (ask, request) = match pending {
        "" => (false, false),
        "Pending Out" => (true, false),
        "Pending In" => (false, true),
        "Pending Out+In" => (true, true),
        other => panic!("{other}"),
    };
    let text = format!("<presence from='{}' type='subscribe'/>", bare(contact));
    Item {
        jid: bare(contact).into(),
        subscription: match subscription {
            "None" => Subscription::None,
            "To" => Subscription::To,
            "From" => Subscription::From,
            "Both" => Subscription::Both,
            other => panic!("{other}"),
        },
        ask,
        pending: request.then(|| text.into_bytes().into()),
        listed: true,
        ..Item::default()
    }
}

fn state(item: Option<Item>) -> String {
    let Some(item) = item else { return "None".into() };
    let pending = match (item.ask, item.pending.is_some()) {
        (false, false) => "",
        (true, false) => " + Pending Out",
        (false, true) => " + Pending In",
        (true, true) => " + Pending Out+In",
    };
    format!("{:?}{pending}", item.subscription)
}

fn expected(cell: &str, before: &str) -> String {
    if cell == "." { before.into() } else { cell.into() }
}

#[test]
fn a_2_outbound() {
    for (verb, cells) in OUTBOUND {
        for (before, (routed, after)) in STATES.into_iter().zip(cells) {
            let mut w = World::new(&["user", "contact"]);
            w.put_item("user", item(before, "contact"));
            // A state of the contact's in which the stanza, if it comes at all, is delivered.
            let open = match verb {
                "subscribe" => "None",
                "unsubscribe" => "From",
                "subscribed" => "None + Pending Out",
                _ => "To",
            };
            w.put_item("contact", item(open, "user"));
            let (user, contact) = (w.login("user", "a"), w.login("contact", "b"));
            w.drop_all();
            w.send(user, &format!("<presence type='{verb}' to='contact@{DOMAIN}/b'/>"));
            let came = w.got(contact).iter().any(|g| g.name() == "presence" && g.kind() == verb);
            assert_eq!(came, routed, "{verb} in {before}: routed?");
            assert_eq!(state(w.item("user", "contact")), expected(after, before), "{verb} in {before}");
            // On the wire it is from and to bare addresses (§3.1.2).
        }
    }
}

#[test]
fn a_3_inbound() {
    for (verb, cells) in INBOUND {
        for (before, (delivered, after)) in STATES.into_iter().zip(cells) {
            let mut w = World::new(&["user", "contact"]);
            w.put_item("user", item(before, "contact"));
            // A state of the contact's in which the stanza is routed.
            let open = match verb {
                "subscribe" => "None",
                "unsubscribe" => "To",
                "subscribed" => "None + Pending In",
                _ => "From",
            };
            w.put_item("contact", item(open, "user"));
            let (user, contact) = (w.login("user", "a"), w.login("contact", "b"));
            w.drop_all();
            w.send(contact, &format!("<presence type='{verb}' to='user@{DOMAIN}'/>"));
            let got = w.got(user);
            let came: Vec<_> = got.iter().filter(|g| g.name() == "presence" && g.kind() == verb).collect();
            assert_eq!(!came.is_empty(), delivered, "{verb} in {before}: delivered? {got:?}");
            assert!(came.iter().all(|g| g.from() == format!("contact@{DOMAIN}")), "{came:?}");
            assert_eq!(state(w.item("user", "contact")), expected(after, before), "{verb} in {before}");
            // A.3.1, note: who is allowed already hears so at once.
            let allowed = matches!(before, "From" | "From + Pending Out" | "Both");
            let answered = w.got(contact).iter().any(|g| g.kind() == "subscribed");
            assert_eq!(answered, verb == "subscribe" && allowed, "{verb} in {before}: answered?");
        }
    }
}
