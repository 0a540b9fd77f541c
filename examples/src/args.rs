//! The command line: the words that flags take, and errors that name them.

use std::{ffi::OsString, fmt::Display, str::FromStr, time::Duration};

use lexopt::{Parser, ValueExt};

use crate::failure::Failure;

/// The value of the flag just read, parsed.
///
/// # Errors
/// [`Failure::Usage`], naming the flag, the text and what is wrong with it.
pub fn value<T>(parser: &mut Parser, flag: &str) -> Result<T, Failure>
where
    T: FromStr,
    T::Err: Display,
{
    let text = parser.value().map_err(|_| Failure::Usage(format!("{flag} needs a value")))?;
    parsed(text, flag)
}

/// A flag's or an argument's text, parsed.
///
/// # Errors
/// [`Failure::Usage`], naming it, the text and what is wrong.
pub fn parsed<T>(text: OsString, name: &str) -> Result<T, Failure>
where
    T: FromStr,
    T::Err: Display,
{
    let text = text.string().map_err(|text| Failure::Usage(format!("{name}: {text:?} is not UTF-8")))?;
    text.parse().map_err(|why| Failure::Usage(format!("{name} '{text}': {why}")))
}

/// A positive number of seconds, fractions allowed.
///
/// # Errors
/// [`Failure::Usage`] if it is none, or more than a day.
pub fn duration(parser: &mut Parser, flag: &str) -> Result<Duration, Failure> {
    let seconds: f64 = value(parser, flag)?;
    if seconds > 0.0 && seconds <= 86_400.0 {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(Failure::Usage(format!("{flag}: between 0 and 86400 seconds, not {seconds}")))
    }
}

/// A number of seconds, fractions allowed, which may be 0.
///
/// # Errors
/// [`Failure::Usage`] if it is none, or more than a day.
pub fn duration_or_zero(parser: &mut Parser, flag: &str) -> Result<Duration, Failure> {
    let seconds: f64 = value(parser, flag)?;
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(Failure::Usage(format!("{flag}: 0 to 86400 seconds, not {seconds}")))
    }
}

/// A number of bytes, at least 1, with `K`, `M` or `G` (powers of 1,024) behind it if wanted.
///
/// # Errors
/// [`Failure::Usage`] if it is none.
pub fn bytes(parser: &mut Parser, flag: &str) -> Result<u64, Failure> {
    let text: String = value(parser, flag)?;
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text.as_str(), 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| Failure::Usage(format!("{flag} '{text}': a number of bytes, like 4096, 64K or 256M")))
}

/// Whether `--json` is anywhere on the command line: errors in the rest of it are to be told in JSON, too.
pub fn wants_json() -> bool {
    std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json")
}

/// A command line that does not fit together.
pub fn misfit<T>(what: impl Display) -> Result<T, Failure> {
    Err(Failure::Usage(what.to_string()))
}
