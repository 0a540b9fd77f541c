//! Any executor will do.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;

async fn story() {
    patiently(async {
        let Pair { near, far, client, server, .. } = pair().await;
        near.direct().await.unwrap();
        echo(&near, &far, "anywhere").await;
        let ((up, _keep), (_keep_too, there)) = stream(&near, &far).await;
        let (sent, came) = futures_lite::future::zip(send_bulk(up, 8, 4), recv_bulk(there)).await;
        assert_eq!(came, (sent, 4 << 20));
        client.close().await;
        server.close().await;
    })
    .await;
}

#[test]
fn under_tokio_on_one_thread() {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(story());
}

#[test]
fn under_tokio_on_many_threads_with_tasks_that_move() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async { tokio::spawn(story()).await.unwrap() });
}

#[test]
fn under_a_plain_block_on() {
    futures_lite::future::block_on(story());
}

#[test]
fn under_async_io() {
    async_io::block_on(story());
}
