//! Whether anybody still reads standard output.
//!
//! Rust's programs do not die of SIGPIPE. So that they end all the same when their reader does, as `cat` does before
//! `head`, a write that fails ends them here, and [`watch`] notices it while nothing is written.

use std::sync::OnceLock;

use smol::channel::{Receiver, Sender, bounded};

/// What a shell shows of a program that SIGPIPE has ended: 128 and the signal's number.
pub const EXIT_CODE: u8 = 141;

/// Nothing is ever sent here: the channel is closed when nobody reads.
static READER: OnceLock<(Sender<()>, Receiver<()>)> = OnceLock::new();

/// Done when nobody reads.
#[derive(Debug)]
pub struct Gone(Receiver<()>);

impl Gone {
    /// From here on the program ends by itself, in good order, when nobody reads; until then [`gone`] ends it at once.
    pub fn listen() -> Self {
        Self(READER.get_or_init(|| bounded(1)).1.clone())
    }

    /// Waits until nobody reads.
    pub async fn wait(&self) {
        // It ends with an error, since nothing is sent.
        let _ = self.0.recv().await;
    }
}

/// A write has shown that nobody reads.
pub fn gone() {
    match READER.get() {
        Some((sender, _)) => {
            sender.close();
        }
        None => std::process::exit(EXIT_CODE.into()),
    }
}

/// Whether that has been noticed.
pub fn is_gone() -> bool {
    READER.get().is_some_and(|(sender, _)| sender.is_closed())
}

/// Notices it from here on also while nothing is written, as far as the system tells: for programs whose standard output
/// carries what comes from elsewhere, or does not come.
#[cfg(unix)]
pub fn watch() {
    static STARTED: std::sync::Once = std::sync::Once::new();
    STARTED.call_once(|| {
        // The thread sleeps until the reader goes, or the process ends. A file or a terminal keeps it asleep.
        std::thread::spawn(|| {
            if reader_goes() {
                gone();
            }
        });
    });
}

/// The system does not tell.
#[cfg(not(unix))]
pub fn watch() {}

#[cfg(unix)]
fn reader_goes() -> bool {
    use std::os::fd::AsFd;

    use nix::{
        errno::Errno,
        poll::{PollFd, PollFlags, PollTimeout, poll},
    };

    let stdout = std::io::stdout();
    // That the reader is gone is told unasked; nothing else is asked for.
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(error) => {
                log::debug!("standard output cannot be watched: {error}");
                return false;
            }
            Ok(_) => {
                return fds[0].revents().is_some_and(|told| told.intersects(PollFlags::POLLERR | PollFlags::POLLHUP));
            }
        }
    }
}
