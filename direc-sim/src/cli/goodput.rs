//! Goodput right after a bulk transfer has moved from the relay to a direct path of another rate.

use std::{fmt::Write as _, time::Duration};

use direc_sim::{
    Outcome, Scenario,
    app::{ConnLog, Flow, Pace, Work},
    json::Object,
    link::LinkConfig,
    run,
    scenario::{Trouble, When},
    trace::{DropCause, End},
};

use super::args::Args;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Rates in Mbit/s of the relayed path and the direct one.
const RATES: [[u64; 2]; 4] = [[20, 100], [100, 10], [50, 50], [5, 500]];
/// Windows after the move, in ms.
const WINDOWS: [[u32; 2]; 2] = [[100, 300], [300, 600]];
/// What a prototype reached in these windows, in Mbit/s, and what it lost, in packets.
const REFERENCE: [([u64; 2], Option<u64>); 4] =
    [([72, 109], None), ([8, 11], Some(97)), ([44, 53], None), ([237, 553], None)];
/// How many seeds, where the command line does not say.
const SEEDS: u64 = 5;

/// What one run came to.
#[derive(Clone, Copy, Default)]
struct Sample {
    /// Mbit/s in each window.
    rates: [f64; 2],
    lost_packets: u64,
    lost_bytes: u64,
}

/// A bulk transfer that begins on the relay, because the direct path is blocked until `opens`.
fn scenario([relayed, direct]: [u64; 2], sender: usize, opens: Duration) -> Scenario {
    // Round trips of 100 ms through the relay and 20 ms straight.
    let mut scenario = Scenario::home_pair(25 * MS, 25 * MS, 10 * MS);
    scenario.relay_link = Some(LinkConfig::rate(relayed * 1_000_000));
    scenario.direct_link = Some(LinkConfig::rate(direct * 1_000_000));
    let lasts = opens + 4 * SECOND;
    let work = Work { flow: Some(Flow { pace: Pace::Full, lasts }), ..Work::default() };
    scenario = scenario.work(if sender == 0 { work } else { Work::default() });
    scenario.peers[1].serve = if sender == 1 { work } else { Work::default() };
    (scenario.limit, scenario.linger) = (lasts, lasts);
    scenario.incident(When::At(Duration::ZERO), Trouble::SeverDirect(0, 1), Some(opens))
}

/// The connection as one of the two sides saw it.
fn side(outcome: &Outcome, peer: usize) -> Option<&ConnLog> {
    outcome.peers.get(peer)?.connections.first()
}

/// What there is to measure; `None` if the transfer never moved, or not early enough.
fn sample(outcome: &Outcome, sender: usize) -> Option<Sample> {
    let moved = side(outcome, sender)?.direct_at()?;
    let deliveries = &side(outcome, 1 - sender)?.deliveries;
    let mut sample = Sample::default();
    for (rate, [from, to]) in sample.rates.iter_mut().zip(WINDOWS) {
        let (from, to) = (moved + from * MS, moved + to * MS);
        if to > outcome.end {
            return None;
        }
        *rate = deliveries.bytes(from, to) as f64 * 8e-6 / (to - from).as_secs_f64();
    }
    let over = moved + WINDOWS[1][1] * MS;
    for packet in &outcome.trace.packets {
        if let End::Dropped { cause: DropCause::QueueFull, at, .. } = packet.end
            && at >= moved
            && at < over
        {
            sample.lost_packets += 1;
            sample.lost_bytes += packet.len as u64;
        }
    }
    Some(sample)
}

/// The value in the middle.
fn median<T: Copy>(
    samples: &[Sample],
    get: impl Fn(&Sample) -> T,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) -> Option<T> {
    let mut values: Vec<T> = samples.iter().map(get).collect();
    values.sort_by(order);
    values.get(values.len() / 2).copied()
}

/// Runs them all. Gives the text, and whether every transfer moved.
pub(crate) fn table(args: &Args) -> (String, bool) {
    let count = if args.seeds == 0 { SEEDS } else { args.seeds };
    let senders = args.sender.map_or(vec![0, 1], |sender| vec![sender]);
    let (mut out, mut good) = (String::new(), true);
    if !args.json {
        let _ = writeln!(
            out,
            "Goodput in Mbit/s after a move from the relay (RTT 100 ms) to a direct path (RTT 20 ms), median of {count} \
             seeds;\nlost in full queues from the move until 600 ms later. In brackets what a prototype reached.\n\n\
             relay->direct  sender    100-300 ms     300-600 ms        lost"
        );
    }
    for (rates, reference) in RATES.into_iter().zip(REFERENCE) {
        for &sender in &senders {
            let samples: Vec<Sample> = (0..count)
                .filter_map(|n| {
                    // Another moment in each run: of the control loop's, and of the punching's.
                    let opens = 3 * SECOND + (n % 10) as u32 * 37 * MS;
                    let outcome = run(&scenario(rates, sender, opens), args.seed.wrapping_add(n)).ok()?;
                    sample(&outcome, sender)
                })
                .collect();
            good &= samples.len() as u64 == count;
            out.push_str(&row(rates, reference, sender, &samples, args.json));
        }
    }
    (out, good)
}

fn row(
    [relayed, direct]: [u64; 2],
    (reference, lost): ([u64; 2], Option<u64>),
    sender: usize,
    samples: &[Sample],
    json: bool,
) -> String {
    let sender = Scenario::name(sender);
    let rates = [0, 1].map(|window| median(samples, |sample| sample.rates[window], f64::total_cmp));
    let packets = median(samples, |sample| sample.lost_packets, u64::cmp);
    let bytes = median(samples, |sample| sample.lost_bytes, u64::cmp);
    if json {
        let mut object = Object::new("goodput");
        object.number("relay_mbps", relayed).number("direct_mbps", direct).text("sender", &sender);
        object.real("mbps_100_300", rates[0]).real("mbps_300_600", rates[1]);
        object.number("lost_packets", packets.unwrap_or(0)).number("lost_bytes", bytes.unwrap_or(0));
        object.number("moved", samples.len() as u64);
        return object.line();
    }
    let (Some(packets), Some(bytes)) = (packets, bytes) else {
        return format!("{relayed:>5}->{direct:<7}  {sender:<6}  never moved\n");
    };
    let lost = lost.map_or(String::new(), |lost| format!(" ({lost})"));
    let rate = |window: usize| format!("{:.0} ({})", rates[window].unwrap_or(0.0), reference[window]);
    format!(
        "{relayed:>5}->{direct:<7}  {sender:<6}{:>14}{:>15}{:>12} packets{lost}, {bytes} bytes\n",
        rate(0),
        rate(1),
        packets
    )
}
