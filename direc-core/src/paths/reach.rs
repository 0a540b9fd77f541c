//! What may be probed: which families of addresses this peer has, and never a relay.

use std::net::{IpAddr, SocketAddr};

use crate::Nat64Prefix;

/// What a peer can reach.
///
/// Where it has no IPv4 but a NAT64, all of this crate speaks of others by their IPv4 addresses, as they and the relay do;
/// [`Self::outward`] and [`Self::inward`] stand between that and the socket. Relays stay what the settings say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    pub(crate) relays: Vec<SocketAddr>,
    pub(crate) v4: bool,
    pub(crate) v6: bool,
    pub(crate) nat64: Option<Nat64Prefix>,
}

impl Reach {
    /// At these relays. One that is reached through the prefix that everybody knows shows that there is a NAT64.
    pub(crate) fn new(relays: Vec<SocketAddr>, nat64: Option<Nat64Prefix>) -> Self {
        let shows = |relay: &SocketAddr| match relay.ip() {
            IpAddr::V6(ip) => Nat64Prefix::WELL_KNOWN.extract(ip).is_some(),
            IpAddr::V4(_) => false,
        };
        let (v4, v6) = (relays.iter().any(SocketAddr::is_ipv4), relays.iter().any(SocketAddr::is_ipv6));
        let nat64 = nat64.or_else(|| relays.iter().any(shows).then_some(Nat64Prefix::WELL_KNOWN));
        Self { relays, v4, v6, nat64 }
    }

    /// The NAT64, where it is needed.
    fn translator(&self) -> Option<Nat64Prefix> {
        self.nat64.filter(|_| !self.v4)
    }

    /// Where the socket has to send to.
    pub(crate) fn outward(&self, remote: SocketAddr) -> SocketAddr {
        match (remote.ip(), self.translator()) {
            (IpAddr::V4(ip), Some(prefix)) => SocketAddr::new(prefix.embed(ip).into(), remote.port()),
            _ => remote,
        }
    }

    /// Who it is that something came from.
    pub(crate) fn inward(&self, remote: SocketAddr) -> SocketAddr {
        let relay = || self.relays.iter().any(|relay| relay.ip() == remote.ip());
        match (remote.ip(), self.translator()) {
            (IpAddr::V6(ip), Some(prefix)) if !relay() => {
                prefix.extract(ip).map_or(remote, |ip| SocketAddr::new(ip.into(), remote.port()))
            }
            _ => remote,
        }
    }

    /// Whether a relay is there.
    pub(crate) fn is_relay(&self, address: SocketAddr) -> bool {
        self.relays.contains(&address) || self.relays.contains(&self.outward(address))
    }

    /// Whether an address that a message named may be probed at all: somebody else's choice must not make us send to
    /// places where nobody's NAT is.
    pub(crate) fn allows(&self, address: SocketAddr) -> bool {
        let ip = address.ip();
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let pointless = address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || broadcast || link_local;
        // Loopback is a peer's address only where the relay sees it from there too.
        let foreign_loopback = ip.is_loopback() && !self.relays.iter().any(|relay| relay.ip().is_loopback());
        let family = match ip {
            IpAddr::V4(ip) => self.v4 || self.nat64.is_some() && !ip.is_private() && !ip.is_loopback(),
            IpAddr::V6(_) => self.v6,
        };
        !pointless && !foreign_loopback && family && !self.is_relay(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_that_can_be_nobodys_are_not_probed() {
        let reach = Reach::new(vec![address("203.0.113.10:4433")], None);
        for bad in [
            "0.0.0.0:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "127.0.0.1:1",
            "169.254.1.1:1",
            "198.51.100.1:0",
            "203.0.113.10:4433",
            "[2001:db8::1]:1",
        ] {
            assert!(!reach.allows(address(bad)), "{bad}");
        }
        assert!(reach.allows(address("198.51.100.1:1")));
    }

    #[test]
    fn behind_a_nat64_others_are_spoken_of_by_their_ipv4_addresses() {
        let relay = address("[64:ff9b::203.0.113.10]:4433");
        let mut reach = Reach::new(vec![relay], None);
        let (other, through) = (address("198.51.100.1:9"), address("[64:ff9b::198.51.100.1]:9"));
        assert!(reach.allows(other) && reach.allows(address("[2001:db8::1]:1")));
        assert_eq!((reach.outward(other), reach.inward(through)), (through, other));
        let hole_punch = address("[64:ff9b::203.0.113.10]:4434");
        assert_eq!((reach.inward(relay), reach.inward(hole_punch)), (relay, hole_punch));
        for bad in ["203.0.113.10:4433", "192.168.1.10:9", "127.0.0.1:9", "[64:ff9b::203.0.113.10]:4433"] {
            assert!(!reach.allows(address(bad)), "{bad}");
        }
        reach.v4 = true;
        assert_eq!((reach.outward(other), reach.inward(through)), (other, through), "it has IPv4 of its own");
    }

    #[test]
    fn another_prefix_has_to_be_told() {
        let relay = address("[2001:db8:64::203.0.113.10]:4433");
        let prefix = Nat64Prefix::new("2001:db8:64::".parse().unwrap(), 96);
        assert!(!Reach::new(vec![relay], None).allows(address("198.51.100.1:9")));
        let reach = Reach::new(vec![relay], prefix);
        assert_eq!(reach.outward(address("198.51.100.1:9")), address("[2001:db8:64::198.51.100.1]:9"));
    }
}
