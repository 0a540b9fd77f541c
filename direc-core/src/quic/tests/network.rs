//! What the network does to packets.

use super::*;

/// Sends so many bytes and waits until they are there, or panics.
fn transfer(net: &mut Net, bytes: usize) {
    let id = net.open(CLIENT, Dir::Uni);
    let mut left = bytes;
    left -= write(net.conn(CLIENT), id, &vec![7; left.min(1 << 16)]);
    let theirs = net.accept(SERVER, Dir::Uni);
    let mut received = 0;
    net.until(ms(600_000), |net| {
        left -= write(net.conn(CLIENT), id, &vec![7; left.min(1 << 16)]);
        received += read(net.conn(SERVER), theirs).0;
        (received == bytes).then_some(())
    });
    net.conn(CLIENT).send_stream(id).finish().unwrap();
    net.until(ms(5000), |net| read(net.conn(SERVER), theirs).1.then_some(()));
}

#[test]
fn packets_that_suddenly_do_not_pass_for_their_size_are_made_smaller_within_seconds() {
    let mut net = Net::new(Transport::default());
    transfer(&mut net, 1 << 20);
    assert!(net.conn(CLIENT).current_mtu() > 1400, "the path was large");
    net.loses = Box::new(|leaving| leaving.len > 1250);
    let before = net.now;
    transfer(&mut net, 1 << 20);
    assert!(net.conn(CLIENT).current_mtu() <= 1250);
    assert!(net.now - before < ms(30_000), "{:?}", net.now - before);
    net.assert_stands();
}

#[test]
fn packets_that_come_more_than_128_later_than_others_are_sent_again() {
    let mut net = Net::new(Transport::default());
    // As two paths of unequal length would do it, without any of what the paths do against it.
    let mut number = 0;
    net.jitter = ms(200);
    net.loses = Box::new(move |_| {
        number += 1;
        number % 1000 == 0
    });
    transfer(&mut net, 8 << 20);
    net.assert_stands();
}

#[test]
fn a_packet_that_comes_twice_is_taken_once() {
    let mut net = Net::new(Transport::default());
    let id = net.open(CLIENT, Dir::Uni);
    write(net.conn(CLIENT), id, &[7; 10_000]);
    net.pump(CLIENT);
    let again: Vec<_> =
        net.in_flight.iter().map(|(&(at, n), packet)| ((at + ms(5), n + 1000), packet.clone())).collect();
    net.in_flight.extend(again);
    let theirs = net.accept(SERVER, Dir::Uni);
    net.run(ms(1000));
    assert_eq!(read(net.conn(SERVER), theirs), (10_000, false));
    net.assert_stands();
}
