//! Keys in files: made once, kept to oneself, or refused with a reason.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, thread};

use direc_smol::{IdError, KeyFileError, ephemeral_key, load_or_create_key, make_private_folder};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_is_made_once_and_read_ever_after() {
    let folder = folder();
    let path = folder.path().join("keys/peer.key");
    assert!(make_private_folder(path.parent().unwrap()).unwrap());
    let made = load_or_create_key(&path).unwrap();
    assert_eq!(load_or_create_key(&path).unwrap().id(), made.id());
    assert_ne!(ephemeral_key().unwrap().id(), made.id());
    // And nothing else lies about.
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn programs_that_start_at_once_get_the_same_key() {
    let folder = folder();
    let path = folder.path().join("peer.key");
    let ids: Vec<_> = thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| load_or_create_key(&path).unwrap().id())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::MetadataExt;
    let folder = folder();
    let path = folder.path().join("new/keys/peer.key");
    assert!(make_private_folder(path.parent().unwrap()).unwrap());
    assert!(!make_private_folder(path.parent().unwrap()).unwrap(), "it is there already");
    load_or_create_key(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    for folder in [path.parent().unwrap(), &folder.path().join("new")] {
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o7777, 0o700);
    }
}

#[test]
fn a_mistyped_path_is_an_error_and_makes_no_folders() {
    let folder = folder();
    let path = folder.path().join("mistyped/folder/peer.key");
    let error = load_or_create_key(&path).unwrap_err();
    let missing = folder.path().join("mistyped/folder");
    assert!(matches!(&error, KeyFileError::NoFolder { folder, .. } if *folder == missing), "{error}");
    assert!(error.to_string().contains(&format!("the folder {} does not exist", missing.display())), "{error}");
    assert!(!folder.path().join("mistyped").exists());
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_is_refused_with_the_cure() {
    let folder = folder();
    let path = folder.path().join("peer.key");
    load_or_create_key(&path).unwrap();
    for mode in [0o644, 0o640, 0o602] {
        set_mode(&path, mode);
        let error = load_or_create_key(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Exposed { mode: found, .. } if found == mode));
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
    }
    set_mode(&path, 0o400);
    load_or_create_key(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn what_is_no_key_file_is_named() {
    let folder = folder();
    let path = folder.path().join("thing");
    // Others may read it, as they may read most files that are no keys: nobody is to change that.
    let write = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        set_mode(&path, 0o644);
    };

    assert!(matches!(load_or_create_key(folder.path()), Err(KeyFileError::NotAFile { .. })));
    assert!(matches!(load_or_create_key(Path::new("/dev/null")), Err(KeyFileError::NotAFile { .. })));
    for bytes in [b"".as_slice(), b"hello", &[0xff; 300], b"-----BEGIN PRIVATE KEY-----\nAAAA"] {
        write(bytes);
        let error = load_or_create_key(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::NotPem { .. }), "{bytes:?}");
        let text = error.to_string();
        assert!(text.contains("is not a key file") && !text.contains("chmod"), "{text}");
    }
    write(&vec![b'#'; 1 << 20]);
    assert!(matches!(load_or_create_key(&path), Err(KeyFileError::TooLong { .. })));
    write(b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n");
    assert!(matches!(load_or_create_key(&path), Err(KeyFileError::Key { error: IdError::NotEd25519, .. })));

    let below_a_file = path.join("peer.key");
    assert!(matches!(load_or_create_key(&below_a_file), Err(KeyFileError::Io { .. })));
    assert!(load_or_create_key(Path::new("/proc/no-such-folder/peer.key")).is_err());
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = folder();
    let path = folder.path().join("peer.key");
    load_or_create_key(&path).unwrap();
    set_mode(&path, 0o000);
    // Root reads what it likes.
    if fs::File::open(&path).is_err() {
        let error = load_or_create_key(&path).unwrap_err();
        assert!(error.to_string().contains("peer.key"), "{error}");
    }
    assert!(fs::metadata(&path).is_ok());
}
