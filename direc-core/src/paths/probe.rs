//! Probes: a nonce authenticated with the introduction's secret; its echo is the specification's "round-tripped data".

use ring::hmac;

use crate::{
    step::Role,
    wire::{
        datagram::{Bid, BidFields, MAC_LEN, Mac, Nonce, ProbeFields, TAG_LEN, Tag},
        message::PunchSecret,
    },
};

/// What an authenticator stands for; part of what is authenticated, so that none can be used in another's place.
#[derive(Clone, Copy)]
enum Purpose {
    Tag = 0,
    Probe = 1,
    Echo = 2,
    Bid = 3,
}

/// The keys of one introduction's probes, at one end. No `Debug`: it is a secret.
pub(crate) struct ProbeKeys {
    key: hmac::Key,
    me: Role,
    /// Tag of the probes that come to this end.
    own_tag: Tag,
    their_tag: Tag,
}

impl ProbeKeys {
    pub(crate) fn new(secret: &PunchSecret, me: Role) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = |of| prefix::<TAG_LEN>(&sign(&key, Purpose::Tag, of, &[]));
        let (own_tag, their_tag) = (tag(me), tag(other(me)));
        Self { key, me, own_tag, their_tag }
    }

    /// The tag by which this end knows its probes.
    pub(crate) fn own_tag(&self) -> Tag {
        self.own_tag
    }

    pub(crate) fn probe(&self, nonce: Nonce) -> ProbeFields {
        self.fields(Purpose::Probe, nonce)
    }

    pub(crate) fn echo(&self, nonce: Nonce) -> ProbeFields {
        self.fields(Purpose::Echo, nonce)
    }

    pub(crate) fn is_probe(&self, fields: &ProbeFields) -> bool {
        self.verify(Purpose::Probe, fields)
    }

    pub(crate) fn is_echo(&self, fields: &ProbeFields) -> bool {
        self.verify(Purpose::Echo, fields)
    }

    pub(crate) fn bid(&self, bid: Bid) -> BidFields {
        BidFields { tag: self.their_tag, mac: self.mac(Purpose::Bid, self.me, &bid.terms()), bid }
    }

    pub(crate) fn is_bid(&self, fields: &BidFields) -> bool {
        let expected = self.mac(Purpose::Bid, other(self.me), &fields.bid.terms());
        fields.tag == self.own_tag && is_same(&expected, &fields.mac)
    }

    fn fields(&self, purpose: Purpose, nonce: Nonce) -> ProbeFields {
        ProbeFields { tag: self.their_tag, nonce, mac: self.mac(purpose, self.me, &nonce) }
    }

    fn verify(&self, purpose: Purpose, fields: &ProbeFields) -> bool {
        let expected = self.mac(purpose, other(self.me), &fields.nonce);
        fields.tag == self.own_tag && is_same(&expected, &fields.mac)
    }

    fn mac(&self, purpose: Purpose, sender: Role, data: &[u8]) -> Mac {
        prefix::<MAC_LEN>(&sign(&self.key, purpose, sender, data))
    }
}

/// Not `==`, so that the time tells nothing of where they differ.
fn is_same(expected: &Mac, given: &Mac) -> bool {
    expected.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn sign(key: &hmac::Key, purpose: Purpose, role: Role, data: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(&[purpose as u8, if role == Role::P2 { 2 } else { 4 }]);
    context.update(data);
    context.sign()
}

fn prefix<const N: usize>(tag: &hmac::Tag) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(tag.as_ref()).for_each(|(out, byte)| *out = *byte);
    out
}

fn other(role: Role) -> Role {
    match role {
        Role::P2 => Role::P4,
        Role::P4 | Role::P3 => Role::P2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (ProbeKeys, ProbeKeys) {
        (ProbeKeys::new(&[5; 32], Role::P2), ProbeKeys::new(&[5; 32], Role::P4))
    }

    #[test]
    fn each_end_knows_the_others_probes_and_echoes() {
        let (p2, p4) = pair();
        assert!(p4.is_probe(&p2.probe([1; 8])) && p2.is_probe(&p4.probe([1; 8])));
        assert!(p2.is_echo(&p4.echo([1; 8])) && p4.is_echo(&p2.echo([1; 8])));
    }

    #[test]
    fn a_probe_thrown_back_is_no_echo_and_no_probe() {
        let (p2, _) = pair();
        let probe = p2.probe([1; 8]);
        assert!(!p2.is_echo(&probe) && !p2.is_probe(&probe));
        let disguised = ProbeFields { tag: p2.own_tag(), ..probe };
        assert!(!p2.is_echo(&disguised) && !p2.is_probe(&disguised));
    }

    #[test]
    fn another_introductions_probe_is_not_authentic() {
        let (p2, _) = pair();
        let stranger = ProbeKeys::new(&[6; 32], Role::P4);
        let forged = ProbeFields { tag: p2.own_tag(), ..stranger.probe([1; 8]) };
        assert!(!p2.is_probe(&forged));
    }
}
