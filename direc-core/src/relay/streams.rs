//! The streams of control connections: whose they are, by what is said first on them.

use quinn_proto::{Connection, StreamId};

use super::Relay;
use crate::{
    RefuseReason,
    quic::{
        Handle,
        stream::{MessageStream, Received},
    },
    wire::message::{Message, Refused},
};

impl Relay {
    pub(super) fn on_readable(&mut self, handle: Handle, id: StreamId) {
        if self.registry.get(handle).is_some_and(|entry| entry.stream.as_ref().is_some_and(|stream| stream.id() == id))
        {
            self.on_registration(handle);
        } else if let Some(stream) = self.fresh.remove(&(handle.0, id)) {
            self.on_fresh(handle, stream);
        } else {
            self.on_introduction(handle, id);
        }
    }

    /// The first message on a stream says what the stream is for.
    fn on_fresh(&mut self, handle: Handle, mut stream: MessageStream) {
        let id = stream.id();
        let Some(connection) = self.quic.get_mut(handle) else { return };
        match stream.receive(connection) {
            None => {
                self.fresh.insert((handle.0, id), stream);
            }
            Some(Received::Message(Message::Register(register))) => self.on_register(handle, stream, register),
            Some(Received::Message(Message::Initiate(initiate))) => {
                self.on_initiate(handle, stream, &initiate);
                // Who thought better of it may have said so in the same packet: nothing else tells of it.
                self.on_introduction(handle, id);
            }
            Some(Received::Message(_)) => refuse(&mut stream, connection, RefuseReason::Kind),
            Some(Received::Bad(error)) => refuse(&mut stream, connection, error.reason()),
            Some(Received::Ended) => stream.close(connection),
        }
    }

    pub(super) fn on_writable(&mut self, handle: Handle, id: StreamId) {
        let Some(connection) = self.quic.get_mut(handle) else { return };
        let registration = self.registry.get_mut(handle).and_then(|entry| entry.stream.as_mut());
        if let Some(stream) = registration.filter(|stream| stream.id() == id) {
            stream.flush(connection);
        } else if let Some(stream) = self.introductions.stream_mut(handle, id) {
            stream.flush(connection);
        }
    }
}

/// Says no, and ends the stream.
pub(super) fn refuse(stream: &mut MessageStream, connection: &mut Connection, reason: RefuseReason) {
    stream.send(connection, &Message::Refused(Refused { reason }));
    stream.close(connection);
}
