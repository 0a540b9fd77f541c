//! What happened: a hash over every datagram, and records for people.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use direc_core::{Link, StepTaken, quic_types::EcnCodepoint};
use ring::digest;

use crate::{
    nat::NatDrop,
    packet::{Kind, Packet},
    world::HostId,
};

/// Packets that are recorded one by one; later ones are only counted. Enough for any introduction.
const MAX_RECORDS: usize = 100_000;

/// What to keep besides the hash and the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Each packet's length, kind and fate, for the timeline.
    pub packets: bool,
    /// Each packet's bytes as they enter the internet, for Wireshark.
    pub bytes: bool,
}

/// Where a packet was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropCause {
    /// By chance, on a wire.
    Loss,
    /// In a full queue.
    QueueFull,
    /// Bigger than an MTU on the way.
    TooBig,
    /// By a NAT or firewall.
    Nat(NatDrop),
    /// It has passed as many routers as it was to.
    Expired,
    /// No such address.
    NoRoute,
    /// No such host behind the NAT, or no such socket on the host.
    NoSocket,
    /// The host, or the way between two sites, has been silenced; or the host is away, or its process stopped.
    Silenced,
}

impl DropCause {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "lost",
            Self::QueueFull => "queue full",
            Self::TooBig => "too big",
            Self::Nat(NatDrop::NoMapping) => "NAT: no mapping",
            Self::Nat(NatDrop::Filtered) => "NAT: filtered",
            Self::Nat(NatDrop::Taken) => "NAT: taken by the router",
            Self::Nat(NatDrop::Banned) => "firewall: banned",
            Self::Nat(NatDrop::Limited) => "NAT: too many new flows",
            Self::Nat(NatDrop::Isolated) => "isolated",
            Self::Nat(NatDrop::Hairpin) => "NAT: hairpin",
            Self::Nat(NatDrop::Exhausted) => "NAT: no port left",
            Self::Nat(NatDrop::Blocked) => "UDP blocked",
            Self::Expired => "hops used up",
            Self::NoRoute => "no route",
            Self::NoSocket => "no socket",
            Self::Silenced => "silenced",
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Still on its way.
    UnderWay,
    /// Arrived.
    Arrived {
        /// Where.
        host: HostId,
        /// When.
        at: Duration,
    },
    /// Dropped.
    Dropped {
        /// Why.
        cause: DropCause,
        /// When.
        at: Duration,
        /// Whom it was meant for, as far as addresses tell.
        towards: Option<HostId>,
    },
}

/// One packet's record.
#[derive(Clone, Copy, Debug)]
pub struct PacketRecord {
    /// Who sent it.
    pub from: HostId,
    /// When.
    pub at: Duration,
    /// Its destination as the sender wrote it.
    pub dst: SocketAddr,
    /// UDP payload length.
    pub len: usize,
    /// What it is.
    pub kind: Kind,
    /// Whether it wears the relayed packets' header.
    pub relayed: bool,
    /// What became of it.
    pub end: End,
}

/// Something a node said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It took a step of the specification's.
    Step(StepTaken),
    /// It reported something that matters for the whole connection, in words.
    Event(String),
    /// It reported something smaller.
    Detail(String),
    /// It needs this spare socket no more.
    Retired(Link),
}

/// Something a node said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: Duration,
    /// Who.
    pub host: HostId,
    /// What.
    pub what: What,
}

/// A datagram as it entered the internet, NATs behind it and NATs before it; or as it crossed a home's own network.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When.
    pub at: Duration,
    /// Who sent it.
    pub host: HostId,
    /// Source.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// ECN bits.
    pub ecn: Option<EcnCodepoint>,
    /// UDP payload.
    pub data: Vec<u8>,
}

/// How many packets were sent, arrived, and were dropped, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that hosts sent.
    pub sent: u64,
    /// Packets that arrived, duplicates included.
    pub arrived: u64,
    /// Bytes of UDP payload that arrived.
    pub bytes: u64,
    /// Packets that were dropped, by cause.
    pub dropped: BTreeMap<DropCause, u64>,
}

/// The record of a run.
pub struct Trace {
    keep: Keep,
    hash: digest::Context,
    /// Counters.
    pub counts: Counts,
    /// Everything nodes said.
    pub notes: Vec<Note>,
    /// Packets in the order of sending, if kept; their index is [`Packet::id`].
    pub packets: Vec<PacketRecord>,
    /// Frames in the order of time, if kept.
    pub frames: Vec<Frame>,
}

impl Trace {
    /// An empty record.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            hash: digest::Context::new(&digest::SHA256),
            counts: Counts::default(),
            notes: Vec::new(),
            packets: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// SHA-256 over everything that was sent and what became of it.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.hash.clone().finish().as_ref());
        hash
    }

    pub(crate) fn sent(&mut self, at: Duration, packet: &Packet) {
        self.counts.sent += 1;
        if self.keep.packets && self.packets.len() < MAX_RECORDS {
            let (kind, relayed) = Kind::of(&packet.data);
            let (from, dst, len) = (packet.from, packet.dst, packet.data.len());
            self.packets.push(PacketRecord { from, at, dst, len, kind, relayed, end: End::UnderWay });
        }
    }

    pub(crate) fn tapped(&mut self, at: Duration, packet: &Packet) {
        if self.keep.bytes {
            let Packet { from: host, src, dst, ecn, .. } = *packet;
            self.frames.push(Frame { at, host, src, dst, ecn, data: packet.data.to_vec() });
        }
    }

    pub(crate) fn arrived(&mut self, at: Duration, host: HostId, packet: &Packet) {
        self.counts.arrived += 1;
        self.counts.bytes += packet.data.len() as u64;
        self.digest(at, 0, packet);
        self.end(packet, End::Arrived { host, at });
    }

    pub(crate) fn dropped(&mut self, at: Duration, cause: DropCause, towards: Option<HostId>, packet: &Packet) {
        *self.counts.dropped.entry(cause).or_default() += 1;
        self.digest(at, 1, packet);
        self.end(packet, End::Dropped { cause, at, towards });
    }

    pub(crate) fn note(&mut self, at: Duration, host: HostId, what: What) {
        self.notes.push(Note { at, host, what });
    }

    fn end(&mut self, packet: &Packet, end: End) {
        let index = usize::try_from(packet.id).unwrap_or(usize::MAX);
        if let Some(record) = self.packets.get_mut(index) {
            // Of a packet and its duplicate, the first to arrive counts.
            if !matches!(record.end, End::Arrived { .. }) {
                record.end = end;
            }
        }
    }

    fn digest(&mut self, at: Duration, what: u8, packet: &Packet) {
        let mut head = [0; 64];
        // 64 bits of nanoseconds last for 584 years.
        head[..8].copy_from_slice(&(at.as_nanos() as u64).to_le_bytes());
        head[8] = what;
        head[9] = packet.ecn.map_or(0, |ecn| ecn as u8);
        head[10..14].copy_from_slice(&(packet.data.len() as u32).to_le_bytes());
        write_address(&mut head[14..32], packet.src);
        write_address(&mut head[32..50], packet.dst);
        self.hash.update(&head);
        self.hash.update(&packet.data);
    }
}

fn write_address(out: &mut [u8], address: SocketAddr) {
    let ip = match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    };
    out[..16].copy_from_slice(&ip.octets());
    out[16..18].copy_from_slice(&address.port().to_le_bytes());
}
