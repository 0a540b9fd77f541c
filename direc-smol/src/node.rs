//! A running node: the state machine behind one lock, shared by the driver's thread and everybody's handles.
//!
//! A handle's call goes straight into the state machine. What it leaves to send it sends itself, if the driver sleeps
//! and it is little. The driver is woken only if there is more, or something is due before it would wake up by itself.
//! All this is decided under the lock, so no wake-up can get lost.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use direc_core::{Arrival, Link, Transmit};

use crate::{
    https::Lines,
    outbox::Outbox,
    signal::{Bell, Wakes},
};

/// How long a shutdown may take once all is delivered: time for the good-byes and a few repeats; whoever has not heard by
/// then times out.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// Transmits that a handle's call may send itself while the driver sleeps: a question or an answer, not bulk.
const SENT_BY_HANDLES: usize = 2;

/// A state machine of direc-core, and where its events go.
pub(crate) trait Machine: Send + 'static {
    fn handle_datagram(&mut self, now: Instant, arrival: Arrival, data: BytesMut);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit>;
    fn poll_timeout(&mut self) -> Option<Instant>;
    /// The network has changed, or may have: here are the socket's address and where it is reached from nearby.
    fn network_changed(&mut self, now: Instant, bound: SocketAddr, local: Vec<SocketAddr>, wakes: &mut Wakes);
    /// A tunnel of that number is up: to a relay of that index at a peer, from `remote` at a relay.
    fn tunnel_up(&mut self, now: Instant, number: u32, remote: SocketAddr);
    fn tunnel_lost(&mut self, now: Instant, number: u32);
    /// Hands all events out; tasks to be woken are left in `wakes`.
    fn dispatch(&mut self, now: Instant, wakes: &mut Wakes);
    /// Spare sockets that may be closed.
    fn take_retired(&mut self) -> Vec<Link> {
        Vec::new()
    }
    fn shutdown(&mut self, now: Instant, wakes: &mut Wakes);
    /// A shutdown is under way, and what was finished is still being delivered. The machine ends that by itself.
    fn is_delivering(&self) -> bool {
        false
    }
    fn is_drained(&self) -> bool;
    /// The driver has ended: nothing will happen any more, and nobody may go on waiting.
    fn ended(&mut self, wakes: &mut Wakes);
}

/// What is behind the lock.
pub(crate) struct State<M> {
    pub(crate) machine: M,
    pub(crate) sleep: Option<Sleep>,
    /// When the end that is under way, a shutdown or a drain, is cut short.
    shutdown_by: Option<Instant>,
    /// That end is a shutdown.
    leaving: bool,
    ended: bool,
}

/// The driver sleeps, and has left its means to send for handles to use: one thread's way shorter for a packet.
pub(crate) struct Sleep {
    pub(crate) waker: Waker,
    pub(crate) woken: bool,
    /// When it will wake up by itself.
    pub(crate) alarm: Option<Instant>,
    pub(crate) outbox: Outbox,
}

impl<M: Machine> State<M> {
    /// When the end that is under way is cut short; not before everything is delivered.
    pub(crate) fn shutdown_by(&mut self, now: Instant) -> Option<Instant> {
        if self.leaving && self.machine.is_delivering() {
            self.shutdown_by = Some(now + SHUTDOWN_LIMIT);
        }
        self.shutdown_by
    }

    /// What follows from a call into the machine, as far as it is little; the rest is for the driver. Gives whom to
    /// wake.
    fn follow_up(&mut self, now: Instant) -> Wakes {
        let mut wakes = Wakes::default();
        let Some(sleep) = self.sleep.as_mut().filter(|sleep| !sleep.woken) else { return wakes };
        let early = |machine: &mut M, alarm: Option<Instant>| {
            machine.poll_timeout().is_some_and(|due| alarm.is_none_or(|alarm| due < alarm))
        };
        if !early(&mut self.machine, sleep.alarm) {
            return wakes;
        }
        for _ in 0..SENT_BY_HANDLES {
            if !sleep.outbox.flush() || !sleep.outbox.fill(&mut self.machine, now) {
                break;
            }
        }
        let sent = sleep.outbox.flush();
        self.machine.dispatch(now, &mut wakes);
        if !sent || early(&mut self.machine, sleep.alarm) {
            sleep.woken = true;
            wakes.add([sleep.waker.clone()]);
        }
        wakes
    }
}

/// A node that runs.
pub(crate) struct Node<M> {
    state: Mutex<State<M>>,
    ended: Bell,
    pub(crate) send_failures: Arc<AtomicU64>,
    /// The tunnels that are up.
    pub(crate) lines: Arc<Lines>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<M: Machine> Node<M> {
    pub(crate) fn new(machine: M) -> Self {
        let state = State { machine, sleep: None, shutdown_by: None, leaving: false, ended: false };
        Self {
            state: Mutex::new(state),
            ended: Bell::default(),
            send_failures: Arc::default(),
            lines: Arc::default(),
            thread: Mutex::new(None),
        }
    }

    /// The lock. A panic elsewhere is a bug; to go on is better than to take the program's other connections with it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls into the machine, and sees to it that the driver does what follows from it.
    pub(crate) fn call<R>(&self, f: impl FnOnce(&mut M, Instant) -> R) -> R {
        let mut state = self.lock();
        // Read under the lock: for the machine, time must not run backwards.
        let now = Instant::now();
        let result = f(&mut state.machine, now);
        let mut wakes = state.follow_up(now);
        drop(state);
        wakes.wake();
        result
    }

    /// Looks at the machine without giving it anything to do.
    pub(crate) fn look<R>(&self, f: impl FnOnce(&mut M) -> R) -> R {
        f(&mut self.lock().machine)
    }

    /// Starts saying good-bye, even if a drain is under way. The driver ends when that is done.
    pub(crate) fn shutdown(&self) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.leaving, true) {
            return;
        }
        self.start_end(state, SHUTDOWN_LIMIT, |machine, now, wakes| machine.shutdown(now, wakes));
    }

    /// Has `drain` start an end that comes by itself `within` that time; not if an end is under way.
    pub(crate) fn drain(&self, within: Duration, drain: impl FnOnce(&mut M, Instant, &mut Wakes)) {
        let state = self.lock();
        if state.shutdown_by.is_none() {
            self.start_end(state, within + SHUTDOWN_LIMIT, drain);
        }
    }

    fn start_end(
        &self,
        mut state: MutexGuard<'_, State<M>>,
        limit: Duration,
        start: impl FnOnce(&mut M, Instant, &mut Wakes),
    ) {
        let now = Instant::now();
        state.shutdown_by = Some(now + limit);
        let mut wakes = Wakes::default();
        start(&mut state.machine, now, &mut wakes);
        if let Some(sleep) = &mut state.sleep {
            sleep.woken = true;
            wakes.add([sleep.waker.clone()]);
        }
        drop(state);
        wakes.wake();
    }

    /// Shuts down and waits until the driver has ended and its sockets are closed.
    pub(crate) async fn close(&self) {
        self.shutdown();
        self.until_ended().await;
    }

    /// Waits until the driver has ended.
    pub(crate) async fn ended(&self) {
        self.ended.wait_for(|| self.lock().ended.then_some(())).await;
    }

    /// Waits until the driver has ended and its sockets are closed.
    pub(crate) async fn until_ended(&self) {
        self.ended().await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has nothing left to do. Should it have panicked, that was reported already.
            let _ = thread.join();
        }
    }

    /// Datagrams that the system would not send.
    pub(crate) fn send_failures(&self) -> u64 {
        self.send_failures.load(Ordering::Relaxed)
    }

    pub(crate) fn keep_thread(&self, thread: JoinHandle<()>) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// The driver is gone.
    pub(crate) fn set_ended(&self) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        state.ended = true;
        state.sleep = None;
        state.machine.ended(&mut wakes);
        drop(state);
        wakes.wake();
        self.ended.tell();
    }
}

/// Shared by all handles of a node: when the last is dropped, the node shuts down politely by itself.
pub(crate) struct Guard<M: Machine>(pub(crate) Arc<Node<M>>);

impl<M: Machine> Drop for Guard<M> {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

impl<M: Machine> std::ops::Deref for Guard<M> {
    type Target = Node<M>;

    fn deref(&self) -> &Node<M> {
        &self.0
    }
}
