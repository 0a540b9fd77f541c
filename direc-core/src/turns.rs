//! Whose turn it is: a queue in which everyone stands at most once.

use std::collections::{BTreeSet, VecDeque};

pub(crate) struct Turns<T> {
    queue: VecDeque<T>,
    members: BTreeSet<T>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), members: BTreeSet::new() }
    }
}

impl<T: Copy + Ord> Turns<T> {
    /// Queues up, unless in the queue already.
    pub(crate) fn join(&mut self, who: T) {
        if self.members.insert(who) {
            self.queue.push_back(who);
        }
    }

    pub(crate) fn first(&self) -> Option<T> {
        self.queue.front().copied()
    }

    /// The first goes to the back, so that it starves nobody.
    pub(crate) fn rotate(&mut self) {
        if !self.queue.is_empty() {
            self.queue.rotate_left(1);
        }
    }

    /// The first has nothing more to do.
    pub(crate) fn leave(&mut self) {
        if let Some(who) = self.queue.pop_front() {
            self.members.remove(&who);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_gets_a_turn_and_nobody_stands_twice() {
        let mut turns = Turns::default();
        for who in [1, 2, 1, 3] {
            turns.join(who);
        }
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.extend(turns.first());
            turns.rotate();
        }
        assert_eq!(seen, [1, 2, 3, 1, 2, 3]);
        turns.leave();
        turns.join(1);
        assert_eq!(turns.first(), Some(2));
    }
}
