//! Waits that end.

use std::{future::Future, time::Duration};

use smol::{Timer, future::or};

/// What `future` gives, unless that takes longer than `time`.
pub async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    or(async { Some(future.await) }, async {
        Timer::after(time).await;
        None
    })
    .await
}
