//! Which pairs of NATs let a direct path be, by RFC 4787 alone: knows no protocol, sees no packet.

use crate::nat::{Dependence, NatConfig};

/// What a stack of boxes looks like from outside: the most demanding of each.
struct View {
    mapping: Dependence,
    filtering: Dependence,
}

impl View {
    fn of(boxes: &[NatConfig]) -> Self {
        Self {
            mapping: boxes.iter().map(NatConfig::mapping).max().unwrap_or(Dependence::Endpoint),
            filtering: boxes.iter().map(|config| config.filtering).max().unwrap_or(Dependence::Endpoint),
        }
    }

    /// Whether others know at which address it will be seen by them.
    fn known(&self) -> bool {
        self.mapping == Dependence::Endpoint
    }

    /// Whether it lets in a peer whose address it knows but whose port it does not.
    fn by_address(&self) -> bool {
        self.filtering <= Dependence::Address
    }

    fn open(&self) -> bool {
        self.filtering == Dependence::Endpoint
    }
}

/// Whether a direct path must come to be between a peer behind these boxes and one behind those, without guessing
/// ports.
pub fn goes_direct(one: &[NatConfig], other: &[NatConfig]) -> bool {
    if one.iter().chain(other).any(|config| config.blocks_udp()) {
        return false;
    }
    let (one, other) = (View::of(one), View::of(other));
    match (one.known(), other.known()) {
        (true, true) => true,
        // The known side learns the other's port from its packets, if it lets them in.
        (true, false) => one.by_address(),
        (false, true) => other.by_address(),
        // The open side is reached at the port it showed the relay, and answers from another. If both sides take
        // another port for each port outside, every answer moves on to a new one and no pair of ports ever stays.
        (false, false) => {
            let stays = one.mapping == Dependence::Address || other.mapping == Dependence::Address;
            stays && (one.open() && other.by_address() || other.open() && one.by_address())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::stack;

    #[test]
    fn the_oracle_says_what_the_table_in_the_design_says() {
        for (one, other, expected) in [
            ("easy", "easy", true),
            ("easy", "sym", false),
            ("eim-adf", "sym", true),
            ("eim-eif", "double-sym", true),
            ("sym", "sym", false),
            ("adm-eif", "apdm-adf", true),
            ("none", "udp-blocked", false),
        ] {
            let [a, b] = [one, other].map(|name| stack(name).unwrap());
            assert_eq!((goes_direct(&a, &b), goes_direct(&b, &a)), (expected, expected), "{one} × {other}");
        }
    }
}
