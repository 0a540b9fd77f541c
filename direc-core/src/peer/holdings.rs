//! What a peer holds: for tests that nothing piles up.

use super::{Peer, cookies::Cookies, session::Session};

impl Peer {
    /// How many things of each kind it holds. What it remembers of hosts that have not answered is left out: that is
    /// bounded, and kept on purpose.
    #[doc(hidden)]
    pub fn holdings(&self) -> Vec<(&'static str, usize)> {
        let attached = |session: &Session| session.attached().count();
        let cookies = |count: fn(&Cookies) -> usize| -> usize {
            let all = self.relays.iter().flat_map(|relay| [&relay.cookies, &relay.knock.cookies]);
            all.map(count).sum()
        };
        vec![
            ("sessions", self.sessions.len()),
            ("candidates", self.sessions.values().map(|session| session.candidates(self.now)).sum()),
            ("attachments", self.sessions.values().map(attached).sum()),
            ("offers", self.offered.len()),
            ("streams", self.by_stream.len() + self.relays.iter().map(|relay| relay.opened.len()).sum::<usize>()),
            ("channels", self.by_channel.len()),
            ("tags", self.by_tag.len()),
            ("entries", self.entered.len()),
            ("timers", self.timers.len() + self.timer_of.len()),
            ("sockets", self.spares.len()),
            ("cookies", cookies(Cookies::len)),
            ("names", self.relays.iter().map(|relay| relay.names.len()).sum()),
            ("control connections", self.relays.iter().map(|relay| relay.control.connections()).sum()),
            ("events", self.events.len()),
        ]
    }
}
