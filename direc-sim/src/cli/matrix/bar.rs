//! How far it has got, where a person watches.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two pictures.
const PAUSE: Duration = Duration::from_millis(100);
/// The bar's length, in characters.
const LENGTH: u64 = 40;

/// A bar on standard error; nothing, if that is no terminal.
pub(super) struct Bar {
    begun: Instant,
    shown: Option<Mutex<Instant>>,
}

impl Bar {
    pub(super) fn new() -> Self {
        let begun = Instant::now();
        Self { begun, shown: io::stderr().is_terminal().then(|| Mutex::new(begun)) }
    }

    /// So many of all are done.
    pub(super) fn show(&self, done: u64, all: u64) {
        let Some(shown) = &self.shown else { return };
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.elapsed() < PAUSE {
            return;
        }
        *shown = Instant::now();
        let _ = write!(io::stderr().lock(), "\r{}\x1b[K", line(done, all, self.begun.elapsed()));
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn line(done: u64, all: u64, spent: Duration) -> String {
    let full = (done * LENGTH / all.max(1)) as usize;
    let left = spent.mul_f64((all - done) as f64 / done.max(1) as f64).as_secs();
    let bar = "█".repeat(full) + &"░".repeat(LENGTH as usize - full);
    format!("{bar} {done} of {all} runs, {}:{:02} left", left / 60, left % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_long_it_will_take() {
        let line = line(500, 2000, Duration::from_secs(30));
        assert_eq!(line.chars().filter(|&symbol| symbol == '█').count(), 10);
        assert!(line.ends_with(" 500 of 2000 runs, 1:30 left"), "{line}");
    }
}
