use std::collections::VecDeque;

use super::*;

/// What has been typed, line by line as a terminal gives it, and a line that has not been ended.
#[derive(Default)]
struct Fake {
    lines: VecDeque<&'static str>,
    begun: &'static str,
}

impl Keyboard for Fake {
    fn ready(&mut self) -> Option<io::Result<Bytes>> {
        self.lines.pop_front().map(|line| Ok(Bytes::from_static(line.as_bytes())))
    }

    fn begun(&mut self) -> Bytes {
        Bytes::from_static(std::mem::take(&mut self.begun).as_bytes())
    }

    fn forget(&mut self) {
        self.lines.clear();
        self.begun = "";
    }
}

/// A desk and the people who wait at it.
struct Story {
    desk: Desk<Fake>,
    waiting: BTreeMap<u8, (u32, Receiver<bool>)>,
}

fn peer(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn short(n: u8) -> String {
    format!("{}…", peer(n).short())
}

impl Story {
    fn new() -> Self {
        Self { desk: Desk::new(Fake::default()), waiting: BTreeMap::new() }
    }

    fn calls(&mut self, n: u8) {
        self.waiting.insert(n, self.desk.ask(peer(n)).unwrap());
    }

    fn hangs_up(&mut self, n: u8) {
        let (number, _) = self.waiting.remove(&n).unwrap();
        self.desk.withdraw(number);
    }

    /// Typed, and not read yet.
    fn typed(&mut self, line: &'static str) {
        self.desk.keyboard.lines.push_back(line);
    }

    /// Typed, and read.
    fn types(&mut self, line: &'static str) {
        self.typed(line);
        self.desk.read();
    }

    /// The answer that this one has had.
    fn answer(&self, n: u8) -> Option<bool> {
        self.waiting[&n].1.try_recv().ok()
    }

    fn prompts(&mut self) -> Vec<String> {
        let shown = self.desk.take_show().into_iter();
        shown.filter_map(|show| if let Show::Prompt(text) = show { Some(text) } else { None }).collect()
    }

    fn piped(&mut self) -> String {
        let typed = std::iter::from_fn(|| self.desk.next_typed()?.unwrap());
        typed.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
    }
}

#[test]
fn what_is_typed_before_a_question_does_not_answer_it() {
    let mut story = Story::new();
    for line in ["y\n", "y 1\n"] {
        story.typed(line);
    }
    story.desk.keyboard.begun = "y";
    story.calls(1);
    story.desk.read();
    assert_eq!((story.answer(1), story.desk.keyboard.begun), (None, ""));
    story.types("y\n");
    assert_eq!(story.answer(1), Some(true));
}

#[test]
fn a_line_begun_before_a_question_and_ended_after_it_does_not_answer_it() {
    let mut story = Story::new();
    assert!(story.desk.open_pipe());
    story.desk.keyboard.begun = "y 1";
    story.calls(1);
    story.types("\n");
    assert_eq!((story.answer(1), story.piped()), (None, "y 1\n".into()));
    // With a question open, it answers that one and no later one.
    story.desk.keyboard.begun = "y 2";
    story.calls(2);
    story.types("\n");
    assert_eq!((story.answer(2), story.piped()), (None, "y 2\n".into()));
    story.desk.keyboard.begun = "y ";
    story.calls(3);
    story.types("1\n");
    assert_eq!((story.answer(1), story.answer(2), story.answer(3)), (Some(true), None, None));
    story.types("y 3\n");
    assert_eq!(story.answer(3), Some(true));
}

#[test]
fn a_stray_enter_refuses_nobody_and_shows_the_question_again() {
    let mut story = Story::new();
    story.calls(1);
    let question = format!("accept {}? [y/n] ", short(1));
    assert_eq!(story.prompts(), [&question[..]]);
    for line in ["\n", "  \n", "perhaps\n", "yn\n", "y 7\n"] {
        story.types(line);
        assert_eq!(story.answer(1), None, "{line:?}");
        assert_eq!(story.prompts(), [&question[..]], "{line:?}");
    }
    story.types("No\n");
    assert_eq!(story.answer(1), Some(false));
    assert!(story.prompts().is_empty());
}

#[test]
fn several_callers_are_answered_by_their_numbers_in_any_order() {
    let mut story = Story::new();
    (1..=3).for_each(|n| story.calls(n));
    let last = story.prompts().pop().unwrap();
    assert_eq!(last, format!("accept 1 {}, 2 {}, 3 {}? [y 1/n 1, and so on] ", short(1), short(2), short(3)));
    story.types("y\n");
    assert!((1..=3).all(|n| story.answer(n).is_none()), "a bare answer could be for any of them");
    story.types("y 3\n");
    assert_eq!(story.answer(3), Some(true));
    story.types("n 1\n");
    assert_eq!((story.answer(1), story.answer(2)), (Some(false), None));
    story.types("y\n");
    assert_eq!(story.answer(2), Some(true));
}

#[test]
fn an_answer_that_was_meant_for_one_does_not_let_in_the_next() {
    let mut story = Story::new();
    story.calls(1);
    // Both are typed while one question is open; before the second is read, somebody else calls.
    story.types("y\n");
    story.typed("y\n");
    story.calls(2);
    story.desk.read();
    assert_eq!((story.answer(1), story.answer(2)), (Some(true), None));
    // With two open, one goes: what was typed for the two is not for the other.
    story.calls(3);
    story.typed("y\n");
    story.hangs_up(2);
    story.desk.read();
    assert_eq!(story.answer(3), None);
    // A number is never another caller's.
    story.types("y 2\n");
    assert_eq!(story.answer(3), None);
    story.types("y 3\n");
    assert_eq!(story.answer(3), Some(true));
}

#[test]
fn answers_by_number_count_though_somebody_calls_in_between() {
    let mut story = Story::new();
    story.calls(1);
    story.calls(2);
    for line in ["y 2\n", "n 1\n", "y 3\n"] {
        story.typed(line);
    }
    story.calls(3);
    assert_eq!([1, 2, 3].map(|n| story.answer(n)), [Some(false), Some(true), None]);
}

#[test]
fn a_question_goes_away_with_its_caller() {
    let mut story = Story::new();
    story.calls(1);
    story.calls(2);
    story.prompts();
    story.hangs_up(1);
    let gone = Show::Note(format!("{} does not wait for an answer any longer", short(1)));
    let shown = story.desk.take_show();
    assert_eq!(shown, [gone, Show::Prompt(format!("accept {}? [y/n] ", short(2)))]);
    story.types("y\n");
    assert_eq!(story.answer(2), Some(true));
    assert!(!story.desk.is_wanted(), "nobody has a use for what is typed now");
}

#[test]
fn lines_for_a_connection_answer_no_question() {
    let mut story = Story::new();
    assert!(story.desk.open_pipe());
    assert!(!story.desk.open_pipe(), "one connection at a time");
    story.types("before\n");
    assert_eq!(story.piped(), "before\n");
    story.typed("y\n");
    story.calls(1);
    let prompt = format!("accept {}? [y 1/n 1; other lines go to the connection] ", short(1));
    assert_eq!(story.prompts(), [prompt]);
    for line in ["y\n", "hello\n", "\n", "n 7\n"] {
        story.types(line);
        assert_eq!(story.answer(1), None, "{line:?}");
    }
    assert_eq!(story.piped(), "y\ny\nhello\n\nn 7\n", "and none of them is lost");
    story.types("y 1\n");
    assert_eq!(story.answer(1), Some(true));
    assert_eq!(story.piped(), "");
}

#[test]
fn a_pipe_that_comes_or_goes_changes_what_an_answer_is_and_says_so() {
    let mut story = Story::new();
    story.calls(1);
    story.typed("y\n");
    assert!(story.desk.open_pipe());
    story.desk.read();
    assert_eq!((story.answer(1), story.piped()), (None, String::new()), "meant for neither by now");
    assert_eq!(story.prompts().len(), 2);
    story.typed("y\n");
    story.desk.close_pipe();
    assert_eq!(story.prompts(), [format!("accept {}? [y/n] ", short(1))]);
    story.desk.read();
    assert_eq!(story.answer(1), None, "it was typed to the connection");
    story.types("y\n");
    assert_eq!(story.answer(1), Some(true));
}

#[test]
fn the_end_of_the_input_is_the_pipes_first_and_then_the_questions() {
    let mut story = Story::new();
    story.desk.open_pipe();
    story.calls(1);
    story.types("");
    assert!(matches!(story.desk.next_typed(), Some(Ok(None))));
    assert_eq!(story.answer(1), None);
    story.types("");
    assert!(story.waiting[&1].1.is_closed(), "nobody answers any more");
    assert_eq!(story.desk.ask(peer(2)).unwrap_err(), Unasked::InputEnded);
    story.desk.close_pipe();
    assert!(story.desk.open_pipe(), "a terminal goes on after its end");
    story.types("more\n");
    assert_eq!(story.piped(), "more\n");
}

#[test]
fn callers_without_number_fill_neither_the_screen_nor_the_memory() {
    let mut story = Story::new();
    let many = u8::try_from(QUESTIONS).unwrap();
    (0..many).for_each(|n| story.calls(n));
    assert_eq!(story.desk.ask(peer(99)).unwrap_err(), Unasked::TooMany);
    assert!(story.prompts().iter().all(|prompt| prompt.chars().count() < 120));
    story.desk.open_pipe();
    let line = "a line that is no answer, and that nobody reads\n";
    for _ in 0..2 * TYPED_AHEAD / line.len() {
        story.types(line);
    }
    assert!(story.desk.typed.len() <= TYPED_AHEAD + line.len(), "{}", story.desk.typed.len());
}
