//! Where not to go, whatever DNS says (threats D10): SRV and address records are somebody else's, and what
//! connects is inside this machine and this network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::server::Candidate;

/// What may be dialled besides other machines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy<'a> {
    /// This machine's other ports, and loopback: where our own listener for servers is on loopback, or a
    /// person has given the address.
    pub loopback_ok: bool,
    /// Where we listen for servers ourselves, see [`own_addresses`].
    pub own: &'a [SocketAddr],
}

/// Why an address is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undialable {
    /// It is our own listener: a loop.
    Ourselves,
    /// It is another port of this machine.
    SameMachine,
    /// It is not an address of one machine: unspecified, multicast, broadcast, reserved.
    NoHost,
    /// There is no port 0.
    NoPort,
}

impl fmt::Display for Undialable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Undialable::Ourselves => "its address in DNS is this hub's own",
            Undialable::SameMachine => {
                "its address in DNS is on this machine, which is refused; if that is meant, give it with peer add --address"
            }
            Undialable::NoHost => "its address in DNS is not that of a machine",
            Undialable::NoPort => "its port in DNS is 0",
        })
    }
}

impl std::error::Error for Undialable {}

/// Whether to connect there.
pub fn dialable(ip: IpAddr, port: u16, policy: &Policy<'_>) -> Result<(), Undialable> {
    // `::ffff:127.0.0.1` and `::127.0.0.1` mean 127.0.0.1 to many a system.
    let ip = plain(ip);
    if port == 0 {
        return Err(Undialable::NoPort);
    }
    let no_host = match ip {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first == 0 || first >= 224 // this network; multicast, reserved, broadcast (RFC 6890)
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    if no_host {
        return Err(Undialable::NoHost);
    }
    let same_ip = |own: &&SocketAddr| plain(own.ip()) == ip;
    let every_ip = |own: &&SocketAddr| own.ip().is_unspecified() && ip.is_loopback();
    if policy.own.iter().any(|own| own.port() == port && (same_ip(&own) || every_ip(&own))) {
        return Err(Undialable::Ourselves);
    }
    if !policy.loopback_ok && (ip.is_loopback() || policy.own.iter().any(|own| same_ip(&own))) {
        return Err(Undialable::SameMachine);
    }
    Ok(())
}

/// Those of the list that may be dialled; if none may, why the first may not.
pub fn only_dialable(list: Vec<Candidate>, policy: &Policy<'_>) -> Result<Vec<Candidate>, Undialable> {
    let mut refused = None;
    let mut good = Vec::new();
    for candidate in list {
        match dialable(candidate.addr.ip(), candidate.addr.port(), policy) {
            Ok(()) => good.push(candidate),
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    match refused {
        Some(why) if good.is_empty() => Err(why),
        _ => Ok(good),
    }
}

/// Our listeners as others would name them: for one on all addresses, every address of this machine with its
/// port. Asks the system; call it once per dial, addresses come and go.
pub fn own_addresses(listeners: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut own = listeners.to_vec();
    if listeners.iter().any(|listener| listener.ip().is_unspecified()) {
        for interface in if_addrs::get_if_addrs().unwrap_or_default() {
            for listener in listeners.iter().filter(|listener| listener.ip().is_unspecified()) {
                own.push(SocketAddr::new(interface.ip(), listener.port()));
            }
        }
    }
    own
}

fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            _ => ip.to_canonical(),
        },
        IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn d10_where_not_to_go() {
        let own = ["192.0.2.1:5269".parse().unwrap(), "[2001:db8::1]:5269".parse().unwrap()];
        let strict = Policy { loopback_ok: false, own: &own };
        let lax = Policy { loopback_ok: true, own: &own };
        let at = |text, port, policy: &Policy<'_>| dialable(ip(text), port, policy);
        for good in ["192.0.2.2", "10.0.0.1", "192.168.1.9", "2001:db8::2", "fd00::1", "fe80::1", "1.1.1.1"] {
            assert_eq!(at(good, 5269, &strict), Ok(()), "{good}");
            assert_eq!(at(good, 0, &lax), Err(Undialable::NoPort));
        }
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1"] {
            assert_eq!(at(local, 6379, &strict), Err(Undialable::SameMachine), "{local}");
            assert_eq!(at(local, 6379, &lax), Ok(()), "{local}");
        }
        for own in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"] {
            assert_eq!(at(own, 6379, &strict), Err(Undialable::SameMachine), "{own}");
            assert_eq!(at(own, 6379, &lax), Ok(()), "{own}");
            assert_eq!(at(own, 5269, &lax), Err(Undialable::Ourselves), "{own}");
            assert_eq!(at(own, 5269, &strict), Err(Undialable::Ourselves), "{own}");
        }
        for nobody in [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.251",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
            "ff02::fb",
            "::ffff:224.0.0.1",
        ] {
            assert_eq!(at(nobody, 5269, &lax), Err(Undialable::NoHost), "{nobody}");
        }
    }

    #[test]
    fn d10_a_listener_on_all_addresses_is_on_each() {
        let listeners = ["0.0.0.0:5269".parse().unwrap(), "127.0.0.45:5270".parse().unwrap()];
        let own = own_addresses(&listeners);
        assert!(own.starts_with(&listeners));
        let lax = Policy { loopback_ok: true, own: &own };
        assert_eq!(dialable(ip("127.0.0.1"), 5269, &lax), Err(Undialable::Ourselves));
        assert_eq!(
            dialable(ip("127.7.7.7"), 5269, &lax),
            Err(Undialable::Ourselves),
            "all of 127/8 is there"
        );
        assert_eq!(dialable(ip("127.0.0.45"), 5270, &lax), Err(Undialable::Ourselves));
        assert_eq!(dialable(ip("127.0.0.46"), 5270, &lax), Ok(()), "another hub's");
        let one = [listeners[1]];
        assert_eq!(own_addresses(&one), one);
    }

    #[test]
    fn of_a_list_the_good_ones() {
        let at = |text: &str| Candidate { host: "h".into(), addr: text.parse().unwrap(), direct_tls: false };
        let policy = Policy::default();
        let both = only_dialable(vec![at("127.0.0.1:1"), at("192.0.2.1:1")], &policy);
        assert_eq!(both, Ok(vec![at("192.0.2.1:1")]));
        let none = only_dialable(vec![at("127.0.0.1:1"), at("224.0.0.1:1")], &policy);
        assert_eq!(none, Err(Undialable::SameMachine));
        assert_eq!(only_dialable(vec![], &policy), Ok(vec![]));
    }
}
