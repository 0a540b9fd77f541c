//! The paths a connection takes, one after the other.

use std::time::{Duration, Instant};

use direc_core::{DirectFailure, Path};
use direc_smol::{Connection, PathNews, PathWatch};

use crate::{
    clock::{ms, ms_between},
    events::Event,
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
    /// It took this path.
    Path {
        path: Path,
        /// When, since the start.
        ms: f64,
        rtt_ms: Option<f64>,
        /// Whether it was on another before.
        moved: bool,
    },
    /// It stays on the relay, though it need not.
    NotDirect(DirectFailure),
}

#[derive(Clone, Copy)]
struct Move {
    path: Path,
    rtt: Option<Duration>,
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
        let mut current = self.began;
        let mut tell = |step: Move, say: &mut dyn FnMut(Told)| {
            let (path, ms, rtt_ms) = (step.path, ms_between(start, step.at), step.rtt.map(ms));
            out.event(&Event::Path { path: path.into(), addr: path.address().to_string(), rtt_ms, ms });
            say(Told::Path { path, ms, rtt_ms, moved: std::mem::replace(&mut current, path) != path });
        };
        let mut held: Option<Move> = None;
        loop {
            let news = match (self.first.take(), held) {
                (Some(first), _) => Some(Some(first)),
                (None, Some(_)) => within(NO_TIME_YET, self.watch.next()).await,
                (None, None) => Some(self.watch.next().await),
            };
            let moved = match news {
                Some(Some(PathNews::Moved { path, rtt, at, .. })) => Some(Move { path, rtt, at }),
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
