//! The specification's steps, S1–S13, by their names: what each is, who takes it, where it lives in the code.

use std::fmt;

/// The three parties of PTTH_DIREC. They print as `client`, `relay` and `server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// P2, the client: starts the introduction, is the QUIC client.
    P2,
    /// P3, the relay.
    P3,
    /// P4, "end server Y": is introduced, is the QUIC server.
    P4,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P2 => "client",
            Self::P3 => "relay",
            Self::P4 => "server",
        })
    }
}

/// A step of PTTH_DIREC.
///
/// Nodes report each step as they take it ([`PeerEvent::Step`](crate::PeerEvent::Step),
/// [`RelayEvent::Step`](crate::RelayEvent::Step)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// P2 starts a bi stream to P3. `peer/introduction/client.rs`
    S1,
    /// P2 says: I want a connection to Y, and I will send you cookie X. `peer/introduction/client.rs`
    S2,
    /// P3 creates an ID for this connection and replies "go ahead" to P2. `relay/introductions.rs`
    S3,
    /// P3 starts a bi stream to P4. `relay/introductions.rs`
    S4,
    /// P3 says: accept a connection, send me cookie Z, the client will be W. `relay/introductions.rs`
    S5,
    /// P4 accepts the offer, for which P3 waits. `peer/introduction/server.rs`
    S6,
    /// A peer's cookie goes to the hole-punch addresses and arrives there. `peer/cookies.rs`, `relay/cookies.rs`
    S7,
    /// P3 learns a peer's WAN address: the cookie's source echoed. `relay/punch.rs`, `relay/cookies.rs`
    S8,
    /// P3 tells P2 and P4 each other's WAN addresses, on the streams that are there. `relay/introductions.rs`
    S9,
    /// P4 tries to reach P2 directly. `paths.rs`
    S10,
    /// P2 tries to reach P4 directly. `paths.rs`
    S11,
    /// P4 sees round-tripped data and moves the QUIC connection to the direct path. `paths.rs`, `peer/session/packets.rs`
    S12,
    /// P2 sees round-tripped data and moves the QUIC connection to the direct path. `paths.rs`, `peer/session/packets.rs`
    S13,
}

impl Step {
    /// All steps in the specification's order.
    pub const ALL: [Self; 13] = [
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::S6,
        Self::S7,
        Self::S8,
        Self::S9,
        Self::S10,
        Self::S11,
        Self::S12,
        Self::S13,
    ];

    /// One line for people.
    pub const fn what(self) -> &'static str {
        match self {
            Self::S1 => "starts a stream to the relay",
            Self::S2 => "asks for a connection to the server and sends cookie X",
            Self::S3 => "makes an ID and replies \"go ahead\"",
            Self::S4 => "starts a stream to the server",
            Self::S5 => "offers the client to the server, asks for cookie Z",
            Self::S6 => "accepts the offer",
            Self::S7 => "cookie on its way to a hole-punch port",
            Self::S8 => "learns a WAN address from a cookie that echoed",
            Self::S9 => "WAN addresses told",
            Self::S10 => "tries to connect directly to the client",
            Self::S11 => "tries to connect directly to the server",
            Self::S12 => "sees round-tripped data, moves QUIC to the direct path",
            Self::S13 => "sees round-tripped data, moves QUIC to the direct path",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_of_client_relay_and_server() {
        assert_eq!([Role::P2, Role::P3, Role::P4].map(|role| role.to_string()), ["client", "relay", "server"]);
        for step in Step::ALL {
            let what = step.what();
            assert!(!["P2", "P3", "P4"].iter().any(|party| what.contains(party)), "{step}: {what}");
        }
    }
}
