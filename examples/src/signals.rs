//! Ctrl-C, the system's wish that a program end, and the person's wish to know how things stand.

use std::io;

use async_signal::{Signal, Signals};
use smol::stream::StreamExt;

/// How a program is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// In good order, after what is under way (SIGTERM).
    Terminate,
    /// Now: Ctrl-C, or the terminal is gone.
    Interrupt,
}

/// Done when the person or the system wants this program to end. Calls for an end are no longer fatal from here on.
pub struct Interrupted(Signals);

impl Interrupted {
    /// Starts listening.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        let signals = [Signal::Int, Signal::Term, Signal::Hup];
        #[cfg(not(unix))]
        let signals = [Signal::Int];
        Ok(Self(Signals::new(signals)?))
    }

    /// The next call for an end.
    pub async fn wait(&mut self) -> Call {
        match next(&mut self.0).await {
            Signal::Term => Call::Terminate,
            _ => Call::Interrupt,
        }
    }
}

/// Done when the person asks for the status: SIGUSR1, where there is such a thing.
pub struct StatusAsked(Signals);

impl StatusAsked {
    /// Starts listening: without it the signal would end the program.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        let signals = [Signal::Usr1];
        #[cfg(not(unix))]
        let signals: [Signal; 0] = [];
        Ok(Self(Signals::new(signals)?))
    }

    /// The next question.
    pub async fn wait(&mut self) {
        next(&mut self.0).await;
    }
}

async fn next(signals: &mut Signals) -> Signal {
    match signals.next().await {
        Some(Ok(signal)) => signal,
        // Signals cannot be heard: then none comes.
        Some(Err(_)) | None => std::future::pending().await,
    }
}
