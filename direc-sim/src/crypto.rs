//! A crypto provider for simulation only: **its keys can be computed from the seed by anyone**.
//!
//! QUIC runs are byte-identical only if everything rustls draws comes from the seed: random numbers and the secrets of
//! the key exchange. rustls wants both by `&'static` reference, so the generator is the thread's: [`install`] starts
//! it anew. One simulated world at a time can run on a thread.

use std::{
    cell::RefCell,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    Error, KeyLog, NamedGroup, PeerMisbehaved,
    crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup, ring},
};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::rng::{Purpose, Rng};

thread_local! {
    static GENERATOR: RefCell<Option<Rng>> = const { RefCell::new(None) };
}

fn draw(bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
    GENERATOR.with_borrow_mut(|generator| match generator {
        Some(rng) => {
            rng.fill(bytes);
            Ok(())
        }
        None => Err(GetRandomFailed),
    })
}

/// Starts this thread's generator anew from `seed` and gives the provider that draws from it.
///
/// For simulation only. It knows TLS 1.3 with AES-128-GCM and X25519, nothing else.
pub fn install(seed: u64) -> Arc<CryptoProvider> {
    GENERATOR.set(Some(Rng::new(seed, Purpose::Crypto)));
    Arc::new(CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![&X25519],
        secure_random: &Seeded,
        ..ring::default_provider()
    })
}

#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        draw(buf)
    }
}

/// RFC 7748, section 6.1, with secrets from the thread's generator.
#[derive(Debug)]
struct X25519;

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        draw(&mut secret)?;
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret);
        Ok(Box::new(Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }
}

struct Exchange {
    secret: StaticSecret,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer_pub_key: &[u8]) -> Result<SharedSecret, Error> {
        let invalid = || Error::from(PeerMisbehaved::InvalidKeyShare);
        let theirs: [u8; 32] = peer_pub_key.try_into().map_err(|_| invalid())?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(theirs));
        // RFC 8446, section 7.4.2: an all-zero result means the other side's key adds nothing.
        if shared.was_contributory() { Ok(SharedSecret::from(shared.as_bytes().as_slice())) } else { Err(invalid()) }
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// Collects TLS secrets in memory, in the NSS key log format that Wireshark reads. Clones share what they collect.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<Mutex<String>>);

impl Secrets {
    /// Everything collected so far: one line a secret.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hex = |bytes: &[u8], text: &mut String| {
            for byte in bytes {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
        };
        text.push_str(label);
        text.push(' ');
        hex(client_random, &mut text);
        text.push(' ');
        hex(secret, &mut text);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7748_section_6_1() {
        let hex = |text: &str| -> [u8; 32] {
            std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        };
        let alice = StaticSecret::from(hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
        let exchange = Box::new(Exchange { public: PublicKey::from(&alice), secret: alice });
        let bob = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        let shared = exchange.complete(&bob).unwrap();
        assert_eq!(shared.secret_bytes(), hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"));
    }

    #[test]
    fn one_seed_gives_the_same_keys_again() {
        let keys = |seed| {
            let provider = install(seed);
            let first = provider.kx_groups[0].start().unwrap().pub_key().to_vec();
            let second = provider.kx_groups[0].start().unwrap().pub_key().to_vec();
            assert_ne!(first, second);
            (first, second)
        };
        assert_eq!(keys(3), keys(3));
        assert_ne!(keys(3), keys(4));
    }

    #[test]
    fn a_useless_key_share_is_refused() {
        let provider = install(1);
        assert!(provider.kx_groups[0].start().unwrap().complete(&[0; 32]).is_err());
        assert!(provider.kx_groups[0].start().unwrap().complete(&[9; 31]).is_err());
    }

    #[test]
    fn secrets_are_written_as_wireshark_reads_them() {
        let secrets = Secrets::default();
        secrets.clone().log("CLIENT_TRAFFIC_SECRET_0", &[0x01, 0xff], &[0xab]);
        assert_eq!(secrets.text(), "CLIENT_TRAFFIC_SECRET_0 01ff ab\n");
    }
}
