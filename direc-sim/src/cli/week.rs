//! A week of operation for each of some seeds: the longest anybody was lost, against what direc-core's constants say.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use direc_sim::{
    json::{Object, hex},
    week::{Longest, RETRY, Report, Week, moment},
};

use super::{all_cores::on_all_cores, args::Args};

const DAY: Duration = Duration::from_secs(86_400);
/// So many faults of one week are told with their stories, and so many in all.
const STORIES: usize = 3;
const TOLD: usize = 20;

/// Runs them all, and says each week as it comes to be its turn. Gives whether all were good.
pub(crate) fn table(args: &Args, say: impl Fn(&str)) -> bool {
    let count = args.seeds.max(1);
    let week = |n| Week { relays: args.relays, lasts: DAY * args.days, ..Week::new(args.seed.wrapping_add(n)) };
    let weeks: Vec<Week> = (0..count).map(week).collect();
    let mut good = true;
    for (week, result, took) in run_all(&weeks) {
        match result {
            Ok(report) => {
                good &= report.ok();
                say(&if args.json { json(&report) } else { text(&report, took) });
            }
            Err(why) => {
                good = false;
                say(&format!("seed {}: {why}\n", week.seed));
            }
        }
    }
    if !args.json {
        say(if good { "nobody was lost for longer than its backoff\n" } else { "NOT all is as it must be\n" });
    }
    good
}

type Done = (Week, Result<Report, String>, Duration);

/// Runs weeks on all cores, and gives them in their order.
fn run_all(weeks: &[Week]) -> Vec<Done> {
    let progress = |done| format!("{done}/{} weeks", weeks.len());
    on_all_cores(weeks, progress, |week| {
        let began = Instant::now();
        let result = week.run().map_err(|error| error.to_string());
        (*week, result, began.elapsed())
    })
}

/// What runs a week again.
fn command(week: &Week) -> String {
    let days = week.lasts.as_secs() / 86_400;
    format!("direc-sim week --seed {} --relays {} --days {days}", week.seed, week.relays)
}

fn text(report: &Report, took: Duration) -> String {
    let mut out = String::new();
    let Report { incidents, calls, pings, packets, .. } = report;
    let _ = writeln!(out, "{}", command(&report.week));
    let _ = writeln!(
        out,
        "  {} until {}, {incidents} incidents, {packets} packets in {:.1} s; trace {}",
        if report.ok() { "ok" } else { "NOT OK" },
        moment(report.lasted),
        took.as_secs_f64(),
        hex(&report.hash[..8]),
    );
    for (what, limit, longest) in &report.stretches {
        let Longest { lasted, at, whose, count } = longest;
        let since = if *count > 0 { format!("{whose}, {}", moment(*at)) } else { String::new() };
        let (lasted, limit) = (lasted.as_secs(), limit.as_secs());
        let _ = writeln!(out, "  {what:<42}{count:>6} times, {lasted:>4} s at most (limit {limit} s)  {since}");
    }
    let _ = writeln!(out, "  {pings} times something was said on a connection and came back");
    let retry = RETRY.as_secs();
    let _ = writeln!(
        out,
        "  {calls} calls: who wants a connection and has none calls, and {retry} s later again, whatever is broken meanwhile"
    );
    let _ = writeln!(out, "  {:>6} led to a connection, which", report.made());
    for (why, count) in &report.ended {
        let _ = writeln!(out, "  {count:>14} ended: {why}");
    }
    let stood = report.made().saturating_sub(report.ended.values().sum());
    let _ = writeln!(out, "  {stood:>14} stood until the end of the week");
    let _ = writeln!(out, "  {:>6} led to none, because", report.unmade.values().sum::<u64>());
    for (why, count) in &report.unmade {
        let _ = writeln!(out, "  {count:>14} {why}");
    }
    let held = report.holdings.first_and_last();
    let held = held.iter().filter(|(_, first, last)| first + last > 0);
    let held: Vec<String> = held.map(|(what, first, last)| format!("{what} {first} → {last}")).collect();
    let _ = writeln!(out, "  held in calm, first day → last: {}", held.join(", "));
    for (number, fault) in report.faults.iter().take(TOLD).enumerate() {
        out += &if number < STORIES { report.tell(fault) } else { format!("{}: {}\n", moment(fault.at), fault.what) };
    }
    if report.faults.len() > TOLD {
        let _ = writeln!(out, "and {} more", report.faults.len() - TOLD);
    }
    out + "\n"
}

fn json(report: &Report) -> String {
    let mut object = Object::new("week");
    object.number("seed", report.week.seed).number("relays", report.week.relays as u64);
    object.ms("lasted_ms", Some(report.lasted)).number("incidents", report.incidents as u64);
    object.number("packets", report.packets).number("calls", report.calls).number("pings", report.pings);
    object.number("made", report.made()).number("unmade", report.unmade.values().sum());
    for (what, limit, longest) in &report.stretches {
        let key = what.replace(' ', "_");
        object.ms(&format!("{key}_ms"), Some(longest.lasted)).ms(&format!("{key}_limit_ms"), Some(*limit));
    }
    object.number("faults", report.faults.len() as u64);
    if let Some(fault) = report.faults.first() {
        object.text("first_fault", &format!("{}: {}", moment(fault.at), fault.what));
    }
    object.text("trace", &hex(&report.hash)).text("replay", &command(&report.week)).flag("ok", report.ok());
    object.line()
}
