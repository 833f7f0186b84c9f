//! A batch of jobs inside one transaction per file.

use super::change::{AccountId, Answer, Ask, Change, Job, Status};
use super::failed::Failed;
use super::files::Files;
use super::journal::Redo;
use super::schema::{CERTIFICATES, COMPONENTS, NAMES};
use super::side::Side;
use std::collections::HashMap;

/// What was last seen of whom, not yet written down.
pub(super) type Seen = HashMap<AccountId, (u64, Box<str>)>;

/// The methods that do the work stand in one file per group of tables.
pub(super) struct Batch<'d> {
    pub(super) accounts: Side<'d>,
    pub(super) bulk: Side<'d>,
    pub(super) seen: &'d mut Seen,
    pub(super) max_accounts: u64,
    /// Whether the job at hand writes to both files.
    pub(super) spans: bool,
    pub(super) journal: Vec<Redo>,
}

/// How a batch ended whose accounts part, at least, is on disk.
pub(super) struct Done {
    /// One for each job.
    pub(super) answers: Vec<Answer>,
    pub(super) commits: u64,
    pub(super) bytes: u64,
    /// Bulk could not be committed; the jobs concerned are answered with this already.
    pub(super) broken: Option<Failed>,
}

/// The files that something writes to.
#[derive(Clone, Copy, Default)]
pub(super) struct Writes {
    accounts: bool,
    bulk: bool,
    /// Whether it takes room rather than make it.
    grows: bool,
}

impl Writes {
    fn and(self, other: Self) -> Self {
        Self {
            accounts: self.accounts || other.accounts,
            bulk: self.bulk || other.bulk,
            grows: self.grows || other.grows,
        }
    }

    pub(super) fn any(self) -> bool {
        self.accounts || self.bulk
    }

    pub(super) fn grows(self) -> bool {
        self.grows
    }

    pub(super) fn of(job: &Job) -> Self {
        let ask = match &job.ask {
            Ask::Create { .. } => Self { accounts: true, bulk: false, grows: true },
            Ask::Remove { .. } => Self { accounts: true, bulk: true, grows: false },
            Ask::PrivatePut { .. } => Self { accounts: false, bulk: true, grows: true },
            _ => Self::default(),
        };
        job.changes.iter().fold(ask, |all, change| all.and(Self::of_change(change)))
    }

    fn of_change(change: &Change) -> Self {
        let (accounts, bulk, grows) = match change {
            Change::RosterPut { .. }
            | Change::KeysPut { .. }
            | Change::BlockPut { .. }
            | Change::CertificatePut { .. }
            | Change::InvitePut { .. }
            | Change::NamedPut { .. }
            | Change::PeerPut { .. }
            | Change::ComponentPut { .. } => (true, false, true),
            Change::RosterRemove { .. }
            | Change::BlockRemove { .. }
            | Change::CertificateRemove { .. }
            | Change::PeerRemove { .. }
            | Change::ComponentRemove { .. } => (true, false, false),
            Change::OfflinePut { .. } | Change::ForwardPut { .. } => (false, true, true),
            Change::OfflineRemove { .. } | Change::ForwardRemove { .. } => (false, true, false),
            Change::VcardPut { xml, .. } | Change::PrivatePut { xml, .. } => (false, true, !xml.is_empty()),
            Change::LastSeen { .. } => (false, false, false),
        };
        Self { accounts, bulk, grows }
    }
}

impl<'d> Batch<'d> {
    pub(super) fn new(files: &'d Files, seen: &'d mut Seen, max_accounts: u64) -> Self {
        Self {
            accounts: Side::new(&files.accounts),
            bulk: Side::new(&files.bulk),
            seen,
            max_accounts,
            spans: false,
            journal: Vec::new(),
        }
    }

    /// Does the jobs in order and makes them durable. An error means that nothing was written.
    pub(super) fn run(mut self, jobs: &[Job]) -> Result<Done, Failed> {
        let mut answers = Vec::new();
        let mut in_bulk = Vec::new();
        let mut flush = false;
        for job in jobs {
            let writes = Writes::of(job);
            self.spans = writes.accounts && writes.bulk;
            self.bulk.touched = false;
            for change in &job.changes {
                self.change(change)?;
            }
            answers.push(self.answer(&job.ask)?);
            in_bulk.push(self.bulk.touched);
            flush = flush || matches!(job.ask, Ask::Backup { .. });
        }
        if flush || self.bulk.writing() {
            self.write_seen()?;
        }
        let mut done = self.commit()?;
        if let Some(failed) = &done.broken {
            for (answer, _) in answers.iter_mut().zip(in_bulk).filter(|(_, touched)| *touched) {
                *answer = Answer::Failed(failed.to_string());
            }
        }
        done.answers = answers;
        Ok(done)
    }

    /// Accounts first; see "Which file is committed first" in [`schema`](super::schema).
    fn commit(mut self) -> Result<Done, Failed> {
        self.write_journal()?;
        let seen_written = self.bulk.writing();
        let bytes = self.accounts.bytes.saturating_add(self.bulk.bytes);
        let accounts = self.accounts.commit()?;
        let (bulk, broken) = match self.bulk.commit() {
            Ok(bulk) => (bulk, None),
            Err(failed) => (false, Some(failed)),
        };
        if seen_written && bulk {
            self.seen.clear();
        }
        let commits = u64::from(accounts).saturating_add(u64::from(bulk));
        Ok(Done { answers: Vec::new(), commits, bytes, broken })
    }

    /// Writes down what was put off, at the end.
    pub(super) fn last(mut self) -> Result<(), Failed> {
        self.write_seen()?;
        match self.commit()?.broken {
            None => Ok(()),
            Some(failed) => Err(failed),
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), Failed> {
        match change {
            Change::RosterPut { account, version, item } => self.put_item(*account, *version, item),
            Change::RosterRemove { account, version, jid } => self.remove_item(*account, *version, jid),
            Change::KeysPut { account, keys } => self.put_keys(*account, keys),
            Change::BlockPut { account, jid } => self.put_block(*account, jid),
            Change::BlockRemove { account, jid } => self.remove_block(*account, jid),
            Change::LastSeen { account, time, status } => self.put_seen(*account, *time, status),
            Change::CertificatePut { account, spki } => self.put_certificate(*account, spki),
            Change::CertificateRemove { account, spki } => self.remove_certificate(*account, spki),
            Change::InvitePut { token, invite } => self.put_invite(token, invite),
            Change::NamedPut { name, value } => self.put_named(name, value),
            Change::PeerPut { peer } => self.put_peer(peer),
            Change::PeerRemove { domain } => self.remove_peer(domain),
            Change::ComponentPut { domain, secret } => self.put_component(domain, secret),
            Change::ComponentRemove { domain } => self.remove_component(domain),
            Change::OfflinePut { .. }
            | Change::OfflineRemove { .. }
            | Change::VcardPut { .. }
            | Change::PrivatePut { .. }
            | Change::ForwardPut { .. }
            | Change::ForwardRemove { .. } => match Redo::of(change) {
                Some(entry) => self.redo(entry),
                None => Ok(()),
            },
        }
    }

    fn answer(&mut self, ask: &Ask) -> Result<Answer, Failed> {
        Ok(match ask {
            // A backup begins after the commit; see `worker`.
            Ask::Nothing | Ask::Backup { .. } => Answer::Nothing,
            Ask::Credentials { localpart } => self.credentials(localpart)?,
            Ask::Owner { spki } => Answer::Owner(self.owner(spki)?),
            Ask::Account { localpart } => Answer::Account(self.account(localpart)?),
            Ask::Create { localpart, keys, invite, now } => {
                Answer::Created(self.create(localpart, keys, invite.as_ref(), *now)?)
            }
            Ask::Remove { localpart } => Answer::Removed(self.remove_account(localpart)?),
            Ask::Accounts => Answer::Accounts(self.all_accounts()?),
            Ask::Invite { token, now } => Answer::Invite(self.invite(token, *now)?),
            Ask::Offline { account, after, max, bytes } => self.offline(*account, *after, *max, *bytes)?,
            Ask::OfflineHas { account, by, id } => Answer::Has(self.offline_has(*account, by, id)?),
            Ask::Vcard { account } => Answer::Xml(self.vcard(*account)?),
            Ask::Private { account, ns, name } => Answer::Xml(self.private(*account, ns, name)?),
            Ask::PrivatePut { account, ns, name, xml, max } => {
                let fits = self.private_fits(*account, ns, name, xml.len(), *max)?;
                if fits {
                    let (account, ns, name, xml) = (*account, ns.clone(), name.clone(), xml.clone());
                    self.change(&Change::PrivatePut { account, ns, name, xml })?;
                }
                Answer::Kept(fits)
            }
            Ask::LastSeen { account } => Answer::LastSeen(self.last_seen(*account)?),
            Ask::Certificates { account } => Answer::Certificates(self.certificates(*account)?),
            Ask::Named { name } => Answer::Xml(self.named(name)?),
            Ask::Peers => Answer::Peers(self.peers()?),
            Ask::Components => self.components()?,
            Ask::Forward { local, remote, after, max, bytes } => {
                self.forward(local, remote, *after, *max, *bytes)?
            }
            Ask::Forwards => Answer::Forwards(self.forwards()?),
            // The worker adds what only it knows.
            Ask::Status => Answer::Status(Status {
                accounts: self.accounts.len(NAMES)?,
                offline: self.all_offline()?,
                certificates: self.accounts.len(CERTIFICATES)?,
                forward: self.all_forward()?,
                components: self.accounts.len(COMPONENTS)?,
                ..Status::default()
            }),
        })
    }
}
