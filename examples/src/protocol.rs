//! What two `peer` programs say to each other: the first bytes of each bi stream tell what it is for.
//!
//! ```text
//! request   "dp" | version 1 | kind        4 bytes, then by kind:
//!   1 ping        messages of 16 bytes, each sent back as it is
//!   2 pipe        whatever the two programs' users have to say; one at a time, others are reset with code 2
//!                 (in either direction, code 3 says that the sender broke off)
//!   3 bench up    bytes until the stream ends; then comes a report
//!   4 bench down  bytes u64 | microseconds u64 | bits per second u64, 0 for "any"; then come the bytes
//!   5 done?       nothing; the answer's end comes once all that the connection's other streams brought is dealt with, and
//!                 code 3 instead if some of it could not be
//! report    bytes u64 | microseconds u64 | longest stall in microseconds u64
//! ```
//! Numbers are big-endian. A client that has not come to its end closes the connection with code 3.

use std::{fmt, io, time::Duration};

use direc_smol::RecvStream;
use smol::io::AsyncReadExt;

use crate::meter::Measured;

/// Code with which the server resets and stops a pipe's stream while another pipe is open.
pub const PIPE_BUSY: u32 = 2;
/// Code with which a stream is reset whose sender broke off: it must not look as if it had come to its end.
pub const BROKEN_OFF: u32 = 3;
/// Why a connection is closed whose data nobody reads any more.
pub const NOBODY_READS: &[u8] = b"nobody reads the output any more";
/// Length of a ping and its answer.
pub const PING_LEN: usize = 16;

const MAGIC: [u8; 3] = [b'd', b'p', 1];
const HEADER_LEN: usize = 4;
const LOAD_LEN: usize = 24;
const REPORT_LEN: usize = 24;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Round trips.
    Ping,
    /// Two users' bytes.
    Pipe,
    /// The client sends, the server measures.
    BenchUp,
    /// The server sends, the client measures.
    BenchDown(Load),
    /// Has everything been dealt with?
    Done,
}

/// How much a bench sends, and how fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Stop after so many bytes.
    pub bytes: Option<u64>,
    /// Stop after this time.
    pub time: Option<Duration>,
    /// Hold this rate.
    pub bits_per_second: Option<u64>,
}

/// Why a request cannot be served.
#[derive(Debug)]
pub enum RequestError {
    /// The stream ended or broke first.
    Io(io::Error),
    /// Other program or other version.
    Unknown([u8; HEADER_LEN]),
    /// A bench without an end.
    Endless,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "no request came: {error}"),
            Self::Unknown(bytes) => write!(f, "not a request of this version: {bytes:02x?}"),
            Self::Endless => f.write_str("a bench that never ends"),
        }
    }
}

impl std::error::Error for RequestError {}

impl Request {
    /// The stream's first bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        let kind = match self {
            Self::Ping => 1,
            Self::Pipe => 2,
            Self::BenchUp => 3,
            Self::BenchDown(_) => 4,
            Self::Done => 5,
        };
        let mut bytes = [MAGIC.as_slice(), &[kind]].concat();
        if let Self::BenchDown(load) = self {
            bytes.extend(numbers([load.bytes.unwrap_or(0), micros(load.time), load.bits_per_second.unwrap_or(0)]));
        }
        bytes
    }

    /// Reads a stream's first bytes.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn read(stream: &mut RecvStream) -> Result<Self, RequestError> {
        let mut header = [0; HEADER_LEN];
        stream.read_exact(&mut header).await.map_err(RequestError::Io)?;
        let [a, b, c, kind] = header;
        if [a, b, c] != MAGIC {
            return Err(RequestError::Unknown(header));
        }
        match kind {
            1 => Ok(Self::Ping),
            2 => Ok(Self::Pipe),
            3 => Ok(Self::BenchUp),
            4 => {
                let mut load = [0; LOAD_LEN];
                stream.read_exact(&mut load).await.map_err(RequestError::Io)?;
                Ok(Self::BenchDown(Load::parse(&load)?))
            }
            5 => Ok(Self::Done),
            _ => Err(RequestError::Unknown(header)),
        }
    }
}

impl Load {
    fn parse(bytes: &[u8; LOAD_LEN]) -> Result<Self, RequestError> {
        let [bytes, time, rate] = parse(bytes).map(|number| (number > 0).then_some(number));
        if bytes.is_none() && time.is_none() {
            return Err(RequestError::Endless);
        }
        Ok(Self { bytes, time: time.map(Duration::from_micros), bits_per_second: rate })
    }
}

/// The receiver's report to the sender.
pub fn report(measured: &Measured) -> Vec<u8> {
    numbers([measured.bytes, micros(Some(measured.time)), micros(Some(measured.longest_stall))])
}

/// Reads the receiver's report.
///
/// # Errors
/// If the stream ends or breaks first.
pub async fn read_report(stream: &mut RecvStream) -> io::Result<Measured> {
    let mut bytes = [0; REPORT_LEN];
    stream.read_exact(&mut bytes).await?;
    let [bytes, time, longest_stall] = parse(&bytes);
    Ok(Measured { bytes, time: Duration::from_micros(time), longest_stall: Duration::from_micros(longest_stall) })
}

fn micros(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

fn numbers(numbers: [u64; 3]) -> Vec<u8> {
    numbers.into_iter().flat_map(u64::to_be_bytes).collect()
}

fn parse(bytes: &[u8; 24]) -> [u64; 3] {
    let mut numbers = [0; 3];
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_survives_the_way() {
        let load = Load {
            bytes: None,
            time: Some(Duration::from_millis(2500)),
            bits_per_second: Some(u64::from(u32::MAX) + 7),
        };
        let bytes = Request::BenchDown(load).to_bytes();
        let body: &[u8; LOAD_LEN] = bytes[HEADER_LEN..].try_into().unwrap();
        assert_eq!(Load::parse(body).unwrap(), load);
        assert!(matches!(Load::parse(&[0; LOAD_LEN]), Err(RequestError::Endless)));
    }
}
