//! `relay --check-config`: everything that a start reads is read and judged, and nothing is bound, made or sent.

use std::path::Path;

use direc_smol::{FileTrouble, load_or_create_key};

use super::{admin, config::Config, setup};
use crate::{events::Event, failure::Failure, out::Out};

/// Says what is wrong with settings that fit together, all of it, or that nothing is.
///
/// # Errors
/// What would keep the relay from starting: [`Failure::Usage`] if any of it is a setting that makes no sense, otherwise
/// [`Failure::Failed`].
pub(super) fn run(config: &Config, out: Out) -> Result<(), Failure> {
    let (mut wrong, mut doubts, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    wrong.extend(setup::check_public(config).err());
    wrong.extend(admin::address(&config.admin).err());
    wrong.extend(setup::check_folder(config).err());
    doubts.extend(config.doubts());
    let key = setup::key_file(config);
    match is_there(&key) {
        Ok(true) => wrong.extend(load_or_create_key(&key).err().map(Failure::of)),
        Ok(false) => missing.push(key),
        Err(failure) => wrong.push(failure),
    }
    if config.https.listen.is_some() {
        let made = setup::https_file(config);
        let there = config.https.files().is_some() || is_there(&made).unwrap_or(true);
        match there.then(|| setup::https_key(config)) {
            Some(Ok(key)) => doubts.extend(setup::doubts(config, &key)),
            Some(Err(failure)) => wrong.push(failure),
            None => missing.push(made),
        }
    }
    if !missing.is_empty() && wrong.is_empty() {
        wrong.extend(setup::check_writable(config).err());
    }
    doubts.iter().for_each(|doubt| out.note(&format!("warning: {doubt}")));
    missing.iter().for_each(|path| out.note(&format!("{} is made at the first start", path.display())));
    if wrong.is_empty() {
        out.event(&Event::ConfigChecked { warnings: doubts });
        if !out.json() {
            out.say("the settings are good: the relay would start with them, if its ports are free");
        }
        return Ok(());
    }
    let words: Vec<_> = wrong.iter().map(Failure::to_string).collect();
    let words = words.join("\n");
    let usage = wrong.iter().any(|failure| matches!(failure, Failure::Usage(_)));
    Err(if usage { Failure::Usage(words) } else { Failure::Failed(words) })
}

fn is_there(path: &Path) -> Result<bool, Failure> {
    path.try_exists().map_err(|error| Failure::of(FileTrouble { doing: "cannot read", path, error: &error }))
}
