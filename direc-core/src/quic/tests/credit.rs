//! Flow control: credit that is lost on the way, or that nobody asks for in a long time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Windows that a transfer fills many times over.
fn narrow() -> Transport {
    Transport {
        max_bi_streams: 8,
        max_uni_streams: 8,
        stream_window: 8 << 10,
        window: 24 << 10,
        ..Transport::default()
    }
}

/// A kind of frame and how many of it a packet holds.
type Kind = (&'static str, fn(&FrameStats) -> u64);

const KINDS: [Kind; 13] = [
    ("ACK_FREQUENCY", |frames| frames.ack_frequency),
    ("DATA_BLOCKED", |frames| frames.data_blocked),
    ("HANDSHAKE_DONE", |frames| frames.handshake_done.into()),
    ("MAX_DATA", |frames| frames.max_data),
    ("MAX_STREAM_DATA", |frames| frames.max_stream_data),
    ("MAX_STREAMS (bidi)", |frames| frames.max_streams_bidi),
    ("MAX_STREAMS (uni)", |frames| frames.max_streams_uni),
    ("NEW_CONNECTION_ID", |frames| frames.new_connection_id),
    ("RESET_STREAM", |frames| frames.reset_stream),
    ("RETIRE_CONNECTION_ID", |frames| frames.retire_connection_id),
    ("STOP_SENDING", |frames| frames.stop_sending),
    ("STREAM", |frames| frames.stream),
    ("STREAM_DATA_BLOCKED", |frames| frames.stream_data_blocked),
];

/// One side's streams, each ended in one of several ways.
#[derive(Default)]
struct Work {
    /// Streams being sent, how many bytes each still has, and how it ends.
    sending: Vec<(StreamId, usize, usize)>,
    /// Streams being received.
    receiving: Vec<StreamId>,
    opened: usize,
    received: usize,
    over: usize,
}

const STREAMS: usize = 60;
const LEN: usize = 20_000;

impl Work {
    fn go_on(&mut self, conn: &mut Connection) {
        for dir in [Dir::Uni, Dir::Bi] {
            while self.opened < STREAMS
                && self.sending.len() < 12
                && let Some(id) = conn.streams().open(dir)
            {
                self.sending.push((id, LEN, self.opened % 4));
                self.opened += 1;
            }
            self.receiving.extend(std::iter::from_fn(|| conn.streams().accept(dir)));
        }
        self.sending.retain_mut(|(id, left, end)| !send(conn, *id, left, *end));
        self.receiving.retain(|&id| {
            let (len, over) = read(conn, id);
            self.received += len;
            self.over += usize::from(over);
            // A bidirectional stream's other half has nothing to say.
            if over && id.dir() == Dir::Bi {
                finish(conn, id);
            }
            !over
        });
    }

    fn is_done(&self) -> bool {
        self.opened == STREAMS && self.sending.is_empty() && self.over == STREAMS
    }
}

/// Goes on sending; whether the stream is over. One in four is reset in the middle; of another, the receiver's own half
/// is stopped.
fn send(conn: &mut Connection, id: StreamId, left: &mut usize, end: usize) -> bool {
    *left -= write(conn, id, &vec![7; *left]);
    if end == 1 && *left < LEN / 2 {
        conn.send_stream(id).reset(1u32.into()).unwrap();
    } else if *left == 0 {
        conn.send_stream(id).finish().unwrap();
    } else {
        return false;
    }
    if id.dir() == Dir::Bi {
        let _ = stream::stop(conn, id, 2u32.into());
    }
    true
}

#[test]
fn whichever_frame_is_lost_once_or_three_times_in_a_row_each_time_everything_arrives() {
    for (name, of) in KINDS {
        for in_a_row in [1, 3] {
            let start = start();
            let transports = [(); 2].map(|()| peer_transport(&narrow(), &Ledger::cubic(start)));
            let mut net = Net::between(transports, Arc::new(provider()));
            net.tries = name;
            let lost = Arc::new(AtomicU64::new(0));
            let (count, mut seen) = (lost.clone(), [0; 2]);
            net.loses = Box::new(move |leaving| {
                if of(&leaving.frames) == 0 {
                    return false;
                }
                let seen: &mut u64 = &mut seen[leaving.from];
                *seen += 1;
                let loses = (*seen - 1) % 12 < in_a_row;
                count.fetch_add(u64::from(loses), Ordering::Relaxed);
                loses
            });
            net.connect();
            let mut works = [Work::default(), Work::default()];
            net.until(ms(3_600_000), |net| {
                for (side, work) in works.iter_mut().enumerate() {
                    work.go_on(net.conn(side));
                }
                works.iter().all(Work::is_done).then_some(())
            });
            net.assert_stands();
            assert!(lost.load(Ordering::Relaxed) > 0, "{name} was never sent");
            assert!(works.iter().all(|work| work.received >= STREAMS * LEN * 3 / 4), "{name}");
        }
    }
}

#[test]
fn a_window_that_stood_full_for_an_hour_goes_on_when_it_is_read() {
    let mut net = Net::new(narrow());
    let id = net.open(CLIENT, Dir::Uni);
    let mut sent = 0;
    net.until(ms(60_000), |net| {
        sent += write(net.conn(CLIENT), id, &[7; 1000]);
        (sent == narrow().stream_window as usize).then_some(())
    });
    net.run(ms(3_600_000));
    net.assert_stands();
    let theirs = net.accept(SERVER, Dir::Uni);
    let mut received = 0;
    net.until(ms(60_000), |net| {
        sent += write(net.conn(CLIENT), id, &[7; 1000]);
        received += read(net.conn(SERVER), theirs).0;
        (received > 1_000_000).then_some(())
    });
}

#[test]
fn streams_that_nobody_reads_hold_the_others_up_until_they_are_read_or_stopped() {
    for stops in [false, true] {
        let mut net = Net::new(narrow());
        let unread: Vec<StreamId> = (0..3).map(|_| net.open(CLIENT, Dir::Uni)).collect();
        for &id in &unread {
            net.until(ms(60_000), |net| (write(net.conn(CLIENT), id, &[7; 8 << 10]) == 0).then_some(()));
        }
        let held_up = net.open(CLIENT, Dir::Uni);
        net.run(ms(300_000));
        assert_eq!(write(net.conn(CLIENT), held_up, &[7; 100]), 0, "the connection's window is taken");
        net.run(ms(300_000));
        for _ in &unread {
            let id = net.accept(SERVER, Dir::Uni);
            if stops {
                stream::stop(net.conn(SERVER), id, 0u32.into()).unwrap();
            } else {
                assert!(read(net.conn(SERVER), id).0 > 0);
            }
        }
        net.until(ms(1000), |net| (write(net.conn(CLIENT), held_up, &[7; 100]) == 100).then_some(()));
        net.assert_stands();
    }
}

#[test]
fn two_sides_with_full_windows_do_not_wait_for_each_other() {
    let mut net = Net::new(Transport::default());
    let ids = [CLIENT, SERVER].map(|side| net.open(side, Dir::Uni));
    // Nothing arrives, so that both send as much as they may.
    net.loses = Box::new(|_| true);
    for (side, id) in ids.into_iter().enumerate() {
        assert!(write(net.conn(side), id, &[7; 1 << 20]) > 0);
    }
    net.run(ms(10_000));
    net.loses = Box::new(|_| false);
    let theirs = [SERVER, CLIENT].map(|side| net.accept(side, Dir::Uni));
    let mut received = [0; 2];
    net.until(ms(60_000), |net| {
        for (received, (side, id)) in received.iter_mut().zip([SERVER, CLIENT].into_iter().zip(theirs)) {
            *received += read(net.conn(side), id).0;
        }
        (received == [1 << 20; 2]).then_some(())
    });
    net.assert_stands();
}
