//! From the relay's URL and the wishes about the local side to a pair of addresses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
};

use direc_core::RelayUrl;

use crate::BindError;

/// The relay's address and the local one to bind.
///
/// A name with addresses of both families is taken at its IPv4 address: that is where NATs are to be punched, and
/// where most relays listen. A local address of one family demands that family of the relay, except that `[::]` serves
/// both.
pub(crate) async fn addresses(
    url: &RelayUrl,
    local: Option<SocketAddr>,
) -> Result<(SocketAddr, SocketAddr), BindError> {
    let found = lookup(url).await?;
    choose(url, &found, local)
}

async fn lookup(url: &RelayUrl) -> Result<Vec<SocketAddr>, BindError> {
    if let Ok(ip) = url.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, url.port)]);
    }
    let target = (url.host.clone(), url.port);
    // The system's resolver blocks, so it gets a thread of its own.
    let found: io::Result<Vec<_>> = blocking::unblock(move || target.to_socket_addrs().map(Iterator::collect)).await;
    found.map_err(|error| BindError::Resolve { host: url.host.clone(), error })
}

fn choose(
    url: &RelayUrl,
    found: &[SocketAddr],
    local: Option<SocketAddr>,
) -> Result<(SocketAddr, SocketAddr), BindError> {
    let host = || url.host.clone();
    let usable = |relay: &&SocketAddr| match local {
        None => true,
        Some(local) if local.is_ipv6() && local.ip().is_unspecified() => true,
        Some(local) => local.is_ipv4() == relay.is_ipv4(),
    };
    let first = |v4: bool| found.iter().filter(usable).find(|address| address.is_ipv4() == v4);
    let relay = match (first(true).or_else(|| first(false)), local) {
        (Some(relay), _) => *relay,
        (None, Some(local)) if !found.is_empty() => return Err(BindError::Family { local, host: host() }),
        (None, _) => return Err(BindError::NoAddress { host: host() }),
    };
    let any: IpAddr = if relay.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Ok((relay, local.unwrap_or(SocketAddr::new(any, 0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use direc_core::NodeId;

    fn url(host: &str) -> RelayUrl {
        RelayUrl::new(host, 4433, NodeId::from_bytes([0; 32])).unwrap()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ipv4_comes_first_and_the_local_side_follows() {
        let found = [address("[2001:db8::1]:4433"), address("192.0.2.1:4433")];
        let chosen = choose(&url("a"), &found, None).unwrap();
        assert_eq!(chosen, (address("192.0.2.1:4433"), address("0.0.0.0:0")));
        let chosen = choose(&url("a"), &found[..1], None).unwrap();
        assert_eq!(chosen, (address("[2001:db8::1]:4433"), address("[::]:0")));
    }

    #[test]
    fn a_local_address_picks_the_family() {
        let found = [address("192.0.2.1:4433"), address("[2001:db8::1]:4433")];
        for (local, relay) in [("[::1]:7", 1), ("[::]:7", 0), ("0.0.0.0:7", 0), ("127.0.0.1:0", 0)] {
            let chosen = choose(&url("a"), &found, Some(address(local))).unwrap();
            assert_eq!(chosen, (found[relay], address(local)), "{local}");
        }
    }

    #[test]
    fn a_local_address_of_the_wrong_family_is_named() {
        let error = choose(&url("a"), &[address("192.0.2.1:1")], Some(address("[::1]:7"))).unwrap_err();
        assert!(error.to_string().contains("[::1]:7"), "{error}");
        assert!(matches!(choose(&url("a"), &[], None), Err(BindError::NoAddress { .. })));
    }
}
