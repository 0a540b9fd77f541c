//! What is said on the registration stream, either way.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::{Connection, StreamId};

use super::{Control, ControlEvent, State};
use crate::{
    NodeId, PeerName, RefuseReason, RelayError,
    config::Consent,
    quic::{Handle, stream::Received},
    wire::{
        datagram::Cookie,
        message::{
            Expect, Knock, Knows, Local, MAX_ADDRESSES, MAX_CONSENTS, Message, Register, Registered, Resolve, Resolved,
        },
    },
};

/// Hole-punch ports that a relay may name; cookies go to each.
const MAX_PUNCH_PORTS: usize = 8;
/// A relay that wants to be left later than this need not say so.
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);
/// What is said of a relay whose message is known, and not awaited.
const OUT_OF_PLACE: &str = "sent a message that does not belong here";

/// What P3 is told of whom this peer accepts. Who does not fit is asked for, never let in unasked.
pub(in crate::peer) fn registration(consent: &Consent, instance: [u8; 8]) -> Register {
    let told = |ids: &[NodeId]| ids.iter().copied().take(MAX_CONSENTS).collect();
    let (listen, any, ids) = match consent {
        Consent::Closed => (false, false, Vec::new()),
        Consent::Ask => (true, false, Vec::new()),
        Consent::Listed { ids, .. } => (true, false, told(ids)),
        Consent::Any => (true, true, Vec::new()),
    };
    Register { listen, any, ids, instance: Some(instance.into()), token: None, knows: Knows::PEER }
}

impl Control {
    /// Tells P3 that this cookie is about to arrive (S7); `aside`, from another socket than the main one.
    pub(in crate::peer) fn expect(&mut self, cookie: Cookie, aside: bool) {
        self.say(&Message::Expect(Expect { cookie, aside }));
    }

    /// Asks P3 for a packet from its knock port.
    pub(in crate::peer) fn ask_to_knock(&mut self, cookie: Cookie) {
        self.say(&Message::Knock(Knock { cookie }));
    }

    /// Asks P3 who is called so. One that does not know the question would close the connection if it were asked.
    pub(in crate::peer) fn resolve(&mut self, name: PeerName) {
        if self.is_registered() && !self.relay_knows.resolve {
            self.events.push(ControlEvent::Resolved(Resolved { name, id: None, reason: Some(RefuseReason::Kind) }));
        } else {
            self.say(&Message::Resolve(Resolve { name }));
        }
    }

    /// Tells P3 this peer's addresses on its machine's own networks.
    pub(in crate::peer) fn set_local(&mut self, local: &[SocketAddr]) {
        let local: Vec<SocketAddr> = local.iter().copied().take(MAX_ADDRESSES).collect();
        if self.local != local {
            self.local = local;
            self.say_local();
        }
    }

    pub(super) fn say_local(&mut self) {
        self.say(&Message::Local(Local { addresses: self.local.clone() }));
    }

    pub(super) fn say(&mut self, message: &Message) {
        if let State::Registered { handle, stream } = &mut self.state
            && let Some(connection) = self.quic.get_mut(*handle)
        {
            stream.send(connection, message);
        }
    }

    pub(super) fn is_registration(&self, id: StreamId) -> bool {
        match &self.state {
            State::Registering { stream, .. } | State::Registered { stream, .. } => stream.id() == id,
            State::Connecting { .. } | State::Waiting { .. } | State::Over => false,
        }
    }

    pub(super) fn on_registration(&mut self, now: Instant, handle: Handle) {
        loop {
            let (State::Registering { stream, .. } | State::Registered { stream, .. }) = &mut self.state else {
                return;
            };
            let Some(connection) = self.quic.get_mut(handle) else { return };
            match stream.receive(connection) {
                None => return,
                Some(Received::Message(message)) => self.on_message(now, handle, message),
                Some(Received::Ended) => return self.misbehaved(now, "ended the registration"),
                Some(Received::Bad(_)) => return self.misbehaved(now, "sent what is no message"),
            }
        }
    }

    fn on_message(&mut self, now: Instant, handle: Handle, message: Message) {
        let event = match message {
            Message::Refused(refused) => return self.lose(now, RelayError::Refused(refused.reason)),
            Message::Registered(registered) if !self.is_registered() => {
                return self.on_registered(now, handle, registered);
            }
            Message::Observed(observed) => ControlEvent::Observed(observed),
            Message::Seen(seen) => ControlEvent::Seen(seen.address),
            Message::Knocked(knock) => ControlEvent::Knocked(knock.cookie),
            Message::Resolved(resolved) => ControlEvent::Resolved(resolved),
            Message::OverQuota(over) => ControlEvent::OverQuota(over),
            Message::Drain(drain) => ControlEvent::Draining(Duration::from_millis(drain.within_ms).min(LONGEST_DRAIN)),
            _ => return self.misbehaved(now, OUT_OF_PLACE),
        };
        // Nothing comes before the answer to the registration.
        match self.is_registered() {
            true => self.events.push(event),
            false => self.misbehaved(now, OUT_OF_PLACE),
        }
    }

    fn on_registered(&mut self, now: Instant, handle: Handle, registered: Registered) {
        let State::Registering { stream, .. } = std::mem::replace(&mut self.state, State::Over) else { return };
        self.attempts = 0;
        self.renewal.on_registered();
        self.rtt = self.quic.get(handle).map(Connection::rtt);
        self.relay_knows = registered.knows;
        self.state = State::Registered { handle, stream };
        let named = registered.punch_ports.into_iter().filter(|&port| port != 0);
        let punch_ports: Vec<u16> = named.take(MAX_PUNCH_PORTS).collect();
        if punch_ports.is_empty() {
            return self.misbehaved(now, "named no hole-punch port");
        }
        if !self.local.is_empty() {
            self.say_local();
        }
        self.events.push(ControlEvent::Registered { punch_ports, knock_port: registered.knock_port });
        self.tell_way();
        self.feel_soon(now);
    }
}
