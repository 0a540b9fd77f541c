//! The relay's HTTPS port, and the peer's way there: what there is where UDP does not pass.
//!
//! rustls is a state machine without I/O, as direc-core is, so that a socket and some loops are all that TLS takes
//! (`stream`); of HTTP the heads alone are needed, which httparse parses (`http`). `carry` is a tunnel at work, the same
//! at both ends. `acme` has an authority certify the relay's key.

#[cfg(feature = "acme")]
mod acme;
mod carry;
mod client;
mod description;
mod error;
mod http;
mod key;
mod pages;
mod places;
mod proxy;
mod renew;
mod server;
mod stream;
mod trust;
mod within;

#[cfg(feature = "acme")]
pub(crate) use acme::Acme;
#[cfg(feature = "acme")]
pub use acme::AcmeOptions;
pub(crate) use carry::Lines;
pub use client::HttpsRelay;
pub(crate) use client::{Way, Wishes, attend};
pub use description::bootstrap;
pub(crate) use description::describe;
pub use error::HttpsError;
pub(crate) use key::CurrentKey;
pub use key::{HttpsKey, HttpsKeyError};
pub use pages::{Page, PageServer};
pub use proxy::{Proxy, ProxyError};
pub(crate) use server::{Counters, Listener, serve};
pub use server::{HttpsLimits, HttpsStats};
pub use trust::Trust;
pub(crate) use within::within;

/// What is spoken inside TLS (RFC 7301).
const ALPN: &[u8] = b"http/1.1";
/// Where the tunnel is, and what is spoken there instead of HTTP.
const TUNNEL_PATH: &str = "/direc";
const TUNNEL_PROTOCOL: &str = "direc-tunnel";
/// Where a relay describes itself (RFC 8615).
const WELL_KNOWN: &str = "/.well-known/direc";
