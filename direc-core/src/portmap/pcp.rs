//! PCP, the Port Control Protocol (RFC 6887): the MAP opcode, bytes and meaning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::drops::DropReason;

pub(super) const VERSION: u8 = 2;
/// MAP (section 11), and the bit that makes it a response.
const MAP: u8 = 1;
const RESPONSE: u8 = 0x80;
/// IANA's protocol number.
const UDP: u8 = 17;
/// Header and MAP's own data, both ways (sections 7.1, 7.2, 11.1).
const MAP_LEN: usize = 60;
/// The longest message (section 7).
const MAX_LEN: usize = 1100;

/// Tells this client's mappings from others' (section 11.1).
pub(super) type Nonce = [u8; 12];

/// What is asked for; a lifetime of 0 deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) client: Ipv4Addr,
    pub(super) nonce: Nonce,
    pub(super) internal: u16,
    /// The external address wanted again; none the first time.
    pub(super) suggested: Option<SocketAddr>,
    pub(super) lifetime: u32,
}

impl Request {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (ip, port) = self.suggested.map_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), |at| (at.ip(), at.port()));
        out.extend_from_slice(&[VERSION, MAP, 0, 0]);
        out.extend_from_slice(&self.lifetime.to_be_bytes());
        out.extend_from_slice(&octets(self.client.into()));
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&[UDP, 0, 0, 0]);
        out.extend_from_slice(&self.internal.to_be_bytes());
        out.extend_from_slice(&port.to_be_bytes());
        out.extend_from_slice(&octets(ip));
    }
}

/// What a router answers to [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Response {
    /// 0 is success (section 7.4).
    pub(super) result: u8,
    /// The mapping's, or how long the error lasts.
    pub(super) lifetime: u32,
    /// Seconds since the router lost its mappings.
    pub(super) epoch: u32,
    pub(super) nonce: Nonce,
    pub(super) internal: u16,
    pub(super) external: SocketAddr,
}

impl Response {
    /// Options behind the data are not looked at: none was asked for.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DropReason> {
        if bytes.len() < MAP_LEN || bytes.len() > MAX_LEN || !bytes.len().is_multiple_of(4) {
            return Err(DropReason::BadLength);
        }
        let [version, opcode, _, result] = array(bytes, 0)?;
        let [protocol] = array(bytes, 36)?;
        if version != VERSION || opcode != RESPONSE | MAP || protocol != UDP {
            return Err(DropReason::UnknownType);
        }
        let ip = Ipv6Addr::from(array::<16>(bytes, 44)?);
        let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
        Ok(Self {
            result,
            lifetime: u32::from_be_bytes(array(bytes, 4)?),
            epoch: u32::from_be_bytes(array(bytes, 8)?),
            nonce: array(bytes, 24)?,
            internal: u16::from_be_bytes(array(bytes, 40)?),
            external: SocketAddr::new(ip, u16::from_be_bytes(array(bytes, 42)?)),
        })
    }

    #[cfg(test)]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, RESPONSE | MAP, 0, self.result]);
        out.extend_from_slice(&self.lifetime.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&[UDP, 0, 0, 0]);
        out.extend_from_slice(&self.internal.to_be_bytes());
        out.extend_from_slice(&self.external.port().to_be_bytes());
        out.extend_from_slice(&octets(self.external.ip()));
    }
}

/// IPv4 addresses are IPv4-mapped IPv6 ones (section 5).
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], DropReason> {
    super::array(bytes, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_has_the_bytes_of_the_rfc() {
        let client = Ipv4Addr::new(192, 168, 1, 10);
        let request = Request { client, nonce: [7; 12], internal: 0x1234, suggested: None, lifetime: 3600 };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let mut right = vec![2, 1, 0, 0, 0, 0, 0x0e, 0x10];
        right.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 10]);
        right.extend([7; 12]);
        right.extend([17, 0, 0, 0, 0x12, 0x34, 0, 0]);
        right.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(bytes, right);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_response_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..1200), fit: bool) {
            let mut bytes = bytes;
            if fit {
                bytes.resize(MAP_LEN, 0);
                bytes[..2].copy_from_slice(&[VERSION, RESPONSE | MAP]);
                bytes[36] = UDP;
            }
            if let Ok(response) = Response::decode(&bytes) {
                let mut again = Vec::new();
                response.encode(&mut again);
                prop_assert_eq!(Response::decode(&again), Ok(response));
            } else {
                prop_assert!(!fit);
            }
        }
    }
}
