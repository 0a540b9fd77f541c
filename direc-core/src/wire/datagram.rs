//! The small binary datagrams that share a UDP socket with QUIC: cookies (S7), probes (S10–S13), relayed packets.
//!
//! Their first byte is below 0x40, where no QUIC packet begins while the fixed bit is not greased (RFC 9000, section
//! 17; RFC 9443 sorts protocols by the first byte in the same way).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::drops::DropReason;

/// A cookie's length: 128 bits that nobody guesses.
pub(crate) const COOKIE_LEN: usize = 16;
/// Length of a token, the relay's proof that it has seen an address.
pub(crate) const TOKEN_LEN: usize = 16;
/// Length of a probe's tag, nonce and authenticator.
pub(crate) const TAG_LEN: usize = 8;
pub(crate) const NONCE_LEN: usize = 8;
pub(crate) const MAC_LEN: usize = 16;

/// A cookie datagram is padded to this, so that its echo is the smaller one, and what it brings about later as well.
pub(crate) const COOKIE_DATAGRAM_LEN: usize = 64;
/// A probe is padded to what every QUIC path must carry (RFC 9000, section 14): a path it passes is fit for QUIC.
pub(crate) const PROBE_LEN: usize = 1200;
/// The relayed packet's header: type and channel.
pub(crate) const RELAYED_HEADER: usize = 9;

const ECHO_LEN: usize = 1 + COOKIE_LEN + TOKEN_LEN;
/// Length of a check, and of a probe's echo.
pub(crate) const CHECK_LEN: usize = 1 + TAG_LEN + NONCE_LEN + MAC_LEN;
/// What a bid's authenticator stands behind, and all of it.
const BID_TERMS: usize = 2 + 1 + 2 + 16 + 2 + 2 + 2 + 2;
const BID_LEN: usize = 1 + TAG_LEN + MAC_LEN + BID_TERMS;

const COOKIE: u8 = 0x01;
const ECHO: u8 = 0x02;
const CONFIRM: u8 = 0x03;
const PROBE: u8 = 0x04;
const PROBE_ECHO: u8 = 0x05;
const CHECK: u8 = 0x06;
const LATE_ECHO: u8 = 0x07;
const RELAYED: u8 = 0x08;
const KNOCK: u8 = 0x09;
const BID: u8 = 0x0a;

/// First bytes from here on are QUIC's.
const QUIC_FIRST: u8 = 0x40;

pub(crate) type Cookie = [u8; COOKIE_LEN];
pub(crate) type Token = [u8; TOKEN_LEN];
pub(crate) type Tag = [u8; TAG_LEN];
pub(crate) type Nonce = [u8; NONCE_LEN];
pub(crate) type Mac = [u8; MAC_LEN];

/// A probe or its echo.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct ProbeFields {
    pub(crate) tag: Tag,
    pub(crate) nonce: Nonce,
    pub(crate) mac: Mac,
}

/// An authenticated bid.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct BidFields {
    pub(crate) tag: Tag,
    pub(crate) mac: Mac,
    pub(crate) bid: Bid,
}

/// What one side will do in a round of punching, and where it expects to be seen then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bid {
    /// The round's number, from 1.
    pub(crate) round: u16,
    /// Its own first punches have gone to where the other's bid said: its NATs are open.
    pub(crate) open: bool,
    /// Sockets it punches from.
    pub(crate) sockets: u16,
    /// Where the first of them is most likely to be seen.
    pub(crate) address: SocketAddr,
    /// If not 0, its NAT counts: the next mapping's port is so much further.
    pub(crate) step: i16,
    /// The ports among which its sockets will be seen; one and the same if that is known.
    pub(crate) ports: (u16, u16),
}

impl Bid {
    /// The bytes that are authenticated.
    pub(crate) fn terms(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BID_TERMS);
        out.extend_from_slice(&self.round.to_be_bytes());
        out.push(u8::from(self.open));
        out.extend_from_slice(&self.sockets.to_be_bytes());
        let ip = match self.address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        out.extend_from_slice(&ip.octets());
        out.extend_from_slice(&self.address.port().to_be_bytes());
        out.extend_from_slice(&self.step.to_be_bytes());
        out.extend_from_slice(&self.ports.0.to_be_bytes());
        out.extend_from_slice(&self.ports.1.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DropReason> {
        let [open] = array(bytes, 2)?;
        if open > 1 {
            return Err(DropReason::BadProbe);
        }
        let ip: [u8; 16] = array(bytes, 5)?;
        let number = |at| Ok(u16::from_be_bytes(array(bytes, at)?));
        Ok(Self {
            round: number(0)?,
            open: open == 1,
            sockets: number(3)?,
            address: SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), number(21)?),
            step: i16::from_be_bytes(array(bytes, 23)?),
            ports: (number(25)?, number(27)?),
        })
    }
}

/// A datagram, sorted by its first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) enum Datagram {
    /// Peer to hole-punch port: the cookie (S7). After so many seconds, if not 0, a late echo is asked for.
    Cookie(Cookie, u8),
    /// Hole-punch port to peer: the cookie came from your address, prove that you are there.
    Echo(Cookie, Token),
    /// Peer to hole-punch port: the proof (S8).
    Confirm(Cookie, Token),
    /// Hole-punch port to peer: what a proven cookie has asked for, and the token that only the two can know.
    LateEcho(Cookie, Token),
    /// The relay's knock port to peer, which has not sent there: does this get in? With a token as the late echo's.
    Knock(Cookie, Token),
    /// Peer to peer: does this path work?
    Probe(ProbeFields),
    /// Peer to peer, on a path that works: does it still? A probe without the padding.
    Check(ProbeFields),
    /// The answer to either: the specification's round-tripped data.
    ProbeEcho(ProbeFields),
    /// Peer to peer, through the relay: what this side will do in a round of punching.
    Bid(BidFields),
    /// A QUIC packet through the relay, behind [`RELAYED_HEADER`] bytes.
    Relayed { channel: u64 },
    /// A bare QUIC packet.
    Quic,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], DropReason> {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).ok_or(DropReason::BadLength)
}

fn exactly(bytes: &[u8], len: usize) -> Result<(), DropReason> {
    if bytes.len() == len { Ok(()) } else { Err(DropReason::BadLength) }
}

impl Datagram {
    /// Reads a datagram; a relayed one's or QUIC's contents are left to others.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DropReason> {
        let &first = bytes.first().ok_or(DropReason::Empty)?;
        match first {
            COOKIE => {
                exactly(bytes, COOKIE_DATAGRAM_LEN)?;
                let [delay] = array(bytes, 1 + COOKIE_LEN)?;
                Ok(Self::Cookie(array(bytes, 1)?, delay))
            }
            ECHO | CONFIRM | LATE_ECHO | KNOCK => {
                exactly(bytes, ECHO_LEN)?;
                let (cookie, token) = (array(bytes, 1)?, array(bytes, 1 + COOKIE_LEN)?);
                Ok(match first {
                    ECHO => Self::Echo(cookie, token),
                    CONFIRM => Self::Confirm(cookie, token),
                    KNOCK => Self::Knock(cookie, token),
                    _ => Self::LateEcho(cookie, token),
                })
            }
            PROBE => {
                exactly(bytes, PROBE_LEN)?;
                Ok(Self::Probe(ProbeFields::decode(bytes)?))
            }
            PROBE_ECHO | CHECK => {
                exactly(bytes, CHECK_LEN)?;
                let fields = ProbeFields::decode(bytes)?;
                Ok(if first == CHECK { Self::Check(fields) } else { Self::ProbeEcho(fields) })
            }
            BID => {
                exactly(bytes, BID_LEN)?;
                let terms = bytes.get(BID_LEN - BID_TERMS..).ok_or(DropReason::BadLength)?;
                let (tag, mac) = (array(bytes, 1)?, array(bytes, 1 + TAG_LEN)?);
                Ok(Self::Bid(BidFields { tag, mac, bid: Bid::decode(terms)? }))
            }
            RELAYED if bytes.len() > RELAYED_HEADER => {
                Ok(Self::Relayed { channel: u64::from_be_bytes(array(bytes, 1)?) })
            }
            RELAYED => Err(DropReason::BadLength),
            QUIC_FIRST.. => Ok(Self::Quic),
            _ => Err(DropReason::UnknownType),
        }
    }

    /// Appends the datagram; for a relayed one its header alone, for QUIC nothing.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Cookie(cookie, delay) => {
                out.push(COOKIE);
                out.extend_from_slice(cookie);
                out.push(*delay);
                out.resize(start + COOKIE_DATAGRAM_LEN, 0);
            }
            Self::Echo(cookie, token) => token_datagram(ECHO, cookie, token, out),
            Self::Confirm(cookie, token) => token_datagram(CONFIRM, cookie, token, out),
            Self::LateEcho(cookie, token) => token_datagram(LATE_ECHO, cookie, token, out),
            Self::Knock(cookie, token) => token_datagram(KNOCK, cookie, token, out),
            Self::Probe(fields) => {
                out.push(PROBE);
                fields.encode(out);
                out.resize(start + PROBE_LEN, 0);
            }
            Self::ProbeEcho(fields) | Self::Check(fields) => {
                out.push(if matches!(self, Self::Check(_)) { CHECK } else { PROBE_ECHO });
                fields.encode(out);
            }
            Self::Bid(fields) => {
                out.push(BID);
                out.extend_from_slice(&fields.tag);
                out.extend_from_slice(&fields.mac);
                out.extend_from_slice(&fields.bid.terms());
            }
            Self::Relayed { channel } => {
                out.push(RELAYED);
                out.extend_from_slice(&channel.to_be_bytes());
            }
            Self::Quic => {}
        }
    }
}

fn token_datagram(first: u8, cookie: &Cookie, token: &Token, out: &mut Vec<u8>) {
    out.push(first);
    out.extend_from_slice(cookie);
    out.extend_from_slice(token);
}

impl ProbeFields {
    fn decode(bytes: &[u8]) -> Result<Self, DropReason> {
        Ok(Self {
            tag: array(bytes, 1)?,
            nonce: array(bytes, 1 + TAG_LEN)?,
            mac: array(bytes, 1 + TAG_LEN + NONCE_LEN)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tag);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.mac);
    }
}

/// Puts another channel into a relayed packet's header. The slice begins with a decoded header.
pub(crate) fn set_channel(packet: &mut [u8], channel: u64) {
    packet[1..RELAYED_HEADER].copy_from_slice(&channel.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields() -> ProbeFields {
        ProbeFields { tag: [1; TAG_LEN], nonce: [2; NONCE_LEN], mac: [3; MAC_LEN] }
    }

    fn bid() -> Bid {
        let address = "198.51.100.7:40000".parse().unwrap();
        Bid { round: 2, open: true, sockets: 256, address, step: -2, ports: (1024, 65535) }
    }

    fn all() -> [Datagram; 9] {
        [
            Datagram::Cookie([4; COOKIE_LEN], 25),
            Datagram::Echo([5; COOKIE_LEN], [6; TOKEN_LEN]),
            Datagram::Confirm([7; COOKIE_LEN], [8; TOKEN_LEN]),
            Datagram::Probe(fields()),
            Datagram::ProbeEcho(fields()),
            Datagram::Check(fields()),
            Datagram::LateEcho([9; COOKIE_LEN], [8; TOKEN_LEN]),
            Datagram::Bid(BidFields { tag: [1; TAG_LEN], mac: [3; MAC_LEN], bid: bid() }),
            Datagram::Knock([1; COOKIE_LEN], [2; TOKEN_LEN]),
        ]
    }

    fn bytes(datagram: &Datagram) -> Vec<u8> {
        let mut out = Vec::new();
        datagram.encode(&mut out);
        out
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        for datagram in all() {
            assert_eq!(Datagram::decode(&bytes(&datagram)), Ok(datagram));
        }
    }

    #[test]
    fn any_other_length_is_a_counted_drop() {
        for datagram in all() {
            let whole = bytes(&datagram);
            for len in 1..whole.len() {
                assert_eq!(Datagram::decode(&whole[..len]), Err(DropReason::BadLength), "{datagram:?} cut to {len}");
            }
            let longer = [whole.as_slice(), &[0]].concat();
            assert_eq!(Datagram::decode(&longer), Err(DropReason::BadLength));
        }
    }

    #[test]
    fn a_reply_is_never_larger_than_its_request() {
        let [cookie, echo, confirm, probe, probe_echo, check, late, ..] = all().map(|datagram| bytes(&datagram).len());
        assert!(echo <= cookie && confirm <= echo);
        assert!(late <= cookie && echo + late <= cookie + confirm, "also with what it brings about later");
        assert!(probe_echo <= probe && probe_echo <= check);
    }

    #[test]
    fn a_relayed_packet_keeps_its_contents_when_its_channel_changes() {
        let mut packet = Vec::new();
        Datagram::Relayed { channel: 1 }.encode(&mut packet);
        packet.extend_from_slice(b"inner");
        set_channel(&mut packet, u64::MAX);
        assert_eq!(Datagram::decode(&packet), Ok(Datagram::Relayed { channel: u64::MAX }));
        assert_eq!(&packet[RELAYED_HEADER..], b"inner");
    }

    #[test]
    fn a_header_without_a_packet_is_dropped() {
        let mut packet = Vec::new();
        Datagram::Relayed { channel: 1 }.encode(&mut packet);
        assert_eq!(Datagram::decode(&packet), Err(DropReason::BadLength));
        assert_eq!(Datagram::decode(&[]), Err(DropReason::Empty));
        assert_eq!(Datagram::decode(&[0]), Err(DropReason::UnknownType));
        assert_eq!(Datagram::decode(&[0x3f; 50]), Err(DropReason::UnknownType));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_one_spelling_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
            if let Ok(datagram) = Datagram::decode(&bytes)
                && !matches!(datagram, Datagram::Relayed { .. } | Datagram::Quic)
            {
                let mut out = Vec::new();
                datagram.encode(&mut out);
                prop_assert_eq!(Datagram::decode(&out), Ok(datagram));
            }
        }
    }
}
