//! The operations that a program is made of.

/// What a program can do. Each is one byte, followed by its arguments: always as many ([`Op::arguments`]), so that a
/// changed byte changes one operation and not all that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Time passes: a byte of milliseconds.
    Pass,
    /// Much time passes: a byte of half seconds.
    PassLong,
    /// Everyone is late by a byte of units of 16 ms.
    Oversleep,
    /// A peer connects: which, to whom, how.
    Connect,
    /// A peer answers an offer: which peer, which offer, bit 0 of the answer.
    Answer,
    /// A peer opens a stream: which peer, which connection, bit 0 for unidirectional.
    Open,
    /// A peer writes: which, on which stream, a byte of units of 256 bytes.
    Write,
    /// A peer reads all there is: which.
    Read,
    /// A peer ends a stream: which peer, which stream, how.
    End,
    /// A peer sends a datagram: which, on which connection, a byte of units of 8 bytes.
    Datagram,
    /// A peer closes a connection: which peer, which connection.
    Close,
    /// A peer looks at all its connections: which.
    Look,
    /// The victim gets bytes: from whom, on which link, the stride, how many, the bytes.
    Garbage,
    /// A datagram of the last ones is sent again: which, from whom, how it is changed, where, with what.
    Replay,
    /// Several of the last datagrams arrive in one buffer: the first, how many, from whom.
    Together,
    /// What the network does from now on: chances of drops, duplicates, damage, delay, and whether GSO passes.
    Weather,
    /// Two hosts stop hearing each other, or start again.
    Cut,
    /// A host's NAT changes its ways: which, how.
    Remap,
    /// A puppet acts on its control connection: which, then what.
    Act,
    /// A puppet sends a datagram: which, to which victim, from whom, on which link of a relay, bit 0 set if it is really
    /// from there, then what.
    Send,
    /// A timeout that nobody asked for.
    Timeout,
    /// A peer's program starts anew, with the same key.
    Restart,
    /// A peer says good-bye.
    Shutdown,
    /// The relay goes down.
    RelayDown,
}

impl Op {
    /// All, by their bytes.
    pub const ALL: [Self; 24] = [
        Self::Pass,
        Self::PassLong,
        Self::Oversleep,
        Self::Connect,
        Self::Answer,
        Self::Open,
        Self::Write,
        Self::Read,
        Self::End,
        Self::Datagram,
        Self::Close,
        Self::Look,
        Self::Garbage,
        Self::Replay,
        Self::Together,
        Self::Weather,
        Self::Cut,
        Self::Remap,
        Self::Act,
        Self::Send,
        Self::Timeout,
        Self::Restart,
        Self::Shutdown,
        Self::RelayDown,
    ];

    /// Bytes of arguments that follow. `Garbage` has its own bytes behind them.
    pub const fn arguments(self) -> usize {
        match self {
            Self::Pass | Self::PassLong | Self::Oversleep | Self::Read | Self::Look => 1,
            Self::Cut | Self::Timeout | Self::Shutdown | Self::RelayDown => 1,
            Self::Close | Self::Remap | Self::Restart => 2,
            Self::Connect | Self::Answer | Self::Open | Self::Write | Self::End | Self::Datagram | Self::Together => 3,
            Self::Garbage | Self::Replay | Self::Weather => 5,
            Self::Act | Self::Send => 12,
        }
    }
}
