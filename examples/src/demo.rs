//! `demo`: the three parties of PTTH_DIREC on one machine, every step shown, and the same between simulated NATs.

mod events;
mod introduction;
mod options;
mod simulated;
mod story;
mod transfer;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use crate::{
    args,
    clock::seconds,
    failure::{self, Failure},
    logger,
    out::Out,
    signals::Interrupted,
};
use events::DemoEvent;
use options::Parsed;

/// After this long the demo has failed, whatever it is waiting for.
const DEADLINE: Duration = Duration::from_secs(120);

/// The program: its command line in, its exit code out.
pub fn main() -> ExitCode {
    let json = args::wants_json();
    failure::exit_code("demo", json, run(Out::new(json)))
}

fn run(out: Out) -> Result<(), Failure> {
    logger::start();
    let started = Instant::now();
    let options = match options::parse(lexopt::Parser::from_env())? {
        Parsed::Run(options) => options,
        Parsed::Say(text) => {
            Out::new(false).say(text);
            return Ok(());
        }
    };
    let mut interrupted = Interrupted::listen().map_err(|e| Failure::new("cannot listen for signals", e))?;
    thread::spawn(move || watchdog(out));
    let all = async {
        let seen = introduction::run(started, options.bytes, out).await?;
        simulated::run(out)?;
        let seconds = seconds(started.elapsed());
        out.say(&format!(
            "\nEverything went as it should: {seen} steps of 13, a direct connection, all bytes intact. {seconds:.1} s."
        ));
        out.event(&DemoEvent::Summary { ok: true, steps: seen, seconds });
        Ok(())
    };
    smol::block_on(smol::future::or(all, async {
        interrupted.wait().await;
        Err(Failure::Failed("interrupted".into()))
    }))
}

/// On a thread of its own, so that not even a busy loop can keep it from ending the program.
fn watchdog(out: Out) {
    thread::sleep(DEADLINE);
    let what = format!("not done after {} s", DEADLINE.as_secs());
    out.note(&format!("demo: {what}"));
    out.event(&DemoEvent::Error { what });
    std::process::exit(1);
}
