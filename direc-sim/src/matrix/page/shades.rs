//! What a cell shows: a shade, which a colour-blind eye tells from the others by its lightness, and a few characters.

use crate::matrix::{limits::Class, report::Report, text::per_cent};

/// What the heat map is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Success,
    Time,
    Technique,
}

/// From the worst to the best, as style sheet classes.
const SHADES: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];
/// How many of a thousand runs make which shade.
const PER_MILLE: [u64; 6] = [0, 1, 500, 950, 990, 1000];
/// Up to which multiple of its bound, in thousandths, a median makes which shade.
const MULTIPLES: [u128; 6] = [u128::MAX, 8000, 4000, 2000, 1250, 1050];
/// It stays on the relay, as the oracle says.
const RELAYED: (&str, &str) = ("rel", "stays on the relay, as the oracle says");

impl Measure {
    pub(super) const ALL: [Self; 3] = [Self::Success, Self::Time, Self::Technique];

    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Success => "direct, % of the runs",
            Self::Time => "median time to direct, ms",
            Self::Technique => "what it takes",
        }
    }

    /// A cell's shade, and what stands in it.
    pub(super) fn shows(self, report: &Report<'_>) -> (&'static str, String) {
        let (class, figures) = (report.cell.class, &report.figures);
        match self {
            Self::Technique => (shade(class), letter(class).to_owned()),
            _ if class == Class::Relayed && figures.direct == 0 => (RELAYED.0, "–".to_owned()),
            Self::Success => {
                let per_mille = figures.direct * 1000 / figures.runs.max(1);
                let at = PER_MILLE.iter().rposition(|&least| per_mille >= least).unwrap_or(0);
                (SHADES[at], per_cent(figures))
            }
            Self::Time => {
                let (Some(heard), Some(best)) = (figures.heard, figures.best) else {
                    return (SHADES[0], "×".to_owned());
                };
                let multiple = heard.value.as_nanos() * 1000 / best.as_nanos().max(1);
                let at = MULTIPLES.iter().rposition(|&most| multiple <= most).unwrap_or(0);
                (SHADES[at], format!("{:.0}", heard.value.as_secs_f64() * 1e3))
            }
        }
    }

    /// Which shade stands for what.
    pub(super) fn key(self) -> Vec<(&'static str, &'static str)> {
        let scale = |words: [&'static str; 6]| SHADES.into_iter().zip(words).rev().chain([RELAYED]).collect();
        match self {
            Self::Success => scale(["none", "some", "50 %", "95 %", "99 %", "all"]),
            Self::Time => scale(["more, or never", "8 ×", "4 ×", "2 ×", "1.25 ×", "within 1.05 × the bound"]),
            Self::Technique => Class::ALL.map(|class| (shade(class), class.what())).to_vec(),
        }
    }
}

/// The shade of a class.
const fn shade(class: Class) -> &'static str {
    match class {
        Class::Direct => "c0",
        Class::Clash => "c1",
        Class::Sequential => "c2",
        Class::Block => "c3",
        Class::Guess => "c4",
        Class::Relayed => "rel",
    }
}

/// What stands for a class where colours do not tell.
const fn letter(class: Class) -> &'static str {
    match class {
        Class::Direct => "D",
        Class::Clash => "C",
        Class::Sequential => "S",
        Class::Block => "B",
        Class::Guess => "G",
        Class::Relayed => "–",
    }
}
