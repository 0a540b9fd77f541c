//! The figures as Prometheus reads them (text format 0.0.4). What each means stands in docs/operating.md.

use std::fmt::Write as _;

use direc_smol::DirectTimes;

use super::{Figures, process::Process};

/// The format's content type.
pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
pub(super) fn written(figures: &Figures) -> String {
    let (relay, mut text) = (&figures.relay, Text::default());
    text.one(
        "build_info",
        "gauge",
        "1, with the version.",
        concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
        1,
    );
    text.one("up_seconds", "gauge", "Seconds since the start.", "", figures.up.as_secs());
    text.one("draining", "gauge", "1 while the relay asks to be left.", "", u64::from(relay.draining));
    text.one("peers", "gauge", "Peers that are registered.", "", relay.registered as u64);
    text.one("connections", "gauge", "QUIC connections.", "", relay.connections as u64);
    text.one("tunnels", "gauge", "Tunnels that are open.", "", relay.tunnels as u64);
    text.one("introductions", "gauge", "Introductions that are open.", "", relay.introductions as u64);
    text.one("introductions_begun_total", "counter", "Introductions begun.", "", relay.introductions_begun);
    text.one("introductions_accepted_total", "counter", "Introductions accepted.", "", relay.introductions_accepted);
    direct(&mut text, &relay.direct);
    let relayed = relay.direct.relayed();
    text.one("introductions_relayed_total", "counter", "Still relayed a minute after consent.", "", relayed);
    let by_way =
        |all: u64, tunnelled| [("udp".to_owned(), all.saturating_sub(tunnelled)), ("tunnel".to_owned(), tunnelled)];
    let datagrams = by_way(relay.relayed_datagrams, relay.tunnelled_datagrams);
    text.many("relayed_datagrams_total", "Packets relayed.", "way", datagrams);
    let bytes = by_way(relay.relayed_bytes, relay.tunnelled_bytes);
    text.many("relayed_bytes_total", "Bytes relayed.", "way", bytes);
    text.many("dropped_datagrams_total", "Datagrams dropped.", "reason", figures.drops.clone());
    text.many("refused_total", "Registrations and introductions refused.", "reason", figures.refusals.clone());
    text.one("send_failures_total", "counter", "Datagrams that the system would not send.", "", figures.send_failures);
    if let Some(https) = &figures.https {
        text.one("https_connections", "gauge", "TCP connections to the HTTPS port.", "", https.connections);
        text.one("https_connections_taken_total", "counter", "Such connections, ever.", "", https.taken);
        text.one("https_crowded_out_total", "counter", "Closed for want of a place.", "", https.crowded_out);
        text.one("https_failed_total", "counter", "Slow, broken off, or not understood.", "", https.failed);
    }
    if let Some(until) = figures.certificate_until {
        text.one("https_certificate_until_seconds", "gauge", "When the certificate runs out, since 1970.", "", until);
    }
    process(&mut text, &figures.process);
    text.0
}

/// By the names that every Prometheus client library gives them.
fn process(text: &mut Text, process: &Process) {
    if let Some(seconds) = process.cpu_seconds {
        text.head("process_cpu_seconds_total", "counter", "User and system CPU time, in seconds.");
        text.sample("process_cpu_seconds_total", seconds);
    }
    let gauges = [
        ("process_resident_memory_bytes", "Resident memory, in bytes.", process.resident_bytes),
        ("process_open_fds", "Open file descriptors.", process.open_fds),
        ("process_max_fds", "File descriptors that may be open at once.", process.max_fds),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            text.head(name, "gauge", help);
            text.sample(name, value);
        }
    }
    text.head("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.");
    text.sample("process_start_time_seconds", process.started);
}

fn direct(text: &mut Text, times: &DirectTimes) {
    let name = "direc_direct_seconds";
    text.head(name, "histogram", "From consent to the last relayed packet, of introductions that went direct.");
    let mut count = 0;
    for (bound, here) in DirectTimes::BOUNDS.iter().zip(times.counts()) {
        count += here;
        text.sample(&format!("{name}_bucket{{le=\"{}\"}}", *bound as f64 / 1e3), count);
    }
    text.sample(&format!("{name}_bucket{{le=\"+Inf\"}}"), times.total());
    text.sample(&format!("{name}_sum"), times.sum().as_secs_f64());
    text.sample(&format!("{name}_count"), times.total());
}

/// Before the relay's own names.
const OURS: &str = "direc_";

#[derive(Default)]
struct Text(String);

impl Text {
    fn one(&mut self, name: &str, kind: &str, help: &str, labels: &str, value: u64) {
        self.head(&format!("{OURS}{name}"), kind, help);
        self.sample(&format!("{OURS}{name}{labels}"), value);
    }

    /// A counter with a label.
    fn many(&mut self, name: &str, help: &str, label: &str, values: impl IntoIterator<Item = (String, u64)>) {
        self.head(&format!("{OURS}{name}"), "counter", help);
        for (of, value) in values {
            self.sample(&format!("{OURS}{name}{{{label}=\"{of}\"}}"), value);
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }
}
