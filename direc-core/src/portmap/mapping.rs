//! What a router grants.

use std::{fmt, net::SocketAddr, time::Duration};

/// By which protocol a port was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MapProtocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// WANIPConnection and WANPPPConnection of UPnP's Internet Gateway Device.
    UpnpIgd,
}

impl fmt::Display for MapProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::UpnpIgd => "UPnP-IGD",
        })
    }
}

/// A port of the router's that leads to this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The address outside, by the router's word. A router behind another NAT names one that leads nowhere.
    pub external: SocketAddr,
    /// How it was asked for.
    pub protocol: MapProtocol,
    /// For how long it was granted; `None`: until it is given back. It is renewed all the same.
    pub lifetime: Option<Duration>,
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}, ", self.external, self.protocol)?;
        match self.lifetime {
            Some(lifetime) => write!(f, "{} s", lifetime.as_secs()),
            None => f.write_str("until it is given back"),
        }
    }
}

/// What a [`PortMapper`](super::PortMapper) has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortMapEvent {
    /// The router has mapped a port, another than before.
    Mapped(PortMapping),
    /// The mapping is gone: it ran out, or the router would not renew it.
    Lost(PortMapping),
    /// The router would not, for now.
    Refused {
        /// In which protocol it said so.
        protocol: MapProtocol,
        /// Its result code.
        result: u16,
    },
    /// The router answers none of the protocols. PCP and UPnP-IGD are tried on, ever more seldom.
    NotOffered,
}
