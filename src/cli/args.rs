//! The command line before argh sees it.
//!
//! argh reads neither `--name=value` nor bundled short switches (`-lv`), and has no options that
//! several commands share. So the words are put in order here first, by what argh itself says
//! about each command, and the shared options are taken out and read on their own.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind};

/// The words of one command line, sorted.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Sorted {
    /// For the command itself.
    pub own: Vec<String>,
    /// Options that every command of the client takes.
    pub shared: Vec<String>,
}

/// Sorts the words that follow the command's name.
pub fn sort(
    words: &[String],
    own: &CommandInfoWithArgs,
    shared: Option<&CommandInfoWithArgs>,
) -> Result<Sorted, String> {
    let mut sorted = Sorted::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            sorted.own.push(word.clone());
            sorted.own.extend(words.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let name = format!("--{name}");
            let Some((takes_value, is_shared)) = find(own, shared, |f| f.long == name) else {
                sorted.own.push(name);
                sorted.own.extend(value.map(str::to_owned));
                continue;
            };
            let to = if is_shared { &mut sorted.shared } else { &mut sorted.own };
            match (takes_value, value) {
                (false, Some(_)) => return Err(format!("{name} takes no value")),
                (false, None) => to.push(name),
                (true, Some(value)) => to.extend([name, value.to_owned()]),
                (true, None) => {
                    let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
                    to.extend([name, value.clone()]);
                }
            }
        } else if let Some(shorts) = word.strip_prefix('-').filter(|s| !s.is_empty()) {
            let mut letters = shorts.chars();
            while let Some(letter) = letters.next() {
                let name = format!("-{letter}");
                let Some((takes_value, is_shared)) = find(own, shared, |f| f.short == Some(letter)) else {
                    return Err(format!("there is no option {name} (in {word:?}); see --help"));
                };
                let to = if is_shared { &mut sorted.shared } else { &mut sorted.own };
                to.push(name);
                if takes_value {
                    let rest = letters.as_str();
                    if rest.is_empty() {
                        to.push(words.next().ok_or_else(|| format!("-{letter} needs a value"))?.clone());
                    } else {
                        to.push(rest.strip_prefix('=').unwrap_or(rest).to_owned());
                    }
                    break;
                }
            }
        } else {
            sorted.own.push(word.clone());
        }
    }
    Ok(sorted)
}

/// Whether the option takes a value, and whether it is a shared one.
fn find(
    own: &CommandInfoWithArgs,
    shared: Option<&CommandInfoWithArgs>,
    is: impl Fn(&FlagInfo<'static>) -> bool + Copy,
) -> Option<(bool, bool)> {
    let takes_value = |flag: &FlagInfo<'_>| matches!(flag.kind, FlagInfoKind::Option { .. });
    if let Some(flag) = flag(own, is) {
        return Some((takes_value(flag), false));
    }
    let flag = shared?.flags.iter().find(|f| is(f))?;
    Some((takes_value(flag), true))
}

fn flag(
    info: &CommandInfoWithArgs,
    is: impl Fn(&FlagInfo<'static>) -> bool + Copy,
) -> Option<&FlagInfo<'static>> {
    let here = info.flags.iter().find(|f| is(f));
    here.or_else(|| info.commands.iter().find_map(|sub| flag(&sub.command, is)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use argh::{ArgsInfo, FromArgs};

    /// own
    #[derive(FromArgs, ArgsInfo)]
    #[allow(dead_code)]
    struct Own {
        /// m
        #[argh(option, short = 'm')]
        message: Option<String>,
        /// l
        #[argh(switch, short = 'l')]
        lines: bool,
        /// v
        #[argh(switch, short = 'v')]
        verbose: bool,
        /// to
        #[argh(positional)]
        to: Vec<String>,
    }

    /// shared
    #[derive(FromArgs, ArgsInfo)]
    #[allow(dead_code)]
    struct Shared {
        /// u
        #[argh(option, short = 'u')]
        user: Option<String>,
        /// j
        #[argh(switch, short = 'j')]
        json: bool,
    }

    fn sorted(words: &[&str]) -> Result<(String, String), String> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let sorted = sort(&words, &Own::get_args_info(), Some(&Shared::get_args_info()))?;
        Ok((sorted.own.join("|"), sorted.shared.join("|")))
    }

    #[test]
    fn every_spelling() {
        let table: &[(&[&str], &str, &str)] = &[
            (&["-u", "a@b", "to@x", "-m", "hi"], "to@x|-m|hi", "-u|a@b"),
            (&["--user=a@b", "--message=a=b"], "--message|a=b", "--user|a@b"),
            (&["-lvj"], "-l|-v", "-j"),
            (&["-lmtext"], "-l|-m|text", ""),
            (&["-m=text"], "-m|text", ""),
            (&["-m", "-u"], "-m|-u", ""),
            (&["-m", "--user=x"], "-m|--user=x", ""),
            (&["-m", ""], "-m|", ""),
            (&["--message="], "--message|", ""),
            (&["--", "-u", "--json"], "--|-u|--json", ""),
            (&["-", "--help"], "-|--help", ""),
            (&["--nonsense=1"], "--nonsense|1", ""),
        ];
        for (words, own, shared) in table {
            assert_eq!(sorted(words), Ok(((*own).to_owned(), (*shared).to_owned())), "{words:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(sorted(&["-m"]), Err("-m needs a value".into()));
        assert_eq!(sorted(&["-lm"]), Err("-m needs a value".into()));
        assert_eq!(sorted(&["--user"]), Err("--user needs a value".into()));
        assert_eq!(sorted(&["--json=yes"]), Err("--json takes no value".into()));
        assert_eq!(sorted(&["-lx"]), Err("there is no option -x (in \"-lx\"); see --help".into()));
    }
}
