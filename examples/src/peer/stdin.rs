//! The owner of standard input: one thread reads it, for the connection that has the pipe and for questions.
//!
//! Not `smol::Unblock`: that reads on after an end that came behind other bytes, and a terminal can go on after its end, so
//! that the person would have to press Ctrl-D twice.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use bytes::Bytes;
use direc_core::NodeId;
use smol::channel::{Receiver, Sender, bounded};

use super::{
    desk::{Desk, Show, Unasked},
    keyboard::Real,
};
use crate::out::Out;

/// Standard input. Nothing is read that nobody wants.
#[derive(Clone)]
pub(super) struct Stdin(Arc<Shared>);

struct Shared {
    desk: Mutex<Desk<Real>>,
    /// Tells the reader that somebody wants something.
    wanted: Condvar,
    /// Tells the pipe that something has been read.
    read: (Sender<()>, Receiver<()>),
    out: Out,
}

impl Stdin {
    /// Takes standard input over. A program does so once: two would share what comes.
    pub(super) fn open(out: Out) -> Self {
        let keyboard = Real::default();
        let desk = Mutex::new(Desk::new(keyboard.clone()));
        let shared = Arc::new(Shared { desk, wanted: Condvar::new(), read: bounded(1), out });
        let reader = shared.clone();
        thread::spawn(move || reader.read_on(&keyboard));
        Self(shared)
    }

    /// The input from here on for one connection; `None` while another one has it.
    pub(super) fn pipe(&self) -> Option<Pipe> {
        self.0.with(Desk::open_pipe).then(|| Pipe(self.0.clone()))
    }

    /// Asks the person whether this peer may come in, beside other questions.
    pub(super) fn ask(&self, peer: NodeId) -> Result<Question, Unasked> {
        let (number, answer) = self.0.with(|desk| desk.ask(peer))?;
        Ok(Question { shared: self.0.clone(), number, answer })
    }
}

/// What is typed, for one connection.
pub(super) struct Pipe(Arc<Shared>);

impl Pipe {
    /// What comes next; `None` at the end. Dropping the future loses nothing.
    pub(super) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(typed) = self.0.with(Desk::next_typed) {
                return typed;
            }
            // The sender is in there as well: it does not close.
            let _ = self.0.read.1.recv().await;
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.with(Desk::close_pipe);
    }
}

/// A question that is shown. Dropped without an answer, it goes away, and the person is told.
pub(super) struct Question {
    shared: Arc<Shared>,
    number: u32,
    answer: Receiver<bool>,
}

impl Question {
    /// The person's answer; `None` if nobody answers any more.
    pub(super) async fn answer(&self) -> Option<bool> {
        self.answer.recv().await.ok()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.shared.with(|desk| desk.withdraw(self.number));
    }
}

impl Shared {
    /// Calls the desk, and shows what it has to show before anybody else calls it.
    fn with<T>(&self, call: impl FnOnce(&mut Desk<Real>) -> T) -> T {
        let mut desk = self.lock();
        let result = call(&mut desk);
        for show in desk.take_show() {
            match show {
                Show::Entered => self.out.entered(),
                Show::Note(text) => self.out.note(&text),
                Show::Prompt(text) => self.out.prompt(&text),
            }
        }
        drop(desk);
        self.wanted.notify_one();
        result
    }

    fn lock(&self) -> MutexGuard<'_, Desk<Real>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_on(&self, keyboard: &Real) -> ! {
        loop {
            let mut desk = self.lock();
            while !desk.is_wanted() {
                desk = self.wanted.wait(desk).unwrap_or_else(PoisonError::into_inner);
            }
            drop(desk);
            keyboard.wait();
            // It may be somebody else's by now, or forgotten: the desk looks again.
            self.with(Desk::read);
            // Full: the pipe is told already.
            let _ = self.read.0.try_send(());
        }
    }
}
