//! The hub's options: as flags, and with the same names one per line in a file (`#` comments), as
//! mosquitto.conf does it.

use super::exit::{Exit, Failure};
use crate::hub::limits::Limits;
use crate::stream::Registration;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What the hub runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// The domain, if it was said.
    pub domain: Option<String>,
    /// More names for it.
    pub aliases: Vec<String>,
    /// STARTTLS listeners.
    pub c2s: Vec<SocketAddr>,
    /// Listeners that nobody asked for by name: they may be missing, if others are there.
    pub defaults: Vec<SocketAddr>,
    /// Direct TLS listeners.
    pub c2s_tls: Vec<SocketAddr>,
    /// Listeners that do not require TLS.
    pub c2s_plain: Vec<SocketAddr>,
    /// A certificate and key of the operator's.
    pub cert: Option<(PathBuf, PathBuf)>,
    /// Who may make an account.
    pub registration: Registration,
    /// Accounts with rights (for later orders over XMPP).
    pub admins: Vec<String>,
    /// The bounds.
    pub limits: Limits,
    /// `--limit off` was said.
    pub unlimited: bool,
    /// Log level.
    pub log: log::LevelFilter,
}

/// One option from somewhere.
struct Said {
    name: String,
    value: String,
    /// `FILE line N`, or empty for a flag.
    place: String,
}

/// Names that may be given more than once.
const LISTS: &[&str] =
    &["c2s", "c2s-tls", "c2s-plain", "s2s", "s2s-tls", "http", "component", "alias", "admin", "limit"];
/// Names without a value.
const SWITCHES: &[&str] = &["no-c2s", "no-s2s", "no-http", "no-mdns"];
/// Names with one value.
const SINGLE: &[&str] = &["data", "domain", "cert", "key", "registration", "config", "log"];

/// Where the data goes if nobody says: what systemd gives, `/var/lib` for root, else the user's own.
pub fn default_data() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = var("STATE_DIRECTORY") {
        return dir;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/stonechat");
    }
    match (var("XDG_DATA_HOME"), var("HOME")) {
        (Some(data), _) => data.join("stonechat"),
        (None, Some(home)) => home.join(".local/share/stonechat"),
        (None, None) => PathBuf::from("stonechat-data"),
    }
}

/// Reads the file, if one is named, and puts the flags over it: a flag replaces what the file says
/// under the same name.
pub fn read(flags: &[(&str, String)]) -> Result<Options, Failure> {
    let mut said = Vec::new();
    if let Some((_, file)) = flags.iter().find(|(name, _)| *name == "config") {
        said = read_file(Path::new(file))?;
        said.retain(|s| s.name == "limit" || !flags.iter().any(|(name, _)| *name == s.name));
    }
    said.extend(flags.iter().map(|(name, value)| Said {
        name: (*name).into(),
        value: value.clone(),
        place: String::new(),
    }));
    build(&said)
}

fn read_file(path: &Path) -> Result<Vec<Said>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(Exit::Io, format!("--config {}: {e}", path.display())))?;
    let mut said = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = name.strip_prefix("--").unwrap_or(name);
        let place = format!("{} line {}", path.display(), number + 1);
        if name == "config" {
            return Err(wrong(&place, "a file can't name another file; put its lines here"));
        }
        said.push(Said { name: name.into(), value: value.trim().into(), place });
    }
    Ok(said)
}

fn wrong(place: &str, what: &str) -> Failure {
    Failure::usage(if place.is_empty() { what.to_owned() } else { format!("{place}: {what}") })
}

fn build(said: &[Said]) -> Result<Options, Failure> {
    let any = |port: u16| SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    let mut options = Options {
        data: default_data(),
        domain: None,
        aliases: Vec::new(),
        c2s: vec![any(5222)],
        defaults: vec![any(5222), any(5223)],
        c2s_tls: vec![any(5223)],
        c2s_plain: Vec::new(),
        cert: None,
        registration: Registration::Closed,
        admins: Vec::new(),
        limits: Limits::default(),
        unlimited: false,
        log: log::LevelFilter::Info,
    };
    let (mut cert, mut key) = (None, None);
    let mut replaced: Vec<&str> = Vec::new();
    for Said { name, value, place } in said {
        let switch = SWITCHES.contains(&name.as_str());
        let known = switch || LISTS.contains(&name.as_str()) || SINGLE.contains(&name.as_str());
        if !known {
            let hint = match name.split_once('=') {
                Some((name, value)) => format!("; write it with a space: {name} {value}"),
                None => nearest(name),
            };
            return Err(wrong(place, &format!("there is no option {name:?}{hint}")));
        }
        if !switch && value.is_empty() {
            return Err(wrong(place, &format!("{name} needs a value: {}", example(name))));
        }
        if switch && !matches!(value.as_str(), "" | "true") {
            return Err(wrong(place, &format!("{name} stands alone, without {value:?}")));
        }
        let bad =
            |why: String| wrong(place, &format!("{name} {value}: {why}; for example: {}", example(name)));
        let listener = |list: &mut Vec<SocketAddr>| {
            let address = address(value).map_err(&bad)?;
            if !replaced.contains(&name.as_str()) {
                list.clear();
            }
            list.push(address);
            Ok::<(), Failure>(())
        };
        match name.as_str() {
            "data" => options.data = value.into(),
            "domain" => {
                let domain = crate::jid::domainpart(value).map_err(|e| bad(e.to_string()))?;
                options.domain = Some(domain.into_owned());
            }
            "alias" => {
                let alias = crate::jid::domainpart(value).map_err(|e| bad(e.to_string()))?;
                options.aliases.push(alias.into_owned());
            }
            "c2s" => listener(&mut options.c2s)?,
            "c2s-tls" => listener(&mut options.c2s_tls)?,
            "c2s-plain" => listener(&mut options.c2s_plain)?,
            "s2s" | "s2s-tls" | "http" | "component" => {
                return Err(wrong(
                    place,
                    &format!("this version has no {name} listener yet; leave the option out"),
                ));
            }
            "cert" => cert = Some((PathBuf::from(value), place)),
            "key" => key = Some((PathBuf::from(value), place)),
            "registration" => {
                options.registration = match value.as_str() {
                    "closed" => Registration::Closed,
                    "invite" => Registration::Invite,
                    "open" => Registration::Open,
                    _ => return Err(bad("it is closed, invite or open".into())),
                }
            }
            "admin" => {
                let jid = crate::jid::BareJid::parse(value).map_err(|e| bad(e.to_string()))?;
                options.admins.push(jid.as_str().to_owned());
            }
            "limit" if value == "off" => {
                options.limits.lift();
                options.unlimited = true;
            }
            "limit" => {
                let (limit, number) =
                    value.split_once('=').ok_or_else(|| bad("it is NAME=VALUE or off".into()))?;
                let number = number.trim().parse().map_err(|_| bad(format!("{number:?} is no number")))?;
                if !options.limits.set(limit.trim(), number) {
                    return Err(bad(format!("there is no limit {limit:?}; stonechat limits lists them")));
                }
            }
            "log" => {
                options.log =
                    value.parse().map_err(|_| bad("it is error, warn, info, debug or trace".into()))?
            }
            "no-c2s" => {
                options.c2s.clear();
                options.c2s_tls.clear();
            }
            // What these switch off is not there yet, or is the command line's business.
            _ => {}
        }
        replaced.push(name);
    }
    options.cert = match (cert, key) {
        (Some((cert, _)), Some((key, _))) => Some((cert, key)),
        (None, None) => None,
        (Some((_, place)), None) => {
            return Err(wrong(place, "cert goes with key: the chain and its key, both PEM; add key FILE"));
        }
        (None, Some((_, place))) => {
            return Err(wrong(place, "key goes with cert: the chain and its key, both PEM; add cert FILE"));
        }
    };
    Ok(options)
}

/// `127.0.0.1:5222`, `[::]:5222`, and `localhost:5222` for convenience.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse().map_err(|_| "a listener is ADDRESS:PORT".to_owned())
}

fn example(name: &str) -> &'static str {
    match name {
        "data" => "data /var/lib/stonechat",
        "domain" => "domain kitchen.local",
        "alias" => "alias 192.168.1.5",
        "c2s" => "c2s 0.0.0.0:5222",
        "c2s-tls" => "c2s-tls 0.0.0.0:5223",
        "c2s-plain" => "c2s-plain 127.0.0.1:5224",
        "s2s" | "s2s-tls" => "s2s 0.0.0.0:5269",
        "http" => "http 0.0.0.0:5280",
        "component" => "component 127.0.0.1:5347",
        "cert" => "cert /etc/stonechat/cert.pem",
        "key" => "key /etc/stonechat/key.pem",
        "registration" => "registration invite",
        "admin" => "admin alice@kitchen.local",
        "limit" => "limit offline-messages=500",
        "log" => "log info",
        _ => "config /etc/stonechat.conf",
    }
}

/// The known name that is spelled most like this one.
fn nearest(name: &str) -> String {
    let all = LISTS.iter().chain(SWITCHES).chain(SINGLE);
    match all.map(|known| (distance(known, name), known)).min() {
        Some((d, best)) if d <= 2 => format!("; did you mean {best}? For example: {}", example(best)),
        _ => "; stonechat serve --help lists them".to_owned(),
    }
}

/// How many letters have to be put in, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(row.first_mut().unwrap_or(&mut 0), i + 1);
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let up = *cell;
            *cell = (corner + usize::from(x != y)).min(up + 1).min(left + 1);
            (corner, left) = (up, *cell);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[(&str, &str)]) -> Result<Options, Failure> {
        let said: Vec<Said> = lines
            .iter()
            .enumerate()
            .map(|(i, (n, v))| Said {
                name: (*n).into(),
                value: (*v).into(),
                place: format!("f line {}", i + 1),
            })
            .collect();
        build(&said)
    }

    #[test]
    fn a_listener_replaces_the_default_and_repeats() {
        let o = said(&[("c2s", "127.0.0.1:1"), ("c2s", "[::1]:2"), ("c2s-plain", "localhost:3")]).unwrap();
        assert_eq!(o.c2s.len(), 2);
        assert_eq!(o.c2s_tls.len(), 1);
        assert_eq!(o.c2s_plain, ["127.0.0.1:3".parse().unwrap()]);
    }

    #[test]
    fn a_wrong_line_names_the_place_and_what_would_be_right() {
        for (name, value, wanted) in [
            ("domian", "x", "did you mean domain?"),
            ("c2s", "here", "c2s 0.0.0.0:5222"),
            ("registration", "maybe", "closed, invite or open"),
            ("limit", "nonsense=1", "stonechat limits"),
            ("limit", "connections=many", "no number"),
            ("log", "loud", "debug"),
            ("no-c2s", "yes", "stands alone"),
            ("domain", "", "domain kitchen.local"),
            ("s2s", "0.0.0.0:5269", "leave the option out"),
        ] {
            let line = said(&[("log", "info"), (name, value)]).unwrap_err().line;
            assert!(line.starts_with("f line 2: ") && line.contains(wanted), "{name} {value}: {line}");
        }
    }

    #[test]
    fn flags_go_over_the_file() {
        let dir = std::env::temp_dir().join(format!("stonechat-options-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("hub.conf");
        std::fs::write(&file, "# a comment\n\ndomain kitchen.local\nc2s 127.0.0.1:1\nlimit accounts=7\n")
            .unwrap();
        let flags = [("config", file.display().to_string()), ("domain", "Camp.local".to_owned())];
        let o = read(&flags).unwrap();
        assert_eq!((o.domain.as_deref(), o.limits.accounts), (Some("camp.local"), 7));
        assert_eq!(o.c2s, ["127.0.0.1:1".parse().unwrap()]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn off_lifts_counts_and_never_the_caps_on_a_stanza() {
        let o = said(&[("limit", "off"), ("limit", "resources-per-account=3")]).unwrap();
        assert!(o.unlimited && o.limits.connections > 1_000_000);
        assert_eq!((o.limits.depth, o.limits.resources_per_account), (64, 3));
    }
}
