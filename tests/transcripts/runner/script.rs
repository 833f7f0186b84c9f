//! Reads a transcript and plays it.

use crate::connection::Beneath;
use crate::pattern::{self, Captured};
use crate::world::World;
use std::time::Duration;
use stonechat::jid::FullJid;
use stonechat::store::change::Subscription;

/// A client's usual header, and the hub's answer to it.
const HEADERS: (&str, &str) = (
    "<stream:stream to='hub.test' version='1.0' xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams'>",
    "<stream:stream id='*' from='hub.test' version='1.0' xml:lang='en' xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams'>",
);

/// A line with its number; lines that go on with it are part of it.
type Line = (usize, String);

fn lines(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim_end();
        match lines.last_mut() {
            _ if line.is_empty() || line.starts_with('#') => {}
            Some((_, before)) if line.starts_with(char::is_whitespace) => {
                before.push('\n');
                before.push_str(line.trim_start());
            }
            _ => lines.push((i + 1, line.to_owned())),
        }
    }
    lines
}

/// Plays a transcript: where and how it goes wrong.
pub fn run(text: &str, thin: bool) -> Result<(), (usize, String)> {
    let mut script = Script { world: World::new(thin), captured: Captured::new(), iqs: 0 };
    script.captured.insert("stanzas".into(), "urn:ietf:params:xml:ns:xmpp-stanzas".into());
    let mut last = 0;
    for (number, line) in lines(text) {
        script.line(&line).map_err(|why| (number, why))?;
        last = number;
    }
    for name in script.world.names() {
        script.nothing(&name).map_err(|why| (last + 1, format!("at the end: {why}")))?;
    }
    Ok(())
}

struct Script {
    world: World,
    captured: Captured,
    /// Requests made for `online`.
    iqs: u32,
}

type Outcome = Result<(), String>;

/// A client's name is one word of letters and digits.
fn client(line: &str, mark: char) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(mark)?;
    let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then_some((name, rest.trim()))
}

impl Script {
    fn line(&mut self, line: &str) -> Outcome {
        if let Some((name, what)) = client(line, ':') {
            return self.says(name, what);
        }
        if let Some((name, what)) = client(line, '>') {
            return self.gets(name, what);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let world = &mut self.world;
        match words[..] {
            ["account", local] => world.create(local, "pencil"),
            ["account", local, "password", password] => world.create(local, password),
            ["contacts", one, other, how] => {
                let subscription = match how {
                    "both" => Subscription::Both,
                    "to" => Subscription::To,
                    "from" => Subscription::From,
                    _ => return Err("both, to or from".into()),
                };
                world.acquaint(one, other, subscription)
            }
            ["remove", local] => world.remove(local),
            ["limit", name, value] => {
                let value = value.parse().map_err(|_| "a limit is a number")?;
                if world.hub.limits.set(name, value) { Ok(()) } else { Err("no such limit".into()) }
            }
            ["alias", name] => world.alias(name),
            ["registration", how] => world.registration(how),
            ["certificate", local] => world.certificate(local),
            ["connect", name] => world.connect(name, Beneath::Plain),
            ["connect", name, beneath] => world.connect(name, Beneath::parse(beneath)?),
            ["login", name, jid, ref rest @ ..] => self.login(name, jid, rest),
            ["online", name, jid] => self.online(name, jid, 0),
            ["online", name, jid, "priority", n] => {
                self.online(name, jid, n.parse().map_err(|_| "a priority is a number")?)
            }
            ["wait", time] => {
                let time: Duration =
                    time.parse::<humantime::Duration>().map_err(|e| format!("{time}: {e}"))?.into();
                world.pass(time);
                Ok(())
            }
            ["delay", "store"] => {
                world.allowed = Some(0);
                Ok(())
            }
            ["release", "store"] => {
                world.allowed = None;
                world.settle();
                Ok(())
            }
            ["release", "store", jobs] => {
                world.allowed = Some(jobs.parse().map_err(|_| "how many jobs?")?);
                world.settle();
                Ok(())
            }
            ["break", "store"] => {
                world.broken = true;
                Ok(())
            }
            ["mend", "store"] => {
                world.broken = false;
                Ok(())
            }
            ["stall", name] => world.stall(name, Some(0)),
            ["stall", name, bytes] => {
                let bytes = bytes.parse().map_err(|_| "how many bytes?")?;
                world.stall(name, Some(bytes))
            }
            ["resume", name] => world.stall(name, None),
            ["restart"] => {
                world.restart();
                Ok(())
            }
            _ => Err(format!("what does this mean: {line}")),
        }
    }

    fn says(&mut self, name: &str, what: &str) -> Outcome {
        match what {
            "open" => self.world.feed(name, HEADERS.0.as_bytes()),
            "close" => self.world.feed(name, b"</stream:stream>"),
            "cut" => self.world.cut(name),
            _ => {
                let what = pattern::fill(what, &self.captured);
                match what.strip_prefix("bytes ") {
                    Some(bytes) => self.world.feed(name, &unescape(bytes)?),
                    None => self.world.feed(name, what.as_bytes()),
                }
            }
        }
    }

    fn gets(&mut self, name: &str, what: &str) -> Outcome {
        let what = &*pattern::fill(what, &self.captured);
        let inbox = self.world.inbox(name)?;
        match what {
            "nothing" => self.nothing(name),
            "open" => self.gets(name, HEADERS.1),
            "..." => {
                inbox.clear();
                Ok(())
            }
            "cut" => self.next(name, "the end of the connection", |got, _| end(got == "(cut)")),
            "</stream:stream>" => self.next(name, what, |got, _| end(got == what)),
            "closed" => {
                self.next(name, "</stream:stream>", |got, _| end(got == "</stream:stream>"))?;
                self.next(name, "the end of the connection", |got, _| end(got == "(cut)"))
            }
            _ => match what.strip_prefix("closed ") {
                Some(condition) => {
                    let name_of = condition.trim_start_matches('<').trim_end_matches("/>").trim();
                    let error = format!(
                        "<stream:error><{name_of} xmlns='urn:ietf:params:xml:ns:xmpp-streams'>...</{name_of}>...</stream:error>"
                    );
                    self.next(name, &error, |got, captured| pattern::compare(&error, got, captured))?;
                    self.gets(name, "closed")
                }
                None => self.next(name, what, |got, captured| pattern::compare(what, got, captured)),
            },
        }
    }

    fn next(
        &mut self,
        name: &str,
        expected: &str,
        check: impl FnOnce(&str, &mut Captured) -> Outcome,
    ) -> Outcome {
        let inbox = self.world.inbox(name)?;
        let Some(got) = inbox.pop_front() else {
            return Err(format!("expected: {expected}\n     got: nothing"));
        };
        check(&got, &mut self.captured).map_err(|why| {
            let more: String = self
                .world
                .inbox(name)
                .into_iter()
                .flatten()
                .map(|more| format!("\n    then: {more}"))
                .collect();
            format!("expected: {expected}\n     got: {got}{more}\n     why: {why}")
        })
    }

    fn nothing(&mut self, name: &str) -> Outcome {
        let inbox = self.world.inbox(name)?;
        if inbox.is_empty() {
            return Ok(());
        }
        let all: Vec<String> = inbox.iter().map(|got| format!("\n     got: {got}")).collect();
        Err(format!("expected: nothing more for {name}{}", all.concat()))
    }

    fn login(&mut self, name: &str, jid: &str, rest: &[&str]) -> Outcome {
        let (mut beneath, mut via, mut password, mut refused) = (Beneath::Plain, None, "pencil", None);
        let mut words = rest.iter();
        while let Some(word) = words.next() {
            let mut next = || words.next().copied().ok_or(format!("{word} what?"));
            match *word {
                "via" => via = Some(next()?),
                "password" => password = next()?,
                "refused" => refused = Some(next()?),
                _ => beneath = Beneath::parse(word)?,
            }
        }
        let outcome = self.world.login(name, jid, beneath, via, password);
        match (outcome, refused) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(_)) => Err(format!("{name} is let in")),
            (Err(failure), Some(condition)) if failure.contains(condition) => Ok(()),
            (Err(failure), _) => Err(failure),
        }
    }

    fn online(&mut self, name: &str, jid: &str, priority: i8) -> Outcome {
        FullJid::parse(jid).map_err(|_| "online needs a full address")?;
        self.login(name, jid, &[])?;
        self.iqs += 1;
        let id = format!("online-{}", self.iqs);
        let roster = format!("<iq type='get' id='{id}'><query xmlns='jabber:iq:roster'/></iq>");
        self.world.feed(name, roster.as_bytes())?;
        let presence = match priority {
            0 => "<presence/>".to_owned(),
            n => format!("<presence><priority>{n}</priority></presence>"),
        };
        self.world.feed(name, presence.as_bytes())?;
        self.gets(name, "...")
    }
}

fn end(held: bool) -> Outcome {
    if held { Ok(()) } else { Err("something else".into()) }
}

/// `\xNN` is a byte.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut parts = text.split("\\x");
    let mut out = parts.next().unwrap_or("").as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).ok_or("\\x needs two digits")?;
        out.push(u8::from_str_radix(digits, 16).map_err(|_| "\\x needs two digits")?);
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    Ok(out)
}
