//! QUIC's own probes of the packet size (RFC 8899): any path loses those that are too large for it. So they are no data
//! whose answer says whether a path works.

use quinn_proto::{Connection, PathStats};

use crate::quic::{config::LARGEST_INNER_PACKET, controller::Ledger};

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
