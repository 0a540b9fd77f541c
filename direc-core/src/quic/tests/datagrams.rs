//! Unreliable datagrams.

use bytes::Bytes;

use super::*;

#[test]
fn the_largest_datagram_is_taken_whatever_the_buffers_size() {
    for datagram_buffer in [1, 100, 1000, 1300, 1450, 1500, 4000] {
        let small = Transport { datagram_buffer, ..Transport::default() };
        let mut net = Net::with([Transport::default(), small], Arc::new(provider()));
        let max = net.conn(CLIENT).datagrams().max_size().unwrap();
        for len in [0, 1, max / 2, max] {
            net.conn(CLIENT).datagrams().send(Bytes::from(vec![7; len]), false).unwrap();
            net.run(ms(1000));
            net.assert_stands();
            assert_eq!(net.conn(SERVER).datagrams().recv().map(|datagram| datagram.len()), Some(len));
        }
    }
}

#[test]
fn a_flood_of_datagrams_holds_streams_up_while_it_lasts_and_ends_nothing() {
    let mut net = Net::new(Transport::default());
    let max = net.conn(CLIENT).datagrams().max_size().unwrap();
    let id = net.open(CLIENT, Dir::Uni);
    write(net.conn(CLIENT), id, b"begin");
    let theirs = net.accept(SERVER, Dir::Uni);
    net.run(ms(100));
    assert_eq!(read(net.conn(SERVER), theirs).0, 5);
    let flood = |net: &mut Net| while net.conn(CLIENT).datagrams().send(Bytes::from(vec![7; max]), false).is_ok() {};
    flood(&mut net);
    assert_eq!(write(net.conn(CLIENT), id, &[7; 10_000]), 10_000);
    // Not for so long that the congestion window outgrows the buffer.
    let until = net.now + ms(80);
    while net.step(until) {
        flood(&mut net);
        while net.conn(SERVER).datagrams().recv().is_some() {}
    }
    net.assert_stands();
    assert_eq!(read(net.conn(SERVER), theirs).0, 0, "datagrams go first");
    net.run(ms(5000));
    assert_eq!(read(net.conn(SERVER), theirs).0, 10_000);
}

#[test]
fn datagrams_that_a_path_does_not_carry_any_more_make_room_for_others() {
    let mut net = Net::new(Transport { datagram_buffer: 4000, ..Transport::default() });
    let max = net.conn(CLIENT).datagrams().max_size().unwrap();
    while net.conn(CLIENT).datagrams().send(Bytes::from(vec![7; max]), false).is_ok() {}
    let now = net.now;
    net.conn(CLIENT).path_changed(now);
    let smaller = net.conn(CLIENT).datagrams().max_size().unwrap();
    assert!(smaller < max);
    net.conn(CLIENT).datagrams().send(Bytes::from(vec![8; smaller]), false).unwrap();
    net.run(ms(1000));
    assert_eq!(net.conn(SERVER).datagrams().recv(), Some(Bytes::from(vec![8; smaller])));
    let unblocked = |event: &Event| matches!(event, Event::DatagramsUnblocked);
    assert!(net.sides[CLIENT].events.iter().any(unblocked), "who waits for room is told");
}
