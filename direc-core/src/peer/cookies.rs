//! S7 as P2 and P4 take it: a cookie goes to each of P3's hole-punch ports, again and again, until P3 says that it has
//! learnt the address (S8).

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::binding::TESTED_PORTS;
use crate::{
    ConnId, Link, Transmit,
    drops::DropReason,
    paths::Pair,
    wire::datagram::{Cookie, Datagram, Token},
};

/// Pauses between the sendings of a cookie to a port, in milliseconds; the last one repeats until the deadline.
const GAPS: [u64; 6] = [50, 100, 200, 400, 800, 1000];
/// Cookies under way at once: the registration's and some introductions'; the oldest gives way.
const MAX_RUNS: usize = 64;
/// Confirmations waiting to be sent; more are made from the echoes that repeats will bring.
const MAX_CONFIRMS: usize = 64;

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Registration,
    Introduction(ConnId),
    /// A round of punching from a socket of its own.
    Round(ConnId),
}

/// How a cookie ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every port has confirmed it.
    Confirmed,
    /// No port has, by the deadline.
    Unanswered,
}

struct Port {
    confirmed: bool,
    sent: usize,
    next: Instant,
}

/// One cookie on its way to all ports.
struct Run {
    cookie: Cookie,
    /// After how many seconds late echoes are asked for, 0 for none.
    delay: u8,
    purpose: Purpose,
    /// The socket whose address it is about.
    link: Link,
    ports: Vec<Port>,
    deadline: Instant,
}

/// All cookies under way.
pub(super) struct Cookies {
    relay: IpAddr,
    punch_ports: Vec<u16>,
    /// When anything was sent to each port last.
    sent_at: Vec<Instant>,
    runs: VecDeque<Run>,
    confirms: VecDeque<(Pair, Cookie, Token)>,
}

impl Cookies {
    pub(super) fn new(relay: IpAddr) -> Self {
        Self { relay, punch_ports: Vec::new(), sent_at: Vec::new(), runs: VecDeque::new(), confirms: VecDeque::new() }
    }

    /// The relay has said where its hole-punch ports are.
    pub(super) fn set_ports(&mut self, now: Instant, ports: Vec<u16>) {
        self.sent_at = vec![now; ports.len()];
        self.punch_ports = ports;
        self.runs.clear();
        self.confirms.clear();
    }

    /// How many are under way, and what is still to be said of them.
    pub(super) fn len(&self) -> usize {
        self.runs.len() + self.confirms.len()
    }

    fn address(&self, port: usize) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.relay, *self.punch_ports.get(port)?))
    }

    /// The number of the hole-punch port at this address.
    pub(super) fn port_at(&self, from: SocketAddr) -> Option<usize> {
        self.punch_ports.iter().position(|&port| SocketAddr::new(self.relay, port) == from)
    }

    /// How long nothing has been sent to a port.
    pub(super) fn silence(&self, now: Instant, port: usize) -> Duration {
        self.sent_at.get(port).map_or(Duration::ZERO, |&at| now.saturating_duration_since(at))
    }

    /// Starts sending a cookie, which asks some ports for late echoes if `delay` is not 0; gives the first hole-punch
    /// address, for the step's report.
    pub(super) fn start(
        &mut self,
        now: Instant,
        cookie: Cookie,
        purpose: Purpose,
        link: Link,
        delay: u8,
        deadline: Duration,
    ) -> Option<SocketAddr> {
        if self.runs.len() >= MAX_RUNS {
            self.runs.pop_front();
        }
        let ports = self.punch_ports.iter().map(|_| Port { confirmed: false, sent: 0, next: now }).collect();
        self.runs.push_back(Run { cookie, delay, purpose, link, ports, deadline: now + deadline });
        self.address(0)
    }

    /// A hole-punch port echoes: it is to be shown that we are where the cookie came from.
    pub(super) fn on_echo(&mut self, pair: Pair, cookie: Cookie, token: Token) -> Result<(), DropReason> {
        let known = self.runs.iter().any(|run| run.cookie == cookie && run.link == pair.link);
        if !known || self.port_at(pair.remote).is_none() {
            return Err(DropReason::UnknownCookie);
        }
        if self.confirms.len() >= MAX_CONFIRMS {
            return Err(DropReason::QueueFull);
        }
        self.confirms.push_back((pair, cookie, token));
        Ok(())
    }

    /// What a cookie under way is for.
    pub(super) fn purpose(&self, cookie: &Cookie) -> Option<Purpose> {
        self.runs.iter().find(|run| run.cookie == *cookie).map(|run| run.purpose)
    }

    /// How many hole-punch ports there are.
    pub(super) fn ports(&self) -> usize {
        self.punch_ports.len()
    }

    /// The relay says on its stream that this port has confirmed the cookie.
    pub(super) fn on_observed(&mut self, cookie: &Cookie, port: u8) -> Option<(Purpose, Outcome)> {
        let at = self.runs.iter().position(|run| run.cookie == *cookie)?;
        let run = self.runs.get_mut(at)?;
        run.ports.get_mut(usize::from(port))?.confirmed = true;
        if run.ports.iter().all(|port| port.confirmed) {
            let purpose = run.purpose;
            self.runs.remove(at);
            return Some((purpose, Outcome::Confirmed));
        }
        None
    }

    /// A cookie whose time is over.
    pub(super) fn poll_expired(&mut self, now: Instant) -> Option<(Purpose, Outcome)> {
        let at = self.runs.iter().position(|run| run.deadline <= now)?;
        let run = self.runs.remove(at)?;
        let any = run.ports.iter().any(|port| port.confirmed);
        Some((run.purpose, if any { Outcome::Confirmed } else { Outcome::Unanswered }))
    }

    pub(super) fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        let start = buf.len();
        let Pair { link, remote } = if let Some((pair, cookie, token)) = self.confirms.pop_front() {
            Datagram::Confirm(cookie, token).encode(buf);
            pair
        } else {
            let (link, cookie, delay, port) = self.next_due(now)?;
            Datagram::Cookie(cookie, delay).encode(buf);
            Pair { link, remote: self.address(port)? }
        };
        if link == Link::Main
            && let Some(at) = self.port_at(remote).and_then(|port| self.sent_at.get_mut(port))
        {
            *at = now;
        }
        Some(Transmit::one(link, remote, buf.len() - start))
    }

    fn next_due(&mut self, now: Instant) -> Option<(Link, Cookie, u8, usize)> {
        for run in &mut self.runs {
            for (index, port) in run.ports.iter_mut().enumerate() {
                if !port.confirmed && port.next <= now {
                    let gap = GAPS[port.sent.min(GAPS.len() - 1)];
                    port.sent += 1;
                    port.next = now + Duration::from_millis(gap);
                    let delay = if index < TESTED_PORTS { run.delay } else { 0 };
                    return Some((run.link, run.cookie, delay, index));
                }
            }
        }
        None
    }

    pub(super) fn is_queued(&self) -> bool {
        !self.confirms.is_empty()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.runs.iter().flat_map(|run| &run.ports).filter(|port| !port.confirmed).map(|port| port.next);
        waiting.chain(self.runs.iter().map(|run| run.deadline)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(5);

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn started() -> (Cookies, Instant) {
        let now = Instant::now();
        let mut cookies = Cookies::new([203, 0, 113, 10].into());
        cookies.set_ports(now, vec![4434, 4435]);
        cookies.start(now, [1; 16], Purpose::Registration, Link::Main, 8, DEADLINE);
        (cookies, now)
    }

    fn sent(cookies: &mut Cookies, now: Instant) -> Vec<SocketAddr> {
        std::iter::from_fn(|| cookies.poll_transmit(now, &mut Vec::new())).map(|transmit| transmit.remote).collect()
    }

    #[test]
    fn a_cookie_goes_to_every_port_at_once_and_again_until_confirmed() {
        let (mut cookies, now) = started();
        assert_eq!(sent(&mut cookies, now).len(), 2);
        assert_eq!(sent(&mut cookies, now).len(), 0);
        assert_eq!(cookies.on_observed(&[1; 16], 0), None);
        let again = sent(&mut cookies, now + Duration::from_millis(50));
        assert_eq!(again, ["203.0.113.10:4435".parse().unwrap()]);
        assert_eq!(cookies.on_observed(&[1; 16], 1), Some((Purpose::Registration, Outcome::Confirmed)));
        assert!(cookies.poll_timeout().is_none());
    }

    #[test]
    fn an_echo_is_confirmed_only_to_the_relay_and_only_for_a_cookie_of_ours() {
        let (mut cookies, now) = started();
        sent(&mut cookies, now);
        let [relay, other] = ["203.0.113.10:4434", "198.51.100.1:4434"].map(|at| Pair::main(at.parse().unwrap()));
        let elsewhere = Pair { link: Link::Spare(1), ..relay };
        for (pair, cookie) in [(other, [1; 16]), (relay, [9; 16]), (elsewhere, [1; 16])] {
            assert_eq!(cookies.on_echo(pair, cookie, [2; 16]), Err(DropReason::UnknownCookie));
        }
        assert_eq!(cookies.on_echo(relay, [1; 16], [2; 16]), Ok(()));
        assert_eq!(sent(&mut cookies, now), [relay.remote]);
    }

    #[test]
    fn a_cookie_nobody_answers_ends_at_the_deadline() {
        let (mut cookies, now) = started();
        assert_eq!(cookies.poll_expired(now), None);
        assert_eq!(cookies.poll_expired(now + DEADLINE), Some((Purpose::Registration, Outcome::Unanswered)));
        assert!(cookies.poll_timeout().is_none());
    }

    #[test]
    fn a_port_that_the_relay_never_named_confirms_nothing() {
        let (mut cookies, _) = started();
        assert_eq!(cookies.on_observed(&[1; 16], 200), None);
        assert_eq!(cookies.on_observed(&[7; 16], 0), None);
    }
}
