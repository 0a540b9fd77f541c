//! News from one node to whoever watches: each watcher has a bounded queue of its own, oldest out first.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::signal::{Bell, Wakes};

/// News that may wait for one watcher: some hundred introductions' steps. A watcher that is slower than that misses
/// the oldest, and is told how many.
const WAITING: usize = 4096;

/// The node's end.
pub(crate) struct Feed<T> {
    watchers: Vec<Arc<Channel<T>>>,
    over: bool,
}

impl<T: Clone> Feed<T> {
    pub(crate) fn new() -> Self {
        Self { watchers: Vec::new(), over: false }
    }

    /// A watcher of everything from now on.
    pub(crate) fn watch(&mut self) -> Watcher<T> {
        self.forget_dropped();
        let channel = Arc::new(Channel { queue: Mutex::default(), bell: Arc::default() });
        channel.lock().over = self.over;
        self.watchers.push(channel.clone());
        Watcher(channel)
    }

    pub(crate) fn publish(&mut self, now: Instant, news: &T, wakes: &mut Wakes) {
        self.forget_dropped();
        for channel in &self.watchers {
            let mut queue = channel.lock();
            if queue.waiting.len() == WAITING {
                queue.waiting.pop_front();
                queue.missed += 1;
            }
            queue.waiting.push_back((now, news.clone()));
            drop(queue);
            wakes.ring(&channel.bell);
        }
    }

    /// No more news.
    pub(crate) fn close(&mut self, wakes: &mut Wakes) {
        self.over = true;
        for channel in self.watchers.drain(..) {
            channel.lock().over = true;
            wakes.ring(&channel.bell);
        }
    }

    fn forget_dropped(&mut self) {
        self.watchers.retain(|channel| Arc::strong_count(channel) > 1);
    }
}

struct Channel<T> {
    queue: Mutex<Queue<T>>,
    bell: Arc<Bell>,
}

impl<T> Channel<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Queue<T> {
    waiting: VecDeque<(Instant, T)>,
    missed: u64,
    over: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), missed: 0, over: false }
    }
}

/// A watcher's end.
pub(crate) struct Watcher<T>(Arc<Channel<T>>);

impl<T> Watcher<T> {
    pub(crate) async fn next(&mut self) -> Option<(Instant, T)> {
        let look = || {
            let mut queue = self.0.lock();
            match queue.waiting.pop_front() {
                Some(news) => Some(Some(news)),
                None => queue.over.then_some(None),
            }
        };
        self.0.bell.wait_for(look).await
    }

    pub(crate) fn missed(&self) -> u64 {
        self.0.lock().missed
    }
}

impl<T> fmt::Debug for Watcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("missed", &self.missed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn a_slow_watcher_misses_the_oldest_and_knows_how_many() {
        let mut feed = Feed::new();
        let (mut slow, now, mut wakes) = (feed.watch(), Instant::now(), Wakes::default());
        for number in 0..WAITING + 3 {
            feed.publish(now, &number, &mut wakes);
        }
        feed.close(&mut wakes);
        assert_eq!(slow.missed(), 3);
        assert_eq!(block_on(slow.next()), Some((now, 3)));
        assert_eq!(std::iter::from_fn(|| block_on(slow.next())).count(), WAITING - 1);
    }

    #[test]
    fn a_dropped_watcher_is_forgotten() {
        let mut feed = Feed::<()>::new();
        drop(feed.watch());
        feed.publish(Instant::now(), &(), &mut Wakes::default());
        assert!(feed.watchers.is_empty());
    }

    #[test]
    fn a_watcher_of_what_is_over_waits_for_nothing() {
        let mut feed = Feed::<()>::new();
        feed.close(&mut Wakes::default());
        assert_eq!(block_on(feed.watch().next()), None);
    }
}
