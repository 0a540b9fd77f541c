//! Which paths a connection may take, and what it shows of them.

use super::*;

const DIRECT: ConnectOptions = options(PathPolicy::DirectOnly);

fn relayed_bytes(world: &mut World) -> u64 {
    world.relay(P3).stats().relayed_bytes + world.relay(Q3).stats().relayed_bytes
}

/// Since when the connection runs on the path it runs on, and why.
fn chosen(world: &mut World, flow: &Flow) -> (std::time::Instant, PathReason) {
    let connection = world.peer(P2).connection(flow.conns[0]).unwrap();
    (connection.stats().path_since, connection.chosen())
}

fn statuses(world: &mut World, flow: &Flow) -> Vec<PathStatus> {
    world.peer(P2).connection(flow.conns[0]).unwrap().paths()
}

#[test]
fn a_connection_that_may_only_go_direct_is_told_of_once_it_does() {
    let mut world = quartet();
    world.connect_with(P2, P4, DIRECT);
    world.until(ms(2000), |world| world.connected(P2).and(world.connected(P4)));
    for host in [P2, P4] {
        let direct = |event: &PeerEvent| matches!(event, PeerEvent::Connected { path: Path::Direct(_), .. });
        assert_eq!(world.count(host, direct), 1, "{}", world.story());
    }
}

#[test]
fn no_application_byte_of_a_direct_only_connection_goes_through_a_relay() {
    let mut world = quartet();
    world.connect_with(P2, P4, DIRECT);
    world.until(ms(2000), |world| world.connected(P2).and(world.connected(P4)));
    world.run(ms(100));
    let handshake = relayed_bytes(&mut world);
    let mut flow = Flow::new(&mut world);
    flow.run(&mut world, ms(5000));
    // A short interruption, which a connection that may be relayed would bridge by the relay.
    world.cut = vec![(P2, P4)];
    flow.run(&mut world, ms(1000));
    world.cut.clear();
    flow.run(&mut world, ms(5000));
    assert_eq!(relayed_bytes(&mut world), handshake, "{}", world.story());
    assert!(flow.is_complete(&mut world), "{}", world.story());
    leaves_nothing(&mut world, &flow);
}

#[test]
fn a_direct_only_connection_without_a_direct_path_fails_and_says_why() {
    for (why, spoil) in [
        (DirectFailure::NoRoundTrip, (|world| world.cut = vec![(P2, P4)]) as fn(&mut World)),
        (DirectFailure::NoCookie, |world| world.blocked_ports = vec![4434, 4435]),
    ] {
        let mut world = World::quartet(&[0, 1], &[0, 1], Consent::Any);
        spoil(&mut world);
        world.run(ms(10_000));
        world.connect_with(P2, P4, DIRECT);
        let (_, error) = world.until(ms(30_000), |world| world.failed(P2));
        assert_eq!(error, ConnectError::NotDirect(why), "{}", world.story());
        world.until(ms(30_000), |world| world.failed(P4));
        assert!(world.connected(P2).is_none() && world.connected(P4).is_none(), "{}", world.story());
        world.run(ms(30_000));
        assert_eq!(introductions(&mut world), [0, 0]);
    }
}

#[test]
fn a_direct_only_connection_that_loses_its_path_for_good_is_closed_and_says_why() {
    let mut world = quartet();
    let mut flow = flowing(&mut world, DIRECT);
    let before = relayed_bytes(&mut world);
    world.cut = vec![(P2, P4)];
    flow.run(&mut world, ms(500));
    for host in [P2, P4] {
        let (_, reason) = world.until(ms(30_000), |world| world.closed(host));
        assert_eq!(reason, CloseReason::NotDirect(DirectFailure::NoRoundTrip), "{}", world.story());
    }
    assert!(relayed_bytes(&mut world) - before < 100, "nothing but a good-bye goes by the relay");
    world.run(ms(30_000));
    assert_eq!(introductions(&mut world), [0, 0]);
}

#[test]
fn a_connection_shows_its_paths_and_why_it_runs_where_it_runs() {
    let mut world = quartet();
    let mut flow = flowing(&mut world, ConnectOptions::default());
    let shown = statuses(&mut world, &flow);
    let direct = Path::Direct(world.hosts[P4].ports[0]);
    let [relay, straight] = shown[..] else { panic!("{shown:?}") };
    assert_eq!((relay.path, relay.state, relay.current), (Path::Relay(at(0)), PathState::Works, false));
    assert_eq!((straight.path, straight.state, straight.current), (direct, PathState::Works, true));
    assert!(straight.rtt.is_some_and(|rtt| (ms(40)..ms(60)).contains(&rtt)), "{straight:?}");
    assert!(straight.probes.0 >= 1 && straight.sent_bytes > relay.sent_bytes && straight.received_bytes > 10_000);
    let (since, why) = chosen(&mut world, &flow);
    assert_eq!(why, PathReason::Direct);
    assert!(since <= world.now);

    world.cut = vec![(P2, P4)];
    let cut = world.now;
    flow.run(&mut world, ms(200));
    let doubtful = statuses(&mut world, &flow)[1].state;
    assert_eq!(doubtful, PathState::Doubtful);
    flow.run(&mut world, ms(1000));
    let [relay, straight] = statuses(&mut world, &flow)[..] else { panic!("{}", world.story()) };
    assert_eq!((relay.current, relay.state, straight.state), (true, PathState::Works, PathState::Lost));
    let (since, why) = chosen(&mut world, &flow);
    assert!(since > cut && matches!(why, PathReason::Silent { after } if after < ms(1000)), "{why:?}");
}

#[test]
fn a_connection_shows_that_it_has_changed_its_relay() {
    let mut world = quartet();
    let mut flow = flowing(&mut world, RELAYED);
    assert_eq!(chosen(&mut world, &flow).1, PathReason::Began);
    world.kill(P3);
    flow.run(&mut world, ms(3000));
    let shown = statuses(&mut world, &flow);
    let [relay] = shown[..] else { panic!("{shown:?}") };
    assert_eq!((relay.path, relay.current, relay.state), (Path::Relay(at(1)), true, PathState::Works));
    assert_eq!(chosen(&mut world, &flow).1, PathReason::RelayLost);
}
