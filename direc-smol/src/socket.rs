//! One UDP socket: batches in and out with GRO, GSO and ECN, by quinn-udp.

mod asked;

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use asked::Asked;
use async_io::Async;
use bytes::BytesMut;
use direc_core::{Arrival, Link, Transmit, quic_types::EcnCodepoint};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Type};

use crate::BindError;

/// Socket buffers asked for. The system may give less; what bursts past them is lost like on any full queue. 4 MiB
/// holds the default window of a stream.
const SOCKET_BUFFER: usize = 4 << 20;
/// Received buffers taken at once. Each may hold up to 64 datagrams (GRO).
pub(crate) const RECEIVE_BATCH: usize = 8;
/// The largest UDP payload there is, which is also the most that GRO puts into one buffer.
const RECEIVE_BUFFER: usize = 1 << 16;
/// The most bytes that one GSO send may hold: the largest UDP payload over IPv4.
const SEND_LIMIT: usize = 65_507;

/// Routers that a packet may pass as a rule (RFC 1700; Linux's default).
const HOPS: u32 = 64;

/// So many sends in a row that failed for the socket's sake make it a broken one.
const BROKEN: u32 = 3;

/// A bound UDP socket that never blocks.
pub(crate) struct Socket {
    pub(crate) io: Async<UdpSocket>,
    pub(crate) link: Link,
    state: UdpSocketState,
    local: SocketAddr,
    /// Sends in a row that failed as they do when the socket's address or interface has gone.
    broken: AtomicU32,
    /// For a socket on all of a machine's addresses that answers from the one it was asked at.
    asked: Option<Arc<Asked>>,
}

/// What sending came to.
pub(crate) enum Sent {
    /// All of it was handed over, except so many datagrams that the system would not send.
    Done { failed: u64 },
    /// The socket is full from byte `offset` on.
    Full { offset: usize, failed: u64 },
}

impl Socket {
    pub(crate) fn bind(link: Link, address: SocketAddr) -> Result<Self, BindError> {
        Self::open(link, address).map_err(|error| BindError::Socket { address, error })
    }

    /// A relay's socket: who asks at one of several addresses is answered from that. A peer's is not like this: its
    /// network may be another any moment, and the system then knows best by which address it gets out.
    /// All of a relay's sockets share what they know: a knock comes from a port at which nobody asks.
    pub(crate) fn bind_relay(link: Link, address: SocketAddr, asked: &Arc<Asked>) -> Result<Self, BindError> {
        let socket = Self::bind(link, address)?;
        Ok(Self { asked: address.ip().is_unspecified().then(|| asked.clone()), ..socket })
    }

    /// A peer's one socket: where nothing else is asked for, for IPv6 and IPv4 side by side.
    pub(crate) fn bind_peer(wish: Option<SocketAddr>) -> Result<Self, BindError> {
        match wish {
            Some(address) => Self::bind(Link::Main, address),
            None => Self::bind_any(0),
        }
    }

    /// On all addresses, of IPv4 only where there is no IPv6.
    pub(crate) fn bind_any(port: u16) -> Result<Self, BindError> {
        match Self::bind(Link::Main, (Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(BindError::Socket { error, .. }) if error.kind() != io::ErrorKind::AddrInUse => {
                log::info!("no socket for IPv6 ({error}): IPv4 alone");
                Self::bind(Link::Main, (Ipv4Addr::UNSPECIFIED, port).into())
            }
            result => result,
        }
    }

    /// A peer's socket in place of one bound to `old`: on the same port if that is free, and on all addresses if the old
    /// one has gone.
    pub(crate) fn bind_again(old: SocketAddr, address_gone: bool, port: u16) -> Result<Self, BindError> {
        if address_gone || (old.is_ipv6() && old.ip().is_unspecified()) {
            return Self::bind_any(port);
        }
        Self::bind(Link::Main, SocketAddr::new(old.ip(), port))
    }

    fn open(link: Link, address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        for (which, result) in [
            ("send", socket.set_send_buffer_size(SOCKET_BUFFER)),
            ("receive", socket.set_recv_buffer_size(SOCKET_BUFFER)),
        ] {
            if let Err(error) = result {
                log::debug!("the {which} buffer stays as it is: {error}");
            }
        }
        socket.bind(&address.into())?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        make_room_for_ecn(&socket);
        let local = socket.local_addr()?;
        Ok(Self { io: Async::new_nonblocking(socket)?, link, state, local, broken: AtomicU32::new(0), asked: None })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether everything that was sent lately failed, in ways that another socket might not.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) >= BROKEN
    }

    fn note(&self, error: Option<&io::Error>) {
        match error {
            None if self.broken.load(Ordering::Relaxed) == 0 => {}
            None => self.broken.store(0, Ordering::Relaxed),
            Some(error) if is_the_sockets_fault(error) => {
                self.broken.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => {}
        }
    }

    /// Takes what has arrived, at most [`RECEIVE_BATCH`] buffers; says how many.
    pub(crate) fn receive(&self, room: &mut Room, arrived: &mut Vec<(Arrival, BytesMut)>) -> usize {
        let mut metas = [RecvMeta::default(); RECEIVE_BATCH];
        let mut chunks = room.0.chunks_exact_mut(RECEIVE_BUFFER);
        let mut slices: [IoSliceMut<'_>; RECEIVE_BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let count = match self.state.recv(UdpSockRef::from(&self.io), &mut slices, &mut metas) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
            Err(error) => {
                // A past send's ICMP answer may surface here; whoever is gone will be missed by QUIC's timers.
                log::debug!("receiving at {}: {error}", self.local);
                return 0;
            }
        };
        for (meta, slice) in metas.iter().zip(&slices).take(count) {
            if let (Some(asked), Some(local)) = (&self.asked, meta.dst_ip) {
                asked.note(meta.addr, local);
            }
            arrived.push((self.arrival(meta), BytesMut::from(&slice[..meta.len])));
        }
        count
    }

    fn arrival(&self, meta: &RecvMeta) -> Arrival {
        let ip = meta.addr.ip().to_canonical();
        Arrival {
            link: self.link,
            remote: SocketAddr::new(ip, meta.addr.port()),
            ecn: meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
            stride: meta.stride,
        }
    }

    /// Sends the datagrams of `transmit` in `bytes` from `offset` on, in as few calls as the system allows.
    ///
    /// A datagram that the system will not send counts as lost on the way: QUIC copes with that, and with nothing else.
    pub(crate) fn send(&self, transmit: &Transmit, bytes: &[u8], offset: usize) -> Sent {
        let Some(hops) = transmit.hops else { return self.send_all(transmit, bytes, offset) };
        if let Err(error) = self.set_hops(transmit.remote, hops.into()) {
            log::debug!("packets from {} go as far as any: {error}", self.local);
        }
        let sent = self.send_all(transmit, bytes, offset);
        // Everything else is to arrive.
        let _ = self.set_hops(transmit.remote, HOPS);
        sent
    }

    /// How many routers packets of this family may pass from now on. IPv4's option counts on a socket for both families
    /// too.
    fn set_hops(&self, remote: SocketAddr, hops: u32) -> io::Result<()> {
        let socket = SockRef::from(&self.io);
        if remote.is_ipv4() { socket.set_ttl_v4(hops) } else { socket.set_unicast_hops_v6(hops) }
    }

    fn send_all(&self, transmit: &Transmit, bytes: &[u8], mut offset: usize) -> Sent {
        let segment = transmit.segment_size.unwrap_or(bytes.len()).max(1);
        let destination = self.destination(transmit.remote);
        let mut from = self.asked.as_ref().and_then(|asked| asked.of(destination));
        let mut failed = 0;
        while offset < bytes.len() {
            let most = self.state.max_gso_segments();
            let length = (segment * most.min(SEND_LIMIT / segment).max(1)).min(bytes.len() - offset);
            let outgoing = quinn_udp::Transmit {
                destination,
                ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
                contents: &bytes[offset..offset + length],
                segment_size: Some(segment),
                src_ip: from,
            };
            match self.state.try_send(UdpSockRef::from(&self.io), &outgoing) {
                Ok(()) => {
                    self.note(None);
                    offset += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Full { offset, failed },
                // The driver took offence at GSO, and quinn-udp has noted it: again, one by one.
                Err(_) if length > segment && self.state.max_gso_segments() < most => {}
                // It may be that this address has gone, and another does.
                Err(error) if from.is_some() && is_the_sockets_fault(&error) => {
                    if let (Some(asked), Some(gone)) = (&self.asked, from.take()) {
                        asked.forget(gone);
                    }
                }
                Err(error) => {
                    self.note(Some(&error));
                    failed += length.div_ceil(segment) as u64;
                    log::debug!("sending {length} bytes from {} to {destination}: {error}", self.local);
                    offset += length;
                }
            }
        }
        Sent::Done { failed }
    }

    /// As this socket needs it: one for both families wants IPv4 addresses mapped.
    fn destination(&self, remote: SocketAddr) -> SocketAddr {
        match remote {
            SocketAddr::V4(v4) if self.local.is_ipv6() => {
                let mapped: Ipv6Addr = v4.ip().to_ipv6_mapped();
                SocketAddr::new(IpAddr::V6(mapped), v4.port())
            }
            other => other,
        }
    }
}

/// Not where there is no way to the destination for now: with the next network there is, by the same socket.
fn is_the_sockets_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, BrokenPipe, InvalidInput, NotConnected, PermissionDenied};
    matches!(error.kind(), AddrNotAvailable | InvalidInput | PermissionDenied | NotConnected | BrokenPipe)
}

/// quinn-udp 0.6.3 asks for timestamps, which leave no room for the ECN bits in its 96 bytes of control messages when a
/// buffer holds several datagrams. Nobody reads the timestamps here.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn make_room_for_ecn(socket: &UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestampns};
    if let Err(error) = setsockopt(socket, ReceiveTimestampns, &false) {
        log::debug!("timestamps stay on: {error}");
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn make_room_for_ecn(_socket: &UdpSocket) {}

/// Room for one batch of received buffers.
pub(crate) struct Room(Vec<u8>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(vec![0; RECEIVE_BATCH * RECEIVE_BUFFER])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(address: &str) -> Socket {
        Socket::bind(Link::Main, address.parse().unwrap()).unwrap()
    }

    fn transmit(remote: SocketAddr, segment_size: Option<usize>) -> Transmit {
        Transmit { ecn: Some(EcnCodepoint::Ect0), segment_size, ..Transmit::one(Link::Main, remote, 0) }
    }

    /// Everything that arrives until `bytes` are there: datagrams, as their strides say.
    fn drain(socket: &Socket, bytes: usize) -> Vec<(Arrival, Vec<u8>)> {
        let (mut room, mut arrived, mut datagrams) = (Room::new(), Vec::new(), Vec::new());
        let mut got = 0;
        while got < bytes {
            async_io::block_on(socket.io.readable()).unwrap();
            socket.receive(&mut room, &mut arrived);
            for (arrival, data) in arrived.drain(..) {
                got += data.len();
                datagrams.extend(data.chunks(arrival.stride).map(|datagram| (arrival, datagram.to_vec())));
            }
        }
        datagrams
    }

    #[test]
    fn a_batch_arrives_as_the_datagrams_it_holds() {
        batch(&socket("127.0.0.1:0"), &socket("127.0.0.1:0"));
        let (four, both) = (socket("127.0.0.1:0"), socket("[::]:0"));
        batch(&four, &both);
        batch(&both, &four);
        batch(&socket("[::1]:0"), &socket("[::1]:0"));
    }

    fn batch(from: &Socket, to: &Socket) {
        let loopback = if from.local.ip().is_unspecified() { to.local.ip() } else { from.local.ip() };
        let at = |socket: &Socket| SocketAddr::new(loopback, socket.local.port());
        // More than one GSO send can hold, the last datagram shorter.
        let bytes: Vec<u8> = (0..100 * 1200 - 7).map(|i| (i / 1200) as u8).collect();
        assert!(matches!(from.send(&transmit(at(to), Some(1200)), &bytes, 0), Sent::Done { failed: 0 }));
        let datagrams = drain(to, bytes.len());
        assert_eq!(datagrams.len(), 100);
        for (index, (arrival, datagram)) in datagrams.iter().enumerate() {
            assert_eq!(arrival.remote, at(from));
            assert_eq!(arrival.ecn, Some(EcnCodepoint::Ect0));
            assert_eq!(datagram.len(), if index == 99 { 1193 } else { 1200 });
            assert!(datagram.iter().all(|&byte| byte == index as u8));
        }
    }

    #[test]
    fn a_socket_for_both_families_shows_ipv4_as_ipv4() {
        let (both, four) = (socket("[::]:0"), socket("127.0.0.1:0"));
        let target = SocketAddr::new([127, 0, 0, 1].into(), both.local_addr().port());
        assert!(matches!(four.send(&transmit(target, None), b"to", 0), Sent::Done { failed: 0 }));
        let (arrival, _) = drain(&both, 2).remove(0);
        assert_eq!(arrival.remote, four.local_addr());
        assert!(matches!(both.send(&transmit(arrival.remote, None), b"fro", 0), Sent::Done { failed: 0 }));
        assert_eq!(drain(&four, 3)[0].1, b"fro");
    }

    /// Linux has all of 127.0.0.0/8.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_relay_on_all_addresses_answers_from_the_one_it_was_asked_at() {
        for any in ["0.0.0.0:0", "[::]:0"] {
            let asked = Arc::default();
            let relay = Socket::bind_relay(Link::Main, any.parse().unwrap(), &asked).unwrap();
            let other = Socket::bind_relay(Link::Punch(0), any.parse().unwrap(), &asked).unwrap();
            let port = relay.local_addr().port();
            let asking: Vec<_> =
                (1..=3).map(|last| (socket("127.0.0.1:0"), SocketAddr::from(([127, 0, 0, last], port)))).collect();
            for (peer, address) in &asking {
                assert!(matches!(peer.send(&transmit(*address, None), b"who", 0), Sent::Done { failed: 0 }));
                drain(&relay, 3);
            }
            for (peer, address) in asking.iter().rev() {
                let answer = transmit(peer.local_addr(), Some(2));
                assert!(matches!(relay.send(&answer, b"me, me", 0), Sent::Done { failed: 0 }));
                assert!(drain(peer, 6).iter().all(|(arrival, _)| arrival.remote == *address), "{any}");
                assert!(matches!(other.send(&answer, b"knock!", 0), Sent::Done { failed: 0 }));
                assert!(drain(peer, 6).iter().all(|(arrival, _)| arrival.remote.ip() == address.ip()), "{any}");
            }
        }
    }

    #[test]
    fn a_datagram_that_cannot_be_sent_is_counted_and_forgotten() {
        let socket = socket("127.0.0.1:0");
        let (good, bad) = (socket.local_addr(), "[2001:db8::1]:9".parse().unwrap());
        assert!(matches!(socket.send(&transmit(bad, None), b"lost", 0), Sent::Done { failed: 1 }));
        assert!(matches!(socket.send(&transmit(good, None), &[0; 70_000], 0), Sent::Done { failed: 1 }));
        assert!(matches!(socket.send(&transmit(good, None), b"here", 0), Sent::Done { failed: 0 }));
    }

    /// Linux says so of a way that leads off the machine.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_is_broken_while_all_it_sends_fails_for_its_own_sake() {
        let socket = socket("127.0.0.1:0");
        let (good, bad) = (socket.local_addr(), "192.0.2.1:9".parse().unwrap());
        for _ in 0..BROKEN {
            assert!(!socket.is_broken());
            socket.send(&transmit(bad, None), b"lost", 0);
        }
        assert!(socket.is_broken());
        socket.send(&transmit(good, None), b"here", 0);
        assert!(!socket.is_broken());
        assert!(!is_the_sockets_fault(&io::ErrorKind::NetworkUnreachable.into()), "another socket has no way either");
    }
}
