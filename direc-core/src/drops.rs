//! Datagrams that were not taken, counted by reason.

use std::fmt;

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropReason {
    /// No bytes at all.
    Empty,
    /// A first byte below 0x40 that stands for nothing, or does not belong on this socket.
    UnknownType,
    /// One of our datagrams with the wrong length.
    BadLength,
    /// A cookie that is not expected: never issued, out of date, or used up.
    UnknownCookie,
    /// A cookie's confirmation with a wrong token.
    BadToken,
    /// A probe or its echo that is not authentic, or belongs to no introduction.
    BadProbe,
    /// A relayed packet for no channel of ours, or from another address than the channel's.
    UnknownChannel,
    /// A relayed packet before P4 has accepted, beyond the few that may wait.
    NotAccepted,
    /// A QUIC packet for no connection of ours.
    UnknownConnection,
    /// A QUIC packet that the endpoint would not take.
    NotQuic,
    /// A relayed packet for a peer whose new address has not proven itself, beyond the little that may go there.
    UnprovenAddress,
    /// A queue is full.
    QueueFull,
    /// By a tunnel that is not there, or from an address that stands for one.
    UnknownTunnel,
    /// A router's answer by UPnP-IGD that is no HTTP, no XML, or not what was asked for.
    BadAnswer,
    /// A router's answer by UPnP-IGD that points elsewhere than to that router.
    BadLocation,
}

const REASONS: [DropReason; 15] = [
    DropReason::Empty,
    DropReason::UnknownType,
    DropReason::BadLength,
    DropReason::UnknownCookie,
    DropReason::BadToken,
    DropReason::BadProbe,
    DropReason::UnknownChannel,
    DropReason::NotAccepted,
    DropReason::UnknownConnection,
    DropReason::NotQuic,
    DropReason::UnprovenAddress,
    DropReason::QueueFull,
    DropReason::UnknownTunnel,
    DropReason::BadAnswer,
    DropReason::BadLocation,
];

/// How many datagrams were dropped, by reason.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Drops([u64; REASONS.len()]);

impl Drops {
    pub(crate) fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// Datagrams dropped for `reason`.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Datagrams dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason with its count, reasons that never happened left out.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        REASONS.iter().map(|&reason| (reason, self.of(reason))).filter(|&(_, count)| count > 0)
    }
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place() {
        for (index, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
    }
}
