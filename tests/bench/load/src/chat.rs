//! Messages between pairs, in a closed loop (a window of messages under way) or in an open one (a
//! rate, whatever comes back); and from one to many.

use crate::cue::Cue;
use crate::frame::{attr, mqtt_head};
use crate::login::{Door, User, push_text};
use crate::meter::{Line, Meter};
use crate::net::{Net, Proto};
use memchr::memmem;
use std::io::Write;
use std::time::{Duration, Instant};

/// How a message says which it is and when it was due.
const MARK: &[u8] = b"lgm:";

pub struct Plan {
    pub pairs: usize,
    pub seconds: f64,
    pub window: u64,
    /// Messages per second of all pairs; 0: as fast as the window lets them.
    pub rate: f64,
    /// Bytes of text in each message.
    pub size: usize,
    /// Says when acts begin and end, instead of the seconds. Act 0 is silence.
    pub cue: Option<Cue>,
}

fn payload(out: &mut Vec<u8>, number: u64, due: u64, size: usize) {
    let start = out.len();
    let _ = write!(out, "lgm:{number}:{due}:");
    out.resize(out.len().max(start + size), b'x');
}

/// Number and time of a message; `None` for whatever else comes.
pub fn read(frame: &[u8]) -> Option<(u64, u64)> {
    let text = &frame[memmem::find(frame, MARK)? + MARK.len()..];
    let mut numbers = text.split(|b| *b == b':').map(|digits| {
        digits.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
    });
    Some((numbers.next()??, numbers.next()??))
}

/// Whether a frame is an error that came back for a message.
pub fn bounced(door: &Door, frame: &[u8]) -> bool {
    door.proto == Proto::Xmpp && attr(frame, "type") == Some(b"error")
}

/// What stands before and behind the payload.
pub struct Envelope {
    proto: Proto,
    head: Vec<u8>,
}

impl Envelope {
    pub fn to(door: &Door, to: &User) -> Envelope {
        let head = match door.proto {
            Proto::Xmpp => format!("<message to='{}' type='chat' id='m", to.jid).into_bytes(),
            Proto::Mqtt => {
                let mut topic = Vec::new();
                push_text(&mut topic, to.name.as_bytes());
                topic
            }
            Proto::Line => Vec::new(),
        };
        Envelope { proto: door.proto, head }
    }

    pub fn write(&self, out: &mut Vec<u8>, number: u64, due: u64, size: usize) {
        match self.proto {
            Proto::Xmpp => {
                out.extend_from_slice(&self.head);
                let _ = write!(out, "{number}'><body>");
                payload(out, number, due, size);
                out.extend_from_slice(b"</body></message>");
            }
            Proto::Mqtt => {
                let start = out.len();
                payload(out, number, due, size);
                let body = out.split_off(start);
                mqtt_head(out, 0x30, self.head.len() + body.len());
                out.extend_from_slice(&self.head);
                out.extend_from_slice(&body);
            }
            Proto::Line => {
                // As many bytes as the same message has in XMPP.
                payload(out, number, due, size + 110);
                out.push(b'\n');
            }
        }
    }
}

/// User k writes to user k + pairs. True: nothing was lost, doubled or out of order.
pub fn pairs(net: &mut Net, door: &Door, meter: &Meter, users: &[User], plan: &Plan) -> bool {
    let n = plan.pairs;
    let envelopes: Vec<Envelope> = (0..n).map(|k| Envelope::to(door, &users[n + k])).collect();
    let open = plan.rate > 0.0;
    let start = Instant::now();
    let clock = || start.elapsed().as_nanos() as u64;
    let (mut sent, mut got) = (vec![0u64; n], vec![0u64; n]);
    let (mut faults, mut total) = (0u64, 0u64);
    let (mut scheduled, mut since, mut silent) = (0u64, 0, false);
    let mut latencies: Vec<Vec<u64>> = vec![Vec::with_capacity(1 << 16)];
    let mut credit: Vec<usize> = (0..n).flat_map(|k| std::iter::repeat_n(k, plan.window as usize)).collect();
    if open {
        credit.clear();
    }
    // The first second is not counted: caches and windows fill.
    let (mut before, mut first) = (meter.cpu(), 0);
    let (mut warm, mut last) = (false, Instant::now());
    let (mut sending, mut lost) = (true, 0);
    loop {
        let now = clock();
        let mut wait = Duration::from_millis(if plan.cue.is_some() { 10 } else { 100 });
        if !warm && start.elapsed().as_secs_f64() >= 1.0f64.min(plan.seconds / 2.0) {
            (warm, before, first) = (true, meter.cpu(), total);
        }
        sending &= match &plan.cue {
            None => start.elapsed().as_secs_f64() < 1.0 + plan.seconds,
            Some(cue) => !cue.over(),
        };
        let act = plan.cue.as_ref().filter(|_| sending).map_or(latencies.len() - 1, Cue::act);
        latencies.resize_with(latencies.len().max(act + 1), Vec::new);
        if plan.cue.is_some() && act == 0 {
            silent = true;
        } else if sending && open {
            if std::mem::take(&mut silent) {
                (since, scheduled) = (now, 0);
            }
            loop {
                let due = since + (scheduled as f64 * 1e9 / plan.rate) as u64;
                if due > now {
                    wait = wait.min(Duration::from_nanos(due - now));
                    break;
                }
                let k = (scheduled % n as u64) as usize;
                envelopes[k].write(net.out(k), sent[k], due, plan.size);
                sent[k] += 1;
                scheduled += 1;
            }
        } else if sending {
            for k in credit.drain(..) {
                envelopes[k].write(net.out(k), sent[k], now, plan.size);
                sent[k] += 1;
            }
        }
        let came = net.turn(wait, |_, i, frame| {
            let Some((number, due)) = read(frame) else {
                faults += u64::from(frame.is_empty());
                return;
            };
            let Some(k) = i.checked_sub(n).filter(|_| !bounced(door, frame)) else {
                faults += 1;
                return;
            };
            faults += u64::from(number != got[k]);
            got[k] += 1;
            total += 1;
            if warm {
                latencies[act].push(clock().saturating_sub(due));
            }
            if !open {
                credit.push(k);
            }
        });
        if came {
            last = Instant::now();
        }
        if !sending && got == sent {
            break;
        }
        if last.elapsed() > Duration::from_secs(20) {
            lost = sent.iter().sum::<u64>() - total;
            break;
        }
    }
    let after = meter.cpu();
    let counted = (total - first).max(1) as f64;
    let mut line = Line::new();
    line.put("messages", counted).put("lost", lost as f64).put("faults", faults as f64);
    line.put("cpu_us", after.cpu_ms(&before) * 1e3 / counted).put("per_s", counted / after.seconds(&before));
    line.put("allocations", (after.allocations - before.allocations) / counted);
    if plan.cue.is_none() {
        line.percentiles("", &mut latencies.remove(0));
    }
    for (act, latencies) in latencies.iter_mut().enumerate() {
        line.percentiles(&format!("{act}_"), latencies);
    }
    line.put("closed", (users.len() - net.open()) as f64).busy(&before, &after).print();
    lost == 0 && faults == 0
}

/// User 0 says something `rounds` times and all others hear it: presence to contacts who see it, or
/// MQTT's one topic. `window`: rounds under way.
pub fn fan_out(
    net: &mut Net,
    door: &Door,
    meter: &Meter,
    receivers: usize,
    rounds: u64,
    window: u64,
) -> bool {
    let start = Instant::now();
    let mut heard = vec![0u64; receivers + 1];
    let (mut sent, mut total, mut faults) = (0u64, 0u64, 0u64);
    let before = meter.cpu();
    let mut last = Instant::now();
    let wanted = rounds * receivers as u64;
    while total < wanted && last.elapsed() < Duration::from_secs(5) {
        while sent < rounds && (sent * receivers as u64) < total + window * receivers as u64 {
            let due = start.elapsed().as_nanos() as u64;
            let out = net.out(0);
            match door.proto {
                Proto::Xmpp => {
                    out.extend_from_slice(b"<presence><status>");
                    payload(out, sent, due, 0);
                    out.extend_from_slice(b"</status></presence>");
                }
                _ => {
                    let mut body = Vec::new();
                    push_text(&mut body, b"all");
                    payload(&mut body, sent, due, 100);
                    mqtt_head(out, 0x30, body.len());
                    out.extend_from_slice(&body);
                }
            }
            sent += 1;
        }
        let came = net.turn(Duration::from_millis(100), |_, i, frame| {
            if let (Some((number, _)), true) = (read(frame), i > 0) {
                faults += u64::from(number != heard[i]);
                heard[i] += 1;
                total += 1;
            }
        });
        if came {
            last = Instant::now();
        }
    }
    let after = meter.cpu();
    let mut line = Line::new();
    line.put("deliveries", total as f64).put("lost", (wanted - total) as f64).put("faults", faults as f64);
    line.put("cpu_us", after.cpu_ms(&before) * 1e3 / total.max(1) as f64);
    line.put("per_s", total as f64 / after.seconds(&before)).busy(&before, &after).print();
    total == wanted && faults == 0
}

/// Each says something to itself; how many have heard it.
pub fn echo(net: &mut Net, door: &Door, users: &[User]) -> usize {
    let (mut heard, mut said, mut last) = (0, 0, Instant::now());
    while heard < users.len() && last.elapsed() < Duration::from_secs(5) {
        while said < users.len().min(heard + 200) {
            if net.conns[said].as_ref().is_some_and(|conn| !conn.closed) {
                Envelope::to(door, &users[said]).write(net.out(said), said as u64, 0, 0);
            }
            said += 1;
        }
        net.turn(Duration::from_millis(100), |_, i, frame| {
            if !bounced(door, frame) && read(frame).is_some_and(|(number, _)| number == i as u64) {
                (heard, last) = (heard + 1, Instant::now());
            }
        });
    }
    heard
}

/// Makes user 0 and all others see each other, by the usual four stanzas; does nothing where it is so.
pub fn befriend(net: &mut Net, users: &[User]) {
    let hub = users[0].bare().to_owned();
    for i in 1..users.len() {
        net.out(i).extend_from_slice(format!("<presence to='{hub}' type='subscribe'/>").as_bytes());
    }
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_secs(1) {
        net.turn(Duration::from_millis(50), |net, i, frame| {
            if attr(frame, "type") != Some(b"subscribe") {
                return;
            }
            last = Instant::now();
            let from = String::from_utf8_lossy(attr(frame, "from").unwrap_or_default()).into_owned();
            let from = from.split('/').next().unwrap_or_default();
            let out = net.out(i);
            let _ = write!(out, "<presence to='{from}' type='subscribed'/>");
            if i == 0 {
                let _ = write!(out, "<presence to='{from}' type='subscribe'/>");
            }
        });
    }
}

/// User 0 writes to all others, who are away; then they come.
pub fn offline(net: &mut Net, door: &Door, meter: &Meter, receivers: usize, each: u64) -> bool {
    let (users, failed) = door.open(net, 1, false);
    if failed > 0 {
        return false;
    }
    let before = meter.cpu();
    let out = net.out(0);
    for number in 0..each {
        for i in 1..=receivers {
            let _ = write!(
                out,
                "<message to='{}{i}@{}' type='chat' id='o{number}'><body>",
                door.users, door.domain
            );
            payload(out, number, 0, 100);
            out.extend_from_slice(b"</body></message>");
        }
    }
    // Answered when all before it is safe, where a server promises so.
    let ping =
        format!("<iq type='get' id='ping' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>", users[0].bare());
    out.extend_from_slice(ping.as_bytes());
    let (mut answered, mut bounces, start) = (false, 0u64, Instant::now());
    while !answered && start.elapsed() < Duration::from_secs(60) {
        net.turn(Duration::from_millis(100), |_, _, frame| {
            answered |= attr(frame, "id") == Some(b"ping");
            bounces += u64::from(attr(frame, "type") == Some(b"error") && read(frame).is_some());
        });
    }
    let stored = meter.cpu();
    meter.calm();
    let calm = meter.cpu();
    door.close(net);
    // All come back, and only then say that they are there.
    let quiet = Door {
        presence: false,
        users: door.users.clone(),
        domain: door.domain.clone(),
        kept: door.kept.clone(),
        far: door.far.clone(),
        ..*door
    };
    let (_, failed) = quiet.open(net, receivers + 1, false);
    meter.calm();
    let back = meter.cpu();
    for i in 1..=receivers {
        net.out(i).extend_from_slice(b"<presence/>");
    }
    let wanted = receivers as u64 * each;
    let (mut got, mut last) = (0u64, Instant::now());
    while got < wanted && last.elapsed() < Duration::from_secs(5) {
        net.turn(Duration::from_millis(50), |_, i, frame| {
            got += u64::from(i > 0 && read(frame).is_some());
            last = Instant::now();
        });
    }
    meter.calm();
    let after = meter.cpu();
    let (all, us) = (wanted as f64, 1e3 / wanted as f64);
    let mut line = Line::new();
    line.put("messages", all).put("lost", (wanted - got.min(wanted)) as f64).put("faults", bounces as f64);
    line.put("store_cpu_us", calm.cpu_ms(&before) * us).put("store_per_s", all / stored.seconds(&before));
    line.put("fetch_cpu_us", after.cpu_ms(&back) * us).print();
    answered && got == wanted && failed == 0
}

#[test]
fn a_message_says_which_it_is() {
    let mut out = b"<body>".to_vec();
    payload(&mut out, 12, 345, 100);
    assert_eq!(out.len(), 106);
    assert_eq!(read(&out), Some((12, 345)));
    assert_eq!(read(b"<body>lgm:1</body>"), None);
}
