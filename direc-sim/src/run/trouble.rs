//! What goes wrong while a scenario is played, and its repair.

use std::time::Duration;

use super::{Cast, RELAY};
use crate::{
    app::Command,
    scenario::{Incident, Trouble, When},
    trace::What,
};

impl Cast<'_> {
    /// The time of the next incident or repair whose time is known.
    pub(super) fn next_incident(&self) -> Option<Duration> {
        let incidents = self.pending.iter().filter_map(|incident| match incident.when {
            When::At(at) => Some(self.start + at),
            When::Step(..) => None,
        });
        let answers = self.questions.iter().map(|question| question.due);
        incidents.chain(self.repairs.iter().map(|&(at, _)| at)).chain(answers).min()
    }

    /// When the last of them is, or was; the beginning if there are none.
    pub(super) fn last_incident(&self) -> Duration {
        let incidents = self.pending.iter().filter_map(|incident| match incident.when {
            When::At(at) => Some(self.start + at + incident.lasts.unwrap_or_default()),
            When::Step(..) => None,
        });
        incidents.chain(self.repairs.iter().map(|&(at, _)| at)).max().unwrap_or_default().max(self.last_trouble)
    }

    /// Lets happen what is due.
    pub(super) fn incidents(&mut self) {
        let now = self.world.now();
        let due = |incident: &Incident| matches!(incident.when, When::At(at) if self.start + at <= now);
        let (due, pending) = self.pending.iter().partition(|incident| due(incident));
        self.pending = pending;
        let due: Vec<Incident> = due;
        for incident in due {
            self.strike(incident);
        }
        let (due, repairs): (Vec<_>, Vec<_>) = self.repairs.iter().partition(|&&(at, _)| at <= now);
        self.repairs = repairs;
        for (_, what) in due {
            self.set(what, false);
        }
        self.answer();
    }

    /// Lets happen what was waiting for a step that has been taken since.
    pub(super) fn steps(&mut self, since: usize) {
        let taken: Vec<_> = self.world.trace().notes[since..]
            .iter()
            .filter_map(|note| match &note.what {
                What::Step(step) => Some((step.role, step.step)),
                What::Event(_) | What::Detail(_) | What::Retired(_) => None,
            })
            .collect();
        let (due, pending): (Vec<Incident>, Vec<Incident>) =
            self.pending.iter().partition(|incident| match incident.when {
                When::Step(role, step) => taken.contains(&(role, step)),
                When::At(_) => false,
            });
        self.pending = pending;
        for incident in due {
            self.strike(incident);
        }
    }

    fn strike(&mut self, incident: Incident) {
        self.set(incident.what, true);
        if let Some(lasts) = incident.lasts {
            self.repairs.push((self.world.now() + lasts, incident.what));
        }
    }

    /// Makes something go wrong, or right again.
    fn set(&mut self, what: Trouble, wrong: bool) {
        self.last_trouble = self.world.now();
        let peer = |number: usize| self.peers.get(number).copied();
        match what {
            Trouble::SilencePeer(number) => {
                if let Some((host, _, _)) = peer(number) {
                    self.world.silence(host, wrong);
                }
            }
            Trouble::SilenceRelay => self.world.silence(RELAY, wrong),
            Trouble::SeverDirect(one, other) => {
                self.sever_way(one, other, wrong);
                self.sever_way(other, one, wrong);
            }
            Trouble::SeverWay(from, to) => self.sever_way(from, to, wrong),
            Trouble::SeverRelay(number) => {
                if let Some(relay) = self.relays.first().map(|relay| relay.site) {
                    self.sever_relay(number, relay, wrong);
                }
            }
            Trouble::Reboot(number) => {
                if let Some((_, site, _)) = peer(number).filter(|_| wrong) {
                    self.world.reboot(site);
                }
            }
            Trouble::Readdress(number) => {
                if let Some((_, site, _)) = peer(number).filter(|_| wrong) {
                    self.world.readdress(site);
                }
            }
            Trouble::BlockUdp(number) => {
                if let Some((_, site, _)) = peer(number) {
                    self.world.block_udp(site, wrong);
                }
            }
            Trouble::Roam(number) if wrong => self.leave(number),
            Trouble::Roam(number) => self.arrive(number),
            Trouble::Stop(number) => {
                if let Some((host, _, _)) = peer(number) {
                    self.world.stop(host, wrong);
                }
            }
            Trouble::KillRelay(number) | Trouble::RekeyRelay(number) if wrong => self.kill_relay(number),
            Trouble::RekeyRelay(number) => {
                self.rekey_relay(number);
                self.restart_relay(number);
            }
            Trouble::TurnAway(number) => self.rule(wrong.then_some(number)),
            Trouble::DrainRelay(number, within) if wrong => self.drain_relay(number, within),
            Trouble::KillRelay(number) | Trouble::DrainRelay(number, _) => self.restart_relay(number),
            Trouble::PesterPeer(number, count) => {
                if let Some((host, _, _)) = peer(number).filter(|_| wrong) {
                    self.world.pester(host, count, Duration::from_millis(1));
                }
            }
            Trouble::PesterRelay(count) if wrong => self.world.pester(RELAY, count, Duration::from_millis(1)),
            Trouble::CloseAll(number) => self.command(number, wrong, &Command::CloseAll),
            Trouble::Shutdown(number) => self.command(number, wrong, &Command::Shutdown),
            Trouble::PesterRelay(_) => {}
        }
    }

    fn command(&mut self, number: usize, wrong: bool, command: &Command) {
        if let Some(&(host, _, _)) = self.peers.get(number).filter(|_| wrong) {
            self.world.with_peer(host, |peer, now| peer.act(now, command.clone()));
        }
    }

    /// Repairs everything that can be, and lets nothing more go wrong.
    pub(crate) fn heal(&mut self) {
        self.pending.clear();
        self.world.calm();
        let repairs = std::mem::take(&mut self.repairs);
        let lasting = self.scenario.incidents.iter().map(|incident| incident.what);
        for what in repairs.into_iter().map(|(_, what)| what).chain(lasting) {
            self.set(what, false);
        }
    }
}
