//! Every bound of the hub, with its default and its reason. `stonechat limits` prints this table;
//! `--limit NAME=VALUE` sets one; `--limit off` lifts those that are counts or rates.

use std::fmt;

/// What a limit is about; `--limit off` lifts rates and counts, never the caps on one stanza.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// A cap on one thing from outside (a stanza, a name). Stays on.
    Size,
    /// How many at once, how much is kept, or how fast.
    Count,
}

macro_rules! limits {
    ($($name:ident: $default:expr, $sort:ident, $unit:literal, $why:literal;)*) => {
        /// The limits in force.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits { $(#[doc = $why] pub $name: u64,)* }

        impl Default for Limits {
            fn default() -> Limits { Limits { $($name: $default,)* } }
        }

        /// The table: name, default, sort, unit, reason.
        pub const TABLE: &[(&str, u64, Sort, &str, &str)] =
            &[$((stringify!($name), $default, Sort::$sort, $unit, $why),)*];

        impl Limits {
            /// Sets one by its name (`-` and `_` are the same). False: no such name.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name.replace('-', "_").as_str() {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }

            /// The value in force of a name of [`TABLE`].
            pub fn get(&self, name: &str) -> Option<u64> {
                match name { $(stringify!($name) => Some(self.$name),)* _ => None }
            }

            /// Lifts every rate and count.
            pub fn lift(&mut self) {
                $(if Sort::$sort == Sort::Count { self.$name = u32::MAX as u64; })*
            }
        }
    };
}

limits! {
    stanza_bytes: 262_144, Size, "bytes", "one stanza after login; XEP-0478 announces it, Prosody and ejabberd use the same";
    early_bytes: 10_240, Size, "bytes", "one element before login, when nobody has proven anything";
    depth: 64, Size, "levels", "nesting of one stanza; real payloads stay under 20";
    attributes: 64, Size, "per tag", "attributes on one tag; the check for doubles is quadratic";
    declarations: 256, Size, "per stanza", "namespace declarations in one stanza; parsers pay quadratic time for them";
    elements: 10_000, Size, "per stanza", "elements in one stanza; a tree costs many times its bytes";
    login_seconds: 120, Size, "seconds", "from accept to a bound resource, whatever is sent in between; a person may be reading a certificate";
    pairing_seconds: 300, Size, "seconds", "a pairing that was opened by hand; two people on the phone need one or two minutes";
    close_seconds: 5, Size, "seconds", "to wait for the peer's </stream> after ours";
    stall_seconds: 60, Size, "seconds", "a reader that takes nothing for so long is cut off";
    outbox_bytes: 1_048_576, Size, "bytes", "waiting for one slow reader; four full-size stanzas";
    resume_seconds: 300, Count, "seconds", "a lost connection may be resumed (XEP-0198) for so long: a lift, a tunnel, a router's restart; 0 is off";
    hibernated: 1_000, Count, "sessions", "lost and not resumed yet, all at once; a quarter of outbox-bytes may come for each, and the oldest goes";
    connections: 20_000, Count, "connections", "all at once; the limit of open files lowers it further";
    connections_per_address: 256, Count, "connections", "a gateway or a Node-RED with many devices fits, one host can't take all";
    unauthenticated: 1_000, Count, "connections", "not yet logged in, all at once";
    resources_per_account: 32, Count, "sessions", "one person's devices, generously";
    jobs_per_session: 256, Count, "jobs", "writes under way for one session before it is read no further; one more for each 4 KiB";
    accounts: 20_000, Count, "accounts", "what one small machine can serve";
    registrations_per_hour: 20, Count, "per address", "a class room registers behind one address; a script should not";
    login_tries: 3, Size, "per stream", "wrong passwords on one stream before it is closed (RFC 6120 §6.4.5 says 2 to 5)";
    login_delay_ms: 500, Count, "ms", "added per failed login from an address, doubling up to 20 s; 4294967295 is off";
    roster_items: 2_000, Count, "items", "contacts of one account";
    roster_groups: 32, Count, "groups", "groups of one contact";
    blocked: 1_000, Count, "addresses", "blocked addresses of one account (XEP-0191)";
    directed: 500, Count, "addresses", "directed presences one session is remembered for";
    offline_messages: 1_000, Count, "messages", "kept for one account that is away (XEP-0160)";
    offline_bytes: 4_194_304, Count, "bytes", "kept for one account that is away";
    vcard_bytes: 131_072, Size, "bytes", "a vCard with a small photo (XEP-0054)";
    private_bytes: 65_536, Size, "bytes", "one private element (XEP-0049); bookmarks of a lifetime";
    private_total: 1_048_576, Count, "bytes", "private elements of one account, all together; there can be any number of them";
    peers: 1_000, Count, "pairs", "other domains that are remembered at once; somebody who writes to random ones pushes out those that nothing waits for";
    peer_presences: 20_000, Count, "resources", "available at one peer, as far as accounts here see it; a long address counts as several";
    peer_retry_seconds: 120, Size, "seconds", "at most between two attempts to reach a peer that something waits for; a LAN is back within it";
    peer_idle_seconds: 60, Size, "seconds", "silence of another server before it is asked whether it is still there; as long again, and the link is cut";
    peer_idle_pinned_seconds: 10, Size, "seconds", "the same for one whose key is pinned: on a LAN people see at once who has pulled a cable";
    forward_messages: 10_000, Count, "messages", "kept for one peer that cannot be reached";
    forward_bytes: 16_777_216, Count, "bytes", "kept for one peer that cannot be reached";
    forward_total: 67_108_864, Count, "bytes", "kept for all peers; a small SD card has room for it";
    forward_seconds: 604_800, Size, "seconds", "a week; a message that waited so long for a peer goes back to its sender";
    cached_accounts: 256, Size, "accounts", "kept in memory after their last session, for offline delivery";
}

/// What no option changes: the sizes that measuring has found for the thread, whatever the machine.
pub mod fixed {
    /// Bytes read from a socket at once, and as many again for what TLS makes of them. They belong to the
    /// thread, once, and are resident: 64 did not make a message cheaper, whose window of 20 is 4 KiB.
    pub const READ: usize = 32 * 1024;
    /// Reads of one connection in one turn, before others get theirs. A flood fills each of them, with 150
    /// messages or 0.1 ms.
    pub const READS: usize = 2;
    /// Tasks that have their turn before the sockets are asked for news. Many are cheap; but those that a flood
    /// keeps ready are not, and who is not among them waits for all of them.
    pub const TASKS: usize = 8;
    /// News of sockets taken from the system at once (12 bytes each); what is more comes at the next turn.
    pub const EVENTS: usize = 256;
    /// Bytes that wait for a reader and go out even from inside routing, as long as its socket takes them:
    /// otherwise a busy turn would look like a slow reader. A quarter of `outbox-bytes`.
    pub const EARLY_WRITE: usize = 256 * 1024;
    /// What may wait for a session that has lost its connection, as a part of `outbox-bytes`: most of it waits on
    /// disk, and there may be `hibernated` of them.
    pub const LOST_SHARE: usize = 4;
    /// Empty write buffers kept for the next turn; more than 64 readers in one turn are a burst.
    pub const POOL: usize = 64;
    /// The largest write buffer that is worth keeping.
    pub const POOLED: usize = 64 * 1024;
    /// Connections that the system keeps for us between two looks: a room full of devices comes back at once
    /// after a power cut.
    pub const BACKLOG: i32 = 1024;
    /// Stanza ids of one peer that are remembered, to know a message that comes again: more than a peer has
    /// under way at once.
    pub const RECENT: usize = 4096;
    /// Passwords that wait for their keys (5 ms each on a PC); behind that, whoever asks waits outside.
    pub const DERIVATIONS: usize = 64;
    /// Attempts to reach other servers, all at once: somebody who writes to a thousand domains must not take
    /// all sockets for it (threats D9).
    pub const PEER_DIALS: usize = 64;
    /// Addresses of one other server that are tried in one attempt.
    pub const PEER_ADDRESSES: usize = 8;
    /// Call-backs for dialback, all at once; behind that, whoever wants one is told to come again.
    pub const PEER_CALLS: usize = 32;
    /// Answers of the store, one after the other, until a peer's message is settled: its account is read, then whether it
    /// has it already, then it is written.
    pub const SETTLE_ROUNDS: u8 = 3;
    /// Call-backs under way for one stream.
    pub const CALLS_PER_STREAM: usize = 8;
    /// Call-backs under way for one address: more streams are no more.
    pub const CALLS_PER_ADDRESS: usize = 8;
    /// Pairs of domains on one stream: a server with some services, talking to some of ours.
    pub const PAIRS_PER_STREAM: usize = 64;
    /// Streams that one domain may have open to us: one per service, and some that it does not know to be dead.
    /// The oldest gives way.
    pub const STREAMS_PER_DOMAIN: usize = 8;
    /// Other domains that `peer list` remembers the last word of; strangers can make any number known.
    pub const PEERS_SHOWN: usize = 1000;
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, default, _, unit, why) in TABLE {
            let value = self.get(name).unwrap_or(*default);
            writeln!(f, "{name:<24} {value:>10} {unit:<12} {why}")?;
        }
        Ok(())
    }
}
