//! Ctrl-C and the system's wish that a program end.

use std::io;

use smol::stream::StreamExt;

/// Done when the person or the system wants this program to end. Calls for an end are no longer fatal from here on.
pub struct Interrupted(async_signal::Signals);

impl Interrupted {
    /// Starts listening.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        let signals = [async_signal::Signal::Int, async_signal::Signal::Term, async_signal::Signal::Hup];
        #[cfg(not(unix))]
        let signals = [async_signal::Signal::Int];
        Ok(Self(async_signal::Signals::new(signals)?))
    }

    /// The next call for an end.
    pub async fn wait(&mut self) {
        // An error or the end of the stream means that signals cannot be heard: then none comes.
        if !matches!(self.0.next().await, Some(Ok(_))) {
            std::future::pending::<()>().await;
        }
    }
}
