//! Connections let in lately: each has to register in time, or it takes up a place for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::quic::Handle;

/// The time: many round trips, and far less than a silent connection would be kept.
const REGISTER_BY: Duration = Duration::from_secs(10);

/// By when each of them is looked at.
#[derive(Default)]
pub(super) struct Newcomers {
    by: BTreeMap<usize, Instant>,
    due: BTreeSet<(Instant, usize)>,
}

impl Newcomers {
    pub(super) fn len(&self) -> usize {
        self.by.len().max(self.due.len())
    }

    /// A connection was let in; its number may have been another's before.
    pub(super) fn enter(&mut self, now: Instant, handle: Option<Handle>) {
        let Some(handle) = handle else { return };
        let by = now + REGISTER_BY;
        if let Some(before) = self.by.insert(handle.0, by) {
            self.due.remove(&(before, handle.0));
        }
        self.due.insert((by, handle.0));
    }

    /// The next one whose time is over.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Handle> {
        let &(_, handle) = self.due.first().filter(|(by, _)| *by <= now)?;
        self.due.pop_first();
        self.by.remove(&handle);
        Some(quinn_proto::ConnectionHandle(handle))
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|&(by, _)| by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn a_number_that_is_used_again_has_its_own_time() {
        let (start, mut newcomers) = (Instant::now(), Newcomers::default());
        let second = |n| start + Duration::from_secs(n);
        for (at, handle) in [(0, 7), (1, 8), (5, 7)] {
            newcomers.enter(second(at), Some(quinn_proto::ConnectionHandle(handle)));
        }
        assert_eq!((newcomers.next(), newcomers.poll(second(10))), (Some(second(11)), None));
        assert_eq!(newcomers.poll(second(20)).map(|handle| handle.0), Some(8));
        assert_eq!(newcomers.poll(second(20)).map(|handle| handle.0), Some(7));
        assert_eq!(newcomers.next(), None);
    }
}
