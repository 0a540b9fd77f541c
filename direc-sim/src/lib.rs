//! A network of NATs in virtual time, in which the real direc-core runs bit for bit reproducibly.
//!
//! [`World`] has sites, hosts and wires; [`Scenario`] describes a whole run as plain data, and [`run()`] gives its
//! [`Outcome`]: times, paths, a hash over every datagram, a timeline for people, a capture for Wireshark. One seed
//! gives one run, in every process and on every machine.
//!
//! ```
//! use direc_sim::{Bounds, Scenario, run};
//! use std::time::Duration;
//!
//! let delay = Duration::from_millis(20);
//! let scenario = Scenario::home_pair(delay, delay, delay);
//! let outcome = run(&scenario, 1)?;
//! let heard = outcome.call(0).and_then(|call| call.direct_heard());
//! assert_eq!(heard, Bounds::of(&scenario, 0).map(|bounds| bounds.direct));
//! # Ok::<(), direc_sim::SetUpError>(())
//! ```
//!
//! [`faults`] is a catalogue of what can go wrong under a running upload, and how long each may stall it;
//! `direc-sim faults` measures it over many seeds. [`oracle`] says which pairs of NATs let a direct path be;
//! [`matrix`] holds all of them against it.
//!
//! NATs are described in the terms of RFC 4787. The keys of a run can be computed from its seed: simulation only.

pub mod app;
pub mod conform;
pub mod crypto;
pub mod faults;
pub mod json;
pub mod link;
pub mod matrix;
pub mod nat;
pub mod node;
pub mod oracle;
pub mod outcome;
pub mod packet;
pub mod pcapng;
pub mod rng;
mod run;
pub mod scenario;
mod site;
pub mod timeline;
pub mod trace;
pub mod week;
pub mod world;

pub use outcome::{Bounds, CallOutcome, Outcome};
pub use run::{SetUpError, run, run_keeping};
pub use scenario::Scenario;
pub use site::SiteConfig;
pub use world::{HostId, SiteId, World};
