//! The simulator's boxes against what the Linux kernel's own NATs did with the same packets: `tests/conformance`.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{collections::BTreeMap, fs, path::Path};

use direc_sim::{
    conform::{Script, run},
    nat::stack,
};

/// What the kernel said of a script: by boxes, a line for each packet.
fn recorded(path: &Path) -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        match line.strip_prefix("== ") {
            Some(boxes) => boxes.clone_into(&mut name),
            None => sections.entry(name.clone()).or_default().push(line.to_owned()),
        }
    }
    sections
}

#[test]
fn every_packet_fares_as_the_kernel_had_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let (mut packets, mut differ) = (0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "script") {
            continue;
        }
        let script = Script::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        let kernel = recorded(&path.with_extension("kernel"));
        for name in &script.types {
            let ours = run(&script, &stack(name).unwrap_or_else(|| panic!("{name} is no box")));
            let theirs = kernel.get(name).unwrap_or_else(|| panic!("{} has no record of {name}", path.display()));
            assert_eq!(ours.len(), theirs.len(), "{}, {name}: the record is of another script", path.display());
            packets += ours.len();
            let pairs = ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs);
            differ.extend(pairs.map(|(ours, theirs)| format!("{name}: {ours}\n  kernel: {theirs}")));
        }
    }
    assert!(packets > 500, "{packets}");
    assert!(differ.is_empty(), "{} of {packets} packets:\n{}", differ.len(), differ.join("\n"));
}
