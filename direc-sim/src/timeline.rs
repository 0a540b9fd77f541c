//! A run as a sequence diagram in text: lanes of client, relay and server, the specification's steps, and how close it came to the bound.

mod canvas;

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::{
    outcome::{Bounds, Outcome},
    packet::Kind,
    run::RELAY,
    trace::{End, What},
    world::HostId,
};
use canvas::Canvas;
pub use canvas::Lane;

/// Packets of one kind that leave within this time of each other are one flight.
const FLIGHT: Duration = Duration::from_micros(300);

/// One thing to draw.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A step or an event, at a lane.
    Said {
        /// Whose.
        lane: Lane,
        /// A step's or an event's.
        mark: char,
        /// In words.
        text: String,
    },
    /// Packets of one flight.
    Flight(Flight),
}

/// Packets that left together, from one lane to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Flight {
    /// Who sent them.
    pub from: Lane,
    /// Whom they are for.
    pub to: Lane,
    kind: Kind,
    relayed: bool,
    count: usize,
    until: Duration,
    /// When the first one arrives, counted as the story's other times, or why they do not.
    pub arrives: Result<Duration, &'static str>,
}

/// What there is to draw of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// In the order of time, which counts from the call.
    pub items: Vec<(Duration, Item)>,
    /// Packets left out: those after the last thing worth telling.
    pub hidden: usize,
}

impl Flight {
    /// What these packets are to the three parties, and how many.
    pub fn label(&self) -> String {
        match self.count {
            1 => self.what(),
            count => format!("{} ×{count}", self.what()),
        }
    }

    fn what(&self) -> String {
        let control = !self.relayed && (self.from == Lane::P3 || self.to == Lane::P3);
        match self.kind {
            Kind::OneRtt if control => "control".to_owned(),
            Kind::Initial | Kind::ZeroRtt | Kind::Handshake | Kind::Retry if control => {
                format!("control {}", self.kind.name())
            }
            kind if self.relayed => format!("relayed {}", kind.name()),
            kind => kind.name().to_owned(),
        }
    }
}

/// What one call's diagram shows; nothing if there is no such call.
pub fn story(outcome: &Outcome, call: usize) -> Option<Story> {
    let spec = outcome.scenario.calls.get(call)?;
    let (p2, p4) = (outcome.peers.get(spec.from)?, outcome.peers.get(spec.to)?);
    let lanes = BTreeMap::from([(p2.host, Lane::P2), (RELAY, Lane::P3), (p4.host, Lane::P4)]);
    let from = outcome.start + spec.at;
    let until = interesting(outcome, call);
    let mut items = said(outcome, &lanes, from, until);
    let hidden = flights(outcome, &lanes, from, until, &mut items);
    let items = items.into_iter().map(|((at, _), mut item)| {
        if let Item::Flight(Flight { arrives: Ok(arrival), .. }) = &mut item {
            *arrival = arrival.saturating_sub(from);
        }
        (at.saturating_sub(from), item)
    });
    Some(Story { items: items.collect(), hidden })
}

/// The sequence diagram of one call of a run, at most 80 columns wide.
pub fn render(outcome: &Outcome, call: usize) -> String {
    let mut out = String::new();
    let Some(Story { items, hidden }) = story(outcome, call) else { return out };
    let mut canvas = Canvas::new();
    for (at, item) in items {
        match item {
            Item::Said { lane, mark, text } => canvas.say(at, lane, mark, &text),
            Item::Flight(flight) => canvas.arrow(at, flight.from, flight.to, &flight.label(), flight.arrives),
        }
    }
    out.push_str(&canvas.finish());
    if hidden > 0 {
        let from = outcome.start + outcome.scenario.calls[call].at;
        let _ = writeln!(out, "… and {hidden} packets more until {} ms", ms(outcome.end.saturating_sub(from)));
    }
    out.push('\n');
    summary(outcome, call, &mut out);
    out
}

/// The time until which packets are worth drawing.
fn interesting(outcome: &Outcome, call: usize) -> Duration {
    let Some(log) = outcome.call(call).map(|call| call.log) else { return outcome.start };
    let mine = log.first_echo_at.max(log.direct_at()).max(log.connected_at).max(log.asked_at);
    let ends = [log.failed.as_ref().map(|(at, _)| *at), log.closed.as_ref().map(|(at, _)| *at)];
    let spec = outcome.scenario.calls.get(call);
    let theirs = spec.and_then(|spec| outcome.accepted(spec.to).next());
    let theirs = theirs.and_then(|log| log.direct_at());
    let until = [mine, theirs].into_iter().chain(ends).flatten().max().unwrap_or(outcome.start);
    // Somebody may have stayed on the relay or been cut off for long: the first second tells the story.
    let calm = mine.unwrap_or(outcome.start) + Duration::from_secs(1);
    until.min(calm.max(theirs.unwrap_or_default()))
}

/// What the three parties said, in the order they said it; the same step said again at once is counted.
fn said(
    outcome: &Outcome,
    lanes: &BTreeMap<HostId, Lane>,
    from: Duration,
    until: Duration,
) -> BTreeMap<(Duration, usize), Item> {
    let mut items = BTreeMap::new();
    // What was said last, by whom, its place, and how often.
    let mut last: Option<(Duration, Lane, String, usize, usize)> = None;
    let notes = outcome.trace.notes.iter().enumerate();
    for (index, note) in notes.filter(|(_, note)| note.at >= from && note.at <= until) {
        let Some(&lane) = lanes.get(&note.host) else { continue };
        let (mark, words) = match &note.what {
            What::Step(step) => ('●', format!("{} {}", step.step, step.step.what())),
            What::Event(words) => ('◆', words.clone()),
            What::Detail(_) | What::Retired(_) => continue,
        };
        let (place, times) = match &last {
            Some((at, who, what, place, times)) if (*at, *who, what) == (note.at, lane, &words) => (*place, times + 1),
            _ => (index, 1),
        };
        let text = if times > 1 { format!("{words} ×{times}") } else { words.clone() };
        items.insert((note.at, place), Item::Said { lane, mark, text });
        last = Some((note.at, lane, words, place, times));
    }
    items
}

/// Adds the packets between the three parties, flight by flight. Gives how many were left out.
fn flights(
    outcome: &Outcome,
    lanes: &BTreeMap<HostId, Lane>,
    from: Duration,
    until: Duration,
    items: &mut BTreeMap<(Duration, usize), Item>,
) -> usize {
    let (mut flights, mut hidden): (Vec<(Duration, Flight)>, usize) = (Vec::new(), 0);
    for packet in outcome.trace.packets.iter().filter(|packet| packet.at >= from) {
        let (to, arrives) = match packet.end {
            End::Arrived { host, at } => (Some(host), Ok(at)),
            End::Dropped { towards, cause, .. } => (towards, Err(cause.name())),
            End::UnderWay => (None, Err("under way")),
        };
        let lane = |host: Option<HostId>| host.and_then(|host| lanes.get(&host)).copied();
        let (Some(from), Some(to)) = (lane(Some(packet.from)), lane(to)) else { continue };
        if packet.at > until {
            hidden += 1;
            continue;
        }
        let same = flights.iter_mut().rev().take(8).find(|(_, flight)| {
            let alike = (flight.from, flight.to, flight.kind, flight.relayed);
            alike == (from, to, packet.kind, packet.relayed)
                && packet.at <= flight.until + FLIGHT
                && match (flight.arrives, arrives) {
                    (Ok(_), Ok(_)) => true,
                    (one, other) => one == other,
                }
        });
        match same {
            Some((_, flight)) => {
                flight.count += 1;
                flight.until = packet.at;
            }
            None => {
                let (kind, relayed) = (packet.kind, packet.relayed);
                flights.push((packet.at, Flight { from, to, kind, relayed, count: 1, until: packet.at, arrives }));
            }
        }
    }
    // At one instant what was said comes before what was sent: it is the reason.
    let said = outcome.trace.notes.len();
    for (index, (at, flight)) in flights.into_iter().enumerate() {
        items.insert((at, said + index), Item::Flight(flight));
    }
    hidden
}

/// How long everything took, and how long it takes at best.
fn summary(outcome: &Outcome, number: usize, out: &mut String) {
    let Some(call) = outcome.call(number) else {
        out.push_str("the call was never made\n");
        return;
    };
    let spec = &outcome.scenario.calls[number];
    let bounds = Bounds::of(&outcome.scenario, number);
    let (a, b) = (outcome.scenario.to_relay(spec.from), outcome.scenario.to_relay(spec.to));
    let c = outcome.scenario.between(spec.from, spec.to);
    let [a, b, c] = [a, b, c].map(ms);
    let _ =
        writeln!(out, "one way: client–relay a = {a} ms, relay–server b = {b} ms,\n         client–server c = {c} ms");
    let mut line = |what: &str, time: Option<Duration>, bound: Option<Duration>| {
        let _ = match (time, bound.filter(|bound| !bound.is_zero())) {
            (Some(time), Some(bound)) => {
                let ratio = time.as_secs_f64() / bound.as_secs_f64();
                writeln!(out, "{what:<34}{:>8} ms  bound {:>8} ms  {ratio:.3} × bound", ms(time), ms(bound))
            }
            (Some(time), None) => writeln!(out, "{what:<34}{:>8} ms", ms(time)),
            (None, _) => writeln!(out, "{what:<34}{:>8}", "never"),
        };
    };
    let standing = bounds.map(|bounds| bounds.direct.min(bounds.relayed));
    let direct = bounds.map(|bounds| bounds.direct);
    if spec.relay_only {
        line("connected, through the relay", call.connected(), bounds.map(|bounds| bounds.relayed));
    } else {
        line("connected", call.connected(), standing);
        line("time to direct: first packet heard", call.direct_heard(), direct);
        line("data runs on the direct path", call.direct(), bounds.map(|bounds| bounds.moved));
    }
    if call.log.work.ping || call.log.work.echo > 0 {
        line("first echo of application data", call.first_echo(), bounds.map(|bounds| bounds.first_echo));
    }
    if call.log.work.echo > 0 || call.log.work.upload > 0 {
        line("all work done", call.done(), None);
    }
    if let Some((_, why)) = call.log.not_direct {
        let _ = writeln!(out, "not direct: {why}");
    }
    if let Some(why) = call.failure() {
        let _ = writeln!(out, "ended: {why}");
    }
    for fault in outcome.faults() {
        let _ = writeln!(out, "FAULT: {fault}");
    }
}

/// Milliseconds with microseconds behind the point where there are any, for people.
pub fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
