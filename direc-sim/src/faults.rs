//! A catalogue of faults: each as a story around a steady upload, how long the receiving application got nothing, and
//! how long that may be.

mod trial;

use std::time::Duration;

pub use trial::{Story, Trial, Verdict};

/// What goes wrong while one side uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The direct path is blocked both ways.
    Blocked,
    /// The direct path is blocked from the sender to the receiver.
    BlockedForth,
    /// The direct path is blocked from the receiver to the sender.
    BlockedBack,
    /// A NAT's public address changes silently.
    Readdressed,
    /// The NAT of the endpoint-dependent side is flushed; the other filters by address.
    FlushedAdf,
    /// The NAT of the endpoint-dependent side is flushed; the other does not filter.
    FlushedEif,
    /// One side roams to another network.
    Roam,
    /// Both sides roam at once.
    BothRoam,
    /// The relay is killed while the connection is direct.
    RelayKilled,
    /// The relay of a relayed connection is killed, and comes back as another process after some seconds.
    RelayRestarted,
    /// The relay of a relayed connection is killed for good; there is a second one.
    SecondRelay,
    /// The direct path is open again.
    Unblocked,
    /// One side's process stands still for a minute.
    Suspended,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Blocked,
        Self::BlockedForth,
        Self::BlockedBack,
        Self::Readdressed,
        Self::FlushedAdf,
        Self::FlushedEif,
        Self::Roam,
        Self::BothRoam,
        Self::RelayKilled,
        Self::RelayRestarted,
        Self::SecondRelay,
        Self::Unblocked,
        Self::Suspended,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::BlockedForth => "blocked-forth",
            Self::BlockedBack => "blocked-back",
            Self::Readdressed => "readdressed",
            Self::FlushedAdf => "flushed-adf",
            Self::FlushedEif => "flushed-eif",
            Self::Roam => "roam",
            Self::BothRoam => "both-roam",
            Self::RelayKilled => "relay-killed",
            Self::RelayRestarted => "relay-restarted",
            Self::SecondRelay => "second-relay",
            Self::Unblocked => "unblocked",
            Self::Suspended => "suspended",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// What it is, in words.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Blocked => "direct path blocked both ways",
            Self::BlockedForth => "direct path blocked, sender to receiver",
            Self::BlockedBack => "direct path blocked, receiver to sender",
            Self::Readdressed => "a NAT's public address changes",
            Self::FlushedAdf => "NAT flushed, sym × eim-adf",
            Self::FlushedEif => "NAT flushed, sym × eim-eif",
            Self::Roam => "one side roams, from its arrival on",
            Self::BothRoam => "both roam, from the last arrival on",
            Self::RelayKilled => "relay killed, connection direct",
            Self::RelayRestarted => "relay restarted, from its return on",
            Self::SecondRelay => "relay killed, a second one is there",
            Self::Unblocked => "unblocked, until data is direct",
            Self::Suspended => "suspended 60 s, from its resuming on",
        }
    }

    /// How long the stall may be.
    pub const fn limit(self) -> Duration {
        Duration::from_millis(match self {
            Self::Blocked | Self::BlockedForth | Self::BlockedBack => 600,
            Self::Readdressed | Self::FlushedAdf | Self::FlushedEif => 600,
            Self::Roam => 500,
            Self::RelayKilled => 100,
            Self::RelayRestarted | Self::Suspended => 1000,
            Self::BothRoam | Self::SecondRelay | Self::Unblocked => 2000,
        })
    }

    /// What the two sides are behind; `side` is the one that the fault is about.
    fn boxes(self, side: usize) -> [&'static str; 2] {
        let mut boxes = match self {
            Self::FlushedAdf => ["sym", "eim-adf"],
            Self::FlushedEif => ["sym", "eim-eif"],
            Self::RelayRestarted | Self::SecondRelay => ["sym", "sym"],
            _ => ["easy", "easy"],
        };
        if side == 1 {
            boxes.swap(0, 1);
        }
        boxes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_told_apart_by_its_name() {
        let names: std::collections::BTreeSet<_> = Fault::ALL.map(Fault::name).into_iter().collect();
        assert_eq!(names.len(), Fault::ALL.len());
        assert!(Fault::ALL.iter().all(|fault| Fault::named(fault.name()) == Some(*fault)));
    }
}
