//! The two directions of a stream between a terminal, or a pipe of the shell, and another peer.

use std::io::{self, IsTerminal, Stdout};

use bytes::Bytes;
use data_encoding::BASE64;
use direc_core::PrintableStream;
use direc_smol::{ReadError, RecvStream, SendStream, WriteError};
use smol::{Unblock, future::or, io::AsyncWriteExt};

use super::stdin::Pipe;
use crate::{
    bench::BLOCK,
    events::Event,
    failure::Failure,
    out::Out,
    protocol::{BROKEN_OFF, PIPE_BUSY},
    reader,
};

/// Where arriving bytes go.
pub(super) enum Sink {
    /// To standard output, as they are.
    Stdout(Unblock<Stdout>),
    /// To a terminal: it shows what the other side has sent, and obeys nothing of it.
    Terminal(Unblock<Stdout>, PrintableStream, Out),
    /// To standard output, as JSON lines.
    Events(Out),
    /// Nowhere: they are counted.
    Nowhere,
}

impl Sink {
    pub(super) fn stdout(out: Out) -> Self {
        let stdout = std::io::stdout();
        match stdout.is_terminal() {
            true => Self::Terminal(Unblock::new(stdout), PrintableStream::default(), out),
            false => Self::Stdout(Unblock::new(stdout)),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout(stdout) => write(stdout, bytes).await,
            Self::Terminal(stdout, shown, out) => {
                out.begin_line();
                write(stdout, shown.push(bytes).as_bytes()).await
            }
            Self::Events(out) => {
                out.event(&Event::Data { base64: BASE64.encode(bytes) });
                Ok(())
            }
            Self::Nowhere => Ok(()),
        }
    }

    /// Nothing more comes.
    async fn end(&mut self) -> Result<(), Failure> {
        match self {
            Self::Terminal(stdout, shown, _) => write(stdout, shown.finish().as_bytes()).await,
            Self::Stdout(_) | Self::Events(_) | Self::Nowhere => Ok(()),
        }
    }
}

async fn write(stdout: &mut Unblock<Stdout>, bytes: &[u8]) -> Result<(), Failure> {
    let written = async {
        stdout.write_all(bytes).await?;
        stdout.flush().await
    };
    written.await.map_err(unwritten)
}

/// Standard output takes no more.
fn unwritten(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        reader::gone();
        return Failure::NobodyReads;
    }
    Failure::new("cannot write to standard output", error)
}

/// A stream that is reset when this is dropped, unless its end has arrived: a stream that is merely dropped ends as if
/// everything had been said.
pub(super) struct Whole(pub(super) SendStream);

impl Drop for Whole {
    fn drop(&mut self) {
        self.0.reset(BROKEN_OFF);
    }
}

enum Next {
    Read(io::Result<Option<Bytes>>),
    NotWanted,
}

/// From the input to the other side, until the input ends or the other side wants no more. `bytes` counts them.
pub(super) async fn outward(input: &mut Pipe, send: &mut SendStream, bytes: &mut u64) -> Result<(), Failure> {
    loop {
        let read = async { Next::Read(input.chunk().await) };
        let not_wanted = async {
            drop(send.stopped().await);
            Next::NotWanted
        };
        match or(read, not_wanted).await {
            Next::NotWanted => return Ok(()),
            Next::Read(Err(error)) => return Err(Failure::new("cannot read standard input", error)),
            Next::Read(Ok(None)) => return unless_unwanted(send.finish()),
            Next::Read(Ok(Some(chunk))) => {
                let size = chunk.len() as u64;
                match send.write_chunk(chunk).await {
                    Ok(()) => *bytes += size,
                    error => return unless_unwanted(error),
                }
            }
        }
    }
}

/// The other side may want no more. Why, its own stream says.
fn unless_unwanted(sent: Result<(), WriteError>) -> Result<(), Failure> {
    match sent {
        Ok(()) | Err(WriteError::Stopped(_)) => Ok(()),
        Err(error) => Err(Failure::of(error)),
    }
}

/// From the other side to the sink, until it has no more. `bytes` counts them.
pub(super) async fn inward(recv: &mut RecvStream, sink: &mut Sink, bytes: &mut u64) -> Result<(), Failure> {
    reader::watch();
    while let Some(chunk) = recv.read_chunk(BLOCK).await.map_err(broken_off)? {
        *bytes += chunk.len() as u64;
        sink.write(&chunk).await?;
    }
    sink.end().await
}

/// The other side's stream has not come to its end.
fn broken_off(error: ReadError) -> Failure {
    match error {
        ReadError::Reset(code) if code == u64::from(PIPE_BUSY) => Failure::Failed(
            "the other side's pipe is in use by another connection: try again when that has ended".into(),
        ),
        ReadError::Reset(code) if code == u64::from(BROKEN_OFF) => {
            Failure::Failed("the other side broke off in the middle".into())
        }
        error => Failure::of(error),
    }
}
