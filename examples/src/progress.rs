//! A progress bar: one line, redrawn in place. Thirty lines do for it, so no crate.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use crate::out::Out;

const WIDTH: usize = 32;
const REDRAW: Duration = Duration::from_millis(100);
/// Without a terminal: one line at each of these shares.
const LINES: u64 = 4;

/// How far a transfer has come, on standard error.
#[derive(Debug)]
pub struct Progress {
    out: Out,
    label: &'static str,
    total: u64,
    started: Instant,
    terminal: bool,
    drawn: Instant,
    quarters: u64,
}

impl Progress {
    /// A bar that is full at `total`.
    pub fn new(out: Out, label: &'static str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let started = Instant::now();
        Self { out, label, total: total.max(1), started, terminal, drawn: started, quarters: 0 }
    }

    /// So many bytes are through.
    pub fn at(&mut self, bytes: u64) {
        let quarters = (u128::from(bytes) * u128::from(LINES) / u128::from(self.total)) as u64;
        if self.terminal {
            if self.drawn.elapsed() >= REDRAW || bytes >= self.total {
                self.drawn = Instant::now();
                let filled = (bytes as f64 / self.total as f64 * WIDTH as f64) as usize;
                self.out.prompt(&format!("\r{}", self.line(bytes, &format!("{:·<WIDTH$}", "━".repeat(filled)))));
            }
        } else if quarters > self.quarters {
            self.quarters = quarters;
            self.out.note(&self.line(bytes, ""));
        }
    }

    fn line(&self, bytes: u64, bar: &str) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-6);
        let percent = bytes as f64 * 100.0 / self.total as f64;
        let rate = bytes as f64 / 1e6 / seconds;
        format!("{:<10} {bar} {percent:3.0} %  {:7.1} MB  {rate:7.1} MB/s", self.label, bytes as f64 / 1e6)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            self.out.prompt("\n");
        }
    }
}
