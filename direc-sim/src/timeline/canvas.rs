//! Lines of text with three lanes.

use std::time::Duration;

use super::ms;

/// One of the three parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The caller.
    P2,
    /// The relay.
    P3,
    /// Who is called.
    P4,
}

/// The diagram's width: a terminal's as it opens.
const WIDTH: usize = 80;
/// Columns of the lanes. Left of them is the time.
const LANES: [usize; 3] = [18, 39, 60];
/// How a lane's line is drawn.
const LINE: char = '│';

impl Lane {
    fn column(self) -> usize {
        LANES[self as usize]
    }
}

pub(super) struct Canvas {
    out: String,
    last: Option<Duration>,
}

impl Canvas {
    pub(super) fn new() -> Self {
        let mut canvas = Self { out: String::new(), last: None };
        let mut row = vec![' '; WIDTH];
        write(&mut row, 0, "sent ms → arrives");
        for (lane, name) in LANES.into_iter().zip(["client", "relay", "server"]) {
            write(&mut row, lane, name);
        }
        canvas.push(&row);
        canvas
    }

    /// Text at a lane.
    pub(super) fn say(&mut self, at: Duration, lane: Lane, mark: char, text: &str) {
        let column = lane.column();
        let room = LANES.get(lane as usize + 1).map_or(WIDTH - column - 2, |next| next - column - 3);
        for (index, line) in wrap(text, room).into_iter().enumerate() {
            let mut row = self.row(if index == 0 { Some(at) } else { None });
            if index == 0 {
                row[column] = mark;
            }
            write(&mut row, column + 2, &line);
            self.push(&row);
        }
    }

    /// An arrow from lane to lane: whole if it arrives, else broken with the reason.
    pub(super) fn arrow(
        &mut self,
        at: Duration,
        from: Lane,
        to: Lane,
        label: &str,
        arrives: Result<Duration, &'static str>,
    ) {
        let (start, end) = (from.column(), to.column());
        let right = start < end;
        let (left_end, right_end) = (start.min(end), start.max(end));
        let text = match arrives {
            Ok(_) => label.to_owned(),
            Err(why) => format!("{label}: {why}"),
        };
        // The arrow's line at either end and a space on either side; less where it ends half way.
        let room = right_end - left_end - if arrives.is_ok() { 5 } else { 9 };
        let mut lines = wrap(&text, room).into_iter();
        let mut row = self.row(Some(at));
        row[left_end + 1..right_end].fill('─');
        row[start] = if right { '├' } else { '┤' };
        match arrives {
            Ok(arrival) => {
                let arrival = format!("{:>8}", ms(arrival));
                write(&mut row, 8, "→");
                write(&mut row, 9, arrival.get(..8).unwrap_or(&arrival));
                row[if right { end - 1 } else { end + 1 }] = if right { '▶' } else { '◀' };
            }
            Err(_) => {
                // It ends half way.
                let half = if right { end - 4 } else { end + 4 };
                let gone = if right { half..end } else { end + 1..half + 1 };
                for column in gone {
                    row[column] = if LANES.contains(&column) { LINE } else { ' ' };
                }
                row[half] = '✗';
            }
        }
        // The label stands next to the sender, and goes on below where the arrow is too short for it.
        let place = |row: &mut Vec<char>, text: &str| {
            let text = format!(" {text} ");
            write(row, if right { start + 2 } else { start - 1 - text.chars().count() }, &text);
        };
        place(&mut row, &lines.next().unwrap_or_default());
        self.push(&row);
        for line in lines {
            let mut row = self.row(None);
            place(&mut row, &line);
            self.push(&row);
        }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    /// A row with its lanes, and the time unless the row before had the same.
    fn row(&mut self, at: Option<Duration>) -> Vec<char> {
        let mut row = vec![' '; WIDTH];
        for lane in LANES {
            row[lane] = LINE;
        }
        if let Some(at) = at
            && self.last.replace(at) != Some(at)
        {
            write(&mut row, 0, &format!("{:>8}", ms(at)));
        }
        row
    }

    fn push(&mut self, row: &[char]) {
        let line: String = row.iter().collect();
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

fn write(row: &mut [char], at: usize, text: &str) {
    for (cell, symbol) in row.iter_mut().skip(at).zip(text.chars()) {
        *cell = symbol;
    }
}

/// Breaks a text into lines of at most `width` characters, between words where it can.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let Some(line) = lines.last_mut() else { return lines };
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                if gap > 0 {
                    line.push(' ');
                }
                line.extend(word);
                break;
            }
            if used == 0 {
                let rest = word.split_off(width);
                line.extend(word);
                word = rest;
            }
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_story_in_five_lines() {
        let mut canvas = Canvas::new();
        canvas.say(Duration::ZERO, Lane::P2, '●', "S1 starts a bi stream to P3");
        canvas.arrow(Duration::ZERO, Lane::P2, Lane::P3, "QUIC ×2", Ok(20 * MS));
        canvas.arrow(40 * MS, Lane::P4, Lane::P2, "probe", Ok(70 * MS));
        canvas.arrow(40 * MS, Lane::P4, Lane::P2, "probe", Err("NAT: filtered"));
        canvas.say(70 * MS, Lane::P4, '◆', "connected");
        let expected = "\
sent ms → arrives client               relay                server
    0.00          ● S1 starts a bi     │                    │
                  │ stream to P3       │                    │
        →   20.00 ├─ QUIC ×2 ─────────▶│                    │
   40.00→   70.00 │◀──────────────────────────────── probe ─┤
                  │   ✗────────────── probe: NAT: filtered ─┤
   70.00          │                    │                    ◆ connected
";
        assert_eq!(canvas.finish(), expected);
    }

    #[test]
    fn a_label_that_is_too_long_for_its_arrow_goes_on_below_and_leaves_the_end_to_be_seen() {
        let mut canvas = Canvas::new();
        canvas.arrow(MS, Lane::P2, Lane::P3, "control Handshake ×2", Ok(2 * MS));
        canvas.arrow(MS, Lane::P4, Lane::P3, "control Initial", Err("link: lost"));
        let expected = "\
sent ms → arrives client               relay                server
    1.00→    2.00 ├─ control ─────────▶│                    │
                  │  Handshake ×2      │                    │
                  │                    │   ✗────── control ─┤
                  │                    │          Initial:  │
                  │                    │        link: lost  │
";
        assert_eq!(canvas.finish(), expected);
    }

    #[test]
    fn no_line_is_wider_than_promised() {
        let mut canvas = Canvas::new();
        let long = "a-word-that-is-longer-than-any-lane-has-room-for and more of it";
        for lane in [Lane::P2, Lane::P3, Lane::P4] {
            canvas.say(MS, lane, '●', long);
            canvas.arrow(100_000 * MS, Lane::P3, Lane::P4, long, Ok(200_000 * MS));
            canvas.arrow(MS, Lane::P4, Lane::P3, long, Err(long));
        }
        let out = canvas.finish();
        assert!(out.lines().all(|line| line.chars().count() <= WIDTH), "{out}");
    }
}
