//! Where the tokens for relays come from: files, or the environment. Not the command line, which `ps` shows to everybody.

use std::{env, fs, path::Path};

use direc_smol::{AccessToken, FileTrouble};

use crate::{args::misfit, failure::Failure};

/// The variable that holds the token where there is one relay.
pub(super) const VARIABLE: &str = "DIREC_TOKEN";
/// A token with its line's end is far shorter.
const MAX_FILE: u64 = 1024;

/// The token for each relay, in their order: from its file, or from the environment if there is one relay and no file.
pub(super) fn read(files: &[Option<impl AsRef<Path>>]) -> Result<Vec<Option<AccessToken>>, Failure> {
    let mut tokens = Vec::new();
    for file in files {
        tokens.push(file.as_ref().map(|file| from_file(file.as_ref())).transpose()?);
    }
    if tokens.iter().any(Option::is_some) {
        return Ok(tokens);
    }
    match (env::var_os(VARIABLE), tokens.as_mut_slice()) {
        (None, _) => Ok(tokens),
        (Some(text), [only]) => {
            let text = text.into_string().unwrap_or_default();
            *only = Some(text.trim_end().parse().map_err(|why| Failure::new(VARIABLE, why))?);
            Ok(tokens)
        }
        (Some(_), _) => misfit(format!("{VARIABLE} is for one relay; for several, --token-file behind each that asks")),
    }
}

/// The file's one line. What stands there instead is not shown: it may be a secret all the same.
fn from_file(path: &Path) -> Result<AccessToken, Failure> {
    let unread = |error| Failure::of(FileTrouble { doing: "cannot read the token file", path, error: &error });
    let no_token = |why: &dyn std::fmt::Display| {
        let expected = "expected one line with the token that the relay's operator has given you";
        Failure::new(format!("the token file {}", path.display()), format!("{why}; {expected}"))
    };
    let about = fs::metadata(path).map_err(unread)?;
    if !about.is_file() {
        return Err(no_token(&"it is no file"));
    }
    if about.len() > MAX_FILE {
        return Err(no_token(&format!("it is longer than {MAX_FILE} bytes")));
    }
    let text = fs::read_to_string(path).map_err(unread)?;
    text.trim_end().parse().map_err(|why| no_token(&why))
}
