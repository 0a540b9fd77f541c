//! What was finished and is not acknowledged yet, and an end that waits for it.

use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use quinn_proto::{StreamEvent, StreamId, VarInt};

use super::Session;
use crate::peer::shared::Context;

/// The streams that this side has finished, until the other side has acknowledged them to their end.
#[derive(Default)]
pub(super) struct Delivery {
    /// No more than may be open at once: QUIC counts a stream as open until then.
    unacknowledged: BTreeSet<StreamId>,
    /// The connection closes when the set is empty.
    end: Option<End>,
    /// That end came while the set was not empty.
    cut_off: bool,
}

/// How the connection closes, and when at the latest.
struct End {
    by: Instant,
    code: VarInt,
    reason: Bytes,
}

impl Delivery {
    fn is_done(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// When the end comes whatever is acknowledged.
    pub(super) fn ends_by(&self) -> Option<Instant> {
        self.end.as_ref().map(|end| end.by)
    }

    /// The end that was waited for, if its time has come.
    fn take_due(&mut self, now: Instant) -> Option<End> {
        let done = self.is_done();
        self.end.take_if(|end| done || end.by <= now)
    }

    /// A stream reaches its end in another way: acknowledged, stopped by the other side, or reset.
    fn forget(&mut self, id: StreamId) {
        self.unacknowledged.remove(&id);
    }

    pub(super) fn on_event(&mut self, event: &StreamEvent) {
        if let StreamEvent::Finished { id } | StreamEvent::Stopped { id, .. } = *event {
            self.forget(id);
        }
    }
}

impl Session {
    /// The program has finished the stream.
    pub(in crate::peer) fn on_finish(&mut self, id: StreamId) {
        self.delivery.unacknowledged.insert(id);
    }

    /// The program has reset the stream: nothing of it has to arrive any more.
    pub(in crate::peer) fn on_reset(&mut self, id: StreamId) {
        self.delivery.forget(id);
    }

    /// Whether the other side has acknowledged all streams that were finished.
    pub(in crate::peer) fn is_delivered(&self) -> bool {
        self.delivery.is_done()
    }

    /// Whether the connection was to close when all is acknowledged, and has ended before.
    pub(in crate::peer) fn is_cut_off(&self) -> bool {
        self.delivery.cut_off
    }

    /// Closes when all is acknowledged, or at `by`. An end that is waited for already stays.
    pub(in crate::peer) fn close_when_delivered(
        &mut self,
        by: Instant,
        code: VarInt,
        reason: Bytes,
        ctx: &mut Context<'_>,
    ) {
        if !self.is_closing() {
            self.delivery.end.get_or_insert(End { by, code, reason });
            self.close_if_delivered(ctx);
        }
    }

    /// Comes to the end that is waited for, if its time has come.
    pub(super) fn close_if_delivered(&mut self, ctx: &mut Context<'_>) {
        if let Some(End { code, reason, .. }) = self.delivery.take_due(ctx.now) {
            self.delivery.cut_off = !self.is_delivered();
            self.close(code, reason, ctx);
        }
    }

    /// The connection has ended, but not by this side.
    pub(super) fn give_up_delivery(&mut self) {
        if self.delivery.end.take().is_some() {
            self.delivery.cut_off = !self.is_delivered();
        }
    }

    /// The program ends the connection at once.
    pub(super) fn abandon_delivery(&mut self) {
        self.delivery.end = None;
    }
}
