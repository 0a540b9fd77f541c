//! Whom a peer believes to be its relay: whom the system's roots vouch for, or a file's, or who has the pinned key.

use std::{path::PathBuf, sync::Arc};

use direc_core::TlsPin;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{
    ALPN, HttpsError,
    key::{certificates, pin_of},
};
use crate::provider;

/// Who vouches for a relay's certificate, where its URL has no pin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// The certificate authorities that this machine trusts.
    #[default]
    System,
    /// Those in this PEM file, and nobody else.
    File(PathBuf),
}

/// TLS 1.3, with a certificate that is believed for this reason.
pub(super) fn client_config(trust: &Trust, pin: Option<TlsPin>) -> Result<Arc<ClientConfig>, HttpsError> {
    let provider = provider::provider();
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(HttpsError::Tls)?;
    let builder = match pin {
        Some(pin) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { pin, provider })),
        None => builder.with_root_certificates(roots(trust)?),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(trust: &Trust) -> Result<RootCertStore, HttpsError> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            for error in found.errors {
                log::info!("some of the system's certificates could not be read: {error}");
            }
            // Old ones among them may not parse, and are no loss.
            roots.add_parsable_certificates(found.certs);
        }
        Trust::File(path) => {
            for certificate in certificates(path).map_err(HttpsError::Ca)? {
                roots.add(certificate).map_err(HttpsError::Tls)?;
            }
        }
    }
    if roots.is_empty() { Err(HttpsError::NoRoots) } else { Ok(roots) }
}

/// Believes whoever has the key: neither name nor dates matter, and so no clock.
#[derive(Debug)]
struct Pinned {
    pin: TlsPin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if pin_of(end_entity)? == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
