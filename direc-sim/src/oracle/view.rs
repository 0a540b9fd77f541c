//! What a stack of boxes looks like from outside: the most demanding of each axis.

use crate::nat::{Dependence, NatConfig, Pooling, Ports, Unsolicited};

/// At which port a peer will be seen by an endpoint that it has not sent to yet, given what the relay has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Next {
    /// At the same.
    Same,
    /// At one of the next.
    Counts,
    /// At one of the same block.
    Near,
    /// At any.
    Anywhere,
}

/// A stack of boxes, seen from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    mapping: Dependence,
    filtering: Dependence,
    pub(super) next: Next,
    /// Whether new mappings may have another address.
    wanders: bool,
    /// Whether a packet that comes before the peer's own does harm.
    pub(super) minds_early: bool,
    /// Whether a packet to a wrong port does harm.
    pub(super) bans: bool,
}

impl View {
    /// What these boxes look like, innermost first.
    pub(super) fn of(boxes: &[NatConfig]) -> Self {
        let nothing = Self {
            mapping: Dependence::Endpoint,
            filtering: Dependence::Endpoint,
            next: Next::Same,
            wanders: false,
            minds_early: false,
            bans: false,
        };
        boxes.iter().fold(nothing, |inner, config| inner.behind(config))
    }

    /// What it looks like with one more box in front.
    pub(super) fn behind(&self, config: &NatConfig) -> Self {
        let mapping = config.mapping();
        let next = match config.translation.map(|translation| translation.ports) {
            _ if mapping == Dependence::Endpoint => Next::Same,
            None => Next::Same,
            Some(Ports::Sequential { .. }) => Next::Counts,
            Some(Ports::Block(_)) => Next::Near,
            // The one port that could be kept is the one that the relay sees.
            Some(Ports::Preserved | Ports::Random | Ports::Within(..) | Ports::Parity) => Next::Anywhere,
        };
        let arbitrary = config.translation.is_some_and(|t| t.addresses > 1 && t.pooling == Pooling::Arbitrary);
        let harms = config.unsolicited != Unsolicited::DROPPED && config.filtering != Dependence::Endpoint;
        // What a box farther out keeps out cannot come too early: a punch opens all of them at once.
        let shielded = config.filtering != Dependence::Endpoint;
        // Another port on its inside is another mapping to it, and may have another address.
        let mapping = self.mapping.max(mapping);
        Self {
            mapping,
            filtering: self.filtering.max(config.filtering),
            next: self.next.max(next),
            wanders: self.wanders || arbitrary && mapping != Dependence::Endpoint,
            minds_early: harms || self.minds_early && !shielded,
            bans: config.unsolicited.ban.is_some() && harms || self.bans && !shielded,
        }
    }

    /// Whether others know at which endpoint it will be seen by them.
    pub(super) fn known(&self) -> bool {
        self.mapping == Dependence::Endpoint
    }

    /// Whether all ports of one remote address see it at the same endpoint.
    pub(super) fn by_address(&self) -> bool {
        self.mapping <= Dependence::Address
    }

    /// Whether others know at which address it will be seen by them, if not at which port.
    pub(super) fn address_known(&self) -> bool {
        !self.wanders
    }

    pub(super) fn lets_all_in(&self) -> bool {
        self.filtering == Dependence::Endpoint
    }

    /// Whether it lets in a peer whose port it does not know.
    pub(super) fn lets_in_from(&self, other: &Self) -> bool {
        match self.filtering {
            Dependence::Endpoint => true,
            Dependence::Address => other.address_known(),
            Dependence::AddressAndPort => false,
        }
    }
}
