//! A mapper against routers that speak UPnP-IGD, of all kinds.

use std::collections::BTreeMap;

use super::*;
use crate::{MapProtocol, PortMapEvent, PortMapper, PortMapping};

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
const SECOND: Duration = Duration::from_secs(1);

/// A router that grants what it can.
struct Router {
    version: u8,
    location: String,
    /// Its ways out, by the path of their control; the address outside of each.
    outside: BTreeMap<&'static str, &'static str>,
    /// Ports that are somebody else's.
    taken: Vec<u16>,
    /// An error to each `AddPortMapping`.
    refuses: Option<u16>,
    permanent_only: bool,
    /// Says nothing by TCP.
    silent: bool,
    /// External port to lease.
    mapped: BTreeMap<u16, u32>,
    /// The actions that were called.
    calls: Vec<String>,
}

impl Router {
    fn new(version: u8) -> Self {
        Self {
            version,
            location: "http://192.168.1.1:5000/root.xml".into(),
            outside: BTreeMap::from([("/ctl", "198.51.100.2")]),
            taken: Vec::new(),
            refuses: None,
            permanent_only: false,
            silent: false,
            mapped: BTreeMap::new(),
            calls: Vec::new(),
        }
    }

    fn search(&self, to: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(bytes).ok()?;
        let target = text.lines().find_map(|line| line.strip_prefix("ST: "))?;
        let heard = to.port() == 1900 && (target.ends_with(":1") || self.version == 2);
        heard.then(|| format!("HTTP/1.1 200 OK\r\nST: {target}\r\nLOCATION: {}\r\n\r\n", self.location).into_bytes())
    }

    fn answer(&mut self, request: &PortMapRequest) -> Vec<u8> {
        assert_eq!(request.to, "192.168.1.1:5000".parse().unwrap());
        if self.silent {
            return Vec::new();
        }
        let text = std::str::from_utf8(&request.bytes).unwrap();
        let path = text.split(' ').nth(1).unwrap();
        let (status, body) = if text.starts_with("GET") { (200, self.description()) } else { self.call(path, text) };
        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn description(&self) -> String {
        let urn = format!("urn:schemas-upnp-org:service:WANIPConnection:{}", self.version);
        let services = self
            .outside
            .keys()
            .map(|path| format!("<service><serviceType>{urn}</serviceType><controlURL>{path}</controlURL></service>"));
        format!("<root>{}</root>", services.collect::<String>())
    }

    fn call(&mut self, path: &str, text: &str) -> (u16, String) {
        let action = text.split('#').nth(1).unwrap().split('"').next().unwrap().to_owned();
        let argument = |name: &str| text.split(&format!("<{name}>")).nth(1).and_then(|rest| rest.split('<').next());
        let number = |name: &str| argument(name).unwrap().parse::<u32>().unwrap();
        self.calls.push(action.clone());
        let done = |inner: &str| (200, format!("<{action}Response>{inner}</{action}Response>"));
        let refused = |code: u16| (500, format!("<Fault><errorCode>{code}</errorCode></Fault>"));
        match action.as_str() {
            "GetExternalIPAddress" => {
                done(&format!("<NewExternalIPAddress>{}</NewExternalIPAddress>", self.outside[path]))
            }
            "DeletePortMapping" => {
                self.mapped.remove(&(number("NewExternalPort") as u16));
                done("")
            }
            _ => {
                assert_eq!(argument("NewInternalClient"), Some("192.168.1.10"));
                let (mut port, lease) = (number("NewExternalPort") as u16, number("NewLeaseDuration"));
                match self.refuses {
                    Some(code) => return refused(code),
                    None if self.permanent_only && lease > 0 => return refused(725),
                    None if action == "AddAnyPortMapping" && self.version == 1 => return refused(401),
                    None if self.taken.contains(&port) && action == "AddPortMapping" => return refused(718),
                    None if self.taken.contains(&port) => port += 1,
                    None => {}
                }
                self.mapped.insert(port, lease);
                done(&format!("<NewReservedPort>{port}</NewReservedPort>"))
            }
        }
    }
}

struct Home {
    mapper: PortMapper,
    router: Router,
    now: Instant,
    searches: usize,
    events: Vec<PortMapEvent>,
}

impl Home {
    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn new(router: Router) -> Self {
        let now = Instant::now();
        let mapper = PortMapper::new(ROUTER, CLIENT, 5000, [1; 32], now);
        Self { mapper, router, now, searches: 0, events: Vec::new() }
    }

    fn exchange(&mut self) {
        while let Some((to, bytes)) = self.mapper.poll_transmit() {
            if let Some(answer) = self.router.search(to, &bytes) {
                self.searches += 1;
                self.mapper.handle_datagram(self.now, "192.168.1.1:1900".parse().unwrap(), &answer);
            }
        }
        while let Some(request) = self.mapper.poll_request() {
            let answer = self.router.answer(&request);
            self.mapper.handle_answer(self.now, &answer);
        }
        self.events.extend(std::iter::from_fn(|| self.mapper.poll_event()));
    }

    /// Time passes, a round trip to the router none.
    fn run(&mut self, for_: Duration) {
        let until = self.now + for_;
        loop {
            self.mapper.handle_timeout(self.now);
            self.exchange();
            let next = self.mapper.poll_timeout().filter(|next| *next <= until);
            self.now = next.unwrap_or(until).max(self.now);
            if next.is_none() {
                return;
            }
        }
    }

    fn mapped(&self) -> Option<String> {
        self.mapper.mapping().map(|mapping| mapping.to_string())
    }

    fn calls(&mut self) -> Vec<String> {
        std::mem::take(&mut self.router.calls)
    }
}

#[test]
fn a_router_of_the_first_version_maps_the_port_that_is_asked_for_is_renewed_and_gets_it_back() {
    let mut home = Home::new(Router::new(1));
    home.run(SECOND);
    assert_eq!(home.mapped().as_deref(), Some("198.51.100.2:5000 by UPnP-IGD, 3600 s"));
    assert_eq!(home.calls(), ["GetExternalIPAddress", "AddPortMapping"]);
    home.run(5500 * SECOND);
    assert_eq!(home.calls(), ["GetExternalIPAddress", "AddPortMapping"].repeat(3), "at 1800, 3600 and 5400 s");
    assert_eq!(home.events.len(), 1, "a renewal is no news: {:?}", home.events);
    home.mapper.release();
    home.exchange();
    assert_eq!((home.calls(), home.router.mapped.len()), (vec!["DeletePortMapping".into()], 0));
    assert_eq!(home.mapper.poll_timeout(), None);
}

#[test]
fn a_router_of_the_second_version_gives_another_port_by_itself() {
    let mut home = Home::new(Router::new(2));
    home.router.taken = vec![5000];
    home.run(SECOND);
    assert_eq!(home.mapped().as_deref(), Some("198.51.100.2:5001 by UPnP-IGD, 3600 s"));
    assert_eq!(home.calls(), ["GetExternalIPAddress", "AddAnyPortMapping"]);
    home.run(2000 * SECOND);
    assert_eq!((home.router.mapped.len(), home.events.len()), (1, 1), "it is the same that is renewed");
}

#[test]
fn a_port_that_is_somebody_elses_is_not_asked_for_twice() {
    let mut home = Home::new(Router::new(1));
    home.router.taken = vec![5000];
    home.run(SECOND);
    let port = home.mapper.mapping().unwrap().external.port();
    assert_eq!(home.calls(), ["GetExternalIPAddress", "AddPortMapping", "AddPortMapping"]);
    assert!(home.router.mapped.contains_key(&port) && port != 5000);
}

#[test]
fn a_router_that_maps_for_ever_only_gets_it_back_all_the_same() {
    for version in [1, 2] {
        let mut home = Home::new(Router::new(version));
        home.router.permanent_only = true;
        home.run(SECOND);
        assert_eq!(home.mapped().as_deref(), Some("198.51.100.2:5000 by UPnP-IGD, until it is given back"));
        assert_eq!(home.router.mapped, BTreeMap::from([(5000, 0)]));
        home.run(7200 * SECOND);
        assert_eq!((home.events.len(), home.router.mapped.len()), (1, 1));
        home.mapper.release();
        home.exchange();
        assert!(home.router.mapped.is_empty());
    }
}

#[test]
fn a_refusal_is_told_with_its_code_and_the_router_left_alone_ever_longer() {
    let mut home = Home::new(Router::new(1));
    home.router.refuses = Some(606);
    home.run(29 * SECOND);
    let refused = PortMapEvent::Refused { protocol: MapProtocol::UpnpIgd, result: 606 };
    let calls = home.calls().len();
    assert_eq!((home.events.as_slice(), calls), ([refused].as_slice(), 2));
    home.run(3600 * SECOND);
    assert!(home.calls().len() < 20);
    home.router.refuses = None;
    home.run(3600 * SECOND);
    assert!(home.mapped().is_some(), "should it be allowed");
}

#[test]
fn of_several_ways_out_the_first_with_an_address_is_taken() {
    let mut home = Home::new(Router::new(1));
    home.router.outside =
        BTreeMap::from([("/a", ""), ("/b", "0.0.0.0"), ("/c", "198.51.100.9"), ("/d", "198.51.100.8")]);
    home.run(SECOND);
    assert_eq!(home.mapped().as_deref(), Some("198.51.100.9:5000 by UPnP-IGD, 3600 s"));
}

#[test]
fn a_router_that_stops_answering_keeps_the_mapping_until_it_runs_out_and_is_searched_for() {
    let mut home = Home::new(Router::new(1));
    home.run(SECOND);
    home.router.silent = true;
    home.run(3000 * SECOND);
    assert!(home.mapped().is_some());
    let searches = home.searches;
    home.run(1000 * SECOND);
    assert_eq!((home.mapped(), home.events.len()), (None, 2));
    assert!(home.searches > searches);
    home.router.silent = false;
    home.run(1900 * SECOND);
    assert!(home.mapped().is_some());
}

#[test]
fn whoever_points_elsewhere_is_not_followed() {
    for location in ["http://127.0.0.1:5000/root.xml", "http://192.168.1.2:5000/root.xml", "https://192.168.1.1/"] {
        let mut router = Router::new(1);
        router.location = location.into();
        let mut home = Home::new(router);
        home.run(60 * SECOND);
        assert_eq!((home.mapped(), home.calls().len()), (None, 0));
        assert!(home.mapper.drops().of(DropReason::BadLocation) > 0);
    }
    let mut home = Home::new(Router::new(1));
    home.mapper.handle_timeout(home.now + SECOND);
    let answer = home
        .router
        .search("192.168.1.1:1900".parse().unwrap(), b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1");
    home.mapper.handle_datagram(home.now, "192.168.1.7:1900".parse().unwrap(), &answer.unwrap());
    assert!(home.mapper.poll_request().is_none(), "another machine of the network");
    assert_eq!(home.mapper.drops().of(DropReason::UnknownConnection), 1);
}

/// The router grants by NAT-PMP: its address, and this port.
fn natpmp(home: &mut Home, external: u16) {
    let from = "192.168.1.1:5351".parse().unwrap();
    let [high, low] = external.to_be_bytes();
    home.mapper.handle_datagram(home.now, from, &[0, 128, 0, 0, 0, 0, 0, 9, 198, 51, 100, 2]);
    home.mapper.handle_datagram(home.now, from, &[0, 129, 0, 0, 0, 0, 0, 9, 0x13, 0x88, high, low, 0, 0, 0x0e, 0x10]);
}

#[test]
fn what_is_granted_after_another_protocol_was_faster_is_given_back_unless_it_is_the_same() {
    for (external, left) in [(41_234, 0), (5000, 1)] {
        let mut home = Home::new(Router::new(1));
        home.mapper.handle_timeout(home.now + SECOND);
        home.now += SECOND;
        let asked = loop {
            while let Some((to, bytes)) = home.mapper.poll_transmit() {
                if let Some(answer) = home.router.search(to, &bytes) {
                    home.mapper.handle_datagram(home.now, "192.168.1.1:1900".parse().unwrap(), &answer);
                }
            }
            let request = home.mapper.poll_request().unwrap();
            let answer = home.router.answer(&request);
            if home.router.calls.last().is_some_and(|action| action == "AddPortMapping") {
                break answer;
            }
            home.mapper.handle_answer(home.now, &answer);
        };
        natpmp(&mut home, external);
        home.mapper.handle_answer(home.now, &asked);
        home.run(SECOND);
        let mapping = home.mapper.mapping().unwrap();
        assert_eq!((mapping.protocol, mapping.external.port()), (MapProtocol::NatPmp, external));
        assert_eq!(home.router.mapped.len(), left);
    }
}

#[test]
fn a_mapping_says_how_long_it_lasts() {
    let external = "198.51.100.2:7".parse().unwrap();
    let mapping = PortMapping { external, protocol: MapProtocol::UpnpIgd, lifetime: None };
    assert_eq!(mapping.to_string(), "198.51.100.2:7 by UPnP-IGD, until it is given back");
}
