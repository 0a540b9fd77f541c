//! What the programs `demo`, `relay` and `peer` share; each program's own part is the module of its name.

pub mod args;
pub mod bench;
pub mod clock;
pub mod demo;
pub mod events;
pub mod failure;
pub mod home;
pub mod logger;
pub mod meter;
pub mod out;
pub mod pace;
pub mod peer;
pub mod progress;
pub mod protocol;
pub mod reader;
pub mod relay;
pub mod signals;
pub mod standing;
pub mod wait;
