//! S7 and S8 at the hole-punch ports: a cookie that arrives, the proof of where it came from, and the late echo it may ask
//! for.

use std::net::SocketAddr;

use super::{Relay, cookies::Owner, promises::Promise};
use crate::{
    Link, Transmit,
    drops::DropReason,
    quic::tls::late_token,
    step::Step,
    wire::{
        datagram::{Cookie, Datagram, Token},
        message::{Message, Observed},
    },
};

/// Echoes waiting to be sent; a cookie that finds the queue full is repeated by its sender.
const MAX_ECHOES: usize = 1024;

impl Relay {
    /// S7: a cookie has arrived. Silence unless it is expected; the echo is smaller than the cookie's datagram.
    pub(super) fn on_cookie(
        &mut self,
        port: u8,
        from: SocketAddr,
        cookie: Cookie,
        delay: u8,
    ) -> Result<(), DropReason> {
        let owner = self.jar.owner(self.now, &cookie, port)?;
        self.jar.ask(&cookie, port, delay);
        if self.registry.get(owner.peer).is_some_and(|entry| entry.shook_hands_at == from && !owner.aside) {
            self.on_proven(owner, port, from, cookie);
            return Ok(());
        }
        if self.echoes.len() >= MAX_ECHOES {
            return Err(DropReason::QueueFull);
        }
        self.echoes.push_back((port, from, cookie, self.jar.token(&cookie, port, from)));
        Ok(())
    }

    pub(super) fn on_confirm(
        &mut self,
        port: u8,
        from: SocketAddr,
        cookie: &Cookie,
        token: &Token,
    ) -> Result<(), DropReason> {
        let owner = self.jar.on_confirm(self.now, cookie, token, port, from)?;
        self.on_proven(owner, port, from, *cookie);
        Ok(())
    }

    /// S8: the address has echoed, and is now known to be the peer's. The cookie is used up there, and may have asked for
    /// a late echo. What the knock port sees is for the peer alone: a mapping that a knock has spoilt leads nowhere.
    fn on_proven(&mut self, owner: Owner, port: u8, from: SocketAddr, cookie: Cookie) {
        let delay = self.jar.use_up(&cookie, port);
        let Some(entry) = self.registry.get_mut(owner.peer) else { return };
        self.ports.note(self.now, from);
        if owner.aside {
            // A round of punching waits for it, on both sides.
            self.urgent.begin(self.now, owner.peer);
            let pool = self.ports.range(self.now, from.ip());
            return self.say(owner.peer, &Message::Observed(Observed { cookie, port, address: from, pool }));
        }
        if let Some(delay) = delay {
            self.promises.add(self.now, delay, Promise { peer: owner.peer, port, to: from, cookie });
        }
        if usize::from(port) >= self.config.punch_ports.len() {
            return self.say(owner.peer, &Message::Observed(Observed { cookie, port, address: from, pool: None }));
        }
        let before = entry.addresses(self.now);
        entry.observe(self.now, port, from);
        let (id, news) = (entry.id, entry.addresses(self.now) != before);
        self.say(owner.peer, &Message::Observed(Observed { cookie, port, address: from, pool: None }));
        if news || owner.introduction.is_some() {
            self.step(Step::S8, owner.introduction, Some(id), Some(from));
        }
        if news {
            self.tell_all(owner.peer);
        }
    }

    /// The next late echo whose time has come.
    pub(super) fn late_echo(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        let Promise { peer, port, to, cookie } = self.promises.poll_due(self.now)?;
        let token = late_token(self.quic.get(peer)?, &cookie, port)?;
        Datagram::LateEcho(cookie, token).encode(buf);
        Some(Transmit::one(Link::Punch(port), to, buf.len()))
    }
}
