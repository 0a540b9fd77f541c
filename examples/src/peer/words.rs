//! What a move from one path to another is called.

use std::time::Duration;

use direc_core::{Path, PathPolicy, PathReason};

use crate::clock::spoken;

/// A move of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) from: Path,
    pub(super) to: Path,
    pub(super) why: PathReason,
    /// The new path's round-trip time, if known.
    pub(super) rtt: Option<Duration>,
    /// Whether it was on a direct path at any time before.
    pub(super) was_direct: bool,
    /// How long after the start.
    pub(super) after: Duration,
}

/// One line for people, about a connection that may take these paths.
pub(super) fn moved(step: &Step, policy: PathPolicy) -> String {
    let to = step.to.address();
    let rtt = step.rtt.map_or(String::new(), |rtt| format!(", {}", spoken(rtt)));
    let because = match step.why {
        PathReason::Silent { after } => format!(" (no answer for {})", spoken(after)),
        _ => String::new(),
    };
    match (step.from.is_direct(), step.to.is_direct(), step.why) {
        // The relay carries what finds another direct path, and nothing else.
        (true, false, _) if policy == PathPolicy::DirectOnly => format!("direct path lost, trying again{because}"),
        (true, false, _) => format!("direct path lost, via relay {to}{because}"),
        (true, true, PathReason::Faster) => format!("faster direct path: {to}{rtt}"),
        (true, true, _) => format!("direct path lost, now direct {to}{rtt}{because}"),
        (false, true, _) if step.was_direct => format!("direct again: {to}{rtt}"),
        (false, true, _) => format!("now direct {to}{rtt}, after {}", spoken(step.after)),
        (false, false, PathReason::RelayLost) => format!("now by relay {to} (the one before is lost or going down)"),
        (false, false, _) => format!("now by relay {to}{because}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_move_is_said_in_one_line() {
        let direct = |last: u8| Path::Direct(([198, 51, 100, last], 4433).into());
        let relay = |last: u8| Path::Relay(([203, 0, 113, last], 4433).into());
        let silent = PathReason::Silent { after: Duration::from_millis(251) };
        let cases = [
            (relay(10), direct(18), PathReason::Direct, false, "now direct 198.51.100.18:4433, 41 ms, after 120 ms"),
            (
                direct(18),
                relay(10),
                silent,
                true,
                "direct path lost, via relay 203.0.113.10:4433 (no answer for 251 ms)",
            ),
            (relay(10), direct(18), PathReason::Direct, true, "direct again: 198.51.100.18:4433, 41 ms"),
            (direct(18), direct(19), PathReason::Faster, true, "faster direct path: 198.51.100.19:4433, 41 ms"),
            (
                direct(18),
                direct(19),
                silent,
                true,
                "direct path lost, now direct 198.51.100.19:4433, 41 ms (no answer for 251 ms)",
            ),
            (
                relay(10),
                relay(11),
                PathReason::RelayLost,
                false,
                "now by relay 203.0.113.11:4433 (the one before is lost or going down)",
            ),
        ];
        for (from, to, why, was_direct, text) in cases {
            let rtt = Some(Duration::from_micros(41_200));
            let step = Step { from, to, why, rtt, was_direct, after: Duration::from_millis(120) };
            assert_eq!(moved(&step, PathPolicy::Auto), text);
        }
    }

    #[test]
    fn what_must_go_straight_is_not_said_to_go_by_the_relay() {
        let address = ([198, 51, 100, 18], 4433).into();
        let step = Step {
            from: Path::Direct(address),
            to: Path::Relay(address),
            why: PathReason::Silent { after: Duration::from_millis(251) },
            rtt: None,
            was_direct: true,
            after: Duration::ZERO,
        };
        assert_eq!(moved(&step, PathPolicy::DirectOnly), "direct path lost, trying again (no answer for 251 ms)");
    }
}
