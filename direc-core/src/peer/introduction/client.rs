//! P2's part: S1 and S2, then what P3 answers (S3, S9).

use quinn_proto::{Connection, Dir};

use super::{Introduction, Part, Progress};
use crate::{
    quic::stream::MessageStream,
    wire::message::{Initiate, Message},
};

/// Where P2 stands.
pub(in crate::peer) enum State {
    /// S2 is said; P3 has not answered.
    Initiated,
    /// P3 has said "go ahead" (S3).
    Introduced,
}

impl Introduction {
    /// S1: starts a bi stream to P3. S2: says with whom, and which cookie is coming. `None` while P3 allows no stream.
    pub(in crate::peer) fn initiate(connection: &mut Connection, initiate: Initiate) -> Option<Self> {
        let mut stream = MessageStream::new(connection.streams().open(Dir::Bi)?);
        stream.send(connection, &Message::Initiate(initiate));
        Some(Self { stream, part: Part::Client(State::Initiated) })
    }
}

impl State {
    pub(super) fn on_message(&mut self, message: Message) -> Progress {
        match (&self, message) {
            (Self::Initiated, Message::GoAhead(go)) => {
                *self = Self::Introduced;
                Progress::Introduced { introduction: go.introduction, secret: go.secret, accepted: go.accepted }
            }
            (Self::Introduced, Message::Accept) => Progress::Accepted,
            (Self::Introduced, Message::Addresses(told)) => Progress::Addresses(told.addresses),
            (Self::Initiated | Self::Introduced, _) => {
                Progress::Misbehaved("answered an introduction with a message that does not belong there")
            }
        }
    }
}
