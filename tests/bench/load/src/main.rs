//! Puts load on one server and says what that cost it: one line of JSON on standard output, troubles
//! on standard error, exit code 1 when anything was lost. `tests/bench/run` is what calls it.

mod chat;
mod cue;
mod feed;
mod frame;
mod login;
mod meter;
mod net;
mod relay;
mod scram;

use chat::Plan;
use cue::Cue;
use feed::Diet;
use login::{Door, Tls, settle};
use meter::{Line, Meter};
use net::{Net, Proto};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const USAGE: &str = "load COMMAND [--option value]…
  register     --count N                     accounts, by XEP-0077
  connect      --count N --hold SECONDS      log in, then be idle: CPU per login, memory per session
  logins       --count N --seconds S         log in and out again, N accounts in turn
  pairs        --pairs P --window W --seconds S --size BYTES
  latency      --pairs P --rate PER_SECOND --seconds S --size BYTES
  feed         --readers N --rate PER_SECOND --read-rate BYTES_PER_SECOND --size BYTES      needs --cue
  fan-out      --receivers N --rounds R --window W      presence to contacts, or one MQTT topic
  offline      --receivers N --each M
  first-login  --t0 NANOSECONDS_SINCE_1970
  sample       --hold SECONDS
  relay        --each 0|1                    be the relay that others are compared with; a write for each message
all: --kind xmpp|mqtt|relay --address IP:PORT --domain D --users PREFIX --tls none|starttls|direct --pid PID[,PID]
     --at-once LOGINS --per-account SESSIONS --from FIRST_SOURCE_ADDRESS --per-address CONNECTIONS
     --far IP:PORT --far-domain D: of pairs, those who are written to log in there
     --count-file FILE: where the server counts its allocations
     --cue 1: says `ready` when logged in; the number of an act on standard input begins it, the end of the input ends it";

struct Args(HashMap<String, String>);

impl Args {
    fn text(&self, key: &str, default: &str) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| default.to_owned())
    }

    fn number(&self, key: &str, default: f64) -> f64 {
        match self.0.get(key) {
            None => default,
            Some(text) => text.parse().unwrap_or_else(|_| usage(&format!("--{key} is a number"))),
        }
    }
}

fn usage(why: &str) -> ! {
    eprintln!("{why}\n{USAGE}");
    std::process::exit(64)
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_else(|| usage("what?"));
    let mut args = Args(HashMap::new());
    while let Some(key) = words.next() {
        let value = words.next().unwrap_or_else(|| usage(&format!("{key} wants a value")));
        args.0.insert(key.trim_start_matches('-').to_owned(), value);
    }
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let address: SocketAddr = match args.text("address", "127.0.0.1:5222").parse() {
        Ok(address) => address,
        Err(e) => usage(&format!("--address: {e}")),
    };
    let meter = Meter::new(
        args.text("pid", "").split([',', ' ']).filter_map(|p| p.parse().ok()).collect(),
        args.text("count-file", ""),
    );
    let door = Door {
        proto: match &*args.text("kind", "xmpp") {
            "xmpp" => Proto::Xmpp,
            "mqtt" => Proto::Mqtt,
            "relay" => Proto::Line,
            _ => usage("--kind?"),
        },
        address,
        domain: args.text("domain", "bench.test"),
        users: args.text("users", "u"),
        tls: match &*args.text("tls", "none") {
            "none" => Tls::None,
            "starttls" => Tls::Starttls,
            "direct" => Tls::Direct,
            _ => usage("--tls?"),
        },
        at_once: args.number("at-once", 8.0) as usize,
        presence: true,
        per_account: args.number("per-account", 1.0) as usize,
        kept: Default::default(),
        far: args.0.get("far").map(|far| match far.parse() {
            Ok(address) => {
                (args.number("pairs", 50.0) as usize, address, args.text("far-domain", "far.test"))
            }
            Err(e) => usage(&format!("--far: {e}")),
        }),
    };
    if run(&command, &args, &door, &meter) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(command: &str, args: &Args, door: &Door, meter: &Meter) -> bool {
    let mut net = Net::new(&door.domain);
    net.from = args.0.get("from").map(|from| match from.parse::<Ipv4Addr>() {
        Ok(from) => (from, args.number("per-address", 200.0) as u32),
        Err(e) => usage(&format!("--from: {e}")),
    });
    let cue = || args.0.contains_key("cue").then(Cue::ready);
    let count = args.number("count", 100.0) as usize;
    match command {
        "register" => {
            let before = meter.cpu();
            let (_, failed) = door.open(&mut net, count, true);
            let after = meter.cpu();
            let ms = after.cpu_ms(&before) / count as f64;
            Line::new().put("count", count as f64).put("failed", failed as f64).put("cpu_ms", ms).print();
            failed == 0
        }
        "connect" => connect(&mut net, door, meter, count, args.number("hold", 3.0), cue),
        "logins" => logins(&mut net, door, meter, count, args.number("seconds", 3.0), cue),
        "feed" => {
            let (users, failed) = door.open(&mut net, args.number("readers", 1.0) as usize + 1, false);
            settle(&mut net, Duration::from_millis(300));
            let diet = Diet {
                rate: args.number("rate", 0.0),
                read_rate: args.number("read-rate", 0.0),
                size: args.number("size", 200.0) as usize,
            };
            let cue = cue().unwrap_or_else(|| usage("feed needs --cue"));
            failed == 0 && feed::feed(&mut net, door, meter, &users, &diet, &cue)
        }
        "pairs" | "latency" => {
            let open = command == "latency";
            let mut plan = Plan {
                pairs: args.number("pairs", 50.0) as usize,
                seconds: args.number("seconds", 3.0),
                window: args.number("window", 20.0) as u64,
                rate: if open { args.number("rate", 1000.0) } else { 0.0 },
                size: args.number("size", 100.0) as usize,
                cue: None,
            };
            let (users, failed) = door.open(&mut net, 2 * plan.pairs, false);
            settle(&mut net, Duration::from_millis(300));
            meter.calm();
            plan.cue = cue();
            let good = failed == 0 && chat::pairs(&mut net, door, meter, &users, &plan);
            door.close(&mut net);
            good
        }
        "fan-out" => {
            let receivers = args.number("receivers", 100.0) as usize;
            let (users, failed) = door.open(&mut net, receivers + 1, false);
            match door.proto {
                Proto::Xmpp => chat::befriend(&mut net, &users),
                _ => {
                    for i in 1..=receivers {
                        net.out(i).extend_from_slice(b"\x82\x08\0\x02\0\x03all\0");
                    }
                }
            }
            settle(&mut net, Duration::from_millis(300));
            meter.calm();
            let (rounds, window) = (args.number("rounds", 300.0) as u64, args.number("window", 4.0) as u64);
            let good = failed == 0 && chat::fan_out(&mut net, door, meter, receivers, rounds, window);
            door.close(&mut net);
            good
        }
        "offline" => {
            let (receivers, each) =
                (args.number("receivers", 50.0) as usize, args.number("each", 60.0) as u64);
            chat::offline(&mut net, door, meter, receivers, each)
        }
        "first-login" => first_login(&mut net, door, meter, args.number("t0", 0.0)),
        "sample" => {
            let before = meter.look();
            std::thread::sleep(Duration::from_secs_f64(args.number("hold", 0.0)));
            let after = meter.look();
            let mut line = Line::new();
            line.put("rss_kib", after.rss).put("pss_kib", after.pss);
            line.put("idle_cpu_ms_per_s", after.cpu_ms(&before) / after.seconds(&before).max(0.001)).print();
            true
        }
        "relay" => {
            let served = relay::serve(door.address, args.number("each", 0.0) > 0.0);
            served.inspect_err(|e| eprintln!("{e}")).is_ok()
        }
        _ => usage("no such command"),
    }
}

/// Logs in, and is idle; then each says a word to itself.
fn connect(
    net: &mut Net,
    door: &Door,
    meter: &Meter,
    count: usize,
    hold: f64,
    cue: impl Fn() -> Option<Cue>,
) -> bool {
    let before = meter.look();
    let (users, failed) = door.open(net, count, false);
    let done = meter.cpu();
    settle(net, Duration::from_millis(500));
    meter.calm();
    let (cue, idle) = (cue(), meter.look());
    let start = Instant::now();
    while cue.as_ref().map_or(start.elapsed().as_secs_f64() < hold, |cue| !cue.over()) {
        net.turn(Duration::from_millis(100), |_, _, _| {});
    }
    let after = meter.look();
    let left = net.open();
    let heard = if failed == 0 && door.proto != Proto::Line { chat::echo(net, door, &users) } else { 0 };
    let all = count as f64;
    let mut line = Line::new();
    line.put("count", all).put("failed", failed as f64).put("cpu_ms", done.cpu_ms(&before) / all);
    line.put("per_s", all / done.seconds(&before)).put("rss_kib", (after.rss - before.rss) / all);
    line.put("pss_kib", (after.pss - before.pss) / all);
    line.put("idle_cpu_ms_per_s", after.cpu_ms(&idle) / after.seconds(&idle).max(0.001));
    line.put("closed", (count - left) as f64).put("heard", heard as f64);
    line.busy(&before, &done).print();
    door.close(net);
    failed == 0 && left == count && heard == count
}

/// Logins one after the other, several at a time.
fn logins(
    net: &mut Net,
    door: &Door,
    meter: &Meter,
    count: usize,
    seconds: f64,
    cue: impl Fn() -> Option<Cue>,
) -> bool {
    // The first time each derives its keys: that is the generator's work and not measured.
    door.storm(net, count, |done| done < count as u64);
    let cue = cue();
    while cue.as_ref().is_some_and(|cue| cue.act() == 0) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (start, before) = (Instant::now(), meter.cpu());
    let (done, refused) = door.storm(net, count, |_| match &cue {
        Some(cue) => !cue.over(),
        None => start.elapsed().as_secs_f64() < seconds,
    });
    let after = meter.cpu();
    let mut line = Line::new();
    line.put("logins", done as f64).put("refused", refused.values().sum::<u64>() as f64);
    line.put("per_s", done as f64 / after.seconds(&before));
    line.put("cpu_ms", after.cpu_ms(&before) / done.max(1) as f64);
    refused.iter().for_each(|(why, times)| _ = line.put(why, *times as f64));
    line.busy(&before, &after).print();
    refused.is_empty()
}

/// Tries until somebody lets it in.
fn first_login(net: &mut Net, door: &Door, meter: &Meter, t0: f64) -> bool {
    let start = Instant::now();
    while std::net::TcpStream::connect(door.address).is_err() || door.open(net, 1, false).1 > 0 {
        if start.elapsed() > Duration::from_secs(60) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as f64;
    let look = meter.look();
    let mut line = Line::new();
    line.put("startup_ms", (now - t0) / 1e6)
        .put("cpu_ms", look.cpu_ms(&Meter::new(Vec::new(), String::new()).cpu()));
    line.put("rss_kib", look.rss).print();
    door.close(net);
    true
}
