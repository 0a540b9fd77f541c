//! Connections that end when what was finished on them is delivered, and peers that leave so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use direc_core::{
    quic_types::{Dir, StreamId, VarInt},
    *,
};
use support::*;

/// More than what congestion control sends at once: its delivery takes several round trips.
const BULK: usize = 300_000;

fn connected(options: ConnectOptions) -> (World, [ConnId; 2]) {
    let mut world = World::trio(Consent::Any, [20, 20, 20]);
    world.warm();
    world.connect_with(P2, P4, options);
    world.until(ms(2000), |world| world.connected(P2).and(world.connected(P4)));
    if options != ConnectOptions::with_policy(PathPolicy::RelayOnly) {
        world.until(ms(2000), |world| world.moved(P2).and(world.moved(P4)));
    }
    let conns = [P2, P4].map(|host| world.connected(host).unwrap().1);
    (world, conns)
}

/// A stream with so many bytes on it, not finished.
fn written(world: &mut World, host: usize, conn: ConnId, size: usize) -> StreamId {
    let mut connection = world.peer(host).connection(conn).unwrap();
    let id = connection.open(Dir::Bi).unwrap();
    assert_eq!(connection.write(id, &mut [Bytes::from(vec![7; size])]), Ok(size));
    id
}

fn finished(world: &mut World, host: usize, conn: ConnId, size: usize) -> StreamId {
    let id = written(world, host, conn, size);
    world.peer(host).connection(conn).unwrap().finish(id).unwrap();
    id
}

/// Closes when all is delivered, at the latest after that time. Gives by when.
fn close(world: &mut World, host: usize, conn: ConnId, within: Duration) -> Instant {
    let (now, by) = (world.now, world.now + within);
    let mut connection = world.peer(host).connection(conn).unwrap();
    connection.close_when_delivered(now, by, VarInt::from_u32(9), Bytes::from_static(b"all said"));
    by
}

fn closed_by_the_other_side(world: &World, host: usize) -> bool {
    let reason = CloseReason::Application { code: 9, reason: "all said".into() };
    world.closed(host).is_some_and(|(_, closed)| closed == reason)
}

/// All that one side sent before its end can be read at the other.
fn all_there(world: &mut World, host: usize, size: usize) {
    world.drain(host);
    assert_eq!(world.hosts[host].received.len(), size);
}

#[test]
fn a_connection_with_nothing_under_way_closes_at_once() {
    let (mut world, [c2, _]) = connected(ConnectOptions::default());
    let id = finished(&mut world, P2, c2, 10);
    assert!(!world.peer(P2).connection(c2).unwrap().is_delivered());
    world.run(ms(200));
    assert!(world.peer(P2).connection(c2).unwrap().is_delivered(), "stream {id}");
    close(&mut world, P2, c2, ms(10_000));
    world.pump(P2);
    assert!(world.closed(P2).is_some());
    world.until(ms(100), |world| closed_by_the_other_side(world, P4).then_some(()));
}

#[test]
fn what_was_finished_arrives_whole_before_the_close_on_the_relay_and_straight() {
    for policy in [PathPolicy::RelayOnly, PathPolicy::Auto] {
        let (mut world, [c2, _]) = connected(ConnectOptions::with_policy(policy));
        finished(&mut world, P2, c2, BULK);
        finished(&mut world, P2, c2, 1000);
        close(&mut world, P2, c2, ms(10_000));
        assert_eq!(world.closed(P2), None, "{policy:?}: nothing is there yet");
        world.until(ms(5000), |world| closed_by_the_other_side(world, P4).then_some(()));
        // The other program has read nothing so far. That its QUIC has all of it is enough.
        all_there(&mut world, P4, BULK + 1000);
        assert_eq!(world.closed(P2).unwrap().1, CloseReason::Locally);
    }
}

#[test]
fn what_gets_lost_on_the_way_is_sent_again_before_the_close() {
    let (mut world, [c2, _]) = connected(ConnectOptions::default());
    finished(&mut world, P2, c2, BULK);
    close(&mut world, P2, c2, ms(10_000));
    for pause in [15, 30, 40] {
        world.cut = vec![(P2, P4), (P2, P3), (P3, P4)];
        world.run(ms(pause));
        world.cut.clear();
        world.run(ms(60));
        assert_eq!(world.closed(P2), None);
    }
    world.until(ms(9000), |world| closed_by_the_other_side(world, P4).then_some(()));
    all_there(&mut world, P4, BULK);
}

#[test]
fn a_path_that_dies_meanwhile_costs_nothing() {
    let (mut world, [c2, _]) = connected(ConnectOptions::default());
    finished(&mut world, P2, c2, BULK);
    close(&mut world, P2, c2, ms(10_000));
    world.run(ms(25));
    world.cut = vec![(P2, P4)];
    world.until(ms(9000), |world| closed_by_the_other_side(world, P4).then_some(()));
    all_there(&mut world, P4, BULK);
}

#[test]
fn streams_that_were_reset_or_stopped_or_never_finished_are_not_waited_for() {
    let (mut world, [c2, c4]) = connected(ConnectOptions::default());
    let [reset, stopped, open] = [(); 3].map(|()| written(&mut world, P2, c2, 10));
    let late = finished(&mut world, P2, c2, BULK);
    world.run(ms(25));
    let mut connection = world.peer(P4).connection(c4).unwrap();
    while connection.accept(Dir::Bi).is_some() {}
    for id in [stopped, late] {
        connection.stop(id, VarInt::from_u32(3)).unwrap();
    }
    world.run(ms(45));
    // From here on P4 hears and says nothing.
    world.cut = vec![(P2, P4), (P2, P3), (P3, P4)];
    let mut connection = world.peer(P2).connection(c2).unwrap();
    assert!(connection.is_delivered(), "stopped while it was under way");
    assert!(connection.finish(stopped).is_err());
    let finished = finished(&mut world, P2, c2, 10);
    let mut connection = world.peer(P2).connection(c2).unwrap();
    connection.finish(reset).unwrap();
    for id in [reset, finished] {
        assert!(!connection.is_delivered());
        connection.reset(id, VarInt::from_u32(4)).unwrap();
    }
    assert!(connection.is_delivered(), "stream {open} is still open for writing");
    close(&mut world, P2, c2, ms(10_000));
    world.pump(P2);
    assert!(world.closed(P2).is_some());
}

#[test]
fn an_other_side_that_is_gone_holds_it_until_the_stated_time() {
    let (mut world, [c2, _]) = connected(ConnectOptions::default());
    finished(&mut world, P2, c2, 10);
    world.cut = vec![(P2, P4), (P2, P3), (P3, P4)];
    let by = close(&mut world, P2, c2, ms(7000));
    // Neither a later wish nor a second one moves the time.
    close(&mut world, P2, c2, ms(60_000));
    world.run(ms(6999));
    assert_eq!(world.closed(P2), None);
    let (at, _) = world.until(ms(2), |world| world.closed(P2));
    assert_eq!(world.start + at, by);
}

#[test]
fn a_close_at_once_does_not_wait() {
    let (mut world, [c2, _]) = connected(ConnectOptions::default());
    finished(&mut world, P2, c2, BULK);
    close(&mut world, P2, c2, ms(10_000));
    let now = world.now;
    world.peer(P2).connection(c2).unwrap().close(now, VarInt::from_u32(1), Bytes::new());
    world.pump(P2);
    assert!(world.closed(P2).is_some());
    world.until(ms(100), |world| world.closed(P4));
    world.drain(P4);
    assert!(world.hosts[P4].received.len() < BULK);
}

#[test]
fn when_both_sides_end_so_both_get_everything() {
    for [first, second] in [[BULK, 10], [10, BULK], [BULK, BULK]] {
        let (mut world, [c2, c4]) = connected(ConnectOptions::default());
        finished(&mut world, P2, c2, first);
        finished(&mut world, P4, c4, second);
        close(&mut world, P2, c2, ms(10_000));
        close(&mut world, P4, c4, ms(10_000));
        // Who has delivered first closes first. The programs read no more, but what the other had sent so far is there.
        world.until(ms(5000), |world| world.closed(P2).and(world.closed(P4)));
        for (host, size) in [(P4, first), (P2, second)] {
            world.drain(host);
            let got = world.hosts[host].received.len();
            assert!(got == size || second != first, "{got} of {size}");
        }
    }
}

#[test]
fn a_peer_that_shuts_down_delivers_first_and_lets_nobody_in_meanwhile() {
    let (mut world, [c2, c4]) = connected(ConnectOptions::with_policy(PathPolicy::RelayOnly));
    finished(&mut world, P4, c4, BULK);
    let (now, by) = (world.now, world.now + ms(10_000));
    world.peer(P4).shutdown_when_delivered(now, by);
    assert!(world.peer(P4).is_delivering());
    let id = world.peer(P2).id();
    assert_eq!(world.peer(P4).connect(now, id, ConnectOptions::default()), Err(MisuseError::ShutDown));
    world.connect(P2, P4);
    world.until(ms(5000), |world| world.closed(P2));
    let goodbye = CloseReason::Application { code: 0, reason: "goodbye".into() };
    assert_eq!(world.closed(P2).unwrap().1, goodbye);
    assert!(world.peer(P2).connection(c2).is_some());
    world.drain(P2);
    assert_eq!(world.hosts[P2].received.len(), BULK);
    assert!(world.failed(P2).unwrap().0 < world.closed(P2).unwrap().0, "refused at once, not when the peer is gone");
    assert_eq!(world.count(P4, |event| matches!(event, PeerEvent::Connected { .. })), 1);
    world.until(ms(2000), |world| world.peer(P4).is_drained().then_some(()));
    assert_eq!(world.peer(P4).undelivered(), 0);
}

#[test]
fn a_peer_that_cannot_deliver_leaves_in_time_and_says_so() {
    let (mut world, [_, c4]) = connected(ConnectOptions::default());
    finished(&mut world, P4, c4, 10);
    world.cut = vec![(P2, P4), (P2, P3)];
    let (now, by) = (world.now, world.now + ms(5000));
    world.peer(P4).shutdown_when_delivered(now, by);
    world.run(ms(4990));
    assert!(world.peer(P4).is_delivering());
    world.run(ms(20));
    assert!(!world.peer(P4).is_delivering());
    assert_eq!(world.peer(P4).undelivered(), 1);
    world.until(ms(15_000), |world| world.peer(P4).is_drained().then_some(()));
    assert_eq!(world.peer(P4).undelivered(), 1);
}

#[test]
fn a_relay_that_comes_back_meanwhile_carries_the_rest() {
    let mut world = World::quartet(&[0], &[0], Consent::Any);
    world.warm();
    world.connect_with(P2, P4, ConnectOptions::with_policy(PathPolicy::RelayOnly));
    world.until(ms(2000), |world| world.connected(P2).and(world.connected(P4)));
    let c4 = world.connected(P4).unwrap().1;
    finished(&mut world, P4, c4, 1 << 20);
    let (now, by) = (world.now, world.now + ms(60_000));
    world.peer(P4).shutdown_when_delivered(now, by);
    world.run(ms(60));
    world.restart_relay(P3, 0);
    world.until(ms(60_000), |world| {
        world.drain(P2);
        world.closed(P2)
    });
    assert_eq!(world.hosts[P2].received.len(), 1 << 20, "{}", world.story());
    assert_eq!(world.peer(P4).undelivered(), 0);
}
