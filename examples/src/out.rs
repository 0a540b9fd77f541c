//! The one place that writes to standard output and standard error.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{clock::timestamp, reader};

/// Lines on standard error are JSON objects.
static RECORDS_ARE_JSON: AtomicBool = AtomicBool::new(false);

/// From now on every line on standard error is a JSON object with `time`, `level` and `message`, for programs that
/// collect logs.
pub fn write_records_as_json() {
    RECORDS_ARE_JSON.store(true, Ordering::Relaxed);
}

/// Where a program's words go: with `--json`, standard output carries JSON lines only.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    json: bool,
    /// People's text goes to standard error even without `--json`: standard output carries data.
    data: bool,
}

impl Out {
    /// Standard output for JSON lines (`json`) or for people's text.
    pub fn new(json: bool) -> Self {
        Self { json, data: false }
    }

    /// The same, with standard output left to the data of a stream.
    pub fn leave_stdout(self) -> Self {
        Self { data: true, ..self }
    }

    /// Whether JSON was asked for.
    pub fn json(self) -> bool {
        self.json
    }

    /// One JSON object on a line of its own; nothing without `--json`.
    pub fn event(self, event: &impl Serialize) {
        if self.json
            && let Ok(line) = serde_json::to_string(event)
        {
            end_if_nobody_reads(writeln!(io::stdout().lock(), "{line}"));
        }
    }

    /// A line for people: the program's result.
    pub fn say(self, text: &str) {
        if self.json || self.data {
            self.note(text);
        } else {
            end_if_nobody_reads(writeln!(io::stdout().lock(), "{text}"));
        }
    }

    /// A line for people on the side: news, logs, errors.
    pub fn note(self, text: &str) {
        if RECORDS_ARE_JSON.load(Ordering::Relaxed) {
            return self.record(text, || json!({"level": "info", "message": text}));
        }
        // Nothing is left to do when standard error cannot be written.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A line of a log, with its time: `text` for people, or what `object` has for programs.
    pub fn record(self, text: &str, object: impl FnOnce() -> Value) {
        let time = timestamp();
        let line = if RECORDS_ARE_JSON.load(Ordering::Relaxed) {
            let mut line = object();
            line["time"] = time.into();
            line.to_string()
        } else {
            format!("{time} {text}")
        };
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Text without a line's end, to the person at the terminal: a question, a progress bar.
    pub fn prompt(self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

/// `peer ping … | head` should end when `head` does.
fn end_if_nobody_reads(written: io::Result<()>) {
    if written.is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        reader::gone();
    }
}
