use super::*;
use crate::net::dns::wire::{self, Data, Message, Name, Question, Record, Section, Writer};
use crate::net::mdns::ask;

const MS: Duration = Duration::from_millis(1);

struct Node {
    mdns: Mdns,
    sightings: Sightings,
    at: SocketAddr,
    next: Instant,
    appeared: Vec<String>,
}

/// Some hubs on one cable, without any other time than ours.
struct Lan {
    now: Instant,
    nodes: Vec<Node>,
    /// All that went over the cable.
    heard: Vec<(SocketAddr, Outgoing)>,
}

fn interface(ip: [u8; 4]) -> Interface {
    Interface { index: 2, loopback: false, addresses: vec![(IpAddr::from(ip), 24)], passing: vec![] }
}

fn listeners(server: u16) -> Vec<(Kind, SocketAddr)> {
    let at = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    vec![
        (Kind::Client, at(5222)),
        (Kind::ClientTls, at(5223)),
        (Kind::Server, at(server)),
        (Kind::ServerTls, at(server + 1)),
    ]
}

fn config(domain: &str, pin: u8) -> Config {
    Config { seed: u64::from(pin) * 77 + 1, ..Config::new(domain, [pin; 32], listeners(5269)) }
}

impl Lan {
    fn new() -> Lan {
        Lan { now: Instant::now(), nodes: Vec::new(), heard: Vec::new() }
    }

    fn add(&mut self, domain: &str, pin: u8) -> usize {
        self.add_with(config(domain, pin), interface([192, 0, 2, pin]))
    }

    fn add_with(&mut self, config: Config, interface: Interface) -> usize {
        let sightings = Sightings::new(&config.domain, config.pin);
        let ip = interface.addresses[0].0;
        let mut mdns = Mdns::new(self.now, config);
        mdns.interfaces(self.now, vec![interface]);
        let at = SocketAddr::new(ip, PORT);
        self.nodes.push(Node { mdns, sightings, at, next: self.now, appeared: Vec::new() });
        self.nodes.len() - 1
    }

    /// Everybody hears it, the sender too.
    fn deliver(&mut self, from: SocketAddr, packet: Outgoing) {
        let mut queue = vec![(from, packet)];
        while let Some((from, packet)) = queue.pop() {
            assert!(packet.bytes.len() <= wire::MAX_WRITE);
            assert!(wire::read(&packet.bytes).is_some());
            for node in &mut self.nodes {
                if packet.to.is_some_and(|to| to != node.at) {
                    continue;
                }
                let out = node.mdns.handle(self.now, &packet.bytes, from, &mut node.sightings);
                node.appeared.extend(out.appeared);
                node.next = self.now;
                queue.extend(out.packets.into_iter().map(|p| (node.at, p)));
            }
            self.heard.push((from, packet));
            assert!(self.heard.len() < 100_000, "a storm");
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for at in 0..self.nodes.len() {
                let node = &mut self.nodes[at];
                if node.next > self.now {
                    continue;
                }
                let (out, next) = node.mdns.tick(self.now, &mut node.sightings);
                node.next = next;
                node.appeared.extend(out.appeared);
                let from = node.at;
                out.packets.into_iter().for_each(|packet| self.deliver(from, packet));
            }
            self.now += 5 * MS;
        }
    }

    fn messages(&self, from: usize) -> Vec<Message> {
        let from = self.nodes[from].at;
        self.heard.iter().filter(|(f, _)| *f == from).map(|(_, p)| wire::read(&p.bytes).unwrap()).collect()
    }

    /// Says something to everybody; what comes back within the time.
    fn say(
        &mut self,
        from: SocketAddr,
        bytes: Vec<u8>,
        wait: Duration,
    ) -> Vec<(Option<SocketAddr>, Message)> {
        self.heard.clear();
        self.deliver(from, Outgoing { interface: 2, v6: false, to: None, bytes });
        self.run(wait);
        let all = self.heard.drain(..).filter(|(f, _)| *f != from);
        all.map(|(_, p)| (p.to, wire::read(&p.bytes).unwrap())).filter(|(_, m)| m.response).collect()
    }
}

fn question(name: &str, kind: u16, unicast: bool) -> Question {
    Question { name: Name::of(name), kind, unicast }
}

fn ask(questions: &[Question], known: &[Record]) -> Vec<u8> {
    let mut writer = Writer::query();
    questions.iter().for_each(|q| assert!(writer.question(q)));
    known.iter().for_each(|r| assert!(writer.record(Section::Answer, r)));
    writer.finish()
}

fn response(records: &[Record]) -> Vec<u8> {
    let mut writer = Writer::response(0);
    records.iter().for_each(|r| assert!(writer.record(Section::Answer, r)));
    writer.finish()
}

fn record(name: &Name, ttl: u32, data: Data) -> Record {
    Record { name: name.clone(), flush: true, ttl, data }
}

fn pi(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], port))
}

/// What somebody at 192.0.2.`last` would announce.
fn announcement(domain: &str, last: u8, pin: u8, ttl: u32) -> Vec<u8> {
    let service = service_name(Kind::Server);
    let instance = Name::under(domain.as_bytes(), &service);
    let host = Name::of(domain);
    let text = format!("domain={domain}");
    let pin = format!("pin={}", cert::pin_text(&[pin; 32]));
    let mut txt = Vec::new();
    for part in [text, pin] {
        txt.push(part.len() as u8);
        txt.extend(part.as_bytes());
    }
    response(&[
        record(&service, ttl, Data::Ptr(instance.clone())),
        record(&instance, ttl, Data::Srv { priority: 0, weight: 0, port: 5269, target: host.clone() }),
        record(&instance, ttl, Data::Txt(txt)),
        record(&host, ttl, Data::A([192, 0, 2, last].into())),
    ])
}

#[test]
fn two_hubs_see_each_other_within_two_seconds() {
    let mut lan = Lan::new();
    let (a, b) = (lan.add("a.local", 1), lan.add("hub.example.org", 2));
    lan.run(2000 * MS);
    let seen = lan.nodes[a].sightings.list();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].domain.as_str(), seen[0].pin, seen[0].gone),
        ("hub.example.org", Some([2; 32]), false)
    );
    assert_eq!(lan.nodes[a].appeared, ["hub.example.org"]);
    assert_eq!(lan.nodes[b].appeared, ["a.local"]);
    let candidates = lan.nodes[b].sightings.candidates("A.local");
    assert_eq!(
        candidates,
        [
            Candidate { address: pi(1, 5270), direct_tls: true },
            Candidate { address: pi(1, 5269), direct_tls: false }
        ]
    );
    // Nobody sees himself.
    assert!(lan.nodes[a].sightings.candidates("a.local").is_empty());
    // A quiet network stays quiet.
    lan.run(Duration::from_secs(300));
    lan.heard.clear();
    lan.run(Duration::from_secs(3600));
    assert!(lan.heard.len() < 80, "{}", lan.heard.len());
    assert_eq!(lan.nodes[a].sightings.list().len(), 1);
    // Threat I7: what is said is what we are, and nothing about people.
    let known = ["a.local", "hub.example.org", "stonechat-02020202.local", "_services._dns-sd._udp.local"];
    for node in [a, b] {
        for record in lan.messages(node).iter().flat_map(|m| m.answers.iter().chain(&m.additional)) {
            let text: Vec<_> = record.name.labels().map(String::from_utf8_lossy).collect();
            let service = |name: &str| name.ends_with("._tcp.local") && name.contains("_xmpp");
            assert!(known.contains(&text.join(".").as_str()) || service(&text.join(".")), "{text:?}");
            if let Data::Txt(txt) = &record.data {
                assert!(wire::attributes(txt).all(|(key, _)| [&b"v"[..], b"domain", b"pin"].contains(&key)));
            }
        }
    }
    // A cable is pulled and plugged in: who had it asks the other for a sign, and gets one.
    let node = &mut lan.nodes[a];
    node.appeared.clear();
    node.mdns.interfaces(lan.now, Vec::new());
    lan.run(5000 * MS);
    let node = &mut lan.nodes[a];
    node.mdns.interfaces(lan.now, vec![interface([192, 0, 2, 1])]);
    node.next = lan.now;
    lan.run(2000 * MS);
    assert_eq!(lan.nodes[a].appeared, ["hub.example.org"]);
    // One goes; the other knows at once.
    let packets = lan.nodes[a].mdns.goodbye();
    packets.into_iter().for_each(|packet| lan.deliver(pi(1, PORT), packet));
    assert!(lan.nodes[b].sightings.list()[0].gone);
    lan.nodes.remove(a);
    lan.run(10_000 * MS);
    let other = &mut lan.nodes[0];
    other.mdns.tick(lan.now, &mut other.sightings);
    assert!(lan.nodes[0].sightings.list().is_empty());
}

#[test]
fn phones_find_the_domain_by_its_name() {
    let mut lan = Lan::new();
    let a = lan.add("a.local", 1);
    lan.run(5000 * MS);
    // A plain resolver: an answer as from a name server, to it alone.
    let mut query = ask(&[question("A.LOCAL", wire::A, false)], &[]);
    query[..2].copy_from_slice(&[7, 9]);
    let answers = lan.say(pi(50, 40_000), query.clone(), 200 * MS);
    let [(Some(to), answer)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((*to, answer.id, answer.questions.len()), (pi(50, 40_000), 0x0709, 1));
    assert_eq!(answer.answers[0].data, Data::A([192, 0, 2, 1].into()));
    assert!(answer.answers[0].ttl <= 10 && !answer.answers[0].flush);
    // From another network: nothing, whatever the port.
    for port in [40_000, PORT] {
        let far = SocketAddr::from(([203, 0, 113, 5], port));
        assert!(lan.say(far, query.clone(), 200 * MS).is_empty());
    }
    // To all, with a type beside it that nobody knows, and one that we do not have.
    let query = ask(&[question("a.local", 65, false), question("a.local", wire::AAAA, false)], &[]);
    let answers = lan.say(pi(50, PORT), query, 200 * MS);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0, None);
    let nsec = &answers[0].1.answers[0];
    assert_eq!(nsec.data.kind(), wire::NSEC);
    assert_eq!(nsec.data.bytes(), [b"\x01a\x05local\0".as_slice(), &[0, 1, 0x40]].concat());
    // One that wants it for itself gets that, as the others have heard it lately; then not.
    lan.run(2000 * MS);
    let query = ask(&[question("a.local", wire::A, true)], &[]);
    assert_eq!(lan.say(pi(50, PORT), query.clone(), 200 * MS)[0].0, Some(pi(50, PORT)));
    lan.run(40_000 * MS);
    assert_eq!(lan.say(pi(50, PORT), query, 200 * MS)[0].0, None);
    assert_eq!(lan.messages(a).len(), 0);
}

#[test]
fn what_is_known_is_not_said_and_what_was_said_is_not_repeated_at_once() {
    let mut lan = Lan::new();
    lan.add("a.local", 1);
    lan.run(6000 * MS);
    let service = service_name(Kind::Client);
    let pointer = Data::Ptr(Name::under(b"a.local", &service));
    let questions = [question("_xmpp-client._tcp.local", wire::PTR, false)];
    let with =
        |ttl| ask(&questions, &[Record { name: service.clone(), flush: false, ttl, data: pointer.clone() }]);
    assert!(lan.say(pi(50, PORT), with(4000), 1500 * MS).is_empty());
    let answers = lan.say(pi(50, PORT), with(2000), 1500 * MS);
    let [(None, answer)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(answer.answers.len(), 1);
    // Place, text and addresses go along.
    let kinds: Vec<u16> = answer.additional.iter().map(|r| r.data.kind()).collect();
    assert_eq!(kinds, [wire::SRV, wire::TXT, wire::A, wire::NSEC]);
    // Twenty who ask at once get one answer.
    lan.run(2000 * MS);
    lan.heard.clear();
    for asker in 60..80 {
        let bytes = ask(&questions, &[]);
        lan.deliver(pi(asker, PORT), Outgoing { interface: 2, v6: false, to: None, bytes });
    }
    lan.run(500 * MS);
    assert_eq!(lan.messages(0).len(), 1);
    // More known answers are to follow: the answer waits for them.
    lan.run(2000 * MS);
    let mut writer = Writer::query();
    writer.question(&questions[0]);
    writer.truncate();
    assert!(lan.say(pi(50, PORT), writer.finish(), 50 * MS).is_empty());
    assert!(
        lan.say(
            pi(50, PORT),
            ask(&[], &[Record { name: service, flush: false, ttl: 4500, data: pointer }]),
            1000 * MS
        )
        .is_empty()
    );
}

#[test]
fn of_two_with_one_name_one_gets_it() {
    for delay in [0, 100, 800, 5000] {
        let mut lan = Lan::new();
        let a = lan.add("pi.local", 1);
        lan.run(delay * MS);
        let b = lan.add("pi.local", 2);
        lan.run(20_000 * MS);
        lan.heard.clear();
        let answers = lan.say(pi(50, PORT), ask(&[question("pi.local", wire::A, false)], &[]), 2000 * MS);
        assert_eq!(answers.len(), 1, "{delay}: {answers:?}");
        let answers = lan.say(pi(50, PORT), ask(&[question("pi-2.local", wire::A, false)], &[]), 2000 * MS);
        assert_eq!(answers.len(), 1, "{delay}");
        // The domain of both is the same, so nobody is a peer of anybody.
        assert!(lan.nodes[a].sightings.list().is_empty() && lan.nodes[b].sightings.list().is_empty());
        assert!(lan.nodes[a].sightings.candidates("pi.local").is_empty());
    }
}

/// avahi on this machine has our host name, too, and says addresses that we keep to ourselves.
#[test]
fn only_another_machines_address_is_in_dispute() {
    let [temporary, foreign] = ["fd00::1:2", "fd00::3:4"].map(|ip| ip.parse::<Ipv6Addr>().unwrap());
    for (ip, disputed) in [(temporary, false), (foreign, true)] {
        let mut lan = Lan::new();
        let machine = Interface { passing: vec![temporary.into()], ..interface([192, 0, 2, 1]) };
        let a = lan.add_with(config("a.local", 1), machine);
        lan.run(5000 * MS);
        lan.heard.clear();
        let bytes = response(&[record(&Name::of("a.local"), 120, Data::Aaaa(ip))]);
        lan.deliver(pi(1, PORT), Outgoing { interface: 2, v6: false, to: None, bytes });
        lan.run(2000 * MS);
        let probes = lan.messages(a).iter().any(|message| !message.authority.is_empty());
        assert_eq!(probes, disputed, "{ip}");
    }
}

/// Threat I2.
#[test]
fn who_sprays_conflicts_and_goodbyes_drives_nobody_off() {
    let mut lan = Lan::new();
    let (a, b) = (lan.add("a.local", 1), lan.add("b.local", 2));
    lan.run(5000 * MS);
    lan.nodes[b].sightings.pinned(["a.local"].into_iter());
    let before = lan.nodes[b].sightings.candidates("a.local");
    assert_eq!(before.len(), 2);
    lan.nodes[b].sightings.good("a.local", before[1]);
    let names = ["a.local", "a-2.local", "a-3.local", "a-4.local", "a-5.local"];
    for round in 0..600u16 {
        for name in names {
            let conflict = record(&Name::of(name), 120, Data::A([192, 0, 2, 66].into()));
            let bytes = response(&[conflict]);
            lan.deliver(pi(66, PORT), Outgoing { interface: 2, v6: false, to: None, bytes });
        }
        let bytes = announcement("a.local", 1, 1, 0);
        lan.deliver(pi(66 + (round % 9) as u8, PORT), Outgoing { interface: 2, v6: false, to: None, bytes });
        lan.run(100 * MS);
        // In none of these moments does the other forget where it was.
        let now = lan.nodes[b].sightings.candidates("a.local");
        assert!(now.iter().take(3).any(|one| *one == before[1]), "{round}: {now:?}");
    }
    // It has taken three other names at most, and answers to the last of them in the midst of it.
    let answered = names.iter().filter(|name| {
        let asked = ask(&[question(name, wire::A, false)], &[]);
        let answers = lan.say(pi(50, PORT), asked, 1500 * MS);
        answers.iter().any(|(_, m)| m.answers.iter().any(|r| r.data == Data::A([192, 0, 2, 1].into())))
    });
    let answered: Vec<_> = answered.collect();
    assert!(answered.len() == 1 && answered != [&"a-5.local"], "{answered:?}");
    // An hour later it is itself again, and nobody has to do anything.
    lan.run(Duration::from_secs(2 * 3600 + 60));
    let answers = lan.say(pi(50, PORT), ask(&[question("a.local", wire::A, false)], &[]), 1500 * MS);
    assert_eq!(answers.len(), 1);
    assert!(!lan.nodes[b].sightings.list()[0].gone);
    assert_eq!(lan.nodes[a].sightings.list().len(), 1);
}

/// Threat I3.
#[test]
fn a_flood_of_inventions_takes_no_room_and_no_friend() {
    let mut lan = Lan::new();
    lan.add("a.local", 1);
    lan.add("b.local", 2);
    lan.run(5000 * MS);
    let node = &mut lan.nodes[0];
    node.sightings.pinned(["b.local"].into_iter());
    for number in 0..100_000u32 {
        let domain = format!("x{number}.local");
        let from = SocketAddr::from(([192, 0, 2, 3 + (number % 250) as u8], PORT));
        let bytes = announcement(&domain, 9, 9, 4500);
        lan.now += MS;
        node.mdns.handle(lan.now, &bytes, from, &mut node.sightings);
    }
    assert!(node.sightings.list().len() <= 64);
    assert_eq!(node.sightings.candidates("b.local").len(), 2);
    // Nor does one alone fill it.
    let mut lan = Lan::new();
    lan.add("a.local", 1);
    for number in 0..60 {
        let node = &mut lan.nodes[0];
        node.mdns.handle(
            lan.now,
            &announcement(&format!("x{number}.local"), 9, 9, 4500),
            pi(9, PORT),
            &mut node.sightings,
        );
    }
    assert_eq!(lan.nodes[0].sightings.list().len(), 8);
    // One source gets its hundred, and then its share.
    let mut writer = Writer::query();
    writer.question(&question("a.local", wire::A, false));
    let bytes = writer.finish();
    lan.run(5000 * MS);
    let node = &mut lan.nodes[0];
    let out =
        (0..1000).map(|_| node.mdns.handle(lan.now, &bytes, pi(77, 999), &mut node.sightings).packets.len());
    assert_eq!(out.sum::<usize>(), 100);
}

/// Threat I1, I6: what somebody says is listed as what he says, and the one whom we have proven stays first.
#[test]
fn a_false_friend_is_one_more_candidate_and_no_more() {
    let mut lan = Lan::new();
    lan.add("a.local", 1);
    lan.add("b.local", 2);
    lan.run(5000 * MS);
    let node = &mut lan.nodes[0];
    let good = Candidate { address: pi(2, 5269), direct_tls: false };
    node.sightings.good("b.local", good);
    node.mdns.handle(lan.now, &announcement("b.local", 66, 9, 4500), pi(66, PORT), &mut node.sightings);
    let candidates = node.sightings.candidates("b.local");
    assert!(candidates[..2].contains(&Candidate { address: pi(66, 5269), direct_tls: false }));
    assert_eq!(candidates[2], good);
    // Until the true one speaks again.
    lan.now += MS;
    node.mdns.handle(lan.now, &announcement("b.local", 2, 2, 4500), pi(2, PORT), &mut node.sightings);
    assert_eq!(node.sightings.candidates("b.local")[0], good);
    // One that says that it is us is told to the operator, and is no candidate for anything.
    let bytes = announcement("a.local", 66, 9, 4500);
    let service = service_name(Kind::Server);
    let renamed = Name::under(b"a.local (2)", &service);
    let mut message = wire::read(&bytes).unwrap();
    message.answers.iter_mut().for_each(|r| match &mut r.data {
        Data::Ptr(to) => *to = renamed.clone(),
        Data::Srv { target, .. } => (r.name, *target) = (renamed.clone(), Name::of("z.local")),
        Data::Txt(_) => r.name = renamed.clone(),
        _ => r.name = Name::of("z.local"),
    });
    node.mdns.handle(lan.now, &response(&message.answers), pi(66, PORT), &mut node.sightings);
    assert_eq!(node.sightings.take_twin(lan.now), Some([9; 32]));
    for n in 0..600 {
        // ... once in an hour, however often it says so.
        let now = lan.now + n * 5000 * MS;
        node.mdns.handle(now, &response(&message.answers), pi(66, PORT), &mut node.sightings);
        assert_eq!(node.sightings.take_twin(now), None, "{n}");
    }
    let later = lan.now + 3600 * 1000 * MS;
    node.mdns.handle(later, &response(&message.answers), pi(66, PORT), &mut node.sightings);
    assert_eq!(node.sightings.take_twin(later), Some([9; 32]));
    assert_eq!(node.sightings.list().len(), 1);
    // Addresses that nobody should dial are not taken (threat D10).
    for ip in [[127, 0, 0, 1], [224, 0, 0, 251], [0, 0, 0, 0], [255, 255, 255, 255]] {
        let bytes = response(&[record(&Name::of("b.local"), 120, Data::A(ip.into()))]);
        node.mdns.handle(lan.now, &bytes, pi(66, PORT), &mut node.sightings);
    }
    let all = node.sightings.candidates("b.local");
    assert!(
        all.iter().all(|c| c.address.ip() == pi(2, 0).ip() || c.address.ip() == pi(66, 0).ip()),
        "{all:?}"
    );
}

#[test]
fn a_server_that_is_only_a_name_is_found_when_it_is_looked_for() {
    let mut lan = Lan::new();
    lan.add("a.local", 1);
    lan.run(5000 * MS);
    let found = response(&[record(&Name::of("prosody.local"), 120, Data::A([192, 0, 2, 9].into()))]);
    let node = &mut lan.nodes[0];
    node.mdns.handle(lan.now, &found, pi(9, PORT), &mut node.sightings);
    assert!(node.sightings.candidates("prosody.local").is_empty());
    node.sightings.look("Prosody.local");
    assert!(node.sightings.take_wanted(None));
    node.mdns.look(lan.now);
    let (out, _) = node.mdns.tick(lan.now + Duration::from_secs(1), &mut node.sightings);
    let asked = wire::read(&out.packets[0].bytes).unwrap().questions;
    assert!(asked.contains(&question("prosody.local", wire::A, false)));
    node.mdns.handle(lan.now, &found, pi(9, PORT), &mut node.sightings);
    assert_eq!(
        node.sightings.candidates("prosody.local"),
        [Candidate { address: pi(9, 5269), direct_tls: false }]
    );
    for number in 0..1000 {
        node.sightings.look(&format!("n{number}.local"));
        node.sightings.look(&format!("n{number}.example.org"));
    }
    assert!(node.sightings.questions().len() <= 2 * 17);
}

#[test]
fn only_what_is_listened_for_is_announced_and_only_where() {
    let on_loopback = vec![(Kind::Server, SocketAddr::from(([127, 0, 0, 7], 5269)))];
    let mut lan = Lan::new();
    let hub = Config::new("a.local", [1; 32], on_loopback);
    assert_eq!(hub.on_loopback(), (true, true));
    assert_eq!(config("a.local", 1).on_loopback(), (false, false));
    lan.add_with(hub.clone(), interface([192, 0, 2, 1]));
    lan.run(5000 * MS);
    assert!(lan.messages(0).iter().all(|m| !m.response && m.authority.is_empty()));
    assert!(lan.nodes[0].mdns.goodbye().is_empty());
    let lo = Interface {
        index: 1,
        loopback: true,
        addresses: vec![(Ipv4Addr::LOCALHOST.into(), 8)],
        passing: vec![],
    };
    let mut lan = Lan::new();
    lan.add_with(hub, lo.clone());
    lan.add_with(
        Config::new("b.local", [2; 32], vec![(Kind::Server, SocketAddr::from(([127, 0, 0, 8], 5269)))]),
        lo,
    );
    lan.run(3000 * MS);
    let at = SocketAddr::from(([127, 0, 0, 8], 5269));
    assert_eq!(lan.nodes[0].sightings.candidates("b.local"), [Candidate { address: at, direct_tls: false }]);
    // One address of several, and link-local ones only where there is nothing better.
    let many = Interface {
        index: 3,
        loopback: false,
        addresses: ["192.0.2.1", "198.51.100.1", "fe80::1", "fd00::1"]
            .map(|ip| (ip.parse().unwrap(), 64))
            .to_vec(),
        passing: vec![],
    };
    let published = |at: &str| {
        Config::new("a.local", [1; 32], vec![(Kind::Client, at.parse().unwrap())]).published(&many)
    };
    assert_eq!(published("198.51.100.1:5222"), ["198.51.100.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(published("0.0.0.0:5222").len(), 2);
    assert_eq!(published("[::]:5222").len(), 3);
    // A domain as long as they come, and many addresses: still packets of one frame.
    let domain = [["x".repeat(60).as_str(); 4].join("."), "lo".to_owned()].join(".");
    let mut addresses: Vec<(IpAddr, u8)> = (1..9).map(|n| (IpAddr::from([192, 0, 2, n]), 24)).collect();
    addresses.extend((1..9u16).map(|n| (IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]), 64)));
    let mut lan = Lan::new();
    let long =
        lan.add_with(config(&domain, 1), Interface { index: 2, loopback: false, addresses, passing: vec![] });
    lan.add("b.local", 2);
    lan.run(5000 * MS);
    assert!(!lan.messages(long).is_empty());
    assert_eq!(lan.nodes[1].sightings.list()[0].domain, domain);
}

#[test]
fn link_local_addresses_come_with_their_interface() {
    let mut lan = Lan::new();
    let v6 = |n: u16| Interface {
        index: 4,
        loopback: false,
        addresses: vec![(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, n]), 64)],
        passing: vec![],
    };
    for n in [1, 2] {
        lan.add_with(config(&format!("n{n}.local"), n as u8), v6(n));
        let ip = Ipv6Addr::from([0xfe80, 0, 0, 0, 0, 0, 0, n]);
        lan.nodes.last_mut().unwrap().at = SocketAddrV6::new(ip, PORT, 0, 4).into();
    }
    lan.run(6000 * MS);
    let candidates = lan.nodes[0].sightings.candidates("n2.local");
    assert_eq!(candidates[1].address.to_string(), "[fe80::2%4]:5269");
    // From another interface it is not for this one.
    let from = SocketAddrV6::new("fe80::2".parse().unwrap(), PORT, 0, 9).into();
    assert!(lan.say(from, ask(&[question("n1.local", wire::AAAA, false)], &[]), 1000 * MS).is_empty());
}

/// Threat I3: whatever comes, something sensible happens, and no more of it than comes.
#[test]
fn broken_packets_break_nothing() {
    let mut lan = Lan::new();
    lan.add("a.local", 1);
    lan.add("b.local", 2);
    lan.run(5000 * MS);
    let samples: Vec<Vec<u8>> = lan.heard.iter().map(|(_, p)| p.bytes.clone()).collect();
    let mut dice = 88172645463325252u64;
    let mut roll = move |below: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice % below as u64) as usize
    };
    let node = &mut lan.nodes[0];
    for _ in 0..20_000 {
        let mut bytes = samples[roll(samples.len())].clone();
        for _ in 0..1 + roll(4) {
            let at = roll(bytes.len());
            bytes[at] = roll(256) as u8;
        }
        bytes.truncate(1 + roll(bytes.len() * 2));
        lan.now += 50 * MS;
        let from = pi(3 + roll(200) as u8, if roll(4) == 0 { 4000 } else { PORT });
        let out = node.mdns.handle(lan.now, &bytes, from, &mut node.sightings);
        assert!(out.packets.len() <= 3);
        let (out, next) = node.mdns.tick(lan.now, &mut node.sightings);
        assert!(out.packets.len() <= 6 && next > lan.now);
    }
    for empty in [&[][..], &[0; 12]] {
        assert!(node.mdns.handle(lan.now, empty, pi(9, PORT), &mut node.sightings).packets.is_empty());
    }
}

/// With real sockets: two on this machine's loopback, as two processes would.
#[test]
fn two_on_one_machine() {
    let reactor = Reactor::new().unwrap();
    let mut both = Vec::new();
    for (domain, last, pin) in [("one.mdns-test.local", 21, 1), ("two.mdns-test.local", 22, 2)] {
        let sightings = Rc::new(RefCell::new(Sightings::new(domain, [pin; 32])));
        let at = SocketAddr::from(([127, 0, 53, last], 5269));
        let config = Config::new(domain, [pin; 32], vec![(Kind::Server, at)]);
        let Some(service) = Service::open(&reactor, config, sightings.clone(), Rc::new(|_| {})) else {
            eprintln!("skipped: port 5353 is somebody else's alone");
            return;
        };
        both.push((service, sightings));
    }
    let [(one, seen), (two, _)] = <[_; 2]>::try_from(both).ok().unwrap();
    let running = async {
        smol::future::zip(one.run(), two.clone().run()).await;
        Vec::new()
    };
    let finding = async {
        let found = find(&reactor, &seen, "two.mdns-test.local", Duration::from_secs(3)).await;
        // A client asks for the name alone.
        let addresses = ask::ask("ONE.mdns-test.local", true, Duration::from_secs(2)).await;
        assert_eq!(addresses, [IpAddr::from([127, 0, 53, 21])]);
        found
    };
    let started = Instant::now();
    let found = reactor.run(smol::future::or(finding, running)).unwrap();
    let address = SocketAddr::from(([127, 0, 53, 22], 5269));
    assert_eq!(found, [Candidate { address, direct_tls: false }]);
    assert!(started.elapsed() < Duration::from_secs(2));
    two.goodbye();
}
