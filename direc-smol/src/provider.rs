//! The crypto library and the one choice made of it.

use std::sync::Arc;

use rustls::crypto::{
    CryptoProvider,
    ring::{cipher_suite, default_provider, kx_group},
};

/// ring, restricted to what both ends of this protocol speak: TLS 1.3, X25519, and AES-128-GCM first because it is the
/// fastest where there is hardware for it.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    })
}

/// 32 secret bytes from the system.
pub(crate) fn seed() -> Result<[u8; 32], crate::BindError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| crate::BindError::Entropy(error.to_string()))?;
    Ok(seed)
}
