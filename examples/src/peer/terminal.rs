//! Standard input without blocking, and questions to the person in front of it.

use std::{
    io::{self, IsTerminal, Read},
    thread,
};

use bytes::{Bytes, BytesMut};
use direc_core::NodeId;
use smol::channel::{Receiver, bounded};

use crate::{bench::BLOCK, out::Out};

/// Standard input, read on a thread of its own.
///
/// Not `smol::Unblock`: that reads on after an end that came behind other bytes, and a terminal can go on after its
/// end, so that the person would have to press Ctrl-D twice.
pub(super) struct Stdin {
    chunks: Receiver<io::Result<Bytes>>,
    rest: BytesMut,
}

impl Stdin {
    /// Begins to read. There should be one of these: two would share what comes.
    pub(super) fn open() -> Self {
        let (sender, chunks) = bounded(1);
        thread::spawn(move || {
            let mut buffer = vec![0; BLOCK];
            loop {
                let chunk = match io::stdin().lock().read(&mut buffer) {
                    Ok(0) => break,
                    Ok(size) => Ok(Bytes::copy_from_slice(&buffer[..size])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let broken = chunk.is_err();
                if sender.send_blocking(chunk).is_err() || broken {
                    break;
                }
            }
        });
        Self { chunks, rest: BytesMut::new() }
    }

    /// What comes next; `None` at the end. Dropping the future loses nothing.
    pub(super) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        if !self.rest.is_empty() {
            return Ok(Some(self.rest.split().freeze()));
        }
        self.chunks.recv().await.ok().transpose()
    }

    /// The next line; `None` at the end.
    async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                return Ok(Some(String::from_utf8_lossy(&self.rest.split_to(end + 1)).into_owned()));
            }
            match self.chunks.recv().await {
                Ok(chunk) => self.rest.extend_from_slice(&chunk?),
                Err(_) => return Ok(None),
            }
        }
    }
}

/// Asks the person about each offer.
pub(super) enum Asker {
    /// Everyone is welcome: no question.
    Yes,
    /// There is nobody to ask.
    Nobody,
    /// The person at the terminal.
    Person(Stdin),
}

impl Asker {
    /// `yes`: accepts without asking. Otherwise asks, if a terminal is there.
    pub(super) fn new(yes: bool) -> Self {
        match (yes, io::stdin().is_terminal()) {
            (true, _) => Self::Yes,
            (false, true) => Self::Person(Stdin::open()),
            (false, false) => Self::Nobody,
        }
    }

    /// Whether `peer` may come in.
    pub(super) async fn ask(&mut self, peer: NodeId, out: Out) -> bool {
        let short = peer.short();
        let answer = match self {
            Self::Yes => return true,
            Self::Nobody => {
                out.note(&format!("refused {peer}: nobody to ask (see --allow and --yes)"));
                return false;
            }
            Self::Person(lines) => {
                out.note(&format!("{peer} wants to connect"));
                out.prompt(&format!("accept {short}…? [y/N] "));
                lines.line().await
            }
        };
        match answer {
            Ok(Some(line)) => {
                let yes = ["y", "yes"].contains(&line.trim().to_lowercase().as_str());
                out.note(&format!("{} {short}", if yes { "accepted" } else { "refused" }));
                yes
            }
            Ok(None) | Err(_) => {
                out.note(&format!("\nrefused {short}: standard input has ended, so nobody can be asked any more"));
                *self = Self::Nobody;
                false
            }
        }
    }
}
