//! UPnP's Internet Gateway Device: the router is searched for by SSDP, describes itself in XML, and is called by SOAP.
//!
//! One question at a time. Of several ways out that a router offers the first is taken that has an address outside and
//! grants a port.

mod http;
mod soap;
mod ssdp;

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use super::{LEAST_REST, LIFETIME, MOST_REST, is_fit};
use crate::{drops::DropReason, rng::Rng};
use http::{Answer, Url};
use soap::{Call, Kind, Reply, Service, Terms};

/// Pause after a search that nobody answers, doubled each time up to [`MOST_REST`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Other ports that are tried where one is somebody else's.
const MOST_CONFLICTS: u32 = 4;
/// Error codes (WANIPConnection:2, section 2.5): the port is another mapping's, or another mechanism's; the router maps
/// ports for ever or not at all.
const CONFLICTS: [u16; 2] = [718, 729];
const PERMANENT_ONLY: u16 = 725;

/// A request to the router by a TCP connection of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapRequest {
    /// Where to connect: an address of the router's.
    pub to: SocketAddr,
    /// What to send.
    pub bytes: Vec<u8>,
}

impl PortMapRequest {
    /// An answer with more bytes is not taken: there is no need to read on.
    pub const MAX_ANSWER: usize = http::MAX_ANSWER + 1;

    /// Whether what has come is all that there is to wait for, be it an answer or nonsense.
    pub fn is_answered(bytes: &[u8]) -> bool {
        !matches!(Answer::read(bytes, false), Ok(None))
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// `lease`: none if for ever.
    Granted { external: SocketAddr, lease: Option<Duration> },
    /// No way out would, the last one for this reason.
    Refused(u16),
}

/// What is waited for.
enum Step {
    /// Nothing but time.
    Rest,
    /// Somebody who answers the search.
    Search,
    /// The description.
    Describe(Url),
    /// A reply.
    Call(Service, Call),
}

/// The conversation with one router.
pub(super) struct Igd {
    router: Ipv4Addr,
    client: Ipv4Addr,
    internal: u16,
    /// A mapping is to be had.
    wanted: bool,
    step: Step,
    /// When to search, or renew.
    next: Option<Instant>,
    pause: Duration,
    /// Searches that nobody has answered.
    searches: u32,
    /// Ways out not tried yet.
    services: VecDeque<Service>,
    /// By which the mapping was granted.
    granted_by: Option<Service>,
    /// It would not renew it, or has gone elsewhere.
    astray: bool,
    /// The port outside that was granted last, to be asked for again.
    port: Option<u16>,
    address: Option<Ipv4Addr>,
    conflicts: u32,
    request: Option<PortMapRequest>,
}

impl Igd {
    pub(super) fn new(router: Ipv4Addr, client: Ipv4Addr, internal: u16, start: Instant) -> Self {
        Self {
            router,
            client,
            internal,
            wanted: true,
            step: Step::Rest,
            next: Some(start),
            pause: FIRST_PAUSE,
            searches: 0,
            services: VecDeque::new(),
            granted_by: None,
            astray: false,
            port: None,
            address: None,
            conflicts: 0,
            request: None,
        }
    }

    /// How often the router has been searched for in vain.
    pub(super) fn searches(&self) -> u32 {
        self.searches
    }

    /// When to call [`Self::handle_timeout`] next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// The next request; it takes the last one's place.
    pub(super) fn poll_request(&mut self) -> Option<PortMapRequest> {
        self.request.take()
    }

    /// Begins anew.
    pub(super) fn start(&mut self, at: Instant) {
        (self.wanted, self.pause) = (true, FIRST_PAUSE);
        if matches!(self.step, Step::Rest | Step::Search) {
            self.next = Some(at);
        }
    }

    /// Another protocol was faster. A mapping that has been asked for may still be granted.
    pub(super) fn stop(&mut self) {
        (self.wanted, self.next) = (false, None);
        if !matches!(self.step, Step::Call(_, Call::Add(_) | Call::AddAny(_))) {
            (self.step, self.request) = (Step::Rest, None);
        }
    }

    /// What was granted is another protocol's mapping as well: it is not given back.
    pub(super) fn forget(&mut self) {
        self.granted_by = None;
    }

    /// Gives back what was granted, or may be about to.
    pub(super) fn release(&mut self) {
        (self.wanted, self.next, self.request) = (false, None, None);
        match (std::mem::replace(&mut self.step, Step::Rest), self.granted_by.take(), self.port) {
            (Step::Call(service, Call::Add(Terms { external, .. })), ..) | (_, Some(service), Some(external)) => {
                self.call(service, Call::Delete { external });
            }
            _ => {}
        }
    }

    /// Does what time has made due; what is to be sent goes to `out`.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<(SocketAddr, Vec<u8>)>) {
        if self.next.take_if(|next| *next <= now).is_none() {
            return;
        }
        self.conflicts = 0;
        match self.granted_by.clone().filter(|_| !self.astray) {
            // The address may be another one by now.
            Some(service) => self.call(service, Call::ExternalAddress),
            None => {
                self.searches = self.searches.saturating_add(1);
                out.extend(ssdp::search(self.router));
                self.back_off(now, FIRST_PAUSE);
                self.step = Step::Search;
            }
        }
    }

    /// Takes a datagram from the router.
    pub(super) fn handle_datagram(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        let url = ssdp::location(bytes, self.router)?;
        // It answers to several names, each time it is asked.
        if matches!(self.step, Step::Search) {
            (self.searches, self.next) = (0, None);
            self.request = Some(PortMapRequest { to: url.host.into(), bytes: http::get(&url) });
            self.step = Step::Describe(url);
        }
        Ok(())
    }

    /// Takes all that came to the last request, which may be nothing.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        bytes: &[u8],
        rng: &mut Rng,
    ) -> Result<Option<Outcome>, DropReason> {
        let taken = match std::mem::replace(&mut self.step, Step::Rest) {
            Step::Describe(url) => read(bytes).and_then(|answer| soap::services(&answer, &url)).map(|services| {
                self.services = services.into();
                self.go_on(now, None)
            }),
            Step::Call(service, call) => read(bytes)
                .and_then(|answer| Reply::read(&answer, call))
                .and_then(|reply| self.on_reply(now, service, call, reply, rng)),
            other => {
                self.step = other;
                Ok(None)
            }
        };
        taken.inspect_err(|_| {
            self.go_on(now, None);
        })
    }

    fn on_reply(
        &mut self,
        now: Instant,
        service: Service,
        call: Call,
        reply: Reply,
        rng: &mut Rng,
    ) -> Result<Option<Outcome>, DropReason> {
        Ok(match (call, reply) {
            (Call::Delete { .. }, _) => None,
            (_, Reply::Mapped { external: 0 }) => return Err(DropReason::BadAnswer),
            (Call::Add(terms) | Call::AddAny(terms), Reply::Mapped { external }) => {
                self.on_mapped(now, service, Terms { external, ..terms })
            }
            (_, Reply::Address(Some(address))) if is_fit(SocketAddr::from((address, self.internal))) => {
                self.address = Some(address);
                let (internal, client) = (self.internal, self.client);
                let external = self.port.unwrap_or(internal);
                let terms = Terms { external, internal, client, lease: LIFETIME.as_secs() as u32 };
                let any = service.kind == Kind::Ip2 && self.port.is_none();
                self.call(service, if any { Call::AddAny(terms) } else { Call::Add(terms) });
                None
            }
            // Not connected, at least not that way.
            (_, Reply::Address(_)) => self.go_on(now, None),
            (Call::Add(terms) | Call::AddAny(terms), Reply::Refused(code)) if self.wanted => {
                match self.another(call, terms, code, rng) {
                    Some(call) => {
                        self.call(service, call);
                        None
                    }
                    None => self.go_on(now, Some(code)),
                }
            }
            (_, Reply::Refused(code)) => self.go_on(now, Some(code)),
            _ => return Err(DropReason::BadAnswer),
        })
    }

    fn on_mapped(&mut self, now: Instant, service: Service, terms: Terms) -> Option<Outcome> {
        let external = SocketAddr::from((self.address?, terms.external));
        (self.granted_by, self.port, self.astray) = (Some(service), Some(terms.external), false);
        (self.pause, self.searches) = (FIRST_PAUSE, 0);
        self.next = self.wanted.then(|| now + LIFETIME / 2);
        Some(Outcome::Granted { external, lease: (terms.lease > 0).then_some(LIFETIME) })
    }

    /// What to ask for instead.
    fn another(&mut self, call: Call, terms: Terms, code: u16, rng: &mut Rng) -> Option<Call> {
        match call {
            _ if code == PERMANENT_ONLY && terms.lease > 0 => Some(Call::Add(Terms { lease: 0, ..terms })),
            // It may not know the action, whatever it says.
            Call::AddAny(_) => Some(Call::Add(terms)),
            _ if CONFLICTS.contains(&code) && self.conflicts < MOST_CONFLICTS => {
                self.conflicts += 1;
                let external = 1024 + u16::from_be_bytes(rng.bytes()) % (u16::MAX - 1024);
                Some(Call::Add(Terms { external, ..terms }))
            }
            _ => None,
        }
    }

    /// Tries the next way out, or everything again later. `refused`: the reason that the last one gave.
    fn go_on(&mut self, now: Instant, refused: Option<u16>) -> Option<Outcome> {
        self.astray = true;
        if !self.wanted {
            return None;
        }
        if let Some(service) = self.services.pop_front() {
            self.call(service, Call::ExternalAddress);
            return None;
        }
        self.back_off(now, if refused.is_some() { LEAST_REST } else { FIRST_PAUSE });
        refused.map(Outcome::Refused)
    }

    fn back_off(&mut self, now: Instant, least: Duration) {
        let pause = self.pause.max(least);
        (self.next, self.pause) = (Some(now + pause), (pause * 2).min(MOST_REST));
    }

    fn call(&mut self, service: Service, call: Call) {
        self.request = Some(PortMapRequest { to: service.control.host.into(), bytes: call.request(&service) });
        self.step = Step::Call(service, call);
    }
}

fn read(bytes: &[u8]) -> Result<Answer, DropReason> {
    Answer::read(bytes, true)?.ok_or(DropReason::BadAnswer)
}

#[cfg(test)]
mod tests;
