//! What a side takes beyond the kinds of message that version 1 began with, by its own word: a list of kinds. What the other
//! side does not name is not sent to it, so that an older one is not taken aback; words that this version does not know
//! are left out.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is on the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Knows {
    /// A relay answers [`Resolve`](super::Resolve).
    pub(crate) resolve: bool,
    /// A peer takes [`OverQuota`](super::OverQuota).
    pub(crate) over_quota: bool,
}

impl Knows {
    /// What a peer of this version takes.
    pub(crate) const PEER: Self = Self { resolve: false, over_quota: true };
    /// What a relay of this version takes.
    pub(crate) const RELAY: Self = Self { resolve: true, over_quota: false };

    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Serialize for Knows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = [(self.resolve, "resolve"), (self.over_quota, "over-quota")];
        let words: Vec<&str> = all.iter().filter(|(known, _)| *known).map(|(_, word)| *word).collect();
        words.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Knows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let has = |word: &str| words.iter().any(|known| known == word);
        Ok(Self { resolve: has("resolve"), over_quota: has("over-quota") })
    }
}
