//! What becomes of a script's packets.

use std::fmt::Write as _;

use direc_sim::{
    conform::{Script, run},
    nat::stack,
};

use super::args::Args;

/// A line for each packet, behind each of the boxes that the script or the command line names.
pub(crate) fn report(args: &Args) -> Result<String, String> {
    let Some(path) = &args.script else { return Err("conform: expected a script's file".to_owned()) };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let script = Script::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let types = args.a.clone().map_or(script.types.clone(), |name| vec![name]);
    let mut out = String::new();
    for name in types {
        let boxes = stack(&name).ok_or_else(|| format!("{}: no boxes have the name {name:?}", path.display()))?;
        let _ = writeln!(out, "== {name}");
        for line in run(&script, &boxes) {
            let _ = writeln!(out, "{line}");
        }
    }
    Ok(out)
}
