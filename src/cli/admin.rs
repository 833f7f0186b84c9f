//! The operator's commands: through the running hub if there is one, else on the data directly.

use super::Local;
use super::exit::{Exit, Failure};
use super::json;
use super::options;
use super::terminal::Out;
use crate::hub::limits;
use crate::net::client::wait::block_on;
use crate::net::console;
use crate::net::desk::Desk;
use crate::store::Store;
use argh::{ArgsInfo, FromArgs};
use std::io::{IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) fn data(said: Option<String>) -> PathBuf {
    said.map_or_else(options::data_of_service, PathBuf::from)
}

/// On a hub's data root works as the user whose it is: what is written is that user's, and nothing that lies there can
/// lead root astray.
fn as_owner(data: &Path) -> Result<(), Failure> {
    use rustix::{fs::Gid, fs::Uid, thread};
    let Ok(found) = std::fs::metadata(data) else { return Ok(()) };
    if !rustix::process::geteuid().is_root() || found.uid() == 0 {
        return Ok(());
    }
    // Of this thread; all others are yet to come.
    thread::set_thread_groups(&[])
        .and_then(|()| thread::set_thread_gid(Gid::from_raw(found.gid())))
        .and_then(|()| thread::set_thread_uid(Uid::from_raw(found.uid())))
        .map_err(|e| {
            let why =
                format!("{} belongs to user {}, and becoming that user: {e}", data.display(), found.uid());
            Failure::new(Exit::Io, why)
        })
}

/// Has an order carried out. `domain`: what a data directory that has none yet is for.
pub(super) fn order(data: &Path, domain: Option<&str>, words: &[&str]) -> Result<String, Failure> {
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    let other = |line: String| Failure::new(Exit::Other, line);
    if let Some(reply) = console::order(data, &words) {
        return match reply {
            Ok(outcome) => outcome.map_err(other),
            Err(e) => {
                Err(Failure::new(Exit::Io, format!("the hub on {} does not answer: {e}", data.display())))
            }
        };
    }
    if domain.is_none() && !data.join("accounts.redb").exists() {
        return Err(Failure::new(
            Exit::Other,
            format!(
                "there is no hub's data in {}; start one with stonechat serve, or say --data DIR",
                data.display()
            ),
        ));
    }
    let io = |e: crate::store::Failed| Failure::new(Exit::Io, e.to_string());
    as_owner(data)?;
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let store = Store::open(data).map_err(io)?;
    let domain = match (store.meta_get("domain").map_err(io)?, domain) {
        (Some(kept), _) => String::from_utf8_lossy(&kept).into_owned(),
        (None, Some(said)) => {
            let domain =
                crate::jid::domainpart(said).map_err(|e| Failure::usage(format!("{said:?}: {e}")))?;
            store.meta_put("domain", domain.as_bytes()).map_err(io)?;
            domain.into_owned()
        }
        (None, None) => {
            let or =
                if words.first().is_some_and(|word| word == "user") { ", or say NAME@DOMAIN" } else { "" };
            return Err(other(format!("the data has no domain yet; start the hub once{or}")));
        }
    };
    block_on(Desk::of_data(store, &domain).carry_out(&words)).map_err(other)
}

pub(super) fn say(text: &str) -> Result<Exit, Failure> {
    Out::new(false).line(text)?;
    Ok(Exit::Ok)
}

/// Manage the hub's accounts.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "user",
    example = "stonechat user add alice\n  stonechat user list\n  echo secret | stonechat user passwd alice --password-stdin\n  stonechat user remove alice",
    note = "Works while the hub runs and when it does not."
)]
pub struct User {
    #[argh(subcommand)]
    what: UserWhat,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum UserWhat {
    Add(Add),
    List(List),
    Passwd(Passwd),
    Remove(Remove),
    Certificate(Certificate),
}

/// Make an account.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "add")]
struct Add {
    /// name, or name@domain
    #[argh(positional)]
    jid: String,
    /// read the password from standard input
    #[argh(switch)]
    password_stdin: bool,
    /// read the password from a file
    #[argh(option, arg_name = "file")]
    password_file: Option<String>,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// List the accounts.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list")]
struct List {
    /// one JSON object a line
    #[argh(switch, short = 'j')]
    json: bool,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// Set an account's password; what the old one opened is closed.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "passwd")]
struct Passwd {
    /// name, or name@domain
    #[argh(positional)]
    jid: String,
    /// read the password from standard input
    #[argh(switch)]
    password_stdin: bool,
    /// read the password from a file
    #[argh(option, arg_name = "file")]
    password_file: Option<String>,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// Remove an account and all that is kept for it.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "remove")]
struct Remove {
    /// name, or name@domain
    #[argh(positional)]
    jid: String,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

/// Let a client certificate log in as an account (SASL EXTERNAL), or no longer.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "certificate")]
struct Certificate {
    /// name, or name@domain
    #[argh(positional)]
    jid: String,
    /// certificate (PEM file), or its key's pin: sha256:…
    #[argh(positional)]
    certificate: String,
    /// take the right back
    #[argh(switch)]
    remove: bool,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

impl Local for User {
    fn run(self) -> Result<Exit, Failure> {
        match self.what {
            UserWhat::Add(a) => {
                let password = password(a.password_stdin, a.password_file.as_deref(), &a.jid)?;
                let domain = a.jid.split_once('@').map(|(_, d)| d);
                say(&order(&data(a.data), domain, &["user", "add", &a.jid, &password])?)
            }
            UserWhat::List(l) => {
                let table = order(&data(l.data), None, &["user", "list"])?;
                let out = Out::new(false);
                for line in table.lines() {
                    let mut words = line.split('\t');
                    let (jid, sessions, created) = (
                        words.next().unwrap_or(""),
                        words.next().unwrap_or("0"),
                        words.next().unwrap_or("0"),
                    );
                    if l.json {
                        let mut object = json::Object::new();
                        object.text("jid", jid).raw("sessions", sessions).raw("created", created);
                        out.line(&object.end())?;
                    } else {
                        let online = if sessions == "0" { "" } else { "  online" };
                        out.line(&format!("{jid}{online}"))?;
                    }
                }
                Ok(Exit::Ok)
            }
            UserWhat::Passwd(p) => {
                let password = password(p.password_stdin, p.password_file.as_deref(), &p.jid)?;
                say(&order(&data(p.data), None, &["user", "passwd", &p.jid, &password])?)
            }
            UserWhat::Remove(r) => say(&order(&data(r.data), None, &["user", "remove", &r.jid])?),
            UserWhat::Certificate(c) => {
                let pin = if c.certificate.starts_with("sha256:") {
                    c.certificate.clone()
                } else {
                    crate::net::cert::pin_of_file(Path::new(&c.certificate))
                        .map_err(|e| Failure::new(Exit::Io, e.to_string()))?
                };
                let verb = if c.remove { "remove" } else { "add" };
                say(&order(&data(c.data), None, &["user", "certificate", &c.jid, &pin, verb])?)
            }
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").to_owned()
}

/// The first line of standard input; what is behind it does not count.
pub(super) fn line_of_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(8192).read_to_string(&mut text);
    read.map_err(|e| Failure::io("standard input", &e))?;
    Ok(first_line(&text))
}

/// From standard input, a file, or a person.
fn password(stdin: bool, file: Option<&str>, jid: &str) -> Result<String, Failure> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).map_err(|e| Failure::io(file, &e))?;
        return Ok(first_line(&text));
    }
    if stdin || !std::io::stdin().is_terminal() {
        return line_of_stdin();
    }
    let ask = |question: &str| {
        super::account::prompt(question)?.ok_or_else(|| {
            Failure::usage("there is no terminal to ask on; use --password-stdin or --password-file")
        })
    };
    let once = ask(&format!("Password for {jid}: "))?;
    let twice = ask("Again: ")?;
    if once.expose() != twice.expose() {
        return Err(Failure::usage("the two are not the same; nothing was changed"));
    }
    Ok(once.expose_str().to_owned())
}

/// Show how the hub is doing.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "status",
    example = "stonechat status --json",
    note = "Without a running hub it shows what the data tells."
)]
pub struct Status {
    /// one JSON object
    #[argh(switch, short = 'j')]
    json: bool,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

impl Local for Status {
    fn run(self) -> Result<Exit, Failure> {
        let table = order(&data(self.data), None, &["status"])?;
        let out = Out::new(false);
        let mut object = json::Object::new();
        for (name, value) in table.lines().filter_map(|l| l.split_once('\t')) {
            if self.json {
                match value {
                    "true" | "false" => object.raw(name, value),
                    v if v.parse::<u64>().is_ok() => object.raw(name, v),
                    v => object.text(name, v),
                };
            } else {
                out.line(&format!("{:<20} {}", label(name), human(name, value)))?;
            }
        }
        if self.json {
            out.line(&object.end())?;
        }
        Ok(Exit::Ok)
    }
}

/// The unit is in the value.
fn label(name: &str) -> String {
    name.trim_end_matches("_bytes").trim_end_matches("_seconds").replace('_', " ")
}

/// So many of that unit, with one digit behind the point.
fn tenths(n: u64, unit: u64) -> String {
    let tenths = (u128::from(n) * 10 + u128::from(unit / 2)) / u128::from(unit);
    format!("{}.{}", tenths / 10, tenths % 10)
}

pub(super) fn human(name: &str, value: &str) -> String {
    let Ok(n) = value.parse::<u64>() else { return value.to_owned() };
    if name.ends_with("_bytes") || name.starts_with("bytes_") {
        return match n {
            0..1024 => format!("{n} bytes"),
            1024..1_048_576 => format!("{} KiB", tenths(n, 1024)),
            _ => format!("{} MiB", tenths(n, 1_048_576)),
        };
    }
    if name.ends_with("_seconds") {
        return humantime::format_duration(std::time::Duration::from_secs(n)).to_string();
    }
    value.to_owned()
}

/// Set the running hub's log level.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "log",
    example = "stonechat log debug",
    note = "Lasts until the hub is started again or reloaded."
)]
pub struct Log {
    /// error, warn, info, debug or trace
    #[argh(positional)]
    level: String,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

impl Local for Log {
    fn run(self) -> Result<Exit, Failure> {
        let data = data(self.data);
        match console::order(&data, &["log".to_owned(), self.level]) {
            Some(Ok(Ok(text))) => say(&text),
            Some(Ok(Err(line))) => Err(Failure::usage(line)),
            Some(Err(e)) => Err(Failure::io("the hub", &e)),
            None => Err(Failure::new(Exit::Other, format!("no hub is running on {}", data.display()))),
        }
    }
}

/// Invite somebody: prints a link and a QR code that admit one registration.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "invite",
    example = "stonechat invite\n  stonechat invite alice --days 2",
    note = "The hub must run with --registration invite (or open) for it to be taken."
)]
pub struct Invite {
    /// the name that the account will have; anything if left out
    #[argh(positional)]
    name: Option<String>,
    /// how long it is good (7)
    #[argh(option, default = "7", arg_name = "n")]
    days: u32,
    /// the link only, without the QR code
    #[argh(switch)]
    no_qr: bool,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

impl Local for Invite {
    fn run(self) -> Result<Exit, Failure> {
        let days = self.days.to_string();
        let name = self.name.unwrap_or_default();
        let uri = order(&data(self.data), None, &["invite", &days, &name])?;
        let (uri, warning) = uri.split_once('\n').unwrap_or((&uri, ""));
        if !warning.is_empty() {
            super::terminal::complain(warning);
        }
        let out = Out::new(false);
        if !self.no_qr {
            out.line(&qr(uri, std::io::stdout().is_terminal()))?;
        }
        out.line(uri)?;
        Ok(Exit::Ok)
    }
}

/// Two rows of modules to a line of half blocks. On a terminal dark on light, whatever its colours
/// are; elsewhere without colours, made for light on dark.
pub(super) fn qr(text: &str, colours: bool) -> String {
    let Ok(code) = qrcodegen::QrCode::encode_text(text, qrcodegen::QrCodeEcc::Low) else {
        return String::new();
    };
    let (size, quiet) = (code.size(), 2);
    let (start, end) = if colours { ("\x1b[30;47m", "\x1b[0m\n") } else { ("", "\n") };
    let ink = |x, y| code.get_module(x, y) == colours;
    let mut out = String::new();
    for y in (-quiet..size + quiet).step_by(2) {
        out.push_str(start);
        for x in -quiet..size + quiet {
            out.push(match (ink(x, y), ink(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        out.push_str(end);
    }
    out
}

/// Copy all that the hub keeps into one file, while it runs.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "backup",
    example = "stonechat backup hub.backup",
    note = "To have it back: stonechat restore hub.backup --data NEWDIR",
    note = "The file holds everybody's messages and login keys: keep it as you would keep the hub."
)]
pub struct Backup {
    /// the file; it must not exist yet
    #[argh(positional)]
    file: String,
    /// the hub's data directory
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

impl Local for Backup {
    fn run(self) -> Result<Exit, Failure> {
        let data = data(self.data);
        let file = std::path::absolute(&self.file).map_err(|e| Failure::io(&self.file, &e))?;
        say(&order(&data, None, &["backup", &file.to_string_lossy()])?)
    }
}

/// Make a data directory from a backup.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "restore",
    example = "stonechat restore hub.backup --data /var/lib/stonechat",
    note = "The directory must not hold a hub's data yet."
)]
pub struct Restore {
    /// the file that stonechat backup has made
    #[argh(positional)]
    file: String,
    /// the data directory to make
    #[argh(option, arg_name = "dir")]
    data: Option<String>,
}

impl Local for Restore {
    fn run(self) -> Result<Exit, Failure> {
        let data = data(self.data);
        let io = |e: crate::store::Failed| Failure::new(Exit::Io, e.to_string());
        as_owner(&data)?;
        crate::store::restore(Path::new(&self.file), &data).map_err(io)?;
        // The authority's files, so that pins last.
        let store = Store::open(&data).map_err(io)?;
        for name in crate::net::cert::FILES {
            if let Some(bytes) = store.meta_get(name).map_err(io)? {
                crate::net::cert::write_file(&data.join(name), &bytes)
                    .map_err(|e| Failure::new(Exit::Io, e.to_string()))?;
            }
        }
        say(&format!("{} holds what was in {}: stonechat serve --data {0}", data.display(), self.file))
    }
}

/// List the limits: names, defaults, reasons.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "limits",
    example = "stonechat limits\n  stonechat serve --limit offline-messages=200",
    note = "--limit off lifts all of sort count."
)]
pub struct Limits {
    /// one JSON object a line
    #[argh(switch, short = 'j')]
    json: bool,
}

impl Local for Limits {
    fn run(self) -> Result<Exit, Failure> {
        let out = Out::new(false);
        for (name, default, sort, unit, why) in limits::TABLE {
            let name = name.replace('_', "-");
            let sort = if *sort == limits::Sort::Size { "size" } else { "count" };
            if self.json {
                let mut object = json::Object::new();
                object.text("name", &name).raw("default", &default.to_string());
                object.text("unit", unit).text("sort", sort).text("reason", why);
                out.line(&object.end())?;
            } else {
                out.line(&format!("{name:<24} {default:>9} {unit:<12} {sort:<6} {why}"))?;
            }
        }
        Ok(Exit::Ok)
    }
}

/// List the extensions that the hub has.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "xeps", example = "stonechat xeps", note = "The README has the same table.")]
pub struct Xeps {}

impl Local for Xeps {
    fn run(self) -> Result<Exit, Failure> {
        say(crate::xep::table().trim_end())
    }
}
