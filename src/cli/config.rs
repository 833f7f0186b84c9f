//! The client's configuration file: one `name value` per line.
//!
//! `name: value` (go-sendxmpp's way) and `name = "value"` are read too; `#` begins a comment.
//! Names are those of the options, without the dashes.

use super::exit::{Exit, Failure};
use super::terminal::complain;
use std::path::{Path, PathBuf};

/// What a configuration file can say. Everything can also be said on the command line, which wins.
#[derive(Default)]
pub struct Config {
    /// The values, in the order of the file.
    values: Vec<(String, String)>,
    /// Where they came from, for complaints.
    path: PathBuf,
}

/// The names that mean something, and what go-sendxmpp and others call them.
const NAMES: &[(&str, &[&str])] = &[
    ("user", &["username", "jid"]),
    ("password", &[]),
    ("password-file", &["password_file"]),
    ("host", &["jserver", "server"]),
    ("port", &[]),
    ("resource", &[]),
    ("cafile", &[]),
    ("cert", &[]),
    ("key", &[]),
    ("pin", &[]),
    ("tofu", &[]),
    ("insecure", &["tls_no_verify"]),
    ("direct-tls", &["direct_tls", "directtls"]),
    ("starttls", &["start_tls"]),
    ("plaintext", &[]),
    ("no-srv", &["no_srv"]),
    ("timeout", &[]),
    ("keepalive", &[]),
    ("retry-connect", &["retry_connect"]),
    ("retry-connect-max", &["retry_connect_max"]),
    ("quiet", &[]),
    ("json", &[]),
];

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Config({})", self.path.display())
    }
}

impl Config {
    /// Reads the file that the command line names, or else the first that exists of
    /// `stonechat/client.conf`, `stonechat/client.toml` and `go-sendxmpp/config` in the
    /// user's configuration directory.
    pub fn find(named: Option<&str>, quiet: bool) -> Result<Config, Failure> {
        if let Some(path) = named {
            return Config::read(Path::new(path), quiet);
        }
        for path in places() {
            if path.is_file() {
                return Config::read(&path, quiet);
            }
        }
        Ok(Config::default())
    }

    fn read(path: &Path, quiet: bool) -> Result<Config, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::new(Exit::Io, format!("{}: {e}", path.display())))?;
        let config = Config::parse(&text, path)?;
        if config.get("password").is_some() {
            private(path, quiet);
        }
        Ok(config)
    }

    fn parse(text: &str, path: &Path) -> Result<Config, Failure> {
        let mut values = Vec::new();
        for (number, line) in (1u32..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || (line.starts_with('[') && line.ends_with(']')) {
                continue;
            }
            let end = line.find(|c: char| c == ':' || c == '=' || c.is_whitespace()).unwrap_or(line.len());
            let (name, rest) = line.split_at_checked(end).unwrap_or((line, ""));
            let rest = rest.trim_start();
            let value = rest.strip_prefix([':', '=']).unwrap_or(rest).trim();
            let value = unquote(value);
            let Some(name) = canonical(name) else {
                let known: Vec<&str> = NAMES.iter().map(|(n, _)| *n).collect();
                return Err(Failure::usage(format!(
                    "{} line {number}: there is no option {name:?}; there are {}",
                    path.display(),
                    known.join(", ")
                )));
            };
            values.push((name.to_owned(), value.to_owned()));
        }
        Ok(Config { values, path: path.to_owned() })
    }

    /// The last value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.get(name).map(|v| v.parse().map_err(|_| self.wrong(name, v, "a number"))).transpose()
    }

    /// A switch: there with no value, or with a yes.
    pub fn switch(&self, name: &str) -> Result<bool, Failure> {
        match self.get(name) {
            None | Some("false" | "no" | "off" | "0") => Ok(false),
            Some("" | "true" | "yes" | "on" | "1") => Ok(true),
            Some(v) => Err(self.wrong(name, v, "true or false")),
        }
    }

    fn wrong(&self, name: &str, value: &str, wanted: &str) -> Failure {
        Failure::usage(format!("{}: {name} is {value:?}, which is not {wanted}", self.path.display()))
    }
}

fn canonical(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(n, others)| *n == name || others.contains(&name)).map(|(n, _)| *n)
}

fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

fn places() -> Vec<PathBuf> {
    let Some(dir) = directory("XDG_CONFIG_HOME", ".config") else { return Vec::new() };
    ["stonechat/client.conf", "stonechat/client.toml", "go-sendxmpp/config"]
        .iter()
        .map(|p| dir.join(p))
        .collect()
}

/// A directory of the user's, by environment variable or else under the home directory.
pub fn directory(variable: &str, under_home: &str) -> Option<PathBuf> {
    match std::env::var_os(variable) {
        Some(dir) if Path::new(&dir).is_absolute() => Some(PathBuf::from(dir)),
        _ => std::env::var_os("HOME")
            .filter(|h| !h.is_empty())
            .map(|home| PathBuf::from(home).join(under_home)),
    }
}

/// Says so when others can read a file that holds a password.
pub fn private(path: &Path, quiet: bool) {
    use std::os::unix::fs::PermissionsExt as _;
    if quiet {
        return;
    }
    if let Ok(meta) = std::fs::metadata(path)
        && meta.is_file()
        && meta.permissions().mode() & 0o077 != 0
    {
        complain(&format!("warning: others can read {}; chmod 600 it", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Failure> {
        Config::parse(text, Path::new("client.conf"))
    }

    #[test]
    fn three_spellings() {
        let text = "# mine\nusername: me@example.org\npassword:  a b:c#d \njserver: h:5222\n\n\
                    port 5223\npin = \"sha256:AA\"\npin sha256:BB\ntofu\ninsecure false\n";
        let config = parse(text).expect("good file");
        assert_eq!(config.get("user"), Some("me@example.org"));
        assert_eq!(config.get("password"), Some("a b:c#d"));
        assert_eq!(config.get("host"), Some("h:5222"));
        assert_eq!(config.number::<u16>("port"), Ok(Some(5223)));
        assert_eq!(config.all("pin").collect::<Vec<_>>(), ["sha256:AA", "sha256:BB"]);
        assert_eq!(config.switch("tofu"), Ok(true));
        assert_eq!(config.switch("insecure"), Ok(false));
        assert_eq!(config.switch("quiet"), Ok(false));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let failure = parse("user me@x\npasword x\n").expect_err("no such name");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure.line.starts_with("client.conf line 2: there is no option \"pasword\"; there are user,")
        );
        let config = parse("port many\ntofu maybe").expect("readable");
        assert!(config.number::<u16>("port").is_err());
        assert!(config.switch("tofu").is_err());
    }
}
