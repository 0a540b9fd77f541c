//! P2's side: S1 and S2, then what P3 answers (S3, S9).

use quinn_proto::{Connection, Dir, StreamId};

use super::{IntroductionStream, Progress};
use crate::wire::message::{Initiate, Message};

/// Where P2 stands.
enum State {
    /// S2 is said; P3 has not answered.
    Initiated,
    /// P3 has said "go ahead" (S3).
    Introduced,
    Over,
}

pub(in crate::peer) struct Client {
    stream: IntroductionStream,
    state: State,
}

impl Client {
    /// S1: starts a bi stream to P3. S2: says with whom, and which cookie is coming. `None` while P3 allows no stream.
    pub(in crate::peer) fn initiate(connection: &mut Connection, initiate: Initiate) -> Option<Self> {
        let mut stream = IntroductionStream::new(connection.streams().open(Dir::Bi)?);
        stream.send(connection, &Message::Initiate(initiate));
        Some(Self { stream, state: State::Initiated })
    }

    pub(in crate::peer) fn stream_id(&self) -> StreamId {
        self.stream.id()
    }

    pub(in crate::peer) fn flush(&mut self, connection: &mut Connection) {
        self.stream.flush(connection);
    }

    pub(in crate::peer) fn close(&mut self, connection: &mut Connection) {
        self.state = State::Over;
        self.stream.close(connection);
    }

    /// What has come from P3 since.
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
            (State::Initiated, Message::GoAhead(go)) => {
                self.state = State::Introduced;
                Progress::Introduced { introduction: go.introduction, secret: go.secret, accepted: go.accepted }
            }
            (State::Introduced, Message::Accept) => Progress::Accepted,
            (State::Introduced, Message::Addresses(told)) => Progress::Addresses(told.addresses),
            (State::Initiated | State::Introduced | State::Over, _) => {
                Progress::Misbehaved("answered an introduction with a message that does not belong there")
            }
        }
    }
}
