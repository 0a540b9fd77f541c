//! Datagrams that are sent twice, because nobody would repeat them in time.
//!
//! At a peer: after a change of address P3's QUIC asks once whether the new one is ours, and may send three times what it
//! has heard from there until it is told so (RFC 9000, sections 8 and 9.3). If that one answer is lost, it can neither
//! acknowledge anything nor be asked for anything until its patience is over, and relays no more than a little.
//!
//! At a relay: word of an introduction. Both sides are told at once, so that their first packets cross; if one hears of it
//! a probe timeout later than the other, its NATs meet the other's packets before they are open. And on both: what a round
//! of punching cannot begin without.

use std::time::{Duration, Instant};

use crate::Transmit;

/// How long: the question and the answer, or an introduction, and what is said with it.
const FOR: Duration = Duration::from_millis(300);
/// How many at most.
const DATAGRAMS: u8 = 8;

#[derive(Debug, Default)]
pub(crate) struct Twice {
    until: Option<Instant>,
    left: u8,
    copy: Option<(Transmit, Vec<u8>)>,
}

impl Twice {
    /// The next datagrams are sent twice.
    pub(crate) fn begin(&mut self, now: Instant) {
        (self.until, self.left) = (Some(now + FOR), DATAGRAMS);
    }

    /// A datagram goes out.
    pub(crate) fn on_sent(&mut self, now: Instant, transmit: &Transmit, bytes: &[u8]) {
        if self.left == 0 || self.until.is_none_or(|until| until <= now) {
            return;
        }
        self.left -= 1;
        self.copy = Some((*transmit, bytes.to_vec()));
    }

    /// The copy that is to follow, written into `buf`.
    pub(crate) fn poll_transmit(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (transmit, bytes) = self.copy.take()?;
        buf.extend_from_slice(&bytes);
        Some(transmit)
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.copy.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_datagrams_after_a_change_are_sent_twice_and_later_ones_once() {
        #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
        let now = Instant::now();
        let transmit = Transmit::one(crate::Link::Main, "192.0.2.1:4433".parse().unwrap(), 3);
        let mut twice = Twice::default();
        let copies = |twice: &mut Twice, at: Duration| {
            twice.on_sent(now + at, &transmit, &[1, 2, 3]);
            let mut buf = Vec::new();
            let copied = twice.poll_transmit(&mut buf).is_some();
            assert_eq!(buf.len(), if copied { 3 } else { 0 });
            assert!(!twice.is_queued());
            copied
        };
        assert!(!copies(&mut twice, Duration::ZERO));
        twice.begin(now);
        assert_eq!((0..20).filter(|_| copies(&mut twice, FOR / 2)).count(), DATAGRAMS as usize);
        twice.begin(now);
        assert!(!copies(&mut twice, FOR));
    }
}
