//! What this machine's network looks like from here: its addresses, and which of them the system would send from.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// Local addresses given to the core at most. Machines with more of them have mostly virtual ones.
const MOST_LOCAL: usize = 8;
/// Addresses that stand for the whole internet in a look at the routes: nothing is ever sent there, and no network has
/// a route of its own to them.
const ANYWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The machine's network, as far as it matters to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// The addresses of interfaces that are up and have a carrier, by the interface's name.
    pub(crate) interfaces: BTreeSet<(String, IpAddr)>,
    /// The source address that the system would use: to each relay, then to anywhere else by IPv4 and IPv6.
    pub(crate) sources: Vec<Option<IpAddr>>,
}

impl Picture {
    /// Looks; sends nothing.
    pub(crate) fn take(relays: &[SocketAddr]) -> Self {
        let anywhere = ANYWHERE.map(|ip| SocketAddr::new(ip, 9));
        let interfaces = interfaces().unwrap_or_else(|error| {
            log::debug!("this machine's addresses: {error}");
            BTreeSet::new()
        });
        Self { interfaces, sources: relays.iter().chain(&anywhere).map(|&relay| source(relay).ok()).collect() }
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.interfaces.iter().any(|(_, ip)| *ip == address)
    }

    /// Where machines on this one's own networks reach a socket that is bound so: the addresses it is most likely to
    /// send from come first.
    pub(crate) fn reach(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        let serves = |ip: &IpAddr| match bound.ip() {
            IpAddr::V6(any) if any.is_unspecified() => true,
            IpAddr::V4(any) if any.is_unspecified() => ip.is_ipv4(),
            one => one == *ip,
        };
        let mut found = Vec::new();
        let all = self.sources.iter().flatten().chain(self.interfaces.iter().map(|(_, ip)| ip));
        for &ip in all.filter(|&ip| serves(ip) && is_of_use(ip)) {
            if !found.contains(&ip) {
                found.push(ip);
            }
        }
        found.into_iter().take(MOST_LOCAL).map(|ip| SocketAddr::new(ip, bound.port())).collect()
    }
}

/// Whether others may reach this machine by it. A link-local IPv6 address means something only with an interface.
fn is_of_use(ip: &IpAddr) -> bool {
    let far = !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast());
    far && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The address from which the system would send to `target`. Connecting a UDP socket sends nothing.
fn source(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(unix)]
fn interfaces() -> io::Result<BTreeSet<(String, IpAddr)>> {
    use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
    let works = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let all = getifaddrs()?.filter(|interface| interface.flags.contains(works));
    let addressed = all.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some((interface.interface_name, ip))
    });
    // Link-local addresses come and go with every virtual interface, and are of no use.
    Ok(addressed.filter(|(_, ip)| ip.is_loopback() || is_of_use(ip)).collect())
}

/// Without a way to ask for them, the source addresses are what is known.
#[cfg(not(unix))]
fn interfaces() -> io::Result<BTreeSet<(String, IpAddr)>> {
    Ok(BTreeSet::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn picture(interfaces: &[&str], sources: &[&str]) -> Picture {
        Picture {
            interfaces: interfaces.iter().map(|text| ("eth0".to_owned(), ip(text))).collect(),
            sources: sources.iter().map(|text| Some(ip(text))).collect(),
        }
    }

    fn reach(picture: &Picture, bound: &str) -> Vec<String> {
        picture.reach(bound.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_socket_is_reached_at_the_addresses_of_its_families() {
        let picture = picture(&["127.0.0.1", "192.0.2.7", "10.0.0.2", "fe80::1", "fd00::2", "::1"], &["192.0.2.7"]);
        assert_eq!(reach(&picture, "[::]:7"), ["192.0.2.7:7", "10.0.0.2:7", "[fd00::2]:7"]);
        assert_eq!(reach(&picture, "0.0.0.0:7"), ["192.0.2.7:7", "10.0.0.2:7"]);
        assert_eq!(reach(&picture, "10.0.0.2:7"), ["10.0.0.2:7"]);
        assert_eq!(reach(&picture, "127.0.0.1:7"), [""; 0]);
    }

    #[test]
    fn of_many_addresses_those_that_are_sent_from_are_kept() {
        let many: Vec<String> = (0..20).map(|last| format!("10.0.0.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let reached = reach(&picture(&many, &["10.0.0.9", "fd00::9", "10.0.0.9"]), "[::]:1");
        assert_eq!(reached.len(), MOST_LOCAL);
        assert_eq!(reached[..2], ["10.0.0.9:1", "[fd00::9]:1"]);
    }

    #[test]
    fn the_way_to_loopback_is_loopback() {
        let relay = "127.0.0.1:4433".parse().unwrap();
        let picture = Picture::take(&[relay]);
        assert_eq!(picture.sources[0], Some(ip("127.0.0.1")));
        assert_eq!(picture.sources.len(), 3);
        #[cfg(unix)]
        assert!(picture.has(ip("127.0.0.1")));
        assert_eq!(picture, Picture::take(&[relay]), "nothing has changed");
    }
}
