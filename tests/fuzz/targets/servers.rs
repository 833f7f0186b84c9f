//! Both halves of a stream between servers under whatever bytes: they do not panic, and let no stanza pass for a
//! pair of domains that was not proven before; ours go nowhere before the other side was judged.
//!
//! The first byte picks the half and the answers, the second the size of the reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::rc::Rc;
use stonechat::jid::{Domain, Jid};
use stonechat::stream::peer::{
    Ask, Callback, Failure, Initiating, Keys, Receiving, Settings, Task, Verdict, Wanted,
};
use stonechat::stream::trust::{Distrust, Ladder, Rung, Trusted, climb};
use stonechat::xml::{Caps, Flow, Kind, Reader, Scan};
use stonechat_fuzz::cut;

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

fn settings() -> Rc<Settings> {
    Rc::new(Settings {
        domain: domain("b.test"),
        ours: Rc::new(|d| d == "b.test" || d == "irc.b.test"),
        dialback: true,
        keys: Keys::new(&[3; 32]),
        manage: true,
        max_bytes_early: 10_240,
        max_bytes: 262_144,
        idle_seconds: 60,
        pairs: 3,
        calls: 2,
        tries: 2,
    })
}

enum Half {
    In(Receiving),
    Out(Initiating),
}

struct World {
    half: Half,
    choice: u8,
    scan: Scan,
    said: Vec<u8>,
    /// Pairs that may speak: ours, theirs.
    proven: Vec<(Domain, Domain)>,
    /// Pairs that a key was confirmed for.
    confirmed: Vec<(Domain, Domain)>,
    secured: bool,
    over: bool,
}

impl World {
    fn on(&self, bit: u8) -> bool {
        self.choice >> bit & 1 == 1
    }

    /// What its certificate is worth: all for one domain, and for others nothing.
    fn judge(&self, remote: &Domain) -> Result<Trusted, Distrust> {
        let lowest = if self.on(1) { Rung::Dialback } else { Rung::Ca };
        climb(&Ladder { lowest, pin: None }, Some([1; 32]), || match remote.as_str() {
            "a.test" if self.on(2) => Ok(()),
            _ => Err("not good enough".to_owned()),
        })
    }

    fn may(&self, local: &Domain, remote: &Domain) -> bool {
        let judged = self.judge(remote).is_ok_and(Trusted::proven);
        let ours = (local.clone(), remote.clone());
        judged || self.confirmed.contains(&ours)
    }

    fn frame(&mut self, kind: Kind, frame: &[u8]) -> Result<Option<Ask>, Failure> {
        let World { half, scan, said, .. } = self;
        match half {
            Half::In(half) => Ok(half.frame(kind, frame, scan, &Caps::default(), said)?),
            Half::Out(half) => half.frame(kind, frame, scan, &Caps::default(), said),
        }
    }

    fn restarts(&mut self) -> bool {
        match &mut self.half {
            Half::In(half) => half.restarts(),
            Half::Out(half) => half.restarts(),
        }
    }

    fn secure(&mut self) -> Result<(), Failure> {
        assert!(!self.secured, "TLS twice");
        self.secured = true;
        let judgement = self.judge(&domain("a.test"));
        match &mut self.half {
            Half::In(half) => {
                half.secured();
                Ok(())
            }
            Half::Out(half) => half.secured(judgement, &mut self.said),
        }
    }

    fn verified(&mut self, call: &Callback) -> Result<Option<Ask>, Failure> {
        let verdict = if self.on(3) { Verdict::Valid } else { Verdict::Invalid };
        if verdict == Verdict::Valid {
            self.confirmed.push((call.local.clone(), call.remote.clone()));
        }
        match &mut self.half {
            Half::In(half) => Ok(half.verified(&call.local, &call.remote, verdict, &mut self.said)?),
            Half::Out(half) => half.verified(&call.local, &call.remote, verdict, &mut self.said),
        }
    }

    fn answer(&mut self, ask: Ask, frame: &[u8]) -> Result<Option<Ask>, Failure> {
        match ask {
            Ask::StartTls => self.secure()?,
            Ask::Judge { remote } => {
                assert!(self.secured, "nothing is judged before TLS");
                let judgement = self.judge(&remote);
                return match &mut self.half {
                    Half::In(half) => Ok(half.judged(judgement, &mut self.said)?),
                    Half::Out(half) => half.judged(judgement, &mut self.said),
                };
            }
            Ask::Vouch { local, .. } => {
                assert!(local.as_str().ends_with("b.test"));
                let ours = self.on(4);
                match &mut self.half {
                    Half::In(half) => half.vouched(ours, &mut self.said),
                    Half::Out(half) => half.vouched(ours, &mut self.said),
                }
            }
            Ask::Verify(call) => {
                assert!(self.on(1), "dialback is not allowed");
                return self.verified(&call);
            }
            Ask::Proven(pair) => {
                assert!(self.secured && self.may(pair.local(), pair.remote()), "not proven: {pair:?}");
                self.proven.push((pair.local().clone(), pair.remote().clone()));
            }
            Ask::Stanza(pair) => {
                let pair = (pair.local().clone(), pair.remote().clone());
                // Of a stream of ours the domain that was dialled may speak, if it was trusted.
                let dialled = matches!(self.half, Half::Out(_)) && pair == (domain("b.test"), domain("a.test"));
                assert!(self.proven.contains(&pair) || dialled, "{pair:?} was not proven");
                let text = std::str::from_utf8(frame).expect("text");
                let of = |name| self.scan.attr(text, name).map(stonechat::xml::unescape).expect("an address");
                let (from, to) = (of("from"), of("to"));
                assert_eq!(Jid::parse(&from).expect("an address").domain(), pair.1.as_str());
                // What is no address of ours the hub answers.
                if let Ok(to) = Jid::parse(&to) {
                    assert_eq!(to.domain(), pair.0.as_str());
                }
            }
            Ask::Ready(ready) => assert!(self.secured && self.judge(&domain("a.test")) == Ok(ready.how)),
            Ask::Answer(_) | Ask::Closed => self.over = true,
            _ => {}
        }
        Ok(None)
    }

    fn feed(&mut self, reader: &mut Reader, bytes: &[u8]) -> Result<(), Failure> {
        let mut part = bytes;
        while !self.over {
            let (mut ask, mut restart, mut kept) = (None, false, Vec::new());
            reader.feed::<Failure>(part, |kind, frame| {
                ask = self.frame(kind, frame)?;
                restart = self.restarts();
                kept = frame.to_vec();
                Ok(if ask.is_some() || restart { Flow::Stop } else { Flow::Go })
            })?;
            if matches!(ask, Some(Ask::StartTls)) {
                if !reader.is_blank() {
                    self.over = true;
                    return Ok(());
                }
                *reader = Reader::new(10_240, 64);
            }
            let stopped = ask.is_some() || restart;
            while let Some(one) = ask {
                ask = self.answer(one, &kept)?;
            }
            if restart {
                reader.restart();
            }
            if !stopped {
                return Ok(());
            }
            part = &[];
        }
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = data;
    let [choice] = *cut(&mut bytes, 1) else { return };
    let [size] = *cut(&mut bytes, 1) else { return };
    let task = match choice >> 6 & 1 == 1 {
        true => Task::Verify { id: "one".into(), key: "k".into() },
        false => Task::Link { bidi: choice >> 4 & 1 == 1 },
    };
    let half = match choice & 1 == 1 {
        true => Half::In(Receiving::new(settings(), [4; 32])),
        false => {
            let wanted = Wanted { local: domain("b.test"), remote: domain("a.test"), task };
            Half::Out(Initiating::new(settings(), wanted))
        }
    };
    let mut world = World {
        half,
        choice,
        scan: Scan::new(),
        said: Vec::new(),
        proven: Vec::new(),
        confirmed: Vec::new(),
        secured: false,
        over: false,
    };
    let mut begun = Ok(());
    if choice >> 5 & 1 == 1 {
        begun = world.secure();
    } else if let Half::Out(half) = &mut world.half {
        half.start(&mut world.said);
    }
    let mut reader = Reader::new(10_240, 64);
    let size = if size == b'0' { bytes.len() } else { usize::from(size % 64) + 1 };
    while !world.over && begun.is_ok() && !bytes.is_empty() {
        let part = cut(&mut bytes, size);
        begun = world.feed(&mut reader, part);
    }
    if let Err(failure) = begun {
        assert!(!failure.to_string().contains(char::is_control), "{failure}");
        match (&mut world.half, &failure) {
            (Half::In(half), Failure::Broken(error)) => half.fail(error, &mut world.said),
            (Half::In(_), _) => panic!("{failure}"),
            (Half::Out(half), _) => half.fail(&failure, &mut world.said),
        }
    }
    let said = String::from_utf8(world.said).expect("text");
    if !world.secured {
        for word in ["<auth", "<db:result from='b.test' to='a.test'>", "<bidi", "<enabled", "<success"] {
            assert!(!said.contains(word), "{word} in the clear");
        }
    }
});
