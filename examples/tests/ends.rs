//! How the programs end: pipes that break, one connection and no more, and exit codes that tell the truth.

#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(unix)]

mod common;

use std::{
    fs,
    io::{Read, Write},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Folder, PATIENCE, PEER, Program, relay, run, serve, start};
use direc_smol::{Consent, NodeId, Peer, PeerOptions, ephemeral_key};

/// What a shell shows of a program that SIGPIPE has ended.
const SIGPIPE: Option<i32> = Some(141);

/// More than all windows and pipes on the way hold.
const BIG: usize = 48 << 20;

/// A program whose output the test reads itself, or does not.
struct Piped(Child);

impl Piped {
    fn start(folder: &Folder, arguments: &[&str], input: Stdio) -> Self {
        let mut command = Command::new(PEER);
        command.args(arguments).current_dir(folder.path("")).env("HOME", folder.path(""));
        command.env("XDG_CONFIG_HOME", folder.path("config")).env("XDG_DATA_HOME", folder.path("data"));
        let errors = fs::File::create(folder.path("errors")).unwrap();
        command.env_remove("DIREC_LOG").stdin(input).stdout(Stdio::piped()).stderr(errors);
        Self(command.spawn().unwrap())
    }

    fn stdout(&mut self) -> ChildStdout {
        self.0.stdout.take().unwrap()
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still runs");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `peer serve` that is a pipe's far end, and its ID.
fn pipe_end(folder: &Folder, url: &str, flags: &[&str]) -> (Program, String) {
    let arguments = [&["--relay", url, "--key", "server.key", "serve", "--allow", "any"], flags].concat();
    let mut server = start(folder, PEER, &arguments);
    let id = if flags.contains(&"--once") { id_in(|| server.errors()) } else { utf8(server.line().unwrap()) };
    (server, id.trim().into())
}

/// The ID, once standard error has it.
fn id_in(errors: impl Fn() -> String) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let errors = errors();
        if let Some(id) = errors.lines().find(|line| line.parse::<NodeId>().is_ok()) {
            return id.into();
        }
        assert!(Instant::now() < deadline, "no ID in {errors}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_reader_that_has_enough_ends_connect_in_the_middle_of_a_transfer() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (mut server, id) = serve(&folder, &url, &["--echo", "--allow", "any"]);
    fs::write(folder.path("big"), vec![7; BIG]).unwrap();
    let big = fs::File::open(folder.path("big")).unwrap();
    let mut client = Piped::start(&folder, &["--relay", &url, "connect", &id], big.into());
    let mut first = [0; 1000];
    let mut stdout = client.stdout();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    assert_eq!(client.end().code(), SIGPIPE);
    // The other side hears why, and is there for the next one.
    let closed = server.until("closed").pop().unwrap();
    assert!(closed["reason"].as_str().unwrap().contains("nobody reads"), "{closed}");
    let ended = run(&folder, PEER, &["--relay", &url, "--json", "ping", &id, "--count", "1"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
}

#[test]
fn a_reader_that_leaves_is_noticed_while_nothing_arrives() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (mut server, id) = serve(&folder, &url, &["--echo", "--allow", "any"]);
    // Its input stays open, and nothing comes from it.
    for flags in [&["--relay", &url, "connect", &id][..], &["--relay", &url, "--json", "connect", &id]] {
        let mut client = Piped::start(&folder, flags, Stdio::piped());
        let mut stdout = client.stdout();
        client.0.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        drop(stdout);
        assert_eq!(client.end().code(), SIGPIPE);
        server.until("closed");
    }
}

#[test]
fn a_reader_that_has_seen_enough_pings_ends_them_politely() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (mut server, id) = serve(&folder, &url, &["--allow", "any"]);
    let mut client = Piped::start(&folder, &["--relay", &url, "ping", &id, "--interval", "10"], Stdio::null());
    let mut stdout = client.stdout();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    assert_eq!(client.end().code(), SIGPIPE);
    let closed = server.until("closed").pop().unwrap();
    assert!(closed["reason"].as_str().unwrap().contains("nobody reads"), "{closed}");
}

#[test]
fn once_serves_one_connection_with_nothing_but_its_data_on_standard_output() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (mut server, id) = pipe_end(&folder, &url, &["--once"]);
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    server.stdin = None;
    let mut client = start(&folder, PEER, &["--relay", &url, "connect", &id]);
    client.write(&sent);
    let ended = client.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.output == sent, "{} bytes of {}: {}", ended.output.len(), sent.len(), ended.errors);
}

#[test]
fn once_carries_what_the_server_has_to_say_to_its_end() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (mut server, id) = pipe_end(&folder, &url, &["--once"]);
    let sent = vec![9; 1_000_000];
    let client = thread::scope(|scope| {
        // No more than fits into the pipe is taken before the client is there.
        scope.spawn(|| {
            server.write(&sent);
            server.stdin = None;
        });
        let client = start(&folder, PEER, &["--relay", &url, "connect", &id]);
        client.end()
    });
    assert_eq!(client.code, Some(0), "{}", client.errors);
    assert!(client.output == sent, "{} bytes of {}", client.output.len(), sent.len());
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn once_turns_others_away_and_says_when_its_one_connection_broke_off() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (mut server, id) = pipe_end(&folder, &url, &["--once"]);
    let mut first = start(&folder, PEER, &["--relay", &url, "connect", &id]);
    first.write(b"first\n");
    assert_eq!(server.line().unwrap(), b"first\n");
    let second = run(&folder, PEER, &["--relay", &url, "--key", "other.key", "connect", &id]);
    assert_eq!(second.code, Some(1));
    assert!(second.errors.contains("busy with another connection"), "{}", second.errors);
    // Not the end of what it had to say: whoever reads the server's output is to know.
    // Its input stays open: with the end of that, it would have said all.
    let input = first.stdin.take();
    first.interrupt();
    assert_eq!(first.end().code, Some(1));
    drop(input);
    let ended = server.end();
    assert_eq!((ended.code, ended.output), (Some(1), Vec::new()), "{}", ended.errors);
}

#[test]
fn two_pipes_never_interleave_and_the_second_is_told() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (mut server, id) = pipe_end(&folder, &url, &[]);
    server.stdin = None;
    let mut first = start(&folder, PEER, &["--relay", &url, "connect", &id]);
    first.write(b"from the first\n");
    assert_eq!(server.line().unwrap(), b"from the first\n");
    let mut second = start(&folder, PEER, &["--relay", &url, "--key", "other.key", "connect", &id]);
    second.write(b"from the second\n");
    let ended = second.end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("pipe is in use"), "{}", ended.errors);
    first.write(b"from the first again\n");
    assert_eq!(server.line().unwrap(), b"from the first again\n");
    assert_eq!(first.end().code, Some(0));
    let mut third = start(&folder, PEER, &["--relay", &url, "connect", &id]);
    third.write(b"from the third\n");
    assert_eq!(third.end().code, Some(0));
    assert_eq!(server.line().unwrap(), b"from the third\n");
}

#[test]
fn a_server_whose_reader_is_gone_ends_and_tells_its_client() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let arguments = ["--relay", &url, "--key", "server.key", "serve", "--once", "--allow", "any"];
    let mut server = Piped::start(&folder, &arguments, Stdio::null());
    let id = id_in(|| fs::read_to_string(folder.path("errors")).unwrap());
    let mut client = start(&folder, PEER, &["--relay", &url, "connect", &id]);
    client.write(b"x");
    let mut stdout = server.stdout();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    assert_eq!(server.end().code(), SIGPIPE);
    client.stdin = None;
    let ended = client.end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("nobody reads the output any more"), "{}", ended.errors);
}

#[test]
fn pings_without_an_answer_are_no_success() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    // It lets everybody in, and has nothing to say to anybody.
    let mut options = PeerOptions::new(ephemeral_key().unwrap(), url.parse().unwrap());
    options.consent = Consent::Any;
    let mute = smol::block_on(async {
        let mute = Peer::bind(options).await.unwrap();
        mute.registered().await.unwrap();
        mute
    });
    let id = mute.id().to_string();

    let mut client = start(&folder, PEER, &["--relay", &url, "--json", "ping", &id, "--interval", "10"]);
    client.until("connected");
    thread::sleep(Duration::from_millis(100));
    client.interrupt();
    let ended = client.end();
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert!(ended.errors.contains("before any answer"), "{}", ended.errors);

    let ended = run(&folder, PEER, &["--relay", &url, "ping", &id, "--interval", "10", "--count", "3"]);
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert!(ended.errors.contains("none of the pings was answered"), "{}", ended.errors);
}

#[test]
fn what_is_interrupted_before_it_has_begun_has_not_been_done() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    // Nobody listens at that port, so nothing is ever known.
    let nobody = format!("direc://127.0.0.1:9#{}", url.split('#').nth(1).unwrap());
    for command in [&["netcheck"][..], &["ping", &ephemeral_key().unwrap().id().to_string()], &["serve", "--yes"]] {
        let client = start(&folder, PEER, &[&["--relay", &nobody][..], command].concat());
        thread::sleep(Duration::from_millis(300));
        client.interrupt();
        let ended = client.end();
        assert_eq!(ended.code, Some(1), "{command:?}: {}", ended.errors);
        assert!(ended.errors.contains("interrupted"), "{command:?}: {}", ended.errors);
    }
}

#[test]
fn help_says_what_the_exit_codes_mean() {
    let folder = Folder::new();
    for program in [common::PEER, common::RELAY, common::DEMO] {
        let help = utf8(run(&folder, program, &["--help"]).output);
        let said = help.split("exit code").nth(1).unwrap();
        for code in ["0", "1", "2", "141"] {
            assert!(said.contains(code), "{code} in {said}");
        }
    }
    // A command line that makes no sense, and output that goes nowhere.
    assert_eq!(run(&folder, PEER, &["dance"]).code, Some(2));
}
