//! A real network that changes: a network namespace of the test's own, where the system allows one.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // where it cannot test, it says so
#![cfg(target_os = "linux")]

mod common;

use std::{net::SocketAddr, process::Command, time::Duration};

use common::*;
use direc_smol::{ConnectOptions, Consent, Peer, PeerNews, Watch};
use futures_lite::future;

/// Set where the test is alone with its network.
const ALONE: &str = "DIREC_TEST_ALONE";

/// Runs the named test once more in a network namespace; whether this is that run. Where there are no namespaces to be
/// had, nothing is tested.
fn alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let unshare = |program: &str, arguments: &[&str]| {
        Command::new("unshare").args(["-rn", program]).args(arguments).env(ALONE, "1").status()
    };
    if !unshare("ip", &["link", "set", "lo", "up"]).is_ok_and(|status| status.success()) {
        eprintln!("no network namespaces here: not tested");
        return false;
    }
    let this = std::env::current_exe().unwrap();
    assert!(unshare(this.to_str().unwrap(), &["--exact", name, "--nocapture"]).unwrap().success());
    false
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

/// The next change of the network that the peer tells of: the socket's address.
async fn change(news: &mut Watch) -> SocketAddr {
    loop {
        if let (_, PeerNews::NetworkChanged { bound, .. }) = news.next().await.unwrap() {
            return bound;
        }
    }
}

#[test]
fn addresses_and_routes_that_come_and_go_are_noticed() {
    if !alone("addresses_and_routes_that_come_and_go_are_noticed") {
        return;
    }
    ip("link set lo up");
    run(async {
        let relay = relay();
        let peer = peer(&relay, Consent::Closed).await;
        let (mut news, bound) = (peer.watch(), peer.local_addr());
        for what in [
            "addr add 10.9.0.1/24 dev lo",
            "route add default dev lo src 10.9.0.1",
            "addr add fd00:9::1/64 dev lo nodad",
            "route del default",
            "addr del 10.9.0.1/24 dev lo",
        ] {
            ip(what);
            assert_eq!(change(&mut news).await, bound, "{what}");
        }
        peer.registered().await.unwrap();
    });
}

#[test]
fn a_peer_goes_on_without_the_address_it_was_bound_to() {
    if !alone("a_peer_goes_on_without_the_address_it_was_bound_to") {
        return;
    }
    ip("link set lo up");
    ip("addr add 10.9.0.1/24 dev lo");
    run(async {
        let relay = relay();
        let mut settings = options(&relay, Consent::Closed);
        settings.local = Some("10.9.0.1:0".parse().unwrap());
        let client = Peer::bind(settings).await.unwrap();
        let server = peer(&relay, Consent::Any).await;
        let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
        future::zip(near.direct(), far.direct()).await.0.unwrap();
        let (mut news, old) = (client.watch(), client.local_addr());
        ip("addr del 10.9.0.1/24 dev lo");
        let bound = change(&mut news).await;
        assert!(bound.ip().is_unspecified() && bound.port() == old.port(), "{bound}");
        echo(&near, &far, "from elsewhere").await;
        echo(&far, &near, "to elsewhere").await;
    });
}

#[test]
fn a_program_that_was_stopped_looks_again() {
    if std::env::var_os(ALONE).is_none() {
        // In a process of its own: this one has other tests to run.
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "a_program_that_was_stopped_looks_again", "--nocapture"]).env(ALONE, "1");
        return assert!(again.status().unwrap().success());
    }
    run(async {
        let relay = relay();
        let mut settings = options(&relay, Consent::Closed);
        // So that it has something to be late for.
        settings.timing.refresh_interval = Duration::from_millis(500);
        let peer = Peer::bind(settings).await.unwrap();
        peer.registered().await.unwrap();
        let (mut news, bound) = (peer.watch(), peer.local_addr());
        let this = std::process::id();
        let stop = format!("kill -STOP {this}; sleep 4; kill -CONT {this}");
        let mut stopper = Command::new("sh").args(["-c", &stop]).spawn().unwrap();
        assert_eq!(change(&mut news).await, bound);
        stopper.wait().unwrap();
    });
}
