//! `peer serve`: lets others connect, and says so.

use std::{io::IsTerminal, time::Instant};

use direc_core::{Consent, RelayError};
use direc_smol::{Connection, Peer, PeerNews, Watch};
use smol::future::or;

use super::{
    options::{Options, Serve},
    paths::{Paths, Told},
    register, serving,
    terminal::Asker,
};
use crate::{
    events::{Event, path_text},
    failure::Failure,
    out::Out,
    signals::Interrupted,
};

pub(super) async fn run(
    started: Instant,
    options: &Options,
    serve: &Serve,
    out: Out,
    mut interrupted: Interrupted,
) -> Result<(), Failure> {
    let asks = serve.consent == Consent::Ask && !serve.yes;
    if asks && !std::io::stdin().is_terminal() {
        out.note("nobody can be asked (standard input is no terminal): every peer will be refused; see --allow, --yes");
    }
    let registered = or(async { Some(register(started, options, out).await) }, async {
        interrupted.wait().await;
        None
    });
    let Some(peer) = registered.await else { return Ok(()) };
    let peer = peer?;
    if !out.json() {
        out.say(&peer.id().to_string());
    }
    let watch = peer.watch();
    let desk = serving::Desk::new(serve.echo, asks, out);
    let work = or(or(receive(&peer, &desk, out), ask(&peer, serve.yes, out)), watch_relay(watch, out));
    let result = or(work, async {
        interrupted.wait().await;
        Ok(())
    })
    .await;
    peer.close().await;
    result
}

async fn receive(peer: &Peer, desk: &serving::Desk, out: Out) -> Result<(), Failure> {
    while let Some(conn) = peer.accept().await {
        smol::spawn(attend(conn, desk.clone(), out)).detach();
    }
    // The relay's last word, if it had one, comes from the watch; this peer is closed in any case.
    smol::Timer::after(std::time::Duration::from_millis(100)).await;
    Err(Failure::of(RelayError::ShutDown))
}

async fn ask(peer: &Peer, yes: bool, out: Out) -> Result<(), Failure> {
    let mut asker = None;
    while let Some(offer) = peer.offered().await {
        let asker = asker.get_or_insert_with(|| Asker::new(yes));
        if asker.ask(offer.peer(), out).await {
            offer.accept();
        } else {
            offer.refuse();
        }
    }
    std::future::pending().await
}

/// News of the relay are for the person; only what is final ends the program.
async fn watch_relay(mut watch: Watch, out: Out) -> Result<(), Failure> {
    let (mut lost, mut told) = (false, false);
    while let Some((_, news)) = watch.next().await {
        match news {
            PeerNews::RelayLost { error, .. } if error.is_final() => return Err(Failure::of(error)),
            PeerNews::RelayLost { error, .. } => {
                lost = true;
                out.note(&format!("relay lost: {error}; trying again"));
            }
            PeerNews::Unanswered { .. } if !told => {
                told = true;
                out.note(&RelayError::NoCookie.to_string());
            }
            PeerNews::Registered { .. } if lost => {
                lost = false;
                out.note("registered again");
            }
            PeerNews::Step(step) => log::debug!("{} {} {}", step.role, step.step, step.step.what()),
            _ => {}
        }
    }
    std::future::pending().await
}

/// One connection from beginning to end.
async fn attend(conn: Connection, desk: serving::Desk, out: Out) {
    let (since, peer, paths) = (Instant::now(), conn.peer(), Paths::of(&conn).await);
    out.event(&Event::Connected { peer: peer.to_string(), path: paths.began.into(), ms: None });
    out.note(&format!("{}: connected by {}", peer.short(), path_text(paths.began)));
    let paths = smol::spawn(paths.follow(since, out, move |told| match told {
        Told::Path { path, moved: true, .. } => out.note(&format!("{}: now {}", peer.short(), path_text(path))),
        Told::Path { .. } => {}
        Told::NotDirect(why) => out.note(&format!("{}: staying on the relay: {why}", peer.short())),
    }));
    let reason = desk.serve(&conn).await;
    paths.await;
    out.event(&Event::Closed { reason: reason.to_string() });
    out.note(&format!("{}: {reason}", peer.short()));
}
