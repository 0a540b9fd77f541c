//! One run of each pair, as its diagram's items. What they say is said by most of them: each text stands in the page once.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    matrix::{
        plan::Plan,
        report::{Matrix, Report},
    },
    run,
    timeline::{self, Item, Lane, Story},
};

/// As many items of a long story as are shown from its beginning and from its end: guessing takes thousands of packets.
const SHOWN: [usize; 2] = [110, 40];

/// Texts, each with a number.
#[derive(Default)]
pub(super) struct Words {
    numbers: BTreeMap<String, usize>,
    /// In the order of their numbers.
    pub(super) all: Vec<String>,
}

impl Words {
    fn number(&mut self, text: &str) -> usize {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.all.len();
        self.all.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

/// The report of the pair that is told: the first one that missed its limit, else the first.
pub(super) fn told<'a, 'b>(reports: &[&'b Report<'a>]) -> Option<&'b Report<'a>> {
    reports.iter().find(|report| !report.missed.is_empty()).or(reports.first()).copied()
}

/// One run, as numbers: for something said `0`, the lane, when, which words, a step or not; for packets `1`, from which
/// lane to which, when, which words, and when they arrive or, below 0, why not; for what is left out `2`, how much, when.
/// Times in hundredths of milliseconds.
pub(super) fn numbers(matrix: &Matrix<'_>, report: &Report<'_>, words: &mut Words) -> Option<String> {
    let Story { items, .. } = story(matrix.plan, report)?;
    let time = |time: Duration| time.as_micros() / 10;
    let [first, last] = SHOWN;
    let omitted = first..items.len().saturating_sub(last).max(first);
    let items = items.into_iter().enumerate().filter_map(|(number, (at, item))| match item {
        _ if number == omitted.start && !omitted.is_empty() => Some(format!("[2,{},{}]", omitted.len(), time(at))),
        _ if omitted.contains(&number) => None,
        Item::Said { lane, mark, text } => {
            let (step, word) = (u8::from(mark == '●'), words.number(&text));
            Some(format!("[0,{},{},{word},{step}]", lane_number(lane), time(at)))
        }
        Item::Flight(flight) => {
            let word = words.number(&flight.label());
            let end = match flight.arrives {
                Ok(arrival) => time(arrival).to_string(),
                Err(why) => format!("-{}", words.number(why) + 1),
            };
            let (from, to) = (lane_number(flight.from), lane_number(flight.to));
            Some(format!("[1,{},{},{word},{end}]", from * 3 + to, time(at)))
        }
    });
    Some(format!("[{}]", items.collect::<Vec<_>>().join(",")))
}

fn story(plan: &Plan, report: &Report<'_>) -> Option<Story> {
    let outcome = run(&plan.scenario(&report.cell, report.seed), report.seed).ok()?;
    timeline::story(&outcome, 0)
}

const fn lane_number(lane: Lane) -> u8 {
    match lane {
        Lane::P2 => 0,
        Lane::P3 => 1,
        Lane::P4 => 2,
    }
}
