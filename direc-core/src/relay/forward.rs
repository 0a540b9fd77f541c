//! Relayed packets: another channel number in the header, another address, and on they go. P3 cannot read them.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

use crate::{
    Link, Transmit,
    drops::DropReason,
    wire::datagram::{Datagram, RELAYED_HEADER, set_channel},
};

/// Relayed packets of one channel that came in together, all of one length but the last.
pub(super) struct Run {
    pub(super) channel: u64,
    pub(super) stride: usize,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) data: BytesMut,
}

impl Run {
    /// How many packets these are.
    pub(super) fn packets(&self) -> usize {
        self.data.len().div_ceil(self.stride)
    }

    /// Bytes without the headers.
    pub(super) fn inner_bytes(&self) -> usize {
        self.data.len() - self.packets() * RELAYED_HEADER
    }
}

/// Cuts the longest run off the front of a received buffer, if that begins with a relayed packet.
pub(super) fn split_run(data: &mut BytesMut, stride: usize, ecn: Option<EcnCodepoint>) -> Option<Run> {
    let channel = channel_of(data.chunks(stride).next()?)?;
    let packets = data.chunks(stride).take_while(|packet| channel_of(packet) == Some(channel)).count();
    let data = data.split_to((packets * stride).min(data.len()));
    Some(Run { channel, stride: stride.min(data.len()), ecn, data })
}

fn channel_of(packet: &[u8]) -> Option<u64> {
    match Datagram::decode(packet) {
        Ok(Datagram::Relayed { channel }) => Some(channel),
        _ => None,
    }
}

/// Relayed packets waiting to be sent.
pub(super) struct ForwardQueue {
    queue: VecDeque<(SocketAddr, Run)>,
    bytes: usize,
    limit: usize,
}

impl ForwardQueue {
    pub(super) fn new(limit: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, limit }
    }

    /// Queues a run under its new channel number; a full queue drops it, as any router's would.
    pub(super) fn push(&mut self, remote: SocketAddr, channel: u64, mut run: Run) -> Result<(), DropReason> {
        if self.bytes + run.data.len() > self.limit {
            return Err(DropReason::QueueFull);
        }
        let stride = run.stride;
        run.data.chunks_mut(stride).for_each(|packet| set_channel(packet, channel));
        self.bytes += run.data.len();
        self.queue.push_back((remote, run));
        Ok(())
    }

    pub(super) fn poll_transmit(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (remote, run) = self.queue.pop_front()?;
        self.bytes -= run.data.len();
        buf.extend_from_slice(&run.data);
        let segment_size = (run.packets() > 1).then_some(run.stride);
        Some(Transmit { ecn: run.ecn, segment_size, ..Transmit::one(Link::Main, remote, run.data.len()) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(channel: u64, inner: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Datagram::Relayed { channel }.encode(&mut bytes);
        bytes.extend_from_slice(inner);
        bytes
    }

    #[test]
    fn packets_that_came_together_leave_together_under_their_new_number() {
        let mut data = BytesMut::from(&[packet(1, b"aaa"), packet(1, b"bbb"), packet(1, b"c")].concat()[..]);
        let run = split_run(&mut data, RELAYED_HEADER + 3, None).unwrap();
        assert!(data.is_empty());
        assert_eq!((run.packets(), run.inner_bytes()), (3, 7));
        let mut queue = ForwardQueue::new(1000);
        queue.push("198.51.100.1:1".parse().unwrap(), 2, run).unwrap();
        let mut buf = Vec::new();
        let out = queue.poll_transmit(&mut buf).unwrap();
        assert_eq!(out.segment_size, Some(RELAYED_HEADER + 3));
        assert_eq!(buf, [packet(2, b"aaa"), packet(2, b"bbb"), packet(2, b"c")].concat());
    }

    #[test]
    fn packets_of_two_channels_in_one_buffer_are_told_apart() {
        let mut data = BytesMut::from(&[packet(1, b"aaa"), packet(2, b"bbb")].concat()[..]);
        let first = split_run(&mut data, RELAYED_HEADER + 3, None).unwrap();
        let second = split_run(&mut data, RELAYED_HEADER + 3, None).unwrap();
        assert_eq!((first.channel, second.channel), (1, 2));
        assert!(split_run(&mut data, 12, None).is_none());
    }

    #[test]
    fn a_full_queue_drops_and_takes_again_once_it_has_sent() {
        let run = || split_run(&mut BytesMut::from(&packet(1, &[0; 91])[..]), 100, None).unwrap();
        let remote = "198.51.100.1:1".parse().unwrap();
        let mut queue = ForwardQueue::new(150);
        assert_eq!(queue.push(remote, 2, run()), Ok(()));
        assert_eq!(queue.push(remote, 2, run()), Err(DropReason::QueueFull));
        queue.poll_transmit(&mut Vec::new()).unwrap();
        assert_eq!(queue.push(remote, 2, run()), Ok(()));
    }
}
