//! Whatever a sender sends and however late a reader reads, a connection goes on, each byte arrives once and in order,
//! and what waits to be read stays within the window.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bytes::Bytes;
use direc_core::{
    quic_types::{Dir, ReadError, StreamId, WriteError},
    *,
};
use proptest::prelude::*;
use support::*;

/// What the byte at this place of a stream is.
fn byte(at: usize) -> u8 {
    (at * 7 + (at >> 8) * 13) as u8
}

/// One stream from P2 to P4: what was written of it, and what was read.
struct Line {
    id: StreamId,
    accepted: bool,
    written: usize,
    read: usize,
    over: bool,
}

/// P2 and P4, connected and direct.
struct Pair {
    world: World,
    conns: [ConnId; 2],
}

impl Pair {
    fn new(delay: u64, transport: TransportConfig) -> Self {
        let mut world = World::new();
        let config = |key, consent| PeerConfig { transport, ..peer_config(key, &[0], consent) };
        world.add_peer("198.51.100.2:1000", config(2, Consent::Closed));
        world.add_relay("203.0.113.10:4433", relay_config(0));
        world.add_peer("198.51.100.4:1000", config(4, Consent::Any));
        world.delays = [(P2, P3), (P3, P4), (P2, P4)].map(|pair| (pair, ms(delay))).into();
        world.warm();
        world.connect(P2, P4);
        world.until(ms(3000), |world| world.moved(P2).and(world.moved(P4)));
        world.run(ms(500));
        let conns = [P2, P4].map(|host| world.connected(host).unwrap().1);
        world.hosts.iter_mut().for_each(|host| host.events.clear());
        Self { world, conns }
    }

    fn at(&mut self, host: usize) -> Connection<'_> {
        assert_eq!(self.world.closed(host), None, "{}", self.world.story());
        let conn = self.conns[usize::from(host == P4)];
        self.world.peer(host).connection(conn).expect("it goes on")
    }

    fn open(&mut self) -> Line {
        let id = self.at(P2).open(Dir::Uni).unwrap();
        Line { id, accepted: false, written: 0, read: 0, over: false }
    }

    /// Writes so many bytes, or as many as there is room for; what was written leaves before more is.
    fn write(&mut self, line: &mut Line, len: usize) -> bool {
        let data: Bytes = (line.written..line.written + len).map(byte).collect();
        let written = match self.at(P2).write(line.id, &mut [data]) {
            Ok(written) => written,
            Err(error) => {
                assert_eq!(error, WriteError::Blocked);
                0
            }
        };
        line.written += written;
        self.world.pump(P2);
        written == len
    }

    /// Writes all of it, while time passes.
    fn write_all(&mut self, line: &mut Line, len: usize) {
        let end = line.written + len;
        while line.written < end {
            if !self.write(line, end - line.written) {
                self.world.run(ms(1));
            }
        }
    }

    fn accept(&mut self, line: &mut Line) {
        if !line.accepted {
            line.accepted = self.at(P4).accept(Dir::Uni).is_some();
        }
    }

    /// Reads at most so many bytes.
    fn read(&mut self, line: &mut Line, most: usize) {
        let mut room = most;
        while room > 0 && !line.over {
            match self.at(P4).read(line.id, room) {
                Ok(Some(bytes)) => {
                    assert!(bytes.len() <= room);
                    let right = bytes.iter().enumerate().all(|(at, one)| *one == byte(line.read + at));
                    assert!(right, "other bytes from {} on", line.read);
                    line.read += bytes.len();
                    room -= bytes.len();
                }
                Ok(None) => line.over = true,
                Err(error) => {
                    assert_eq!(error, ReadError::Blocked);
                    return;
                }
            }
        }
    }

    fn read_rest(&mut self, line: &mut Line) {
        self.at(P2).finish(line.id).unwrap();
        let mut rounds = 0;
        while !line.over {
            self.world.run(ms(20));
            self.read(line, usize::MAX);
            rounds += 1;
            assert!(rounds < 10_000, "{} of {} bytes arrived", line.read, line.written);
        }
        assert_eq!(line.read, line.written);
    }
}

/// A message, its header and its trailer, each sent at once: the sizes that end a connection whose chunks stay in
/// quinn-proto.
const PATTERNS: [&[usize]; 5] =
    [&[1400, 10, 10], &[1400, 10, 10, 10], &[1400, 4, 4, 4, 4], &[1200, 300, 20], &[1400, 20]];

#[test]
fn small_writes_between_full_ones_never_end_a_connection_whose_reader_lags() {
    for pattern in PATTERNS {
        let mut pair = Pair::new(2, TransportConfig::default());
        let mut line = pair.open();
        while line.written < 1_500_000 {
            pattern.iter().for_each(|&len| pair.write_all(&mut line, len));
            if line.written.is_multiple_of(7) {
                pair.world.run(ms(1));
            }
        }
        pair.world.run(ms(1000));
        pair.accept(&mut line);
        pair.read_rest(&mut line);
    }
}

#[test]
fn small_writes_behind_one_lost_packet_never_end_a_connection_whose_reader_is_quick() {
    let mut pair = Pair::new(150, TransportConfig::default());
    let mut line = pair.open();
    // The congestion window opens first.
    for _ in 0..40 {
        pair.write_all(&mut line, 100_000);
        pair.world.run(ms(20));
        pair.accept(&mut line);
        pair.read(&mut line, usize::MAX);
    }
    pair.world.run(ms(3000));
    pair.read(&mut line, usize::MAX);
    assert_eq!(line.read, line.written);
    pair.world.cut.push((P2, P4));
    pair.write_all(&mut line, 1400);
    pair.world.cut.clear();
    // A round trip passes until it is repaired; twelve frames leave each millisecond, so that pacing lets all pass.
    for n in 0..900 {
        [1400, 10, 10].iter().for_each(|&len| pair.write_all(&mut line, len));
        if n % 4 == 3 {
            pair.world.run(ms(1));
            pair.read(&mut line, usize::MAX);
        }
    }
    pair.read_rest(&mut line);
}

#[test]
fn unread_small_writes_fill_the_window_and_no_more() {
    let window = 2 << 20;
    let transport = TransportConfig { window, stream_window: 1 << 20, ..TransportConfig::default() };
    let mut pair = Pair::new(2, transport);
    let mut line = pair.open();
    let mut idle = 0;
    while idle < 200 {
        let before = line.written;
        for len in [700, 10, 10] {
            pair.write(&mut line, len);
        }
        pair.world.run(ms(1));
        idle = if line.written == before { idle + 1 } else { 0 };
        assert!(line.written <= window as usize + (1 << 20) + (64 << 10), "{} bytes", line.written);
    }
    assert!(line.written > 1 << 20);
    // Whoever reads again gets all of it, and the window is whole again.
    pair.accept(&mut line);
    pair.read(&mut line, usize::MAX);
    assert_eq!(line.read, line.written);
    pair.world.run(ms(100));
    let begun = line.written;
    for _ in 0..2000 {
        pair.write(&mut line, 1400);
        pair.world.run(ms(1));
    }
    assert!(line.written - begun > 900_000, "{} bytes more", line.written - begun);
    pair.read_rest(&mut line);
}

#[test]
fn a_stream_that_nobody_reads_leaves_room_for_the_others() {
    let mut pair = Pair::new(2, TransportConfig::default());
    let mut stalled = pair.open();
    for _ in 0..3000 {
        pair.write(&mut stalled, 64 << 10);
        pair.world.run(ms(1));
    }
    assert!(stalled.written >= 4 << 20);
    pair.accept(&mut stalled);
    let mut other = pair.open();
    pair.write_all(&mut other, 1000);
    pair.world.run(ms(100));
    pair.accept(&mut other);
    for _ in 0..40 {
        pair.write_all(&mut other, 1 << 20);
        pair.world.run(ms(5));
        pair.read(&mut other, usize::MAX);
    }
    pair.read_rest(&mut other);
    pair.read_rest(&mut stalled);
}

#[test]
fn streams_count_until_their_end_is_read() {
    let max = 8;
    let transport = TransportConfig { max_uni_streams: max, ..TransportConfig::default() };
    let mut pair = Pair::new(2, transport);
    let mut opened = Vec::new();
    for _ in 0..100 {
        if let Some(id) = pair.at(P2).open(Dir::Uni) {
            let mut line = Line { id, accepted: false, written: 0, read: 0, over: false };
            // More frames than may wait in quinn-proto, which then sees the stream's end.
            (0..100).for_each(|_| pair.write_all(&mut line, 3));
            pair.at(P2).finish(id).unwrap();
            opened.push(line);
        }
        pair.world.run(ms(20));
    }
    assert_eq!(opened.len(), max as usize);
    for line in &mut opened {
        pair.accept(line);
        pair.read(line, usize::MAX);
        assert!(line.over && line.read == 300);
    }
    pair.world.run(ms(100));
    let again = std::iter::from_fn(|| pair.at(P2).open(Dir::Uni)).count();
    assert_eq!(again, max as usize);
}

#[test]
fn a_stream_that_is_stopped_unread_gives_its_credit_back() {
    let transport = TransportConfig { window: 1 << 20, stream_window: 1 << 20, ..TransportConfig::default() };
    let mut pair = Pair::new(2, transport);
    for _ in 0..6 {
        let mut line = pair.open();
        for _ in 0..900 {
            pair.write(&mut line, 500);
            pair.world.run(ms(1));
        }
        assert_eq!(line.written, 450_000, "there is room");
        pair.accept(&mut line);
        pair.read(&mut line, 1000);
        pair.at(P4).stop(line.id, 7u32.into()).unwrap();
        pair.world.run(ms(50));
        let _ = pair.at(P2).finish(line.id);
        pair.world.run(ms(50));
    }
}

/// What happens in a random run.
#[derive(Clone, Debug)]
enum Act {
    /// These writes so many times, each sent at once as far as pacing lets it, and some time after them.
    Write {
        line: usize,
        lens: Vec<usize>,
        times: usize,
        every: usize,
    },
    Read {
        line: usize,
        most: usize,
    },
    Wait {
        ms: u64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let small = || prop_oneof![1usize..20, 100usize..400];
    let lens = prop_oneof![
        prop::collection::vec(small(), 1..4),
        (1200usize..1420, prop::collection::vec(small(), 1..4)).prop_map(|(full, small)| [vec![full], small].concat()),
        (1usize..200_000).prop_map(|len| vec![len]),
    ];
    let most = prop_oneof![1usize..2000, 1usize..300_000, Just(usize::MAX)];
    prop_oneof![
        4 => (0usize..3, lens, 1usize..900, 1usize..8)
            .prop_map(|(line, lens, times, every)| Act::Write { line, lens, times, every }),
        2 => (0usize..3, most).prop_map(|(line, most)| Act::Read { line, most }),
        1 => (1u64..400).prop_map(|ms| Act::Wait { ms }),
    ]
}

impl Act {
    fn play(self, pair: &mut Pair, lines: &mut [Line; 3]) {
        match self {
            Self::Write { line, lens, times, every } => {
                for n in 0..times {
                    let fits = lens.iter().all(|&len| pair.write(&mut lines[line], len));
                    if n % every == 0 {
                        pair.world.run(ms(1));
                    }
                    if !fits {
                        return;
                    }
                }
            }
            Self::Read { line, most } => {
                lines.iter_mut().for_each(|line| pair.accept(line));
                pair.read(&mut lines[line], most);
            }
            Self::Wait { ms } => pair.world.run(support::ms(ms)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_writes_and_reads_on_any_path_lose_nothing(
        acts in prop::collection::vec(act(), 5..40),
        seed in any::<u64>(),
        (lost, late) in prop_oneof![Just((0u64, 0u64)), (0u64..60, 0u64..200)],
        delay in 1u64..40,
        window in prop_oneof![Just(256u32 << 10), Just(16 << 20)],
    ) {
        let transport = TransportConfig { window, stream_window: window / 2, ..TransportConfig::default() };
        let mut pair = Pair::new(delay, transport);
        pair.world.weather = Some(Weather { dice: Dice(seed), lost, late, by: ms(2 * delay) });
        let mut lines = [pair.open(), pair.open(), pair.open()];
        acts.into_iter().for_each(|act| act.play(&mut pair, &mut lines));
        pair.world.run(ms(1000));
        pair.world.weather = None;
        lines.iter_mut().for_each(|line| pair.accept(line));
        lines.iter().for_each(|line| pair.at(P2).finish(line.id).unwrap());
        let mut rounds = 0;
        while lines.iter().any(|line| !line.over) {
            pair.world.run(ms(20));
            lines.iter_mut().for_each(|line| pair.read(line, usize::MAX));
            rounds += 1;
            prop_assert!(rounds < 3000, "it stands still");
        }
        for line in &lines {
            prop_assert_eq!(line.read, line.written);
        }
    }
}
