#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::order::{Weighed, order};
use super::question::{Judged, judge, query};
use super::*;
use proptest::prelude::*;
use simple_dns::rdata::{A, AAAA, CNAME, RData, SOA, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};

// ---- a name server with a script -------------------------------------------------------------------

/// What it says to one question; the packets are sent one after the other.
type Script = dyn Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync;

pub(super) struct Asked {
    pub(super) id: u16,
    pub(super) name: String,
    pub(super) kind: QTYPE,
    pub(super) tcp: bool,
    question: Question<'static>,
}

impl Asked {
    pub(super) fn read(bytes: &[u8], tcp: bool) -> Asked {
        let packet = Packet::parse(bytes).unwrap();
        let question = packet.questions[0].clone().into_owned();
        Asked { id: packet.id(), name: plain(&question.qname), kind: question.qtype, tcp, question }
    }

    pub(super) fn reply(&self) -> Packet<'static> {
        let mut packet = Packet::new_reply(self.id);
        packet.questions.push(self.question.clone());
        packet
    }

    pub(super) fn with(&self, records: Vec<(&str, RData<'static>)>) -> Vec<u8> {
        self.for_seconds(records.into_iter().map(|(name, data)| (name, 60, data)).collect())
    }

    pub(super) fn for_seconds(&self, records: Vec<(&str, u32, RData<'static>)>) -> Vec<u8> {
        let mut packet = self.reply();
        for (name, ttl, data) in records {
            let name = Name::new(name).unwrap().into_owned();
            packet.answers.push(ResourceRecord::new(name, CLASS::IN, ttl, data));
        }
        packet.build_bytes_vec_compressed().unwrap()
    }

    pub(super) fn code(&self, code: RCODE) -> Vec<u8> {
        let mut packet = self.reply();
        *packet.rcode_mut() = code;
        packet.build_bytes_vec().unwrap()
    }

    pub(super) fn direct(&self) -> bool {
        self.name.starts_with("_xmpps-")
    }
}

fn plain(name: &Name<'_>) -> String {
    name.to_string().to_ascii_lowercase()
}

pub(super) fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData<'static> {
    RData::SRV(SRV { priority, weight, port, target: Name::new(target).unwrap().into_owned() })
}

pub(super) fn cname(target: &str) -> RData<'static> {
    RData::CNAME(CNAME(Name::new(target).unwrap().into_owned()))
}

/// Runs for the rest of the test process. The count is of questions over UDP.
pub(super) fn server(
    script: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let script: Arc<Script> = Arc::new(script);
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.53:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let at = udp.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let (counter, by_udp) = (count.clone(), script.clone());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = udp.recv_from(&mut buffer) {
            counter.fetch_add(1, Ordering::Relaxed);
            for answer in by_udp(&Asked::read(&buffer[..len], false)) {
                let _ = udp.send_to(&answer, from);
            }
        }
    });
    thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut question).unwrap();
            for answer in script(&Asked::read(&question, true)) {
                let _ = stream.write_all(&(answer.len() as u16).to_be_bytes());
                let _ = stream.write_all(&answer);
            }
        }
    });
    (at, count)
}

pub(super) fn resolver(servers: &[SocketAddr]) -> Resolver {
    Resolver::with_servers(servers.to_vec()).patience(Duration::from_millis(200), Duration::from_secs(2))
}

fn find(servers: &[SocketAddr]) -> Found {
    smol::block_on(resolver(servers).lookup_srv("Example.ORG", Service::Client))
}

fn target(host: &str, port: u16, direct_tls: bool) -> Target {
    Target { host: host.into(), port, direct_tls }
}

// ---- SRV -------------------------------------------------------------------------------------------

#[test]
fn both_names_are_asked_and_mixed() {
    let (at, _) = server(|q| {
        let records = match q.direct() {
            true => vec![("_xmpps-client._tcp.example.org", srv(10, 0, 5223, "Direct.Example.org"))],
            false => vec![
                ("_XMPP-client._tcp.example.org", srv(20, 0, 5222, "late.example.org")),
                ("_xmpp-client._tcp.example.org", srv(5, 0, 5222, "first.example.org")),
                ("_xmpp-client._tcp.example.org", srv(5, 0, 5222, "first.example.org")),
                ("_xmpp-client._tcp.example.org", srv(6, 0, 0, "noport.example.org")),
                ("_xmpp-client._tcp.other.org", srv(1, 0, 5222, "not.asked.for")),
            ],
        };
        vec![q.with(records)]
    });
    let found = find(&[at]);
    let order = [
        target("first.example.org", 5222, false),
        target("direct.example.org", 5223, true),
        target("late.example.org", 5222, false),
    ];
    assert_eq!(found, Found { targets: order.to_vec(), absent: false, reason: None });
}

#[test]
fn weights_are_odds() {
    let list = |weights: &[u16]| -> Vec<Weighed> {
        let one = |(i, w): (usize, &u16)| Weighed {
            priority: 1,
            weight: *w,
            target: target(&i.to_string(), 1, false),
        };
        weights.iter().enumerate().map(one).collect()
    };
    let mut firsts = [0u32; 3];
    for _ in 0..4000 {
        let out = order(list(&[10, 30, 0]), &mut below);
        assert_eq!(out.len(), 3);
        firsts[out[0].host.parse::<usize>().unwrap()] += 1;
    }
    let share = |i: usize| f64::from(firsts[i]) / 4000.0;
    assert!((0.20..0.30).contains(&share(0)) && (0.68..0.78).contains(&share(1)), "{firsts:?}");
    assert!(firsts[2] > 0 && share(2) < 0.06, "{firsts:?}");
    // Whatever the lot says, nobody is lost.
    for lot in [0, 1, u32::MAX] {
        assert_eq!(order(list(&[65535; 64]), &mut |_| lot).len(), 64);
    }
}

#[test]
fn the_root_means_no_such_service() {
    let (at, _) = server(|q| {
        vec![match q.direct() {
            true => q.code(RCODE::NameError),
            false => q.with(vec![("_xmpp-client._tcp.example.org", srv(0, 0, 0, "."))]),
        }]
    });
    assert!(find(&[at]).absent);
    let (at, _) = server(|q| {
        let (name, record) = match q.direct() {
            true => ("_xmpps-client._tcp.example.org", srv(0, 0, 0, ".")),
            false => ("_xmpp-client._tcp.example.org", srv(0, 0, 5222, "a.example.org")),
        };
        vec![q.with(vec![(name, record)])]
    });
    let found = find(&[at]);
    assert_eq!((found.targets.len(), found.absent), (1, false), "no direct TLS, that is all");
}

#[test]
fn failures_are_reasons() {
    let says = |code| server(move |q: &Asked| vec![q.code(code)]).0;
    let begin = Instant::now();
    assert_eq!(find(&[says(RCODE::NameError)]).reason, Some(Reason::NoSuchName));
    assert_eq!(find(&[says(RCODE::ServerFailure)]).reason, Some(Reason::ServerSaid("SERVFAIL")));
    assert_eq!(find(&[says(RCODE::Refused)]).reason, Some(Reason::ServerSaid("REFUSED")));
    assert_eq!(find(&[server(|q| vec![q.with(vec![])]).0]).reason, Some(Reason::NoRecords));
    assert_eq!(find(&[]).reason, Some(Reason::NoServers));
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(find(&[server(|_| vec![]).0]).reason, Some(Reason::TimedOut));
    // Nobody listens there: the kernel says so at once.
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(find(&[closed]).reason, Some(Reason::Io(io::ErrorKind::ConnectionRefused)));
    for name in ["10.0.0.1", "[::1]", "raspberrypi", "pi.local", "localhost", "a.localhost"] {
        let found = smol::block_on(resolver(&[closed]).lookup_srv(name, Service::Client));
        assert_eq!(found.reason, Some(Reason::NotInDns), "{name}");
    }
    for name in ["", "a b.org", "a..org", &"a".repeat(64), &"a.".repeat(200)] {
        let found = smol::block_on(resolver(&[closed]).lookup_srv(name, Service::Client));
        assert_eq!(found.reason, Some(Reason::BadName), "{name}");
    }
}

#[test]
fn the_next_server_is_asked() {
    let (broken, _) = server(|q| vec![q.code(RCODE::ServerFailure)]);
    let (silent, _) = server(|_| vec![]);
    let (good, _) = server(|q| match q.direct() {
        true => vec![q.code(RCODE::NameError)],
        false => vec![q.with(vec![("_xmpp-client._tcp.example.org", srv(1, 1, 5222, "a.example.org"))])],
    });
    assert_eq!(find(&[broken, silent, good]).targets, [target("a.example.org", 5222, false)]);
}

#[test]
fn forged_answers_are_not_heard() {
    let (at, _) = server(|q| {
        let evil =
            |q: &Asked| q.with(vec![("_xmpp-client._tcp.example.org", srv(0, 0, 6666, "evil.example"))]);
        let mut wrong_id = evil(q);
        wrong_id[1] ^= 1;
        let mut not_an_answer = evil(q);
        not_an_answer[2] &= 0x7f;
        let mut other_question = q.reply();
        other_question.questions[0].qname = Name::new("_xmpp-client._tcp.example.com").unwrap();
        let mut other_type = q.reply();
        other_type.questions[0].qtype = QTYPE::TYPE(TYPE::TXT);
        let good = match q.direct() {
            true => q.code(RCODE::NameError),
            false => q.with(vec![("_xmpp-client._tcp.example.org", srv(0, 0, 5222, "good.example.org"))]),
        };
        vec![
            wrong_id,
            not_an_answer,
            other_question.build_bytes_vec().unwrap(),
            other_type.build_bytes_vec().unwrap(),
            vec![],
            vec![0; 11],
            good,
        ]
    });
    assert_eq!(find(&[at]).targets, [target("good.example.org", 5222, false)]);
}

#[test]
fn answers_from_elsewhere_are_not_heard() {
    let (udp, elsewhere) =
        (UdpSocket::bind("127.0.0.54:0").unwrap(), UdpSocket::bind("127.0.0.55:0").unwrap());
    let at = udp.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = udp.recv_from(&mut buffer) {
            let asked = Asked::read(&buffer[..len], false);
            let reply = |ip| asked.with(vec![("a.example.org", RData::A(A { address: ip }))]);
            for _ in 0..10 {
                elsewhere.send_to(&reply(0x0606_0606), from).unwrap(); // all is right but the source
            }
            thread::sleep(Duration::from_millis(20));
            udp.send_to(&reply(0x0a00_0001), from).unwrap();
        }
    });
    assert_eq!(
        smol::block_on(resolver(&[at]).resolve("a.example.org")).unwrap(),
        [IpAddr::from([10, 0, 0, 1])]
    );
}

#[test]
fn floods_end() {
    let (at, _) = server(|_| vec![vec![0; 20]; 200]);
    let begin = Instant::now();
    assert!(matches!(find(&[at]).reason, Some(Reason::Garbled | Reason::TimedOut)));
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn pointer_loops_and_impossible_counts() {
    let (at, _) = server(|q| {
        let mut looped = q.reply().build_bytes_vec().unwrap();
        let at = looped.len() as u8;
        looped[7] = 1; // one answer, whose name points to itself
        looped.extend([0xc0, at, 0, 33, 0, 1, 0, 0, 0, 9, 0, 0]);
        let mut counts = q.reply().build_bytes_vec().unwrap();
        counts[6..12].fill(0xff);
        vec![looped, counts]
    });
    assert_eq!(find(&[at]).reason, Some(Reason::TimedOut));
}

#[test]
fn truncated_goes_over_tcp_and_sixty_four_fit() {
    let (at, asked) = server(|q| {
        if q.direct() {
            return vec![q.code(RCODE::NameError)];
        }
        if !q.tcp {
            let mut packet = q.reply();
            packet.set_flags(PacketFlag::TRUNCATION);
            return vec![packet.build_bytes_vec().unwrap()];
        }
        let name = "_xmpp-client._tcp.example.org";
        let hosts: Vec<String> = (0..100).map(|i| format!("host-number-{i}.example.org")).collect();
        vec![q.with(hosts.iter().map(|host| (name, srv(1, 1, 5222, host))).collect())]
    });
    let found = find(&[at]);
    assert_eq!(found.targets.len(), MAX_RECORDS);
    assert_eq!(asked.load(Ordering::Relaxed), 2, "once each over UDP");
}

#[test]
fn cnames() {
    let (at, _) = server(|q| {
        vec![match q.name.as_str() {
            // In one answer, in the wrong order.
            "www.example.org" if q.kind == QTYPE::TYPE(TYPE::A) => q.with(vec![
                ("c.example.org", RData::A(A { address: 0x0a00_0001 })),
                ("b.example.org", cname("c.example.org")),
                ("www.example.org", cname("b.example.org")),
            ]),
            // Only the first step; the rest has to be asked for.
            "half.example.org" => q.with(vec![("half.example.org", cname("www.example.org"))]),
            "loop.example.org" => q.with(vec![("loop.example.org", cname("pool.example.org"))]),
            "pool.example.org" => q.with(vec![("pool.example.org", cname("loop.example.org"))]),
            "self.example.org" => q.with(vec![("self.example.org", cname("self.example.org"))]),
            _ => q.with(vec![]),
        }]
    });
    let get = |name: &str| smol::block_on(resolver(&[at]).resolve(name));
    let ten = [IpAddr::from([10, 0, 0, 1])];
    assert_eq!(get("www.example.org").unwrap(), ten);
    assert_eq!(get("half.example.org").unwrap(), ten);
    assert_eq!(get("loop.example.org"), Err(Reason::Garbled));
    assert_eq!(get("self.example.org"), Err(Reason::NoRecords));
}

// ---- addresses -------------------------------------------------------------------------------------

#[test]
fn addresses() {
    let (at, _) = server(|q| {
        vec![match &q.kind {
            QTYPE::TYPE(TYPE::A) => q.with(vec![
                ("a.example.org", RData::A(A { address: 0x0a00_0002 })),
                ("a.example.org", RData::A(A { address: 0x0a00_0002 })),
            ]),
            _ => q.with(vec![("a.example.org", RData::AAAA(AAAA { address: 1 }))]),
        }]
    });
    let mut r = resolver(&[at]);
    let hosts = hosts_file("10.9.9.9 known.example.org Printer # me\n::1 localhost\nnonsense x\n");
    r.config = Arc::new(Config { hosts, ..Config::clone(&r.config) });
    let get = |name: &str| smol::block_on(r.resolve(name));
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(get("A.example.org.").unwrap(), [ip("10.0.0.2"), ip("::1")]);
    assert_eq!(get("known.example.org").unwrap(), [ip("10.9.9.9")]);
    assert_eq!(get("printer").unwrap(), [ip("10.9.9.9")]);
    assert_eq!(get("192.0.2.1").unwrap(), [ip("192.0.2.1")]);
    assert_eq!(get("[2001:db8::1]").unwrap(), [ip("2001:db8::1")]);
    for name in ["localhost", "hub.localhost", "LOCALHOST."] {
        assert_eq!(get(name).unwrap(), [ip("127.0.0.1"), ip("::1")]);
    }
    assert_eq!(get("nobody.local"), Err(Reason::NotInDns));
    assert_eq!(get("x y"), Err(Reason::BadName));
}

#[test]
fn one_family_may_fail() {
    let (at, _) = server(|q| {
        vec![match &q.kind {
            QTYPE::TYPE(TYPE::A) => q.with(vec![("a.example.org", RData::A(A { address: 0x0a00_0002 }))]),
            _ => q.code(RCODE::ServerFailure), // as in home-assistant#15365
        }]
    });
    let ips = smol::block_on(resolver(&[at]).resolve("a.example.org")).unwrap();
    assert_eq!(ips, [IpAddr::from([10, 0, 0, 2])]);
}

#[test]
fn a_name_without_a_dot_is_of_this_network() {
    let (at, _) = server(|q| {
        vec![match (q.name.as_str(), &q.kind) {
            ("pi.home.arpa", QTYPE::TYPE(TYPE::A)) => {
                q.with(vec![("pi.home.arpa", RData::A(A { address: 0x0a00_0001 }))])
            }
            ("router", QTYPE::TYPE(TYPE::A)) => {
                q.with(vec![("router", RData::A(A { address: 0x0a00_0002 }))])
            }
            _ => q.with(vec![]),
        }]
    });
    let mut r = resolver(&[at]);
    let get = |r: &Resolver, name: &str| smol::block_on(r.resolve(name));
    assert_eq!(get(&r, "pi"), Err(Reason::NotInDns));
    assert!(r.asked("box.local".into()).is_empty());
    let search = vec!["lan".to_owned(), "home.arpa".to_owned()];
    (r.system, r.config) = (true, Arc::new(Config { search, ..Config::clone(&r.config) }));
    assert_eq!(get(&r, "pi").unwrap(), [IpAddr::from([10, 0, 0, 1])]);
    assert_eq!(get(&r, "Router").unwrap(), [IpAddr::from([10, 0, 0, 2])]);
    assert_eq!(get(&r, "printer"), Err(Reason::NoRecords));
    assert_eq!(r.asked("box.local".into()), ["box.local"], "for what mDNS did not find");
    assert_eq!(get(&r, "pi.example.org"), Err(Reason::NoRecords));
}

#[test]
fn files() {
    let config = resolv_conf(
        "# c\ndomain example.org\nsearch LAN. home.arpa\nnameserver 192.168.1.1\nnameserver nonsense\nnameserver ::1\noptions ndots:1 timeout:2\n\
         nameserver 1.1.1.1\nnameserver 8.8.8.8\n",
    );
    let servers: Vec<String> = config.servers.iter().map(SocketAddr::to_string).collect();
    assert_eq!(servers, ["192.168.1.1:53", "[::1]:53", "1.1.1.1:53"]);
    assert_eq!(config.attempt, Duration::from_secs(2));
    assert_eq!(config.search, ["lan", "home.arpa"]);
    assert_eq!(resolv_conf("options timeout:99").attempt, TOTAL);
    assert_eq!(resolv_conf("").attempt, ATTEMPT);
}

// ---- our codec, and another one --------------------------------------------------------------------

/// What the answer of a name server says by that codec: the records of the last name of the chain, or why not.
fn other_judge(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> Option<Judged> {
    let packet = Packet::parse(bytes).ok()?;
    let [asked] = packet.questions.as_slice() else { return None };
    let ours = asked.qtype == QTYPE::TYPE(kind)
        && matches!(asked.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY)
        && !asked.unicast_response
        && plain(&asked.qname) == name;
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !ours {
        return None;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Some(Judged::Truncated);
    }
    let seconds = |ttl: u32| if ttl >> 31 == 1 { 0 } else { ttl };
    let absence = packet.name_servers.iter().find_map(|record| match &record.rdata {
        RData::SOA(soa) if record.class == CLASS::IN => Some(seconds(record.ttl).min(soa.minimum)),
        _ => None,
    });
    let said = |answer, ttl| Some(Judged::Final(Said { answer, ttl }));
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return said(Err(Reason::NoSuchName), absence),
        RCODE::ServerFailure => return said(Err(Reason::ServerSaid("SERVFAIL")), None),
        RCODE::Refused => return said(Err(Reason::ServerSaid("REFUSED")), None),
        RCODE::NotImplemented => return said(Err(Reason::ServerSaid("NOTIMP")), None),
        RCODE::FormatError => return said(Err(Reason::ServerSaid("FORMERR")), None),
        _ => return said(Err(Reason::ServerSaid("an error")), None),
    }
    let host = |name: &Name<'_>| {
        let good = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        name.as_bytes().all(|label| label.iter().all(good)).then(|| plain(name))
    };
    let (mut owner, mut ttl) = (name.to_owned(), None);
    for _ in 0..MAX_CNAMES {
        let (mut records, mut next) = (Vec::new(), None);
        for record in packet.answers.iter().filter(|r| r.class == CLASS::IN) {
            if host(&record.name).as_deref() != Some(owner.as_str()) {
                continue;
            }
            match &record.rdata {
                RData::SRV(srv) if kind == TYPE::SRV => {
                    let Some(host) = host(&srv.target) else { continue };
                    let host = if host.is_empty() { ".".to_owned() } else { host };
                    let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
                    records.push(Record::Srv { priority, weight, port, host });
                }
                RData::A(a) if kind == TYPE::A => {
                    records.push(Record::Address(Ipv4Addr::from(a.address).into()))
                }
                RData::AAAA(a) if kind == TYPE::AAAA => {
                    records.push(Record::Address(Ipv6Addr::from(a.address).into()));
                }
                RData::CNAME(other) => next = host(&other.0).filter(|name| !name.is_empty()),
                _ => continue,
            }
            ttl = ttl.into_iter().chain([seconds(record.ttl)]).min();
        }
        if !records.is_empty() {
            return said(Ok(Answer::Records(records)), ttl);
        }
        let Some(other) = next else { break };
        owner = other;
    }
    match owner == name {
        true => said(Err(Reason::NoRecords), absence),
        false => said(Ok(Answer::Elsewhere(wire::Name::of(&owner))), ttl),
    }
}

fn asking(kind: u16) -> wire::Question {
    question("a.example.org", kind).unwrap()
}

/// What a server says that has more to say than was asked.
fn chatty(kind: u16) -> Vec<u8> {
    let asked = Asked::read(&query(7, &asking(kind)), false);
    let mut packet = asked.reply();
    let name = |text| Name::new(text).unwrap();
    let soa = SOA {
        mname: name("ns.example.org"),
        rname: name("root.example.org"),
        serial: 1,
        refresh: 1,
        retry: 1,
        expire: 1,
        minimum: 50,
    };
    for (of, data) in [
        ("a.example.org", cname("b.example.org")),
        ("b.example.org", srv(1, 2, 3, "c.example.org")),
        ("b.example.org", srv(0, 0, 0, ".")),
        ("b.example.org", RData::A(A { address: 1 })),
        ("b.example.org", RData::AAAA(AAAA { address: 1 })),
        ("c.example.org", RData::A(A { address: 2 })),
    ] {
        packet.answers.push(ResourceRecord::new(name(of), CLASS::IN, 60, data));
    }
    packet.name_servers.push(ResourceRecord::new(name("example.org"), CLASS::IN, 70, RData::SOA(soa)));
    packet.build_bytes_vec_compressed().unwrap()
}

/// Whether both say the same; `None` where only one takes it for an answer. The other one refuses a packet for what is
/// malformed in a type that ours does not read, ours for names that do not point back.
fn same(bytes: &[u8], kind: u16) -> Option<bool> {
    match (judge(bytes, 7, &asking(kind)), other_judge(bytes, 7, "a.example.org", TYPE::from(kind))) {
        (Judged::Stranger, None) => Some(true),
        (Judged::Stranger, Some(_)) | (_, None) => None,
        (ours, Some(theirs)) => Some(ours == theirs),
    }
}

#[test]
fn every_bit_and_every_end_is_the_same_to_both() {
    for kind in [wire::A, wire::AAAA, wire::SRV] {
        let whole = chatty(kind);
        for end in 0..whole.len() {
            assert_eq!(same(&whole[..end], kind), Some(true), "{end}");
        }
        let one_sided = (0..whole.len() * 8).filter(|bit| {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let same = same(&bytes, kind);
            assert_ne!(same, Some(false), "bit {bit}");
            same.is_none()
        });
        let one_sided = one_sided.count();
        assert!(one_sided * 10 < whole.len() * 8, "{one_sided}");
    }
}

#[test]
fn both_read_what_either_writes() {
    for kind in [wire::A, wire::AAAA, wire::SRV] {
        assert_eq!(same(&chatty(kind), kind), Some(true));
        assert!(matches!(judge(&chatty(kind), 7, &asking(kind)), Judged::Final(Said { answer: Ok(_), .. })));
    }
    let name = wire::Name::of;
    let written = [
        wire::Data::A(Ipv4Addr::LOCALHOST),
        wire::Data::Aaaa(Ipv6Addr::LOCALHOST),
        wire::Data::Ptr(name("b.example.org")),
        wire::Data::Cname(name("c.example.org")),
        wire::Data::Srv { priority: 1, weight: 2, port: 3, target: name("c.example.org") },
        wire::Data::Txt(b"\x03a=1".to_vec()),
    ];
    let mut writer = wire::Writer::response(7);
    for data in written.clone() {
        let record = wire::Record { name: name("a.example.org"), flush: true, ttl: 60, data };
        assert!(writer.record(wire::Section::Answer, &record));
    }
    let bytes = writer.finish();
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.answers.len(), written.len());
    for (record, data) in packet.answers.iter().zip(written) {
        assert_eq!(
            (plain(&record.name).as_str(), record.ttl, record.cache_flush),
            ("a.example.org", 60, true)
        );
        assert_eq!(u16::from(record.rdata.type_code()), data.kind());
    }
    // And back, without our compression.
    let again = wire::read(&packet.build_bytes_vec().unwrap()).unwrap();
    assert_eq!(again.answers, wire::read(&bytes).unwrap().answers);
}

proptest! {
    #[test]
    fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        // Past our own checks: right id, a response, one question.
        let mut bytes = bytes;
        let head = [0, 7, 0x80, 0, 0, 1, 0, 3, 0, 0, 0, 1];
        for (to, from) in bytes.iter_mut().zip(head) {
            *to = from;
        }
        prop_assert_ne!(same(&bytes, wire::SRV), Some(false));
    }

    #[test]
    fn mutated_answers_are_the_same_to_both(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        kind in prop::sample::select(vec![wire::A, wire::AAAA, wire::SRV]),
    ) {
        let mut bytes = chatty(kind);
        for (at, value) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        prop_assert_ne!(same(&bytes, kind), Some(false));
        prop_assert_ne!(same(&bytes[..cut.index(bytes.len())], kind), Some(false));
    }
}

#[test]
fn chains_of_pointers_are_bounded() {
    // Names that hop backwards through thousands of pointers.
    let mut bytes = query(7, &asking(wire::SRV));
    bytes[2] |= 0x80;
    let start = bytes.len();
    bytes[6..8].copy_from_slice(&2u16.to_be_bytes());
    for (hops, good) in [(3, true), (3000, false)] {
        let mut bytes = bytes.clone();
        // One record whose data (of a type nobody knows) is the chain of pointers.
        bytes.extend([0, 0xff, 0x01, 0, 1, 0, 0, 0, 0]);
        bytes.extend((hops * 2u16).to_be_bytes());
        let mut last = start as u16; // a root label
        for _ in 0..hops {
            let here = bytes.len() as u16;
            bytes.extend((0xc000 | last).to_be_bytes());
            last = here;
        }
        bytes.extend((0xc000 | last).to_be_bytes());
        bytes.extend([0xff, 0x01, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert!(bytes.len() <= wire::MAX_READ);
        let said = Said { answer: Err(Reason::NoRecords), ttl: None };
        let expected = if good { Judged::Final(said) } else { Judged::Stranger };
        assert_eq!(judge(&bytes, 7, &asking(wire::SRV)), expected);
    }
}
