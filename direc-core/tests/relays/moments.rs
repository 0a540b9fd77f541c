//! A relay that dies at any moment at all.

use super::*;

/// Whether something was told that ends the attempt or makes it a connection.
fn settled(world: &World, host: usize) -> bool {
    world.connected(host).is_some() || world.failed(host).is_some()
}

/// How it went: a connection at both ends that carries data, or a typed error and nothing left.
fn ends_well(world: &mut World, story: &str) {
    world.run(Duration::from_secs(20));
    assert!(settled(world, P2), "{story}: P2 hangs{}", world.story());
    let both = world.connected(P2).is_some() && world.connected(P4).is_some();
    if both && world.closed(P2).is_none() && world.closed(P4).is_none() {
        let mut flow = Flow::new(world);
        flow.run(world, ms(2000));
        assert!(flow.is_complete(world), "{story}: no data{}", world.story());
        leaves_nothing(world, &flow);
        return;
    }
    world.run(LONG);
    for host in [P2, P4] {
        let ended = world.closed(host).is_some() || world.connected(host).is_none();
        assert!(ended, "{story}: {host} believes in a connection{}", world.story());
    }
    assert_eq!(introductions(world), [0, 0], "{story}{}", world.story());
}

#[test]
fn a_relay_killed_at_any_moment_of_an_introduction_leads_to_the_other_relay_or_a_typed_end() {
    for policy in [PathPolicy::Auto, PathPolicy::RelayOnly, PathPolicy::DirectOnly] {
        for after in (0..240).step_by(8) {
            let mut world = quartet();
            world.connect_with(P2, P4, ConnectOptions::with_policy(policy));
            world.run(ms(after));
            world.kill(P3);
            ends_well(&mut world, &format!("{policy:?}, killed after {after} ms"));
        }
    }
}

#[test]
fn a_relay_restarted_at_any_moment_of_an_introduction_leads_to_a_connection_or_a_typed_end() {
    for relays in [&[0][..], &[0, 1]] {
        for after in (0..240).step_by(8) {
            let mut world = World::quartet(relays, relays, Consent::Any);
            warm(&mut world);
            world.connect_with(P2, P4, RELAYED);
            world.run(ms(after));
            world.restart_relay(P3, 0);
            ends_well(&mut world, &format!("{relays:?}, restarted after {after} ms"));
        }
    }
}

#[test]
fn relays_that_die_in_turn_at_any_moment_never_cost_a_byte() {
    for after in (0..600).step_by(40) {
        let mut world = quartet();
        let mut flow = flowing(&mut world, RELAYED);
        for round in 0..4u8 {
            let (dying, other, n) = if round % 2 == 0 { (P3, Q3, 1) } else { (Q3, P3, 0) };
            if matches!(world.hosts[other].node, Node::Mute(_)) {
                world.restart_relay(other, n);
            }
            flow.run(&mut world, ms(after));
            world.kill(dying);
            flow.run(&mut world, ms(6000));
        }
        let stop = flow.longest_stop(&world);
        assert!(flow.is_complete(&mut world), "every {after} ms: {}", world.story());
        assert!(stop < ms(5000), "every {after} ms: {stop:?}{}", world.story());
        assert!(both_on(&mut world, &flow, Path::Relay(at(0))), "every {after} ms{}", world.story());
        leaves_nothing(&mut world, &flow);
    }
}

#[test]
fn a_drain_cut_short_by_the_relays_death_at_any_moment_never_costs_a_byte() {
    for after in (0..800).step_by(40) {
        let mut world = quartet();
        let mut flow = flowing(&mut world, RELAYED);
        let now = world.now;
        world.relay(P3).drain(now, Duration::from_secs(2));
        flow.run(&mut world, ms(after));
        world.kill(P3);
        flow.run(&mut world, ms(5000));
        let stop = flow.longest_stop(&world);
        assert!(stop < ms(2500), "after {after} ms: {stop:?}{}", world.story());
        assert!(flow.is_complete(&mut world), "after {after} ms: {}", world.story());
        assert_eq!(introductions(&mut world), [0, 1], "{}", world.story());
        leaves_nothing(&mut world, &flow);
    }
}

/// Relays that die, come back and are cut off in any order; a little luck that is the same each time.
#[test]
fn whatever_becomes_of_the_relays_data_goes_on_once_one_is_back_and_one_introduction_is_left() {
    for seed in 0..8u64 {
        let mut luck = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: u64| {
            luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (luck >> 33) % below
        };
        let policy = [PathPolicy::RelayOnly, PathPolicy::Auto][seed as usize % 2];
        let mut world = quartet();
        let mut flow = flowing(&mut world, ConnectOptions::with_policy(policy));
        let mut said = Vec::new();
        for _ in 0..12 {
            let (relay, n) = [(P3, 0), (Q3, 1)][next(2) as usize];
            let what = next(6);
            said.push((what, relay));
            match what {
                0 => world.kill(relay),
                1 | 2 => world.restart_relay(relay, n),
                3 => world.cut = vec![([P2, P4][next(2) as usize], relay), (P2, P4)],
                4 => world.cut = vec![(P2, P4)],
                _ => world.cut.clear(),
            }
            flow.run(&mut world, ms(next(3000)));
        }
        let story = format!("{seed}: {said:?}");
        for (relay, n) in [(P3, 0), (Q3, 1)] {
            if matches!(world.hosts[relay].node, Node::Mute(_)) {
                world.restart_relay(relay, n);
            }
        }
        world.cut = vec![(P2, P4)];
        flow.run(&mut world, ms(20_000));
        flow.longest_stop(&world);
        flow.run(&mut world, ms(40_000));
        let stop = flow.longest_stop(&world);
        assert!(stop < ms(100), "{story}: {stop:?}{}", world.story());
        assert_eq!(introductions(&mut world).iter().sum::<usize>(), 1, "{story}{}", world.story());
        assert!(path(&mut world, P2, &flow) == path(&mut world, P4, &flow), "{story}");
        assert!(flow.is_complete(&mut world), "{story}{}", world.story());
        leaves_nothing(&mut world, &flow);
    }
}

/// P2 does not know yet that P4 is connected too.
#[test]
fn a_relay_restarted_before_p2_is_told_that_p4_is_connected_too_leaves_neither_in_doubt_for_long() {
    let mut world = World::quartet(&[0], &[0], Consent::Any);
    warm(&mut world);
    world.connect_with(P2, P4, RELAYED);
    world.run(ms(104));
    world.restart_relay(P3, 0);
    world.run(ms(20_000));
    assert_eq!(world.closed(P2).is_some(), world.closed(P4).is_some(), "{}", world.story());
}
