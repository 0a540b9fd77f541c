//! What the targets `peer` and `relay` share: a small world in virtual time, driven by a program of bytes.
//!
//! A program sets the scene (who is there, who consents to what, how far apart they are), then gives one operation
//! after another: time passes, a peer connects, a stream is written, the network drops and damages and repeats, a
//! stranger sends garbage, a party with a proven key talks nonsense. After every call into a node the contract of
//! `direc-core` is checked; at the end the network heals, and everyone who should be well must be.
//!
//! Set `DIREC_FUZZ_STORY` to have a run told on standard error.

mod app;
mod memory;
mod op;
mod program;
mod run;
mod scene;
mod world;

pub use op::Op;
pub use scene::Scene;

/// A peer as the victim.
pub fn peer(data: &[u8]) {
    run::run(scene::Focus::Peer, data);
}

/// A relay as the victim.
pub fn relay(data: &[u8]) {
    run::run(scene::Focus::Relay, data);
}
