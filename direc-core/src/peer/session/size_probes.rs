//! QUIC's own probes of the packet size (RFC 8899): any path loses those that are too large for it. So they are no data
//! whose answer says whether a path works.

use quinn_proto::{Connection, PathStats};

use crate::{congestion::ledger::Ledger, quic::config::LARGEST_INNER_PACKET};

/// How many of them have come to an end.
#[derive(Default)]
pub(super) struct SizeProbes {
    /// Those that QUIC knows nothing of any more: they were under way on an earlier path.
    forgotten: u64,
}

impl SizeProbes {
    /// QUIC begins on another path, and looks for the packet size anew.
    pub(super) fn restart(&mut self, path: &PathStats, ledger: &Ledger) {
        self.forgotten = path.sent_plpmtud_probes.saturating_sub(path.lost_plpmtud_probes);
        ledger.forget_sizes();
    }

    /// Whether data is unanswered: more than a probe, if one is under way.
    pub(super) fn is_data_waiting(&self, quic: &Connection, ledger: &Ledger) -> bool {
        match ledger.unanswered() {
            0 => false,
            bytes if bytes > u64::from(LARGEST_INNER_PACKET) => true,
            _ => !self.is_under_way(&quic.stats().path, ledger),
        }
    }

    fn is_under_way(&self, path: &PathStats, ledger: &Ledger) -> bool {
        let ended = path.lost_plpmtud_probes + self.forgotten + ledger.sizes_found();
        path.sent_plpmtud_probes > ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path on which so many probes have been sent and lost.
    fn path(sent: u64, lost: u64) -> PathStats {
        let mut path = PathStats::default();
        (path.sent_plpmtud_probes, path.lost_plpmtud_probes) = (sent, lost);
        path
    }

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn ledger() -> std::sync::Arc<Ledger> {
        Ledger::cubic(std::time::Instant::now())
    }

    #[test]
    fn a_probe_is_under_way_until_it_is_lost_or_answered() {
        let (probes, ledger) = (SizeProbes::default(), ledger());
        assert!(!probes.is_under_way(&path(0, 0), &ledger));
        assert!(probes.is_under_way(&path(1, 0), &ledger));
        assert!(!probes.is_under_way(&path(1, 1), &ledger));
        ledger.note_size();
        assert!(!probes.is_under_way(&path(2, 1), &ledger));
        assert!(probes.is_under_way(&path(3, 1), &ledger));
    }

    #[test]
    fn a_probe_of_an_earlier_path_is_never_waited_for() {
        let (mut probes, ledger) = (SizeProbes::default(), ledger());
        ledger.note_size();
        probes.restart(&path(5, 2), &ledger);
        assert!(!probes.is_under_way(&path(5, 2), &ledger), "three are forgotten, and what was found with them");
        assert!(probes.is_under_way(&path(6, 2), &ledger));
        assert!(!probes.is_under_way(&path(6, 3), &ledger));
    }
}
