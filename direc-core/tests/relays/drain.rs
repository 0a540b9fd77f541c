//! A relay that is going down says so, and is left without haste and without loss.

use super::*;

const WITHIN: Duration = Duration::from_secs(20);

fn drain(world: &mut World) -> std::time::Instant {
    let now = world.now;
    world.relay(P3).drain(now, WITHIN);
    now
}

fn lost_packets(world: &mut World, flow: &Flow) -> u64 {
    let lost = |(host, conn)| world.peer(host).connection(conn).unwrap().stats().lost_packets;
    [(P2, flow.conns[0]), (P4, flow.conns[1])].into_iter().map(lost).sum()
}

#[test]
fn peers_are_told_that_a_relay_is_going_down_and_when() {
    let mut world = quartet();
    drain(&mut world);
    for host in [P2, P4] {
        let told = world.until(ms(100), |world| {
            world.peer_event(host, |event| match event {
                PeerEvent::RelayDraining { relay, within } => Some((*relay, *within)),
                _ => None,
            })
        });
        assert_eq!(told.1, (at(0), WITHIN));
    }
    assert!(world.relay(P3).stats().draining);
}

#[test]
fn a_relay_that_is_going_down_introduces_nobody_any_more() {
    let mut world = World::quartet(&[0], &[0], Consent::Any);
    warm(&mut world);
    drain(&mut world);
    world.connect_with(P2, P4, RELAYED);
    let (_, error) = world.until(ms(1000), |world| world.failed(P2));
    assert_eq!(error, ConnectError::RelayRefused(RefuseReason::Draining));
    assert_eq!(introductions(&mut world), [0, 0]);
}

#[test]
fn a_relayed_connection_moves_to_the_other_relay_without_losing_a_packet_or_stopping() {
    let mut world = quartet();
    let mut flow = flowing(&mut world, RELAYED);
    let (began, lost) = (drain(&mut world), lost_packets(&mut world, &flow));
    while introductions(&mut world) != [0, 1] {
        flow.run(&mut world, ms(100));
        assert!(world.now - began < WITHIN, "{}", world.story());
    }
    assert!(both_on(&mut world, &flow, Path::Relay(at(1))), "{}", world.story());
    flow.run(&mut world, ms(3000));
    assert_eq!(lost_packets(&mut world, &flow), lost, "{}", world.story());
    let stop = flow.longest_stop(&world);
    assert!(stop <= ms(100), "{stop:?}{}", world.story());
    assert!(flow.is_complete(&mut world));
    leaves_nothing(&mut world, &flow);
}

#[test]
fn a_connection_that_runs_straight_moves_its_place_and_does_not_notice() {
    let mut world = quartet();
    let mut flow = flowing(&mut world, ConnectOptions::default());
    drain(&mut world);
    flow.run(&mut world, WITHIN / 2);
    assert_eq!(introductions(&mut world), [0, 1], "{}", world.story());
    assert!(path(&mut world, P2, &flow).is_direct() && path(&mut world, P4, &flow).is_direct());
    assert!(flow.longest_stop(&world) < ms(100));
    assert!(flow.is_complete(&mut world));
}

#[test]
fn a_relay_is_drained_as_soon_as_everybody_has_left() {
    let mut world = quartet();
    let began = drain(&mut world);
    world.run(ms(1000));
    let now = world.now;
    [P2, P4].iter().for_each(|&host| world.peer(host).shutdown(now));
    world.until(WITHIN, |world| world.relay(P3).is_drained().then_some(()));
    assert!(world.now - began < ms(5000), "{:?}", world.now - began);
}

#[test]
fn a_relay_whose_peers_have_another_one_is_drained_before_its_deadline() {
    let mut world = quartet();
    let mut flow = flowing(&mut world, RELAYED);
    let began = drain(&mut world);
    while !world.relay(P3).is_drained() {
        flow.run(&mut world, ms(100));
        assert!(world.now - began < WITHIN - ms(1000), "everybody has left{}", world.story());
    }
    assert!(flow.is_complete(&mut world));
}

#[test]
fn a_relay_whose_peers_have_no_other_is_drained_at_its_deadline_and_carries_them_until_then() {
    let mut world = World::quartet(&[0], &[0], Consent::Any);
    warm(&mut world);
    let mut flow = flowing(&mut world, RELAYED);
    drain(&mut world);
    flow.run(&mut world, WITHIN - ms(500));
    assert!(!world.relay(P3).is_drained() && flow.longest_stop(&world) < ms(100), "{}", world.story());
    world.run(ms(3000));
    assert!(world.relay(P3).is_drained(), "{}", world.story());
    let (_, error) = world.relay_lost(P2).unwrap();
    assert!(matches!(error, RelayError::Closed { .. }), "{error}");
    world.restart_relay(P3, 0);
    flow.run(&mut world, ms(20_000));
    assert!(flow.is_complete(&mut world), "the next process carries on{}", world.story());
}

#[test]
fn a_relay_that_was_drained_and_comes_back_is_used_again() {
    let mut world = quartet();
    drain(&mut world);
    world.run(WITHIN + ms(5000));
    assert!(world.relay(P3).is_drained());
    world.restart_relay(P3, 0);
    world.run(LONG);
    world.hosts.iter_mut().for_each(|host| host.events.clear());
    let flow = flowing(&mut world, RELAYED);
    assert!(both_on(&mut world, &flow, Path::Relay(at(0))), "{}", world.story());
}
