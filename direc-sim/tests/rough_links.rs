//! Bulk over paths that lose, delay and queue packets, with the model of the path: fast, and without long queues.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use direc_core::Congestion;
use direc_sim::{
    Scenario,
    app::{Flow, Pace, Work},
    link::LinkConfig,
    run,
    trace::{DropCause, End},
};

const MS: Duration = Duration::from_millis(1);
/// How long a transfer takes, and from when on its rate counts.
const LASTS: Duration = Duration::from_secs(8);
const SETTLED: Duration = Duration::from_secs(2);

/// What came of a transfer.
#[derive(Debug)]
struct Transfer {
    /// Mbit/s that the program gets.
    rate: f64,
    /// One-way delay of the packets beyond the path's own, in the middle.
    queued: Duration,
    /// The longest time in which the program gets nothing.
    stall: Duration,
    /// The part of the packets for which the queue had no room.
    overflow: f64,
}

fn transfer(mbit: u64, rtt: u32, queue_ms: u64, change: impl FnOnce(&mut LinkConfig)) -> Transfer {
    let one_way = rtt * MS / 2;
    let mut scenario = Scenario::home_pair(one_way, one_way, one_way);
    let rate = mbit * 1_000_000;
    let queue = usize::try_from(rate / 8 * queue_ms / 1000).unwrap();
    let mut link = LinkConfig { rate: Some(rate), queue, ..LinkConfig::default() };
    change(&mut link);
    scenario.direct_link = Some(link);
    scenario.congestion = Congestion::Bbr;
    scenario = scenario.work(Work { flow: Some(Flow { pace: Pace::Full, lasts: LASTS }), ..Work::default() });
    (scenario.limit, scenario.linger) = (LASTS, LASTS);
    let outcome = run(&scenario, 1).unwrap();
    let [from, to] = [outcome.start + SETTLED, outcome.start + LASTS - 500 * MS];
    let deliveries = &outcome.peers[1].connections.first().unwrap().deliveries;
    let (mut delays, mut full) = (Vec::new(), 0);
    let ours = |from| from == outcome.peers[0].host;
    let sent: Vec<_> = outcome.trace.packets.iter().filter(|p| ours(p.from) && p.len > 1000 && !p.relayed).collect();
    for packet in &sent {
        match packet.end {
            End::Arrived { at, .. } if packet.at > from => delays.push((at - packet.at).saturating_sub(one_way)),
            End::Dropped { cause: DropCause::QueueFull, .. } => full += 1,
            _ => {}
        }
    }
    delays.sort_unstable();
    Transfer {
        rate: deliveries.bytes(from, to) as f64 * 8e-6 / (to - from).as_secs_f64(),
        queued: delays[delays.len() / 2],
        stall: deliveries.longest_gap_within(from, to).lasted,
        overflow: f64::from(full) / sent.len() as f64,
    }
}

#[test]
fn packets_that_are_lost_do_not_slow_a_transfer_down() {
    for (loss, least) in [(0.0, 90.0), (0.001, 90.0), (0.01, 86.0), (0.02, 82.0)] {
        let transfer = transfer(100, 40, 100, |link| link.loss = loss);
        assert!(transfer.rate >= least && transfer.queued < 20 * MS, "{loss}: {transfer:?}");
    }
}

#[test]
fn packets_that_come_late_do_not_slow_a_transfer_down() {
    for (late, least) in [(0.01, 90.0), (0.05, 88.0)] {
        let transfer = transfer(100, 40, 100, |link| (link.reorder, link.reorder_by) = (late, 7 * MS));
        assert!(transfer.rate >= least, "{late}: {transfer:?}");
    }
}

#[test]
fn a_router_with_a_second_of_queue_is_not_filled() {
    let transfer = transfer(20, 40, 1000, |_| ());
    assert!(transfer.rate > 18.0, "{transfer:?}");
    assert!(transfer.queued <= 40 * MS && transfer.stall <= 150 * MS, "{transfer:?}");
}

#[test]
fn a_short_queue_loses_little_by_our_own_doing() {
    let transfer = transfer(100, 40, 20, |_| ());
    assert!(transfer.rate > 85.0 && transfer.overflow <= 0.02, "{transfer:?}");
}

#[test]
fn long_and_short_paths_are_filled() {
    for (mbit, rtt) in [(20, 5), (50, 100), (100, 150), (5, 300)] {
        let transfer = transfer(mbit, rtt, 200, |_| ());
        assert!(transfer.rate > mbit as f64 * 0.85, "{mbit} Mbit/s, {rtt} ms: {transfer:?}");
    }
}
