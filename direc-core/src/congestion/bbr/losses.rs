//! Loss as a signal: by how much it exceeds what the path loses anyway.
//!
//! A wireless link loses packets whatever is sent over it, and a queue that is full loses what is too much. The first does
//! not ask for less; the second does. They are told apart by when they happen: what is lost while packets take no longer
//! than the path does was not lost by a queue that was full.

/// What the path loses anyway is believed up to this: more is congestion, whatever the delay says. A very short queue adds
/// no delay to speak of, and others that send through it must not be starved.
const MOST_USUAL: f64 = 0.05;
/// More than this beyond the usual, in a round, is too much (draft-ietf-ccwg-bbr, section 2.4: `LossThresh`).
const TOO_MUCH: f64 = 0.02;
/// What is lost by chance spreads around its mean; so many standard deviations are exceeded once in 700 rounds.
const SIGMAS: f64 = 3.0;
/// Bytes over which the usual loss is averaged: some 2,000 packets.
const MEMORY: f64 = 3e6;

/// Bytes of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    delivered: u64,
    lost: u64,
    marked: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    round: Round,
    /// Bytes delivered and lost while there was no queue, the older ones counting less.
    delivered: f64,
    lost: f64,
}

impl Losses {
    pub(super) fn on_delivered(&mut self, bytes: u64) {
        self.round.delivered += bytes;
    }

    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.round.lost += bytes;
    }

    /// The network has marked packets instead of dropping them (RFC 3168).
    pub(super) fn on_marked(&mut self) {
        self.round.marked = true;
    }

    /// The part of packets that is lost anyway.
    pub(super) fn usual(&self) -> f64 {
        (self.lost / (self.delivered + self.lost).max(MEMORY / 20.0)).min(MOST_USUAL)
    }

    /// Whether this round says that too much is sent: it has lost more than it may, and more than chance explains.
    pub(super) fn is_too_much(&self, packet: u64) -> bool {
        let Round { delivered, lost, marked } = self.round;
        let packets = |bytes: u64| bytes as f64 / packet.max(1) as f64;
        let may = packets(delivered + lost) * (self.usual() + TOO_MUCH);
        marked || packets(lost) > may + SIGMAS * may.max(1.0).sqrt()
    }

    /// A round has passed; `queue`: whether its packets met one.
    pub(super) fn end_round(&mut self, queue: bool) {
        let Round { delivered, lost, .. } = std::mem::take(&mut self.round);
        if queue {
            return;
        }
        let total = self.delivered + self.lost;
        let keep = if total > MEMORY { MEMORY / total } else { 1.0 };
        (self.delivered, self.lost) = (self.delivered * keep + delivered as f64, self.lost * keep + lost as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1200;

    /// A round of this many packets, of which so many are lost; whether that was too much.
    fn round(losses: &mut Losses, packets: u64, lost: u64, queue: bool) -> bool {
        losses.on_delivered((packets - lost) * PACKET);
        losses.on_lost(lost * PACKET);
        let too_much = losses.is_too_much(PACKET);
        losses.end_round(queue);
        too_much
    }

    #[test]
    fn what_a_path_loses_anyway_becomes_usual_and_more_than_that_is_too_much() {
        let mut losses = Losses::default();
        assert!((0..50).all(|_| !round(&mut losses, 400, 8, false)), "2 % of what is sent");
        assert!((losses.usual() - 0.02).abs() < 0.002, "{}", losses.usual());
        assert!(!round(&mut losses, 400, 16, false), "chance");
        assert!(round(&mut losses, 400, 40, false), "10 %");
    }

    #[test]
    fn what_a_full_queue_loses_does_not_become_usual() {
        let mut losses = Losses::default();
        (0..50).for_each(|_| assert!(round(&mut losses, 400, 40, true)));
        assert_eq!(losses.usual(), 0.0);
    }

    #[test]
    fn more_than_a_twentieth_is_never_usual() {
        let mut losses = Losses::default();
        (0..50).for_each(|_| assert!(round(&mut losses, 400, 80, false)));
        assert_eq!(losses.usual(), MOST_USUAL);
        assert!(round(&mut losses, 400, 80, false));
    }

    #[test]
    fn a_few_lost_packets_of_few_say_nothing_and_a_mark_says_all() {
        let mut losses = Losses::default();
        assert!(!round(&mut losses, 10, 3, false));
        losses.on_marked();
        assert!(losses.is_too_much(PACKET));
        losses.end_round(true);
        assert!(!losses.is_too_much(PACKET));
    }
}
