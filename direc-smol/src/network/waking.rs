//! The moment in which the machine wakes up, on Linux: a timer that is never due is cancelled when the wall clock jumps,
//! and that wakes the driver. Whether it was a nap is for [`Naps`](super::nap::Naps) to say.
//!
//! Without it the driver would sleep on for what was left of its time before, up to 20 s.

use std::task::Context;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::Waking;

/// Where the system has no such timer: the driver wakes up every two seconds there anyway, to look at the network.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) struct Waking;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Waking {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn poll(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::{io, time::Duration};

    use async_io::Async;
    use nix::sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    };

    use super::Context;

    /// A time that no clock will show: in some thousand years.
    const NEVER: Duration = Duration::from_secs(1 << 37);

    /// The timer, if there is one to be had.
    pub(in crate::network) struct Waking(Option<Async<TimerFd>>);

    impl Waking {
        pub(in crate::network) fn new() -> Self {
            let timer = timer().inspect_err(|error| log::debug!("waking up will be noticed late: {error}"));
            Self(timer.ok())
        }

        /// Whether the wall clock has jumped; if not, the task is woken when it does.
        pub(in crate::network) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
            let mut jumped = false;
            // Twice at most: arming looks again.
            for _ in 0..2 {
                let Some(timer) = &self.0 else { break };
                match timer.poll_readable(cx) {
                    // Reading makes it wait for the next jump; nothing to read is no news.
                    std::task::Poll::Ready(Ok(())) => jumped |= timer.get_ref().wait().is_ok(),
                    std::task::Poll::Ready(Err(error)) => {
                        log::debug!("waking up will be noticed late: {error}");
                        self.0 = None;
                    }
                    std::task::Poll::Pending => break,
                }
            }
            jumped
        }
    }

    fn timer() -> io::Result<Async<TimerFd>> {
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        timer.set(Expiration::OneShot(TimeSpec::from(NEVER)), flags)?;
        Async::new_nonblocking(timer)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_clock_that_does_not_jump_wakes_nobody() {
            let mut waking = Waking::new();
            assert!(waking.0.is_some());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            for _ in 0..3 {
                assert!(!waking.poll(&mut cx));
            }
        }
    }
}
