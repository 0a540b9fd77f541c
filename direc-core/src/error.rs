//! What can go wrong, and who is at fault: the caller, the other side, or the network.

use std::{fmt, time::Duration};

use crate::NodeId;

/// An ID or a key that does not parse: the caller's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdError {
    /// The byte at `position` is not one of `a`–`z`, `2`–`7`, or makes a second spelling of a key.
    Symbol {
        /// Offset in bytes from the start of the text.
        position: usize,
    },
    /// An ID is 52 characters long; this text has `found` bytes.
    Length {
        /// Length of the text in bytes.
        found: usize,
    },
    /// The key file holds something other than an Ed25519 key in PKCS#8.
    NotEd25519,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol { position } => {
                write!(f, "not an ID: character {} is none of a-z, 2-7, or cannot stand there", position + 1)
            }
            Self::Length { found } => write!(f, "not an ID: 52 characters expected, {found} found"),
            Self::NotEd25519 => f.write_str("not an Ed25519 key in PKCS#8"),
        }
    }
}

impl std::error::Error for IdError {}

/// Settings that cannot work: the caller's mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The crypto provider lacks what QUIC needs: TLS 1.3 with AES-128-GCM.
    Crypto(String),
    /// A setting is outside the range its documentation gives.
    Setting(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crypto(why) => write!(f, "the crypto provider does not fit: {why}"),
            Self::Setting(what) => write!(f, "setting out of range: {what}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Why the control connection to the relay (P3) ended or never came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayError {
    /// No answer within this time: wrong address, relay down, or UDP blocked on the way.
    Unreachable {
        /// How long the peer tried.
        after: Duration,
    },
    /// The relay proved another key than the one in the URL.
    WrongKey {
        /// The key that the URL pins.
        expected: NodeId,
    },
    /// The relay proved another key than the one it was known by, and can be asked who it is now: see
    /// [`Peer::replace_relay`](crate::Peer::replace_relay).
    KeyChanged {
        /// The key it was known by.
        expected: NodeId,
    },
    /// The connection stood and went silent.
    Lost,
    /// The relay closed it, and why in its words.
    Closed {
        /// The first 256 bytes of the relay's text, made [`printable`](crate::printable).
        reason: String,
    },
    /// The relay took no registration, and why.
    Refused(RefuseReason),
    /// Registered, but no cookie arrived at the relay's hole-punch ports (S7): the relay cannot tell the other side this
    /// peer's address, so connections may stay on the relay.
    NoCookie,
    /// The same key registered from elsewhere; this peer does not fight over it.
    Replaced,
    /// QUIC or TLS found an error, on this side or at the relay.
    Transport(TransportError),
    /// The relay said what the protocol does not allow.
    Misbehaved(&'static str),
    /// This peer was shut down.
    ShutDown,
}

impl RelayError {
    /// Whether trying again later is of no use until a person changes something.
    pub fn is_final(&self) -> bool {
        match self {
            Self::WrongKey { .. } | Self::Replaced | Self::ShutDown => true,
            Self::Refused(reason) => matches!(reason, RefuseReason::Version | RefuseReason::Kind),
            Self::Unreachable { .. }
            | Self::KeyChanged { .. }
            | Self::Lost
            | Self::Closed { .. }
            | Self::NoCookie
            | Self::Transport(_)
            | Self::Misbehaved(_) => false,
        }
    }
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { after } => write!(
                f,
                "relay unreachable: no answer in {:.1} s (is the address right, is UDP let through?)",
                after.as_secs_f64()
            ),
            Self::WrongKey { expected } => write!(
                f,
                "the relay's key is not the pinned one ({expected}): the URL is out of date, or somebody stands in between"
            ),
            Self::KeyChanged { expected } => write!(
                f,
                "the relay's key is not the one that it had ({expected}): it has a new one, or somebody stands in between"
            ),
            Self::Lost => f.write_str("the connection to the relay went silent"),
            Self::Closed { reason } => write!(f, "the relay closed the connection: {reason}"),
            Self::Refused(reason) => write!(f, "the relay refused the registration: {reason}"),
            Self::NoCookie => f.write_str(
                "registered, but the relay's hole-punch ports do not answer (is UDP to them blocked?): the relay cannot \
                 tell others this machine's address, so connections may stay on the relay",
            ),
            Self::Replaced => f.write_str("another program registered at the relay with the same key"),
            Self::Transport(error) => match error.found_by {
                FoundBy::ThisSide => write!(f, "this side ended the connection to the relay: {error}"),
                FoundBy::OtherSide => write!(f, "the relay ended the connection: {error}"),
            },
            Self::Misbehaved(what) => write!(f, "the relay broke the protocol: {what}"),
            Self::ShutDown => f.write_str("this peer was shut down"),
        }
    }
}

impl std::error::Error for RelayError {}

/// Why a party said no. Travels in messages; unknown reasons arrive as [`RefuseReason::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RefuseReason {
    /// No peer of that ID is registered at the relay.
    NoSuchPeer,
    /// P4 does not want this client (S6).
    NotWelcome,
    /// P4 did not answer the offer in time.
    NoAnswer,
    /// P4 left while the offer was open.
    PeerLeft,
    /// A limit of the relay is reached.
    Limit,
    /// A peer cannot be introduced to itself.
    Yourself,
    /// Other protocol version.
    Version,
    /// Unknown kind of message, or one that does not belong here.
    Kind,
    /// A message that does not parse.
    Malformed,
    /// The relay is going down.
    Draining,
    /// The relay is for those who show a token, and none was shown.
    TokenMissing,
    /// The relay does not know the token that was shown.
    UnknownToken,
    /// The relay is for listed peers, and this one is not listed.
    NotListed,
    /// The relay does not let this peer be found.
    MayNotRegister,
    /// The relay does not let this peer find others.
    MayNotConnect,
    /// This peer has used up what the relay gives one peer.
    PeerQuota,
    /// This peer's address has used up what the relay gives one address.
    AddressQuota,
    /// What the relay gives all peers together is used up.
    TotalQuota,
    /// A reason this version does not know.
    Other,
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchPeer => "no such peer is registered at this relay",
            Self::NotWelcome => "the other side does not accept this peer",
            Self::NoAnswer => "the other side did not answer in time",
            Self::PeerLeft => "the other side left the relay",
            Self::Limit => "a limit of the relay is reached",
            Self::Yourself => "a peer cannot be introduced to itself",
            Self::Version => "the other program speaks another version of the protocol",
            Self::Kind => "a message of this kind is not understood here",
            Self::Malformed => "a message did not parse",
            Self::Draining => "the relay is going down",
            Self::TokenMissing => "this relay is for those who have a token, and this peer has shown none",
            Self::UnknownToken => "this relay does not know the token that this peer has shown",
            Self::NotListed => "this relay is for listed peers, and this peer's ID is not among them",
            Self::MayNotRegister => "this relay does not let this peer be found by others",
            Self::MayNotConnect => "this relay does not let this peer find others",
            Self::PeerQuota => "this peer has used up what the relay gives one peer in a time; later it may have more",
            Self::AddressQuota => {
                "this peer's network address has used up what the relay gives one in a time; later it may have more"
            }
            Self::TotalQuota => "the relay gives no more at this time to all peers together",
            Self::Other => "for a reason this version does not know",
        })
    }
}

impl std::error::Error for RefuseReason {}

/// Why `connect` did not lead to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The relay could not be reached, or its key is wrong, or it refused.
    Relay(RelayError),
    /// No such peer is registered at the relay.
    NoSuchPeer,
    /// P4 refused (S6).
    Refused,
    /// P4 did not answer within the deadline: neither the offer nor the QUIC handshake.
    NoAnswer {
        /// The deadline that passed.
        after: Duration,
    },
    /// P4 proved another key than the one asked for, or took ours for another's.
    Identity(&'static str),
    /// The relay would not introduce: a limit, or it is going down.
    RelayRefused(RefuseReason),
    /// No direct path where one was demanded, and why.
    NotDirect(DirectFailure),
    /// The connection ended before it stood.
    Closed(CloseReason),
    /// A limit of this peer's own is reached.
    Limit,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(error) => write!(f, "{error}"),
            Self::NoSuchPeer => {
                f.write_str("no such peer is registered at the relay (is it running, is the ID right?)")
            }
            Self::Refused => f.write_str("refused: the other side does not accept this peer's ID"),
            Self::NoAnswer { after } => {
                write!(f, "the other side did not answer within {:.0} s", after.as_secs_f64())
            }
            Self::Identity(what) => write!(f, "identity not proven: {what}"),
            Self::RelayRefused(reason) => write!(f, "the relay refused: {reason}"),
            Self::NotDirect(why) => write!(f, "no direct path: {why}"),
            Self::Closed(reason) => write!(f, "closed before it was established: {reason}"),
            Self::Limit => f.write_str("too many connections in this peer"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Why a connection has no direct path. The connection itself goes on through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectFailure {
    /// None of our cookies reached the relay's hole-punch ports (S7).
    NoCookie,
    /// The relay gave no address of the other side: its cookies did not arrive.
    NoAddress,
    /// Probes went out and nothing came back (S10–S13): the NATs do not let them pass.
    NoRoundTrip,
    /// The direct path was asked not to be used.
    RelayOnly,
}

impl fmt::Display for DirectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCookie => "the relay's hole-punch ports do not answer (is UDP to them blocked?)",
            Self::NoAddress => {
                "the relay knows no address of the other side (the relay's hole-punch ports do not answer it)"
            }
            Self::NoRoundTrip => "nothing came back from the other side's addresses (the NATs do not let it pass)",
            Self::RelayOnly => "this connection is to stay on the relay",
        })
    }
}

impl std::error::Error for DirectFailure {}

/// Why a connection that stood has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it.
    Locally,
    /// The other application closed it.
    Application {
        /// The other application's code.
        code: u64,
        /// The first 256 bytes of its reason, made [`printable`](crate::printable).
        reason: String,
    },
    /// The other side did not take our key: the offer named another (RFC 8446 alert `access_denied`).
    KeyRefused,
    /// The other side gave up before the connection was confirmed.
    Abandoned,
    /// It was to go straight or not at all, and there is no direct path any more.
    NotDirect(DirectFailure),
    /// Nothing arrived for the idle timeout.
    TimedOut,
    /// The other side's process lost its state (stateless reset).
    Reset,
    /// QUIC or TLS found an error, on this side or on the other.
    Transport(TransportError),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locally => f.write_str("closed by this side"),
            Self::Application { code, reason } if reason.is_empty() => {
                write!(f, "closed by the other side (code {code})")
            }
            Self::Application { code, reason } => write!(f, "closed by the other side (code {code}): {reason}"),
            Self::KeyRefused => f.write_str("the other side refused our key: it was offered another"),
            Self::Abandoned => f.write_str("the other side gave up while the connection was being made"),
            Self::NotDirect(why) => write!(f, "no direct path any more: {why}"),
            Self::TimedOut => f.write_str("timed out: nothing came from the other side"),
            Self::Reset => f.write_str("the other side lost its state"),
            Self::Transport(error) => match error.found_by {
                FoundBy::ThisSide => write!(f, "this side ended the connection: {error}"),
                FoundBy::OtherSide => write!(f, "the other side ended the connection: {error}"),
            },
        }
    }
}

impl std::error::Error for CloseReason {}

/// A QUIC or TLS error that ended a connection (RFC 9000, sections 11.1 and 20.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportError {
    /// The side that found the error and closed the connection. The fault itself may be on either side.
    pub found_by: FoundBy,
    /// QUIC's error code; 0x100 to 0x1ff is a TLS alert.
    pub code: u64,
    /// The explanation of the side that found it: at most 256 bytes, printable, often empty.
    pub reason: String,
}

/// Which side found an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// The side that reports it.
    ThisSide,
    /// The other end of the connection.
    OtherSide,
}

impl TransportError {
    /// The name that RFC 9000 and RFC 9001 give the code.
    fn name(&self) -> Option<&'static str> {
        let names = [
            "no error",
            "internal error",
            "connection refused",
            "flow control error",
            "stream limit error",
            "stream state error",
            "final size error",
            "frame encoding error",
            "transport parameter error",
            "connection ID limit error",
            "protocol violation",
            "invalid token",
            "application error",
            "CRYPTO buffer exceeded",
            "key update error",
            "AEAD limit reached",
            "no viable path",
        ];
        names.get(usize::try_from(self.code).ok()?).copied()
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.code) {
            (Some(name), _) => write!(f, "QUIC {name}")?,
            (None, 0x100..=0x1ff) => write!(f, "TLS alert {}", self.code & 0xff)?,
            (None, _) => write!(f, "QUIC error {:#x}", self.code)?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason) }
    }
}

impl std::error::Error for TransportError {}

/// A call that cannot be carried out on this connection or stream: the caller's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MisuseError {
    /// There is no connection of that number, or it is closed.
    NoConnection,
    /// The offer was answered already, or has gone.
    NoOffer,
    /// The peer was shut down.
    ShutDown,
}

impl fmt::Display for MisuseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoConnection => "no such connection, or it is closed",
            Self::NoOffer => "no such offer, or it was answered already",
            Self::ShutDown => "this peer was shut down",
        })
    }
}

impl std::error::Error for MisuseError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other side may still be reached by its own address, by a port mapping, or on the same network.
    #[test]
    fn hole_punch_ports_that_do_not_answer_are_no_word_against_a_direct_path() {
        let said = RelayError::NoCookie.to_string();
        assert!(said.contains("may stay on the relay") && !said.contains("will"), "{said}");
    }
}
