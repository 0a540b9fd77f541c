//! Doors for the fuzz targets in `fuzz/`, built only under `--cfg fuzzing`: the wire formats, and a hostile party.
//!
//! The functions panic where an invariant does not hold: that is what a fuzzer looks for.

mod puppet;

pub use puppet::{Draw, Puppet};

use std::collections::VecDeque;

use crate::{
    drops::DropReason,
    quic::cid::CidKey,
    rng::Rng,
    wire::{
        datagram::{Datagram, RELAYED_HEADER, set_channel},
        frame::{FrameBuffer, MAX_MESSAGE, frame},
        message::{DecodeError, MAX_ADDRESSES, Message},
    },
};

/// A router's answers to requests for a port mapping, from `start` on.
pub fn portmap(bytes: &[u8], start: std::time::Instant) {
    crate::portmap::fuzz(bytes, start);
}

/// Defaults that an encoded message spells out and a received one may leave out.
const DEFAULTS: usize = 32;

/// Reads `bytes` as one CBOR message, then as a stream of framed messages that arrives in pieces.
///
/// What decodes must encode and decode to the same again, no larger than it came; and how a stream is cut must not
/// matter, for which the first bytes give the cuts.
pub fn message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        check_message(&message, bytes.len());
    }
    let (cuts, stream) = bytes.split_at(bytes.len().min(4));
    check_stream(cuts, stream);
}

fn check_message(message: &Message, received: usize) {
    let encoded = message.encode();
    assert!(Message::decode(&encoded).is_ok_and(|again| again == *message), "{} is not stable", message.kind());
    assert!(encoded.len() <= received + DEFAULTS, "{}: {received} bytes became {}", message.kind(), encoded.len());
    if let Message::Addresses(told) = message {
        assert!(told.addresses.len() <= MAX_ADDRESSES);
    }
    // A peer may have listed more IDs than it should; nobody sends such a list on.
    if encoded.len() <= MAX_MESSAGE {
        let mut buffer = FrameBuffer::default();
        buffer.extend(&frame(message));
        assert!(buffer.next().is_some_and(|out| out.is_ok_and(|out| out == *message)));
        assert!(buffer.next().is_none());
    }
}

/// Gives the stream to a [`FrameBuffer`] in pieces of the sizes in `cuts`, over and over.
fn check_stream(cuts: &[u8], mut stream: &[u8]) {
    let mut expected = messages_of(stream);
    let mut buffer = FrameBuffer::default();
    let (mut fed, mut taken) = (0, 0);
    for &cut in cuts.iter().cycle().take_while(|_| !cuts.is_empty()) {
        let (piece, rest) = stream.split_at(stream.len().min(usize::from(cut) + 1));
        stream = rest;
        fed += piece.len();
        buffer.extend(piece);
        while let Some(found) = buffer.next() {
            let Some((length, wanted)) = expected.pop_front() else { panic!("a message out of nothing") };
            assert!(found == wanted, "a cut at {fed} made another message");
            if found == Err(DecodeError::Length) {
                return;
            }
            taken += length;
        }
        assert!(fed - taken < MAX_MESSAGE + 2, "{} bytes are held back", fed - taken);
        if stream.is_empty() {
            break;
        }
    }
    assert!(stream.is_empty() && expected.is_empty() || cuts.is_empty());
}

type Framed = (usize, Result<Message, DecodeError>);

/// The same, said in another way: all messages of a stream that is there as a whole, each with its bytes on the wire.
fn messages_of(mut stream: &[u8]) -> VecDeque<Framed> {
    let mut out = VecDeque::new();
    while let Some((&[high, low], rest)) = stream.split_first_chunk() {
        let length = usize::from(high) << 8 | usize::from(low);
        if length == 0 || length > MAX_MESSAGE {
            out.push_back((2, Err(DecodeError::Length)));
            break;
        }
        let Some((body, rest)) = rest.split_at_checked(length) else { break };
        out.push_back((2 + length, Message::decode(body)));
        stream = rest;
    }
    out
}

/// Reads `bytes` as one datagram: by its first byte, by its connection ID, and, if it is a relayed one, with another
/// channel in its header. What decodes must encode to the same meaning and length.
pub fn datagram(bytes: &[u8]) {
    if let Some(cids) = CidKey::new(&mut Rng::new([7; 32])) {
        let _ = cids.slot_of_packet(bytes);
    }
    let datagram = match Datagram::decode(bytes) {
        Ok(datagram) => datagram,
        Err(reason) => {
            assert_eq!(reason == DropReason::Empty, bytes.is_empty());
            return;
        }
    };
    let mut encoded = Vec::new();
    datagram.encode(&mut encoded);
    match datagram {
        Datagram::Quic => assert!(encoded.is_empty() && bytes[0] >= 0x40),
        Datagram::Relayed { channel } => {
            assert_eq!(encoded, bytes[..RELAYED_HEADER]);
            let mut changed = bytes.to_vec();
            set_channel(&mut changed, !channel);
            assert!(Datagram::decode(&changed) == Ok(Datagram::Relayed { channel: !channel }));
            assert_eq!(changed[RELAYED_HEADER..], bytes[RELAYED_HEADER..]);
        }
        Datagram::Cookie(..)
        | Datagram::Echo(..)
        | Datagram::Confirm(..)
        | Datagram::LateEcho(..)
        | Datagram::Knock(..)
        | Datagram::Bid(_)
        | Datagram::Probe(_)
        | Datagram::Check(_)
        | Datagram::ProbeEcho(_) => {
            assert_eq!(encoded.len(), bytes.len());
            assert!(Datagram::decode(&encoded) == Ok(datagram));
        }
    }
}
