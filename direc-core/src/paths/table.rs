//! What paths do in each state at each event, as a table for people: `table.txt`, which is kept beside this file.
//!
//! A change of behaviour is a change of that file. `DIREC_BLESS=1 cargo test -p direc-core paths::table` writes it.

use std::fmt::Write;

use super::{
    candidate::State,
    tests::{address, pair, paths, reach, start},
    *,
};
use crate::wire::datagram::Nonce;

/// Each way's round trip.
const RTT: Duration = Duration::from_millis(20);

const LEGEND: &str = "\
What P2's paths do, by state and event. Written by src/paths/table.rs with DIREC_BLESS=1; X is the address it is about.

  state  what is known of X: none, punching, heard, works, doubtful, failing, on trial, lost, lost+alive (a small check
         has come back), silent (all probes are spent), silent+heard
  data   the path that carries the data: relay, X, or Y, another direct path
  route  where the next packet goes: relay, X, Y, both (of relay and direct), hold (nowhere)
  sends  probes of full size to X (PROBE) or Y, small checks to X, Y or the relay, sent at once
  next   when something is due after that, in milliseconds
  tells  what the session is told

Each state's first line is the state left alone. Below it, a dot is what that line says.
";

/// How a state comes about, and what happens then.
type Setup = fn() -> Line;
type Happens = fn(&mut Line) -> Option<PathEvent>;
/// Which ways answer.
type Answers = fn(Via) -> bool;

const ALL: Answers = |_| true;
const NONE: Answers = |_| false;
const RELAY: Answers = |via| via == Via::Relay;

fn x() -> Pair {
    pair(1)
}

/// One side's paths, and what has become of what it sent.
struct Line {
    paths: Paths,
    keys: ProbeKeys,
    now: Instant,
    sent: Vec<(Instant, Via, Nonce)>,
    used: Vec<(Instant, Via)>,
}

impl Line {
    fn new(policy: PathPolicy) -> Self {
        let now = start();
        let (mut paths, keys) = paths(now, policy);
        paths.start(now, now + Duration::from_secs(10));
        Self { paths, keys, now, sent: Vec::new(), used: Vec::new() }
    }

    fn learn(mut self, n: u8) -> Self {
        self.paths.learn(self.now, &[address(n)], &reach());
        self
    }

    /// So many milliseconds pass; the ways that `answers` names do. `used`: data goes out and is acknowledged.
    fn pass(mut self, ms: u64, answers: Answers, used: bool) -> Self {
        for _ in 0..ms {
            self.now += Duration::from_millis(1);
            self.paths.handle_timeout(self.now);
            self.poll();
            let then = self.now - RTT;
            let back = self.sent.iter().filter(|(at, via, _)| *at == then && answers(*via));
            for (_, via, nonce) in back.copied().collect::<Vec<_>>() {
                self.echo(via, nonce);
            }
            self.used.retain(|(at, _)| *at >= then);
            if used {
                self.paths.on_use(self.now, true);
                self.used.push((self.now, self.paths.current));
            }
            let acknowledged = self.used.iter().any(|&(at, via)| at == then && answers(via));
            if acknowledged {
                self.paths.on_acknowledged(self.now, then, RTT, used);
            }
        }
        self
    }

    /// Goes on until X is in that state.
    fn until(mut self, answers: Answers, used: bool, is: &str) -> Self {
        while state(&self.paths, self.now) != is {
            self = self.pass(1, answers, used);
        }
        self
    }

    fn poll(&mut self) -> Vec<Outgoing> {
        let out: Vec<Outgoing> = std::iter::from_fn(|| self.paths.poll_probe(self.now)).collect();
        for one in &out {
            let (Datagram::Probe(fields) | Datagram::Check(fields)) = one.datagram else { panic!("no probe") };
            self.sent.push((self.now, one.via, fields.nonce));
        }
        out
    }

    fn echo(&mut self, via: Via, nonce: Nonce) -> Option<PathEvent> {
        self.paths.on_echo(self.now, via, &self.keys.echo(nonce)).unwrap_or(None)
    }

    /// The last thing that was sent this way comes back, if there is one.
    fn echo_last(&mut self, wanted: Via) -> Option<PathEvent> {
        let (_, via, nonce) = *self.sent.iter().rev().find(|(_, via, _)| *via == wanted)?;
        self.echo(via, nonce)
    }

    fn hear(&mut self, full: bool) -> Option<PathEvent> {
        let probe = self.keys.probe([9; 8]);
        let _ = self.paths.on_probe(self.now, Via::Direct(x()), full, &probe);
        None
    }

    fn pass_to_the_next_deadline(&mut self) -> Option<PathEvent> {
        self.now = self.paths.poll_timeout(self.now)?.max(self.now);
        self.paths.handle_timeout(self.now)
    }
}

/// A connection that runs straight to X.
fn direct(policy: PathPolicy) -> Line {
    Line::new(policy).learn(1).pass(2_000, ALL, true)
}

fn lost(policy: PathPolicy) -> Line {
    direct(policy).until(RELAY, true, "lost").pass(300, RELAY, true)
}

fn twice_dead() -> Line {
    lost(PathPolicy::Auto).until(ALL, true, "works").pass(1_000, ALL, true).until(RELAY, true, "lost")
}

fn states() -> Vec<(&'static str, Setup)> {
    use PathPolicy::{Auto, DirectOnly};
    vec![
        ("Relayed: no address is known", || Line::new(Auto).pass(20, ALL, true)),
        ("Relayed: X is punched", || Line::new(Auto).learn(1).pass(20, RELAY, true)),
        ("Relayed: X is heard", || {
            let mut line = Line::new(Auto).learn(1).pass(30, RELAY, true);
            line.hear(true);
            line.pass(20, RELAY, true)
        }),
        ("Relayed: X is silent", || Line::new(Auto).learn(1).until(RELAY, true, "silent")),
        ("Relayed: X is silent, but was heard", || {
            let mut line = Line::new(Auto).learn(1).pass(30, RELAY, true);
            line.hear(true);
            line.until(RELAY, true, "silent+heard")
        }),
        ("Relayed: X is lost", || lost(Auto)),
        ("Relayed: X is lost, and a check has come back", || {
            let mut line = lost(Auto);
            line.echo_last(Via::Direct(x()));
            line
        }),
        ("Relayed: X is on trial", || twice_dead().until(ALL, true, "on trial").pass(200, ALL, true)),
        ("Direct: X carries data", || direct(Auto)),
        ("Direct: X is at rest", || direct(Auto).pass(15_000, ALL, false)),
        ("Direct, in trouble: X is doubtful", || direct(Auto).until(NONE, true, "doubtful").pass(20, NONE, true)),
        ("Direct, in trouble: X fails, and so does the relay", || {
            direct(Auto).until(NONE, true, "failing").pass(50, NONE, true)
        }),
        ("Direct: Y carries data, X is spare", || {
            Line::new(Auto).learn(2).pass(500, ALL, true).learn(1).pass(2_000, ALL, true)
        }),
        ("Held: X is lost, and data may go straight only", || lost(DirectOnly)),
        ("Held: X is lost, and so is the relay", || {
            let mut line = lost(Auto);
            line.paths.on_attached(line.now, false);
            line
        }),
    ]
}

fn events() -> Vec<(&'static str, Happens)> {
    vec![
        ("(left alone)", |_| None),
        ("told X again", |line| {
            line.paths.learn(line.now, &[x().remote], &reach());
            None
        }),
        ("check heard from X", |line| line.hear(false)),
        ("full probe heard from X", |line| line.hear(true)),
        ("echo from X", |line| line.echo_last(Via::Direct(x()))),
        ("echo through the relay", |line| line.echo_last(Via::Relay)),
        ("packet from X", |line| {
            line.paths.on_heard(line.now, Via::Direct(x()));
            None
        }),
        ("packet through the relay", |line| {
            line.paths.on_heard(line.now, Via::Relay);
            None
        }),
        ("data acknowledged", |line| {
            line.paths.on_acknowledged(line.now, line.now, RTT, false);
            None
        }),
        ("data sent", |line| {
            line.paths.on_use(line.now, true);
            None
        }),
        ("next deadline", Line::pass_to_the_next_deadline),
        ("network changed", |line| {
            line.paths.on_network_changed(line.now, line.now + Duration::from_secs(10));
            None
        }),
        ("relay gone", |line| {
            line.paths.on_attached(line.now, false);
            None
        }),
        ("relay back", |line| {
            line.paths.on_attached(line.now, true);
            None
        }),
    ]
}

fn state(paths: &Paths, now: Instant) -> &'static str {
    let Some(candidate) = paths.candidates.iter().find(|candidate| candidate.pair == x()) else { return "none" };
    match candidate.state() {
        State::Punching { .. } => "punching",
        State::Heard { .. } => "heard",
        State::Proven { liveness, .. } if liveness.failing_since(now).is_some() => "failing",
        State::Proven { liveness, .. } if liveness.is_doubtful(now) => "doubtful",
        State::Proven { trusted, .. } if *trusted > now => "on trial",
        State::Proven { .. } => "works",
        State::Lost { alive: false, .. } => "lost",
        State::Lost { alive: true, .. } => "lost+alive",
        State::Silent { heard: false } => "silent",
        State::Silent { heard: true } => "silent+heard",
    }
}

fn way(via: Via) -> &'static str {
    match via {
        Via::Relay => "relay",
        Via::Direct(pair) if pair == x() => "X",
        Via::Direct(_) => "Y",
    }
}

fn route(route: Route) -> &'static str {
    match route {
        Route::Relay => "relay",
        Route::Both => "both",
        Route::Direct(pair) => way(Via::Direct(pair)),
        Route::Hold => "hold",
    }
}

fn told(event: PathEvent) -> String {
    match event {
        PathEvent::Punching(address) => format!("punching {}", way(Via::Direct(Pair::main(address)))),
        PathEvent::Moved(via) => format!("moved to {}", way(via)),
        PathEvent::GaveUp(why) => format!("gave up: {why:?}"),
        PathEvent::Doubted => "doubted".into(),
        PathEvent::Recovered => "recovered".into(),
        PathEvent::RelaySilent => "relay silent".into(),
    }
}

/// State, data, route, sends, next, tells.
fn row(mut line: Line, happens: Happens) -> [String; 6] {
    let mut tells: Vec<String> = happens(&mut line).map(told).into_iter().collect();
    let state = state(&line.paths, line.now);
    let data = way(line.paths.current);
    let next_packet = route(line.paths.route(line.now, false));
    let out = line.poll();
    tells.extend(out.iter().filter_map(|one| one.event).map(told));
    let sends: Vec<String> = out
        .iter()
        .map(|one| {
            let kind = if matches!(one.datagram, Datagram::Probe(_)) { "PROBE" } else { "check" };
            format!("{kind} {}", way(one.via))
        })
        .collect();
    let next = line.paths.poll_timeout(line.now).map(|at| at.saturating_duration_since(line.now));
    let next = next.map_or_else(|| "never".into(), |next| next.as_millis().to_string());
    [state.into(), data.into(), next_packet.into(), listed(&sends), next, listed(&tells)]
}

fn listed(things: &[String]) -> String {
    if things.is_empty() { "-".into() } else { things.join(", ") }
}

fn write_row(out: &mut String, event: &str, cells: &[String; 6]) {
    let [state, data, route, sends, next, tells] = cells;
    writeln!(out, "  {event:<26}{state:<14}{data:<7}{route:<7}{sends:<32}{next:>6}  {tells}").unwrap();
}

fn table() -> String {
    let mut out = String::from(LEGEND);
    let heads = ["state", "data", "route", "sends", "next", "tells"].map(String::from);
    for (name, setup) in states() {
        writeln!(out, "\n{name}").unwrap();
        write_row(&mut out, "event", &heads);
        let alone = row(setup(), |_| None);
        for (event, happens) in events() {
            let mut cells = row(setup(), happens);
            if event != "(left alone)" {
                let same = cells.iter_mut().zip(&alone).filter(|(cell, alone)| cell == alone && *alone != "-");
                same.for_each(|(cell, _)| *cell = ".".into());
            }
            write_row(&mut out, event, &cells);
        }
    }
    out
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test that writes its expectation, when a person says so")]
fn what_paths_do_in_each_state_at_each_event_is_what_the_table_says() {
    let (path, table) = (concat!(env!("CARGO_MANIFEST_DIR"), "/src/paths/table.txt"), table());
    if std::env::var("DIREC_BLESS").is_ok_and(|bless| bless == "1") {
        std::fs::write(path, &table).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let differs = kept.lines().zip(table.lines()).find(|(kept, now)| kept != now);
    assert!(kept == table, "table.txt says otherwise; first at (kept, now): {differs:#?}");
}
