//! Text from others, made fit for a terminal and a log.

use std::{fmt::Write, ops::RangeInclusive};

/// Characters that nobody sees but that change what is seen: format characters (bidirectional controls, zero-width
/// characters, tags), line and paragraph separators, and fillers that look like nothing. Control characters (C0, DEL, C1)
/// are not in the list: [`char::is_control`] knows them.
const INVISIBLE: [RangeInclusive<char>; 16] = [
    '\u{ad}'..='\u{ad}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e007f}',
    '\u{e0080}'..='\u{e00ff}',
    '\u{e01f0}'..='\u{e0fff}',
];

/// Shows text from others on one line: every character that a terminal obeys, or that hides or reorders its
/// neighbours, is written as an escape.
///
/// Escapes are those of Rust's strings: `\n`, `\r`, `\t`, `\x1b` for other ASCII control characters, and `\u{202e}` for
/// the rest: C1 control characters, bidirectional and other format characters, zero-width characters, line and
/// paragraph separators. All other characters stay as they are, backslashes too.
///
/// ```
/// assert_eq!(direc_core::printable("a\u{1b}[2Jb\r\n\u{202e}c"), r"a\x1b[2Jb\r\n\u{202e}c");
/// ```
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|c| show(c, &mut shown));
    shown
}

/// The same for text of several lines: line feeds and tabs stay, and a carriage return before a line feed goes.
///
/// ```
/// assert_eq!(direc_core::printable_lines("one\r\n\ttwo\rthree"), "one\n\ttwo\\rthree");
/// ```
pub fn printable_lines(text: &str) -> String {
    render(text.as_bytes())
}

/// As [`printable_lines`] for bytes that come in pieces: what one piece leaves unfinished waits for the next.
///
/// Bytes that are not UTF-8 are written as `\xe9`. At most three bytes wait.
///
/// ```
/// let mut stream = direc_core::PrintableStream::default();
/// assert_eq!(stream.push(b"caf\xc3"), "caf");
/// assert_eq!(stream.push(b"\xa9 \x9b31m"), "\u{e9} \\x9b31m");
/// assert_eq!(stream.finish(), "");
/// ```
#[derive(Debug, Default)]
pub struct PrintableStream {
    held: Vec<u8>,
}

impl PrintableStream {
    /// What can be shown now that these bytes have come.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let rest = self.held.split_off(self.held.len() - unfinished(&self.held));
        render(&std::mem::replace(&mut self.held, rest))
    }

    /// What is left, now that nothing more comes.
    pub fn finish(&mut self) -> String {
        render(&std::mem::take(&mut self.held))
    }
}

/// How many of the last bytes may mean something else once more have come: a carriage return, or the beginning of a
/// character.
fn unfinished(bytes: &[u8]) -> usize {
    const LONGEST: usize = 3;
    if bytes.ends_with(b"\r") {
        return 1;
    }
    let begins = |&tail: &usize| {
        let error = std::str::from_utf8(&bytes[bytes.len() - tail..]).err();
        error.is_some_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=bytes.len().min(LONGEST)).find(begins).unwrap_or(0)
}

fn render(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\n' | '\t' => shown.push(c),
                '\r' if chars.peek() == Some(&'\n') => {}
                _ => show(c, &mut shown),
            }
        }
        for byte in chunk.invalid() {
            escape(format_args!("\\x{byte:02x}"), &mut shown);
        }
    }
    shown
}

fn show(c: char, shown: &mut String) {
    match c {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        _ if !is_harmful(c) => shown.push(c),
        _ if c.is_ascii() => escape(format_args!("\\x{:02x}", u32::from(c)), shown),
        _ => escape(format_args!("\\u{{{:x}}}", u32::from(c)), shown),
    }
}

/// Whether a terminal does something else than to show this character.
fn is_harmful(c: char) -> bool {
    c.is_control() || INVISIBLE.iter().any(|range| range.contains(&c))
}

fn escape(text: std::fmt::Arguments<'_>, shown: &mut String) {
    // Writing to a string does not fail.
    let _ = shown.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OBEYED: &str = "\u{1b}\r\n\t\u{7f}\u{9b}\u{85}\u{200e}\u{202e}\u{2066}\u{2028}\u{61c}\u{feff}";

    /// Bytes of which many mean something to a terminal, and in which characters are often cut short.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            prop::sample::select(OBEYED.chars().collect::<Vec<_>>()).prop_map(|c| c.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 1..4),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    fn streamed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut stream = PrintableStream::default();
        let mut shown: String = pieces.into_iter().map(|piece| stream.push(piece)).collect();
        shown.push_str(&stream.finish());
        shown
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_comes_out(bytes in hostile()) {
            let shown = streamed([&bytes[..]]);
            let kept = |c: char| c == '\n' || c == '\t';
            prop_assert!(shown.chars().all(|c| kept(c) || !is_harmful(c)), "{shown:?}");
            let line = printable(&String::from_utf8_lossy(&bytes));
            prop_assert!(!line.chars().any(is_harmful), "{line:?}");
        }

        #[test]
        fn it_does_not_matter_where_the_bytes_are_cut(bytes in hostile(), cuts in prop::collection::vec(1_usize..5, 1..64)) {
            let mut rest = &bytes[..];
            let pieces = cuts.iter().cycle().map_while(|&cut| {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                rest = left;
                (!piece.is_empty()).then_some(piece)
            });
            prop_assert_eq!(streamed(pieces.collect::<Vec<_>>()), streamed([&bytes[..]]));
        }

        #[test]
        fn what_has_been_shown_is_shown_as_it_is(bytes in hostile()) {
            let shown = streamed([&bytes[..]]);
            prop_assert_eq!(printable_lines(&shown), &shown[..]);
        }

        #[test]
        fn a_letter_comes_out_at_once(text in "[ -~äöüßéжд中文🙂\n\t]*") {
            prop_assert_eq!(PrintableStream::default().push(text.as_bytes()), text);
        }
    }

    #[test]
    fn every_control_and_every_bidirectional_control_is_harmful() {
        let controls = (0..0x20).chain(0x7f..0xa0).chain(0x200b..=0x200f).chain(0x2028..=0x202e).chain(0x2066..=0x2069);
        for code in controls.chain([0x61c, 0xfeff, 0xe0041]) {
            assert!(is_harmful(char::from_u32(code).unwrap()), "{code:x}");
        }
        assert!(!" ~\u{a0}é\u{301}\u{fe0f}\u{fffd}中🙂".chars().any(is_harmful));
    }

    #[test]
    fn sequences_are_shown_in_words_that_can_be_read() {
        assert_eq!(streamed([&b"\x1b[31m\x9b2J\xc2\x9b\x08\xff"[..]]), r"\x1b[31m\x9b2J\u{9b}\x08\xff");
        assert_eq!(streamed([&b"a\r"[..], b"\nb\r", b"c\r"]), "a\nb\\rc\\r");
        assert_eq!(streamed([&b"\xe2\x80"[..], b"\xaex\xe2", b"\x80"]), r"\u{202e}x\xe2\x80");
        assert_eq!(printable("name\u{202e}txt.exe\n"), r"name\u{202e}txt.exe\n");
    }
}
