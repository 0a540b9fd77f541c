//! Names of peers: a relay's convenience (DESIGN.md, section 5), never a proof of anything.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name: a DNS label's 63 bytes (RFC 1035, section 2.3.4).
const LONGEST: usize = 63;

/// A name that a relay knows a peer by.
///
/// 1 to 63 of `a`–`z`, `0`–`9` and `-`, the first and the last no `-`; no [`NodeId`](crate::NodeId) in its 52 characters,
/// so that a text is one or the other. There is one spelling for each name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerName(String);

impl PeerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// The byte at `position` is none of `a`–`z`, `0`–`9`, `-`, or a `-` at either end.
    Symbol {
        /// Offset in bytes from the start of the text.
        position: usize,
    },
    /// A name has 1 to 63 bytes; this text has `found`.
    Length {
        /// Length of the text in bytes.
        found: usize,
    },
    /// It is an ID.
    Id,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol { position } => write!(
                f,
                "not a name: character {} is none of a-z, 0-9, -, or a - at the beginning or the end",
                position + 1
            ),
            Self::Length { found } => write!(f, "not a name: 1 to 63 characters expected, {found} found"),
            Self::Id => f.write_str("not a name: it could be taken for an ID"),
        }
    }
}

impl std::error::Error for NameError {}

impl FromStr for PeerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !(1..=LONGEST).contains(&text.len()) {
            return Err(NameError::Length { found: text.len() });
        }
        let last = text.len() - 1;
        let fits = |(at, byte): (usize, u8)| match byte {
            b'a'..=b'z' | b'0'..=b'9' => true,
            b'-' => at != 0 && at != last,
            _ => false,
        };
        if let Some(position) = text.bytes().enumerate().position(|at| !fits(at)) {
            return Err(NameError::Symbol { position });
        }
        if text.parse::<crate::NodeId>().is_ok() {
            return Err(NameError::Id);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for PeerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<PeerName> for String {
    fn from(name: PeerName) -> Self {
        name.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The vectors of docs/protocol.md.
    #[test]
    fn the_documented_vectors_hold() {
        for good in ["a", "7", "office-server", "a--b", "x1", &"n".repeat(63)] {
            assert_eq!(good.parse::<PeerName>().map(|name| name.to_string()), Ok(good.to_string()));
        }
        let id = crate::NodeId::from_bytes([7; 32]).to_string();
        for (bad, why) in [
            ("", NameError::Length { found: 0 }),
            (&"n".repeat(64), NameError::Length { found: 64 }),
            ("-a", NameError::Symbol { position: 0 }),
            ("a-", NameError::Symbol { position: 1 }),
            ("Office", NameError::Symbol { position: 0 }),
            ("a.b", NameError::Symbol { position: 1 }),
            ("a b", NameError::Symbol { position: 1 }),
            ("bürо", NameError::Symbol { position: 1 }),
            (&id, NameError::Id),
        ] {
            assert_eq!(bad.parse::<PeerName>(), Err(why), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_printed_as_it_was_written_and_nothing_is_both_a_name_and_an_id(text in ".{0,70}|[a-z0-9-]{0,70}|[a-z2-7]{52}") {
            if let Ok(name) = text.parse::<PeerName>() {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(text.parse::<crate::NodeId>().is_err());
            }
        }
    }
}
