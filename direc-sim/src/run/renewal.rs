//! Peers that are shown another key than their relay had ask it by HTTPS who it is, as a runtime does.

use std::{net::SocketAddr, time::Duration};

use direc_core::RelayAddress;

use super::Cast;
use crate::world::embedded;

/// How long it takes to be told, a moment's wait before asking included.
const ANSWER: Duration = Duration::from_secs(1);
/// Pause after a question that nobody has answered.
const AGAIN: Duration = Duration::from_secs(5);

/// A peer asks a relay who it is.
#[derive(Clone, Copy)]
pub(super) struct Question {
    pub(super) due: Duration,
    peer: usize,
    relay: usize,
    /// Where the peer finds it.
    address: SocketAddr,
}

impl Cast<'_> {
    /// Takes up what peers have come to ask.
    pub(super) fn hear_questions(&mut self) {
        for peer in 0..self.peers.len() {
            let host = self.peers[peer].0;
            if self.world.peer(host).is_none_or(|peer| peer.app.doubts().is_empty()) {
                continue;
            }
            let doubts = self.world.with_peer(host, |peer, _| peer.app.take_doubts()).unwrap_or_default();
            for address in doubts {
                let is = |known: SocketAddr| known == address || embedded(known) == address;
                let relay = self.relays.iter().position(|station| is(station.address.address));
                let asked = |relay| self.questions.iter().any(|asked| (asked.peer, asked.relay) == (peer, relay));
                if let Some(relay) = relay.filter(|&relay| !asked(relay)) {
                    self.questions.push(Question { due: self.world.now() + ANSWER, peer, relay, address });
                }
            }
        }
    }

    /// Answers what is due, if there is a way: its TCP is not simulated, but it takes the same wires.
    pub(super) fn answer(&mut self) {
        let now = self.world.now();
        let (due, later): (Vec<_>, Vec<_>) = self.questions.iter().partition(|question| question.due <= now);
        self.questions = later;
        for question in due {
            let (host, station) = (self.peers[question.peer].0, &self.relays[question.relay]);
            if station.down || self.world.is_cut_off(station.host) || self.world.is_cut_off(host) {
                self.questions.push(Question { due: now + AGAIN, ..question });
                continue;
            }
            let told = RelayAddress { address: question.address, key: station.address.key };
            self.world.with_peer(host, |peer, now| peer.renew(now, question.relay, told));
        }
    }
}
