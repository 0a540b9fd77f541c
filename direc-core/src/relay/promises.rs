//! Late echoes that peers have asked for: a datagram to an address that has been silent meanwhile shows whether the NATs
//! in front of it still know the binding.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{quic::Handle, wire::datagram::Cookie};

/// Late echoes that one peer may wait for, at different hole-punch ports; the oldest gives way.
const MAX_PER_PEER: usize = 2;

/// One late echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) peer: Handle,
    /// The hole-punch port it leaves from, to an address that is proven there.
    pub(super) port: u8,
    pub(super) to: SocketAddr,
    pub(super) cookie: Cookie,
}

/// When a promise is due; the number tells those of one instant apart.
type Due = (Instant, u64);

/// All late echoes to come, by their time.
#[derive(Default)]
pub(super) struct Promises {
    queue: BTreeMap<Due, Promise>,
    /// Each peer's, oldest first.
    by_peer: BTreeMap<usize, VecDeque<Due>>,
    next: u64,
}

impl Promises {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Promises a late echo after `delay`, in place of an earlier one from the same port.
    pub(super) fn add(&mut self, now: Instant, delay: Duration, promise: Promise) {
        let due = (now + delay, self.next);
        self.next += 1;
        let own = self.by_peer.entry(promise.peer.0).or_default();
        let same = own.iter().position(|due| self.queue.get(due).is_some_and(|other| other.port == promise.port));
        if let Some(old) = same.or((own.len() >= MAX_PER_PEER).then_some(0)).and_then(|at| own.remove(at)) {
            self.queue.remove(&old);
        }
        own.push_back(due);
        self.queue.insert(due, promise);
    }

    /// The next one whose time has come.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<Promise> {
        let (due, promise) = self.queue.first_key_value().map(|(due, promise)| (*due, *promise))?;
        if due.0 > now {
            return None;
        }
        self.queue.remove(&due);
        if let Some(own) = self.by_peer.get_mut(&promise.peer.0) {
            own.retain(|other| *other != due);
            if own.is_empty() {
                self.by_peer.remove(&promise.peer.0);
            }
        }
        Some(promise)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.queue.keys().next().map(|&(at, _)| at)
    }

    /// A peer has gone.
    pub(super) fn forget_peer(&mut self, peer: Handle) {
        for due in self.by_peer.remove(&peer.0).unwrap_or_default() {
            self.queue.remove(&due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn promise(peer: usize, port: u8, cookie: u8) -> Promise {
        let to = "198.51.100.1:7".parse().unwrap();
        Promise { peer: quinn_proto::ConnectionHandle(peer), port, to, cookie: [cookie; 16] }
    }

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn now() -> Instant {
        Instant::now()
    }

    fn kept(promises: &mut Promises, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| promises.poll_due(now)).map(|promise| promise.cookie[0]).collect()
    }

    #[test]
    fn late_echoes_leave_in_the_order_of_their_time_and_not_before_it() {
        let (now, mut promises) = (now(), Promises::default());
        promises.add(now, 25 * SECOND, promise(1, 1, 1));
        promises.add(now, 8 * SECOND, promise(1, 2, 2));
        assert_eq!(promises.poll_timeout(), Some(now + 8 * SECOND));
        assert!(kept(&mut promises, now + 7 * SECOND).is_empty());
        assert_eq!(kept(&mut promises, now + 25 * SECOND), [2, 1]);
        assert!(promises.poll_timeout().is_none() && promises.by_peer.is_empty());
    }

    #[test]
    fn a_port_owes_a_peer_one_late_echo_and_the_latest_counts() {
        let (now, mut promises) = (now(), Promises::default());
        promises.add(now, 8 * SECOND, promise(1, 1, 1));
        promises.add(now, 9 * SECOND, promise(1, 1, 2));
        assert_eq!(kept(&mut promises, now + 10 * SECOND), [2]);
    }

    #[test]
    fn one_peers_flood_of_wishes_stays_within_its_share_and_goes_with_it() {
        let (now, mut promises) = (now(), Promises::default());
        promises.add(now, SECOND, promise(7, 1, 99));
        for n in 0..200 {
            promises.add(now, SECOND, promise(1, 1 + n % 8, n));
        }
        assert_eq!(promises.queue.len(), 1 + MAX_PER_PEER);
        promises.forget_peer(quinn_proto::ConnectionHandle(1));
        assert_eq!(kept(&mut promises, now + SECOND), [99]);
    }
}
