//! `direc-sim matrix`: every NAT against every NAT.

mod args;
mod bar;

use std::{path::Path, process::ExitCode, thread::available_parallelism};

use args::{Asked, HELP, parse};
use bar::Bar;
use direc_sim::matrix::{Matrix, page, run_all, text};
use lexopt::Parser;

use crate::{cli::args::VERSION, complain, say};

/// Runs the matrix that the rest of the command line asks for.
pub(crate) fn command(parser: Parser) -> ExitCode {
    let options = match parse(parser) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Asked::Version) => {
            say(VERSION);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(2);
        }
    };
    let threads = options.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let bar = Bar::new();
    let samples = run_all(&options.plan, threads, |done, all| bar.show(done, all));
    bar.finish();
    let matrix = Matrix::new(&options.plan, &samples);
    say(&text::terminal(&matrix));
    let written = write(options.out.as_deref(), || page(&matrix))
        && write(options.json.as_deref(), || matrix.json())
        && write(options.markdown.as_deref(), || text::markdown(&matrix));
    if written && matrix.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the command line makes sense.
#[cfg(test)]
pub(crate) fn understands(parser: Parser) -> bool {
    parse(parser).is_ok()
}

/// Writes what was asked for. Gives whether that went well.
fn write(path: Option<&Path>, make: impl Fn() -> String) -> bool {
    let Some(path) = path else { return true };
    let done = std::fs::write(path, make());
    if let Err(error) = &done {
        complain(&format!("{} cannot be written: {error}", path.display()));
    }
    done.is_ok()
}
