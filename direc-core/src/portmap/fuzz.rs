//! A router that says anything.

use super::*;

/// A router's answers, whatever they are: nothing panics, nothing grows, only the router is spoken to, and a mapping is one
/// that could be.
///
/// The first byte of each chunk says what becomes of it: bit 0 makes it look like an answer in PCP to what was asked, bits
/// 1 and 2 choose a datagram from the router's port of that, one from another port, or UPnP-IGD's answer by TCP, and bit 3
/// gives that a head and a frame that parse. The second is its length, and the first one's whole is time that passes.
pub(crate) fn fuzz(mut data: &[u8], start: Instant) {
    let router = Ipv4Addr::new(192, 168, 1, 1);
    let mut now = start;
    let mut mapper = PortMapper::new(router, Ipv4Addr::new(192, 168, 1, 10), 5000, [1; 32], now);
    while let [head, length, rest @ ..] = data {
        let (chunk, left) = rest.split_at(rest.len().min(usize::from(*length) * 4));
        data = left;
        match head >> 1 & 3 {
            0 => mapper.handle_datagram(
                now,
                SocketAddr::new(router.into(), SERVER_PORT),
                &pcp_like(&mapper, *head, chunk),
            ),
            1 => mapper.handle_datagram(now, SocketAddr::new(router.into(), 1900), &ssdp_like(*head, chunk)),
            _ => mapper.handle_answer(now, &http_like(*head, chunk)),
        }
        now += Duration::from_millis(u64::from(*head) * 100);
        mapper.handle_timeout(now);
        assert!(mapper.poll_timeout().is_some_and(|at| at > now));
        let sent = std::iter::from_fn(|| mapper.poll_transmit()).count();
        let told = std::iter::from_fn(|| mapper.poll_event()).count();
        assert!(sent <= 3 + 4 && told <= 4);
        if let Some(request) = mapper.poll_request() {
            assert_eq!(request.to.ip(), router);
            let heads = request.bytes.windows(4).filter(|four| four == b"\r\n\r\n").count();
            assert!(heads == 1 && request.bytes.len() < 4096);
        }
        assert!(mapper.mapping().is_none_or(|mapping| is_fit(mapping.external)));
    }
}

fn pcp_like(mapper: &PortMapper, head: u8, chunk: &[u8]) -> Vec<u8> {
    let mut bytes = chunk.to_vec();
    if head & 1 != 0 && bytes.len() >= 42 {
        bytes[24..36].copy_from_slice(&mapper.nonce);
        bytes[40..42].copy_from_slice(&5000u16.to_be_bytes());
    }
    bytes
}

fn ssdp_like(head: u8, chunk: &[u8]) -> Vec<u8> {
    let frame =
        "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: http://192.168.1.1";
    if head & 8 == 0 { chunk.to_vec() } else { [frame.as_bytes(), chunk, b"\r\n\r\n"].concat() }
}

fn http_like(head: u8, chunk: &[u8]) -> Vec<u8> {
    let frame = if head & 1 == 0 {
        "<r><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:2</serviceType><controlURL>/"
    } else {
        "<r><GetExternalIPAddressResponse/><AddAnyPortMappingResponse/><AddPortMappingResponse/>"
    };
    let end = if head & 1 == 0 { "</controlURL></service></r>" } else { "</r>" };
    if head & 8 == 0 {
        chunk.to_vec()
    } else {
        [b"HTTP/1.0 200 OK\r\n\r\n", frame.as_bytes(), chunk, end.as_bytes()].concat()
    }
}
