//! `direc-sim`: simulated introductions from the command line.

mod cli {
    pub(crate) mod all_cores;
    pub(crate) mod args;
    pub(crate) mod bound;
    pub(crate) mod conform;
    pub(crate) mod faults;
    pub(crate) mod goodput;
    pub(crate) mod matrix;
    pub(crate) mod speed;
    pub(crate) mod week;
}

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use cli::args::{Args, HELP, Mode, VERSION, parse};
use direc_core::printable_lines;
use direc_sim::{
    Outcome, Scenario,
    app::{Answer, Work},
    json, pcapng, run_keeping,
    scenario::Willing,
    timeline,
    trace::Keep,
};
use lexopt::Parser;

/// Something for standard output did not get there.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// Prints to standard output. Whoever reads may stop reading; that is no failure of ours.
fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
        && !UNWRITTEN.swap(true, Ordering::Relaxed)
    {
        complain(&format!("cannot write to standard output: {error}"));
    }
}

/// Prints to standard error.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "direc-sim: {}", printable_lines(text));
}

/// The exit code of a run, and whether all that it had to say has been said.
fn exit_code(good: bool) -> ExitCode {
    if good && !UNWRITTEN.load(Ordering::Relaxed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    // It has options of its own.
    if std::env::args_os().nth(1).is_some_and(|mode| mode == "matrix") {
        return cli::matrix::command(Parser::from_iter(std::env::args_os().skip(1)));
    }
    let args = match parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(2);
        }
    };
    let good = match args.mode {
        Mode::Help => {
            say(HELP);
            true
        }
        Mode::Version => {
            say(VERSION);
            true
        }
        Mode::Bound => {
            let (text, good) = cli::bound::table(args.seed, args.json);
            say(&text);
            good
        }
        Mode::Speed => {
            let (text, good) = cli::speed::measure(args.seed, args.introductions, args.json);
            say(&text);
            good
        }
        Mode::Faults => cli::faults::table(&args, say),
        Mode::Week => cli::week::table(&args, say),
        Mode::Goodput => {
            let (text, good) = cli::goodput::table(&args);
            say(&text);
            good
        }
        Mode::Conform => match cli::conform::report(&args) {
            Ok(text) => {
                say(&text);
                true
            }
            Err(why) => {
                complain(&why);
                return ExitCode::from(2);
            }
        },
        Mode::Run => (0..args.repeat).all(|n| introduce(&args, args.seed.wrapping_add(n), n == 0)),
    };
    exit_code(good)
}

/// What the command line asks for, as data.
fn scenario(args: &Args) -> Scenario {
    if let Some(bytes) = &args.scenario {
        return Scenario::from_bytes(bytes);
    }
    let [a, b, c] = args.delays;
    let mut scenario = Scenario::pair(args.boxes.clone(), a, b, c);
    (scenario.noise.loss, scenario.noise.jitter) = (args.loss, args.jitter);
    scenario.relay_delay = args.relay_delay;
    scenario.tunnels = args.tunnels;
    if args.ask {
        scenario.peers[1].willing = Willing::Asked(Answer::Accept(std::time::Duration::ZERO));
    }
    if args.relay_only {
        scenario = scenario.relay_only();
    }
    scenario.work(Work { ping: true, echo: args.bytes, ..Work::default() })
}

/// One run. Gives whether it did what was asked.
fn introduce(args: &Args, seed: u64, first: bool) -> bool {
    let keep = Keep { packets: true, bytes: first && args.pcap.is_some() };
    let outcome = match run_keeping(&scenario(args), seed, keep) {
        Ok(outcome) => outcome,
        Err(error) => {
            complain(&error.to_string());
            return false;
        }
    };
    if args.json {
        say(&if args.repeat == 1 { json::lines(&outcome) } else { json::summary(&outcome, 0) });
    } else {
        if args.repeat == 1 {
            for call in 0..outcome.scenario.calls.len() {
                say(&timeline::render(&outcome, call));
            }
            say(&format!("seed {seed}: {}\n", tally(&outcome)));
        } else {
            say(&format!("{}\n", verdict(&outcome)));
        }
    }
    if let Some(path) = args.pcap.as_deref().filter(|_| first)
        && let Err(error) = capture(path, &outcome)
    {
        complain(&format!("--pcap: cannot write {}: {error} (is the path right, and may this user?)", path.display()));
        return false;
    }
    // A scenario from bytes may well end in refusals; what must not happen are faults.
    let done = args.scenario.is_some() || outcome.call(0).is_some_and(|call| call.done().is_some());
    done && outcome.faults().is_empty()
}

/// What moved, and the hash over it.
fn tally(outcome: &Outcome) -> String {
    let counts = &outcome.trace.counts;
    let lost: u64 = counts.dropped.values().sum();
    format!("{} packets, {lost} dropped; trace {}", counts.sent, json::hex(&outcome.trace_hash()[..8]))
}

/// One line on a run of many.
fn verdict(outcome: &Outcome) -> String {
    let time = |time| match time {
        Some(time) => format!("{} ms", timeline::ms(time)),
        None => "never".to_owned(),
    };
    let tally = tally(outcome);
    match outcome.call(0) {
        Some(call) => {
            let (connected, direct, echo) = (time(call.connected()), time(call.direct()), time(call.first_echo()));
            format!("seed {}: connected {connected}, direct {direct}, first echo {echo}; {tally}", outcome.seed)
        }
        None => format!("seed {}: the call was never made; {tally}", outcome.seed),
    }
}

fn capture(path: &Path, outcome: &Outcome) -> io::Result<()> {
    std::fs::write(path, pcapng::write(&outcome.names, &outcome.secrets, &outcome.trace.frames))
}
