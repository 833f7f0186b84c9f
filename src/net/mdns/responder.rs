//! The hub's half: it announces itself, and sees others. [`core`] decides, [`sightings`] is what was seen; here are
//! the sockets, which share port 5353 with whatever other responder the machine has (RFC 6762 §15).

pub mod core;
mod rate;
mod records;
pub mod sightings;

#[cfg(test)]
mod tests;

pub use self::core::{Mdns, Outgoing, Output};
pub use sightings::{Candidate, Sighting, Sightings};

use super::wire::{self, Name};
use super::{GROUP_V4, HOPS, Interface, PORT, list};
use crate::net::cert::{self, Pin};
use crate::net::reactor::{Reactor, Sleep, Socket};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, sockopt};
use std::cell::RefCell;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::pin::Pin as Pinned;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// A cable that is plugged in brings several pieces of news.
const SETTLE: Duration = Duration::from_millis(300);
/// How often we look ourselves, if the system does not tell.
const POLL: Duration = Duration::from_secs(10);

/// One of the services that a hub announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// For clients, with STARTTLS (RFC 6120 §3.2.1).
    Client,
    /// For clients, with direct TLS (XEP-0368).
    ClientTls,
    /// For servers, with STARTTLS.
    Server,
    /// For servers, with direct TLS.
    ServerTls,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Client, Kind::ClientTls, Kind::Server, Kind::ServerTls];
}

/// The type's name (RFC 6763 §7).
fn service_name(kind: Kind) -> Name {
    Name::of(match kind {
        Kind::Client => "_xmpp-client._tcp.local",
        Kind::ClientTls => "_xmpps-client._tcp.local",
        Kind::Server => "_xmpp-server._tcp.local",
        Kind::ServerTls => "_xmpps-server._tcp.local",
    })
}

/// What there is to announce.
#[derive(Clone, Debug)]
pub struct Config {
    /// The hub's domain, as A-labels in lower case.
    pub domain: String,
    /// Its key.
    pub pin: Pin,
    /// Its listeners. What they are bound to decides where they are announced: one on a loopback address
    /// is not told to the network.
    pub listeners: Vec<(Kind, SocketAddr)>,
    /// Something random, so that hubs that get power at the same time do not speak at the same time.
    pub seed: u64,
}

impl Config {
    /// Of a hub.
    pub fn new(domain: &str, pin: Pin, listeners: Vec<(Kind, SocketAddr)>) -> Config {
        let domain = cert::ascii_name(domain).unwrap_or_default();
        Config { domain, pin, listeners, seed: u64::from_ne_bytes(crate::net::random()) }
    }

    /// The addresses that listeners have on an interface.
    fn published(&self, on: &Interface) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = Vec::new();
        for (_, at) in &self.listeners {
            for ip in reached(at.ip(), on) {
                if !all.contains(&ip) {
                    all.push(ip);
                }
            }
        }
        all
    }

    fn port(&self, kind: Kind, on: &Interface) -> Option<u16> {
        let mut of_kind = self.listeners.iter().filter(|(other, _)| *other == kind);
        of_kind.find(|(_, at)| !reached(at.ip(), on).is_empty()).map(|(_, at)| at.port())
    }

    /// Whether there are listeners on loopback addresses, and whether there are no others: then nobody on the
    /// network can reach us, and we leave it alone.
    fn on_loopback(&self) -> (bool, bool) {
        let mut all = self.listeners.iter().map(|(_, at)| at.ip().is_loopback());
        (all.clone().any(|is| is), !self.listeners.is_empty() && all.all(|is| is))
    }
}

/// The addresses of an interface at which a listener is reached.
fn reached(at: IpAddr, on: &Interface) -> Vec<IpAddr> {
    if at.is_loopback() && on.loopback {
        return vec![at];
    }
    let fits = |ip: &IpAddr| ip == &at || at.is_unspecified() && (at.is_ipv6() || ip.is_ipv4());
    let mut all: Vec<IpAddr> = on.addresses.iter().map(|(ip, _)| *ip).filter(fits).collect();
    // As avahi has it: link-local ones are for links that have no others.
    let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if all.iter().any(|ip| ip.is_ipv6() && !link_local(ip)) {
        all.retain(|ip| !link_local(ip));
    }
    all
}

/// The sockets, and what is decided about them.
pub struct Service {
    reactor: Rc<Reactor>,
    mdns: RefCell<Mdns>,
    sightings: Rc<RefCell<Sightings>>,
    v4: Option<Socket<UdpSocket>>,
    v6: Option<Socket<UdpSocket>>,
    news: Option<Socket<OwnedFd>>,
    joined: RefCell<Vec<(u32, bool)>>,
    /// What packets over IPv4 are from, by interface: the system takes an address of another one otherwise,
    /// and then nobody believes that they are from there.
    sources: RefCell<Vec<(u32, Ipv4Addr)>>,
    appeared: Rc<dyn Fn(&str)>,
    /// See [`Config::on_loopback`].
    loopback: (bool, bool),
}

impl Service {
    /// Opens the sockets. `appeared` is called for each domain that is seen for the first time, again, or
    /// somewhere else. `None`, with a warning that says what to do, if there is no port for us.
    pub fn open(
        reactor: &Rc<Reactor>,
        config: Config,
        sightings: Rc<RefCell<Sightings>>,
        appeared: Rc<dyn Fn(&str)>,
    ) -> Option<Rc<Service>> {
        let socket = |v6| Socket::new(reactor, open_socket(v6)?);
        let (v4, v6) = (socket(false), socket(true));
        if let (Err(why), Err(_)) = (&v4, &v6) {
            log::warn!(
                "mDNS: cannot use UDP port {PORT} ({why}): no hub on this network will find this one, nor this one them; stop the program that keeps the port for itself (avahi does with disallow-other-stacks=yes), or say --no-mdns"
            );
            return None;
        }
        for (socket, over) in [(&v4, "IPv4"), (&v6, "IPv6")] {
            if let Some(why) = socket.as_ref().err().filter(|why| why.kind() == io::ErrorKind::AddrInUse) {
                log::warn!(
                    "mDNS: cannot use UDP port {PORT} over {over} ({why}): hubs that have nothing else do not find this one; stop the program that keeps the port for itself (avahi does with disallow-other-stacks=yes), or say --no-mdns"
                );
            }
        }
        let loopback = config.on_loopback();
        sightings.borrow_mut().set_listens();
        Some(Rc::new(Service {
            reactor: reactor.clone(),
            mdns: RefCell::new(Mdns::new(Instant::now(), config)),
            sightings,
            v4: v4.ok(),
            v6: v6.ok(),
            news: open_news().and_then(|news| Socket::new(reactor, news)).ok(),
            joined: RefCell::default(),
            sources: RefCell::default(),
            appeared,
            loopback,
        }))
    }

    /// For ever.
    pub async fn run(self: Rc<Self>) {
        self.look_at_interfaces();
        let hearing = smol::future::zip(self.hear(self.v4.as_ref()), self.hear(self.v6.as_ref()));
        let others = smol::future::zip(hearing, self.watch());
        // One task: whatever wakes it, time is looked at last.
        smol::future::zip(others, self.keep_time()).await;
    }

    /// Tells the network that we go.
    pub fn goodbye(&self) {
        let packets = self.mdns.borrow_mut().goodbye();
        self.send(packets);
    }

    async fn hear(&self, socket: Option<&Socket<UdpSocket>>) {
        let Some(socket) = socket else { return };
        let buffer = RefCell::new(vec![0u8; wire::MAX_READ + 1]);
        loop {
            match socket.reading(|socket| socket.recv_from(&mut buffer.borrow_mut())).await {
                Ok((len, from)) => {
                    let output = {
                        let buffer = buffer.borrow();
                        let bytes = buffer.get(..len).unwrap_or_default();
                        let mut sightings = self.sightings.borrow_mut();
                        self.mdns.borrow_mut().handle(Instant::now(), bytes, from, &mut sightings)
                    };
                    self.say(output);
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => {
                    log::debug!("mDNS: {why}");
                    self.reactor.after(Duration::from_secs(1)).await;
                }
            }
            // A flood of packets does not keep the others waiting.
            smol::future::yield_now().await;
        }
    }

    /// Interfaces come and go.
    async fn watch(&self) {
        let mut buffer = vec![0u8; 4096];
        let buffer = RefCell::new(&mut buffer);
        loop {
            match &self.news {
                Some(news) => {
                    // What the news is does not matter; what there is now does.
                    let read = |news: &OwnedFd| Ok(rustix::io::read(news, &mut buffer.borrow_mut()[..])?);
                    if news.reading(read).await.is_ok_and(|len| len == 0) {
                        self.reactor.after(POLL).await;
                    }
                    self.reactor.after(SETTLE).await;
                    while rustix::io::read(news.get_ref(), &mut buffer.borrow_mut()[..]).is_ok_and(|n| n > 0)
                    {
                    }
                }
                None => self.reactor.after(POLL).await,
            }
            self.look_at_interfaces();
        }
    }

    fn keep_time(&self) -> impl Future<Output = ()> {
        let mut sleep: Option<Pinned<Box<Sleep>>> = None;
        std::future::poll_fn(move |cx: &mut Context<'_>| {
            loop {
                let now = Instant::now();
                let (output, next) = {
                    let mut sightings = self.sightings.borrow_mut();
                    let mut mdns = self.mdns.borrow_mut();
                    mdns.key(now, sightings.own_pin());
                    if sightings.take_wanted(Some(cx.waker())) {
                        mdns.look(now);
                        // Once more, for there is nobody yet who would wake us.
                        sightings.take_wanted(Some(cx.waker()));
                    }
                    mdns.tick(now, &mut sightings)
                };
                self.say(output);
                let sleep = sleep.insert(Box::pin(self.reactor.at(next)));
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
    }

    fn say(&self, output: Output) {
        self.send(output.packets);
        for domain in output.appeared {
            (self.appeared)(&domain);
        }
    }

    fn send(&self, packets: Vec<Outgoing>) {
        for packet in packets {
            let Some(socket) = (if packet.v6 { &self.v6 } else { &self.v4 }) else { continue };
            let socket = socket.get_ref();
            let to = match packet.to {
                Some(to) => to,
                None if packet.v6 => SocketAddrV6::new(GROUP_V6, PORT, 0, packet.interface).into(),
                None => {
                    let sources = self.sources.borrow();
                    let Some((index, source)) = sources.iter().find(|(index, _)| *index == packet.interface)
                    else {
                        continue;
                    };
                    let group = &GROUP_V4;
                    if sockopt::set_ip_multicast_if_with_ifindex(socket, group, source, *index).is_err() {
                        continue;
                    }
                    (GROUP_V4, PORT).into()
                }
            };
            // What is lost is lost, as with every datagram; an interface that has just gone is not news.
            if let Err(why) = socket.send_to(&packet.bytes, to) {
                log::debug!("mDNS: to {to}: {why}");
            }
        }
    }

    fn look_at_interfaces(&self) {
        let (on_loopback, only) = self.loopback;
        let list = match list(on_loopback) {
            Ok(mut list) => {
                list.retain(|interface| interface.loopback || !only);
                list
            }
            Err(why) => return log::warn!("mDNS: cannot list this machine's interfaces: {why}"),
        };
        let mut joined = self.joined.borrow_mut();
        let here = |(index, v6): &(u32, bool)| {
            list.iter().any(|i| i.index == *index && i.addresses.iter().any(|(ip, _)| ip.is_ipv6() == *v6))
        };
        joined.retain(|one| {
            here(one) || {
                self.member(*one, false).ok();
                false
            }
        });
        for interface in &list {
            for one in [(interface.index, false), (interface.index, true)] {
                if joined.contains(&one) || !here(&one) {
                    continue;
                }
                match self.member(one, true) {
                    Ok(()) => joined.push(one),
                    Err(why) => log::debug!("mDNS: joining on interface {}: {why}", interface.index),
                }
            }
        }
        drop(joined);
        *self.sources.borrow_mut() = list.iter().filter_map(|i| Some((i.index, i.v4()?))).collect();
        self.mdns.borrow_mut().interfaces(Instant::now(), list);
    }

    /// Joins or leaves the group on an interface.
    fn member(&self, (index, v6): (u32, bool), join: bool) -> io::Result<()> {
        let any = &Ipv4Addr::UNSPECIFIED;
        match (if v6 { &self.v6 } else { &self.v4 }, v6, join) {
            (None, ..) => return Err(ErrorKind::Unsupported.into()),
            (Some(s), true, true) => sockopt::set_ipv6_add_membership(s.get_ref(), &GROUP_V6, index),
            (Some(s), true, false) => sockopt::set_ipv6_drop_membership(s.get_ref(), &GROUP_V6, index),
            (Some(s), false, true) => {
                sockopt::set_ip_add_membership_with_ifindex(s.get_ref(), &GROUP_V4, any, index)
            }
            (Some(s), false, false) => {
                sockopt::set_ip_drop_membership_with_ifindex(s.get_ref(), &GROUP_V4, any, index)
            }
        }?;
        Ok(())
    }
}

/// Where a domain can be reached: what is known, or else what comes when it is asked for. Nothing, if nobody
/// answers for so long, or nobody listens.
pub async fn find(
    reactor: &Rc<Reactor>,
    sightings: &RefCell<Sightings>,
    domain: &str,
    patience: Duration,
) -> Vec<Candidate> {
    let (step, mut waited) = (Duration::from_millis(50), Duration::ZERO);
    loop {
        let candidates = sightings.borrow().candidates(domain);
        if !candidates.is_empty() || waited >= patience || !sightings.borrow().listens() {
            return candidates;
        }
        if waited.is_zero() {
            sightings.borrow_mut().look(domain);
        }
        reactor.after(step).await;
        waited += step;
    }
}

/// A socket that shares the port: other responders set the same two options (RFC 6762 §15.1).
fn open_socket(v6: bool) -> io::Result<UdpSocket> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if v6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
        sockopt::set_ipv6_multicast_hops(&socket, HOPS.into())?;
        sockopt::set_ipv6_unicast_hops(&socket, Some(HOPS))?;
        sockopt::set_ipv6_multicast_loop(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)))?;
    } else {
        sockopt::set_ip_multicast_ttl(&socket, HOPS.into())?;
        sockopt::set_ip_ttl(&socket, HOPS.into())?;
        sockopt::set_ip_multicast_loop(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))?;
    }
    Ok(socket.into())
}

/// Where the system tells of interfaces and addresses (rtnetlink(7)): an idle hub need not look.
fn open_news() -> io::Result<OwnedFd> {
    const LINK: u32 = 0x1;
    const IPV4_ADDRESS: u32 = 0x10;
    const IPV6_ADDRESS: u32 = 0x100;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, LINK | IPV4_ADDRESS | IPV6_ADDRESS))?;
    Ok(socket)
}
