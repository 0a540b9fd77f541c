//! Long silences.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn keep_alives_alone_keep_a_connection_for_a_week() {
    let mut net = Net::new(Transport::default());
    net.run(DAY * 7);
    net.assert_stands();
    let id = net.open(CLIENT, Dir::Uni);
    assert_eq!(write(net.conn(CLIENT), id, b"still there"), 11);
    let theirs = net.accept(SERVER, Dir::Uni);
    assert_eq!(read(net.conn(SERVER), theirs), (11, false));
}

#[test]
fn the_shorter_of_two_idle_timeouts_brings_its_own_keep_alives() {
    for (client, server) in [(3, 120), (120, 3)] {
        let settings = [client, server]
            .map(|seconds| Transport { idle_timeout: Duration::from_secs(seconds), ..Transport::default() });
        let mut net = Net::with(settings, Arc::new(provider()));
        net.run(DAY);
        net.assert_stands();
    }
}

#[test]
fn a_third_of_all_packets_lost_does_not_end_a_connection_at_rest() {
    let mut net = Net::new(Transport::default());
    net.lose_one_in(3);
    net.run(DAY * 7);
    net.assert_stands();
}

#[test]
fn an_outage_of_nearly_the_idle_timeout_ends_with_the_first_packets_that_pass() {
    let mut net = Net::new(Transport::default());
    let id = net.open(CLIENT, Dir::Uni);
    write(net.conn(CLIENT), id, &[7; 100_000]);
    net.loses = Box::new(|_| true);
    net.run(ms(90_000));
    net.loses = Box::new(|_| false);
    // As both ends of a path do when it is there again.
    let now = net.now;
    for side in [CLIENT, SERVER] {
        net.conn(side).path_changed(now);
        net.conn(side).ping();
    }
    let theirs = net.accept(SERVER, Dir::Uni);
    let mut received = 0;
    net.until(ms(60_000), |net| {
        received += read(net.conn(SERVER), theirs).0;
        (received == 100_000).then_some(())
    });
}
