//! Streams come and go by the thousand, and each leaves its place to another.

use super::*;

/// How many streams are open at once.
const LIMIT: u32 = 64;

fn settings() -> Transport {
    Transport { max_bi_streams: LIMIT, max_uni_streams: LIMIT, ..Transport::default() }
}

/// What the opener does with its half.
const SENDS: usize = 5;
/// What the other side does with what it receives.
const RECEIVES: usize = 4;
/// What both do with the way back of a bidirectional stream.
const RETURNS: usize = 3;

/// Opens a stream and ends it, by plan. `None` if there is no place.
fn begin(conn: &mut Connection, plan: usize, dir: Dir) -> Option<StreamId> {
    let id = conn.streams().open(dir)?;
    if !plan.is_multiple_of(SENDS) {
        write(conn, id, &[7; 300]);
    }
    match plan % SENDS {
        // Never used, reset with data on the way, or finished.
        0 | 1 => conn.send_stream(id).reset(5u32.into()).unwrap(),
        2 | 3 => conn.send_stream(id).finish().unwrap(),
        // Only ended when the other side stops it or reads: see `end`.
        _ => {}
    }
    if dir == Dir::Bi && (plan / SENDS / RECEIVES).is_multiple_of(RETURNS) {
        stream::stop(conn, id, 6u32.into()).unwrap();
    }
    Some(id)
}

/// Ends what [`begin`] has left open; whether the stream is over for the opener.
fn end(conn: &mut Connection, plan: usize, id: StreamId) -> bool {
    if plan % SENDS == 4 {
        match conn.send_stream(id).stopped() {
            Ok(Some(code)) => drop(conn.send_stream(id).reset(code)),
            _ => drop(conn.send_stream(id).finish()),
        }
    }
    id.dir() == Dir::Uni || read(conn, id).1
}

/// The other side's part; whether the stream is over for it.
fn receive(conn: &mut Connection, plan: usize, id: StreamId, has_answered: &mut bool) -> bool {
    if id.dir() == Dir::Bi && !std::mem::replace(has_answered, true) {
        if plan / SENDS / RECEIVES % RETURNS == 1 {
            write(conn, id, &[9; 100]);
        }
        finish(conn, id);
    }
    match plan / SENDS % RECEIVES {
        0 => stream::stop(conn, id, 7u32.into()).is_ok() || read(conn, id).1,
        1 => read(conn, id).0 > 0 && stream::stop(conn, id, 7u32.into()).is_ok() || read(conn, id).1,
        _ => read(conn, id).1,
    }
}

/// Streams of one direction from one side, in all orders.
struct Traffic {
    from: usize,
    dir: Dir,
    begun: usize,
    open: Vec<(usize, StreamId)>,
    theirs: Vec<(usize, StreamId, bool)>,
    over: usize,
}

impl Traffic {
    fn new(from: usize, dir: Dir) -> Self {
        Self { from, dir, begun: 0, open: Vec::new(), theirs: Vec::new(), over: 0 }
    }

    fn go_on(&mut self, net: &mut Net, total: usize) {
        let conn = net.conn(self.from);
        while self.begun < total
            && let Some(id) = begin(conn, self.begun, self.dir)
        {
            self.open.push((self.begun, id));
            self.begun += 1;
        }
        self.open.retain(|&(plan, id)| !end(conn, plan, id));
        let conn = net.conn(1 - self.from);
        while let Some(id) = conn.streams().accept(self.dir) {
            self.theirs.push((id.index() as usize, id, false));
        }
        let before = self.theirs.len();
        self.theirs.retain_mut(|(plan, id, answered)| !receive(conn, *plan, *id, answered));
        self.over += before - self.theirs.len();
    }
}

#[test]
fn ten_thousand_streams_ended_in_all_orders_leave_all_their_places_to_others() {
    const EACH: usize = 2500;
    let mut net = Net::new(settings());
    net.lose_one_in(50);
    net.jitter = ms(15);
    let mut traffics = [(CLIENT, Dir::Uni), (CLIENT, Dir::Bi), (SERVER, Dir::Uni), (SERVER, Dir::Bi)]
        .map(|(from, dir)| Traffic::new(from, dir));
    net.until(ms(3_600_000), |net| {
        traffics.iter_mut().for_each(|traffic| traffic.go_on(net, EACH));
        traffics.iter().all(|traffic| traffic.over == EACH && traffic.open.is_empty()).then_some(())
    });
    net.loses = Box::new(|_| false);
    net.run(ms(5000));
    net.assert_stands();
    for Traffic { from, dir, .. } in traffics {
        let remote = net.conn(1 - from).streams().remote_open_streams(dir);
        assert_eq!(remote, 0, "{dir:?} from {from}");
        let places = std::iter::from_fn(|| net.conn(from).streams().open(dir)).count();
        // Up to an eighth need not be announced yet.
        assert!(places >= LIMIT as usize * 7 / 8, "{dir:?} from {from}: {places}");
    }
}

#[test]
fn streams_that_were_reset_and_are_then_stopped_leave_their_places_within_a_round_trip() {
    for dir in [Dir::Uni, Dir::Bi] {
        let mut net = Net::new(settings());
        let ids: Vec<StreamId> = std::iter::from_fn(|| net.conn(CLIENT).streams().open(dir)).collect();
        assert_eq!(ids.len(), LIMIT as usize);
        for &id in &ids {
            write(net.conn(CLIENT), id, b"x");
            net.conn(CLIENT).send_stream(id).reset(5u32.into()).unwrap();
            if dir == Dir::Bi {
                stream::stop(net.conn(CLIENT), id, 6u32.into()).unwrap();
            }
        }
        // Everything is over on the way but what the other program has not looked at yet.
        net.run(ms(5000));
        while let Some(id) = net.conn(SERVER).streams().accept(dir) {
            if dir == Dir::Bi {
                net.conn(SERVER).send_stream(id).reset(6u32.into()).unwrap();
            }
        }
        net.run(ms(5000));
        for id in ids {
            stream::stop(net.conn(SERVER), id, 7u32.into()).unwrap();
        }
        net.until(ms(100), |net| net.conn(CLIENT).streams().open(dir));
    }
}
