//! The system's word that something about the network may have changed.
//!
//! On Linux a netlink socket tells at once and costs nothing meanwhile. Its messages are not read, only counted as one
//! word: look again. Elsewhere, and where there is no netlink to be had, one looks every two seconds.

use std::{
    task::Context,
    time::{Duration, Instant},
};

/// How often to look where nothing tells when to. Looking takes some tens of microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where notices come from.
pub(super) enum Notices {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Netlink(netlink::Netlink),
    /// From the clock.
    Clock { every: Duration, next: Instant },
}

impl Notices {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn new(now: Instant) -> Self {
        match netlink::Netlink::new() {
            Ok(netlink) => Self::Netlink(netlink),
            Err(error) => {
                log::debug!("no notices of network changes, so looking out for them: {error}");
                Self::every(LOOK_EVERY, now)
            }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn new(now: Instant) -> Self {
        Self::every(LOOK_EVERY, now)
    }

    pub(super) fn every(every: Duration, now: Instant) -> Self {
        Self::Clock { every, next: now + every }
    }

    /// Whether a notice has come; if not, the task is woken by the next one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Netlink(netlink) => netlink.poll(cx).unwrap_or_else(|error| {
                log::warn!("notices of network changes have ended, so looking out for them: {error}");
                *self = Self::every(LOOK_EVERY, now);
                true
            }),
            Self::Clock { every, next } => {
                let due = *next <= now;
                if due {
                    *next = now + *every;
                }
                due
            }
        }
    }

    /// When to ask again.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Netlink(_) => None,
            Self::Clock { next, .. } => Some(*next),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod netlink {
    use std::{
        io,
        os::fd::{AsRawFd, OwnedFd},
        task::Context,
    };

    use async_io::Async;
    use nix::{
        errno::Errno,
        libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE, RTMGRP_LINK},
        sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType},
    };

    const GROUPS: nix::libc::c_int =
        RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE;

    /// A socket on which the kernel tells of links, addresses and routes.
    pub(in crate::network) struct Netlink(Async<OwnedFd>);

    impl Netlink {
        pub(super) fn new() -> io::Result<Self> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.cast_unsigned()))?;
            Ok(Self(Async::new_nonblocking(fd)?))
        }

        /// Whether anything was told; until nothing is left, so that the next thing wakes the task.
        pub(super) fn poll(&self, cx: &mut Context<'_>) -> io::Result<bool> {
            let mut told = false;
            // Twice at most: the first may be about what was dealt with before, and arming looks again.
            for _ in 0..2 {
                if self.0.poll_readable(cx)?.is_pending() {
                    break;
                }
                told |= self.drain()?;
            }
            Ok(told)
        }

        fn drain(&self) -> io::Result<bool> {
            let mut told = false;
            loop {
                // What does not fit is cut off: nobody reads it.
                match socket::recv(self.0.as_raw_fd(), &mut [0; 16], MsgFlags::MSG_DONTWAIT) {
                    // Too many to keep is a notice as well.
                    Ok(_) | Err(Errno::ENOBUFS) => told = true,
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => return Ok(told),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}
