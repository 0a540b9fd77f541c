//! Several relays, and connections that outlive theirs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod connect;
mod drain;
mod local;
mod moments;
mod policy;
mod renewal;
mod resume;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use direc_core::*;
use support::{flow::Flow, *};

const LONG: Duration = Duration::from_secs(200);
const RELAYED: ConnectOptions = options(PathPolicy::RelayOnly);

const fn options(policy: PathPolicy) -> ConnectOptions {
    let mut options = ConnectOptions { policy: PathPolicy::Auto };
    options.policy = policy;
    options
}

/// Two peers at both relays, warm.
fn quartet() -> World {
    let mut world = World::quartet(&[0, 1], &[0, 1], Consent::Any);
    warm(&mut world);
    world
}

/// Lets everybody register everywhere.
fn warm(world: &mut World) {
    world.run(ms(2000));
    world.hosts.iter_mut().for_each(|host| host.events.clear());
}

/// Connects P2 to P4, and has data flow.
fn flowing(world: &mut World, options: ConnectOptions) -> Flow {
    world.connect_with(P2, P4, options);
    world.until(ms(5000), |world| world.connected(P2).and(world.connected(P4)));
    let mut flow = Flow::new(world);
    flow.run(world, ms(1000));
    flow.longest_stop(world);
    flow
}

/// The relay at `n`, as events name it.
fn at(n: u8) -> std::net::SocketAddr {
    relay_address(n).address
}

fn path(world: &mut World, host: usize, flow: &Flow) -> Path {
    let conn = flow.conns[usize::from(host == P4)];
    world.peer(host).connection(conn).unwrap().path()
}

/// Both ends run on that path.
fn both_on(world: &mut World, flow: &Flow, wanted: Path) -> bool {
    [P2, P4].iter().all(|&host| path(world, host, flow) == wanted)
}

fn introductions(world: &mut World) -> [usize; 2] {
    [P3, Q3].map(|host| match &mut world.hosts[host].node {
        Node::Relay(relay) => relay.stats().introductions,
        Node::Peer(_) | Node::Mute(_) => 0,
    })
}

/// Everything is closed, and nothing is left of it anywhere.
fn leaves_nothing(world: &mut World, flow: &Flow) {
    let now = world.now;
    world.peer(P2).connection(flow.conns[0]).unwrap().close(now, 0u32.into(), bytes::Bytes::new());
    world.run(Duration::from_secs(30));
    assert_eq!(introductions(world), [0, 0], "{}", world.story());
    let now = world.now;
    [P2, P4].iter().for_each(|&host| world.peer(host).shutdown(now));
    let drained = |world: &mut World| world.peer(P2).is_drained() && world.peer(P4).is_drained();
    world.until(Duration::from_secs(10), |world| drained(world).then_some(()));
}
