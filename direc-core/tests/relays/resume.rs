//! A connection whose relay dies goes on through another one, or through the next process of the same.

use super::*;

/// Both ends are attached to one introduction at one relay, and no other is left.
fn settled(world: &mut World, flow: &mut Flow, wanted: [usize; 2]) {
    flow.run(world, ms(5000));
    assert_eq!(introductions(world), wanted, "{}", world.story());
    assert!(world.closed(P2).is_none() && world.closed(P4).is_none());
}

#[test]
fn a_relay_killed_while_relayed_gives_way_to_the_second_one_and_each_byte_comes_once_and_in_order() {
    for after in [0, 7, 13, 500] {
        let mut world = quartet();
        let mut flow = flowing(&mut world, RELAYED);
        flow.run(&mut world, ms(after));
        world.kill(P3);
        flow.run(&mut world, ms(5000));
        assert!(both_on(&mut world, &flow, Path::Relay(at(1))), "{}", world.story());
        let stop = flow.longest_stop(&world);
        assert!(stop < ms(1500), "{stop:?}{}", world.story());
        settled(&mut world, &mut flow, [0, 1]);
        assert!(flow.is_complete(&mut world));
        for host in [P2, P4] {
            let said = world.count(host, |event| {
                matches!(event, PeerEvent::Path { path, why: PathReason::RelayLost, .. } if *path == Path::Relay(at(1)))
            });
            assert_eq!(said, 1, "the program is told once{}", world.story());
        }
        leaves_nothing(&mut world, &flow);
    }
}

#[test]
fn a_relay_killed_while_nothing_is_sent_gives_way_once_something_is() {
    let mut world = quartet();
    let mut flow = flowing(&mut world, RELAYED);
    world.run(Duration::from_secs(30));
    world.kill(P3);
    world.run(Duration::from_secs(3));
    flow.longest_stop(&world);
    flow.run(&mut world, ms(5000));
    let stop = flow.longest_stop(&world);
    assert!(stop < ms(1500), "{stop:?}{}", world.story());
    assert!(flow.is_complete(&mut world));
}

#[test]
fn a_relay_replaced_by_a_new_process_of_its_key_tells_its_peers_at_once() {
    for dead in [0, 5, 40, 200, 1000] {
        let mut world = World::quartet(&[0], &[0], Consent::Any);
        warm(&mut world);
        let mut flow = flowing(&mut world, RELAYED);
        world.kill(P3);
        flow.run(&mut world, ms(dead));
        world.restart_relay(P3, 0);
        let restarted = world.elapsed();
        flow.run(&mut world, ms(5000));
        for host in [P2, P4] {
            let (lost, error) = world.relay_lost(host).unwrap();
            assert_eq!(error, RelayError::Lost);
            let took = lost.saturating_sub(restarted);
            assert!(took < ms(700), "dead for {dead} ms: told {host} after {took:?}{}", world.story());
        }
        let stop = flow.longest_stop(&world);
        assert!(stop < ms(dead + 1000), "dead for {dead} ms: {stop:?}{}", world.story());
        settled(&mut world, &mut flow, [1, 0]);
        assert!(flow.is_complete(&mut world));
        leaves_nothing(&mut world, &flow);
    }
}

#[test]
fn a_connection_at_rest_whose_relay_was_replaced_goes_on_with_its_next_word() {
    for rest in [100, 3_000, 40_000] {
        let mut world = World::quartet(&[0], &[0], Consent::Any);
        warm(&mut world);
        let mut flow = flowing(&mut world, RELAYED);
        world.run(Duration::from_secs(10));
        world.restart_relay(P3, 0);
        world.run(ms(rest));
        flow.longest_stop(&world);
        flow.run(&mut world, ms(4000));
        let stop = flow.longest_stop(&world);
        assert!(stop < ms(1000), "{rest} ms later: {stop:?}{}", world.story());
        settled(&mut world, &mut flow, [1, 0]);
        assert!(flow.is_complete(&mut world));
    }
}

#[test]
fn a_connection_resumes_whichever_side_is_back_at_its_relay_first() {
    for late in [P2, P4] {
        for by in [50, 300, 1000, 4000] {
            let mut world = World::quartet(&[0], &[0], Consent::Any);
            warm(&mut world);
            let mut flow = flowing(&mut world, RELAYED);
            world.restart_relay(P3, 0);
            world.cut = vec![(late, P3)];
            flow.run(&mut world, ms(by));
            world.cut.clear();
            let back = world.now;
            flow.longest_stop(&world);
            flow.run(&mut world, ms(4000));
            let stop = flow.longest_stop(&world);
            assert!(stop < ms(2500), "{late} late by {by} ms: {stop:?} {:?}{}", world.now - back, world.story());
            settled(&mut world, &mut flow, [1, 0]);
            assert!(flow.is_complete(&mut world));
        }
    }
}

#[test]
fn a_connection_that_runs_straight_does_not_notice_and_can_fall_back_to_the_restarted_relay() {
    let mut world = World::quartet(&[0], &[0], Consent::Any);
    warm(&mut world);
    let mut flow = flowing(&mut world, ConnectOptions::default());
    assert!(path(&mut world, P2, &flow).is_direct() && path(&mut world, P4, &flow).is_direct());
    world.hosts.iter_mut().for_each(|host| host.events.retain(|(_, event)| format!("{event:?}").contains("Connected")));
    world.kill(P3);
    flow.run(&mut world, ms(1000));
    world.restart_relay(P3, 0);
    flow.run(&mut world, Duration::from_secs(60));
    let stop = flow.longest_stop(&world);
    assert!(stop < ms(100), "{stop:?}");
    for host in [P2, P4] {
        let seen = world.count(host, |event| matches!(event, PeerEvent::Path { .. } | PeerEvent::NotDirect { .. }));
        assert_eq!(seen, 0, "{}", world.story());
    }
    assert_eq!(introductions(&mut world), [1, 0], "attached again{}", world.story());
    world.cut = vec![(P2, P4)];
    flow.run(&mut world, ms(3000));
    assert!(both_on(&mut world, &flow, Path::Relay(at(0))), "{}", world.story());
    let stop = flow.longest_stop(&world);
    assert!(stop < ms(1500), "{stop:?}{}", world.story());
    assert!(flow.is_complete(&mut world));
    leaves_nothing(&mut world, &flow);
}

#[test]
fn both_sides_beginning_at_once_are_left_with_one_introduction() {
    for (p2, p4) in [(20, 20), (5, 60), (60, 5), (1, 1), (150, 150)] {
        for relays in [&[0, 1][..], &[0]] {
            let mut world = World::quartet(relays, relays, Consent::Any);
            for relay in [P3, Q3] {
                world.delays.insert((P2, relay), ms(p2));
                world.delays.insert((P4.min(relay), P4.max(relay)), ms(p4));
            }
            warm(&mut world);
            let mut flow = flowing(&mut world, RELAYED);
            if relays.len() > 1 {
                world.kill(P3)
            } else {
                world.restart_relay(P3, 0)
            }
            flow.run(&mut world, ms(8000));
            let wanted = if relays.len() > 1 { [0, 1] } else { [1, 0] };
            settled(&mut world, &mut flow, wanted);
            assert!(flow.is_complete(&mut world), "{p2} {p4} {}", relays.len());
        }
    }
}

#[test]
fn another_process_of_p4s_key_is_not_taken_for_the_connections_other_end() {
    let mut world = World::quartet(&[0], &[0], Consent::Any);
    warm(&mut world);
    let conn = world.connect_with(P2, P4, RELAYED);
    world.until(ms(5000), |world| world.connected(P2));
    world.run(ms(500));
    let peer = Peer::new(peer_config(4, &[0], Consent::Any), [99; 32], world.now).unwrap();
    world.hosts[P4].node = Node::Peer(Box::new(peer));
    world.hosts[P4].events.clear();
    let refused = world.until(ms(5000), |world| {
        let mut events = world.hosts[P3].events.iter();
        events.find_map(|(_, event)| match event {
            Event::Relay(RelayEvent::Refused { reason, .. }) => Some(*reason),
            _ => None,
        })
    });
    assert_eq!(refused, RefuseReason::NoSuchPeer);
    let (_, reason) = world.until(LONG, |world| world.closed(P2));
    assert_eq!(reason, CloseReason::TimedOut);
    assert!(world.connected(P4).is_none() && world.offered(P4).is_none(), "{}", world.story());
    world.until(LONG, |world| world.peer(P2).connection(conn).is_none().then_some(()));
    assert_eq!(introductions(&mut world), [0, 0]);
}

#[test]
fn a_relay_that_passes_nothing_on_cannot_take_the_connection_away_for_good() {
    let mut world = quartet();
    let mut flow = flowing(&mut world, RELAYED);
    world.swallowing = vec![Q3];
    let relay = std::mem::replace(&mut world.hosts[P3].node, Node::Mute(Vec::new()));
    flow.run(&mut world, ms(2000));
    world.hosts[P3].node = relay;
    flow.run(&mut world, ms(20_000));
    assert!(both_on(&mut world, &flow, Path::Relay(at(0))), "{}", world.story());
    assert!(flow.is_complete(&mut world));
}
