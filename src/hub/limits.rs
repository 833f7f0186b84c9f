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
    close_seconds: 5, Size, "seconds", "to wait for the peer's </stream> after ours";
    stall_seconds: 60, Size, "seconds", "a reader that takes nothing for so long is cut off";
    outbox_bytes: 1_048_576, Size, "bytes", "waiting for one slow reader; four full-size stanzas";
    resume_seconds: 300, Count, "seconds", "a lost connection may be resumed (XEP-0198) for so long: a lift, a tunnel, a router's restart; 0 is off";
    hibernated: 1_000, Count, "sessions", "lost and not resumed yet, all at once; each may hold outbox-bytes, and the oldest goes";
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
    /// Empty write buffers kept for the next turn; more than 64 readers in one turn are a burst.
    pub const POOL: usize = 64;
    /// The largest write buffer that is worth keeping.
    pub const POOLED: usize = 64 * 1024;
    /// Connections that the system keeps for us between two looks: a room full of devices comes back at once
    /// after a power cut.
    pub const BACKLOG: i32 = 1024;
    /// Passwords that wait for their keys (5 ms each on a PC); behind that, whoever asks waits outside.
    pub const DERIVATIONS: usize = 64;
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
