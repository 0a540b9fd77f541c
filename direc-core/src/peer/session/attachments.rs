//! By which relay a session can be reached: one attachment carries its packets, another may be on its way to replace it.
//!
//! A connection that stands outlives its introduction. When the relay is lost, silent or going down, either side has it
//! introduced anew, at the same relay or another one that both know, by a token that both ends have and no one else.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use quinn_proto::StreamId;

use crate::{peer::introduction::Introduction, rng::Rng};

/// Pause before the second try at being introduced anew, doubled each time up to the last, each then varied by half.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Packets may be under way on an attachment that has been replaced for so long.
const LINGER: Duration = Duration::from_secs(2);
/// A try that nobody answers is given up after this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session's place at one relay: an introduction, and the channel that it opened.
pub(in crate::peer) struct Attachment {
    /// Which of the peer's relays.
    pub(in crate::peer) relay: usize,
    /// The number on relayed packets between this peer and that relay.
    pub(in crate::peer) channel: u64,
    pub(in crate::peer) introduction: Introduction,
    /// The introduction's ID, once P3 has made it.
    pub(super) id: Option<u64>,
    pub(super) since: Instant,
}

#[derive(Default)]
pub(super) struct Attachments {
    /// The one in use.
    pub(super) current: Option<Attachment>,
    /// The one that is to replace it.
    pub(super) next: Option<Attachment>,
    /// Those that were replaced, and until when they are kept.
    replaced: VecDeque<(Instant, Attachment)>,
    /// Those whose streams are still to be ended.
    over: Vec<Attachment>,
    /// When the next try is due.
    retry_at: Option<Instant>,
    tries: u32,
    /// The current one's relay is going down.
    leaving: bool,
}

impl Attachments {
    /// All of them: packets and messages may come on each.
    pub(in crate::peer) fn all(&self) -> impl Iterator<Item = &Attachment> {
        self.current.iter().chain(&self.next).chain(self.replaced.iter().map(|(_, attachment)| attachment))
    }

    pub(super) fn find(&mut self, relay: usize, stream: StreamId) -> Option<&mut Attachment> {
        let is = move |attachment: &&mut Attachment| {
            attachment.relay == relay && attachment.introduction.stream_id() == stream
        };
        let replaced = self.replaced.iter_mut().map(|(_, attachment)| attachment);
        self.current.iter_mut().chain(&mut self.next).chain(replaced).find(is)
    }

    pub(super) fn is_current(&self, relay: usize, stream: StreamId) -> bool {
        let is = |a: &Attachment| a.relay == relay && a.introduction.stream_id() == stream;
        self.current.as_ref().is_some_and(is)
    }

    pub(super) fn is_next(&self, relay: usize, stream: StreamId) -> bool {
        let is = |a: &Attachment| a.relay == relay && a.introduction.stream_id() == stream;
        self.next.as_ref().is_some_and(is)
    }

    /// The next one takes over; packets on the one before are still taken for a while.
    pub(super) fn promote(&mut self, now: Instant) {
        let Some(next) = self.next.take() else { return };
        if let Some(before) = self.current.replace(next) {
            self.replaced.push_back((now + LINGER, before));
        }
        (self.retry_at, self.tries, self.leaving) = (None, 0, false);
    }

    /// The try under way has failed: another one later.
    pub(super) fn fail_next(&mut self, now: Instant, rng: &mut Rng) {
        self.over.extend(self.next.take());
        let full = FIRST_PAUSE.saturating_mul(1 << self.tries.min(16)).min(LAST_PAUSE);
        self.tries = self.tries.saturating_add(1);
        self.retry_at = Some(now + rng.vary(full));
    }

    /// An attachment has ended, by the relay's word or with its relay's connection.
    pub(super) fn lose(&mut self, now: Instant, gone: impl Fn(&Attachment) -> bool, rng: &mut Rng) -> bool {
        self.replaced.retain(|(_, attachment)| !gone(attachment));
        if self.next.as_ref().is_some_and(&gone) {
            self.next = None;
            self.fail_next(now, rng);
        }
        let lost = self.current.as_ref().is_some_and(&gone);
        if lost {
            self.current = None;
            self.want(now);
        }
        lost
    }

    /// Another place is wanted, from now on.
    pub(super) fn want(&mut self, now: Instant) {
        if self.next.is_none() {
            self.tries = 0;
            self.retry_at = Some(self.retry_at.map_or(now, |at| at.min(now)));
        }
    }

    /// As [`Self::want`], but not at once; a try that is due earlier stays.
    pub(super) fn want_at(&mut self, at: Instant) {
        if self.next.is_none() && self.retry_at.is_none() {
            self.retry_at = Some(at);
        }
    }

    /// The current one's relay is going down: it is to be left by then.
    pub(super) fn leave_by(&mut self, at: Instant) {
        self.leaving = true;
        self.want_at(at);
    }

    /// Whether another place is needed, and not only to be on the safe side.
    pub(super) fn is_stranded(&self) -> bool {
        self.current.is_none() || self.leaving
    }

    /// A place is not wanted after all.
    pub(super) fn content(&mut self) {
        self.retry_at = None;
    }

    /// No relay can be asked now: until one comes.
    pub(super) fn pause(&mut self) {
        self.retry_at = None;
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none() && self.retry_at.is_some_and(|at| at <= now)
    }

    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// What time has made due.
    pub(super) fn handle_timeout(&mut self, now: Instant, rng: &mut Rng) {
        while self.replaced.front().is_some_and(|(until, _)| *until <= now) {
            self.over.extend(self.replaced.pop_front().map(|(_, attachment)| attachment));
        }
        if self.next.as_ref().is_some_and(|next| next.since + PATIENCE <= now) {
            self.fail_next(now, rng);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let patience = self.next.as_ref().map(|next| next.since + PATIENCE);
        let retry = self.retry_at.filter(|_| self.next.is_none());
        let replaced = self.replaced.front().map(|(until, _)| *until);
        [patience, retry, replaced].into_iter().flatten().min()
    }

    /// Gives up all of them.
    pub(super) fn abandon(&mut self) {
        self.retry_at = None;
        self.over.extend(self.current.take());
        self.over.extend(self.next.take());
        self.over.extend(self.replaced.drain(..).map(|(_, attachment)| attachment));
    }

    /// Gives up all but the one that carries the last packets.
    pub(super) fn abandon_all_but_current(&mut self) {
        self.retry_at = None;
        self.over.extend(self.next.take());
        self.over.extend(self.replaced.drain(..).map(|(_, attachment)| attachment));
    }

    /// Everything there still is.
    pub(super) fn into_all(mut self) -> Vec<Attachment> {
        self.abandon();
        self.over
    }

    /// Those whose streams are to be ended now.
    pub(super) fn take_over(&mut self) -> Vec<Attachment> {
        std::mem::take(&mut self.over)
    }
}
