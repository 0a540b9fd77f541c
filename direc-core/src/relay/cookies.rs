//! S7 and S8 as P3 takes them: cookies that arrive at the hole-punch ports, and what they tell.
//!
//! A cookie names its sender, but not where that is: anybody could send it on from another's address. So the address
//! it came from must echo before it counts, and the proof needs no memory: it is an authenticator over cookie, port
//! and address. The address from which the peer shook hands with P3 has echoed then and need not again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use ring::hmac;

use crate::{
    drops::DropReason,
    quic::Handle,
    rng::Rng,
    wire::datagram::{Cookie, TOKEN_LEN, Token},
};

/// How long after its announcement a cookie may arrive.
const LIFE: Duration = Duration::from_secs(10);
/// Hole-punch ports that a relay may have.
const MAX_PORTS: usize = 8;
/// Cookies that one peer may have under way; the oldest gives way.
const MAX_PER_PEER: usize = 32;

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) peer: Handle,
    /// The introduction it was announced for, by its ID.
    pub(super) introduction: Option<u64>,
    /// It is from another socket than the peer's own.
    pub(super) aside: bool,
}

struct Expected {
    owner: Owner,
    expires: Instant,
    /// A bit for each hole-punch port that has had it confirmed: there it is used up.
    used: u8,
    /// The late echo that it has asked for at each hole-punch port, in seconds; 0 for none.
    delays: [u8; MAX_PORTS],
}

/// The cookies that may arrive.
pub(super) struct CookieJar {
    key: hmac::Key,
    ports: u8,
    expected: BTreeMap<Cookie, Expected>,
    /// Each peer's cookies, oldest first.
    by_peer: BTreeMap<usize, VecDeque<Cookie>>,
    expiring: BTreeSet<(Instant, Cookie)>,
}

impl CookieJar {
    pub(super) fn new(ports: u8, rng: &mut Rng) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rng.bytes::<32>());
        Self { key, ports, expected: BTreeMap::new(), by_peer: BTreeMap::new(), expiring: BTreeSet::new() }
    }

    /// A peer has announced a cookie, or was asked for one. One that is expected already stays its first owner's.
    pub(super) fn expect(&mut self, now: Instant, cookie: Cookie, owner: Owner) {
        if self.expected.contains_key(&cookie) {
            return;
        }
        let own = self.by_peer.entry(owner.peer.0).or_default();
        own.push_back(cookie);
        if own.len() > MAX_PER_PEER
            && let Some(oldest) = own.front().copied()
        {
            self.forget(&oldest);
        }
        self.expected.insert(cookie, Expected { owner, expires: now + LIFE, used: 0, delays: [0; MAX_PORTS] });
        self.expiring.insert((now + LIFE, cookie));
    }

    /// A cookie has arrived at hole-punch port `port` (S7): whose it is, if it is expected there.
    pub(super) fn owner(&self, now: Instant, cookie: &Cookie, port: u8) -> Result<Owner, DropReason> {
        let entry = self.expected.get(cookie).ok_or(DropReason::UnknownCookie)?;
        let fresh = entry.expires > now && entry.used & (1 << port) == 0;
        if fresh { Ok(entry.owner) } else { Err(DropReason::UnknownCookie) }
    }

    /// Notes that an expected cookie asks for a late echo at this port.
    pub(super) fn ask(&mut self, cookie: &Cookie, port: u8, delay: u8) {
        let entry = self.expected.get_mut(cookie);
        if let Some(asked) = entry.and_then(|entry| entry.delays.get_mut(usize::from(port))) {
            *asked = delay;
        }
    }

    /// Uses a cookie up at a port: its address is proven (S8). Gives after what time it has asked for a late echo there.
    pub(super) fn use_up(&mut self, cookie: &Cookie, port: u8) -> Option<Duration> {
        let entry = self.expected.get_mut(cookie)?;
        entry.used |= 1 << port;
        let delay = entry.delays.get(usize::from(port)).copied().unwrap_or_default();
        if entry.used.count_ones() >= u32::from(self.ports) {
            self.forget(cookie);
        }
        (delay > 0).then(|| Duration::from_secs(delay.into()))
    }

    /// The token has come back (S8): whose address this is. What is left is to use the cookie up there.
    pub(super) fn on_confirm(
        &self,
        now: Instant,
        cookie: &Cookie,
        token: &Token,
        port: u8,
        from: SocketAddr,
    ) -> Result<Owner, DropReason> {
        let owner = self.owner(now, cookie, port)?;
        let expected = self.token(cookie, port, from);
        // Not `==`, so that the time tells nothing of where they differ.
        if expected.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b)) != 0 {
            return Err(DropReason::BadToken);
        }
        Ok(owner)
    }

    /// What to send back to where a cookie came from, unless its address is proven already.
    pub(super) fn token(&self, cookie: &Cookie, port: u8, from: SocketAddr) -> Token {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(cookie);
        context.update(&[port]);
        match from.ip() {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        context.update(&from.port().to_be_bytes());
        let tag = context.sign();
        let mut token = [0; TOKEN_LEN];
        token.iter_mut().zip(tag.as_ref()).for_each(|(out, byte)| *out = *byte);
        token
    }

    fn forget(&mut self, cookie: &Cookie) {
        let Some(entry) = self.expected.remove(cookie) else { return };
        self.expiring.remove(&(entry.expires, *cookie));
        if let Some(own) = self.by_peer.get_mut(&entry.owner.peer.0) {
            own.retain(|other| other != cookie);
        }
    }

    /// A peer has gone, and its cookies with it.
    pub(super) fn forget_peer(&mut self, peer: Handle) {
        for cookie in self.by_peer.remove(&peer.0).unwrap_or_default() {
            self.forget(&cookie);
        }
    }

    /// Throws out what is out of date.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(at, cookie)) = self.expiring.first() {
            if at > now {
                break;
            }
            self.forget(&cookie);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.expected.len(), self.expiring.len());
        self.expected.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: Cookie = [1; 16];
    const OWNER: Owner = Owner { peer: quinn_proto::ConnectionHandle(3), introduction: Some(9), aside: false };

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn jar() -> (CookieJar, Instant, SocketAddr) {
        let now = Instant::now();
        let mut jar = CookieJar::new(2, &mut Rng::new([1; 32]));
        jar.expect(now, COOKIE, OWNER);
        (jar, now, "198.51.100.1:7".parse().unwrap())
    }

    #[test]
    fn an_address_counts_once_it_has_echoed() {
        let (jar, now, from) = jar();
        let token = jar.token(&COOKIE, 0, from);
        assert_eq!(jar.on_confirm(now, &COOKIE, &token, 0, from), Ok(OWNER));
    }

    #[test]
    fn a_cookie_is_used_up_at_each_port_by_its_confirmation() {
        let (mut jar, now, from) = jar();
        for port in [0, 1] {
            let token = jar.token(&COOKIE, port, from);
            assert!(jar.on_confirm(now, &COOKIE, &token, port, from).is_ok());
            assert_eq!(jar.use_up(&COOKIE, port), None);
            assert_eq!(jar.owner(now, &COOKIE, port), Err(DropReason::UnknownCookie));
            assert_eq!(jar.on_confirm(now, &COOKIE, &token, port, from), Err(DropReason::UnknownCookie));
        }
        assert_eq!(jar.len(), 0);
    }

    #[test]
    fn a_late_echo_is_asked_for_at_one_port_and_by_expected_cookies_only() {
        let (mut jar, _, _) = jar();
        jar.ask(&COOKIE, 1, 25);
        jar.ask(&[2; 16], 0, 25);
        assert_eq!(jar.use_up(&COOKIE, 0), None);
        assert_eq!(jar.use_up(&COOKIE, 1), Some(Duration::from_secs(25)));
        assert_eq!(jar.len(), 0);
    }

    #[test]
    fn a_token_serves_no_other_address_and_no_other_port() {
        let (jar, now, from) = jar();
        let token = jar.token(&COOKIE, 0, from);
        let victim = "198.51.100.2:7".parse().unwrap();
        assert_eq!(jar.on_confirm(now, &COOKIE, &token, 0, victim), Err(DropReason::BadToken));
        assert_eq!(jar.on_confirm(now, &COOKIE, &token, 1, from), Err(DropReason::BadToken));
    }

    #[test]
    fn a_cookie_that_nobody_announced_meets_silence() {
        let (jar, now, _) = jar();
        assert_eq!(jar.owner(now, &[2; 16], 0), Err(DropReason::UnknownCookie));
    }

    #[test]
    fn a_cookie_is_worth_nothing_after_its_life() {
        let (mut jar, now, _) = jar();
        assert_eq!(jar.owner(now + LIFE, &COOKIE, 0), Err(DropReason::UnknownCookie));
        jar.expire(now + LIFE);
        assert_eq!(jar.len(), 0);
    }

    #[test]
    fn one_peers_flood_of_cookies_stays_within_its_share() {
        let (mut jar, now, _) = jar();
        for n in 0..1000u16 {
            let mut cookie = [7; 16];
            cookie[..2].copy_from_slice(&n.to_be_bytes());
            jar.expect(now, cookie, OWNER);
        }
        assert_eq!(jar.len(), MAX_PER_PEER);
        jar.forget_peer(OWNER.peer);
        assert_eq!(jar.len(), 0);
    }

    #[test]
    fn a_cookie_cannot_be_taken_over_by_announcing_it_too() {
        let (mut jar, now, from) = jar();
        jar.expect(now, COOKIE, Owner { peer: quinn_proto::ConnectionHandle(4), introduction: None, aside: false });
        let token = jar.token(&COOKIE, 0, from);
        assert_eq!(jar.on_confirm(now, &COOKIE, &token, 0, from), Ok(OWNER));
    }
}
