//! Programs: how their operations are carried out, and what must be true when all is over.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use direc_core::{ConnId, ConnectOptions, NodeId, PathPolicy, quic_types::*};

use crate::{
    op::Op,
    program::Program,
    scene::{self, Focus, P2, P3, P4, STRANGERS, Scene},
    world::{Chaos, Node, Packet, World},
};

/// Operations, and calls into nodes, of one program: so that none takes much longer than others.
const MAX_OPS: usize = 200;
const MAX_CALLS: u64 = 12_000;
/// Bytes of application data that a program may move.
const MAX_BYTES: usize = 512 << 10;

struct Run<'a> {
    program: Program<'a>,
    /// The present operation's arguments.
    args: Program<'a>,
    focus: Focus,
    scene: Scene,
    world: World,
    moved: usize,
    relay_down: bool,
}

pub(crate) fn run(focus: Focus, data: &[u8]) {
    let mut program = Program::new(data);
    let scene = Scene::read(&mut program);
    let args = Program::new(&[]);
    let mut run = Run { program, args, focus, scene, world: scene::build(focus, &scene), moved: 0, relay_down: false };
    if scene.is_warm() {
        run.world.run(Duration::from_secs(2), MAX_CALLS);
    }
    for _ in 0..MAX_OPS {
        if run.program.is_over() || run.world.calls > MAX_CALLS {
            break;
        }
        let op = Op::ALL[run.program.below(Op::ALL.len())];
        run.world.tell(|| format!("--- {op:?}"));
        run.args = Program::new(run.program.bytes(op.arguments()));
        run.step(op);
    }
    run.world.tell(|| "--- the network heals".into());
    if !scene.has_lying_relay(focus) {
        run.heal();
    }
    run.leave();
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Run<'_> {
    /// One of the peers.
    fn peer(&mut self) -> usize {
        [P2, P4][self.args.below(2)]
    }

    /// One of the nodes under attack, by the target's focus.
    fn victim(&mut self) -> usize {
        match self.focus {
            Focus::Peer => [P2, P4][self.args.below(2)],
            Focus::Relay => P3,
        }
    }

    /// One of the hosts' addresses, or a stranger's.
    fn source(&mut self) -> SocketAddr {
        let known: Vec<SocketAddr> = self.world.hosts.iter().flat_map(|host| host.addresses.clone()).collect();
        let at = self.args.below(32);
        known.get(at).copied().unwrap_or_else(|| scene::address(STRANGERS[at % STRANGERS.len()]))
    }

    fn puppet(&mut self) -> Option<usize> {
        let number = self.args.below(2);
        let puppets =
            (0..self.world.hosts.len()).filter(|&host| matches!(self.world.hosts[host].node, Node::Puppet(_)));
        puppets.cycle().nth(number)
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Pass => {
                let time = ms(u64::from(self.args.byte()));
                self.world.run(time, 2000);
            }
            Op::PassLong => {
                let time = ms(u64::from(self.args.byte()) * 500);
                self.world.run(time, 2000);
            }
            Op::Oversleep => {
                let time = ms(u64::from(self.args.byte()) * 16);
                self.world.oversleep(time);
            }
            Op::Connect => self.connect(),
            Op::Answer => self.answer(),
            Op::Open => {
                let (peer, number, dir) = (self.peer(), self.args.below(8), self.args.byte());
                let dir = if dir & 1 == 0 { Dir::Bi } else { Dir::Uni };
                self.world.with_peer(peer, |peer, app| {
                    if let Some(conn) = app.pick(number) {
                        app.open(peer, conn, dir);
                    }
                });
            }
            Op::Write => {
                let (peer, stream, length) = (self.peer(), self.args.below(8), self.args.below(256) * 256);
                if self.moved < MAX_BYTES {
                    let written = self.world.with_peer(peer, |peer, app| app.write(peer, stream, length));
                    self.moved += written.unwrap_or(0);
                }
            }
            Op::Read => {
                let peer = self.peer();
                self.world.with_peer(peer, |peer, app| app.read(peer));
            }
            Op::End => {
                let (peer, stream, how) = (self.peer(), self.args.below(8), self.args.byte());
                self.world.with_peer(peer, |peer, app| app.end(peer, stream, how));
            }
            Op::Datagram => {
                let (peer, number, length) = (self.peer(), self.args.below(8), self.args.below(256) * 8);
                self.world.with_peer(peer, |peer, app| {
                    if let Some(conn) = app.pick(number) {
                        app.send_datagram(peer, conn, length);
                    }
                });
            }
            Op::Close => {
                let (peer, number) = (self.peer(), self.args.below(8));
                self.close(peer, number);
            }
            Op::Look => {
                let peer = self.peer();
                self.world.with_peer(peer, |peer, app| app.look(peer));
            }
            Op::Garbage => self.garbage(),
            Op::Replay => self.replay(),
            Op::Together => self.together(),
            Op::Weather => {
                let mut byte = || self.args.byte();
                // No more than half of all packets, or nothing would ever happen.
                let (drop, duplicate, corrupt) = (byte() / 2, byte() / 2, byte() / 2);
                let (delay, whole) = (byte(), byte() & 1 != 0);
                self.world.chaos = Chaos { drop, duplicate, corrupt, delay, whole };
            }
            Op::Cut => {
                let pair = [(P2, P3), (P3, P4), (P2, P4)][self.args.below(3)];
                if !self.world.cut.remove(&pair) {
                    self.world.cut.insert(pair);
                }
            }
            Op::Remap => {
                let peer = self.peer();
                self.world.hosts[peer].mapping = self.args.byte() & 3;
            }
            Op::Act => {
                let Some(host) = self.puppet() else { return };
                let now = self.world.now;
                if let Node::Puppet(puppet) = &mut self.world.hosts[host].node {
                    puppet.act(now, &mut || self.args.byte());
                }
                self.world.settle(host);
            }
            Op::Send => self.send(),
            Op::Timeout => {
                let host = self.args.below(3);
                self.world.handle_timeout(host);
                self.world.settle(host);
            }
            Op::Restart => self.restart(),
            Op::Shutdown => {
                let (peer, now) = (self.peer(), self.world.now);
                self.world.with_peer(peer, |peer, app| {
                    app.shut_down = true;
                    peer.shutdown(now);
                });
            }
            Op::RelayDown => {
                let now = self.world.now;
                // Rarely: nothing is left to attack afterwards.
                if self.args.byte() == 0x2a
                    && let Some(relay) = self.world.relay()
                {
                    relay.shutdown(now);
                    self.relay_down = true;
                    self.world.settle(P3);
                }
            }
        }
    }

    fn connect(&mut self) {
        let (from, whom, how) = (self.peer(), self.args.below(8), self.args.byte());
        let id = match whom {
            // Itself, nobody, a puppet.
            5 => [2, 3, 4][from],
            6 => 99,
            7 => 5,
            _ => [4, 3, 2][from],
        };
        let (id, now) = (scene::identity(id).id(), self.world.now);
        let options = ConnectOptions::with_policy(if how & 3 == 3 { PathPolicy::RelayOnly } else { PathPolicy::Auto });
        self.begin(from, id, options, now);
    }

    fn begin(&mut self, from: usize, id: NodeId, options: ConnectOptions, now: std::time::Instant) -> Option<ConnId> {
        self.world
            .with_peer(from, |peer, app| {
                let conn = peer.connect(now, id, options);
                assert_eq!(conn.is_err(), app.shut_down || app.gave_up && conn.is_err(), "{conn:?}");
                conn.ok().inspect(|conn| app.conns.push(*conn))
            })
            .flatten()
    }

    fn answer(&mut self) {
        let (peer, number, yes) = (self.peer(), self.args.below(4), self.args.byte());
        let now = self.world.now;
        self.world.with_peer(peer, |peer, app| match app.offers.get(number).copied() {
            Some(conn) => {
                app.offers.retain(|offer| *offer != conn);
                assert!(peer.answer(now, conn, yes & 1 == 0).is_ok(), "the offer {conn:?} was open");
                assert!(peer.answer(now, conn, true).is_err(), "answered twice");
            }
            None => assert!(peer.answer(now, ConnId(u64::from(yes) << 32), true).is_err()),
        });
    }

    fn close(&mut self, host: usize, number: usize) {
        let now = self.world.now;
        self.world.with_peer(host, |peer, app| {
            if let Some(mut connection) = app.pick(number).and_then(|conn| peer.connection(conn)) {
                connection.close(now, VarInt::from_u32(7), Bytes::from_static(b"enough"));
            }
        });
    }

    fn garbage(&mut self) {
        let (target, source) = (self.victim(), self.source());
        let link = if target == P3 { self.args.byte() % 3 } else { 0 };
        let (stride, length) = (self.args.below(256), self.args.below(256));
        let mut bytes = self.program.bytes(length).to_vec();
        // A stride of 0 is the driver's mistake, and must be harmless too.
        let count = bytes.len().div_ceil(stride.max(1)) as u64;
        let dead = bytes.chunks(stride.max(1)).all(|piece| matches!(piece[0], 0 | 7 | 9..=0x3f));
        if stride == 255 {
            bytes.resize(bytes.len() * 5, 0);
        }
        let before = self.world.drops(target);
        self.world.deliver(Packet { target, link, source, stride, bytes });
        if dead && stride != 255 {
            assert_eq!(self.world.drops(target), before + count, "drops of what means nothing are counted, each");
        }
    }

    fn replay(&mut self) {
        let at = self.args.below(256);
        let Some(mut packet) = self.world.tape.iter().rev().nth(at % self.world.tape.len().max(1)).cloned() else {
            return;
        };
        let (source, how) = (self.source(), self.args.byte());
        let (place, value) = (self.args.below(256) * 5, self.args.byte());
        if how & 0x80 != 0 {
            packet.source = source;
        }
        match how & 3 {
            0 => {}
            1 => {
                let place = place % packet.bytes.len().max(1);
                if let Some(byte) = packet.bytes.get_mut(place) {
                    *byte ^= value | 1;
                }
            }
            2 => packet.bytes.truncate(place.min(packet.bytes.len())),
            _ => packet.bytes.extend([value].repeat(place)),
        }
        if how & 4 != 0 {
            packet.link = value % 3;
        }
        if how & 8 != 0 {
            packet.target = self.victim();
        }
        let links = if packet.target == P3 { 3 } else { 1 };
        packet.link %= links;
        self.world.deliver(packet);
    }

    fn together(&mut self) {
        let (first, count, source) = (self.args.below(64), self.args.below(8), self.source());
        let mut together = self.world.tape.iter().rev().skip(first).take(count);
        let Some(mut packet) = together.next().cloned() else { return };
        packet.stride = packet.bytes.len().max(1);
        for other in together {
            packet.bytes.extend_from_slice(&other.bytes);
        }
        if first & 1 != 0 {
            packet.source = source;
        }
        self.world.deliver(packet);
    }

    fn send(&mut self) {
        let Some(host) = self.puppet() else { return };
        let (target, source) = (self.victim(), self.source());
        let link = if target == P3 { self.args.byte() % 3 } else { 0 };
        let own = self.world.hosts[host].addresses[0];
        let source = if self.args.byte() & 1 == 0 { own } else { source };
        let Node::Puppet(puppet) = &mut self.world.hosts[host].node else { return };
        let bytes = puppet.datagram(&mut || self.args.byte());
        self.world.deliver(Packet { target, link, source, stride: bytes.len().max(1), bytes });
    }

    fn restart(&mut self) {
        let host = self.peer();
        // Rarely: it takes everything away that was built up.
        if self.args.byte() & 7 != 0 {
            return;
        }
        let config = scene::peer_config([2, 3, 4][host], &self.scene, self.world.crypto.clone());
        self.world.hosts[host].node = self.world.new_peer(config);
        self.world.hosts[host].app = crate::app::App::default();
        self.world.settle(host);
    }

    // When all is over.

    fn is_well(&self, host: usize) -> bool {
        let app = &self.world.hosts[host].app;
        !app.shut_down && !app.gave_up
    }

    /// The network is good again and the hostile are gone: whoever was not told to stop must be well, and be able to
    /// talk to the other.
    fn heal(&mut self) {
        self.world.chaos = Chaos::default();
        self.world.cut.clear();
        for host in &mut self.world.hosts {
            host.mapping = 0;
            if matches!(host.node, Node::Puppet(_)) {
                host.node = Node::Gone;
            }
        }
        if self.relay_down {
            return;
        }
        // So long may a relay believe in peers that died without a word, and a peer in a relay that dropped it: the idle
        // timeout, counted from the last keep-alive.
        self.world.run(Duration::from_secs(70), 100_000);
        let back = self.within(100, |run| {
            [P2, P4].into_iter().all(|host| {
                let registered = run.world.with_peer(host, |peer, _| peer.is_registered());
                !run.is_well(host) || registered == Some(true)
            })
        });
        assert!(back, "somebody does not find back to the relay");
        for host in [P2, P4] {
            for number in 0..self.world.hosts[host].app.conns.len() {
                self.close(host, number);
            }
        }
        // Until those connections are gone, and the relay has noticed that the puppets are.
        let gone = self.within(100, |run| {
            let left = run.world.relay().is_some_and(|relay| relay.stats().introductions > 0);
            let busy = [P2, P4].into_iter().any(|host| {
                run.world.with_peer(host, |peer, app| app.conns.iter().any(|conn| peer.connection(*conn).is_some()))
                    == Some(true)
            });
            !left && !busy
        });
        assert!(gone, "connections that were closed are still there");
        if self.is_well(P2) && self.is_well(P4) {
            self.talk();
        }
    }

    /// Lets up to `seconds` pass, until something is so.
    fn within(&mut self, seconds: u64, mut so: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.world.now + Duration::from_secs(seconds);
        // So many calls are more than two peers at rest can bring about.
        let last = self.world.calls + 200_000;
        loop {
            if so(self) {
                return true;
            }
            assert!(self.world.calls < last, "they never come to rest");
            if self.world.now >= end {
                return false;
            }
            self.world.run(Duration::from_secs(1), 100_000);
        }
    }

    /// One more connection, from P2 to P4, and some bytes there and back. A party that had P4's key and died without a
    /// word may still hold its place: the first attempt may tell so.
    fn talk(&mut self) {
        if !self.try_to_talk() {
            assert!(self.try_to_talk(), "no connection although all is well");
        }
    }

    fn try_to_talk(&mut self) -> bool {
        let closed = self.scene.consents >> 2 & 3 == 3;
        let now = self.world.now;
        let Some(conn) = self.begin(P2, scene::identity(4).id(), ConnectOptions::default(), now) else {
            panic!("no connect after all is well")
        };
        for _ in 0..50 {
            self.world.run(ms(200), 10_000);
            let now = self.world.now;
            self.world.with_peer(P4, |peer, app| {
                for offer in std::mem::take(&mut app.offers) {
                    // Old ones may have gone meanwhile.
                    let _ = peer.answer(now, offer, true);
                }
            });
            let app = &self.world.hosts[P2].app;
            if app.is_over(conn) || app.connected().any(|connected| connected == conn) {
                break;
            }
        }
        let app = &self.world.hosts[P2].app;
        if closed {
            assert!(app.is_over(conn), "connected to one who lets nobody in");
            return true;
        }
        if !app.connected().any(|connected| connected == conn) {
            return false;
        }
        self.world.hosts[P2].app.forget_streams();
        self.world.hosts[P4].app.forget_streams();
        let sent = 3000;
        self.world.with_peer(P2, |peer, app| {
            app.open(peer, conn, Dir::Bi);
            assert_eq!(app.write(peer, 0, sent), sent);
        });
        let mut received = 0;
        for _ in 0..50 {
            if received >= sent {
                break;
            }
            self.world.run(ms(100), 10_000);
            received += self.world.with_peer(P4, |peer, app| app.read(peer)).unwrap_or(0);
        }
        assert_eq!(received, sent, "bytes are missing although all is well");
        true
    }

    /// Everyone says good-bye, and is done with it in a while.
    fn leave(&mut self) {
        let now = self.world.now;
        for host in [P2, P4] {
            self.world.with_peer(host, |peer, app| {
                app.shut_down = true;
                peer.shutdown(now);
            });
        }
        let done = self.within(200, |run| {
            [P2, P4].into_iter().all(|host| run.world.with_peer(host, |peer, _| peer.is_drained()) == Some(true))
        });
        assert!(done, "a peer never gets done");
        let now = self.world.now;
        if let Some(relay) = self.world.relay() {
            relay.shutdown(now);
            self.world.settle(P3);
            let done = self.within(60, |run| run.world.relay().is_some_and(|relay| relay.is_drained()));
            assert!(done, "the relay never gets done");
        }
    }
}
