//! From a fresh connection to one that can send: accounts, SCRAM, resource binding; MQTT's CONNECT;
//! a relay's first line.

use crate::frame::{attr, has, mqtt_head, name, text};
use crate::net::{Net, Proto};
use crate::scram::{Kept, Scram};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    None,
    Starttls,
    Direct,
}

/// Who logs in where, and how.
pub struct Door {
    pub proto: Proto,
    pub address: SocketAddr,
    pub domain: String,
    /// Accounts are this and a number; the password is the name.
    pub users: String,
    pub tls: Tls,
    pub at_once: usize,
    /// Available once bound.
    pub presence: bool,
    /// Sessions of one account, each with a resource of its own.
    pub per_account: usize,
    pub kept: RefCell<Kept>,
    /// Another server: users from this number on log in there.
    pub far: Option<(usize, SocketAddr, String)>,
}

#[derive(PartialEq, Eq)]
enum Step {
    New,
    Busy,
    Ready,
    Failed,
}

/// One user.
pub struct User {
    pub name: String,
    resource: String,
    /// The full address, once bound.
    pub jid: String,
    step: Step,
    scram: Option<Scram>,
    encrypted: bool,
    authenticated: bool,
    register: bool,
}

impl User {
    fn new(door: &Door, n: usize, register: bool) -> User {
        let (name, resource) = match (door.proto, n % door.per_account) {
            // MQTT knows connections only.
            (Proto::Xmpp, r) if r > 0 => (n / door.per_account, format!("lg{r}")),
            (Proto::Xmpp, _) => (n / door.per_account, "lg".into()),
            _ => (n, String::new()),
        };
        User {
            name: format!("{}{name}", door.users),
            resource,
            jid: String::new(),
            step: Step::New,
            scram: None,
            encrypted: false,
            authenticated: false,
            register,
        }
    }

    pub fn bare(&self) -> &str {
        self.jid.split('/').next().unwrap_or_default()
    }
}

impl Door {
    /// Where user `i` logs in.
    fn server(&self, i: usize) -> (SocketAddr, &str) {
        match &self.far {
            Some((from, address, domain)) if i >= *from => (*address, domain),
            _ => (self.address, &self.domain),
        }
    }

    /// Logs `count` users in (or registers them) and returns them; those that fail are counted.
    pub fn open(&self, net: &mut Net, count: usize, register: bool) -> (Vec<User>, usize) {
        let mut users: Vec<User> = (0..count).map(|n| User::new(self, n, register)).collect();
        let (mut next, mut ready, mut failed) = (0, 0, 0);
        // The halves of a relay's pairs wait for each other.
        let at_once = if self.proto == Proto::Line { count } else { self.at_once };
        let mut last = Instant::now();
        while ready + failed < count {
            while next < count && next - ready - failed < at_once {
                if let Err(e) = self.begin(net, next, &mut users) {
                    eprintln!("{}: {e}", users[next].name);
                    users[next].step = Step::Failed;
                    failed += 1;
                }
                next += 1;
            }
            net.turn(Duration::from_millis(100), |net, i, frame| {
                if users[i].step != Step::Busy {
                    return;
                }
                last = Instant::now();
                match self.step(net, i, &mut users[i], frame) {
                    None => {}
                    Some(Ok(())) => {
                        users[i].step = Step::Ready;
                        ready += 1;
                    }
                    Some(Err(why)) => {
                        if failed < 3 {
                            eprintln!("{}: {why}: {}", users[i].name, String::from_utf8_lossy(frame));
                        }
                        users[i].step = Step::Failed;
                        failed += 1;
                    }
                }
            });
            if register {
                let done = |user: &User| matches!(user.step, Step::Ready | Step::Failed);
                for (i, _) in users.iter().enumerate().filter(|(_, user)| done(user)) {
                    net.drop(i);
                }
            }
            if last.elapsed() > Duration::from_secs(30) {
                eprintln!("nothing happens; {ready} of {count} are ready");
                failed = count - ready;
            }
        }
        net.flush();
        (users, failed)
    }

    /// Logs in and out again, `at_once` at a time, until told to stop: logins, and refusals by what was said.
    pub fn storm(
        &self,
        net: &mut Net,
        accounts: usize,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> (u64, HashMap<&'static str, u64>) {
        let mut users: Vec<User> = (0..accounts).map(|n| User::new(self, n, false)).collect();
        let (mut next, mut busy, mut done) = (0, 0, 0);
        let mut refused = HashMap::new();
        let mut last = Instant::now();
        loop {
            let going = go_on(done);
            while going && busy < self.at_once.min(accounts) {
                // Whoever is still logging in is left alone.
                if users[next].step != Step::Busy {
                    net.drop(next);
                    users[next] = User::new(self, next, false);
                    match self.begin(net, next, &mut users) {
                        Ok(()) => busy += 1,
                        Err(_) => {
                            *refused.entry("no connection").or_default() += 1;
                            break;
                        }
                    }
                }
                next = (next + 1) % accounts;
            }
            net.turn(Duration::from_millis(20), |net, i, frame| {
                if users[i].step != Step::Busy {
                    return;
                }
                last = Instant::now();
                let Some(outcome) = self.step(net, i, &mut users[i], frame) else { return };
                busy -= 1;
                users[i].step = Step::Ready;
                match outcome {
                    Ok(()) => {
                        done += 1;
                        if self.proto == Proto::Xmpp {
                            net.out(i).extend_from_slice(b"</stream:stream>");
                        }
                    }
                    Err(why) => *refused.entry(why).or_default() += 1,
                }
            });
            if !going && busy == 0 {
                return (done, refused);
            }
            if last.elapsed() > Duration::from_secs(30) {
                refused.insert("no answer", busy as u64);
                return (done, refused);
            }
        }
    }

    fn begin(&self, net: &mut Net, i: usize, users: &mut [User]) -> std::io::Result<()> {
        net.connect(i, self.server(i).0, self.proto, self.tls == Tls::Direct)?;
        let user = &mut users[i];
        user.step = Step::Busy;
        user.encrypted = self.tls == Tls::Direct;
        match self.proto {
            Proto::Xmpp => self.header(net, i),
            Proto::Mqtt => {
                // CONNECT, MQTT 3.1.1, clean session, no keep-alive; and its own topic.
                let name = user.name.as_bytes();
                let out = net.out(i);
                mqtt_head(out, 0x10, 12 + name.len());
                out.extend_from_slice(b"\0\x04MQTT\x04\x02\0\0");
                push_text(out, name);
                mqtt_head(out, 0x82, 5 + name.len());
                out.extend_from_slice(&[0, 1]);
                push_text(out, name);
                out.push(0);
            }
            Proto::Line => {
                let half = users.len() / 2;
                net.out(i).extend_from_slice(format!("pair{}\n", i % half).as_bytes());
            }
        }
        Ok(())
    }

    fn header(&self, net: &mut Net, i: usize) {
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xml:lang='en' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>",
            self.server(i).1
        );
        net.out(i).extend_from_slice(header.as_bytes());
    }

    /// `None`: not there yet.
    fn step(
        &self,
        net: &mut Net,
        i: usize,
        user: &mut User,
        frame: &[u8],
    ) -> Option<Result<(), &'static str>> {
        if frame.is_empty() {
            return Some(Err("closed"));
        }
        match self.proto {
            Proto::Line => return Some(Ok(())),
            Proto::Mqtt => return (frame[0] == 0x90).then_some(Ok(())), // SUBACK comes last
            Proto::Xmpp => {}
        }
        const SASL: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
        let mut say = |text: String| {
            net.out(i).extend_from_slice(text.as_bytes());
            None
        };
        match name(frame) {
            b"stream:stream" => None,
            b"stream:features" if self.tls == Tls::Starttls && !user.encrypted => {
                say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".into())
            }
            b"proceed" => {
                user.encrypted = true;
                net.start_tls(i);
                self.header(net, i);
                None
            }
            b"stream:features" if user.register => say(format!(
                "<iq type='set' id='reg'><query xmlns='jabber:iq:register'><username>{0}</username>\
                 <password>{0}</password></query></iq>",
                user.name
            )),
            b"stream:features" if !user.authenticated => {
                let sha256 = has(frame, ">SCRAM-SHA-256<");
                if !sha256 && !has(frame, ">SCRAM-SHA-1<") {
                    return Some(Err("no SCRAM"));
                }
                let scram = Scram::new(sha256, &user.name);
                let (mechanism, first) = (if sha256 { "256" } else { "1" }, scram.first());
                user.scram = Some(scram);
                say(format!("<auth {SASL} mechanism='SCRAM-SHA-{mechanism}'>{first}</auth>"))
            }
            b"stream:features" => say(format!(
                "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                 <resource>{}</resource></bind></iq>",
                user.resource
            )),
            b"challenge" => {
                let scram = user.scram.as_mut();
                let mut kept = self.kept.borrow_mut();
                match text(frame, "challenge").and_then(|challenge| scram?.answer(challenge, &mut kept)) {
                    Some(answer) => say(format!("<response {SASL}>{answer}</response>")),
                    None => Some(Err("a strange challenge")),
                }
            }
            b"success" => {
                let known =
                    text(frame, "success").is_some_and(|t| user.scram.take().is_some_and(|s| s.verify(t)));
                user.authenticated = true;
                self.header(net, i);
                (!known).then_some(Err("the server has not proven itself"))
            }
            b"iq" => match (attr(frame, "id"), attr(frame, "type")) {
                (Some(b"reg"), Some(b"result")) => Some(Ok(())),
                (Some(b"reg"), _) if has(frame, "<conflict") => Some(Ok(())),
                (Some(b"bind"), Some(b"result")) => {
                    user.jid = text(frame, "jid").unwrap_or_default().to_owned();
                    if self.presence {
                        net.out(i).extend_from_slice(b"<presence/>");
                    }
                    Some(Ok(()))
                }
                (Some(b"reg" | b"bind"), _) => Some(Err("refused")),
                _ => None,
            },
            b"failure" | b"stream:error" | b"/stream:stream" => Some(Err("refused")),
            _ => None,
        }
    }

    /// Leaves.
    pub fn close(&self, net: &mut Net) {
        for i in 0..net.conns.len() {
            if net.conns[i].as_ref().is_some_and(|c| !c.closed) && self.proto == Proto::Xmpp {
                net.out(i).extend_from_slice(b"</stream:stream>");
            }
        }
        settle(net, Duration::from_millis(300));
        for i in 0..net.conns.len() {
            net.drop(i);
        }
    }
}

pub fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

/// Reads, and forgets, until nothing has come for a while.
pub fn settle(net: &mut Net, calm: Duration) {
    let (start, mut last) = (Instant::now(), Instant::now());
    while last.elapsed() < calm && start.elapsed() < Duration::from_secs(10) {
        if net.turn(Duration::from_millis(20), |_, _, _| {}) {
            last = Instant::now();
        }
    }
}
