//! Settings that cannot work are refused by name, before a connection freezes over them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use direc_core::*;
use support::*;

fn refusal(change: impl FnOnce(&mut TransportConfig)) -> Option<String> {
    let mut config = peer_config(2, &[0], Consent::Any);
    change(&mut config.transport);
    Peer::new(config, [1; 32], World::new().now).err().map(|error| error.to_string())
}

#[test]
fn windows_batches_and_timeouts_that_cannot_work_are_refused_by_name() {
    use std::time::Duration;
    assert_eq!(refusal(|_| {}), None);
    assert_eq!(refusal(|transport| transport.idle_timeout = Duration::from_secs(1)), None);
    let day = Duration::from_secs(24 * 3600);
    type Change = fn(&mut TransportConfig);
    let cases: [(&str, Change); 6] = [
        ("stream_window", |transport| transport.stream_window = 0),
        ("window", |transport| transport.window = 0),
        ("max_batch", |transport| transport.max_batch = 0),
        ("max_batch", |transport| transport.max_batch = 45),
        ("idle_timeout", |transport| transport.idle_timeout = Duration::ZERO),
        ("idle_timeout", |transport| transport.idle_timeout = Duration::MAX),
    ];
    for (name, change) in cases {
        let refusal = refusal(change).unwrap_or_else(|| panic!("{name} was taken"));
        assert!(refusal.contains(name), "{refusal}");
    }
    assert_eq!(refusal(|transport| transport.idle_timeout = day * 30), None);
    assert!(refusal(|transport| transport.idle_timeout = day * 31).is_some());
}
