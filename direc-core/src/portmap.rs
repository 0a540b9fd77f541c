//! Asks the router for a port that leads to this peer from outside, by PCP (RFC 6887) and NAT-PMP (RFC 6886): renewed
//! at half its lifetime, asked for anew when the router has forgotten it, and given back at the end.
//!
//! PCP goes first. A router that speaks NAT-PMP alone says so (RFC 6887, appendix A) or says nothing; then NAT-PMP is
//! tried, and the first that grants a mapping is stayed with. The other would name the same one: it is not asked to
//! delete it.

mod natpmp;
mod pcp;

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    drops::{DropReason, Drops},
    rng::Rng,
};

/// The router's port, of both protocols.
const SERVER_PORT: u16 = 5351;
/// The lifetime asked for.
const LIFETIME: Duration = Duration::from_secs(3600);
/// A router's word is not taken for longer (RFC 6887, section 15), and mappings are not renewed more often (section
/// 11.2.1).
const LONGEST: Duration = Duration::from_secs(86_400);
const SHORTEST: Duration = Duration::from_secs(8);
/// PCP's retransmission times (RFC 6887, section 8.1.1), each varied.
const PCP_FIRST: Duration = Duration::from_secs(3);
const PCP_LAST: Duration = Duration::from_secs(1024);
/// NAT-PMP's (RFC 6886, section 3.1): doubled each time, and after so many tries the router does not speak it.
const NATPMP_FIRST: Duration = Duration::from_millis(250);
const NATPMP_TRIES: u32 = 9;
/// How long PCP is waited for before NAT-PMP is tried as well.
const HEAD_START: Duration = Duration::from_millis(500);
/// After so many tries in PCP without an answer the router is taken not to speak it; the tries go on.
const SILENT_TRIES: u32 = 3;
/// After an error the router is left alone at least for the first, and at most for the second.
const LEAST_REST: Duration = Duration::from_secs(30);
const MOST_REST: Duration = Duration::from_secs(1800);

/// By which protocol a port was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MapProtocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
}

impl fmt::Display for MapProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
        })
    }
}

/// A port of the router's that leads to this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The address outside, by the router's word. A router behind another NAT names one that leads nowhere.
    pub external: SocketAddr,
    /// How it was asked for.
    pub protocol: MapProtocol,
    /// For how long it was granted.
    pub lifetime: Duration,
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}, {} s", self.external, self.protocol, self.lifetime.as_secs())
    }
}

/// What a [`PortMapper`] has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortMapEvent {
    /// The router has mapped a port, another than before.
    Mapped(PortMapping),
    /// The mapping is gone: it ran out, or the router would not renew it.
    Lost(PortMapping),
    /// The router would not, for now.
    Refused {
        /// In which protocol it said so.
        protocol: MapProtocol,
        /// Its result code.
        result: u16,
    },
    /// The router answers neither protocol. PCP is tried on, ever more seldom.
    NotOffered,
}

/// One request, repeated until it is answered.
#[derive(Clone, Copy)]
struct Tries {
    next: Instant,
    count: u32,
    pause: Duration,
}

impl Tries {
    fn at(next: Instant) -> Self {
        Self { next, count: 0, pause: Duration::ZERO }
    }
}

/// The router's clock (RFC 6887, section 8.5; RFC 6886, section 3.6).
#[derive(Clone, Copy)]
struct Epoch {
    seconds: u32,
    at: Instant,
}

impl Epoch {
    /// Whether a router whose clock says `seconds` now is the one it was, with all its mappings.
    fn goes_on(self, now: Instant, seconds: u32) -> bool {
        let ours = now.saturating_duration_since(self.at).as_secs();
        let Some(theirs) = u64::from(seconds).checked_sub(u64::from(self.seconds)) else {
            return self.seconds - seconds <= 1;
        };
        ours + 2 >= theirs - theirs / 16 && theirs + 2 >= ours - ours / 16
    }
}

/// A mapping that is held.
struct Held {
    mapping: PortMapping,
    expires: Instant,
}

/// One protocol's side of it.
struct Talk {
    /// `None`: not tried now.
    tries: Option<Tries>,
    epoch: Option<Epoch>,
}

/// Keeps a port mapped at one router, by IPv4. As pure as all of this crate: see its contract. Its datagrams go to the
/// router from a socket of their own.
pub struct PortMapper {
    router: Ipv4Addr,
    /// This machine's address towards the router, and the port to be reached.
    client: Ipv4Addr,
    internal: u16,
    nonce: pcp::Nonce,
    pcp: Talk,
    natpmp: Talk,
    /// NAT-PMP's halves of an answer.
    address: Option<Ipv4Addr>,
    held: Option<Held>,
    /// That the router offers nothing has been told.
    told: bool,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<PortMapEvent>,
    drops: Drops,
    rng: Rng,
}

impl PortMapper {
    /// Begins to ask `router` for a way to `client`, this machine's address towards it, UDP port `internal`.
    pub fn new(router: Ipv4Addr, client: Ipv4Addr, internal: u16, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            router,
            client,
            internal,
            nonce: rng.bytes(),
            pcp: Talk { tries: Some(Tries::at(now)), epoch: None },
            natpmp: Talk { tries: Some(Tries::at(now + HEAD_START)), epoch: None },
            address: None,
            held: None,
            told: false,
            out: VecDeque::new(),
            events: VecDeque::new(),
            drops: Drops::default(),
            rng,
        }
    }

    /// The mapping that is held now.
    pub fn mapping(&self) -> Option<PortMapping> {
        self.held.as_ref().map(|held| held.mapping)
    }

    /// Datagrams that were not taken, by reason.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Takes a datagram that has come to the mapper's socket.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if let Err(reason) = self.on_datagram(now, from, bytes) {
            self.drops.count(reason);
        }
    }

    fn on_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Result<(), DropReason> {
        // RFC 6887, section 8.3; RFC 6886, section 3.1.
        if from != SocketAddr::new(self.router.into(), SERVER_PORT) {
            return Err(DropReason::UnknownConnection);
        }
        match bytes.first() {
            None => Err(DropReason::Empty),
            Some(&pcp::VERSION) => self.on_pcp(now, &pcp::Response::decode(bytes)?),
            Some(&natpmp::VERSION) => self.on_natpmp(now, natpmp::Response::decode(bytes)?),
            Some(_) => Err(DropReason::UnknownType),
        }
    }

    fn on_pcp(&mut self, now: Instant, response: &pcp::Response) -> Result<(), DropReason> {
        if response.nonce != self.nonce || response.internal != self.internal || self.pcp.tries.is_none() {
            return Err(DropReason::UnknownCookie);
        }
        let lifetime = Duration::from_secs(response.lifetime.into());
        if response.result != 0 || response.lifetime == 0 || !is_fit(response.external) {
            self.on_refused(now, MapProtocol::Pcp, response.result.into(), lifetime);
            return Ok(());
        }
        self.on_epoch(now, MapProtocol::Pcp, response.epoch);
        self.on_granted(now, MapProtocol::Pcp, response.external, lifetime);
        Ok(())
    }

    fn on_natpmp(&mut self, now: Instant, response: natpmp::Response) -> Result<(), DropReason> {
        if self.natpmp.tries.is_none() && self.pcp.tries.is_none() {
            return Err(DropReason::UnknownCookie);
        }
        match response {
            // The answer of a router without PCP to PCP (RFC 6887, appendix A).
            natpmp::Response::Error { result: 1 } if self.natpmp.tries.is_none_or(|tries| tries.count == 0) => {
                self.pcp.tries = None;
                self.natpmp.tries = Some(Tries::at(now));
            }
            natpmp::Response::Error { result } => self.on_refused(now, MapProtocol::NatPmp, result, Duration::ZERO),
            natpmp::Response::Address { epoch, ip } => {
                self.on_epoch(now, MapProtocol::NatPmp, epoch);
                self.address = Some(ip);
            }
            natpmp::Response::Map { epoch, internal, external, lifetime } => {
                if internal != self.internal || self.natpmp.tries.is_none() {
                    return Err(DropReason::UnknownCookie);
                }
                self.on_epoch(now, MapProtocol::NatPmp, epoch);
                // The address has been asked for before, and its answer comes first, or with the next try.
                let Some(ip) = self.address else { return Ok(()) };
                let external = SocketAddr::new(ip.into(), external);
                let lifetime = Duration::from_secs(lifetime.into());
                if lifetime.is_zero() || !is_fit(external) {
                    self.on_refused(now, MapProtocol::NatPmp, 0, lifetime);
                } else {
                    self.on_granted(now, MapProtocol::NatPmp, external, lifetime);
                }
            }
        }
        Ok(())
    }

    fn talk(&mut self, protocol: MapProtocol) -> &mut Talk {
        match protocol {
            MapProtocol::Pcp => &mut self.pcp,
            MapProtocol::NatPmp => &mut self.natpmp,
        }
    }

    /// A router that has started anew has no mapping of ours any more: it is asked for at once.
    fn on_epoch(&mut self, now: Instant, protocol: MapProtocol, seconds: u32) {
        let talk = self.talk(protocol);
        let lost = talk.epoch.is_some_and(|epoch| !epoch.goes_on(now, seconds));
        talk.epoch = Some(Epoch { seconds, at: now });
        if lost {
            talk.tries = Some(Tries::at(now));
        }
    }

    fn on_granted(&mut self, now: Instant, protocol: MapProtocol, external: SocketAddr, lifetime: Duration) {
        let lifetime = lifetime.clamp(SHORTEST, LONGEST);
        let mapping = PortMapping { external, protocol, lifetime };
        let before = self.held.replace(Held { mapping, expires: now + lifetime });
        if before.is_none_or(|before| before.mapping.external != external || before.mapping.protocol != protocol) {
            self.events.push_back(PortMapEvent::Mapped(mapping));
        }
        (self.pcp.tries, self.natpmp.tries, self.told) = (None, None, false);
        self.talk(protocol).tries = Some(Tries::at(now + lifetime / 2));
    }

    fn on_refused(&mut self, now: Instant, protocol: MapProtocol, result: u16, rest: Duration) {
        self.tell(PortMapEvent::Refused { protocol, result });
        self.talk(protocol).tries = Some(Tries::at(now + rest.clamp(LEAST_REST, MOST_REST)));
    }

    /// Does what time has made due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(held) = self.held.take_if(|held| held.expires <= now) {
            self.events.push_back(PortMapEvent::Lost(held.mapping));
            self.pcp.tries = Some(Tries::at(now));
            self.natpmp.tries = Some(Tries::at(now + HEAD_START));
        }
        for protocol in [MapProtocol::Pcp, MapProtocol::NatPmp] {
            if let Some(tries) = self.talk(protocol).tries.filter(|tries| tries.next <= now) {
                self.ask(now, protocol, tries);
            }
        }
        let silent = self.pcp.tries.is_some_and(|tries| tries.count >= SILENT_TRIES) && self.natpmp.tries.is_none();
        if silent && self.held.is_none() && !std::mem::replace(&mut self.told, true) {
            self.tell(PortMapEvent::NotOffered);
        }
    }

    /// Once is enough, however often a router repeats itself before anybody listens.
    fn tell(&mut self, event: PortMapEvent) {
        if self.events.back() != Some(&event) {
            self.events.push_back(event);
        }
    }

    fn ask(&mut self, now: Instant, protocol: MapProtocol, mut tries: Tries) {
        tries.count += 1;
        let next = match protocol {
            MapProtocol::Pcp => {
                let pause = (tries.pause * 2).clamp(PCP_FIRST, PCP_LAST);
                // A tenth more or less.
                tries.pause = pause * 9 / 10 + self.rng.below(pause / 5);
                Some(Tries { next: now + tries.pause, ..tries })
            }
            MapProtocol::NatPmp => {
                tries.pause = (tries.pause * 2).max(NATPMP_FIRST);
                // While a mapping is held, the tries end with it.
                let more = tries.count < NATPMP_TRIES || self.held.is_some();
                more.then_some(Tries { next: now + tries.pause, ..tries })
            }
        };
        self.talk(protocol).tries = next;
        if next.is_none() && self.pcp.tries.is_none() {
            self.pcp.tries = Some(Tries::at(now + MOST_REST));
            self.tell(PortMapEvent::NotOffered);
        }
        self.request(protocol, LIFETIME);
    }

    fn request(&mut self, protocol: MapProtocol, lifetime: Duration) {
        let (internal, lifetime) = (self.internal, lifetime.as_secs() as u32);
        let suggested = self.held.as_ref().map(|held| held.mapping.external).filter(|_| lifetime > 0);
        match protocol {
            MapProtocol::Pcp => {
                let request = pcp::Request { client: self.client, nonce: self.nonce, internal, suggested, lifetime };
                self.push(|out| request.encode(out));
            }
            MapProtocol::NatPmp => {
                if lifetime > 0 {
                    self.push(|out| natpmp::Request::Address.encode(out));
                }
                // Its own port, if it may be: then the mapping for going out is the same.
                let suggested = match suggested {
                    Some(suggested) => suggested.port(),
                    None if lifetime > 0 => internal,
                    None => 0,
                };
                self.push(|out| natpmp::Request::Map { internal, suggested, lifetime }.encode(out));
            }
        }
    }

    fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        self.out.push_back(bytes);
    }

    /// Gives the mapping back, and asks for nothing any more: send what [`Self::poll_transmit`] has, and forget this.
    pub fn release(&mut self) {
        (self.pcp.tries, self.natpmp.tries) = (None, None);
        self.out.clear();
        if let Some(held) = self.held.take() {
            self.request(held.mapping.protocol, Duration::ZERO);
        }
    }

    /// The next datagram, and where it is to go; `None` when there is none.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        Some((SocketAddr::new(self.router.into(), SERVER_PORT), self.out.pop_front()?))
    }

    /// The next event; `None` when there is none.
    pub fn poll_event(&mut self) -> Option<PortMapEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tries = [&self.pcp, &self.natpmp].into_iter().filter_map(|talk| Some(talk.tries?.next));
        tries.chain(self.held.as_ref().map(|held| held.expires)).min()
    }
}

/// What can be somebody's address outside.
fn is_fit(external: SocketAddr) -> bool {
    let IpAddr::V4(ip) = external.ip() else { return false };
    external.port() != 0 && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], DropReason> {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).ok_or(DropReason::BadLength)
}

/// A router's answers, whatever they are: nothing panics, nothing grows, and a mapping is one that could be.
#[cfg(fuzzing)]
pub(crate) fn fuzz(data: &[u8], start: Instant) {
    let router = Ipv4Addr::new(192, 168, 1, 1);
    let mut now = start;
    let mut mapper = PortMapper::new(router, Ipv4Addr::new(192, 168, 1, 10), 5000, [1; 32], now);
    for chunk in data.chunks(64) {
        let (&[head, ref rest @ ..], mut bytes) = (chunk, Vec::new()) else { continue };
        // Some are made to look like answers to what was asked.
        bytes.extend_from_slice(rest);
        if head & 1 != 0 && bytes.len() >= 42 {
            bytes[24..36].copy_from_slice(&mapper.nonce);
            bytes[40..42].copy_from_slice(&5000u16.to_be_bytes());
        }
        mapper.handle_datagram(now, SocketAddr::new(router.into(), SERVER_PORT), &bytes);
        now += Duration::from_millis(u64::from(head) * 100);
        mapper.handle_timeout(now);
        assert!(mapper.poll_timeout().is_some_and(|at| at > now));
        let sent = std::iter::from_fn(|| mapper.poll_transmit()).count();
        let told = std::iter::from_fn(|| mapper.poll_event()).count();
        assert!(sent <= 3 && told <= 4);
        assert!(mapper.mapping().is_none_or(|mapping| is_fit(mapping.external)));
    }
}

#[cfg(test)]
mod tests;
