use ciborium::{Value, cbor};
use proptest::prelude::*;

use super::*;

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

fn all() -> Vec<Message> {
    let id = NodeId::from_bytes([9; 32]);
    vec![
        Message::Register(Register {
            listen: true,
            any: false,
            ids: vec![id; MAX_CONSENTS],
            instance: None,
            token: None,
            knows: Knows::PEER,
        }),
        Message::Register(Register {
            listen: false,
            any: false,
            ids: vec![],
            instance: Some([4; 8].into()),
            token: Some(AccessToken::from_random([0x11; 20])),
            knows: Knows::default(),
        }),
        Message::Registered(Registered { punch_ports: vec![4434, 4435], knock_port: Some(4436), knows: Knows::RELAY }),
        Message::Knock(Knock { cookie: [7; 16] }),
        Message::Knocked(Knock { cookie: [7; 16] }),
        Message::Resolve(Resolve { name: "n".repeat(63).parse().unwrap() }),
        Message::Resolved(Resolved { name: "office-server".parse().unwrap(), id: Some(id), reason: None }),
        Message::Resolved(Resolved { name: "nobody".parse().unwrap(), id: None, reason: None }),
        Message::Resolved(Resolved {
            name: "office-server".parse().unwrap(),
            id: None,
            reason: Some(RefuseReason::TotalQuota),
        }),
        Message::OverQuota(OverQuota { reason: RefuseReason::PeerQuota, bytes: 2_000_000, per_ms: 1000, dropped: 12 }),
        Message::Expect(Expect { cookie: [1; 16], aside: false }),
        Message::Expect(Expect { cookie: [1; 16], aside: true }),
        Message::Observed(Observed {
            cookie: [1; 16],
            port: 1,
            address: "198.51.100.1:5".parse().unwrap(),
            pool: Some((50_001, 65_535)),
        }),
        Message::Initiate(Initiate {
            server: id,
            cookie: [2; 16],
            channel: u64::MAX,
            direct: true,
            direct_only: true,
            rekey: false,
            resume: Some([5; 16].into()),
        }),
        Message::Initiate(Initiate {
            server: id,
            cookie: [2; 16],
            channel: 1,
            direct: true,
            direct_only: false,
            rekey: false,
            resume: None,
        }),
        Message::GoAhead(GoAhead { introduction: 7, secret: [3; 32], accepted: true }),
        Message::Offer(Offer {
            introduction: 7,
            client: id,
            cookie: [4; 16],
            secret: [3; 32],
            channel: 8,
            direct: false,
            direct_only: false,
            rekey: false,
            resume: Some([6; 16].into()),
        }),
        Message::Local(Local { addresses: vec!["[2001:db8::1]:6".parse().unwrap(); MAX_ADDRESSES] }),
        Message::Seen(Seen { address: "198.51.100.1:5".parse().unwrap() }),
        Message::Drain(Drain { within_ms: u64::MAX }),
        Message::Accept,
        Message::Addresses(Addresses {
            addresses: vec!["198.51.100.1:5".parse().unwrap(), "[2001:db8::1]:6".parse().unwrap()],
        }),
        Message::Refused(Refused { reason: RefuseReason::NoSuchPeer }),
    ]
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}

#[test]
fn what_is_encoded_decodes_to_the_same() {
    for message in all() {
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn the_largest_message_fits_a_frame() {
    for message in all() {
        assert!(message.encode().len() <= crate::wire::frame::MAX_MESSAGE, "{message:?}");
    }
}

#[test]
fn fields_of_a_later_version_are_ignored() {
    let value = cbor!([1, "refused", { "reason" => "limit", "retry-after" => 5 }]).unwrap();
    assert_eq!(Message::decode(&bytes(&value)), Ok(Message::Refused(Refused { reason: RefuseReason::Limit })));
}

#[test]
fn a_reason_of_a_later_version_is_still_a_refusal() {
    let value = cbor!([1, "refused", { "reason" => "moon-phase" }]).unwrap();
    assert_eq!(Message::decode(&bytes(&value)), Ok(Message::Refused(Refused { reason: RefuseReason::Other })));
}

#[test]
fn another_version_is_refused_whatever_its_body_looks_like() {
    let value = cbor!([2, 77, "anything"]).unwrap();
    assert_eq!(Message::decode(&bytes(&value)), Err(DecodeError::Version));
}

#[test]
fn an_unknown_kind_is_refused_by_name() {
    let value = cbor!([1, "dance", {}]).unwrap();
    assert_eq!(Message::decode(&bytes(&value)), Err(DecodeError::Kind));
}

#[test]
fn truncated_and_padded_messages_are_malformed() {
    for message in all() {
        let whole = message.encode();
        for len in 0..whole.len() {
            assert_eq!(Message::decode(&whole[..len]), Err(DecodeError::Malformed), "{message:?} cut to {len}");
        }
        assert_eq!(Message::decode(&[whole.as_slice(), &[0]].concat()), Err(DecodeError::Malformed));
    }
}

#[test]
fn more_addresses_than_the_limit_are_malformed() {
    let one = Value::Bytes(vec![1, 2, 3, 4, 0, 5]);
    let value = cbor!([1, "addresses", { "addresses" => vec![one; MAX_ADDRESSES + 1] }]).unwrap();
    assert_eq!(Message::decode(&bytes(&value)), Err(DecodeError::Malformed));
}

#[test]
fn nesting_beyond_ours_is_malformed_and_costs_no_stack() {
    let deep = [vec![0x81; 4000], vec![0]].concat();
    assert_eq!(Message::decode(&deep), Err(DecodeError::Malformed));
}

#[test]
fn a_huge_length_inside_a_small_message_allocates_nothing_huge() {
    // An array that claims 2^32 - 1 items, and a byte string that claims as many bytes.
    assert_eq!(Message::decode(&[0x9a, 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::Malformed));
    assert_eq!(Message::decode(&[0x5a, 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::Malformed));
}

proptest! {
    #[test]
    fn any_bytes_decode_to_a_message_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_flipped_bit_decodes_to_a_message_or_a_reason(which in 0..all().len(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = all()[which].encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let _ = Message::decode(&bytes);
    }
}

#[test]
fn what_a_side_knows_is_nothing_where_it_says_nothing_and_words_of_later_versions_are_left_out() {
    let register = |knows: Option<Value>| {
        let mut body = vec![(Value::from("listen"), Value::from(true))];
        body.extend(knows.map(|knows| (Value::from("knows"), knows)));
        let mut bytes = Vec::new();
        ciborium::into_writer(&cbor!([1, "register", Value::Map(body)]).unwrap(), &mut bytes).unwrap();
        match Message::decode(&bytes) {
            Ok(Message::Register(register)) => Some(register.knows),
            _ => None,
        }
    };
    assert_eq!(register(None), Some(Knows::default()));
    assert_eq!(register(Some(cbor!(["teleport", "over-quota"]).unwrap())), Some(Knows::PEER));
    assert_eq!(register(Some(cbor!([7]).unwrap())), None, "words are text");
}

/// The examples of `docs/protocol.md`.
#[test]
fn the_documented_bytes_are_what_is_sent() {
    let document = include_str!("../../../../docs/protocol.md");
    let id = NodeId::from_bytes([0x11; 32]);
    let examples = [
        Message::Register(Register {
            listen: true,
            any: false,
            ids: vec![],
            instance: None,
            token: None,
            knows: Knows::PEER,
        }),
        Message::Register(Register {
            listen: false,
            any: false,
            ids: vec![],
            instance: None,
            token: Some(AccessToken::from_random([0x11; 20])),
            knows: Knows::default(),
        }),
        Message::Registered(Registered { punch_ports: vec![4434, 4435], knock_port: Some(4436), knows: Knows::RELAY }),
        Message::Expect(Expect { cookie: [0x22; 16], aside: false }),
        Message::Observed(Observed {
            cookie: [0x22; 16],
            port: 0,
            address: "198.51.100.7:40000".parse().unwrap(),
            pool: None,
        }),
        Message::Initiate(Initiate {
            server: id,
            cookie: [0x22; 16],
            channel: 7,
            direct: true,
            direct_only: false,
            rekey: false,
            resume: None,
        }),
        Message::GoAhead(GoAhead { introduction: 9, secret: [0x33; 32], accepted: true }),
        Message::Offer(Offer {
            introduction: 9,
            client: id,
            cookie: [0x22; 16],
            secret: [0x33; 32],
            channel: 8,
            direct: true,
            direct_only: false,
            rekey: false,
            resume: None,
        }),
        Message::Local(Local { addresses: vec!["192.168.1.10:40000".parse().unwrap()] }),
        Message::Seen(Seen { address: "198.51.100.7:40000".parse().unwrap() }),
        Message::Drain(Drain { within_ms: 30_000 }),
        Message::Knock(Knock { cookie: [0x22; 16] }),
        Message::Knocked(Knock { cookie: [0x22; 16] }),
        Message::Resolve(Resolve { name: "office-server".parse().unwrap() }),
        Message::Resolved(Resolved { name: "office-server".parse().unwrap(), id: Some(id), reason: None }),
        Message::Resolved(Resolved {
            name: "office-server".parse().unwrap(),
            id: None,
            reason: Some(RefuseReason::PeerQuota),
        }),
        Message::OverQuota(OverQuota { reason: RefuseReason::PeerQuota, bytes: 2_000_000, per_ms: 1000, dropped: 12 }),
        Message::Accept,
        Message::Addresses(Addresses { addresses: vec!["198.51.100.7:40000".parse().unwrap()] }),
        Message::Refused(Refused { reason: RefuseReason::NoSuchPeer }),
    ];
    for example in examples {
        let hex = data_encoding::HEXLOWER.encode(&crate::wire::frame::frame(&example));
        assert!(document.contains(&hex), "{example:?} is {hex}");
    }
}
