//! Where keys and data live unless the command line says otherwise (XDG Base Directory Specification 0.8).

use std::{
    env,
    path::{Path, PathBuf},
};

use direc_smol::{KeyFileError, make_private_folder};

use crate::out::Out;

/// The peer's key: in the user's folder for settings, else here.
pub fn peer_key() -> PathBuf {
    folder("XDG_CONFIG_HOME", ".config").unwrap_or_else(|| PathBuf::from("direc-data")).join("peer.key")
}

/// The relay's folder: in the user's folder for data, else here.
pub fn relay_data() -> PathBuf {
    folder("XDG_DATA_HOME", ".local/share").unwrap_or_else(|| PathBuf::from("direc-data"))
}

/// Whom names stood for when the peer first used them: beside other data, since the peer writes it.
pub fn known_names() -> PathBuf {
    relay_data().join("known_names")
}

/// A file of those above, and its folder made if it is missing, which is said. Folders that a person names are not made
/// so: they may be mistyped.
///
/// # Errors
/// Names the folder.
pub fn made(file: PathBuf, out: Out) -> Result<PathBuf, KeyFileError> {
    if let Some(folder) = file.parent()
        && make_private_folder(folder)?
    {
        out.note(&format!("made the folder {} for this peer's key: it was not there", folder.display()));
    }
    Ok(file)
}

/// The specification has relative paths ignored.
fn folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(variable).or_else(|| Some(absolute("HOME")?.join(Path::new(below_home))))?;
    Some(base.join("direc"))
}
