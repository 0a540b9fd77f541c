//! Transfers that try to break a connection, for `tests/soak.py`: `cargo run --example soak -- --help`
//!
//! Every stream carries data in both directions at once. Writers send blocks, small pieces and patterns of pieces, and
//! pause. Readers take large and small chunks, and stop for a while. A seed decides all of it. The SHA-256 of what was
//! sent is compared with that of what was received, at both ends.

mod flow;
mod manner;
mod options;
mod transfer;

use std::{process::ExitCode, time::Instant};

use direc_examples::{
    clock::ms_between,
    events::Event,
    failure::{Failure, exit_code},
    out::Out,
    signals::Interrupted,
};
use direc_smol::{Consent, Peer, PeerOptions, ephemeral_key};
use serde::Serialize;
use smol::future::or;

use options::{Action, Options};

fn main() -> ExitCode {
    let out = Out::new(true);
    let run = || match options::parse()? {
        Some(options) => smol::block_on(run(options, out)),
        None => {
            Out::new(false).say(options::HELP);
            Ok(())
        }
    };
    exit_code("soak", true, run())
}

async fn run(options: Options, out: Out) -> Result<(), Failure> {
    let mut interrupted = Interrupted::listen().map_err(|e| Failure::new("cannot listen for signals", e))?;
    let peer = bind(&options).await?;
    let work = async {
        match options.action {
            Action::Serve => serve(&peer, out).await,
            Action::Transfer(ref wanted) => transfer::run(&peer, wanted, out).await,
        }
    };
    let interrupted = async {
        interrupted.wait().await;
        Err(Failure::Failed("interrupted".into()))
    };
    let result = or(work, interrupted).await;
    peer.close().await;
    result
}

async fn bind(options: &Options) -> Result<Peer, Failure> {
    let (first, rest) = options.relays.split_first().ok_or_else(|| Failure::Usage("--relay URL is missing".into()))?;
    let mut settings = PeerOptions::new(ephemeral_key().map_err(Failure::of)?, first.clone());
    settings.relays.extend_from_slice(rest);
    settings.consent = Consent::Any;
    settings.local = options.local;
    settings.port_mapping = false;
    Peer::bind(settings).await.map_err(Failure::of)
}

/// Answers transfers until it is interrupted.
async fn serve(peer: &Peer, out: Out) -> Result<(), Failure> {
    let started = Instant::now();
    peer.registered().await.map_err(Failure::of)?;
    out.event(&Event::PeerReady { id: peer.id().to_string(), ms: ms_between(started, Instant::now()) });
    while let Some(conn) = peer.accept().await {
        smol::spawn(async move {
            let result = transfer::answer(&conn).await;
            out.event(&Answered { event: "answered", why: result.err().map(|failure| failure.to_string()) });
        })
        .detach();
    }
    Err(Failure::Failed("the peer is closed".into()))
}

/// How a transfer ended, as the side that answers sees it.
#[derive(Serialize)]
struct Answered {
    event: &'static str,
    /// `null`: all hashes agreed, and the other side closed the connection for that reason.
    why: Option<String>,
}
