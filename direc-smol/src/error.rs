//! What can go wrong here: sockets, key files, streams.

use std::{fmt, io, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use direc_core::{CloseReason, ConfigError, IdError, NodeId, RefuseReason, RelayError};

use crate::FileTrouble;

/// Why a node did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// The relay's host name did not resolve.
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The relay's host name resolves, but not to an address this node can use.
    NoAddress {
        /// The name.
        host: String,
    },
    /// The local address is IPv4 and the relay's IPv6, or the other way round.
    Family {
        /// The local address asked for.
        local: SocketAddr,
        /// The relay's host.
        host: String,
    },
    /// A UDP socket could not be had.
    Socket {
        /// The local address asked for.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A TCP socket for HTTPS could not be had.
    Https {
        /// The local address asked for.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The TCP port for [`PageServer`](crate::PageServer)'s pages could not be had.
    Pages {
        /// The local address asked for.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A setting is out of its range.
    Config(ConfigError),
    /// The system gave no randomness.
    Entropy(String),
    /// The driver's thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, error } => write!(f, "the relay's host {host:?} does not resolve: {error}"),
            Self::NoAddress { host } => write!(f, "the relay's host {host:?} has no usable address"),
            Self::Family { local, host } => {
                let kind = if local.is_ipv4() { "an IPv4" } else { "an IPv6" };
                write!(f, "the local address {local} needs a relay with {kind} address, and {host:?} has none")
            }
            Self::Socket { address, error } => {
                write!(f, "cannot bind UDP port {} on {}: ", address.port(), address.ip())?;
                bind_words(error, f)
            }
            Self::Https { address, error } => {
                write!(f, "cannot listen for HTTPS on TCP port {} of {}: ", address.port(), address.ip())?;
                bind_words(error, f)
            }
            Self::Pages { address, error } => {
                write!(f, "cannot listen for HTTP on TCP port {} of {}: ", address.port(), address.ip())?;
                bind_words(error, f)
            }
            Self::Config(error) => write!(f, "{error}"),
            Self::Entropy(error) => write!(f, "the system gave no randomness: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

fn bind_words(error: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error.kind() {
        io::ErrorKind::AddrInUse => f.write_str("another program uses it already"),
        io::ErrorKind::AddrNotAvailable => f.write_str("this machine has no such address"),
        io::ErrorKind::PermissionDenied => f.write_str("not permitted (ports below 1024 are reserved)"),
        _ => write!(f, "{error}"),
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { error, .. }
            | Self::Socket { error, .. }
            | Self::Https { error, .. }
            | Self::Pages { error, .. }
            | Self::Thread(error) => Some(error),
            Self::Config(error) => Some(error),
            Self::NoAddress { .. } | Self::Family { .. } | Self::Entropy(_) => None,
        }
    }
}

impl From<ConfigError> for BindError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Why a key file could not be used or made.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file or its folder could not be read, made or written.
    Io {
        /// The path.
        path: PathBuf,
        /// What was being done, as in "cannot read".
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The path leads to a folder, a device, or something else that is no file.
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// There is no file at the path, and no folder in which to make one.
    NoFolder {
        /// The path.
        path: PathBuf,
        /// The folder that is missing.
        folder: PathBuf,
    },
    /// The file holds a key, and is readable or writable by others than its owner.
    Exposed {
        /// The path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is too long to be a key.
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The file holds no PKCS#8 key in PEM (`-----BEGIN PRIVATE KEY-----`).
    NotPem {
        /// The path.
        path: PathBuf,
    },
    /// The file holds a key, but not an Ed25519 one.
    Key {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        error: IdError,
    },
    /// A key could not be made.
    Generate(String),
}

/// What to do about a file that is no key file.
const ANOTHER: &str = "name another file (one that does not exist yet is made)";

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, doing, error } => write!(f, "{}", FileTrouble { doing, path, error }),
            Self::NotAFile { path } => {
                write!(f, "{} is not a key file: it is a folder, a device or the like; {ANOTHER}", path.display())
            }
            Self::NoFolder { path, folder } => write!(
                f,
                "no key file {}: the folder {folder} does not exist; correct the path, or make the folder \
                 (`mkdir -p -m 700 {folder}`)",
                path.display(),
                folder = folder.display()
            ),
            Self::Exposed { path, mode } => {
                let path = path.display();
                write!(f, "others can get at the secret key in {path} (mode {mode:04o}): run `chmod 600 {path}`")
            }
            Self::TooLong { path } => write!(f, "{} is not a key file: it is too long; {ANOTHER}", path.display()),
            Self::NotPem { path } => write!(
                f,
                "{} is not a key file: there is no private key in it (PEM, -----BEGIN PRIVATE KEY-----); {ANOTHER}",
                path.display()
            ),
            Self::Key { path, error } => {
                write!(f, "{} is not a key file for this: the key in it is {error}; {ANOTHER}", path.display())
            }
            Self::Generate(error) => write!(f, "cannot make a key: {error}"),
        }
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Key { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why writing to a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The other side wants no more of this stream, and its code for why.
    Stopped(u64),
    /// The connection has ended.
    Closed(CloseReason),
    /// This side has finished or reset the stream already.
    Finished,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(code) => write!(f, "the other side stopped this stream (code {code})"),
            Self::Closed(reason) => write!(f, "the connection has ended: {reason}"),
            Self::Finished => f.write_str("this stream was finished or reset already"),
        }
    }
}

impl std::error::Error for WriteError {}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::Stopped(_) => io::ErrorKind::BrokenPipe,
            WriteError::Closed(reason) => kind_of(reason),
            WriteError::Finished => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}

/// Why reading from a stream ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The other side abandoned the stream, and its code for why.
    Reset(u64),
    /// The connection has ended.
    Closed(CloseReason),
    /// This side has stopped the stream already.
    Stopped,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the other side abandoned this stream (code {code})"),
            Self::Closed(reason) => write!(f, "the connection has ended: {reason}"),
            Self::Stopped => f.write_str("this stream was stopped already"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Reset(_) => io::ErrorKind::ConnectionReset,
            ReadError::Closed(reason) => kind_of(reason),
            ReadError::Stopped => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}

/// Why `read_to_end` gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadToEndError {
    /// There is more than the limit allows.
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Reading ended before the stream's end.
    Read(ReadError),
}

impl fmt::Display for ReadToEndError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "the stream is longer than {limit} bytes"),
            Self::Read(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ReadToEndError {}

/// Why a datagram was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendDatagramError {
    /// This side or the other has datagrams turned off.
    Disabled,
    /// It is larger than [`Connection::max_datagram_size`](crate::Connection::max_datagram_size).
    TooLarge,
    /// So many are waiting that there is no room; here it is back.
    Full(Bytes),
    /// The connection has ended.
    Closed(CloseReason),
}

impl fmt::Display for SendDatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("datagrams are turned off on this connection"),
            Self::TooLarge => f.write_str("the datagram is too large for one packet"),
            Self::Full(_) => f.write_str("too many datagrams are waiting to be sent"),
            Self::Closed(reason) => write!(f, "the connection has ended: {reason}"),
        }
    }
}

impl std::error::Error for SendDatagramError {}

fn kind_of(reason: &CloseReason) -> io::ErrorKind {
    match reason {
        CloseReason::Locally => io::ErrorKind::NotConnected,
        CloseReason::TimedOut => io::ErrorKind::TimedOut,
        CloseReason::Reset => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    }
}

/// Who a relay says is called by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Which relay says so: its key.
    pub relay: NodeId,
    /// Who it is.
    pub id: NodeId,
}

/// Why a name leads to nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveError {
    /// No relay that knows this peer knows the name.
    Unknown,
    /// No relay names anybody, and one does not say: a quota, or this peer may not find others.
    Refused(RefuseReason),
    /// There is no relay to ask.
    Relay(RelayError),
    /// Relays name different peers.
    Disagree {
        /// Each one's word, in their order.
        named: Vec<Named>,
    },
    /// A relay that knows this peer has not answered.
    NoAnswer {
        /// How long that was waited for.
        after: Duration,
    },
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the relay knows nobody of that name"),
            Self::Refused(reason) => write!(f, "the relay does not say who that is: {reason}"),
            Self::Relay(error) => write!(f, "{error}"),
            Self::Disagree { named } => {
                f.write_str("the relays disagree (ask one of them alone, or use the ID that is meant)")?;
                named.iter().try_for_each(|Named { relay, id }| write!(f, "\n  relay {relay} says {id}"))
            }
            Self::NoAnswer { after } => write!(f, "the relay has not said within {} s who that is", after.as_secs()),
        }
    }
}

impl std::error::Error for ResolveError {}

impl From<RelayError> for ResolveError {
    fn from(error: RelayError) -> Self {
        Self::Relay(error)
    }
}
