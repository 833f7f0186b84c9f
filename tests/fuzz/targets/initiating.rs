//! The client's half of a stream under whatever bytes: it does not panic, believes no server that has
//! not shown that it knows the password, and shows the password to nobody but under TLS if allowed.
//!
//! The first byte picks the account and the connection, the second the size of the reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stonechat::jid::BareJid;
use stonechat::stream::{Account, Bindings, Failure, Initiating, Need, Policy, Secret, Security};
use stonechat::xml::{Flow, Reader, Scan};
use stonechat_fuzz::cut;

fn new_reader() -> Reader {
    Reader::new(10_240, 64)
}

struct World {
    initiating: Initiating,
    scan: Scan,
    said: Vec<u8>,
    /// Nothing that the server says can show that it is the one.
    unbelievable: bool,
    secured: bool,
    over: bool,
}

impl World {
    fn answer(&mut self, need: Need) -> Result<Option<Need>, Failure> {
        let World { initiating, said, .. } = self;
        match need {
            Need::StartTls => {
                assert!(!self.secured, "TLS twice");
                self.secured = true;
                initiating.secured(Bindings { exporter: Some([5; 32]), server_end_point: None });
                initiating.start(said);
                Ok(None)
            }
            // What nobody else can know.
            Need::Derive { password, iterations, sha, .. } => {
                assert_eq!(password.expose(), b"pencil");
                assert!((4096..=500_000).contains(&iterations));
                initiating.derived(&vec![0xA5; sha.size()], said)
            }
            Need::Register { .. } => initiating.login(Secret::new("pencil"), said),
            Need::Ready { jid, .. } => {
                assert!(!self.unbelievable, "ready as {jid} with a server that does not know the password");
                self.over = true;
                Ok(None)
            }
            Need::Resumed { .. } => unreachable!("nothing was lost"),
            Need::Closed => {
                self.over = true;
                Ok(None)
            }
        }
    }

    fn feed(&mut self, reader: &mut Reader, bytes: &[u8]) -> Result<(), Failure> {
        let mut part = bytes;
        while !self.over {
            let (mut need, mut restart) = (None, false);
            let World { initiating, scan, said, .. } = self;
            reader.feed::<Failure>(part, |kind, frame| {
                need = initiating.frame(kind, frame, scan, said)?;
                restart = initiating.restarts();
                Ok(if need.is_some() || restart { Flow::Stop } else { Flow::Go })
            })?;
            let (stopped, tls) = (need.is_some() || restart, matches!(need, Some(Need::StartTls)));
            if tls && !reader.is_blank() {
                self.over = true;
                return Ok(());
            }
            if tls {
                *reader = new_reader();
            }
            while let Some(one) = need {
                need = self.answer(one)?;
            }
            if restart || self.initiating.restarts() {
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
    let on = |bit: u8| choice >> bit & 1 == 1;
    let account = Account {
        jid: BareJid::parse("alice@hub.test").expect("an address"),
        resource: on(0).then(|| "r".into()),
        password: on(1).then(|| Secret::new("pencil")),
        register: on(2),
        tls: if on(3) { Policy::Never } else { Policy::Required },
        allow_plain: on(4),
        lang: None,
    };
    let security = match on(5) {
        true => Security::Tls { bindings: Bindings::default(), certificate: None },
        false => Security::Plain { starttls: false, required: false },
    };
    let knows = on(1) || on(2);
    let mut world = World {
        initiating: Initiating::new(account, security, [4; 32]),
        scan: Scan::new(),
        said: Vec::new(),
        unbelievable: knows && !on(4),
        secured: on(5),
        over: false,
    };
    world.initiating.start(&mut world.said);
    let mut reader = new_reader();
    let size = if size == b'0' { bytes.len() } else { usize::from(size % 64) + 1 };
    while !world.over && !bytes.is_empty() {
        let part = cut(&mut bytes, size);
        if let Err(failure) = world.feed(&mut reader, part) {
            assert!(!failure.to_string().contains(char::is_control), "{failure}");
            world.initiating.fail(&failure, &mut world.said);
            world.over = true;
        }
    }
    let said = String::from_utf8(world.said).expect("text");
    if !(on(4) && world.secured) {
        assert!(!said.contains("AGFsaWNlAHBlbmNpbA=="), "the password in the open");
    }
});
