//! Both halves against each other, in memory, all bytes at once and one at a time; and each against what a
//! hostile other side may say.

mod hostile;
mod pairing;
mod talk;

use super::*;
use crate::jid::Domain;
use crate::stream::error::{Condition as Stream, Error};
use crate::stream::pairing::{Event, Hub, Window};
use crate::stream::trust::{Ladder, Rung, Trusted, climb};
use crate::xml::{Caps, Flow, Kind, Reader, Scan};
use std::rc::Rc;
use std::time::Duration;

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// A server of one domain and a component.
fn settings(name: &'static str) -> Rc<Settings> {
    Rc::new(Settings {
        domain: domain(name),
        ours: Rc::new(move |d| d == name || d.strip_prefix("irc.") == Some(name)),
        dialback: true,
        keys: Keys::new(name.as_bytes()),
        manage: true,
        max_bytes_early: 10_000,
        max_bytes: 262_144,
        idle_seconds: 60,
        pairs: 4,
        calls: 2,
        tries: 2,
    })
}

/// What somebody thinks of a domain's certificate.
type Judge = Rc<dyn Fn(&str) -> Rung>;
fn all(rung: Option<Rung>) -> Judge {
    Rc::new(move |_| rung.unwrap())
}

fn judge(rung: Rung, dialback: bool) -> Result<Trusted, crate::stream::trust::Distrust> {
    let lowest = if dialback { Rung::Dialback } else { Rung::Ca };
    let pin = (rung == Rung::Pinned).then_some([1; 32]);
    climb(&Ladder { lowest, pin }, Some([1; 32]), || match rung {
        Rung::Dialback => Err("unknown issuer".to_owned()),
        _ => Ok(()),
    })
}

/// Either half.
enum Half {
    In(Receiving),
    Out(Initiating),
}

/// A half and all that it needs.
struct End {
    half: Half,
    reader: Reader,
    scan: Scan,
    judge: Judge,
    dialback: bool,
    vouch: bool,
    tls: bool,
    log: Vec<String>,
    calls: Vec<Callback>,
    ready: Option<Ready>,
    /// The open pairing, and what its people see; with whom.
    pairing: Option<(Window, Hub, Option<Event>)>,
    /// What it ended with.
    end: Option<String>,
}

impl End {
    fn of(half: Half, judge: Judge) -> End {
        End {
            half,
            reader: Reader::new(262_144, 64),
            scan: Scan::new(),
            judge,
            dialback: true,
            vouch: false,
            tls: false,
            log: Vec::new(),
            calls: Vec::new(),
            ready: None,
            pairing: None,
            end: None,
        }
    }

    fn receiving(rung: Rung) -> End {
        End::of(Half::In(Receiving::new(settings("b.test"), [5; 32])), all(Some(rung)))
    }

    fn initiating(rung: Rung, task: Task) -> End {
        let wanted = Wanted { local: domain("a.test"), remote: domain("b.test"), task };
        End::of(Half::Out(Initiating::new(settings("a.test"), wanted)), all(Some(rung)))
    }

    /// One that is open, and waits for whatever a server may say inside of TLS.
    fn open(rung: Rung) -> End {
        let mut end = End::receiving(rung);
        end.secured(&mut Vec::new());
        end.say(HEADER);
        end
    }

    fn secured(&mut self, out: &mut Vec<u8>) {
        self.tls = true;
        self.reader = Reader::new(262_144, 64);
        match &mut self.half {
            Half::In(half) => half.secured(),
            Half::Out(half) => {
                let judgement = judge((self.judge)("b.test"), self.dialback);
                if let Err(failure) = half.secured(judgement, out) {
                    half.fail(&failure, out);
                    self.end = Some(failure.to_string());
                }
            }
        }
    }

    fn start(&mut self, direct: bool) -> String {
        let mut out = Vec::new();
        match direct {
            true => self.secured(&mut out),
            false => match &mut self.half {
                Half::Out(half) => half.start(&mut out),
                Half::In(_) => {}
            },
        }
        String::from_utf8(out).unwrap()
    }

    fn say(&mut self, text: &str) -> String {
        self.feed(text.as_bytes())
    }

    fn feed(&mut self, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        let mut bytes = bytes;
        while self.end.is_none() {
            let (mut ask, mut stopped) = (Ok(None), false);
            let (half, scan) = (&mut self.half, &mut self.scan);
            let fed = self.reader.feed(bytes, |kind, frame| {
                ask = take(half, kind, frame, scan, &mut out);
                stopped = true;
                Ok::<_, Error>(Flow::Stop)
            });
            bytes = &[];
            let mut next = fed.map_err(Failure::Broken).and(ask);
            while let Ok(Some(ask)) = next {
                next = self.answer(ask, &mut out);
            }
            if let Err(failure) = next {
                match (&mut self.half, &failure) {
                    (Half::In(half), Failure::Broken(error)) => half.fail(error, &mut out),
                    (Half::In(_), _) => panic!("{failure}"),
                    (Half::Out(half), _) => half.fail(&failure, &mut out),
                }
                self.end = Some(failure.to_string());
            }
            let restarts = match &mut self.half {
                Half::In(half) => half.restarts(),
                Half::Out(half) => half.restarts(),
            };
            if restarts {
                self.reader.restart();
            }
            if !stopped {
                break;
            }
        }
        String::from_utf8(out).unwrap()
    }

    fn answer(&mut self, ask: Ask, out: &mut Vec<u8>) -> Result<Option<Ask>, Failure> {
        match ask {
            Ask::StartTls => {
                assert!(self.reader.is_blank());
                self.secured(out);
            }
            Ask::Judge { remote } => {
                let judgement = judge((self.judge)(remote.as_str()), self.dialback);
                return match &mut self.half {
                    Half::In(half) => Ok(half.judged(judgement, out)?),
                    Half::Out(half) => half.judged(judgement, out),
                };
            }
            Ask::Vouch { local, remote, id } => {
                self.log.push(format!("vouch {local} {remote} {id}"));
                match &mut self.half {
                    Half::In(half) => half.vouched(self.vouch, out),
                    Half::Out(half) => half.vouched(self.vouch, out),
                }
            }
            Ask::Verify(call) => self.calls.push(call),
            Ask::Proven(p) => self.log.push(format!("proven {} {} {:?}", p.local(), p.remote(), p.how())),
            Ask::Stanza(p) => self.log.push(format!("stanza {} {}", p.local(), p.remote())),
            Ask::Dropped => self.log.push("dropped".into()),
            Ask::Managed => self.log.push("managed".into()),
            Ask::Request => self.log.push("r".into()),
            Ask::Acknowledged(n) => self.log.push(format!("a {n}")),
            Ask::Refused => self.log.push("refused".into()),
            Ask::Pair => {
                let (window, peer, _) = self.pairing.as_mut().unwrap();
                window.initiate(Duration::ZERO, 1, peer).unwrap().write(out);
            }
            Ask::Pairing(word) => match &mut self.pairing {
                Some((window, peer, event)) => {
                    let heard = window.hear(Duration::ZERO, 1, peer, &word);
                    heard.reply.iter().for_each(|reply| reply.write(out));
                    *event = heard.event.or(event.take());
                }
                None => crate::stream::pairing::closed().write(out),
            },
            Ask::Ready(ready) => self.ready = Some(ready),
            Ask::Answer(verdict) => self.end = Some(format!("{verdict:?}")),
            Ask::Closed => self.end = Some("closed".into()),
        }
        Ok(None)
    }

    fn verified(&mut self, verdict: Verdict) -> String {
        let call = self.calls.pop().unwrap();
        self.verified_of(&call.local, &call.remote, verdict)
    }

    fn verified_of(&mut self, local: &Domain, remote: &Domain, verdict: Verdict) -> String {
        let mut out = Vec::new();
        let next = match &mut self.half {
            Half::In(half) => half.verified(local, remote, verdict, &mut out).map_err(Failure::Broken),
            Half::Out(half) => half.verified(local, remote, verdict, &mut out),
        };
        match next {
            Ok(Some(ask)) => drop(self.answer(ask, &mut out).unwrap()),
            Ok(None) => {}
            Err(failure) => {
                if let (Half::In(half), Failure::Broken(error)) = (&mut self.half, &failure) {
                    half.fail(error, &mut out);
                }
                self.end = Some(failure.to_string());
            }
        }
        String::from_utf8(out).unwrap()
    }

    fn out(&self) -> &Initiating {
        match &self.half {
            Half::Out(half) => half,
            Half::In(_) => panic!("the wrong half"),
        }
    }
}

fn take(
    half: &mut Half,
    kind: Kind,
    frame: &[u8],
    scan: &mut Scan,
    out: &mut Vec<u8>,
) -> Result<Option<Ask>, Failure> {
    match half {
        Half::In(half) => Ok(half.frame(kind, frame, scan, &Caps::default(), out)?),
        Half::Out(half) => half.frame(kind, frame, scan, &Caps::default(), out),
    }
}

/// Lets the two talk until both are silent; with `thin`, bytes come one at a time. Gives all that was said.
fn talk(a: &mut End, b: &mut End, direct: bool, thin: bool) -> String {
    if direct {
        b.secured(&mut Vec::new());
    }
    let mut up = a.start(direct);
    let mut said = String::new();
    for _ in 0..30 {
        said += &up;
        let down = pass(b, &up, thin);
        said += &down;
        up = pass(a, &down, thin);
        if up.is_empty() {
            return said;
        }
    }
    panic!("they talk without end: {said}");
}

fn pass(to: &mut End, text: &str, thin: bool) -> String {
    match thin {
        true => text.bytes().map(|b| to.feed(&[b])).collect(),
        false => to.feed(text.as_bytes()),
    }
}

const LINK: Task = Task::Link { bidi: true };
const HEADER: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
    xmlns:db='jabber:server:dialback' from='a.test' to='b.test' version='1.0'>";
const ANSWER: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
    xmlns:db='jabber:server:dialback' from='b.test' to='a.test' id='one' version='1.0'>";
const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>";
