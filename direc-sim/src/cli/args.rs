//! The command line.

use std::{ffi::OsString, fmt, path::PathBuf, time::Duration};

use direc_core::MAX_RELAYS;
use direc_sim::{
    Scenario,
    faults::Fault,
    nat::{self, NatConfig},
};
use lexopt::{Arg, Parser};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
direc-sim: PTTH_DIREC introductions in a simulated network of NATs, bit for bit reproducible

usage: direc-sim [run] [OPTIONS]      one introduction, with its timeline
       direc-sim bound [OPTIONS]      time-to-direct against its bound, for many delays; exit 1 if one is missed
       direc-sim speed [OPTIONS]      complete introductions per CPU second
       direc-sim faults [OPTIONS]     stalls of an upload after all kinds of faults; exit 1 if a limit is missed
       direc-sim week [OPTIONS]       a week of operation: who is lost for how long; exit 1 if longer than the backoff
       direc-sim conform FILE [--a BOXES]  what becomes of a script's packets, behind its boxes or these
       direc-sim goodput [OPTIONS]    goodput after a move from the relay to a direct path of another rate
       direc-sim matrix [OPTIONS]     every NAT against every NAT: success and time to direct; see matrix --help

  --seed N             what chance makes of it (default 1)
  --a BOXES, --b BOXES what client and server are behind (default easy): see below
  --delays A,B,C       one-way delays in ms: client-relay, relay-server, client-server (default 20,20,20)
  --loss P             probability that a packet is lost, 0 to 1
  --jitter MS          packets take up to this much longer
  --relay-delay MS     the relay's delay between telling the server and telling the client (default 0)
  --ask                the server asks before it accepts (default: standing consent)
  --relay-only         stay on the relay
  --tunnels            the relay answers HTTPS too: peers get to it where UDP does not
  --bytes N            then send N bytes and verify their echo
  --scenario HEX       the scenario that these bytes stand for, as a property test or fuzzer prints it
  --repeat K           K runs, with the seeds N, N+1, ...
  --introductions K    how many introductions `speed` measures (default 500)
  --seeds N            how many seeds `faults`, `goodput` and `week` try, from --seed on (default 200, 5, and 1)
  --relays N           how many relays `week` has, 1 to 4 (default 1)
  --days N             how long `week` lasts (default 7)
  --fault NAME         only this fault: see below
  --sender client|server
                       only this side sends
  --pcap FILE          write all packets as pcapng, TLS secrets included, for Wireshark
  --json               one JSON object a line on standard output, nothing else
  --help, -h           this
  --version, -V        the version

BOXES: none; easy, strict, sym, sym-seq, sym-seq-busy, cgn-block, clash, ban, hairpin, hairpin-none, overload, parity, pf,
udp-blocked, udp-443-only, short-timeout, nat64, fw, fw4, fw6; {eim,adm,apdm}-{eif,adf,apdf}, and the same with -x (random
ports), -seq, -busy, -block, -parity or -pf; double, double-eim, double-eif, double-sym, or HOME/CARRIER for two in a row;
and to any of them +MOD: hairpin, hairpin-internal, isolate, short, long, clash, reject, ban, blocked, 443, outbound,
limit, paired, arbitrary, small-mtu, nat64, v6, fw6. docs/simulator.md says what each is.
FAULTS: blocked, blocked-forth, blocked-back, readdressed, flushed-adf, flushed-eif, roam, both-roam, relay-killed,
relay-restarted, second-relay, unblocked, suspended.
Exit code: 0 when it did what was asked, 1 when a run failed, 2 when the command line was not understood.
";

/// What `--version` prints.
pub(crate) const VERSION: &str = concat!("direc-sim ", env!("CARGO_PKG_VERSION"), "\n");

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Run,
    Bound,
    Speed,
    Faults,
    Week,
    Goodput,
    Conform,
    Help,
    Version,
}

/// The command line, understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) seed: u64,
    pub(crate) boxes: [Vec<NatConfig>; 2],
    /// The first boxes' name, if the command line gave one.
    pub(crate) a: Option<String>,
    pub(crate) delays: [Duration; 3],
    pub(crate) loss: f64,
    /// Whether the command line said so.
    pub(crate) loss_given: bool,
    pub(crate) jitter: Duration,
    pub(crate) relay_delay: Duration,
    pub(crate) ask: bool,
    pub(crate) relay_only: bool,
    pub(crate) tunnels: bool,
    pub(crate) bytes: u64,
    pub(crate) scenario: Option<Vec<u8>>,
    pub(crate) repeat: u64,
    pub(crate) introductions: u64,
    /// 0: as many as the mode likes.
    pub(crate) seeds: u64,
    pub(crate) relays: usize,
    pub(crate) days: u32,
    pub(crate) fault: Option<Fault>,
    pub(crate) sender: Option<usize>,
    pub(crate) pcap: Option<PathBuf>,
    /// The script that `conform` runs.
    pub(crate) script: Option<PathBuf>,
    pub(crate) json: bool,
}

/// A command line that was not understood: which part, and what was expected.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

pub(super) fn wrong(flag: &str, expected: &str, found: &str) -> UsageError {
    UsageError(format!("--{flag}: expected {expected}, found {found:?}"))
}

/// Understands a command line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, UsageError> {
    let ms = Duration::from_millis;
    let mut out = Args {
        mode: Mode::Run,
        seed: 1,
        boxes: [vec![NatConfig::EASY], vec![NatConfig::EASY]],
        a: None,
        delays: [ms(20); 3],
        loss: 0.0,
        loss_given: false,
        jitter: Duration::ZERO,
        relay_delay: Duration::ZERO,
        ask: false,
        relay_only: false,
        tunnels: false,
        bytes: 0,
        scenario: None,
        repeat: 1,
        introductions: 500,
        seeds: 0,
        relays: 1,
        days: 7,
        fault: None,
        sender: None,
        pcap: None,
        script: None,
        json: false,
    };
    let mut parser = Parser::from_iter(args);
    let mut first = true;
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Value(value) if first => {
                out.mode = match value.to_str() {
                    Some("run") => Mode::Run,
                    Some("bound") => Mode::Bound,
                    Some("speed") => Mode::Speed,
                    Some("faults") => Mode::Faults,
                    Some("week") => Mode::Week,
                    Some("goodput") => Mode::Goodput,
                    Some("conform") => Mode::Conform,
                    Some("help") => Mode::Help,
                    _ => {
                        let expected = "expected run, bound, speed, faults, week, conform, goodput or matrix";
                        return Err(UsageError(format!("{expected}, found {value:?}")));
                    }
                };
            }
            Arg::Value(value) if out.mode == Mode::Conform && out.script.is_none() => out.script = Some(value.into()),
            Arg::Long("help") | Arg::Short('h') => out.mode = Mode::Help,
            Arg::Long("version") | Arg::Short('V') => out.mode = Mode::Version,
            Arg::Long("ask") => out.ask = true,
            Arg::Long("relay-only") => out.relay_only = true,
            Arg::Long("tunnels") => out.tunnels = true,
            Arg::Long("json") => out.json = true,
            Arg::Long("seed") => out.seed = number(&mut parser, "seed", 0)?,
            Arg::Long("bytes") => out.bytes = number(&mut parser, "bytes", 0)?,
            Arg::Long("repeat") => out.repeat = number(&mut parser, "repeat", 1)?,
            Arg::Long("introductions") => out.introductions = number(&mut parser, "introductions", 1)?,
            Arg::Long("seeds") => out.seeds = number(&mut parser, "seeds", 1)?,
            Arg::Long("relays") => out.relays = up_to(&mut parser, "relays", MAX_RELAYS)?,
            Arg::Long("days") => out.days = up_to(&mut parser, "days", 365)?,
            Arg::Long("fault") => {
                let text = text(&mut parser, "fault")?;
                let fault = Fault::named(&text).ok_or_else(|| wrong("fault", "a fault's name (see --help)", &text))?;
                out.fault = Some(fault);
            }
            Arg::Long("sender") => {
                let text = text(&mut parser, "sender")?;
                let sender = (0..2).find(|&side| Scenario::name(side).eq_ignore_ascii_case(&text));
                out.sender = Some(sender.ok_or_else(|| wrong("sender", "client or server", &text))?);
            }
            Arg::Long("a") => {
                let name = text(&mut parser, "a")?;
                out.boxes[0] = boxes(&name, "a")?;
                out.a = Some(name);
            }
            Arg::Long("b") => out.boxes[1] = boxes(&text(&mut parser, "b")?, "b")?,
            Arg::Long("scenario") => {
                let text = text(&mut parser, "scenario")?;
                let bytes = unhex(&text).ok_or_else(|| wrong("scenario", "an even number of hex digits", &text))?;
                out.scenario = Some(bytes);
            }
            Arg::Long("pcap") => out.pcap = Some(parser.value()?.into()),
            Arg::Long("loss") => {
                let text = text(&mut parser, "loss")?;
                let loss = text.parse().ok().filter(|loss| (0.0..=1.0).contains(loss));
                out.loss_given = true;
                out.loss = loss.ok_or_else(|| wrong("loss", "a probability from 0 to 1", &text))?;
            }
            Arg::Long("jitter") => out.jitter = time(&mut parser, "jitter")?,
            Arg::Long("relay-delay") => out.relay_delay = time(&mut parser, "relay-delay")?,
            Arg::Long("delays") => out.delays = delays(&mut parser)?,
            other => return Err(UsageError(format!("{} (see --help)", other.unexpected()))),
        }
        first = false;
    }
    if out.mode == Mode::Conform && out.script.is_none() {
        return Err(UsageError("conform: expected a script's file".to_owned()));
    }
    Ok(out)
}

/// An hour at most: more is a mistake.
const MILLIS: &str = "a number of milliseconds, at most 3600000";

fn millis(text: &str) -> Option<Duration> {
    let ms: f64 = text.trim().parse().ok()?;
    (0.0..=3_600_000.0).contains(&ms).then(|| Duration::from_nanos((ms * 1e6).round() as u64))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    // Two digits below 16 make a byte.
    let byte = |pair: &[u32]| (pair.len() == 2).then(|| (pair[0] * 16 + pair[1]) as u8);
    digits?.chunks(2).map(byte).collect()
}

pub(super) fn delays(parser: &mut Parser) -> Result<[Duration; 3], UsageError> {
    let text = text(parser, "delays")?;
    let parts: Option<Vec<Duration>> = text.split(',').map(millis).collect();
    let parts = parts.and_then(|parts| parts.try_into().ok());
    parts.ok_or_else(|| wrong("delays", "A,B,C: three numbers of milliseconds", &text))
}

pub(super) fn text(parser: &mut Parser, flag: &str) -> Result<String, UsageError> {
    let value = parser.value()?;
    value.into_string().map_err(|value| wrong(flag, "text", &value.to_string_lossy()))
}

fn time(parser: &mut Parser, flag: &str) -> Result<Duration, UsageError> {
    let text = text(parser, flag)?;
    millis(&text).ok_or_else(|| wrong(flag, MILLIS, &text))
}

pub(super) fn number(parser: &mut Parser, flag: &str, least: u64) -> Result<u64, UsageError> {
    let text = text(parser, flag)?;
    let number = text.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| wrong(flag, &format!("a whole number from {least}"), &text))
}

fn up_to<N: TryFrom<u64> + TryInto<u64> + Copy + fmt::Display>(
    parser: &mut Parser,
    flag: &str,
    most: N,
) -> Result<N, UsageError> {
    let text = text(parser, flag)?;
    let limit = most.try_into().unwrap_or(u64::MAX);
    let number = text.parse().ok().filter(|number| (1..=limit).contains(number)).and_then(|n| N::try_from(n).ok());
    number.ok_or_else(|| wrong(flag, &format!("a whole number from 1 to {most}"), &text))
}

fn boxes(name: &str, flag: &str) -> Result<Vec<NatConfig>, UsageError> {
    nat::stack(name).ok_or_else(|| wrong(flag, &format!("one of {}", nat::NAMES), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Args, UsageError> {
        parse(std::iter::once("direc-sim").chain(line.split_whitespace()).map(OsString::from))
    }

    /// The simulator's commands in a page, each without the program's name and the remark behind it.
    fn commands(page: &str) -> Vec<&str> {
        let lines = page.lines().filter_map(|line| line.strip_prefix("cargo run --release -p direc-sim -- "));
        lines.filter_map(|line| line.split("  #").next()).collect()
    }

    #[test]
    fn the_commands_that_the_pages_show_are_understood() {
        let [readme, benchmarks] = [include_str!("../../../README.md"), include_str!("../../../docs/benchmarks.md")];
        let shown = [commands(readme), commands(benchmarks)].concat();
        assert!(shown.len() > 10, "{shown:?}");
        for line in shown {
            match line.strip_prefix("matrix") {
                Some(rest) => {
                    let words = ["matrix"].into_iter().chain(rest.split_whitespace());
                    assert!(crate::cli::matrix::understands(lexopt::Parser::from_iter(words)), "{line}");
                }
                None => assert!(of(line).is_ok(), "{line}"),
            }
        }
    }

    #[test]
    fn a_full_line_is_understood() {
        let args = of("run --seed 7 --a sym --b double --delays 1,2.5,3 --loss 0.05 --jitter 2 --ask --bytes 9 --json");
        let args = args.unwrap();
        assert_eq!((args.seed, args.bytes, args.ask, args.json), (7, 9, true, true));
        assert_eq!(args.delays[1], Duration::from_micros(2500));
        assert_eq!(args.boxes[1].len(), 2);
        assert_eq!(of("--scenario 00fF").unwrap().scenario, Some(vec![0, 255]));
        let args = of("faults --fault roam --sender Server --seeds 7 --loss 0").unwrap();
        assert_eq!((args.fault, args.sender, args.seeds, args.loss_given), (Some(Fault::Roam), Some(1), 7, true));
        assert_eq!(of("bound").unwrap().mode, Mode::Bound);
        assert_eq!(of("--help").unwrap().mode, Mode::Help);
    }

    #[test]
    fn the_help_names_all_boxes() {
        let words = |text: &'static str| text.split(|c: char| !c.is_alphanumeric() && c != '-');
        let missing: Vec<_> = words(nat::NAMES).filter(|name| words(HELP).all(|word| word != *name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn mistakes_are_named_with_what_was_expected() {
        for (line, words) in [
            ("--seed x", &["--seed", "whole number", "\"x\""][..]),
            ("--delays 1,2", &["--delays", "A,B,C"]),
            ("--delays 1,2,-3", &["--delays"]),
            ("--loss 2", &["--loss", "0 to 1"]),
            ("--loss NaN", &["--loss"]),
            ("--a cone", &["--a", "easy", "\"cone\""]),
            ("--repeat 0", &["--repeat", "from 1"]),
            ("--scenario 0g", &["--scenario", "hex"]),
            ("--scenario 012", &["--scenario", "even"]),
            ("--fast", &["--fast", "--help"]),
            ("race", &["bound", "race"]),
            ("faults --fault none", &["--fault", "name", "\"none\""]),
            ("week --relays 5", &["--relays", "1 to 4", "\"5\""]),
            ("week --days 0", &["--days", "1 to 365"]),
            ("faults --sender P3", &["--sender", "client or server"]),
            ("--seed", &["--seed"]),
        ] {
            let error = of(line).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{line}: {error}");
            }
        }
    }
}
