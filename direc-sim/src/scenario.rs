//! A whole run as plain data: who is where, behind what, how far apart, who calls whom, and what goes wrong.

mod boxes;
mod bytes;
mod trial;

use std::time::Duration;

pub use boxes::boxes_from_bytes;
use direc_core::{Congestion, Role, Step, Techniques};
pub use trial::{complaint, replay};

use crate::{
    app::{Answer, Work},
    link::LinkConfig,
    nat::NatConfig,
};

/// Whom a peer accepts as P4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Willing {
    /// Nobody.
    Nobody,
    /// Everybody, by standing consent.
    Everybody,
    /// Each offer is asked for.
    Asked(Answer),
}

/// One peer and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// NATs and firewalls in front of it, innermost first: see [`crate::nat::stack`].
    pub boxes: Vec<NatConfig>,
    /// One-way delay to the relay.
    pub to_relay: Duration,
    /// Access link towards the internet.
    pub up: LinkConfig,
    /// Access link from the internet.
    pub down: LinkConfig,
    /// Whom it accepts.
    pub willing: Willing,
    /// What it does with connections that others made to it, besides echoing.
    pub serve: Work,
    /// How often it reads what others send on unidirectional streams; at once if `None`.
    pub reads_every: Option<Duration>,
    /// What it is behind on the other network that it [roams](Trouble::Roam) to: the same boxes as at home if `None`.
    /// Distances and access links are as at home.
    pub elsewhere: Option<Vec<NatConfig>>,
    /// Lives in the same home as the peer of this number, which comes before it: boxes, delay and links are that one's.
    pub home_of: Option<usize>,
    /// Is a customer of the same carrier as the peer of this number, which comes before it: that one's outermost box comes
    /// after its own boxes too. Nothing else is shared but the distance to everybody else.
    pub carrier_of: Option<usize>,
}

impl Side {
    /// A peer with standing consent, behind these boxes, this far from the relay, on a perfect access link.
    pub fn new(boxes: Vec<NatConfig>, to_relay: Duration) -> Self {
        Self {
            boxes,
            to_relay,
            up: LinkConfig::default(),
            down: LinkConfig::default(),
            willing: Willing::Everybody,
            serve: Work::default(),
            reads_every: None,
            elsewhere: None,
            home_of: None,
            carrier_of: None,
        }
    }
}

/// One peer connects to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// When, counted from the start.
    pub at: Duration,
    /// Who calls: a number in [`Scenario::peers`].
    pub from: usize,
    /// Whom: another.
    pub to: usize,
    /// Whether to stay on the relay.
    pub relay_only: bool,
    /// What to do with the connection.
    pub work: Work,
}

/// When something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This long after the start.
    At(Duration),
    /// When a step is first taken by this party, after the start.
    Step(Role, Step),
}

/// What goes wrong. Peers are numbers in [`Scenario::peers`], relays count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A peer's cable is pulled.
    SilencePeer(usize),
    /// The first relay's cable is pulled.
    SilenceRelay,
    /// Nothing gets from one peer's site to another's, either way.
    SeverDirect(usize, usize),
    /// Nothing gets from a peer's site to the first relay's, either way.
    SeverRelay(usize),
    /// A peer's NATs forget everything.
    Reboot(usize),
    /// So many hostile datagrams, 1 ms apart, at a peer.
    PesterPeer(usize, u32),
    /// So many hostile datagrams, 1 ms apart, at the relay.
    PesterRelay(u32),
    /// A peer's application closes all its connections.
    CloseAll(usize),
    /// A peer leaves politely.
    Shutdown(usize),
    /// Nothing gets from the first peer's site to the second's; the way back is as it was.
    SeverWay(usize, usize),
    /// A peer's site gets another public address, silently: the old one is gone, and what its NAT knew.
    Readdress(usize),
    /// A peer leaves its network. At the repair it is on its other network, or back on the first, and is told.
    Roam(usize),
    /// A peer's process stands still, and is not told when it goes on.
    Stop(usize),
    /// A relay's process is gone without a word. At the repair another one is there, with the same key.
    KillRelay(usize),
    /// No UDP gets into or out of a peer's site.
    BlockUdp(usize),
    /// A relay's process is gone without a word. At the repair another one is there, with another key, and whoever asks it
    /// by HTTPS is told.
    RekeyRelay(usize),
    /// The first relay's rules list everybody but this peer. At the repair they let everybody in.
    TurnAway(usize),
    /// A relay is drained: it wants to be left within this time. At the repair it is started anew.
    DrainRelay(usize, Duration),
}

/// Something goes wrong, for some time or for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// When.
    pub when: When,
    /// What.
    pub what: Trouble,
    /// After this time it is repaired, where it can be.
    pub lasts: Option<Duration>,
}

/// A whole run as data.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The peers, named P2, P4, P5, … in the order they come.
    pub peers: Vec<Side>,
    /// One-way delay between two peers' sites; where it is not given, the way leads past the relay.
    pub direct: Vec<(usize, usize, Duration)>,
    /// MTU of the ways between peers' sites, if another than that of the ways to the relay.
    pub direct_mtu: Option<usize>,
    /// What the ways between peers' sites have besides their delay, instead of `noise`.
    pub direct_link: Option<LinkConfig>,
    /// What the ways between peers' sites and relays' have besides their delay, instead of `noise`.
    pub relay_link: Option<LinkConfig>,
    /// What all ways through the internet have besides their delay.
    pub noise: LinkConfig,
    /// How many relays there are, each as far away as the others. Peers are registered at all of them, and prefer the
    /// first.
    pub relays: usize,
    /// The relay's delay between telling P4 and telling P2 (the specification's Decision).
    pub relay_delay: Duration,
    /// What both sides try where plain punching leads nowhere.
    pub techniques: Techniques,
    /// How the peers find out how much a path carries.
    pub congestion: Congestion,
    /// When peers ask to be knocked at, if at all.
    pub knock_after: Option<Duration>,
    /// Whether peers may reach the relays through tunnels where UDP does not pass.
    pub tunnels: bool,
    /// Everything speaks IPv6; NATs are gone then, and only filter.
    pub v6: bool,
    /// Whether all registrations are to be warm before the start.
    pub warm: bool,
    /// Who calls whom.
    pub calls: Vec<Call>,
    /// What goes wrong.
    pub incidents: Vec<Incident>,
    /// How long to go on after all calls have come to what they come to; up to 2 s longer where nothing was to go wrong, and
    /// a call that has gone direct is not so at both ends.
    pub linger: Duration,
    /// Whether, when all is over, everything is repaired, the calls made once more, and everybody leaves: what does not
    /// work then is a fault.
    pub epilogue: bool,
    /// Whether, when all is over, everybody leaves: what is left of them then is a fault.
    pub farewell: bool,
    /// When to give up, counted from the start.
    pub limit: Duration,
}

impl Scenario {
    /// Two peers behind these boxes; the first calls the second at once and pings it. `a`, `b` and `c` are the one-way
    /// delays P2–P3, P3–P4 and P2–P4.
    pub fn pair(boxes: [Vec<NatConfig>; 2], a: Duration, b: Duration, c: Duration) -> Self {
        let [p2, p4] = boxes;
        let work = Work { ping: true, ..Work::default() };
        Self {
            peers: vec![Side::new(p2, a), Side::new(p4, b)],
            direct: vec![(0, 1, c)],
            direct_mtu: None,
            direct_link: None,
            relay_link: None,
            noise: LinkConfig::default(),
            relays: 1,
            relay_delay: Duration::ZERO,
            techniques: Techniques::default(),
            congestion: Congestion::default(),
            knock_after: None,
            tunnels: false,
            v6: false,
            warm: true,
            calls: vec![Call { at: Duration::ZERO, from: 0, to: 1, relay_only: false, work }],
            incidents: Vec::new(),
            linger: Duration::from_millis(500),
            epilogue: false,
            farewell: false,
            limit: Duration::from_secs(120),
        }
    }

    /// As [`Scenario::pair`], both behind the usual home router: endpoint-independent mapping, address- and
    /// port-dependent filtering.
    pub fn home_pair(a: Duration, b: Duration, c: Duration) -> Self {
        Self::pair([vec![NatConfig::EASY], vec![NatConfig::EASY]], a, b, c)
    }

    /// The second peer asks before it accepts, and its person says yes at once.
    #[must_use]
    pub fn asking(mut self) -> Self {
        if let Some(side) = self.peers.get_mut(1) {
            side.willing = Willing::Asked(Answer::Accept(Duration::ZERO));
        }
        self
    }

    /// All calls stay on the relay.
    #[must_use]
    pub fn relay_only(mut self) -> Self {
        for call in &mut self.calls {
            call.relay_only = true;
        }
        self
    }

    /// All calls do this work.
    #[must_use]
    pub fn work(mut self, work: Work) -> Self {
        for call in &mut self.calls {
            call.work = work;
        }
        self
    }

    /// Adds something that goes wrong.
    #[must_use]
    pub fn incident(mut self, when: When, what: Trouble, lasts: Option<Duration>) -> Self {
        self.incidents.push(Incident { when, what, lasts });
        self
    }

    /// One-way delay between two peers' sites.
    pub fn between(&self, one: usize, other: usize) -> Duration {
        let pair = |&&(x, y, _): &&(usize, usize, Duration)| (x, y) == (one, other) || (y, x) == (one, other);
        match self.direct.iter().find(pair) {
            Some(&(_, _, delay)) => delay,
            None => self.to_relay(one) + self.to_relay(other),
        }
    }

    /// One-way delay from a peer's site to the relay's.
    pub fn to_relay(&self, peer: usize) -> Duration {
        let home = self.carrier_of(peer).unwrap_or(self.home_of(peer));
        self.peers.get(home).map_or(Duration::ZERO, |side| side.to_relay)
    }

    /// In whose home a peer lives: its own, as a rule.
    pub fn home_of(&self, peer: usize) -> usize {
        match self.peers.get(peer).and_then(|side| side.home_of) {
            Some(home) if home < peer => self.home_of(home),
            _ => peer,
        }
    }

    /// Whose carrier is a peer's as well, if it is another's. Carriers translate: with IPv6 there are none.
    pub fn carrier_of(&self, peer: usize) -> Option<usize> {
        let home = self.home_of(peer);
        let first = self.peers.get(home)?.carrier_of.filter(|&first| first < home && !self.v6)?;
        let side = self.peers.get(first).filter(|side| side.home_of.is_none() && side.carrier_of.is_none())?;
        side.boxes.last()?.translation.map(|_| first)
    }

    /// What a peer is behind at home before its carrier's box, if others share that, and that box. Who has no NAT of his
    /// own there is a host inside the carrier's network, and has no firewall either.
    pub fn shared_boxes(&self, peer: usize) -> (&[NatConfig], Option<NatConfig>) {
        let home = self.home_of(peer);
        let nat = |boxes: &[NatConfig]| boxes.iter().any(|config| config.translation.is_some());
        let own = |peer: usize| self.peers.get(peer).map_or(&[][..], |side| side.boxes.as_slice());
        if let Some(first) = self.carrier_of(home) {
            let boxes = own(home);
            return (if nat(boxes) { boxes } else { &[] }, own(first).last().copied());
        }
        if (0..self.peers.len()).any(|peer| self.carrier_of(peer) == Some(home))
            && let Some((&carrier, boxes)) = own(home).split_last()
        {
            return (if nat(boxes) { boxes } else { &[] }, Some(carrier));
        }
        (own(home), None)
    }

    /// What a peer is behind at home.
    pub fn boxes(&self, peer: usize) -> Vec<NatConfig> {
        let (own, carrier) = self.shared_boxes(peer);
        own.iter().copied().chain(carrier).collect()
    }

    /// What a peer is behind on its other network.
    pub fn boxes_elsewhere(&self, peer: usize) -> Vec<NatConfig> {
        let elsewhere = self.peers.get(peer).and_then(|side| side.elsewhere.clone());
        elsewhere.unwrap_or_else(|| self.boxes(peer))
    }

    /// A peer's name for people: the first two are the client and the server of most scenarios.
    pub fn name(peer: usize) -> String {
        match peer {
            0 => "client".into(),
            1 => "server".into(),
            n => format!("peer{}", n + 1),
        }
    }
}
