//! The relay's TLS key and certificate: given in files, or made by itself on first start.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use direc_core::TlsPin;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest;
use rustls::{
    CertificateError, RootCertStore, ServerConfig,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{ALPN, error::CertificateWords};
use crate::{FileTrouble, key::store, provider};

/// A relay's TLS key and its certificate.
#[derive(Clone)]
pub struct HttpsKey {
    key: Arc<CertifiedKey>,
    pin: TlsPin,
}

/// Why a TLS key or certificate could not be used or made.
#[derive(Debug)]
#[non_exhaustive]
pub enum HttpsKeyError {
    /// A file could not be read.
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`).
    NoCertificate {
        /// The path.
        path: PathBuf,
    },
    /// The file holds no private key in PEM.
    NoKey {
        /// The path.
        path: PathBuf,
    },
    /// The certificate and the key do not belong together, or are of a kind that is not supported.
    Unfit(String),
    /// A key or certificate could not be made.
    Generate(String),
}

impl fmt::Display for HttpsKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}", FileTrouble { doing: "cannot read", path, error }),
            Self::NoCertificate { path } => {
                let path = path.display();
                write!(
                    f,
                    "{path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----): is it the right file, and whole?"
                )
            }
            Self::NoKey { path } => {
                let path = path.display();
                write!(
                    f,
                    "{path} holds no private key in PEM (-----BEGIN PRIVATE KEY-----): is it the right file, and whole?"
                )
            }
            Self::Unfit(why) => write!(f, "the TLS certificate and key cannot be used: {why}"),
            Self::Generate(why) => write!(f, "no TLS key or certificate could be made: {why}"),
        }
    }
}

impl std::error::Error for HttpsKeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::NoCertificate { .. } | Self::NoKey { .. } | Self::Unfit(_) | Self::Generate(_) => None,
        }
    }
}

impl HttpsKey {
    /// A certificate, with those that vouch for it behind it, and its key, from two PEM files, which may be the same.
    ///
    /// # Errors
    /// [`HttpsKeyError`] names the file and what is wrong with it.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, HttpsKeyError> {
        Self::new(certificates(certificate)?, private_key(key)?).map_err(|error| match error {
            HttpsKeyError::Unfit(why) => HttpsKeyError::Unfit(format!(
                "{} with the key in {}: {why} (is it this certificate's key, and is either whole?)",
                certificate.display(),
                key.display()
            )),
            other => other,
        })
    }

    /// The self-signed certificate and key in the file at `path`; made, for this host, if there is none. Its folder must exist.
    ///
    /// It is valid for as long as X.509 can say: whoever is given its pin asks for nothing else.
    ///
    /// # Errors
    /// [`HttpsKeyError`] says what is wrong with the file, or what could not be made.
    pub fn load_or_create(path: &Path, host: &str) -> Result<Self, HttpsKeyError> {
        if !path.exists() {
            store(path, &self_signed(host)?).map_err(|error| HttpsKeyError::Generate(error.to_string()))?;
        }
        Self::from_files(path, path)
    }

    /// A fresh self-signed certificate for this host, and its key, stored nowhere.
    ///
    /// # Errors
    /// [`HttpsKeyError::Generate`] if the system gives no randomness, or the host is no name or address.
    pub fn self_signed(host: &str) -> Result<Self, HttpsKeyError> {
        let pem = self_signed(host)?;
        let bad = |_| HttpsKeyError::Generate("what was made does not parse".into());
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(bad)?;
        Self::new(chain, PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(bad)?)
    }

    pub(super) fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, HttpsKeyError> {
        let unfit = |error: rustls::Error| HttpsKeyError::Unfit(error.to_string());
        let pin = pin_of(chain.first().ok_or_else(|| HttpsKeyError::Unfit("no certificate".into()))?).map_err(unfit)?;
        let key = CertifiedKey::from_der(chain, key, &provider::provider()).map_err(unfit)?;
        Ok(Self { key: Arc::new(key), pin })
    }

    /// Why peers whose clocks agree with this machine's will not believe the certificate, as far as its dates say and the
    /// host that they know the relay by; `None` if nothing is wrong with either. Who vouches for it is not asked: that is
    /// the peers' affair.
    pub fn doubt(&self, host: Option<&str>) -> Option<String> {
        let words = |error: rustls::Error| match error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => None,
            rustls::Error::InvalidCertificate(why) => Some(CertificateWords(&why).to_string()),
            other => Some(other.to_string()),
        };
        let [certificate, above @ ..] = self.key.cert.as_slice() else { return None };
        let certificate = match ParsedCertificate::try_from(certificate) {
            Ok(certificate) => certificate,
            Err(error) => return words(error),
        };
        // Dates come first there; without roots it ends with nobody who vouches.
        let algorithms = provider::provider().signature_verification_algorithms;
        let nobody = RootCertStore::empty();
        let dates =
            verify_server_cert_signed_by_trust_anchor(&certificate, &nobody, above, UnixTime::now(), algorithms.all);
        let name = host.and_then(|host| ServerName::try_from(host).ok());
        let name = name.map_or(Ok(()), |name| verify_server_name(&certificate, &name));
        dates.err().and_then(words).or_else(|| name.err().and_then(words))
    }

    /// From when until when the certificate is valid, in that order; `None` if it cannot be told.
    pub fn validity(&self) -> Option<(SystemTime, SystemTime)> {
        let [certificate, ..] = self.key.cert.as_slice() else { return None };
        let certificate = ParsedCertificate::try_from(certificate).ok()?;
        // webpki tells dates only to whom they do not suit: it is asked at the beginning of time, and at its end.
        let refused_at = |seconds| {
            let (at, roots) = (UnixTime::since_unix_epoch(Duration::from_secs(seconds)), RootCertStore::empty());
            let algorithms = provider::provider().signature_verification_algorithms;
            verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], at, algorithms.all).err()
        };
        let time = |at: UnixTime| UNIX_EPOCH.checked_add(Duration::from_secs(at.as_secs()));
        match (refused_at(0)?, refused_at(u64::MAX)?) {
            (
                rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }),
                rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }),
            ) => Some((time(not_before)?, time(not_after)?)),
            _ => None,
        }
    }

    /// The pin of its public key, for URLs.
    pub fn pin(&self) -> TlsPin {
        self.pin
    }
}

/// The key that new connections are answered with. It may be replaced at any time.
pub(crate) struct CurrentKey(Mutex<HttpsKey>);

impl CurrentKey {
    pub(crate) fn new(key: &HttpsKey) -> Self {
        Self(Mutex::new(key.clone()))
    }

    pub(crate) fn replace(&self, key: &HttpsKey) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = key.clone();
    }

    pub(crate) fn get(&self) -> HttpsKey {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// TLS 1.3 and nothing before it, no session tickets: a tunnel stands for long.
    pub(crate) fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(provider::provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(self.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for CurrentKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get().key)
    }
}

impl fmt::Debug for CurrentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsKey").field("pin", &self.pin.to_string()).finish_non_exhaustive()
    }
}

/// The pin of a certificate's public key.
pub(crate) fn pin_of(certificate: &CertificateDer<'_>) -> Result<TlsPin, rustls::Error> {
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let mut pin = TlsPin([0; 32]);
    pin.0.copy_from_slice(digest::digest(&digest::SHA256, &spki).as_ref());
    Ok(pin)
}

/// All certificates in a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpsKeyError> {
    let none = || HttpsKeyError::NoCertificate { path: path.to_owned() };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found.ok().filter(|chain| !chain.is_empty()).ok_or_else(none)
}

/// The private key in a PEM file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, HttpsKeyError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| HttpsKeyError::NoKey { path: path.to_owned() })
}

fn read(path: &Path) -> Result<Vec<u8>, HttpsKeyError> {
    /// As long as a bundle of all the roots there are may be.
    const MAX_FILE: u64 = 4 << 20;
    let at = |error| HttpsKeyError::Io { path: path.to_owned(), error };
    let about = fs::metadata(path).map_err(at)?;
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(at(io::Error::new(io::ErrorKind::InvalidInput, "no file of at most 4 MiB")));
    }
    fs::read(path).map_err(at)
}

fn self_signed(host: &str) -> Result<String, HttpsKeyError> {
    let failed = |error: rcgen::Error| HttpsKeyError::Generate(error.to_string());
    // What every TLS client speaks; Ed25519 is not.
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "direc relay");
    let certificate = params.self_signed(&pair).map_err(failed)?;
    Ok(certificate.pem() + &pair.serialize_pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_is_the_same_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.pem");
        let first = HttpsKey::load_or_create(&path, "relay.example").unwrap();
        let second = HttpsKey::load_or_create(&path, "relay.example").unwrap();
        assert_eq!(first.pin(), second.pin());
        assert_ne!(first.pin(), HttpsKey::self_signed("relay.example").unwrap().pin());
        assert!(!format!("{first:?}").contains("PRIVATE"));
    }

    #[test]
    fn files_that_will_not_do_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let whole = self_signed("a").unwrap();
        let key_at = whole.find("-----BEGIN PRIVATE").unwrap();
        fs::write(path("cert"), &whole[..key_at]).unwrap();
        fs::write(path("key"), &whole[key_at..]).unwrap();
        let other = self_signed("a").unwrap();
        fs::write(path("other"), &other[other.find("-----BEGIN PRIVATE").unwrap()..]).unwrap();
        assert!(HttpsKey::from_files(&path("cert"), &path("key")).is_ok());
        let error = |cert: &str, key: &str| HttpsKey::from_files(&path(cert), &path(key)).unwrap_err();
        assert!(matches!(error("key", "key"), HttpsKeyError::NoCertificate { path } if path.ends_with("key")));
        assert!(matches!(error("cert", "cert"), HttpsKeyError::NoKey { path } if path.ends_with("cert")));
        assert!(matches!(error("cert", "other"), HttpsKeyError::Unfit(_)));
        assert!(matches!(error("gone", "key"), HttpsKeyError::Io { path, .. } if path.ends_with("gone")));
        assert!(matches!(error("", "key"), HttpsKeyError::Io { .. }));
    }

    /// A certificate for this host, valid from so many days after today until so many days after today.
    fn dated(host: &str, from: i64, until: i64) -> HttpsKey {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let day = |days| time::OffsetDateTime::now_utc() + time::Duration::days(days);
        (params.not_before, params.not_after) = (day(from), day(until));
        let chain = vec![params.self_signed(&pair).unwrap().der().clone()];
        HttpsKey::new(chain, PrivateKeyDer::try_from(pair.serialize_der()).unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_says_from_when_until_when_it_is_valid() {
        let (from, until) = dated("relay.example", -365, 1).validity().unwrap();
        let day = Duration::from_secs(86_400);
        assert_eq!(until.duration_since(from).unwrap(), 366 * day);
        assert!(from < SystemTime::now() && SystemTime::now() < until && until <= SystemTime::now() + day);
        let (_, until) = HttpsKey::self_signed("relay.example").unwrap().validity().unwrap();
        assert!(until > SystemTime::now() + 365_000 * day, "as long as X.509 can say");
    }

    #[test]
    fn a_certificate_that_peers_will_not_believe_is_known_to_the_relay() {
        let good = dated("relay.example", -1, 1);
        assert_eq!(good.doubt(Some("relay.example")), None);
        assert_eq!(good.doubt(None), None, "where peers know it by another name, that is not known");
        for (key, host, words) in [
            (&dated("relay.example", -365, -1), None, "it expired on "),
            (&dated("relay.example", 1, 365), Some("relay.example"), "it is not valid before "),
            (&good, Some("other.example"), "it is another host's: of relay.example, not of other.example"),
            (&good, Some("192.0.2.1"), "it is another host's: of relay.example, not of 192.0.2.1"),
        ] {
            let doubt = key.doubt(host).unwrap();
            assert!(doubt.contains(words), "no '{words}' in: {doubt}");
        }
    }
}
