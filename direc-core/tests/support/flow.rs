//! Data that flows all the time, counted at the other end: each byte once, in order, and how long it ever stopped.

use super::*;

/// A connection with data flowing both ways.
pub struct Flow {
    pub conns: [ConnId; 2],
    ways: [Way; 2],
}

/// One direction of it.
struct Way {
    from: usize,
    to: usize,
    id: quic_types::StreamId,
    theirs: Option<quic_types::StreamId>,
    sent: usize,
    got: usize,
    last: Instant,
    longest: Duration,
}

/// What the byte at this place of a stream is.
fn byte(at: usize) -> u8 {
    (at * 7 + (at >> 8) * 13) as u8
}

impl Flow {
    /// Between P2 and P4, which are connected.
    pub fn new(world: &mut World) -> Self {
        let conns = [P2, P4].map(|host| world.connected(host).unwrap().1);
        let ways = [(P2, P4, conns[0]), (P4, P2, conns[1])].map(|(from, to, conn)| {
            let id = world.peer(from).connection(conn).unwrap().open(quic_types::Dir::Uni).unwrap();
            let (last, longest) = (world.now, Duration::ZERO);
            Way { from, to, id, theirs: None, sent: 0, got: 0, last, longest }
        });
        Self { conns, ways }
    }

    fn conn(&self, host: usize) -> ConnId {
        self.conns[usize::from(host == P4)]
    }

    /// Time passes, and every 10 ms some more is written and what has come is read.
    pub fn run(&mut self, world: &mut World, for_: Duration) {
        let until = world.now + for_;
        while world.now < until {
            for way in 0..2 {
                self.write(world, way, 300);
            }
            world.run(ms(10));
            for way in 0..2 {
                self.read(world, way);
            }
        }
    }

    fn write(&mut self, world: &mut World, way: usize, len: usize) {
        let (from, id, sent) = (self.ways[way].from, self.ways[way].id, self.ways[way].sent);
        let conn = self.conn(from);
        let data: Vec<u8> = (sent..sent + len).map(byte).collect();
        let Some(mut connection) = world.peer(from).connection(conn) else { panic!("gone: {}", world.story()) };
        match connection.write(id, &mut [data.into()]) {
            Ok(written) => self.ways[way].sent += written,
            Err(error) => assert_eq!(error, quic_types::WriteError::Blocked),
        }
    }

    fn read(&mut self, world: &mut World, way: usize) {
        let (conn, now) = (self.conn(self.ways[way].to), world.now);
        let way = &mut self.ways[way];
        let Some(mut connection) = world.peer(way.to).connection(conn) else { panic!("gone: {}", world.story()) };
        way.theirs = way.theirs.or_else(|| connection.accept(quic_types::Dir::Uni));
        let Some(id) = way.theirs else { return };
        while let Ok(Some(bytes)) = connection.read(id, usize::MAX) {
            for &one in &bytes {
                assert_eq!(one, byte(way.got), "byte {}", way.got);
                way.got += 1;
            }
            way.longest = way.longest.max(now - way.last);
            way.last = now;
        }
    }

    /// The longest time without a byte, either way, since this was last asked.
    pub fn longest_stop(&mut self, world: &World) -> Duration {
        let stops = self.ways.iter_mut().map(|way| {
            let stop = way.longest.max(world.now - way.last);
            (way.longest, way.last) = (Duration::ZERO, world.now);
            stop
        });
        stops.max().unwrap()
    }

    /// Lets what is under way arrive, and says whether all has.
    pub fn is_complete(&mut self, world: &mut World) -> bool {
        world.run(ms(2000));
        (0..2).for_each(|way| self.read(world, way));
        self.ways.iter().all(|way| way.got == way.sent)
    }
}
