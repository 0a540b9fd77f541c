//! The core without any runtime: one thread, `std`'s UDP sockets, and a loop. `cargo run --example bare_loop`
//!
//! This is all that a driver has to do; `direc-smol` does the same with an event queue, batches and futures.

use std::{
    error::Error,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use direc_core::{
    Arrival, ConnId, ConnectOptions, Consent, Identity, Link, NodeId, Peer, PeerConfig, PeerEvent, Relay, RelayAddress,
    RelayConfig, Transmit, Wake,
    quic_types::{Dir, ReadError, StreamId},
};
use ring::rand::{SecureRandom, SystemRandom};

/// `std` has no way to wait for several sockets at once: the loop looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_micros(200);
const DEADLINE: Duration = Duration::from_secs(10);
const LARGEST: usize = 65_536;

/// What relays and peers have in common, seen from the outside.
trait Node {
    fn handle_datagram(&mut self, now: Instant, arrival: Arrival, data: BytesMut);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit>;
    fn poll_timeout(&mut self) -> Option<Wake>;
}

macro_rules! node {
    ($type:ty) => {
        impl Node for $type {
            fn handle_datagram(&mut self, now: Instant, arrival: Arrival, data: BytesMut) {
                self.handle_datagram(now, arrival, data);
            }
            fn handle_timeout(&mut self, now: Instant) {
                self.handle_timeout(now);
            }
            fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
                self.poll_transmit(now, buf)
            }
            fn poll_timeout(&mut self) -> Option<Wake> {
                self.poll_timeout()
            }
        }
    };
}
node!(Peer);
node!(Relay);

/// A node and its sockets.
struct Driven<N> {
    node: N,
    sockets: Vec<(Link, UdpSocket)>,
}

impl<N: Node> Driven<N> {
    /// Everything that is due, once: bytes in, time, bytes out.
    fn turn(&mut self) -> io::Result<()> {
        let mut datagram = vec![0; LARGEST];
        for &(link, ref socket) in &self.sockets {
            while let Some((size, remote)) = received(socket, &mut datagram)? {
                let arrival = Arrival { link, remote, ecn: None, stride: size };
                self.node.handle_datagram(Instant::now(), arrival, BytesMut::from(&datagram[..size]));
            }
        }
        let now = Instant::now();
        if self.node.poll_timeout().is_some_and(|wake| wake.at <= now) {
            self.node.handle_timeout(now);
        }
        let mut buf = Vec::new();
        while let Some(out) = self.node.poll_transmit(Instant::now(), &mut buf) {
            let Some((_, socket)) = self.sockets.iter().find(|(link, _)| *link == out.link) else { continue };
            // Several datagrams may be in the buffer, all of one length but the last.
            for datagram in buf.chunks(out.segment_size.unwrap_or(out.size).max(1)) {
                // A full socket loses the datagram like the network might: the protocol copes with that.
                let _ = socket.send_to(datagram, out.remote);
            }
            buf.clear();
        }
        Ok(())
    }
}

fn received(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
    match socket.recv_from(buffer) {
        Ok(received) => Ok(Some(received)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // Some systems report here that an earlier datagram was not delivered.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut p3, at) = relay()?;
    let (mut p4, server) = peer(at, Consent::Any)?;
    let (mut p2, _) = peer(at, Consent::Closed)?;
    let conn = p2.node.connect(Instant::now(), server, ConnectOptions::default())?;
    let mut answer = Vec::new();
    let (mut asked, mut direct) = (None, false);

    let deadline = Instant::now() + DEADLINE;
    while !(direct && answer.ends_with(b"!")) {
        p2.turn()?;
        p3.turn()?;
        p4.turn()?;
        while p3.node.poll_event().is_some() {}
        while let Some(event) = p4.node.poll_event() {
            if let PeerEvent::Stream { conn, .. } = event {
                echo(&mut p4.node, conn)?;
            }
        }
        while let Some(event) = p2.node.poll_event() {
            match event {
                PeerEvent::Connected { path, .. } => {
                    show(&format!("connected by {path:?}"));
                    asked = ask(&mut p2.node, conn)?;
                }
                PeerEvent::Path { path, .. } => {
                    show(&format!("now by {path:?}"));
                    direct = path.is_direct();
                }
                PeerEvent::Failed { error, .. } => return Err(error.into()),
                PeerEvent::Closed { reason, .. } => return Err(reason.into()),
                _ => {}
            }
        }
        if let Some(stream) = asked {
            answer.extend(read(&mut p2.node, conn, stream)?.concat());
        }
        if Instant::now() > deadline {
            return Err("no direct answer came in time".into());
        }
        sleep(LOOK_AGAIN);
    }
    show(&format!("the answer is {:?}", String::from_utf8_lossy(&answer)));
    Ok(())
}

/// Sends the question on a new stream.
fn ask(node: &mut Peer, conn: ConnId) -> Result<Option<StreamId>, Box<dyn Error>> {
    let mut connection = node.connection(conn).ok_or("the connection is gone")?;
    let stream = connection.open(Dir::Bi).ok_or("the other side takes no streams")?;
    // A whole flow-control window is free, so nothing stays behind.
    connection.write(stream, &mut [Bytes::from_static(b"is this an echo!")])?;
    connection.finish(stream)?;
    Ok(Some(stream))
}

/// What has arrived on a stream.
fn read(node: &mut Peer, conn: ConnId, stream: StreamId) -> Result<Vec<Bytes>, Box<dyn Error>> {
    let mut connection = node.connection(conn).ok_or("the connection is gone")?;
    let mut chunks = Vec::new();
    loop {
        match connection.read(stream, LARGEST) {
            Ok(Some(chunk)) => chunks.push(chunk),
            // The end, now or already before.
            Ok(None) | Err(ReadError::Blocked) => return Ok(chunks),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends back what new streams brought: the question fits into one packet.
fn echo(node: &mut Peer, conn: ConnId) -> Result<(), Box<dyn Error>> {
    while let Some(stream) = node.connection(conn).and_then(|mut connection| connection.accept(Dir::Bi)) {
        let mut chunks = read(node, conn, stream)?;
        let mut connection = node.connection(conn).ok_or("the connection is gone")?;
        connection.write(stream, &mut chunks)?;
        connection.finish(stream)?;
    }
    Ok(())
}

fn relay() -> Result<(Driven<Relay>, RelayAddress), Box<dyn Error>> {
    let links = [Link::Main, Link::Punch(0), Link::Punch(1)];
    let sockets = links.into_iter().map(|link| Ok((link, socket()?))).collect::<io::Result<Vec<_>>>()?;
    let ports =
        sockets[1..].iter().map(|(_, socket)| Ok(socket.local_addr()?.port())).collect::<io::Result<Vec<_>>>()?;
    let identity = Identity::from_secret(&random()?)?;
    let address = RelayAddress { address: sockets[0].1.local_addr()?, key: identity.id() };
    let config = RelayConfig::new(identity, ports, crypto());
    Ok((Driven { node: Relay::new(config, random()?, Instant::now())?, sockets }, address))
}

fn peer(relay: RelayAddress, consent: Consent) -> Result<(Driven<Peer>, NodeId), Box<dyn Error>> {
    let mut config = PeerConfig::new(Identity::from_secret(&random()?)?, relay, crypto());
    config.consent = consent;
    let node = Peer::new(config, random()?, Instant::now())?;
    let id = node.id();
    Ok((Driven { node, sockets: vec![(Link::Main, socket()?)] }, id))
}

fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn crypto() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn random() -> Result<[u8; 32], &'static str> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gave no randomness")?;
    Ok(bytes)
}

#[expect(clippy::print_stdout, reason = "what the example is for")]
fn show(text: &str) {
    println!("{text}");
}
