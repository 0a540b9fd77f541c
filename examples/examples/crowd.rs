//! Many peers in one process, registered and idle, each with a socket of its own: what `tests/relay_load.py` puts on a
//! relay. `cargo run --example crowd -- URL COUNT`; it says `registered` once all are, and ends with its input.

use std::{cell::Cell, error::Error, future::Future, io::Read, net::UdpSocket, rc::Rc, sync::Arc, time::Instant};

use bytes::BytesMut;
use direc_core::{Arrival, Identity, Link, Peer, PeerConfig, PeerEvent, RelayAddress, RelayUrl};
use ring::rand::{SecureRandom, SystemRandom};
use smol::{Async, LocalExecutor, Timer, future};

/// Time between one peer's start and the next's: a hundred a second, as after a relay's restart.
const PACE: std::time::Duration = std::time::Duration::from_millis(10);
const LARGEST: usize = 2048;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (url, count) = (words.next().ok_or("URL is missing")?, words.next().ok_or("COUNT is missing")?);
    let (url, count): (RelayUrl, usize) = (url.parse()?, count.parse()?);
    let relay = RelayAddress { address: format!("{}:{}", url.host, url.port).parse()?, key: url.key };
    let registered = Rc::new(Cell::new(0));
    let executor = LocalExecutor::new();
    let ended = smol::unblock(|| std::io::stdin().read_to_end(&mut Vec::new()));
    smol::block_on(executor.run(async {
        for _ in 0..count {
            executor.spawn(stay(relay, registered.clone())?).detach();
            Timer::after(PACE).await;
        }
        while registered.get() < count {
            Timer::after(PACE).await;
        }
        show("registered");
        ended.await.map(|_| ())?;
        Ok(())
    }))
}

/// A peer that registers and stays.
fn stay(relay: RelayAddress, registered: Rc<Cell<usize>>) -> Result<impl Future<Output = ()>, Box<dyn Error>> {
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let config = PeerConfig::new(Identity::from_secret(&random()?)?, relay, crypto);
    let mut node = Peer::new(config, random()?, Instant::now())?;
    let socket = Async::<UdpSocket>::bind(([127, 0, 0, 1], 0))?;
    Ok(async move {
        let (mut buf, mut datagram) = (Vec::new(), vec![0; LARGEST]);
        loop {
            while let Some(out) = node.poll_transmit(Instant::now(), &mut buf) {
                for datagram in buf.chunks(out.segment_size.unwrap_or(out.size).max(1)) {
                    // What the socket does not take is lost, as it might be on the way.
                    let _ = socket.get_ref().send_to(datagram, out.remote);
                }
                buf.clear();
            }
            while let Some(event) = node.poll_event() {
                if matches!(event, PeerEvent::Registered { .. }) {
                    registered.set(registered.get() + 1);
                }
            }
            let wake = node.poll_timeout();
            let alarm = async {
                match wake {
                    Some(wake) => Timer::at(wake.at).await,
                    None => future::pending().await,
                };
                None
            };
            let arrived = async { socket.recv_from(&mut datagram).await.ok() };
            match future::or(arrived, alarm).await {
                Some((size, remote)) => {
                    let arrival = Arrival { link: Link::Main, remote, ecn: None, stride: size };
                    node.handle_datagram(Instant::now(), arrival, BytesMut::from(&datagram[..size]));
                }
                None => node.handle_timeout(Instant::now()),
            }
        }
    })
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
