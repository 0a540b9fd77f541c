//! A relay on real sockets.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use direc_core::{
    Access, Arrival, ConfigError, Identity, Link, NodeId, PeerName, Quotas, RelayConfig, RelayEvent, RelayLimits,
    RelayStats, RelayUrl, Transmit,
};
use rustls::KeyLog;

#[cfg(feature = "acme")]
use crate::{AcmeOptions, https::Acme};
use crate::{
    BindError, HttpsKey, HttpsLimits, HttpsStats, RelayNews, RelayWatch, driver,
    feed::Feed,
    https::{Counters, CurrentKey, Listener, describe, serve},
    node::{Guard, Machine, Node},
    provider,
    signal::Wakes,
    socket::Socket,
};

/// A drain takes no longer: a day, lest the clock overflow.
const LONGEST_DRAIN: Duration = Duration::from_secs(86_400);

/// How a [`RelayServer`] is set up.
#[derive(Clone)]
pub struct RelayOptions {
    /// The relay's key.
    pub identity: Identity,
    /// The address of its QUIC socket; port 0: the system picks.
    pub listen: SocketAddr,
    /// The ports of its hole-punch sockets, on the same IP address; 0: the system picks; none: two that it picks.
    pub punch_ports: Vec<u16>,
    /// The port it knocks from when a peer asks for that, to learn what its NAT does with a packet that it has not asked
    /// for; 0: the system picks; `None`: it does not knock. With it there are at most seven hole-punch ports.
    pub knock_port: Option<u16>,
    /// The specification's delay between telling P4 and telling P2. 0.
    pub delay: Duration,
    /// Where its UDP sockets are reached, a name or an address, if not at the host whose HTTPS port describes it.
    pub public_host: Option<String>,
    /// What its peers are called; [`RelayServer::set_names`] changes it.
    pub names: BTreeMap<PeerName, NodeId>,
    /// The limits.
    pub limits: RelayLimits,
    /// Who may use it, and for what. Everybody by default.
    pub access: Access,
    /// What it gives in a time. No limit by default.
    pub quotas: Quotas,
    /// Where to answer HTTPS, for peers that UDP does not reach; port 0: the system picks. `None`, the default: nowhere.
    pub https: Option<(SocketAddr, HttpsKey)>,
    /// Has an authority certify that key, whose certificate stands in until then. `None`, the default: nobody is asked.
    /// Without `https` it does nothing.
    #[cfg(feature = "acme")]
    pub acme: Option<AcmeOptions>,
    /// What that takes upon itself at most.
    pub https_limits: HttpsLimits,
    /// Where TLS secrets are written, for Wireshark. `None`, the default, writes none.
    pub key_log: Option<Arc<dyn KeyLog>>,
}

impl RelayOptions {
    /// Default settings.
    pub fn new(identity: Identity, listen: SocketAddr) -> Self {
        Self {
            identity,
            listen,
            punch_ports: Vec::new(),
            knock_port: Some(0),
            delay: Duration::ZERO,
            names: BTreeMap::new(),
            limits: RelayLimits::default(),
            access: Access::default(),
            quotas: Quotas::default(),
            https: None,
            #[cfg(feature = "acme")]
            acme: None,
            https_limits: HttpsLimits::default(),
            public_host: None,
            key_log: None,
        }
    }
}

impl fmt::Debug for RelayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayOptions").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A running relay, P3 of the specification. Dropped, it says good-bye and ends by itself.
pub struct RelayServer {
    guard: Guard<RelayMachine>,
    id: NodeId,
    local: SocketAddr,
    punch: Vec<SocketAddr>,
    knock: Option<SocketAddr>,
    https: Option<HttpsPort>,
}

/// What there is to tell, and to be told, of the HTTPS port.
struct HttpsPort {
    local: SocketAddr,
    key: Arc<CurrentKey>,
    counters: Arc<Counters>,
}

impl RelayServer {
    /// Binds the sockets and starts the driver.
    ///
    /// # Errors
    /// [`BindError`] names what could not be had: mostly an address and port in use.
    pub fn bind(options: RelayOptions) -> Result<Self, BindError> {
        let sockets = bind_all(options.listen, &options.punch_ports, options.knock_port)?;
        let addresses: Vec<_> = sockets.iter().map(Socket::local_addr).collect();
        let (local, mut punch) = (addresses[0], addresses[1..].to_vec());
        let knock = options.knock_port.and_then(|_| punch.pop());
        let ports = punch.iter().map(SocketAddr::port).collect();
        let mut config = RelayConfig::new(options.identity, ports, provider::provider());
        config.knock_port = knock.map(|address| address.port());
        config.delay = options.delay;
        config.names = options.names;
        config.limits = options.limits;
        config.access = options.access;
        config.quotas = options.quotas;
        config.key_log = options.key_log;

        let limits = options.https_limits;
        let listener = options.https.map(|(address, key)| Listener::bind(address, &key, limits)).transpose()?;
        let https = listener.as_ref().map(|listener| {
            let (key, counters) = (listener.key.clone(), listener.counters.clone());
            HttpsPort { local: listener.local_addr(), key, counters }
        });
        let core = direc_core::Relay::new(config, provider::seed()?, Instant::now())?;
        let id = core.id();
        let node = Arc::new(Node::new(RelayMachine { core, feed: Feed::new() }));
        driver::start(node.clone(), sockets, None, "direc-relay")?;
        // From here on the node ends with the guard, should the rest fail.
        let guard = Guard(node.clone());
        #[cfg(feature = "acme")]
        let listener = match (listener, options.acme) {
            (Some(listener), Some(acme)) => {
                let acme = Acme::new(acme, listener.key.clone(), teller(node.clone()));
                Some(listener.certified(acme))
            }
            (listener, _) => listener,
        };
        if let Some(listener) = listener {
            let ports = punch.iter().map(SocketAddr::port).collect();
            serve(node, listener, describe(id, local.port(), options.public_host, ports))?;
        }
        Ok(Self { guard, id, local, punch, knock, https })
    }

    /// What its peers are called from now on.
    pub fn set_names(&self, names: BTreeMap<PeerName, NodeId>) {
        self.guard.call(|machine, now| machine.core.set_names(now, names));
    }

    /// The relay's ID.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The address of its QUIC socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address at which it answers HTTPS.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https.as_ref().map(|port| port.local)
    }

    /// The key that new HTTPS connections are answered with, and its certificate; none if there is no such port.
    pub fn https_key(&self) -> Option<HttpsKey> {
        self.https.as_ref().map(|port| port.key.get())
    }

    /// Answers new HTTPS connections with this key from now on; those that stand keep theirs. Without HTTPS it does
    /// nothing.
    pub fn set_https_key(&self, key: &HttpsKey) {
        if let Some(port) = &self.https {
            port.key.replace(key);
        }
    }

    /// The HTTPS port's figures; none if there is no such port.
    pub fn https_stats(&self) -> Option<HttpsStats> {
        self.https.as_ref().map(|port| port.counters.stats())
    }

    /// The addresses of its hole-punch sockets.
    pub fn punch_addrs(&self) -> &[SocketAddr] {
        &self.punch
    }

    /// The address it knocks from, if it does.
    pub fn knock_addr(&self) -> Option<SocketAddr> {
        self.knock
    }

    /// The URL peers use, with `public_host` in it as it is given ([`RelayUrl::new`] checks one), or else the address
    /// listened on; a relay that listens on all addresses is then found on this machine only.
    pub fn url(&self, public_host: Option<&str>) -> RelayUrl {
        let host = match (public_host, self.local.ip()) {
            (Some(host), _) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            (None, IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            (None, IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            (None, ip) => ip.to_string(),
        };
        RelayUrl { host, port: self.local.port(), key: self.id }
    }

    /// The news of this relay, from now on.
    pub fn watch(&self) -> RelayWatch {
        RelayWatch(self.guard.look(|machine| machine.feed.watch()))
    }

    /// The relay's figures.
    pub fn stats(&self) -> RelayStats {
        self.guard.look(|machine| machine.core.stats())
    }

    /// From now on these may use it; whoever is registered and may not be any more is told why, and has to leave.
    pub fn set_access(&self, access: Access) {
        self.guard.call(|machine, now| machine.core.set_access(now, access));
    }

    /// From now on so much is given in a time; what has been used counts.
    pub fn set_quotas(&self, quotas: Quotas) {
        self.guard.call(|machine, now| machine.core.set_quotas(now, quotas));
    }

    /// Datagrams that the system would not send.
    pub fn send_failures(&self) -> u64 {
        self.guard.send_failures()
    }

    /// Tells all peers to be elsewhere `within` that time and waits until they are, or it has passed: meanwhile the
    /// relay forwards what there is and introduces nobody. Then it ends as [`RelayServer::close`] has it.
    ///
    /// It goes on even if nobody waits for it; [`RelayServer::close`] cuts it short. Called again, or after that, it only
    /// waits for the end.
    pub async fn drain(&self, within: Duration) {
        let within = within.min(LONGEST_DRAIN);
        let drain = |machine: &mut RelayMachine, now: Instant, wakes: &mut Wakes| {
            machine.core.drain(now, within);
            machine.feed.publish(now, &RelayNews::Draining { within }, wakes);
        };
        self.guard.drain(within, drain);
        self.guard.until_ended().await;
    }

    /// Says good-bye to everyone and waits until it is said, at most 3 s; then the sockets are closed and the driver's
    /// thread gone.
    pub async fn close(&self) {
        self.guard.close().await;
    }
}

impl fmt::Debug for RelayServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayServer").field("id", &self.id).field("local", &self.local).finish_non_exhaustive()
    }
}

/// The QUIC socket first, then the hole-punch sockets, and last the one to knock from.
fn bind_all(listen: SocketAddr, punch_ports: &[u16], knock: Option<u16>) -> Result<Vec<Socket>, BindError> {
    let punch_ports = if punch_ports.is_empty() { &[0, 0] } else { punch_ports };
    let asked = Arc::default();
    let mut sockets = vec![Socket::bind_relay(Link::Main, listen, &asked)?];
    for (index, port) in punch_ports.iter().copied().chain(knock).enumerate() {
        let index = u8::try_from(index).map_err(|_| ConfigError::Setting("too many hole-punch ports"))?;
        sockets.push(Socket::bind_relay(Link::Punch(index), SocketAddr::new(listen.ip(), port), &asked)?);
    }
    Ok(sockets)
}

/// Brings news from beside the state machine to whoever watches the relay.
#[cfg(feature = "acme")]
fn teller(node: Arc<Node<RelayMachine>>) -> impl Fn(&RelayNews) + Send {
    move |news| {
        let mut wakes = Wakes::default();
        node.look(|machine| machine.feed.publish(Instant::now(), news, &mut wakes));
        wakes.wake();
    }
}

/// direc-core's relay, and whoever watches it.
struct RelayMachine {
    core: direc_core::Relay,
    feed: Feed<RelayNews>,
}

impl Machine for RelayMachine {
    fn handle_datagram(&mut self, now: Instant, arrival: Arrival, data: BytesMut) {
        self.core.handle_datagram(now, arrival, data);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.core.handle_timeout(now);
    }

    fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
        self.core.poll_transmit(now, buffer)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.core.poll_timeout().map(|wake| wake.at)
    }

    fn tunnel_up(&mut self, now: Instant, number: u32, remote: SocketAddr) {
        self.core.tunnel_up(now, number, remote);
    }

    fn tunnel_lost(&mut self, now: Instant, number: u32) {
        self.core.tunnel_lost(now, number);
    }

    /// Not watched for: a relay is where its URL says it is.
    fn network_changed(&mut self, _now: Instant, _bound: SocketAddr, _local: Vec<SocketAddr>, _wakes: &mut Wakes) {}

    fn dispatch(&mut self, now: Instant, wakes: &mut Wakes) {
        while let Some(event) = self.core.poll_event() {
            let news = match event {
                RelayEvent::Registered { peer, address, listening } => {
                    RelayNews::Registered { peer, address, listening }
                }
                RelayEvent::Left { peer, listening } => RelayNews::Left { peer, listening },
                RelayEvent::TurnedAway { peer, address, reason } => RelayNews::TurnedAway { peer, address, reason },
                RelayEvent::Refused { client, server, reason } => RelayNews::Refused { client, server, reason },
                RelayEvent::Step(step) => RelayNews::Step(step),
                other => {
                    log::debug!("an event this version does not know: {other:?}");
                    continue;
                }
            };
            self.feed.publish(now, &news, wakes);
        }
    }

    fn shutdown(&mut self, now: Instant, _wakes: &mut Wakes) {
        self.core.shutdown(now);
    }

    fn is_drained(&self) -> bool {
        self.core.is_drained()
    }

    fn ended(&mut self, wakes: &mut Wakes) {
        self.feed.close(wakes);
    }
}
