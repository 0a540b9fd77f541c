//! What `ping`, `connect` and `bench` have in common: connecting, telling the path, and the summary.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use direc_smol::{
    CloseReason, ConnectOptions, Connection, NodeId, PathPolicy, Peer, PeerNews, ReadError, ReadToEndError, Watch,
};
use smol::{
    Task, Timer,
    future::or,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{
    Begin, Running, bench,
    called::Called,
    connect,
    options::{Action, Client},
    paths::{Paths, Told},
    ping, words,
};
use crate::{
    clock::{ms, ms_between},
    events::{Event, Summary, path_text},
    failure::Failure,
    out::Out,
    protocol::{BROKEN_OFF, NOBODY_READS, PING_LEN, Request},
    signals::{Interrupted, StatusAsked},
    wait::within,
};

/// How long the good-bye may take.
const GOOD_BYE: Duration = Duration::from_secs(2);
/// Who decides as quickly is a program: then nobody has to be told that it is being asked.
const THINKING: Duration = Duration::from_millis(500);
/// Streams break a moment before the connection has told why.
const JUST_NOW: Duration = Duration::from_millis(50);

pub(super) async fn run(
    begin: Begin<'_>,
    client: &Client,
    asked: StatusAsked,
    mut interrupted: Interrupted,
    unread: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    enum End {
        Early(Result<(), Failure>),
        Interrupted,
    }
    let (out, seen) = (begin.out, Seen::default());
    let mut running = None;
    let work = or(attempt(begin, client, asked, &seen, &mut running), unread);
    let end = or(async { End::Early(work.await) }, async {
        interrupted.wait().await;
        End::Interrupted
    })
    .await;
    let result = match end {
        End::Early(result) => result,
        End::Interrupted => interruption(client, &seen),
    };
    let result = seen.finish(out, result).await;
    if let Some(running) = running {
        running.close().await;
    }
    if let Err(failure) = &result
        && !matches!(failure, Failure::NobodyReads)
    {
        out.event(&Event::Error { what: failure.to_string() });
        out.note(&format!("peer: {failure}"));
    }
    out.event(&Event::Summary(seen.lock().summary));
    result.map_err(|failure| match failure {
        Failure::NobodyReads => Failure::NobodyReads,
        _ => Failure::Told,
    })
}

/// Ctrl-C is how a ping without a count ends, if it has been answered, and breaks off everything else.
fn interruption(client: &Client, seen: &Seen) -> Result<(), Failure> {
    let summary = seen.lock().summary;
    let answered = summary.sent.zip(summary.lost).is_some_and(|(sent, lost)| sent > lost);
    match client.action {
        Action::Ping { .. } if answered => Ok(()),
        Action::Ping { .. } => Err(Failure::Failed("interrupted before any answer".into())),
        Action::Connect | Action::Bench { .. } => Err(Failure::Failed("interrupted".into())),
    }
}

async fn attempt(
    begin: Begin<'_>,
    client: &Client,
    asked: StatusAsked,
    seen: &Seen,
    keep: &mut Option<Running>,
) -> Result<(), Failure> {
    let running = keep.insert(begin.register(asked).await?);
    let called = Called::find(&client.peer, running, begin.out).await?;
    let work = async {
        let session = Session::open(&running.peer, called.id, client, begin.out, seen).await?;
        called.met().await?;
        act(&session, client.action).await
    };
    called.beside(work).await
}

async fn act(session: &Session, action: Action) -> Result<(), Failure> {
    let result = match action {
        Action::Ping { count, interval } => ping::run(session, count, interval).await,
        Action::Connect => connect::run(session).await,
        Action::Bench { load, down } => bench::run(session, load, down).await,
    };
    // A broken stream is told by the reason for which the connection ended, if it has.
    match result {
        Err(Failure::NobodyReads) => Err(Failure::NobodyReads),
        Err(failure) => Err(session.why_it_ended().await.map_or(failure, Failure::of)),
        Ok(()) => Ok(()),
    }
}

/// What a command has come to so far: it stays when the command breaks off.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Findings>>);

#[derive(Default)]
pub(super) struct Findings {
    pub(super) summary: Summary,
    conn: Option<Connection>,
    follower: Option<Task<()>>,
}

impl Seen {
    pub(super) fn lock(&self) -> MutexGuard<'_, Findings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection if there is one, and tells how it ended.
    async fn finish(&self, out: Out, result: Result<(), Failure>) -> Result<(), Failure> {
        let (conn, follower) = {
            let mut findings = self.lock();
            (findings.conn.take(), findings.follower.take())
        };
        let Some(conn) = conn else { return result };
        {
            let mut findings = self.lock();
            findings.summary.path = Some(conn.path().into());
            findings.summary.rtt_ms = Some(ms(conn.stats().rtt));
        }
        // A transfer that is broken off is not finished: what is still under way is wanted by nobody.
        let (code, why): (u32, &[u8]) = match result {
            Ok(()) => (0, b"done"),
            Err(Failure::NobodyReads) => (0, NOBODY_READS),
            Err(_) => (BROKEN_OFF, b"broken off"),
        };
        conn.close(code, why);
        let reason = within(GOOD_BYE, conn.closed()).await;
        // It ends by itself, once it has told every path.
        if let Some(follower) = follower {
            let _ = within(GOOD_BYE, follower).await;
        }
        if let Some(reason) = reason {
            out.event(&Event::Closed { reason: reason.to_string() });
        }
        result
    }
}

/// A connection, and when it was asked for.
pub(super) struct Session {
    pub(super) conn: Connection,
    pub(super) out: Out,
    pub(super) seen: Seen,
    started: Instant,
}

impl Session {
    async fn open(peer: &Peer, id: NodeId, client: &Client, out: Out, seen: &Seen) -> Result<Self, Failure> {
        let options = ConnectOptions::with_policy(client.path);
        let started = Instant::now();
        let call = async { peer.connect_with(id, options).await.map_err(Failure::of) };
        let conn = or(call, tell_of_asking(peer.watch(), id, out)).await?;
        let connected = ms_between(started, Instant::now());
        let paths = Paths::of(&conn).await;
        let path = paths.began;
        out.event(&Event::Connected { peer: conn.peer().to_string(), path: path.into(), ms: Some(connected) });
        out.say(&format!("connected to {} after {connected:.1} ms by {}", conn.peer().short(), path_text(path)));
        {
            let mut findings = seen.lock();
            findings.summary.connected_ms = Some(connected);
            findings.conn = Some(conn.clone());
            findings.follower = Some(smol::spawn(paths.follow(started, out, {
                let (seen, policy) = (seen.clone(), client.path);
                move |news| told(&news, policy, out, &seen)
            })));
        }
        Ok(Self { conn, out, seen: seen.clone(), started })
    }

    /// Milliseconds since the connect call.
    pub(super) fn ms(&self) -> f64 {
        ms_between(self.started, Instant::now())
    }

    /// The first byte of application data has come back.
    pub(super) fn first_byte(&self) {
        let ms = self.ms();
        self.seen.lock().summary.first_byte_ms = Some(ms);
        self.out.event(&Event::FirstByte { ms });
    }

    /// One round trip of application data, so that there is a first byte.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let (mut send, mut recv) = self.conn.open_bi().await.map_err(Failure::of)?;
        let probe = [Request::Ping.to_bytes(), vec![0; PING_LEN]].concat();
        send.write_all(&probe).await.map_err(Failure::of)?;
        send.finish().map_err(Failure::of)?;
        recv.read_exact(&mut [0; PING_LEN]).await.map_err(Failure::of)?;
        self.first_byte();
        Ok(())
    }

    /// Waits until the other side has dealt with everything it was sent: closing the connection throws away what its
    /// program has not read yet.
    pub(super) async fn all_dealt_with(&self) -> Result<(), Failure> {
        let (mut send, mut recv) = self.conn.open_bi().await.map_err(Failure::of)?;
        send.write_all(&Request::Done.to_bytes()).await.map_err(Failure::of)?;
        // Who has read the request wants no more of this stream, and may have said so already.
        drop(send.finish());
        recv.read_to_end(0).await.map_err(undone).map(drop)
    }

    /// The reason for which the connection has ended; `None` if it stands.
    async fn why_it_ended(&self) -> Option<CloseReason> {
        within(JUST_NOW, self.conn.closed()).await
    }
}

/// Not all that was sent has been dealt with.
fn undone(error: ReadToEndError) -> Failure {
    match error {
        ReadToEndError::Read(ReadError::Reset(code)) if code == u64::from(BROKEN_OFF) => {
            Failure::Failed("the other side could not take all that it was sent; it says there what went wrong".into())
        }
        error => Failure::of(error),
    }
}

/// Tells the person that another one is being asked, if that takes time. Never done.
async fn tell_of_asking<T>(mut news: Watch, id: NodeId, out: Out) -> T {
    while let Some((_, told)) = news.next().await {
        if told == (PeerNews::Asking { peer: id }) {
            Timer::after(THINKING).await;
            out.event(&Event::Asking { peer: id.to_string() });
            out.note(&format!("waiting: {}… is being asked whether to let this peer in", id.short()));
            break;
        }
    }
    std::future::pending().await
}

/// Keeps in mind when the first direct path came, and says in words what the person does not know yet.
fn told(told: &Told, policy: PathPolicy, out: Out, seen: &Seen) {
    let (path, after) = match *told {
        Told::On(path, after) => (path, after),
        Told::Moved(step) => {
            out.say(&words::moved(&step, policy));
            (step.to, step.after)
        }
        Told::NotDirect(why) => return out.note(&format!("staying on the relay: {why}")),
    };
    if path.is_direct() {
        seen.lock().summary.direct_ms.get_or_insert(ms(after));
    }
}
