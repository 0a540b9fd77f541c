//! A mapper against routers of all kinds that speak PCP or NAT-PMP; `igd/tests.rs` has the others.

use super::*;

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const SECOND: Duration = Duration::from_secs(1);

/// What a router speaks.
#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    Pcp,
    /// And says so to PCP.
    NatPmp,
    /// And says nothing to PCP.
    NatPmpOnly,
    Nothing,
    /// PCP, and refuses.
    Refusal,
}

struct Home {
    mapper: PortMapper,
    now: Instant,
    start: Instant,
    speaks: Speaks,
    port: u16,
    lifetime: u32,
    /// When the router started.
    up: Instant,
    /// Lifetimes asked for, and when.
    asked: Vec<(Duration, u32)>,
    events: Vec<(Duration, PortMapEvent)>,
}

impl Home {
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn new(speaks: Speaks) -> Self {
        let now = Instant::now();
        let mapper = PortMapper::new(ROUTER, Ipv4Addr::new(192, 168, 1, 10), 5000, [1; 32], now);
        let (asked, events) = (Vec::new(), Vec::new());
        Self { mapper, now, start: now, speaks, port: 41_234, lifetime: 3600, up: now, asked, events }
    }

    fn answer(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let epoch = (self.now - self.up).as_secs() as u32 + 1000;
        let external = SocketAddr::new(OUTSIDE.into(), self.port);
        let version = bytes[0];
        if version == pcp::VERSION || bytes[1] == 1 {
            let at = if version == pcp::VERSION { 4 } else { 8 };
            self.asked.push((self.now - self.start, u32::from_be_bytes(array(bytes, at).unwrap())));
        }
        match (self.speaks, version, bytes[1]) {
            (Speaks::Pcp | Speaks::Refusal, pcp::VERSION, _) => {
                let (nonce, internal) = (array(bytes, 24).unwrap(), u16::from_be_bytes(array(bytes, 40).unwrap()));
                let result = if self.speaks == Speaks::Refusal { 2 } else { 0 };
                pcp::Response { result, lifetime: self.lifetime, epoch, nonce, internal, external }.encode(&mut out);
            }
            (Speaks::NatPmp, pcp::VERSION, _) => natpmp::Response::Error { result: 1 }.encode(&mut out),
            (Speaks::NatPmp | Speaks::NatPmpOnly, natpmp::VERSION, 0) => {
                natpmp::Response::Address { epoch, ip: OUTSIDE }.encode(&mut out);
            }
            (Speaks::NatPmp | Speaks::NatPmpOnly, natpmp::VERSION, 1) => {
                let (internal, external) = (u16::from_be_bytes(array(bytes, 4).unwrap()), self.port);
                natpmp::Response::Map { epoch, internal, external, lifetime: self.lifetime }.encode(&mut out);
            }
            _ => return None,
        }
        Some(out)
    }

    /// Time passes, a round trip to the router none.
    fn run(&mut self, for_: Duration) {
        let until = self.now + for_;
        loop {
            self.mapper.handle_timeout(self.now);
            while let Some((to, bytes)) = self.mapper.poll_transmit() {
                // UPnP-IGD's search, which none of these answers.
                if to.port() == 1900 {
                    continue;
                }
                assert_eq!(to, "192.168.1.1:5351".parse().unwrap());
                if let Some(answer) = self.answer(&bytes) {
                    self.mapper.handle_datagram(self.now, to, &answer);
                }
            }
            while let Some(event) = self.mapper.poll_event() {
                self.events.push((self.now - self.start, event));
            }
            let next = self.mapper.poll_timeout().filter(|next| *next <= until);
            self.now = next.unwrap_or(until).max(self.now);
            if next.is_none() {
                return;
            }
        }
    }

    fn mapped(&self) -> Option<MapProtocol> {
        self.mapper.mapping().map(|mapping| mapping.protocol)
    }
}

#[test]
fn a_router_with_pcp_is_asked_once_and_renewed_at_half_the_lifetime() {
    let mut home = Home::new(Speaks::Pcp);
    home.run(5500 * SECOND);
    let external = SocketAddr::new(OUTSIDE.into(), 41_234);
    let mapping = PortMapping { external, protocol: MapProtocol::Pcp, lifetime: Some(LIFETIME) };
    assert_eq!(home.events, [(Duration::ZERO, PortMapEvent::Mapped(mapping))], "a renewal is no news");
    let at: Vec<u64> = home.asked.iter().map(|(at, _)| at.as_secs()).collect();
    assert_eq!(at, [0, 1800, 3600, 5400]);
    assert_eq!(mapping.to_string(), "198.51.100.2:41234 by PCP, 3600 s");
}

#[test]
fn a_router_with_nat_pmp_alone_is_found_whether_it_answers_pcp_or_not() {
    for (speaks, within) in [(Speaks::NatPmp, Duration::ZERO), (Speaks::NatPmpOnly, HEAD_START)] {
        let mut home = Home::new(speaks);
        home.run(within);
        assert_eq!(home.mapped(), Some(MapProtocol::NatPmp));
        home.run(9000 * SECOND);
        assert_eq!((home.mapped(), home.events.len()), (Some(MapProtocol::NatPmp), 1));
        let renewals = home.asked.iter().filter(|(at, _)| *at > SECOND).count();
        assert_eq!(renewals, 5, "{:?}", home.asked);
    }
}

#[test]
fn a_router_that_offers_nothing_is_asked_ever_more_seldom_and_that_is_told_once() {
    let mut home = Home::new(Speaks::Nothing);
    home.run(3600 * SECOND);
    assert_eq!(home.events.iter().map(|(_, event)| *event).collect::<Vec<_>>(), [PortMapEvent::NotOffered]);
    assert!(home.asked.len() < 25, "{}", home.asked.len());
    home.speaks = Speaks::Pcp;
    home.run(1200 * SECOND);
    assert_eq!(home.mapped(), Some(MapProtocol::Pcp), "should it be switched on");
}

#[test]
fn a_refusal_is_told_and_the_router_left_alone_for_as_long_as_it_says() {
    let mut home = Home::new(Speaks::Refusal);
    (home.lifetime, home.port) = (600, 1);
    home.run(599 * SECOND);
    let refused = PortMapEvent::Refused { protocol: MapProtocol::Pcp, result: 2 };
    assert_eq!(home.events, [(Duration::ZERO, refused)]);
    home.run(2 * SECOND);
    assert_eq!(home.events.len(), 2);
}

#[test]
fn a_router_that_falls_silent_loses_the_mapping_when_it_runs_out_and_not_before() {
    let mut home = Home::new(Speaks::Pcp);
    home.run(SECOND);
    let mapping = home.mapper.mapping().unwrap();
    home.speaks = Speaks::Nothing;
    home.run(3598 * SECOND);
    assert!(home.mapper.mapping().is_some());
    home.run(2 * SECOND);
    assert_eq!(home.events.last().unwrap().1, PortMapEvent::Lost(mapping));
    assert!(home.mapper.mapping().is_none());
    home.speaks = Speaks::Pcp;
    home.run(600 * SECOND);
    assert!(home.mapper.mapping().is_some());
}

#[test]
fn a_router_that_started_anew_is_asked_again_at_once() {
    let mut home = Home::new(Speaks::NatPmp);
    home.run(1799 * SECOND);
    let asked = home.asked.len();
    home.up = home.now;
    // Something of the router's that tells its clock: as after a start, an announcement of its address.
    let mut bytes = Vec::new();
    natpmp::Response::Address { epoch: 1000, ip: OUTSIDE }.encode(&mut bytes);
    home.mapper.handle_datagram(home.now, "192.168.1.1:5351".parse().unwrap(), &bytes);
    home.run(Duration::ZERO);
    assert_eq!(home.asked.len(), asked + 1);
}

#[test]
fn clocks_that_go_on_are_told_from_those_that_start_anew() {
    let now = Home::new(Speaks::Nothing).now;
    let epoch = Epoch { seconds: 1000, at: now };
    for (after, seconds, goes_on) in [
        (0, 1000, true),
        (0, 999, true),
        (0, 998, false),
        (100, 1100, true),
        (100, 1094, true),
        (100, 1080, false),
        (100, 1300, false),
        (100, 5, false),
    ] {
        assert_eq!(epoch.goes_on(now + after * SECOND, seconds), goes_on, "{after} s, {seconds}");
    }
}

#[test]
fn what_was_mapped_is_given_back_by_the_same_protocol() {
    for speaks in [Speaks::Pcp, Speaks::NatPmp] {
        let mut home = Home::new(speaks);
        home.run(SECOND);
        home.mapper.release();
        home.run(3600 * SECOND);
        assert_eq!(home.asked.last(), Some(&(SECOND, 0)));
        assert!(home.mapper.poll_timeout().is_none());
    }
    let mut home = Home::new(Speaks::Nothing);
    home.run(SECOND);
    home.mapper.release();
    assert!(home.mapper.poll_transmit().is_none(), "nothing was mapped");
}

#[test]
fn only_the_router_and_answers_to_our_own_questions_count() {
    let mut home = Home::new(Speaks::Nothing);
    home.run(Duration::ZERO);
    let external = SocketAddr::new(OUTSIDE.into(), 1);
    let right = pcp::Response { result: 0, lifetime: 60, epoch: 1, nonce: home.mapper.nonce, internal: 5000, external };
    let mut say = |from: &str, response: pcp::Response| {
        let mut bytes = Vec::new();
        response.encode(&mut bytes);
        home.mapper.handle_datagram(home.now, from.parse().unwrap(), &bytes);
        home.mapper.mapping().is_some()
    };
    assert!(!say("192.168.1.2:5351", right));
    assert!(!say("192.168.1.1:5350", right));
    assert!(!say("192.168.1.1:5351", pcp::Response { nonce: [0; 12], ..right }));
    assert!(!say("192.168.1.1:5351", pcp::Response { internal: 5001, ..right }));
    assert!(!say("192.168.1.1:5351", pcp::Response { external: "127.0.0.1:5".parse().unwrap(), ..right }));
    assert!(say("192.168.1.1:5351", right));
    assert_eq!(home.mapper.drops().total(), 4);
}
