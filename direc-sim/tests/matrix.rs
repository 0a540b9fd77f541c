//! A small matrix: the same whatever runs it, marked where it misses something, and shown on a page that needs nothing
//! else.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use direc_sim::matrix::{Class, Condition, Kind, Matrix, Plan, Sample, Start, page, run_all, text};

const KINDS: [&str; 3] = ["double", "eim-eif-x", "sym"];
const SEEDS: u64 = 25;

fn plan() -> Plan {
    let kinds = KINDS.iter().map(|name| Kind::named(name).unwrap()).collect();
    let condition = |loss| Condition { loss, start: Start::Crossing };
    Plan { kinds, conditions: vec![condition(0.0), condition(5.0)], seed: 1, seeds: SEEDS, delays: None }
}

/// The tags of a page in their order, script and style left out: names, and whether each begins or ends something.
fn tags(page: &str) -> Vec<(String, bool)> {
    let mut tags = Vec::new();
    let mut rest = page.strip_prefix("<!doctype html>").unwrap();
    while let Some(begin) = rest.find('<') {
        assert!(!rest[..begin].contains('>'), "a stray > before {:?}", &rest[begin..rest.len().min(begin + 40)]);
        let end = begin + rest[begin..].find('>').unwrap();
        let tag = &rest[begin + 1..end];
        rest = &rest[end + 1..];
        assert_eq!(tag.matches('"').count() % 2, 0, "quotation marks of <{tag}>");
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap().to_owned();
        if tag.starts_with('/') {
            tags.push((name, false));
            continue;
        }
        if ["script", "style"].contains(&name.as_str()) {
            rest = &rest[rest.find(&format!("</{name}>")).unwrap()..];
        }
        if !tag.ends_with('/') {
            tags.push((name, true));
        }
    }
    tags
}

#[test]
fn the_page_is_well_formed_and_asks_for_nothing_from_elsewhere() {
    let plan = plan();
    let page = page(&Matrix::new(&plan, &run_all(&plan, 1, |_, _| {})));
    let mut open = Vec::new();
    for (name, begins) in tags(&page) {
        if begins {
            open.push(name);
        } else {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()));
        }
    }
    assert_eq!(open, Vec::<String>::new());
    for reference in ["http:", "https:", "//www", "src=", "href=", "@import", "url(\"", "<link", "<img", "fetch("] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert_eq!(page.matches("url(").count(), page.matches("url(#").count());
    assert_eq!(page.matches("role=\"gridcell\"").count(), KINDS.len() * KINDS.len());
    assert_eq!(page.matches("\"story\":[[").count(), KINDS.len() * KINDS.len(), "each pair has its diagram");
}

#[test]
fn threads_change_nothing_and_seeds_do() {
    let plan = plan();
    let whole = |plan: &Plan, threads| {
        let matrix = Matrix::new(plan, &run_all(plan, threads, |_, _| {}));
        (page(&matrix), matrix.json(), text::terminal(&matrix), text::markdown(&matrix))
    };
    let one = whole(&plan, 1);
    assert_eq!(one, whole(&plan, 3));
    let other = Plan { seed: 1000, ..plan };
    assert_ne!(one.0, whole(&other, 1).0);
}

#[test]
fn each_cell_comes_to_what_the_oracle_says() {
    let plan = plan();
    let samples = run_all(&plan, 2, |_, _| {});
    let matrix = Matrix::new(&plan, &samples);
    assert_eq!(matrix.reports.len(), 2 * KINDS.len() * KINDS.len());
    for (report, samples) in matrix.reports.iter().zip(&samples) {
        let (one, other) = (&report.cell.one.name, &report.cell.other.name);
        let expected = match report.cell.class {
            Class::Direct => Some(report.figures.runs),
            Class::Relayed => Some(0),
            // How often is a matter of the limits.
            _ => None,
        };
        let direct = report.figures.direct;
        assert!(expected.is_none_or(|runs| runs == direct), "{one} × {other}: {direct}, {:?}", report.cell.condition);
        assert_eq!(report.figures.runs, plan.count(&report.cell));
        let seeds: Vec<u64> = samples.iter().map(|sample| sample.seed).collect();
        assert_eq!(seeds, (1..=report.figures.runs).collect::<Vec<_>>());
    }
}

#[test]
fn what_misses_its_limit_is_marked_everywhere() {
    let plan = plan();
    let mut samples = run_all(&plan, 2, |_, _| {});
    let good = |matrix: &Matrix<'_>, cell: usize| matrix.reports[cell].missed.is_empty();
    assert!(good(&Matrix::new(&plan, &samples), 0));
    // One run of double × double that stays on the relay, one that is slow, one that does not work.
    let spoil: [fn(&mut Sample); 3] = [
        |sample| sample.direct = false,
        |sample| sample.heard = Some(sample.best.heard * 2),
        |sample| sample.works = false,
    ];
    for spoil in spoil {
        let sound = samples[0][7];
        spoil(&mut samples[0][7]);
        let matrix = Matrix::new(&plan, &samples);
        assert!(!good(&matrix, 0) && !matrix.good());
        let replay = plan.replay(&matrix.reports[0].cell, 8);
        assert!(text::terminal(&matrix).contains(&replay), "{replay}");
        assert!(text::markdown(&matrix).contains("!"));
        assert!(matrix.json().lines().next().unwrap().contains("\"ok\":false"));
        assert!(page(&matrix).contains(&format!("\"replay\":\"{replay}\"")));
        samples[0][7] = sound;
    }
}
