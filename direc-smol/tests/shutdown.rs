//! What is left when all is closed: nothing. Alone in its process, because it counts.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod common;

use std::fs;

use common::*;

/// Threads of ours, and open sockets that are not the test's.
fn left() -> (usize, usize) {
    let threads = fs::read_dir("/proc/self/task").unwrap().filter(|entry| {
        let name = fs::read_to_string(entry.as_ref().unwrap().path().join("comm"));
        name.is_ok_and(|name| name.starts_with("direc-"))
    });
    let sockets = fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
        let target = fs::read_link(entry.as_ref().unwrap().path());
        target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    });
    (threads.count(), sockets.count())
}

#[test]
fn nothing_is_left_after_close() {
    run(async {
        let (_, before) = left();
        for _ in 0..3 {
            let Pair { relay, client, server, near, far } = pair().await;
            echo(&near, &far, "something").await;
            // A relay's four sockets, and each peer's own and the one for notices of network changes.
            assert_eq!(left(), (3, before + 8));
            client.close().await;
            server.close().await;
            relay.close().await;
            // Handles that still exist hold nothing open.
            assert_eq!(left(), (0, before));
            drop((relay, client, server, near, far));
        }
        // Without a word, too.
        drop(pair().await);
        while left() != (0, before) {
            pause(10).await;
        }
    });
}
