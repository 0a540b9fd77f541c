//! Writes a run as pcapng, with the TLS secrets inside, so that Wireshark opens it and decrypts it.
//!
//! Every datagram is in it once, as it entered the internet: both directions of a connection then have the same pair
//! of addresses, and Wireshark can follow it. There is an interface for each sender, and one more for what is inside
//! relayed packets, as if it had gone straight: Wireshark knows no relayed packets, and would miss the beginning of
//! every connection between peers.
//!
//! The format is the IETF draft "PCAP Now Generic (pcapng) Capture File Format"; the headers are IPv4 (RFC 791), IPv6
//! (RFC 8200) and UDP (RFC 768).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::{trace::Frame, world::HostId};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;
/// "TLSK": secrets in the NSS key log format.
const TLS_KEY_LOG: u32 = 0x544c_534b;
/// Frames begin with an IP header.
const LINKTYPE_RAW: u16 = 101;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

const OPT_END: u16 = 0;
const OPT_USER_APPLICATION: u16 = 4;
const OPT_IF_NAME: u16 = 2;
const OPT_IF_TSRESOL: u16 = 9;
/// Timestamps count 10⁻⁹ s.
const NANOSECONDS: u8 = 9;

/// Where the virtual clock starts for Wireshark: 2026-01-01. Any time would do.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const TTL: u8 = 64;

/// A relayed packet's first byte, and the length of the header it wears.
const RELAYED: u8 = 0x08;
const RELAYED_HEADER: usize = 9;

/// The file. `hosts` are the names of all hosts, by number.
pub fn write(hosts: &[String], secrets: &str, frames: &[Frame]) -> Vec<u8> {
    let mut file = Vec::new();
    section_header(&mut file);
    for name in hosts {
        interface(&mut file, name);
    }
    interface(&mut file, "inside the relay");
    let inside = HostId(hosts.len());
    // What is inside a relayed packet, and who sent it, until the relay passes it on.
    let mut relayed: BTreeMap<&[u8], SocketAddr> = BTreeMap::new();
    if !secrets.is_empty() {
        decryption_secrets(&mut file, secrets);
    }
    for frame in frames {
        packet(&mut file, frame);
        let Some(inner) = frame.data.get(RELAYED_HEADER..).filter(|_| frame.data.first() == Some(&RELAYED)) else {
            continue;
        };
        match relayed.remove(inner) {
            Some(src) => packet(&mut file, &Frame { host: inside, src, data: inner.to_vec(), ..frame.clone() }),
            None => drop(relayed.insert(inner, frame.src)),
        }
    }
    file
}

/// A block: type, length, body padded to four bytes, length again.
fn block(file: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let padded = body.len().next_multiple_of(4);
    // Bodies are a datagram or a key log: far below 4 GiB.
    let length = (padded + 12) as u32;
    file.extend_from_slice(&kind.to_le_bytes());
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(body);
    file.resize(file.len() + padded - body.len(), 0);
    file.extend_from_slice(&length.to_le_bytes());
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&(value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn section_header(file: &mut Vec<u8>) {
    let mut body = Vec::new();
    body.extend_from_slice(&BYTE_ORDER.to_le_bytes());
    // Version 1.0, section length unknown.
    body.extend_from_slice(&1_u16.to_le_bytes());
    body.extend_from_slice(&0_u16.to_le_bytes());
    body.extend_from_slice(&(-1_i64).to_le_bytes());
    option(&mut body, OPT_USER_APPLICATION, b"direc-sim");
    option(&mut body, OPT_END, &[]);
    block(file, SECTION_HEADER, &body);
}

fn interface(file: &mut Vec<u8>, name: &str) {
    let mut body = Vec::new();
    body.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
    // Reserved, and no limit to a frame's length.
    body.extend_from_slice(&[0; 6]);
    option(&mut body, OPT_IF_NAME, name.as_bytes());
    option(&mut body, OPT_IF_TSRESOL, &[NANOSECONDS]);
    option(&mut body, OPT_END, &[]);
    block(file, INTERFACE_DESCRIPTION, &body);
}

fn decryption_secrets(file: &mut Vec<u8>, secrets: &str) {
    let mut body = Vec::new();
    body.extend_from_slice(&TLS_KEY_LOG.to_le_bytes());
    body.extend_from_slice(&(secrets.len() as u32).to_le_bytes());
    body.extend_from_slice(secrets.as_bytes());
    block(file, DECRYPTION_SECRETS, &body);
}

fn packet(file: &mut Vec<u8>, frame: &Frame) {
    let ip = ip_packet(frame);
    let time = (EPOCH + frame.at).as_nanos() as u64;
    let mut body = Vec::with_capacity(ip.len() + 40);
    body.extend_from_slice(&(frame.host.0 as u32).to_le_bytes());
    body.extend_from_slice(&((time >> 32) as u32).to_le_bytes());
    body.extend_from_slice(&(time as u32).to_le_bytes());
    // Captured length and original length.
    body.extend_from_slice(&(ip.len() as u32).to_le_bytes());
    body.extend_from_slice(&(ip.len() as u32).to_le_bytes());
    body.extend_from_slice(&ip);
    body.resize(body.len().next_multiple_of(4), 0);
    block(file, ENHANCED_PACKET, &body);
}

/// The datagram with the headers it would have worn.
fn ip_packet(frame: &Frame) -> Vec<u8> {
    let ecn = frame.ecn.map_or(0, |ecn| ecn as u8);
    // Simulated datagrams may be longer than IP allows only if a node is at fault; the file stays whole all the same.
    let data = &frame.data[..frame.data.len().min(usize::from(u16::MAX) - 60)];
    match (frame.src.ip(), frame.dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => v4(src, dst, frame, ecn, data),
        (src, dst) => v6(wide(src), wide(dst), frame, ecn, data),
    }
}

fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn v4(src: Ipv4Addr, dst: Ipv4Addr, frame: &Frame, ecn: u8, data: &[u8]) -> Vec<u8> {
    let length = (20 + UDP_HEADER + data.len()) as u16;
    let mut out = vec![0x45, ecn];
    out.extend_from_slice(&length.to_be_bytes());
    // Identification 0 and "don't fragment" (RFC 6864).
    out.extend_from_slice(&[0, 0, 0x40, 0, TTL, UDP, 0, 0]);
    out.extend_from_slice(&src.octets());
    out.extend_from_slice(&dst.octets());
    let sum = checksum(&[&out]);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    udp(&mut out, &[&src.octets(), &dst.octets()], frame.src, frame.dst, data);
    out
}

fn v6(src: Ipv6Addr, dst: Ipv6Addr, frame: &Frame, ecn: u8, data: &[u8]) -> Vec<u8> {
    let length = (UDP_HEADER + data.len()) as u16;
    let mut out = vec![0x60, ecn << 4, 0, 0];
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[UDP, TTL]);
    out.extend_from_slice(&src.octets());
    out.extend_from_slice(&dst.octets());
    udp(&mut out, &[&src.octets(), &dst.octets()], frame.src, frame.dst, data);
    out
}

fn udp(out: &mut Vec<u8>, addresses: &[&[u8]; 2], src: SocketAddr, dst: SocketAddr, data: &[u8]) {
    let length = (UDP_HEADER + data.len()) as u16;
    let mut header = [0; UDP_HEADER];
    header[..2].copy_from_slice(&src.port().to_be_bytes());
    header[2..4].copy_from_slice(&dst.port().to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    // The sum covers both addresses, the protocol and the length as well (RFC 768; RFC 8200, section 8.1).
    let sum = checksum(&[addresses[0], addresses[1], &[0, UDP], &length.to_be_bytes(), &header, data]);
    header[6..].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(data);
}

/// RFC 1071. All parts but the last have even lengths.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::HostId;

    fn frame(src: &str, dst: &str, data: &[u8]) -> Frame {
        Frame {
            at: Duration::from_nanos(1_500_000_007),
            host: HostId(1),
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            ecn: Some(direc_core::quic_types::EcnCodepoint::Ect0),
            data: data.to_vec(),
        }
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Splits a file into its blocks and checks the frame around each.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let (kind, length) = (u32_at(file, 0), u32_at(file, 4) as usize);
            assert_eq!(length % 4, 0);
            assert_eq!(u32_at(file, length - 4) as usize, length);
            blocks.push((kind, file[8..length - 4].to_vec()));
            file = &file[length..];
        }
        blocks
    }

    /// Codes and values of a block's options.
    fn options(mut body: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut options = Vec::new();
        loop {
            let code = u16::from_le_bytes([body[0], body[1]]);
            let length = usize::from(u16::from_le_bytes([body[2], body[3]]));
            if code == OPT_END {
                assert_eq!((length, body.len()), (0, 4), "the end is the end");
                return options;
            }
            options.push((code, body[4..4 + length].to_vec()));
            body = &body[4 + length.next_multiple_of(4)..];
        }
    }

    #[test]
    fn the_blocks_come_in_order_and_whole() {
        let names = ["P3".to_owned(), "P2".to_owned()];
        let frames = [frame("192.168.1.10:4000", "198.18.0.10:4433", b"odd"), frame("[::1]:1", "[::2]:2", b"even")];
        let blocks = blocks(&write(&names, "CLIENT_RANDOM 00 11\n", &frames));
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION_HEADER, 1, 1, 1, DECRYPTION_SECRETS, ENHANCED_PACKET, ENHANCED_PACKET]);
        assert_eq!(u32_at(&blocks[0].1, 0), BYTE_ORDER);
        assert_eq!(blocks[2].1[..2], LINKTYPE_RAW.to_le_bytes());
        let described = options(&blocks[2].1[8..]);
        assert_eq!(described, [(OPT_IF_NAME, b"P2".to_vec()), (OPT_IF_TSRESOL, vec![9])]);
        let secrets = &blocks[4].1;
        assert_eq!((u32_at(secrets, 0), u32_at(secrets, 4)), (TLS_KEY_LOG, 20));
        assert_eq!(&secrets[8..28], b"CLIENT_RANDOM 00 11\n");
    }

    #[test]
    fn a_packet_block_has_its_time_and_length() {
        let blocks = blocks(&write(&[], "", &[frame("1.2.3.4:5", "6.7.8.9:10", b"odd")]));
        let body = &blocks[2].1;
        assert_eq!(u32_at(body, 0), 1, "interface");
        let time = u64::from(u32_at(body, 4)) << 32 | u64::from(u32_at(body, 8));
        assert_eq!(Duration::from_nanos(time) - EPOCH, Duration::from_nanos(1_500_000_007));
        assert_eq!((u32_at(body, 12), u32_at(body, 16)), (31, 31));
        assert_eq!(body.len(), 20 + 32, "padded");
    }

    #[test]
    fn what_is_inside_a_relayed_packet_is_there_as_if_it_had_gone_straight() {
        let (to_relay, from_relay) = ([&[8; 9][..], b"inner"].concat(), [&[8][..], &[7; 8], b"inner"].concat());
        let frames = [
            frame("198.18.1.1:4000", "198.18.0.10:4433", &to_relay),
            frame("198.18.0.10:4433", "198.18.2.1:4001", &from_relay),
        ];
        let blocks = blocks(&write(&["P3".into(), "P2".into()], "", &frames));
        let (kind, body) = blocks.last().unwrap();
        assert_eq!((*kind, u32_at(body, 0)), (ENHANCED_PACKET, 2));
        let straight = Frame { host: HostId(2), ..frame("198.18.1.1:4000", "198.18.2.1:4001", b"inner") };
        assert_eq!(body[20..20 + 33], ip_packet(&straight));
        assert_eq!(blocks.iter().filter(|(kind, _)| *kind == ENHANCED_PACKET).count(), 3);
    }

    #[test]
    fn headers_have_valid_checksums() {
        for (src, dst) in [("192.168.1.10:4000", "198.18.0.10:4433"), ("[2001:db8::1]:9", "[2001:db8::2]:8")] {
            for data in [&b"odd"[..], b"even", b""] {
                let ip = ip_packet(&frame(src, dst, data));
                let v6 = ip[0] >> 4 == 6;
                let header = if v6 { 40 } else { 20 };
                let addresses = if v6 { &ip[8..40] } else { &ip[12..20] };
                let segment = &ip[header..];
                assert_eq!(segment.len(), 8 + data.len());
                assert_eq!(segment[4..6], (segment.len() as u16).to_be_bytes());
                assert_eq!(&segment[8..], data);
                // Summed over a packet with its checksum in place, the result is nil.
                let length = (segment.len() as u16).to_be_bytes();
                assert_eq!(checksum(&[addresses, &[0, UDP], &length, segment]), 0);
                if !v6 {
                    assert_eq!(checksum(&[&ip[..20]]), 0);
                    assert_eq!(ip[2..4], (ip.len() as u16).to_be_bytes());
                    assert_eq!(ip[1], 0b10, "ECT(0)");
                }
            }
        }
    }

    #[test]
    fn rfc_1071_example() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
