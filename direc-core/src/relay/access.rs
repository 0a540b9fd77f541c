//! Who may use a relay, and for what. Everything fails closed: who is not named may nothing.

use std::collections::BTreeMap;

use super::{Relay, registry::PeerEntry};
use crate::{
    NodeId, RefuseReason, RelayEvent,
    quic::Handle,
    token::{AccessToken, TokenHash},
    wire::close_code,
};

/// What a peer may do at a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Register and be found: P4 of the specification.
    pub register: bool,
    /// Find others, by ID or by name: P2 of the specification.
    pub connect: bool,
}

impl Rights {
    /// Both.
    pub const ALL: Self = Self { register: true, connect: true };

    /// What either of them allows.
    fn or(self, other: Self) -> Self {
        Self { register: self.register || other.register, connect: self.connect || other.connect }
    }
}

/// Who may use a relay.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Everybody, for everything.
    #[default]
    Open,
    /// These, and nobody else.
    Listed(AccessList),
}

/// Who is named, and what each may do. The empty list lets nobody in.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    /// Peers, by their proven keys.
    pub ids: BTreeMap<NodeId, Rights>,
    /// Whoever shows the token of this hash.
    pub tokens: Vec<(TokenHash, Rights)>,
}

impl AccessList {
    /// What this list allows a peer that has shown this token's hash; of an ID's and a token's rights it has both.
    fn rights(&self, id: &NodeId, shown: Option<&TokenHash>) -> Result<Rights, RefuseReason> {
        let by_id = self.ids.get(id).copied();
        // All are compared: how long that takes does not tell which one it was.
        let by_token = shown.and_then(|shown| {
            let same = self.tokens.iter().filter(|(hash, _)| hash == shown);
            same.map(|&(_, rights)| rights).reduce(Rights::or)
        });
        match (by_id, by_token) {
            (Some(by_id), Some(by_token)) => Ok(by_id.or(by_token)),
            (Some(rights), None) | (None, Some(rights)) => Ok(rights),
            (None, None) if shown.is_some() => Err(RefuseReason::UnknownToken),
            (None, None) if self.tokens.is_empty() => Err(RefuseReason::NotListed),
            (None, None) => Err(RefuseReason::TokenMissing),
        }
    }
}

impl Access {
    /// What this peer may do.
    pub(super) fn rights(&self, id: &NodeId, shown: Option<&TokenHash>) -> Result<Rights, RefuseReason> {
        match self {
            Self::Open => Ok(Rights::ALL),
            Self::Listed(list) => list.rights(id, shown),
        }
    }

    /// What this peer may do, if a registration is among it: one that wants to be found, or one that only connects out.
    pub(super) fn admit(&self, id: &NodeId, shown: Option<&TokenHash>, listen: bool) -> Result<Rights, RefuseReason> {
        let rights = self.rights(id, shown)?;
        match listen {
            true if !rights.register => Err(RefuseReason::MayNotRegister),
            false if !rights.connect => Err(RefuseReason::MayNotConnect),
            _ => Ok(rights),
        }
    }
}

impl Relay {
    /// From now on these may use the relay. Who is registered and may not be any more is told why, and has to leave;
    /// connections that are straight already go on.
    pub fn set_access(&mut self, now: std::time::Instant, access: Access) {
        self.advance(now);
        self.config.access = access;
        for handle in self.quic.handles() {
            let Some(entry) = self.registry.get_mut(handle).filter(|entry| entry.is_registered()) else { continue };
            match self.config.access.admit(&entry.id, entry.shown.as_ref(), entry.listening) {
                Ok(rights) => entry.rights = rights,
                Err(reason) => self.turn_out(handle, reason),
            }
        }
        self.drive();
    }

    /// What a peer that registers may do.
    pub(super) fn rights_of(
        &self,
        entry: &PeerEntry,
        token: Option<&AccessToken>,
        listen: bool,
    ) -> Result<(Rights, Option<TokenHash>), RefuseReason> {
        let shown = token.map(AccessToken::hash);
        let rights = self.config.access.admit(&entry.id, shown.as_ref(), listen)?;
        Ok((rights, shown))
    }

    /// Ends a registration that stood. The reason goes into the close itself: streams die with the connection.
    fn turn_out(&mut self, handle: Handle, reason: RefuseReason) {
        self.note_refusal(handle, reason);
        self.dismiss(handle, close_code::REFUSED, reason.word().as_bytes());
    }

    /// Counts, and tells, that a registration is refused.
    pub(super) fn note_refusal(&mut self, handle: Handle, reason: RefuseReason) {
        *self.refusals.entry(reason).or_default() += 1;
        if let Some(entry) = self.registry.get(handle) {
            let (peer, address) = (entry.id, self.tunnels.remote(entry.address));
            self.events.push_back(RelayEvent::TurnedAway { peer, address, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn hash(n: u8) -> TokenHash {
        AccessToken::from_random([n; 20]).hash()
    }

    const FOUND: Rights = Rights { register: true, connect: false };
    const FINDS: Rights = Rights { register: false, connect: true };

    #[test]
    fn an_empty_list_lets_nobody_in() {
        let access = Access::Listed(AccessList::default());
        assert_eq!(access.rights(&id(1), None), Err(RefuseReason::NotListed));
        assert_eq!(access.rights(&id(1), Some(&hash(1))), Err(RefuseReason::UnknownToken));
    }

    #[test]
    fn who_has_an_id_and_a_token_on_the_list_has_the_rights_of_both() {
        let list = AccessList { ids: [(id(1), FOUND)].into(), tokens: vec![(hash(7), FINDS), (hash(8), Rights::ALL)] };
        let access = Access::Listed(list);
        assert_eq!(access.rights(&id(1), None), Ok(FOUND));
        assert_eq!(access.rights(&id(2), Some(&hash(7))), Ok(FINDS));
        assert_eq!(access.rights(&id(1), Some(&hash(7))), Ok(Rights::ALL));
        assert_eq!(access.rights(&id(1), Some(&hash(9))), Ok(FOUND), "a token too many takes nothing away");
        assert_eq!(access.rights(&id(2), None), Err(RefuseReason::TokenMissing));
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let list =
            AccessList { ids: [(id(1), FOUND), (id(2), FINDS), (id(3), Rights::default())].into(), tokens: vec![] };
        let access = Access::Listed(list);
        assert_eq!(access.admit(&id(1), None, false), Err(RefuseReason::MayNotConnect));
        assert_eq!(access.admit(&id(2), None, true), Err(RefuseReason::MayNotRegister));
        for listen in [true, false] {
            assert!(access.admit(&id(3), None, listen).is_err(), "named, but for nothing");
        }
    }
}
