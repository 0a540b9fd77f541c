//! What is run: which NATs against which, under which conditions, with which seeds.

use std::time::Duration;

use super::limits::Class;
use crate::{
    Scenario,
    app::Work,
    nat::{NatConfig, stack},
    rng::{Purpose, Rng},
};

/// The kinds of NAT that are shown, as [`stack`] knows them, and what each is. Those that behave alike towards others
/// stand next to each other.
pub const KINDS: [(&str, &str); 25] = [
    ("none", "a public address, no filter"),
    ("fw", "a public address behind a stateful firewall"),
    ("eim-eif-x", "full cone: endpoint-independent mapping and filtering; ports not kept"),
    ("eim-adf-x", "restricted cone: endpoint-independent mapping, address-dependent filtering; ports not kept"),
    ("nat64+fw6", "IPv6 behind a firewall, IPv4 by a carrier's NAT64: as eim-adf-x"),
    ("easy", "the usual home router: endpoint-independent mapping, address- and port-dependent filtering; ports kept"),
    ("eim-apdf-x", "port-restricted cone: as easy; ports not kept"),
    ("double", "a home router behind another: easy/easy"),
    ("double-eim", "a home router behind a carrier's port-restricted NAT: easy/eim-apdf-x"),
    ("short-timeout", "easy, and forgets early: after 5 s, or 10 s once replied"),
    ("clash", "easy, and an early packet from outside takes the port away from the own punch"),
    ("ban", "easy, and whoever sends too early is shut out for 10 s"),
    ("adm-apdf-x", "a random port for each address outside; address- and port-dependent filtering"),
    ("apdm-eif-x", "a random port for each endpoint outside, open to everybody"),
    ("apdm-adf-x", "a random port for each endpoint outside; address-dependent filtering"),
    ("sym-seq", "symmetric, and each new port is the last one plus one"),
    ("sym-seq-busy", "the same with light cross traffic: ten mappings of others a second"),
    ("cgn-block", "symmetric, a carrier's: random ports from a block of 1,008"),
    ("parity", "symmetric, random ports that are even or odd like the inner one"),
    ("pf", "symmetric, random ports from 50,001 on, as BSD's pf gives them"),
    ("sym", "symmetric: a random port for each endpoint outside; address- and port-dependent filtering"),
    ("sym+fw6", "symmetric; and IPv6 behind a stateful firewall"),
    ("double-sym", "a home router behind a carrier's symmetric NAT: easy/sym"),
    ("udp-443-only", "easy; UDP out to ports 53 and 443 only: all runs through the relay's HTTPS port"),
    ("udp-blocked", "easy; UDP out to port 53 only: the same"),
];

/// How far from the relay a peer may be, where the seed draws: from this to that, in milliseconds.
const TO_RELAY_MS: [u64; 2] = [5, 80];
/// By how much one side's first packet comes too early, where it does.
const EARLY: Duration = Duration::from_millis(40);

/// Whose first packet comes when. The three delays decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    /// The delays obey the triangle inequality: each side's first packet leaves before the other's arrives.
    Crossing,
    /// P2's first packet arrives before P4 sends: its way to the relay is longer than that through P2.
    P2First,
    /// P4's first packet arrives before P2 sends: P2's way to the relay is longer than that through P4.
    P4First,
}

impl Start {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Crossing, Self::P2First, Self::P4First];

    /// Its name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crossing => "crossing",
            Self::P2First => "p2-first",
            Self::P4First => "p4-first",
        }
    }

    /// What it is, for people.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Crossing => "first packets cross",
            Self::P2First => "the client's comes 40 ms too early",
            Self::P4First => "the server's comes 40 ms too early",
        }
    }
}

/// One of the conditions under which all pairs are run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// Packets lost on the ways through the internet, per cent.
    pub loss: f64,
    /// Whose first packet comes when.
    pub start: Start,
}

impl Condition {
    /// For people: "5 % loss, first packets cross".
    pub fn words(&self) -> String {
        format!("{} % loss, {}", self.loss, self.start.what())
    }
}

/// A kind of NAT: its name, and the boxes that it stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// As in [`stack`].
    pub name: String,
    /// What it is, for people; empty for those that are not among [`KINDS`].
    pub what: &'static str,
    /// The boxes, innermost first.
    pub boxes: Vec<NatConfig>,
}

impl Kind {
    /// The kind of this name; `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        let what = KINDS.iter().find(|(known, _)| *known == name).map_or("", |(_, what)| what);
        Some(Self { name: name.to_owned(), what, boxes: stack(name)? })
    }

    /// All [`KINDS`].
    pub fn all() -> Vec<Self> {
        KINDS.iter().filter_map(|(name, _)| Self::named(name)).collect()
    }
}

/// Everything that is run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Each against each, in both roles.
    pub kinds: Vec<Kind>,
    /// Each for all pairs.
    pub conditions: Vec<Condition>,
    /// The first seed; each pair is run with the same ones.
    pub seed: u64,
    /// How many seeds, where a direct path must come to be without guessing and nothing is lost: see [`Plan::count`].
    pub seeds: u64,
    /// One-way delays P2–P3, P3–P4 and P2–P4; drawn by each seed if `None`.
    pub delays: Option<[Duration; 3]>,
}

/// One pair of NATs under one condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell<'a> {
    /// In front of P2.
    pub one: &'a Kind,
    /// In front of P4.
    pub other: &'a Kind,
    /// What it takes to be direct.
    pub class: Class,
    /// How.
    pub condition: Condition,
}

impl Cell<'_> {
    /// Whether a side gets nowhere but through the relay's HTTPS port.
    fn needs_tunnels(&self) -> bool {
        self.one.boxes.iter().chain(&self.other.boxes).any(NatConfig::blocks_udp)
    }
}

impl Plan {
    /// All cells: for each condition row by row, a row for each kind in front of P2.
    pub fn cells(&self) -> Vec<Cell<'_>> {
        let mut cells = Vec::new();
        for &condition in &self.conditions {
            for one in &self.kinds {
                for other in &self.kinds {
                    cells.push(Cell { one, other, class: Class::of(&one.boxes, &other.boxes), condition });
                }
            }
        }
        cells
    }

    /// With how many seeds a cell is run: fewer where the limit is coarser too, with loss, past a box that an early packet
    /// angers, and where ports are not known; and few where there is nothing to find.
    pub fn count(&self, cell: &Cell<'_>) -> u64 {
        let part = match cell.class {
            Class::Relayed => 100,
            Class::Guess | Class::Sequential => 10,
            Class::Block => 4,
            _ if cell.condition.loss > 0.0 => 4,
            Class::Clash => 2,
            Class::Direct => 1,
        };
        self.seeds.div_ceil(part)
    }

    /// One run of a cell.
    pub fn scenario(&self, cell: &Cell<'_>, seed: u64) -> Scenario {
        let [a, b, c] = self.delays(cell.condition.start, seed);
        let boxes = [cell.one.boxes.clone(), cell.other.boxes.clone()];
        let mut scenario = Scenario::pair(boxes, a, b, c).work(Work { ping: true, ..Work::default() });
        scenario.tunnels = cell.needs_tunnels();
        // It is over when it has come to something: both sides are direct, or have given that up.
        scenario.linger = Duration::ZERO;
        scenario.noise.loss = cell.condition.loss / 100.0;
        scenario
    }

    /// The delays of one run: the same for all pairs, so that pairs can be compared.
    pub fn delays(&self, start: Start, seed: u64) -> [Duration; 3] {
        let [mut a, mut b, c] = self.delays.unwrap_or_else(|| drawn(seed));
        match start {
            Start::Crossing => {}
            // P4 sends at a + b, P2's packet arrives at 2a + c.
            Start::P2First => b = a + c + EARLY,
            // P2 sends at 2a, P4's packet arrives at a + b + c.
            Start::P4First => a = b + c + EARLY,
        }
        [a, b, c]
    }

    /// What runs one run of a cell again, for people.
    pub fn replay(&self, cell: &Cell<'_>, seed: u64) -> String {
        let delays = self.delays(cell.condition.start, seed).map(|delay| (delay.as_secs_f64() * 1e3).to_string());
        let loss = match cell.condition.loss {
            loss if loss > 0.0 => format!(" --loss {}", loss / 100.0),
            _ => String::new(),
        };
        let tunnels = if cell.needs_tunnels() { " --tunnels" } else { "" };
        let (one, other) = (&cell.one.name, &cell.other.name);
        format!("direc-sim --seed {seed} --a {one} --b {other} --delays {}{loss}{tunnels}", delays.join(","))
    }
}

/// Delays that obey the triangle inequality, in whole milliseconds.
fn drawn(seed: u64) -> [Duration; 3] {
    let mut rng = Rng::new(seed, Purpose::Stories);
    let mut between = |low: u64, high: u64| low + rng.below(high - low + 1);
    let [low, high] = TO_RELAY_MS;
    let (a, b) = (between(low, high), between(low, high));
    let c = between(a.abs_diff(b).max(1), a + b);
    [a, b, c].map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_delays_obey_the_triangle_inequality() {
        for seed in 0..1_000 {
            let [a, b, c] = drawn(seed);
            assert!(a <= b + c && b <= a + c && c <= a + b && !c.is_zero(), "seed {seed}: {a:?}, {b:?}, {c:?}");
        }
    }

    #[test]
    fn who_starts_first_is_a_matter_of_the_delays() {
        let plan = Plan { kinds: Kind::all(), conditions: Vec::new(), seed: 1, seeds: 1, delays: None };
        for seed in 0..100 {
            let [a, b, c] = plan.delays(Start::Crossing, seed);
            assert!(2 * a <= a + b + c && a + b <= 2 * a + c, "each sends before the other's packet comes");
            let [a, b, c] = plan.delays(Start::P2First, seed);
            assert_eq!(a + b - (2 * a + c), EARLY, "P2's packet waits for P4's to go out");
            let [a, b, c] = plan.delays(Start::P4First, seed);
            assert_eq!(2 * a - (a + b + c), EARLY, "P4's waits for P2's");
        }
    }

    #[test]
    fn all_kinds_have_a_name_of_their_own() {
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|(name, _)| name).collect();
        assert_eq!((names.len(), Kind::all().len()), (KINDS.len(), KINDS.len()));
    }
}
