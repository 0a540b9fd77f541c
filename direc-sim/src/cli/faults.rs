//! How long each fault stalls an upload, over many seeds, against its limit.

use std::{fmt::Write as _, time::Duration};

use direc_sim::{
    faults::{Fault, Trial, Verdict},
    json::Object,
    scenario::Scenario,
    timeline::ms,
    trace::What,
};

use super::{all_cores::on_all_cores, args::Args};

/// Packets lost, where the command line does not say.
const LOSSES: [f64; 2] = [0.0, 0.01];

/// How many seeds, likewise.
const SEEDS: u64 = 200;

/// What one trial came to.
struct Sample {
    trial: Trial,
    stall: Duration,
    ok: bool,
}

/// All trials of one fault at one loss.
struct Row {
    fault: Fault,
    loss: f64,
    /// In the order of their stalls.
    samples: Vec<Sample>,
}

impl Row {
    fn median(&self) -> Duration {
        self.samples.get(self.samples.len() / 2).map_or(Duration::ZERO, |sample| sample.stall)
    }

    fn bad(&self) -> usize {
        self.samples.iter().filter(|sample| !sample.ok).count()
    }

    fn text(&self) -> String {
        let Some(worst) = self.samples.last() else { return String::new() };
        let verdict = match self.bad() {
            0 => "ok".to_owned(),
            bad => format!("NOT OK, {bad} of {}", self.samples.len()),
        };
        format!(
            "{:<40}{:>5} {:>10}{:>10}{:>9}  {verdict}\n    worst: {}\n",
            self.fault.what(),
            format!("{} %", self.loss * 100.0),
            ms(self.median()),
            ms(worst.stall),
            ms(self.fault.limit()),
            command(&worst.trial),
        )
    }

    fn json(&self) -> String {
        let mut object = Object::new("fault");
        object.text("fault", self.fault.name()).real("loss", Some(self.loss));
        object.number("trials", self.samples.len() as u64).ms("median_ms", Some(self.median()));
        if let Some(worst) = self.samples.last() {
            object.ms("worst_ms", Some(worst.stall)).number("worst_seed", worst.trial.seed);
            object.text("worst_sender", &Scenario::name(worst.trial.sender)).text("replay", &command(&worst.trial));
        }
        object.ms("limit_ms", Some(self.fault.limit())).number("bad", self.bad() as u64).flag("ok", self.bad() == 0);
        object.line()
    }
}

/// What runs a trial again.
fn command(trial: &Trial) -> String {
    let (fault, sender) = (trial.fault.name(), Scenario::name(trial.sender));
    format!("direc-sim faults --fault {fault} --loss {} --sender {sender} --seed {} --seeds 1", trial.loss, trial.seed)
}

/// Runs them all, and says each row as it comes. Gives whether every limit was kept.
pub(crate) fn table(args: &Args, say: impl Fn(&str)) -> bool {
    let faults = args.fault.map_or(Fault::ALL.to_vec(), |fault| vec![fault]);
    let losses = if args.loss_given { vec![args.loss] } else { LOSSES.to_vec() };
    let senders = args.sender.map_or(vec![0, 1], |sender| vec![sender]);
    let count = if args.seeds == 0 { SEEDS } else { args.seeds };
    if !args.json {
        say(&format!("Uploads of 30 Mbit/s, round trips of 40 to 80 ms, {count} seeds; stalls in ms.\n\n"));
        say(&format!("{:<40}{:>5} {:>10}{:>10}{:>9}\n", "fault", "loss", "median", "worst", "limit"));
    }
    let mut good = true;
    for (fault, loss) in faults.iter().flat_map(|&fault| losses.iter().map(move |&loss| (fault, loss))) {
        let seeds = (0..count).map(|n| args.seed.wrapping_add(n));
        let each = seeds.flat_map(|seed| senders.iter().map(move |&sender| Trial { fault, loss, sender, seed }));
        let trials: Vec<Trial> = each.collect();
        let row = Row { fault, loss, samples: run_all(&trials) };
        good &= row.bad() == 0;
        say(&if args.json { row.json() } else { row.text() });
        if let [trial] = trials.as_slice()
            && !args.json
        {
            say(&story(trial));
        }
    }
    if !args.json {
        say(if good { "\nall limits kept\n" } else { "\nNOT all limits kept\n" });
    }
    good
}

/// Runs trials of one fault on all cores, and sorts them by stall.
fn run_all(trials: &[Trial]) -> Vec<Sample> {
    let progress = |done| {
        let row = trials.first().map(|trial| format!("{} {} % loss: ", trial.fault.name(), trial.loss * 100.0));
        format!("{}{done}/{}", row.unwrap_or_default(), trials.len())
    };
    let mut samples = on_all_cores(trials, progress, |trial| match trial.run() {
        Ok(verdict) => Sample { trial: *trial, stall: verdict.stall.lasted, ok: verdict.ok(trial.fault) },
        Err(_) => Sample { trial: *trial, stall: Duration::MAX, ok: false },
    });
    samples.sort_by_key(|sample| (sample.stall, sample.trial.seed, sample.trial.sender));
    samples
}

/// What was said around one fault, for people.
fn story(trial: &Trial) -> String {
    let (Ok(Verdict { stall, outcome }), story) = (trial.run(), trial.story()) else { return String::new() };
    let mut out = String::new();
    let since = |at: Duration| at.as_secs_f64() - outcome.start.as_secs_f64();
    let (at, over, gap) = (story.at.as_secs_f64(), story.over.as_secs_f64(), since(stall.at));
    let _ = writeln!(out, "\nfault at {at:.3} s, over at {over:.3} s; {} ms from {gap:.3} s on", ms(stall.lasted));
    for note in &outcome.trace.notes {
        if let What::Event(words) = &note.what {
            let name = outcome.names.get(note.host.0).map_or("", String::as_str);
            let _ = writeln!(out, "{:>9.3} s  {name:<5} {words}", since(note.at));
        }
    }
    out
}
