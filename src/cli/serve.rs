//! `stonechat serve`: the hub.

use super::Local;
use super::exit::{Exit, Failure};
use super::federate;
use super::options::{self, Options};
use crate::hub::limits::fixed;
use crate::hub::{Hub, Names};
use crate::net::cert::{self, Identity};
use crate::net::listen::{self, Door};
use crate::net::reactor::{Reactor, Socket};
use crate::net::ring::{Shared, Stop};
use crate::net::{self, c2s::Mode, console, notify::Notify, tls::ServerTls};
use crate::store::{self, Store};
use crate::stream::{Condition, Settings};
use crate::xep;
use argh::{ArgsInfo, FromArgs};
use async_signal::Signal;
use smol::stream::StreamExt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

/// Run the hub: a chat server for the network you are in.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "serve",
    example = "Start with nothing but this, then add a user from another terminal:\n\n  stonechat serve\n  stonechat user add alice",
    example = "Other hubs with keys that a person has compared, and no others:\n\n  stonechat serve --s2s-trust pinned",
    example = "A domain of one's own, and people who come with an invitation:\n\n  stonechat serve --domain camp.local --registration invite",
    note = "Every option may stand in a file (--config FILE), one per line: domain camp.local",
    note = "SIGTERM and Ctrl-C end it, SIGHUP reads the file and the certificate again."
)]
#[cfg_attr(
    not(feature = "federation"),
    argh(
        note = "This build has no federation: options about other servers, --dns and --component are refused, and mDNS is not spoken."
    )
)]
pub struct Serve {
    /// directory for accounts, messages and keys (default: /var/lib/stonechat for root, else ~/.local/share/stonechat)
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
    /// domain of the accounts (default: the host's name under .local)
    #[argh(option, arg_name = "name")]
    domain: Option<String>,
    /// one more name for the domain; repeatable
    #[argh(option, arg_name = "name")]
    alias: Vec<String>,
    /// listener for clients with STARTTLS (default [::]:5222); repeatable
    #[argh(option, arg_name = "address:port")]
    c2s: Vec<String>,
    /// listener for clients with direct TLS (default [::]:5223); repeatable
    #[argh(option, arg_name = "address:port")]
    c2s_tls: Vec<String>,
    /// listener that does not require TLS, for devices that can't; repeatable
    #[argh(option, arg_name = "address:port")]
    c2s_plain: Vec<String>,
    /// listener for other servers with STARTTLS (default [::]:5269); repeatable
    #[argh(option, arg_name = "address:port")]
    s2s: Vec<String>,
    /// listener for other servers with direct TLS (default [::]:5270); repeatable
    #[argh(option, arg_name = "address:port")]
    s2s_tls: Vec<String>,
    /// least that proves another server: pinned (its key), ca (a certificate; default), dialback (its address)
    #[argh(option, arg_name = "how")]
    s2s_trust: Option<String>,
    /// authorities for other servers' certificates, PEM
    #[argh(option, arg_name = "file")]
    s2s_ca: Option<String>,
    /// name server to ask (default: the system's); repeatable
    #[argh(option, arg_name = "address:port")]
    dns: Vec<String>,
    /// other domain to speak to, and no further ones; repeatable
    #[argh(option, arg_name = "domain")]
    peer_allow: Vec<String>,
    /// other domain not to speak to; repeatable
    #[argh(option, arg_name = "domain")]
    peer_deny: Vec<String>,
    /// listener for HTTP (not in this version)
    #[argh(option, arg_name = "address:port")]
    http: Vec<String>,
    /// listener for components, as gateways are; repeatable
    #[argh(option, arg_name = "address:port")]
    component: Vec<String>,
    /// certificate chain of your own, PEM
    #[argh(option, arg_name = "file")]
    cert: Option<String>,
    /// its key, PEM
    #[argh(option, arg_name = "file")]
    key: Option<String>,
    /// who may make an account over the network: closed (default), invite, open
    #[argh(option, arg_name = "who")]
    registration: Option<String>,
    /// account with an operator's rights; repeatable
    #[argh(option, arg_name = "jid")]
    admin: Vec<String>,
    /// NAME=VALUE sets a limit, off lifts all rates and counts; repeatable
    #[argh(option, arg_name = "name=value")]
    limit: Vec<String>,
    /// file with options, one per line
    #[argh(option, arg_name = "file")]
    config: Option<String>,
    /// error, warn, info (default), debug, trace
    #[argh(option, arg_name = "level")]
    log: Option<String>,
    /// no default listeners for clients
    #[argh(switch)]
    no_c2s: bool,
    /// no federation
    #[argh(switch)]
    no_s2s: bool,
    /// no HTTP
    #[argh(switch)]
    no_http: bool,
    /// no announcement on the local network, and no search for other hubs there
    #[argh(switch)]
    no_mdns: bool,
    /// the authorities that this machine trusts count for other servers, too
    #[argh(switch)]
    s2s_public_roots: bool,
}

impl Serve {
    fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = Vec::new();
        let one = [
            ("config", &self.config),
            ("data", &self.data),
            ("domain", &self.domain),
            ("cert", &self.cert),
            ("key", &self.key),
            ("registration", &self.registration),
            ("s2s-trust", &self.s2s_trust),
            ("s2s-ca", &self.s2s_ca),
            ("log", &self.log),
        ];
        flags.extend(one.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        let switches = [
            ("no-c2s", self.no_c2s),
            ("no-s2s", self.no_s2s),
            ("no-http", self.no_http),
            ("no-mdns", self.no_mdns),
            ("s2s-public-roots", self.s2s_public_roots),
        ];
        flags.extend(switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, String::new())));
        let lists = [
            ("alias", &self.alias),
            ("c2s", &self.c2s),
            ("c2s-tls", &self.c2s_tls),
            ("c2s-plain", &self.c2s_plain),
            ("s2s", &self.s2s),
            ("s2s-tls", &self.s2s_tls),
            ("http", &self.http),
            ("component", &self.component),
            ("dns", &self.dns),
            ("peer-allow", &self.peer_allow),
            ("peer-deny", &self.peer_deny),
            ("admin", &self.admin),
            ("limit", &self.limit),
        ];
        for (name, values) in lists {
            flags.extend(values.iter().map(|value| (name, value.clone())));
        }
        flags
    }
}

impl Local for Serve {
    fn run(self) -> Result<Exit, Failure> {
        let started = Instant::now();
        let flags = self.flags();
        let mut options = options::read(&flags)?;
        super::log::start(options.log);
        if rustix::process::geteuid().is_root() {
            log::warn!("running as root; a user of its own is safer (systemd: User=stonechat)");
        }
        if options.unlimited {
            log::error!("--limit off: ALL RATE AND COUNT LIMITS ARE LIFTED; this is for load tests only");
        }
        leave_files(&mut options, file_limit());
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let store = Store::open(&options.data).map_err(|e| Failure::new(Exit::Io, e.to_string()))?;
        store.set_max_accounts(options.limits.accounts);
        let mut fresh = Fresh { store: &store, changes: Vec::new() };
        let names = names(&mut fresh, &options)?;
        let identity = identity(&options, &names)?;
        keep_keys(&mut fresh, &options.data)?;
        let secret = secret(&mut fresh)?;
        fresh.commit()?;
        let now = net::ring::now(started);
        let boot = u32::from_le_bytes(net::random());
        let mut hub = Hub::new(names.clone(), options.limits.clone(), xep::ALL, now, boot);
        let federation = federate::load(&store, &mut hub, &options, &identity)?;
        let settings = settings(&options, &hub, secret);
        let ask_clients = net::ring::certificates_in_use(&store);
        let tls =
            ServerTls::new(&identity, &["xmpp-client"], ask_clients.clone(), &net::tls::Clock::system())
                .map_err(|e| Failure::new(Exit::Tls, e.to_string()))?;
        let executor = Rc::new(smol::LocalExecutor::new());
        let waiting = |e: std::io::Error| Failure::new(Exit::Internal, format!("waiting for sockets: {e}"));
        let reactor = Reactor::new().map_err(waiting)?;
        let shared = Shared::new(
            hub,
            store,
            federation,
            tls,
            settings,
            ask_clients,
            &executor,
            reactor.clone(),
            started,
        );
        let main = run(shared, flags, options, names, identity, secret);
        // A task like all others: polled when it is woken, not at every turn.
        let main = executor.spawn(main);
        let turns = async {
            loop {
                for _ in 0..fixed::TASKS {
                    executor.tick().await;
                }
                smol::future::yield_now().await;
            }
        };
        let stop = reactor.run(smol::future::or(main, turns)).map_err(waiting)?;
        // With the executor go all tasks, and with the last of them the store, which writes what it
        // has put off and closes its files.
        drop(executor);
        let stop = stop?;
        Ok(match stop {
            Stop::Asked => Exit::Ok,
            Stop::Broken => Exit::Internal,
        })
    }
}

async fn run(
    shared: Rc<Shared>,
    flags: Vec<(&'static str, String)>,
    options: Options,
    names: Names,
    identity: Identity,
    secret: [u8; 32],
) -> Result<Stop, Failure> {
    // Before anybody is told that we are there: a SIGHUP without this would end us.
    let mut signals = async_signal::Signals::new([Signal::Term, Signal::Int, Signal::Hup])
        .map_err(|e| Failure::new(Exit::Io, format!("signals: {e}")))?;
    shared.spawn_vital(shared.clone().flush_for_ever());
    shared.spawn_vital(shared.clone().finish_for_ever());
    let mut lists: Vec<(Door, &[SocketAddr])> = vec![
        (Door::Clients(Mode::Starttls), &options.c2s),
        (Door::Clients(Mode::Direct), &options.c2s_tls),
        (Door::Clients(Mode::Plain), &options.c2s_plain),
    ];
    lists.extend(federate::listeners(&options).map(|(door, list)| (Door::Others(door), list)));
    let mut open = Vec::new();
    let asked = lists.iter().any(|(_, l)| l.iter().any(|a| !options.defaults.contains(a)));
    for (door, addresses) in lists {
        for address in addresses {
            let listener = match listener(*address, door) {
                Ok(listener) => listener,
                Err(why) if asked && options.defaults.contains(address) => {
                    let switch = if matches!(door, Door::Others(_)) { "--no-s2s" } else { "--no-c2s" };
                    log::warn!("{}; going on without it, {switch} leaves it out", why.line);
                    continue;
                }
                Err(why) => return Err(why),
            };
            let at = listener.local_addr().unwrap_or(*address);
            open.push((door, at));
            let listener = Socket::new(&shared.reactor, listener)
                .map_err(|e| Failure::new(Exit::Io, format!("listening on {at}: {e}")))?;
            shared.spawn_vital(listen::accept(shared.clone(), listener, door));
        }
    }
    let control = console::open(&options.data).map_err(|e| {
        Failure::new(Exit::Io, format!("{}: {e}", options.data.join(console::NAME).display()))
    })?;
    shared.spawn_vital(console::serve(shared.clone(), control));
    let announced = federate::start(&shared, &options, &names, &identity, &open).await?;
    greet(&names, &open, &identity, &options.data);
    let notify = Notify::from_env();
    notify.say("READY=1");
    log::info!(target: super::log::BARE, "ready");
    if let Some(period) = notify.watchdog {
        let (beat, reactor) = (Notify::from_env(), shared.reactor.clone());
        shared.spawn(async move {
            loop {
                beat.say("WATCHDOG=1");
                reactor.after(period).await;
            }
        });
    }
    let stop = wait(&shared, &mut signals, &flags, &options, &notify, secret).await?;
    notify.say("STOPPING=1");
    log::info!("stopping");
    announced.goodbye();
    close(&shared, &options.data).await;
    Ok(stop)
}

/// Signals, and a hub that gives up on itself.
async fn wait(
    shared: &Rc<Shared>,
    signals: &mut async_signal::Signals,
    flags: &[(&'static str, String)],
    started: &Options,
    notify: &Notify,
    secret: [u8; 32],
) -> Result<Stop, Failure> {
    loop {
        let signal = async { Ok(signals.next().await) };
        let broken = async { Err(shared.stop.1.recv().await.unwrap_or(Stop::Broken)) };
        match smol::future::or(signal, broken).await {
            Err(stop) => return Ok(stop),
            Ok(Some(Ok(Signal::Hup))) => {
                notify.say("RELOADING=1");
                match reload(shared, flags, started, secret) {
                    Ok(()) => log::info!("reloaded"),
                    // What was read in part is not used at all.
                    Err(why) => log::error!("reload: {}; all stays as it was", why.line),
                }
                notify.say("READY=1");
            }
            Ok(_) => return Ok(Stop::Asked),
        }
    }
}

fn reload(
    shared: &Rc<Shared>,
    flags: &[(&'static str, String)],
    started: &Options,
    secret: [u8; 32],
) -> Result<(), Failure> {
    let mut options = options::read(flags)?;
    for (name, same) in [
        ("data", options.data == started.data),
        ("domain", options.domain == started.domain),
        ("alias", options.aliases == started.aliases),
        ("c2s", options.c2s == started.c2s),
        ("c2s-tls", options.c2s_tls == started.c2s_tls),
        ("c2s-plain", options.c2s_plain == started.c2s_plain),
        ("no-s2s", options.federation == started.federation),
        ("s2s", options.s2s == started.s2s),
        ("s2s-tls", options.s2s_tls == started.s2s_tls),
        ("s2s-ca", options.s2s_ca == started.s2s_ca),
        ("s2s-public-roots", options.s2s_public_roots == started.s2s_public_roots),
        ("dns", options.dns == started.dns),
        ("no-mdns", options.mdns == started.mdns),
        ("component", options.component == started.component),
    ] {
        if !same {
            log::warn!("reload: a change of {name} takes a new start");
        }
    }
    options.data.clone_from(&started.data);
    options.federation = started.federation;
    leave_files(&mut options, file_limit());
    let names = shared.with_hub(|hub, _| hub.names.clone());
    let identity = identity(&options, &names)?;
    shared.tls.reload(&identity).map_err(|e| Failure::new(Exit::Tls, e.to_string()))?;
    federate::reload(shared, &options, &identity)?;
    shared.store.set_max_accounts(options.limits.accounts);
    let settings = shared.with_hub(|hub, _| settings(&options, hub, secret));
    shared.reload(options.limits.clone(), names, settings);
    log::set_max_level(options.log);
    Ok(())
}

/// Tells all clients, waits for them a little, and lets the store finish.
async fn close(shared: &Rc<Shared>, data: &Path) {
    let _ = std::fs::remove_file(data.join(console::NAME));
    shared.closing.set(true);
    for conn in shared.connected() {
        conn.kill(net::ring::end(Condition::SystemShutdown));
    }
    shared.end_hibernation();
    // A little more than they have, for what they did not take goes to the store then.
    let patience = std::time::Duration::from_secs(shared.limits().close_seconds.saturating_add(1));
    let quiet = async {
        while shared.connections.borrow().total > 0 {
            shared.reactor.after(std::time::Duration::from_millis(10)).await;
        }
    };
    smol::future::or(quiet, shared.reactor.after(patience)).await;
    // The store writes what it was given, in order, so this comes after everything.
    shared.ask(Vec::new(), store::change::Ask::Nothing).await;
}

fn listener(address: SocketAddr, door: Door) -> Result<std::net::TcpListener, Failure> {
    let opened = match listen::open(address) {
        // A machine without IPv6.
        Err(e)
            if address.ip().is_unspecified()
                && address.is_ipv6()
                && e.kind() != std::io::ErrorKind::AddrInUse =>
        {
            listen::open(SocketAddr::from(([0, 0, 0, 0], address.port())))
        }
        other => other,
    };
    opened.map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                let another = match door {
                    Door::Clients(Mode::Plain) => "choose another port with --c2s-plain",
                    Door::Clients(_) => "choose another port with --c2s or --c2s-tls",
                    Door::Others(door) => federate::another(door),
                };
                format!(": something else listens there; {another}")
            }
            std::io::ErrorKind::PermissionDenied => ": ports below 1024 need rights".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => ": this machine has no such address".to_owned(),
            _ => String::new(),
        };
        Failure::new(Exit::Io, format!("can't listen on {address}: {e}{hint}"))
    })
}

/// The domain is chosen once: accounts and rosters carry it. Until there is an account it may still be another.
fn names(store: &mut Fresh<'_>, options: &Options) -> Result<Names, Failure> {
    let kept = store.get("domain")?.map(|b| String::from_utf8_lossy(&b).into_owned());
    let machine = net::cert::Names::of_this_machine("");
    let nobody = || {
        store.store.ask(Vec::new(), store::change::Ask::Accounts)
            == store::change::Answer::Accounts(Vec::new())
    };
    let domain = match (&options.domain, kept) {
        (Some(said), Some(kept)) if *said != kept && nobody() => said.clone(),
        (Some(said), Some(kept)) if *said != kept => {
            return Err(Failure::usage(format!(
                "this data belongs to the domain {kept}, and its accounts carry that name; say --domain {kept}, or another --data"
            )));
        }
        (_, Some(kept)) => kept,
        (Some(said), None) => said.clone(),
        (None, None) => {
            let bare = machine.aliases.iter().find(|a| !a.contains('.'));
            format!("{}.local", bare.map_or("stonechat", |b| b.as_str()))
        }
    };
    store.put("domain", domain.as_bytes())?;
    let mut aliases: Vec<Box<str>> = options.aliases.iter().map(|a| a.as_str().into()).collect();
    let own = machine.aliases.iter().cloned().chain(["localhost".to_owned()]);
    let addresses = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = addresses.iter().filter_map(|a| match a.ip() {
        std::net::IpAddr::V4(v4) => Some(v4.to_string()),
        std::net::IpAddr::V6(v6) if v6.is_unicast_link_local() => None,
        std::net::IpAddr::V6(v6) => Some(format!("[{v6}]")),
    });
    for alias in own.chain(addresses) {
        if alias != domain && !aliases.iter().any(|a| **a == *alias) {
            aliases.push(alias.into());
        }
    }
    Ok(Names { domain: domain.into(), aliases })
}

fn identity(options: &Options, names: &Names) -> Result<Identity, Failure> {
    let tls = |e: cert::Failed| Failure::new(Exit::Tls, e.to_string());
    if let Some((cert, key)) = &options.cert {
        let (identity, warnings) = cert::from_files(cert, key, &names.domain).map_err(tls)?;
        warnings.iter().for_each(|w| log::warn!("{w}"));
        return Ok(identity);
    }
    let names = cert::Names {
        domain: names.domain.to_string(),
        aliases: names.aliases.iter().map(|a| a.to_string()).collect(),
    };
    cert::Authority::open_or_create(&options.data, &names).map_err(tls)
}

/// What the salts of accounts that do not exist are made from; as old as the data, or they would tell.
fn secret(store: &mut Fresh<'_>) -> Result<[u8; 32], Failure> {
    if let Some(kept) = store.get("secret")?
        && let Ok(secret) = <[u8; 32]>::try_from(&*kept)
    {
        return Ok(secret);
    }
    let secret = net::random();
    store.put("secret", &secret)?;
    Ok(secret)
}

/// Small named values of the store; what is new is written in one commit.
struct Fresh<'s> {
    store: &'s Store,
    changes: Vec<store::change::Change>,
}

impl Fresh<'_> {
    fn get(&self, name: &str) -> Result<Option<Box<[u8]>>, Failure> {
        self.store.meta_get(name).map_err(|e| Failure::new(Exit::Io, e.to_string()))
    }

    fn put(&mut self, name: &str, value: &[u8]) -> Result<(), Failure> {
        if self.get(name)?.is_none_or(|kept| *kept != *value) {
            self.changes.push(store::change::Change::NamedPut { name: name.into(), value: value.into() });
        }
        Ok(())
    }

    fn commit(self) -> Result<(), Failure> {
        if self.changes.is_empty() {
            return Ok(());
        }
        match self.store.ask(self.changes, store::change::Ask::Nothing) {
            store::change::Answer::Failed(why) => Err(Failure::new(Exit::Io, why)),
            _ => Ok(()),
        }
    }
}

/// The authority's files go into the data, so that a backup has them: a restored hub that made new
/// ones would break every pin.
fn keep_keys(store: &mut Fresh<'_>, data: &Path) -> Result<(), Failure> {
    for name in cert::FILES {
        if let Ok(bytes) = std::fs::read(data.join(name)) {
            store.put(name, &bytes)?;
        }
    }
    Ok(())
}

fn settings(options: &Options, hub: &Hub, secret: [u8; 32]) -> Settings {
    Settings {
        domain: hub.names.domain.clone(),
        aliases: hub.names.aliases.clone(),
        registration: options.registration,
        extra_features: hub.stream_features(),
        early_features: Vec::new(),
        max_bytes_early: options.limits.early_bytes as usize,
        max_bytes: options.limits.stanza_bytes as usize,
        idle_seconds: 0,
        login_tries: u8::try_from(options.limits.login_tries).unwrap_or(u8::MAX),
        secret,
        iterations: net::desk::ITERATIONS,
    }
}

/// Each connection is a file; the system's default is made for shells. How many there can be.
fn file_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Clients do not get all files: the store, the log, a reload and the operator need theirs (threat A14).
fn leave_files(options: &mut Options, files: u64) {
    const OURS: u64 = 40;
    let most = files.saturating_sub(OURS).max(files / 2);
    if options.limits.connections > most {
        options.limits.connections = most;
        log::debug!("no more than {most} connections: the limit of open files is {files}");
    }
}

/// What a person needs on the first evening.
fn greet(names: &Names, open: &[(Door, SocketAddr)], identity: &Identity, data: &Path) {
    let domain = &names.domain;
    let mut out = std::io::stdout().lock();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("Stonechat {} serves {domain}", env!("CARGO_PKG_VERSION")));
    line(format!("  address      NAME@{domain}"));
    for (door, at) in open {
        let how = match door {
            Door::Clients(Mode::Starttls) => "STARTTLS",
            Door::Clients(Mode::Direct) => "direct TLS",
            Door::Clients(Mode::Plain) => "TLS NOT REQUIRED",
            Door::Others(door) => federate::what(*door),
        };
        line(format!("  listens      {at} ({how})"));
    }
    let mut hosts: Vec<&str> = names.aliases.iter().map(|a| &**a).filter(|a| *a != "localhost").collect();
    hosts.truncate(6);
    line(format!("  host names   {domain} {}", hosts.join(" ")));
    line(format!("  fingerprint  SHA-256 {}", identity.fingerprint()));
    line(format!("  key          --pin {}", identity.pin()));
    line(format!(
        "  CA           {} (clients that check certificates want this file)",
        data.join("ca.pem").display()
    ));
    line(String::new());
    line("Next: stonechat user add NAME".to_owned());
    let _ = out.flush();
}
