//! The status page: one HTML document that needs nothing else, no script either.

use std::time::Duration;

use direc_smol::{DirectTimes, Page};

use super::Figures;
use crate::clock::spoken;

/// Nothing from anywhere, no script, no frame around it; the style is in the page.
const HEADERS: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
                       base-uri 'none'; form-action 'none'\r\nReferrer-Policy: no-referrer\r\n";
const TEMPLATE: &str = include_str!("page.html");
/// Height of the tallest column, and the distance from one to the next.
const HEIGHT: u64 = 120;
const STEP: usize = 106;

pub(super) fn page(figures: &Figures) -> Page {
    let relay = &figures.relay;
    let (direct, share) = direct(&relay.direct, relay.introductions_accepted);
    let tunnelled = relay.tunnelled_bytes;
    let words = [
        ("STATE", if relay.draining { "draining" } else { "ready" }.to_owned()),
        ("UP", spoken(figures.up)),
        ("VERSION", env!("CARGO_PKG_VERSION").into()),
        ("PEERS", grouped(relay.registered as u64)),
        ("TUNNELS", counted(relay.tunnels as u64, "by tunnel", "by tunnel")),
        ("BEGUN", grouped(relay.introductions_begun)),
        ("OPEN", counted(relay.introductions as u64, "open now", "open now")),
        ("DIRECT", direct),
        ("SHARE", share),
        ("RELAYED", bytes(relay.relayed_bytes)),
        ("TUNNELLED", format!("{} by tunnel", bytes(tunnelled))),
        ("CHART", chart(&relay.direct)),
        ("MEAN", mean(&relay.direct)),
        ("REFUSALS", rows(&figures.refusals, "nobody was refused")),
        ("DROPS", rows(&figures.drops, "nothing was dropped")),
    ];
    let body = words.iter().fold(TEMPLATE.to_owned(), |page, (name, text)| page.replace(&format!("{{{name}}}"), text));
    Page { status: "200 OK", kind: "text/html; charset=utf-8", headers: HEADERS, body }
}

/// How many introductions went direct, and what share that is of those of which it is known: not of those that are younger
/// than a minute, or were over sooner.
fn direct(times: &DirectTimes, accepted: u64) -> (String, String) {
    let known = times.known();
    let unknown = accepted.saturating_sub(known);
    match known {
        0 if accepted == 0 => ("–".into(), "none accepted yet".into()),
        0 => ("–".into(), format!("not known of {}: it shows after a minute", grouped(unknown))),
        known => {
            let share = format!("{} % of {} that are known", times.total() * 100 / known, grouped(known));
            let rest = if unknown == 0 { String::new() } else { format!("; not known of {}", grouped(unknown)) };
            (grouped(times.total()), share + &rest)
        }
    }
}

fn mean(times: &DirectTimes) -> String {
    let count = u32::try_from(times.total()).unwrap_or(u32::MAX);
    match times.sum().checked_div(count) {
        Some(mean) => format!("{} on average, from consent to the last relayed packet", spoken(mean)),
        None => "not known yet: no introduction has been direct for a minute".into(),
    }
}

/// A column for each class of times.
fn chart(times: &DirectTimes) -> String {
    let most = times.counts().iter().copied().max().unwrap_or(0).max(1);
    let bounds = DirectTimes::BOUNDS.iter().map(|&ms| format!("≤ {}", short(Duration::from_millis(ms))));
    let last = DirectTimes::BOUNDS.last().map(|&ms| format!("> {}", short(Duration::from_millis(ms))));
    let columns = bounds.chain(last).zip(times.counts()).enumerate().map(|(index, (label, &count))| {
        let (height, x) = ((count * HEIGHT / most).max(u64::from(count > 0) * 2), index * STEP + STEP / 2);
        let (top, left, number) =
            (HEIGHT + 20 - height, x - 32, if count > 0 { grouped(count) } else { String::new() });
        format!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"64\" height=\"{height}\" rx=\"3\"/>\
             <text x=\"{x}\" y=\"{}\">{number}</text><text class=\"axis\" x=\"{x}\" y=\"{}\">{label}</text>",
            top - 6,
            HEIGHT + 38
        )
    });
    columns.collect()
}

fn short(time: Duration) -> String {
    match time.as_millis() {
        ms @ ..1000 => format!("{ms} ms"),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{:.1} s", ms as f64 / 1e3),
    }
}

fn rows(counts: &std::collections::BTreeMap<String, u64>, none: &str) -> String {
    if counts.is_empty() {
        return format!("<tr><td>{none}</td></tr>");
    }
    let row = |(reason, count): (&String, &u64)| {
        format!("<tr><td>{}</td><td>{}</td></tr>", reason.replace('_', " "), grouped(*count))
    };
    counts.iter().map(row).collect()
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// 1234567 is `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_read_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 999, 1000, 99_940_000_000].map(bytes), ["0 B", "999 B", "1.0 KB", "99.9 GB"]);
    }
}
