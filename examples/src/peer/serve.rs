//! `peer serve`: lets others connect, and says so.

use std::{io::IsTerminal, time::Instant};

use direc_smol::{CloseReason, Connection, Consent, PathPolicy, Peer, RelayError};
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

/// Code and reason for connections that come while `--once` serves another one.
const BUSY: (u32, &[u8]) = (2, b"busy with another connection");

pub(super) async fn run(
    begin: Begin<'_>,
    serve: &Serve,
    asked: StatusAsked,
    mut interrupted: Interrupted,
    unread: impl Future<Output = Result<(), Failure>>,
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
    let Some(running) = registered.await else {
        return Err(Failure::Failed("interrupted before a relay knew this peer".into()));
    };
    let mut running = running?;
    let id = running.peer.id().to_string();
    match (out.json(), serve.once) {
        (true, _) => {}
        (false, true) => out.note(&id),
        (false, false) => out.say(&id),
    }
    let stdin = Stdin::open(out);
    let asker = Asker::new(serve.yes, &stdin);
    let desk = serving::Desk::new(serve.echo, stdin, out);
    let connections = async {
        if serve.once { serve_one(&running.peer, &desk, out).await } else { serve_all(&running.peer, &desk, out).await }
    };
    let work = or(connections, ask(&running.peer, &asker, out));
    // A relay that will not have this peer any more is the peer's end once its last connection has ended.
    let work = or(or(work, unread), async { Err((&mut running.news).await) });
    let result = or(work, async {
        interrupted.wait().await;
        if serve.once { Err(Failure::Failed("interrupted".into())) } else { Ok(()) }
    })
    .await;
    if matches!(result, Err(Failure::NobodyReads)) {
        desk.tell_nobody_reads();
    }
    // Who does not want to wait until the last things are delivered says so once more.
    or(running.close(), async {
        interrupted.wait().await;
    })
    .await;
    result
}

async fn serve_all(peer: &Peer, desk: &serving::Desk, out: Out) -> Result<(), Failure> {
    while let Some(conn) = peer.accept().await {
        let desk = desk.clone();
        smol::spawn(async move { attend(&conn, &desk, out).await }).detach();
    }
    closed().await
}

/// The first connection, and how it went: well if the other side has closed it with code 0, and all its streams have
/// come to their ends.
async fn serve_one(peer: &Peer, desk: &serving::Desk, out: Out) -> Result<(), Failure> {
    let Some(conn) = peer.accept().await else { return closed().await };
    let turn_away = async {
        while let Some(other) = peer.accept().await {
            out.note(&format!("{}: turned away: one connection is served, and no more", other.peer().short()));
            other.close(BUSY.0, BUSY.1);
        }
        std::future::pending().await
    };
    match or(attend(&conn, desk, out), turn_away).await {
        CloseReason::Application { code: 0, .. } if desk.all_went_well() => Ok(()),
        CloseReason::Application { code: 0, .. } => Err(Failure::Failed("not everything came to its end".into())),
        reason => Err(Failure::of(reason)),
    }
}

async fn closed() -> Result<(), Failure> {
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
async fn attend(conn: &Connection, desk: &serving::Desk, out: Out) -> CloseReason {
    let (since, peer, paths) = (Instant::now(), conn.peer(), Paths::of(conn).await);
    out.event(&Event::Connected { peer: peer.to_string(), path: paths.began.into(), ms: None });
    out.note(&format!("{}: connected by {}", peer.short(), path_text(paths.began)));
    let paths = smol::spawn(paths.follow(since, out, move |told| match told {
        Told::On(..) => {}
        Told::Moved(step) => out.note(&format!("{}: {}", peer.short(), words::moved(&step, PathPolicy::Auto))),
        Told::NotDirect(why) => out.note(&format!("{}: staying on the relay: {why}", peer.short())),
    }));
    let reason = desk.serve(conn).await;
    paths.await;
    out.event(&Event::Closed { reason: reason.to_string() });
    out.note(&format!("{}: {reason}", peer.short()));
    reason
}
