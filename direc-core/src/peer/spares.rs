//! Sockets besides the main one: given to sessions for their rounds of punching, and taken back.

use std::collections::{BTreeMap, VecDeque};

use crate::{ConnId, Link, PeerEvent};

/// Spare sockets that all sessions may have open together: two rounds of many sockets, and some that stay in use.
const MAX_OPEN: usize = 768;

#[derive(Debug, Default)]
pub(super) struct Spares {
    next: u32,
    open: BTreeMap<Link, ConnId>,
}

impl Spares {
    /// So many new ones, or as many as there may be.
    pub(super) fn open(&mut self, conn: ConnId, wanted: u16) -> Vec<Link> {
        let count = usize::from(wanted).min(MAX_OPEN.saturating_sub(self.open.len()));
        let links: Vec<Link> = (self.next..).map(Link::Spare).take(count).collect();
        self.next = self.next.wrapping_add(count as u32);
        self.open.extend(links.iter().map(|&link| (link, conn)));
        links
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// One is needed no more.
    pub(super) fn retire(&mut self, link: Link, events: &mut VecDeque<PeerEvent>) {
        if self.open.remove(&link).is_some() {
            events.push_back(PeerEvent::LinkRetired { link });
        }
    }

    /// A session has gone, and its sockets with it.
    pub(super) fn retire_all(&mut self, conn: ConnId, events: &mut VecDeque<PeerEvent>) {
        let own: Vec<Link> = self.open.iter().filter(|(_, owner)| **owner == conn).map(|(&link, _)| link).collect();
        for link in own {
            self.retire(link, events);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice_and_all_are_taken_back() {
        let (mut spares, mut events) = (Spares::default(), VecDeque::new());
        let first = spares.open(ConnId(1), 3);
        let second = spares.open(ConnId(2), 1);
        spares.retire(first[0], &mut events);
        spares.retire_all(ConnId(1), &mut events);
        assert_eq!(events.len(), 3);
        spares.retire(first[0], &mut events);
        assert_eq!(events.len(), 3, "once is enough");
        assert!(!spares.open(ConnId(1), 9).iter().any(|link| first.contains(link) || second.contains(link)));
    }

    #[test]
    fn there_is_an_end_to_them() {
        let mut spares = Spares::default();
        let given: usize = (0..10).map(|n| spares.open(ConnId(n), 256).len()).sum();
        assert_eq!(given, MAX_OPEN);
    }
}
