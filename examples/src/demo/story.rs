//! What the three parties do, told in the order in which it happened.
//!
//! Each party's news come by a channel of its own. They are held back for a moment and sorted, so that the lines are
//! live and in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use direc_smol::{PeerNews, RelayNews, RelayWatch, Step, StepTaken, Watch};
use smol::{
    Task, Timer,
    channel::{Receiver, Sender, unbounded},
    future::or,
};

use super::events::DemoEvent;
use crate::{clock::ms_between, out::Out};

/// The parties, as people and programs read of them.
pub(super) const CLIENT: &str = "client";
pub(super) const RELAY: &str = "relay";
pub(super) const SERVER: &str = "server";
/// How long a line waits for an earlier one.
const HOLD: Duration = Duration::from_millis(20);
/// How long the steps still missing may take.
const MISSING: Duration = Duration::from_secs(3);

pub(super) struct Story {
    out: Out,
    started: Instant,
    lines: Sender<Line>,
    seen: Arc<Mutex<BTreeSet<Step>>>,
    followers: Vec<Task<()>>,
    printer: Task<()>,
}

struct Line {
    at: Instant,
    who: &'static str,
    what: What,
}

enum What {
    Step(StepTaken),
    News(String),
}

impl Story {
    pub(super) fn begin(started: Instant, out: Out) -> Self {
        let (lines, arriving) = unbounded();
        let seen = Arc::default();
        let printer = smol::spawn(print(arriving, started, out, Arc::clone(&seen)));
        Self { out, started, lines, seen, followers: Vec::new(), printer }
    }

    /// A line that no party reports by itself.
    pub(super) fn tell(&self, at: Instant, who: &'static str, news: String) {
        // Fails only once the printer is gone, and with it the story.
        let _ = self.lines.try_send(Line { at, who, what: What::News(news) });
    }

    pub(super) fn follow_relay(&mut self, mut watch: RelayWatch) {
        let lines = self.lines.clone();
        self.followers.push(smol::spawn(async move {
            while let Some((at, news)) = watch.next().await {
                let what = match news {
                    RelayNews::Step(step) => What::Step(step),
                    RelayNews::Registered { peer, address, .. } => {
                        What::News(format!("{} is registered, from {address}", peer.short()))
                    }
                    RelayNews::Refused { reason, .. } => What::News(format!("refuses: {reason}")),
                    _ => continue,
                };
                let _ = lines.try_send(Line { at, who: RELAY, what });
            }
        }));
    }

    pub(super) fn follow_peer(&mut self, who: &'static str, mut watch: Watch) {
        let lines = self.lines.clone();
        self.followers.push(smol::spawn(async move {
            while let Some((at, news)) = watch.next().await {
                let what = match news {
                    PeerNews::Step(step) => What::Step(step),
                    PeerNews::Warm { .. } => What::News("is warm: all cookies confirmed".into()),
                    PeerNews::RelayLost { error, .. } => What::News(format!("lost the relay: {error}")),
                    _ => continue,
                };
                let _ = lines.try_send(Line { at, who, what });
            }
        }));
    }

    /// Waits for the steps still missing, and for all lines to be printed. The steps that were seen.
    pub(super) async fn end(self) -> BTreeSet<Step> {
        let deadline = Instant::now() + MISSING;
        while self.seen().len() < Step::ALL.len() && Instant::now() < deadline {
            Timer::after(HOLD).await;
        }
        // What follows the last step closely belongs to it.
        Timer::after(2 * HOLD).await;
        for follower in self.followers {
            follower.cancel().await;
        }
        self.lines.close();
        self.printer.await;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn seen(&self) -> BTreeSet<Step> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Milliseconds from the demo's start.
    pub(super) fn ms(&self, at: Instant) -> f64 {
        ms_between(self.started, at)
    }

    pub(super) fn event(&self, event: &DemoEvent) {
        self.out.event(event);
    }
}

async fn print(arriving: Receiver<Line>, started: Instant, out: Out, seen: Arc<Mutex<BTreeSet<Step>>>) {
    let mut held: BTreeMap<(Instant, u64), Line> = BTreeMap::new();
    for number in 0.. {
        let next = async { Some(arriving.recv().await) };
        let due = async {
            match held.first_key_value() {
                Some((&(at, _), _)) => Timer::at(at + HOLD).await,
                None => std::future::pending().await,
            };
            None
        };
        match or(next, due).await {
            Some(Ok(line)) => drop(held.insert((line.at, number), line)),
            Some(Err(_)) => break,
            None => {}
        }
        let now = Instant::now();
        while held.first_key_value().is_some_and(|(&(at, _), _)| at + HOLD <= now) {
            if let Some((_, line)) = held.pop_first() {
                show(&line, started, out, &seen);
            }
        }
    }
    for line in held.values() {
        show(line, started, out, &seen);
    }
}

fn show(line: &Line, started: Instant, out: Out, seen: &Mutex<BTreeSet<Step>>) {
    let (ms, who) = (ms_between(started, line.at), line.who);
    match &line.what {
        What::News(news) => out.say(&format!("{ms:>10.3} ms  {who:<6}       {news}")),
        What::Step(taken) => {
            let (step, what) = (taken.step.to_string(), words(who, taken.step));
            let addr = taken.address.map(|address| address.to_string());
            let at = addr.as_ref().map_or(String::new(), |addr| format!("  [{addr}]"));
            out.say(&format!("{ms:>10.3} ms  {who:<6}  {step:<3}  {what}{at}"));
            out.event(&DemoEvent::Step { ms, who, step, what, peer: taken.peer.map(|peer| peer.to_string()), addr });
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(taken.step);
        }
    }
}

/// S9 is two things: the relay tells, client and server hear.
fn words(who: &str, step: Step) -> &'static str {
    match (step, who) {
        (Step::S9, RELAY) => "tells one side's WAN address to the other",
        (Step::S9, _) => "learns the other side's WAN address",
        _ => step.what(),
    }
}
