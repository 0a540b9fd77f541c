//! Runs the programs and listens to them, never longer than a few seconds.

#![allow(dead_code, reason = "each test file uses its share")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// No wait of these tests is longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const RELAY: &str = env!("CARGO_BIN_EXE_relay");
pub const PEER: &str = env!("CARGO_BIN_EXE_peer");
pub const DEMO: &str = env!("CARGO_BIN_EXE_demo");

/// A folder of the test's own, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("direc-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running program; killed when dropped.
pub struct Program {
    child: Child,
    pub stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    errors: Arc<Mutex<String>>,
    errors_end: Option<thread::JoinHandle<()>>,
    started: Instant,
}

/// Starts a program in the folder, with its user folders there, too.
pub fn start(folder: &Folder, program: &str, arguments: &[&str]) -> Program {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(&folder.0)
        .env("HOME", &folder.0)
        .env("XDG_CONFIG_HOME", folder.path("config"))
        .env("XDG_DATA_HOME", folder.path("data"))
        .env_remove("DIREC_LOG")
        .env_remove("https_proxy")
        .env_remove("HTTPS_PROXY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = channel();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        let mut line = Vec::new();
        while stdout.read_until(b'\n', &mut line).is_ok_and(|size| size > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                break;
            }
        }
    });
    let errors = Arc::new(Mutex::new(String::new()));
    let mut stderr = child.stderr.take().unwrap();
    let text = Arc::clone(&errors);
    let errors_end = Some(thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(size @ 1..) = stderr.read(&mut buffer) {
            text.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..size]));
        }
    }));
    let stdin = child.stdin.take();
    Program { child, stdin, lines, errors, errors_end, started: Instant::now() }
}

/// How a program ended.
pub struct Ended {
    pub code: Option<i32>,
    /// Standard output that nobody has read before.
    pub output: Vec<u8>,
    pub errors: String,
}

impl Program {
    /// The next line of standard output, with its end; `None` at the end.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line for {PATIENCE:?}; so far: {}", self.errors()),
        }
    }

    /// The next line, which must be a JSON object with an event.
    pub fn event(&mut self) -> Option<Value> {
        let line = self.line()?;
        let value: Value = serde_json::from_slice(&line)
            .unwrap_or_else(|e| panic!("{e} in {:?}; {}", String::from_utf8_lossy(&line), self.errors()));
        assert!(value["event"].is_string(), "{value}");
        Some(value)
    }

    /// Events up to the first one of this name, which comes last.
    pub fn until(&mut self, event: &str) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(value) = self.event() {
            let found = value["event"] == event;
            events.push(value);
            if found {
                return events;
            }
        }
        panic!("ended without {event}: {events:?}; {}", self.errors());
    }

    /// All events to the end.
    pub fn events(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.event()).collect()
    }

    pub fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ctrl-C.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// The signal of this name.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until standard error has these words.
    pub fn until_said(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.errors().contains(words) {
            assert!(Instant::now() < deadline, "no '{words}' in {}", self.errors());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ended {
        self.stdin = None;
        let code = self.wait().code();
        let output = std::iter::from_fn(|| self.line()).flatten().collect();
        self.errors_end.take().unwrap().join().unwrap();
        Ended { code, output, errors: self.errors() }
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still runs after {:?}: {}", self.started.elapsed(), self.errors());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, without input.
pub fn run(folder: &Folder, program: &str, arguments: &[&str]) -> Ended {
    start(folder, program, arguments).end()
}

/// A relay on ports that the system picks, and its URL.
pub fn relay(folder: &Folder) -> (Program, String) {
    relay_with(folder, &["--listen", "127.0.0.1:0"])
}

/// A relay with these flags, and its URL.
pub fn relay_with(folder: &Folder, flags: &[&str]) -> (Program, String) {
    let mut relay = start(folder, RELAY, &[flags, &["--json"]].concat());
    let ready = relay.until("ready").pop().unwrap();
    let url = ready["url"].as_str().unwrap().to_owned();
    (relay, url)
}

/// A serving peer with these flags, and its ID.
pub fn serve(folder: &Folder, url: &str, flags: &[&str]) -> (Program, String) {
    serve_at(folder, &[url], flags)
}

/// A serving peer at all these relays.
pub fn serve_at(folder: &Folder, urls: &[&str], flags: &[&str]) -> (Program, String) {
    let key = folder.path("server.key");
    let mut arguments: Vec<&str> = urls.iter().flat_map(|url| ["--relay", url]).collect();
    arguments.extend(["--key", text(&key), "--json", "serve"]);
    arguments.extend(flags);
    let mut server = start(folder, PEER, &arguments);
    let ready = server.until("ready").pop().unwrap();
    assert!(ready["ms"].as_f64().unwrap() > 0.0);
    let id = ready["id"].as_str().unwrap().to_owned();
    (server, id)
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The fields of a summary, all of which must be there.
pub fn check_summary(summary: &Value) {
    assert_eq!(summary["event"], "summary", "{summary}");
    let fields = [
        "connected_ms",
        "first_byte_ms",
        "direct_ms",
        "path",
        "rtt_ms",
        "sent",
        "lost",
        "bytes",
        "seconds",
        "longest_stall_ms",
    ];
    let object = summary.as_object().unwrap();
    for field in fields {
        assert!(object.contains_key(field), "no {field} in {summary}");
    }
    assert_eq!(object.len(), fields.len() + 1, "{summary}");
}
