//! The paths a connection takes, one after the other.

use std::time::{Duration, Instant};

use direc_core::{DirectFailure, Path, PathReason};
use direc_smol::{Connection, PathNews, PathWatch};

use super::words::Step;
use crate::{
    clock::ms,
    events::{Event, silent_ms},
    out::Out,
    wait::within,
};

/// A path's round-trip time, if it is not known at once, may come as news of its own: for this long it is waited for.
const NO_TIME_YET: Duration = Duration::from_millis(50);

/// The paths of a connection from its beginning.
pub(super) struct Paths {
    watch: PathWatch,
    first: Option<PathNews>,
    /// The path it was connected by; it may be on another by now.
    pub(super) began: Path,
}

/// What there is to tell.
pub(super) enum Told {
    /// It is on this path, as it was.
    On(Path, Duration),
    /// It is on another path than before.
    Moved(Step),
    /// It stays on the relay, though it need not.
    NotDirect(DirectFailure),
}

#[derive(Clone, Copy)]
struct Move {
    path: Path,
    rtt: Option<Duration>,
    why: PathReason,
    at: Instant,
}

impl Paths {
    pub(super) async fn of(conn: &Connection) -> Self {
        let mut watch = conn.watch();
        let first = within(NO_TIME_YET, watch.next()).await.flatten();
        let began = match first {
            Some(PathNews::Moved { path, .. }) => path,
            _ => conn.path(),
        };
        Self { watch, first, began }
    }

    /// Tells each path, the first one too, until the connection has ended.
    pub(super) async fn follow(mut self, start: Instant, out: Out, mut say: impl FnMut(Told)) {
        let mut so_far = SoFar { current: self.began, was_direct: self.began.is_direct() };
        let mut tell = |step: Move, say: &mut dyn FnMut(Told)| {
            let after = step.at.saturating_duration_since(start);
            out.event(&step.event(after));
            say(so_far.take(step, after));
        };
        let mut held: Option<Move> = None;
        loop {
            let news = match (self.first.take(), held) {
                (Some(first), _) => Some(Some(first)),
                (None, Some(_)) => within(NO_TIME_YET, self.watch.next()).await,
                (None, None) => Some(self.watch.next().await),
            };
            let moved = match news {
                Some(Some(PathNews::Moved { path, rtt, why, at })) => Some(Move { path, rtt, why, at }),
                _ => None,
            };
            if let Some(step) = held.take()
                && moved.is_none_or(|moved| moved.path != step.path)
            {
                tell(step, &mut say);
            }
            match (moved, news) {
                (Some(step), _) if step.rtt.is_none() => held = Some(step),
                (Some(step), _) => tell(step, &mut say),
                (None, Some(Some(PathNews::NotDirect(why)))) if why != DirectFailure::RelayOnly => {
                    say(Told::NotDirect(why));
                }
                (None, Some(None)) => return,
                (None, _) => {}
            }
        }
    }
}

impl Move {
    fn event(&self, after: Duration) -> Event {
        Event::Path {
            path: self.path.into(),
            addr: self.path.address().to_string(),
            rtt_ms: self.rtt.map(ms),
            ms: ms(after),
            why: self.why.into(),
            silent_ms: silent_ms(self.why),
        }
    }
}

/// Where the connection has been.
struct SoFar {
    current: Path,
    was_direct: bool,
}

impl SoFar {
    fn take(&mut self, Move { path: to, rtt, why, .. }: Move, after: Duration) -> Told {
        let was_direct = self.was_direct;
        self.was_direct |= to.is_direct();
        match std::mem::replace(&mut self.current, to) {
            from if from == to => Told::On(to, after),
            from => Told::Moved(Step { from, to, why, rtt, was_direct, after }),
        }
    }
}
