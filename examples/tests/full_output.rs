//! Standard output that takes nothing, as on a full disk: whoever sent what is lost there is told, and no exit code says
//! that all went well.

#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(target_os = "linux")]

mod common;

use std::{
    fs::{self, File, OpenOptions},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Folder, PATIENCE, PEER, RELAY, relay, serve, start};
use direc_smol::NodeId;

/// More than all windows and pipes on the way hold.
const BIG: usize = 48 << 20;

/// A program that writes into `/dev/full`; killed when dropped.
struct Full {
    child: Child,
    errors: std::path::PathBuf,
}

impl Full {
    fn start(folder: &Folder, program: &str, arguments: &[&str], input: Stdio) -> Self {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let errors = folder.path("full.errors");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder.path(""))
            .env("HOME", folder.path(""))
            .env("XDG_CONFIG_HOME", folder.path("config"))
            .env("XDG_DATA_HOME", folder.path("data"))
            .env_remove("DIREC_LOG")
            .stdin(input)
            .stdout(full)
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        Self { child, errors }
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }

    /// Its ID, once standard error has it.
    fn id(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(id) = self.errors().lines().find(|line| line.parse::<NodeId>().is_ok()) {
                return id.into();
            }
            assert!(Instant::now() < deadline, "no ID in {}", self.errors());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "still runs: {}", self.errors());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn big(folder: &Folder) -> Stdio {
    fs::write(folder.path("big"), vec![7; BIG]).unwrap();
    File::open(folder.path("big")).unwrap().into()
}

#[test]
fn who_sends_to_a_full_disk_is_told_that_it_did_not_arrive() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let arguments = ["--relay", &url, "--key", "server.key", "serve", "--once", "--allow", "any"];
    let mut server = Full::start(&folder, PEER, &arguments, Stdio::null());
    let mut client = start(&folder, PEER, &["--relay", &url, "connect", &server.id()]);
    // Less than a window: it has all gone before the other side says anything.
    client.write(&vec![7; 100_000]);
    let ended = client.end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.errors.contains("could not take all"), "{}", ended.errors);
    assert_eq!(server.end(), Some(1));
    assert!(server.errors().contains("cannot write to standard output"), "{}", server.errors());
}

#[test]
fn who_serves_a_file_to_a_full_disk_is_told_that_it_did_not_arrive() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let mut server = Command::new(PEER);
    server.args(["--relay", &url, "--key", "server.key", "serve", "--once", "--allow", "any"]);
    let errors = folder.path("server.errors");
    server.current_dir(folder.path("")).env("HOME", folder.path("")).stdin(big(&folder)).stdout(Stdio::null());
    server.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME").stderr(File::create(&errors).unwrap());
    let mut server = Full { child: server.spawn().unwrap(), errors };
    let mut client = Full::start(&folder, PEER, &["--relay", &url, "connect", &server.id()], Stdio::null());
    assert_eq!(client.end(), Some(1));
    assert!(client.errors().contains("cannot write to standard output"), "{}", client.errors());
    assert_eq!(server.end(), Some(1), "{}", server.errors());
    assert!(server.errors().contains("broken off"), "{}", server.errors());
}

#[test]
fn words_that_cannot_be_written_are_no_success() {
    let folder = Folder::new();
    let (_relay, url) = relay(&folder);
    let (_server, id) = serve(&folder, &url, &["--allow", "any"]);
    for (program, arguments) in [
        (RELAY, &["--sample-config"][..]),
        (RELAY, &["--help"]),
        (RELAY, &["token"]),
        (PEER, &["--help"]),
        (PEER, &["--relay", &url, "ping", &id, "--count", "2", "--interval", "10"]),
        (PEER, &["--relay", &url, "--json", "ping", &id, "--count", "2", "--interval", "10"]),
    ] {
        let mut program = Full::start(&folder, program, arguments, Stdio::null());
        assert_eq!(program.end(), Some(1), "{arguments:?}");
        assert!(program.errors().contains("cannot write to standard output"), "{arguments:?}: {}", program.errors());
    }
}
