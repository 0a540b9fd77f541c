//! Ctrl-C, the system's wish that a program end, and the person's wish to know how things stand.

use std::io;

use async_signal::{Signal, Signals};
use smol::stream::StreamExt;

/// What a program is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// In good order, after what is under way (SIGTERM).
    Terminate,
    /// Now: Ctrl-C, or the terminal is gone.
    Interrupt,
    /// Not at all: it is to read its settings again (SIGHUP, to programs that have no terminal).
    Reload,
}

/// Done when the person or the system wants this program to end. Calls for an end are no longer fatal from here on.
pub struct Interrupted {
    signals: Signals,
    hangup: Call,
}

impl Interrupted {
    /// Starts listening.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> io::Result<Self> {
        Self::with(Call::Interrupt)
    }

    /// The same for a program that goes on without its terminal: SIGHUP is [`Call::Reload`].
    ///
    /// # Errors
    /// What the system says.
    pub fn listen_and_reload() -> io::Result<Self> {
        Self::with(Call::Reload)
    }

    fn with(hangup: Call) -> io::Result<Self> {
        #[cfg(unix)]
        let signals = [Signal::Int, Signal::Term, Signal::Hup];
        #[cfg(not(unix))]
        let signals = [Signal::Int];
        Ok(Self { signals: Signals::new(signals)?, hangup })
    }

    /// The next call.
    pub async fn wait(&mut self) -> Call {
        match next(&mut self.signals).await {
            Signal::Term => Call::Terminate,
            Signal::Hup => self.hangup,
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
