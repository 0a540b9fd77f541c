//! The program above a peer: it knows its connections and streams, and holds the peer to what it says of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use direc_core::{ConnId, Peer, PeerEvent, Role, quic_types::*};

/// Most connections, and streams, that an app keeps track of.
const KEPT: usize = 64;
/// Most bytes read from a stream at once.
const CHUNK: usize = 16 << 10;

/// What a connection has come to, by its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Connected,
    Over,
}

/// A stream and what passed on it: every app writes the same pattern, so that any reader can check it.
#[derive(Clone, Copy, Debug)]
struct Stream {
    conn: ConnId,
    id: StreamId,
    /// Whether this side may write, and read.
    sends: bool,
    receives: bool,
    written: u64,
    read: u64,
}

#[derive(Default)]
pub(crate) struct App {
    lives: BTreeMap<ConnId, Life>,
    pub(crate) conns: Vec<ConnId>,
    pub(crate) offers: Vec<ConnId>,
    streams: Vec<Stream>,
    /// The relay will not be tried again, by the peer's own word.
    pub(crate) gave_up: bool,
    pub(crate) shut_down: bool,
}

fn pattern(at: u64) -> u8 {
    (at % 251) as u8
}

impl App {
    pub(crate) fn on_event(&mut self, event: &PeerEvent) {
        match event {
            PeerEvent::Registered { .. }
            | PeerEvent::Warm { .. }
            | PeerEvent::Unanswered { .. }
            | PeerEvent::RelayDraining { .. }
            | PeerEvent::OverQuota { .. }
            | PeerEvent::Resolved { .. }
            | PeerEvent::Observed { .. } => {}
            PeerEvent::RelayLost { error, .. } => self.gave_up |= error.is_final(),
            PeerEvent::Offered { conn, .. } => {
                self.offers.push(*conn);
                self.meet(*conn);
            }
            PeerEvent::Connected { conn, .. } => {
                assert_eq!(self.lives.insert(*conn, Life::Connected), None, "{event:?}");
                self.meet(*conn);
            }
            PeerEvent::Failed { conn, .. } => {
                assert_eq!(self.lives.insert(*conn, Life::Over), None, "{event:?}");
                self.forget(*conn);
            }
            PeerEvent::Closed { conn, .. } => {
                assert_eq!(self.lives.insert(*conn, Life::Over), Some(Life::Connected), "{event:?}");
                self.forget(*conn);
            }
            PeerEvent::Path { conn, .. }
            | PeerEvent::Stream { conn, .. }
            | PeerEvent::DatagramReceived { conn }
            | PeerEvent::DatagramsUnblocked { conn } => {
                assert_eq!(self.lives.get(conn), Some(&Life::Connected), "{event:?}");
            }
            PeerEvent::Asking { conn, .. }
            | PeerEvent::DirectHeard { conn, .. }
            | PeerEvent::NotDirect { conn, .. } => {
                assert_ne!(self.lives.get(conn), Some(&Life::Over), "{event:?}");
            }
            PeerEvent::Step(_) | PeerEvent::Nature(_) | PeerEvent::Tunnel { .. } | PeerEvent::LinkRetired { .. } => {}
            other => panic!("an event that this harness does not know: {other:?}"),
        }
    }

    fn meet(&mut self, conn: ConnId) {
        if !self.conns.contains(&conn) && self.conns.len() < KEPT {
            self.conns.push(conn);
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.offers.retain(|offer| *offer != conn);
    }

    pub(crate) fn connected(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.lives.iter().filter(|(_, life)| **life == Life::Connected).map(|(conn, _)| *conn)
    }

    pub(crate) fn is_over(&self, conn: ConnId) -> bool {
        self.lives.get(&conn) == Some(&Life::Over)
    }

    /// One of the connections, the newest for 0, some of them long gone.
    pub(crate) fn pick(&self, number: usize) -> Option<ConnId> {
        self.conns.iter().rev().nth(number % self.conns.len().max(1)).copied()
    }

    fn keep(&mut self, conn: ConnId, id: StreamId, opened_here: bool) {
        if self.streams.len() < KEPT {
            let bi = id.dir() == Dir::Bi;
            let (sends, receives) = (bi || opened_here, bi || !opened_here);
            self.streams.push(Stream { conn, id, sends, receives, written: 0, read: 0 });
        }
    }

    pub(crate) fn forget_streams(&mut self) {
        self.streams.clear();
    }

    pub(crate) fn open(&mut self, peer: &mut Peer, conn: ConnId, dir: Dir) {
        let opened = peer.connection(conn).and_then(|mut connection| connection.open(dir));
        if let Some(id) = opened {
            self.keep(conn, id, true);
        }
    }

    /// Writes to one of the streams; gives the bytes taken.
    pub(crate) fn write(&mut self, peer: &mut Peer, number: usize, length: usize) -> usize {
        let count = self.streams.iter().filter(|stream| stream.sends).count();
        let mut able = self.streams.iter_mut().rev().filter(|stream| stream.sends);
        let Some(stream) = able.nth(number % count.max(1)) else { return 0 };
        let Some(mut connection) = peer.connection(stream.conn) else { return 0 };
        let bytes: Vec<u8> = (stream.written..).take(length).map(pattern).collect();
        // In three pieces, one of them empty: no call of ours should need more order than that.
        let bytes = Bytes::from(bytes);
        let mut chunks = [bytes.slice(..length / 2), Bytes::new(), bytes.slice(length / 2..)];
        let written = connection.write(stream.id, &mut chunks).unwrap_or(0);
        let rest: usize = chunks.iter().map(Bytes::len).sum();
        assert!(written + rest == length || written == 0, "{written} written and {rest} left of {length}");
        stream.written += written as u64;
        written
    }

    /// Takes all streams that the other side has opened, and reads what is there.
    pub(crate) fn read(&mut self, peer: &mut Peer) -> usize {
        let mut total = 0;
        for conn in self.conns.clone() {
            let Some(mut connection) = peer.connection(conn) else { continue };
            for dir in [Dir::Bi, Dir::Uni] {
                while let Some(id) = connection.accept(dir) {
                    self.keep(conn, id, false);
                }
            }
            while connection.recv_datagram().is_some() {}
        }
        for stream in self.streams.iter_mut().filter(|stream| stream.receives) {
            let Some(mut connection) = peer.connection(stream.conn) else { continue };
            while let Ok(Some(bytes)) = connection.read(stream.id, CHUNK) {
                assert!(!bytes.is_empty() && bytes.len() <= CHUNK);
                for &byte in &bytes {
                    assert_eq!(byte, pattern(stream.read), "wrong byte at {} of {stream:?}", stream.read);
                    stream.read += 1;
                }
                total += bytes.len();
            }
        }
        total
    }

    /// Ends one of the streams, in one of three ways.
    pub(crate) fn end(&mut self, peer: &mut Peer, number: usize, how: u8) {
        let Some(&stream) = self.streams.iter().rev().nth(number % self.streams.len().max(1)) else { return };
        let Some(mut connection) = peer.connection(stream.conn) else { return };
        let code = VarInt::from_u32(u32::from(how));
        // Each may come too late, by a stream that has ended before.
        let _ = match how % 3 {
            0 if stream.sends => connection.finish(stream.id).is_ok(),
            1 if stream.sends => connection.reset(stream.id, code).is_ok(),
            2 if stream.receives => connection.stop(stream.id, code).is_ok(),
            _ => false,
        };
    }

    pub(crate) fn send_datagram(&mut self, peer: &mut Peer, conn: ConnId, length: usize) {
        if let Some(mut connection) = peer.connection(conn) {
            let most = connection.max_datagram_size().unwrap_or(0);
            // Some of them too long.
            let _ = connection.send_datagram(Bytes::from(vec![7; length.min(most + 1)]));
        }
    }

    /// Asks everything there is to ask.
    pub(crate) fn look(&self, peer: &mut Peer) {
        for &conn in &self.conns {
            let Some(connection) = peer.connection(conn) else { continue };
            let stats = connection.stats();
            let _ = (connection.peer(), connection.path(), stats.rtt);
            assert!(matches!(connection.role(), Role::P2 | Role::P4));
            assert!(stats.lost_packets <= stats.sent_packets);
        }
    }
}
