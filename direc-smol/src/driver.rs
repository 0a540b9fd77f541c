//! The driver: one thread per node that owns the sockets and turns the state machine's wheel.
//!
//! A turn receives, lets the machine think, sends, and hands events out; each with a bound, so that no flood of one
//! kind starves the others. Between turns it sleeps until a datagram, the machine's alarm or a handle's call.
//!
//! # Why a thread of its own
//!
//! A program's executor may be busy, and is not known here. Measured as the round trip of a small datagram between two
//! programs' tasks over loopback (two cores): 67 µs with a thread for each driver; 100 µs with the drivers on smol's
//! global executor and the programs elsewhere. Programs on that executor as well would get 16 µs, at the price that one
//! core does all the cryptography. Waiting with `poll(2)` instead of async-io saves 6 µs of 73, and bulk is the same
//! (1.2 times what quinn on tokio moves in the same run): not enough for a second mechanism. What a handle sends itself
//! while the driver sleeps saves 12 µs of 53.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant, SystemTime},
};

use async_io::Timer;
use bytes::BytesMut;
use direc_core::{Arrival, Link};

use crate::{
    BindError,
    network::{Finding, Network},
    node::{Machine, Node, Sleep},
    outbox::Outbox,
    signal::Wakes,
    socket::{Room, Socket},
    sockets::Sockets,
};

/// Transmits sent before the sockets are looked at again. Each may hold up to 64 datagrams (GSO); acknowledgements
/// that wait meanwhile are what keeps a sender going.
const SEND_BATCH: usize = 8;
/// How long a full socket may keep the machine's timers waiting.
const FULL_WAIT: Duration = Duration::from_millis(5);

/// Starts the driver's thread. With a watch over the network, the first of its sockets is replaced where that is
/// needed.
pub(crate) fn start<M: Machine>(
    node: Arc<Node<M>>,
    sockets: Vec<Socket>,
    network: Option<Network>,
    name: &str,
) -> Result<(), BindError> {
    let sockets = Sockets::new(sockets);
    let driver = Driver {
        node: node.clone(),
        outbox: Some(Outbox::new(sockets.clone(), node.send_failures.clone(), node.lines.clone())),
        sockets,
        network,
        room: Room::new(),
        arrived: Vec::new(),
        wakes: Wakes::default(),
        timer: Timer::never(),
        alarm: None,
    };
    let thread = thread::Builder::new().name(name.into()).spawn(move || driver.run()).map_err(BindError::Thread)?;
    node.keep_thread(thread);
    Ok(())
}

struct Driver<M: Machine> {
    node: Arc<Node<M>>,
    sockets: Sockets,
    network: Option<Network>,
    /// With the node while the driver sleeps.
    outbox: Option<Outbox>,
    room: Room,
    arrived: Vec<(Arrival, BytesMut)>,
    wakes: Wakes,
    timer: Timer,
    alarm: Option<Instant>,
}

/// What a turn has left to do.
enum Next {
    /// More work is waiting.
    Again,
    /// Nothing, until then or until that socket has room.
    Sleep {
        until: Option<Instant>,
        full: Option<Link>,
    },
    End,
}

impl<M: Machine> Driver<M> {
    fn run(mut self) {
        // Also if a turn should panic: nobody may wait for a driver that is gone.
        let _ended = Ended(self.node.clone());
        async_io::block_on(poll_fn(|cx| self.poll(cx)));
        // The sockets are closed before anybody hears of the end.
        drop(self);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.turn(cx) {
                Next::Again => {}
                Next::Sleep { until, full } => {
                    if self.arm(cx, until, full).is_pending() {
                        return Poll::Pending;
                    }
                }
                Next::End => return Poll::Ready(()),
            }
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Next {
        let received = self.receive();
        let mut outbox = self.think();
        self.look_around(cx, &mut outbox);
        let sent_all = self.send(&mut outbox);
        self.hand_out(outbox, received || !sent_all, cx.waker())
    }

    /// Whether anything came.
    fn receive(&mut self) -> bool {
        let mut count = 0;
        for socket in self.sockets.iter() {
            count += socket.receive(&mut self.room, &mut self.arrived);
        }
        count > 0
    }

    /// Feeds the machine; gives the means to send, which handles had while the driver slept.
    fn think(&mut self) -> Outbox {
        let mut state = self.node.lock();
        let slept = state.sleep.take().map(|sleep| sleep.outbox);
        for (arrival, data) in self.arrived.drain(..) {
            state.machine.handle_datagram(Instant::now(), arrival, data);
            // A buffer may hold 64 datagrams, and handles want their turn.
            drop(state);
            state = self.node.lock();
        }
        let now = Instant::now();
        if state.machine.poll_timeout().is_some_and(|due| due <= now) {
            state.machine.handle_timeout(now);
        }
        // Before anything is sent: news must not bear a later time than what they cause elsewhere.
        state.machine.dispatch(now, &mut self.wakes);
        drop(state);
        let kept = self.outbox.take();
        slept.or(kept).unwrap_or_else(|| self.new_outbox())
    }

    fn new_outbox(&self) -> Outbox {
        Outbox::new(self.sockets.clone(), self.node.send_failures.clone(), self.node.lines.clone())
    }

    /// Tells the machine if the network has changed.
    fn look_around(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) {
        let (Some(network), Some(socket)) = (&mut self.network, self.sockets.first()) else { return };
        let clocks = (Instant::now(), SystemTime::now());
        let Some(finding) = network.look(cx, clocks, socket.local_addr(), socket.is_broken()) else { return };
        let rebound = match finding {
            Finding::Rebind { address_gone } => Some(self.rebind(outbox, address_gone)),
            Finding::Changed => None,
        };
        let (Some(network), Some(socket)) = (&mut self.network, self.sockets.first()) else { return };
        if let Some(done) = rebound {
            network.on_rebound(Instant::now(), done);
        }
        let bound = socket.local_addr();
        let local = network.local(bound);
        self.node.lock().machine.network_changed(Instant::now(), bound, local, &mut self.wakes);
    }

    /// Replaces the first socket; `false` if there is none to be had.
    fn rebind(&mut self, outbox: &mut Outbox, address_gone: bool) -> bool {
        let Some(old) = self.sockets.first().map(Socket::local_addr) else { return false };
        // The old socket holds the port that the new one wants. So that there is one all the time, another comes first.
        for port in [0, old.port()] {
            match Socket::bind_again(old, address_gone, port) {
                Ok(socket) => {
                    self.sockets.replace_first(socket);
                    outbox.sockets = self.sockets.clone();
                }
                Err(error) if port == 0 => {
                    log::warn!("no new socket after the network changed: {error}");
                    return false;
                }
                Err(error) => log::info!("{error}; so it is another port"),
            }
        }
        true
    }

    /// Whether there is no more to send now: all is sent, or the socket is full.
    fn send(&mut self, outbox: &mut Outbox) -> bool {
        for _ in 0..SEND_BATCH {
            self.open_missing(outbox);
            // The system's part of sending happens outside the lock.
            if !outbox.flush() || !outbox.fill(&mut self.node.lock().machine, Instant::now()) {
                return true;
            }
        }
        self.open_missing(outbox);
        !outbox.flush()
    }

    /// Opens the spare socket that is to send next.
    fn open_missing(&mut self, outbox: &mut Outbox) {
        let Some(link) = outbox.missing() else { return };
        match self.sockets.open(link) {
            Ok(()) => outbox.sockets = self.sockets.clone(),
            Err(error) => {
                log::info!("no spare socket: {error}");
                outbox.lose();
            }
        }
    }

    /// Closes the spare sockets that the machine needs no more.
    fn close_retired(&mut self, links: &[Link], outbox: &mut Outbox) {
        if !links.is_empty() {
            self.sockets.close(links);
            outbox.sockets = self.sockets.clone();
        }
    }

    /// Hands events out and finds out what is next.
    fn hand_out(&mut self, mut outbox: Outbox, busy: bool, waker: &Waker) -> Next {
        let node = self.node.clone();
        let mut state = node.lock();
        let now = Instant::now();
        state.machine.dispatch(now, &mut self.wakes);
        self.close_retired(&state.machine.take_retired(), &mut outbox);
        let full = outbox.full();
        let shutdown_by = state.shutdown_by(now);
        let due = match full {
            // What is queued behind a full socket is due all the time, and cannot be done.
            Some(_) => Some(now + FULL_WAIT),
            None => {
                let network = self.network.as_ref().and_then(Network::due);
                [state.machine.poll_timeout(), shutdown_by, network].into_iter().flatten().min()
            }
        };
        let next = if shutdown_by.is_some_and(|by| by <= now || state.machine.is_drained()) {
            Next::End
        } else if busy || due.is_some_and(|due| due <= now) {
            self.outbox = Some(outbox);
            Next::Again
        } else {
            // To wake up once for nothing is cheaper than to put the alarm off each time.
            let earlier = self.alarm.filter(|&alarm| alarm > now && due.is_none_or(|due| alarm < due));
            self.alarm = earlier.or(due);
            // Under the lock that the machine was asked under: a handle's call comes before or after.
            state.sleep = Some(Sleep { waker: waker.clone(), woken: false, alarm: self.alarm, outbox });
            Next::Sleep { until: self.alarm, full }
        };
        drop(state);
        self.wakes.wake();
        next
    }

    /// Sees to it that the driver is woken; ready if there is something to do already.
    fn arm(&mut self, cx: &mut Context<'_>, until: Option<Instant>, full: Option<Link>) -> Poll<()> {
        match until {
            Some(until) => self.timer.set_at(until),
            None => self.timer.clear(),
        }
        let mut ready = Pin::new(&mut self.timer).poll(cx).is_ready();
        if let Some(network) = &mut self.network {
            network.sleep(until);
            ready |= network.ask(cx, Instant::now());
        }
        for socket in self.sockets.iter() {
            // The first may tell of the arrival that this turn has dealt with; arming looks at the socket again.
            ready |= socket.io.poll_readable(cx).is_ready() && socket.io.poll_readable(cx).is_ready();
            if full == Some(socket.link) {
                ready |= socket.io.poll_writable(cx).is_ready() && socket.io.poll_writable(cx).is_ready();
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Tells everybody when the driver is gone.
struct Ended<M: Machine>(Arc<Node<M>>);

impl<M: Machine> Drop for Ended<M> {
    fn drop(&mut self) {
        self.0.set_ended();
    }
}
