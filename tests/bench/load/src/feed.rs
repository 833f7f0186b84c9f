//! One sender and those it writes to, neither waiting for the other: a flood to somebody who reads
//! all, or a trickle too much for somebody who reads slowly. Afterwards each message has a fate.

use crate::chat::{Envelope, bounced, read};
use crate::cue::Cue;
use crate::frame::attr;
use crate::login::{Door, User};
use crate::meter::{Line, Meter};
use crate::net::Net;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

pub struct Diet {
    /// Messages per second, all readers together; 0: as fast as the sender's socket takes them.
    pub rate: f64,
    /// Bytes per second that each reader reads; 0: all.
    pub read_rate: f64,
    pub size: usize,
}

/// Bytes that a flood writes at once.
const BURST: usize = 1 << 20;

/// What became of a message.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Open,
    Arrived,
    Bounced,
}

/// User 0 writes to all others. True: each message has arrived, once and in order, or came back with
/// an error; and everybody is still connected.
pub fn feed(net: &mut Net, door: &Door, meter: &Meter, users: &[User], diet: &Diet, cue: &Cue) -> bool {
    let readers = users.len() - 1;
    let envelopes: Vec<Envelope> = users[1..].iter().map(|user| Envelope::to(door, user)).collect();
    let ping =
        format!("<iq type='get' id='ping' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>", users[0].bare());
    if diet.read_rate > 0.0 {
        (1..=readers).for_each(|i| net.hold(i, true));
    }
    if diet.rate == 0.0 {
        net.narrow(0);
    }
    while cue.act() == 0 {
        net.turn(Duration::from_millis(20), |_, _, _| {});
    }
    let (start, before) = (Instant::now(), meter.cpu());
    let (mut fates, mut newest) = (Vec::new(), vec![None; readers + 1]);
    let (mut arrived, mut faults, mut pinged, mut answered) = (0, 0u64, false, false);
    let (mut disorder, mut doubled) = (0u64, 0u64);
    let mut sipped = vec![0; readers + 1];
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let (mut last, mut ended) = (Instant::now(), None);
    let mut waiting = 0.0;
    let mut turned = Instant::now();
    loop {
        let sending = !cue.over();
        let seconds = start.elapsed().as_secs_f64();
        if sending && diet.rate > 0.0 {
            while (fates.len() as f64) < seconds * diet.rate {
                let n = fates.len();
                envelopes[n % readers].write(net.out(0), n as u64, 0, diet.size);
                fates.push(Fate::Open);
            }
        } else if sending {
            while net.out(0).len() < BURST {
                let n = fates.len();
                envelopes[n % readers].write(net.out(0), n as u64, 0, diet.size);
                fates.push(Fate::Open);
            }
        } else if ended.is_none() {
            ended = Some((seconds, meter.cpu(), arrived, fates.len()));
            // Answered when all before it is safe: what is acknowledged. And the readers catch up.
            (1..=readers).for_each(|i| net.hold(i, false));
            let _ = net.out(0).write_all(ping.as_bytes());
            (pinged, last) = (true, Instant::now());
        }
        let refused = net.refused;
        let mut each = |_: &mut Net, i: usize, frame: &[u8]| {
            last = Instant::now();
            // What comes back need not have its text still.
            let number = match bounced(door, frame) {
                true => attr(frame, "id")
                    .and_then(|id| std::str::from_utf8(id.strip_prefix(b"m")?).ok()?.parse().ok()),
                false => read(frame).map(|(number, _)| number),
            };
            let Some(number) = number else {
                answered |= pinged && i == 0 && attr(frame, "id") == Some(b"ping");
                faults += u64::from(frame.is_empty());
                return;
            };
            let fate = match bounced(door, frame) {
                true => {
                    *told.entry(condition(frame)).or_default() += 1;
                    Fate::Bounced
                }
                false => {
                    arrived += 1;
                    disorder += u64::from(newest[i] >= Some(number));
                    newest[i] = Some(number);
                    Fate::Arrived
                }
            };
            match fates.get_mut(number as usize) {
                Some(open @ Fate::Open) => *open = fate,
                _ => doubled += 1,
            }
        };
        net.turn(Duration::from_millis(if diet.rate > 0.0 { 5 } else { 1 }), &mut each);
        if diet.read_rate > 0.0 && sending {
            for (i, sipped) in sipped.iter_mut().enumerate().skip(1) {
                if (*sipped as f64) < seconds * diet.read_rate {
                    *sipped += net.sip(i, 4096, &mut each);
                }
            }
        }
        let now = Instant::now();
        if net.refused > refused && sending {
            waiting += (now - turned).as_secs_f64();
        }
        turned = now;
        let open = || fates.contains(&Fate::Open);
        if !sending && ((answered && !open()) || last.elapsed() > Duration::from_secs(20)) {
            break;
        }
    }
    let Some((seconds, after, in_time, sent)) = ended else { return false };
    let lost = fates.iter().filter(|fate| **fate == Fate::Open).count();
    let bounces: u64 = told.values().sum();
    let closed = users.len() - net.open();
    let mut line = Line::new();
    line.put("sent", sent as f64).put("sent_per_s", sent as f64 / seconds);
    line.put("arrived_in_time", in_time as f64).put("arrived", arrived as f64).put("bounced", bounces as f64);
    line.put("lost", lost as f64).put("disorder", disorder as f64).put("doubled", doubled as f64);
    line.put("faults", (faults + disorder + doubled) as f64).put("closed", closed as f64);
    // The share of the time in which TCP took nothing more.
    line.put("held_back", waiting / seconds).put("answered", f64::from(u8::from(answered)));
    told.iter().for_each(|(what, times)| _ = line.put(what, *times as f64));
    line.busy(&before, &after).print();
    lost == 0 && faults + disorder + doubled == 0 && closed == 0 && answered
}

/// The defined condition of a stanza error.
fn condition(frame: &[u8]) -> String {
    let text = String::from_utf8_lossy(frame);
    let behind = text.split("<error").nth(1).and_then(|rest| rest.split('<').nth(1)).unwrap_or("?");
    behind.split([' ', '/', '>']).next().unwrap_or("?").to_owned()
}

#[test]
fn a_condition() {
    let frame = b"<message type='error'><body>lgm:1:2:</body><error type='wait'><resource-constraint xmlns='x'/></error></message>";
    assert_eq!(condition(frame), "resource-constraint");
}
