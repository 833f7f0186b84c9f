//! The order of SRV records (RFC 2782, XEP-0368 §3).

use super::question::Record;
use super::{Found, MAX_RECORDS, Reason, Target};
use crate::net::sort_few;

/// A random number below `bound`.
pub(super) fn below(bound: u32) -> u32 {
    u32::from_ne_bytes(crate::net::random()).checked_rem(bound).unwrap_or(0)
}

pub(super) struct Weighed {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) target: Target,
}

/// The answers for both names as one list.
pub(super) fn mix(
    direct: Result<Vec<Record>, Reason>,
    starttls: Result<Vec<Record>, Reason>,
    below: &mut impl FnMut(u32) -> u32,
) -> Found {
    let mut list: Vec<Weighed> = Vec::new();
    let none = |answer: &Result<Vec<Record>, Reason>| {
        matches!(answer, Ok(records) if !records.is_empty()
            && records.iter().all(|r| matches!(r, Record::Srv { host, .. } if host == ".")))
    };
    // `.` for direct TLS alone says only that there is no direct TLS.
    let refused = none(&starttls);
    for (answer, direct_tls) in [(&direct, true), (&starttls, false)] {
        for record in answer.iter().flatten() {
            let Record::Srv { priority, weight, port, host } = record else { continue };
            let target = Target { host: host.clone(), port: *port, direct_tls };
            if host != "."
                && *port != 0
                && list.len() < MAX_RECORDS
                && !list.iter().any(|w| w.target == target)
            {
                list.push(Weighed { priority: *priority, weight: *weight, target });
            }
        }
    }
    if list.is_empty() {
        // A refusal counts as the reason only if nothing better is known.
        let reason = match (&starttls, &direct) {
            (Err(why), Ok(_) | Err(Reason::NoSuchName | Reason::NoRecords)) => why.clone(),
            (_, Err(why)) => why.clone(),
            _ => Reason::NoRecords,
        };
        return Found { targets: Vec::new(), absent: refused, reason: Some(reason) };
    }
    Found { targets: order(list, below), absent: false, reason: None }
}

/// RFC 2782, "Usage rules": by priority, and within one by lot, with the weights as the odds.
pub(super) fn order(mut list: Vec<Weighed>, below: &mut impl FnMut(u32) -> u32) -> Vec<Target> {
    sort_few(&mut list, |a, b| (a.priority, a.weight) < (b.priority, b.weight));
    let mut out = Vec::new();
    while let Some(first) = list.first() {
        let priority = first.priority;
        let group = || list.iter().take_while(|w| w.priority == priority);
        let sum = group().fold(0u32, |sum, w| sum.saturating_add(u32::from(w.weight)));
        let lot = below(sum.saturating_add(1));
        let mut running = 0u32;
        let at = group().position(|w| {
            running = running.saturating_add(u32::from(w.weight));
            running >= lot
        });
        out.push(list.remove(at.unwrap_or(0).min(list.len().saturating_sub(1))).target);
    }
    out
}
