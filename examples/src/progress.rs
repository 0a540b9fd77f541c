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

/// How far a transfer has come, on standard error. With `--json` nothing is shown.
#[derive(Debug)]
pub struct Progress {
    out: Out,
    label: &'static str,
    whole: Whole,
    started: Instant,
    terminal: bool,
    drawn: Instant,
    quarters: u64,
}

/// What a transfer is over at.
#[derive(Clone, Copy, Debug)]
enum Whole {
    /// So many bytes, not 0.
    Bytes(u64),
    /// So long, not zero.
    Time(Duration),
}

impl Whole {
    /// The share that is through, from 0 to 1.
    fn share(self, bytes: u64, elapsed: Duration) -> f64 {
        let share = match self {
            Self::Bytes(total) => bytes as f64 / total as f64,
            Self::Time(total) => elapsed.as_secs_f64() / total.as_secs_f64(),
        };
        share.clamp(0.0, 1.0)
    }
}

impl Progress {
    /// A bar that is full at `total` bytes.
    pub fn new(out: Out, label: &'static str, total: u64) -> Self {
        Self::of(out, label, Whole::Bytes(total.max(1)))
    }

    /// A bar that is full when `total` is over. Without a terminal there is none.
    pub fn timed(out: Out, label: &'static str, total: Duration) -> Self {
        Self::of(out, label, Whole::Time(total.max(Duration::from_millis(1))))
    }

    fn of(out: Out, label: &'static str, whole: Whole) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let started = Instant::now();
        Self { out, label, whole, started, terminal, drawn: started, quarters: 0 }
    }

    /// So many bytes are through.
    pub fn at(&mut self, bytes: u64) {
        if self.out.json() {
            return;
        }
        if self.terminal {
            if self.drawn.elapsed() >= REDRAW || matches!(self.whole, Whole::Bytes(total) if bytes >= total) {
                self.drawn = Instant::now();
                let filled = (self.whole.share(bytes, self.started.elapsed()) * WIDTH as f64) as usize;
                self.out.prompt(&format!("\r{}", self.line(bytes, &format!("{:·<WIDTH$}", "━".repeat(filled)))));
            }
        } else if let Whole::Bytes(total) = self.whole {
            let quarters = (u128::from(bytes) * u128::from(LINES) / u128::from(total)) as u64;
            if quarters > self.quarters {
                self.quarters = quarters;
                self.out.note(&self.line(bytes, ""));
            }
        }
    }

    fn line(&self, bytes: u64, bar: &str) -> String {
        let elapsed = self.started.elapsed();
        let seconds = elapsed.as_secs_f64().max(1e-6);
        let percent = self.whole.share(bytes, elapsed) * 100.0;
        let rate = bytes as f64 / 1e6 / seconds;
        format!("{:<10} {bar} {percent:3.0} %  {:7.1} MB  {rate:7.1} MB/s", self.label, bytes as f64 / 1e6)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && !self.out.json() {
            self.out.prompt("\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_its_bytes_or_at_its_time_and_never_fuller() {
        let (second, bytes, time) = (Duration::from_secs(1), Whole::Bytes(1000), Whole::Time(Duration::from_secs(10)));
        assert_eq!([0, 250, 1000, 2000].map(|sent| bytes.share(sent, second)), [0.0, 0.25, 1.0, 1.0]);
        assert_eq!([0, 5, 10, 12].map(|count| time.share(7, count * second)), [0.0, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn a_line_fits_a_terminal() {
        let mut progress = Progress::timed(Out::new(false), "to client", Duration::from_secs(10));
        progress.started -= Duration::from_secs(5);
        let line = progress.line(99_999_999_999, &"━".repeat(WIDTH));
        assert!(line.chars().count() < 80 && line.contains(" 50 %"), "{line}");
    }
}
