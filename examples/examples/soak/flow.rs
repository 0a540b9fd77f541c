//! One direction of a stream: bytes that a seed decides, and the SHA-256 of what was sent behind them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use direc_examples::failure::Failure;
use direc_sim::rng::{Purpose, Rng};
use direc_smol::{RecvStream, SendStream};
use ring::digest::{Context, SHA256};
use smol::{Timer, io::AsyncReadExt};

use crate::manner::{Reading, Writing};

pub(crate) type Hash = [u8; 32];

/// Content repeats after this many bytes: a prime, so that no piece of it looks right at a place that is wrong by a
/// round number.
const PERIOD: usize = 1_048_573;
/// How long a writer waits before the next piece, so that the driver sends this one by itself.
const LONE: Duration = Duration::from_micros(40);

/// What is sent one way on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) seed: u64,
    pub(crate) bytes: u64,
}

/// How far a flow has come at this end.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicU64);

impl Mark {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The bytes of a flow.
struct Content(Bytes);

impl Content {
    fn new(flow: Flow) -> Self {
        let mut once = vec![0; PERIOD];
        Rng::new(flow.seed, Purpose::Garbage).fill(&mut once);
        // Twice, so that any piece up to a period is in one place.
        once.extend_from_within(..);
        Self(once.into())
    }

    /// `size` bytes, at most a period, from `offset` on.
    fn piece(&self, offset: u64, size: usize) -> Bytes {
        let start = (offset % PERIOD as u64) as usize;
        self.0.slice(start..start + size)
    }
}

fn hash(context: Context) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Sends a flow.
pub(crate) struct Writer<'a> {
    stream: &'a mut SendStream,
    content: Content,
    sent: Context,
    left: u64,
    offset: u64,
    mark: &'a Mark,
}

impl<'a> Writer<'a> {
    /// Sends all of `flow` and its hash, which comes back. Does not finish the stream.
    pub(crate) async fn send(flow: Flow, stream: &'a mut SendStream, mark: &'a Mark) -> Result<Hash, Failure> {
        let (content, sent) = (Content::new(flow), Context::new(&SHA256));
        let mut writer = Self { stream, content, sent, left: flow.bytes, offset: 0, mark };
        let mut rng = Rng::new(flow.seed, Purpose::Stories);
        while writer.left > 0 {
            let writing = Writing::draw(&mut rng, flow.bytes);
            let place = writer.offset;
            writer.write(writing, &mut rng).await.map_err(|e| {
                Failure::new(format!("{writing:?} from byte {place} on, sent up to byte {}", writer.offset), e)
            })?;
        }
        let hash = hash(writer.sent);
        writer.stream.write_chunk(Bytes::copy_from_slice(&hash)).await.map_err(Failure::of)?;
        Ok(hash)
    }

    async fn write(&mut self, writing: Writing, rng: &mut Rng) -> Result<(), Failure> {
        match writing {
            Writing::Blocks { size, bytes } => {
                let end = self.offset + bytes.min(self.left);
                while self.offset < end {
                    self.piece(size.min((end - self.offset) as usize)).await?;
                }
            }
            Writing::Pieces { most, count } => {
                for _ in 0..count {
                    self.lone_piece(1 + rng.below(most) as usize).await?;
                }
            }
            Writing::Pattern { sizes, count } => {
                for size in sizes.iter().cycle().take(count as usize) {
                    self.lone_piece(*size).await?;
                }
            }
            Writing::Pause(time) => drop(Timer::after(time).await),
        }
        Ok(())
    }

    async fn lone_piece(&mut self, size: usize) -> Result<(), Failure> {
        if self.left > 0 {
            self.piece(size).await?;
            Timer::after(LONE).await;
        }
        Ok(())
    }

    async fn piece(&mut self, size: usize) -> Result<(), Failure> {
        let piece = self.content.piece(self.offset, size.min(PERIOD).min(self.left as usize));
        self.sent.update(&piece);
        let size = piece.len();
        self.stream.write_chunk(piece).await.map_err(Failure::of)?;
        self.offset += size as u64;
        self.left -= size as u64;
        self.mark.add(size);
        Ok(())
    }
}

/// Receives a flow.
pub(crate) struct Reader<'a> {
    stream: &'a mut RecvStream,
    content: Content,
    received: Context,
    left: u64,
    offset: u64,
    mark: &'a Mark,
}

impl<'a> Reader<'a> {
    /// Receives all of `flow` and the hash of what was sent, and compares them; the hash comes back.
    pub(crate) async fn receive(flow: Flow, stream: &'a mut RecvStream, mark: &'a Mark) -> Result<Hash, Failure> {
        let (content, received) = (Content::new(flow), Context::new(&SHA256));
        let mut reader = Self { stream, content, received, left: flow.bytes, offset: 0, mark };
        // Another stream of numbers than the writer's: the two do not go in step.
        let mut rng = Rng::new(!flow.seed, Purpose::Stories);
        while reader.left > 0 {
            let reading = Reading::draw(&mut rng, flow.bytes);
            let place = reader.offset;
            reader.read(reading).await.map_err(|e| {
                Failure::new(format!("{reading:?} from byte {place} on, read up to byte {}", reader.offset), e)
            })?;
        }
        let (received, mut sent) = (hash(reader.received), Hash::default());
        reader.stream.read_exact(&mut sent).await.map_err(|e| Failure::new("the hash did not arrive", e))?;
        if sent == received {
            Ok(received)
        } else {
            Err(Failure::Failed("the SHA-256 of what was received is not that of what was sent".into()))
        }
    }

    async fn read(&mut self, reading: Reading) -> Result<(), Failure> {
        match reading {
            Reading::Chunks { most, bytes } => {
                let end = self.offset + bytes.min(self.left);
                while self.offset < end {
                    let most = most.min((end - self.offset) as usize);
                    let chunk = self.stream.read_chunk(most).await.map_err(Failure::of)?;
                    self.take(&chunk.ok_or_else(Self::ended)?)?;
                }
            }
            Reading::Buffer { size, bytes } => {
                let end = self.offset + bytes.min(self.left);
                let mut buffer = vec![0; size];
                while self.offset < end {
                    let most = size.min((end - self.offset) as usize);
                    match self.stream.read(&mut buffer[..most]).await.map_err(Failure::of)? {
                        0 => return Err(Self::ended()),
                        size => self.take(&buffer[..size])?,
                    }
                }
            }
            Reading::Stop(time) => drop(Timer::after(time).await),
        }
        Ok(())
    }

    /// The next bytes have come; are they right?
    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.received.update(bytes);
        for bytes in bytes.chunks(PERIOD) {
            let expected = self.content.piece(self.offset, bytes.len());
            if let Some(wrong) = bytes.iter().zip(&expected).position(|(came, sent)| came != sent) {
                return Err(Failure::Failed(format!("byte {} is wrong", self.offset + wrong as u64)));
            }
            self.offset += bytes.len() as u64;
            self.left -= bytes.len() as u64;
            self.mark.add(bytes.len());
        }
        Ok(())
    }

    fn ended() -> Failure {
        Failure::Failed("the stream ended early".into())
    }
}
