//! `peer connect`: standard input and output to and from the other side.

use std::time::Instant;

use smol::{
    future::{or, try_zip, zip},
    io::AsyncWriteExt,
};

use super::{
    client::Session,
    pipe::{self, Sink, Whole},
    stdin::Stdin,
};
use crate::{clock::seconds, failure::Failure, protocol::Request};

pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let (send, mut recv) = session.conn.open_bi().await.map_err(Failure::of)?;
    let Whole(send) = &mut Whole(send);
    send.write_all(&Request::Pipe.to_bytes()).await.map_err(Failure::of)?;
    let started = Instant::now();
    let Some(mut input) = Stdin::open(session.out).pipe() else { return Err(Failure::Failed("no input".into())) };
    let mut sink = if session.out.json() { Sink::Events(session.out) } else { Sink::stdout(session.out) };
    let streams = async {
        let (mut sent, mut got) = (0, 0);
        // One direction that fails ends the other: nobody is to wait for input that has nowhere to go.
        let outward = pipe::outward(&mut input, send, &mut sent);
        let result = try_zip(pipe::inward(&mut recv, &mut sink, &mut got), outward).await;
        {
            let summary = &mut session.seen.lock().summary;
            summary.bytes = Some(sent + got);
            summary.seconds = Some(seconds(started.elapsed()));
        }
        result?;
        session.all_dealt_with().await
    };
    let closed = async { Err(Failure::of(session.conn.closed().await)) };
    // The first echo is measured beside the user's data; whether it comes is no condition.
    let streams = zip(streams, async { drop(session.probe().await) });
    or(async { streams.await.0 }, closed).await
}
