//! A client whose address changes, as a relay sees peers behind NATs.

use super::*;

/// Moves the client so often, after such pauses each.
fn move_often(net: &mut Net, moves: u16, pauses: [u64; 3]) {
    let id = net.open(CLIENT, Dir::Uni);
    write(net.conn(CLIENT), id, b"x");
    let theirs = net.accept(SERVER, Dir::Uni);
    let (mut sent, mut received) = (1, read(net.conn(SERVER), theirs).0);
    for n in 0..moves {
        // Another port as often as another host; and now and then the one before.
        let back = n % 5 == 4;
        net.sides[CLIENT].address = if back {
            "198.51.100.2:1000".parse().unwrap()
        } else {
            ([198, 51, 100, (n % 2) as u8 + 2], 2000 + n).into()
        };
        sent += write(net.conn(CLIENT), id, &[7; 50]);
        net.run(ms(pauses[usize::from(n % 3)]));
        received += read(net.conn(SERVER), theirs).0;
    }
    net.until(ms(60_000), |net| {
        received += read(net.conn(SERVER), theirs).0;
        (received == sent).then_some(())
    });
    net.assert_stands();
}

#[test]
fn a_client_that_moves_two_hundred_times_keeps_its_connection_and_both_sides_their_ids() {
    let mut net = Net::new(Transport::default());
    move_often(&mut net, 200, [50, 500, 3000]);
    net.run(ms(10_000));
    let (client, server) = (net.sides[CLIENT].address, net.conn(SERVER).remote_address());
    assert_eq!(server, client, "the last address is the one in use");
    let [issued, retired] = [net.frames(CLIENT).new_connection_id, net.frames(SERVER).retire_connection_id];
    assert!(issued > 150 && retired > 150, "each move uses up an ID: {issued} issued, {retired} retired");
}

#[test]
fn moves_faster_than_a_round_trip_and_with_loss_do_not_end_a_connection() {
    let mut net = Net::new(Transport::default());
    net.delay = ms(40);
    net.lose_one_in(10);
    move_often(&mut net, 200, [5, 30, 120]);
}

#[test]
fn a_server_that_sends_much_follows_a_client_that_moves() {
    let mut net = Net::new(Transport::default());
    let id = net.open(SERVER, Dir::Uni);
    let mut left = 4 << 20;
    left -= write(net.conn(SERVER), id, &vec![7; left]);
    let theirs = net.accept(CLIENT, Dir::Uni);
    let (mut received, mut moves) = (0, 0);
    net.until(ms(600_000), |net| {
        if received >= moves * (256 << 10) {
            moves += 1;
            net.sides[CLIENT].address = ([198, 51, 100, 2], 3000 + moves as u16).into();
            // Who only receives and has nothing to acknowledge would not be seen to move: as direc does, it pings.
            net.conn(CLIENT).ping();
        }
        left -= write(net.conn(SERVER), id, &vec![7; left]);
        received += read(net.conn(CLIENT), theirs).0;
        (received == 4 << 20).then_some(())
    });
    net.assert_stands();
}
