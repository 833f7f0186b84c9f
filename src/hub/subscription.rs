//! RFC 6121 Appendix A as a table: what a subscription stanza does to a roster item, and whether it
//! goes on.

use crate::store::change::{Item, Subscription};

/// The four stanzas (RFC 6121 §3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// May I see you?
    Subscribe,
    /// I no longer want to see you.
    Unsubscribe,
    /// You may see me.
    Subscribed,
    /// You may not, or no longer, see me.
    Unsubscribed,
}

impl Verb {
    /// From the `type` attribute.
    pub fn parse(kind: &str) -> Option<Verb> {
        Some(match kind {
            "subscribe" => Verb::Subscribe,
            "unsubscribe" => Verb::Unsubscribe,
            "subscribed" => Verb::Subscribed,
            "unsubscribed" => Verb::Unsubscribed,
            _ => return Option::None,
        })
    }

    /// The `type` attribute.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Subscribe => "subscribe",
            Verb::Unsubscribe => "unsubscribe",
            Verb::Subscribed => "subscribed",
            Verb::Unsubscribed => "unsubscribed",
        }
    }
}

/// The nine states of Appendix A.1, in its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// Neither, nothing pending.
    None,
    /// Neither; ours is pending.
    NonePendingOut,
    /// Neither; theirs is pending.
    NonePendingIn,
    /// Neither; both are pending.
    NonePendingOutIn,
    /// We see them.
    To,
    /// We see them; theirs is pending.
    ToPendingIn,
    /// They see us.
    From,
    /// They see us; ours is pending.
    FromPendingOut,
    /// Both.
    Both,
}

use State::*;

impl State {
    /// All nine.
    pub const ALL: [State; 9] =
        [None, NonePendingOut, NonePendingIn, NonePendingOutIn, To, ToPendingIn, From, FromPendingOut, Both];

    /// The state of a roster item.
    pub fn of(item: &Item) -> State {
        match (item.subscription, item.ask, item.pending.is_some()) {
            (Subscription::None, false, false) => None,
            (Subscription::None, true, false) => NonePendingOut,
            (Subscription::None, false, true) => NonePendingIn,
            (Subscription::None, true, true) => NonePendingOutIn,
            (Subscription::To, _, false) => To,
            (Subscription::To, _, true) => ToPendingIn,
            (Subscription::From, false, _) => From,
            (Subscription::From, true, _) => FromPendingOut,
            (Subscription::Both, _, _) => Both,
        }
    }

    /// Writes the state into an item. `request` is kept when the state has "Pending In".
    pub fn put(self, item: &mut Item, request: impl FnOnce() -> Box<[u8]>) {
        item.subscription = match self {
            None | NonePendingOut | NonePendingIn | NonePendingOutIn => Subscription::None,
            To | ToPendingIn => Subscription::To,
            From | FromPendingOut => Subscription::From,
            Both => Subscription::Both,
        };
        item.ask = matches!(self, NonePendingOut | NonePendingOutIn | FromPendingOut);
        if !matches!(self, NonePendingIn | NonePendingOutIn | ToPendingIn) {
            item.pending = Option::None;
        } else if item.pending.is_none() {
            item.pending = Some(request());
        }
    }
}

/// Appendix A.2: the user's server handles what the user sends. Whether it MUST be routed, and
/// the new state.
pub const fn outbound(verb: Verb, state: State) -> (bool, State) {
    // One line per table of the RFC; the columns are State::ALL.
    let row = match verb {
        // A.2.1
        Verb::Subscribe => [
            (true, NonePendingOut),
            (true, NonePendingOut),
            (true, NonePendingOutIn),
            (true, NonePendingOutIn),
            (true, To),
            (true, ToPendingIn),
            (true, FromPendingOut),
            (true, FromPendingOut),
            (true, Both),
        ],
        // A.2.2
        Verb::Unsubscribe => [
            (true, None),
            (true, None),
            (true, NonePendingIn),
            (true, NonePendingIn),
            (true, None),
            (true, NonePendingIn),
            (true, From),
            (true, From),
            (true, From),
        ],
        // A.2.3
        Verb::Subscribed => [
            (false, None),
            (false, NonePendingOut),
            (true, From),
            (true, FromPendingOut),
            (false, To),
            (true, Both),
            (false, From),
            (false, FromPendingOut),
            (false, Both),
        ],
        // A.2.4
        Verb::Unsubscribed => [
            (false, None),
            (false, NonePendingOut),
            (true, None),
            (true, NonePendingOut),
            (false, To),
            (true, To),
            (true, None),
            (true, NonePendingOut),
            (true, To),
        ],
    };
    #[allow(clippy::indexing_slicing)] // nine states, nine columns
    {
        row[state as usize]
    }
}

/// Appendix A.3: the contact's server handles what comes in. Whether it MUST be delivered, and
/// the new state.
pub const fn inbound(verb: Verb, state: State) -> (bool, State) {
    let row = match verb {
        // A.3.1
        Verb::Subscribe => [
            (true, NonePendingIn),
            (true, NonePendingOutIn),
            (false, NonePendingIn),
            (false, NonePendingOutIn),
            (true, ToPendingIn),
            (false, ToPendingIn),
            (false, From),
            (false, FromPendingOut),
            (false, Both),
        ],
        // A.3.2
        Verb::Unsubscribe => [
            (false, None),
            (false, NonePendingOut),
            (true, None),
            (true, NonePendingOut),
            (false, To),
            (true, To),
            (true, None),
            (true, NonePendingOut),
            (true, To),
        ],
        // A.3.3
        Verb::Subscribed => [
            (false, None),
            (true, To),
            (false, NonePendingIn),
            (true, ToPendingIn),
            (false, To),
            (false, ToPendingIn),
            (false, From),
            (true, Both),
            (false, Both),
        ],
        // A.3.4
        Verb::Unsubscribed => [
            (false, None),
            (true, None),
            (false, NonePendingIn),
            (true, NonePendingIn),
            (true, None),
            (true, NonePendingIn),
            (false, From),
            (true, From),
            (true, From),
        ],
    };
    #[allow(clippy::indexing_slicing)] // nine states, nine columns
    {
        row[state as usize]
    }
}
