//! The relay's key, certified by an ACME authority (RFC 8555), Let's Encrypt or another, and again before that runs out.
//!
//! The authority asks the host's port 443 for a certificate that only the account's owner can make (RFC 8737), so the
//! HTTPS port is all that it takes. Inside, each resting on those before: `web` asks and is answered, `account` signs,
//! `session` is an account at an authority, `order` gets the certificate, by way of `challenge`.

mod account;
mod challenge;
mod error;
mod order;
mod session;
mod web;

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_io::Timer;
use data_encoding::BASE32_NOPAD;
use ring::digest;
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{CurrentKey, HttpsKey, Trust, key::private_key, trust::client_config, within};
use crate::{
    RelayNews,
    key::{replace, store_ecdsa_key},
};
use account::AccountKey;
pub(super) use challenge::ACME_TLS;
use challenge::{Challenges, Resolver};
use error::AcmeError;
use session::Session;

/// For an order as a whole: authorities need some minutes at most.
const PATIENCE: Duration = Duration::from_secs(900);
/// Pauses between orders that fail are doubled up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// The wall clock may be set, and the machine may sleep: it is looked at this often.
const LOOK: Duration = Duration::from_secs(600);
/// A certificate is used for a third of its time before another is ordered, whatever this machine's clock makes of it, within
/// these bounds: authorities give few.
const USE: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3 * 86_400)];

/// How a relay has its TLS key certified by an ACME authority.
///
/// To set this up is to agree to the authority's terms of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeOptions {
    /// The host names that the certificate is to be for; TCP port 443 of each has to lead to this relay.
    pub hosts: Vec<String>,
    /// Where the authority may write to, as `mailto:` URLs. None by default.
    pub contact: Vec<String>,
    /// The authority's directory, an `https://` URL. [`AcmeOptions::LETS_ENCRYPT`] by default.
    pub directory: String,
    /// Who vouches for the authority itself. The system's roots by default.
    pub trust: Trust,
    /// The PEM file with the key to be certified, as [`HttpsKey::load_or_create`] makes it. It stays the same, and with it
    /// the pins of URLs.
    pub key: PathBuf,
    /// The folder for the account's key and the certificate, each a file for the relay's eyes only. It is made if missing.
    pub folder: PathBuf,
}

impl AcmeOptions {
    /// The directory of Let's Encrypt.
    pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

    /// Default settings.
    pub fn new(hosts: Vec<String>, key: PathBuf, folder: PathBuf) -> Self {
        let (directory, trust) = (Self::LETS_ENCRYPT.into(), Trust::System);
        Self { hosts, contact: Vec::new(), directory, trust, key, folder }
    }

    /// The key with the certificate that an earlier run got from this authority for these hosts, if it is good still.
    pub fn kept(&self) -> Option<HttpsKey> {
        let key = HttpsKey::from_files(&self.certificate_file(), &self.key).ok()?;
        self.doubt(&key).is_none().then_some(key)
    }

    /// The certificate that has come for this key. It is kept if it is the key's, since authorities do not give many, and
    /// good for nothing so far if peers would not believe it.
    fn take(&self, chain: &str, private: PrivateKeyDer<'static>) -> Result<(HttpsKey, Validity), AcmeError> {
        let certificates = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|_| AcmeError::Useless("it is no PEM".into()))?;
        let key = HttpsKey::new(certificates, private).map_err(AcmeError::unfit)?;
        let valid = key.validity().ok_or_else(|| AcmeError::Useless("it does not say when it is valid".into()))?;
        if let Err(error) = replace(&self.certificate_file(), chain) {
            log::warn!("the certificate is lost with this process: {error}");
        }
        self.doubt(&key).map_or(Ok((key, valid)), |doubt| Err(AcmeError::Useless(doubt)))
    }

    /// Why peers would not believe this certificate.
    fn doubt(&self, key: &HttpsKey) -> Option<String> {
        self.hosts.iter().find_map(|host| key.doubt(Some(host)))
    }

    fn certificate_file(&self) -> PathBuf {
        self.folder.join(format!("certificate-{}.pem", self.mark(&self.hosts)))
    }

    fn account_file(&self) -> PathBuf {
        self.folder.join(format!("account-{}.pem", self.mark(&self.contact)))
    }

    /// Of the authority and these words: who tries a test authority first must not be left with its certificate.
    fn mark(&self, words: &[String]) -> String {
        let words = [std::slice::from_ref(&self.directory), words].concat().join("\n");
        let hash = digest::digest(&digest::SHA256, words.as_bytes());
        BASE32_NOPAD.encode(&hash.as_ref()[..10]).to_ascii_lowercase()
    }
}

/// Keeps the HTTPS port's certificate good.
pub(crate) struct Acme {
    options: AcmeOptions,
    current: Arc<CurrentKey>,
    challenges: Arc<Challenges>,
    /// When the certificate that was kept is to be replaced.
    due: SystemTime,
    tell: Box<dyn Fn(&RelayNews) + Send>,
}

impl Acme {
    /// What is `current` gives way to the certificate that was kept, if there is one.
    pub(crate) fn new(
        mut options: AcmeOptions,
        current: Arc<CurrentKey>,
        tell: impl Fn(&RelayNews) + Send + 'static,
    ) -> Self {
        options.hosts.iter_mut().for_each(|host| host.make_ascii_lowercase());
        let kept = options.kept();
        kept.iter().for_each(|key| current.replace(key));
        let due = kept.and_then(|key| key.validity()).map_or_else(SystemTime::now, renewal);
        Self { options, current, challenges: Arc::default(), due, tell: Box::new(tell) }
    }

    /// The same TLS, answering challenges besides.
    pub(crate) fn answering(&self, tls: &ServerConfig) -> Arc<ServerConfig> {
        let mut tls = tls.clone();
        tls.alpn_protocols.push(ACME_TLS.to_vec());
        tls.cert_resolver = Arc::new(Resolver { current: self.current.clone(), challenges: self.challenges.clone() });
        Arc::new(tls)
    }

    /// Has the key certified whenever that is due, and never ends.
    pub(crate) async fn run(&self) {
        let (mut due, mut pause) = (self.due, Duration::ZERO);
        loop {
            until(due).await;
            let certified = within(PATIENCE, self.certify()).await;
            match certified.unwrap_or(Err(AcmeError::Slow { after: PATIENCE })) {
                Ok((key, valid)) => {
                    self.current.replace(&key);
                    (self.tell)(&RelayNews::Certified { hosts: self.options.hosts.clone(), until: valid.1 });
                    (due, pause) = (renewal(valid), Duration::ZERO);
                    Timer::after(use_of(valid)).await;
                }
                Err(error) => {
                    pause = (pause * 2).min(LONGEST_PAUSE).max(error.pause());
                    let (authority, why) = (self.options.directory.clone(), error.to_string());
                    (self.tell)(&RelayNews::NotCertified { authority, why, again: pause });
                    self.rest(pause).await;
                }
            }
        }
    }

    /// A certificate, and when it is valid: the one that is kept, or a new one.
    async fn certify(&self) -> Result<(HttpsKey, Validity), AcmeError> {
        match self.kept().await {
            Some(kept) => Ok(kept),
            None => self.order().await,
        }
    }

    /// The certificate that is kept, unless it is to be renewed. It may have become good since it came: clocks are set.
    async fn kept(&self) -> Option<(HttpsKey, Validity)> {
        let options = self.options.clone();
        let key = blocking::unblock(move || options.kept()).await?;
        let valid = key.validity()?;
        (SystemTime::now() < renewal(valid)).then_some((key, valid))
    }

    /// Waits, by a clock that nobody sets; but no longer than until the certificate that is kept is good.
    async fn rest(&self, pause: Duration) {
        let mut left = pause;
        while !left.is_zero() {
            let step = left.min(LOOK);
            Timer::after(step).await;
            left -= step;
            if self.kept().await.is_some() {
                break;
            }
        }
    }

    /// A new certificate, which is kept.
    async fn order(&self) -> Result<(HttpsKey, Validity), AcmeError> {
        let options = self.options.clone();
        let Means { tls, account, private } = blocking::unblock(move || Means::from_files(&options)).await?;
        let options = self.options.clone();
        let mut session = Session::open(tls, &options.directory, account, &options.contact).await?;
        let chain = order::certificate(&mut session, &options.hosts, &private, &self.challenges).await?;
        blocking::unblock(move || options.take(&chain, private)).await
    }
}

/// What an order takes.
struct Means {
    tls: Arc<ClientConfig>,
    account: AccountKey,
    private: PrivateKeyDer<'static>,
}

impl Means {
    /// The files are read anew each time: what was wrong with one may have been mended.
    fn from_files(options: &AcmeOptions) -> Result<Self, AcmeError> {
        let tls = client_config(&options.trust, None).map_err(AcmeError::Reach)?;
        let file = options.account_file();
        store_ecdsa_key(&file).map_err(AcmeError::Store)?;
        let private = private_key(&options.key).map_err(AcmeError::File)?;
        Ok(Self { tls, account: AccountKey::load(&file)?, private })
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("options", &self.options).finish_non_exhaustive()
    }
}

/// From when until when a certificate is valid.
type Validity = (SystemTime, SystemTime);

/// After two thirds of the certificate's time, as authorities advise: the last third is for what may go wrong.
fn renewal((from, until): Validity) -> SystemTime {
    until - until.duration_since(from).unwrap_or_default() / 3
}

/// How long it is used at least.
fn use_of((from, until): Validity) -> Duration {
    let [least, most] = USE;
    (until.duration_since(from).unwrap_or_default() / 3).clamp(least, most)
}

/// Waits for a time of day.
async fn until(due: SystemTime) {
    while let Ok(left) = due.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        Timer::after(left.min(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn options(folder: &std::path::Path) -> AcmeOptions {
        AcmeOptions::new(vec!["relay.example".into()], folder.join("relay-https.pem"), folder.join("acme"))
    }

    #[test]
    fn a_kept_certificate_is_for_one_authority_and_these_hosts_and_this_key() {
        let folder = tempfile::tempdir().unwrap();
        let here = options(folder.path());
        assert!(here.kept().is_none(), "there is none");
        let made = HttpsKey::load_or_create(&here.key, "relay.example").unwrap();
        replace(&here.certificate_file(), &fs::read_to_string(&here.key).unwrap()).unwrap();
        assert_eq!(here.kept().unwrap().pin(), made.pin());
        assert!(AcmeOptions { directory: "https://staging.example/".into(), ..here.clone() }.kept().is_none());
        assert!(AcmeOptions { hosts: vec!["other.example".into()], ..here.clone() }.kept().is_none());
        fs::remove_file(&here.key).unwrap();
        HttpsKey::load_or_create(&here.key, "relay.example").unwrap();
        assert!(here.kept().is_none(), "it certifies a key that is gone");
    }

    #[test]
    #[cfg(unix)]
    fn what_is_kept_is_for_the_owners_eyes_and_replaced_as_a_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = options(folder.path()).certificate_file();
        replace(&file, "first").unwrap();
        replace(&file, "second").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "second");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_time_is_left() {
        let day = Duration::from_secs(86_400);
        let from = SystemTime::UNIX_EPOCH + 20_000 * day;
        assert_eq!(renewal((from, from + 90 * day)), from + 60 * day);
        assert_eq!(renewal((from, from)), from);
    }

    #[test]
    fn a_certificate_is_used_for_a_while_even_if_it_is_over_by_this_machines_clock() {
        let (from, day) = (SystemTime::UNIX_EPOCH, Duration::from_secs(86_400));
        assert_eq!(use_of((from, from + 90 * day)), 3 * day);
        assert_eq!(use_of((from, from + 6 * day)), 2 * day);
        assert_eq!(use_of((from, from)), Duration::from_secs(5));
    }

    /// What is valid from tomorrow on: this machine's clock may be a day behind.
    #[test]
    fn a_certificate_that_is_not_believed_is_kept_all_the_same_and_one_of_another_key_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let here = options(folder.path());
        HttpsKey::load_or_create(&here.key, "relay.example").unwrap();
        let pair = rcgen::KeyPair::try_from(&private_key(&here.key).unwrap()).unwrap();
        let mut params = rcgen::CertificateParams::new(here.hosts.clone()).unwrap();
        params.not_before = time::OffsetDateTime::now_utc() + time::Duration::days(1);
        let key = || private_key(&here.key).unwrap();
        let of_another = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        assert!(here.take(&of_another, key()).is_err() && !here.certificate_file().exists());
        let early = params.self_signed(&pair).unwrap().pem();
        let error = here.take(&early, key()).unwrap_err();
        assert!(error.to_string().contains("it is not valid before "), "{error}");
        assert!(error.pause() >= Duration::from_secs(86_400), "another would be no better");
        assert_eq!(fs::read_to_string(here.certificate_file()).unwrap(), early);
    }
}
