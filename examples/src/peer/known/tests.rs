use std::sync::{Arc, Barrier};

use tempfile::TempDir;

use super::*;

fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

/// A file with this text, in a folder that goes with the test.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("known_names");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn what_is_remembered_is_there_for_the_next_process_and_at_its_relay_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("not").join("there").join("known_names");
    let mut known = Known::load(&path).unwrap();
    assert_eq!(known.get(id(1), &name("office")), None);
    assert_eq!(known.remember(id(1), &name("office"), id(10)).unwrap(), id(10));
    assert_eq!(known.remember(id(2), &name("office"), id(20)).unwrap(), id(20));

    let known = Known::load(&path).unwrap();
    assert_eq!(known.get(id(1), &name("office")), Some(id(10)));
    assert_eq!(known.get(id(2), &name("office")), Some(id(20)));
    assert_eq!(known.get(id(1), &name("home")), None);
    assert_eq!(known.iter().count(), 2);
}

#[test]
fn the_first_process_to_remember_is_right() {
    let (_folder, path) = file("");
    let (mut first, mut second) = (Known::load(&path).unwrap(), Known::load(&path).unwrap());
    assert_eq!(first.remember(id(1), &name("office"), id(10)).unwrap(), id(10));
    assert_eq!(second.remember(id(1), &name("office"), id(11)).unwrap(), id(10));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{} office {}\n", id(1), id(10)));
}

#[test]
fn other_lines_and_comments_stay_as_they_are() {
    let before = format!("# mine\n\n  {} home\t{} \n{} office {}", id(1), id(9), id(1), id(10));
    let (_folder, path) = file(&before);
    let mut known = Known::load(&path).unwrap();
    known.remember(id(1), &name("attic"), id(11)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{before}\n{} attic {}\n", id(1), id(11)));

    assert_eq!(known.forget(id(1), &name("attic")).unwrap(), Some(id(11)));
    assert_eq!(known.forget(id(1), &name("office")).unwrap(), Some(id(10)));
    assert_eq!(known.get(id(1), &name("office")), None);
    assert_eq!(known.forget(id(2), &name("home")).unwrap(), None);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("# mine\n\n  {} home\t{} \n", id(1), id(9)));
}

#[test]
fn what_is_wrong_with_a_line_is_said_with_its_number_and_nothing_is_written_over_it() {
    let good = format!("{} office {}", id(1), id(10));
    for (line, words) in [
        ("garbage".into(), "line 3: expected RELAY-ID NAME PEER-ID, found 1 words"),
        (format!("{good} # at work"), "line 3: expected RELAY-ID NAME PEER-ID, found 6 words"),
        (format!("{} office abc", id(2)), "line 3: PEER-ID 'abc': not an ID"),
        (format!("abc office {}", id(2)), "line 3: RELAY-ID 'abc': not an ID"),
        (format!("{} Office {}", id(2), id(3)), "line 3: NAME 'Office': not a name"),
        (format!("{} {} {}", id(2), id(3), id(3)), "not a name"),
        (format!("{} office {}", id(1), id(11)), "line 3: 'office' at this relay stands further up already"),
    ] {
        let text = format!("# names\n{good}\n{line}\n");
        let (_folder, path) = file(&format!("# names\n{good}\n"));
        let mut known = Known::load(&path).unwrap();
        fs::write(&path, &text).unwrap();
        for failure in [Known::load(&path).unwrap_err(), known.remember(id(1), &name("home"), id(9)).unwrap_err()] {
            let said = failure.to_string();
            assert!(said.contains("known_names, line 3: ") && said.contains(words), "no '{words}' in {said}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(!path.with_extension("lock").exists(), "the lock stayed");
    }
    let (_folder, path) = file("");
    fs::write(&path, b"# ok\n\xff\n").unwrap();
    assert!(Known::load(&path).unwrap_err().to_string().contains("line 2: it is not UTF-8"));
    fs::write(&path, "#".repeat(MAX_FILE as usize + 1)).unwrap();
    assert!(Known::load(&path).unwrap_err().to_string().contains("longer than"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(
        Known::load(&path)
            .unwrap_err()
            .to_string()
            .contains("known_names: it is a folder or a device, and a file of names is expected")
    );
}

#[test]
fn many_at_once_lose_nothing() {
    let (_folder, path) = file("# mine\n");
    let start = Arc::new(Barrier::new(8));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (path, start) = (path.clone(), start.clone());
            thread::spawn(move || {
                // Before any of them writes: each has an old picture of the file.
                let mut known = Known::load(&path).unwrap();
                start.wait();
                for number in 0..5 {
                    let called = name(&format!("peer-{writer}-{number}"));
                    assert_eq!(known.remember(id(1), &called, id(writer)).unwrap(), id(writer));
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# mine\n"));
    assert_eq!(Known::load(&path).unwrap().iter().count(), 40);
    assert_eq!(text.lines().count(), 41);
}

#[test]
fn a_lock_that_a_killed_process_left_is_named() {
    let (_folder, path) = file("");
    let lock = path.with_extension("lock");
    fs::write(&lock, "").unwrap();
    let failure = Known::load(&path).unwrap().remember(id(1), &name("office"), id(10)).unwrap_err();
    let said = failure.to_string();
    assert!(said.contains("known_names.lock") && said.contains("remove it"), "{said}");
    assert!(lock.exists(), "another process's lock was removed");
}

#[cfg(unix)]
#[test]
fn the_file_is_its_owners_and_a_link_to_it_stays_a_link() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let (folder, path) = file("");
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    Known::load(&link).unwrap().remember(id(1), &name("office"), id(10)).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Known::load(&path).unwrap().get(id(1), &name("office")), Some(id(10)));
}
