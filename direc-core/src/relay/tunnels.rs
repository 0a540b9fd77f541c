//! Tunnels that peers have opened to this relay, and the addresses that stand for them.
//!
//! QUIC tells paths apart by addresses, and moves a connection to the one that its packets come from (RFC 9000, section
//! 9). So a tunnel has an address like any other path, out of a prefix from which no packet can come (RFC 6666). Inside
//! the relay nothing else changes: a control connection, and what is forwarded to it, follow the peer from UDP into a
//! tunnel and back.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use super::Relay;
use crate::{Link, Transmit, drops::DropReason};

/// Discard-only addresses, 100::/64.
const PREFIX: [u16; 4] = [0x100, 0, 0, 0];

/// Where a tunnel's packets seem to come from.
fn place(number: u32) -> SocketAddr {
    let [a, b, c, d] = PREFIX;
    let [high, low] = [number >> 16, number].map(|half| half as u16);
    SocketAddr::new(Ipv6Addr::new(a, b, c, d, 0, 0, high, low).into(), 1)
}

/// The tunnel that an address stands for.
fn number(place: SocketAddr) -> Option<u32> {
    match place.ip() {
        IpAddr::V6(ip) if ip.segments()[..4] == PREFIX => {
            let [.., high, low] = ip.segments();
            Some(u32::from(high) << 16 | u32::from(low))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Whether an address stands for a tunnel: whoever is there has proven to be, by TCP's handshake.
pub(super) fn is_tunnel(place: SocketAddr) -> bool {
    number(place).is_some()
}

/// The tunnels that are up, and where their other ends are.
#[derive(Default)]
pub(super) struct Tunnels(BTreeMap<u32, SocketAddr>);

impl Tunnels {
    pub(super) fn up(&mut self, number: u32, remote: SocketAddr) {
        self.0.insert(number, remote);
    }

    pub(super) fn lost(&mut self, number: u32) {
        self.0.remove(&number);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The address by which the relay knows where a datagram came from.
    pub(super) fn enter(&self, link: Link, remote: SocketAddr) -> Result<SocketAddr, DropReason> {
        match link {
            Link::Tunnel(number) if self.0.contains_key(&number) => Ok(place(number)),
            Link::Tunnel(_) => Err(DropReason::UnknownTunnel),
            // A relay has no spare sockets: whoever says so means some UDP socket.
            Link::Main | Link::Punch(_) | Link::Spare(_) if is_tunnel(remote) => Err(DropReason::UnknownTunnel),
            Link::Main | Link::Punch(_) | Link::Spare(_) => Ok(remote),
        }
    }

    /// Where somebody really is who is known by that address.
    pub(super) fn remote(&self, place: SocketAddr) -> SocketAddr {
        number(place).and_then(|number| self.0.get(&number)).copied().unwrap_or(place)
    }

    /// Sends by the tunnel what goes to an address that stands for one.
    pub(super) fn route(&self, out: Transmit) -> Transmit {
        match number(out.remote) {
            Some(number) => Transmit { link: Link::Tunnel(number), remote: self.remote(out.remote), ..out },
            None => out,
        }
    }
}

impl Relay {
    /// A peer has opened the tunnel of this number, from `remote`: datagrams come and go by
    /// [`Link::Tunnel`] from now on. No number is used twice.
    pub fn tunnel_up(&mut self, now: Instant, number: u32, remote: SocketAddr) {
        self.advance(now);
        self.tunnels.up(number, remote);
    }

    /// That tunnel is gone. Its peer's control connection goes on by another one, or by UDP, if the peer comes back in
    /// time.
    pub fn tunnel_lost(&mut self, now: Instant, number: u32) {
        self.advance(now);
        self.tunnels.lost(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transmit(remote: SocketAddr) -> Transmit {
        Transmit::one(Link::Main, remote, 1)
    }

    #[test]
    fn what_comes_by_a_tunnel_is_answered_by_it() {
        let (mut tunnels, remote) = (Tunnels::default(), "198.51.100.7:50000".parse().unwrap());
        for number in [0, 1, 0x1_0000, u32::MAX] {
            tunnels.up(number, remote);
            let place = tunnels.enter(Link::Tunnel(number), remote).unwrap();
            let out = tunnels.route(transmit(place));
            assert_eq!((out.link, out.remote), (Link::Tunnel(number), remote));
        }
    }

    #[test]
    fn udp_goes_its_own_way_also_from_the_very_address_of_a_tunnels_other_end() {
        let (mut tunnels, remote) = (Tunnels::default(), "198.51.100.7:50000".parse().unwrap());
        tunnels.up(3, remote);
        let place = tunnels.enter(Link::Main, remote).unwrap();
        assert_eq!(place, remote);
        assert_eq!(tunnels.route(transmit(place)), transmit(remote));
    }

    #[test]
    fn nobody_speaks_for_a_tunnel_by_a_forged_address_or_after_its_end() {
        let (mut tunnels, remote) = (Tunnels::default(), "198.51.100.7:50000".parse().unwrap());
        tunnels.up(3, remote);
        assert_eq!(tunnels.enter(Link::Main, place(3)), Err(DropReason::UnknownTunnel));
        assert_eq!(tunnels.enter(Link::Punch(0), place(3)), Err(DropReason::UnknownTunnel));
        tunnels.lost(3);
        assert_eq!(tunnels.enter(Link::Tunnel(3), remote), Err(DropReason::UnknownTunnel));
    }
}
