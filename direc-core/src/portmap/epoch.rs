//! Whether a router has started anew.

use std::time::Instant;

/// The router's clock (RFC 6887, section 8.5; RFC 6886, section 3.6).
#[derive(Clone, Copy)]
pub(super) struct Epoch {
    pub(super) seconds: u32,
    pub(super) at: Instant,
}

impl Epoch {
    /// Whether a router whose clock says `seconds` now is the one it was, with all its mappings.
    pub(super) fn goes_on(self, now: Instant, seconds: u32) -> bool {
        let ours = now.saturating_duration_since(self.at).as_secs();
        let Some(theirs) = u64::from(seconds).checked_sub(u64::from(self.seconds)) else {
            return self.seconds - seconds <= 1;
        };
        ours + 2 >= theirs - theirs / 16 && theirs + 2 >= ours - ours / 16
    }
}
