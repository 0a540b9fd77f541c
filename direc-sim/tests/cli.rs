//! The command line: what it prints, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::process::{Command, Output};

fn sim(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_direc-sim")).args(line.split_whitespace()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_timeline_tells_all_steps_within_a_terminal_s_80_columns() {
    for line in ["--seed 3", "--ask --delays 10,20,25", "--a sym --b double --loss 0.05 --jitter 3"] {
        let output = sim(line);
        assert!(output.status.success(), "{line}");
        let text = out(&output);
        let wide = text.lines().find(|row| row.chars().count() > 80);
        assert_eq!(wide, None, "{line}");
        assert!(text.contains("bound"), "{line}");
        let missing: Vec<String> =
            (1..=11).map(|n| format!("● S{n} ")).filter(|step| !text.contains(step.as_str())).collect();
        assert!(missing.is_empty(), "{line}: {missing:?}\n{text}");
    }
    let text = out(&sim("--seed 3"));
    assert!(text.contains("● S12 ") && text.contains("● S13 ") && text.contains("1.000 × bound"), "{text}");
    let parties = ["P2", "P3", "P4"].into_iter().find(|party| text.contains(party));
    assert_eq!(parties, None, "people read of client, relay and server: {text}");
}

#[test]
fn help_and_version_end_well_and_speak_of_client_and_server() {
    for (line, words) in [("--help", "--sender client|server"), ("matrix --help", "client-relay")] {
        let output = sim(line);
        let text = out(&output);
        assert!(output.status.success() && text.contains(words), "{line}: {text}");
        for word in ["P2", "P3", "P4", "the seed's"] {
            assert!(!text.contains(word), "{line} says {word}");
        }
    }
    for line in ["--version", "-V", "matrix --version", "week -V"] {
        let output = sim(line);
        let version = concat!("direc-sim ", env!("CARGO_PKG_VERSION"), "\n");
        assert!(output.status.success() && out(&output) == version, "{line}: {}", out(&output));
    }
}

#[test]
fn json_is_one_object_a_line_and_nothing_else() {
    let output = sim("--json --loss 0.05 --bytes 5000");
    assert!(output.status.success() && output.stderr.is_empty());
    let text = out(&output);
    assert!(text.lines().count() > 50);
    assert!(text.lines().all(|line| line.starts_with("{\"event\":\"") && line.ends_with('}')));
    assert!(text.lines().last().unwrap().contains("\"event\":\"summary\""));
}

#[test]
fn mistakes_are_named_and_end_with_2() {
    for (line, words) in [("--loss 3", "--loss"), ("--a cone", "--a"), ("--quick", "--quick"), ("walk", "walk")] {
        let output = sim(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(output.stdout.is_empty());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(words) && text.contains("expected") || text.contains("--help"), "{line}: {text}");
    }
}

#[test]
fn a_run_that_fails_ends_with_1_and_says_why() {
    let output = sim("--a udp-blocked");
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("relay unreachable"));
}

#[test]
fn all_bounds_are_kept() {
    let output = sim("bound");
    let text = out(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.lines().filter(|line| line.ends_with(" ok")).count() >= 60 && !text.contains("NOT"), "{text}");
}

#[test]
fn speed_counts_introductions() {
    let output = sim("speed --introductions 20 --json");
    assert!(output.status.success());
    assert!(out(&output).contains("\"introductions\":20,\"direct\":20,"));
}

#[test]
fn a_capture_is_written_with_its_secrets() {
    let path = std::env::temp_dir().join(format!("direc-sim-{}.pcapng", std::process::id()));
    let output = sim(&format!("--pcap {}", path.display()));
    assert!(output.status.success());
    let file = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    let secrets = String::from_utf8_lossy(&file);
    for name in ["CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0", "direc-sim", "inside the relay"] {
        assert!(secrets.contains(name), "{name}");
    }
    let output = sim("--pcap /nowhere/at/all");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn faults_tells_each_row_its_limit_and_how_to_see_the_worst_again() {
    let output = sim("faults --fault blocked-back --seeds 2 --json");
    let text = out(&output);
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    assert_eq!(text.lines().count(), 2, "without loss and with");
    assert!(text.lines().all(|line| line.contains("\"trials\":4,") && line.contains("\"limit_ms\":600,")), "{text}");
    let output = sim("faults --fault relay-killed --loss 0 --sender server --seed 5 --seeds 1");
    let text = out(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("worst: direc-sim faults --fault relay-killed --loss 0 --sender server --seed 5 --seeds 1"));
    assert!(text.contains("fault at "), "one trial is told as a story: {text}");
}

#[test]
fn goodput_has_a_row_for_each_pair_of_rates() {
    let output = sim("goodput --seeds 1 --sender client --json");
    let text = out(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(
        text.lines().filter(|line| line.contains("\"mbps_100_300\":") && line.contains("\"moved\":1")).count(),
        4
    );
}

#[test]
fn conform_says_what_becomes_of_each_packet_and_names_what_it_cannot_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance");
    let output = sim(&format!("conform {folder}/clash.script --a clash"));
    let text = out(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("== clash\n") && text.contains("> h1:4030@r1:7001: dropped\n"), "{text}");
    for (line, words) in [("conform", "file"), ("conform /nowhere", "/nowhere"), ("conform README.md", "README.md")] {
        let output = sim(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(words), "{line}");
    }
}

#[test]
fn matrix_tells_each_cell_and_writes_its_page() {
    let path = std::env::temp_dir().join(format!("direc-sim-{}.html", std::process::id()));
    let line = format!("matrix --kinds easy,clash --seeds 3 --loss 0 --threads 1 --out {}", path.display());
    let output = sim(&line);
    let text = out(&output);
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    assert!(text.contains("direct, without guessing") && text.ends_with("all limits kept\n"), "{text}");
    let page = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert_eq!(sim("matrix --kinds cone").status.code(), Some(2));
}
