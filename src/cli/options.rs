//! The hub's options: as flags, and with the same names one per line in a file (`#` comments), as
//! mosquitto.conf does it.

use super::exit::{Exit, Failure};
use crate::hub::limits::Limits;
use crate::stream::Registration;
use crate::stream::trust::Rung;
use std::net::{IpAddr, SocketAddr};
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
    /// Whether there is federation at all.
    pub federation: bool,
    /// Listeners for other servers, STARTTLS.
    pub s2s: Vec<SocketAddr>,
    /// Listeners for other servers, direct TLS (XEP-0368).
    pub s2s_tls: Vec<SocketAddr>,
    /// The lowest rung of trust that another server must reach.
    pub s2s_trust: Rung,
    /// Authorities for other servers' certificates, PEM, besides those of `s2s_public_roots`.
    pub s2s_ca: Option<PathBuf>,
    /// Whether the authorities that this machine trusts count for other servers.
    pub s2s_public_roots: bool,
    /// Name servers; empty: those of the system.
    pub dns: Vec<SocketAddr>,
    /// Listeners for components (XEP-0114).
    pub component: Vec<SocketAddr>,
    /// If there are any, only these remote domains are spoken to.
    pub peer_allow: Vec<String>,
    /// These remote domains are not spoken to.
    pub peer_deny: Vec<String>,
    /// Whether the hub announces itself on the local network, and looks for others (RFC 6762).
    pub mdns: bool,
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
const LISTS: &[&str] = &[
    "c2s",
    "c2s-tls",
    "c2s-plain",
    "s2s",
    "s2s-tls",
    "http",
    "component",
    "dns",
    "peer-allow",
    "peer-deny",
    "alias",
    "admin",
    "limit",
];
/// Names without a value.
const SWITCHES: &[&str] = &["no-c2s", "no-s2s", "no-http", "no-mdns", "s2s-public-roots"];
/// Names with one value.
const SINGLE: &[&str] =
    &["data", "domain", "cert", "key", "registration", "s2s-trust", "s2s-ca", "config", "log"];

/// Names that mean nothing without federation.
const FEDERATION: &[&str] = &[
    "s2s",
    "s2s-tls",
    "s2s-trust",
    "s2s-ca",
    "s2s-public-roots",
    "dns",
    "peer-allow",
    "peer-deny",
    "component",
];

/// What `build/stonechat.service` names.
const SERVICE: &str = "/etc/stonechat.conf";

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

/// Where the hub that runs as this machine's service has its data, for root's commands: its file may say another
/// place than the usual one.
pub fn data_of_service() -> PathBuf {
    let said = if rustix::process::geteuid().is_root() { read_file(Path::new(SERVICE)).ok() } else { None };
    let data = said.into_iter().flatten().find(|s| s.name == "data").map(|s| s.value);
    data.filter(|data| !data.is_empty()).map_or_else(default_data, PathBuf::from)
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
        defaults: vec![any(5222), any(5223), any(5269), any(5270)],
        c2s_tls: vec![any(5223)],
        c2s_plain: Vec::new(),
        federation: cfg!(feature = "federation"),
        s2s: vec![any(5269)],
        s2s_tls: vec![any(5270)],
        s2s_trust: Rung::Ca,
        s2s_ca: None,
        s2s_public_roots: false,
        dns: Vec::new(),
        component: Vec::new(),
        peer_allow: Vec::new(),
        peer_deny: Vec::new(),
        mdns: true,
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
        if !cfg!(feature = "federation") && FEDERATION.contains(&name.as_str()) {
            return Err(wrong(
                place,
                &format!("this build has no federation: leave {name} out, or take the usual build"),
            ));
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
        let domain = || match crate::jid::domainpart(value) {
            Ok(domain) => Ok(domain.into_owned()),
            Err(e) => Err(bad(e.to_string())),
        };
        match name.as_str() {
            "data" => options.data = value.into(),
            "domain" => options.domain = Some(domain()?),
            "alias" => options.aliases.push(domain()?),
            "c2s" => listener(&mut options.c2s)?,
            "c2s-tls" => listener(&mut options.c2s_tls)?,
            "c2s-plain" => listener(&mut options.c2s_plain)?,
            "s2s" => listener(&mut options.s2s)?,
            "s2s-tls" => listener(&mut options.s2s_tls)?,
            "component" => listener(&mut options.component)?,
            "http" => {
                return Err(wrong(place, "this version has no http listener yet; leave the option out"));
            }
            "s2s-trust" => {
                options.s2s_trust =
                    value.parse().map_err(|_| bad("it is pinned, ca or dialback".to_owned()))?
            }
            "s2s-ca" => options.s2s_ca = Some(value.into()),
            "s2s-public-roots" => options.s2s_public_roots = true,
            "dns" => options.dns.push(name_server(value).map_err(&bad)?),
            "peer-allow" => options.peer_allow.push(domain()?),
            "peer-deny" => options.peer_deny.push(domain()?),
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
            "no-s2s" => options.federation = false,
            "no-mdns" => options.mdns = false,
            // What these switch off is not there yet, or is the command line's business.
            _ => {}
        }
        replaced.push(name);
    }
    // Wherever it stands: `--no-s2s` goes over what a file says.
    if !options.federation {
        options.s2s.clear();
        options.s2s_tls.clear();
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

/// An address with the usual port if it has none.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    let address = match text.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, 53),
        Err(_) => text.parse().map_err(|_| "a name server is ADDRESS or ADDRESS:PORT".to_owned())?,
    };
    if address.port() == 0 { Err("0 is no port".to_owned()) } else { Ok(address) }
}

fn example(name: &str) -> &'static str {
    match name {
        "data" => "data /var/lib/stonechat",
        "domain" => "domain kitchen.local",
        "alias" => "alias 192.168.1.5",
        "c2s" => "c2s 0.0.0.0:5222",
        "c2s-tls" => "c2s-tls 0.0.0.0:5223",
        "c2s-plain" => "c2s-plain 127.0.0.1:5224",
        "s2s" => "s2s 0.0.0.0:5269",
        "s2s-tls" => "s2s-tls 0.0.0.0:5270",
        "s2s-trust" => "s2s-trust pinned",
        "s2s-ca" => "s2s-ca /etc/stonechat/others.pem",
        "s2s-public-roots" => "s2s-public-roots",
        "dns" => "dns 192.168.1.1:53",
        "peer-allow" => "peer-allow boat.local",
        "peer-deny" => "peer-deny spam.example",
        "http" => "http 0.0.0.0:5280",
        "component" => "component 127.0.0.1:5347",
        "cert" => "cert /etc/stonechat/cert.pem",
        "key" => "key /etc/stonechat/key.pem",
        "registration" => "registration invite",
        "admin" => "admin alice@kitchen.local",
        "limit" => "limit offline-messages=500",
        "log" => "log info",
        "no-c2s" | "no-s2s" | "no-http" | "no-mdns" => "no-s2s",
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

    fn refuses(lines: &[(&str, &str, &str)]) {
        for (name, value, wanted) in lines {
            let line = said(&[("log", "info"), (name, value)]).unwrap_err().line;
            assert!(line.starts_with("f line 2: ") && line.contains(wanted), "{name} {value}: {line}");
        }
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
        refuses(&[
            ("domian", "x", "did you mean domain?"),
            ("c2s", "here", "c2s 0.0.0.0:5222"),
            ("registration", "maybe", "closed, invite or open"),
            ("limit", "nonsense=1", "stonechat limits"),
            ("limit", "connections=many", "no number"),
            ("log", "loud", "debug"),
            ("no-c2s", "yes", "stands alone"),
            ("domain", "", "domain kitchen.local"),
            ("http", "0.0.0.0:5280", "leave the option out"),
            ("s2s-trsut", "ca", "did you mean s2s-trust?"),
        ]);
    }

    #[test]
    #[cfg(feature = "federation")]
    fn a_wrong_line_about_other_servers_does_too() {
        refuses(&[
            ("s2s", "5269", "s2s 0.0.0.0:5269"),
            ("s2s-tls", "here:5270", "s2s-tls 0.0.0.0:5270"),
            ("s2s-trust", "anybody", "pinned, ca or dialback; for example: s2s-trust pinned"),
            ("s2s-public-roots", "yes", "stands alone"),
            ("dns", "ns.example", "ADDRESS or ADDRESS:PORT; for example: dns 192.168.1.1:53"),
            ("dns", "10.0.0.1:0", "no port"),
            ("component", "", "component 127.0.0.1:5347"),
            ("peer-allow", "a b", "peer-allow boat.local"),
            ("peer-deny", "", "peer-deny spam.example"),
        ]);
    }

    #[test]
    #[cfg(not(feature = "federation"))]
    fn what_wants_federation_is_refused_and_what_wants_none_is_not() {
        for name in FEDERATION {
            refuses(&[(name, "x", "this build has no federation")]);
        }
        let o = said(&[("no-s2s", ""), ("no-mdns", "")]).unwrap();
        assert!(!o.federation && o.s2s.is_empty() && o.s2s_tls.is_empty());
        assert!(!said(&[]).unwrap().federation);
    }

    #[test]
    fn every_name_is_a_flag_and_has_an_example() {
        use argh::ArgsInfo;
        let names = || LISTS.iter().chain(SWITCHES).chain(SINGLE).copied();
        let mut flags: Vec<&str> = crate::cli::serve::Serve::get_args_info()
            .flags
            .iter()
            .map(|flag| flag.long.trim_start_matches("--"))
            .filter(|flag| *flag != "help")
            .collect();
        let mut known: Vec<&str> = names().collect();
        flags.sort_unstable();
        known.sort_unstable();
        assert_eq!(flags, known);
        for name in names().filter(|name| !name.starts_with("no-")) {
            assert!(example(name).split(' ').next() == Some(name), "{name}: {}", example(name));
        }
    }

    #[test]
    #[cfg(feature = "federation")]
    fn federation_is_on_until_it_is_switched_off() {
        let o = said(&[]).unwrap();
        let ports = |list: &[SocketAddr]| list.iter().map(|a| a.port()).collect::<Vec<_>>();
        assert_eq!((ports(&o.s2s), ports(&o.s2s_tls)), (vec![5269], vec![5270]));
        assert!(o.s2s.iter().chain(&o.s2s_tls).all(|a| o.defaults.contains(a)), "these may be missing");
        assert_eq!((o.federation, o.mdns, o.s2s_trust, o.s2s_public_roots), (true, true, Rung::Ca, false));
        assert!(o.component.is_empty() && o.dns.is_empty() && o.s2s_ca.is_none());

        let o = said(&[
            ("s2s", "127.0.0.9:1"),
            ("s2s-trust", "dialback"),
            ("s2s-ca", "/ca.pem"),
            ("s2s-public-roots", ""),
            ("dns", "127.0.0.9"),
            ("dns", "[::1]:5353"),
            ("dns", "::2"),
            ("component", "localhost:5347"),
            ("peer-allow", "Boat.local"),
            ("peer-deny", "spam.example"),
            ("no-mdns", ""),
        ])
        .unwrap();
        assert_eq!(o.s2s, ["127.0.0.9:1".parse().unwrap()]);
        assert_eq!((o.s2s_trust, o.s2s_public_roots, o.mdns), (Rung::Dialback, true, false));
        assert_eq!(o.s2s_ca, Some("/ca.pem".into()));
        assert_eq!(o.dns, ["127.0.0.9:53", "[::1]:5353", "[::2]:53"].map(|a| a.parse().unwrap()));
        assert_eq!(o.component, ["127.0.0.1:5347".parse().unwrap()]);
        assert_eq!((o.peer_allow, o.peer_deny), (vec!["boat.local".into()], vec!["spam.example".into()]));

        let o = said(&[("no-s2s", ""), ("s2s", "127.0.0.9:1"), ("component", "127.0.0.1:2")]).unwrap();
        assert!(!o.federation && o.s2s.is_empty() && o.s2s_tls.is_empty());
        assert_eq!(o.component.len(), 1, "a component is no federation");
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
