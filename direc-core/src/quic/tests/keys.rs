//! Key updates (RFC 9001, section 6): a connection outlives the number of packets that one key may protect.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{
    Error, SupportedCipherSuite, Tls13CipherSuite,
    crypto::{
        CipherSuiteCommon,
        cipher::{AeadKey, Iv},
    },
    quic::{Algorithm, HeaderProtectionKey, PacketKey, Tag},
};

use super::*;

/// quinn-proto updates its keys so many packets before the limit.
const MARGIN: u64 = 10_000;
/// Packets that one key protects here, in place of 2^23.
const PACKETS: u64 = 100;

/// AES-128-GCM with keys that may protect few packets.
struct ShortLived {
    inner: &'static dyn Algorithm,
    made: AtomicUsize,
}

impl Algorithm for ShortLived {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        self.made.fetch_add(1, Ordering::Relaxed);
        Box::new(ShortLivedKey(self.inner.packet_key(key, iv)))
    }

    fn header_protection_key(&self, key: AeadKey) -> Box<dyn HeaderProtectionKey> {
        self.inner.header_protection_key(key)
    }

    fn aead_key_len(&self) -> usize {
        self.inner.aead_key_len()
    }
}

struct ShortLivedKey(Box<dyn PacketKey>);

impl PacketKey for ShortLivedKey {
    fn encrypt_in_place(&self, number: u64, header: &[u8], payload: &mut [u8]) -> Result<Tag, Error> {
        self.0.encrypt_in_place(number, header, payload)
    }

    fn decrypt_in_place<'a>(&self, number: u64, header: &[u8], payload: &'a mut [u8]) -> Result<&'a [u8], Error> {
        self.0.decrypt_in_place(number, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        MARGIN + PACKETS
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

/// The provider, and what counts its keys. Leaked: rustls wants algorithms for ever, and a test has one.
fn short_lived() -> (CryptoProvider, &'static ShortLived) {
    let provider = provider();
    let suite = provider.cipher_suites.iter().find_map(|suite| match suite {
        SupportedCipherSuite::Tls13(suite) if suite.common.suite == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => {
            Some(*suite)
        }
        _ => None,
    });
    let suite = suite.unwrap();
    let quic: &ShortLived = Box::leak(Box::new(ShortLived { inner: suite.quic.unwrap(), made: AtomicUsize::new(0) }));
    let CipherSuiteCommon { suite: name, hash_provider, confidentiality_limit, .. } = suite.common;
    let suite: &Tls13CipherSuite = Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon { suite: name, hash_provider, confidentiality_limit },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: Some(quic),
    }));
    (CryptoProvider { cipher_suites: vec![SupportedCipherSuite::Tls13(suite)], ..provider }, quic)
}

/// Data both ways until the client has sent so many bytes and the server so many, and all are there.
fn transfer(net: &mut Net, bytes: [usize; 2]) {
    let ids = [CLIENT, SERVER].map(|side| net.open(side, Dir::Uni));
    let chunk = [7; 64 << 10];
    let mut sent = [0; 2];
    for side in [CLIENT, SERVER] {
        sent[side] += write(net.conn(side), ids[side], &chunk);
    }
    let theirs = [SERVER, CLIENT].map(|side| net.accept(side, Dir::Uni));
    let mut received = [0; 2];
    net.until(ms(7_200_000), |net| {
        for from in [CLIENT, SERVER] {
            if sent[from] < bytes[from] {
                sent[from] += write(net.conn(from), ids[from], &chunk);
            }
            received[from] += read(net.conn(1 - from), theirs[from]).0;
        }
        (received == sent && (0..2).all(|from| sent[from] >= bytes[from])).then_some(())
    });
}

#[test]
fn a_transfer_outlives_many_keys_under_loss_and_reordering() {
    let (provider, keys) = short_lived();
    let settings = Transport { window: 256 << 10, stream_window: 128 << 10, ..Transport::default() };
    let mut net = Net::with([settings; 2], Arc::new(provider));
    net.lose_one_in(100);
    net.jitter = ms(5);
    let before = keys.made.load(Ordering::Relaxed);
    transfer(&mut net, [20 << 20; 2]);
    net.assert_stands();
    // Each update makes a key for each direction, at either side.
    let updates = (keys.made.load(Ordering::Relaxed) - before) / 4;
    assert!(updates >= 20, "{updates}");
}

/// With the real limit of AES-GCM: as much data as more packets of the largest size hold.
#[test]
#[ignore = "protects nine million packets: more than ten minutes"]
fn a_transfer_of_more_than_two_to_the_23_packets_goes_on() {
    let mut net = Net::new(Transport::default());
    net.delay = ms(1);
    transfer(&mut net, [(1 << 23) * usize::from(config::LARGEST_INNER_PACKET), 0]);
    net.run(ms(1000));
    net.assert_stands();
    assert!(net.conn(CLIENT).stats().path.sent_packets > 1 << 23);
}
