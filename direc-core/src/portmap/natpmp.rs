//! NAT-PMP, the NAT Port Mapping Protocol (RFC 6886): bytes and meaning.

use std::net::Ipv4Addr;

use crate::drops::DropReason;

pub(super) const VERSION: u8 = 0;
/// Opcodes (sections 3.2, 3.3), and the bit that makes them responses.
const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const RESPONSE: u8 = 0x80;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The router's address outside.
    Address,
    /// A mapping; a lifetime of 0 deletes it.
    Map { internal: u16, suggested: u16, lifetime: u32 },
}

impl Request {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Address => out.extend_from_slice(&[VERSION, ADDRESS]),
            Self::Map { internal, suggested, lifetime } => {
                out.extend_from_slice(&[VERSION, MAP_UDP, 0, 0]);
                out.extend_from_slice(&internal.to_be_bytes());
                out.extend_from_slice(&suggested.to_be_bytes());
                out.extend_from_slice(&lifetime.to_be_bytes());
            }
        }
    }
}

/// What a router answers. Results other than 0 are errors (section 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    Address {
        epoch: u32,
        ip: Ipv4Addr,
    },
    Map {
        epoch: u32,
        internal: u16,
        external: u16,
        lifetime: u32,
    },
    /// To any of the requests; the rest of it means nothing.
    Error {
        result: u16,
    },
}

impl Response {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DropReason> {
        let [version, opcode, high, low] = super::array(bytes, 0)?;
        if version != VERSION || opcode & RESPONSE == 0 {
            return Err(DropReason::UnknownType);
        }
        let result = u16::from_be_bytes([high, low]);
        if result != 0 {
            // Its length is the request's or that of a success; some routers send the header alone (section 3.5).
            return if bytes.len() <= 16 { Ok(Self::Error { result }) } else { Err(DropReason::BadLength) };
        }
        let epoch = u32::from_be_bytes(super::array(bytes, 4)?);
        match (opcode & !RESPONSE, bytes.len()) {
            (ADDRESS, 12) => Ok(Self::Address { epoch, ip: Ipv4Addr::from(super::array::<4>(bytes, 8)?) }),
            (MAP_UDP, 16) => Ok(Self::Map {
                epoch,
                internal: u16::from_be_bytes(super::array(bytes, 8)?),
                external: u16::from_be_bytes(super::array(bytes, 10)?),
                lifetime: u32::from_be_bytes(super::array(bytes, 12)?),
            }),
            (ADDRESS | MAP_UDP, _) => Err(DropReason::BadLength),
            _ => Err(DropReason::UnknownType),
        }
    }

    #[cfg(test)]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Address { epoch, ip } => {
                out.extend_from_slice(&[VERSION, RESPONSE | ADDRESS, 0, 0]);
                out.extend_from_slice(&epoch.to_be_bytes());
                out.extend_from_slice(&ip.octets());
            }
            Self::Map { epoch, internal, external, lifetime } => {
                out.extend_from_slice(&[VERSION, RESPONSE | MAP_UDP, 0, 0]);
                out.extend_from_slice(&epoch.to_be_bytes());
                out.extend_from_slice(&internal.to_be_bytes());
                out.extend_from_slice(&external.to_be_bytes());
                out.extend_from_slice(&lifetime.to_be_bytes());
            }
            Self::Error { result } => {
                out.extend_from_slice(&[VERSION, RESPONSE]);
                out.extend_from_slice(&result.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_have_the_bytes_of_the_rfc() {
        let bytes = |request: Request| {
            let mut bytes = Vec::new();
            request.encode(&mut bytes);
            bytes
        };
        assert_eq!(bytes(Request::Address), [0, 0]);
        let map = Request::Map { internal: 0x1234, suggested: 0x5678, lifetime: 3600 };
        assert_eq!(bytes(map), [0, 1, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x0e, 0x10]);
    }

    #[test]
    fn responses_of_another_length_are_dropped() {
        let map = [0, 129, 0, 0, 0, 0, 0, 9, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x0e, 0x10];
        let right = Response::Map { epoch: 9, internal: 0x1234, external: 0x5678, lifetime: 3600 };
        assert_eq!(Response::decode(&map), Ok(right));
        assert_eq!(Response::decode(&map[..12]), Err(DropReason::BadLength));
        assert_eq!(Response::decode(&[0, 128, 0, 3]), Ok(Response::Error { result: 3 }));
        assert_eq!(Response::decode(&[0, 1, 0, 0]), Err(DropReason::UnknownType), "a request");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_response_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..20), opcode in 0u8..3) {
            let mut bytes = bytes;
            for fit in [false, true] {
                if fit && bytes.len() > 4 {
                    bytes[..4].copy_from_slice(&[VERSION, RESPONSE | opcode, 0, 0]);
                }
                if let Ok(response) = Response::decode(&bytes) {
                    let mut again = Vec::new();
                    response.encode(&mut again);
                    prop_assert_eq!(Response::decode(&again), Ok(response));
                }
            }
        }
    }
}
