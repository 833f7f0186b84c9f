//! Streams that we open: when, where to, and in which order.

use super::drive::Stream;
use super::half::{Half, Over, lost};
use super::{S2s, jittered, news, note, permits};
use crate::hub::limits::fixed;
use crate::hub::talk::{Lost, SessionId, Unreachable};
use crate::hub::throttle::network;
use crate::jid::Domain;
use crate::net::dns::{Candidate, Policy, Unfound, dialable, own_addresses};
use crate::net::listen;
use crate::net::mdns;
use crate::net::outbox::{Conn, End};
use crate::net::peers::{Found, Link, host_port};
use crate::net::reactor::Socket;
use crate::net::ring::Shared;
use crate::stream::peer::{Callback, Failure, Initiating, Task, Verdict, Wanted};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// To be connected to one address.
const CONNECT: Duration = Duration::from_secs(8);
/// The same on a network of one's own, where people wait to see who is gone.
const CONNECT_NEAR: Duration = Duration::from_secs(3);
/// From there to a stream that is ready; the other side may have to call us back.
const NEGOTIATE: Duration = Duration::from_secs(30);
/// All addresses of a domain, one after the other: others wait for their turn.
const REACH: Duration = Duration::from_secs(90);
/// One key, looked up, asked about and answered.
const CALL: Duration = Duration::from_secs(25);
/// One pairing, which takes two ways there and back.
const PAIR: Duration = Duration::from_secs(10);
/// For an answer of somebody on the local network, to whom we have called out.
const LOOK: Duration = Duration::from_secs(1);
/// The port that is for direct TLS (XEP-0368), where an address is all that is known.
const DIRECT: u16 = 5270;

/// An attempt to make a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dial {
    /// At that time.
    Due(Instant),
    /// Under way.
    Running,
}

/// Does what the hub asks for with [`crate::hub::talk::Sink::dial`].
pub async fn dial_for_ever(shared: Rc<Shared>) {
    while let Ok((peer, after)) = shared.dials.1.recv().await {
        let Some(s2s) = shared.federation.s2s.get().cloned() else {
            let text = "this hub does not reach other domains".into();
            shared.unlink(peer, Unreachable { kind: Lost::NotFound, text });
            continue;
        };
        plan(&shared, &s2s, peer, Duration::from_millis(after));
    }
}

/// One attempt for a peer, and one at a time; the soonest time that was asked for counts.
fn plan(shared: &Rc<Shared>, s2s: &Rc<S2s>, peer: SessionId, after: Duration) {
    if s2s.stopping.get() {
        return;
    }
    let at = if after.is_zero() { Instant::now() } else { jittered(after) };
    match s2s.dials.borrow().get(&peer) {
        Some(Dial::Running) => return,
        Some(Dial::Due(sooner)) if *sooner <= at => return,
        _ => {}
    }
    if s2s.not_before(peer).is_some_and(|not_before| at < not_before) {
        // The hub is not left waiting for an answer: it has its own ways of waiting.
        let shared = shared.clone();
        return shared.clone().spawn(async move {
            if !shared.is_linked(peer) {
                let text = "its links keep breaking; the next attempt comes in some seconds".into();
                shared.unlink(peer, Unreachable { kind: Lost::Timeout, text });
            }
        });
    }
    s2s.dials.borrow_mut().insert(peer, Dial::Due(at));
    let (shared, s2s) = (shared.clone(), s2s.clone());
    shared.clone().spawn(async move {
        shared.reactor.at(at).await;
        if s2s.dials.borrow().get(&peer) != Some(&Dial::Due(at)) {
            return; // another one is sooner
        }
        s2s.dials.borrow_mut().insert(peer, Dial::Running);
        let running = Running { s2s: s2s.clone(), peer };
        dial(&shared, &s2s, peer, running).await;
    });
}

/// Takes an attempt off the list, even when it fails by a bug.
struct Running {
    s2s: Rc<S2s>,
    peer: SessionId,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.s2s.dials.borrow_mut().remove(&self.peer);
    }
}

async fn dial(shared: &Rc<Shared>, s2s: &Rc<S2s>, peer: SessionId, running: Running) {
    let pair = shared.with_hub(|hub, _| {
        let peer = hub.peer_at(peer)?;
        Some((Domain::parse(&peer.local).ok()?, Domain::parse(&peer.remote).ok()?))
    });
    let Some((local, remote)) = pair else { return };
    // What waits in the store may be older than the operator's word.
    if !permits(shared, remote.as_str()) {
        drop(running);
        let text = "the operator of this hub does not want it to reach that domain".into();
        drop(shared.unlink(peer, Unreachable { kind: Lost::NotFound, text }));
        return;
    }
    // Whom a person has written down does not wait behind those whom anybody has made up.
    let known = shared.federation.peers.borrow().known(remote.as_str()).is_some();
    let permit = if known { None } else { Some(s2s.dialling.acquire().await) };
    if s2s.stopping.get() {
        return;
    }
    note(shared, &remote, Link::Dialling, None, None, None);
    let wanted = Wanted { local, remote, task: Task::Link { bidi: true } };
    let late = async {
        shared.reactor.after(REACH).await;
        Err(NoWay::new(Lost::Timeout, "its servers take too long"))
    };
    let made = smol::future::or(reach(shared, s2s, &wanted, NEGOTIATE), late).await;
    drop(permit);
    drop(running);
    match made {
        Ok(mut stream) => {
            let over = stream.run(false).await.err().unwrap_or(Over::Closed);
            stream.finish(over).await;
        }
        // It has come to us meanwhile, and that is as good.
        Err(why) if shared.is_linked(peer) => log::debug!("{}: no link of ours: {}", wanted.remote, why.text),
        Err(why) => {
            let error = Some(why.text.to_string());
            log::log!(news(shared, &wanted.remote, &why.text), "{}: no link: {}", wanted.remote, why.text);
            note(shared, &wanted.remote, Link::Waiting, None, None, error);
            shared.unlink(peer, Unreachable { kind: why.kind, text: why.text.into() });
        }
    }
}

/// Why there is no stream.
struct NoWay {
    kind: Lost,
    text: String,
    /// What the other side had to say, if it was asked something.
    answer: Option<Verdict>,
    /// Somebody was there.
    connected: bool,
}

impl NoWay {
    fn new(kind: Lost, text: impl fmt::Display) -> NoWay {
        NoWay { kind, text: text.to_string(), answer: None, connected: false }
    }
}

/// A stream that is ready, at the first of all addresses where that can be had.
async fn reach(
    shared: &Rc<Shared>,
    s2s: &Rc<S2s>,
    wanted: &Wanted,
    patience: Duration,
) -> Result<Stream, NoWay> {
    let places = some(places(shared, s2s, &wanted.remote).await?);
    let mut worst = NoWay::new(Lost::Timeout, "nobody answers at its addresses");
    let mut hint = true;
    for place in places {
        // A pairing is no link.
        if wanted.task != Task::Pair {
            note(shared, &wanted.remote, Link::Dialling, Some(place.found), None, None);
        }
        match attempt(shared, s2s, wanted, &place, patience).await {
            Ok(stream) => return Ok(stream),
            Err((why, last)) => {
                log::debug!("{} at {}: {}", wanted.remote, place.addr, why.text);
                // What somebody has said tells more than that nobody was there; and what was found elsewhere more
                // than anything that somebody on the local network says, who may be anybody (threats I1, I2).
                let hinted = place.found == Found::Mdns;
                if (hint && !hinted) || (hint == hinted && (why.connected || !worst.connected)) {
                    (worst, hint) = (why, hinted);
                }
                if last {
                    break;
                }
            }
        }
    }
    Err(worst)
}

/// As many addresses as are tried. Those that were only seen leave half of the room to the others: whoever answers for
/// a domain on the local network keeps nobody from where it really is (threats I1).
fn some(places: Vec<Place>) -> Vec<Place> {
    let (seen, others): (Vec<Place>, Vec<Place>) = places.into_iter().partition(|p| p.found == Found::Mdns);
    let room = fixed::PEER_ADDRESSES.saturating_sub(others.len().min(fixed::PEER_ADDRESSES / 2));
    seen.into_iter().take(room).chain(others).take(fixed::PEER_ADDRESSES).collect()
}

/// One address. With the failure: whether there is no sense in trying others.
async fn attempt(
    shared: &Rc<Shared>,
    s2s: &Rc<S2s>,
    wanted: &Wanted,
    place: &Place,
    patience: Duration,
) -> Result<Stream, (NoWay, bool)> {
    let connecting = async { Socket::connect(&shared.reactor, place.addr).await };
    let near = place.found == Found::Mdns || local(place.addr.ip());
    let late = async {
        shared.reactor.after(if near { CONNECT_NEAR } else { CONNECT }).await;
        Err(std::io::ErrorKind::TimedOut.into())
    };
    let io = match smol::future::or(connecting, late).await {
        Ok(io) => io,
        Err(why) => {
            let text = format!("no connection to {}: {}", place.addr, plain(&why));
            return Err((NoWay::new(Lost::Timeout, text), false));
        }
    };
    listen::settle(io.get_ref());
    let Some(settings) = s2s.settings(shared) else {
        return Err((NoWay::new(Lost::Timeout, "this hub has no domain"), true));
    };
    let half = Half::Out(Box::new(Initiating::new(settings, wanted.clone())));
    let mut stream = Stream::new(shared, s2s, Conn::new(io, place.addr), half, None);
    stream.found(place.found);
    stream.within(patience);
    let mut done = match place.direct {
        true => stream.handshake().await,
        false => {
            stream.start();
            Ok(())
        }
    };
    if done.is_ok() {
        done = stream.run(true).await;
    }
    let over = match done {
        Ok(()) => {
            if place.found == Found::Mdns {
                let at = mdns::Candidate { address: place.addr, direct_tls: place.direct };
                shared.federation.sightings.borrow_mut().good(wanted.remote.as_str(), at);
            }
            return Ok(stream);
        }
        Err(over) => over,
    };
    let on_record = shared.federation.peers.borrow().known(wanted.remote.as_str()).is_some();
    let (mut no_way, last) = match &over {
        Over::Failed(failure) => {
            // Another address may be another machine, with another certificate. Where it was only seen, that may be
            // anybody, whatever he says.
            let last = place.found != Found::Mdns
                && !matches!(
                    failure,
                    Failure::Distrust(_)
                        | Failure::StarttlsNotOffered
                        | Failure::Protocol(_)
                        | Failure::Stream(_)
                );
            (NoWay::new(lost(failure, on_record), failure), last)
        }
        Over::Answer(verdict) => {
            (NoWay { answer: Some(*verdict), ..NoWay::new(Lost::Timeout, "it was asked") }, true)
        }
        Over::Paired => (NoWay::new(Lost::Timeout, "it was asked"), true),
        Over::Closed => (NoWay::new(Lost::Timeout, "it has closed the stream before it was ready"), false),
        Over::Dead(why) => (NoWay::new(Lost::Timeout, why), false),
        Over::Killed(End::Error(error)) => (NoWay::new(Lost::Timeout, error), true),
        Over::Killed(_) => (NoWay::new(Lost::Timeout, "it was ended here"), true),
    };
    no_way.connected = true;
    // The last words may take a while, and nobody waits for them.
    shared.spawn(stream.finish(over));
    Err((no_way, last))
}

/// Whether an address is one of the machine's own networks (RFC 1918, RFC 3927, RFC 4193, RFC 4291).
fn local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

fn plain(why: &std::io::Error) -> String {
    match why.kind() {
        std::io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        std::io::ErrorKind::TimedOut => "no answer".to_owned(),
        std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
            "there is no way to it".to_owned()
        }
        _ => why.to_string(),
    }
}

/// Asks the server of a domain whether a key is its own (XEP-0220 §2.1.2), on a connection of its own. `for_whom` has
/// shown it.
pub(super) async fn call_back(shared: &Rc<Shared>, call: &Callback, for_whom: IpAddr) -> Verdict {
    let Some(s2s) = shared.federation.s2s.get().cloned() else { return Verdict::NotFound };
    if s2s.stopping.get() {
        return Verdict::Timeout;
    }
    if !permits(shared, call.remote.as_str()) {
        return Verdict::NotFound;
    }
    let Some(_calling) = Calling::begin(&s2s, for_whom) else { return Verdict::Timeout };
    let task = Task::Verify { id: call.id.clone(), key: call.key.clone() };
    let wanted = Wanted { local: call.local.clone(), remote: call.remote.clone(), task };
    let asking = async { reach(shared, &s2s, &wanted, CALL).await.err() };
    let late = async {
        shared.reactor.after(CALL).await;
        None
    };
    match smol::future::or(asking, late).await {
        Some(NoWay { answer: Some(verdict), .. }) => verdict,
        Some(NoWay { kind: Lost::NotFound, .. }) => Verdict::NotFound,
        Some(NoWay { connected: false, .. }) => Verdict::Unreachable,
        _ => Verdict::Timeout,
    }
}

/// One call-back among those under way. A stranger decides whom we call, and how long that takes, so that he gets a
/// share of them and not all (threats D13).
struct Calling(Rc<S2s>, IpAddr);

impl Calling {
    fn begin(s2s: &Rc<S2s>, for_whom: IpAddr) -> Option<Calling> {
        let for_whom = network(for_whom);
        let mut calls = s2s.calls.borrow_mut();
        if calls.values().sum::<usize>() >= fixed::PEER_CALLS {
            return None;
        }
        let his = calls.entry(for_whom).or_default();
        if *his >= fixed::CALLS_PER_ADDRESS {
            return None;
        }
        *his = his.saturating_add(1);
        Some(Calling(s2s.clone(), for_whom))
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let mut calls = self.0.calls.borrow_mut();
        if let Some(his) = calls.get_mut(&self.1) {
            *his = his.saturating_sub(1);
        }
        calls.retain(|_, count| *count > 0);
    }
}

/// Once through a pairing with whoever is at the addresses of a domain; how it went is in [`Shared::pairing`].
pub async fn pair(shared: &Rc<Shared>, remote: &Domain) {
    let Some(s2s) = shared.federation.s2s.get().cloned() else { return };
    let local = shared.with_hub(|hub, _| Domain::parse(&hub.names.domain).ok());
    let Some(local) = local.filter(|_| permits(shared, remote.as_str())) else { return };
    let wanted = Wanted { local, remote: remote.clone(), task: Task::Pair };
    if let Err(why) = reach(shared, &s2s, &wanted, PAIR).await {
        log::debug!("{remote}: pairing: {}", why.text);
    }
}

/// An address to try.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    addr: SocketAddr,
    direct: bool,
    found: Found,
}

/// Where a domain may be: as somebody has said; where it is to be seen; where DNS says. The first that knows
/// anything is asked alone, but for what is seen: anybody can be seen.
async fn places(shared: &Rc<Shared>, s2s: &Rc<S2s>, remote: &Domain) -> Result<Vec<Place>, NoWay> {
    let record = shared.federation.peers.borrow().known(remote.as_str()).cloned();
    if let Some((address, source)) = record.as_ref().and_then(|r| Some((r.address.clone()?, r.source))) {
        return said(s2s, remote, &address, source.into()).await;
    }
    let mut places = seen(shared, remote);
    if places.is_empty() && remote.as_str().ends_with(".local") {
        mdns::find(&shared.reactor, &shared.federation.sightings, remote.as_str(), LOOK).await;
        places = seen(shared, remote);
    }
    let own = own_addresses(&s2s.own.borrow());
    let pinned = record.is_some_and(|record| record.pin.is_some());
    let on_loopback = s2s.own.borrow().iter().any(|own| own.ip().is_loopback());
    let policy = Policy { loopback_ok: pinned || on_loopback, own: &own };
    let mut refused = None;
    places.retain(|place| match dialable(place.addr.ip(), place.addr.port(), &policy) {
        Ok(()) => true,
        Err(why) => {
            refused.get_or_insert(why);
            false
        }
    });
    match s2s.resolver.server_targets(remote.as_str()).await {
        Ok(found) => {
            for Candidate { addr, direct_tls, .. } in found {
                match dialable(addr.ip(), addr.port(), &policy) {
                    Ok(()) => places.push(Place { addr, direct: direct_tls, found: Found::Dns }),
                    Err(why) => drop(refused.get_or_insert(why)),
                }
            }
        }
        Err(_) if !places.is_empty() => {}
        // A name of the local network is not there today, and may be tomorrow.
        Err(why) if remote.as_str().ends_with(".local") => {
            log::debug!("{remote}: {why}");
            let text = format!(
                "it is not to be seen on the local network; is it there? If mDNS does not reach it: stonechat peer add {remote} --address HOST:PORT"
            );
            return Err(NoWay::new(Lost::Timeout, text));
        }
        Err(why) => {
            let kind = match why {
                Unfound::NotFound | Unfound::Absent => Lost::NotFound,
                Unfound::NoAnswer(_) => Lost::Timeout,
            };
            return Err(NoWay::new(kind, why));
        }
    }
    match refused {
        Some(why) if places.is_empty() => Err(NoWay::new(Lost::NotFound, why)),
        _ => Ok(places),
    }
}

/// What is to be seen on the local network; a hint, and nothing is believed because of it (threats I1).
fn seen(shared: &Rc<Shared>, remote: &Domain) -> Vec<Place> {
    let candidates = shared.federation.sightings.borrow().candidates(remote.as_str());
    let place =
        |one: mdns::Candidate| Place { addr: one.address, direct: one.direct_tls, found: Found::Mdns };
    candidates.into_iter().map(place).collect()
}

/// Where somebody has said that it is: no policy is above that (threats D10).
async fn said(s2s: &S2s, remote: &Domain, address: &str, found: Found) -> Result<Vec<Place>, NoWay> {
    let Some((host, port)) = host_port(address) else {
        return Err(NoWay::new(
            Lost::Timeout,
            format!("its address on record is none: stonechat peer add {remote} --address HOST:PORT"),
        ));
    };
    match s2s.resolver.resolve(host).await {
        Ok(ips) => {
            let place = |ip| Place { addr: SocketAddr::new(ip, port), direct: port == DIRECT, found };
            Ok(ips.into_iter().map(place).collect())
        }
        Err(why) => Err(NoWay::new(Lost::Timeout, format!("{host}: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u16, found: Found) -> Place {
        Place { addr: SocketAddr::from(([192, 0, 2, 1], n)), direct: false, found }
    }

    #[test]
    fn i1_who_answers_for_a_domain_leaves_room_for_where_it_is() {
        let seen = || (1..=16).map(|n| at(n, Found::Mdns));
        let dns = |many| (1..=many).map(|n| at(100 + n, Found::Dns));
        for (many, hints) in [(0, 8), (1, 7), (3, 5), (4, 4), (16, 4)] {
            let places = some(seen().chain(dns(many)).collect());
            assert_eq!(places.len(), fixed::PEER_ADDRESSES, "{many}");
            assert_eq!(places.iter().filter(|p| p.found == Found::Mdns).count(), hints, "{many}");
            assert_eq!(places.first(), Some(&at(1, Found::Mdns)), "those that are near come first");
        }
        assert_eq!(some(dns(16).collect()), dns(8).collect::<Vec<_>>());
        assert_eq!(some(seen().take(2).chain(dns(2)).collect()).len(), 4);
    }
}
