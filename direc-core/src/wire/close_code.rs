//! Application close codes of control connections (RFC 9000, section 19.19).

/// Good-bye, from either side.
pub(crate) const GOODBYE: u32 = 0;
/// P3: the same key has registered anew.
pub(crate) const REPLACED: u32 = 2;
/// Either side: what you said makes no sense.
pub(crate) const MISBEHAVED: u32 = 3;
/// P3: no room.
pub(crate) const LIMIT: u32 = 4;
/// P3: not allowed any more, and the reason is a [`RefuseReason`](crate::RefuseReason)'s word.
pub(crate) const REFUSED: u32 = 5;
