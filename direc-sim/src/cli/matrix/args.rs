//! The command line of `direc-sim matrix`.

use std::{ffi::OsString, path::PathBuf};

use direc_sim::{
    matrix::{Condition, Kind, Plan, Start},
    nat,
};
use lexopt::{Arg, Parser};

use crate::cli::args::{UsageError, delays, number, text, wrong};

/// What `matrix --help` prints.
pub(super) const HELP: &str = "\
direc-sim matrix: every NAT against every NAT, over many seeds, against the oracle

usage: direc-sim matrix [OPTIONS]     exit 1 if a cell misses its limit

  --seeds N            how many seeds a cell (default 1000); half of them past a box that an early packet angers, a
                       quarter with loss and where a port is in a block, a tenth where it is predicted or guessed, a
                       hundredth where the oracle sees no direct path
  --seed S             the first one (default 1)
  --kinds A,B,C        only these NATs (see `direc-sim --help`, BOXES)
  --loss P,P           packets lost, per cent (default 0,5)
  --orders             also with delays that bring one side's first packet too early for the other's NAT, either way
  --delays A,B,C       one-way delays in ms: client-relay, relay-server, client-server (default: drawn by each seed,
                       5 to 80 to the relay, within the triangle inequality)
  --out FILE.html      write a page to look at
  --json FILE          write one JSON object a cell
  --markdown FILE      write tables
  --threads N          default: one a core; the result does not depend on it
  --help, -h           this
  --version, -V        the version
";

/// More than anybody has cores for.
const MAX_THREADS: u64 = 1024;

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    Help,
    Version,
    Run(Options),
}

/// A matrix, and where to write it.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) plan: Plan,
    pub(super) out: Option<PathBuf>,
    pub(super) json: Option<PathBuf>,
    pub(super) markdown: Option<PathBuf>,
    pub(super) threads: Option<usize>,
}

/// Understands what comes after `matrix`.
pub(super) fn parse(mut parser: Parser) -> Result<Asked, UsageError> {
    let mut plan = Plan { kinds: Kind::all(), conditions: Vec::new(), seed: 1, seeds: 1000, delays: None };
    let (mut losses, mut starts) = (vec![0.0, 5.0], vec![Start::Crossing]);
    let (mut out, mut json, mut markdown, mut threads) = (None, None, None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Asked::Help),
            Arg::Long("version") | Arg::Short('V') => return Ok(Asked::Version),
            Arg::Long("seeds") => plan.seeds = number(&mut parser, "seeds", 1)?,
            Arg::Long("seed") => plan.seed = number(&mut parser, "seed", 0)?,
            Arg::Long("kinds") => {
                let known = |name: &str| {
                    let expected = format!("names from {}", nat::NAMES);
                    Kind::named(name).ok_or_else(|| wrong("kinds", &expected, name))
                };
                plan.kinds = list(&mut parser, "kinds", known)?;
            }
            Arg::Long("loss") => {
                let per_cent = |text: &str| {
                    let loss = text.parse().ok().filter(|loss| (0.0..=100.0).contains(loss));
                    loss.ok_or_else(|| wrong("loss", "per cent, from 0 to 100, with commas between", text))
                };
                losses = list(&mut parser, "loss", per_cent)?;
            }
            Arg::Long("orders") => starts = Start::ALL.to_vec(),
            Arg::Long("delays") => plan.delays = Some(delays(&mut parser)?),
            Arg::Long("out") => out = Some(file(&mut parser)?),
            Arg::Long("json") => json = Some(file(&mut parser)?),
            Arg::Long("markdown") => markdown = Some(file(&mut parser)?),
            Arg::Long("threads") => {
                let count = number(&mut parser, "threads", 1)?.min(MAX_THREADS);
                threads = usize::try_from(count).ok();
            }
            other => return Err(UsageError(format!("{} (see matrix --help)", other.unexpected()))),
        }
    }
    let each = losses.iter().flat_map(|&loss| starts.iter().map(move |&start| Condition { loss, start }));
    plan.conditions = each.collect();
    Ok(Asked::Run(Options { plan, out, json, markdown, threads }))
}

/// A list with commas between, each member once.
fn list<T: PartialEq>(
    parser: &mut Parser,
    flag: &str,
    member: impl Fn(&str) -> Result<T, UsageError>,
) -> Result<Vec<T>, UsageError> {
    let text = text(parser, flag)?;
    let mut members: Vec<T> = Vec::new();
    for part in text.split(',') {
        let found = member(part.trim())?;
        if members.contains(&found) {
            return Err(wrong(flag, "each only once", &text));
        }
        members.push(found);
    }
    Ok(members)
}

fn file(parser: &mut Parser) -> Result<PathBuf, UsageError> {
    let value: OsString = parser.value()?;
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Options, String> {
        match parse(Parser::from_args(line.split_whitespace())) {
            Ok(Asked::Run(options)) => Ok(options),
            Ok(Asked::Help) => Err("help".to_owned()),
            Ok(Asked::Version) => Err("version".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_full_line_is_understood() {
        let line =
            "--seeds 7 --seed 3 --kinds easy,easy/sym --loss 0,2.5 --orders --delays 1,2,3 --threads 2 --out x.html";
        let options = of(line).unwrap();
        assert_eq!((options.plan.seeds, options.plan.seed, options.threads), (7, 3, Some(2)));
        assert_eq!(options.plan.kinds.len(), 2);
        assert_eq!(options.plan.conditions.len(), 2 * Start::ALL.len());
        assert!(options.plan.delays.is_some() && options.out.is_some() && options.json.is_none());
        let options = of("").unwrap();
        let losses: Vec<f64> = options.plan.conditions.iter().map(|condition| condition.loss).collect();
        assert_eq!(losses, [0.0, 5.0]);
        assert_eq!(of("--help").unwrap_err(), "help");
    }

    #[test]
    fn mistakes_are_named_with_what_was_expected() {
        for (line, words) in [
            ("--kinds easy,cone", &["--kinds", "easy", "\"cone\""][..]),
            ("--kinds easy,easy", &["--kinds", "once"]),
            ("--loss 101", &["--loss", "0 to 100"]),
            ("--loss x", &["--loss", "per cent"]),
            ("--seeds 0", &["--seeds", "from 1"]),
            ("--threads 0", &["--threads", "from 1"]),
            ("--delays 1,2", &["--delays", "A,B,C"]),
            ("--bytes 1", &["--bytes", "matrix --help"]),
        ] {
            let error = of(line).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{line}: {error}");
            }
        }
    }
}
