//! Bulk over loopback, one stream, side by side in one run: quinn on tokio, direc direct, direc through its relay.
//!
//! `cargo bench -p direc-examples --bench loopback [-- --mib N --rounds N]`
//!
//! Everything runs in this one process, each endpoint on threads of its own. The rounds of the kinds take turns, so
//! that a machine that gets slower is slower for all; the ratios of a round are compared, and medians printed.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)] // a benchmark: it prints, and stops at errors

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use direc_smol::{ConnectOptions, Connection, Consent, PathPolicy, Peer, PeerOptions, RelayOptions, RelayServer};

const CHUNK: usize = 1 << 20;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Options {
    mib: usize,
    rounds: usize,
}

fn options() -> Options {
    let mut options = Options { mib: 512, rounds: 7 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse().ok()).expect("a number after the option");
        match argument.as_str() {
            "--mib" => options.mib = number(),
            "--rounds" => options.rounds = number(),
            "--bench" => {} // cargo's own
            other => panic!("unknown option {other}: --mib N, --rounds N"),
        }
    }
    options
}

fn main() {
    let Options { mib, rounds } = options();
    let bytes = mib << 20;
    let quinn = Quinn::start();
    let direc = Direc::start();
    let kinds: [(&str, &dyn Fn() -> Duration); 3] = [
        ("quinn on tokio", &|| quinn.transfer(bytes)),
        ("direc, direct", &|| Direc::transfer(&direc.direct, &direc.direct_far, bytes)),
        ("direc, relayed", &|| Direc::transfer(&direc.relayed, &direc.relayed_far, bytes)),
    ];
    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 0..=rounds {
        for (rates, (_, transfer)) in rates.iter_mut().zip(kinds) {
            let rate = bytes as f64 / 1e6 / transfer().as_secs_f64();
            // The first round warms up.
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    println!("{mib} MiB a transfer, median of {rounds} rounds (lowest to highest), MB/s = 10^6 bytes a second");
    for ((name, _), rates) in kinds.iter().zip(&rates) {
        let (low, middle, high) = spread(rates.clone());
        println!("{name:<16} {middle:7.0} MB/s  ({low:.0} to {high:.0})");
    }
    let ratio = |of: usize, to: usize| spread(rates[of].iter().zip(&rates[to]).map(|(a, b)| a / b).collect()).1;
    println!("direct / quinn   {:7.2}", ratio(1, 0));
    println!("relayed / direct {:7.2}", ratio(2, 1));
}

fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

/// quinn as its documentation sets it up, but for the windows, which are as wide as direc's.
struct Quinn {
    runtime: tokio::runtime::Runtime,
    connection: quinn::Connection,
    _client: quinn::Endpoint,
    _server: quinn::Endpoint,
}

impl Quinn {
    fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (client, server, connection) = runtime.block_on(async {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            let cert = rcgen::CertificateParams::new(["localhost".into()]).unwrap().self_signed(&key).unwrap();
            let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
            let mut roots = rustls::RootCertStore::empty();
            roots.add(cert.der().clone()).unwrap();
            let mut config = quinn::ServerConfig::with_single_cert(vec![cert.der().clone()], key.into()).unwrap();
            config.transport_config(transport());
            let server = quinn::Endpoint::server(config, LOOPBACK).unwrap();
            let mut client = quinn::Endpoint::client(LOOPBACK).unwrap();
            let mut config = quinn::ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
            config.transport_config(transport());
            client.set_default_client_config(config);
            let accepting = server.clone();
            tokio::spawn(async move {
                let connection = accepting.accept().await.unwrap().await.unwrap();
                while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                    while receive.read_chunk(usize::MAX, true).await.unwrap().is_some() {}
                    send.write_all(b"!").await.unwrap();
                    send.finish().unwrap();
                }
            });
            let address = server.local_addr().unwrap();
            let connection = client.connect(address, "localhost").unwrap().await.unwrap();
            (client, server, connection)
        });
        Self { runtime, connection, _client: client, _server: server }
    }

    fn transfer(&self, bytes: usize) -> Duration {
        self.runtime.block_on(async {
            let chunk = Bytes::from(vec![7; CHUNK]);
            let start = Instant::now();
            let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
            for _ in 0..bytes / CHUNK {
                send.write_chunk(chunk.clone()).await.unwrap();
            }
            send.finish().unwrap();
            receive.read_to_end(1).await.unwrap();
            start.elapsed()
        })
    }
}

fn transport() -> Arc<quinn::TransportConfig> {
    let ours = direc_smol::TransportConfig::default();
    let mut config = quinn::TransportConfig::default();
    config.stream_receive_window(ours.stream_window.into()).receive_window(ours.window.into());
    config.send_window(ours.window.into());
    Arc::new(config)
}

/// A relay, and two connections between two peers: one direct, one kept on the relay.
struct Direc {
    direct: Connection,
    direct_far: Connection,
    relayed: Connection,
    relayed_far: Connection,
    _nodes: (RelayServer, Peer, Peer),
}

impl Direc {
    fn start() -> Self {
        smol::block_on(async {
            let relay = RelayServer::bind(RelayOptions::new(direc_smol::ephemeral_key().unwrap(), LOOPBACK)).unwrap();
            let bind = async |consent| {
                let mut options = PeerOptions::new(direc_smol::ephemeral_key().unwrap(), relay.url(None));
                options.consent = consent;
                Peer::bind(options).await.unwrap()
            };
            let (p4, p2) = (bind(Consent::Any).await, bind(Consent::Closed).await);
            p4.warm().await.unwrap();
            p2.warm().await.unwrap();
            let direct = p2.connect(p4.id()).await.unwrap();
            let direct_far = p4.accept().await.unwrap();
            direct.direct().await.expect("loopback is direct");
            direct_far.direct().await.expect("loopback is direct");
            let relayed = p2.connect_with(p4.id(), ConnectOptions::with_policy(PathPolicy::RelayOnly)).await.unwrap();
            let relayed_far = p4.accept().await.unwrap();
            assert!(!relayed.path().is_direct());
            Self { direct, direct_far, relayed, relayed_far, _nodes: (relay, p2, p4) }
        })
    }

    fn transfer(near: &Connection, far: &Connection, bytes: usize) -> Duration {
        let far = far.clone();
        let reader = std::thread::spawn(move || {
            smol::block_on(async {
                let (mut send, mut receive) = far.accept_bi().await.unwrap();
                while receive.read_chunk(usize::MAX).await.unwrap().is_some() {}
                send.write_chunk(Bytes::from_static(b"!")).await.unwrap();
                send.finish().unwrap();
            });
        });
        let took = smol::block_on(async {
            let chunk = Bytes::from(vec![7; CHUNK]);
            let start = Instant::now();
            let (mut send, mut receive) = near.open_bi().await.unwrap();
            for _ in 0..bytes / CHUNK {
                send.write_chunk(chunk.clone()).await.unwrap();
            }
            send.finish().unwrap();
            receive.read_to_end(1).await.unwrap();
            start.elapsed()
        });
        reader.join().unwrap();
        took
    }
}
