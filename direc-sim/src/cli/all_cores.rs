//! Work on all cores, with a line of progress for people.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Does the work for each of these, and gives what came of it in their order. `progress` says how far it has got, after so
/// many of them; only a terminal is told.
pub(crate) fn on_all_cores<T: Sync, R: Send>(
    items: &[T],
    progress: impl Fn(usize) -> String + Sync,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let tells = items.len() > 1 && std::io::stderr().is_terminal();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(items.len())));
    let run = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { break };
            let result = work(item);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((number, result));
            if tells {
                let _ = write!(std::io::stderr().lock(), "\r{} ", progress(done.len()));
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 1..cores.min(items.len()) {
            scope.spawn(run);
        }
        run();
    });
    if tells {
        // Erases the line of progress.
        let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}
