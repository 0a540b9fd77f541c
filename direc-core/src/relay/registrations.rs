//! Registrations: who is let in, and what is said on the stream that holds each one.

use std::net::SocketAddr;

use super::{Relay, cookies::Owner, registry::Admitted, streams::refuse};
use crate::{
    RefuseReason, RelayEvent,
    quic::{
        Handle,
        stream::{MessageStream, Received},
    },
    wire::{
        close_code,
        message::{Knows, Message, Register, Registered, Seen},
    },
};

impl Relay {
    pub(super) fn on_register(&mut self, handle: Handle, mut stream: MessageStream, register: Register) {
        let Some(entry) = self.registry.get(handle) else { return };
        let (peer, address, listening) = (entry.id, self.tunnels.remote(entry.address), register.listen);
        if entry.is_registered() {
            return self.dismiss(handle, close_code::MISBEHAVED, b"registered twice on one connection");
        }
        if self.draining_until.is_some() {
            return self.dismiss(handle, close_code::GOODBYE, b"the relay is going down");
        }
        let admitted = match self.admit_registration(handle, &register) {
            Ok(admitted) => admitted,
            Err(reason) => return self.refuse_registration(handle, stream, reason),
        };
        let replaced = self.registry.register(handle, register, admitted);
        let (punch_ports, knock_port) = (self.config.punch_ports.clone(), self.config.knock_port);
        let registered = Registered { punch_ports, knock_port, knows: Knows::RELAY };
        if let (Some(entry), Some(connection)) = (self.registry.get_mut(handle), self.quic.get_mut(handle)) {
            stream.send(connection, &Message::Registered(registered));
            stream.send(connection, &Message::Seen(Seen { address }));
            entry.stream = Some(stream);
        }
        if let Some(old) = replaced {
            self.dismiss(old, close_code::REPLACED, b"the same key has registered anew");
        }
        self.events.push_back(RelayEvent::Registered { peer, address, listening });
        self.on_registration(handle);
    }

    /// Whether this registration may be: within the quotas, by the rules of access, and where there is room.
    fn admit_registration(&mut self, handle: Handle, register: &Register) -> Result<Admitted, RefuseReason> {
        let payer = self.payer(handle).ok_or(RefuseReason::Kind)?;
        self.meters.registrations.take(self.now, &self.config.quotas.registrations, payer, 1)?;
        let entry = self.registry.get(handle).ok_or(RefuseReason::Kind)?;
        let (rights, shown) = self.rights_of(entry, register.token.as_ref(), register.listen)?;
        if self.registry.registered_at(payer.network()) >= self.config.limits.registered_per_address {
            return Err(RefuseReason::AddressQuota);
        }
        Ok(Admitted { rights, shown, network: payer.network() })
    }

    fn refuse_registration(&mut self, handle: Handle, mut stream: MessageStream, reason: RefuseReason) {
        self.note_refusal(handle, reason);
        if let Some(connection) = self.quic.get_mut(handle) {
            refuse(&mut stream, connection, reason);
        }
    }

    /// A registered peer announces its cookies on this stream, says where it is, and asks to be knocked at.
    pub(super) fn on_registration(&mut self, handle: Handle) {
        loop {
            let Some(stream) = self.registry.get_mut(handle).and_then(|entry| entry.stream.as_mut()) else { return };
            let Some(connection) = self.quic.get_mut(handle) else { return };
            match stream.receive(connection) {
                None => return,
                Some(Received::Message(Message::Expect(expect))) => {
                    self.jar.expect(
                        self.now,
                        expect.cookie,
                        Owner { peer: handle, introduction: None, aside: expect.aside },
                    );
                }
                Some(Received::Message(Message::Local(local))) => self.on_local(handle, &local.addresses),
                Some(Received::Message(Message::Knock(knock))) => self.on_knock(handle, knock.cookie),
                Some(Received::Message(Message::Resolve(resolve))) => self.on_resolve(handle, resolve.name),
                Some(Received::Message(_) | Received::Bad(_)) => {
                    return self.dismiss_for_misbehaving(handle);
                }
                Some(Received::Ended) => return self.dismiss(handle, close_code::GOODBYE, b"goodbye"),
            }
        }
    }

    /// A peer's addresses on its machine's own networks, as far as they may be told.
    fn on_local(&mut self, handle: Handle, addresses: &[SocketAddr]) {
        if let Some(entry) = self.registry.get_mut(handle) {
            entry.set_local(addresses);
            self.tell_all(handle);
        }
    }

    /// Says something on a peer's registration stream.
    pub(super) fn say(&mut self, handle: Handle, message: &Message) {
        let stream = self.registry.get_mut(handle).and_then(|entry| entry.stream.as_mut());
        if let (Some(stream), Some(connection)) = (stream, self.quic.get_mut(handle)) {
            stream.send(connection, message);
        }
    }
}
