//! What goes through a connection, and what does not.

#![allow(clippy::unwrap_used)]

mod common;

use std::task::Poll;

use bytes::Bytes;
use common::*;
use direc_smol::{CloseReason, ConnectOptions, PathPolicy, ReadError, ReadToEndError, SendDatagramError, WriteError};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};

/// MiB each way.
const BULK: usize = 24;

async fn bulk_both_ways(pair: &Pair) {
    let ((up, down), (back, there)) = stream(&pair.near, &pair.far).await;
    let sent = future::zip(send_bulk(up, 1, BULK), send_bulk(back, 2, BULK));
    let came = future::zip(recv_bulk(there), recv_bulk(down));
    let ((up, back), (there, down)) = future::zip(sent, came).await;
    assert_eq!(there, (up, BULK << 20));
    assert_eq!(down, (back, BULK << 20));
}

#[test]
fn bulk_goes_both_ways_at_once_unchanged() {
    run(async {
        let pair = pair().await;
        pair.near.direct().await.unwrap();
        bulk_both_ways(&pair).await;
    });
}

#[test]
fn bulk_survives_the_move_to_the_direct_path() {
    run(async {
        let pair = pair().await;
        bulk_both_ways(&pair).await;
        pair.near.direct().await.unwrap();
    });
}

#[test]
fn bulk_goes_through_the_relay_as_well() {
    run(async {
        let pair = pair_with(ConnectOptions::with_policy(PathPolicy::RelayOnly)).await;
        bulk_both_ways(&pair).await;
        assert!(pair.relay.stats().relayed_bytes > (2 * BULK as u64) << 20);
    });
}

#[test]
fn futures_io_reads_and_writes() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let ((mut send, _), (_, mut recv)) = stream(&near, &far).await;
        let bytes = Pattern::new(3).chunk(40_000);
        let write = async {
            send.write_all(&bytes).await.unwrap();
            send.flush().await.unwrap();
            send.close().await.unwrap();
            send.close().await.unwrap();
        };
        let mut heard = Vec::new();
        let (read, ()) = future::zip(recv.read_to_end(usize::MAX), write).await;
        heard.extend(read.unwrap());
        assert_eq!(heard, bytes);
        assert_eq!(recv.read(&mut [0; 9]).await.unwrap(), 0);
        let error = send.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
    });
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer_back_and_loses_nothing() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let ((mut send, _keep), (_keep_too, mut recv)) = stream(&near, &far).await;
        let chunk = Pattern::new(4).chunk(8192);
        let mut taken = 0;
        // Until the writer has been refused for a while: windows and buffers are full.
        let stalled = async {
            loop {
                let write = async {
                    send.write_chunk(chunk.clone()).await.unwrap();
                    true
                };
                let patience = async {
                    pause(300).await;
                    false
                };
                if !future::or(write, patience).await {
                    break;
                }
                taken += 1;
            }
        };
        stalled.await;
        assert!((1..2_000).contains(&taken), "{taken} chunks went without a reader");
        let read = async {
            let mut left = Vec::new();
            while let Some(bytes) = recv.read_chunk(usize::MAX).await.unwrap() {
                left.extend_from_slice(&bytes);
                while left.len() >= chunk.len() {
                    assert!(left[..chunk.len()] == chunk[..]);
                    left.drain(..chunk.len());
                    taken -= 1;
                }
            }
            left
        };
        let finish = async {
            send.finish().unwrap();
            assert_eq!(send.stopped().await, Ok(None));
        };
        let (left, ()) = future::zip(read, finish).await;
        // The write that was dropped may have handed over a part.
        assert_eq!(taken, 0);
        assert!(left[..] == chunk[..left.len()]);
    });
}

#[test]
fn a_hundred_streams_at_once_each_carry_their_own() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let client = async {
            let mut open = Vec::new();
            for number in 0..100_u32 {
                let (mut send, recv) = near.open_bi().await.unwrap();
                send.write_chunk(Bytes::from(number.to_le_bytes().to_vec())).await.unwrap();
                open.push((number, send, recv));
            }
            for (_, send, _) in &mut open {
                send.finish().unwrap();
            }
            for (number, _send, mut recv) in open {
                assert_eq!(recv.read_to_end(100).await.unwrap(), (number + 1000).to_le_bytes());
            }
        };
        let server = async {
            for _ in 0..100 {
                let (mut send, mut recv) = far.accept_bi().await.unwrap();
                let number = recv.read_to_end(4).await.unwrap();
                let number = u32::from_le_bytes(number.try_into().unwrap());
                send.write_chunk(Bytes::from((number + 1000).to_le_bytes().to_vec())).await.unwrap();
            }
        };
        future::zip(client, server).await;
    });
}

#[test]
fn more_streams_than_allowed_wait_their_turn() {
    run(async {
        let relay = relay();
        let client = peer(&relay, direc_smol::Consent::Closed).await;
        let mut settings = options(&relay, direc_smol::Consent::Any);
        settings.transport.max_uni_streams = 2;
        let server = direc_smol::Peer::bind(settings).await.unwrap();
        server.registered().await.unwrap();
        let (near, far) = connect(&client, &server, ConnectOptions::default()).await;
        let open = async {
            for number in 0..20_u8 {
                let mut stream = near.open_uni().await.unwrap();
                stream.write_chunk(Bytes::from(vec![number])).await.unwrap();
            }
        };
        let accept = async {
            for number in 0..20_u8 {
                let mut stream = far.accept_uni().await.unwrap();
                assert_eq!(stream.read_to_end(9).await.unwrap(), [number]);
            }
        };
        future::zip(open, accept).await;
    });
}

#[test]
fn streams_whose_readers_want_no_more_make_way_for_others() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        // More than may be open at once.
        for _ in 0..600 {
            let mut send = near.open_uni().await.unwrap();
            send.write_chunk(Bytes::from_static(b"?")).await.unwrap();
            drop(far.accept_uni().await.unwrap());
            while send.write_chunk(Bytes::from_static(b"!")).await.is_ok() {
                pause(1).await;
            }
        }
    });
}

#[test]
fn reset_stop_and_their_codes_arrive() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let ((mut send, mut recv), (mut back, mut there)) = stream(&near, &far).await;
        send.reset(41);
        assert_eq!(there.read_chunk(9).await, Err(ReadError::Reset(41)));
        assert_eq!(send.stopped().await, Ok(Some(41)));
        assert_eq!(send.finish(), Err(WriteError::Finished));
        recv.stop(42);
        assert_eq!(back.stopped().await, Ok(Some(42)));
        assert_eq!(back.write_chunk(Bytes::from_static(b"x")).await, Err(WriteError::Stopped(42)));
        assert_eq!(recv.read_chunk(9).await, Err(ReadError::Stopped));
    });
}

#[test]
fn a_stream_stopped_before_it_is_accepted_says_so() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let (mut send, mut recv) = near.open_bi().await.unwrap();
        send.write_chunk(Bytes::from_static(b"!")).await.unwrap();
        recv.stop(5);
        near.open_uni().await.unwrap().write_chunk(Bytes::from_static(b"by now it has come")).await.unwrap();
        far.accept_uni().await.unwrap().read_to_end(99).await.unwrap();
        let (mut back, mut there) = far.accept_bi().await.unwrap();
        assert_eq!(back.stopped().await, Ok(Some(5)));
        assert_eq!(there.read_chunk(9).await.unwrap().unwrap(), "!");
    });
}

#[test]
fn a_stream_longer_than_the_limit_is_not_swallowed() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let ((mut send, _), (_, mut recv)) = stream(&near, &far).await;
        send.write_chunk(Bytes::from(vec![0; 1001])).await.unwrap();
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(1000).await, Err(ReadToEndError::TooLong { limit: 1000 }));
    });
}

#[test]
fn chunks_are_cut_to_what_the_reader_asks_for() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let ((mut send, _), (_, mut recv)) = stream(&near, &far).await;
        let mut chunks = [Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defgh")];
        send.write_chunks(&mut chunks).await.unwrap();
        assert!(chunks.iter().all(Bytes::is_empty));
        send.finish().unwrap();
        let mut heard = Vec::new();
        while let Some(chunk) = recv.read_chunk(2).await.unwrap() {
            assert!((1..=2).contains(&chunk.len()));
            heard.extend_from_slice(&chunk);
        }
        assert_eq!(heard, b"abcdefgh");
    });
}

#[test]
fn datagrams_arrive_or_say_why_they_cannot() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        // What fits grows as the path's MTU is found out, from QUIC's 1,200 bytes on.
        assert!(near.max_datagram_size().unwrap() > 1100);
        assert_eq!(near.send_datagram(vec![0; 3000].into()), Err(SendDatagramError::TooLarge));
        // A few may get lost even here; they are sent until one arrives.
        let say = async {
            loop {
                near.send_datagram(vec![7; 1100].into()).unwrap();
                pause(50).await;
            }
        };
        let heard = future::or(say, far.recv_datagram()).await.unwrap();
        assert_eq!(heard, vec![7; 1100]);
        far.close(3, b"enough");
        near.closed().await;
        assert!(matches!(near.send_datagram(Bytes::new()), Err(SendDatagramError::Closed(_))));
        assert_eq!(near.max_datagram_size(), None);
    });
}

#[test]
fn a_close_code_and_its_reason_reach_everything_that_waits() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let ((mut send, mut recv), _theirs) = stream(&near, &far).await;
        let close = async {
            pause(50).await;
            far.close(99, b"enough is enough");
        };
        let waits = async {
            let reason = CloseReason::Application { code: 99, reason: "enough is enough".into() };
            let (read, accept) = future::zip(recv.read_chunk(9), near.accept_uni()).await;
            assert_eq!(read, Err(ReadError::Closed(reason.clone())));
            assert_eq!(accept.unwrap_err(), reason);
            assert_eq!(near.closed().await, reason);
            assert_eq!(send.stopped().await, Err(reason.clone()));
            assert_eq!(send.write_chunk(Bytes::from_static(b"x")).await, Err(WriteError::Closed(reason.clone())));
            assert_eq!(near.open_bi().await.unwrap_err(), reason);
        };
        future::zip(close, waits).await;
        assert_eq!(far.closed().await, CloseReason::Locally);
    });
}

#[test]
fn what_came_before_a_close_can_still_be_read() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let mut send = near.open_uni().await.unwrap();
        send.write_chunk(Pattern::new(9).chunk(5000)).await.unwrap();
        send.finish().unwrap();
        let mut unaccepted = near.open_uni().await.unwrap();
        unaccepted.write_chunk(Bytes::from_static(b"late")).await.unwrap();
        unaccepted.finish().unwrap();
        assert_eq!(send.stopped().await, Ok(None));
        assert_eq!(unaccepted.stopped().await, Ok(None));
        let mut first = far.accept_uni().await.unwrap();
        near.close(0, b"said it all");
        far.closed().await;
        assert_eq!(first.read_to_end(1 << 20).await.unwrap(), Pattern::new(9).chunk(5000));
        assert_eq!(far.accept_uni().await.unwrap().read_to_end(9).await.unwrap(), b"late");
        assert!(far.accept_uni().await.is_err());
    });
}

#[test]
fn dropped_futures_lose_nothing() {
    run(async {
        let Pair { near, far, .. } = pair().await;
        let ((mut send, _keep), (_keep_too, mut recv)) = stream(&near, &far).await;
        let write = async {
            for number in 0..200_u8 {
                send.write_chunk(Bytes::from(vec![number])).await.unwrap();
                pause(1).await;
            }
            send.finish().unwrap();
        };
        let read = async {
            let (mut heard, mut dropped) = (Vec::new(), 0);
            loop {
                let mut chunk = Box::pin(recv.read_chunk(1));
                // Looked at once and dropped, every other time.
                let looked = future::poll_fn(|cx| Poll::Ready(chunk.as_mut().poll(cx))).await;
                let chunk = match looked {
                    Poll::Ready(chunk) => chunk,
                    Poll::Pending if dropped % 2 == 0 => {
                        dropped += 1;
                        drop(chunk);
                        pause(1).await;
                        continue;
                    }
                    Poll::Pending => {
                        dropped += 1;
                        chunk.await
                    }
                };
                match chunk.unwrap() {
                    Some(bytes) => heard.extend_from_slice(&bytes),
                    None => break heard,
                }
            }
        };
        let ((), heard) = future::zip(write, read).await;
        assert_eq!(heard, (0..200).collect::<Vec<u8>>());
    });
}
