//! What a connection carries: streams, datagrams, back-pressure, codes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bytes::Bytes;
use direc_core::{
    quic_types::{Dir, ReadError, SendDatagramError, StreamEvent, StreamId, WriteError},
    *,
};
use support::*;

fn connected() -> (World, [ConnId; 2]) {
    let mut world = World::trio(Consent::Any, [20, 20, 20]);
    world.warm();
    world.connect(P2, P4);
    world.until(ms(2000), |world| world.moved(P2).and(world.moved(P4)));
    let conns = [P2, P4].map(|host| world.connected(host).unwrap().1);
    (world, conns)
}

fn stream_event(world: &World, host: usize, mut wanted: impl FnMut(&StreamEvent) -> bool) -> bool {
    let found = world.peer_event(host, |event| match event {
        PeerEvent::Stream { event, .. } if wanted(event) => Some(()),
        _ => None,
    });
    found.is_some()
}

fn accept(world: &mut World, host: usize, conn: ConnId, dir: Dir) -> StreamId {
    world.until(ms(2000), |world| world.peer(host).connection(conn)?.accept(dir))
}

#[test]
fn data_goes_both_ways_on_one_bi_stream_and_one_way_on_a_uni_stream() {
    let (mut world, [c2, c4]) = connected();
    for dir in [Dir::Bi, Dir::Uni] {
        let id = world.peer(P2).connection(c2).unwrap().open(dir).unwrap();
        world.peer(P2).connection(c2).unwrap().write(id, &mut [Bytes::from_static(b"ping")]).unwrap();
        world.peer(P2).connection(c2).unwrap().finish(id).unwrap();
        let theirs = accept(&mut world, P4, c4, dir);
        let got = world.peer(P4).connection(c4).unwrap().read(theirs, 100).unwrap();
        assert_eq!(got, Some(Bytes::from_static(b"ping")));
        assert_eq!(world.peer(P4).connection(c4).unwrap().read(theirs, 100), Ok(None));
        if dir == Dir::Bi {
            world.peer(P4).connection(c4).unwrap().write(theirs, &mut [Bytes::from_static(b"pong")]).unwrap();
            world.run(ms(100));
            let got = world.peer(P2).connection(c2).unwrap().read(id, 100).unwrap();
            assert_eq!(got, Some(Bytes::from_static(b"pong")));
        }
    }
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer_and_nothing_is_lost() {
    let (mut world, [c2, c4]) = connected();
    let id = world.peer(P2).connection(c2).unwrap().open(Dir::Uni).unwrap();
    let mut sent = 0;
    let blocked = world.until(ms(60_000), |world| {
        match world.peer(P2).connection(c2).unwrap().write(id, &mut [Bytes::from(vec![7; 64 << 10])]) {
            Ok(bytes) => sent += bytes,
            Err(error) => assert_eq!(error, WriteError::Blocked),
        }
        let window = TransportConfig::default().stream_window as usize;
        assert!(sent <= window, "no more than the window is taken");
        (sent == window).then_some(world.now)
    });
    world.run(ms(10_000));
    assert!(world.now > blocked);
    assert!(world.peer(P2).connection(c2).unwrap().write(id, &mut [Bytes::from_static(b"x")]).is_err());
    world.hosts[P2].events.clear();
    let theirs = accept(&mut world, P4, c4, Dir::Uni);
    let mut got = 0;
    while let Ok(Some(bytes)) = world.peer(P4).connection(c4).unwrap().read(theirs, usize::MAX) {
        assert!(bytes.iter().all(|byte| *byte == 7));
        got += bytes.len();
    }
    assert_eq!(got, sent);
    world.run(ms(200));
    assert!(stream_event(&world, P2, |event| matches!(event, StreamEvent::Writable { .. })));
    assert!(world.peer(P2).connection(c2).unwrap().write(id, &mut [Bytes::from_static(b"x")]).is_ok());
}

#[test]
fn more_streams_than_the_other_side_allows_wait_until_one_has_ended() {
    let (mut world, [c2, c4]) = connected();
    let limit = TransportConfig::default().max_uni_streams;
    let ids: Vec<StreamId> = std::iter::from_fn(|| world.peer(P2).connection(c2).unwrap().open(Dir::Uni)).collect();
    assert_eq!(ids.len(), limit as usize);
    for &id in &ids {
        world.peer(P2).connection(c2).unwrap().finish(id).unwrap();
    }
    for _ in &ids {
        let theirs = accept(&mut world, P4, c4, Dir::Uni);
        assert_eq!(world.peer(P4).connection(c4).unwrap().read(theirs, 1), Ok(None));
    }
    world.run(ms(200));
    assert!(stream_event(&world, P2, |event| matches!(event, StreamEvent::Available { dir: Dir::Uni })));
    assert!(world.peer(P2).connection(c2).unwrap().open(Dir::Uni).is_some());
}

#[test]
fn a_stream_abandoned_by_either_side_says_so_with_its_code() {
    let (mut world, [c2, c4]) = connected();
    let open = |world: &mut World| {
        let id = world.peer(P2).connection(c2).unwrap().open(Dir::Bi).unwrap();
        world.peer(P2).connection(c2).unwrap().write(id, &mut [Bytes::from_static(b"x")]).unwrap();
        (id, accept(world, P4, c4, Dir::Bi))
    };
    let (id, theirs) = open(&mut world);
    world.peer(P2).connection(c2).unwrap().reset(id, 5u32.into()).unwrap();
    world.run(ms(100));
    assert_eq!(world.peer(P4).connection(c4).unwrap().read(theirs, 1), Err(ReadError::Reset(5u32.into())));
    let (id, theirs) = open(&mut world);
    world.peer(P4).connection(c4).unwrap().stop(theirs, 6u32.into()).unwrap();
    world.run(ms(100));
    let stopped = world.peer(P2).connection(c2).unwrap().write(id, &mut [Bytes::from_static(b"y")]);
    assert_eq!(stopped, Err(WriteError::Stopped(6u32.into())));
}

#[test]
fn datagrams_arrive_whole_and_too_large_ones_are_refused() {
    let (mut world, [c2, c4]) = connected();
    let max = world.peer(P2).connection(c2).unwrap().max_datagram_size().unwrap();
    let largest = Bytes::from(vec![3; max]);
    world.peer(P2).connection(c2).unwrap().send_datagram(largest.clone()).unwrap();
    let larger = Bytes::from(vec![3; max + 1]);
    let refused = world.peer(P2).connection(c2).unwrap().send_datagram(larger);
    assert_eq!(refused, Err(SendDatagramError::TooLarge));
    world.run(ms(100));
    assert!(world.peer_event(P4, |event| matches!(event, PeerEvent::DatagramReceived { .. }).then_some(())).is_some());
    assert_eq!(world.peer(P4).connection(c4).unwrap().recv_datagram(), Some(largest));
    assert_eq!(world.peer(P4).connection(c4).unwrap().recv_datagram(), None);
}

#[test]
fn a_stream_used_in_the_wrong_direction_is_an_error_and_no_panic() {
    let (mut world, [c2, c4]) = connected();
    let id = world.peer(P2).connection(c2).unwrap().open(Dir::Uni).unwrap();
    world.peer(P2).connection(c2).unwrap().write(id, &mut [Bytes::from_static(b"x")]).unwrap();
    let theirs = accept(&mut world, P4, c4, Dir::Uni);
    let mut connection = world.peer(P4).connection(c4).unwrap();
    assert_eq!(connection.write(theirs, &mut [Bytes::from_static(b"y")]), Err(WriteError::ClosedStream));
    assert!(connection.finish(theirs).is_err());
    assert!(connection.reset(theirs, 0u32.into()).is_ok());
    let mut connection = world.peer(P2).connection(c2).unwrap();
    assert_eq!(connection.read(id, 1), Ok(None));
    assert!(connection.stop(id, 0u32.into()).is_ok());
}

#[test]
fn what_arrived_before_a_close_can_still_be_read() {
    let (mut world, [c2, c4]) = connected();
    let id = world.peer(P2).connection(c2).unwrap().open(Dir::Uni).unwrap();
    world.peer(P2).connection(c2).unwrap().write(id, &mut [Bytes::from_static(b"last words")]).unwrap();
    world.peer(P2).connection(c2).unwrap().finish(id).unwrap();
    world.run(ms(100));
    let now = world.now;
    world.peer(P2).connection(c2).unwrap().close(now, 0u32.into(), Bytes::new());
    world.until(ms(100), |world| world.closed(P4));
    let mut connection = world.peer(P4).connection(c4).unwrap();
    let theirs = connection.accept(Dir::Uni).unwrap();
    assert_eq!(connection.read(theirs, 100), Ok(Some(Bytes::from_static(b"last words"))));
    assert_eq!(connection.open(Dir::Uni), None);
}

#[test]
fn figures_tell_the_paths_round_trip_and_its_packet_size() {
    let (mut world, [c2, _]) = connected();
    world.run(ms(3000));
    let stats = world.peer(P2).connection(c2).unwrap().stats();
    assert!(stats.rtt >= ms(40) && stats.rtt < ms(80), "{stats:?}");
    assert_eq!(stats.mtu, 1443, "1,452 less the relay's header, found by MTU discovery");
    assert_eq!(stats.lost_packets, 0);
}

#[test]
fn a_connection_closed_in_the_middle_of_a_transfer_says_so_at_once() {
    for after in [5, 50, 200, 1000] {
        let (mut world, [c2, c4]) = connected();
        let id = world.peer(P2).connection(c2).unwrap().open(Dir::Uni).unwrap();
        let end = world.now + ms(after);
        while world.now < end {
            let _ = world.peer(P2).connection(c2).unwrap().write(id, &mut [Bytes::from(vec![7; 1 << 20])]);
            world.run(ms(5));
            if let Some(theirs) = world.peer(P4).connection(c4).unwrap().accept(Dir::Uni) {
                world.hosts[P4].streams.push(theirs);
            }
            world.drain(P4);
        }
        let now = world.now;
        world.peer(P2).connection(c2).unwrap().close(now, 7u32.into(), Bytes::new());
        world.until(ms(1000), |world| world.closed(P4));
    }
}
