//! The one place that writes to standard output and standard error.

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use direc_core::{printable, printable_lines};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{clock::timestamp, reader};

/// Lines on standard error are JSON objects.
static RECORDS_ARE_JSON: AtomicBool = AtomicBool::new(false);

/// A prompt stands at the end of standard error's last line.
static AT_PROMPT: AtomicBool = AtomicBool::new(false);

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
            note_unwritten(writeln!(io::stdout().lock(), "{}", harmless_json(&line)));
        }
    }

    /// A line for people: the program's result.
    pub fn say(self, text: &str) {
        if self.json || self.data {
            self.note(text);
        } else {
            note_unwritten(writeln!(io::stdout().lock(), "{}", printable_lines(text)));
        }
    }

    /// A line for people on the side: news, logs, errors.
    pub fn note(self, text: &str) {
        if RECORDS_ARE_JSON.load(Ordering::Relaxed) {
            return self.record(text, || json!({"level": "info", "message": text}));
        }
        write_line(&printable_lines(text));
    }

    /// A line of a log, with its time: `text` for people, or what `object` has for programs.
    pub fn record(self, text: &str, object: impl FnOnce() -> Value) {
        let time = timestamp();
        let line = if RECORDS_ARE_JSON.load(Ordering::Relaxed) {
            let mut line = object();
            line["time"] = time.into();
            harmless_json(&line.to_string())
        } else {
            // A record is one line, whatever others have put into it.
            printable(&format!("{time} {text}"))
        };
        write_line(&line);
    }

    /// Text without a line's end, to the person at the terminal: a question, a progress bar. What is said next begins on a
    /// line of its own.
    pub fn prompt(self, text: &str) {
        let mut stderr = io::stderr().lock();
        begin_line(&mut stderr, !text.starts_with(['\r', '\n']));
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        AT_PROMPT.store(!text.ends_with('\n'), Ordering::Relaxed);
    }

    /// The person has pressed Enter behind the prompt: its line has ended.
    pub fn entered(self) {
        AT_PROMPT.store(false, Ordering::Relaxed);
    }

    /// Ends the line of a prompt, before something else is written to the same terminal.
    pub fn begin_line(self) {
        begin_line(&mut io::stderr().lock(), true);
    }
}

/// A line to standard error. Nothing is left to do when that cannot be written.
fn write_line(text: &str) {
    let mut stderr = io::stderr().lock();
    begin_line(&mut stderr, true);
    let _ = writeln!(stderr, "{text}");
}

/// Ends the line of a prompt, if there is one and its line is `over`.
fn begin_line(stderr: &mut impl Write, over: bool) {
    if over && AT_PROMPT.swap(false, Ordering::Relaxed) {
        let _ = writeln!(stderr);
    }
}

/// The same JSON, with escapes for the characters that a terminal would obey. serde_json has escaped those below U+0020.
fn harmless_json(line: &str) -> String {
    let mut harmless = String::with_capacity(line.len());
    let mut buffer = [0; 4];
    for c in line.chars() {
        let text: &str = c.encode_utf8(&mut buffer);
        if printable(text) == text {
            harmless.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| harmless.push_str(&format!("\\u{unit:04x}")));
        }
    }
    harmless
}

/// Standard output took no more, and this is why.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// `peer ping … | head` should end when `head` does. Any other failure is told once, and [`all_written`] knows of it.
fn note_unwritten(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => reader::gone(),
        Err(error) => {
            UNWRITTEN.get_or_init(|| {
                let why = format!("cannot write to standard output: {error}");
                write_line(&why);
                why
            });
        }
    }
}

/// Whether everything for standard output has got there.
///
/// # Errors
/// Why it has not; the person has been told.
pub fn all_written() -> Result<(), &'static str> {
    note_unwritten(io::stdout().flush());
    UNWRITTEN.get().map_or(Ok(()), |why| Err(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_and_shows_nothing_that_is_obeyed() {
        let text = "\u{1b}[2J\u{9b}31m \u{202e}gpj.exe \u{7f} \u{e0041} é🙂 \\u202e";
        let line = harmless_json(&serde_json::to_string(&json!({"what": text})).unwrap_or_default());
        assert_eq!(printable(&line), line);
        assert!(line.contains(r"\u001b[2J\u009b31m \u202egpj.exe \u007f \udb40\udc41 é🙂 \\u202e"), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).ok(), Some(json!({"what": text})));
    }
}
