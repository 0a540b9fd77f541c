//! The authority's question whether a host is this relay (RFC 8737): what speaks `acme-tls/1` there has to show a
//! certificate that only the account's owner can make.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest::Digest;
use rustls::{
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{CurrentKey, error::AcmeError};
use crate::provider;

/// What the authority speaks inside TLS instead of HTTP.
pub(in super::super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// The answers to the challenges that are open, by host.
#[derive(Default)]
pub(super) struct Challenges(Mutex<BTreeMap<String, Arc<CertifiedKey>>>);

impl Challenges {
    /// Answers the one for this host, for as long as that is kept.
    pub(super) fn answer(&self, host: &str, authorization: &Digest) -> Result<Open<'_>, AcmeError> {
        self.lock().insert(host.to_owned(), Arc::new(answer(host, authorization)?));
        Ok(Open { challenges: self, host: host.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<CertifiedKey>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

/// A challenge that is answered.
pub(super) struct Open<'a> {
    challenges: &'a Challenges,
    host: String,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.challenges.lock().remove(&self.host);
    }
}

/// The certificate of RFC 8737, section 3, with a key of its own.
fn answer(host: &str, authorization: &Digest) -> Result<CertifiedKey, AcmeError> {
    let failed = |why: &dyn fmt::Display| AcmeError::Make(why.to_string());
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(&error))?;
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(|error| failed(&error))?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(authorization.as_ref())];
    let certificate = params.self_signed(&pair).map_err(|error| failed(&error))?;
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let private = provider::provider().key_provider.load_private_key(private).map_err(|error| failed(&error))?;
    // rustls's own check that the two belong together would stumble over the extension, which is critical.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], private))
}

/// Shows the authority the answers, and everybody else the certificate.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) current: Arc<CurrentKey>,
    pub(super) challenges: Arc<Challenges>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_challenge = hello.alpn().is_some_and(|names| names.eq([ACME_TLS]));
        if is_challenge {
            self.challenges.lock().get(hello.server_name()?).cloned()
        } else {
            self.current.resolve(hello)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::https::{ALPN, HttpsKey};
    use ring::digest::{SHA256, digest};
    use rustls::{
        ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConnection, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    /// Believes everybody, to see what is shown.
    #[derive(Debug)]
    struct Looks;

    impl ServerCertVerifier for Looks {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("TLS 1.3 alone".into()))
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider::provider().signature_verification_algorithms.supported_schemes()
        }
    }

    /// The certificate that is shown to who wants this host and speaks these protocols.
    fn shown(server: &Arc<rustls::ServerConfig>, host: &str, speaks: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let builder = ClientConfig::builder_with_provider(provider::provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Looks)).with_no_client_auth();
        config.alpn_protocols = speaks.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name)?;
        let mut server = ServerConnection::new(server.clone())?;
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(client.peer_certificates().unwrap()[0].to_vec())
    }

    #[test]
    fn the_answer_is_shown_to_who_speaks_nothing_else_and_only_while_the_challenge_is_open() {
        let current = Arc::new(CurrentKey::new(&HttpsKey::self_signed("relay.example").unwrap()));
        let challenges = Arc::new(Challenges::default());
        let mut config = rustls::ServerConfig::clone(&current.server_config().unwrap());
        config.alpn_protocols.push(ACME_TLS.to_vec());
        config.cert_resolver = Arc::new(Resolver { current, challenges: challenges.clone() });
        let config = Arc::new(config);

        let usual = shown(&config, "relay.example", &[ALPN]).unwrap();
        assert!(shown(&config, "relay.example", &[ACME_TLS]).is_err(), "nobody has asked");
        let authorization = digest(&SHA256, b"token.thumbprint");
        let open = challenges.answer("relay.example", &authorization).unwrap();
        let answer = shown(&config, "relay.example", &[ACME_TLS]).unwrap();
        assert_ne!(answer, usual);
        let holds = |part: &[u8]| answer.windows(part.len()).any(|window| window == part);
        // id-pe-acmeIdentifier, 1.3.6.1.5.5.7.1.31, critical (RFC 8737, section 3); and the hash in its octet string.
        assert!(holds(&[6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff]) && holds(b"relay.example"));
        assert!(holds(&[&[4, 32], authorization.as_ref()].concat()));
        assert!(shown(&config, "other.example", &[ACME_TLS]).is_err());
        for speaks in [&[][..], &[ALPN], &[ALPN, ACME_TLS], &[ACME_TLS, ALPN]] {
            assert_eq!(shown(&config, "relay.example", speaks).unwrap(), usual);
        }
        drop(open);
        assert!(shown(&config, "relay.example", &[ACME_TLS]).is_err());
    }
}
