//! A UDP datagram on its way, and what kind it is to the eye.

use std::net::SocketAddr;

use bytes::BytesMut;
use direc_core::quic_types::EcnCodepoint;

use crate::world::HostId;

/// A UDP datagram on its way through the network.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its number in the order of sending; a duplicate keeps it.
    pub id: u64,
    /// Who sent it.
    pub from: HostId,
    /// Its source, as NATs on the way have left it.
    pub src: SocketAddr,
    /// Its destination, as NATs on the way have left it.
    pub dst: SocketAddr,
    /// ECN bits.
    pub ecn: Option<EcnCodepoint>,
    /// Routers that it may still pass: the IP header's TTL or hop limit.
    pub hops: u8,
    /// UDP payload.
    pub data: BytesMut,
}

/// Routers that a packet may pass if its sender does not say otherwise.
pub const HOPS: u8 = 64;

impl Packet {
    /// A router passes it on; `false` if it may pass no more.
    pub fn hop(&mut self) -> bool {
        let passes = self.hops > 1;
        self.hops -= u8::from(passes);
        passes
    }

    /// Length of the IP packet: payload, 8 bytes of UDP, 20 or 40 of IP.
    pub fn ip_len(&self) -> usize {
        self.data.len() + 8 + if self.dst.is_ipv4() { 20 } else { 40 }
    }
}

/// What a datagram is, as far as its first bytes tell anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A QUIC packet with a long header of type Initial.
    Initial,
    /// A QUIC packet with a long header of type 0-RTT.
    ZeroRtt,
    /// A QUIC packet with a long header of type Handshake.
    Handshake,
    /// A QUIC Retry.
    Retry,
    /// A QUIC packet with a short header.
    OneRtt,
    /// A cookie on its way to a hole-punch port (S7).
    Cookie,
    /// The hole-punch port's answer.
    CookieEcho,
    /// The proof that the answer came (S8).
    CookieConfirm,
    /// The hole-punch port's second answer, when it was asked for one.
    LateEcho,
    /// A packet from the relay that the peer's NATs have not asked for.
    Knock,
    /// A probe of a direct path (S10, S11).
    Probe,
    /// Its echo: round-tripped data (S12, S13).
    ProbeEcho,
    /// A check of a direct path that stands.
    Check,
    /// What a side will do in a round of punching.
    Bid,
    /// None of these.
    Other,
}

impl Kind {
    /// The kind of a datagram, and whether it goes through the relay.
    pub fn of(data: &[u8]) -> (Self, bool) {
        match data.first() {
            Some(0x08) => (Self::bare(data.get(9..).unwrap_or_default()), true),
            _ => (Self::bare(data), false),
        }
    }

    fn bare(data: &[u8]) -> Self {
        match data.first() {
            Some(0x01) => Self::Cookie,
            Some(0x02) => Self::CookieEcho,
            Some(0x03) => Self::CookieConfirm,
            Some(0x04) => Self::Probe,
            Some(0x05) => Self::ProbeEcho,
            Some(0x06) => Self::Check,
            Some(0x07) => Self::LateEcho,
            Some(0x09) => Self::Knock,
            Some(0x0a) => Self::Bid,
            // RFC 9000, section 17: header form, fixed bit, long packet type.
            Some(first @ 0xc0..) => match first >> 4 & 0b11 {
                0 => Self::Initial,
                1 => Self::ZeroRtt,
                2 => Self::Handshake,
                _ => Self::Retry,
            },
            Some(0x40..0x80) => Self::OneRtt,
            _ => Self::Other,
        }
    }

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initial => "Initial",
            Self::ZeroRtt => "0-RTT",
            Self::Handshake => "Handshake",
            Self::Retry => "Retry",
            Self::OneRtt => "QUIC",
            Self::Cookie => "cookie",
            Self::CookieEcho => "cookie echo",
            Self::CookieConfirm => "cookie confirm",
            Self::LateEcho => "late echo",
            Self::Knock => "knock",
            Self::Probe => "probe",
            Self::ProbeEcho => "probe echo",
            Self::Check => "check",
            Self::Bid => "bid",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_kind() {
        assert_eq!(Kind::of(&[0xc3, 0]), (Kind::Initial, false));
        assert_eq!(Kind::of(&[0xe0]), (Kind::Handshake, false));
        assert_eq!(Kind::of(&[0x41]), (Kind::OneRtt, false));
        assert_eq!(Kind::of(&[0x04]), (Kind::Probe, false));
        assert_eq!(Kind::of(&[8, 0, 0, 0, 0, 0, 0, 0, 1, 0xc0]), (Kind::Initial, true));
        assert_eq!(Kind::of(&[8, 0]), (Kind::Other, true));
        assert_eq!(Kind::of(&[]), (Kind::Other, false));
    }
}
