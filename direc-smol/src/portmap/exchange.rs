//! One request to the router by TCP, for UPnP-IGD.

use std::{io, net::TcpStream, time::Duration};

use async_io::Async;
use direc_core::PortMapRequest;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::https::within;

/// How long all of it may take: a router is near, if not always quick.
const DEADLINE: Duration = Duration::from_secs(3);

/// What came, as far as it came.
pub(super) async fn answer(request: PortMapRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    match within(DEADLINE, exchange(&request, &mut bytes)).await {
        Some(Ok(())) => {}
        Some(Err(error)) => log::debug!("port mapping: the router at {}: {error}", request.to),
        None => log::debug!("port mapping: the router at {} does not finish its answer", request.to),
    }
    bytes
}

async fn exchange(request: &PortMapRequest, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut socket = Async::<TcpStream>::connect(request.to).await?;
    socket.write_all(&request.bytes).await?;
    let mut room = [0; 4096];
    while !PortMapRequest::is_answered(bytes) {
        let left = (PortMapRequest::MAX_ANSWER - bytes.len()).min(room.len());
        match socket.read(room.get_mut(..left).unwrap_or_default()).await? {
            0 => break,
            count => bytes.extend_from_slice(room.get(..count).unwrap_or_default()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpListener, thread};

    use async_io::block_on;

    use super::*;

    /// Asks somebody who accepts, sends this, and then closes or does not.
    fn ask(says: Vec<u8>, closes: bool) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let router = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            // The other side may have heard enough.
            let _ = socket.write_all(&says);
            if !closes { Some(socket) } else { None }
        });
        let bytes = block_on(answer(PortMapRequest { to, bytes: b"GET / HTTP/1.1\r\n\r\n".to_vec() }));
        drop(router.join().unwrap());
        bytes
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_not_beyond_its_limit() {
        let right = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_vec();
        assert_eq!(ask(right.clone(), false), right, "without waiting for the connection's end");
        assert_eq!(ask(b"HTTP/1.0 200 OK\r\n\r\nabc".to_vec(), true).len(), 22);
        let endless = [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), vec![b'a'; 4 << 20]].concat();
        assert_eq!(ask(endless, false).len(), PortMapRequest::MAX_ANSWER);
    }

    #[test]
    fn a_router_that_does_not_finish_or_is_not_there_is_not_waited_for_for_ever() {
        let cut = b"HTTP/1.1 200 OK\r\nContent-Le".to_vec();
        assert_eq!(ask(cut.clone(), false), cut);
        let to = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(block_on(answer(PortMapRequest { to, bytes: Vec::new() })).is_empty());
    }
}
