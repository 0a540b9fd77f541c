//! From the relays' URLs to the addresses that the socket can reach.

use std::{
    future::{Future, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use async_io::Timer;
use direc_core::{ConfigError, MAX_RELAYS, Nat64Prefix, RelayAddress, RelayUrl};

use crate::{BindError, https::within};

/// How long names that do not resolve may keep those waiting that have: as long as resolvers mostly try one server.
const GRACE: Duration = Duration::from_secs(5);

/// A name that has IPv4 addresses alone, and one of them (RFC 7050, section 2.2): an IPv6 address of it is a DNS64's.
const IPV4_ONLY: (&str, u16) = ("ipv4only.arpa", 9);
const OF_IPV4_ONLY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 170);
/// How long a network without IPv4 is asked for its NAT64.
const NAT64_PATIENCE: Duration = Duration::from_secs(1);

type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Relays with their indices, and the network's NAT64.
type Found = (Vec<(usize, RelayAddress)>, Option<Nat64Prefix>);

/// The relays as a socket bound to `local` can reach them, in their order, each with its index among the URLs.
///
/// A name with addresses of both families is taken at its IPv4 address, if there is a way to it: that is where NATs are
/// to be punched, and where most relays listen. A local address of one family demands that family of the relay, except
/// that `[::]` serves both. Relays that cannot be had are warned of and left out, unless that leaves none.
///
/// Where a NAT64 is all there is of IPv4, addresses of that are taken as it has them; its prefix comes along.
pub(crate) async fn relays(urls: &[RelayUrl], local: SocketAddr) -> Result<Found, BindError> {
    if urls.len() > MAX_RELAYS {
        return Err(ConfigError::Setting("a peer takes 4 relays at most").into());
    }
    let mut found = look_up_all(urls.iter().map(look_up).collect()).await;
    let near = |address: &SocketAddr| address.is_ipv4() && is_routed(*address) || address.ip().is_loopback();
    let all = || found.iter().flatten().flatten();
    let nat64 = if all().next().is_none() || all().any(near) { None } else { nat64().await };
    for address in found.iter_mut().flatten().flatten() {
        if let (IpAddr::V4(ip), Some(prefix)) = (address.ip(), nat64) {
            address.set_ip(prefix.embed(ip).into());
        }
    }
    Ok((pick(urls, found, local, is_routed)?, nat64))
}

/// The relay as a socket bound to `local` can reach it.
pub(crate) async fn relay(url: &RelayUrl, local: SocketAddr) -> Result<RelayAddress, BindError> {
    let (found, _) = relays(std::slice::from_ref(url), local).await?;
    found.into_iter().next().map(|(_, relay)| relay).ok_or(BindError::NoAddress { host: url.host.clone() })
}

/// Whether the system knows a way there. Nothing is sent.
fn is_routed(address: SocketAddr) -> bool {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    UdpSocket::bind(any).is_ok_and(|socket| socket.connect(address).is_ok())
}

/// The prefix of the network's NAT64, if it has no IPv4 (RFC 7050).
async fn nat64() -> Option<Nat64Prefix> {
    if is_routed((OF_IPV4_ONLY, IPV4_ONLY.1).into()) {
        return None;
    }
    let lookup = blocking::unblock(|| IPV4_ONLY.to_socket_addrs().map(Iterator::collect));
    let found: Vec<SocketAddr> = within(NAT64_PATIENCE, lookup).await?.ok()?;
    let prefix = found.into_iter().find_map(|address| match address.ip() {
        IpAddr::V6(ip) => Nat64Prefix::discovered(ip),
        IpAddr::V4(_) => None,
    });
    log::debug!("no IPv4 here; NAT64: {prefix:?}");
    prefix
}

fn look_up(url: &RelayUrl) -> Lookup {
    let target = (url.host.clone(), url.port);
    if let Ok(ip) = url.host.parse::<IpAddr>() {
        return Box::pin(async move { Ok(vec![SocketAddr::new(ip, target.1)]) });
    }
    // The system's resolver blocks, so it gets a thread of its own; at once, before anybody waits for it.
    Box::pin(blocking::unblock(move || target.to_socket_addrs().map(Iterator::collect)))
}

/// What all lookups have found; once one has, the rest get [`GRACE`].
async fn look_up_all(mut lookups: Vec<Lookup>) -> Vec<io::Result<Vec<SocketAddr>>> {
    let mut found: Vec<_> = lookups.iter().map(|_| None).collect();
    let mut grace = Timer::never();
    poll_fn(|cx| {
        for (found, lookup) in found.iter_mut().zip(&mut lookups).filter(|(found, _)| found.is_none()) {
            if let Poll::Ready(result) = lookup.as_mut().poll(cx) {
                *found = Some(result);
            }
        }
        if found.iter().all(Option::is_some) {
            return Poll::Ready(());
        }
        if !grace.will_fire() && found.iter().flatten().any(Result::is_ok) {
            grace.set_after(GRACE);
        }
        Pin::new(&mut grace).poll(cx).map(|_| ())
    })
    .await;
    found.into_iter().map(|found| found.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))).collect()
}

fn pick(
    urls: &[RelayUrl],
    found: Vec<io::Result<Vec<SocketAddr>>>,
    local: SocketAddr,
    routed: impl Fn(SocketAddr) -> bool,
) -> Result<Vec<(usize, RelayAddress)>, BindError> {
    let (mut relays, mut errors) = (Vec::<(usize, RelayAddress)>::new(), Vec::new());
    for (index, (url, found)) in urls.iter().zip(found).enumerate() {
        let found = found.map_err(|error| BindError::Resolve { host: url.host.clone(), error });
        match found.and_then(|found| choose(url, &found, local, &routed)) {
            Ok(address) if relays.iter().any(|(_, relay)| relay.address == address) => {
                log::warn!("{}:{} is a relay that was named before: left out", url.host, url.port);
            }
            Ok(address) => relays.push((index, RelayAddress { address, key: url.key })),
            Err(error) => errors.push(error),
        }
    }
    if relays.is_empty() {
        return Err(errors.into_iter().next().unwrap_or(ConfigError::Setting("a peer needs a relay").into()));
    }
    for error in errors {
        log::warn!("{error}; going on without that relay");
    }
    Ok(relays)
}

fn choose(
    url: &RelayUrl,
    found: &[SocketAddr],
    local: SocketAddr,
    routed: impl Fn(SocketAddr) -> bool,
) -> Result<SocketAddr, BindError> {
    let any = local.is_ipv6() && local.ip().is_unspecified();
    let usable = |relay: &&SocketAddr| any || local.is_ipv4() == relay.is_ipv4();
    let first = |v4: bool| found.iter().filter(usable).find(|address| address.is_ipv4() == v4);
    let both = [first(true), first(false)];
    // Without a way to either there may be one later.
    let with_a_way = both.into_iter().flatten().find(|address| routed(**address));
    match with_a_way.or(both[0]).or(both[1]) {
        Some(relay) => Ok(*relay),
        None if found.is_empty() => Err(BindError::NoAddress { host: url.host.clone() }),
        None => Err(BindError::Family { local, host: url.host.clone() }),
    }
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
    fn ipv4_comes_first_on_a_socket_for_both() {
        let found = [address("[2001:db8::1]:4433"), address("192.0.2.1:4433")];
        let both = address("[::]:7");
        assert_eq!(choose(&url("a"), &found, both, |_| true).unwrap(), found[1]);
        assert_eq!(choose(&url("a"), &found[..1], both, |_| true).unwrap(), found[0]);
    }

    #[test]
    fn where_there_is_no_way_by_ipv4_a_name_is_taken_at_its_ipv6_address() {
        let found = [address("192.0.2.1:4433"), address("[64:ff9b::192.0.2.1]:4433")];
        let both = address("[::]:7");
        assert_eq!(choose(&url("a"), &found, both, |address| address.is_ipv6()).unwrap(), found[1]);
        assert_eq!(choose(&url("a"), &found, both, |_| false).unwrap(), found[0]);
    }

    #[test]
    fn a_local_address_picks_the_family() {
        let found = [address("192.0.2.1:4433"), address("[2001:db8::1]:4433")];
        for (local, relay) in [("[::1]:7", 1), ("[::]:7", 0), ("0.0.0.0:7", 0), ("127.0.0.1:0", 0)] {
            assert_eq!(choose(&url("a"), &found, address(local), |_| true).unwrap(), found[relay], "{local}");
        }
    }

    #[test]
    fn a_local_address_of_the_wrong_family_is_named() {
        let local = address("[::1]:7");
        let error = choose(&url("a"), &[address("192.0.2.1:1")], local, |_| true).unwrap_err();
        assert!(error.to_string().contains("[::1]:7"), "{error}");
        assert!(matches!(choose(&url("a"), &[], local, |_| true), Err(BindError::NoAddress { .. })));
    }

    #[test]
    fn a_name_that_does_not_resolve_is_left_out_unless_there_is_no_other() {
        let failed = || Err(io::ErrorKind::NotFound.into());
        let (urls, there) = ([url("a"), url("b"), url("c")], address("192.0.2.1:4433"));
        let relays =
            pick(&urls, vec![failed(), Ok(vec![there]), Ok(vec![there])], address("[::]:7"), |_| true).unwrap();
        assert_eq!(relays, [(1, RelayAddress { address: there, key: urls[1].key })]);
        let error = pick(&urls, vec![failed(), failed(), failed()], address("[::]:7"), |_| true).unwrap_err();
        assert!(matches!(&error, BindError::Resolve { host, .. } if host == "a"), "{error}");
        assert!(matches!(pick(&[], vec![], address("[::]:7"), |_| true), Err(BindError::Config(_))));
    }
}
