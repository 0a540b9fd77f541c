//! What all nodes hold, over the week: it must not pile up.

use std::{collections::BTreeMap, time::Duration};

use super::DAY;
use crate::run::Cast;

/// So many more than double are chance: candidates come and go.
const CHANCE: usize = 16;

/// Counts, by whose they are and what of.
type Counts = BTreeMap<(&'static str, &'static str), usize>;

/// What was held.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// Before anybody called: the most of some looks.
    before: Counts,
    /// The most of each day, of looks in which nothing was wrong.
    days: Vec<Counts>,
    /// When all had hung up: the least of some looks.
    after: Option<Counts>,
}

fn counts(cast: &Cast<'_>) -> Counts {
    let [peers, relays] = cast.holdings();
    let of = |whose: &'static str| move |(what, count)| ((whose, what), count);
    peers.into_iter().map(of("peers")).chain(relays.into_iter().map(of("relays"))).collect()
}

fn merge(into: &mut Counts, new: Counts, pick: fn(usize, usize) -> usize) {
    for (what, count) in new {
        into.entry(what).and_modify(|known| *known = pick(*known, count)).or_insert(count);
    }
}

impl Holdings {
    pub(super) fn look_before(&mut self, cast: &Cast<'_>) {
        merge(&mut self.before, counts(cast), usize::max);
    }

    pub(super) fn look(&mut self, cast: &Cast<'_>, since_start: Duration) {
        let day = (since_start.as_secs() / DAY.as_secs()) as usize;
        if self.days.len() <= day {
            self.days.resize(day + 1, Counts::default());
        }
        merge(&mut self.days[day], counts(cast), usize::max);
    }

    pub(super) fn look_after(&mut self, cast: &Cast<'_>) {
        merge(self.after.get_or_insert_default(), counts(cast), usize::min);
    }

    /// What is left of the week when all have hung up, that was not there before anybody called: in words.
    pub fn left(&self) -> Vec<String> {
        let after = self.after.iter().flatten();
        let more = after.filter(|(what, count)| self.before.get(what).is_none_or(|before| before < count));
        let words = more.map(|((whose, what), count)| {
            let before = self.before.get(&(*whose, *what)).copied().unwrap_or(0);
            format!("the {whose} hold {count} {what} when all have hung up, and held {before} before anybody called")
        });
        words.collect()
    }

    /// What there is much more of on the last day than on the first one: in words.
    pub fn piled_up(&self) -> Vec<String> {
        let more = self.first_and_last().into_iter().filter(|(_, first, last)| *last > 2 * first + CHANCE);
        more.map(|(what, first, last)| format!("{what} pile up: {first} on the first day, {last} on the last"))
            .collect()
    }

    /// Each kind's most in calm, on the first day and on the last one.
    pub fn first_and_last(&self) -> Vec<(String, usize, usize)> {
        let (Some(first), Some(last)) = (self.days.first(), self.days.last()) else { return Vec::new() };
        let on = |counts: &Counts, what| counts.get(what).copied().unwrap_or(0);
        let all = last.keys().map(|what| (format!("{}' {}", what.0, what.1), on(first, what), on(last, what)));
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: usize) -> Counts {
        [(("peers", "timers"), count)].into()
    }

    #[test]
    fn what_is_left_when_all_have_hung_up_is_told() {
        let mut holdings = Holdings { before: of(3), ..Holdings::default() };
        assert!(holdings.left().is_empty(), "nobody has hung up");
        holdings.after = Some(of(3));
        assert!(holdings.left().is_empty());
        holdings.after = Some(of(4));
        assert_eq!(
            holdings.left(),
            ["the peers hold 4 timers when all have hung up, and held 3 before anybody called"]
        );
    }

    #[test]
    fn what_piles_up_from_the_first_day_to_the_last_is_told() {
        let days = |last| Holdings { days: vec![of(10), of(500), of(last)], ..Holdings::default() };
        assert!(days(36).piled_up().is_empty());
        assert_eq!(days(37).piled_up(), ["peers' timers pile up: 10 on the first day, 37 on the last"]);
    }
}
