//! How a program ends when it did not do what was asked, and with which exit code.

use std::{fmt, process::ExitCode};

use crate::{
    events::Event,
    out::{self, Out},
    reader,
};

/// Why a program ends early.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense. Exit code 2.
    Usage(String),
    /// It did not work. Exit code 1.
    Failed(String),
    /// It did not work, and the events that say so have been printed already. Exit code 1.
    Told,
    /// Nobody reads standard output any more. Exit code 141, as if SIGPIPE had ended the program, and no word.
    NobodyReads,
}

impl Failure {
    /// What was tried, and why it failed.
    pub fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Failed(format!("{what}: {why}"))
    }

    /// The failure that `error` stands for, in its own words.
    pub fn of(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => f.write_str(text),
            Self::Told => f.write_str("failed"),
            Self::NobodyReads => f.write_str("nobody reads the output any more"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Tells the person, and the program at the other end of the pipe, how it ended.
pub fn exit_code(program: &str, json: bool, result: Result<(), Failure>) -> ExitCode {
    let out = Out::new(json);
    match result {
        _ if reader::is_gone() => ExitCode::from(reader::EXIT_CODE),
        Err(Failure::NobodyReads) => ExitCode::from(reader::EXIT_CODE),
        Ok(()) if out::all_written().is_err() => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(failure @ Failure::Failed(_)) => {
            out.event(&Event::Error { what: failure.to_string() });
            out.note(&format!("{program}: {failure}"));
            ExitCode::FAILURE
        }
        Err(failure @ Failure::Usage(_)) => {
            out.event(&Event::Error { what: failure.to_string() });
            out.note(&format!("{program}: {failure}\nTry `{program} --help`."));
            ExitCode::from(2)
        }
    }
}
