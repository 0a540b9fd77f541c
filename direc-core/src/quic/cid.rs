//! Connection IDs that tell this node which of its QUIC endpoints a packet is for, and nobody else anything.
//!
//! Four random bytes, then the endpoint's slot under a mask: AES of the random bytes, the construction of QUIC's own
//! header protection (RFC 9001, section 5.4). IDs of one connection cannot be linked (RFC 9000, section 5.1).

use std::{sync::Arc, time::Duration};

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use ring::aead::quic::{AES_128, HeaderProtectionKey};

use crate::rng::Rng;

/// Length of every connection ID that this node issues.
pub(crate) const CID_LEN: usize = 8;
const HALF: usize = CID_LEN / 2;

/// Offset of the ID in a short header, and of its length in a long one (RFC 8999, section 5).
const SHORT_CID_AT: usize = 1;
const LONG_CID_LEN_AT: usize = 5;
const LONG_HEADER: u8 = 0x80;

/// The key behind the masks, and so behind all IDs of a node.
#[derive(Clone)]
pub(crate) struct CidKey(Arc<HeaderProtectionKey>);

impl CidKey {
    /// `None` should the crypto library refuse a key of the right length.
    pub(crate) fn new(rng: &mut Rng) -> Option<Self> {
        Self::from_secret(&rng.bytes())
    }

    /// One that outlives the process.
    pub(crate) fn from_secret(secret: &[u8; 16]) -> Option<Self> {
        HeaderProtectionKey::new(&AES_128, secret).ok().map(|key| Self(Arc::new(key)))
    }

    fn mask(&self, nonce: [u8; HALF]) -> [u8; HALF] {
        let mut sample = [0; 16];
        sample[..HALF].copy_from_slice(&nonce);
        // A sample of the algorithm's own length is never refused.
        let mask = self.0.new_mask(&sample).unwrap_or_default();
        [mask[0], mask[1], mask[2], mask[3]]
    }

    fn issue(&self, nonce: [u8; HALF], slot: u32) -> ConnectionId {
        let mut cid = [0; CID_LEN];
        cid[..HALF].copy_from_slice(&nonce);
        for ((out, mask), slot) in cid[HALF..].iter_mut().zip(self.mask(nonce)).zip(slot.to_be_bytes()) {
            *out = mask ^ slot;
        }
        ConnectionId::new(&cid)
    }

    fn slot(&self, cid: &[u8]) -> Option<u32> {
        let cid: [u8; CID_LEN] = cid.try_into().ok()?;
        let [nonce @ .., a, b, c, d] = cid;
        let mask = self.mask(nonce);
        Some(u32::from_be_bytes([a ^ mask[0], b ^ mask[1], c ^ mask[2], d ^ mask[3]]))
    }

    /// The slot that a QUIC packet is for, if its destination ID is one of this node's.
    pub(crate) fn slot_of_packet(&self, packet: &[u8]) -> Option<u32> {
        let &first = packet.first()?;
        if first & LONG_HEADER == 0 {
            return self.slot(packet.get(SHORT_CID_AT..SHORT_CID_AT + CID_LEN)?);
        }
        let length = usize::from(*packet.get(LONG_CID_LEN_AT)?);
        self.slot(packet.get(LONG_CID_LEN_AT + 1..LONG_CID_LEN_AT + 1 + length)?)
    }
}

/// Issues the IDs of one endpoint.
pub(crate) struct SlotCids {
    pub(crate) key: CidKey,
    pub(crate) slot: u32,
    pub(crate) rng: Rng,
}

impl ConnectionIdGenerator for SlotCids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.key.issue(self.rng.bytes(), self.slot)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        // What is not ours draws no stateless reset: silence towards junk.
        if self.key.slot(cid) == Some(self.slot) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(slot: u32) -> SlotCids {
        let mut rng = Rng::new([1; 32]);
        SlotCids { key: CidKey::new(&mut rng).unwrap(), slot, rng: rng.fork() }
    }

    #[test]
    fn a_packet_leads_back_to_the_slot_that_issued_its_id() {
        let mut cids = generator(77);
        for _ in 0..50 {
            let cid = cids.generate_cid();
            let short = [&[0x41], &cid[..], &[0; 20]].concat();
            let long = [&[0xc1, 0, 0, 0, 1, CID_LEN as u8], &cid[..], &[0; 20]].concat();
            assert_eq!(cids.key.slot_of_packet(&short), Some(77));
            assert_eq!(cids.key.slot_of_packet(&long), Some(77));
            assert!(cids.validate(&cid).is_ok());
        }
    }

    #[test]
    fn ids_of_one_endpoint_have_no_byte_in_common_that_tells() {
        let mut cids = generator(0);
        let issued: Vec<ConnectionId> = (0..64).map(|_| cids.generate_cid()).collect();
        for at in 0..CID_LEN {
            assert!(issued.iter().any(|cid| cid[at] != issued[0][at]), "byte {at} is constant");
        }
    }

    #[test]
    fn packets_too_short_for_an_id_lead_nowhere() {
        let cids = generator(1);
        for packet in
            [&[][..], &[0x41], &[0x41; 8], &[0xc1, 0, 0, 0, 1], &[0xc1, 0, 0, 0, 1, 8, 1], &[0xc1, 0, 0, 0, 1, 20]]
        {
            assert_eq!(cids.key.slot_of_packet(packet), None);
        }
        assert!(cids.validate(&ConnectionId::new(&[9; 8])).is_err());
    }
}
