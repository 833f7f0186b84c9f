//! One question for one name, without being a responder (RFC 6762 §5.1): for the client half.

use super::wire::{self, Data, Name, Question, Writer};
use super::{GROUP_V4, PORT};
use crate::net::dns::distinct;
use async_io::{Async, Timer};
use rustix::net::sockopt;
use smol::future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Asked again after this; a radio loses what is sent to all.
const AGAIN: Duration = Duration::from_millis(300);
/// Packets that are no answer, before we stop listening.
const MAX_STRANGERS: usize = 64;

/// The addresses of a host in `.local`, IPv4 first; the first that answers counts. Nothing after so long.
pub async fn resolve(host: &str, patience: Duration) -> Vec<IpAddr> {
    ask(host, false, patience).await
}

pub(super) async fn ask(host: &str, loopback: bool, patience: Duration) -> Vec<IpAddr> {
    let late = async {
        Timer::after(patience).await;
        Vec::new()
    };
    let asking = async { asked(host, loopback).await.unwrap_or_default() };
    future::or(asking, late).await
}

async fn asked(host: &str, loopback: bool) -> Option<Vec<IpAddr>> {
    let interfaces = super::list(loopback).ok()?;
    let socket = Async::<UdpSocket>::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    sockopt::set_ip_multicast_ttl(socket.get_ref(), super::HOPS.into()).ok()?;
    let id = u16::from_ne_bytes(crate::net::random());
    let name = Name::of(host);
    let mut writer = Writer::query();
    writer.id(id);
    for kind in [wire::A, wire::AAAA] {
        writer.question(&Question { name: name.clone(), kind, unicast: false });
    }
    let query = writer.finish();
    let asking = async {
        loop {
            for interface in &interfaces {
                let Some(source) = interface.v4() else { continue };
                let (group, io) = (&GROUP_V4, socket.get_ref());
                if sockopt::set_ip_multicast_if_with_ifindex(io, group, &source, interface.index).is_ok() {
                    // What does not go now is asked again.
                    let _ = io.send_to(&query, (GROUP_V4, PORT));
                }
            }
            Timer::after(AGAIN).await;
        }
    };
    let hearing = async {
        let mut buffer = vec![0u8; wire::MAX_READ];
        for _ in 0..MAX_STRANGERS {
            let (len, from) = socket.recv_from(&mut buffer).await.ok()?;
            if from.port() != PORT || !interfaces.iter().any(|interface| interface.reaches(from)) {
                continue;
            }
            let Some(message) = wire::read(buffer.get(..len).unwrap_or_default()) else { continue };
            if !message.response || message.id != id || message.rcode != 0 {
                continue;
            }
            let records = message.answers.iter().chain(&message.additional).filter(|r| r.name == name);
            let mut addresses = distinct(records.filter_map(|r| address(&r.data, from)).collect());
            if !addresses.is_empty() {
                addresses.truncate(super::MAX_ADDRESSES);
                return Some(addresses);
            }
        }
        None
    };
    future::or(hearing, asking).await
}

/// What can be dialled without saying through which interface.
fn address(data: &Data, from: SocketAddr) -> Option<IpAddr> {
    let ip = match data {
        Data::A(v4) => IpAddr::V4(*v4),
        Data::Aaaa(v6) if !v6.is_unicast_link_local() => IpAddr::V6(*v6),
        _ => return None,
    };
    let odd = ip.is_multicast() || ip.is_unspecified() || ip.is_loopback() && !from.ip().is_loopback();
    (!odd).then_some(ip)
}
