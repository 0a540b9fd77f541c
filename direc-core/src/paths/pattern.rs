//! What the ports at which a NAT has been seen say of those that come next (RFC 4787, sections 4.1 and 4.2).

use crate::rng::Rng;

/// A NAT that counts leaves gaps of this many ports at most between two mappings of ours: others use it too.
const MAX_STEP: i32 = 16;
/// And this many at most between the mappings of one socket and those of the next, some seconds later.
const MAX_SINCE: i32 = 128;
/// Ports of one subscriber in carriers' port blocks (1,008 is the usual number: 64,512 over 64).
const BLOCK: u16 = 1008;
/// Fewer ports in one block than this may be there by chance.
const BLOCK_EVIDENCE: usize = 3;
/// From fewer ports than this nothing is concluded of where others are.
const AROUND_EVIDENCE: usize = 4;
/// NATs leave the well-known ports alone.
const FIRST: u16 = 1024;
/// Ports that are tried where the other side's NAT counts: some mappings of others may have come between.
const COUNTED: u16 = 24;
/// Guesses at a port that is anywhere: with 256 sockets on the other side one of them hits in 98 of 100 cases.
pub(super) const GUESSES: usize = 1024;

/// How a NAT gives out ports to mappings of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// The same for all destinations: endpoint-independent mapping.
    Fixed(u16),
    /// Each mapping another one, `step` further.
    Counting { next: u16, step: i16 },
    /// Somewhere among these.
    Within(u16, u16),
}

impl Pattern {
    /// Nothing is known.
    pub(super) const ANYWHERE: Self = Self::Within(FIRST, u16::MAX);

    /// `fresh`: the ports of one new socket at the relay's hole-punch ports, in the order in which it sent to them, one
    /// at least. `earlier`: those of another socket, likewise. `pool`: the first and the last of the ports that such NATs
    /// have given to others, if that is known.
    pub(super) fn of(fresh: &[u16], earlier: &[u16], pool: Option<(u16, u16)>) -> Self {
        let (Some(&first), Some(&last)) = (fresh.first(), fresh.last()) else { return Self::ANYWHERE };
        // What only one port has seen of the new socket, others have seen of the one before.
        let compared = if fresh.len() > 1 { fresh } else { earlier };
        if compared.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Fixed(first);
        }
        // A NAT that counts did so before, and has gone on from there; two random ports in one block are as close by chance.
        let since = earlier.last().filter(|_| fresh.len() < 3).map(|&before| i32::from(first) - i32::from(before));
        let counts = |sign| {
            let close = |ports: &[u16]| steps(ports).all(|n| (1..=MAX_STEP).contains(&(n * sign)));
            close(fresh) && close(earlier) && since.is_none_or(|n| (1..=MAX_SINCE).contains(&(n * sign)))
        };
        if counts(1) || counts(-1) {
            let all = steps(fresh).chain(steps(earlier));
            let step = all.min_by_key(|step| step.abs()).unwrap_or(1) as i16;
            return Self::Counting { next: last.wrapping_add_signed(step), step };
        }
        let all = || fresh.iter().chain(earlier).copied();
        let (low, high) = (all().min().unwrap_or(FIRST), all().max().unwrap_or(u16::MAX));
        if all().count() >= BLOCK_EVIDENCE && high - low < BLOCK {
            return Self::Within(high.saturating_sub(BLOCK - 1).max(FIRST), low.saturating_add(BLOCK - 1));
        }
        match Self::any(pool) {
            Self::Within(first, last) if pool.is_some() && first <= low && high <= last => Self::Within(first, last),
            _ => Self::around(low, high, all().count()),
        }
    }

    /// Nothing is known of these NATs, but perhaps of the ports that others like them have given.
    pub(super) fn any(pool: Option<(u16, u16)>) -> Self {
        let known = pool.filter(|(first, last)| first < last);
        known.map_or(Self::ANYWHERE, |(first, last)| Self::within(first, last))
    }

    /// Somewhere around so many ports that have been seen. Should they come from a wider range, nothing is lost: by as much
    /// as fewer of the sockets are among these, more of those are hit.
    fn around(low: u16, high: u16, count: usize) -> Self {
        if count < AROUND_EVIDENCE {
            return Self::ANYWHERE;
        }
        let margin = u16::try_from(usize::from(high - low) * 4 / count).unwrap_or(u16::MAX);
        Self::Within(low.saturating_sub(margin).max(FIRST), high.saturating_add(margin))
    }

    /// Somewhere among these, as another side says: of the ports that NATs give, whatever it says.
    pub(super) fn within(low: u16, high: u16) -> Self {
        Self::Within(low.max(FIRST), high.max(FIRST))
    }

    /// Whether there is nothing to guess.
    pub(super) fn is_fixed(self) -> bool {
        matches!(self, Self::Fixed(_))
    }

    /// Whether it has to be hit among many.
    pub(super) fn is_range(self) -> bool {
        matches!(self, Self::Within(..))
    }

    /// The port that a NAT which counts gives to the mapping so many after the next; at the end it begins anew.
    pub(super) fn ahead(self, mappings: u16) -> Option<u16> {
        let Self::Counting { next, step } = self else { return None };
        let span = i32::from(u16::MAX - FIRST) + 1;
        let far = i32::from(next) - i32::from(FIRST) + i32::from(step) * i32::from(mappings);
        u16::try_from(far.rem_euclid(span)).ok().map(|port| FIRST + port)
    }
}

fn steps(ports: &[u16]) -> impl Iterator<Item = i32> {
    ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0]))
}

/// The ports at which to try a NAT of this kind, the likeliest first.
pub(super) fn guesses(pattern: Pattern, rng: &mut Rng) -> Vec<u16> {
    match pattern {
        Pattern::Fixed(port) => vec![port],
        Pattern::Counting { next, step } => {
            // Not only by whole steps: where others' mappings come between, every port counts.
            let each = i32::from(step.signum());
            let ahead = (0..i32::from(COUNTED)).map(|n| i32::from(next) + each * n);
            ahead.filter_map(|port| u16::try_from(port).ok()).filter(|&port| port >= FIRST).collect()
        }
        Pattern::Within(low, high) => {
            let mut ports: Vec<u16> = (low..=high).collect();
            // Fisher and Yates, as far as it is needed: none twice.
            let wanted = ports.len().min(GUESSES);
            for at in 0..wanted {
                let left = (ports.len() - at) as u64;
                ports.swap(at, at + (rng.u64() % left) as usize);
            }
            ports.truncate(wanted);
            ports
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    #[test]
    fn a_port_that_every_destination_sees_is_the_next_ones_too() {
        assert_eq!(Pattern::of(&[4000, 4000], &[17], None), Pattern::Fixed(4000));
        assert_eq!(Pattern::of(&[4000], &[17, 17], None), Pattern::Fixed(4000));
        assert_eq!(Pattern::of(&[4000], &[17], None), Pattern::Fixed(4000), "as far as can be seen");
    }

    #[test]
    fn a_nat_that_counts_is_followed_up_and_down() {
        assert_eq!(Pattern::of(&[4000, 4001, 4003], &[9], None), Pattern::Counting { next: 4004, step: 1 });
        assert_eq!(Pattern::of(&[4000, 3998], &[4009], None), Pattern::Counting { next: 3996, step: -2 });
        assert_eq!(Pattern::of(&[65534, 65535], &[], None), Pattern::Counting { next: 0, step: 1 });
    }

    #[test]
    fn one_port_alone_is_taken_for_what_an_earlier_socket_has_shown() {
        assert_eq!(Pattern::of(&[4000], &[3917, 3918], None), Pattern::Counting { next: 4001, step: 1 });
        assert_eq!(Pattern::of(&[4000], &[4112, 4100], None), Pattern::Counting { next: 3988, step: -12 });
        assert_eq!(Pattern::of(&[4000], &[4100, 4500, 4300], None), Pattern::Within(3493, 5007));
        assert_eq!(Pattern::of(&[4000], &[60_000, 17], None), Pattern::ANYWHERE);
    }

    #[test]
    fn the_port_ahead_of_a_nat_that_counts_begins_anew_at_the_end() {
        assert_eq!(Pattern::Counting { next: 4000, step: 2 }.ahead(24), Some(4048));
        assert_eq!(Pattern::Counting { next: 65_530, step: 1 }.ahead(10), Some(1028));
        assert_eq!(Pattern::Counting { next: 1030, step: -1 }.ahead(10), Some(65_532));
        assert_eq!(Pattern::Fixed(4000).ahead(1), None);
    }

    #[test]
    fn ports_of_one_block_are_looked_for_where_the_block_can_be() {
        assert_eq!(Pattern::of(&[10_000], &[10_300, 10_312], None), Pattern::Within(9_305, 11_007), "none counts so");
        assert_eq!(Pattern::of(&[9_000, 9_012], &[9_300, 9_312], None), Pattern::Within(8_305, 10_007), "nor so");
        assert_eq!(Pattern::of(&[10_000, 10_900], &[10_400, 10_100], None), Pattern::Within(9_893, 11_007));
        assert_eq!(Pattern::of(&[10_000, 10_900], &[], None), Pattern::Within(1024, 65535), "by chance");
        assert_eq!(Pattern::of(&[10_000, 10_003], &[10_400, 10_100], None), Pattern::Within(9_393, 11_007));
    }

    #[test]
    fn ports_without_a_pattern_can_be_anywhere() {
        assert_eq!(Pattern::of(&[40_000, 2_000], &[1_500, 60_000], None), Pattern::Within(1024, 65535));
        assert_eq!(Pattern::of(&[], &[], None), Pattern::Within(1024, 65535));
    }

    #[test]
    fn ports_without_a_pattern_are_looked_for_around_those_that_were_seen() {
        assert_eq!(Pattern::of(&[52_000, 60_000], &[58_000, 64_000], None), Pattern::Within(40_000, 65_535));
        assert_eq!(Pattern::of(&[52_000, 60_000], &[58_000], None), Pattern::ANYWHERE, "of three it says nothing");
    }

    #[test]
    fn what_the_relay_knows_of_such_nats_counts_unless_it_is_seen_to_be_wrong() {
        let pool = Some((50_001, 65_535));
        assert_eq!(Pattern::of(&[52_000, 60_000], &[58_000, 64_000], pool), Pattern::Within(50_001, 65_535));
        assert_eq!(Pattern::of(&[42_000, 60_000], &[58_000, 64_000], pool), Pattern::Within(20_000, 65_535));
        assert_eq!(Pattern::of(&[52_000, 52_000], &[9, 9], pool), Pattern::Fixed(52_000));
        assert_eq!(Pattern::of(&[52_000, 60_000], &[], Some((9, 3))), Pattern::ANYWHERE, "no range at all");
    }

    #[test]
    fn a_range_that_the_other_side_names_holds_no_port_below_those_that_nats_give() {
        for (low, high) in [(0, 9), (0, u16::MAX), (0, 1030)] {
            let ports = guesses(Pattern::within(low, high), &mut Rng::new([1; 32]));
            assert!(ports.iter().all(|&port| port >= FIRST), "{low} to {high}");
        }
    }

    proptest! {
        #[test]
        fn no_port_is_tried_twice_and_none_that_nats_do_not_give(
            fresh in proptest::collection::vec(1024_u16.., 0..6),
            earlier in proptest::collection::vec(1024_u16.., 0..6),
            seed: u8,
        ) {
            let ports = guesses(Pattern::of(&fresh, &earlier, None), &mut Rng::new([seed; 32]));
            let mut sorted = ports.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), ports.len());
            prop_assert!(ports.len() <= GUESSES && ports.iter().all(|&port| port >= FIRST));
        }
    }
}
