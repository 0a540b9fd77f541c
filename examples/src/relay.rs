//! `relay`: P3, the party that both peers can reach.

mod options;

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    process::ExitCode,
    time::{Duration, Instant},
};

use direc_smol::{RelayNews, RelayOptions, RelayServer, RelayUrl, RelayWatch, load_or_create_key};
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
        let relay = bind(&options)?;
        let watch = relay.watch();
        let url = url(&relay, &options, out)?.to_string();
        out.event(&Event::RelayReady { url: url.clone() });
        if !out.json() {
            out.say(&url);
        }
        let ports: Vec<_> = relay.punch_addrs().iter().map(|address| address.port().to_string()).collect();
        let knock = relay.knock_addr().map_or("none".into(), |address| address.port().to_string());
        let (at, ports) = (relay.local_addr(), ports.join(", "));
        log(out, &format!("listening at {at}, hole-punch ports {ports}, knock port {knock}"));
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

fn bind(options: &Options) -> Result<RelayServer, Failure> {
    let folder = options.data_dir.clone().unwrap_or_else(home::relay_data);
    let identity = load_or_create_key(&folder.join(KEY_FILE)).map_err(Failure::of)?;
    let mut relay = RelayOptions::new(identity, options.listen);
    relay.punch_ports.clone_from(&options.punch_ports);
    relay.knock_port = Some(options.knock_port);
    relay.delay = options.delay;
    RelayServer::bind(relay).map_err(Failure::of)
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
