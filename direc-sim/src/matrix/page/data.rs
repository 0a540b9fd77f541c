//! What the page's script shows, as JSON.

use std::{fmt::Write as _, time::Duration};

use super::{
    shades::Measure,
    stories::{Words, numbers, told},
};
use crate::{
    json::string,
    matrix::{
        report::{Matrix, Report},
        statistics::Estimate,
        text::columns,
    },
    timeline::ms,
};

/// All of it. Never ends a script element: `<` is written as its number.
pub(super) fn json(matrix: &Matrix<'_>) -> String {
    let plan = matrix.plan;
    let mut words = Words::default();
    let pairs = plan.kinds.len().pow(2);
    let cells = (0..pairs).map(|pair| {
        let reports: Vec<&Report<'_>> = matrix.reports.iter().skip(pair).step_by(pairs).collect();
        cell(matrix, &reports, &mut words)
    });
    let cells: Vec<String> = cells.collect();
    let conditions = plan.conditions.iter().map(|condition| text(&condition.words()));
    let kinds = plan.kinds.iter().map(|kind| text(&kind.name));
    let texts = words.all.iter().map(|word| text(word));
    let mut out = String::from("{");
    for (key, list) in [
        ("kinds", kinds.collect()),
        ("conditions", conditions.collect()),
        ("cells", cells),
        ("words", texts.collect::<Vec<_>>()),
    ] {
        let comma = if out.len() > 1 { "," } else { "" };
        let _ = write!(out, "{comma}\n\"{key}\":[{}]", list.join(",\n"));
    }
    out.push_str("\n}");
    out.replace('<', "\\u003c")
}

fn text(text: &str) -> String {
    let mut out = String::new();
    string(&mut out, text);
    out
}

fn list(members: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", members.into_iter().collect::<Vec<_>>().join(","))
}

/// One pair: what the oracle says, its figures under each condition, and a run.
fn cell(matrix: &Matrix<'_>, reports: &[&Report<'_>], words: &mut Words) -> String {
    let Some(told) = told(reports) else { return "{}".to_owned() };
    let (class, story) = (told.cell.class, numbers(matrix, told, words));
    let about = format!("{}; seed {}", told.cell.condition.words(), told.seed);
    let [a, b, c] = matrix.plan.delays(told.cell.condition.start, told.seed).map(|delay| delay.as_secs_f64() * 1e3);
    let delays = format!("client–relay a = {a} ms, relay–server b = {b} ms, client–server c = {c} ms");
    format!(
        "{{\"what\":{},\"technique\":{},\"at\":{},\"about\":{},\"delays\":{},\"story\":{}}}",
        text(class.what()),
        text(class.technique()),
        list(reports.iter().map(|report| under(matrix, report))),
        text(&about),
        text(&delays),
        story.as_deref().unwrap_or("[]"),
    )
}

/// A pair under one condition: shades, figures for people, what was missed, and what runs it again.
fn under(matrix: &Matrix<'_>, report: &Report<'_>) -> String {
    let shades = Measure::ALL.map(|measure| {
        let (shade, label) = measure.shows(report);
        list([text(shade), text(&label)])
    });
    let rows = rows(report).into_iter().map(|(name, value)| list([text(name), text(&value)]));
    let missed = report.missed.iter().map(|missed| text(missed));
    let replay = text(&matrix.plan.replay(&report.cell, report.seed));
    format!("{{\"shades\":{},\"rows\":{},\"missed\":{},\"replay\":{replay}}}", list(shades), list(rows), list(missed))
}

/// The figures of a cell, for people.
fn rows(report: &Report<'_>) -> Vec<(&'static str, String)> {
    let figures = &report.figures;
    let [rate, heard, slow] = columns(figures);
    let between = |moved: Estimate<Duration>| format!("{} [{}, {}]", ms(moved.value), ms(moved.low), ms(moved.high));
    let mut rows = vec![
        ("runs", figures.runs.to_string()),
        ("direct", format!("{}, {rate}", figures.direct)),
        ("asked", report.limit.map_or("nothing".to_owned(), |limit| limit.words())),
    ];
    if figures.direct > 0 {
        rows.push(("time to direct, median, ms", heard));
        rows.push(("95th percentile, ms", slow));
        rows.push(("its bound, median, ms", figures.best.map_or("–".to_owned(), ms)));
        let worst = figures.worst.map_or("–".to_owned(), |worst| format!("{:.3} × its bound", worst as f64 / 1e3));
        rows.push(("the slowest run", worst));
        rows.push(("data goes direct, median, ms", figures.moved.map_or("–".to_owned(), between)));
    }
    let [median, most] = figures.probes;
    rows.push(("probes sent, median and most", format!("{median}, {most}")));
    rows
}
