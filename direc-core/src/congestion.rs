//! Congestion control: how much may be in flight, and when it leaves.
//!
//! quinn-proto asks a controller that it is given; there is one per connection and *epoch*, the time on one path. What
//! epochs have in common is in the [`ledger`]. A setting says which controller it is: windows after Cubic, or a model of
//! the path ([`bbr`]), whose packets are [paced](pacer).

mod bbr;
pub(crate) mod epoch;
pub(crate) mod ledger;
mod model;
mod pacer;
mod slow_start;

/// How a connection finds out how much its path carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// A model of the path's rate and round trip (after draft-ietf-ccwg-bbr): what a path loses anyway does not slow it
    /// down, and queues stay short.
    Bbr,
    /// Windows that grow until packets are lost (RFC 9438).
    #[default]
    Cubic,
}
