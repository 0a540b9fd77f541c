//! `direc-sim matrix`: every NAT against every NAT.

mod args;
mod bar;

use std::{fs::OpenOptions, io, path::Path, process::ExitCode, thread::available_parallelism};

use args::{Asked, HELP, parse};
use bar::Bar;
use direc_sim::matrix::{Matrix, page, run_all, text};
use lexopt::Parser;

use crate::{cli::args::VERSION, complain, exit_code, say};

/// Runs the matrix that the rest of the command line asks for.
pub(crate) fn command(parser: Parser) -> ExitCode {
    let options = match parse(parser) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            say(HELP);
            return exit_code(true);
        }
        Ok(Asked::Version) => {
            say(VERSION);
            return exit_code(true);
        }
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(2);
        }
    };
    // Before the work of minutes.
    let files = [&options.out, &options.json, &options.markdown];
    if !files.into_iter().flatten().all(|path| may_write(path)) {
        return ExitCode::FAILURE;
    }
    let threads = options.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let bar = Bar::new();
    let samples = run_all(&options.plan, threads, |done, all| bar.show(done, all));
    bar.finish();
    let matrix = Matrix::new(&options.plan, &samples);
    say(&text::terminal(&matrix));
    let written = write(options.out.as_deref(), || page(&matrix))
        && write(options.json.as_deref(), || matrix.json())
        && write(options.markdown.as_deref(), || text::markdown(&matrix));
    exit_code(written && matrix.good())
}

/// Whether the command line makes sense.
#[cfg(test)]
pub(crate) fn understands(parser: Parser) -> bool {
    parse(parser).is_ok()
}

/// Writes what was asked for. Gives whether that went well.
fn write(path: Option<&Path>, make: impl Fn() -> String) -> bool {
    let Some(path) = path else { return true };
    succeeded(path, std::fs::write(path, make()))
}

/// Whether the file can be written; it is made if it is not there.
fn may_write(path: &Path) -> bool {
    succeeded(path, OpenOptions::new().append(true).create(true).open(path).map(drop))
}

fn succeeded(path: &Path, done: io::Result<()>) -> bool {
    if let Err(error) = &done {
        complain(&format!("cannot write {}: {error} (is the path right, and may this user?)", path.display()));
    }
    done.is_ok()
}
