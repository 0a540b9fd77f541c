//! Waking those who wait, never under a node's lock: what is to be woken is collected there, and woken afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use event_listener::Event;

/// Whom to wake once the lock is free.
#[derive(Default)]
pub(crate) struct Wakes {
    wakers: Vec<Waker>,
    bells: Vec<Arc<Bell>>,
}

impl Wakes {
    pub(crate) fn add(&mut self, waker: impl IntoIterator<Item = Waker>) {
        self.wakers.extend(waker);
    }

    pub(crate) fn ring(&mut self, bell: &Arc<Bell>) {
        if !bell.rung.swap(true, Ordering::AcqRel) {
            self.bells.push(bell.clone());
        }
    }

    pub(crate) fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
        for bell in self.bells.drain(..) {
            // In this order: whoever rings meanwhile has it rung once more.
            bell.rung.store(false, Ordering::Release);
            bell.tell();
        }
    }
}

/// What any number of tasks wait for, and what happens seldom. (Streams' data, which comes all the time, has one waker
/// for each stream.)
#[derive(Debug, Default)]
pub(crate) struct Bell {
    event: Event,
    /// To be told of by somebody already.
    rung: AtomicBool,
}

impl Bell {
    /// Wakes everybody who waits. Not under a lock.
    pub(crate) fn tell(&self) {
        self.event.notify(usize::MAX);
    }

    /// Waits until `look` finds something. The bell is to be rung after whatever may change that.
    ///
    /// What is found is given at once, never kept in the future: dropping that loses nothing.
    pub(crate) async fn wait_for<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        if let Some(found) = look() {
            return found;
        }
        loop {
            let listener = self.event.listen();
            if let Some(found) = look() {
                return found;
            }
            listener.await;
        }
    }
}

/// What tasks wait for at one connection, streams' data aside.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// The other side has opened streams, by [`Dir`](direc_core::quic_types::Dir).
    pub(crate) opened: [Arc<Bell>; 2],
    /// The other side lets us open streams, by [`Dir`](direc_core::quic_types::Dir).
    pub(crate) available: [Arc<Bell>; 2],
    pub(crate) datagram: Arc<Bell>,
    pub(crate) path: Arc<Bell>,
    /// All that was finished is acknowledged.
    pub(crate) delivered: Arc<Bell>,
    pub(crate) closed: Arc<Bell>,
}

impl Signals {
    pub(crate) fn ring_all(&self, wakes: &mut Wakes) {
        let others = [&self.datagram, &self.path, &self.delivered, &self.closed];
        for bell in self.opened.iter().chain(&self.available).chain(others) {
            wakes.ring(bell);
        }
    }
}

/// What tasks wait for at a peer.
#[derive(Debug, Default)]
pub(crate) struct PeerSignals {
    /// The registration has changed.
    pub(crate) relay: Arc<Bell>,
    /// The network has changed.
    pub(crate) network: Arc<Bell>,
    pub(crate) incoming: Arc<Bell>,
    pub(crate) offer: Arc<Bell>,
}

impl PeerSignals {
    pub(crate) fn ring_all(&self, wakes: &mut Wakes) {
        for bell in [&self.relay, &self.network, &self.incoming, &self.offer] {
            wakes.ring(bell);
        }
    }
}
