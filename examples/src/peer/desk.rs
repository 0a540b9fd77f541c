//! Where what is typed goes: to the connection that has the pipe, or to the questions that are open.
//!
//! A question is answered by what is typed after it is shown, and by nothing else. So before anything is shown, what is
//! there already is dealt with as it was meant: `y 2` answers question 2, which has been shown; other lines go to the pipe,
//! or nowhere.

use std::{collections::BTreeMap, io};

use bytes::{Bytes, BytesMut};
use direc_core::NodeId;
use smol::channel::{Receiver, Sender, bounded};

use super::keyboard::Keyboard;
use crate::bench::BLOCK;

/// Questions that may be open at once. A person does not look through more, and the relay lets few through.
const QUESTIONS: usize = 32;
/// Questions that one prompt names; the rest come when some of these are answered.
const NAMED: usize = 5;
/// Bytes that wait for the pipe while questions are open.
const TYPED_AHEAD: usize = BLOCK;
/// Longest line that may be an answer: what a terminal gives at once on Linux.
const LINE: usize = 4096;

/// What is to be shown, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// The line behind the prompt has been ended by the person.
    Entered,
    Note(String),
    Prompt(String),
}

/// Who reads standard input just now, and what has been read for whom.
pub(super) struct Desk<K> {
    keyboard: K,
    pipe: Pipe,
    /// For the pipe, or for the next one.
    typed: BytesMut,
    /// The beginning of a line that may become an answer, and the last question that was shown when it began.
    line: BytesMut,
    began: u32,
    questions: BTreeMap<u32, Question>,
    /// The last question's number. None is used twice, so that an answer never meets another caller.
    last: u32,
    /// The input has ended while questions were open: nobody answers any more.
    over: bool,
    show: Vec<Show>,
}

enum Pipe {
    None,
    Open,
    /// The input has ended, or broken.
    Ended(Option<io::Error>),
}

struct Question {
    peer: NodeId,
    answer: Sender<bool>,
}

/// Why a question cannot be asked, or has had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unasked {
    InputEnded,
    TooMany,
}

impl Unasked {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::InputEnded => "standard input has ended, so nobody can be asked (see --allow and --yes)",
            Self::TooMany => "too many wait for an answer already",
        }
    }
}

impl<K: Keyboard> Desk<K> {
    pub(super) fn new(keyboard: K) -> Self {
        Self {
            keyboard,
            pipe: Pipe::None,
            typed: BytesMut::new(),
            line: BytesMut::new(),
            began: 0,
            questions: BTreeMap::new(),
            last: 0,
            over: false,
            show: Vec::new(),
        }
    }

    /// What is to be shown now.
    pub(super) fn take_show(&mut self) -> Vec<Show> {
        std::mem::take(&mut self.show)
    }

    /// Whether anybody has a use for what is typed.
    pub(super) fn is_wanted(&self) -> bool {
        let pipe = matches!(self.pipe, Pipe::Open) && self.typed.is_empty();
        pipe || (!self.questions.is_empty() && self.typed.len() < TYPED_AHEAD)
    }

    /// Reads what there is, if anybody has a use for it.
    pub(super) fn read(&mut self) {
        if self.is_wanted()
            && let Some(read) = self.keyboard.ready()
        {
            self.take(read);
        }
    }

    // The pipe.

    /// Gives a connection the input from here on, unless another one has it.
    pub(super) fn open_pipe(&mut self) -> bool {
        if !matches!(self.pipe, Pipe::None) {
            return false;
        }
        self.change_pipe(Pipe::Open);
        true
    }

    pub(super) fn close_pipe(&mut self) {
        self.change_pipe(Pipe::None);
    }

    /// What answers a question depends on whether there is a pipe: so what was typed before answers as it did before.
    fn change_pipe(&mut self, pipe: Pipe) {
        if self.questions.is_empty() {
            self.pipe = pipe;
            return;
        }
        self.settle();
        self.pipe = pipe;
        self.settle();
        self.prompt();
    }

    /// What has been typed for the pipe; the inner `None` is its end.
    pub(super) fn next_typed(&mut self) -> Option<io::Result<Option<Bytes>>> {
        if !self.typed.is_empty() {
            return Some(Ok(Some(self.typed.split().freeze())));
        }
        match &mut self.pipe {
            Pipe::None | Pipe::Open => None,
            Pipe::Ended(error) => Some(error.take().map_or(Ok(None), Err)),
        }
    }

    // Questions.

    /// Asks whether this peer may come in. The answer comes by the channel, which ends without one if nobody answers any
    /// more.
    pub(super) fn ask(&mut self, peer: NodeId) -> Result<(u32, Receiver<bool>), Unasked> {
        self.settle();
        if self.over {
            return Err(Unasked::InputEnded);
        }
        if self.questions.len() >= QUESTIONS {
            self.prompt();
            return Err(Unasked::TooMany);
        }
        let (sender, answer) = bounded(1);
        self.last += 1;
        self.questions.insert(self.last, Question { peer, answer: sender });
        self.show.push(Show::Note(format!("{peer} wants to connect")));
        self.prompt();
        Ok((self.last, answer))
    }

    /// Who was asked about does not wait any longer, unless the question has been answered.
    pub(super) fn withdraw(&mut self, number: u32) {
        if !self.questions.contains_key(&number) {
            return;
        }
        self.settle();
        if let Some(question) = self.questions.remove(&number) {
            self.show.push(Show::Note(format!("{}… does not wait for an answer any longer", question.peer.short())));
            self.after_question();
            self.prompt();
        }
    }

    fn answer(&mut self, number: u32, yes: bool) {
        let Some(question) = self.questions.remove(&number) else { return };
        let word = if yes { "accepted" } else { "refused" };
        self.show.push(Show::Note(format!("{word} {}…", question.peer.short())));
        // Who asked may have gone at this very moment.
        let _ = question.answer.try_send(yes);
        self.after_question();
    }

    /// Without questions there are no answers: a line that has begun is for the pipe.
    fn after_question(&mut self) {
        if self.questions.is_empty() {
            self.typed.unsplit(self.line.split());
        }
    }

    /// Shows which questions are open and what answers them.
    fn prompt(&mut self) {
        let piped = self.is_piped();
        let named: Vec<_> =
            self.questions.iter().take(NAMED).map(|(number, asked)| (number, asked.peer.short())).collect();
        let text = match &named[..] {
            [] => return,
            [(_, short)] if !piped => format!("accept {short}…? [y/n] "),
            [(number, short)] => {
                format!("accept {short}…? [y {number}/n {number}; other lines go to the connection] ")
            }
            _ => {
                let mut list: Vec<_> = named.iter().map(|(number, short)| format!("{number} {short}…")).collect();
                if self.questions.len() > NAMED {
                    list.push(format!("{} more", self.questions.len() - NAMED));
                }
                let (first, _) = named[0];
                format!("accept {}? [y {first}/n {first}, and so on] ", list.join(", "))
            }
        };
        self.show.push(Show::Prompt(text));
    }

    fn is_piped(&self) -> bool {
        matches!(self.pipe, Pipe::Open)
    }

    // Input.

    /// Deals with all that is there already, before something else is shown.
    fn settle(&mut self) {
        let mut room = TYPED_AHEAD;
        while (self.is_piped() || !self.questions.is_empty()) && room > 0 {
            let Some(read) = self.keyboard.ready() else { break };
            room = room.saturating_sub(read.as_ref().map_or(room, Bytes::len));
            match read {
                Ok(bytes) if !bytes.is_empty() && self.questions.is_empty() => self.typed.extend_from_slice(&bytes),
                Ok(bytes) if !bytes.is_empty() => {
                    self.begin(&bytes);
                    self.lines(Self::on_early_line);
                }
                end => self.end(end.err()),
            }
        }
        if self.is_piped() {
            // It would look as if it had been typed after what is shown now.
            let begun = self.keyboard.begun();
            if self.questions.is_empty() { self.typed.extend_from_slice(&begun) } else { self.begin(&begun) }
        } else {
            self.line.clear();
            self.keyboard.forget();
        }
    }

    /// Takes typed bytes into the line that may become an answer.
    fn begin(&mut self, bytes: &[u8]) {
        if self.line.is_empty() {
            self.began = self.last;
        }
        self.line.extend_from_slice(bytes);
    }

    fn take(&mut self, read: io::Result<Bytes>) {
        match read {
            Ok(bytes) if !bytes.is_empty() && self.questions.is_empty() => self.typed.extend_from_slice(&bytes),
            Ok(bytes) if !bytes.is_empty() => {
                self.begin(&bytes);
                self.lines(Self::on_line);
            }
            end => {
                self.end(end.err());
                if !self.questions.is_empty() {
                    self.settle();
                    self.prompt();
                }
            }
        }
    }

    /// Takes the whole lines apart while questions are open. The rest waits for its end.
    fn lines(&mut self, on_line: fn(&mut Self, &[u8])) {
        while !self.questions.is_empty() {
            let end = match self.line.iter().position(|&byte| byte == b'\n') {
                Some(end) => end + 1,
                None if self.line.len() > LINE => self.line.len(),
                None => return,
            };
            let line = self.line.split_to(end);
            on_line(self, &line);
            self.began = self.last;
        }
    }

    /// Whether a line may answer this question: it had been shown when the line was begun.
    fn may_answer(&self, number: u32) -> bool {
        self.questions.contains_key(&number) && number <= self.began
    }

    /// A line that was typed before what is shown next: it answers the question that it names.
    fn on_early_line(&mut self, line: &[u8]) {
        match read(line) {
            Line::Answer(number, yes) if self.may_answer(number) => self.answer(number, yes),
            _ if self.is_piped() => self.typed.extend_from_slice(line),
            _ => {}
        }
    }

    /// A line that was typed after the last prompt.
    fn on_line(&mut self, line: &[u8]) {
        self.show.push(Show::Entered);
        let only = match self.questions.len() {
            1 => self.questions.keys().next().copied(),
            _ => None,
        };
        match (read(line), only) {
            (Line::Answer(number, yes), _) if self.may_answer(number) => self.answer(number, yes),
            (read, _) if self.is_piped() => {
                self.typed.extend_from_slice(line);
                if matches!(read, Line::Bare(_)) {
                    self.show.push(Show::Note("that went to the connection; an answer names its number".into()));
                } else {
                    return;
                }
            }
            (Line::Bare(yes), Some(number)) => self.answer(number, yes),
            (Line::Bare(_), None) => self.show.push(Show::Note("several are waiting: name the number".into())),
            (Line::Answer(number, _), _) => {
                self.show.push(Show::Note(format!("nobody waits under the number {number}")));
            }
            (Line::Blank, _) => {}
            (Line::Other, _) => self.show.push(Show::Note("that is no answer".into())),
        }
        if !self.questions.is_empty() {
            self.settle();
            self.prompt();
        }
    }

    /// The input has ended, or broken: that of the pipe if there is one, or else whoever answers has gone.
    fn end(&mut self, error: Option<io::Error>) {
        if self.is_piped() {
            self.typed.unsplit(self.line.split());
            self.pipe = Pipe::Ended(error);
            return;
        }
        self.line.clear();
        self.over = true;
        for question in std::mem::take(&mut self.questions).into_values() {
            let (short, why) = (question.peer.short(), Unasked::InputEnded.why());
            self.show.push(Show::Note(format!("refused {short}…: {why}")));
        }
    }
}

/// What a line says to a question.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// To the one of this number.
    Answer(u32, bool),
    /// To whichever is open.
    Bare(bool),
    Blank,
    Other,
}

fn read(line: &[u8]) -> Line {
    let text = String::from_utf8_lossy(line).to_lowercase();
    let mut words = text.split_whitespace();
    let yes = match words.next() {
        None => return Line::Blank,
        Some("y" | "yes") => true,
        Some("n" | "no") => false,
        Some(_) => return Line::Other,
    };
    match (words.next(), words.next()) {
        (None, _) => Line::Bare(yes),
        (Some(number), None) => number.parse().map_or(Line::Other, |number| Line::Answer(number, yes)),
        _ => Line::Other,
    }
}

#[cfg(test)]
mod tests;
