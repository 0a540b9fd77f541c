//! What came of a week.

use std::{collections::BTreeMap, time::Duration};

use super::{Holdings, Longest, Week};
use crate::trace::{Note, What};

/// Something that must not happen.
#[derive(Clone, Debug)]
pub struct Fault {
    /// When, counted from the start.
    pub at: Duration,
    /// What, in words.
    pub what: String,
    /// What was said shortly before, for the first few.
    pub story: Vec<Note>,
}

/// What came of a week.
#[derive(Clone, Debug)]
pub struct Report {
    /// The week that gives it again.
    pub week: Week,
    /// Things that went wrong on purpose.
    pub incidents: usize,
    /// How long it went on.
    pub lasted: Duration,
    /// When it began, counted from the world's beginning, as notes' times are.
    pub start: Duration,
    /// Hosts' names, by number.
    pub names: Vec<String>,
    /// Packets that were sent.
    pub packets: u64,
    /// SHA-256 over all of them and what became of them.
    pub hash: [u8; 32],
    /// What may be wrong for some time: what it is, for how long at most, and the longest.
    pub stretches: Vec<(&'static str, Duration, Longest)>,
    /// Calls, the first and those after a loss.
    pub calls: u64,
    /// Words that were said on connections, to be echoed.
    pub pings: u64,
    /// How connections ended, and how often.
    pub ended: BTreeMap<String, u64>,
    /// Why calls led to no connection, and how often. Most are made while the other side is away, and made again.
    pub unmade: BTreeMap<String, u64>,
    /// What was held.
    pub holdings: Holdings,
    /// What must not happen, and did.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether nobody was lost for too long, nothing ended without a reason, and nothing piled up.
    pub fn ok(&self) -> bool {
        self.faults.is_empty()
    }

    /// How many calls led to a connection, or were about to when the week was over.
    pub fn made(&self) -> u64 {
        self.calls.saturating_sub(self.unmade.values().sum())
    }

    /// A fault and what was said before, for people.
    pub fn tell(&self, fault: &Fault) -> String {
        let mut out = format!("{}: {}\n", moment(fault.at), fault.what);
        for note in &fault.story {
            let name = self.names.get(note.host.0).map_or("", String::as_str);
            if let What::Event(words) = &note.what {
                out += &format!("    {}  {name:<6} {words}\n", moment(note.at.saturating_sub(self.start)));
            }
        }
        out
    }
}

/// A time since the start, for people: the day, from 1 on, and the time of day.
pub fn moment(at: Duration) -> String {
    let (seconds, ms) = (at.as_secs(), at.subsec_millis());
    let (day, hour, minute) = (seconds / 86_400 + 1, seconds / 3600 % 24, seconds / 60 % 60);
    format!("day {day} {hour:02}:{minute:02}:{:02}.{ms:03}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_days_and_times() {
        assert_eq!(moment(Duration::ZERO), "day 1 00:00:00.000");
        assert_eq!(moment(Duration::from_millis(6 * 86_400_000 + 3_723_004)), "day 7 01:02:03.004");
    }
}
