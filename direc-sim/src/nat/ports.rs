//! Which external endpoint a new mapping gets (RFC 4787, section 4.2).

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use super::{Pooling, Ports, Translation};
use crate::rng::Rng;

/// What is given out where the internal port says nothing else: below are the well-known ports.
const PORTS: RangeInclusive<u16> = 1024..=u16::MAX;
/// Tries at random before the box gives up, about as many as Linux makes.
const TRIES: u32 = 240;
/// Ports a sequential box looks at before it gives up.
const STEPS: u32 = 1024;
/// Of the cross traffic since the last mapping, this much is left to chance and the rest is the average: what was
/// earlier moves the sequence beyond prediction anyway.
const CHANCE: Duration = Duration::from_secs(1);

/// What a box remembers for picking ports.
#[derive(Debug, Default)]
pub(super) struct Picker {
    /// The last port of the sequence, and when it was given out.
    last: Option<(u16, Duration)>,
    /// Each internal address's external address, where they are paired.
    pairs: BTreeMap<IpAddr, IpAddr>,
    /// Each internal address's block.
    blocks: BTreeMap<IpAddr, (IpAddr, u16)>,
}

impl Picker {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Picks an external endpoint that is `free`, for a mapping of `inside`.
    pub(super) fn pick(
        &mut self,
        now: Duration,
        (translation, externals): (&Translation, &[IpAddr]),
        inside: SocketAddr,
        rng: &mut Rng,
        free: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let address = self.address(translation.pooling, externals, inside.ip(), rng)?;
        let free_at = |port: u16| free(SocketAddr::new(address, port));
        let port = match translation.ports {
            Ports::Preserved if free_at(inside.port()) => Some(inside.port()),
            Ports::Preserved => random(&like(inside.port()), rng, free_at),
            Ports::Random => random(&PORTS, rng, free_at),
            Ports::Within(low, high) => random(&(low..=high.max(low)), rng, free_at),
            Ports::Parity => random(&PORTS, rng, |port| port % 2 == inside.port() % 2 && free_at(port)),
            Ports::Sequential { step, busy } => self.sequential(now, step, busy, rng, free_at),
            Ports::Block(size) => {
                let (address, range) = self.block(address, inside.ip(), size, rng)?;
                let free_at = |port: u16| free(SocketAddr::new(address, port));
                let port = random(&range, rng, free_at).or_else(|| range.clone().find(|&port| free_at(port)));
                return port.map(|port| SocketAddr::new(address, port));
            }
        };
        port.map(|port| SocketAddr::new(address, port))
    }

    fn address(&mut self, pooling: Pooling, externals: &[IpAddr], inside: IpAddr, rng: &mut Rng) -> Option<IpAddr> {
        if let &[only] = externals {
            return Some(only);
        }
        let mut draw = || externals.get(rng.below(externals.len() as u64) as usize).copied();
        match pooling {
            Pooling::Arbitrary => draw(),
            Pooling::Paired => match self.pairs.get(&inside) {
                Some(&address) => Some(address),
                None => draw().inspect(|&address| {
                    self.pairs.insert(inside, address);
                }),
            },
        }
    }

    fn sequential(
        &mut self,
        now: Duration,
        step: i16,
        busy: u16,
        rng: &mut Rng,
        free: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let span = u32::from(PORTS.end() - PORTS.start()) + 1;
        let (last, others) = match self.last {
            Some((last, at)) => (u32::from(last - PORTS.start()), others(now.saturating_sub(at), busy, rng)),
            // Below 64,512, so it fits.
            None => (rng.below(span.into()) as u32, 0),
        };
        let step = i64::from(if step == 0 { 1 } else { step });
        for n in 1..=STEPS {
            let offset = (i64::from(last) + step * i64::from(others + n)).rem_euclid(span.into());
            // Below 64,512 again.
            let port = PORTS.start() + offset as u16;
            if free(port) {
                self.last = Some((port, now));
                return Some(port);
            }
        }
        None
    }

    /// The block of an internal address, at this external address if it is new.
    fn block(
        &mut self,
        address: IpAddr,
        inside: IpAddr,
        size: u16,
        rng: &mut Rng,
    ) -> Option<(IpAddr, RangeInclusive<u16>)> {
        let size = size.max(1);
        let count = (PORTS.end() - PORTS.start()) / size;
        let (address, number) = match self.blocks.get(&inside) {
            Some(&block) => block,
            None => {
                let taken = |number| self.blocks.values().any(|&block| block == (address, number));
                // Below `count`, so it fits.
                let start = rng.below(count.into()) as u16;
                let number = (0..count).map(|n| (start + n) % count).find(|&number| !taken(number))?;
                self.blocks.insert(inside, (address, number));
                (address, number)
            }
        };
        let first = PORTS.start() + number * size;
        Some((address, first..=first + (size - 1)))
    }
}

/// Mappings that others have made in this time.
fn others(time: Duration, busy: u16, rng: &mut Rng) -> u32 {
    if busy == 0 {
        return 0;
    }
    let (chance, sure) = (time.min(CHANCE), time.saturating_sub(CHANCE));
    // One throw for each millisecond: nearly a Poisson distribution, by sums and comparisons alone.
    let throws = chance.as_millis() as u32;
    let lucky = (0..throws).filter(|_| rng.chance(f64::from(busy) / 1000.0)).count() as u32;
    // The sequence is shorter than that wherever it is longer.
    let average = u32::try_from(sure.as_millis() * u128::from(busy) / 1000).unwrap_or(u32::MAX / 2);
    lucky.saturating_add(average) % (1 << 20)
}

/// Where Linux looks when it cannot keep a port: privileged ports stay privileged.
fn like(port: u16) -> RangeInclusive<u16> {
    match port {
        0..512 => 1..=511,
        512..1024 => 600..=1023,
        _ => PORTS,
    }
}

fn random(range: &RangeInclusive<u16>, rng: &mut Rng, free: impl Fn(u16) -> bool) -> Option<u16> {
    let span = u64::from(range.end() - range.start()) + 1;
    // Below the span, so it fits.
    (0..TRIES).map(|_| range.start() + rng.below(span) as u16).find(|&port| free(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        nat::{NatConfig, stack},
        rng::Purpose,
    };

    fn ports(name: &str, count: u32, gap: Duration, inside: &str) -> Vec<u16> {
        let config: NatConfig = stack(name).unwrap()[0];
        let externals = ["7.7.7.7".parse().unwrap()];
        let mut picker = Picker::default();
        let mut rng = Rng::new(3, Purpose::Nat);
        let mut pick = |n| {
            let of = (&config.translation.unwrap(), &externals[..]);
            picker.pick(gap * n, of, inside.parse().unwrap(), &mut rng, |_| true).unwrap().port()
        };
        (0..count).map(&mut pick).collect()
    }

    fn gaps(ports: &[u16]) -> Vec<u16> {
        ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect()
    }

    #[test]
    fn a_sequence_counts_on_and_cross_traffic_makes_it_jump_by_as_much_as_there_is() {
        assert_eq!(gaps(&ports("sym-seq", 5, Duration::from_secs(1), "10.0.0.1:4000")), [1; 4]);
        let busy = gaps(&ports("sym-seq-busy", 201, Duration::from_millis(100), "10.0.0.1:4000"));
        let sum: u32 = busy.iter().map(|&gap| u32::from(gap)).sum();
        assert!((340..460).contains(&sum), "{sum}: 10 a second for 20 s, and 200 of its own");
        assert!(busy.iter().any(|gap| *gap > 2));
    }

    #[test]
    fn a_block_of_1008_ports_is_all_that_a_subscriber_gets() {
        let mut seen = ports("cgn-block", 400, Duration::ZERO, "10.0.0.1:4000");
        seen.sort_unstable();
        assert!(seen.last().unwrap() - seen[0] < 1008);
        assert_eq!((seen[0] - 1024) / 1008, (seen.last().unwrap() - 1024) / 1008, "on the carrier's grid");
    }

    #[test]
    fn parity_is_kept_where_it_is_promised() {
        for inside in ["10.0.0.1:4000", "10.0.0.1:4001"] {
            let seen = ports("parity", 50, Duration::ZERO, inside);
            assert!(seen.iter().all(|port| port % 2 == inside.parse::<SocketAddr>().unwrap().port() % 2));
        }
    }
}
