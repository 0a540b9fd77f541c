//! Who was behind a name when it was first used: the file `known_names`, as ssh keeps `known_hosts`.
//!
//! One line a name, `RELAY-ID NAME PEER-ID`: a relay is its key, under whatever URL. Lines that are empty or begin with
//! `#` are a person's own.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use direc_smol::{FileTrouble, NodeId, PeerName};

use crate::failure::Failure;

/// Longest file that is read: some ten thousand names.
const MAX_FILE: u64 = 2 << 20;
/// How often, and how far apart, a file is tried that another process is writing: that takes milliseconds.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// A line's relay and name, and the peer behind them.
type Entry = ((NodeId, PeerName), NodeId);

/// The file's names, as they were when it was read.
#[derive(Debug)]
pub(super) struct Known {
    path: PathBuf,
    names: BTreeMap<(NodeId, PeerName), NodeId>,
}

impl Known {
    /// Reads the file; one that is not there knows no names.
    ///
    /// # Errors
    /// Names the file, the line, what is wrong with it and what was expected.
    pub(super) fn load(path: &Path) -> Result<Self, Failure> {
        // A link to a file elsewhere stays one when the file is written.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let names = parse(&path, &read(&path)?)?;
        Ok(Self { path, names })
    }

    /// Who was behind this name at the relay with this key.
    pub(super) fn get(&self, relay: NodeId, name: &PeerName) -> Option<NodeId> {
        self.names.get(&(relay, name.clone())).copied()
    }

    /// All of them: relay, name, peer.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &PeerName, NodeId)> {
        self.names.iter().map(|((relay, name), id)| (*relay, name, *id))
    }

    /// Writes down who is behind a name, unless that is known, and gives who is remembered now: somebody else if
    /// another process was faster.
    ///
    /// # Errors
    /// Names the file and what could not be done.
    pub(super) fn remember(&mut self, relay: NodeId, name: &PeerName, id: NodeId) -> Result<NodeId, Failure> {
        self.change(|text, names| {
            (!names.contains_key(&(relay, name.clone()))).then(|| {
                let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
                format!("{text}{end}{relay} {name} {id}\n")
            })
        })?;
        Ok(self.get(relay, name).unwrap_or(id))
    }

    /// Strikes a name out, and gives who was behind it.
    ///
    /// # Errors
    /// Names the file and what could not be done.
    pub(super) fn forget(&mut self, relay: NodeId, name: &PeerName) -> Result<Option<NodeId>, Failure> {
        let mut known = None;
        self.change(|text, names| {
            known = names.get(&(relay, name.clone())).copied();
            let other =
                |line: &&str| !matches!(entry(line), Ok(Some(((at, called), _))) if at == relay && called == *name);
            known.is_some().then(|| text.split_inclusive('\n').filter(other).collect())
        })?;
        Ok(known)
    }

    /// Puts in the file's place what `edit` makes of it; `None` leaves it as it is.
    ///
    /// The lock is the new file itself, as git does it: who makes it is alone, reads what the last one has written, and
    /// gives it the old one's name when it is complete. (`File::lock` would need Rust 1.89.)
    fn change(
        &mut self,
        edit: impl FnOnce(&str, &BTreeMap<(NodeId, PeerName), NodeId>) -> Option<String>,
    ) -> Result<(), Failure> {
        let lock = Lock::take(&self.path)?;
        let text = read(&self.path)?;
        let names = parse(&self.path, &text)?;
        self.names = match edit(&text, &names) {
            Some(text) => {
                lock.replace(&self.path, &text)?;
                parse(&self.path, &text)?
            }
            None => names,
        };
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error: &dyn Display| Failure::new(format!("cannot read {}", path.display()), error);
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(trouble("cannot read", path, &error)),
        // Before it is opened: a pipe or a device could keep the open call waiting.
        Ok(metadata) if !metadata.is_file() => {
            return Err(failed(&"it is a folder or a device, and a file of names is expected (move it away)"));
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| trouble("cannot read", path, &error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(&format!("it is longer than {MAX_FILE} bytes, so hardly a file of names (move it away)")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        bad(path, line, "it is not UTF-8")
    })
}

fn trouble(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::of(FileTrouble { doing, path, error })
}

/// A line that a person has to mend.
fn bad(path: &Path, line: usize, why: impl Display) -> Failure {
    let path = path.display();
    Failure::Failed(format!("cannot read {path}, line {line}: {why} (correct the line, or remove it)"))
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<(NodeId, PeerName), NodeId>, Failure> {
    let mut names = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let Some((key, id)) = entry(line).map_err(|why| bad(path, index + 1, why))? else { continue };
        let name = key.1.clone();
        if names.insert(key, id).is_some() {
            return Err(bad(path, index + 1, format!("'{name}' at this relay stands further up already")));
        }
    }
    Ok(names)
}

/// What a line says; `None` if it is a person's own.
fn entry(line: &str) -> Result<Option<Entry>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let [relay, name, id] = words[..] else {
        return Err(format!("expected RELAY-ID NAME PEER-ID, found {} words", words.len()));
    };
    let as_id = |text: &str, which| text.parse().map_err(|why| format!("{which} '{text}': {why}"));
    let called = name.parse().map_err(|why| format!("NAME '{name}': {why}"))?;
    Ok(Some(((as_id(relay, "RELAY-ID")?, called), as_id(id, "PEER-ID")?)))
}

/// The file that is to be, which only one process can make.
struct Lock {
    path: PathBuf,
    file: File,
    /// It has the old one's name: what is called `path` from then on is another process's.
    placed: bool,
}

impl Lock {
    fn take(path: &Path) -> Result<Self, Failure> {
        let folder = path.parent().unwrap_or(Path::new("."));
        make_folders(folder).map_err(|error| trouble("cannot make the folder", folder, &error))?;
        let lock = path.with_extension("lock");
        for _ in 0..TRIES {
            match new_file(&lock) {
                Ok(file) => return Ok(Self { path: lock, file, placed: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => thread::sleep(PAUSE),
                Err(error) => return Err(trouble("cannot make", &lock, &error)),
            }
        }
        let waited = PAUSE * TRIES;
        Err(Failure::Failed(format!(
            "cannot write {}: {} has been there for {} s; if no other peer is running, one was killed while it wrote: remove it",
            path.display(),
            lock.display(),
            waited.as_secs()
        )))
    }

    /// Whoever reads finds the old text or the new one, also after a power cut.
    fn replace(mut self, path: &Path, text: &str) -> Result<(), Failure> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        let placed = written.and_then(|()| fs::rename(&self.path, path));
        self.placed = placed.is_ok();
        placed.map_err(|error| trouble("cannot write", path, &error))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// For the owner's eyes only: whom somebody talks to is nobody else's business.
fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn make_folders(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests;
