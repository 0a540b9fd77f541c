//! Bytes and their meaning, without any decision: what is on the wire, and nothing about when.
//!
//! - [`message`]: CBOR messages on the bi streams between peers and relay (S1–S6, S9)
//! - [`frame`]: how messages are cut out of a stream
//! - [`datagram`]: cookies, probes, relayed packets
//! - [`close_code`]: with what a control connection ends
//!
//! `docs/protocol.md` has the bytes.

pub(crate) mod close_code;
pub(crate) mod datagram;
pub(crate) mod frame;
pub(crate) mod message;
