//! Who may use a relay, for what, and how much of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use direc_core::*;
use support::*;

const FOUND: Rights = Rights { register: true, connect: false };
const FINDS: Rights = Rights { register: false, connect: true };

fn token(n: u8) -> AccessToken {
    AccessToken::from_random([n; 20])
}

fn listed(ids: &[(u8, Rights)]) -> Access {
    let ids = ids.iter().map(|&(n, rights)| (identity(n).id(), rights)).collect();
    Access::Listed(AccessList { ids, tokens: Vec::new() })
}

/// P2 with this token, P3 with these rules, and P4, which P3 knows by its ID.
fn world(shown: Option<AccessToken>, tokens: &[(u8, Rights)], quotas: Quotas) -> World {
    let mut world = World::new();
    let tokens = tokens.iter().map(|&(n, rights)| (token(n).hash(), rights)).collect();
    let access = Access::Listed(AccessList { ids: [(identity(4).id(), FOUND)].into(), tokens });
    world.add_peer("198.51.100.2:1000", PeerConfig { tokens: vec![shown], ..peer_config(2, &[0], Consent::Closed) });
    world.add_relay("203.0.113.10:4433", RelayConfig { access, quotas, ..relay_config(0) });
    world.add_peer("198.51.100.4:1000", peer_config(4, &[0], Consent::Any));
    world
}

fn refused(world: &World, host: usize) -> Option<RefuseReason> {
    world.hosts[host].events.iter().find_map(|(_, event)| match event {
        Event::Peer(PeerEvent::RelayLost { error: RelayError::Refused(reason), .. }) => Some(*reason),
        _ => None,
    })
}

fn refusals(world: &mut World, reason: RefuseReason) -> u64 {
    world.relay(P3).stats().refusals.get(&reason).copied().unwrap_or_default()
}

#[test]
fn whoever_shows_the_token_is_let_in_and_finds_whom_it_looks_for() {
    let mut world = world(Some(token(7)), &[(7, FINDS)], Quotas::default());
    world.warm();
    world.connect(P2, P4);
    world.until(ms(1000), |world| world.connected(P2).and(world.connected(P4)));
}

#[test]
fn a_wrong_token_and_none_are_refused_in_words_and_counted() {
    for (shown, reason) in [(Some(token(8)), RefuseReason::UnknownToken), (None, RefuseReason::TokenMissing)] {
        let mut world = world(shown, &[(7, FINDS)], Quotas::default());
        assert_eq!(world.until(ms(1000), |world| refused(world, P2)), reason);
        assert!(!world.peer(P2).is_registered());
        assert!(refusals(&mut world, reason) > 0);
        let told = |world: &World| {
            world.hosts[P3].events.iter().any(|(_, event)| {
                matches!(event, Event::Relay(RelayEvent::TurnedAway { peer, reason: why, .. })
                    if *peer == identity(2).id() && *why == reason)
            })
        };
        assert!(told(&world));
    }
}

#[test]
fn an_id_that_is_not_listed_is_refused_and_listed_later_comes_in_by_itself() {
    let mut world = world(None, &[], Quotas::default());
    assert_eq!(world.until(ms(1000), |world| refused(world, P2)), RefuseReason::NotListed);
    let now = world.now;
    world.relay(P3).set_access(now, listed(&[(2, FINDS), (4, FOUND)]));
    world.until(ms(60_000), |world| world.peer(P2).is_registered().then_some(()));
    assert!(world.peer(P4).is_registered(), "who is still listed has noticed nothing");
}

#[test]
fn who_is_not_allowed_any_more_is_told_why_and_nobody_finds_it() {
    let mut world = world(Some(token(7)), &[(7, FINDS)], Quotas::default());
    world.warm();
    let now = world.now;
    world.relay(P3).set_access(now, listed(&[(2, FINDS)]));
    assert_eq!(world.until(ms(1000), |world| refused(world, P4)), RefuseReason::NotListed);
    assert!(world.peer(P2).is_registered(), "by its ID now, and not by the token");
    world.connect(P2, P4);
    let (_, error) = world.until(ms(1000), |world| world.failed(P2));
    assert_eq!(error, ConnectError::NoSuchPeer);
}

#[test]
fn a_direct_connection_outlives_the_right_to_use_the_relay() {
    let mut world = world(Some(token(7)), &[(7, FINDS)], Quotas::default());
    world.warm();
    world.connect(P2, P4);
    world.until(ms(3000), |world| world.moved(P2).and(world.moved(P4)));
    let now = world.now;
    world.relay(P3).set_access(now, Access::Listed(AccessList::default()));
    world.until(ms(1000), |world| refused(world, P2).and(refused(world, P4)));
    world.run(ms(200_000));
    assert!(world.closed(P2).is_none() && world.closed(P4).is_none());
}

#[test]
fn who_may_only_be_found_finds_nobody_and_who_may_only_find_is_not_found() {
    let mut world = world(None, &[], Quotas::default());
    let now = world.now;
    world.relay(P3).set_access(now, listed(&[(2, FOUND), (4, FINDS)]));
    assert_eq!(world.until(ms(1000), |world| refused(world, P2)), RefuseReason::MayNotConnect);
    assert_eq!(world.until(ms(1000), |world| refused(world, P4)), RefuseReason::MayNotRegister);

    // One that listens, and tries all the same.
    world.relay(P3).set_access(now, listed(&[(2, FINDS), (4, FOUND)]));
    world.warm();
    world.connect(P4, P2);
    let (_, error) = world.until(ms(1000), |world| world.failed(P4));
    assert_eq!(error, ConnectError::RelayRefused(RefuseReason::MayNotConnect));
}

#[test]
fn introductions_beyond_the_quota_are_refused_with_the_reason_until_time_has_passed() {
    let rate = Rate { amount: 2, per: Duration::from_secs(60) };
    let introductions = Scopes { peer: Some(rate), ..Scopes::default() };
    let mut world = world(Some(token(7)), &[(7, FINDS)], Quotas { introductions, ..Quotas::default() });
    world.warm();
    for _ in 0..2 {
        world.connect(P2, P4);
    }
    world.until(ms(1000), |world| world.connected(P2));
    world.connect(P2, P4);
    let (_, error) = world.until(ms(1000), |world| world.failed(P2));
    assert_eq!(error, ConnectError::RelayRefused(RefuseReason::PeerQuota));
    assert_eq!(refusals(&mut world, RefuseReason::PeerQuota), 1);

    world.run(ms(31_000));
    world.hosts[P2].events.clear();
    world.connect(P2, P4);
    world.until(ms(1000), |world| world.connected(P2));
}

#[test]
fn registrations_are_limited_for_all_together() {
    let registrations = Scopes { total: Some(Rate { amount: 1, per: Duration::from_secs(5) }), ..Scopes::default() };
    let mut world = world(Some(token(7)), &[(7, FINDS)], Quotas { registrations, ..Quotas::default() });
    world.until(ms(1000), |world| refused(world, P2).or(refused(world, P4)));
    assert!(refusals(&mut world, RefuseReason::TotalQuota) > 0);
    world.until(ms(60_000), |world| (world.peer(P2).is_registered() && world.peer(P4).is_registered()).then_some(()));
}

#[test]
fn relayed_bytes_beyond_the_quota_are_dropped_and_counted_and_no_introduction_begins_without_any_left() {
    let scopes =
        Scopes { address: Some(Rate { amount: 10_000, per: Duration::from_secs(86_400) }), ..Scopes::default() };
    let mut world = world(Some(token(7)), &[(7, FINDS)], Quotas { relayed_bytes: scopes, ..Quotas::default() });
    world.warm();
    let conn = world.connect_with(P2, P4, ConnectOptions::with_policy(PathPolicy::RelayOnly));
    world.until(ms(1000), |world| world.connected(P2));
    let id = world.peer(P2).connection(conn).unwrap().open(quic_types::Dir::Bi).unwrap();
    let bulk = bytes::Bytes::from(vec![0; 100_000]);
    world.peer(P2).connection(conn).unwrap().write(id, &mut [bulk]).unwrap();
    world.run(ms(5_000));
    let stats = world.relay(P3).stats();
    assert!(stats.drops.of(DropReason::Quota) > 0, "{:?}", stats.drops);
    world.connect(P2, P4);
    let (_, error) = world.until(ms(5000), |world| world.failed(P2));
    assert_eq!(error, ConnectError::RelayRefused(RefuseReason::AddressQuota));
}

#[test]
fn who_sends_more_than_the_relay_passes_on_is_told_the_quota_at_once_and_then_once_a_minute() {
    let rate = Rate { amount: 20_000, per: Duration::from_secs(1) };
    let relayed_rate = Scopes { peer: Some(rate), ..Scopes::default() };
    let mut world = world(Some(token(7)), &[(7, FINDS)], Quotas { relayed_rate, ..Quotas::default() });
    world.warm();
    let conn = world.connect_with(P2, P4, ConnectOptions::with_policy(PathPolicy::RelayOnly));
    world.until(ms(1000), |world| world.connected(P2));
    let told = |world: &World, peer: usize| -> Vec<(RefuseReason, Rate, u64)> {
        let events = world.hosts[peer].events.iter();
        events
            .filter_map(|(_, event)| match event {
                Event::Peer(PeerEvent::OverQuota { reason, rate, dropped, .. }) => Some((*reason, *rate, *dropped)),
                _ => None,
            })
            .collect()
    };
    assert_eq!(told(&world, P2), [], "within it nothing is said");
    let id = world.peer(P2).connection(conn).unwrap().open(quic_types::Dir::Bi).unwrap();
    let mut bulk = bytes::Bytes::from(vec![0; 5_000_000]);
    for seconds in 0..90 {
        let written = world.peer(P2).connection(conn).unwrap().write(id, &mut [bulk.clone()]);
        bulk = bulk.slice(written.unwrap_or(0)..);
        world.run(ms(1000));
        let told = told(&world, P2);
        assert!(told.len() <= 1 + seconds / 60, "after {seconds} s: {told:?}");
    }
    let told_p2 = told(&world, P2);
    assert_eq!(told_p2.len(), 2, "{told_p2:?}");
    assert!(
        told_p2.iter().all(|&(reason, given, _)| (reason, given) == (RefuseReason::PeerQuota, rate)),
        "{told_p2:?}"
    );
    assert!(told_p2[0].2 > 0 && told_p2[1].2 > told_p2[0].2, "what was dropped in between is in it: {told_p2:?}");
    assert_eq!(told(&world, P4), [], "who only receives has not gone beyond anything");
    assert!(world.peer(P2).is_registered(), "and nothing has ended by it");
}
