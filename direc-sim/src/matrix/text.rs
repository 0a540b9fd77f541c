//! The matrix as text: for the terminal and for Markdown.

use std::fmt::Write as _;

use super::{
    limits::Class,
    plan::Condition,
    report::{ClassRow, Figures, Matrix, Report},
};
use crate::timeline::ms;

/// What stands in a cell.
type Show = fn(&Report<'_>) -> String;

/// The tables of each condition: what they show, and how.
const TABLES: [(&str, Show); 2] = [
    ("direct, per cent of the runs", |report| per_cent(&report.figures)),
    ("median time to direct, ms (the client hears the server straight)", |report| {
        report.figures.heard.map_or("x".to_owned(), |heard| format!("{:.0}", heard.value.as_secs_f64() * 1e3))
    }),
];
const NOTE: &str =
    "The client down, the server across. -: stays on the relay, as the oracle says. x: never. !: misses its limit.";

/// All of it for the terminal.
pub fn terminal(matrix: &Matrix<'_>) -> String {
    let mut out = format!("{NOTE}\n");
    for &condition in &matrix.plan.conditions {
        for (what, show) in TABLES {
            let _ = write!(out, "\n{}: {what}\n{}", condition.words(), grid(matrix, condition, show));
        }
    }
    let _ = write!(out, "\n{}", classes(matrix));
    out.push_str(&misses(matrix));
    out
}

/// All of it as Markdown.
pub fn markdown(matrix: &Matrix<'_>) -> String {
    let (seed, seeds) = (matrix.plan.seed, matrix.plan.seeds);
    let mut out = format!(
        "# Every NAT against every NAT\n\nWritten by `direc-sim matrix --markdown`, seeds from {seed} on, {seeds} a cell \
         (fewer with loss, past a box that an early packet angers, where ports are predicted or guessed, and where there \
         is nothing to find); [the same as a page to look at](matrix.html). Time to direct: from the call until \
         the client has authenticated a packet that came straight from the server. One-way delays are drawn by the seed, 5 to 80 ms to the relay, unless the command said otherwise. What \
         the names mean stands on the page, and in `direc-sim --help`.\n\n{NOTE} Intervals are at 95 % \
         confidence.\n\n"
    );
    out.push_str(
        "| what the oracle says | condition | pairs | runs | direct | median ms | 95th percentile | missed |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|---|\n");
    for row in &matrix.classes {
        let [rate, median, slow] = columns(&row.figures);
        let (class, condition) = (row.class.what(), row.condition.words());
        let (cells, runs, missed) = (row.cells, row.figures.runs, row.missed);
        let _ = writeln!(out, "| {class} | {condition} | {cells} | {runs} | {rate} | {median} | {slow} | {missed} |");
    }
    for &condition in &matrix.plan.conditions {
        for (what, show) in TABLES {
            let names: Vec<&str> = matrix.plan.kinds.iter().map(|kind| kind.name.as_str()).collect();
            let _ = writeln!(out, "\n{}: {what}\n\n| | {} |", capital(&condition.words()), names.join(" | "));
            let _ = writeln!(out, "|{}", "---|".repeat(names.len() + 1));
            let reports: Vec<&Report<'_>> = matrix.grid(condition).collect();
            for row in reports.chunks(names.len()) {
                let cells: Vec<String> = row.iter().map(|report| cell(report, show)).collect();
                let _ = writeln!(out, "| **{}** | {} |", row[0].cell.one.name, cells.join(" | "));
            }
        }
    }
    out
}

/// Text as a sentence begins.
fn capital(text: &str) -> String {
    let mut symbols = text.chars();
    symbols.next().map_or(String::new(), |first| first.to_uppercase().collect::<String>() + symbols.as_str())
}

/// What stands in a cell, marked if it misses its limit.
fn cell(report: &Report<'_>, show: Show) -> String {
    let text = match (report.cell.class, report.figures.direct) {
        (Class::Relayed, 0) => "-".to_owned(),
        _ => show(report),
    };
    if report.missed.is_empty() { text } else { format!("{text}!") }
}

/// A table with numbered columns.
fn grid(matrix: &Matrix<'_>, condition: Condition, show: Show) -> String {
    let kinds = &matrix.plan.kinds;
    let width = kinds.iter().map(|kind| kind.name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    let reports: Vec<&Report<'_>> = matrix.grid(condition).collect();
    for (number, row) in reports.chunks(kinds.len()).enumerate() {
        let _ = write!(out, "{number:>2} {:<width$}", row[0].cell.one.name);
        for report in row {
            let _ = write!(out, "{:>6}", cell(report, show));
        }
        out.push('\n');
    }
    let _ = write!(out, "{:>2} {:<width$}", "", "");
    for number in 0..kinds.len() {
        let _ = write!(out, "{number:>6}");
    }
    out.push('\n');
    out
}

/// A rate in per cent, as short as it can be said: 100 only if all are.
pub(super) fn per_cent(figures: &Figures) -> String {
    let tenths = figures.direct * 1000 / figures.runs.max(1);
    if tenths.is_multiple_of(10) { format!("{}", tenths / 10) } else { format!("{:.1}", tenths as f64 / 10.0) }
}

/// Rate, median and 95th percentile, with their intervals.
pub(super) fn columns(figures: &Figures) -> [String; 3] {
    let rate = &figures.rate;
    let rate = format!("{} % [{:.2}, {:.2}]", per_cent(figures), rate.low * 100.0, rate.high * 100.0);
    let heard = figures.heard.map(|heard| format!("{} [{}, {}]", ms(heard.value), ms(heard.low), ms(heard.high)));
    [rate, heard.unwrap_or("-".to_owned()), figures.heard_95.map_or("-".to_owned(), ms)]
}

/// A line for each class under each condition.
fn classes(matrix: &Matrix<'_>) -> String {
    let mut out = format!(
        "{:<44}{:<38}{:>6}{:>9}  {:<26}{:<28}{:>9}\n",
        "what the oracle says (intervals: 95 %)",
        "condition",
        "pairs",
        "runs",
        "direct",
        "median time to direct, ms",
        "95th p."
    );
    for ClassRow { class, condition, cells, missed, figures } in &matrix.classes {
        let [rate, median, slow] = columns(figures);
        let verdict = if *missed == 0 { "ok".to_owned() } else { format!("{missed} pairs MISS THEIR LIMIT") };
        let (what, runs) = (class.what(), figures.runs);
        let condition = condition.words();
        let _ =
            writeln!(out, "{what:<44}{condition:<38}{cells:>6}{runs:>9}  {rate:<26}{median:<28}{slow:>9}  {verdict}");
    }
    out
}

/// The first miss of each class under each condition, and how to see it again: what is behind it is behind most others.
fn misses(matrix: &Matrix<'_>) -> String {
    let mut out = String::new();
    for row in matrix.classes.iter().filter(|row| row.missed > 0) {
        let bad = |report: &&Report<'_>| report.cell.class == row.class && !report.missed.is_empty();
        let Some(report) = matrix.grid(row.condition).find(bad) else { continue };
        let (one, other, condition) = (&report.cell.one.name, &report.cell.other.name, row.condition.words());
        let (missed, replay) = (report.missed.join("; "), matrix.plan.replay(&report.cell, report.seed));
        let _ = writeln!(out, "\n{one} × {other}, {condition}: {missed}\n    {replay}");
        if row.missed > 1 {
            let _ = writeln!(out, "    and {} pairs more; --json and --out have them all", row.missed - 1);
        }
    }
    out.push_str(if matrix.good() { "\nall limits kept\n" } else { "\nNOT all limits kept\n" });
    out
}
