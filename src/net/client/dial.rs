//! From an account to a TCP connection: which hosts and ports to try, in which order.

use super::error::Error;
use super::options::{Options, Security};
use super::wait::{or, sleep};
use crate::net::dns;
use async_io::Async;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// STARTTLS (RFC 6120 §14.7).
const PORT: u16 = 5222;
/// Direct TLS, by custom.
const PORT_TLS: u16 = 5223;
/// So long may one address take to accept a connection.
const PER_TRY: Duration = Duration::from_secs(8);

/// A host to try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Try {
    /// A name, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS begins at once.
    pub direct: bool,
}

/// All that is worth trying, best first.
pub(super) async fn plan(options: &Options) -> Result<Vec<Try>, Error> {
    let domain = options.jid.domain();
    if let Some(host) = &options.host {
        return Ok(by_hand(host, options.port, options.security));
    }
    if options.srv && options.port.is_none() {
        let found = dns::lookup_srv(domain).await;
        if found.absent {
            return Err(Error::Unreachable(format!(
                "{domain} says in the DNS that it has no XMPP for clients; use --host to go there all the same"
            )));
        }
        let tries =
            found.targets.into_iter().map(|t| Try { host: t.host, port: t.port, direct: t.direct_tls });
        let tries: Vec<Try> = tries.filter(|t| fits(options.security, t.direct)).collect();
        if !tries.is_empty() {
            return Ok(tries);
        }
    }
    Ok(by_hand(domain, options.port, options.security))
}

fn fits(security: Security, direct: bool) -> bool {
    match security {
        Security::Required | Security::Plaintext => true,
        Security::DirectTls => direct,
        Security::StartTls => !direct,
    }
}

/// Without the DNS: the usual ports, or the one that was given in the order that its number suggests.
fn by_hand(host: &str, port: Option<u16>, security: Security) -> Vec<Try> {
    let order: &[(u16, bool)] = match port {
        None => &[(PORT, false), (PORT_TLS, true)],
        // Knocking with TLS where STARTTLS is expected brings a clear answer; the reverse brings a
        // long silence.
        Some(port) if port != PORT && security != Security::Plaintext => &[(port, true), (port, false)],
        Some(port) => &[(port, false), (port, true)],
    };
    let tries = order.iter().filter(|(_, direct)| fits(security, *direct));
    tries.map(|&(port, direct)| Try { host: host.to_owned(), port, direct }).collect()
}

/// The addresses of a host.
pub(super) async fn addresses(host: &str) -> Result<Vec<IpAddr>, Error> {
    match dns::resolve(host).await {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(Error::Unreachable(format!("{host}: no addresses"))),
        Err(why) => Err(Error::Unreachable(format!("{host}: {why}"))),
    }
}

/// Connects to the first of these addresses that accepts.
pub(super) async fn connect(
    target: &Try,
    addresses: &[IpAddr],
    deadline: Instant,
) -> Result<Async<TcpStream>, Error> {
    let place = format!("{}:{}", target.host, target.port);
    let mut last = Error::Unreachable(format!("{place}: no addresses"));
    for &address in addresses.iter().take(8) {
        let left = deadline.saturating_duration_since(Instant::now()).min(PER_TRY);
        let opened = async {
            let opened = Async::<TcpStream>::connect(SocketAddr::new(address, target.port)).await;
            opened.map_err(|e| Error::Unreachable(format!("{place}: {}", reason(&e))))
        };
        let late = async {
            sleep(left).await;
            Err(Error::Unreachable(format!("{place}: no answer in {left:.0?}")))
        };
        match or(opened, late).await {
            Ok(io) => {
                let _ = io.get_ref().set_nodelay(true);
                return Ok(io);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn reason(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            "connection refused; is the server running, is it the right port?".to_owned()
        }
        std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::HostUnreachable => {
            "there is no way to that network".to_owned()
        }
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(port: Option<u16>, security: Security) -> Vec<(u16, bool)> {
        by_hand("h", port, security).iter().map(|t| (t.port, t.direct)).collect()
    }

    #[test]
    fn the_order_of_attempts() {
        use Security::*;
        assert_eq!(ports(None, Required), [(5222, false), (5223, true)]);
        assert_eq!(ports(None, DirectTls), [(5223, true)]);
        assert_eq!(ports(None, StartTls), [(5222, false)]);
        assert_eq!(ports(Some(5222), Required), [(5222, false), (5222, true)]);
        assert_eq!(ports(Some(5223), Required), [(5223, true), (5223, false)]);
        assert_eq!(ports(Some(9999), Required), [(9999, true), (9999, false)]);
        assert_eq!(ports(Some(9999), Plaintext), [(9999, false), (9999, true)]);
        assert_eq!(ports(Some(9999), DirectTls), [(9999, true)]);
    }
}
