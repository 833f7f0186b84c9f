//! All that is asked of the store and all that it answers, as plain data: no redb in sight.
//!
//! The hub imports this file and nothing else of `store`.

/// The number of an account. Never reused, so that what was kept for a removed account can
/// never show up under a new owner of the same name.
pub type AccountId = u64;

/// What is kept of a password for one SCRAM hash (RFC 5802 §3): never the password itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Random salt.
    pub salt: Box<[u8]>,
    /// PBKDF2 iteration count.
    pub iterations: u32,
    /// `H(HMAC(SaltedPassword, "Client Key"))`.
    pub stored_key: Box<[u8]>,
    /// `HMAC(SaltedPassword, "Server Key")`.
    pub server_key: Box<[u8]>,
}

/// The keys of one account, one set for each hash that is offered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys {
    /// For SCRAM-SHA-1 (RFC 5802).
    pub sha1: ScramKeys,
    /// For SCRAM-SHA-256 (RFC 7677).
    pub sha256: ScramKeys,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramKeys(…)")
    }
}

/// Roster subscription states that a client can see (RFC 6121 §2.1.2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Subscription {
    /// Neither side sees the other.
    #[default]
    None,
    /// The user sees the contact.
    To,
    /// The contact sees the user.
    From,
    /// Both.
    Both,
}

/// One roster item with what the server alone knows of it (RFC 6121 §2.1, §3, Appendix A).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Item {
    /// The contact's address, normalised; bare as a rule.
    pub jid: Box<str>,
    /// The `name` attribute.
    pub name: Option<Box<str>>,
    /// The `<group/>` elements.
    pub groups: Vec<Box<str>>,
    /// The visible state.
    pub subscription: Subscription,
    /// `ask='subscribe'`: our request is pending ("Pending Out").
    pub ask: bool,
    /// `approved='true'`: pre-approved (RFC 6121 §3.4).
    pub approved: bool,
    /// "Pending In": the contact's request, kept whole to be shown again at the next login
    /// (RFC 6121 §3.1.3). An item with `pending` and nothing else is not part of the roster.
    pub pending: Option<Box<[u8]>>,
    /// False for an entry that exists only for `pending` or `approved` and was never in the
    /// roster that clients see.
    pub listed: bool,
}

/// A write. Changes of one [`Job`] are committed together or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the line of each variant tells of its fields")]
pub enum Change {
    /// Writes the item (replacing one with the same address) and the roster's version.
    RosterPut { account: AccountId, version: u64, item: Item },
    /// Removes the item and writes the roster's version.
    RosterRemove { account: AccountId, version: u64, jid: Box<str> },
    /// Replaces the credentials; the account must exist, otherwise nothing happens.
    KeysPut { account: AccountId, keys: Box<Keys> },
    /// XEP-0191: one blocked address.
    BlockPut { account: AccountId, jid: Box<str> },
    /// XEP-0191: no longer blocked.
    BlockRemove { account: AccountId, jid: Box<str> },
    /// Appends one message for later (XEP-0160). The bytes are a whole stanza, ready to send.
    OfflinePut { account: AccountId, stanza: Box<[u8]> },
    /// Forgets offline messages up to and including this number (see [`Answer::Offline`]).
    OfflineRemove { account: AccountId, up_to: u64 },
    /// XEP-0054: the whole `<vCard/>`; empty bytes remove it.
    VcardPut { account: AccountId, xml: Box<[u8]> },
    /// XEP-0049: one private element by its namespace and name; empty bytes remove it.
    PrivatePut { account: AccountId, ns: Box<str>, name: Box<str>, xml: Box<[u8]> },
    /// XEP-0012: when the last session ended (Unix seconds) and its last status. Lazy: it is
    /// written with the next commit or at shutdown, and never causes a commit of its own.
    LastSeen { account: AccountId, time: u64, status: Box<str> },
    /// A client certificate (SHA-256 of its SubjectPublicKeyInfo) that may log in as the account.
    CertificatePut { account: AccountId, spki: [u8; 32] },
    /// Takes that right back.
    CertificateRemove { account: AccountId, spki: [u8; 32] },
    /// Notes an invitation under the hash of its token (XEP-0401).
    InvitePut { token: [u8; 32], invite: Invite },
    /// A small value of the hub's own under a name of its choice; empty bytes remove it.
    NamedPut { name: Box<str>, value: Box<[u8]> },
    /// What is known for certain of a remote domain (replacing what was).
    PeerPut { peer: PeerRecord },
    /// Forgets it.
    PeerRemove { domain: Box<str> },
    /// Puts one message for a remote domain that can't be reached behind the others, or before them (`first`);
    /// `local` is the domain of ours that it is from, `time` Unix seconds. The bytes are a whole stanza, ready to
    /// send.
    ForwardPut { local: Box<str>, remote: Box<str>, first: bool, time: u64, stanza: Box<[u8]> },
    /// Forgets that pair's messages up to and including this number (see [`Answer::Forward`]).
    ForwardRemove { local: Box<str>, remote: Box<str>, up_to: u64 },
    /// XEP-0114: the domain of a component and the secret that it proves itself with (replacing
    /// what was). The handshake is a hash over the secret itself, so it is kept as it is.
    ComponentPut { domain: Box<str>, secret: Box<str> },
    /// No longer a component.
    ComponentRemove { domain: Box<str> },
}

impl Change {
    /// About how many bytes from outside are in it.
    pub fn weight(&self) -> usize {
        match self {
            Change::OfflinePut { stanza, .. } | Change::ForwardPut { stanza, .. } => stanza.len(),
            Change::VcardPut { xml, .. } | Change::PrivatePut { xml, .. } => xml.len(),
            Change::RosterPut { item, .. } => {
                let groups: usize = item.groups.iter().map(|group| group.len()).sum();
                groups
                    + item.name.as_deref().map_or(0, str::len)
                    + item.pending.as_deref().map_or(0, <[u8]>::len)
            }
            _ => 0,
        }
    }
}

impl Ask {
    /// About how many bytes from outside are in it.
    pub fn weight(&self) -> usize {
        match self {
            Ask::PrivatePut { xml, .. } => xml.len(),
            _ => 0,
        }
    }
}

/// How a remote domain came into the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PeerSource {
    /// The operator said so (`peer add`).
    #[default]
    Said,
    /// Two people compared a code (`peer pair`, `peer accept`).
    Paired,
}

/// What the operator, or a pairing, has settled about a remote domain. Domains without a record are
/// found and trusted by the general rules.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerRecord {
    /// The domain, normalised.
    pub domain: Box<str>,
    /// SHA-256 of the SubjectPublicKeyInfo that its certificate must have.
    pub pin: Option<[u8; 32]>,
    /// `HOST:PORT` to dial instead of looking it up.
    pub address: Option<Box<str>>,
    /// How it came here.
    pub source: PeerSource,
    /// Nothing is taken from it and nothing sent to it.
    pub denied: bool,
    /// Unix seconds.
    pub added: u64,
}

/// What waits for one pair of domains.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Forwards {
    /// The domain of ours.
    pub local: Box<str>,
    /// The remote domain.
    pub remote: Box<str>,
    /// Messages.
    pub count: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Unix seconds at which the first of them was put here.
    pub oldest: u64,
}

/// One invitation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invite {
    /// Unix seconds; 0 when the clock was not set.
    pub created: u64,
    /// Unix seconds after which it is void; `u64::MAX` for never.
    pub expires: u64,
    /// Registrations left.
    pub uses: u32,
    /// The account that invites and gets a mutual subscription (XEP-0379), if any.
    pub inviter: Option<Box<str>>,
    /// The localpart that the invitation is for, if it names one.
    pub localpart: Option<Box<str>>,
}

/// A question; some of them write too, because only the store can decide them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the line of each variant tells of its fields")]
pub enum Ask {
    /// Only the changes.
    Nothing,
    /// Credentials by localpart → [`Answer::Credentials`].
    Credentials { localpart: Box<str> },
    /// The account that a client certificate is bound to → [`Answer::Owner`].
    Owner { spki: [u8; 32] },
    /// All that the hub holds of an account → [`Answer::Account`].
    Account { localpart: Box<str> },
    /// Makes an account → [`Answer::Created`]. With an invite, spends one use of it in the same
    /// commit.
    Create { localpart: Box<str>, keys: Box<Keys>, invite: Option<[u8; 32]>, now: u64 },
    /// Removes an account and everything kept for it → [`Answer::Removed`].
    Remove { localpart: Box<str> },
    /// All accounts → [`Answer::Accounts`].
    Accounts,
    /// What an invitation is worth now → [`Answer::Invite`].
    Invite { token: [u8; 32], now: u64 },
    /// Offline messages after this number (0: from the first), oldest first, at most `max` and
    /// at most about `bytes` → [`Answer::Offline`].
    Offline { account: AccountId, after: u64, max: u32, bytes: u32 },
    /// Whether one of the account's offline messages is from the domain `by` and carries its
    /// `<stanza-id/>` (XEP-0359) with this id → [`Answer::Has`]. Ids can be guessed: what others say
    /// in that domain's name must not make its message look like a repetition.
    OfflineHas { account: AccountId, by: Box<str>, id: Box<str> },
    /// XEP-0054 → [`Answer::Xml`].
    Vcard { account: AccountId },
    /// XEP-0049 → [`Answer::Xml`].
    Private { account: AccountId, ns: Box<str>, name: Box<str> },
    /// [`Change::PrivatePut`], unless the account would then have more than `max` bytes of private
    /// XML → [`Answer::Kept`].
    PrivatePut { account: AccountId, ns: Box<str>, name: Box<str>, xml: Box<[u8]>, max: u64 },
    /// XEP-0012 → [`Answer::LastSeen`].
    LastSeen { account: AccountId },
    /// Certificates bound to an account → [`Answer::Certificates`].
    Certificates { account: AccountId },
    /// See [`Change::NamedPut`] → [`Answer::Xml`].
    Named { name: Box<str> },
    /// All records of remote domains → [`Answer::Peers`].
    Peers,
    /// Messages of a pair of domains after this number (0: from the first), oldest first, at most
    /// `max` and at most about `bytes` → [`Answer::Forward`].
    Forward { local: Box<str>, remote: Box<str>, after: u64, max: u32, bytes: u32 },
    /// What waits for whom → [`Answer::Forwards`].
    Forwards,
    /// All components → [`Answer::Components`].
    Components,
    /// A consistent copy of everything, as one file that must not exist yet → [`Answer::Backup`].
    Backup { file: std::path::PathBuf },
    /// Sizes and counters → [`Answer::Status`].
    Status,
}

/// What the store answers. `Nothing` also stands for "there is none" where no `Option` is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the line of each variant tells of its fields")]
pub enum Answer {
    /// Nothing was asked; what was to be written is on disk.
    Nothing,
    /// See [`Ask::Credentials`].
    Credentials(Option<(AccountId, Box<Keys>)>),
    /// See [`Ask::Owner`]: the localpart.
    Owner(Option<Box<str>>),
    /// See [`Ask::Account`].
    Account(Option<Box<Loaded>>),
    /// See [`Ask::Create`].
    Created(Result<(AccountId, Option<Invite>), Refused>),
    /// See [`Ask::Remove`]: whether it existed.
    Removed(bool),
    /// See [`Ask::Accounts`]: localpart, id and Unix seconds of creation, sorted by localpart.
    Accounts(Vec<(Box<str>, AccountId, u64)>),
    /// See [`Ask::Invite`]: only one that is still good.
    Invite(Option<Invite>),
    /// See [`Ask::Offline`]: number and stanza, and whether there are more.
    Offline { messages: Vec<(u64, Box<[u8]>)>, more: bool },
    /// See [`Ask::OfflineHas`].
    Has(bool),
    /// The stored bytes.
    Xml(Option<Box<[u8]>>),
    /// See [`Ask::PrivatePut`]: false when it was too much.
    Kept(bool),
    /// See [`Ask::LastSeen`]: Unix seconds and status.
    LastSeen(Option<(u64, Box<str>)>),
    /// See [`Ask::Certificates`].
    Certificates(Vec<[u8; 32]>),
    /// See [`Ask::Peers`]: sorted by domain.
    Peers(Vec<PeerRecord>),
    /// See [`Ask::Forward`]: number, Unix seconds of its coming and stanza, and whether there are more.
    /// Numbers grow within a pair and have gaps.
    Forward { messages: Vec<(u64, u64, Box<[u8]>)>, more: bool },
    /// See [`Ask::Forwards`]: only pairs for which something waits.
    Forwards(Vec<Forwards>),
    /// See [`Ask::Components`]: domain and secret, sorted by domain.
    Components(Vec<(Box<str>, Box<str>)>),
    /// See [`Ask::Backup`]: bytes written.
    Backup(Result<u64, String>),
    /// See [`Ask::Status`].
    Status(Status),
    /// The disk refused: the job is not done, and never half done. (When the disk fails in the
    /// very act of committing, all of it may still turn out to be there later, so what is sent
    /// again may come twice.) One line for a person.
    Failed(String),
}

/// Why an account was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The name is taken.
    Exists,
    /// The invitation is unknown, spent or too old (never told apart to the outside).
    Invite,
    /// The configured number of accounts is reached.
    Full,
}

/// What the hub keeps in memory of an account while it has a use for it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Its number.
    pub id: AccountId,
    /// Version of the roster (RFC 6121 §2.6); grows with every change.
    pub version: u64,
    /// The roster with pending and pre-approved entries.
    pub roster: Vec<Item>,
    /// XEP-0191.
    pub blocked: Vec<Box<str>>,
    /// How many offline messages wait, and their bytes.
    pub offline: (u32, u64),
}

/// Figures for `stonechat status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Accounts.
    pub accounts: u64,
    /// Size of the files in bytes.
    pub file_bytes: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Bytes of keys and values handed to the database since the start.
    pub logical_bytes: u64,
    /// Offline messages waiting.
    pub offline: u64,
    /// Client certificates that may log in.
    pub certificates: u64,
    /// Messages waiting for remote domains.
    pub forward: u64,
    /// Components that may attach.
    pub components: u64,
}

/// Called on the store's thread once the answer holds: after the commit, if there was anything
/// to write.
pub type Then = Box<dyn FnOnce(Answer) + Send>;

/// One piece of work. Jobs are done in the order they came, so a question sees every change that
/// was handed in before it.
pub struct Job {
    /// Written first.
    pub changes: Vec<Change>,
    /// Then asked.
    pub ask: Ask,
    /// Then told.
    pub then: Then,
}
