//! The measures: how long introductions take, against the best that is possible.

use std::{fmt::Write as _, time::Duration};

use direc_sim::{Bounds, Outcome, Scenario, json::Object, run, timeline::ms};

/// One-way delays a, b, c in ms. All obey the triangle inequality; the last ones are lopsided.
pub(crate) const DELAYS: [[u64; 3]; 10] = [
    [20, 20, 20],
    [40, 40, 40],
    [5, 5, 2],
    [10, 60, 70],
    [60, 10, 50],
    [80, 80, 5],
    [1, 99, 100],
    [100, 1, 99],
    [3, 150, 148],
    [25, 40, 60],
];

/// What is allowed on top of the bound, besides one twentieth.
const SLACK: Duration = Duration::from_millis(1);

/// One figure against its bound.
struct Row {
    what: &'static str,
    measured: Option<Duration>,
    bound: Duration,
    limit: Duration,
}

impl Row {
    fn ok(&self) -> bool {
        self.measured.is_some_and(|measured| measured <= self.limit)
    }
}

fn near(bound: Duration) -> Duration {
    bound.mul_f64(1.05) + SLACK
}

/// What one run has to show.
fn rows(outcome: &Outcome, bounds: Bounds, ask: bool, relay_only: bool) -> Vec<Row> {
    let call = outcome.call(0);
    let figure = |what, get: fn(&direc_sim::CallOutcome<'_>) -> Option<Duration>, bound, limit| Row {
        what,
        measured: call.as_ref().and_then(get),
        bound,
        limit,
    };
    let relayed = bounds.relayed + SLACK;
    if relay_only {
        return vec![figure("relayed: first packet", |call| call.connected(), bounds.relayed, relayed)];
    }
    let mut rows = vec![
        figure("direct: first packet", |call| call.direct_heard(), bounds.direct, near(bounds.direct)),
        figure("round trip, data goes direct", |call| call.direct(), bounds.moved, near(bounds.moved)),
        figure("connected, by either path", |call| call.connected(), bounds.relayed, relayed),
    ];
    if !ask {
        let echo = bounds.first_echo;
        rows.push(figure("first echo of application data", |call| call.first_echo(), echo, near(echo)));
    }
    rows
}

/// Runs all of them. Gives the text and whether every bound was kept.
pub(crate) fn table(seed: u64, json: bool) -> (String, bool) {
    let (mut out, mut good) = (String::new(), true);
    if !json {
        out.push_str(
            "Both behind endpoint-independent mapping with address- and port-dependent filtering, warm, no loss; ms.\n\
             allowed: 1.05 × bound + 1 ms; relayed and connected: bound + 1 ms\n\n\
             \x20    a     b     c  consent     what                              measured      bound   ratio\n",
        );
    }
    for (ask, relay_only) in [(false, false), (true, false), (false, true), (true, true)] {
        for [a, b, c] in DELAYS {
            let [da, db, dc] = [a, b, c].map(Duration::from_millis);
            let mut scenario = Scenario::home_pair(da, db, dc);
            if ask {
                scenario = scenario.asking();
            }
            if relay_only {
                scenario = scenario.relay_only();
            }
            let consent = if ask { "asking" } else { "standing" };
            let (Ok(outcome), Some(bounds)) = (run(&scenario, seed), Bounds::of(&scenario, 0)) else {
                good = false;
                continue;
            };
            for fault in outcome.faults() {
                let _ = writeln!(out, "{a},{b},{c} {consent}: {fault}");
                good = false;
            }
            for row in rows(&outcome, bounds, ask, relay_only) {
                good &= row.ok();
                let ratio = row.measured.map(|measured| measured.as_secs_f64() / row.bound.as_secs_f64());
                if json {
                    let mut object = Object::new("bound");
                    object.number("a_ms", a).number("b_ms", b).number("c_ms", c).text("consent", consent);
                    object.flag("relay_only", relay_only).text("what", row.what).ms("measured_ms", row.measured);
                    object.ms("bound_ms", Some(row.bound)).real("ratio", ratio).flag("ok", row.ok());
                    out.push_str(&object.line());
                } else {
                    let measured = row.measured.map_or("never".to_owned(), ms);
                    let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
                    let verdict = if row.ok() { "ok" } else { "NOT" };
                    let _ = writeln!(
                        out,
                        "{a:>6}{b:>6}{c:>6}  {consent:<10}  {:<31}{measured:>11}{:>11}{ratio:>8}  {verdict}",
                        row.what,
                        ms(row.bound),
                    );
                }
            }
        }
    }
    if !json {
        out.push_str(if good { "\nall bounds kept\n" } else { "\nNOT all bounds kept\n" });
    }
    (out, good)
}
