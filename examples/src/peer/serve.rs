//! `peer serve`: lets others connect, and says so.

use std::{io::IsTerminal, time::Instant};

use direc_smol::{Connection, Consent, PathPolicy, Peer, RelayError};
use smol::future::or;

use super::{
    Begin,
    options::Serve,
    paths::{Paths, Told},
    serving,
    stdin::Stdin,
    terminal::Asker,
    words,
};
use crate::{
    events::{Event, path_text},
    failure::Failure,
    out::Out,
    signals::{Interrupted, StatusAsked},
};

pub(super) async fn run(
    begin: Begin<'_>,
    serve: &Serve,
    asked: StatusAsked,
    mut interrupted: Interrupted,
) -> Result<(), Failure> {
    let out = begin.out;
    let asks = serve.consent == Consent::Ask && !serve.yes;
    if asks && !std::io::stdin().is_terminal() {
        out.note("nobody can be asked (standard input is no terminal): every peer will be refused; see --allow, --yes");
    }
    let registered = or(async { Some(begin.register(asked).await) }, async {
        interrupted.wait().await;
        None
    });
    let Some(running) = registered.await else { return Ok(()) };
    let mut running = running?;
    if !out.json() {
        out.say(&running.peer.id().to_string());
    }
    let stdin = Stdin::open(out);
    let asker = Asker::new(serve.yes, &stdin);
    let desk = serving::Desk::new(serve.echo, stdin, out);
    let work = or(receive(&running.peer, &desk, out), ask(&running.peer, &asker, out));
    // A relay that will not have this peer any more is the peer's end once its last connection has ended.
    let work = or(work, async { Err((&mut running.news).await) });
    let result = or(work, async {
        interrupted.wait().await;
        Ok(())
    })
    .await;
    running.close().await;
    result
}

async fn receive(peer: &Peer, desk: &serving::Desk, out: Out) -> Result<(), Failure> {
    while let Some(conn) = peer.accept().await {
        smol::spawn(attend(conn, desk.clone(), out)).detach();
    }
    // The relay's last word, if it had one, comes with the news; this peer is closed in any case.
    smol::Timer::after(std::time::Duration::from_millis(100)).await;
    Err(Failure::of(RelayError::ShutDown))
}

async fn ask(peer: &Peer, asker: &Asker, out: Out) -> Result<(), Failure> {
    while let Some(offer) = peer.offered().await {
        asker.consider(offer, out);
    }
    std::future::pending().await
}

/// One connection from beginning to end.
async fn attend(conn: Connection, desk: serving::Desk, out: Out) {
    let (since, peer, paths) = (Instant::now(), conn.peer(), Paths::of(&conn).await);
    out.event(&Event::Connected { peer: peer.to_string(), path: paths.began.into(), ms: None });
    out.note(&format!("{}: connected by {}", peer.short(), path_text(paths.began)));
    let paths = smol::spawn(paths.follow(since, out, move |told| match told {
        Told::On(..) => {}
        Told::Moved(step) => out.note(&format!("{}: {}", peer.short(), words::moved(&step, PathPolicy::Auto))),
        Told::NotDirect(why) => out.note(&format!("{}: staying on the relay: {why}", peer.short())),
    }));
    let reason = desk.serve(&conn).await;
    paths.await;
    out.event(&Event::Closed { reason: reason.to_string() });
    out.note(&format!("{}: {reason}", peer.short()));
}
