//! Standard input as the system has it: what is there already is told from what is typed later.

use std::io;

use bytes::Bytes;

use crate::bench::BLOCK;

/// What can be read, and forgotten, without waiting.
pub(super) trait Keyboard {
    /// What is there already, empty at the end of the input; `None` if nothing is there yet.
    fn ready(&mut self) -> Option<io::Result<Bytes>>;

    /// The beginning of a line that is being typed, where the system gives whole lines; empty if there is none. The person
    /// cannot take it back any more.
    fn begun(&mut self) -> Bytes;

    /// Forgets what has been typed and not read, a line that is being typed as well.
    fn forget(&mut self);
}

#[cfg(unix)]
pub(super) use unix::Real;

#[cfg(unix)]
mod unix {
    use std::os::fd::AsFd;

    use nix::{
        errno::Errno,
        poll::{PollFd, PollFlags, PollTimeout, poll},
        sys::termios::{FlushArg, LocalFlags, SetArg, tcflush, tcgetattr, tcsetattr},
        unistd::read,
    };

    use super::{BLOCK, Bytes, Keyboard, io};

    /// This process's standard input.
    #[derive(Clone, Debug, Default)]
    pub(in crate::peer) struct Real {
        buffer: Vec<u8>,
    }

    impl Real {
        /// Waits until something can be read, and takes nothing.
        pub(in crate::peer) fn wait(&self) {
            while is_ready(PollTimeout::NONE) == Err(Errno::EINTR) {}
        }
    }

    impl Keyboard for Real {
        fn ready(&mut self) -> Option<io::Result<Bytes>> {
            // What goes wrong with poll goes wrong with read, which says so.
            if is_ready(PollTimeout::ZERO) == Ok(false) {
                return None;
            }
            self.buffer.resize(BLOCK, 0);
            match read(io::stdin(), &mut self.buffer) {
                Ok(size) => Some(Ok(Bytes::copy_from_slice(&self.buffer[..size]))),
                Err(Errno::EINTR | Errno::EAGAIN) => None,
                Err(error) => Some(Err(error.into())),
            }
        }

        fn begun(&mut self) -> Bytes {
            let stdin = io::stdin();
            let Ok(settings) = tcgetattr(&stdin) else { return Bytes::new() };
            if !settings.local_flags.contains(LocalFlags::ICANON) {
                return Bytes::new();
            }
            // Without lines, what is there can be read.
            let mut now = settings.clone();
            now.local_flags.remove(LocalFlags::ICANON);
            if tcsetattr(&stdin, SetArg::TCSANOW, &now).is_err() {
                return Bytes::new();
            }
            let begun = match is_ready(PollTimeout::ZERO) {
                Ok(true) => self.ready(),
                _ => None,
            };
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, &settings);
            begun.and_then(Result::ok).unwrap_or_default()
        }

        fn forget(&mut self) {
            // Only terminals have such a queue.
            let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
        }
    }

    fn is_ready(timeout: PollTimeout) -> nix::Result<bool> {
        let stdin = io::stdin();
        poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], timeout).map(|ready| ready > 0)
    }
}

#[cfg(not(unix))]
pub(super) use elsewhere::Real;

#[cfg(not(unix))]
mod elsewhere {
    use std::{
        io::Read,
        sync::{Arc, Mutex, PoisonError},
    };

    use super::{BLOCK, Bytes, Keyboard, io};

    /// This process's standard input. What the system holds back cannot be forgotten here.
    #[derive(Clone, Debug, Default)]
    pub(in crate::peer) struct Real(Arc<Mutex<Option<io::Result<Bytes>>>>);

    impl Real {
        /// Waits until something has been read.
        pub(in crate::peer) fn wait(&self) {
            let mut buffer = vec![0; BLOCK];
            let read = io::stdin().lock().read(&mut buffer).map(|size| Bytes::copy_from_slice(&buffer[..size]));
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        }
    }

    impl Keyboard for Real {
        fn ready(&mut self) -> Option<io::Result<Bytes>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
        }

        fn begun(&mut self) -> Bytes {
            Bytes::new()
        }

        fn forget(&mut self) {
            drop(self.ready());
        }
    }
}
