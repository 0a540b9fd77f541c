//! What `serve` does with the streams of a connection.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use direc_core::CloseReason;
use direc_smol::{Connection, RecvStream, SendStream};
use smol::{
    future::{or, try_zip},
    io::{AsyncReadExt, AsyncWriteExt},
    lock::{Mutex, RwLock, RwLockReadGuardArc},
};

use super::{
    pipe::{self, Sink},
    stdin::Stdin,
};
use crate::{
    bench::{self, BLOCK, measure},
    failure::Failure,
    out::Out,
    protocol::{BROKEN_OFF, NOBODY_READS, PING_LEN, PIPE_BUSY, Request, report},
};

/// Code of streams whose request makes no sense.
const BAD_REQUEST: u32 = 1;

/// What all connections share.
#[derive(Clone)]
pub(super) struct Desk {
    echo: bool,
    out: Out,
    /// Standard input, for one pipe at a time, beside the questions.
    input: Option<Stdin>,
    /// Standard output, for one pipe at a time: two would interleave.
    pipe: Arc<Mutex<()>>,
    /// A stream has broken off, or its request made no sense.
    failed: Arc<AtomicBool>,
    /// The connections that are served, by a number.
    visits: Arc<std::sync::Mutex<BTreeMap<usize, Connection>>>,
}

/// What a connection's streams share.
#[derive(Clone, Default)]
struct Visit {
    /// Held by every stream that is served: who can have it for itself waits for nobody.
    busy: Arc<RwLock<()>>,
    failed: Arc<AtomicBool>,
}

/// How the answer on a stream ends.
enum End {
    /// In good order.
    Whole,
    /// By [`BROKEN_OFF`].
    BrokenOff,
}

impl Desk {
    pub(super) fn new(echo: bool, input: Stdin, out: Out) -> Self {
        Self {
            echo,
            out,
            input: (!echo).then_some(input),
            pipe: Arc::default(),
            failed: Arc::default(),
            visits: Arc::default(),
        }
    }

    /// Whether all streams so far have come to their ends.
    pub(super) fn all_went_well(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// Nobody reads what arrives any more: whoever sends it is told.
    pub(super) fn tell_nobody_reads(&self) {
        let visits = std::mem::take(&mut *self.visits());
        visits.into_values().for_each(|conn| conn.close(0, NOBODY_READS));
    }

    fn visits(&self) -> MutexGuard<'_, BTreeMap<usize, Connection>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves every stream until the connection has ended, and all that it brought is dealt with.
    pub(super) async fn serve(&self, conn: &Connection) -> CloseReason {
        let number = {
            let mut visits = self.visits();
            let number = visits.last_key_value().map_or(0, |(last, _)| last + 1);
            visits.insert(number, conn.clone());
            number
        };
        let visit = Visit::default();
        let reason = loop {
            let (send, recv) = match conn.accept_bi().await {
                Ok(streams) => streams,
                Err(reason) => break reason,
            };
            // Held from here, in the order of the streams, so that a later "done?" waits for this one.
            let mut held = Some(visit.busy.read_arc().await);
            let (desk, visit, peer) = (self.clone(), visit.clone(), conn.peer());
            smol::spawn(async move {
                if let Err(failure) = desk.stream(send, recv, &visit, &mut held).await {
                    desk.failed.store(true, Ordering::Relaxed);
                    visit.failed.store(true, Ordering::Relaxed);
                    desk.out.note(&format!("{}: {failure}", peer.short()));
                }
                // Not before: whoever waits for this stream is to know how it went.
                drop(held);
            })
            .detach();
        };
        drop(visit.busy.write().await);
        self.visits().remove(&number);
        reason
    }

    async fn stream(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
        visit: &Visit,
        held: &mut Option<RwLockReadGuardArc<()>>,
    ) -> Result<(), Failure> {
        let request = match Request::read(&mut recv).await {
            Ok(request) => request,
            Err(error) => {
                send.reset(BAD_REQUEST);
                recv.stop(BAD_REQUEST);
                return Err(Failure::of(error));
            }
        };
        let result = self.answer(request, &mut send, &mut recv, visit, held).await;
        match &result {
            // The end may come too late for a connection that the other side has closed by now.
            Ok(End::Whole) => drop(send.finish()),
            Ok(End::BrokenOff) | Err(_) => send.reset(BROKEN_OFF),
        }
        result.map(drop)
    }

    async fn answer(
        &self,
        request: Request,
        send: &mut SendStream,
        recv: &mut RecvStream,
        visit: &Visit,
        held: &mut Option<RwLockReadGuardArc<()>>,
    ) -> Result<End, Failure> {
        match request {
            Request::Ping => answer_pings(send, recv).await,
            Request::Pipe if self.echo => echo(send, recv).await?,
            Request::Pipe => self.pipe(send, recv).await?,
            Request::BenchUp => {
                let measured = measure(recv).await.map_err(|e| Failure::new("bench broke off", e))?;
                // If the report does not get through, the other side says so; nothing is to be done about it here.
                drop(send.write_all(&report(&measured)).await);
            }
            Request::BenchDown(load) => {
                bench::send(send, load, |_| ()).await.map_err(|e| Failure::new("bench broke off", e))?;
            }
            Request::Done => {
                *held = None;
                drop(visit.busy.write().await);
                if visit.failed.load(Ordering::Relaxed) {
                    return Ok(End::BrokenOff);
                }
            }
        }
        Ok(End::Whole)
    }

    /// The stream's bytes to standard output and, if it is free, standard input to the stream.
    async fn pipe(&self, send: &mut SendStream, recv: &mut RecvStream) -> Result<(), Failure> {
        let Some(_turn) = self.pipe.try_lock_arc() else {
            send.reset(PIPE_BUSY);
            recv.stop(PIPE_BUSY);
            return Err(Failure::Failed("refused a second pipe: one at a time".into()));
        };
        let mut sink = if self.out.json() { Sink::Nowhere } else { Sink::stdout(self.out) };
        let (mut sent, mut got) = (0, 0);
        let input = self.input.as_ref().and_then(Stdin::pipe);
        let Some(mut input) = input else {
            drop(send.finish());
            return pipe::inward(recv, &mut sink, &mut got).await;
        };
        let outward = pipe::outward(&mut input, send, &mut sent);
        let inward = pipe::inward(recv, &mut sink, &mut got);
        if std::io::stdin().is_terminal() {
            // Nobody should have to end the terminal's input for the other side to get away.
            let outward = async {
                outward.await?;
                std::future::pending().await
            };
            or(inward, outward).await
        } else {
            try_zip(inward, outward).await.map(drop)
        }
    }
}

/// Each message back as it came. Pings end when the other side has had enough, in whatever way.
async fn answer_pings(send: &mut SendStream, recv: &mut RecvStream) {
    let mut message = [0; PING_LEN];
    while recv.read_exact(&mut message).await.is_ok() {
        if send.write_all(&message).await.is_err() {
            break;
        }
    }
}

async fn echo(send: &mut SendStream, recv: &mut RecvStream) -> Result<(), Failure> {
    while let Some(chunk) = recv.read_chunk(BLOCK).await.map_err(|e| Failure::new("echo broke off", e))? {
        send.write_chunk(chunk).await.map_err(|e| Failure::new("echo broke off", e))?;
    }
    Ok(())
}
