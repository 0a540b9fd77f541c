//! Knocks: one packet that a peer's NAT has not asked for, because the peer itself has.
//!
//! What becomes of it tells the peer how its NAT filters (RFC 4787, section 5), and whether the packet has spoilt the
//! mapping that its own would get there. It goes to an address that has echoed, seldom, and is smaller than the request.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::Relay;
use crate::{
    Link, Transmit,
    quic::{Handle, tls::knock_token},
    wire::{
        datagram::{Cookie, Datagram},
        message::{Knock, Message},
    },
};

/// A peer is knocked at no more often than this.
const PAUSE: Duration = Duration::from_secs(60);
/// Knocks waiting to be sent; a peer whose wish finds the queue full hears nothing, and asks again some other time.
const MAX_KNOCKS: usize = 1024;

/// Knocks that are to be sent.
#[derive(Default)]
pub(super) struct Knocks(VecDeque<(Handle, SocketAddr, Cookie)>);

impl Knocks {
    pub(super) fn is_queued(&self) -> bool {
        !self.0.is_empty()
    }

    /// A peer has gone.
    pub(super) fn forget_peer(&mut self, peer: Handle) {
        self.0.retain(|(handle, ..)| *handle != peer);
    }
}

fn may_knock(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| last + PAUSE <= now)
}

impl Relay {
    /// A peer wants to be knocked at.
    pub(super) fn on_knock(&mut self, peer: Handle, cookie: Cookie) {
        if self.config.knock_port.is_none() || self.knocks.0.len() >= MAX_KNOCKS {
            return;
        }
        let Some(entry) = self.registry.get_mut(peer).filter(|entry| may_knock(entry.knocked_at, self.now)) else {
            return;
        };
        // Not where QUIC packets come from now: that address may be a migration's, and has not echoed then.
        let Some(&to) = entry.addresses(self.now).first() else { return };
        entry.knocked_at = Some(self.now);
        self.knocks.0.push_back((peer, to, cookie));
    }

    /// The next knock, and word of it to the peer.
    pub(super) fn knock(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (peer, remote, cookie) = self.knocks.0.pop_front()?;
        let token = knock_token(self.quic.get(peer)?, &cookie)?;
        self.say(peer, &Message::Knocked(Knock { cookie }));
        Datagram::Knock(cookie, token).encode(buf);
        let link = Link::Punch(self.config.punch_ports.len() as u8);
        Some(Transmit::one(link, remote, buf.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn a_peer_is_knocked_at_once_a_minute_at_most() {
        let now = Instant::now();
        assert!(may_knock(None, now));
        assert!(!may_knock(Some(now), now + Duration::from_secs(59)));
        assert!(may_knock(Some(now), now + Duration::from_secs(60)));
    }
}
