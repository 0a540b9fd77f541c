//! What a transport error is called, on the side that found it and on the other.

use bytes::Bytes;

use super::*;
use crate::{CloseReason, FoundBy};

/// A connection that its server ends for an error of the client's: a datagram too large for what the server keeps.
fn ended_by_server() -> Net {
    let start = start();
    let [client, mut server] = [(); 2].map(|()| peer_transport(&Transport::default(), &Ledger::cubic(start)));
    server.datagram_receive_buffer_size(Some(20));
    let mut net = Net::between([client, server], Arc::new(provider()));
    net.connect();
    net.conn(CLIENT).datagrams().send(Bytes::from_static(b"seven b"), false).unwrap();
    net.run(ms(1000));
    net
}

#[test]
fn both_sides_say_who_found_the_error_what_it_is_and_why() {
    let [client, server] = ended_by_server().ends().map(|end| end.unwrap());
    let error = |found_by| {
        CloseReason::Transport(crate::TransportError { found_by, code: 0xa, reason: "oversized datagram".into() })
    };
    assert_eq!([&client, &server], [&error(FoundBy::OtherSide), &error(FoundBy::ThisSide)]);
    assert_eq!(client.to_string(), "the other side ended the connection: QUIC protocol violation (oversized datagram)");
    assert_eq!(server.to_string(), "this side ended the connection: QUIC protocol violation (oversized datagram)");
}

#[test]
fn what_the_other_side_says_is_made_printable_and_short() {
    let reason = |bytes: &[u8]| {
        let code = TransportErrorCode::INTERNAL_ERROR;
        let close = quinn_proto::ConnectionClose { error_code: code, frame_type: None, reason: bytes.to_vec().into() };
        close_reason(&ConnectionError::ConnectionClosed(close)).to_string()
    };
    let shown = reason(b"\x1b[31mred\nline");
    assert!(shown.starts_with("the other side ended the connection: QUIC internal error ("), "{shown}");
    assert!(!shown.contains('\x1b') && !shown.contains('\n'), "{shown:?}");
    assert!(reason(&[b'x'; 5000]).len() < 400);
    assert_eq!(reason(b""), "the other side ended the connection: QUIC internal error");
}

#[test]
fn errors_without_a_name_of_their_own_show_their_number() {
    let name = |code| {
        let reason = String::new();
        crate::TransportError { found_by: FoundBy::ThisSide, code, reason }.to_string()
    };
    assert_eq!(name(0x1), "QUIC internal error");
    assert_eq!(name(0x10), "QUIC no viable path");
    assert_eq!(name(0x11), "QUIC error 0x11");
    assert_eq!(name(0x178), "TLS alert 120");
    assert_eq!(name(1 << 61), "QUIC error 0x2000000000000000");
}

#[test]
fn of_a_relay_it_is_said_whether_the_relay_or_this_side_ended_the_connection() {
    let shown = |found_by| {
        let error = crate::TransportError { found_by, code: 0x178, reason: "no ALPN in common".into() };
        crate::RelayError::Transport(error).to_string()
    };
    let error = "TLS alert 120 (no ALPN in common)";
    assert_eq!(shown(FoundBy::OtherSide), format!("the relay ended the connection: {error}"));
    assert_eq!(shown(FoundBy::ThisSide), format!("this side ended the connection to the relay: {error}"));
}
