//! A peer on a real socket.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_io::Timer;
use direc_core::{
    AccessToken, ConnId, ConnectError, ConnectOptions, Consent, Drops, Identity, Nature, NodeId, PeerConfig, PeerName,
    PeerTiming, PortMapping, RelayError, RelayUrl, TransportConfig,
};
use futures_lite::future;
use rustls::KeyLog;

use crate::{
    BindError, Connection, ConnectionStatus, HttpsRelay, Named, ResolveError, Watch, driver,
    https::{Way, attend},
    hub::{Next, PeerMachine},
    network::Network,
    node::{Guard, Node},
    portmap::Mapper,
    provider, resolve,
    signal::{Bell, PeerSignals},
    socket::Socket,
};

/// How long relays may take to say who is called by a name.
const ANSWER: Duration = Duration::from_secs(10);
/// Once one has, how long those are waited for that have not let this peer register yet.
const ALL: Duration = Duration::from_secs(1);

/// How a [`Peer`] is set up.
#[derive(Clone)]
pub struct PeerOptions {
    /// This peer's key.
    pub identity: Identity,
    /// The relays at which this peer is to be found, all at once, the preferred one first: one to [`MAX_RELAYS`](crate::MAX_RELAYS).
    pub relays: Vec<RelayUrl>,
    /// Where the relays answer HTTPS, in their order, for when UDP does not pass. Empty by default: relays beyond its end
    /// are reached by UDP alone. A relay whose URL is what it has said there itself ([`bootstrap`](crate::bootstrap)) is
    /// asked again when it proves another key or is away for long; one whose key is known from elsewhere keeps that.
    pub https: Vec<Option<HttpsRelay>>,
    /// What lets this peer use the relays, in their order, where they ask for it. Empty by default: relays beyond its end
    /// are shown no token, and each is shown its own only.
    pub tokens: Vec<Option<AccessToken>>,
    /// Whom to accept. Nobody by default.
    pub consent: Consent,
    /// The local address; `None`, the default, takes all addresses, IPv6 and IPv4 where there are both, and a port the
    /// system picks. Should the machine lose the address, the peer goes on with all addresses.
    pub local: Option<SocketAddr>,
    /// The waits.
    pub timing: PeerTiming,
    /// QUIC's settings between peers.
    pub transport: TransportConfig,
    /// Whether the router is asked for a port that leads here, by PCP, NAT-PMP and UPnP-IGD: beside everything else, and given
    /// back at the end. `true`; IPv4, on Linux, and not where all relays are on this very machine.
    pub port_mapping: bool,
    /// Where TLS secrets are written, for Wireshark. `None`, the default, writes none.
    pub key_log: Option<Arc<dyn KeyLog>>,
}

impl PeerOptions {
    /// Default settings: connects out, accepts nobody.
    pub fn new(identity: Identity, relay: RelayUrl) -> Self {
        Self {
            identity,
            relays: vec![relay],
            https: Vec::new(),
            tokens: Vec::new(),
            consent: Consent::default(),
            local: None,
            timing: PeerTiming::default(),
            transport: TransportConfig::default(),
            port_mapping: true,
            key_log: None,
        }
    }

    /// As well at this relay: others find the peer there too, and it goes on when another relay is gone.
    #[must_use]
    pub fn with_relay(mut self, relay: RelayUrl) -> Self {
        self.relays.push(relay);
        self
    }
}

/// The way by HTTPS to the relay of that index.
fn way(options: &PeerOptions, index: usize) -> Option<Way> {
    let https = options.https.get(index).cloned().flatten()?;
    let renewable = options.relays.get(index).is_some_and(|url| https.has_said(url));
    Some(Way { https, renewable, patience: options.timing.relay_deadline })
}

impl fmt::Debug for PeerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerOptions")
            .field("identity", &self.identity)
            .field("relays", &self.relays)
            .field("https", &self.https)
            .field("consent", &self.consent)
            .field("local", &self.local)
            .field("timing", &self.timing)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// A peer: P2 and P4 of the seed, for many other peers, on one UDP socket.
///
/// Clones are handles to the same peer. When the last of them and of its connections is dropped, the peer does what
/// [`Peer::close`] does, in the background: on a thread of this process. A program that is about to end awaits
/// [`Peer::close`] instead, or what is still under way is lost with that thread.
#[derive(Clone)]
pub struct Peer {
    guard: Arc<Guard<PeerMachine>>,
    signals: Arc<PeerSignals>,
    mapper: Option<Arc<Mapper>>,
    id: NodeId,
}

impl Peer {
    /// Binds the one UDP socket, resolves the relays' hosts and starts the driver, which registers at the relays.
    ///
    /// Of a name with several addresses the first IPv4 one is taken, or else the first IPv6 one. With several relays,
    /// one whose name does not resolve is warned of in the log and left out for good.
    ///
    /// # Errors
    /// [`BindError`] names what could not be had. An unreachable relay is no such error: see [`Peer::registered`].
    pub async fn bind(options: PeerOptions) -> Result<Self, BindError> {
        Self::bind_under(options, Network::new).await
    }

    /// As [`Peer::bind`], with a watch over the network for these relays.
    async fn bind_under(
        options: PeerOptions,
        network: impl FnOnce(Vec<SocketAddr>) -> Network,
    ) -> Result<Self, BindError> {
        let socket = Socket::bind_peer(options.local)?;
        let bound = socket.local_addr();
        let (relays, nat64) = resolve::relays(&options.relays, bound).await?;
        let addresses: Vec<SocketAddr> = relays.iter().map(|(_, relay)| relay.address).collect();
        let ways: Vec<_> = relays.iter().map(|(index, _)| way(&options, *index)).collect();
        let tokens = relays.iter().map(|(index, _)| options.tokens.get(*index).cloned().flatten()).collect();
        let mut config = PeerConfig::new(options.identity, relays[0].1, provider::provider());
        config.relays = relays.into_iter().map(|(_, relay)| relay).collect();
        let at = config.relays.clone();
        config.tokens = tokens;
        config.tunnels = ways.iter().map(Option::is_some).collect();
        config.renewable = ways.iter().map(|way| way.as_ref().is_some_and(|way| way.renewable)).collect();
        config.consent = options.consent;
        config.timing = options.timing;
        config.transport = options.transport;
        config.key_log = options.key_log;
        config.nat64 = nat64;

        let core = direc_core::Peer::new(config, provider::seed()?, Instant::now())?;
        let mut machine = PeerMachine::new(core, &at, bound);
        let (id, signals, wishes) = (machine.core.id(), machine.signals.clone(), machine.wishes.clone());
        let at_home = addresses.iter().all(|relay| relay.ip().is_loopback());
        let network = network(addresses);
        machine.nearby = network.local(bound);
        machine.core.network_changed(Instant::now(), &machine.nearby);
        let node = Arc::new(Node::new(machine));
        driver::start(node.clone(), vec![socket], Some(network), "direc-peer")?;
        // From here on the node ends with the guard, should the rest fail.
        let guard = Arc::new(Guard(node.clone()));
        attend(node.clone(), wishes, ways)?;
        let wanted = options.port_mapping && !at_home;
        let mapper = if wanted { Some(Mapper::start(node, signals.clone())?) } else { None };
        Ok(Self { guard, signals, mapper, id })
    }

    /// This peer's ID.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The socket's local address. It may be another one after the network has changed.
    pub fn local_addr(&self) -> SocketAddr {
        self.guard.look(|machine| machine.bound)
    }

    /// Done when any of the relays knows this peer, so that others can connect to it.
    ///
    /// # Errors
    /// This ends when the next attempt has failed at all relays; unless [`RelayError::is_final`], the peer goes on
    /// trying, and this may be called again.
    pub async fn registered(&self) -> Result<(), RelayError> {
        self.relay_outcome(false).await
    }

    /// Done when all cookies are confirmed as well: a relay knows this peer's addresses.
    ///
    /// # Errors
    /// As for [`Peer::registered`]; and [`RelayError::NoCookie`] where UDP to the hole-punch ports is blocked, after
    /// [`PeerTiming::cookie_deadline`](crate::PeerTiming::cookie_deadline).
    pub async fn warm(&self) -> Result<(), RelayError> {
        self.relay_outcome(true).await
    }

    async fn relay_outcome(&self, warm: bool) -> Result<(), RelayError> {
        let since = self.guard.look(|machine| machine.relays.told());
        self.signals.relay.wait_for(|| self.guard.look(|machine| machine.relays.outcome(warm, &since))).await
    }

    /// Who is called so at the relays, by the first one's word, in their order, that knows anybody of that name. It proves
    /// nothing; a program should remember who it was and refuse a change.
    ///
    /// Works before the registration is done, too, and waits for it: at all relays, but no more than a second at those
    /// that do not answer when another one has.
    ///
    /// # Errors
    /// [`ResolveError::Disagree`] if they name different peers: which one is meant, a person has to say.
    /// [`ResolveError::Unknown`] if all relays that know this peer know nobody of that name; [`ResolveError::Refused`] if
    /// none of them names anybody and one of them does not say; [`ResolveError::Relay`] if
    /// the next attempt to register has failed at all of them; [`ResolveError::NoAnswer`] after 10 s.
    pub async fn resolve(&self, name: &PeerName) -> Result<Named, ResolveError> {
        let since = self.guard.call(|machine, now| {
            machine.resolve(now, name);
            machine.relays.told()
        });
        let _asked = Asked { guard: &self.guard, name };
        let since = &since;
        let word = |patient: bool| {
            let look = move |machine: &mut PeerMachine| {
                let said = machine.resolved(name, since, patient);
                said.or_else(|| Some(Err(machine.relays.outcome(false, since)?.err()?.into())))
            };
            self.signals.relay.wait_for(move || self.guard.look(look))
        };
        let of_those_there = async {
            // Which of them is the first to let this peer in is chance: none is to win by that.
            let _ = word(false).await;
            Timer::after(ALL).await;
            word(false).await
        };
        let late = async {
            Timer::after(ANSWER).await;
            Err(ResolveError::NoAnswer { after: ANSWER })
        };
        future::or(future::or(word(true), of_those_there), late).await
    }

    /// Connects to another peer: done when it has accepted and its key is proven.
    ///
    /// Dropping the future abandons the attempt. Works before the registration is done, too, and waits for it.
    ///
    /// # Errors
    /// [`ConnectError`] says who would not or could not.
    pub async fn connect(&self, peer: NodeId) -> Result<Connection, ConnectError> {
        self.connect_with(peer, ConnectOptions::default()).await
    }

    /// As [`Peer::connect`], with options.
    ///
    /// # Errors
    /// As for [`Peer::connect`].
    pub async fn connect_with(&self, peer: NodeId, options: ConnectOptions) -> Result<Connection, ConnectError> {
        let (conn, done) = self.guard.call(|machine, now| machine.connect(now, peer, options))?;
        let mut attempt = Attempt { guard: &self.guard, conn: Some(conn) };
        let outcome = done.wait_for(|| self.guard.look(|machine| machine.outcome(conn))).await;
        attempt.conn = None;
        Ok(Connection::new(self.guard.clone(), outcome?))
    }

    /// The next connection that another peer made to this one; `None` once this peer is closed.
    ///
    /// Up to 256 wait to be accepted.
    pub async fn accept(&self) -> Option<Connection> {
        match self.signals.incoming.wait_for(|| self.guard.look(PeerMachine::next_incoming)).await {
            Next::Some(standing) => Some(Connection::new(self.guard.clone(), standing)),
            Next::Over => None,
        }
    }

    /// The next offer that is asked for ([`Consent::Ask`], [`Consent::Listed`] with `ask_others`); `None` once this
    /// peer is closed.
    ///
    /// Up to 64 wait; the rest are refused.
    pub async fn offered(&self) -> Option<Offer> {
        match self.signals.offer.wait_for(|| self.guard.look(PeerMachine::next_offer)).await {
            Next::Some((conn, peer, gone)) => {
                Some(Offer { guard: self.guard.clone(), conn, peer, gone, answered: false })
            }
            Next::Over => None,
        }
    }

    /// How all connections stand now, also those that wait to be accepted. It keeps none of them open. Not listed are those
    /// that nobody has a handle to any more, while they deliver.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        self.guard.look(PeerMachine::connections)
    }

    /// Where machines on the same networks reach this peer; none if its relays are on this very machine.
    pub fn nearby_addrs(&self) -> Vec<SocketAddr> {
        self.guard.look(|machine| machine.nearby.clone())
    }

    /// The relays that know this peer now, each with its round trip, the preferred one first.
    pub fn relay_distances(&self) -> Vec<(SocketAddr, Duration)> {
        self.guard.look(|machine| machine.core.relay_distances())
    }

    /// The port that the router has mapped to this peer now.
    pub fn port_mapping(&self) -> Option<PortMapping> {
        self.guard.look(|machine| machine.core.port_mapping())
    }

    /// What stands between this machine and the world, as far as is known now. [`PeerNews::Nature`](crate::PeerNews)
    /// tells of changes.
    pub fn nature(&self) -> Nature {
        self.guard.look(|machine| machine.core.nature())
    }

    /// The news of this peer, from now on.
    pub fn watch(&self) -> Watch {
        Watch(self.guard.look(|machine| machine.feed.watch()))
    }

    /// Datagrams received and dropped, by reason.
    pub fn drops(&self) -> Drops {
        self.guard.look(|machine| machine.core.drops().clone())
    }

    /// Datagrams that the system would not send. QUIC takes them for lost on the way.
    pub fn send_failures(&self) -> u64 {
        self.guard.send_failures()
    }

    /// Delivers what was finished on any connection, says good-bye to everyone and waits until it is said; then the socket
    /// is closed and the driver's thread gone. Gives whether the other sides have acknowledged all that was finished.
    ///
    /// It takes a few round trips; with somebody who does not answer, at most [`DELIVERY_LIMIT`](crate::DELIVERY_LIMIT) and
    /// 3 s. Connections that dropped handles have left behind count as well; [`Connection::close`] ends one at once.
    /// From the beginning nobody can connect any more; each connection closes when it has delivered, and everything that
    /// waits is told so. A port that the router has mapped is given back.
    ///
    /// Cancel safe: dropped, or called a second time, it changes nothing in what goes on.
    pub async fn close(&self) -> bool {
        self.guard.close().await;
        if let Some(mapper) = &self.mapper {
            mapper.ended().await;
        }
        self.guard.look(|machine| machine.core.undelivered() == 0)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A name that is waited for.
struct Asked<'a> {
    guard: &'a Guard<PeerMachine>,
    name: &'a PeerName,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.guard.look(|machine| machine.forget_name(self.name));
    }
}

/// An attempt that is waited for: given up when dropped before its end.
struct Attempt<'a> {
    guard: &'a Guard<PeerMachine>,
    conn: Option<ConnId>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(conn) = self.conn {
            self.guard.call(|machine, now| machine.release(now, conn));
        }
    }
}

/// Another peer wants to connect (S5). Dropped: refused.
///
/// Any number may be held at once; each waits for its own answer. [`Offer::withdrawn`] tells that there is nothing to be
/// answered any more.
pub struct Offer {
    guard: Arc<Guard<PeerMachine>>,
    conn: ConnId,
    peer: NodeId,
    /// Rung when the offer has gone away.
    gone: Arc<Bell>,
    answered: bool,
}

impl Offer {
    /// Who wants to connect, as proven to the relay. The connection proves it again, end to end.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// Waits until this offer cannot be answered any more: the other peer has given up,
    /// [`PeerTiming::answer_deadline`](crate::PeerTiming::answer_deadline) is over, the relay is lost, or this peer is closed.
    /// [`Offer::accept`] and [`Offer::refuse`] do nothing from then on.
    ///
    /// Dropping the future loses nothing.
    pub async fn withdrawn(&self) {
        let gone = || self.guard.look(|machine| (!machine.is_considered(self.conn)).then_some(()));
        self.gone.wait_for(gone).await;
    }

    /// Lets it connect (S6): [`Peer::accept`] gives the connection once it stands.
    pub fn accept(mut self) {
        self.answer(true);
    }

    /// Refuses it.
    pub fn refuse(mut self) {
        self.answer(false);
    }

    fn answer(&mut self, accept: bool) {
        self.answered = true;
        self.guard.call(|machine, now| machine.answer(now, self.conn, accept));
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(false);
        }
    }
}

#[cfg(test)]
mod tests;
