//! P4's part: S4 and S5 arrive on a stream that P3 opened; S6 is this side's answer, S9 what follows.

use quinn_proto::{Connection, StreamId};

use super::{Introduction, Part, Progress, receive};
use crate::{
    RefuseReason,
    quic::stream::MessageStream,
    wire::message::{Message, Offer, Refused},
};

/// Where P4 stands.
pub(in crate::peer) enum State {
    /// S5 has been heard; with standing consent S9 may overtake our own answer.
    Offered,
    /// S6.
    Accepted,
}

/// A stream that P3 has opened (S4) and on which the offer (S5) has not arrived yet.
pub(in crate::peer) struct Opened(MessageStream);

impl Opened {
    pub(in crate::peer) fn new(id: StreamId) -> Self {
        Self(MessageStream::new(id))
    }

    /// The offer, once it is there.
    pub(in crate::peer) fn receive(mut self, connection: &mut Connection) -> Arrived {
        match receive(&mut self.0, connection) {
            None => Arrived::NotYet(self),
            Some(Ok(Message::Offer(offer))) => {
                Arrived::Offer(offer, Introduction { stream: self.0, part: Part::Server(State::Offered) })
            }
            Some(Ok(_) | Err(Progress::Misbehaved(_))) => Arrived::Misbehaved,
            // P3 thought better of it.
            Some(Err(_)) => Arrived::Ended,
        }
    }
}

pub(in crate::peer) enum Arrived {
    NotYet(Opened),
    Offer(Offer, Introduction),
    Ended,
    Misbehaved,
}

impl Introduction {
    /// S6: yes.
    pub(in crate::peer) fn accept(&mut self, connection: &mut Connection) {
        self.part = Part::Server(State::Accepted);
        self.stream.send(connection, &Message::Accept);
    }

    /// S6: no.
    pub(in crate::peer) fn refuse(&mut self, connection: &mut Connection, reason: RefuseReason) {
        self.stream.send(connection, &Message::Refused(Refused { reason }));
        self.close(connection);
    }
}

impl State {
    pub(super) fn on_message(&self, message: Message) -> Progress {
        match (self, message) {
            (Self::Offered | Self::Accepted, Message::Addresses(told)) => Progress::Addresses(told.addresses),
            (Self::Offered | Self::Accepted, _) => {
                Progress::Misbehaved("went on with an offer by a message that does not belong there")
            }
        }
    }
}
