//! Keys in files: PKCS#8 in PEM (RFC 7468), for the eyes of their owner only.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use direc_core::{AccessToken, Identity, TOKEN_LEN};
use rcgen::{KeyPair, PKCS_ED25519};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use crate::KeyFileError;

/// Longest key file that is read: ten times what a key with comments around it takes.
const MAX_FILE: u64 = 16 << 10;

/// Reads the key file at `path`, and makes one if there is none.
///
/// A new file appears whole or not at all, readable by its owner only, and never replaces another: two programs that
/// start at once end up with the same key. Its folder must exist ([`make_private_folder`]): a mistyped path is an error.
///
/// # Errors
/// [`KeyFileError`] says what is wrong with the file. A file that holds a key and that others can read or write is refused.
pub fn load_or_create_key(path: &Path) -> Result<Identity, KeyFileError> {
    match fs::metadata(path) {
        Ok(_) => load(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        Err(error) => Err(at(path, "cannot read", error)),
    }
}

/// Makes a folder for keys, for its owner only, and those above it that are missing. Gives whether it is new.
///
/// # Errors
/// [`KeyFileError::Io`] names the folder.
pub fn make_private_folder(path: &Path) -> Result<bool, KeyFileError> {
    if path.is_dir() {
        return Ok(false);
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map(|()| true).map_err(|error| at(path, "cannot make the folder", error))
}

/// A fresh key that is stored nowhere.
///
/// # Errors
/// [`KeyFileError::Generate`] if the system gives no randomness.
pub fn ephemeral_key() -> Result<Identity, KeyFileError> {
    let pair = generate()?;
    Identity::from_pkcs8(&pair.serialize_der()).map_err(|error| KeyFileError::Generate(error.to_string()))
}

/// A new token by which a relay's operator lets peers in.
///
/// # Errors
/// [`KeyFileError::Generate`] if the system gives no randomness.
pub fn new_token() -> Result<AccessToken, KeyFileError> {
    let mut bytes = [0; TOKEN_LEN];
    getrandom::fill(&mut bytes).map_err(|error| KeyFileError::Generate(error.to_string()))?;
    Ok(AccessToken::from_random(bytes))
}

fn generate() -> Result<KeyPair, KeyFileError> {
    KeyPair::generate_for(&PKCS_ED25519).map_err(|error| KeyFileError::Generate(error.to_string()))
}

fn at(path: &Path, doing: &'static str, error: io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.to_owned(), doing, error }
}

fn load(path: &Path) -> Result<Identity, KeyFileError> {
    let read = |error| at(path, "cannot read", error);
    // Before it is opened: a pipe or a device could keep the open call waiting.
    if !fs::metadata(path).map_err(read)?.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(read)?;
    if text.len() as u64 > MAX_FILE {
        return Err(KeyFileError::TooLong { path: path.to_owned() });
    }
    let der = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| KeyFileError::NotPem { path: path.to_owned() })?;
    let identity = Identity::from_pkcs8(der.secret_pkcs8_der())
        .map_err(|error| KeyFileError::Key { path: path.to_owned(), error })?;
    // Only now: the mode of a file that is no key file is nobody's business here.
    check_exposure(path, &metadata)?;
    Ok(identity)
}

#[cfg(unix)]
fn check_exposure(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyFileError> {
    use std::os::unix::fs::MetadataExt;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_exposure(_path: &Path, _metadata: &fs::Metadata) -> Result<(), KeyFileError> {
    Ok(())
}

fn create(path: &Path) -> Result<Identity, KeyFileError> {
    store(path, &generate()?.serialize_pem())?;
    load(path)
}

/// Makes a file with this secret text, for the eyes of its owner only, unless there is one by now. Its folder must exist.
pub(crate) fn store(path: &Path, text: &str) -> Result<(), KeyFileError> {
    check_folder_of(path)?;
    let draft = draft_path(path)?;
    let placed = write_new(&draft, text.as_bytes())
        .map_err(|error| at(&draft, "cannot write", error))
        .and_then(|()| place(&draft, path, text.as_bytes()).map_err(|error| at(path, "cannot make", error)));
    let removed = fs::remove_file(&draft);
    placed?;
    removed.map_err(|error| at(&draft, "cannot remove", error))
}

/// The same in place of the file that there was, if any: what can be read is whole, the old one or the new one. Its folder
/// is made.
#[cfg(feature = "acme")]
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), KeyFileError> {
    path.parent().map(make_private_folder).transpose()?;
    let draft = draft_path(path)?;
    let placed = write_new(&draft, text.as_bytes())
        .map_err(|error| at(&draft, "cannot write", error))
        .and_then(|()| fs::rename(&draft, path).map_err(|error| at(path, "cannot replace", error)));
    if placed.is_err() {
        let _ = fs::remove_file(&draft);
    }
    placed
}

/// Makes a file with an ECDSA key as TLS and ACME have them, unless there is one. Its folder is made.
#[cfg(feature = "acme")]
pub(crate) fn store_ecdsa_key(path: &Path) -> Result<(), KeyFileError> {
    if path.exists() {
        return Ok(());
    }
    let failed = |error: rcgen::Error| KeyFileError::Generate(error.to_string());
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    path.parent().map(make_private_folder).transpose()?;
    store(path, &pair.serialize_pem())
}

/// A name beside `path` that no other program uses.
fn draft_path(path: &Path) -> Result<PathBuf, KeyFileError> {
    let random = getrandom::u64().map_err(|error| KeyFileError::Generate(error.to_string()))?;
    let mut name = path.file_name().ok_or_else(|| KeyFileError::NotAFile { path: path.to_owned() })?.to_owned();
    name.push(format!(".{random:016x}.new"));
    Ok(path.with_file_name(name))
}

/// Gives the draft its name, unless another program was faster: a link never replaces a file, and what it names is
/// complete.
fn place(draft: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let there = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
    let placed = match fs::hard_link(draft, path) {
        Err(error) if there(&error) => Ok(()),
        // A file system without links.
        Err(_) => write_new(path, bytes),
        Ok(()) => Ok(()),
    };
    placed.or_else(|error| if there(&error) { Ok(()) } else { Err(error) })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn check_folder_of(path: &Path) -> Result<(), KeyFileError> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => {
            Err(KeyFileError::NoFolder { path: path.to_owned(), folder: folder.to_owned() })
        }
        _ => Ok(()),
    }
}
