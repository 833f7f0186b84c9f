#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use simple_dns::rdata::{A, AAAA, RData, SOA};
use simple_dns::{CLASS, Name, QTYPE, RCODE, ResourceRecord, TYPE};

use super::super::cache::Outcome;
use super::super::question::{Judged, Record, judge, query, question};
use super::super::tests::{Asked, cname, resolver, server, srv};
use super::super::wire;
use super::*;

/// So patient that nothing is asked twice, however busy this machine is.
const ATTEMPT: Duration = Duration::from_secs(4);
const TOTAL: Duration = Duration::from_secs(10);

fn targets(at: SocketAddr, domain: &str) -> Result<Vec<Candidate>, Unfound> {
    smol::block_on(Resolver::with_servers(vec![at]).patience(ATTEMPT, TOTAL).server_targets(domain))
}

fn hub(at: SocketAddr) -> Resolver {
    Resolver::for_hub(vec![at]).patience(ATTEMPT, TOTAL)
}

fn candidate(host: &str, addr: &str, direct_tls: bool) -> Candidate {
    Candidate { host: host.into(), addr: addr.parse().unwrap(), direct_tls }
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> RData<'static> {
    RData::A(A { address: u32::from_be_bytes([a, b, c, d]) })
}

fn is(q: &Asked, kind: TYPE) -> bool {
    q.kind == QTYPE::TYPE(kind)
}

fn absent(q: &Asked, ttl: u32, minimum: u32) -> Vec<u8> {
    let name = |text| Name::new(text).unwrap();
    let soa = SOA {
        mname: name("ns.example.org"),
        rname: name("root.example.org"),
        serial: 1,
        refresh: 1,
        retry: 1,
        expire: 1,
        minimum,
    };
    let mut packet = q.reply();
    *packet.rcode_mut() = RCODE::NameError;
    packet.name_servers.push(ResourceRecord::new(name("example.org"), CLASS::IN, ttl, RData::SOA(soa)));
    packet.build_bytes_vec_compressed().unwrap()
}

// ---- where a server is -------------------------------------------------------------------------------

#[test]
fn srv_of_both_kinds_with_their_addresses() {
    let (at, _) = server(|q| {
        vec![match q.name.as_str() {
            "_xmpps-server._tcp.example.org" => {
                q.with(vec![("_xmpps-server._tcp.example.org", srv(10, 0, 5270, "a.example.org"))])
            }
            "_xmpp-server._tcp.example.org" => q.with(vec![
                ("_xmpp-server._tcp.example.org", srv(20, 0, 5269, "a.example.org")),
                ("_xmpp-server._tcp.example.org", srv(5, 0, 6269, "b.example.org")),
            ]),
            "a.example.org" if is(q, TYPE::A) => q.with(vec![("a.example.org", v4(192, 0, 2, 1))]),
            "a.example.org" => {
                let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into();
                q.with(vec![("a.example.org", RData::AAAA(AAAA { address }))])
            }
            "b.example.org" if is(q, TYPE::A) => q.with(vec![("b.example.org", v4(192, 0, 2, 2))]),
            "b.example.org" => q.with(vec![]),
            other => panic!("{other}"),
        }]
    });
    let expected = [
        candidate("b.example.org", "192.0.2.2:6269", false),
        candidate("a.example.org", "192.0.2.1:5270", true),
        candidate("a.example.org", "[2001:db8::1]:5270", true),
        candidate("a.example.org", "192.0.2.1:5269", false),
        candidate("a.example.org", "[2001:db8::1]:5269", false),
    ];
    assert_eq!(targets(at, "Example.ORG").unwrap(), expected);
}

#[test]
fn without_srv_its_own_address() {
    let (at, _) = server(|q| {
        vec![match q.name.as_str() {
            "example.org" if is(q, TYPE::A) => q.with(vec![("example.org", v4(192, 0, 2, 1))]),
            "xn--bcher-kva.example" if is(q, TYPE::A) => {
                q.with(vec![("xn--bcher-kva.example", v4(192, 0, 2, 3))])
            }
            _ => q.code(RCODE::NameError),
        }]
    });
    assert_eq!(targets(at, "example.org"), Ok(vec![candidate("example.org", "192.0.2.1:5269", false)]));
    let idn = targets(at, "bücher.example").unwrap();
    assert_eq!(idn[0].addr, "192.0.2.3:5269".parse().unwrap());
    // Addresses are asked of nobody.
    let nobody = "127.0.0.53:1".parse().unwrap();
    assert_eq!(targets(nobody, "192.0.2.9"), Ok(vec![candidate("192.0.2.9", "192.0.2.9:5269", false)]));
    assert_eq!(targets(nobody, "[::1]").unwrap()[0].addr, "[::1]:5269".parse().unwrap());
    assert_eq!(targets(nobody, "localhost").unwrap()[0].addr, "127.0.0.1:5269".parse().unwrap());
}

#[test]
fn why_there_is_none() {
    let (at, _) = server(|q| {
        let service = q.name.starts_with("_xmpp");
        let name = q.name.rsplit("_tcp.").next().unwrap().to_owned();
        vec![match name.as_str() {
            "none.example" => q.code(RCODE::NameError),
            "empty.example" => q.with(vec![]),
            "broken.example" => q.code(RCODE::ServerFailure),
            // SRV cannot be had, and there is no address either: who knows.
            "half.example" if service => q.code(RCODE::ServerFailure),
            "half.example" => q.with(vec![]),
            // It exists no more, whatever is wrong with SRV.
            "gone.example" if service => q.code(RCODE::ServerFailure),
            "gone.example" => q.code(RCODE::NameError),
            "absent.example" if q.direct() => q.code(RCODE::NameError),
            "absent.example" if service => {
                q.with(vec![("_xmpp-server._tcp.absent.example", srv(0, 0, 0, "."))])
            }
            // SRV names a host that is not there: its own address is not what it wants (RFC 6120 §3.2.1).
            "lost.example" if q.direct() => q.code(RCODE::NameError),
            "lost.example" if service => {
                q.with(vec![("_xmpp-server._tcp.lost.example", srv(0, 0, 5269, "none.example"))])
            }
            "loop.example" if service => q.with(vec![]),
            "loop.example" => q.with(vec![("loop.example", cname("pool.example"))]),
            "pool.example" => q.with(vec![("pool.example", cname("loop.example"))]),
            other => panic!("asked for {other}"),
        }]
    });
    let failed = Unfound::NoAnswer(Reason::ServerSaid("SERVFAIL"));
    for (domain, why) in [
        ("none.example", Unfound::NotFound),
        ("empty.example", Unfound::NotFound),
        ("broken.example", failed.clone()),
        ("half.example", failed),
        ("gone.example", Unfound::NotFound),
        ("absent.example", Unfound::Absent),
        ("lost.example", Unfound::NotFound),
        ("loop.example", Unfound::NoAnswer(Reason::Garbled)),
        ("nobody.local", Unfound::NotFound),
        ("a b", Unfound::NotFound),
    ] {
        let found = targets(at, domain);
        assert_eq!(found, Err(why), "{domain}");
        assert!(!found.unwrap_err().to_string().contains("--host"), "that is the client's");
    }
    let silent = server(|_| vec![]).0;
    let unheard = smol::block_on(resolver(&[silent]).server_targets("example.org"));
    assert_eq!(unheard, Err(Unfound::NoAnswer(Reason::TimedOut)));
    let nobody = smol::block_on(resolver(&[]).server_targets("example.org"));
    assert_eq!(nobody, Err(Unfound::NoAnswer(Reason::NoServers)));
}

#[test]
fn d10_many_targets_make_few_questions() {
    let (at, asked) = server(|q| {
        if !q.name.starts_with("_xmpp") {
            let name = q.name.clone();
            // A host with many addresses, and they are all the same for each.
            let many = (0..20).map(|i| (name.as_str(), v4(192, 0, 2, i))).collect();
            return vec![if is(q, TYPE::A) { q.with(many) } else { q.with(vec![]) }];
        }
        if q.direct() {
            return vec![q.code(RCODE::NameError)];
        }
        if !q.tcp {
            let mut packet = q.reply();
            packet.set_flags(simple_dns::PacketFlag::TRUNCATION);
            return vec![packet.build_bytes_vec().unwrap()];
        }
        let hosts: Vec<String> = (0..64).map(|i| format!("h{i}.example.org")).collect();
        let name = "_xmpp-server._tcp.example.org";
        vec![q.with(
            hosts.iter().enumerate().map(|(i, h)| (name, srv(i as u16, 0, 1000 + i as u16, h))).collect(),
        )]
    });
    let found = targets(at, "example.org").unwrap();
    assert_eq!(found.len(), MAX_CANDIDATES);
    assert_eq!(found[MAX_PER_HOST].host, "h1.example.org", "not all from the first");
    assert!(asked.load(Ordering::Relaxed) <= 2 + 2 * MAX_HOSTS, "{asked:?}");
    // All to nowhere: the same.
    let (at, asked) = server(|q| {
        let hosts: Vec<String> = (0..8).map(|i| format!("h{i}.example.org")).collect();
        let name = q.name.clone();
        vec![match (name.starts_with("_xmpp"), q.direct()) {
            (true, direct) => q.with(
                hosts
                    .iter()
                    .map(|h| (name.as_str(), srv(0, 0, 1, &format!("{}{h}", if direct { "d" } else { "s" }))))
                    .collect(),
            ),
            _ => q.code(RCODE::NameError),
        }]
    });
    assert_eq!(targets(at, "example.org"), Err(Unfound::NotFound));
    assert_eq!(asked.load(Ordering::Relaxed), 2 + 2 * MAX_HOSTS);
}

// ---- how long it holds -------------------------------------------------------------------------------

#[test]
fn a_hub_asks_once() {
    let (at, asked) = server(|q| {
        vec![match q.name.as_str() {
            "example.org" if is(q, TYPE::A) => q.with(vec![("example.org", v4(192, 0, 2, 1))]),
            "example.org" => q.with(vec![]),
            "broken.example" => q.code(RCODE::ServerFailure),
            _ => absent(q, 3600, 60),
        }]
    });
    let hub = hub(at);
    let ask = |domain| smol::block_on(hub.clone().server_targets(domain));
    let first = ask("example.org").unwrap();
    let questions = asked.load(Ordering::Relaxed);
    assert_eq!(questions, 4, "SRV twice, A, AAAA");
    assert_eq!(ask("Example.org.").unwrap()[0].addr, first[0].addr);
    assert_eq!(ask("none.example"), Err(Unfound::NotFound));
    assert_eq!(asked.load(Ordering::Relaxed), questions + 4);
    assert_eq!(ask("none.example"), Err(Unfound::NotFound));
    assert_eq!(asked.load(Ordering::Relaxed), questions + 4);
    // What could not be answered is asked again.
    assert!(ask("broken.example").is_err());
    let failed = asked.load(Ordering::Relaxed);
    assert!(ask("broken.example").is_err());
    assert!(asked.load(Ordering::Relaxed) > failed);
    // A client asks anew each time.
    assert!(targets(at, "none.example").is_err());
    assert!(asked.load(Ordering::Relaxed) >= failed + 4);
}

#[test]
fn many_at_once_are_one_question() {
    let (at, asked) = server(|q| {
        thread::sleep(Duration::from_millis(20));
        vec![match q.name.as_str() {
            "example.org" if is(q, TYPE::A) => q.with(vec![("example.org", v4(192, 0, 2, 1))]),
            _ => q.code(RCODE::NameError),
        }]
    });
    let hub = hub(at);
    let executor = smol::LocalExecutor::new();
    let done = Arc::new(AtomicUsize::new(0));
    smol::block_on(executor.run(async {
        // One of them goes before there is an answer; the others get theirs all the same.
        let hasty = hub.clone();
        let hasty = executor.spawn(async move { hasty.server_targets("example.org").await });
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (hub, done) = (hub.clone(), done.clone());
                executor.spawn(async move {
                    assert_eq!(hub.server_targets("example.org").await.unwrap().len(), 1);
                    done.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        smol::Timer::after(Duration::from_millis(5)).await;
        hasty.cancel().await;
        for task in tasks {
            task.await;
        }
    }));
    assert_eq!(done.load(Ordering::Relaxed), 50);
    assert!(asked.load(Ordering::Relaxed) <= 6, "{asked:?}: four, and two for the one called off");
}

/// What an answer says, and for how long.
fn says(answer: impl Fn(&Asked) -> Vec<u8>) -> (Outcome, Option<u32>) {
    let question = question("a.example.org", wire::A).unwrap();
    let asked = Asked::read(&query(7, &question), false);
    let Judged::Final(said) = judge(&answer(&asked), 7, &question) else { panic!() };
    let records = said.answer.map(|answer| match answer {
        super::super::question::Answer::Records(records) => records,
        super::super::question::Answer::Elsewhere(_) => vec![],
    });
    (records, said.ttl)
}

#[test]
fn the_shortest_time_of_a_chain_counts() {
    let one = || Ok(vec![Record::Address(IpAddr::from([192, 0, 2, 1]))]);
    let chain = |first, last| {
        says(move |q| {
            q.for_seconds(vec![
                ("a.example.org", first, cname("b.example.org")),
                ("b.example.org", last, v4(192, 0, 2, 1)),
                ("c.example.org", 1, v4(192, 0, 2, 9)), // has nothing to do with it
            ])
        })
    };
    assert_eq!(chain(90, 600), (one(), Some(90)));
    assert_eq!(chain(600, 90), (one(), Some(90)));
    assert_eq!(chain(600, u32::MAX), (one(), Some(0)), "RFC 2181 §8");
    assert_eq!(
        says(|q| q.for_seconds(vec![("a.example.org", 30, cname("b.example.org"))])),
        (Ok(vec![]), Some(30))
    );
    // What is not there: of the SOA's two numbers the smaller (RFC 2308 §5).
    assert_eq!(says(|q| absent(q, 3600, 60)), (Err(Reason::NoSuchName), Some(60)));
    assert_eq!(says(|q| absent(q, 30, 60)), (Err(Reason::NoSuchName), Some(30)));
    assert_eq!(says(|q| q.with(vec![])), (Err(Reason::NoRecords), None));
    assert_eq!(says(|q| q.code(RCODE::ServerFailure)), (Err(Reason::ServerSaid("SERVFAIL")), None));
}
