//! TLS 1.3 with raw public keys (RFC 7250) on both sides: a key is either the expected one or refused.
//!
//! No certificate authority, no names, no dates; so no clock either. Sessions are never resumed: tickets would bring
//! in the wall clock and let a key outlive its proof.

use std::{fmt, sync::Arc};

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, KeyLog, NoKeyLog, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    time_provider::TimeProvider,
    version::TLS13,
};

use crate::{
    ConfigError, Identity, NodeId,
    wire::datagram::{Cookie, TOKEN_LEN, Token},
};

/// ALPN of a control connection, peer to relay.
pub(crate) const ALPN_RELAY: &[u8] = b"direc-relay/1";
/// ALPN of a connection between peers.
pub(crate) const ALPN_PEER: &[u8] = b"direc-peer/1";

/// What TLS needs of a node.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) identity: Identity,
    pub(crate) crypto: Arc<CryptoProvider>,
    pub(crate) key_log: Option<Arc<dyn KeyLog>>,
}

impl Tls {
    /// A client that takes `expected` and no other server.
    pub(crate) fn client(&self, expected: NodeId, alpn: &[u8]) -> Result<Arc<QuicClientConfig>, ConfigError> {
        let mut config = rustls::ClientConfig::builder_with_provider(self.crypto.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(Some(expected)))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.identity.certified())));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.time_provider = Arc::new(NoClock);
        config.key_log = self.key_log();
        QuicClientConfig::try_from(config).map(Arc::new).map_err(unfit)
    }

    /// A server that takes `expected` alone, or anyone with an Ed25519 key.
    pub(crate) fn server(&self, expected: Option<NodeId>, alpn: &[u8]) -> Result<Arc<QuicServerConfig>, ConfigError> {
        let mut config = rustls::ServerConfig::builder_with_provider(self.crypto.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .with_client_cert_verifier(self.verifier(expected))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.identity.certified())));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.send_tls13_tickets = 0;
        config.time_provider = Arc::new(NoClock);
        config.key_log = self.key_log();
        QuicServerConfig::try_from(config).map(Arc::new).map_err(unfit)
    }

    fn verifier(&self, expected: Option<NodeId>) -> Arc<PinnedKey> {
        Arc::new(PinnedKey { expected, algorithms: self.crypto.signature_verification_algorithms })
    }

    fn key_log(&self) -> Arc<dyn KeyLog> {
        self.key_log.clone().unwrap_or_else(|| Arc::new(NoKeyLog))
    }
}

fn unfit(error: impl fmt::Display) -> ConfigError {
    ConfigError::Crypto(error.to_string())
}

/// The key that a connection's other side has proven.
pub(crate) fn proven_key(connection: &quinn_proto::Connection) -> Option<NodeId> {
    let identity = connection.crypto_session().peer_identity()?;
    let certificates = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?;
    NodeId::from_spki(certificates.first()?)
}

/// Labels of the exported tokens.
const LATE_LABEL: &[u8] = b"EXPORTER-direc-late-echo";
const KNOCK_LABEL: &[u8] = b"EXPORTER-direc-knock";

/// The token of a late echo: only the two ends of the control connection know it, not who has seen the cookie pass.
pub(crate) fn late_token(connection: &quinn_proto::Connection, cookie: &Cookie, port: u8) -> Option<Token> {
    let mut context = cookie.to_vec();
    context.push(port);
    exported(connection, LATE_LABEL, &context)
}

/// The token of a knock, known to the two ends alone as well.
pub(crate) fn knock_token(connection: &quinn_proto::Connection, cookie: &Cookie) -> Option<Token> {
    exported(connection, KNOCK_LABEL, cookie)
}

fn exported(connection: &quinn_proto::Connection, label: &[u8], context: &[u8]) -> Option<Token> {
    let mut token = [0; TOKEN_LEN];
    connection.crypto_session().export_keying_material(&mut token, label, context).ok()?;
    Some(token)
}

/// Nothing here depends on the time of day.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::ZERO))
    }
}

/// Takes one Ed25519 key, or any, and checks that the other side holds its secret half.
#[derive(Debug)]
struct PinnedKey {
    expected: Option<NodeId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedKey {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let found = NodeId::from_spki(certificate).ok_or(CertificateError::BadEncoding)?;
        match self.expected {
            // Becomes the alert `access_denied`: the other side learns that its key was refused.
            Some(expected) if expected != found => Err(CertificateError::ApplicationVerificationFailure.into()),
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(certificate.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

/// TLS 1.2 is not in the protocol.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.3 only".into()))
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PinnedKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
