//! `relay`: P3, the party that both peers can reach.

mod options;

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    process::ExitCode,
    time::{Duration, Instant},
};

use direc_smol::{
    HttpsKey, HttpsUrl, RelayNews, RelayOptions, RelayServer, RelayUrl, RelayWatch, TlsPin, load_or_create_key,
};
use smol::future::or;

use crate::{
    args,
    clock::{ms, spoken, timestamp},
    events::Event,
    failure::{self, Failure},
    home, logger,
    out::Out,
    signals::{Call, Interrupted},
};
use options::{Options, Parsed};

/// The key's file in the data folder.
const KEY_FILE: &str = "relay.key";
/// The self-signed certificate's and its key's, there as well.
const HTTPS_FILE: &str = "relay-https.pem";

/// The program: its command line in, its exit code out.
pub fn main() -> ExitCode {
    let json = args::wants_json();
    failure::exit_code("relay", json, run(Out::new(json)))
}

fn run(out: Out) -> Result<(), Failure> {
    logger::start();
    let options = match options::parse(lexopt::Parser::from_env())? {
        Parsed::Run(options) => options,
        Parsed::Say(text) => {
            Out::new(false).say(text);
            return Ok(());
        }
    };
    let mut interrupted = Interrupted::listen().map_err(|e| Failure::new("cannot listen for signals", e))?;
    smol::block_on(async {
        let (relay, pin) = bind(&options)?;
        let watch = relay.watch();
        let url = url(&relay, &options, out)?;
        let https = relay.https_addr().map(|at| HttpsUrl { host: url.host.clone(), port: at.port(), pin }.to_string());
        let url = url.to_string();
        out.event(&Event::RelayReady { url: url.clone(), https: https.clone() });
        if !out.json() {
            out.say(&url);
            https.iter().for_each(|https| out.say(https));
        }
        let ports: Vec<_> = relay.punch_addrs().iter().map(|address| address.port().to_string()).collect();
        let https = relay.https_addr().map_or(String::new(), |at| format!(", HTTPS at {at}"));
        let knock = relay.knock_addr().map_or("none".into(), |address| address.port().to_string());
        let (at, ports) = (relay.local_addr(), ports.join(", "));
        log(out, &format!("listening at {at}, hole-punch ports {ports}, knock port {knock}{https}"));
        or(tell(watch, out), until_told(&relay, options.drain, &mut interrupted, out)).await;
        let stats = relay.stats();
        log(out, &format!("ending; {} datagrams, {} bytes relayed", stats.relayed_datagrams, stats.relayed_bytes));
        relay.close().await;
        Ok(())
    })
}

/// Serves until it is told to end: at once, or after a drain that a second call cuts short.
async fn until_told(relay: &RelayServer, drain: Duration, interrupted: &mut Interrupted, out: Out) {
    if interrupted.wait().await == Call::Interrupt {
        return;
    }
    let began = Instant::now();
    let drained = async {
        relay.drain(drain).await;
        true
    };
    let told_again = async {
        interrupted.wait().await;
        false
    };
    let end = match or(drained, told_again).await {
        true if began.elapsed() < drain => "everybody has left",
        true => "the time to leave is over",
        false => "told again: not waiting any longer",
    };
    log(out, end);
}

/// The relay; and the pin of its TLS key, if nobody else vouches for that.
fn bind(options: &Options) -> Result<(RelayServer, Option<TlsPin>), Failure> {
    let folder = options.data_dir.clone().unwrap_or_else(home::relay_data);
    let identity = load_or_create_key(&folder.join(KEY_FILE)).map_err(Failure::of)?;
    let mut relay = RelayOptions::new(identity, options.listen);
    relay.punch_ports.clone_from(&options.punch_ports);
    relay.knock_port = Some(options.knock_port);
    relay.delay = options.delay;
    relay.public_host.clone_from(&options.public);
    let mut pin = None;
    if let Some(https) = options.https {
        let key = match &options.tls {
            Some((certificate, key)) => HttpsKey::from_files(certificate, key).map_err(Failure::of)?,
            None => {
                let host = options.public.as_deref().unwrap_or("localhost");
                let key = HttpsKey::load_or_create(&folder.join(HTTPS_FILE), host).map_err(Failure::of)?;
                pin = Some(key.pin());
                key
            }
        };
        relay.https = Some((https, key));
    }
    Ok((RelayServer::bind(relay).map_err(Failure::of)?, pin))
}

/// The URL for peers, by the best name of this machine that is known.
fn url(relay: &RelayServer, options: &Options, out: Out) -> Result<RelayUrl, Failure> {
    if let Some(host) = &options.public {
        return RelayUrl::new(host, relay.local_addr().port(), relay.id())
            .map_err(|why| Failure::Usage(format!("--public '{host}': {why}")));
    }
    let listen = relay.local_addr();
    if !listen.ip().is_unspecified() {
        return Ok(relay.url(None));
    }
    let guess = outgoing_address(listen);
    out.note("the URL's host is a guess; --public HOST sets the one that peers can reach");
    Ok(relay.url(guess.map(|address| address.to_string()).as_deref()))
}

/// The address that this machine would speak to the internet from. Nothing is sent: connecting a UDP socket only asks
/// for the route (the targets are documentation addresses of RFC 5737 and RFC 3849).
fn outgoing_address(listen: SocketAddr) -> Option<IpAddr> {
    let target = if listen.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
    let socket = UdpSocket::bind(SocketAddr::new(listen.ip(), 0)).ok()?;
    socket.connect(target).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// Logs what happens, and then waits for ever: the end has words of its own.
async fn tell(mut watch: RelayWatch, out: Out) {
    while let Some((_, news)) = watch.next().await {
        match news {
            RelayNews::Registered { peer, address } => log(out, &format!("registered {peer} from {address}")),
            RelayNews::Left { peer } => log(out, &format!("left {peer}")),
            RelayNews::TurnedAway { peer, address, reason } => {
                log(out, &format!("turned away {peer} from {address}: {reason}"));
            }
            RelayNews::Refused { client, server, reason } => {
                log(out, &format!("refused {} to {}: {reason}", client.short(), server.short()));
            }
            RelayNews::Draining { within } => {
                out.event(&Event::Draining { within_ms: ms(within) });
                let within = spoken(within);
                log(out, &format!("draining: peers are to be elsewhere within {within}, nobody new is introduced"));
            }
            RelayNews::Step(step) => log::debug!("{} {} {}", step.role, step.step, step.step.what()),
            _ => {}
        }
    }
    std::future::pending().await
}

fn log(out: Out, text: &str) {
    out.note(&format!("{} {text}", timestamp()));
}
