//! P4's side: S4 and S5 arrive on a stream that P3 opened; S6 is this side's answer, S9 what follows.

use quinn_proto::{Connection, StreamId};

use super::{IntroductionStream, Progress};
use crate::{
    RefuseReason,
    wire::message::{Message, Offer, Refused},
};

/// Where P4 stands.
enum State {
    /// S5 has been heard; the answer is out.
    Offered,
    /// S6.
    Accepted,
    Over,
}

/// A stream that P3 has opened (S4) and on which the offer (S5) has not arrived yet.
pub(in crate::peer) struct Opened(IntroductionStream);

impl Opened {
    pub(in crate::peer) fn new(id: StreamId) -> Self {
        Self(IntroductionStream::new(id))
    }

    /// The offer, once it is there.
    pub(in crate::peer) fn receive(mut self, connection: &mut Connection) -> Arrived {
        match self.0.receive(connection) {
            None => Arrived::NotYet(self),
            Some(Ok(Message::Offer(offer))) => Arrived::Offer(offer, Server { stream: self.0, state: State::Offered }),
            Some(Ok(_)) => Arrived::Misbehaved,
            Some(Err(Progress::Misbehaved(_))) => Arrived::Misbehaved,
            // P3 thought better of it.
            Some(Err(_)) => Arrived::Ended,
        }
    }
}

pub(in crate::peer) enum Arrived {
    NotYet(Opened),
    Offer(Offer, Server),
    Ended,
    Misbehaved,
}

pub(in crate::peer) struct Server {
    stream: IntroductionStream,
    state: State,
}

impl Server {
    pub(in crate::peer) fn stream_id(&self) -> StreamId {
        self.stream.id()
    }

    /// S6: yes.
    pub(in crate::peer) fn accept(&mut self, connection: &mut Connection) {
        self.state = State::Accepted;
        self.stream.send(connection, &Message::Accept);
    }

    /// S6: no.
    pub(in crate::peer) fn refuse(&mut self, connection: &mut Connection, reason: RefuseReason) {
        self.stream.send(connection, &Message::Refused(Refused { reason }));
        self.close(connection);
    }

    pub(in crate::peer) fn flush(&mut self, connection: &mut Connection) {
        self.stream.flush(connection);
    }

    pub(in crate::peer) fn close(&mut self, connection: &mut Connection) {
        self.state = State::Over;
        self.stream.close(connection);
    }

    /// What has come from P3 since the offer.
    pub(in crate::peer) fn receive(&mut self, connection: &mut Connection) -> Option<Progress> {
        let progress = match self.stream.receive(connection)? {
            Ok(message) => self.on_message(message),
            Err(progress) => progress,
        };
        if matches!(progress, Progress::Refused(_) | Progress::Ended | Progress::Misbehaved(_)) {
            self.state = State::Over;
        }
        Some(progress)
    }

    fn on_message(&mut self, message: Message) -> Progress {
        match (&self.state, message) {
            // With standing consent S9 may overtake our own answer.
            (State::Offered | State::Accepted, Message::Addresses(told)) => Progress::Addresses(told.addresses),
            (State::Offered | State::Accepted | State::Over, _) => {
                Progress::Misbehaved("went on with an offer by a message that does not belong there")
            }
        }
    }
}
