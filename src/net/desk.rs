//! The orders of an operator: carried out by the running hub (through [`super::console`]) or, when
//! there is none, on the data directly. One code for both.

#[cfg(feature = "federation")]
mod peers;

use super::ring::Shared;
use crate::hub::limits::Limits;
use crate::hub::talk::{Derived, Now, Password, SessionId, Sink, Taken, Then};
use crate::hub::{Hub, Names};
use crate::jid::{BareJid, FullJid};
use crate::stanza;
use crate::store::Store;
use crate::store::change::{Answer, Ask, Change, Invite, Keys, Refused};
use crate::stream::{self, Condition, Registration, Secret, sasl};
use crate::xep::invite;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

/// PBKDF2 rounds of new passwords: what Prosody takes; a Pi Zero does them in a tenth of a second.
pub const ITERATIONS: u32 = 10_000;

/// Who carries out.
pub enum Desk {
    /// The running hub.
    Hub(Rc<Shared>),
    /// Nobody else has the data.
    Data(Box<Data>),
}

/// The data, and a hub that nobody is connected to.
pub struct Data {
    store: Store,
    hub: RefCell<Hub>,
}

/// An order that could not be carried out: one line for a person.
pub type Outcome = Result<String, String>;

const UNKNOWN: &str = "that order is unknown here; are hub and command of the same version?";

/// How the links to other domains are doing.
#[derive(Default)]
pub(super) struct Standing {
    /// How many there are.
    pub up: usize,
    /// How many failed, and are tried again.
    pub down: usize,
    /// Each domain that there is something to say of, and what.
    pub each: Vec<(Box<str>, String)>,
}

impl Desk {
    /// The data of a directory that no hub is running on.
    pub fn of_data(store: Store, domain: &str) -> Desk {
        let names = Names { domain: domain.into(), aliases: Vec::new() };
        let hub = Hub::new(names, Limits::default(), &[], super::ring::now(Instant::now()), 0);
        Desk::Data(Box::new(Data { store, hub: RefCell::new(hub) }))
    }

    async fn ask(&self, changes: Vec<Change>, ask: Ask) -> Answer {
        match self {
            Desk::Hub(shared) => shared.ask(changes, ask).await,
            Desk::Data(data) => data.store.ask(changes, ask),
        }
    }

    async fn keys(&self, password: Secret) -> Option<Keys> {
        let work = move || sasl::keys(&password, super::salts(), ITERATIONS);
        match self {
            Desk::Hub(shared) => shared.workers.run(work).await,
            Desk::Data(_) => Some(work()),
        }
    }

    fn with_hub<R>(&self, with: impl FnOnce(&mut Hub, &mut dyn Sink) -> R) -> R {
        match self {
            Desk::Hub(shared) => shared.with_hub(|hub, mouth| with(hub, mouth)),
            Desk::Data(data) => data.with_hub(with),
        }
    }

    fn domain(&self) -> String {
        self.with_hub(|hub, _| hub.names.domain.to_string())
    }

    fn now(&self) -> Now {
        match self {
            Desk::Hub(shared) => shared.now(),
            Desk::Data(_) => super::ring::now(Instant::now()),
        }
    }

    /// Carries out one order; `words` as on the command line.
    pub async fn carry_out(&self, words: &[String]) -> Outcome {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["user", "add", name, password] => self.add(name, password).await,
            ["user", "list"] => self.list().await,
            ["user", "passwd", name, password] => self.passwd(name, password).await,
            ["user", "remove", name] => self.remove(name).await,
            ["user", "certificate", name, pin, add] => self.certificate(name, pin, *add == "add").await,
            ["status"] => self.status().await,
            ["log", level] => log_level(level),
            ["invite", days, name] => self.invite(days, name).await,
            ["backup", file] => self.backup(file).await,
            ["peer" | "component", ..] => self.carry_out_abroad(&words).await,
            _ => Err(UNKNOWN.into()),
        }
    }

    /// `name` or `name@domain` to the localpart.
    fn local(&self, name: &str) -> Result<String, String> {
        let domain = self.domain();
        let full = if name.contains('@') { name.to_owned() } else { format!("{name}@{domain}") };
        let jid = BareJid::parse(&full).map_err(|e| format!("{name:?} is no address: {e}"))?;
        if !self.with_hub(|hub, _| hub.is_local(jid.domain())) {
            return Err(format!("this hub's accounts are of {domain}, not of {}", jid.domain()));
        }
        jid.local().map(str::to_owned).ok_or_else(|| format!("an account looks like name@{domain}"))
    }

    fn password(text: &str) -> Result<Secret, String> {
        if text.is_empty() {
            return Err("the password is empty".into());
        }
        let prepared =
            crate::prep::password(text).map_err(|e| format!("that password can't be used: {e}"))?;
        Ok(Secret::new(prepared.into_owned()))
    }

    async fn add(&self, name: &str, password: &str) -> Outcome {
        let local = self.local(name)?;
        let keys = self.keys(Self::password(password)?).await.ok_or("no thread for key derivation")?;
        let ask = Ask::Create {
            localpart: local.as_str().into(),
            keys: Box::new(keys),
            invite: None,
            now: self.now().unix(),
        };
        match self.ask(Vec::new(), ask).await {
            Answer::Created(Ok(_)) => Ok(format!("added {local}@{}", self.domain())),
            Answer::Created(Err(Refused::Exists)) => {
                Err(format!("{local}@{} exists; to set its password: stonechat user passwd", self.domain()))
            }
            Answer::Created(Err(Refused::Full)) => {
                Err("there are as many accounts as --limit accounts=N allows".into())
            }
            other => Err(failed(other)),
        }
    }

    async fn list(&self) -> Outcome {
        match self.ask(Vec::new(), Ask::Accounts).await {
            Answer::Accounts(accounts) => {
                let domain = self.domain();
                let online = |name: &str| {
                    self.with_hub(|hub, _| {
                        hub.find(name).and_then(|p| hub.account(p)).map_or(0, |a| a.sessions.len())
                    })
                };
                let mut out = String::new();
                for (name, _, created) in accounts {
                    out.push_str(&format!("{name}@{domain}\t{}\t{created}\n", online(&name)));
                }
                Ok(out)
            }
            other => Err(failed(other)),
        }
    }

    async fn account(&self, local: &str) -> Result<u64, String> {
        match self.ask(Vec::new(), Ask::Credentials { localpart: local.into() }).await {
            Answer::Credentials(Some((id, _))) => Ok(id),
            Answer::Credentials(None) => Err(format!("there is no account {local}@{}", self.domain())),
            other => Err(failed(other)),
        }
    }

    async fn passwd(&self, name: &str, password: &str) -> Outcome {
        let local = self.local(name)?;
        let account = self.account(&local).await?;
        let keys = self.keys(Self::password(password)?).await.ok_or("no thread for key derivation")?;
        let change = Change::KeysPut { account, keys: Box::new(keys) };
        match self.ask(vec![change], Ask::Nothing).await {
            Answer::Nothing => {}
            other => return Err(failed(other)),
        }
        self.close_all(&local);
        Ok(format!("new password for {local}@{}", self.domain()))
    }

    /// What was opened with a password or certificate that is no longer good is closed (threat B11).
    fn close_all(&self, local: &str) {
        self.with_hub(|hub, sink| {
            sink.revoke(local);
            if let Some(place) = hub.find(local) {
                hub.revoke(sink, place, None, &stream::Error::new(Condition::Reset));
            }
        });
    }

    async fn remove(&self, name: &str) -> Outcome {
        let local = self.local(name)?;
        let id = self.account(&local).await?;
        // In memory first, so that its contacts can be told.
        let (tell, told) = smol::channel::bounded(1);
        self.with_hub(|hub, sink| {
            hub.with_account(sink, &local, move |_, _, place| {
                let _ = tell.try_send(place);
            });
        });
        let place = told.recv().await.ok().flatten();
        match self.ask(Vec::new(), Ask::Remove { localpart: local.as_str().into() }).await {
            Answer::Removed(true) => {}
            Answer::Removed(false) => return Err(format!("there is no account {local}@{}", self.domain())),
            other => return Err(failed(other)),
        }
        if let Some(place) = place {
            self.with_hub(|hub, sink| {
                sink.revoke(&local);
                // Its place may have been given to another while the store was at work.
                if hub.account(place).is_some_and(|a| a.id == id) {
                    hub.removed(sink, place);
                }
            });
        }
        Ok(format!("removed {local}@{} and all that was kept for it", self.domain()))
    }

    async fn certificate(&self, name: &str, pin: &str, add: bool) -> Outcome {
        let local = self.local(name)?;
        let account = self.account(&local).await?;
        let spki = super::cert::parse_pin(pin).ok_or("a pin looks like sha256:…")?;
        let change = match add {
            true => Change::CertificatePut { account, spki },
            false => Change::CertificateRemove { account, spki },
        };
        match self.ask(vec![change], Ask::Nothing).await {
            Answer::Nothing => {
                if let (Desk::Hub(shared), true) = (self, add) {
                    shared.ask_clients.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                if !add {
                    self.close_all(&local);
                }
                let verb = if add { "may log in" } else { "may no longer log in" };
                Ok(format!("{local}@{} {verb} with that certificate", self.domain()))
            }
            other => Err(failed(other)),
        }
    }

    async fn invite(&self, days: &str, name: &str) -> Outcome {
        let days: u64 = days.parse().map_err(|_| "days is a number")?;
        let localpart = if name.is_empty() { None } else { Some(self.local(name)?) };
        let now = self.now().unix();
        let token = invite::token(super::random());
        let hash = invite::key(&token).ok_or("a token of ours is no token; please report this")?;
        let invite = Invite {
            created: now,
            expires: now.saturating_add(days.saturating_mul(86_400)),
            uses: 1,
            inviter: None,
            localpart: localpart.as_deref().map(Box::from),
        };
        match self.ask(vec![Change::InvitePut { token: hash, invite }], Ask::Nothing).await {
            Answer::Nothing => {
                let mut uri = invite::uri(&self.domain(), localpart.as_deref(), None, &token);
                if let Desk::Hub(shared) = self
                    && shared.settings.borrow().registration == Registration::Closed
                {
                    uri.push_str(
                        "\nwarning: registration is closed; start the hub with --registration invite",
                    );
                }
                Ok(uri)
            }
            other => Err(failed(other)),
        }
    }

    async fn backup(&self, file: &str) -> Outcome {
        match self.ask(Vec::new(), Ask::Backup { file: file.into() }).await {
            Answer::Backup(Ok(bytes)) => Ok(format!("{file}: {bytes} bytes")),
            Answer::Backup(Err(why)) => Err(why),
            other => Err(failed(other)),
        }
    }

    /// `name value` lines; the command line makes JSON or a table of them.
    async fn status(&self) -> Outcome {
        let stored = match self.ask(Vec::new(), Ask::Status).await {
            Answer::Status(status) => status,
            other => return Err(failed(other)),
        };
        let now = self.now();
        let peers = self.standing().await?;
        let mut out = String::new();
        let mut line =
            |name: &str, value: &dyn std::fmt::Display| out.push_str(&format!("{name}\t{value}\n"));
        line("version", &env!("CARGO_PKG_VERSION"));
        line("domain", &self.domain());
        line("running", &matches!(self, Desk::Hub(_)));
        if let Desk::Hub(shared) = self {
            let (counters, started, sessions) =
                shared.with_hub(|hub, _| (hub.counters, hub.started, hub.live_sessions()));
            line("pid", &std::process::id());
            line("uptime_seconds", &((now.mono_ms - started.mono_ms) / 1000));
            line("clock_set", &super::ring::clock_is_set());
            line("sessions", &sessions);
            line("connections", &shared.connections.borrow().total);
            line("logins", &counters.binds);
            line("stanzas_in", &counters.stanzas_in);
            line("messages_delivered", &counters.delivered);
            line("messages_stored", &counters.stored);
            let (read, written) = shared.traffic();
            line("bytes_in", &read);
            line("bytes_out", &written);
            line("peers_up", &peers.up);
            line("peers_down", &peers.down);
            line("memory_bytes", &memory());
            line("disk_written_bytes", &disk_written());
        }
        line("accounts", &stored.accounts);
        line("offline_messages", &stored.offline);
        line("forward_messages", &stored.forward);
        line("components", &stored.components);
        line("database_bytes", &stored.file_bytes);
        line("commits", &stored.commits);
        for (domain, words) in &peers.each {
            line(&format!("peer {domain}"), words);
        }
        Ok(out)
    }
}

fn failed(answer: Answer) -> String {
    match answer {
        Answer::Failed(why) => why,
        _ => "the store gave an answer that does not fit; please report this".into(),
    }
}

fn log_level(level: &str) -> Outcome {
    let level: log::LevelFilter =
        level.parse().map_err(|_| "levels are error, warn, info, debug, trace".to_owned())?;
    log::set_max_level(level);
    Ok(format!("log level is {}", level.as_str().to_lowercase()))
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    kib * 1024
}

/// Bytes that this process has had written to storage; 0 where the system does not tell.
fn disk_written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// A mouth that nobody hears, with the store at hand: for a hub without connections.
struct Alone<'a> {
    store: &'a Store,
    queue: VecDeque<(Answer, Then)>,
}

impl Data {
    fn with_hub<R>(&self, with: impl FnOnce(&mut Hub, &mut dyn Sink) -> R) -> R {
        let mut hub = self.hub.borrow_mut();
        hub.now = super::ring::now(Instant::now());
        let mut alone = Alone { store: &self.store, queue: VecDeque::new() };
        let result = with(&mut hub, &mut alone);
        while let Some((answer, then)) = alone.queue.pop_front() {
            then(&mut hub, &mut alone, answer);
        }
        result
    }
}

impl Sink for Alone<'_> {
    fn outbox(&mut self, _: SessionId) -> Option<&mut Vec<u8>> {
        None
    }

    fn store(&mut self, changes: Vec<Change>, ask: Ask, then: Then) {
        let answer = self.store.ask(changes, ask);
        self.queue.push_back((answer, then));
    }

    fn taken(&mut self, _: SessionId, _: Taken) {}

    fn dial(&mut self, _: SessionId, _: u64) {}

    fn derive(&mut self, _: Password, _: Derived) {}

    fn bound(&mut self, _: u64, _: Result<(SessionId, &FullJid), stanza::Error>) {}

    fn revoke(&mut self, _: &str) {}

    fn close(&mut self, _: SessionId, _: stream::Error) {}
}
