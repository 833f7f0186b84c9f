//! Namespace names, each under the word that the RFC or XEP uses.

/// What the prefix `xml` stands for (Namespaces in XML 1.0 §3).
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// Client streams (RFC 6120 §4.8.2).
pub const CLIENT: &str = "jabber:client";
/// Server streams (RFC 6120 §4.8.2).
pub const SERVER: &str = "jabber:server";
/// XEP-0114: the content namespace of a component's stream.
pub const COMPONENT: &str = "jabber:component:accept";
/// `<stream:stream/>`, `<stream:features/>`, `<stream:error/>` (RFC 6120 §4.8.1).
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Stream error conditions (RFC 6120 §4.9.2).
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Stanza error conditions (RFC 6120 §8.3.2).
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// STARTTLS (RFC 6120 §5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 §6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// XEP-0440: SASL Channel-Binding Type Capability.
pub const SASL_CB: &str = "urn:xmpp:sasl-cb:0";
/// Resource binding (RFC 6120 §7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// The legacy session (RFC 3921 §3), a no-op today.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// Rosters (RFC 6121 §2).
pub const ROSTER: &str = "jabber:iq:roster";
/// Roster versioning stream feature (RFC 6121 §2.6.1).
pub const ROSTER_VERSIONING: &str = "urn:xmpp:features:rosterver";
/// Subscription pre-approval stream feature (RFC 6121 §3.4).
pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";
/// XEP-0478: Stream Limits Advertisement.
pub const STREAM_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// XEP-0012: Last Activity.
pub const LAST: &str = "jabber:iq:last";
/// XEP-0030: Service Discovery, information.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// XEP-0030: Service Discovery, items.
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// XEP-0049: Private XML Storage.
pub const PRIVATE: &str = "jabber:iq:private";
/// XEP-0054: vcard-temp.
pub const VCARD: &str = "vcard-temp";
/// XEP-0077: In-Band Registration.
pub const REGISTER: &str = "jabber:iq:register";
/// XEP-0077: the stream feature.
pub const REGISTER_FEATURE: &str = "http://jabber.org/features/iq-register";
/// XEP-0092: Software Version.
pub const VERSION: &str = "jabber:iq:version";
/// XEP-0115: Entity Capabilities.
pub const CAPS: &str = "http://jabber.org/protocol/caps";
/// XEP-0184: Message Delivery Receipts.
pub const RECEIPTS: &str = "urn:xmpp:receipts";
/// XEP-0191: Blocking Command.
pub const BLOCKING: &str = "urn:xmpp:blocking";
/// XEP-0191: the error condition of its own.
pub const BLOCKING_ERRORS: &str = "urn:xmpp:blocking:errors";
/// XEP-0199: XMPP Ping.
pub const PING: &str = "urn:xmpp:ping";
/// XEP-0202: Entity Time.
pub const TIME: &str = "urn:xmpp:time";
/// XEP-0203: Delayed Delivery.
pub const DELAY: &str = "urn:xmpp:delay";
/// XEP-0280: Message Carbons.
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// XEP-0280 §10: the rules of eligibility, as a feature.
pub const CARBONS_RULES: &str = "urn:xmpp:carbons:rules:0";
/// XEP-0297: Stanza Forwarding.
pub const FORWARD: &str = "urn:xmpp:forward:0";
/// XEP-0334: Message Processing Hints.
pub const HINTS: &str = "urn:xmpp:hints";
/// XEP-0359: Unique and Stable Stanza IDs.
pub const SID: &str = "urn:xmpp:sid:0";
/// XEP-0379: Pre-Authenticated Roster Subscription.
pub const PREAUTH: &str = "urn:xmpp:pars:0";
/// XEP-0401: Ad-hoc Account Invitation Generation, account creation.
pub const INVITE: &str = "urn:xmpp:invite";
/// XEP-0445: Pre-Authenticated In-Band Registration, and its stream feature.
pub const IBR_TOKEN: &str = "urn:xmpp:ibr-token:0";
/// XEP-0085: Chat State Notifications.
pub const CHAT_STATES: &str = "http://jabber.org/protocol/chatstates";
/// XEP-0045: Multi-User Chat, as a user sees it.
pub const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// XEP-0205: condition for a stanza over the size limit.
pub const ERRORS: &str = "urn:xmpp:errors";
/// XEP-0066: Out of Band Data, in a message.
pub const OOB: &str = "jabber:x:oob";
/// XEP-0172: User Nickname.
pub const NICK: &str = "http://jabber.org/protocol/nick";
/// XEP-0004: Data Forms.
pub const DATA: &str = "jabber:x:data";
/// XEP-0220: Server Dialback.
pub const DIALBACK: &str = "jabber:server:dialback";
/// XEP-0220 §2.4.2: the stream feature.
pub const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// XEP-0288: Bidirectional Server-to-Server Connections.
pub const BIDI: &str = "urn:xmpp:bidi";
/// XEP-0288: the stream feature.
pub const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// XEP-0198: Stream Management.
pub const SM: &str = "urn:xmpp:sm:3";
