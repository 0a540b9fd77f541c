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

use ring::digest;
use rustls::{
    Error, KeyLog, NamedGroup, PeerMisbehaved,
    crypto::{
        ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup, ring as tls,
    },
};

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
/// For simulation only. It knows TLS 1.3 with AES-128-GCM and a stand-in for X25519, nothing else.
pub fn install(seed: u64) -> Arc<CryptoProvider> {
    GENERATOR.set(Some(Rng::new(seed, Purpose::Crypto)));
    Arc::new(CryptoProvider {
        cipher_suites: vec![tls::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![&StandIn],
        secure_random: &Seeded,
        ..tls::default_provider()
    })
}

#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        draw(buf)
    }
}

/// Looks like X25519 to TLS and on the wire, with key shares of 32 random bytes from the thread's generator; what is
/// agreed is a hash of both. Whoever sees the shares knows it, and nobody in a simulation looks: curve arithmetic was a
/// seventh of a run's time.
#[derive(Debug)]
struct StandIn;

impl SupportedKxGroup for StandIn {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut share = [0; 32];
        draw(&mut share)?;
        Ok(Box::new(Exchange { share }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }

    fn ffdhe_group(&self) -> Option<rustls::ffdhe_groups::FfdheGroup<'static>> {
        None
    }
}

struct Exchange {
    share: [u8; 32],
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, theirs: &[u8]) -> Result<SharedSecret, Error> {
        // As an all-zero share is refused where there is a curve (RFC 8446, section 7.4.2).
        if theirs.len() != self.share.len() || theirs.iter().all(|&byte| byte == 0) {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let mut both = [&self.share, theirs];
        both.sort_unstable();
        Ok(SharedSecret::from(digest::digest(&digest::SHA256, &both.concat()).as_ref()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
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
    fn both_sides_agree_and_a_third_does_not() {
        let provider = install(1);
        let [one, other, third] = std::array::from_fn(|_| provider.kx_groups[0].start().unwrap());
        let [to_one, to_other] = [&one, &other].map(|exchange| exchange.pub_key().to_vec());
        let secret = |exchange: Box<dyn ActiveKeyExchange>, theirs: &[u8]| {
            exchange.complete(theirs).unwrap().secret_bytes().to_vec()
        };
        let agreed = secret(one, &to_other);
        assert_eq!(agreed, secret(other, &to_one));
        assert_ne!(agreed, secret(third, &to_one));
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
