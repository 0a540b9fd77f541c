//! What README.md tells people to type and to paste does what it says.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{env, fs, path::Path, time::Duration};

use common::{DEMO, Folder, PEER, RELAY, run, start};
use direc_smol::{RelayOptions, RelayServer, ephemeral_key, load_or_create_key};

/// The library example, word for word.
#[allow(clippy::print_stderr, reason = "it is what the example does")]
mod library {
    include!("readme/library.rs");

    pub(crate) async fn serving(relay: RelayUrl) -> std::result::Result<(), String> {
        serve(relay).await.map_err(|error| error.to_string())
    }

    pub(crate) async fn greeting(relay: RelayUrl, id: NodeId) -> std::result::Result<Vec<u8>, String> {
        hello(relay, id).await.map_err(|error| error.to_string())
    }
}

/// More than what a run takes on a busy machine: whoever waits this long waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap()
}

/// The lines of all blocks that begin so.
fn blocks(text: &str, fence: &str) -> Vec<String> {
    let fence = format!("\n{fence}\n");
    text.split(&fence).skip(1).map(|rest| rest.split_once("\n```").unwrap().0.to_owned() + "\n").collect()
}

#[test]
fn the_library_example_is_the_one_that_is_tested() {
    let shown = blocks(&readme(), "```rust,no_run");
    assert_eq!(shown, [include_str!("readme/library.rs")]);
    assert!(!readme().contains("```rust\n"), "an example that nothing runs");
}

#[test]
fn the_library_example_loses_nothing_in_a_hundred_runs() {
    let folder = Folder::new();
    // Its key files are where the program is started.
    env::set_current_dir(folder.path("")).unwrap();
    let id = load_or_create_key("server.key".as_ref()).unwrap().id();
    for number in 0..100 {
        let story = async {
            let relay = RelayServer::bind(RelayOptions::new(ephemeral_key().unwrap(), "127.0.0.1:0".parse().unwrap()));
            let relay = relay.unwrap();
            let server = smol::spawn(library::serving(relay.url(None)));
            while relay.stats().registered == 0 {
                smol::Timer::after(Duration::from_millis(1)).await;
            }
            let answer = library::greeting(relay.url(None), id).await;
            assert_eq!(answer.as_deref(), Ok(&b"hello"[..]), "run {number}");
            server.cancel().await;
        };
        smol::block_on(smol::future::or(story, async {
            smol::Timer::after(PATIENCE).await;
            panic!("run {number} hangs");
        }));
    }
}

/// The commands of all shell blocks that run a program of this package, each with its program and its words.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let lines = blocks(text, "```sh").join("");
    let commands = lines.lines().filter_map(|line| line.strip_prefix("cargo run --release --bin "));
    commands
        .map(|line| {
            let line = line.split("  #").next().unwrap();
            let mut words = line.split_whitespace().map(str::to_owned).filter(|word| word != "--");
            (words.next().unwrap(), words.collect())
        })
        .collect()
}

/// Words with which a command ends soon.
fn in_short(command: &str) -> &'static [&'static str] {
    match command {
        "ping" => &["--count", "3", "--interval", "10"],
        "bench" => &["--bytes", "1M"],
        _ => &[],
    }
}

#[test]
fn the_commands_for_three_machines_work_one_after_the_other() {
    let folder = Folder::new();
    let (mut running, mut url, mut id) = (Vec::new(), None, None);
    let mut done = Vec::new();
    for (program, mut words) in commands(&readme()) {
        for word in &mut words {
            // This machine stands for all three, and none of its ports is fixed.
            match word.as_str() {
                "0.0.0.0:4433" => *word = "127.0.0.1:0".into(),
                "relay.example.org" => *word = "127.0.0.1".into(),
                "URL" => *word = Option::clone(&url).unwrap(),
                "ID" => *word = Option::clone(&id).unwrap(),
                _ => {}
            }
        }
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = |line: Option<Vec<u8>>| String::from_utf8(line.unwrap()).unwrap().trim().to_owned();
        match (program.as_str(), words.get(2).copied()) {
            ("demo", _) => {
                let ended = run(&folder, DEMO, &[&words[..], &["--bytes", "1M"]].concat());
                assert_eq!(ended.code, Some(0), "{}", ended.errors);
                done.push("demo".to_owned());
            }
            ("relay", _) => {
                let mut relay = start(&folder, RELAY, &words);
                url = Some(text(relay.line()));
                running.push(relay);
                done.push("relay".to_owned());
            }
            ("peer", Some("serve")) => {
                let key = folder.path("served.key");
                words.extend(["--key", key.to_str().unwrap()]);
                let mut server = start(&folder, PEER, &words);
                id = Some(text(server.line()));
                running.push(server);
                done.push("serve".to_owned());
            }
            ("peer", Some(command)) => {
                words.extend(in_short(command));
                let ended = run(&folder, PEER, &words);
                assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.errors);
                done.push(command.to_owned());
            }
            other => panic!("not known here: {other:?}"),
        }
    }
    assert_eq!(done, ["demo", "relay", "serve", "ping", "connect", "bench", "netcheck"]);
}
