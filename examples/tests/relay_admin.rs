//! The relay's pages for its operator.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use common::{Folder, PATIENCE, PEER, Program, RELAY, run, serve, start};

/// A relay with an admin port, its URL, and where that is.
fn relay(folder: &Folder, flags: &[&str]) -> (Program, String, String) {
    let flags = [&["--listen", "127.0.0.1:0", "--admin", "0", "--json"], flags].concat();
    let mut relay = start(folder, RELAY, &flags);
    let url = relay.until("ready").pop().unwrap()["url"].as_str().unwrap().to_owned();
    // In whichever form the log is: its address is whole when a slash follows.
    let place =
        |errors: &str| Some(errors.split_once("status and metrics at http://")?.1.split_once('/')?.0.to_owned());
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(at) = place(&relay.errors()) {
            return (relay, url, at);
        }
        assert!(Instant::now() < deadline, "no admin port: {}", relay.errors());
        thread::sleep(Duration::from_millis(10));
    }
}

fn get(at: &str, path: &str) -> String {
    ask(at, "GET", path)
}

fn ask(at: &str, method: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(at).unwrap();
    socket
        .write_all(format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// The value of a metric, with its labels.
fn metric(at: &str, name: &str) -> Option<f64> {
    let metrics = get(at, "/metrics");
    let line = metrics.lines().find(|line| line.rsplit_once(' ').is_some_and(|(found, _)| found == name))?;
    line.rsplit_once(' ').unwrap().1.parse().ok()
}

/// Waits until a metric has this value: refusals are counted as their news arrive.
fn until_metric(at: &str, name: &str, value: f64) {
    let deadline = Instant::now() + PATIENCE;
    while metric(at, name) != Some(value) {
        assert!(Instant::now() < deadline, "{name} is {:?}, not {value}", metric(at, name));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn metrics_tell_of_peers_introductions_and_refusals_and_the_page_of_nobody_in_particular() {
    let folder = Folder::new();
    let (_relay, url, at) = relay(&folder, &["--https", "0"]);
    assert_eq!(metric(&at, "direc_peers"), Some(0.0));
    let (server, id) = serve(&folder, &url, &["--echo", "--allow", "any"]);
    assert_eq!(metric(&at, "direc_peers"), Some(1.0));
    let ended = run(&folder, PEER, &["--relay", &url, "--json", "--path", "relay", "ping", &id, "--count", "2"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(metric(&at, "direc_introductions_begun_total"), Some(1.0));
    assert_eq!(metric(&at, "direc_introductions_accepted_total"), Some(1.0));
    assert!(metric(&at, "direc_relayed_datagrams_total{way=\"udp\"}").unwrap() > 0.0);
    assert_eq!(metric(&at, "direc_relayed_datagrams_total{way=\"tunnel\"}"), Some(0.0));
    assert_eq!(metric(&at, "direc_direct_seconds_count"), Some(0.0));
    let nobody = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";
    run(&folder, PEER, &["--relay", &url, "ping", nobody]);
    until_metric(&at, "direc_refused_total{reason=\"no_such_peer\"}", 1.0);
    assert_eq!(metric(&at, "direc_https_connections"), Some(0.0));
    assert!(metric(&at, "direc_https_certificate_until_seconds") > Some(1e10), "a self-signed one is for long");

    let page = get(&at, "/");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("default-src 'none'"), "{page}");
    assert!(page.contains("id=\"peers\">1<") && page.contains("no such peer"), "{page}");
    assert!(!page.contains(&id) && !page.contains("127.0.0.1:") && !page.contains('{'.to_string().repeat(2).as_str()));
    assert!(get(&at, "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(get(&at, "/secrets").starts_with("HTTP/1.1 404 "));
    drop(server);
}

#[test]
fn an_introduction_that_is_over_within_a_minute_counts_as_not_known_and_not_as_relayed() {
    let folder = Folder::new();
    let (_relay, url, at) = relay(&folder, &[]);
    assert!(get(&at, "/").contains("none accepted yet"));
    let (_server, id) = serve(&folder, &url, &["--allow", "any"]);
    let ended = run(&folder, PEER, &["--relay", &url, "--path", "direct", "ping", &id, "--count", "1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    until_metric(&at, "direc_introductions_accepted_total", 1.0);
    assert_eq!(metric(&at, "direc_introductions_relayed_total"), Some(0.0));
    let page = get(&at, "/");
    assert!(page.contains("id=\"direct\">–<") && page.contains("not known of 1: it shows after a minute"), "{page}");
}

#[test]
fn head_is_answered_like_get_with_nothing_to_see() {
    let folder = Folder::new();
    let (_relay, _, at) = relay(&folder, &[]);
    for path in ["/healthz", "/readyz", "/", "/metrics", "/nowhere"] {
        let (get, head) = (get(&at, path), ask(&at, "HEAD", path));
        let line = |answer: &str| answer.lines().next().unwrap().to_owned();
        assert_eq!(line(&get), line(&head), "{path}");
        assert!(head.ends_with("\r\n\r\n") && head.matches("\r\n\r\n").count() == 1, "{path}: {head}");
        let names = |answer: &str| -> Vec<String> {
            let headers = answer.split_once("\r\n\r\n").unwrap().0.lines().skip(1);
            headers.map(|header| header.split_once(':').unwrap().0.to_owned()).collect()
        };
        assert_eq!(names(&get), names(&head), "{path}");
        assert!(names(&head).contains(&"Content-Length".to_owned()), "{head}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_is_measured_by_the_names_that_prometheus_has_for_it() {
    let folder = Folder::new();
    let (_relay, _, at) = relay(&folder, &[]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let of = |name: &str| metric(&at, &format!("process_{name}")).unwrap_or_else(|| panic!("no process_{name}"));
    assert!(of("resident_memory_bytes") > 1e6);
    assert!(of("open_fds") > 5.0 && of("open_fds") < of("max_fds"));
    assert!((of("start_time_seconds") - now).abs() < 3600.0);
    let before = of("cpu_seconds_total");
    assert!(before >= 0.0 && of("cpu_seconds_total") >= before);
    let metrics = get(&at, "/metrics");
    assert!(metrics.contains("# TYPE process_cpu_seconds_total counter\n"), "{metrics}");
    assert!(!metrics.contains("direc_process"), "{metrics}");
}

#[test]
fn the_log_has_a_line_when_a_client_comes_and_when_it_goes() {
    let folder = Folder::new();
    let (relay, url, _) = relay(&folder, &["--log-format", "json"]);
    let (server, id) = serve(&folder, &url, &["--allow", "any"]);
    let ended = run(&folder, PEER, &["--relay", &url, "--key", "client.key", "ping", &id, "--count", "1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let client = direc_smol::load_or_create_key(&folder.path("client.key")).unwrap().id().to_string();
    relay.until_said(&format!("left client {client}"));
    // Killed, it would be missed only after a while.
    server.interrupt();
    server.end();
    relay.until_said(&format!("left {id}"));
    let errors = relay.errors();
    let lines: Vec<serde_json::Value> = errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |event: &str, peer: &str| {
        let mine = lines.iter().filter(|line| line["event"] == event && line["peer"] == peer);
        mine.map(|line| line["listening"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    for event in ["registered", "left"] {
        assert_eq!((said(event, &client), said(event, &id)), (vec![false], vec![true]), "{event}: {errors}");
    }
}

#[test]
#[cfg(unix)]
fn a_relay_that_drains_is_healthy_but_not_ready() {
    let folder = Folder::new();
    let (relay, url, at) = relay(&folder, &["--drain-seconds", "3600"]);
    let (server, _) = serve(&folder, &url, &["--allow", "any"]);
    assert!(get(&at, "/readyz").starts_with("HTTP/1.1 200 "));
    relay.signal("TERM");
    relay.until_said("draining:");
    // A peer that has nowhere else to go stays.
    assert!(get(&at, "/readyz").starts_with("HTTP/1.1 503 "));
    assert!(get(&at, "/healthz").starts_with("HTTP/1.1 200 "));
    assert_eq!(metric(&at, "direc_draining"), Some(1.0));
    drop(server);
}

#[test]
fn an_admin_address_that_others_reach_must_be_meant() {
    let folder = Folder::new();
    let flags = ["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"];
    let ended = run(&folder, RELAY, &flags);
    assert_eq!(ended.code, Some(2), "{}", ended.errors);
    assert!(ended.errors.contains("admin.allow_remote"), "{}", ended.errors);
}

/// What the committed dashboard asks Prometheus for is there.
#[test]
fn every_metric_of_the_dashboard_exists() {
    let folder = Folder::new();
    let (_relay, _, at) = relay(&folder, &["--https", "0"]);
    let metrics = get(&at, "/metrics");
    let dashboard = include_str!("../deploy/grafana.json");
    serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: Vec<_> = dashboard.split(|c| !is_name(c)).filter(|word| word.starts_with("direc_")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(metrics.contains(&format!("# TYPE {family} ")), "{name} is not in {metrics}");
    }
}
