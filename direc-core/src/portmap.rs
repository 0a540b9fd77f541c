//! Asks the router for a port that leads to this peer from outside, by PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP-IGD:
//! renewed at half its lifetime, asked for anew when the router has forgotten it, and given back at the end.
//!
//! PCP goes first. A router that speaks NAT-PMP alone says so (RFC 6887, appendix A) or says nothing; then NAT-PMP is
//! tried and UPnP-IGD beside it, and the first that grants a mapping is stayed with. The others would name the same one:
//! they are not asked to delete it.

mod epoch;
#[cfg(fuzzing)]
mod fuzz;
mod igd;
mod mapping;
mod natpmp;
mod pcp;

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    drops::{DropReason, Drops},
    rng::Rng,
};
use epoch::Epoch;
#[cfg(fuzzing)]
pub(crate) use fuzz::fuzz;
pub use igd::PortMapRequest;
use igd::{Igd, Outcome};
pub use mapping::{MapProtocol, PortMapEvent, PortMapping};

/// The router's port of PCP and NAT-PMP.
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
/// How long PCP is waited for before NAT-PMP and UPnP-IGD are tried as well.
const HEAD_START: Duration = Duration::from_millis(500);
/// After so many tries in PCP or UPnP-IGD without an answer the router is taken not to speak it; the tries go on.
const SILENT_TRIES: u32 = 3;
/// After an error the router is left alone at least for the first, and at most for the second.
const LEAST_REST: Duration = Duration::from_secs(30);
const MOST_REST: Duration = Duration::from_secs(1800);

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

/// A mapping that is held.
struct Held {
    mapping: PortMapping,
    expires: Instant,
}

/// PCP's side of it, or NAT-PMP's.
struct Talk {
    /// `None`: not tried now.
    tries: Option<Tries>,
    epoch: Option<Epoch>,
}

/// Keeps a port mapped at one router, by IPv4. As pure as all of this crate: see its contract. Its datagrams go to the
/// router from a socket of their own, and requests by a TCP connection each.
pub struct PortMapper {
    router: Ipv4Addr,
    /// This machine's address towards the router, and the port to be reached.
    client: Ipv4Addr,
    internal: u16,
    nonce: pcp::Nonce,
    pcp: Talk,
    natpmp: Talk,
    igd: Igd,
    /// NAT-PMP's halves of an answer.
    address: Option<Ipv4Addr>,
    held: Option<Held>,
    /// That the router offers nothing has been told.
    told: bool,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
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
            igd: Igd::new(router, client, internal, now + HEAD_START),
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

    /// Datagrams and answers that were not taken, by reason.
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
        match (from.ip() == self.router, from.port()) {
            (false, _) => return Err(DropReason::UnknownConnection),
            (true, SERVER_PORT) => {}
            // From any port.
            (true, _) => return self.igd.handle_datagram(bytes),
        }
        match bytes.first() {
            None => Err(DropReason::Empty),
            Some(&pcp::VERSION) => self.on_pcp(now, &pcp::Response::decode(bytes)?),
            Some(&natpmp::VERSION) => self.on_natpmp(now, natpmp::Response::decode(bytes)?),
            Some(_) => Err(DropReason::UnknownType),
        }
    }

    /// Takes the answer to the last request, all that has come until [`PortMapRequest::is_answered`] or the end; nothing,
    /// if there was none within a few seconds.
    pub fn handle_answer(&mut self, now: Instant, bytes: &[u8]) {
        match self.igd.handle_answer(now, bytes, &mut self.rng) {
            Ok(None) => {}
            Ok(Some(Outcome::Refused(result))) => {
                self.tell(PortMapEvent::Refused { protocol: MapProtocol::UpnpIgd, result })
            }
            Ok(Some(Outcome::Granted { external, lease })) => match self.mapping() {
                // Too late: another protocol was faster.
                Some(held) if held.protocol != MapProtocol::UpnpIgd && held.external.port() != external.port() => {
                    self.igd.release();
                }
                Some(held) if held.protocol != MapProtocol::UpnpIgd => self.igd.forget(),
                _ => self.on_granted(now, MapProtocol::UpnpIgd, external, lease),
            },
            Err(reason) => self.drops.count(reason),
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
        self.on_granted(now, MapProtocol::Pcp, response.external, Some(lifetime));
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
                    self.on_granted(now, MapProtocol::NatPmp, external, Some(lifetime));
                }
            }
        }
        Ok(())
    }

    /// UPnP-IGD keeps its own time.
    fn talk(&mut self, protocol: MapProtocol) -> Option<&mut Talk> {
        match protocol {
            MapProtocol::Pcp => Some(&mut self.pcp),
            MapProtocol::NatPmp => Some(&mut self.natpmp),
            MapProtocol::UpnpIgd => None,
        }
    }

    fn try_at(&mut self, protocol: MapProtocol, at: Instant) {
        if let Some(talk) = self.talk(protocol) {
            talk.tries = Some(Tries::at(at));
        }
    }

    /// A router that has started anew has no mapping of ours any more: it is asked for at once.
    fn on_epoch(&mut self, now: Instant, protocol: MapProtocol, seconds: u32) {
        let Some(talk) = self.talk(protocol) else { return };
        let before = talk.epoch.replace(Epoch { seconds, at: now });
        if before.is_some_and(|epoch| !epoch.goes_on(now, seconds)) {
            self.try_at(protocol, now);
        }
    }

    fn on_granted(&mut self, now: Instant, protocol: MapProtocol, external: SocketAddr, lifetime: Option<Duration>) {
        let lifetime = lifetime.map(|lifetime| lifetime.clamp(SHORTEST, LONGEST));
        let mapping = PortMapping { external, protocol, lifetime };
        // What is never renewed may be gone all the same.
        let lasts = lifetime.unwrap_or(LIFETIME);
        let before = self.held.replace(Held { mapping, expires: now + lasts });
        if before.is_none_or(|before| before.mapping.external != external || before.mapping.protocol != protocol) {
            self.events.push_back(PortMapEvent::Mapped(mapping));
        }
        (self.pcp.tries, self.natpmp.tries, self.told) = (None, None, false);
        self.try_at(protocol, now + lasts / 2);
        if protocol != MapProtocol::UpnpIgd {
            self.igd.stop();
        }
    }

    fn on_refused(&mut self, now: Instant, protocol: MapProtocol, result: u16, rest: Duration) {
        self.tell(PortMapEvent::Refused { protocol, result });
        self.try_at(protocol, now + rest.clamp(LEAST_REST, MOST_REST));
    }

    /// Does what time has made due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(held) = self.held.take_if(|held| held.expires <= now) {
            self.events.push_back(PortMapEvent::Lost(held.mapping));
            self.pcp.tries = Some(Tries::at(now));
            self.natpmp.tries = Some(Tries::at(now + HEAD_START));
            self.igd.start(now + HEAD_START);
        }
        for protocol in [MapProtocol::Pcp, MapProtocol::NatPmp] {
            let tries = self.talk(protocol).and_then(|talk| talk.tries);
            if let Some(tries) = tries.filter(|tries| tries.next <= now) {
                self.ask(now, protocol, tries);
            }
        }
        self.igd.handle_timeout(now, &mut self.out);
        let silent = self.pcp.tries.is_some_and(|tries| tries.count >= SILENT_TRIES)
            && self.natpmp.tries.is_none()
            && self.igd.searches() >= SILENT_TRIES;
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
        let next = if protocol == MapProtocol::Pcp {
            let pause = (tries.pause * 2).clamp(PCP_FIRST, PCP_LAST);
            // A tenth more or less.
            tries.pause = pause * 9 / 10 + self.rng.below(pause / 5);
            Some(Tries { next: now + tries.pause, ..tries })
        } else {
            tries.pause = (tries.pause * 2).max(NATPMP_FIRST);
            // While a mapping is held, the tries end with it.
            let more = tries.count < NATPMP_TRIES || self.held.is_some();
            more.then_some(Tries { next: now + tries.pause, ..tries })
        };
        if let Some(talk) = self.talk(protocol) {
            talk.tries = next;
        }
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
            MapProtocol::UpnpIgd => {}
        }
    }

    fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        self.out.push_back((SocketAddr::new(self.router.into(), SERVER_PORT), bytes));
    }

    /// Gives the mapping back, and asks for nothing any more: send what [`Self::poll_transmit`] and
    /// [`Self::poll_request`] have, and forget this.
    pub fn release(&mut self) {
        (self.pcp.tries, self.natpmp.tries) = (None, None);
        self.out.clear();
        match self.held.take().map(|held| held.mapping.protocol) {
            // One may be on its way.
            None | Some(MapProtocol::UpnpIgd) => self.igd.release(),
            Some(protocol) => {
                self.igd.stop();
                self.request(protocol, Duration::ZERO);
            }
        }
    }

    /// The next datagram, and where it is to go; `None` when there is none.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    /// The next request by TCP; `None` when there is none. It takes the place of the last one, if that is still
    /// unanswered.
    pub fn poll_request(&mut self) -> Option<PortMapRequest> {
        self.igd.poll_request()
    }

    /// The next event; `None` when there is none.
    pub fn poll_event(&mut self) -> Option<PortMapEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tries = [&self.pcp, &self.natpmp].into_iter().filter_map(|talk| Some(talk.tries?.next));
        tries.chain(self.held.as_ref().map(|held| held.expires)).chain(self.igd.poll_timeout()).min()
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

#[cfg(test)]
mod tests;
