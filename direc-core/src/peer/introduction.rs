//! An introduction as the two peers take part in it: [`client`] is P2's side (S1, S2, S9), [`server`] P4's (S4–S6, S9).

pub(super) mod client;
pub(super) mod server;

use std::net::SocketAddr;

use quinn_proto::{Connection, StreamId};

use crate::{
    RefuseReason,
    quic::stream::{MessageStream, Received},
    wire::message::{Message, PunchSecret},
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

/// An introduction's stream on the control connection, whichever side opened it.
pub(super) struct IntroductionStream(MessageStream);

impl IntroductionStream {
    pub(super) fn new(id: StreamId) -> Self {
        Self(MessageStream::new(id))
    }

    pub(super) fn id(&self) -> StreamId {
        self.0.id()
    }

    pub(super) fn send(&mut self, connection: &mut Connection, message: &Message) {
        self.0.send(connection, message);
    }

    pub(super) fn flush(&mut self, connection: &mut Connection) {
        self.0.flush(connection);
    }

    pub(super) fn close(&mut self, connection: &mut Connection) {
        self.0.close(connection);
    }

    /// The next message, or what its absence means.
    pub(super) fn receive(&mut self, connection: &mut Connection) -> Option<Result<Message, Progress>> {
        self.0.receive(connection).map(|received| match received {
            Received::Message(Message::Refused(refused)) => Err(Progress::Refused(refused.reason)),
            Received::Message(message) => Ok(message),
            Received::Ended => Err(Progress::Ended),
            Received::Bad(error) => {
                self.0.send(connection, &Message::Refused(crate::wire::message::Refused { reason: error.reason() }));
                Err(Progress::Misbehaved("sent what is no message"))
            }
        })
    }
}
