//! What becomes of a name: who is remembered behind it against who the relay says is there, as ssh holds host keys
//! against `known_hosts`.

use direc_smol::{NodeId, PeerName, RelayUrl};

/// What the two add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody is remembered: this one is to be from now on.
    First(NodeId),
    /// The relay says what is remembered.
    Same,
    /// It says something else. Nobody is to be connected to before a person has decided.
    Changed { remembered: NodeId, told: NodeId },
    /// Nobody is remembered, and the relay does not say either.
    Unknown,
    /// Somebody is remembered, and the relay does not say whether that still holds: its word proves nothing, so its
    /// silence changes nothing.
    Unanswered,
}

/// Holds who is remembered against who the relay has told.
pub(super) fn judge(remembered: Option<NodeId>, told: Option<NodeId>) -> Verdict {
    match (remembered, told) {
        (None, Some(told)) => Verdict::First(told),
        (Some(remembered), Some(told)) if remembered == told => Verdict::Same,
        (Some(remembered), Some(told)) => Verdict::Changed { remembered, told },
        (None, None) => Verdict::Unknown,
        (Some(_), None) => Verdict::Unanswered,
    }
}

/// The first time, in a line.
pub(super) fn first(name: &PeerName, id: NodeId) -> String {
    format!("remembered: {name} is {id} at this relay")
}

/// A change, and what a person can do about it. `relay` is where the name is remembered.
pub(super) fn changed(name: &PeerName, remembered: NodeId, told: NodeId, relay: &RelayUrl) -> String {
    format!(
        "'{name}' IS SOMEBODY ELSE NOW: not connected to whom the relay names\n\
         \x20 remembered:         {remembered}\n\
         \x20 the relay says now: {told}\n\
         It may be harmless: the machine has a new key, or its name was given to another machine. It may be an attack: \
         whoever runs the relay, or has broken into it, wants you to talk to a machine of theirs.\n\
         Ask somebody you trust, and not through this relay, what ID {name} has: its `peer serve` prints it. If it is \
         the new one, accept it by\n\
         \x20 peer forget {name} --relay {relay}\n\
         and connect again."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    #[test]
    fn a_remembered_peer_goes_before_whatever_the_relay_says() {
        let (old, new) = (id(1), id(2));
        assert_eq!(judge(None, Some(new)), Verdict::First(new));
        assert_eq!(judge(Some(old), Some(old)), Verdict::Same);
        assert_eq!(judge(Some(old), Some(new)), Verdict::Changed { remembered: old, told: new });
        assert_eq!(judge(None, None), Verdict::Unknown);
        assert_eq!(judge(Some(old), None), Verdict::Unanswered);
    }

    #[test]
    fn a_change_is_told_with_both_ids_and_the_command_that_accepts_it() {
        let (name, relay) = ("office".parse().unwrap(), RelayUrl { host: "r".into(), port: 4433, key: id(3) });
        let text = changed(&name, id(1), id(2), &relay);
        let command = format!("\n  peer forget office --relay direc://r:4433#{}\n", id(3));
        for words in [&id(1).to_string(), &id(2).to_string(), &command] {
            assert!(text.contains(words), "no '{words}' in {text}");
        }
        assert_eq!(first(&name, id(1)), format!("remembered: office is {} at this relay", id(1)));
    }
}
