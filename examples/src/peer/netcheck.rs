//! `peer netcheck`: what stands between this machine and the world.

mod report;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use direc_smol::{DropReason, Filtering, Mapping, Nature, Peer, PeerNews, RelayError, Watch, ephemeral_key};
use smol::{Timer, future::or};

use super::{Begin, with_relays};
use crate::{failure::Failure, home, signals::Interrupted};
use report::{Findings, Relay, Report};

/// How long relays may take to know this peer; each tries for 5 s, and then again.
const REGISTER: Duration = Duration::from_millis(5500);
/// How long the rest may take: cookies are given up after 5 s, and a knock's answer is one.
const OBSERVE: Duration = Duration::from_secs(6);
/// How long the router may take to grant a port: it is near, and NAT-PMP and UPnP-IGD have their turn after half a second;
/// the latter takes three questions more.
const PORT_MAPPING: Duration = Duration::from_millis(2000);
/// How long a packet to this machine's own address may take to come back.
const HAIRPIN: Duration = Duration::from_millis(500);
/// How often to look.
const TICK: Duration = Duration::from_millis(20);
/// No datagram of ours or of QUIC's begins so: the peer counts it, and drops it.
const STRAY: [u8; 33] = [0x3f; 33];

pub(super) async fn run(begin: Begin<'_>, mut interrupted: Interrupted) -> Result<(), Failure> {
    let check = check(begin);
    or(check, async {
        interrupted.wait().await;
        Err(Failure::Failed("interrupted before all was known".into()))
    })
    .await
}

async fn check(begin: Begin<'_>) -> Result<(), Failure> {
    let Begin { options, out, .. } = begin;
    let mut settings = with_relays(ephemeral_key().map_err(Failure::of)?, options, &home::peer_key(), out).await?;
    // Nothing else is to be done, so nothing has to wait.
    settings.timing.knock_after = Some(Duration::ZERO);
    settings.port_mapping = options.portmap;
    let mapped_by = Instant::now() + PORT_MAPPING;
    let asked = settings.relays.len();
    let peer = Peer::bind(settings).await.map_err(Failure::of)?;
    let mut relays = Relays::default();
    let mut watch = peer.watch();
    or(relays.listen(&mut watch, |relays| relays.0.len() >= asked), pause(REGISTER)).await;
    if relays.reached() > 0 {
        let settled = |relays: &Relays| relays.are_observed() && is_settled(&peer.nature(), relays.reached());
        or(relays.listen(&mut watch, settled), pause(OBSERVE)).await;
    }
    let nature = peer.nature();
    let hairpin = match outside(&nature) {
        Some(address) if nature.translated == Some(true) => Some(hairpin(&peer, address).await),
        _ => None,
    };
    let at_home = relays.0.keys().all(|relay| relay.ip().is_loopback());
    let port_mapping = match options.portmap && !at_home {
        true => Some(port_mapping(&peer, mapped_by).await),
        false => None,
    };
    let distances: BTreeMap<SocketAddr, Duration> = peer.relay_distances().into_iter().collect();
    let known = relays.0.into_iter().map(|(address, state)| Relay {
        address,
        rtt: distances.get(&address).copied(),
        reached: state.reached,
        answers: state.answers,
        tunnelled: state.tunnelled,
        warm: state.warm,
        blocked: state.blocked,
        error: state.error,
    });
    let report =
        Report::new(Findings { relays: known.collect(), nearby: peer.nearby_addrs(), nature, hairpin, port_mapping });
    out.event(&report);
    if !out.json() {
        out.say(&report.to_string());
    }
    peer.close().await;
    if report.is_reached() { Ok(()) } else { Err(Failure::Told) }
}

/// What the router grants by then.
async fn port_mapping(peer: &Peer, by: Instant) -> String {
    while peer.port_mapping().is_none() && Instant::now() < by {
        pause(TICK).await;
    }
    peer.port_mapping().map_or("none".to_owned(), |mapping| mapping.to_string())
}

async fn pause(time: Duration) {
    Timer::after(time).await;
}

/// Nothing more is to come of what relays can see.
fn is_settled(nature: &Nature, relays: usize) -> bool {
    let knocked = match (nature.filtering, nature.mapping) {
        (None, _) => false,
        (Some(Filtering::AddressAndPortDependent), Some(Mapping::EndpointIndependent | Mapping::AddressDependent)) => {
            nature.clash_prone.is_some()
        }
        _ => true,
    };
    let compared = nature.sightings.iter().map(|seen| seen.relay).collect::<std::collections::BTreeSet<_>>();
    nature.mapping.is_some() && knocked && compared.len() >= relays
}

/// One of this machine's addresses outside.
fn outside(nature: &Nature) -> Option<SocketAddr> {
    nature.sightings.first().map(|seen| seen.address)
}

/// Sends to this machine's own address outside from another socket, and sees whether it comes back (RFC 4787, section 6).
async fn hairpin(peer: &Peer, outside: SocketAddr) -> bool {
    let any: SocketAddr =
        if outside.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let before = peer.drops().of(DropReason::UnknownType);
    let Ok(socket) = UdpSocket::bind(any) else { return false };
    // It cannot be sent, or not at once: then it does not come back either.
    let _ = socket.send_to(&STRAY, outside);
    let until = Instant::now() + HAIRPIN;
    while Instant::now() < until {
        pause(TICK).await;
        if peer.drops().of(DropReason::UnknownType) > before {
            return true;
        }
    }
    false
}

/// How relays have answered.
#[derive(Default)]
struct Relays(BTreeMap<SocketAddr, State>);

#[derive(Default)]
struct State {
    reached: bool,
    /// It was there, if only to refuse.
    answers: bool,
    /// It is reached by HTTPS: UDP to its QUIC port does not pass.
    tunnelled: bool,
    /// Its hole-punch ports answer, to which packets go by UDP in any case.
    warm: bool,
    /// Its hole-punch ports do not answer.
    blocked: bool,
    error: Option<String>,
}

impl Relays {
    fn reached(&self) -> usize {
        self.0.values().filter(|relay| relay.reached).count()
    }

    fn are_observed(&self) -> bool {
        self.0.values().filter(|relay| relay.reached).all(|relay| relay.warm || relay.blocked)
    }

    /// Listens until all is said that is waited for.
    async fn listen(&mut self, watch: &mut Watch, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let Some((_, news)) = watch.next().await else { return };
            match news {
                PeerNews::Registered { relay } => {
                    let state = self.at(relay);
                    (state.reached, state.answers) = (true, true);
                }
                PeerNews::Warm { relay } => self.at(relay).warm = true,
                PeerNews::Unanswered { relay } => self.at(relay).blocked = true,
                PeerNews::Way { relay, tunnel } => self.at(relay).tunnelled = tunnel,
                PeerNews::RelayRenewed { before, relay, .. } => {
                    let state = self.0.remove(&before).unwrap_or_default();
                    self.0.insert(relay, state);
                }
                PeerNews::RelayLost { relay, error } => {
                    let state = self.at(relay);
                    state.answers |= !matches!(error, RelayError::Unreachable { .. } | RelayError::Lost);
                    state.error.get_or_insert(error.to_string());
                }
                _ => {}
            }
        }
    }

    fn at(&mut self, relay: SocketAddr) -> &mut State {
        self.0.entry(relay).or_default()
    }
}
