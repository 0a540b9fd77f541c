//! `peer`: one side of a connection. `serve` waits for others (P4), the other commands connect to one (P2).

mod bench;
mod client;
mod connect;
mod options;
mod paths;
mod ping;
mod pipe;
mod serve;
mod serving;
mod terminal;

use std::{process::ExitCode, time::Instant};

use direc_smol::{Peer, PeerOptions, load_or_create_key};

use crate::{
    args,
    clock::ms_between,
    events::Event,
    failure::{self, Failure},
    home, logger,
    out::Out,
    signals::Interrupted,
};
use options::{Command, Options, Parsed};

/// The program: its command line in, its exit code out.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let json = args::wants_json();
    let result = run(started, Out::new(json));
    failure::exit_code("peer", json, result)
}

fn run(started: Instant, out: Out) -> Result<(), Failure> {
    logger::start();
    let options = match options::parse(lexopt::Parser::from_env())? {
        Parsed::Run(options) => options,
        Parsed::Say(text) => {
            Out::new(false).say(text);
            return Ok(());
        }
    };
    let interrupted = Interrupted::listen().map_err(|e| Failure::new("cannot listen for signals", e))?;
    smol::block_on(async {
        match &options.command {
            Command::Serve(serving) => serve::run(started, &options, serving, out, interrupted).await,
            Command::Client(client) => client::run(started, &options, client, out, interrupted).await,
        }
    })
}

/// Binds the socket and waits until the relay knows this peer.
async fn register(started: Instant, options: &Options, out: Out) -> Result<Peer, Failure> {
    let key = options.key.clone().unwrap_or_else(home::peer_key);
    let identity = load_or_create_key(&key).map_err(Failure::of)?;
    let mut peer_options = PeerOptions::new(identity, options.relay.clone());
    if let Command::Serve(serving) = &options.command {
        peer_options.consent = serving.consent.clone();
    }
    let peer = Peer::bind(peer_options).await.map_err(Failure::of)?;
    peer.registered().await.map_err(Failure::of)?;
    out.event(&Event::PeerReady { id: peer.id().to_string(), ms: ms_between(started, Instant::now()) });
    Ok(peer)
}
