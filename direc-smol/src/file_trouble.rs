//! What a person can do about a file that could not be read or written.

use std::{fmt, io, path::Path};

/// Words for a file that could not be used: what was tried, which file, what the system said, and what to do about it.
///
/// ```
/// # use std::{fs, path::Path};
/// let path = Path::new("/nowhere/relay.toml");
/// let error = fs::read(path).unwrap_err();
/// let words = direc_smol::FileTrouble { doing: "cannot read", path, error: &error }.to_string();
/// assert_eq!(words, "cannot read /nowhere/relay.toml: there is no such file or folder (is the path right?)");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FileTrouble<'a> {
    /// What was tried, as in "cannot read".
    pub doing: &'a str,
    /// The file or folder.
    pub path: &'a Path,
    /// What the system said.
    pub error: &'a io::Error,
}

impl fmt::Display for FileTrouble<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.doing, self.path.display())?;
        let words = match self.error.kind() {
            io::ErrorKind::NotFound => "there is no such file or folder (is the path right?)",
            io::ErrorKind::PermissionDenied => {
                "this user may not (change the owner or the mode of the file or of a folder above it, or name another path)"
            }
            io::ErrorKind::NotADirectory => "a part of the path is a file and no folder (is the path right?)",
            io::ErrorKind::IsADirectory => "it is a folder (name a file in it)",
            io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only (name a path on another one)",
            io::ErrorKind::StorageFull => "the disk is full (make room on it, or name a path on another one)",
            _ => return write!(f, "{}", self.error),
        };
        f.write_str(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_says_what_was_tried_with_which_file_and_what_to_do() {
        for (kind, words) in [
            (io::ErrorKind::NotFound, "is the path right?"),
            (io::ErrorKind::PermissionDenied, "change the owner"),
            (io::ErrorKind::NotADirectory, "no folder"),
            (io::ErrorKind::IsADirectory, "name a file"),
            (io::ErrorKind::ReadOnlyFilesystem, "another one"),
            (io::ErrorKind::StorageFull, "make room"),
        ] {
            let error = kind.into();
            let said = FileTrouble { doing: "cannot write", path: Path::new("a/b"), error: &error }.to_string();
            assert!(said.starts_with("cannot write a/b: ") && said.contains(words), "{said}");
        }
    }
}
