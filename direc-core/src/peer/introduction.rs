//! An introduction as the two peers take part in it: [`client`] is P2's part (S1, S2, S9), [`server`] P4's (S4–S6, S9).
//!
//! A connection whose relay is lost is introduced anew, by whichever side notices: P2's part falls to that side then,
//! and P4's to the other.

pub(super) mod client;
pub(super) mod server;

use std::net::SocketAddr;

use quinn_proto::{Connection, StreamId};

use crate::{
    RefuseReason,
    quic::stream::{MessageStream, Received},
    wire::message::{Message, PunchSecret, Refused},
};

/// What an introduction has come to, for the session it belongs to.
pub(super) enum Progress {
    /// P3 made the ID and the probes' secret (S3, at P4: S5).
    Introduced { introduction: u64, secret: PunchSecret, accepted: bool },
    /// P4 has accepted (S6), by what P3 says.
    Accepted,
    /// The other side's WAN addresses (S9).
    Addresses(Vec<SocketAddr>),
    /// It has come to nothing.
    Refused(RefuseReason),
    /// The stream has ended: no more relaying, no more addresses.
    Ended,
    /// P3 said what does not belong here.
    Misbehaved(&'static str),
}

/// Which part this peer takes, and where that stands.
enum Part {
    Client(client::State),
    Server(server::State),
    Over,
}

/// One introduction, on its stream of the control connection.
pub(super) struct Introduction {
    stream: MessageStream,
    part: Part,
}

impl Introduction {
    pub(super) fn stream_id(&self) -> StreamId {
        self.stream.id()
    }

    pub(super) fn flush(&mut self, connection: &mut Connection) {
        self.stream.flush(connection);
    }

    /// Ends it; P3 then stops relaying for it.
    pub(super) fn close(&mut self, connection: &mut Connection) {
        self.part = Part::Over;
        self.stream.close(connection);
    }

    /// What has come from P3 since.
    pub(super) fn receive(&mut self, connection: &mut Connection) -> Option<Progress> {
        let progress = match receive(&mut self.stream, connection)? {
            Ok(message) => match &mut self.part {
                Part::Client(state) => state.on_message(message),
                Part::Server(state) => state.on_message(message),
                Part::Over => return None,
            },
            Err(progress) => progress,
        };
        if matches!(progress, Progress::Refused(_) | Progress::Ended | Progress::Misbehaved(_)) {
            self.part = Part::Over;
        }
        Some(progress)
    }
}

/// The next message on an introduction's stream, or what its absence means.
fn receive(stream: &mut MessageStream, connection: &mut Connection) -> Option<Result<Message, Progress>> {
    stream.receive(connection).map(|received| match received {
        Received::Message(Message::Refused(refused)) => Err(Progress::Refused(refused.reason)),
        Received::Message(message) => Ok(message),
        Received::Ended => Err(Progress::Ended),
        Received::Bad(error) => {
            stream.send(connection, &Message::Refused(Refused { reason: error.reason() }));
            Err(Progress::Misbehaved("sent what is no message"))
        }
    })
}
